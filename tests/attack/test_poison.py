"""A poison in each queue: its error is its own halt with its id, and what is good goes on in the same round."""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from daemon.choice import Choice, Chosen
from daemon.completeness import Closer
from daemon.configuration.config import Config
from daemon.intake import Intake
from daemon.jobs import Event, HaltCode, Job, State
from daemon.judgement import Judge
from daemon.ledger.rows import Compared
from daemon.ledger.store import Ledger
from daemon.pipeline import Pipeline
from daemon.shadows import Shadows
from daemon.storage.sidecar import read_spooled, sidecar_path
from daemon.storage.spool import Spool
from daemon.worker.executor import Stage
from daemon.worker.requests import SHADOW
from dicom_io.files.uids import derive_uid
from dicom_io.series.series import Series, arrange

LEASE = "host/1"

SHORT_VRS = ("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL", "SS", "ST", "TM")
SHORT_VRS += ("UI", "UL", "US", "ZZ")
LONG_VRS = ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
VALUES = (b"", b"CT", b"\xff\xfe\xfd", bytes(8), b"1\\2\\x ", b"1e999 ", b"\xfe\xff\x00\xe0\x10\x00\x00\x00")


def with_value(file: bytes, keyword_tag: bytes, vr: str, value: bytes) -> bytes:
    """The file with an element of explicit VR rewritten: its VR and its value as given, whatever they mean."""
    at = file.index(keyword_tag)
    length = struct.unpack("<H", file[at + 6 : at + 8])[0]
    head = struct.pack("<2sH", vr.encode(), len(value))
    if vr in LONG_VRS:
        head = struct.pack("<2sHL", vr.encode(), 0, len(value))
    return file[: at + 4] + head + value + file[at + 8 + length :]


def opened(paths: Sequence[Path], memory_mb: int | None) -> Series:
    return arrange([read_spooled(path) for path in paths])


@dataclass
class PlayedWorker:
    """Answers each call well, but for those of a job that is poison."""

    poison: int = 0
    calls: list[str] = field(default_factory=list)

    def run(self, deadline_s: float, stage: Stage[Any, Any], request: Any) -> Any:
        self.calls.append(stage.name)
        if request.work.name == str(self.poison):
            raise KeyError("ZZPHI^CANARY")
        return Compared("2.0", "ab" * 32, ()) if stage == SHADOW else ()

    def rest(self) -> None:
        """Nothing to give back."""


@dataclass
class Node:
    """The rounds of a service, each called by the test, on one spool and ledger."""

    config: Config
    spool: Spool
    ledger: Ledger
    clock: Any
    make_ct: Callable[..., bytes]
    worker: PlayedWorker = field(default_factory=PlayedWorker)

    def __post_init__(self) -> None:
        judge = Judge(self.config, self.spool, self.ledger, opened)
        self.intake = Intake(self.spool, self.ledger, self.clock)
        self.closer = Closer(self.config, self.spool, self.ledger, judge, clock=self.clock, jitter=lambda: 0.5)
        self.pipeline = Pipeline(
            self.config, self.spool, self.ledger, judge, self.worker, LEASE, "1", self.clock, lambda: 0.5
        )
        self.shadows = Shadows(self.config, self.spool, self.ledger, self.worker, self.clock, lambda: 0.5)

    def receive(self, series: str | int, images: int = 12, change: Callable[[Dataset], None] | None = None) -> None:
        for index in range(1, images + 1):
            self.intake.take(self.make_ct(series, index, change=change), calling_ae_title="MODALITY")

    def files(self, series: str | int) -> list[Path]:
        return [self.spool.root / path for path in self.ledger.instance_paths(derive_uid("series", series))]

    def job(self, series: str | int) -> Job:
        uid = derive_uid("series", series)
        return next(job for job in self.ledger.all_jobs() if job.series_instance_uid == uid)

    def report(self, series: str | int, *, shadow_models: tuple[str, ...] = ()) -> Job:
        """The series through the ledger to REPORTED, with these shadows."""
        self.receive(series)
        due = self.ledger.due_series(now=self.clock() + 100, quiet_s=20, released_quiet_s=5)
        (item,) = [item for item in due if item.series_instance_uid == derive_uid("series", series)]
        self.ledger.close_series(item, now=self.clock(), rule="liver-ct")
        job = self.ledger.job(item.job_id)
        self.ledger.choose(Choice(chosen=(Chosen(job),)), [job], now=self.clock())
        for event, models in ((Event.SEGMENTED, ()), (Event.REPORTED, shadow_models)):
            claimed = self.ledger.claim_job(LEASE, now=self.clock())
            assert claimed is not None
            assert self.ledger.finish_stage(claimed, event, now=self.clock(), shadow_models=models)
        return self.ledger.job(job.id)


@pytest.fixture
def node(
    spool: Spool,
    ledger: Ledger,
    clock: Any,
    make_ct: Callable[..., bytes],
    make_config: Callable[..., Config],
    read_log: Any,
    tmp_path: Path,
    assert_no_canary: Callable[[Path], None],
) -> Iterator[Node]:
    yield Node(make_config(), spool, ledger, clock, make_ct)
    assert read_log.events is not None
    assert_no_canary(tmp_path)


