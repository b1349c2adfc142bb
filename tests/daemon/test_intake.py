"""Every verdict with its answer, and after each the bytes, the row and the silence that belong to it."""

import json
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydicom import DataElement, Dataset, FileDataset, dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SegmentationStorage,
)

from daemon.choice import Choice, Chosen
from daemon.errors import LedgerUnavailable
from daemon.intake import STATUS, Accepted, Intake, Undecodable, Verdict
from daemon.intake import decode as decode_file
from daemon.jobs import HaltCode
from daemon.ledger.store import Instance, Ledger, Outgoing
from daemon.storage.integrity import check_spooled
from daemon.storage.sidecar import read_spooled, sidecar_path
from daemon.storage.spool import Spool
from dicom_io.files.image_file import read_image_file
from dicom_io.files.uids import derive_uid
from reports.objects.kinds import FORMS
from tests.daemon.conftest import dataset_sha256, spooled_digits

MakeCT = Callable[..., bytes]
CANARY = "ZZPHI^CANARY"
EXPLICIT_HEADER, LONG_HEADER = 8, 12


@pytest.fixture
def intake(spool: Spool, ledger: Ledger, clock: Callable[[], float]) -> Intake:
    return Intake(spool, ledger, clock)


def take(intake: Intake, content: bytes, requested: str | None = None) -> Verdict:
    return intake.take(content, calling_ae_title="MODALITY", sop_instance_uid=requested).verdict


def decode(content: bytes) -> FileDataset:
    """The data set of a file, without its pixel data."""
    return decode_file(BytesIO(content)).ds


def quarantined(root: Path) -> list[tuple[bytes, dict[str, str]]]:
    folder = root / "quarantine"
    return [
        (path.read_bytes(), {key: said[key] for key in ("reason", "source")})
        for path in folder.glob("*.dcm")
        for said in [json.loads(path.with_suffix(".reason").read_text())]
    ]


def assert_nothing_stored(spool: Spool, ledger: Ledger) -> None:
    assert ledger.all_jobs() == []
    assert [path for path in (spool.root / "spool").rglob("*") if path.is_file()] == []
    assert list((spool.root / "incoming").iterdir()) == []


@pytest.fixture(autouse=True)
def heard_by_nobody(
    ledger: Ledger, tmp_path: Path, read_log: Any, assert_no_canary: Callable[[Path], None]
) -> Iterator[None]:
    """After each test of this module: every image in it is of ZZPHI^CANARY, who stands nowhere but in the images."""
    yield
    assert read_log.events is not None
    assert_no_canary(tmp_path)


# --- what is stored


def test_an_instance_is_stored_and_then_answered(intake: Intake, spool: Spool, ledger: Ledger, make_ct: MakeCT):
    """The bytes as they came, under their UIDs, with their row."""
    content = make_ct()
    answer = intake.take(content, calling_ae_title="MODALITY", sop_instance_uid=derive_uid("instance", 1, 1))
    assert answer == Accepted(Verdict.STORED, derive_uid("series", 1))
    assert STATUS[answer.verdict] == 0x0000
    instance = ledger.versions(derive_uid("series", 1), derive_uid("instance", 1, 1))[-1]
    assert instance is not None
    assert instance.sha256 == dataset_sha256(content)
    name = f"{derive_uid('instance', 1, 1)}-{spooled_digits(content)}.dcm"
    assert instance.path == f"spool/{derive_uid('series', 1)}/{name}"
    assert (spool.root / instance.path).read_bytes() == content
    assert (instance.bytes, instance.transfer_syntax_uid) == (len(content), ExplicitVRLittleEndian)
    assert instance.calling_ae_title == "MODALITY"
    assert quarantined(spool.root) == []


def test_every_verdict_has_an_answer():
    """0x0000 for what is kept for good, failures of PS3.4 table B.2-1 for the rest."""
    assert set(STATUS) == set(Verdict)
    kept = set(Verdict) - {Verdict.NO_ROOM, Verdict.MISMATCH, Verdict.UNDECODABLE, Verdict.INVALID_UID}
    assert {verdict for verdict, status in STATUS.items() if status == 0x0000} == kept
    assert STATUS[Verdict.NO_ROOM] == 0xA700
    assert STATUS[Verdict.MISMATCH] & 0xFF00 == 0xA900
    assert all(STATUS[verdict] & 0xF000 == 0xC000 for verdict in (Verdict.UNDECODABLE, Verdict.INVALID_UID))


