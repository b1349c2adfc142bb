"""What the headers of spooled series say: fit, unfit, or an error, which is an answer too."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import run
from typing import Any

import pytest

from daemon.configuration.config import Config, Engine, Rule
from daemon.errors import FileDamaged, LedgerUnavailable, RuleGone
from daemon.intake import Intake
from daemon.jobs import Job
from daemon.judgement import Judge
from daemon.ledger.store import Ledger
from daemon.storage.spool import Spool
from daemon.worker.sources import open_spooled
from dicom_io.errors import RejectReason, SeriesRejected
from dicom_io.files.uids import derive_uid
from dicom_io.series.series import Series
from models.errors import UnknownModel


@dataclass
class Court:
    """A judge with a spool full of series."""

    judge: Judge
    intake: Intake
    ledger: Ledger
    make_ct: Callable[..., bytes]

    def receive(self, *indexes: int, series: int = 1, change: Callable[[Any], None] | None = None) -> Job:
        for index in indexes:
            self.intake.take(self.make_ct(series, index, change=change), calling_ae_title="MODALITY")
        return replace(self.ledger.all_jobs()[-1], rule="liver-ct")


@pytest.fixture
def court(
    spool: Spool, ledger: Ledger, clock: Any, make_ct: Callable[..., bytes], make_config: Callable[..., Config]
) -> Court:
    judge = Judge(make_config(), spool, ledger, open_spooled)
    return Court(judge, Intake(spool, ledger, clock), ledger, make_ct)


WHOLE = range(1, 13)


def test_a_series_that_can_be_processed_suits_more_or_less(court: Court):
    """An original axial series more than a derived one; of two, the one that covers more."""

    def original(ds: Any) -> None:
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]

    def derived(ds: Any) -> None:
        ds.ImageType = ["DERIVED", "SECONDARY", "REFORMATTED"]

    suits = [
        court.judge.suitability(job)
        for job in (
            court.receive(*WHOLE, series=1, change=derived),
            court.receive(*WHOLE, series=2, change=original),
            court.receive(*range(1, 40), series=3, change=original),
        )
    ]
    assert not any(isinstance(found, Exception) for found in suits)
    assert suits[0] < suits[1] < suits[2]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("indexes", "change", "reason"),
    [
        ([1, 2], None, RejectReason.TOO_FEW_SLICES),
        (WHOLE, lambda ds: setattr(ds, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]), RejectReason.LOCALIZER_ONLY),
        (WHOLE, lambda ds: setattr(ds, "Modality", "PT"), RejectReason.NOT_CT_OR_MR),
        (WHOLE, lambda ds: setattr(ds, "Modality", "MR"), RejectReason.NO_MODEL),
    ],
)
def test_a_series_that_cannot(court: Court, indexes: Sequence[int], change: Any, reason: RejectReason):
    """With its reason, as an error that came back as a value."""
    found = court.judge.suitability(court.receive(*indexes, change=change))
    assert isinstance(found, SeriesRejected)
    assert found.reason == reason


def test_a_series_that_needs_more_memory_than_is_allowed(court: Court):
    """`memory_mb` of the configuration; without it the machine's."""

    def large(ds: Any) -> None:
        ds.Rows = ds.Columns = 8192
        ds.PixelSpacing = [0.1, 0.1]

    job = court.receive(*range(1, 60), change=large)
    judge = replace(court.judge, config=court.judge.config.model_copy(update={"engine": Engine(memory_mb=4096)}))
    found = judge.suitability(job)
    assert isinstance(found, SeriesRejected)
    assert found.reason == RejectReason.TOO_LARGE
    assert not isinstance(judge.suitability(court.receive(*WHOLE, series=2)), Exception)


def test_errors_are_answers(court: Court):
    """A file that is gone or damaged, a rule that is gone, a model that is gone, a fault of ours."""
    job = court.receive(*WHOLE)
    assert isinstance(court.judge.suitability(replace(job, rule="gone")), RuleGone)
    config = court.judge.config
    rules = tuple(rule.model_copy(update={"model": "gone"}) for rule in config.rules)
    gone = replace(court.judge, config=config.model_copy(update={"rules": rules}))
    assert isinstance(gone.suitability(job), UnknownModel)

    def fault(paths: Sequence[Path], memory_mb: int | None) -> Series:
        raise ZeroDivisionError

    ours = replace(court.judge, open_series=fault)
    assert isinstance(ours.suitability(job), ZeroDivisionError)
    assert isinstance(ours.look(job.series_instance_uid), ZeroDivisionError)
    path = court.judge.spool.root / court.ledger.instance_paths(derive_uid("series", 1))[0]
    path.write_bytes(b"no DICOM")
    assert isinstance(court.judge.suitability(job), FileDamaged)
    path.unlink()
    assert isinstance(court.judge.suitability(job), FileNotFoundError)


def test_a_ledger_that_is_away_is_nothing_about_the_series(court: Court, tmp_path: Path):
    """It is raised: nothing is known, and the next tick asks again."""
    job = court.receive(*WHOLE)
    away = replace(court.judge, ledger=Ledger(f"sqlite:///{tmp_path / 'nowhere' / 'ledger.sqlite'}"))
    for ask in (lambda: away.suitability(job), lambda: away.look(job.series_instance_uid)):
        with pytest.raises(LedgerUnavailable):
            ask()


def test_the_rule_of_a_job(court: Court):
    """By its name."""
    job = court.receive(1)
    assert isinstance(court.judge.rule(job), Rule)
    with pytest.raises(RuleGone):
        court.judge.rule(replace(job, rule=None))


def test_no_torch():
    """The service judges without it."""
    code = "import sys; import daemon.judgement, daemon.worker.sources; sys.exit('torch' in sys.modules)"
    assert run([sys.executable, "-c", code], timeout=120).returncode == 0


@pytest.mark.parametrize(
    ("kinds", "computed"),
    [
        ([["DERIVED", "SECONDARY", "REFORMATTED"]] * 3, True),
        ([["DERIVED", "PRIMARY"], ["ORIGINAL", "SECONDARY"]], True),
        ([["ORIGINAL", "PRIMARY", "AXIAL"]] * 3, False),
        ([["DERIVED", "PRIMARY"], ["ORIGINAL", "PRIMARY"]], False),
        ([["ORIGINAL", "PRIMARY", "DERIVED"]], False),
        ([None, ["DERIVED", "PRIMARY"]], False),
        ([None], False),
    ],
)
def test_a_series_is_computed_when_all_of_its_images_say_so(
    court: Court, kinds: list[list[str] | None], computed: bool
):
    """Values 1 and 2 of ImageType; an image that says nothing was acquired, as far as one knows."""
    for index, kind in enumerate(kinds, start=1):

        def change(ds: Any, kind: list[str] | None = kind) -> None:
            if kind:
                ds.ImageType = kind

        job = court.receive(index, change=change)
    assert court.judge.is_computed(job) == computed


def test_what_cannot_be_read_is_not_computed(court: Court):
    """A file that is gone says nothing of its image."""
    job = court.receive(1, change=lambda ds: setattr(ds, "ImageType", ["DERIVED", "PRIMARY"]))
    assert court.judge.is_computed(job)
    for path in court.ledger.instance_paths(job.series_instance_uid):
        (court.judge.spool.root / path).unlink()
    assert not court.judge.is_computed(job)
