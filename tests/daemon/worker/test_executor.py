"""A real worker process: what comes back from it, what ends it, and that it never outlives its parent."""

import multiprocessing
import operator
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import (
    DaemonError,
    StorageUnusable,
    WorkerCrashed,
    WorkerFailed,
    WorkerOutOfMemory,
    WorkerStopped,
    WorkerTimedOut,
)
from daemon.jobs import Event, State, advance
from daemon.worker.executor import LocalExecutor, Setup, Stage
from dicom_io.errors import InvalidUID, NotDicom, RejectReason, SeriesRejected
from dicom_io.files.uids import checked_uid
from models.errors import DeviceLost, DeviceUnavailable, WeightsCorrupt
from reports.errors import GeometryNotProved

PATIENCE_S = 60.0
CANARY = "ZZPHI^CANARY"

Until = Callable[[Callable[[], object]], None]


@pytest.fixture
def executor() -> Iterator[LocalExecutor]:
    executor = LocalExecutor(Setup(log_level="error", log_form="json"))
    yield executor
    executor.stop()


def run(executor: LocalExecutor, function: Callable[..., Any], *args: Any) -> Any:
    return executor.run(PATIENCE_S, CALL, (function, args))


def is_gone(pid: int) -> bool:
    """Whether there is no such process any more, or nothing but its name."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


# --- what runs in the worker


def call(request: tuple[Callable[..., Any], tuple[Any, ...]]) -> Any:
    function, args = request
    return function(*args)


CALL: Stage[Any, Any] = Stage(__name__, "call")
SLEEP: Stage[float, None] = Stage("time", "sleep")


def raise_again(error: BaseException) -> None:
    raise error


def kill_me(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(PATIENCE_S)


def say_and_sleep(path: str) -> None:
    Path(path).write_text("begun")
    time.sleep(PATIENCE_S)


def unpicklable() -> object:
    return lambda: None


# --- results and errors


def test_a_result_comes_back_from_another_process(executor: LocalExecutor):
    """From a function that only the worker has imported, and from the same worker each time."""
    assert executor.pid is None
    assert run(executor, operator.add, 2, 3) == 5
    elsewhere: Stage[str, str] = Stage("nturl2path", "pathname2url")
    assert executor.run(PATIENCE_S, elsewhere, "C:\\porta") == "///C:/porta"
    assert elsewhere.module not in sys.modules
    pid = run(executor, os.getpid)
    assert pid == executor.pid != os.getpid()
    assert run(executor, os.getpid) == pid


@pytest.mark.parametrize(
    "error",
    [
        SeriesRejected(RejectReason.TOO_FEW_SLICES, "3 of at least 5."),
        WeightsCorrupt("sha256"),
        GeometryNotProved("2 mm"),
        StorageUnusable("no room"),
        InvalidUID("not a UID"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_our_own_errors_travel_with_their_data(executor: LocalExecutor, error: Exception):
    """Type, sentence and data are the same on this side; the worker goes on."""
    pid = run(executor, os.getpid)
    with pytest.raises(type(error)) as raised:
        run(executor, raise_again, error)
    assert type(raised.value) is type(error)
    assert str(raised.value) == str(error)
    assert vars(raised.value) == vars(error)
    assert run(executor, os.getpid) == pid


def test_errors_that_are_raised_where_they_belong(executor: LocalExecutor):
    """Not only handed in: raised by our own functions in the worker."""
    with pytest.raises(DaemonError, match="no move CLOSED from CANCELLED"):
        run(executor, advance, State.CANCELLED, Event.CLOSED)
    with pytest.raises(InvalidUID):
        run(executor, checked_uid, "../../etc/passwd")


def test_a_file_that_is_no_dicom_is_still_known_by_its_path(executor: LocalExecutor):
    """NotDicom is what halts a job at once, so it must be itself on this side."""
    with pytest.raises(NotDicom) as raised:
        run(executor, raise_again, NotDicom("spool/1.2/1.2.3.dcm", "no UIDs"))
    assert (raised.value.path, raised.value.why) == (Path("spool/1.2/1.2.3.dcm"), "no UIDs")


@pytest.mark.parametrize(
    ("error", "kind"),
    [(FileNotFoundError(2, CANARY, CANARY), FileNotFoundError), (OSError(28, CANARY, CANARY), OSError)],
)
def test_the_systems_errors_travel_without_their_words(executor: LocalExecutor, error: OSError, kind: type[OSError]):
    """A file that is gone and a disk that is full mean different things for a job; a path says nothing to it."""
    with pytest.raises(OSError, match=os.strerror(error.errno)) as raised:
        run(executor, raise_again, error)
    assert type(raised.value) is kind
    assert raised.value.errno == error.errno
    assert raised.value.filename is None
    assert CANARY not in repr(raised.value)


@pytest.mark.parametrize("error", [ValueError(CANARY), KeyError(CANARY), OSError(CANARY)], ids=repr)
def test_a_foreign_error_leaves_its_message_behind(executor: LocalExecutor, error: Exception):
    """It may quote a data set: only its type comes over."""
    with pytest.raises(WorkerFailed) as raised:
        run(executor, raise_again, error)
    assert type(raised.value) is WorkerFailed
    assert raised.value.detail == type(error).__name__
    link: BaseException | None = raised.value
    while link is not None:
        assert CANARY not in repr(link)
        link = link.__cause__ or link.__context__
    assert run(executor, operator.add, 1, 1) == 2


# --- the ends of a worker


@pytest.mark.parametrize(
    ("function", "args", "detail"),
    [
        (os._exit, (3,), "exit code 3"),
        (kill_me, (signal.SIGKILL,), "killed, by the kernel for lack of memory or by a person"),
        (kill_me, (signal.SIGSEGV,), "exit code -11"),
        (kill_me, (signal.SIGTERM,), "exit code -15"),
        (unpicklable, (), "exit code 1"),
    ],
    ids=["exit", "SIGKILL", "SIGSEGV", "SIGTERM", "a result that cannot travel"],
)
def test_a_worker_that_dies_is_a_failed_attempt(
    executor: LocalExecutor, function: Callable[..., object], args: tuple[object, ...], detail: str
):
    """The call says how, and the next one has a new worker."""
    before = run(executor, os.getpid)
    with pytest.raises(WorkerCrashed) as raised:
        run(executor, function, *args)
    assert raised.value.detail == detail
    after = run(executor, os.getpid)
    assert after != before
    assert is_gone(before)


def test_a_worker_that_died_between_two_calls_is_replaced(executor: LocalExecutor, until: Until):
    """Nobody's attempt: the next call finds a living one."""
    before = run(executor, os.getpid)
    os.kill(before, signal.SIGKILL)
    until(lambda: before not in [child.pid for child in multiprocessing.active_children()])
    assert run(executor, os.getpid) != before