def test_real_files_of_every_transfer_syntax(intake: Intake, ledger: Ledger, shared_data: Path):
    """Nothing that a scanner, a PACS or a toolkit wrote whole is refused."""
    files = sorted((shared_data / "ct_transfer_syntaxes").glob("CTImage.dcm_*.dcm"))
    assert len(files) == 15
    # They are one instance in many forms, the lossy ones under a UID of their own.
    verdicts = [take(intake, file.read_bytes()) for file in files]
    assert set(verdicts) == {Verdict.STORED, Verdict.DUPLICATE_DIFFERENT}
    assert sum(job.instances for job in ledger.all_jobs()) == verdicts.count(Verdict.STORED)
    for name in ("CT_small", "MR_small_implicit", "MR_small_jpeg_ls_lossless", "693_J2KI", "image_dfl", "liver_1frame"):
        content = (shared_data / "pydicom_small" / f"{name}.dcm").read_bytes()
        assert decode(content).SOPInstanceUID


# --- what is kept beside it


def sidecars(spool: Spool) -> list[Path]:
    return sorted((spool.root / "spool").rglob("*.header"))


def test_the_header_is_kept_beside_the_file(intake: Intake, spool: Spool, ledger: Ledger, make_ct: MakeCT):
    """As reading the file again gives it, and for nobody else's eyes."""
    take(intake, make_ct())
    (path,) = (spool.root / one for one in ledger.instance_paths(derive_uid("series", 1)))
    assert sidecars(spool) == [sidecar_path(path)]
    assert stat.S_IMODE(sidecar_path(path).stat().st_mode) == 0o600
    assert read_spooled(path) == read_image_file(path)
    assert CANARY not in sidecar_path(path).read_text()


def test_the_headers_of_real_files_are_those_of_their_files(
    intake: Intake, ledger: Ledger, spool: Spool, shared_data: Path, unpacked: Callable[[str], list[Path]]
):
    """Whatever the syntax and the scanner, the place of the pixels included; no file is opened for it."""
    zips = ("dcm_qa_ct/ge_tilt18_variable_gap_dicom", "dcm_qa_mr/philips_enhanced_mr_plus_raw_data_same_series_dicom")
    files = [file for name in zips for file in unpacked(name)]
    for folder in ("ct_transfer_syntaxes", "pydicom_small", "highdicom_reference"):
        files += sorted((shared_data / folder).rglob("*.dcm"))
    kept = [file for file in files if take(intake, file.read_bytes()) == Verdict.STORED]
    assert len(kept) > 40
    spooled = sorted((spool.root / "spool").rglob("*.dcm"))
    assert [sidecar_path(path) for path in spooled] == sidecars(spool)
    expected = {path: read_image_file(path).header.to_json() for path in spooled}
    assert 5 < sum('"offset":null' in header for header in expected.values()) < len(expected) - 30
    for path in spooled:
        content = path.read_bytes()
        path.write_bytes(bytes(len(content)))
        assert read_spooled(path).header.to_json() == expected[path]
        path.write_bytes(content)


def test_what_cannot_be_kept_beside_it_is_no_fault(intake: Intake, spool: Spool, ledger: Ledger, make_ct: MakeCT):
    """The instance is taken all the same, and read when it is needed."""
    digits = spooled_digits(make_ct())
    path = spool.root / spool.instance_path(derive_uid("series", 1), derive_uid("instance", 1, 1), digits)
    sidecar_path(path).mkdir(parents=True)
    assert take(intake, make_ct()) == Verdict.STORED
    assert read_spooled(path) == read_image_file(path)


# --- the same again


SPOILED: dict[str, Callable[[Path], object]] = {
    "a pixel": lambda path: path.write_bytes(path.read_bytes()[:-9] + b"?" + path.read_bytes()[-8:]),
    "the file meta information": lambda path: path.write_bytes(b"?" + path.read_bytes()[1:]),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:300]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("source", ["THE_SAME", "OTHER"])
@pytest.mark.parametrize("damage", SPOILED)
def test_the_same_again_restores_what_is_damaged_or_gone(
    intake: Intake, spool: Spool, ledger: Ledger, make_ct: MakeCT, damage: str, source: str
):
    """0x0000 means that it lies on the disk: also where another sender wrote other file meta information before it."""
    assert take(intake, make_ct(source="THE_SAME")) == Verdict.STORED
    (path,) = (spool.root / "spool").rglob("*.dcm")
    SPOILED[damage](path)
    again = make_ct(source=source)
    assert take(intake, again) == Verdict.ALREADY_STORED
    (path,) = (spool.root / "spool").rglob("*.dcm")
    assert path.read_bytes() == again
    (said,) = ledger.instance_paths(derive_uid("series", 1))
    assert spool.root / said == path
    check_spooled(path, dataset_sha256(again))
    assert sidecars(spool) == [sidecar_path(path)]
    (job,) = ledger.all_jobs()
    assert (job.instances, job.revision) == (1, 1)


