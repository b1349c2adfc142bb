"""Both stages on real files, with a network that is none: every volume of a series, each in its place."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, JPEG2000Lossless, MRImageStorage

from daemon.errors import FileDamaged, WorkDamaged
from daemon.intake import Intake
from daemon.storage.integrity import SUMS, file_sha256, unsound_files
from daemon.worker import stages
from daemon.worker.handover import load_explanations, load_segmented
from daemon.worker.requests import (
    Engine,
    Replaced,
    Reported,
    ReportRequest,
    SegmentRequest,
    SentSr,
    ShadowRequest,
    VerdictRequest,
)
from daemon.worker.stages import model_on, report_series, report_verdict, segment_series, shadow_series
from dicom_io.errors import RejectReason, SeriesRejected
from dicom_io.files.image_writer import write_ct_series
from dicom_io.files.uids import derive_uid
from dicom_io.geometry import Geometry
from dicom_io.seg_reader import read_fractions, read_seg
from dicom_io.segmentation import Algorithm, Segmentation
from dicom_io.series.series import open_series
from dicom_io.volume import Volume
from models.errors import UnknownModel
from models.maps import Heat, Probabilities
from reports.errors import GeometryNotProved
from reports.identity import ResultIdentity, identity_of
from reports.objects import key_images, verification
from reports.objects.case import Case
from reports.objects.kinds import FORMS
from reports.objects.profile import Profile
from tests.daemon.conftest import spooled_digits

STUDY, SERIES = "1.2.3.1", "1.2.3.2"
LIVER_HU, LESION_HU = 100, 200
SR_CLASSES = {"comprehensive_3d": Comprehensive3DSRStorage, "comprehensive": ComprehensiveSRStorage}
CREATED = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def thresholds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network's place is taken: what is brighter than 50 is liver, and in series of our own 200 a lesion."""

    def segment(model: object, volume: Volume, progress: object = None) -> Segmentation:
        algorithm = Algorithm("threshold", "1", "0" * 64, ("CT", "MR"))
        labels = (volume.array > LIVER_HU / 2).astype(np.uint8)
        if volume.series_instance_uid == SERIES:
            labels[volume.array == LESION_HU] = 2
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
    ds.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0\x04\0\0\0none"
    ds["PixelData"].is_undefined_length = True


def segment(
    paths: list[Path],
    folder: Path,
    prefer: str = "portal",
    profiles: Sequence[Profile] = (Profile(),),
    model: str = "resnet50",
) -> tuple[str, ...]:
    return segment_series(SegmentRequest(tuple(paths), model, Engine(), folder / "work", prefer, tuple(profiles)))


def walk(paths: list[Path], folder: Path, prefer: str = "portal", **options: Any) -> Reported:
    segment(paths, folder, prefer)
    return report(paths, folder, **options)


def report(
    paths: list[Path],
    folder: Path,
    revision: int = 1,
    replaces: Sequence[Replaced] = (),
    profiles: Sequence[Profile] = (Profile(),),
    is_incomplete: bool = False,
) -> Reported:
    return report_series(
        ReportRequest(
            paths=tuple(paths),
            model="resnet50",
            engine=Engine(),
            work=folder / "work",
            outbox=folder / "outbox",
            identity=identity(revision),
            prefer="portal",
            profiles=tuple(profiles),
            replaced=tuple(replaces),
            is_incomplete=is_incomplete,
        )
    )


def identity(revision: int = 1) -> ResultIdentity:
    return identity_of(STUDY, SERIES, revision=revision, created=CREATED, software_version="1.2.3")


def objects(reported: Reported) -> list[tuple[int, str]]:
    return [(result.volume_index, result.form.name) for result in reported.results]


def texts(ds: Dataset) -> str:
    return json.dumps(ds.to_json_dict())


def test_what_may_lack_slices_is_said_and_not_judged(make: Callable[..., list[Path]], tmp_path: Path):
    """In SR, findings and the job's warnings."""
    reported = walk(make(1), tmp_path, is_incomplete=True)
    assert "INCOMPLETE" in reported.warnings
    assert "The sending of the images broke off" in texts(dcmread(reported.results[1].path))
    found = json.loads((tmp_path / "outbox" / "0" / "findings.json").read_text())
    assert found["severity"]["level"] is None and "INCOMPLETE" in found["warnings"]


def test_of_two_ranges_the_one_with_the_liver_is_reported(make: Callable[..., list[Path]], tmp_path: Path):
    """The pelvis of the same series is left out, and SR and findings say so; without a liver both are reported."""
    pelvis = np.c_[np.zeros(12), np.zeros(12), 200 + 5.0 * np.arange(12)]
    paths = make(1) + make(2, geometry=stack(pelvis), first=20, change=lambda ds: setattr(ds, "AcquisitionNumber", 1))
    reported = walk(paths, tmp_path)
    assert objects(reported) == [(0, "seg"), (0, "sr")]
    assert set(reported.warnings) >= {"SEPARATE_RANGES", "LEFT_OUT"}
    said = texts(dcmread(reported.results[1].path))
    assert "The slices lie in 2 ranges, up to 135 mm apart." in said
    assert "There is no liver in range 2 of 2 (12 slices, 60 mm): left out." in said


