"""`porta series` on real and made series: the verdict, its form, and that nothing unreadable gets in its way."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import MPEG2MPML, JPEG2000Lossless

from daemon.commands.cli import main
from daemon.commands.verdicts import SeriesVerdict, in_words, judge
from dicom_io.errors import NotDicom
from dicom_io.files.image_writer import write_ct_series
from dicom_io.geometry import Geometry

KEYS = ["series_instance_uid", "modality", "verdict", "sentence", "warnings", "left_out", "volumes"]
VOLUME_KEYS = ["shape", "spacing_mm", "regular", "tilt_degrees", "label"]
"""The format of DESIGN.md section 7; more may follow."""


def write(folder: Path, change: Callable[[Dataset], None] = lambda ds: None, *, slices: int = 12) -> list[Path]:
    origins = np.c_[np.zeros(slices), np.zeros(slices), 5.0 * np.arange(slices)]
    geometry = Geometry(origins, np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), 0.75, 0.5, 8, 6, "1.2.3")
    paths = write_ct_series(np.full(geometry.shape, 40), geometry, folder, seed=str(folder))
    for path in paths:
        ds = dcmread(path)
        change(ds)
        ds.save_as(path)
    return paths


def only(source: Path, *, prefer: str = "portal", pixels: bool = False) -> SeriesVerdict:
    (verdict,) = judge(source, prefer=prefer, pixels=pixels).verdicts
    return verdict


@pytest.fixture
def porta(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], read_log: object):
    """`porta("series", …)` is the exit code, stdout, and the lines on stderr."""

    def run(*arguments: str | Path) -> tuple[int, str, list[str]]:
        monkeypatch.setattr("sys.argv", ["porta", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return int(ended.value.code or 0), said.out, said.err.splitlines()

    return run


# --- its form


def test_the_form_for_scripts(tmp_path: Path, porta: Callable[..., tuple[int, str, list[str]]]):
    """Every key of the design, in its order, in an accepted and in a refused series."""
    write(tmp_path / "a")
    write(tmp_path / "b", slices=3)
    code, out, lines = porta("series", tmp_path, "--json")
    assert (code, lines) == (0, [])
    verdicts = sorted(json.loads(out), key=lambda verdict: verdict["verdict"])
    for verdict in verdicts:
        assert list(verdict)[: len(KEYS)] == KEYS
    accepted, refused = verdicts
    assert (accepted["verdict"], accepted["modality"], accepted["warnings"]) == ("ACCEPTED", "CT", [])
    assert accepted["pixels_read"] is False
    assert "its pixels were not read" in accepted["sentence"]
    assert accepted["left_out"] == 0
    (volume,) = accepted["volumes"]
    assert list(volume)[: len(VOLUME_KEYS)] == VOLUME_KEYS
    assert (volume["shape"], volume["spacing_mm"]) == ([12, 8, 6], [5.0, 0.75, 0.5])
    assert (volume["regular"], volume["tilt_degrees"], volume["label"]) == (True, 0.0, "")
    assert (volume["plane"], volume["taken"], volume["missing_slices"]) == ("axial", True, 0)
    assert (refused["verdict"], refused["volumes"], refused["left_out"]) == ("TOO_FEW_SLICES", [], None)
    assert refused["sentence"] == "The series has too few slices to be a volume. 3 of at least 5."
    assert accepted["series_instance_uid"] != refused["series_instance_uid"]


def test_the_table_for_people(tmp_path: Path, porta: Callable[..., tuple[int, str, list[str]]]):
    """The UID whole, the geometry in words, the sentence in full."""
    paths = write(tmp_path / "a")
    write(tmp_path / "b", slices=3)
    code, out, lines = porta("series", tmp_path)
    assert (code, lines) == (0, [])
    joined = "".join(line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│"))
    assert str(dcmread(paths[0]).SeriesInstanceUID) in joined
    words = " ".join(" ".join(line.split("│")[3].strip() for line in out.splitlines() if line.startswith("│")).split())
    assert "12 axial slices, 5 mm apart; 8 × 6 pixels of 0.75 × 0.5 mm" in words
    assert "The series has too few slices to be a volume. 3 of at least 5." in words


# --- what cannot be read


def test_other_files_among_the_images(tmp_path: Path, porta: Callable[..., tuple[int, str, list[str]]]):
    """A line each, and exit 0: there are verdicts."""
    write(tmp_path / "a")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "a" / "empty.dcm").write_bytes(b"")
    code, out, lines = porta("series", tmp_path, "--json")
    assert (code, len(json.loads(out))) == (0, 1)
    assert lines == [f"porta: {tmp_path / 'a' / name}: not a DICOM file" for name in ("empty.dcm", "notes.txt")]


def test_nothing_that_can_be_read(tmp_path: Path, porta: Callable[..., tuple[int, str, list[str]]]):
    """One line and exit 2, whatever was given."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("no image")
    (tmp_path / "torn.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    for name, why in (
        ("nowhere", "no such file or folder"),
        ("folder", "holds no DICOM files"),
        ("text", "not a DICOM file"),
        ("torn.zip", "holds no DICOM files"),
    ):
        assert porta("series", tmp_path / name) == (2, "", [f"porta: {tmp_path / name}: {why}"])


