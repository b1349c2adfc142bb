"""Studies a minute by 1, 2, 4 and 8 workers, from the first study taken up to the last result confirmed by an Orthanc.

Twice: with workers that sleep where the model would run, as beside a GPU each, which shows what the service itself
costs; and with the real model on the processor, one thread a worker. The peer of each ratio is one worker, times the
number of workers: 1 is perfect.

    .venv/bin/python bench/scale.py [--workers 1 2 4 8] [--gpu-s 20] [--real 1 2] [--studies 2]
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from nodes import HOST, Porta, free_port, porta, run_dcmsend
from overhead import orthanc
from soak import TOKEN, as_template, confirmed
from stopwatch import print_ratio, print_table

from daemon.commands.phantoms import PhantomOrder, write_phantom

LONGEST_S = 1800.0
SLEEPING = (str(Path(__file__).with_name("sleeping.py")),)

MORE = """\
[[peer]]
name = "pacs"
ae_title = "{ae_title}"
host = "{host}"
port = {port}
[[destination]]
peer = "pacs"
confirm = "query"
[[rule]]
name = "liver-ct"
match = {{ Modality = "CT" }}
model = "resnet50"
destinations = ["pacs"]
[series]
quiet_s = 20
released_quiet_s = 0.5
[engine]
workers = {workers}
threads = 1
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4, 8], help="that sleep")
    options.add_argument("--gpu-s", type=float, default=20.0, help="for a volume, on a GPU that is not there")
    options.add_argument("--real", type=int, nargs="*", default=[1, 2], help="workers with the model, on the processor")
    options.add_argument("--studies", type=int, default=2, help="of each worker")
    chosen = options.parse_args()
    os.environ["PORTA_BENCH_GPU_S"] = str(chosen.gpu_s)
    order = PhantomOrder(shape=(24, 64, 64), spacing_mm=(6.0, 5.5, 5.5), lesions=1, lesion_axes_mm=(14.0, 18.0))
    with tempfile.TemporaryDirectory(prefix="porta-bench-") as name:
        files = as_template(write_phantom(Path(name) / "phantom", order, seed=1_000_200).paths)
        for title, program, counts in (
            (f"workers that sleep for {chosen.gpu_s:g} s a volume", SLEEPING, chosen.workers),
            ("workers with the model, one thread each", ("-m", "daemon.commands.cli"), chosen.real),
        ):
            rates = {
                workers: studies_a_minute(
                    Path(name) / f"{program[0].strip('-')[-1]}{workers}",
                    files,
                    program,
                    workers=workers,
                    studies=chosen.studies * workers,
                )
                for workers in counts
            }
            print_table(title, ("workers", "studies a minute"), [(str(n), f"{rate:.2f}") for n, rate in rates.items()])
            for workers, rate in rates.items():
                one = rates[min(rates)] / min(rates)
                print_ratio(f"{workers} {title} to {workers} times one: 1 is perfect", [rate], [workers * one])


def studies_a_minute(
    directory: Path, files: dict[str, bytes], program: Sequence[str], *, workers: int, studies: int
) -> float:
    """Send studies to a service whose workers are warm, and wait for the results of all."""
    port = free_port()
    with orthanc(directory, porta_port=port) as pacs:
        more = MORE.format(ae_title=pacs.ae_title, host=HOST, port=pacs.port, workers=workers)
        with porta(directory / "porta", more, port=port, program=program) as node:
            _wait(lambda: len(_times(node, "model.loaded")) == workers)
            folder = directory / "study"
            folder.mkdir()
            for number in range(studies):
                for file, content in files.items():
                    (folder / file).write_bytes(content.replace(TOKEN.encode(), str(int(TOKEN) + number + 1).encode()))
                _, ended = run_dcmsend(folder, node.remote)
                if ended.returncode:
                    raise SystemExit(f"dcmsend failed:\n{ended.stderr}")
            _wait(lambda: confirmed(node) == studies)
            took_s = max(_times(node, "object.confirmed")) - min(_times(node, "job.chosen"))
    return 60 * studies / took_s


def _times(node: Porta, event: str) -> list[float]:
    return [datetime.fromisoformat(line["timestamp"]).timestamp() for line in node.events() if line["event"] == event]


def _wait(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONGEST_S
    while not is_so():
        if time.monotonic() > deadline:
            sys.exit(f"not done within {LONGEST_S:g} s")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