def test_ranges_without_a_liver_are_all_reported(make: Callable[..., list[Path]], tmp_path: Path):
    paths = make(1, first=20) + make(2, geometry=stack(np.c_[np.zeros((12, 2)), 200 + 5.0 * np.arange(12)]), first=20)
    assert {index for index, _ in objects(walk(paths, tmp_path))} == {0, 1}


def test_an_only_volume(make: Callable[..., list[Path]], tmp_path: Path):
    """Its labels, then SEG, SR and findings, in folders with its index; the SEG lies where the block lies."""
    paths = make()
    reported = walk(paths, tmp_path)
    assert objects(reported) == [(0, "seg"), (0, "sr")]
    assert reported.warnings == ()
    assert sorted(path.name for path in (tmp_path / "outbox" / "0").iterdir()) == [
        SUMS,
        "findings.json",
        "seg.dcm",
        "sr.dcm",
    ]
    for result in reported.results:
        ds = dcmread(result.path)
        assert (ds.SOPInstanceUID, ds.SeriesInstanceUID) == (result.sop_instance_uid, result.series_instance_uid)
    (liver,) = read_seg(reported.results[0].path)
    assert liver.origins_lps_mm[:, 2].tolist() == [20, 25, 30, 35, 40]
    assert "volumes" not in texts(dcmread(reported.results[1].path))


def invert(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 0xFF
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a byte inverted": invert,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:300]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("damage", ["a byte inverted", "cut"])
def test_a_spooled_file_is_read_as_it_was_received(make: Callable[..., list[Path]], tmp_path: Path, damage: str):
    """Nothing is segmented, reported or told of an image of which a byte is not what was acknowledged."""
    paths = [path.rename(path.with_name(f"{path.stem}-{spooled_digits(path.read_bytes())}.dcm")) for path in make()]
    segment(paths, tmp_path)
    DAMAGES[damage](paths[3])
    with pytest.raises(FileDamaged):
        segment(paths, tmp_path)
    with pytest.raises(FileDamaged):
        report(paths, tmp_path)
    (headers,) = stages._headers_by_place(paths, ()).values()
    assert len(headers) == len(paths) - 1


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("volumes.json", "a byte inverted"),
        ("volumes.json", "gone"),
        ("0/labels.npz", "a byte inverted"),
        ("0/labels.npz", "empty"),
        ("0/probabilities.npz", "gone"),
    ],
)
def test_the_labels_are_those_that_were_made(
    make: Callable[..., list[Path]], tmp_path: Path, sure: None, name: str, damage: str
):
    """What the first stage left is believed only as it was written."""
    paths = make()
    segment(paths, tmp_path, profiles=[ASKING])
    DAMAGES[damage](tmp_path / "work" / name)
    with pytest.raises(WorkDamaged):
        report(paths, tmp_path, profiles=[ASKING])


@pytest.mark.parametrize(
    ("name", "damage"), [("seg.dcm", "a byte inverted"), ("sr.dcm", "cut"), ("findings.json", "empty")]
)
def test_a_second_walk_makes_again_what_is_damaged(
    make: Callable[..., list[Path]], tmp_path: Path, name: str, damage: str
):
    """What the first left whole is kept, byte for byte; nothing of either was sent yet."""
    paths, outbox = make(), tmp_path / "outbox" / "0"
    first = walk(paths, tmp_path)
    before = {path.name: path.read_bytes() for path in outbox.iterdir()}
    DAMAGES[damage](outbox / name)
    second = report(paths, tmp_path)
    after = {path.name: path.read_bytes() for path in outbox.iterdir()}
    others = before.keys() - {name, SUMS}
    assert {other: before[other] for other in others} == {other: after[other] for other in others}
    assert list(unsound_files(outbox)) == []
    assert [result.sha256 for result in second.results] == [file_sha256(result.path) for result in second.results]
    assert [result.sop_instance_uid for result in first.results] == [item.sop_instance_uid for item in second.results]


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
    assert segment(paths, tmp_path, "arterial") == ("SEVERAL_VOLUMES",)
    assert load_segmented(tmp_path / "work").volumes == (0,)


def test_the_second_stage_reports_what_the_first_one_segmented(make: Callable[..., list[Path]], tmp_path: Path):
    """Whatever a new configuration prefers by then."""
    paths = make(1) + make(2)
    segment(paths, tmp_path, "all")
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
    assert segment(paths, tmp_path, "all") == ("SEVERAL_VOLUMES", "LEFT_OUT")
    reported = report(paths, tmp_path)
    assert objects(reported) == [(1, "seg"), (1, "sr")]
    assert set(reported.warnings) == {"SEVERAL_VOLUMES", "LEFT_OUT"}
    assert "Volume 1 could not be read (UNREADABLE_PIXELS)." in texts(dcmread(reported.results[1].path))


def test_no_volume_that_can_be_read(make: Callable[..., list[Path]], tmp_path: Path):
    paths = make(1, change=spoil) + make(2, change=spoil)
    with pytest.raises(SeriesRejected) as caught:
        segment(paths, tmp_path, "all")
    assert caught.value.reason == RejectReason.UNREADABLE_PIXELS
    assert not (tmp_path / "work" / "volumes.json").exists()


