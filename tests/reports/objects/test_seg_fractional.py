"""The FRACTIONAL SEG: every value comes back where it was, for several readers, and validators agree."""

import io
import subprocess
from dataclasses import replace

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom import Dataset

from dicom_io.errors import SegmentationUnreadable
from dicom_io.seg_reader import read_fractions, read_seg
from reports.errors import GeometryNotProved
from reports.objects.seg_fractional import build_fractional_seg
from reports.objects.verification import verify_fractions


def drawn(case) -> dict[int, np.ndarray]:
    """Probabilities that differ in every voxel of the liver, and run out towards its edge."""
    labels, draw = case.segmentation.labels, np.random.default_rng(5)
    liver = np.where(labels > 0, draw.integers(1, 256, labels.shape), 0).astype(np.uint8)
    tumour = np.where(labels > 1, draw.integers(0, 256, labels.shape), 0).astype(np.uint8)
    return {1: liver, 2: np.minimum(liver, tumour)}


def build(case, probabilities, identity) -> Dataset:
    (ds,) = build_fractional_seg(case.under(identity, probabilities=probabilities))
    return ds


def written(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def verify(case, path, probabilities) -> None:
    verify_fractions(path, case.under(probabilities=probabilities))


STACKS = {
    "plain": {},
    "rows back": {"orientation": (1, 0, 0, 0, -1, 0)},
    "sagittal": {"orientation": (0, 1, 0, 0, 0, -1)},
    "oblique": {"orientation": (0.6, 0.64, 0.48, -0.8, 0.48, 0.36)},
    "missing": {"positions_mm": np.delete(np.arange(16) * 2.5, [4, 9])},
    "uneven": {"positions_mm": np.cumsum(np.linspace(2, 3.3, 14))},
    "tilted": {"drift_mm": 0.2},
    "frames": {"frame_numbers": range(15, 29), "modality": "MR"},
}


@pytest.mark.parametrize("name", STACKS)
def test_every_value_comes_back_on_its_slice(make_case, identity, validate, tmp_path, name) -> None:
    """By our own reader and by highdicom's, within nothing at all; dciodvfy has nothing to say."""
    case = make_case(**STACKS[name])
    probabilities = drawn(case)
    seg = build(case, probabilities, identity)
    path = tmp_path / "probability.dcm"
    path.write_bytes(written(seg))
    verify(case, path, probabilities)
    if name != "frames":
        read = hd.seg.segread(path).get_pixels_by_source_instance(case.volume.sop_instance_uids)
        for segment, values in probabilities.items():
            np.testing.assert_allclose(read[..., segment - 1], values / 255, atol=1e-6)
    assert validate(seg) == []


@pytest.mark.parametrize("series", ["ircadb_case17", "chaos_ct3", "lits_volume0"])
def test_real_series(real_case, identity, validate, tmp_path, series) -> None:
    """Of other scanners, with what stands in their headers: proved, and clean in dciodvfy."""
    case = real_case(series)
    probabilities = drawn(case)
    seg, path = build(case, probabilities, identity), tmp_path / "probability.dcm"
    path.write_bytes(written(seg))
    verify(case, path, probabilities)
    assert validate(seg) == []


def test_what_it_says(make_case, identity) -> None:
    """Type, maximum, overlap, segments; its own series after the PDF's, with the references that the SEG has."""
    case = make_case()
    seg, binary = build(case, drawn(case), replace(identity, volume_index=1)), case.seg()
    assert (seg.SegmentationType, seg.SegmentationFractionalType, seg.MaximumFractionalValue) == (
        "FRACTIONAL", "PROBABILITY", 255,
    )  # fmt: skip
    assert (seg.SegmentsOverlap, seg.SeriesNumber, seg.SeriesDescription) == ("YES", 9016, "Porta: probability")
    assert seg.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.5"
    assert [item.SegmentNumber for item in seg.SegmentSequence] == [1, 2]
    assert seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue == "10200004"
    assert seg.SegmentSequence[1].SegmentedPropertyTypeCodeSequence[0].CodeValue == "4147007"
    assert len({seg.SeriesInstanceUID, binary.SeriesInstanceUID, seg.SOPInstanceUID, binary.SOPInstanceUID}) == 4
    assert seg.ReferencedSeriesSequence == binary.ReferencedSeriesSequence
    for keyword in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert seg[keyword].value == binary[keyword].value
    planes = {segment: np.flatnonzero(values.any(axis=(1, 2))) for segment, values in drawn(case).items()}
    assert seg.NumberOfFrames == sum(map(len, planes.values()))


def test_the_same_input_gives_the_same_bytes(make_case, identity) -> None:
    """An edge walked twice sends the same object."""
    case = make_case()
    assert written(build(case, drawn(case), identity)) == written(build(case, drawn(case), identity))


def test_no_tumour_is_no_frame(make_case, identity, validate, tmp_path) -> None:
    """The segment is there and empty: looked for, and nowhere."""
    case = make_case()
    probabilities = {1: drawn(case)[1], 2: np.zeros_like(drawn(case)[2])}
    seg = build(case, probabilities, identity)
    (tmp_path / "seg.dcm").write_bytes(written(seg))
    assert [len(segment.masks) > 0 for segment in read_fractions(tmp_path / "seg.dcm")] == [True, False]
    verify(case, tmp_path / "seg.dcm", probabilities)
    assert validate(seg) == []


def test_nothing_at_all_is_no_seg(make_case, identity) -> None:
    """And arrays of another grid are a programmer's mistake."""
    case = make_case()
    empty = np.zeros(case.segmentation.labels.shape, np.uint8)
    with pytest.raises(ValueError, match="every probability is 0"):
        build(case, {1: empty, 2: empty}, identity)
    with pytest.raises(ValueError, match="on the volume's grid"):
        build(case, {1: empty[1:], 2: empty}, identity)


@pytest.mark.parametrize("name", ["plain", "rows back", "missing"])
def test_dcmqi_finds_every_value(make_case, identity, require_binary, tmp_path, name) -> None:
    """Slicer's reader: an image for each of the two, which overlap, of what is stored."""
    case = make_case(**STACKS[name])
    probabilities, geometry = drawn(case), case.volume.geometry
    (tmp_path / "seg.dcm").write_bytes(written(build(case, probabilities, identity)))
    command = [require_binary("segimage2itkimage"), "--inputDICOM", str(tmp_path / "seg.dcm")]
    subprocess.run([*command, "--outputDirectory", str(tmp_path), "-t", "nrrd", "-p", "s"], check=True)
    for segment, values in probabilities.items():
        image = sitk.ReadImage(str(tmp_path / f"s-{segment}.nrrd"))
        found = sitk.GetArrayFromImage(image)
        index = np.argwhere(found)
        places = [image.TransformIndexToPhysicalPoint([int(i) for i in where[::-1]]) for where in index]
        plane, row, column = np.rint(geometry.lps_to_index(places)).astype(int).T
        np.testing.assert_array_equal(found[tuple(index.T)], values[plane, row, column])
        assert len(index) == np.count_nonzero(values)


@pytest.mark.parametrize("wrong", ["value", "slice", "shifted", "left out"])
def test_what_is_wrong_is_found(make_case, identity, tmp_path, wrong) -> None:
    """One voxel off by one, a slice that is not there, frames that name another image, and no SEG of this type."""
    case = make_case()
    probabilities = drawn(case)
    seg, path = build(case, probabilities, identity), tmp_path / "seg.dcm"
    if wrong == "value":
        probabilities[1] = probabilities[1].copy()
        probabilities[1][tuple(np.argwhere(probabilities[1])[7])] -= 1
    elif wrong == "slice":
        empty = np.flatnonzero(~probabilities[2].any(axis=(1, 2)))[0]
        probabilities[2] = probabilities[2].copy()
        probabilities[2][empty, 3, 3] = 9
    elif wrong == "shifted":
        for frame in seg.PerFrameFunctionalGroupsSequence:
            position = frame.PlanePositionSequence[0].ImagePositionPatient
            position[2] = position[2] + 2.5
    else:
        seg = case.seg()
    path.write_bytes(written(seg))
    with pytest.raises(GeometryNotProved):
        verify(case, path, probabilities)


def test_readers_take_half_as_inside(make_case, identity) -> None:
    """`read_seg` of a FRACTIONAL SEG gives masks; of a BINARY one there are no fractions."""
    case = make_case()
    probabilities = drawn(case)
    ds = pydicom.dcmread(io.BytesIO(written(build(case, probabilities, identity))))
    for segment in read_seg(ds):
        assert segment.counts.sum() == np.count_nonzero(probabilities[segment.number] >= 128)
    with pytest.raises(SegmentationUnreadable, match="not fractional"):
        read_fractions(case.seg())