def test_the_same_instance_again(intake: Intake, spool: Spool, ledger: Ledger, make_ct: MakeCT):
    """The same answer and one row; also when another sender wrote other file meta information before it."""
    assert take(intake, make_ct()) == Verdict.STORED
    assert take(intake, make_ct()) == Verdict.ALREADY_STORED
    assert make_ct(source="OTHER") != make_ct()
    answer = intake.take(make_ct(source="OTHER"), calling_ae_title="OTHER")
    assert answer == Accepted(Verdict.ALREADY_STORED, derive_uid("series", 1))
    (job,) = ledger.all_jobs()
    assert job.instances == 1
    assert quarantined(spool.root) == []


def change_pixels(ds: Dataset) -> None:
    ds.PixelData = bytes(128)


def change_institution(ds: Dataset) -> None:
    ds.InstitutionName = "Elsewhere"


def setting(keyword: str, value: object) -> Callable[[Dataset], None]:
    return lambda ds: setattr(ds, keyword, value)


def test_the_same_uid_with_other_bytes_of_no_matter(intake: Intake, spool: Spool, ledger: Ledger, make_ct: MakeCT):
    """The first stays; the second is kept aside, and its sender told that it was taken."""
    first, second = make_ct(), make_ct(change=change_institution)
    assert take(intake, first) == Verdict.STORED
    answer = intake.take(second, calling_ae_title="OTHER")
    assert answer == Accepted(Verdict.DUPLICATE_DIFFERENT, None)
    (job,) = ledger.all_jobs()
    assert job.instances == 1
    (path,) = ledger.instance_paths(job.series_instance_uid)
    assert (spool.root / path).read_bytes() == first
    assert quarantined(spool.root) == [(second, {"reason": "DUPLICATE_DIFFERENT", "source": "OTHER"})]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (change_pixels, "PIXELS"),
        (setting("RescaleIntercept", -1024), "IMAGE"),
        (setting("ImagePositionPatient", [0, 0, 6]), "IMAGE"),
        (setting("PatientID", "ANOTHER"), "PATIENT"),
        (setting("PatientName", "Another^Person"), "PATIENT"),
        (setting("PatientBirthDate", "19610309"), "PATIENT"),
        (setting("StudyInstanceUID", "1.2.3"), "STUDY"),
        (setting("AccessionNumber", "A1"), "STUDY"),
        (setting("SeriesDescription", "Arterial"), "SERIES"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_same_uid_with_what_matters_changed(
    intake: Intake,
    spool: Spool,
    ledger: Ledger,
    make_ct: MakeCT,
    read_log: Any,
    change: Callable[[Dataset], None],
    code: str,
):
    """The second takes the place of the first, which stays in the spool; and back again it does the same."""
    first, second = make_ct(), make_ct(change=change)
    for number, content in enumerate((first, second, first), start=1):
        answer = intake.take(content, calling_ae_title="OTHER")
        assert answer == Accepted(Verdict.REPLACED if number > 1 else Verdict.STORED, derive_uid("series", 1))
        (path,) = ledger.instance_paths(derive_uid("series", 1))
        assert (spool.root / path).read_bytes() == content
        assert take(intake, content) == Verdict.ALREADY_STORED
    known = ledger.versions(derive_uid("series", 1), derive_uid("instance", 1, 1))
    assert [version.version for version in known] == [1, 2, 3]
    assert all((spool.root / version.path).exists() for version in known)
    assert [line["code"] for line in read_log.named("instance.replaced")] == [code] * 2
    (job,) = ledger.all_jobs()
    assert (job.instances, job.study_instance_uid) == (1, derive_uid("study", 1))
    assert quarantined(spool.root) == []


def test_another_lossless_syntax_is_the_same_image(intake: Intake, shared_data: Path):
    """A sender and an archive compress as they like; lossy compression has other pixels."""
    files = {file.stem: file.read_bytes() for file in (shared_data / "ct_transfer_syntaxes").glob("CTImage.dcm_*.dcm")}
    lossless = [
        name for name in files if decode(files[name]).SOPInstanceUID == decode(files[min(files)]).SOPInstanceUID
    ]
    assert len(lossless) >= 8
    verdicts = [take(intake, files[name]) for name in lossless]
    assert set(verdicts) == {Verdict.STORED, Verdict.DUPLICATE_DIFFERENT}


def test_two_series_share_their_instances_uids(intake: Intake, spool: Spool, ledger: Ledger, make_ct: MakeCT):
    """As a bad anonymiser writes them: each series has its job and its images."""
    for series in (1, 2):
        uids = {"SOPInstanceUID": "1.2.3.4", "StudyInstanceUID": "1.2.3"}
        change = lambda ds, uids=uids: [setattr(ds, keyword, uid) for keyword, uid in uids.items()]  # noqa: E731
        assert take(intake, make_ct(series, change=change)) == Verdict.STORED
        assert take(intake, make_ct(series, change=change)) == Verdict.ALREADY_STORED
    assert [job.instances for job in ledger.all_jobs()] == [1, 1]
    assert all(len(ledger.instance_paths(derive_uid("series", series))) == 1 for series in (1, 2))
    assert quarantined(spool.root) == []


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"gone")], ids=["gone", "damaged"])
def test_what_cannot_be_compared_is_replaced(
    intake: Intake, spool: Spool, ledger: Ledger, make_ct: MakeCT, damage: Callable[[Path], object]
):
    """A copy that is whole is better than one that was."""
    take(intake, make_ct())
    (path,) = ledger.instance_paths(derive_uid("series", 1))
    damage(spool.root / path)
    assert take(intake, make_ct(change=change_institution)) == Verdict.REPLACED
    assert read_spooled(spool.root / ledger.instance_paths(derive_uid("series", 1))[0]).header.rows == 8


