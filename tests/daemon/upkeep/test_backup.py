"""A backup is whole or none: what comes meanwhile, what a kill leaves, what is damaged; what a restore makes."""

import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon.errors import BadRequest, LedgerUnavailable, StorageUnusable
from daemon.intake import Intake
from daemon.ledger.database import Database
from daemon.ledger.store import Ledger
from daemon.storage.integrity import SUMS, list_sums
from daemon.storage.spool import RESTORING, Spool, write_durably
from daemon.upkeep.backup import LEDGER, MANIFEST, ROOT, back_up, read_manifest, restore
from daemon.upkeep.verification import verify_storage
from tests.daemon.conftest import made_database
from tests.daemon.upkeep.test_verification import outbox  # noqa: F401

MakeCT = Callable[..., bytes]


@pytest.fixture
def ledger(any_ledger: Ledger) -> Ledger:
    """On each kind of database."""
    return any_ledger


@pytest.fixture
def intake(spool: Spool, ledger: Ledger, read_log: object) -> Intake:
    return Intake(spool, ledger)


@pytest.fixture
def elsewhere(request: pytest.FixtureRequest, ledger: Ledger, tmp_path: Path) -> Iterator[tuple[Spool, Ledger]]:
    """Another root and another ledger of the same kind, both empty."""
    spool = Spool(tmp_path / "elsewhere" / "root")
    if ledger.database.kind == "sqlite":
        spool.root.parent.mkdir()
        yield spool, Ledger(f"sqlite:///{spool.root / 'ledger.sqlite'}")
        return
    with made_database(request.getfixturevalue("postgres")) as url:
        other = Ledger(url)
        yield spool, other
        other.close()


def tell(ledger: Ledger) -> list[object]:
    """All that a ledger says of jobs, deliveries and instances."""
    jobs = ledger.all_jobs()
    deliveries = [ledger.deliveries_of(job.id) for job in jobs]
    return [jobs, deliveries, [ledger.versions(uid) for uid in ledger.all_series()]]


def test_what_was_backed_up_is_there_elsewhere(
    spool: Spool,
    ledger: Ledger,
    outbox: Path,  # noqa: F811
    intake: Intake,
    make_ct: MakeCT,
    tmp_path: Path,
    elsewhere: tuple[Spool, Ledger],
):
    """Rows, images, results, quarantine and what else lies in the root, all whole; work and the lock stay behind."""
    intake.take(make_ct(2, 1), calling_ae_title="MODALITY")
    intake.take(b"no DICOM", calling_ae_title="MODALITY")
    for name in ("models/ours.json", "work/9/0/labels.npy", "outbox/77/0/seg.dcm"):
        write_durably(spool.root / name, b"content")
    made = back_up(spool, ledger, tmp_path / "backup")
    assert (made.instances, made.objects, made.missing) == (3, 2, ())
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o700
    root, other = elsewhere
    done = restore(tmp_path / "backup", root, other)
    assert (done.findings, done.instances, done.quarantined) == ([], 3, 1)
    assert tell(other) == tell(ledger)
    there = {str(path.relative_to(root.root)) for path in root.root.rglob("*") if path.is_file()}
    here = {str(path.relative_to(spool.root)) for path in spool.root.rglob("*") if path.is_file()}
    assert here - there == {"work/9/0/labels.npy", "outbox/77/0/seg.dcm"}  # job 77 is of no row: its id will come again
    assert {name for name in there - here if not name.startswith("ledger")} == set()
    root.prepare()


def test_what_a_log_beside_the_ledger_holds_is_there(
    spool: Spool, intake: Intake, ledger: Ledger, make_ct: MakeCT, tmp_path: Path
):
    """Rows of a service that runs stand in SQLite's log, which a copied file lacks."""
    if ledger.database.path is None:
        pytest.skip("PostgreSQL has no such file")
    intake.take(make_ct(1, 1), calling_ae_title="MODALITY")
    with sqlite3.connect(shutil.copy(ledger.database.path, tmp_path / "copied.sqlite")) as copied:
        assert copied.execute("SELECT count(*) FROM instances").fetchone() == (0,)
    back_up(spool, ledger, tmp_path / "backup")
    with sqlite3.connect(tmp_path / "backup" / LEDGER) as copied:
        assert copied.execute("SELECT count(*) FROM instances").fetchone() == (1,)


