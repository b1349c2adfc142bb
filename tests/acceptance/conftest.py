"""A site: a real Orthanc, the real service as a process, and a sender; all on loopback and free ports."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydicom import Dataset

from daemon.commands.demo_pacs import OrthancNode
from daemon.commands.phantoms import PhantomOrder, write_phantom
from daemon.jobs import Job
from daemon.ledger.store import Ledger
from dicom_io.errors import PeerError
from dicom_io.network import scu

CONFIG = """\
[dicom]
ae_title = "PORTA"
host = "127.0.0.1"
port = {port}
[[peer]]
name = "orthanc"
ae_title = "ORTHANC"
host = "127.0.0.1"
port = {pacs_port}
accept = true
[[peer]]
name = "modality"
ae_title = "MODALITY"
accept = true
[[destination]]
peer = "orthanc"
objects = ["seg", "sr"]
confirm = "query"
attempts = {attempts}
first_retry_s = 0.5
longest_retry_s = 2
[[rule]]
name = "liver-ct"
match = {{ Modality = "CT" }}
model = "resnet50"
destinations = ["orthanc"]
[storage]
root = "{root}"
min_free_mb = 10
[series]
quiet_s = 6
released_quiet_s = 1
[log]
format = "json"
"""


def until(condition: Callable[[], object], *, seconds: float = 120.0, what: str = "it") -> None:
    """Wait for a condition of another process, which has no event to wait for."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not happen within {seconds:g} s")
        waited = seconds - (deadline - time.monotonic())
        time.sleep(min(0.25, 0.02 + waited / 20))  # asking takes a processor from who is waited for


def children_of(pid: int) -> list[int]:
    """The processes that `pid` started."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    assert children.exists(), "the kernel does not tell children"
    return [int(child) for task in tasks for child in task.read_text().split()]


def comments(sr: Dataset) -> str:
    """All text of a report."""
    texts = [str(item.TextValue) for item in sr.ContentSequence if "TextValue" in item]
    return " ".join(texts + [comments(item) for item in sr.ContentSequence if "ContentSequence" in item])


@dataclass
class Site:
    """One Porta and one Orthanc, with their folders below `directory`."""

    directory: Path
    orthanc: OrthancNode
    port: int
    dcmsend: str
    service: "subprocess.Popen[bytes] | None" = None
    attempts: int = 50
    changes: dict[str, str] = field(default_factory=dict)
    """What stands in the configuration, and what is to stand there instead."""
    root: Path = field(init=False)

    def __post_init__(self) -> None:
        self.root = self.directory / "storage"

    @property
    def config(self) -> Path:
        path = self.directory / "porta.toml"
        text = CONFIG.format(port=self.port, pacs_port=self.orthanc.port, root=self.root, attempts=self.attempts)
        for old, new in self.changes.items():
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)
        return path

    @property
    def log(self) -> str:
        return (self.directory / "porta.log").read_text(errors="replace")

    @property
    def remote(self) -> scu.Remote:
        return scu.Remote("PORTA", "127.0.0.1", self.port)

    def start(self) -> None:
        """Start the service, in a process group of its own, and wait until it answers C-ECHO."""
        with (self.directory / "porta.log").open("ab") as output:
            self.service = subprocess.Popen(
                [sys.executable, "-m", "daemon.commands.cli", "run", "-c", str(self.config)],
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        until(self.answers, seconds=120, what="Porta's answer to C-ECHO")

    def answers(self) -> bool:
        assert self.service is not None
        if self.service.poll() is not None:
            pytest.fail(f"the service ended with exit code {self.service.returncode}:\n{self.log[-2000:]}")
        try:
            scu.echo(self.remote, calling_ae_title="MODALITY", timeout_s=5)
        except PeerError:
            return False
        return True

    def kill_group(self) -> None:
        """SIGKILL to the service and everything that it started."""
        assert self.service is not None
        os.killpg(self.service.pid, signal.SIGKILL)
        self.service.wait(10)

    def stop(self) -> float:
        """SIGTERM; the seconds it took to end."""
        assert self.service is not None
        started = time.monotonic()
        self.service.terminate()
        self.service.wait(15)
        return time.monotonic() - started

    def send(self, paths: list[Path]) -> int:
        """By DCMTK's dcmsend; how many instances were answered 0x0000 (its exit code does not tell)."""
        sent = subprocess.run(
            [self.dcmsend, "-v", "-aet", "MODALITY", "-aec", "PORTA", "127.0.0.1", str(self.port), *map(str, paths)],
            env=os.environ | {"TCP_NODELAY": "1"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        succeeded = re.search(r"with status SUCCESS +: (\d+)", sent.stdout + sent.stderr)
        return int(succeeded[1]) if succeeded else 0

    def porta(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A `porta` command on this site's configuration."""
        return subprocess.run(
            [sys.executable, "-m", "daemon.commands.cli", *arguments, "-c", str(self.config)],
            capture_output=True,
            text=True,
            timeout=120,
        )

    def jobs(self) -> list[Job]:
        ledger = Ledger(f"sqlite:///{self.root / 'ledger.sqlite'}")
        try:
            return ledger.all_jobs()
        finally:
            ledger.close()

    def states(self) -> list[str]:
        return [str(job.state) for job in self.jobs()]

    def results(self, study_instance_uid: str, folder: str = "results") -> tuple[list[Path], list[Path]]:
        """The SEG and SR objects that Orthanc holds of a study."""
        found = []
        for modality in ("SEG", "SR"):
            target = self.directory / folder / modality
            target.mkdir(parents=True, exist_ok=True)
            found.append(self.orthanc.fetch(study_instance_uid, modality, target))
        return found[0], found[1]


@pytest.fixture
def site(tmp_path: Path, require_binary: Callable[[str], str], free_port: Callable[[], int]) -> Iterator[Site]:
    """A running Orthanc, and a Porta that the test starts."""
    require_binary("Orthanc")
    dcmsend = require_binary("dcmsend")
    port = free_port()
    orthanc = OrthancNode(tmp_path, porta_port=port, ports=(free_port(), free_port()))
    orthanc.start(say=lambda text: None)
    place = Site(tmp_path, orthanc, port, dcmsend)
    try:
        yield place
    finally:
        if place.service is not None and place.service.poll() is None:
            place.kill_group()
        place.orthanc.stop()


@pytest.fixture(scope="session")
def phantom_series(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], list[Path]]:
    """`phantom_series(n)`: the files of a small phantom series, one of each seed a session."""
    made: dict[int, list[Path]] = {}

    def series(number: int) -> list[Path]:
        if number not in made:
            made[number] = write_phantom(
                tmp_path_factory.mktemp(f"phantom-{number}") / "phantom",
                PhantomOrder(
                    shape=(40, 128, 128),
                    spacing_mm=(5.0, 3.0, 3.0),
                    lesions=1,
                    lesion_axes_mm=(14.0, 18.0),
                    lesion_variety=0.0,
                    noise=8.0,
                ),
                seed=1_000_100 + number,
            ).paths
        return made[number]

    return series