def test_no_model_for_the_modality(make: Callable[..., list[Path]], tmp_path: Path):
    """MR is refused by the card, before any pixel is read; a model that is not there is another thing."""

    def to_mr(ds: Dataset) -> None:
        ds.Modality, ds.SOPClassUID = "MR", MRImageStorage
        ds.PixelData = b""

    paths = make(change=to_mr)
    with pytest.raises(SeriesRejected, match="resnet50 is made for CT, and the series is MR") as caught:
        segment(paths, tmp_path)
    assert caught.value.reason == RejectReason.NO_MODEL
    with pytest.raises(UnknownModel):
        segment(paths, tmp_path, model="nobody")


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


def predecessors(path: Path) -> list[tuple[str, str]]:
    (study,) = dcmread(path).PredecessorDocumentsSequence
    return [
        (str(series.SeriesInstanceUID), str(series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID))
        for series in study.ReferencedSeriesSequence
    ]


def srs(reported: Reported) -> list[Path]:
    return [result.path for result in reported.results if result.form.name == "sr"]


def sent(job: str, *srs: tuple[str, int]) -> Replaced:
    """What a job sent, by name and volume."""
    return Replaced(tuple(SentSr(FORMS[name], volume, *uids_of(job, name, volume)) for name, volume in srs))


def uids_of(job: str, name: str, volume: int) -> tuple[str, str]:
    return derive_uid(job, name, volume, "series"), derive_uid(job, name, volume)


def test_a_first_answer_supersedes_nothing(make: Callable[..., list[Path]], tmp_path: Path):
    (sr,) = srs(walk(make(), tmp_path))
    assert predecessor(sr) is None


def test_an_earlier_revision_is_superseded(make: Callable[..., list[Path]], tmp_path: Path):
    """Volume by volume; an SR that never was is not named."""
    paths = make(1) + make(2)
    segment(paths, tmp_path, "all")
    for folder, volumes in (("a", (0, 1)), ("b", (1,))):
        shutil.copytree(tmp_path / "work", tmp_path / folder / "work")
        replaces = [sent("before", *(("sr", volume) for volume in volumes))]
        reported = report(paths, tmp_path / folder, revision=3, replaces=replaces)
        named = [uids_of("before", "sr", volume) if volume in volumes else None for volume in (0, 1)]
        assert [predecessor(sr) for sr in srs(reported)] == named


def test_another_series_is_superseded(make: Callable[..., list[Path]], tmp_path: Path):
    """An only volume by an only one, whatever their indices; of two the one that is the same."""
    paths = make(1, change=describe("arterial")) + make(2, change=describe("portal"))
    (sr,) = srs(walk(paths, tmp_path / "a", "portal", replaces=[sent("other", ("sr", 0))]))
    assert predecessor(sr) == uids_of("other", "sr", 0)
    both = srs(walk(paths, tmp_path / "b", "all", replaces=[sent("other", ("sr", 1), ("sr", 2))]))
    assert [predecessor(sr) for sr in both] == [None, uids_of("other", "sr", 1)]


def test_a_verdict_is_superseded_by_the_first_volume(make: Callable[..., list[Path]], tmp_path: Path):
    """Once, whatever the volumes are; beside it another series' answer may be."""
    paths = make(1) + make(2)
    both = srs(walk(paths, tmp_path / "a", "all", replaces=[sent("other", ("verdict", 0))]))
    assert [predecessor(sr) for sr in both] == [uids_of("other", "verdict", 0), None]
    (first, _) = srs(walk(paths, tmp_path / "b", "all", replaces=[sent("x", ("sr", 0)), sent("y", ("verdict", 0))]))
    assert predecessors(first) == [uids_of("x", "sr", 0), uids_of("y", "verdict", 0)]


def test_each_destination_is_told_of_what_it_has(make: Callable[..., list[Path]], tmp_path: Path):
    """An SR supersedes the one of its own name; one that is new there the one of its kind."""
    profiles = [Profile(), Profile(seg_type="labelmap"), Profile(sr_class="comprehensive")]
    replaces = [sent("before", ("sr", 0), ("sr_comprehensive", 0))]
    reported = walk(make(), tmp_path, profiles=profiles, replaces=replaces)
    by_name = {result.form.name: result.path for result in reported.results}
    assert predecessor(by_name["sr"]) == predecessor(by_name["sr_labelmap"]) == uids_of("before", "sr", 0)
    assert predecessor(by_name["sr_comprehensive"]) == uids_of("before", "sr_comprehensive", 0)
    (study,) = dcmread(by_name["sr_comprehensive"]).PredecessorDocumentsSequence
    reference = study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert reference.ReferencedSOPClassUID == ComprehensiveSRStorage


def test_diameters_of_lesions_that_are_gone_are_superseded(make: Callable[..., list[Path]], tmp_path: Path):
    """By one of their kind that says so, wherever they went; where there were none, there is none."""
    profiles = [Profile(("sr", "sr_bidirectional"))]
    for number, before in enumerate((sent("before", ("sr", 0), ("sr_bidirectional", 0)), sent("x", ("sr", 0)))):
        reported = walk(make(), tmp_path / str(number), profiles=profiles, revision=2, replaces=[before])
        named = {result.form.name: predecessor(result.path) for result in reported.results if result.form.name != "seg"}
        job = "x" if number else "before"
        assert named == {sr.form.name: uids_of(job, sr.form.name, 0) for sr in before.srs}
        if not number:
            said = dcmread(next(r.path for r in reported.results if r.form.name == "sr_bidirectional"))
            assert said.ConceptNameCodeSequence[0].CodeValue == "126001"
            assert "No liver lesion was found." in texts(said)


