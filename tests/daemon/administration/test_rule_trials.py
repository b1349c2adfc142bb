"""Rules that are tried before a study comes: which one a series takes, and why not each other one."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from daemon.administration.rule_trials import print_trials
from daemon.configuration.config import Config, Rule
from daemon.errors import BadRequest, UnknownJob
from daemon.intake import Intake
from daemon.ledger.store import Ledger
from daemon.storage.spool import Spool
from dicom_io.errors import NotDicom
from dicom_io.files.uids import derive_uid


@dataclass
class Desk:
    """Rules, and somebody who tries them."""

    config: Config
    capsys: pytest.CaptureFixture[str]

    def tries(
        self, *paths: Path, job: int | None = None, last: int | None = None, sender: str | None = None
    ) -> list[str]:
        self.capsys.readouterr()
        print_trials(self.config, paths, job_id=job, last=last, calling_ae_title=sender, as_json=False)
        out, err = self.capsys.readouterr()
        return [*out.splitlines(), *err.splitlines()]


def rule(name: str, **match: tuple[str, ...]) -> Rule:
    return Rule(name=name, match=match, model="resnet50", destinations=("archive",))


RULES = (
    rule("mr", Modality=("MR",)),
    rule("portal", Modality=("CT",), SeriesDescription=("*portal*",)),
    rule("stat", CallingAETitle=("STAT*",)),
    rule("ct", Modality=("CT", "PT")),
)


@pytest.fixture
def desk(
    make_config: Callable[..., Config], ledger: Ledger, capsys: pytest.CaptureFixture[str], read_log: Any
) -> Iterator[Desk]:
    yield Desk(make_config(rule=RULES, ledger={"url": str(ledger.database._engine.url)}), capsys)
    assert read_log.events is not None


@pytest.fixture
def folder(tmp_path: Path, make_ct: Callable[..., bytes]) -> Path:
    """Two series, the second not in the portal phase; the image that decides is not the first file."""
    folder = tmp_path / "study"
    folder.mkdir()
    images = {index: make_ct(1, index) for index in range(3)}
    first = min(images, key=lambda index: derive_uid("instance", 1, index))
    for index, content in images.items():
        (folder / f"{'b' if index == first else 'a'}{index}.dcm").write_bytes(content)
    (folder / "c.dcm").write_bytes(make_ct(2, change=lambda ds: setattr(ds, "SeriesDescription", "Native")))
    return folder


def test_rules_are_tried_on_files(desk: Desk, folder: Path):
    """One that matches is taken if none before it does; each other one has its reason."""
    assert desk.tries(folder) == [
        f"series {derive_uid('series', 1)}: portal",
        '  not mr: Modality is "CT", not "MR"',
        '  not stat: CallingAETitle is "SUBMIT", not "STAT*"',
        "  not ct: it matches too, and portal stands before it",
        f"series {derive_uid('series', 2)}: ct",
        '  not mr: Modality is "CT", not "MR"',
        '  not portal: SeriesDescription is "Native", not "*portal*"',
        '  not stat: CallingAETitle is "SUBMIT", not "STAT*"',
    ]


def test_the_sender_may_be_said(desk: Desk, folder: Path):
    """A rule may ask for it."""
    assert desk.tries(folder / "c.dcm", sender="STAT1")[0].endswith(": stat")


def test_what_is_no_image_is_named(desk: Desk, folder: Path):
    """And the others are tried; what is not there is an error."""
    (folder / "notes.txt").write_text("ZZPHI^CANARY")
    lines = desk.tries(folder)
    assert lines[-1] == f"porta: {folder / 'notes.txt'}: not a DICOM file"
    assert len([line for line in lines if line.startswith("series")]) == 2
    with pytest.raises(NotDicom):
        desk.tries(folder / "nowhere")


def test_no_rule(desk: Desk, folder: Path):
    """Each of them says why."""
    desk.config = desk.config.model_copy(update={"rules": RULES[:1]})
    assert desk.tries(folder / "c.dcm") == [
        f"series {derive_uid('series', 2)}: no rule",
        '  not mr: Modality is "CT", not "MR"',
    ]


@pytest.fixture
def received(desk: Desk, spool: Spool, ledger: Ledger, make_ct: Callable[..., bytes], clock: Any) -> None:
    """Three jobs: two that fell under `portal`, one under none."""
    for series in (1, 2, 3):
        Intake(spool, ledger, clock).take(make_ct(series), calling_ae_title="CT1")
    for due, name in zip(
        ledger.due_series(now=clock() + 60, quiet_s=20, released_quiet_s=5), ("portal", "portal", None), strict=True
    ):
        ledger.close_series(due, now=clock() + 60, rule=name, reject_reason=None if name else "NO_RULE")


def test_rules_are_tried_on_a_job(desk: Desk, received: None):
    """With the sender that it had, and the rule that it fell under where that is another one now."""
    assert desk.tries(job=1)[0] == f"series {derive_uid('series', 1)} (job 1): portal"
    assert desk.tries(job=3)[0] == f"series {derive_uid('series', 3)} (job 3, now none): portal"
    with pytest.raises(UnknownJob):
        desk.tries(job=9)


def test_rules_are_tried_on_the_last_jobs(desk: Desk, received: None, spool: Spool):
    """Only what would change is shown, and counted; images that are gone are named."""
    assert desk.tries(last=500)[-1] == "3 series: 2 as before, 1 under another rule, 0 under none any more"
    desk.config = desk.config.model_copy(update={"rules": RULES[:1]})
    lines = desk.tries(last=2)
    assert lines == [
        f"series {derive_uid('series', 2)} (job 2, now portal): no rule",
        '  not mr: Modality is "CT", not "MR"',
        "2 series: 1 as before, 0 under another rule, 1 under none any more",
    ]
    for path in (spool.root / "spool" / derive_uid("series", 2)).glob("*.dcm"):
        path.unlink()
    assert desk.tries(last=2)[-1] == "porta: job 2: its images are gone or damaged"


def test_as_scripts_read_it(desk: Desk, received: None):
    """Every series, also those that stay as they are."""
    desk.capsys.readouterr()
    print_trials(desk.config, (), job_id=None, last=500, calling_ae_title=None, as_json=True)
    trials = json.loads(desk.capsys.readouterr().out)
    assert [(trial["job"], trial["rule"], trial["rule_before"]) for trial in trials] == [
        (3, "portal", None),
        (2, "portal", "portal"),
        (1, "portal", "portal"),
    ]
    assert set(trials[0]["others"]) == {"mr", "stat", "ct"}


def test_one_thing_is_tried_at_a_time(desk: Desk, folder: Path):
    """Files, a job, or the last jobs."""
    with pytest.raises(BadRequest, match="^what is to be tried\\? name files or folders, or --job ID, or --last N$"):
        desk.tries()
    for paths, asked in (((), {"job": 1, "last": 2}), ((folder,), {"last": 1})):
        with pytest.raises(
            BadRequest, match="^one thing is tried at a time: files or folders, or --job ID, or --last N$"
        ):
            desk.tries(*paths, **asked)
    with pytest.raises(BadRequest, match="--from is for files"):
        desk.tries(job=1, sender="CT1")


def test_nothing_that_could_be_tried(desk: Desk, tmp_path: Path):
    """An empty folder is named, and so is one without an image."""
    empty = tmp_path / "empty"
    empty.mkdir()
    for _ in range(2):
        with pytest.raises(BadRequest) as caught:
            desk.tries(empty)
        assert str(caught.value) == f"{empty}: no DICOM image is there to be tried"
        (empty / "notes.txt").write_text("none")
