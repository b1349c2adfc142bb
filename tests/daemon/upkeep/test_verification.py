"""A walk through all that was kept: each kind of damage is found once, with what heals it, and nothing else is."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.choice import Choice, Chosen
from daemon.intake import Intake, Verdict
from daemon.jobs import DeliveryState, Event
from daemon.ledger.store import Ledger, Outgoing
from daemon.storage.integrity import SUMS, file_sha256, list_sums
from daemon.storage.spool import Spool, write_durably
from daemon.upkeep.verification import ARRIVING_S, Fault, Verification, verify_storage
from dicom_io.files.uids import derive_uid
from reports.objects.kinds import FORMS

MakeCT = Callable[..., bytes]


@pytest.fixture
def intake(spool: Spool, ledger: Ledger, read_log: object) -> Intake:
    return Intake(spool, ledger)


@pytest.fixture
def verify(spool: Spool, ledger: Ledger) -> Callable[[], Verification]:
    """The walk, at a time when every file has long been there."""

    def walk() -> Verification:
        before = {path: path.stat().st_mtime_ns for path in spool.root.rglob("*") if path.is_file()}
        latest = max((path.stat().st_mtime for path in before), default=0.0)
        done = verify_storage(spool, ledger, clock=lambda: latest + ARRIVING_S + 1)
        assert before == {path: path.stat().st_mtime_ns for path in spool.root.rglob("*") if path.is_file()}
        return done

    return walk


@pytest.fixture
def outbox(spool: Spool, ledger: Ledger, intake: Intake, make_ct: MakeCT) -> Path:
    """The results of a reported job, as its stages leave them."""
    for index in (1, 2):
        intake.take(make_ct(1, index), calling_ae_title="MODALITY")
    (due,) = ledger.due_series(now=9e9, quiet_s=20, released_quiet_s=5)
    ledger.close_series(due, now=9e9, rule="liver-ct")
    closed = ledger.job(due.job_id)
    ledger.choose(Choice(chosen=(Chosen(closed),)), [closed], now=9e9)
    folder = spool.outbox(due.job_id) / "0"
    for name in ("seg.dcm", "sr.dcm", "findings.json"):
        write_durably(folder / name, name.encode() * 50)
    write_durably(folder / SUMS, list_sums(folder).encode())
    sent = [
        Outgoing(
            "archive",
            FORMS[name],
            derive_uid(name),
            derive_uid(name, "series"),
            str((folder / f"{name}.dcm").relative_to(spool.root)),
            "none",
            sha256=file_sha256(folder / f"{name}.dcm"),
        )
        for name in ("seg", "sr")
    ]
    for event in (Event.SEGMENTED, Event.REPORTED):
        job = ledger.claim_job("host/1", now=9e9)
        assert job is not None
        ledger.finish_stage(job, event, now=9e9, outgoing=sent if event == Event.REPORTED else ())
    return folder


def faults(done: Verification) -> list[tuple[Fault, str]]:
    return [(finding.fault, Path(finding.path).name) for finding in done.findings]


def test_nothing_is_wrong(verify: Callable[[], Verification], outbox: Path, intake: Intake):
    """All is counted: instances, objects, what no destination gets, and the quarantine."""
    assert intake.take(b"no DICOM", calling_ae_title="MODALITY").verdict == Verdict.UNDECODABLE
    done = verify()
    assert done.findings == []
    assert (done.instances, done.objects, done.quarantined, done.quarantined_bytes) == (2, 3, 1, 8)
    spooled = sum(path.stat().st_size for path in outbox.parents[2].glob("spool/*/*.dcm"))
    assert done.bytes == spooled + sum(path.stat().st_size for path in outbox.iterdir() if path.name != SUMS)


def test_an_image_that_is_damaged_or_gone_is_healed_by_a_resend(
    verify: Callable[[], Verification], spool: Spool, intake: Intake, make_ct: MakeCT
):
    """Each is found with the UIDs to ask the PACS for, and after that has sent it again nothing is found."""
    contents = [make_ct(1, index) for index in range(1, 5)]
    for content in contents:
        intake.take(content, calling_ae_title="MODALITY")
    paths = {index: next(spool.root.glob(f"spool/*/{derive_uid('instance', 1, index)}-*.dcm")) for index in range(1, 5)}
    paths[1].write_bytes(paths[1].read_bytes()[:-1] + b"\xff")
    paths[2].unlink()
    paths[3].unlink()
    paths[3].symlink_to(paths[3])
    done = verify()
    assert {finding.sop_instance_uid: finding.fault for finding in done.findings} == {
        derive_uid("instance", 1, 1): Fault.DAMAGED,
        derive_uid("instance", 1, 2): Fault.MISSING,
        derive_uid("instance", 1, 3): Fault.UNREADABLE,
    }
    assert {finding.series_instance_uid for finding in done.findings} == {derive_uid("series", 1)}
    assert all("send the instance again" in finding.remedy for finding in done.findings)

    for content in contents:
        assert intake.take(content, calling_ae_title="MODALITY").verdict == Verdict.ALREADY_STORED
    assert verify().findings == []


def test_a_spool_that_is_gone(verify: Callable[[], Verification], spool: Spool, intake: Intake, make_ct: MakeCT):
    """Every row is a finding."""
    for index in (1, 2, 3):
        intake.take(make_ct(1, index), calling_ae_title="MODALITY")
    shutil.rmtree(spool.root / "spool")
    assert [finding.fault for finding in verify().findings] == [Fault.MISSING] * 3


def test_a_version_that_was_replaced(
    verify: Callable[[], Verification], spool: Spool, intake: Intake, ledger: Ledger, make_ct: MakeCT
):
    """It is looked at too; a resend would be a third version, so a backup alone heals it."""

    def brighter(ds: object) -> None:
        ds.PixelData = bytes(128)  # type: ignore[attr-defined]

    intake.take(make_ct(1), calling_ae_title="MODALITY")
    assert intake.take(make_ct(1, change=brighter), calling_ae_title="MODALITY").verdict == Verdict.REPLACED
    first, _ = ledger.versions(derive_uid("series", 1), derive_uid("instance", 1, 1))
    assert verify().findings == []
    (spool.root / first.path).unlink()
    (finding,) = verify().findings
    assert (finding.fault, finding.path) == (Fault.MISSING, first.path)
    assert "put a backup" in finding.remedy


def test_a_file_without_a_row(verify: Callable[[], Verification], spool: Spool, ledger: Ledger, make_ct: MakeCT):
    """It is an orphan, unless it is so young that its row may be on its way."""
    path = spool.root / spool.instance_path("1.2.3", "1.2.3.4", "0" * 16)
    path.parent.mkdir()
    path.write_bytes(make_ct())
    now = path.stat().st_mtime
    assert verify_storage(spool, ledger, clock=lambda: now).findings == []
    assert faults(verify()) == [(Fault.ORPHAN, path.name)]


def test_results(verify: Callable[[], Verification], outbox: Path, ledger: Ledger):
    """An object that waits, one that was delivered, findings.json, a file that nobody knows, a folder of no job."""
    seg, sr = ledger.deliveries_of(1)
    ledger.advance_delivery(sr, DeliveryState.STORED, now=9e9, status="0x0000")
    (outbox / "seg.dcm").write_bytes(b"seg")
    (outbox / "sr.dcm").unlink()
    (outbox / "findings.json").write_bytes(b"{}")
    (outbox / "stranger.dcm").write_bytes(b"")
    (outbox / "seg.dcm.held-back").write_bytes(b"")
    shutil.copytree(outbox, outbox.parents[1] / "99" / "0")
    done = verify()
    assert sorted((finding.fault, finding.path.partition("/")[2]) for finding in done.findings) == [
        (Fault.DAMAGED, "1/0/findings.json"),
        (Fault.DAMAGED, "1/0/seg.dcm"),
        (Fault.DAMAGED, "99/0/findings.json"),
        (Fault.DAMAGED, "99/0/seg.dcm"),
        (Fault.MISSING, "1/0/sr.dcm"),
        (Fault.MISSING, "99/0/sr.dcm"),
        (Fault.ORPHAN, "1/0/stranger.dcm"),
        (Fault.ORPHAN, "99/0/seg.dcm"),
        (Fault.ORPHAN, "99/0/stranger.dcm"),
    ]
    remedies = {finding.path: finding.remedy for finding in done.findings}
    assert "`porta retry` sends it" in remedies[seg.path]
    assert "what the destination holds" in remedies[sr.path]
    assert "is not sent" in remedies["outbox/1/0/findings.json"]


def test_a_walk_that_is_under_way_is_no_finding(
    verify: Callable[[], Verification], spool: Spool, intake: Intake, make_ct: MakeCT
):
    """What is in the outbox of a job that has not reported is written by a worker now, or made again."""
    intake.take(make_ct(1), calling_ae_title="MODALITY")
    write_durably(spool.outbox(1) / "0" / "seg.dcm", b"half")
    assert verify().findings == []


def test_an_image_that_comes_again_meanwhile(
    spool: Spool, ledger: Ledger, intake: Intake, make_ct: MakeCT, monkeypatch: pytest.MonkeyPatch
):
    """Its file takes another name between the look at its row and that at its file: it is whole."""
    intake.take(make_ct(1, source="ONE"), calling_ae_title="MODALITY")
    next(spool.root.glob("spool/*/*.dcm")).write_bytes(b"damaged")
    versions = ledger.versions

    def restored_after(*uids: str) -> object:
        known = versions(*uids)
        monkeypatch.setattr(ledger, "versions", versions)
        intake.take(make_ct(1, source="TWO"), calling_ae_title="MODALITY")
        return known

    monkeypatch.setattr(ledger, "versions", restored_after)
    assert verify_storage(spool, ledger).findings == []


def test_a_ledger_that_is_damaged(
    verify: Callable[[], Verification], intake: Intake, ledger: Ledger, tmp_path: Path, make_ct: MakeCT
):
    """A page of the SQLite file that holds something else: the one finding, for its rows cannot be believed."""
    for index in range(1, 40):
        intake.take(make_ct(1, index), calling_ae_title="MODALITY")
    assert verify().findings == []
    ledger.close()  # the rows come from the log into the file
    path = tmp_path / "ledger.sqlite"
    content = bytearray(path.read_bytes())
    where = content.index(derive_uid("instance", 1, 7).encode())
    page = where - where % 4096
    content[page : page + 4096] = b"\xff" * 4096
    path.write_bytes(content)
    (finding,) = verify().findings
    assert (finding.fault, finding.path) == (Fault.DAMAGED, "the ledger")
    assert "porta ledger rebuild" in finding.remedy