def test_one_sr_supersedes_the_one_of_findings(make: Callable[..., list[Path]], tmp_path: Path):
    """A destination that asks for another form than before still sees which is the later one; and back again."""
    for before, now in (("sr", "sr_combined"), ("sr_combined", "sr")):
        profiles = [Profile(("seg", now))]
        reported = walk(make(), tmp_path / now, profiles=profiles, revision=2, replaces=[sent("before", (before, 0))])
        assert objects(reported) == [(0, "seg"), (0, now)]
        assert predecessor(reported.results[1].path) == uids_of("before", before, 0)


def test_no_diameters_take_a_place_that_is_not_theirs(make: Callable[..., list[Path]], tmp_path: Path):
    """A verdict and the one SR are superseded by that of findings; without lesions one of diameters would be idle."""
    profiles = [Profile(("seg", "sr", "sr_bidirectional"))]
    for before in ("verdict", "sr_combined"):
        reported = walk(make(), tmp_path / before, profiles=profiles, replaces=[sent("before", (before, 0))])
        assert objects(reported) == [(0, "seg"), (0, "sr")]
        assert predecessor(reported.results[1].path) == uids_of("before", before, 0)


@pytest.mark.parametrize("before", ["verdict", "sr", "sr_combined", "sr_bidirectional"])
def test_who_takes_diameters_alone_is_told_that_there_are_none(
    make: Callable[..., list[Path]], tmp_path: Path, before: str
):
    """There is no other SR that could say that what was said before is past."""
    profiles = [Profile(("sr_bidirectional",))]
    reported = walk(make(), tmp_path, profiles=profiles, replaces=[sent("before", (before, 0))])
    (said,) = [result.path for result in reported.results if result.form.name == "sr_bidirectional"]
    assert predecessor(said) == uids_of("before", before, 0)
    assert "No liver lesion was found." in texts(dcmread(said))


def test_one_sr_supersedes_two(make: Callable[..., list[Path]], tmp_path: Path):
    """Findings and diameters, of each volume."""
    before = sent("before", ("sr", 0), ("sr_bidirectional", 0))
    reported = walk(make(), tmp_path, profiles=[Profile(("sr_combined",))], revision=2, replaces=[before])
    (sr,) = [result.path for result in reported.results if result.form.name == "sr_combined"]
    assert predecessors(sr) == [uids_of("before", name, 0) for name in ("sr", "sr_bidirectional")]


# --- what a destination takes


def test_a_plain_destination_gets_the_bytes_it_always_got(make: Callable[..., list[Path]], tmp_path: Path):
    """Whatever others beside it ask for."""
    paths = make()
    everything = ("seg", "sr", "sr_bidirectional")
    others = [Profile(everything, "labelmap", "comprehensive"), Profile(everything)]
    alone, among = walk(paths, tmp_path / "a"), walk(paths, tmp_path / "b", profiles=[*others, Profile()])
    found = {result.form.name: result for result in among.results}
    for result in alone.results:
        assert found[result.form.name].path.read_bytes() == result.path.read_bytes()
    assert found["seg"].sop_instance_uid == identity().seg_sop_instance_uid
    assert found["sr"].series_instance_uid == identity().sr_series_instance_uid


def test_every_form_is_an_object_of_its_own(make: Callable[..., list[Path]], tmp_path: Path):
    """Each once, under UIDs of its own; each SR refers to the SEG that goes to the same place."""
    profiles = [
        Profile(seg_type=seg_type, sr_class=sr_class)  # type: ignore[arg-type]
        for seg_type in ("binary", "labelmap")
        for sr_class in ("comprehensive_3d", "comprehensive")
    ]
    reported = walk(make(), tmp_path, profiles=profiles)
    objects = {result.form.name: dcmread(result.path) for result in reported.results}
    assert set(objects) == {
        *("seg", "seg_labelmap"),
        *("sr", "sr_comprehensive", "sr_labelmap", "sr_labelmap_comprehensive"),
    }
    assert len({result.sop_instance_uid for result in reported.results}) == 6
    assert len({result.series_instance_uid for result in reported.results}) == 6
    for profile in profiles:
        sr, seg = objects[profile.form_of("sr").name], objects[profile.form_of("seg").name]
        assert sr.SOPClassUID == SR_CLASSES[profile.sr_class]
        assert str(seg.SOPInstanceUID) in texts(sr)
        other = objects["seg" if seg is objects["seg_labelmap"] else "seg_labelmap"]
        assert str(other.SOPInstanceUID) not in texts(sr)
    binary, labelmap = (read_seg(tmp_path / "outbox" / "0" / f"{name}.dcm") for name in ("seg", "seg_labelmap"))
    assert [segment.number for segment in labelmap] == [segment.number for segment in binary] == [1]
    assert np.array_equal(labelmap[0].masks, binary[0].masks)
    assert np.array_equal(labelmap[0].origins_lps_mm, binary[0].origins_lps_mm)