def test_the_same_instance_from_many_threads(intake: Intake, spool: Spool, ledger: Ledger, make_ct: MakeCT):
    """One stores it, the others find it stored; half of them bring other bytes, and one of the two stays."""
    contents = [make_ct(), make_ct(change=change_institution)]
    start = threading.Barrier(8)
    verdicts: list[Verdict] = []

    def bring(content: bytes) -> None:
        start.wait()
        verdicts.append(take(intake, content))

    threads = [threading.Thread(target=bring, args=(contents[number % 2],)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = {verdict: verdicts.count(verdict) for verdict in verdicts}
    assert counts == {Verdict.STORED: 1, Verdict.ALREADY_STORED: 3, Verdict.DUPLICATE_DIFFERENT: 4}
    (job,) = ledger.all_jobs()
    assert job.instances == 1
    (path,) = ledger.instance_paths(job.series_instance_uid)
    winner = (spool.root / path).read_bytes()
    assert winner in contents
    assert {content for content, _ in quarantined(spool.root)} == set(contents) - {winner}


# --- what cannot be stored


def assert_set_aside(intake: Intake, spool: Spool, ledger: Ledger, content: bytes, verdict: Verdict) -> None:
    assert take(intake, content) == verdict
    assert quarantined(spool.root) == [(content, {"reason": verdict, "source": "MODALITY"})]
    assert_nothing_stored(spool, ledger)


@pytest.mark.parametrize(
    "content",
    [b"", b"DICM", f"{CANARY} is no data set\n".encode() * 100, bytes(128) + b"DICM", bytes(1000), b"PK\x03\x04" * 99],
    ids=["nothing", "four letters", "text", "a preamble", "zeros", "a zip"],
)
def test_bytes_that_are_no_data_set(intake: Intake, spool: Spool, ledger: Ledger, content: bytes):
    """Are kept aside, whatever they are."""
    assert_set_aside(intake, spool, ledger, content, Verdict.UNDECODABLE)


CSA = "1.3.12.2.1107.5.9.1"
"""Siemens CSA Non-Image Storage."""


def without_a_series(ds: Dataset) -> None:
    del ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.PixelData
    ds.SOPClassUID = "1.2.840.10008.5.1.4.39.1"  # Color Palette Storage


@pytest.mark.parametrize(
    ("change", "cut", "sop_class_uid"),
    [(None, 40, CSA), (without_a_series, 0, None), (without_a_series, 0, "1.2.840.10008.5.1.4.39.1")],
    ids=["a vendor's own that nobody can read", "a palette", "a palette as the request calls it"],
)
def test_what_is_no_image_is_kept_aside(
    intake: Intake, spool: Spool, make_ct: MakeCT, change: Any, cut: int, sop_class_uid: str | None
):
    """And answered with success: one failure would end its sender's whole study, and nothing of it is needed."""
    content = make_ct(change=change)
    content = content[: len(content) - cut]
    answer = intake.take(content, calling_ae_title="MODALITY", sop_class_uid=sop_class_uid)
    assert answer == Accepted(Verdict.NO_IMAGE)
    assert quarantined(spool.root) == [(content, {"reason": "NO_IMAGE", "source": "MODALITY"})]


def test_what_is_no_image_but_of_a_series_is_stored_with_it(intake: Intake, make_ct: MakeCT, ledger: Ledger):
    """A private object among the images of a series is left out when these are read, and lost by nobody."""
    content = make_ct(change=lambda ds: setattr(ds, "SOPClassUID", CSA))
    assert intake.take(content, calling_ae_title="MODALITY", sop_class_uid=CSA).verdict == Verdict.STORED
    assert len(ledger.instance_paths(derive_uid("series", 1))) == 1


def made_by_porta(ds: Dataset) -> None:
    ds.SOPClassUID, ds.Manufacturer, ds.ManufacturerModelName = SegmentationStorage, "Porta Hepatis", "Porta"


def made_by_another(ds: Dataset) -> None:
    ds.SOPClassUID, ds.Manufacturer, ds.ManufacturerModelName = SegmentationStorage, "Porta Systems", "Porta"


def test_what_porta_made_starts_no_job(intake: Intake, spool: Spool, ledger: Ledger, make_ct: MakeCT):
    """Wherever it was made: a PACS that routes everything sends results back, and two nodes to one another."""
    content = make_ct(change=made_by_porta)
    assert take(intake, content) == take(intake, content) == Verdict.OWN_RESULT
    assert quarantined(spool.root) == [(content, {"reason": "OWN_RESULT", "source": "MODALITY"})]
    assert_nothing_stored(spool, ledger)
    assert take(intake, make_ct("other", change=made_by_another)) == Verdict.STORED
    phantom = make_ct("phantom", change=lambda ds: setattr(ds, "Manufacturer", "Porta Hepatis"))
    assert take(intake, phantom) == Verdict.STORED


def test_what_comes_into_a_series_of_results_starts_no_job(
    intake: Intake, ledger: Ledger, make_ct: MakeCT, make_instance: Callable[..., Instance]
):
    """Also where its maker was taken out of it on the way; a slice is one, whatever its UIDs."""
    ledger.record_instance(make_instance("source"), now=1.0)
    (due,) = ledger.due_series(now=100.0, quiet_s=20, released_quiet_s=5)
    ledger.close_series(due, now=100.0, rule="liver-ct")
    closed = ledger.job(due.job_id)
    ledger.choose(Choice(chosen=(Chosen(closed),)), [closed], now=100.0)
    job = ledger.claim_job("host/1", now=100.0)
    assert job is not None
    sent = Outgoing("pacs", FORMS["seg"], derive_uid("instance", 1, 1), derive_uid("series", 1), "x", "none")
    ledger.halt(job, HaltCode.GEOMETRY_NOT_PROVED, now=100.0, outgoing=[sent])
    assert take(intake, make_ct(change=lambda ds: setattr(ds, "SOPClassUID", SegmentationStorage))) == (
        Verdict.OWN_RESULT
    )
    assert len(ledger.all_jobs()) == 1
    assert take(intake, make_ct(index=2)) == Verdict.STORED


def boundaries(content: bytes) -> set[int]:
    """The lengths at which a file could be cut and be a whole data set: where one of its elements begins."""
    ds = dcmread(BytesIO(content))
    implicit = ds.original_encoding[0]
    ends = set()
    for tag in list(ds.keys()):
        element = ds.get_item(tag)
        tell = getattr(element, "value_tell", None) or getattr(element, "file_tell", 0)
        long = not implicit and element.VR in ("OB", "OW", "SQ", "UN", "UT", "OF", "UC")
        ends.add(int(tell) - (LONG_HEADER if long else EXPLICIT_HEADER))
    return ends | {len(content)}


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_file_that_is_cut_short_anywhere(make_ct: MakeCT, syntax: str):
    """At every byte but those where an element begins, which no reader can tell from a shorter data set."""
    content = make_ct(syntax=syntax)
    allowed = boundaries(content)
    if syntax == ExplicitVRBigEndian:
        # One zero byte: the beginning of a tag, or padding.
        allowed |= {length + 1 for length in allowed}
    assert len(allowed) > 20
    read = set()
    for length in range(len(content) + 1):
        try:
            decode(content[:length])
        except Undecodable:
            continue
        read.add(length)
    assert read <= allowed
    assert len(content) in read


@pytest.mark.parametrize(
    "name", ["MR_small_jpeg_ls_lossless", "MR_small_RLE", "693_J2KI", "CT_small", "MR_small_bigendian"]
)
def test_pixels_that_are_cut_short(shared_data: Path, name: str):
    """Compressed ones too, where the length of the value stands nowhere."""
    content = (shared_data / "pydicom_small" / f"{name}.dcm").read_bytes()
    ds = dcmread(BytesIO(content))
    start = content.rindex(ds.get_item("PixelData").value[:64])
    for length in {*range(start, len(content), 97), start + 1}:
        # Cut in the middle of the pixels; what follows them in some files (padding) is no part of this.
        if length < start + len(ds.get_item("PixelData").value):
            with pytest.raises(Undecodable):
                decode(content[:length])


def test_a_deflated_stream_that_is_cut_short(make_ct: MakeCT):
    """The whole data set is one stream: any cut shows."""
    content = make_ct(syntax=DeflatedExplicitVRLittleEndian)
    assert decode(content).PatientName == CANARY
    for length in range(200, len(content) - 2, 7):
        with pytest.raises(Undecodable):
            decode(content[:length])


def test_real_files_that_were_cut(intake: Intake, spool: Spool, ledger: Ledger, shared_data: Path):
    """Half of each, and one that came so: all aside, none stored."""
    files = sorted((shared_data / "ct_transfer_syntaxes").glob("CTImage.dcm_*.dcm"))
    broken = [(content := file.read_bytes())[: len(content) // 2] for file in files]
    broken.append((shared_data / "pydicom_small" / "MR_truncated.dcm").read_bytes())
    assert [take(intake, content) for content in broken] == [Verdict.UNDECODABLE] * 16
    assert sorted(content for content, _ in quarantined(spool.root)) == sorted(broken)
    assert_nothing_stored(spool, ledger)


def relabelled(content: bytes, old: str, new: str) -> bytes:
    """The file with another transfer syntax in its file meta information."""
    before, after = (uid.encode() + b"\0" * (len(uid) % 2) for uid in (old, new))
    length = int.from_bytes(content[140:144], "little") + len(after) - len(before)
    before, after = (len(uid).to_bytes(2, "little") + uid for uid in (before, after))
    return content[:140] + length.to_bytes(4, "little") + content[144:].replace(before, after, 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content + b"\xff\x0f" * 496,
        lambda content: relabelled(content, ExplicitVRLittleEndian, ImplicitVRLittleEndian),
    ],
    ids=["bytes after the pixels", "explicit under implicit"],
)
def test_what_a_reader_reads_is_stored(
    intake: Intake, spool: Spool, ledger: Ledger, make_ct: MakeCT, change: Callable[[bytes], bytes]
):
    """As it came; the header beside it is that which reading the file gives."""
    content = change(make_ct())
    assert take(intake, content) == Verdict.STORED
    (path,) = (spool.root / one for one in ledger.instance_paths(derive_uid("series", 1)))
    assert path.read_bytes() == content
    assert read_spooled(path) == read_image_file(path)
    assert read_spooled(path).header.rows == 8


def test_a_header_that_is_too_long_to_be_read_at_once(
    intake: Intake, spool: Spool, ledger: Ledger, make_ct: MakeCT, monkeypatch: pytest.MonkeyPatch
):
    """It is stored, and read when its series is looked at."""
    monkeypatch.setattr("daemon.intake.LONGEST_AT_ONCE", 5000)

    def change(ds: Dataset) -> None:
        ds.PerFrameFunctionalGroupsSequence = [Dataset() for _ in range(1000)]

    assert take(intake, make_ct(change=change)) == Verdict.STORED
    assert sidecars(spool) == []
    (path,) = (spool.root / one for one in ledger.instance_paths(derive_uid("series", 1)))
    assert len(read_spooled(path).header.planes) == 1000


def test_data_that_inflate_to_too_much(intake: Intake, spool: Spool, ledger: Ledger, make_ct: MakeCT):
    """They are no image, whatever they say."""
    content = make_ct(syntax=DeflatedExplicitVRLittleEndian, change=lambda ds: setattr(ds, "PixelData", bytes(1 << 27)))
    assert_set_aside(intake, spool, ledger, content, Verdict.UNDECODABLE)


def test_zeros_after_the_data_set_are_padding(make_ct: MakeCT):
    """Some archives fill their blocks up: what comes in may be odd."""
    for padding in (1, 7, 8, 512):
        assert decode(make_ct() + bytes(padding)).PatientName == CANARY


def test_a_sequence_at_the_end(make_ct: MakeCT):
    """Of undefined length, as toolkits write an SR: whole it is read, cut it is not."""

    def add(ds: Dataset) -> None:
        del ds.PixelData
        item = Dataset()
        item.TextValue = "text"
        ds.ContentSequence = [item]
        ds["ContentSequence"].is_undefined_length = True
        item.is_undefined_length_sequence_item = True

    content = make_ct(change=add)
    assert len(decode(content).ContentSequence) == 1
    for cut in range(1, 30):
        with pytest.raises(Undecodable):
            decode(content[:-cut])


def test_damage_is_a_verdict_never_an_exception(intake: Intake, spool: Spool, ledger: Ledger, shared_data: Path):
    """Bytes changed at random in the headers of real files: whatever pydicom makes of it, there is an answer."""
    random = Random(7)
    sources = [
        (shared_data / "pydicom_small" / name).read_bytes()
        for name in ("CT_small.dcm", "MR_small_implicit.dcm", "693_J2KI.dcm", "MR_small_bigendian.dcm")
    ]
    for _ in range(400):
        content = bytearray(random.choice(sources)[: random.choice((1500, 4000))])
        for _ in range(random.randint(1, 8)):
            content[random.randrange(132, 1400)] = random.choice((0, 255, random.randrange(256)))
        try:
            decode(bytes(content))
        except Undecodable:
            continue


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID"])
@pytest.mark.parametrize(
    "value", [None, "", "../../etc/passwd", "1." + "2" * 63, CANARY, "1.2\\1.3", "1.2.3/../4"], ids=str
)
def test_uids_that_are_none(
    intake: Intake, spool: Spool, ledger: Ledger, make_ct: MakeCT, keyword: str, value: str | None
):
    """Missing, empty, a path, too long, a name, two of them: none becomes a path or a key."""

    def change(ds: Dataset) -> None:
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value.split("\\") if "\\" in value else value)

    def outside() -> set[Path]:
        return {path for path in spool.root.parent.iterdir() if not path.name.startswith("ledger.")}

    before = outside()
    content = make_ct(change=change) if keyword != "SOPInstanceUID" else _patched(make_ct(), value)
    assert_set_aside(intake, spool, ledger, content, Verdict.INVALID_UID)
    assert outside() == before


def _patched(content: bytes, value: str | None) -> bytes:
    """The file with another SOPInstanceUID: pydicom writes no file whose meta information has none."""
    ds = dcmread(BytesIO(content))
    meta = content[: content.index(b"\x08\x00\x16\x00UI")]
    if value is None:
        del ds["SOPInstanceUID"]
    else:
        ds["SOPInstanceUID"] = DataElement("SOPInstanceUID", "UI", value.split("\\") if "\\" in value else value)
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, Dataset(dict(ds)))
    return meta + bytes(buffer.getvalue())


@pytest.mark.parametrize("vr", [b"US", b"FD", b"SQ", b"AT"])
def test_a_uid_with_another_vr(intake: Intake, spool: Spool, ledger: Ledger, make_ct: MakeCT, vr: bytes):
    """Its bytes are no such value: decoding it fails, and only when it is asked for."""
    whole = make_ct(change=lambda ds: setattr(ds, "SeriesInstanceUID", "1.2.3"))
    content = whole.replace(b"\x20\x00\x0e\x00UI", b"\x20\x00\x0e\x00" + vr)
    assert content != whole
    verdict = take(intake, content)
    assert verdict in (Verdict.UNDECODABLE, Verdict.INVALID_UID)
    assert quarantined(spool.root) == [(content, {"reason": verdict, "source": "MODALITY"})]
    assert_nothing_stored(spool, ledger)


@pytest.mark.parametrize("value", [CANARY, "../../x", "1." + "2" * 70])
def test_a_transfer_syntax_that_is_no_uid(intake: Intake, spool: Spool, ledger: Ledger, make_ct: MakeCT, value: str):
    """It would go into the ledger as it is, whatever somebody wrote there."""
    content = make_ct()
    raw = value.encode() + b"\0" * (len(value) % 2)
    uid = ExplicitVRLittleEndian.encode() + b"\0"
    old = b"UI" + len(uid).to_bytes(2, "little") + uid
    changed = content.replace(old, b"UI" + len(raw).to_bytes(2, "little") + raw)
    # The group length tells where the data set begins.
    at = changed.index(b"UL\x04\x00") + 4
    group = int.from_bytes(changed[at : at + 4], "little") + len(raw) - len(uid)
    changed = changed[:at] + group.to_bytes(4, "little") + changed[at + 4 :]
    assert len(changed) == len(content) + len(raw) - len(uid)
    assert_set_aside(intake, spool, ledger, changed, Verdict.INVALID_UID)


@pytest.mark.parametrize("requested", ["1.2.3", "", "../../etc/passwd", CANARY])
def test_another_instance_than_was_announced(
    intake: Intake, spool: Spool, ledger: Ledger, make_ct: MakeCT, requested: str
):
    """The request names one instance and brings another: that is the sender's fault, not to be filed."""
    content = make_ct()
    assert take(intake, content, requested) == Verdict.MISMATCH
    assert quarantined(spool.root) == [(content, {"reason": "MISMATCH", "source": "MODALITY"})]
    assert_nothing_stored(spool, ledger)


def test_padding_of_the_announced_uid_is_no_difference(intake: Intake, make_ct: MakeCT):
    """A UID of odd length is padded with a zero byte; some pad with a space."""
    uid = derive_uid("instance", 1, 1)
    assert take(intake, make_ct(), f"{uid}\0") == Verdict.STORED
    assert take(intake, make_ct(), f"{uid} ") == Verdict.ALREADY_STORED


# --- when there is no room, or no ledger


@pytest.fixture
def small_disk(tmp_path: Path, missing: Callable[[str], None]) -> Iterator[Path]:
    point = tmp_path / "disk"
    point.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(point)], capture_output=True)
    if made.returncode:
        missing("a small file system cannot be mounted here")
    yield point
    subprocess.run(["umount", str(point)], check=True)


