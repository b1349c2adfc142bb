"""What the tests of the service share: small CT images, a clock that is moved, ledgers, and a log that is read back."""

import hashlib
import io
import json
import logging
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import structlog
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from daemon.configuration.config import Config, Destination, Peer, Rule, Storage
from daemon.ledger.store import Instance, Ledger
from daemon.log import configure, get_logger
from daemon.repetition import Repetition
from daemon.storage.spool import Spool
from dicom_io.files.uids import derive_uid

CANARY = "ZZPHI^CANARY"
PATIENCE_S = 20.0


def dataset_sha256(content: bytes) -> str:
    """The hash of the data set of a file."""
    return hashlib.sha256(content[144 + int.from_bytes(content[140:144], "little") :]).hexdigest()


def spooled_digits(content: bytes) -> str:
    """What the name of a spooled file says of its bytes."""
    before = hashlib.sha256(content[: 144 + int.from_bytes(content[140:144], "little")]).hexdigest()
    return f"{dataset_sha256(content)[:16]}-{before[:8]}"


def keep(spool: Spool, relative: Path, *pieces: bytes) -> None:
    """Have the spool keep a file that comes in pieces."""
    with spool.part() as part:
        for piece in pieces:
            part.write(piece)
        part.finish()
        spool.keep(part, relative)


@dataclass
class FakeClock:
    """A time that passes when a test says so."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def pass_s(self, seconds: float) -> float:
        self.now += seconds
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """`until(condition)` looks again and again, for a bounded time, until the condition holds."""

    def wait(condition: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + patience_s
        pause = threading.Event()
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"not within {patience_s:g} s")
            pause.wait(0.02)

    return wait


@pytest.fixture
def make_ct() -> Callable[..., bytes]:
    """`make_ct(series, index)` is a small CT image as the bytes of a file; `change(ds)` may alter it before."""

    def make(
        series: str | int = 1,
        index: int = 1,
        *,
        change: Callable[[Dataset], None] | None = None,
        syntax: str = ExplicitVRLittleEndian,
        source: str | None = None,
    ) -> bytes:
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.SOPClassUID = CTImageStorage
        ds.SOPInstanceUID = derive_uid("instance", series, index)
        ds.StudyDate = "20000101"
        ds.Modality = "CT"
        ds.SeriesDescription = "Portal venous"
        ds.PatientName = CANARY
        ds.PatientID = CANARY
        ds.StudyInstanceUID = derive_uid("study", series)
        ds.SeriesInstanceUID = derive_uid("series", series)
        ds.InstanceNumber = index
        ds.ImagePositionPatient = [0, 0, index * 5]
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing = [1, 1]
        ds.SamplesPerPixel = 1
        ds.PhotometricInterpretation = "MONOCHROME2"
        ds.Rows = ds.Columns = 8
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.PixelData = bytes(value % 128 for value in range(index, index + 128))
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.file_meta.TransferSyntaxUID = UID(syntax)
        if source:
            ds.file_meta.SourceApplicationEntityTitle = source
        if change:
            change(ds)
        buffer = DicomBytesIO()
        dcmwrite(buffer, ds, enforce_file_format=True)
        return bytes(buffer.getvalue())

    return make


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """A storage root that is ready."""
    spool = Spool(tmp_path / "root")
    spool.prepare()
    return spool


def migrated(url: str) -> Ledger:
    """An open ledger in this version's form."""
    ledger = Ledger(url)
    ledger.migrate()
    return ledger


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a migrated SQLite ledger without a row; a test takes a copy, for migrations take longer than most."""
    path = tmp_path_factory.mktemp("empty") / "ledger.sqlite"
    migrated(f"sqlite:///{path}").close()
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]  # nothing of it waits in a log beside it
    return path


@pytest.fixture
def ledger(tmp_path: Path, empty_ledger: Path) -> Iterator[Ledger]:
    """The default ledger, SQLite in a file, in this version's form."""
    path = shutil.copy(empty_ledger, tmp_path / "ledger.sqlite")
    ledger = Ledger(f"sqlite:///{path}")
    yield ledger
    ledger.close()


@pytest.fixture
def make_instance() -> Callable[..., Instance]:
    """`make_instance(series, index)` is a row as the intake would record it."""

    def make(series: str | int = 1, index: int = 1, **changes: Any) -> Instance:
        values: dict[str, Any] = {
            "sop_instance_uid": derive_uid("instance", series, index),
            "sop_class_uid": CTImageStorage,
            "transfer_syntax_uid": ExplicitVRLittleEndian,
            "series_instance_uid": derive_uid("series", series),
            "study_instance_uid": derive_uid("study", series),
            "calling_ae_title": "MODALITY",
            "path": f"spool/{series}/{index}.dcm",
            "bytes": 1000 + index,
            "sha256": f"{index:064x}",
        }
        return Instance(**values | changes)

    return make


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., Config]:
    """`make_config(port)`: a modality that sends, an archive at that port that gets SEG and SR, and a rule for CT."""

    def make(port: int = 104, **changes: Any) -> Config:
        values: dict[str, Any] = {
            "peer": (
                Peer(name="modality", ae_title="MODALITY", accept=True),
                Peer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=port),
            ),
            "destination": (Destination(peer="archive", attempts=3, timeout_s=5.0),),
            "rule": (Rule(name="liver-ct", match={"Modality": ("CT",)}, model="resnet50", destinations=("archive",)),),
            "storage": Storage(root=tmp_path / "root", min_free_mb=0),
        }
        return Config(**values | changes)

    return make