def test_an_sr_without_its_seg_is_still_proved(make: Callable[..., list[Path]], tmp_path: Path):
    """The SEG is in the outbox, and a result, for the pipeline to send to nobody."""
    reported = walk(make(), tmp_path, profiles=[Profile(("sr",), "labelmap")])
    assert [result.form.name for result in reported.results] == ["seg_labelmap", "sr_labelmap"]


def test_diameters_are_there_where_there_are_lesions(make: Callable[..., list[Path]], tmp_path: Path):
    """The first volume has one, the second none: its other SR says so."""

    def with_lesion(ds: Dataset) -> None:
        if 4 <= ds.InstanceNumber - 1 <= 8:
            pixels = np.frombuffer(ds.PixelData, np.int16).reshape(24, 20).copy()
            pixels[9:13, 8:12] = LESION_HU - int(ds.RescaleIntercept)
            ds.PixelData = pixels.tobytes()

    profiles = [Profile(("seg", "sr", "sr_bidirectional"))]
    reported = walk(make(1, change=with_lesion) + make(2), tmp_path, "all", profiles=profiles)
    assert objects(reported) == [(0, "seg"), (0, "sr"), (0, "sr_bidirectional"), (1, "seg"), (1, "sr")]
    diameters = dcmread(reported.results[2].path)
    assert diameters.SeriesDescription.startswith("Porta: diameters")
    assert read_seg(reported.results[0].path)[1].tracking_uid in texts(diameters)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Case]:
    """The cases of which key images are made."""
    cases: list[Case] = []
    builder = key_images.build_key_images

    def build(case: Case) -> list[Dataset]:
        cases.append(case)
        return builder(case)

    monkeypatch.setattr(key_images, "build_key_images", build)
    return cases


def test_objects_that_are_alike_for_all(make: Callable[..., list[Path]], tmp_path: Path, seen: list[Case]):
    """Made once for all who ask for them, each written once, and sent like any other."""
    asking = Profile(("seg", "sr", "key_images"))
    paths = make()
    reported = walk(paths, tmp_path, profiles=[Profile(), asking, replace(asking, sr_class="comprehensive")])
    found = [result for result in reported.results if result.form.name == "key_images"]
    assert [result.path.name for result in found] == ["key_images-1.dcm", "key_images-2.dcm"]
    uids = [identity().sop_instance_uid(f"key_images-{number}") for number in (1, 2)]
    assert [result.sop_instance_uid for result in found] == uids
    assert len(seen) == 1
    before = [result.path.stat().st_mtime_ns for result in found]
    assert report(paths, tmp_path, profiles=[asking]).results[-2:] == tuple(found)
    assert [result.path.stat().st_mtime_ns for result in found] == before


