"""Whether anything of the service grows while it works at full rate for an hour.

Three senders store small CT images that no rule takes; a fourth sends one phantom after the other, whose SEG and SR go
to a real Orthanc. Each sends its next series by dcmsend as soon as the last one is acknowledged, the fourth as soon as
the results of its last one are confirmed. Each minute memory, threads, descriptors and the ledger's write-ahead log are
read. The peer of the ratios is the same service when it is warm, after a tenth of the time.

    .venv/bin/python bench/soak.py [--minutes 60] [--slices 200] [--dir FOLDER]
"""

import argparse
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import astuple, dataclass, fields
from io import BytesIO
from itertools import count
from pathlib import Path

from nodes import HOST, Porta, free_port, porta, run_dcmsend
from overhead import orthanc
from pydicom import dcmread
from pydicom.uid import PYDICOM_ROOT_UID
from stopwatch import MIB, print_ratio, print_table
from studies import write_noise

from daemon.commands.phantoms import PhantomOrder, write_phantom
from daemon.jobs import State

SENDERS = 3
SETTLED_S = 600.0
TOKEN = "7000000001"
"""Stands in the UIDs of the image that is copied, and another number of ten digits in those of each copy."""

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
match = {{ Modality = "CT", SeriesDescription = "Portal*" }}
model = "resnet50"
destinations = ["pacs"]
[series]
quiet_s = 20
released_quiet_s = 1
[engine]
threads = 1
"""


@dataclass(frozen=True)
class Reading:
    """What the service holds at one moment."""

    minute: float
    instances: int
    results: int
    service_mib: float
    worker_mib: float
    threads: int
    descriptors: int
    wal_mib: float


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=float, default=60.0)
    options.add_argument("--slices", type=int, default=200, help="of each series that no rule takes")
    options.add_argument("--dir", type=Path, help="on a disk with 10 GB for an hour; else the temporary folder's")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="porta-bench-", dir=chosen.dir) as name, ExitStack() as stack:
        directory, port = Path(name), free_port()
        pacs = stack.enter_context(orthanc(directory, porta_port=port))
        more = MORE.format(ae_title=pacs.ae_title, host=HOST, port=pacs.port)
        node = stack.enter_context(porta(directory / "porta", more, port=port))
        soak(directory, node, minutes=chosen.minutes, slices=chosen.slices)


def soak(directory: Path, node: Porta, *, minutes: float, slices: int) -> None:
    """Print what the service held each minute, the ratios, and whether all that was acknowledged is there."""
    template = as_template(
        write_noise(directory / "noise", slices=slices, seed="soak", rows=110, series_description="Noise")
    )
    order = PhantomOrder(shape=(24, 64, 64), spacing_mm=(6.0, 5.5, 5.5), lesions=1, lesion_axes_mm=(14.0, 18.0))
    phantom = as_template(write_phantom(directory / "phantom", order, seed=1_000_200).paths)
    numbers, ending = count(int(TOKEN) + 1), threading.Event()
    sent: Counter[str] = Counter()
    failed: list[BaseException] = []

    def send(name: str, files: dict[str, bytes]) -> None:
        folder = directory / name
        folder.mkdir(exist_ok=True)
        number = str(next(numbers)).encode()
        for file, content in files.items():
            (folder / file).write_bytes(content.replace(TOKEN.encode(), number))
        _, ended = run_dcmsend(folder, node.remote)
        if ended.returncode:
            raise SystemExit(f"dcmsend failed:\n{ended.stderr}")
        sent[name] += len(files)

    def send_all(name: str, files: dict[str, bytes], is_answered: Callable[[], bool]) -> None:
        try:
            while not ending.is_set():
                send(name, files)
                while not is_answered() and not ending.wait(0.2):
                    pass
        except BaseException as error:  # noqa: BLE001  the measuring must not go on beside a sender that is no more
            failed.append(error)
            ending.set()

    def read() -> Reading:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{node.pid}/status").read_text().splitlines())
        wal = node.root / "ledger.sqlite-wal"
        return Reading(
            (time.monotonic() - began) / 60,
            sent.total(),
            confirmed(node),
            rss_mib(node.pid),
            max((rss_mib(pid) for pid in children(node.pid)), default=0.0),
            int(status["Threads"]),
            len(list(Path(f"/proc/{node.pid}/fd").iterdir())),
            wal.stat().st_size / MIB if wal.exists() else 0.0,
        )

    senders = [
        threading.Thread(target=send_all, args=(f"sender{number}", template, lambda: True)) for number in range(SENDERS)
    ]
    senders.append(
        threading.Thread(
            target=send_all, args=("phantoms", phantom, lambda: confirmed(node) * len(phantom) >= sent["phantoms"])
        )
    )
    began = time.monotonic()
    for sender in senders:
        sender.start()
    readings = [read()]
    pause_s = min(60.0, minutes * 6)
    while time.monotonic() - began < minutes * 60 and not ending.wait(pause_s):
        readings.append(read())
        print(
            ", ".join(
                f"{field.name} {value:.1f}" for field, value in zip(fields(Reading), astuple(readings[-1]), strict=True)
            )
        )
    ending.set()
    for sender in senders:
        sender.join()
    if failed:
        raise failed[0]
    check_kept(node, sent.total(), sent["phantoms"] // len(phantom))
    report(readings)


def report(readings: list[Reading]) -> None:
    """A row for each tenth of the time, and each figure over that of the first tenth."""
    warm, step = readings[max(1, len(readings) // 10)], max(1, len(readings) // 10)
    shown = [*readings[step::step], readings[-1]]
    rows = [tuple(f"{value:.0f}" for value in astuple(reading)) for reading in shown]
    print_table("what the service held", tuple(field.name for field in fields(Reading)), rows)
    last = readings[-max(1, len(readings) // 10) :]
    for name in ("service_mib", "threads", "descriptors", "wal_mib"):
        at_the_end = [float(getattr(reading, name)) for reading in last]
        print_ratio(
            f"{name} of the last tenth to that when warm: 1 is flat", at_the_end, [float(getattr(warm, name)) or 1.0]
        )


def check_kept(node: Porta, instances: int, phantoms: int) -> None:
    """Every instance that was acknowledged has its file, and every phantom its confirmed results."""
    deadline = time.monotonic() + SETTLED_S
    while confirmed(node) < phantoms and time.monotonic() < deadline:
        time.sleep(1)
    kept = len(list((node.root / "spool").glob("*/*.dcm")))
    if (kept, confirmed(node)) != (instances, phantoms):
        raise SystemExit(
            f"of {instances} instances {kept} are kept, "
            f"of {phantoms} phantoms {confirmed(node)} have results; see {node.log}"
        )
    print(f"{instances} instances acknowledged and kept; {phantoms} phantoms with their results in Orthanc")


def confirmed(node: Porta) -> int:
    """How many jobs have their results confirmed by the PACS."""
    with closing(sqlite3.connect(f"file:{node.root / 'ledger.sqlite'}?mode=ro", uri=True, timeout=30)) as ledger:
        return int(ledger.execute("SELECT count(*) FROM jobs WHERE state = ?", (State.CONFIRMED,)).fetchone()[0])


def as_template(paths: Sequence[Path]) -> dict[str, bytes]:
    """A series as files whose UIDs are of one study, series and frame of reference, with TOKEN in each."""
    root = f"{PYDICOM_ROOT_UID}{TOKEN}"
    files: dict[str, bytes] = {}
    for number, path in enumerate(paths):
        ds = dcmread(path)
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = (f"{root}.{part}" for part in (1, 2, 3))
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{root}.4.{number}"
        content = BytesIO()
        ds.save_as(content)
        files[path.name] = content.getvalue()
    return files


def rss_mib(pid: int) -> float:
    """The memory that a process holds now (VmRSS, proc(5)), in MiB; 0 where it has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024 / MIB
    return 0.0


def children(pid: int) -> list[int]:
    """The processes that `pid` started: the worker among them."""
    with suppress(OSError):
        return [
            int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()
        ]
    return []


if __name__ == "__main__":
    main()