@pytest.mark.parametrize("tag", [b"\x08\x00\x60\x00", b"\x08\x00\x3e\x10"], ids=["Modality", "SeriesDescription"])
def test_any_vr_with_any_value(node: Node, tag: bytes):
    """An image of which routing can make nothing keeps no other series from being closed, and is not forgotten."""
    poisons = list(product((*SHORT_VRS, *LONG_VRS), VALUES))
    for number, (vr, value) in enumerate(poisons):
        content = with_value(node.make_ct(f"poison {number}"), tag, vr, value)
        node.intake.take(content, calling_ae_title="MODALITY")
    node.receive("good")
    node.clock.pass_s(25)
    node.closer.close_due()
    assert node.job("good").state == State.RECEIVED
    left = [job for job in node.ledger.all_jobs() if job.state == State.RECEIVING and not job.halt]
    assert left == []


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "halt"),
    [(loop, HaltCode.STORAGE_UNUSABLE), (folder, HaltCode.SPOOL_UNREADABLE), (Path.unlink, HaltCode.SPOOL_UNREADABLE)],
)
def test_a_file_of_the_spool_that_cannot_be_read(
    node: Node, spoil: Callable[[Path], None], halt: HaltCode, read_log: Any
):
    """The good series is closed in the same round; the other one stands still under its own id, and can be retried."""
    node.receive("poison", images=1)
    node.receive("good")
    (path,) = node.files("poison")
    content = path.read_bytes()
    spoil(path)
    node.clock.pass_s(25)
    assert node.closer.close_due() == 1
    assert node.job("good").state == State.RECEIVED
    for _ in range(node.config.engine.attempts):
        node.clock.pass_s(600)
        node.closer.close_due()
    poison = node.job("poison")
    assert (poison.state, poison.halt) == (State.RECEIVING, halt)
    assert {line["job_id"] for line in read_log.named("job.halted")} == {poison.id}
    path.unlink(missing_ok=True) if not path.is_dir() else path.rmdir()
    path.write_bytes(content)
    node.ledger.retry(poison.id, now=node.clock())
    assert node.closer.close_due() == 1


def test_a_new_image_of_a_series_that_stands_still(node: Node):
    """What was found of fewer images is forgotten, and the series is closed with all of them."""
    node.receive("poison", images=1)
    node.files("poison")[0].unlink()
    node.clock.pass_s(25)
    node.closer.close_due()
    assert node.job("poison").halt == HaltCode.SPOOL_UNREADABLE
    node.receive("poison", images=3)
    assert node.job("poison").halt is None
    node.clock.pass_s(25)
    assert node.closer.close_due() == 1


@pytest.mark.parametrize(
    "text", ["[]", '{"planes": 3}', "{}", "\ud800".encode("utf-8", "surrogatepass").decode("latin-1")]
)
def test_a_sidecar_that_holds_anything(node: Node, text: str):
    """It is a cache: the file itself is read."""
    node.receive("poison")
    node.receive("good")
    for path in node.files("poison"):
        form = sidecar_path(path).read_text().partition("\n")[0]
        sidecar_path(path).write_text(f"{form}\n{text}")
    node.clock.pass_s(25)
    assert node.closer.close_due() == 2
    assert node.pipeline.choose_due() == 2


def test_a_study_that_cannot_be_chosen_from(node: Node, monkeypatch: pytest.MonkeyPatch):
    """An error that nobody foresaw halts the jobs of that study, after their attempts, and the next one is chosen."""
    node.receive("poison", images=1)  # refused as too few, so that its images are asked whether they are computed
    node.receive("good")
    node.clock.pass_s(25)
    assert node.closer.close_due() == 2
    ask, poison = Judge.is_computed, node.job("poison")

    def is_computed(judge: Judge, job: Job) -> bool:
        if job.id == poison.id:
            raise KeyError("ZZPHI^CANARY")
        return ask(judge, job)

    monkeypatch.setattr(Judge, "is_computed", is_computed)
    assert node.pipeline.choose_due() == 1
    assert node.job("good").chosen
    for _ in range(node.config.engine.attempts):
        node.clock.pass_s(600)
        node.pipeline.choose_due()
    assert node.job("poison").halt == HaltCode.UNEXPECTED


def test_a_job_whose_stage_raises_anything(node: Node, read_log: Any):
    """It is tried again by itself; the job behind it is worked on in the same round."""
    node.receive("poison")
    node.receive("good")
    node.clock.pass_s(25)
    node.closer.close_due()
    node.pipeline.choose_due()
    node.worker.poison = node.job("poison").id
    node.pipeline.work_off()
    assert (node.job("poison").state, node.job("poison").attempts) == (State.RECEIVED, 1)
    assert node.job("good").state == State.SEGMENTED
    assert {line["job_id"] for line in read_log.named("job.postponed")} >= {node.job("poison").id}


def test_a_shadow_whose_folder_cannot_be_tidied(node: Node):
    """The next shadow is compared, and the service starts."""
    poison, good = (node.report(name, shadow_models=("other",)) for name in ("poison", "good"))
    work = node.spool.work(poison.id)
    work.parent.mkdir(exist_ok=True)
    work.symlink_to(work.name)
    node.worker.poison = poison.id
    assert node.shadows.compare_due() == 2
    assert [str(shadow.state) for job in (poison, good) for shadow in node.ledger.shadows_of(job.id)] == [
        "PENDING",
        "COMPARED",
    ]
    node.shadows.sweep()
