"""Both stages on real files, with a network that is none: every volume of a series, each in its place."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import JPEG2000Lossless, MRImageStorage

from daemon import stages
from daemon.handover import load_segmented
from daemon.intake import Intake
from daemon.stages import Engine, Replaced, Reported, identity_of, report_series, segment_series
from dicom_io.errors import RejectReason, SeriesRejected
from dicom_io.geometry import Geometry
from dicom_io.image_writer import write_ct_series
from dicom_io.seg_reader import read_seg
from dicom_io.segmentation import Algorithm, Segmentation
from dicom_io.series import open_series
from dicom_io.volume import Volume
from models.errors import UnknownModel

STUDY, SERIES = "1.2.3.1", "1.2.3.2"
LIVER_HU = 100
CREATED = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def thresholds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network's place is taken: what is brighter than 50 is liver."""

    def segment(model: object, volume: Volume) -> Segmentation:
        algorithm = Algorithm("threshold", "1", "0" * 64, ("CT", "MR"))
        labels = (volume.array > LIVER_HU / 2).astype(np.uint8)
        return Segmentation(labels, volume.geometry, algorithm, warnings=volume.warnings)

    monkeypatch.setattr(stages, "model_on", lambda name, engine: None)
    monkeypatch.setattr(stages, "segment", segment)


def stack(origins: np.ndarray | None = None, slices: int = 14) -> Geometry:
    if origins is None:
        origins = np.c_[np.zeros(slices), np.zeros(slices), 5.0 * np.arange(slices)]
    return Geometry(origins, np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), 1.0, 1.0, 24, 20, "1.2.3")


def block(geometry: Geometry, first: int = 4) -> np.ndarray:
    array = np.full(geometry.shape, -500)
    array[first : first + 5, 6:18, 5:15] = LIVER_HU
    return array


Change = Callable[[Dataset], None]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., list[Path]]:
    """`make(number)` writes a volume of the series; `change(ds)` alters each data set."""

    def write(
        number: int = 1, *, geometry: Geometry | None = None, first: int = 4, change: Change = lambda ds: None
    ) -> list[Path]:
        geometry = geometry or stack()
        folder = tmp_path / f"volume-{number}"
        paths = write_ct_series(block(geometry, first), geometry, folder, seed=str(number))
        for path in paths:
            ds = dcmread(path)
            ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.AcquisitionNumber = STUDY, SERIES, number
            ds.SeriesDescription = "Liver"
            change(ds)
            ds.save_as(path)
        return paths

    return write


def describe(text: str) -> Change:
    def change(ds: Dataset) -> None:
        ds.SeriesDescription = text

    return change


def spoil(ds: Dataset) -> None:
    """Say that native pixels are compressed: nothing can decode them."""
    ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
    ds.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0\x04\0\0\0none\xfe\xff\xdd\xe0\0\0\0\0"
    ds["PixelData"].is_undefined_length = True


def walk(paths: list[Path], folder: Path, prefer: str = "portal", replaces: Replaced | None = None) -> Reported:
    segment_series(paths, "resnet50", Engine(), folder / "work", prefer)
    return report(paths, folder, replaces=replaces)


def report(paths: list[Path], folder: Path, revision: int = 1, replaces: Replaced | None = None) -> Reported:
    identity = identity_of(STUDY, SERIES, revision=revision, created=CREATED, software_version="1.2.3")
    return report_series(paths, folder / "work", folder / "outbox", identity, replaces)


def objects(reported: Reported) -> list[tuple[int, str]]:
    return [(result.volume_index, result.object) for result in reported.results]


def texts(ds: Dataset) -> str:
    return json.dumps(ds.to_json_dict())