def test_a_member_of_an_archive_that_is_no_image(tmp_path: Path):
    """Is said of the archive; the folder it was unpacked to is nobody's business."""
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for path in write(tmp_path / "a"):
            archive.write(path, path.name)
        archive.writestr("notes.txt", "no image")
    judged = judge(tmp_path / "study.zip")
    assert [verdict.verdict for verdict in judged.verdicts] == ["ACCEPTED"]
    assert [str(error) for error in judged.unreadable] == [f"{tmp_path / 'study.zip'}: file 13 in it: not a DICOM file"]


def test_blank_uids(unpacked: Callable[[str], list[Path]], shared_data: Path):
    """TotalSegmentator's example: named, and no UID is made up."""
    folder = next((shared_data / "totalsegmentator_example").glob("example_ct_dicom*"))
    judged = judge(folder)
    assert {(verdict.series_instance_uid, verdict.verdict) for verdict in judged.verdicts} == {(None, "NO_UID")}


# --- pixels


def spoil(ds: Dataset) -> None:
    ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
    ds.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0\x04\0\0\0none"
    ds["PixelData"].is_undefined_length = True


def as_volume(number: int, change: Callable[[Dataset], None] = lambda ds: None) -> Callable[[Dataset], None]:
    def alter(ds: Dataset) -> None:
        ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.AcquisitionNumber = "1.2.4", "1.2.5", number
        change(ds)

    return alter


def test_pixels_are_looked_at_when_asked_for(tmp_path: Path):
    """From the headers all is well; --pixels finds out, in another process."""
    write(tmp_path, spoil)
    unread, verdict = only(tmp_path), only(tmp_path, pixels=True)
    assert (unread.verdict, unread.pixels_read) == ("ACCEPTED", False)
    assert "its pixels were not read: --pixels reads them" in unread.sentence
    assert (verdict.verdict, verdict.volumes, verdict.pixels_read) == ("UNREADABLE_PIXELS", (), True)


def test_pixels_that_can_be_read(tmp_path: Path):
    """The sentence then says it without a but."""
    write(tmp_path)
    verdict = only(tmp_path, pixels=True)
    assert (verdict.verdict, verdict.pixels_read) == ("ACCEPTED", True)
    assert verdict.sentence == "The series holds a volume that can be segmented."


def test_words_without_their_sign(tmp_path: Path):
    """PixelRepresentation 0 over signed words: air would be 64536 HU, which no header tells."""

    def unsigned(ds: Dataset) -> None:
        words = np.frombuffer(ds.PixelData, "<i2").copy()
        words[:6] = -1000
        ds.PixelData, ds.PixelRepresentation = words.tobytes(), 0

    write(tmp_path, unsigned)
    assert "were not read" in only(tmp_path).sentence
    assert only(tmp_path, pixels=True).verdict == "NOT_HOUNSFIELD"


def test_one_unreadable_volume_of_two(tmp_path: Path):
    """The other one stays, with its index and label, and what was lost is counted."""
    write(tmp_path / "1", as_volume(1, spoil))
    write(tmp_path / "2", as_volume(2))
    assert [volume.label for volume in only(tmp_path).volumes] == ["AcquisitionNumber 1", "AcquisitionNumber 2"]
    verdict = only(tmp_path, pixels=True)
    assert verdict.verdict == "ACCEPTED"
    assert [volume.label for volume in verdict.volumes] == ["AcquisitionNumber 2"]
    assert verdict.left_out == 12
    assert set(verdict.warnings) == {"SEVERAL_VOLUMES", "LEFT_OUT"}