@dataclass
class ReadLog:
    """The JSON log of a test, in which the canary was not heard."""

    stream: io.StringIO

    @property
    def events(self) -> list[dict[str, Any]]:
        text = self.stream.getvalue()
        assert "ZZPHI" not in text
        assert "CANARY" not in text
        return [json.loads(line) for line in text.splitlines()]

    def named(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.events if line["event"] == event]


@pytest.fixture
def read_log() -> Iterator[ReadLog]:
    """A configured log at its most talkative; what `configure` takes over is given back afterwards.

    Each line comes minutes after the one before, so that none is counted as a repetition.
    """
    root = logging.getLogger()
    handlers, level, raises = list(root.handlers), root.level, logging.raiseExceptions
    hooks = warnings.showwarning, sys.excepthook, threading.excepthook, sys.unraisablehook
    get_logger()
    chain = structlog.get_config()
    stream = io.StringIO()
    configure("debug", "json", stream)
    structlog.get_config()["processors"][-1] = Repetition(structlog.processors.JSONRenderer(), count(step=100).__next__)
    yield ReadLog(stream)
    root.handlers[:], logging.raiseExceptions = handlers, raises
    root.setLevel(level)
    warnings.showwarning, sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    structlog.configure(**chain)


@pytest.fixture
def assert_no_canary() -> Callable[[Path], None]:
    """`assert_no_canary(root)`: the patient's name is in no ledger, no reason and no name of a file below `root`."""

    def look(root: Path) -> None:
        texts = [path for path in root.rglob("*") if path.is_file() and path.suffix != ".dcm"]
        assert any("ledger" in path.name for path in texts)
        assert not [path for path in root.rglob("*") if "ZZPHI" in path.name]
        assert not [path for path in texts if b"ZZPHI" in path.read_bytes()]

    return look


def _missing(reason: str) -> None:
    if os.environ.get("PORTA_REQUIRE_INTEGRATION") == "1":
        pytest.fail(f"{reason}, and PORTA_REQUIRE_INTEGRATION=1")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL of this session's own, without a database; it listens on a socket file alone."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        _missing("PostgreSQL is not installed")
    bin_folder = found[-1].parent
    as_root = os.geteuid() == 0
    if as_root and "postgres" not in {user.pw_name for user in pwd.getpwall()}:
        _missing("PostgreSQL refuses root, and there is no user postgres")
    # Not below pytest's folders: those are open to their owner alone.
    folder = Path(tempfile.mkdtemp(prefix="porta-pg-"))
    if as_root:
        shutil.chown(folder, "postgres")

    def run(*command: str | Path) -> None:
        subprocess.run(
            command,
            check=True,
            user="postgres" if as_root else None,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=120,
        )

    data = folder / "data"
    options = f"-c listen_addresses= -c fsync=off -c unix_socket_directories={folder} -c max_connections=40"
    try:
        run(bin_folder / "initdb", "-D", data, "-A", "trust", "-U", "porta", "--no-sync")
        run(bin_folder / "pg_ctl", "-D", data, "-l", folder / "log", "-o", options, "-w", "start")
        try:
            yield f"postgresql+psycopg://porta@/{{}}?host={folder}"
        finally:
            run(bin_folder / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def made_database(postgres: str, template: str = "template1") -> Iterator[str]:
    """The URL of a PostgreSQL database that is as the template, and goes afterwards."""
    import psycopg

    name = f"porta_{uuid4().hex}"
    server = postgres.format("postgres").replace("+psycopg", "")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield postgres.format(name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgres_database(postgres: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    with made_database(postgres) as url:
        yield url


@pytest.fixture(scope="session")
def postgres_template(postgres: str) -> Iterator[str]:
    """The name of a PostgreSQL database with the tables of the ledger and without a row."""
    with made_database(postgres) as url:
        migrated(url).close()
        yield url.partition("@/")[2].partition("?")[0]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'any.sqlite'}"
    return str(request.getfixturevalue("postgres_database"))


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a ledger of this version is, once on each kind of database."""
    if request.param == "sqlite":
        empty = request.getfixturevalue("empty_ledger")
        yield f"sqlite:///{shutil.copy(empty, tmp_path / 'any.sqlite')}"
        return
    template = request.getfixturevalue("postgres_template")
    with made_database(request.getfixturevalue("postgres"), template) as url:
        yield url


@pytest.fixture
def any_ledger(ledger_url: str) -> Iterator[Ledger]:
    """A ledger in this version's form, once on each kind of database."""
    ledger = Ledger(ledger_url)
    yield ledger
    ledger.close()