def test_an_only_volume(make: Callable[..., list[Path]], tmp_path: Path):
    """Its labels, then SEG, SR and findings, in folders with its index; the SEG lies where the block lies."""
    paths = make()
    reported = walk(paths, tmp_path)
    assert objects(reported) == [(0, "seg"), (0, "sr")]
    assert reported.warnings == ()
    assert sorted(path.name for path in (tmp_path / "outbox" / "0").iterdir()) == ["findings.json", "seg.dcm", "sr.dcm"]
    for result in reported.results:
        ds = dcmread(result.path)
        assert (ds.SOPInstanceUID, ds.SeriesInstanceUID) == (result.sop_instance_uid, result.series_instance_uid)
    (liver,) = read_seg(reported.results[0].path)
    assert liver.origins_lps_mm[:, 2].tolist() == [20, 25, 30, 35, 40]
    assert "volumes" not in texts(dcmread(reported.results[1].path))


def test_two_volumes_are_two_sets_of_results(make: Callable[..., list[Path]], tmp_path: Path):
    """All are taken where it is not certain which is meant; each has UIDs, findings and a name of its own."""
    paths = make(1) + make(2, first=7)
    reported = walk(paths, tmp_path)
    assert objects(reported) == [(0, "seg"), (0, "sr"), (1, "seg"), (1, "sr")]
    assert len({result.sop_instance_uid for result in reported.results}) == 4
    assert len({result.series_instance_uid for result in reported.results}) == 4
    assert reported.warnings == ("SEVERAL_VOLUMES",)
    sources = [set(stack.sop_instance_uids) for stack in open_series(paths).stacks]
    for result, first_mm in zip(reported.results[::2], (20, 35), strict=True):
        (liver,) = read_seg(result.path)
        assert liver.origins_lps_mm[0, 2] == first_mm
        used = {
            str(uid)
            for group in dcmread(result.path).ReferencedSeriesSequence[0].ReferencedInstanceSequence
            for uid in [group.ReferencedSOPInstanceUID]
        }
        assert used <= sources[result.volume_index]
    for result in reported.results[1::2]:
        ds = dcmread(result.path)
        assert f"AcquisitionNumber {result.volume_index + 1}" in ds.SeriesDescription
        assert "2 of them were segmented" in texts(ds)


def test_the_preferred_volume_alone(make: Callable[..., list[Path]], tmp_path: Path):
    """It keeps its index, and the SR says which one it is."""
    paths = make(1, change=describe("arterial phase")) + make(2, first=7, change=describe("portal venous phase"))
    reported = walk(paths, tmp_path)
    assert objects(reported) == [(1, "seg"), (1, "sr")]
    assert not (tmp_path / "work" / "0").exists()
    assert "volume 2 (AcquisitionNumber 2) was segmented, taken for the portal phase" in texts(
        dcmread(reported.results[1].path)
    )
    shutil.rmtree(tmp_path / "work")
    assert segment_series(paths, "resnet50", Engine(), tmp_path / "work", "arterial") == ("SEVERAL_VOLUMES",)
    assert load_segmented(tmp_path / "work").volumes == (0,)


def test_the_second_stage_reports_what_the_first_one_segmented(make: Callable[..., list[Path]], tmp_path: Path):
    """Whatever a new configuration prefers by then."""
    paths = make(1) + make(2)
    segment_series(paths, "resnet50", Engine(), tmp_path / "work", "all")
    kept = load_segmented(tmp_path / "work")
    assert (kept.volumes, kept.warnings) == ((0, 1), ())
    assert objects(report(paths, tmp_path)) == [(0, "seg"), (0, "sr"), (1, "seg"), (1, "sr")]


def test_walking_twice_sends_the_same_objects(make: Callable[..., list[Path]], tmp_path: Path):
    """What is written is not made again, for each volume."""
    paths = make(1) + make(2)
    first = walk(paths, tmp_path)
    before = {result.path: result.path.read_bytes() for result in first.results}
    first.results[3].path.unlink()
    assert report(paths, tmp_path) == first
    for path, content in before.items():
        assert path.read_bytes() == content