def test_the_volume_that_would_be_taken_is_unreadable(tmp_path: Path):
    """No other one is segmented in its place, so the series is refused, as `porta segment` and the service do."""

    def phase(
        number: int, words: str, change: Callable[[Dataset], None] = lambda ds: None
    ) -> Callable[[Dataset], None]:
        return as_volume(number, lambda ds: (setattr(ds, "SeriesDescription", words), change(ds))[1])

    write(tmp_path / "1", phase(1, "arterial"))
    write(tmp_path / "2", phase(2, "portal", spoil))
    assert only(tmp_path, pixels=True).verdict == "UNREADABLE_PIXELS"
    verdict = only(tmp_path, prefer="arterial", pixels=True)
    assert (verdict.verdict, [volume.taken for volume in verdict.volumes]) == ("ACCEPTED", [True])


def test_a_syntax_that_nothing_decodes(tmp_path: Path):
    """Is found in the headers."""

    def video(ds: Dataset) -> None:
        spoil(ds)
        ds.file_meta.TransferSyntaxUID = MPEG2MPML

    write(tmp_path, video)
    assert only(tmp_path).verdict == "UNSUPPORTED_SYNTAX"


# --- real series


@pytest.mark.parametrize(
    ("name", "verdict", "warnings", "shapes"),
    [
        ("chaos_ct3/ct_dicom", "ACCEPTED", [], [(78, 512, 512)]),
        ("lits_volume0/ct_dicom", "ACCEPTED", [], [(75, 512, 512)]),
        (
            "hcc_tace_seg_007/ct_two_phases_in_one_series_dicom",
            "ACCEPTED",
            ["SEVERAL_VOLUMES"],
            [(75, 512, 512), (75, 512, 512)],
        ),
        ("hcc_tace_seg_007/ct_precontrast_10mm_dicom", "ACCEPTED", ["THICK_SLICES"], [(18, 512, 512)]),
        (
            "dcm_qa_ct/ge_tilt18_variable_gap_dicom",
            "ACCEPTED",
            ["THICK_SLICES", "TILT", "UNEVEN_SPACING"],
            [(28, 512, 512)],
        ),
        ("dcm_qa_mr/philips_sagittal_mprage_170_dicom", "ACCEPTED", [], None),
        ("dcm_qa_mr/philips_enhanced_mr_plus_raw_data_same_series_dicom", "ACCEPTED", ["LEFT_OUT"], None),
        ("dcm_qa_ct/philips_localizer_dicom", "LOCALIZER_ONLY", [], []),
    ],
)
def test_real_series(
    shared_data: Path,
    name: str,
    verdict: str,
    warnings: list[str],
    shapes: list[tuple[int, int, int]] | None,
):
    judged = judge(shared_data / f"{name}.zip")
    found = max(judged.verdicts, key=lambda one: sum(volume.shape[0] for volume in one.volumes))
    assert found.verdict == verdict
    assert sorted(found.warnings) == warnings
    if shapes is not None:
        assert [volume.shape for volume in found.volumes] == shapes
    assert found.seconds > 0


def test_which_volume_would_be_taken(shared_data: Path):
    """HCC_007: the second of two phases is the portal one."""
    source = shared_data / "hcc_tace_seg_007" / "ct_two_phases_in_one_series_dicom.zip"
    for prefer, taken in (("portal", [False, True]), ("arterial", [True, False]), ("all", [True, True])):
        verdict = only(source, prefer=prefer)
        assert [volume.taken for volume in verdict.volumes] == taken
    assert in_words(verdict.volumes[0], "all", several=True).startswith("AcquisitionNumber 2: 75 axial slices, 2.5 mm")


def test_a_tilted_and_uneven_stack_in_words(shared_data: Path):
    (volume,) = only(shared_data / "dcm_qa_ct" / "ge_tilt18_variable_gap_dicom.zip").volumes
    assert volume.spacing_mm[0] is None
    assert not volume.regular
    assert volume.tilt_degrees == pytest.approx(18.5, abs=0.1)
    assert "28 axial slices, 1.1 to 7.0 mm apart" in in_words(volume, "portal", several=False)
    assert "tilted by 18.5°" in in_words(volume, "portal", several=False)


def test_a_path_that_is_not_there(tmp_path: Path):
    with pytest.raises(NotDicom, match="no such file or folder"):
        judge(tmp_path / "nowhere")