def test_a_worker_that_hangs_is_ended_at_its_deadline(executor: LocalExecutor):
    """And the next call has a new one."""
    before = run(executor, os.getpid)
    started = time.monotonic()
    with pytest.raises(WorkerTimedOut, match=r"no result after 0\.3 s"):
        executor.run(0.3, SLEEP, PATIENCE_S)
    assert time.monotonic() - started < PATIENCE_S / 2
    assert is_gone(before)
    assert run(executor, operator.add, 1, 1) == 2


def test_more_memory_than_there_may_be(until: Until):
    """Its own error, and a new worker: what a process that ran out of memory still holds is not known."""
    executor = LocalExecutor(Setup(log_level="error", log_form="json", memory_mb=512))
    try:
        before = run(executor, os.getpid)
        assert run(executor, len, bytes(1_000_000)) == 1_000_000
        with pytest.raises(WorkerOutOfMemory):
            run(executor, bytes, 2_000_000_000)
        assert run(executor, os.getpid) != before
        assert is_gone(before)
    finally:
        executor.stop()


def test_a_library_that_says_it_ran_out_of_memory(executor: LocalExecutor):
    """torch has no type of its own for the processor's memory."""
    with pytest.raises(WorkerOutOfMemory):
        run(executor, raise_again, RuntimeError(f"CUDA out of memory. Tried to allocate {CANARY}"))


