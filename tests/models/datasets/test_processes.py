"""Work in several processes: results, deaths, and an end with the parent."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from models.datasets.processes import Ended, alone, each


def square(number: int) -> int:
    """A worker dies of 3 by a signal, of 5 by an exit."""
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 5:
        os._exit(7)
    return number * number


@pytest.mark.parametrize("processes", [1, 2])
def test_every_item_has_its_result(processes: int) -> None:
    """Here, or elsewhere."""
    assert sorted(each(abs, [-1, -2, -4, -6], processes=processes)) == [(-6, 6), (-4, 4), (-2, 2), (-1, 1)]


def test_one_that_dies_takes_no_other_along() -> None:
    """The item of a process that was killed has no result, and says so; the others have theirs."""
    found = dict(each(square, [1, 2, 3, 4, 5, 6], processes=2))
    killed, left = found.pop(3), found.pop(5)
    assert isinstance(killed, Ended) and str(killed) == "killed, as for lack of memory"
    assert isinstance(left, Ended) and str(left) == "its process ended with code 7"
    assert found == {1: 1, 2: 4, 4: 16, 6: 36}


def test_one_alone_answers_from_elsewhere_or_says_how_it_ended() -> None:
    """Another process id each time; a death is a result."""
    pids = {alone(pid_of, "x"), alone(pid_of, "x"), os.getpid()}
    assert len(pids) == 3
    assert alone(square, 4) == 16
    killed, left = alone(square, 3), alone(square, 5)
    assert isinstance(killed, Ended) and isinstance(left, Ended)
    assert (killed.exit_code, left.exit_code) == (-signal.SIGKILL, 7)


def pid_of(_: str) -> int:
    """Of the process that works."""
    return os.getpid()


PARENT = """
import os, sys
from pathlib import Path
from models.datasets.processes import alone, each

def wait_for(path):
    Path(path).write_text(str(os.getpid()))
    return open(path + ".fifo").read()

if __name__ == "__main__":
    one, *more = sys.argv[1:]
    list(each(wait_for, [one, *more], processes=2)) if more else alone(wait_for, one)
"""


@pytest.mark.parametrize("names", [("one", "two"), ("one",)])
def test_they_end_with_their_parent(tmp_path: Path, names: tuple[str, ...]) -> None:
    """A parent that is killed leaves no process behind once its own work is done."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    paths = [tmp_path / name for name in names]
    for path in paths:
        os.mkfifo(f"{path}.fifo")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    with subprocess.Popen([sys.executable, script, *map(str, paths)], env=environment) as parent:
        ends = [os.open(f"{path}.fifo", os.O_WRONLY) for path in paths]  # each opens when a worker has begun to read
        workers = [int(path.read_text()) for path in paths]
        parent.kill()
    handles = [os.pidfd_open(pid) for pid in workers]
    for end in ends:
        os.close(end)
    for handle in handles:
        assert select.select([handle], [], [], 60)[0]  # readable when its process has ended
        os.close(handle)


def die() -> None:
    """What a worker that cannot even begin does."""
    os._exit(3)


def test_a_dead_process_is_no_broken_pipe() -> None:
    """One that ends while it is sent an item, which is larger than a pipe holds, leaves no result for it."""
    results = [result for _, result in each(len, [bytes(2**22)] * 3, processes=2, first=die)]
    assert [str(result) for result in results] == ["its process ended with code 3"] * 3
