"""SEG objects of other makers, read with pydicom alone and compared with what others read."""

import io
from collections.abc import Callable
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from dicom_io.errors import SegmentationUnreadable
from dicom_io.seg_reader import read_seg


@pytest.fixture
def reference(shared_data: Path) -> Callable[[str], Path]:
    def path(name: str) -> Path:
        return shared_data / name

    return path


def minimal_seg(pixels: np.ndarray, **changes: object) -> Dataset:
    """A BINARY SEG of one segment, one frame per plane of `pixels`, 2 mm apart."""
    ds = Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.3.4.5"
    ds.FrameOfReferenceUID, ds.SegmentationType = "1.2.3", "BINARY"
    ds.NumberOfFrames, ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated = 1
    segment = Dataset()
    segment.SegmentNumber, segment.SegmentLabel = 1, "Liver"
    ds.SegmentSequence = [segment]
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [0.5, 0.25]
    orientation.ImageOrientationPatient = [1, 0, 0, 0, -1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    ds.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for index in range(len(pixels)):
        position, identification, frame = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [10, 20, 30 + 2 * index]
        identification.ReferencedSegmentNumber = 1
        frame.PlanePositionSequence, frame.SegmentIdentificationSequence = [position], [identification]
        frames.append(frame)
    ds.PerFrameFunctionalGroupsSequence = frames
    packed = np.packbits(pixels.astype(np.uint8).ravel(), bitorder="little").tobytes()
    ds.PixelData = packed + b"\0" * (len(packed) % 2)
    ds["PixelData"].VR = "OB"
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return ds


@pytest.fixture
def pixels() -> np.ndarray:
    array = np.zeros((4, 5, 7), bool)
    array[1, 2, 3:6] = True
    array[2, 1, 0] = True
    return array


def test_voxels_are_placed_in_patient_space(pixels) -> None:
    """Rows run to the front, so the normal points down: frames come sorted along it, sizes from the object."""
    (segment,) = read_seg(minimal_seg(pixels))
    assert (segment.number, segment.label, segment.frame_of_reference_uid) == (1, "Liver", "1.2.3")
    np.testing.assert_array_equal(segment.normal, [0, 0, -1])
    np.testing.assert_array_equal(segment.origins_lps_mm[:, 2], [34, 32])
    np.testing.assert_array_equal(segment.masks[1], pixels[1])
    assert segment.volume_ml == pytest.approx(4 * 2 * 0.5 * 0.25 / 1000)
    expected = (3 * np.array([10 + 4 * 0.25, 20 - 2 * 0.5, 32]) + np.array([10, 20 - 0.5, 34])) / 4
    np.testing.assert_allclose(segment.centroid_lps_mm, expected)
    assert segment.source_sop_instance_uids == ((), ())


def test_spacing_between_slices_comes_before_positions(pixels) -> None:
    """Frames may be omitted; the stated spacing is the grid's."""
    ds = minimal_seg(pixels)
    ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = "1"
    (segment,) = read_seg(ds)
    assert segment.volume_ml == pytest.approx(4 * 1 * 0.5 * 0.25 / 1000)


def test_one_plane_takes_its_thickness(pixels) -> None:
    """And without one its volume is unknown, which is an error and no guess."""
    ds = minimal_seg(pixels[1:2])
    with pytest.raises(SegmentationUnreadable, match="thickness"):
        read_seg(ds)
    ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness = "3"
    assert read_seg(ds)[0].volume_ml == pytest.approx(3 * 3 * 0.5 * 0.25 / 1000)


def test_the_frames_of_a_source_are_named(pixels) -> None:
    """None is the whole image; an image with several frames stands there once for each."""
    ds = minimal_seg(pixels)
    for index, numbers in ((1, None), (2, [7, 9])):
        source, derivation = Dataset(), Dataset()
        source.ReferencedSOPInstanceUID = "1.2.3.9"
        if numbers:
            source.ReferencedFrameNumber = numbers
        derivation.SourceImageSequence = [source]
        ds.PerFrameFunctionalGroupsSequence[index].DerivationImageSequence = [derivation]
    (segment,) = read_seg(ds)
    assert segment.source_sop_instance_uids == (("1.2.3.9", "1.2.3.9"), ("1.2.3.9",))
    assert segment.source_frame_numbers == ((7, 9), (None,))


def test_an_empty_segment_has_no_centre(pixels) -> None:
    """It is listed, without frames."""
    (segment,) = read_seg(minimal_seg(np.zeros_like(pixels)))
    assert segment.masks.shape == (0, 5, 7) and segment.centroid_lps_mm is None and segment.volume_ml == 0


def test_little_and_big_endian_are_the_same_liver(reference) -> None:
    """pydicom's pair of one object in both."""
    (little,) = read_seg(reference("pydicom_small/liver_1frame.dcm"))
    (big,) = read_seg(reference("pydicom_small/liver_expb_1frame.dcm"))
    np.testing.assert_array_equal(little.masks, big.masks)
    np.testing.assert_allclose(little.centroid_lps_mm, big.centroid_lps_mm)
    expected = pydicom.dcmread(reference("pydicom_small/liver_1frame.dcm")).pixel_array
    assert little.counts.sum() == np.count_nonzero(expected)


@pytest.mark.parametrize("vr", ["OB", "OW"])
def test_big_endian_words_are_swapped_and_bytes_are_not(pixels, vr) -> None:
    """Bits in OW are a string of 16-bit words (PS3.5 section 8.1.1): a frame may end in the middle of one."""
    ds = minimal_seg(pixels)
    expected = read_seg(ds)[0].masks
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
    if vr == "OW":
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    ds["PixelData"].VR = vr
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    (segment,) = read_seg(pydicom.dcmread(io.BytesIO(buffer.getvalue())))
    np.testing.assert_array_equal(segment.masks, expected)


@pytest.mark.parametrize(
    "name",
    [
        "dcmqi_reference/liver.dcm",
        "dcmqi_reference/partial_overlaps.dcm",
        "highdicom_reference/seg_image_ct_binary.dcm",
        "highdicom_reference/seg_image_ct_binary_overlap.dcm",
    ],
)
def test_the_voxels_are_those_that_highdicom_finds(reference, name) -> None:
    """Frame for frame, overlapping segments too."""
    seg = hd.seg.segread(reference(name))
    segments = read_seg(reference(name))
    assert [segment.number for segment in segments] == sorted(seg.segment_numbers)
    stored = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    for segment in segments:
        frames = [
            index
            for index, item in enumerate(seg.PerFrameFunctionalGroupsSequence)
            if _identification(seg, item) == segment.number and stored[index].any()
        ]
        assert segment.counts.sum() == np.count_nonzero(stored[frames])
        positions = {
            tuple(map(float, seg.PerFrameFunctionalGroupsSequence[i].PlanePositionSequence[0].ImagePositionPatient)): i
            for i in frames
        }
        for origin, mask in zip(segment.origins_lps_mm, segment.masks, strict=True):
            np.testing.assert_array_equal(mask, stored[positions[tuple(origin)]].astype(bool))


def _identification(seg: Dataset, item: Dataset) -> int:
    shared = seg.SharedFunctionalGroupsSequence[0]
    sequence = item.get("SegmentIdentificationSequence") or shared.SegmentIdentificationSequence
    return int(sequence[0].ReferencedSegmentNumber)


def test_dcmqi_s_liver_has_its_published_volume(reference) -> None:
    """107,098 voxels on three slices 1 mm apart, named in the data's manifest."""
    (liver,) = read_seg(reference("dcmqi_reference/liver.dcm"))
    assert liver.label == "Liver" and int(liver.counts.sum()) == 107098
    assert all(len(sources) == 1 for sources in liver.source_sop_instance_uids)


@pytest.mark.parametrize("name", ["sparse-labelmap-noppv.dcm", "sparse-labelmap-ppv5.dcm"])
def test_label_maps_are_read(reference, name) -> None:
    """One frame holds several segments; the background is none of them."""
    ds = pydicom.dcmread(reference(f"dcmqi_reference/{name}"))
    segments = read_seg(ds)
    stored = ds.pixel_array
    assert segments and all(segment.number > 0 for segment in segments)
    for segment in segments:
        assert segment.counts.sum() == np.count_nonzero(stored == segment.number)


def test_half_of_a_fraction_is_inside(reference) -> None:
    """FRACTIONAL: from half of the maximum on."""
    path = reference("highdicom_reference/seg_image_ct_true_fractional.dcm")
    ds = pydicom.dcmread(path)
    (segment, *_) = read_seg(path)
    assert segment.counts.sum() == np.count_nonzero(ds.pixel_array >= int(ds.MaximumFractionalValue) / 2)


@pytest.mark.parametrize(
    "damage",
    [
        lambda ds: setattr(ds, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.2"),
        lambda ds: ds.__delattr__("SegmentSequence"),
        lambda ds: ds.__delattr__("FrameOfReferenceUID"),
        lambda ds: ds.__delattr__("PixelData"),
        lambda ds: ds.__delattr__("SharedFunctionalGroupsSequence"),
        lambda ds: setattr(ds, "NumberOfFrames", 40),
        lambda ds: setattr(ds, "PixelData", b"\0\0"),
        lambda ds: ds.PerFrameFunctionalGroupsSequence[0].__delattr__("PlanePositionSequence"),
        lambda ds: setattr(
            ds.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0], "ImagePositionPatient", [1, 2]
        ),
        lambda ds: setattr(
            ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0],
            "ImageOrientationPatient", [1, 0, 0, 1, 0, 0],
        ),
    ],
)  # fmt: skip
def test_a_broken_seg_is_unreadable(pixels, damage) -> None:
    """One error, whatever is wrong."""
    ds = minimal_seg(pixels)
    damage(ds)
    with pytest.raises(SegmentationUnreadable):
        read_seg(ds)


def test_files_that_are_no_seg_are_unreadable(tmp_path, pixels) -> None:
    """Text, nothing, and half a file."""
    path = tmp_path / "x.dcm"
    with pytest.raises(SegmentationUnreadable):
        read_seg(path)
    path.write_text("hello")
    with pytest.raises(SegmentationUnreadable):
        read_seg(path)
    buffer = io.BytesIO()
    minimal_seg(pixels).save_as(buffer, enforce_file_format=True)
    path.write_bytes(buffer.getvalue()[:-150])
    with pytest.raises(SegmentationUnreadable):
        read_seg(path)


def test_what_a_segment_is_of(pixels) -> None:
    """Scheme and code of its property type; nothing where the object does not say."""
    ds = minimal_seg(pixels)
    (segment,) = read_seg(ds)
    assert segment.property_type == ("", "")
    code = Dataset()
    code.CodingSchemeDesignator, code.CodeValue, code.CodeMeaning = "SCT", "10200004", "Liver"
    ds.SegmentSequence[0].SegmentedPropertyTypeCodeSequence = [code]
    (segment,) = read_seg(ds)
    assert segment.property_type == ("SCT", "10200004")