@pytest.mark.parametrize("kind", [DeviceLost, DeviceUnavailable])
def test_a_worker_whose_gpu_failed_is_replaced(executor: LocalExecutor, kind: type[Exception]):
    """CUDA does not answer again in a process that has seen it fail; the error says to the service what it was."""
    before = run(executor, os.getpid)
    with pytest.raises(kind, match="the GPU failed"):
        run(executor, raise_again, kind("the GPU failed"))
    assert run(executor, os.getpid) != before
    assert is_gone(before)


class Relayed:
    """A lock that, once, hands over to somebody else the moment it is free."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.next: list[Callable[[], object]] = []

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()
        if self.next:
            self.next.pop()()


def test_nobody_is_let_into_a_worker_that_has_to_end(executor: LocalExecutor, monkeypatch: pytest.MonkeyPatch):
    """The next caller may wait already: what it sends to a process whose GPU failed would die with it."""
    turn, answers = Relayed(), []
    monkeypatch.setattr(executor, "_turn", turn)
    before = run(executor, os.getpid)
    turn.next.append(lambda: answers.append(run(executor, os.getpid)))
    with pytest.raises(DeviceLost):
        run(executor, raise_again, DeviceLost("the GPU failed"))
    assert answers
    assert answers != [before]
    assert answers == [executor.pid]


# --- stopping


def test_stop_breaks_off_what_is_running(executor: LocalExecutor, tmp_path: Path, until: Until):
    """The attempt was broken off and is no attempt, no process stays, and nothing runs afterwards."""
    begun = tmp_path / "begun"
    raised: list[BaseException] = []

    def work() -> None:
        try:
            run(executor, say_and_sleep, str(begun))
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    until(begun.exists)
    pid = executor.pid
    assert pid is not None
    executor.stop()
    thread.join(PATIENCE_S)
    assert [type(error) for error in raised] == [WorkerStopped]
    until(lambda: is_gone(pid))
    with pytest.raises(WorkerStopped):
        run(executor, os.getpid)
    assert is_gone(pid)


class StoppedWhileStarting(LocalExecutor):
    """`stop` comes when a call has been let in and its worker is not there yet."""

    def _started(self) -> Any:
        self.stop()
        return super()._started()


def test_stop_before_the_worker_is_there():
    """It finds no process to kill: the call itself must see that it is to stop, not wait for a result."""
    executor = StoppedWhileStarting(Setup(log_level="error", log_form="json"))
    started = time.monotonic()
    with pytest.raises(WorkerStopped):
        executor.run(PATIENCE_S, SLEEP, PATIENCE_S)
    assert time.monotonic() - started < PATIENCE_S / 2
    assert executor.pid is None


def test_stop_of_one_that_never_ran():
    """There is nothing to end."""
    executor = LocalExecutor(Setup())
    executor.stop()
    assert executor.pid is None


PARENT = """
import sys
from daemon.worker.executor import LocalExecutor, Setup, Stage

if __name__ == "__main__":
    import time
    executor, sleep = LocalExecutor(Setup(log_level="error", log_form="json")), Stage("time", "sleep")
    executor.run(60, sleep, 0)
    print(executor.pid, flush=True)
    executor.run(600, sleep, 600)
"""


@pytest.mark.parametrize("busy", [True, False])
def test_a_worker_dies_with_its_parent(tmp_path: Path, until: Until, busy: bool):
    """SIGKILL to the parent alone, which can say nothing to anybody any more."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT if busy else PARENT.replace("executor.run(600, sleep, 600)", "time.sleep(600)"))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert not is_gone(worker)
        parent.send_signal(signal.SIGKILL)
        parent.wait(PATIENCE_S)
        until(lambda: is_gone(worker))


def test_the_worker_outlives_the_thread_that_called_first(executor: LocalExecutor) -> None:
    """A reload ends the threads of the rounds before it: the kernel would end with them what they had started."""
    first = threading.Thread(target=run, args=(executor, os.getpid))
    first.start()
    first.join()
    pid = executor.pid
    time.sleep(0.3)  # the kernel's signal, where there is one, comes at once
    assert pid is not None
    assert run(executor, os.getpid) == pid