def test_every_row_has_its_file_whatever_comes_and_moves_meanwhile(
    spool: Spool, intake: Intake, ledger: Ledger, make_ct: MakeCT, tmp_path: Path, elsewhere: tuple[Spool, Ledger]
):
    """An image that comes is left out with its row. One that is sent again is moved: then all is copied anew."""
    for index in (1, 2, 3):
        intake.take(make_ct(1, index), calling_ae_title="MODALITY")
    (damaged,) = ledger.versions(*uids(ledger, 2))
    came = False

    def meanwhile(done: int, of: int) -> None:
        nonlocal came
        if not came:
            intake.take(make_ct(2, 1), calling_ae_title="MODALITY")
            moved = f"{damaged.path}-moved.dcm"
            (spool.root / damaged.path).rename(spool.root / moved)
            ledger.move_instance(damaged, path=moved)
        came = True

    made = back_up(spool, ledger, tmp_path / "backup", progress=meanwhile)
    assert (made.instances, made.missing) == (4, ())
    assert not (tmp_path / "backup" / ROOT / damaged.path).exists()
    root, other = elsewhere
    assert restore(tmp_path / "backup", root, other).instances == 4


def test_a_file_that_the_root_lacks_is_named_and_the_rest_is_backed_up(
    spool: Spool, intake: Intake, ledger: Ledger, make_ct: MakeCT, tmp_path: Path, elsewhere: tuple[Spool, Ledger]
):
    """One missing image costs nobody else the backup."""
    for index in (1, 2):
        intake.take(make_ct(1, index), calling_ae_title="MODALITY")
    (lost,) = ledger.versions(*uids(ledger, 2))
    (spool.root / lost.path).unlink()
    made = back_up(spool, ledger, tmp_path / "backup")
    assert made.missing == (lost.path,)
    root, other = elsewhere
    done = restore(tmp_path / "backup", root, other)
    assert [(finding.fault, finding.path) for finding in done.findings] == [("MISSING", lost.path)]


def test_where_nothing_can_be_linked_files_are_copied(
    spool: Spool,
    intake: Intake,
    ledger: Ledger,
    make_ct: MakeCT,
    tmp_path: Path,
    elsewhere: tuple[Spool, Ledger],
):
    """On another file system; the shared memory is one."""
    folder = Path(f"/dev/shm/porta-{os.getpid()}")
    if not folder.parent.is_dir() or folder.parent.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is no file system of its own")
    intake.take(make_ct(1, 1), calling_ae_title="MODALITY")
    try:
        back_up(spool, ledger, folder)
        root, other = elsewhere
        assert restore(folder, root, other).findings == []
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_backup_that_was_killed_is_none(
    spool: Spool, intake: Intake, ledger: Ledger, make_ct: MakeCT, tmp_path: Path, elsewhere: tuple[Spool, Ledger]
):
    """SIGKILL in the middle: no manifest, so no restore, and no second backup over it."""
    for index in (1, 2):
        intake.take(make_ct(1, index), calling_ae_title="MODALITY")
    url = ledger.database._engine.url.render_as_string(hide_password=False)
    killed(lambda: back_up(spool, Ledger(url), tmp_path / "backup", progress=kill_at_first))
    assert (tmp_path / "backup" / LEDGER).exists()
    root, other = elsewhere
    with pytest.raises(BadRequest, match="no whole backup"):
        restore(tmp_path / "backup", root, other)
    assert not root.root.exists()
    with pytest.raises(BadRequest, match="not empty"):
        back_up(spool, ledger, tmp_path / "backup")