def test_a_full_disk(small_disk: Path, ledger: Ledger, make_ct: MakeCT, read_log: Any):
    """0xA700 and no row, for what could be stored and for what belongs into quarantine; then room, and it goes on."""
    spool = Spool(small_disk)
    spool.prepare()
    intake = Intake(spool, ledger)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))
    for content in (make_ct(), b"text"):
        answer = intake.take(content, calling_ae_title="MODALITY")
        assert answer == Accepted(Verdict.NO_ROOM, None)
        assert STATUS[answer.verdict] == 0xA700
    assert_nothing_stored(spool, ledger)
    assert quarantined(small_disk) == []
    assert [line["code"] for line in read_log.named("instance.refused")] == ["NO_ROOM", "NO_ROOM"]
    filler.unlink()
    assert take(intake, make_ct()) == Verdict.STORED


class LedgerAway:
    """A ledger that does not answer, or no longer answers when it is to commit."""

    def __init__(self, ledger: Ledger, *, reads: bool) -> None:
        self._ledger = ledger
        self._reads = reads

    def versions(self, series_instance_uid: str, sop_instance_uid: str) -> Any:
        if not self._reads:
            raise LedgerUnavailable("OperationalError")
        return self._ledger.versions(series_instance_uid, sop_instance_uid)

    def record_instance(self, instance: Any, **values: Any) -> bool:
        raise LedgerUnavailable("OperationalError")


