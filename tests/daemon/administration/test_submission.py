"""Files from a person go through the same intake: what is taken in, what is refused, and what follows."""

import json
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.administration.submission import submit_paths
from daemon.configuration.config import Config, Storage
from daemon.errors import StorageUnusable
from daemon.intake import Accepted, Intake
from daemon.jobs import State
from daemon.ledger.answers import is_incomplete
from daemon.ledger.store import Ledger
from dicom_io.files.uids import derive_uid

MakeCT = Callable[..., bytes]


@pytest.fixture(autouse=True)
def heard_by_nobody(read_log: Any) -> Iterator[None]:
    yield
    assert read_log.events is not None


@pytest.fixture
def config(make_config: Callable[..., Config]) -> Config:
    return make_config()


@pytest.fixture
def root_ledger(config: Config) -> Iterator[Ledger]:
    """The ledger in the storage root, as the service would open it after the submission."""
    config.storage.root.mkdir()
    ledger = Ledger(config.ledger_url)
    ledger.migrate()
    yield ledger
    ledger.close()


@pytest.fixture
def folder(tmp_path: Path, make_ct: MakeCT) -> Path:
    """Two series of three and two images, in folders."""
    folder = tmp_path / "study"
    for series, count in ((1, 3), (2, 2)):
        (folder / str(series)).mkdir(parents=True)
        for index in range(count):
            (folder / str(series) / f"{index}").write_bytes(make_ct(series, index))
    return folder


def zipped(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


@pytest.mark.parametrize("form", ["folder", "zip", "files"])
def test_a_study_in_any_form(
    config: Config, root_ledger: Ledger, folder: Path, capsys: pytest.CaptureFixture[str], form: str
):
    """Every instance is in the spool and the ledger, from SUBMIT, and the series need not wait for quiet."""
    paths = {"folder": [folder], "zip": [zipped(folder)], "files": sorted(folder.rglob("*/*"))}[form]
    assert submit_paths(config, paths) == []
    assert capsys.readouterr().out == "5 instances of 2 series taken in\n"
    jobs = root_ledger.all_jobs()
    assert [(job.calling_ae_title, job.instances, job.state) for job in jobs] == [
        ("SUBMIT", 3, State.RECEIVING),
        ("SUBMIT", 2, State.RECEIVING),
    ]
    (due, _) = root_ledger.due_series(now=jobs[0].created_at + 60, quiet_s=3600, released_quiet_s=5)
    assert due.series_instance_uid == derive_uid("series", 1)


def test_twice_is_taken_in_twice_and_there_once(config: Config, root_ledger: Ledger, folder: Path):
    """The same again is no fault of the person who submits it."""
    assert submit_paths(config, [folder, folder]) == []
    assert submit_paths(config, [folder]) == []
    assert [job.instances for job in root_ledger.all_jobs()] == [3, 2]


def test_what_is_refused_has_a_line(config: Config, root_ledger: Ledger, folder: Path, make_ct: MakeCT, tmp_path: Path):
    """Each with its name and the reason, and is kept; the others go on."""
    broken = {
        "text.txt": b"ZZPHI^CANARY",
        "empty.dcm": b"",
        "cut.dcm": make_ct(3)[:-1],
        "no-uid.dcm": make_ct(3, change=lambda ds: setattr(ds, "SeriesInstanceUID", "../../x")),
        "other.dcm": make_ct(1, 0, change=lambda ds: setattr(ds, "InstanceNumber", 77)),
    }
    paths = [folder]
    for name, content in broken.items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(content)
    lines = submit_paths(config, [*paths, tmp_path / "nowhere"])
    assert lines == [
        f"{tmp_path / 'text.txt'}: UNDECODABLE, kept in quarantine",
        f"{tmp_path / 'empty.dcm'}: UNDECODABLE, kept in quarantine",
        f"{tmp_path / 'cut.dcm'}: UNDECODABLE, kept in quarantine",
        f"{tmp_path / 'no-uid.dcm'}: INVALID_UID, kept in quarantine",
        f"{tmp_path / 'other.dcm'}: DUPLICATE_DIFFERENT, kept in quarantine",
        f"{tmp_path / 'nowhere'}: no such file or folder",
    ]
    kept = config.storage.root / "quarantine"
    assert sorted(path.read_bytes() for path in kept.glob("*.dcm")) == sorted(broken.values())
    assert {json.loads(path.read_text())["source"] for path in kept.glob("*.reason")} == {"SUBMIT"}
    assert [job.instances for job in root_ledger.all_jobs()] == [3, 2]


def test_a_file_that_cannot_be_read(config: Config, root_ledger: Ledger, folder: Path):
    """A broken disk, or no permission: a line, and the others go on."""
    unreadable = Path("/proc/self/mem")
    assert submit_paths(config, [unreadable, folder]) == [f"{unreadable}: Input/output error"]
    assert [job.instances for job in root_ledger.all_jobs()] == [3, 2]


def test_no_room_is_said_at_once(make_config: Callable[..., Config], folder: Path, tmp_path: Path):
    """There is no use in going on."""
    config = make_config(storage=Storage(root=tmp_path / "root", min_free_mb=10**9))
    with pytest.raises(StorageUnusable, match="no room, or the ledger is away"):
        submit_paths(config, [folder])
    ledger = Ledger(config.ledger_url)
    assert ledger.all_jobs() == []
    ledger.close()


def test_all_here_already(config: Config, root_ledger: Ledger, folder: Path, capsys: pytest.CaptureFixture[str]):
    """Says what has become of it, and which command helps."""
    submit_paths(config, [folder / "1"])
    (due,) = root_ledger.due_series(now=time.time() + 60, quiet_s=20, released_quiet_s=5)
    root_ledger.close_series(due, now=time.time(), rule=None, reject_reason="NO_RULE")
    capsys.readouterr()
    assert submit_paths(config, [folder / "1"]) == []
    assert capsys.readouterr().out == "all here already; job 1 is REJECTED (NO_RULE): `porta rerun 1`\n"
    assert submit_paths(config, [folder]) == []
    assert capsys.readouterr().out.splitlines() == [
        "2 instances of 1 series taken in",
        "all here already; job 1 is REJECTED (NO_RULE): `porta rerun 1`",
    ]


def test_a_submission_that_was_ended_is_incomplete(
    config: Config, root_ledger: Ledger, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    """By Ctrl-C between two files; when it is handed in again all of it is there."""
    taken: list[Path] = []

    def stop_after_two(self: Intake, *arguments: Any, **more: Any) -> Accepted:
        if len(taken) == 2:
            raise KeyboardInterrupt
        taken.append(folder)
        return take(self, *arguments, **more)

    take = Intake.take
    monkeypatch.setattr(Intake, "take", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        submit_paths(config, [folder])
    (uid,) = root_ledger.all_series()
    assert is_incomplete(root_ledger.database, uid)
    monkeypatch.undo()
    submit_paths(config, [folder])
    assert not is_incomplete(root_ledger.database, uid)