def test_a_restore_that_was_killed_starts_no_service(
    spool: Spool, intake: Intake, ledger: Ledger, make_ct: MakeCT, tmp_path: Path, elsewhere: tuple[Spool, Ledger]
):
    """SIGKILL in the middle: `porta run` and `porta submit` refuse the root, and so does a second restore."""
    intake.take(make_ct(1, 1), calling_ae_title="MODALITY")
    back_up(spool, ledger, tmp_path / "backup")
    root, other = elsewhere
    url = other.database._engine.url.render_as_string(hide_password=False)
    killed(lambda: restore(tmp_path / "backup", root, Ledger(url), progress=kill_at_first))
    assert (root.root / RESTORING).exists()
    with pytest.raises(StorageUnusable, match="broken off"):
        root.prepare()
    with pytest.raises(StorageUnusable, match="empty|already"):
        restore(tmp_path / "backup", root, other)


def test_what_is_damaged_in_a_backup_is_found(
    spool: Spool,
    intake: Intake,
    ledger: Ledger,
    outbox: Path,  # noqa: F811
    make_ct: MakeCT,
    tmp_path: Path,
    elsewhere: tuple[Spool, Ledger],
):
    """A damaged ledger or model ends the restore before it begins; a damaged image is a finding."""
    write_durably(spool.root / "models/ours.json", b"content")
    back_up(spool, ledger, tmp_path / "backup")
    root, other = elsewhere
    for name in (LEDGER, "root/models/ours.json"):
        path = tmp_path / "backup" / name
        before = path.read_bytes()
        path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        with pytest.raises(BadRequest, match="other bytes"):
            restore(tmp_path / "backup", root, other)
        assert not root.root.exists()
        path.write_bytes(before)
    image = next((tmp_path / "backup" / ROOT / "spool").glob("*/*.dcm"))
    replaced = image.read_bytes()[:-1] + b"\xff"
    image.unlink()  # it may be linked to the root's own
    image.write_bytes(replaced)
    assert [finding.fault for finding in restore(tmp_path / "backup", root, other).findings] == ["DAMAGED"]
    assert verify_storage(spool, ledger).findings == []
    assert (outbox / SUMS).read_text() == list_sums(outbox)


def test_what_is_there_is_never_written_over(
    spool: Spool, intake: Intake, ledger: Ledger, make_ct: MakeCT, tmp_path: Path, elsewhere: tuple[Spool, Ledger]
):
    """Neither a root nor a ledger; nor is a folder in the root a place for backups, or another kind of ledger taken."""
    intake.take(make_ct(1, 1), calling_ae_title="MODALITY")
    root, other = elsewhere
    with pytest.raises(BadRequest, match="in the storage root"):
        back_up(spool, ledger, spool.root / "backup")
    with pytest.raises(LedgerUnavailable, match="no tables"):
        back_up(spool, Ledger(f"sqlite:///{tmp_path / 'new.sqlite'}"), tmp_path / "never")
    back_up(spool, ledger, tmp_path / "backup")
    with pytest.raises(StorageUnusable, match="already|not empty"):
        restore(tmp_path / "backup", root, ledger)
    with pytest.raises(StorageUnusable, match="is not empty"):
        restore(tmp_path / "backup", spool, other)
    manifest = json.loads((tmp_path / "backup" / MANIFEST).read_text())
    for change, sentence in (
        ({"schema": 2}, "later version"),
        ({"ledger_version": "9999"}, "later version"),
        ({"ledger_kind": "other"}, "another kind"),
    ):
        (tmp_path / "backup" / MANIFEST).write_text(json.dumps(manifest | change))
        with pytest.raises(BadRequest, match=sentence):
            restore(tmp_path / "backup", root, other)
    assert not root.root.exists()
    assert read_manifest_fails(tmp_path)


def test_the_password_of_the_database_is_no_argument():
    """Arguments of a process are everybody's to read."""
    database = Database("postgresql+psycopg://porta:secret@db:5433/porta")
    assert database.address == "postgresql://porta@db:5433/porta"
    assert database.password == "secret"


def read_manifest_fails(folder: Path) -> bool:
    with pytest.raises(BadRequest, match="no whole backup"):
        read_manifest(folder)
    return True


def uids(ledger: Ledger, index: int) -> tuple[str, str]:
    (series,) = ledger.all_series()
    return series, ledger.versions(series)[index - 1].sop_instance_uid


def kill_at_first(done: int, of: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed(act: Callable[[], object]) -> None:
    """Have another process do it, which must end by SIGKILL."""
    process = multiprocessing.get_context("fork").Process(target=act)
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