def test_a_volume_that_cannot_be_read_among_two(make: Callable[..., list[Path]], tmp_path: Path):
    """The other one is reported, and says so."""
    paths = make(1, change=spoil) + make(2)
    assert segment_series(paths, "resnet50", Engine(), tmp_path / "work", "all") == ("SEVERAL_VOLUMES", "LEFT_OUT")
    reported = report(paths, tmp_path)
    assert objects(reported) == [(1, "seg"), (1, "sr")]
    assert set(reported.warnings) == {"SEVERAL_VOLUMES", "LEFT_OUT"}
    assert "Volume 1 could not be read (UNREADABLE_PIXELS)." in texts(dcmread(reported.results[1].path))


def test_no_volume_that_can_be_read(make: Callable[..., list[Path]], tmp_path: Path):
    paths = make(1, change=spoil) + make(2, change=spoil)
    with pytest.raises(SeriesRejected) as caught:
        segment_series(paths, "resnet50", Engine(), tmp_path / "work", "all")
    assert caught.value.reason == RejectReason.UNREADABLE_PIXELS
    assert not (tmp_path / "work" / "volumes.json").exists()


def test_no_model_for_the_modality(make: Callable[..., list[Path]], tmp_path: Path):
    """MR is refused by the card, before any pixel is read; a model that is not there is another thing."""

    def to_mr(ds: Dataset) -> None:
        ds.Modality, ds.SOPClassUID = "MR", MRImageStorage
        ds.PixelData = b""

    paths = make(change=to_mr)
    with pytest.raises(SeriesRejected, match="resnet50 is made for CT, and the series is MR") as caught:
        segment_series(paths, "resnet50", Engine(), tmp_path / "work", "portal")
    assert caught.value.reason == RejectReason.NO_MODEL
    with pytest.raises(UnknownModel):
        segment_series(paths, "nobody", Engine(), tmp_path / "work", "portal")


def test_no_liver_is_an_sr_alone(make: Callable[..., list[Path]], tmp_path: Path):
    """For that volume; the other one has its SEG."""

    def darken(ds: Dataset) -> None:
        ds.PixelData = bytes(len(ds.PixelData))

    reported = walk(make(1, change=darken) + make(2), tmp_path)
    assert objects(reported) == [(0, "sr"), (1, "seg"), (1, "sr")]
    assert "NO_LIVER" in reported.warnings


@pytest.mark.parametrize(
    ("origins", "code"),
    [
        (np.c_[np.zeros(14), 1.5 * np.arange(14), 5.0 * np.arange(14)], "TILT"),
        (
            np.c_[np.zeros(14), np.zeros(14), np.cumsum([0, 4, 7, 1.5, 6, 4, 7, 1.5, 6, 4, 7, 1.5, 6, 4])],
            "UNEVEN_SPACING",
        ),
        (np.c_[np.zeros(14), np.zeros(14), 5.0 * np.r_[0:6, 7:15]], "MISSING_SLICES"),
    ],
)
def test_stacks_that_are_not_regular(make: Callable[..., list[Path]], tmp_path: Path, origins: np.ndarray, code: str):
    """Segmented and proved in their places like any other, with a warning."""
    reported = walk(make(geometry=stack(origins)), tmp_path)
    assert objects(reported) == [(0, "seg"), (0, "sr")]
    assert reported.warnings == (code,)
    (liver,) = read_seg(reported.results[0].path)
    assert np.allclose(liver.origins_lps_mm, origins[4:9])


# --- what supersedes what


def predecessor(path: Path) -> tuple[str, str] | None:
    ds = dcmread(path)
    if "PredecessorDocumentsSequence" not in ds:
        return None
    (study,) = ds.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    (sop,) = series.ReferencedSOPSequence
    assert study.StudyInstanceUID == ds.StudyInstanceUID
    return str(series.SeriesInstanceUID), str(sop.ReferencedSOPInstanceUID)


def srs(reported: Reported) -> list[Path]:
    return [result.path for result in reported.results if result.object == "sr"]