@pytest.fixture
def sure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is asked for probabilities too: 200 in the liver, 90 on a rim around it."""

    def segment(model: object, volume: Volume, progress: object = None) -> tuple[Segmentation, Probabilities]:
        segmentation = stages.segment(model, volume)
        liver = np.where(segmentation.labels > 0, 200, np.where(volume.array[:, :1] < 0, 90, 0)).astype(np.uint8)
        return segmentation, Probabilities(liver, (segmentation.labels == 2).astype(np.uint8) * 150)

    monkeypatch.setattr(stages, "segment_with_probabilities", segment)


ASKING = Profile(("seg", "sr", "probability"))


def test_probability_goes_to_who_asks(make: Callable[..., list[Path]], tmp_path: Path, sure: None):
    """Kept by the first stage, proved by the second, once for all who take it, and sent again as it is."""
    paths = make()
    segment(paths, tmp_path, profiles=[Profile(), ASKING])
    assert (tmp_path / "work" / "0" / "probabilities.npz").exists()
    reported = report(paths, tmp_path, profiles=[Profile(), ASKING, replace(ASKING, sr_class="comprehensive")])
    assert objects(reported) == [(0, "seg"), (0, "sr"), (0, "sr_comprehensive"), (0, "probability")]
    result = next(result for result in reported.results if result.form.name == "probability")
    assert result.path.name == "probability.dcm"
    liver, tumour = read_fractions(result.path)
    assert set(np.unique(liver.fractions)) == {90, 200} and not len(tumour.masks)
    written = result.path.stat().st_mtime_ns
    assert report(paths, tmp_path, profiles=[ASKING]).results[-1] == result
    assert result.path.stat().st_mtime_ns == written


def test_probability_that_nobody_asked_for_is_not_made(make: Callable[..., list[Path]], tmp_path: Path):
    """Nor after the configuration was changed between the stages: what was not kept cannot be sent."""
    reported = walk(make(), tmp_path, profiles=[ASKING])
    assert objects(reported) == [(0, "seg"), (0, "sr")]


def test_no_liver_no_probability(make: Callable[..., list[Path]], tmp_path: Path, sure: None):
    """However unsure the network was."""

    def empty(ds: Dataset) -> None:
        ds.PixelData = bytes(len(ds.PixelData))
        ds.RescaleIntercept = -500

    paths = make(change=empty)
    segment(paths, tmp_path, profiles=[ASKING])
    assert objects(report(paths, tmp_path, profiles=[ASKING])) == [(0, "sr")]


def test_probability_that_lies_elsewhere_is_held_back(
    make: Callable[..., list[Path]], tmp_path: Path, sure: None, monkeypatch: pytest.MonkeyPatch
):
    """As a SEG is: put aside, and nothing is sent."""

    def refuse(*args: object) -> None:
        raise GeometryNotProved("a voxel differs")

    monkeypatch.setattr(verification, "verify_fractions", refuse)
    paths = make()
    segment(paths, tmp_path, profiles=[ASKING])
    with pytest.raises(GeometryNotProved):
        report(paths, tmp_path, profiles=[ASKING])
    assert (tmp_path / "outbox" / "0" / "probability.dcm.held-back").exists()


EXPLAINING = Profile(("sr", "explain"))


def with_lesion(ds: Dataset) -> None:
    """A block of 200 in the liver of every slice that has one."""
    array = ds.pixel_array.copy()
    inside = array[6:18, 5:15] == array.max()
    if inside.all():
        array[9:15, 7:13] += LESION_HU - LIVER_HU
    ds.PixelData = array.tobytes()


def test_explanations_go_to_who_asks(make: Callable[..., list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The first stage has the network and keeps its maps; the second draws them on the lesion's key slice."""
    asked: list[int] = []

    def gradcam(scene: Volume, segment: int) -> Heat:
        asked.append(segment)
        return Heat(3, np.linspace(0, 1, 6 * 24 * 20, dtype=np.float32).reshape(6, 24, 20))

    monkeypatch.setattr(stages, "look", lambda model, volume, segmentation: volume)
    monkeypatch.setattr(stages, "gradcam", gradcam)
    paths = make(change=with_lesion)
    segment(paths, tmp_path, profiles=[Profile(), EXPLAINING])
    assert asked == [2]
    kept = load_explanations(tmp_path / "work" / "0")[1]
    np.testing.assert_allclose(kept.values, gradcam(None, 2).values, atol=0.5 / 255)
    assert kept.first == 3
    reported = report(paths, tmp_path, profiles=[Profile(), EXPLAINING])
    assert objects(reported) == [(0, "seg"), (0, "sr"), (0, "explain")]
    ds = dcmread(reported.results[-1].path)
    assert (ds.ImageComments, ds.SeriesNumber) == ("Grad-CAM of lesion 1", 9007)
    findings = json.loads((tmp_path / "outbox" / "0" / "findings.json").read_text())
    (source,) = ds.SourceImageSequence
    assert source.ReferencedSOPInstanceUID == findings["lesions"][0]["key_sop_instance_uid"]


