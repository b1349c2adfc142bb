"""Kill -9 of service, worker, PACS and PostgreSQL at random moments under four senders: one set of results each.

`make kills` does PORTA_KILLS of them (300), half on each kind of ledger; after PORTA_KILLS_S no further one is done.
"""

import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid
from pynetdicom import build_context
from pynetdicom.sop_class import CTImageStorage

from daemon.commands.phantoms import PhantomOrder, write_phantom
from daemon.jobs import State
from daemon.ledger.store import Ledger
from dicom_io.errors import PeerError
from dicom_io.network.scu import associated, status_of, while_open
from tests.acceptance.conftest import Site, site, until
from tests.attack.conftest import IS_LONG

__all__ = ["site"]

KILLS, KILLS_S = int(os.environ.get("PORTA_KILLS", "0")), float(os.environ.get("PORTA_KILLS_S", "inf"))
SENDERS = 4
MOST_OPEN = 8
"""Studies that are sent, or not yet CONFIRMED, at once: more would wait in the ledger, where nothing befalls them."""
UNDOING = ("service", "worker")
"""Whose end has a stage begin again: one after the other, nothing would ever come to its end."""
SETTLED_S = 900


@dataclass
class Postgres:
    """A PostgreSQL that can be killed; it listens on a socket file alone, and keeps what it committed."""

    folder: Path
    programs: Path

    @property
    def url(self) -> str:
        return f"postgresql://porta@/porta?host={self.folder}"

    def run(self, *command: str | Path) -> int:
        return subprocess.run(
            command,
            user="postgres" if os.geteuid() == 0 else None,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=120,
        ).returncode

    def control(self, *command: str) -> int:
        return self.run(self.programs / "pg_ctl", "-D", self.folder / "data", "-l", self.folder / "log", "-w", *command)

    def start(self) -> None:
        """Start it; after a kill the shared memory of those that died is still there for a moment."""
        options = f"-c listen_addresses= -c unix_socket_directories={self.folder}"
        until(lambda: self.control("-o", options, "start") == 0, seconds=60, what="PostgreSQL's start")

    def kill(self) -> None:
        """SIGKILL to it and to all that it started."""
        postmaster = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        for pid in (postmaster, *children(postmaster)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def postgres_server(missing: Callable[[str], None]) -> Iterator[Postgres]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        missing("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="porta-pg-"))
    server = Postgres(folder, found[-1].parent)
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        server.run(server.programs / "initdb", "-D", folder / "data", "-A", "trust", "-U", "porta", "--no-sync")
        server.start()
        server.run(server.programs / "createdb", "-h", folder, "-U", "porta", "porta")
        yield server
    finally:
        server.control("-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def children(pid: int) -> list[int]:
    """The processes that `pid` started."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return [
            int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()
        ]
    return []


def is_worker(pid: int) -> bool:
    """Whether it is a process that a service spawned, and lives."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


@dataclass
class Traffic:
    """Four senders, each with one study after the other, each image again until it was answered 0x0000."""

    site: Site
    phantoms: list[list[Path]]
    ledger: Callable[[], Ledger]
    studies: dict[str, set[str]] = field(default_factory=dict)
    """The instances of each study."""
    acknowledged: set[str] = field(default_factory=set)
    again: int = 0
    ending: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        self._threads = [
            threading.Thread(target=self._send_all, args=(number,), daemon=True) for number in range(SENDERS)
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """No further study; those that were begun are sent to their end."""
        self.ending.set()
        for thread in self._threads:
            thread.join(300)
            assert not thread.is_alive()

    def _send_all(self, number: int) -> None:
        while not self.ending.is_set():
            if len(self.studies) - self._finished() >= MOST_OPEN:
                self.ending.wait(0.5)
                continue
            self._send(self._study(self.phantoms[number]))

    def _finished(self) -> int:
        states = self.states()
        return -MOST_OPEN if states is None else states[State.CONFIRMED]

    def states(self) -> Counter[State] | None:
        """How many jobs are in each state; None where the ledger is away."""
        with suppress(Exception):
            ledger = self.ledger()
            try:
                return Counter(job.state for job in ledger.all_jobs())
            finally:
                ledger.close()
        return None

    def await_change(self) -> None:
        """Wait for the next move of any job, a minute at most."""
        before, deadline = self.states(), time.monotonic() + 60
        while time.monotonic() < deadline and self.states() in (None, before):
            threading.Event().wait(0.2)

    def _study(self, phantom: list[Path]) -> list[Path]:
        """A phantom as another study, in files."""
        uids = [generate_uid() for _ in range(3)]
        folder = self.site.directory / "sent" / uids[0]
        folder.mkdir(parents=True)
        written = []
        for path in phantom:
            ds = dcmread(path)
            ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = uids
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            written.append(folder / f"{ds.SOPInstanceUID}.dcm")
            ds.save_as(written[-1])
        with self._lock:
            self.studies[uids[0]] = {path.stem for path in written}
        return written

    def _send(self, paths: list[Path]) -> None:
        contexts = [build_context(CTImageStorage, str(dcmread(paths[0]).file_meta.TransferSyntaxUID))]
        while paths:
            try:
                with associated(self.site.remote, contexts, "MODALITY", 20) as assoc:
                    while paths:
                        status = status_of(while_open(assoc, self.site.remote).send_c_store(paths[0]), self.site.remote)
                        if status != 0x0000:
                            raise PeerError(f"0x{status:04X}")
                        self.acknowledged.add(paths.pop(0).stem)
            except PeerError:
                self.again += 1
                threading.Event().wait(0.3)  # the service is away


@dataclass
class Killer:
    """Kills one thing after the other, and has it start again."""

    site: Site
    postgres: Postgres | None
    chance: random.Random
    killed: Counter[str] = field(default_factory=Counter)
    workers: set[int] = field(default_factory=set)
    """All that were ever seen."""

    def kill(self, kind: str) -> None:
        getattr(self, f"_kill_{kind}")()
        self.killed[kind] += 1

    def _pause(self, longest_s: float) -> None:
        threading.Event().wait(self.chance.uniform(0, longest_s))

    def _kill_service(self) -> None:
        """It alone, whose worker must end by itself, or with its worker."""
        assert self.site.service is not None
        self.workers.update(filter(is_worker, children(self.site.service.pid)))
        if self.chance.random() < 0.5:
            self.site.kill_group()
        else:
            self.site.service.kill()
            self.site.service.wait(10)
        self.site.start()

    def _kill_worker(self) -> None:
        assert self.site.service is not None
        pid = self.site.service.pid
        until(lambda: any(map(is_worker, children(pid))), seconds=300, what="a worker")
        self._pause(4)  # it begins by loading: later it reads, segments or writes
        for worker in filter(is_worker, children(pid)):
            self.workers.add(worker)
            os.kill(worker, signal.SIGKILL)

    def _kill_pacs(self) -> None:
        process = self.site.orthanc._process
        assert process is not None
        process.kill()
        process.wait(10)
        self._pause(2)
        self.site.orthanc.start(say=lambda text: None)

    def _kill_postgres(self) -> None:
        assert self.postgres is not None
        self.postgres.kill()
        self._pause(2)
        self.postgres.start()


def phantom(folder: Path, number: int) -> list[Path]:
    """A phantom of 24 small slices."""
    order = PhantomOrder(
        shape=(24, 64, 64), spacing_mm=(6.0, 5.5, 5.5), lesions=1, lesion_axes_mm=(14.0, 18.0), lesion_variety=0.0
    )
    return write_phantom(folder / str(number), order, seed=1_000_200 + number).paths


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"] if IS_LONG else ["postgresql"])
def test_kills_at_random_moments(
    site: Site,
    database: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    sized: Callable[[Any, Any], Any],
    figure: Callable[[str, object], None],
):
    """Nothing acknowledged is lost, each study has one SEG and one SR, and nothing is left over."""
    postgres = request.getfixturevalue("postgres_server") if database == "postgresql" else None
    url = postgres.url if postgres else f"sqlite:///{site.root / 'ledger.sqlite'}"
    site.changes = {
        "quiet_s = 6": "quiet_s = 12",
        "[log]": f'[ledger]\nurl = "{url}"\n[engine]\nattempts = 1000\nthreads = 1\n[log]',
    }
    kinds = ["service", "worker", "pacs", *(["postgres"] if postgres else [])]
    wanted = KILLS // 2 if KILLS else sized(len(kinds), 8 * len(kinds))
    killer = Killer(site, postgres, random.Random(database))
    site.start()
    phantoms = [phantom(tmp_path / "phantoms", number) for number in range(SENDERS)]
    traffic = Traffic(site, phantoms, lambda: Ledger(url.replace("postgresql:", "postgresql+psycopg:")))
    traffic.begin()
    began = time.monotonic()
    for number in range(wanted):
        if time.monotonic() - began > KILLS_S:
            break
        kind = kinds[number % len(kinds)]
        if kind in UNDOING:
            traffic.await_change()
        killer._pause(killer.chance.choice((0.5, 2, 6)))
        killer.kill(kind)
    traffic.end()

    def jobs() -> list[Any]:
        ledger = traffic.ledger()
        try:
            return ledger.all_jobs()
        finally:
            ledger.close()

    def settled() -> bool:
        found = jobs()
        return len(found) >= len(traffic.studies) and all(job.state == State.CONFIRMED or job.halt for job in found)

    until(settled, seconds=SETTLED_S, what="the last results")
    results = {study: site.results(study, f"results/{study}") for study in traffic.studies}
    sent = set().union(*traffic.studies.values())
    found = jobs()
    for kind, count in killer.killed.items():
        figure(f"kills of {kind}", count)
    figure("studies", len(traffic.studies))
    figure("instances acknowledged", len(traffic.acknowledged))
    figure("broken off and sent again", traffic.again)
    figure("revisions", sum(job.revision for job in found))
    figure("halts", sum(job.halt is not None for job in found))
    figure("studies without one SEG and one SR", sum(tuple(map(len, each)) != (1, 1) for each in results.values()))
    spooled = Counter(path.stem for path in (site.root / "spool").rglob("*.dcm"))
    figure("files of instances", len(spooled))
    until(
        lambda: not any(map(is_worker, killer.workers - set(children(site.service.pid)))), seconds=10, what="their end"
    )
    assert traffic.acknowledged == sent
    assert [(job.state, job.halt, job.lease) for job in found] == [(State.CONFIRMED, None, None)] * len(traffic.studies)
    assert {study: tuple(map(len, each)) for study, each in results.items()} == dict.fromkeys(traffic.studies, (1, 1))
    assert sum(spooled.values()) == len(sent)
    assert not list((site.root / "incoming").iterdir())
    assert not list((site.root / "work").iterdir())
    verified = site.porta("verify", "--json")
    assert verified.returncode == 0, verified.stdout[-2000:] + verified.stderr[-2000:]