def sr_of(series: str, revision: int, volume: int) -> tuple[str, str]:
    identity = identity_of(STUDY, series, revision=revision, created=CREATED, software_version="0.9")
    identity = replace(identity, volume_index=volume)
    return identity.sr_series_instance_uid, identity.sr_sop_instance_uid


def test_a_first_answer_supersedes_nothing(make: Callable[..., list[Path]], tmp_path: Path):
    (sr,) = srs(walk(make(), tmp_path))
    assert predecessor(sr) is None


def test_a_revision_supersedes_the_one_before(make: Callable[..., list[Path]], tmp_path: Path):
    """Volume by volume; also where it takes the place of another series at the same time."""
    paths = make(1) + make(2)
    segment_series(paths, "resnet50", Engine(), tmp_path / "work", "all")
    for folder, replaces in (("a", None), ("b", Replaced(STUDY, "1.2.3.9", 4))):
        shutil.copytree(tmp_path / "work", tmp_path / folder / "work")
        reported = report(paths, tmp_path / folder, revision=3, replaces=replaces)
        assert [predecessor(sr) for sr in srs(reported)] == [sr_of(SERIES, 2, 0), sr_of(SERIES, 2, 1)]


def test_another_series_is_superseded(make: Callable[..., list[Path]], tmp_path: Path):
    """An only volume by an only one, whatever their indices; of two the one that is the same."""
    paths = make(1, change=describe("arterial")) + make(2, change=describe("portal"))
    (sr,) = srs(walk(paths, tmp_path / "a", "portal", Replaced(STUDY, "1.2.3.9", 4)))
    assert predecessor(sr) == sr_of("1.2.3.9", 4, 0)
    both = srs(walk(paths, tmp_path / "b", "all", Replaced(STUDY, "1.2.3.9", 4, volumes=(1, 2))))
    assert [predecessor(sr) for sr in both] == [None, sr_of("1.2.3.9", 4, 1)]


def test_a_revision_may_be_told_which_volumes_it_supersedes(make: Callable[..., list[Path]], tmp_path: Path):
    """The revision before may have reported other volumes: an SR that never was is not named."""
    paths = make(1) + make(2)
    segment_series(paths, "resnet50", Engine(), tmp_path / "work", "all")
    reported = report(paths, tmp_path, revision=2, replaces=Replaced(STUDY, SERIES, 1, volumes=(1,)))
    assert [predecessor(sr) for sr in srs(reported)] == [None, sr_of(SERIES, 1, 1)]


# --- real series


def test_real_series_of_two_phases(unpacked: Callable[[str], list[Path]], tmp_path: Path):
    """HCC_007: 150 files at 75 positions; the second acquisition is the portal phase."""
    paths = unpacked("hcc_tace_seg_007/ct_two_phases_in_one_series_dicom")
    reported = walk(paths, tmp_path)
    assert objects(reported) == [(1, "seg"), (1, "sr")]
    assert "AcquisitionNumber 3" in dcmread(reported.results[0].path).SeriesDescription


def test_a_real_tilted_and_uneven_series_out_of_the_spool(
    unpacked: Callable[[str], list[Path]], tmp_path: Path, intake_of: Callable[[list[Path]], list[Path]]
):
    """Taken in as the service does it, and read from what lies beside the files."""
    spooled = intake_of(unpacked("dcm_qa_ct/ge_tilt18_variable_gap_dicom"))
    assert all(path.with_name(f"{path.name}.header").exists() for path in spooled)
    reported = walk(spooled, tmp_path)
    assert {"TILT", "UNEVEN_SPACING"} <= set(reported.warnings)


@pytest.fixture
def intake_of(spool, ledger) -> Callable[[list[Path]], list[Path]]:  # type: ignore[no-untyped-def]
    """`intake_of(files)` are the files where the intake put them."""

    def take(files: list[Path]) -> list[Path]:
        intake = Intake(spool, ledger)
        for file in files:
            intake.take(file.read_bytes(), calling_ae_title="MODALITY")
        return sorted((spool.root / "spool").rglob("*.dcm"))

    return take
