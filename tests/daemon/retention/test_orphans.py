"""Files without a row are put in order: what may have been acknowledged is taken in, the rest is in nobody's way."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.intake import Intake, Verdict
from daemon.jobs import State
from daemon.ledger.store import Ledger
from daemon.retention.orphans import Orphans
from daemon.storage.quarantine import Quarantine
from daemon.storage.spool import Spool
from dicom_io.files.uids import derive_uid
from tests.daemon.conftest import keep, spooled_digits
from tests.daemon.retention.conftest import EVERY, Root

UID = derive_uid("series", 1)


@pytest.fixture
def ledger(tmp_path: Path, empty_ledger: Path) -> Iterator[Ledger]:
    """SQLite alone: what is asked of it is asked of both elsewhere."""
    ledger = Ledger(f"sqlite:///{shutil.copy(empty_ledger, tmp_path / 'ledger.sqlite')}")
    yield ledger
    ledger.close()


@pytest.fixture
def orphans(root: Root) -> Orphans:
    quarantine = Quarantine(root.spool, clock=root.clock)
    intake = Intake(root.spool, root.ledger, root.clock, quarantine)
    return Orphans(root.spool, root.ledger, intake, quarantine, root.clock)


def lay(root: Root, series: int, index: int, **options: Any) -> Path:
    """Keep an image whose row is missing; it is as old as the epoch."""
    content = root.make_ct(series, index, **options)
    uids = derive_uid("series", series), derive_uid("instance", series, index)
    path = root.spool.instance_path(*uids, spooled_digits(content))
    keep(root.spool, path, content)
    os.utime(root.spool.root / path, (0, 0))
    return root.spool.root / path


def test_an_image_without_a_row_is_taken_in(root: Root, orphans: Orphans, read_log: Any):
    """Under the sender that its file names, as if it came now; also beside others of its series."""
    root.receive(1)
    lay(root, 1, 3)
    lay(root, 2, 1, source="CT9")
    assert orphans.put_in_order() == 2
    jobs = {job.series_instance_uid: job for job in root.ledger.all_jobs()}
    assert (jobs[UID].instances, jobs[derive_uid("series", 2)].calling_ae_title) == (3, "CT9")
    assert {job.state for job in jobs.values()} == {State.RECEIVING}
    assert [line["code"] for line in read_log.named("orphan.found")] == [Verdict.STORED] * 2
    assert root.verify().findings == []
    assert orphans.put_in_order() == 0


def test_what_has_just_come_is_left_alone(root: Root, orphans: Orphans):
    """Its row may be about to be committed."""
    path = lay(root, 1, 1)
    os.utime(path, (root.clock() - 59, root.clock() - 59))
    assert (orphans.put_in_order(), root.ledger.all_jobs(), path.exists()) == (0, [], True)


def test_other_bytes_of_a_known_image_are_kept_aside(root: Root, orphans: Orphans):
    """They replace nothing; the same bytes under another name go."""
    root.receive(1)
    other = lay(root, 1, 1, change=lambda ds: setattr(ds, "PixelData", bytes(128)))
    same = lay(root, 1, 2, source="CT9")
    assert orphans.put_in_order() == 2
    assert (other.exists(), same.exists()) == (False, False)
    (entry,) = Quarantine(root.spool).entries()
    assert (entry.reason, entry.sop_instance_uid) == ("ORPHAN", derive_uid("instance", 1, 1))
    assert [version.version for version in root.ledger.versions(UID)] == [1, 1]
    assert root.verify().findings == []


def test_what_was_coming_back_is_removed(root: Root, orphans: Orphans):
    """A kill between the file and its row: the sender was not told that it is kept."""
    root.delivered(1)
    root.pass_days(2)
    root.retention(**EVERY).carry_out()
    path = lay(root, 1, 1)
    assert orphans.put_in_order() == 0
    assert not path.exists()
    assert root.receive(1) == [Verdict.ALREADY_STORED] * 2
    assert root.verify().findings == []


def test_halves_in_other_folders(root: Root, orphans: Orphans, spool: Spool):
    """What was being written in quarantine, a reason without bytes, labels of no job; what is whole stays."""
    root.receive(1)
    job = root.report(root.close(1))
    quarantine = spool.root / "quarantine"
    with spool.part() as part:
        part.write(b"no DICOM")
        part.finish()
        kept = Quarantine(spool, clock=root.clock).keep(part, reason="UNDECODABLE", source="CT1")
    for name in (".half.reason.part", "gone.reason"):
        (quarantine / name).write_bytes(b"{}")
        os.utime(quarantine / name, (0, 0))
    (spool.work(99) / "0").mkdir(parents=True)
    orphans.put_in_order()
    assert {path.name for path in quarantine.iterdir()} == {f"{kept.id}.dcm", f"{kept.id}.reason"}
    assert [path.name for path in (spool.root / "work").iterdir()] == [str(job.id)]