class SlowLedger:
    """A ledger that answers an unknown instance so late that another thread could ask for it meanwhile."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._asking = 0
        self.overtaken = threading.Event()

    def versions(self, series_instance_uid: str, sop_instance_uid: str) -> Any:
        found = self._ledger.versions(series_instance_uid, sop_instance_uid)
        if not found:
            self._asking += 1
            if self._asking > 1:
                self.overtaken.set()
            self.overtaken.wait(0.3)
        return found

    def record_instance(self, instance: Any, **values: Any) -> bool:
        return self._ledger.record_instance(instance, **values)


def test_nobody_overtakes_between_the_question_and_the_row(spool: Spool, ledger: Ledger, make_ct: MakeCT):
    """Or the file of the one would lie under the row of the other."""
    slow = SlowLedger(ledger)
    intake = Intake(spool, slow)  # type: ignore[arg-type]
    contents = (make_ct(), make_ct(change=change_institution))
    threads = [threading.Thread(target=take, args=(intake, content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not slow.overtaken.is_set()
    assert len(quarantined(spool.root)) == 1


@pytest.mark.parametrize("reads", [False, True])
def test_a_ledger_that_is_away(spool: Spool, ledger: Ledger, make_ct: MakeCT, read_log: Any, reads: bool):
    """0xA700 and no row; when it is back, the sender's next try is as good as a first one."""
    away = Intake(spool, LedgerAway(ledger, reads=reads))  # type: ignore[arg-type]
    assert away.take(make_ct(), calling_ae_title="MODALITY") == Accepted(Verdict.NO_ROOM, None)
    assert ledger.all_jobs() == []
    (line,) = read_log.named("instance.refused")
    assert line["error"] == ["daemon.errors.LedgerUnavailable"]
    assert take(Intake(spool, ledger), make_ct()) == Verdict.STORED


def test_a_ledger_without_its_file(spool: Spool, tmp_path: Path, make_ct: MakeCT):
    """The same with a real one whose folder is gone."""
    gone = Ledger(f"sqlite:///{tmp_path / 'nowhere' / 'ledger.sqlite'}")
    assert take(Intake(spool, gone), make_ct()) == Verdict.NO_ROOM
    gone.close()