def test_an_explanation_without_memory_costs_nothing_else(
    make: Callable[..., list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_log: Any
):
    """The segmentation is there; a line says that the pictures are not."""

    def gradcam(scene: Volume, segment: int) -> Heat:
        raise MemoryError

    monkeypatch.setattr(stages, "look", lambda model, volume, segmentation: volume)
    monkeypatch.setattr(stages, "gradcam", gradcam)
    paths = make(change=with_lesion)
    segment(paths, tmp_path, profiles=[EXPLAINING])
    assert objects(report(paths, tmp_path, profiles=[EXPLAINING])) == [(0, "seg"), (0, "sr")]
    assert [line["lesions"] for line in read_log.named("explanation.left_out")] == [1]


def test_the_log_has_the_device_of_each_model(read_log: Any):
    """Once for each worker: one that found no GPU computes on the CPU for as long as it lives."""
    model_on.cache_clear()
    for _ in range(2):
        model_on("resnet50", Engine(device="cpu"))
    (line,) = read_log.named("model.loaded")
    assert (line["model"], line["device"]) == ("resnet50", "cpu")
    assert "dropped" not in line


def test_without_a_lesion_nothing_is_explained(make: Callable[..., list[Path]], tmp_path: Path):
    """Nor is the network asked again."""
    paths = make()
    segment(paths, tmp_path, profiles=[EXPLAINING])
    assert objects(report(paths, tmp_path, profiles=[EXPLAINING])) == [(0, "seg"), (0, "sr")]


def test_a_seg_that_is_held_back_is_made_anew(
    make: Callable[..., list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A retry with a mended program can help; the wrong one is kept for whoever looks into it."""
    paths = make()

    def refuse(*args: object) -> None:
        raise GeometryNotProved("12 mm off")

    with monkeypatch.context() as patch, pytest.raises(GeometryNotProved):
        patch.setattr(verification, "verify_seg", refuse)
        walk(paths, tmp_path)
    assert [path.name for path in (tmp_path / "outbox" / "0").iterdir()] == ["seg.dcm.held-back"]
    assert objects(report(paths, tmp_path)) == [(0, "seg"), (0, "sr")]


# --- why there are no results


def verdict(paths: list[Path], folder: Path, code: str, **options: Any) -> Reported:
    values = {"model": "resnet50"} | options
    return report_verdict(
        VerdictRequest(paths=tuple(paths), outbox=folder / "outbox", identity=identity(), code=code, **values)
    )


def test_a_verdict_says_why_with_the_figures(make: Callable[..., list[Path]], tmp_path: Path):
    """In the study, of all images, with a name of its own, beside no other object."""
    paths = make()[:3]
    (result,) = verdict(paths, tmp_path, "TOO_FEW_SLICES").results
    ds = dcmread(result.path)
    assert (result.form.name, result.path.relative_to(tmp_path).as_posix()) == ("verdict", "outbox/0/verdict.dcm")
    assert (ds.StudyInstanceUID, ds.SOPInstanceUID) == (STUDY, identity().sop_instance_uid("verdict"))
    assert ds.SeriesDescription == "Porta: not processed"
    assert "NOT PROCESSED. The series has too few slices to be a volume. 3 of at least 5." in texts(ds)
    (study,) = ds.CurrentRequestedProcedureEvidenceSequence
    assert len(study.ReferencedSeriesSequence[0].ReferencedSOPSequence) == 3
    assert ds.SOPInstanceUID != identity().sr_sop_instance_uid


def test_results_have_the_keys_of_the_images(make: Callable[..., list[Path]], tmp_path: Path, read_log: Any):
    """As they stand there, in the verdict too; what has no valid form is named, without its value."""
    content = {"PatientName": b"ZZPHI\\CANARY^ ", "StudyDate": b"1961.03.09", "PatientAge": b"ZZPHI CANARY"}

    def state(ds: Dataset) -> None:
        for keyword, value in content.items():
            tag = Tag(keyword)
            ds[tag] = RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, False, True)

    paths = make(change=state)
    results = walk(paths, tmp_path).results + verdict(paths, tmp_path / "verdict", "TOO_LARGE").results
    assert [result.form.name for result in results] == ["seg", "sr", "verdict"]
    for result in results:
        ds = dcmread(result.path)
        assert [ds.get_item(Tag(name)).value for name in ("PatientName", "StudyDate")] == list(content.values())[:2]
        assert "PatientAge" not in ds
    assert [line["attributes"] for line in read_log.named("attributes.left_out")] == [["PatientAge"]] * 2


def test_a_verdict_whose_figures_are_gone_says_the_sentence(make: Callable[..., list[Path]], tmp_path: Path):
    """What only a decoder saw, or another configuration."""
    (result,) = verdict(make(), tmp_path, "UNREADABLE_PIXELS").results
    assert "NOT PROCESSED. The pixel data of an image cannot be decoded." in texts(dcmread(result.path))


def test_a_seg_that_was_held_back_is_said_in_words(make: Callable[..., list[Path]], tmp_path: Path):
    (result,) = verdict(make(), tmp_path, "GEOMETRY_NOT_PROVED").results
    assert "was held back" in texts(dcmread(result.path))


def test_a_verdict_in_each_class_that_is_asked_for(make: Callable[..., list[Path]], tmp_path: Path):
    """For who takes an SR; it supersedes the verdict before it, in its own class where there is one."""
    profiles = (
        Profile(("seg",)),
        Profile(),
        Profile(("sr_bidirectional",), "labelmap"),
        Profile(sr_class="comprehensive"),
    )
    replaced = [sent("before", ("verdict", 0), ("verdict_comprehensive", 0))]
    reported = verdict(make(), tmp_path, "TOO_LARGE", profiles=profiles, replaced=replaced)
    assert [result.form.name for result in reported.results] == ["verdict", "verdict_comprehensive"]
    for result, sr_class in zip(reported.results, SR_CLASSES, strict=True):
        assert dcmread(result.path).SOPClassUID == SR_CLASSES[sr_class]
        assert predecessor(result.path) == uids_of("before", result.form.name, 0)


@pytest.mark.parametrize("keyword", ["PatientID", "StudyInstanceUID"])
def test_each_patient_and_study_is_told(make: Callable[..., list[Path]], tmp_path: Path, keyword: str):
    """Whose the images are is not certain: an SR in each place, of the images that are filed there."""
    other = {"PatientID": "EX-002", "StudyInstanceUID": f"{STUDY}.2"}[keyword]
    paths = make()
    for path in paths[9:]:
        ds = dcmread(path)
        setattr(ds, keyword, other)
        ds.save_as(path)
    results = verdict(paths, tmp_path, "MIXED_IDENTITY").results
    told = [dcmread(result.path) for result in results]
    assert [ds[keyword].value for ds in told] == [dcmread(paths[0])[keyword].value, other]
    assert [result.study_instance_uid for result in results] == [ds.StudyInstanceUID for ds in told]
    assert len({ds.SOPInstanceUID for ds in told} | {ds.SeriesInstanceUID for ds in told}) == 4
    for ds, images in zip(told, (9, 5), strict=True):
        assert f"NOT PROCESSED. {RejectReason.MIXED_IDENTITY.sentence} They differ in {keyword}." in texts(ds)
        (study,) = ds.CurrentRequestedProcedureEvidenceSequence
        assert study.StudyInstanceUID == ds.StudyInstanceUID
        assert len(study.ReferencedSeriesSequence[0].ReferencedSOPSequence) == images
    assert verdict(paths, tmp_path, "MIXED_IDENTITY").results == results


def test_what_was_sent_elsewhere_is_not_superseded(make: Callable[..., list[Path]], tmp_path: Path):
    """The images came again as another patient's. What takes back the results of the first is filed with them."""

    def corrected(ds: Dataset) -> None:
        ds.PatientID = "EX-002"

    before = [Path(shutil.copy(path, tmp_path / f"before-{path.name}")) for path in make()]
    after = make(change=corrected)
    first = walk(before, tmp_path / "1")
    (sr,) = (result for result in first.results if result.form.name == "sr")
    told = Replaced((SentSr(sr.form, 0, sr.series_instance_uid, sr.sop_instance_uid, sr.path, 1),))
    (back,) = verdict(before, tmp_path / "2", "REASSIGNED", replaced=(told,), current=tuple(after)).results
    assert predecessor(back.path) == (sr.series_instance_uid, sr.sop_instance_uid)
    assert RejectReason.REASSIGNED.sentence in texts(dcmread(back.path))
    assert dcmread(back.path).PatientID == dcmread(before[0]).PatientID
    taken_back = SentSr(back.form, 0, back.series_instance_uid, back.sop_instance_uid, back.path, 2)
    all_told = Replaced((taken_back, *told.srs))
    (new,) = srs(walk(after, tmp_path / "3", revision=3, replaces=[all_told]))
    assert (dcmread(new).PatientID, predecessor(new)) == ("EX-002", None)
    (again,) = srs(walk(before, tmp_path / "4", revision=4, replaces=[all_told]))
    assert predecessor(again) == (back.series_instance_uid, back.sop_instance_uid)
    assert verdict(after, tmp_path / "5", "REASSIGNED", current=tuple(after)).results == ()


def test_a_verdict_is_written_once(make: Callable[..., list[Path]], tmp_path: Path):
    paths = make()
    (result,) = verdict(paths, tmp_path, "TOO_LARGE").results
    before = result.path.read_bytes()
    assert verdict(paths, tmp_path, "TOO_LARGE").results == (result,)
    result.path.unlink()
    verdict(paths, tmp_path, "TOO_LARGE")
    assert result.path.read_bytes() == before


REFUSED = [
    ("dcm_qa_mr/philips_enhanced_mr_plus_raw_data_same_series_dicom", "TOO_SHORT"),
    ("hcc_tace_seg_007/ct_precontrast_10mm_dicom", "UNREADABLE_PIXELS"),
]


@pytest.mark.parametrize(("name", "code"), REFUSED)
def test_real_series_are_told_of(unpacked: Callable[[str], list[Path]], tmp_path: Path, name: str, code: str):
    (result,) = verdict(unpacked(name), tmp_path, code).results
    assert "NOT PROCESSED" in texts(dcmread(result.path))


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


def test_the_percent_that_is_done_lies_in_the_work_folder(
    make: Callable[..., list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A number that only grows, over both passes of both volumes; it is on no path that a result depends on."""
    usual, seen = stages.segment, list[int]()

    def watched(model: Any, volume: Volume, progress: Any) -> Segmentation:
        for done, of in ((0, 4), (2, 4), (0, 10), (5, 10), (0, 20), (19, 20)):
            progress(done, of)
            seen.append(int((tmp_path / "work" / "progress").read_text()))
        return usual(model, volume, progress)

    monkeypatch.setattr(stages, "segment", watched)
    segment([*make(1), *make(2)], tmp_path, "all")
    assert seen == [0, 2, 5, 27, 27, 47, 50, 52, 55, 77, 77, 97]


def test_a_shadow_is_compared_on_every_volume_and_writes_nothing(
    make: Callable[..., list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """With the labels that the rule's own model left; the labels, and all else that is there, stay as they were."""
    paths = [*make(1), *make(2)]
    segment(paths, tmp_path, "all")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    other = SimpleNamespace(card=SimpleNamespace(version="2.0", sha256="cd" * 32))

    def smaller(model: object, volume: Volume) -> Segmentation:
        assert model is other
        labels = (volume.array > LIVER_HU / 2).astype(np.uint8)
        labels[:, :9] = 0
        labels[6, 10, 10] = 2
        return Segmentation(labels, volume.geometry, Algorithm("smaller", "2.0", "cd" * 32))

    monkeypatch.setattr(stages, "model_on", lambda name, engine: other)
    monkeypatch.setattr(stages, "segment", smaller)
    compared = shadow_series(ShadowRequest(tuple(paths), "resnet50", Engine(), tmp_path / "work"))
    assert (compared.version, compared.sha256) == ("2.0", "cd" * 32)
    assert [volume["volume_index"] for volume in compared.volumes] == [0, 1]
    for volume in compared.volumes:
        assert volume["liver_rvd"] == pytest.approx(9 / 12 - 1, abs=1e-4)
        assert volume["liver_dice"] == pytest.approx(2 * 9 / (12 + 9), abs=1e-4)
        assert (volume["lesions"], volume["shadow_lesions"], volume["lesion_dice"]) == (0, 1, 0.0)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_shadow_for_another_modality_is_refused(make: Callable[..., list[Path]], tmp_path: Path):
    """Before anything is loaded."""
    mr = make(change=as_mr)
    with pytest.raises(SeriesRejected) as refused:
        shadow_series(ShadowRequest(tuple(mr), "resnet50", Engine(), tmp_path / "work"))
    assert refused.value.reason == RejectReason.NO_MODEL


def as_mr(ds: Dataset) -> None:
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = MRImageStorage
    ds.Modality = "MR"
