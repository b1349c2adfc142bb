"""A SEG that does not lie where the findings lie is held back, whatever it looks like."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import RLELossless

from reports.errors import GeometryNotProved
from reports.findings.measurements import measure
from reports.objects.profile import Profile
from reports.objects.verification import verify_seg


def check(case, path: Path, **changed) -> None:
    verify_seg(path, replace(case.under(), **changed))


def pixels_of(ds: Dataset) -> NDArray[np.uint8]:
    shape = int(ds.NumberOfFrames), int(ds.Rows), int(ds.Columns)
    bits = np.unpackbits(np.frombuffer(ds.PixelData, np.uint8), bitorder="little")
    return bits[: np.prod(shape)].reshape(shape)


def repack(ds: Dataset, pixels: NDArray[np.uint8]) -> None:
    packed = np.packbits(pixels.ravel(), bitorder="little").tobytes()
    ds.PixelData = packed + b"\0" * (len(packed) % 2)


def flip_rows(ds: Dataset) -> None:
    repack(ds, pixels_of(ds)[:, ::-1])


def flip_columns(ds: Dataset) -> None:
    repack(ds, pixels_of(ds)[:, :, ::-1])


def reverse_frames(ds: Dataset) -> None:
    repack(ds, pixels_of(ds)[::-1])


def shift_one_pixel(ds: Dataset) -> None:
    repack(ds, np.roll(pixels_of(ds), 1, axis=2))


def move_origins(ds: Dataset) -> None:
    for frame in ds.PerFrameFunctionalGroupsSequence:
        x, y, z = frame.PlanePositionSequence[0].ImagePositionPatient
        frame.PlanePositionSequence[0].ImagePositionPatient = [float(x) + 0.7, y, z]


def shift_one_slice(ds: Dataset) -> None:
    """Positions alone, as a program that counts slices from the wrong end would."""
    for frame in ds.PerFrameFunctionalGroupsSequence:
        x, y, z = frame.PlanePositionSequence[0].ImagePositionPatient
        frame.PlanePositionSequence[0].ImagePositionPatient = [x, y, float(z) + 2.5]


def shift_one_slice_and_name_it(ds: Dataset) -> None:
    """Positions and the images they name: consistent in itself, and wrong."""
    shift_one_slice(ds)
    for frame in ds.PerFrameFunctionalGroupsSequence:
        image = frame.DerivationImageSequence[0].SourceImageSequence[0]
        stem, number = image.ReferencedSOPInstanceUID.rsplit(".", 1)
        image.ReferencedSOPInstanceUID = f"{stem}.{int(number) + 1}"


def swap_segments(ds: Dataset) -> None:
    for frame in ds.PerFrameFunctionalGroupsSequence:
        item = frame.SegmentIdentificationSequence[0]
        item.ReferencedSegmentNumber = {1: 1, 2: 3, 3: 2}[item.ReferencedSegmentNumber]


def drop_segment(ds: Dataset) -> None:
    del ds.SegmentSequence[2]


def turn_rows(ds: Dataset) -> None:
    shared = ds.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, -1, 0]


def widen_pixels(ds: Dataset) -> None:
    ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [0.82, 0.7]


def widen_slices(ds: Dataset) -> None:
    ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 3


def forget_spacing(ds: Dataset) -> None:
    del ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices


def drop_frame(ds: Dataset) -> None:
    keep = int(ds.NumberOfFrames) - 1
    repack(ds, pixels_of(ds)[:keep])
    ds.NumberOfFrames = keep
    del ds.PerFrameFunctionalGroupsSequence[keep]


def name_another_image(ds: Dataset) -> None:
    image = ds.PerFrameFunctionalGroupsSequence[4].DerivationImageSequence[0].SourceImageSequence[0]
    image.ReferencedSOPInstanceUID = "1.2.826.0.1.77.1"


def move_to_another_frame_of_reference(ds: Dataset) -> None:
    ds.FrameOfReferenceUID = "1.2.3.5"


def truncate_pixels(ds: Dataset) -> None:
    ds.PixelData = ds.PixelData[: len(ds.PixelData) // 4 * 2]


def forget_positions(ds: Dataset) -> None:
    del ds.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence


FAULTS: list[Callable[[Dataset], None]] = [
    flip_rows, flip_columns, reverse_frames, shift_one_pixel, move_origins, shift_one_slice,
    shift_one_slice_and_name_it, swap_segments, drop_segment, turn_rows, widen_pixels, widen_slices, drop_frame,
    name_another_image, move_to_another_frame_of_reference, truncate_pixels, forget_positions,
]  # fmt: skip


@pytest.mark.parametrize("fault", [*FAULTS, forget_spacing], ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (1, 0, 0, 0, -1, 0)], ids=["plain", "rows back"])
def test_a_wrong_seg_is_held_back(make_case, tmp_path, fault, orientation) -> None:
    """Each fault by itself, in a SEG that was right before; a turn to what it was already is none."""
    case = make_case(orientation=orientation)
    path = case.write_seg(tmp_path / "seg.dcm")
    check(case, path)
    ds = pydicom.dcmread(path)
    fault(ds)
    if fault is turn_rows and orientation[4] == -1:
        ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.save_as(path, enforce_file_format=True)
    with pytest.raises(GeometryNotProved):
        check(case, path)


@pytest.mark.parametrize("fault", [flip_rows, flip_columns, reverse_frames], ids=lambda fault: fault.__name__)
def test_flips_that_keep_centroid_and_volume_are_held_back(make_case, tmp_path, fault) -> None:
    """A shape whose box and centre are symmetric about the grid's middle: only its voxels tell."""
    case = make_case(rows=40, columns=40)
    labels = np.zeros(case.segmentation.labels.shape, np.uint8)
    labels[2:12, 5:35, 5:35] = 1
    labels[3:11, 8, 8], labels[3:11, 31, 31] = 0, 0  # two holes across the middle: centre kept, mirror image not
    labels[2, 10, 10], labels[11, 29, 29] = 0, 0
    segmentation = replace(case.segmentation, labels=labels)
    findings = measure(case.volume, segmentation, tracking_seed="job-7")
    case = replace(case, segmentation=segmentation, findings=findings)
    path = case.write_seg(tmp_path / "seg.dcm")
    check(case, path)
    ds = pydicom.dcmread(path)
    fault(ds)
    ds.save_as(path, enforce_file_format=True)
    with pytest.raises(GeometryNotProved, match="voxels"):
        check(case, path)


@pytest.mark.parametrize(
    "how",
    [
        {"positions_mm": np.cumsum(np.linspace(2, 3.3, 14))},
        {"positions_mm": np.delete(np.arange(16) * 2.5, [4, 9])},
        {"drift_mm": 0.2},
        {"orientation": (-1, 0, 0, 0, 1, 0)},
        {"orientation": (0.995004, 0.099833, 0, -0.099833, 0.995004, 0)},
        {"frame_of_reference_uid": None},
        {"lesions": False},
        {"orientation": (0, 1, 0, 0, 0, -1), "modality": "MR"},
        {"frame_numbers": range(3, 17)},
        {"positions_mm": np.cumsum(np.linspace(2, 3.3, 14)), "drift_mm": 0.3},
        {"positions_mm": np.round(np.arange(14) / 3, 2)},
    ],
    ids=["uneven", "slices missing", "tilted", "feet first", "turned", "no frame of reference", "liver alone",
         "sagittal MR", "frames", "uneven and tilted", "rounded"],
)  # fmt: skip
def test_a_right_seg_is_let_through(make_case, tmp_path, how) -> None:
    """Odd stacks are not wrong ones."""
    case = make_case(**how)
    check(case, case.write_seg(tmp_path / "seg.dcm"))


@pytest.mark.parametrize("how", [{"drift_mm": 0.2}, {"positions_mm": np.cumsum(np.linspace(2, 3.3, 14))}, {}])
def test_what_is_found_on_scattered_slices_is_let_through(make_case, tmp_path, how) -> None:
    """Empty slices are left out of the SEG: what a frame stands for is known from the source alone."""
    case = make_case(**how)
    labels = np.zeros(case.segmentation.labels.shape, np.uint8)
    labels[[2, 3, 9], 5:20, 5:20], labels[3, 8, 8] = 1, 2
    segmentation = replace(case.segmentation, labels=labels)
    findings = measure(case.volume, segmentation, tracking_seed="job-7")
    case = replace(case, segmentation=segmentation, findings=findings)
    check(case, case.write_seg(tmp_path / "seg.dcm"))


@pytest.mark.parametrize("how", [{"drift_mm": 0.2}, {"positions_mm": np.cumsum(np.linspace(2, 3.3, 14))}])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_wrong_seg_of_an_odd_stack_is_held_back(make_case, tmp_path, fault, how) -> None:
    """The same faults in tilted and uneven stacks, which have no spacing to be stated."""
    case = make_case(**how)
    path = case.write_seg(tmp_path / "seg.dcm")
    ds = pydicom.dcmread(path)
    fault(ds)
    ds.save_as(path, enforce_file_format=True)
    with pytest.raises(GeometryNotProved):
        check(case, path)


def name_another_frame(ds: Dataset) -> None:
    source = ds.PerFrameFunctionalGroupsSequence[4].DerivationImageSequence[0].SourceImageSequence[0]
    source.ReferencedFrameNumber += 1


def forget_a_frame(ds: Dataset) -> None:
    source = ds.PerFrameFunctionalGroupsSequence[4].DerivationImageSequence[0].SourceImageSequence[0]
    del source.ReferencedFrameNumber


def name_two_frames(ds: Dataset) -> None:
    source = ds.PerFrameFunctionalGroupsSequence[4].DerivationImageSequence[0].SourceImageSequence[0]
    source.ReferencedFrameNumber = [source.ReferencedFrameNumber, 1]


@pytest.mark.parametrize(
    "fault", [name_another_frame, forget_a_frame, name_two_frames], ids=lambda fault: fault.__name__
)
def test_the_frames_are_proved_too(make_case, tmp_path, fault) -> None:
    """A viewer draws where the frame says."""
    case = make_case(frame_numbers=range(3, 17))
    path = case.write_seg(tmp_path / "seg.dcm")
    check(case, path)
    ds = pydicom.dcmread(path)
    fault(ds)
    ds.save_as(path, enforce_file_format=True)
    with pytest.raises(GeometryNotProved, match="names an image"):
        check(case, path)


def test_findings_of_another_segmentation_are_noticed(make_case, tmp_path) -> None:
    """The SEG is right, but not what the report will say."""
    case = make_case()
    path = case.write_seg(tmp_path / "seg.dcm")
    first, second = case.findings.lesions
    x, y, z = first.place.centroid_lps_mm
    wrong = [
        replace(case.findings, liver_volume_ml=case.findings.liver_volume_ml * 1.01),
        replace(case.findings, liver_centroid_lps_mm=None),
        replace(case.findings, lesions=(first,)),
        replace(
            case.findings, lesions=(replace(first, place=replace(first.place, centroid_lps_mm=(x, y + 0.3, z))), second)
        ),
        replace(
            case.findings,
            lesions=(replace(first, size=replace(first.size, volume_ml=first.size.volume_ml * 0.99)), second),
        ),
    ]
    for findings in wrong:
        with pytest.raises(GeometryNotProved):
            check(case, path, findings=findings)


def test_source_order_is_proved_too(make_case, tmp_path) -> None:
    """UIDs in another order than the slices would send a viewer to the wrong image."""
    case = make_case()
    path = case.write_seg(tmp_path / "seg.dcm")
    with pytest.raises(GeometryNotProved, match="names an image"):
        check(case, path, volume=replace(case.volume, sop_instance_uids=case.volume.sop_instance_uids[::-1]))


def test_a_file_that_is_no_seg_is_not_proved(make_case, tmp_path) -> None:
    """Garbage, or nothing at all, on the disk."""
    case = make_case()
    path = tmp_path / "seg.dcm"
    with pytest.raises(GeometryNotProved):
        check(case, path)
    path.write_bytes(b"not a SEG")
    with pytest.raises(GeometryNotProved):
        check(case, path)


@pytest.mark.parametrize("name", ["ircadb_case17", "lits_volume0"])
def test_real_segs_are_proved(real_case, tmp_path, name) -> None:
    """And their frames turned round are not."""
    case = real_case(name)
    path = case.write_seg(tmp_path / "seg.dcm")
    check(case, path)
    ds = pydicom.dcmread(path)
    reverse_frames(ds)
    ds.save_as(path, enforce_file_format=True)
    with pytest.raises(GeometryNotProved):
        check(case, path)


# --- LABELMAP


def write_labelmap(case, identity, path: Path) -> Path:
    """As it goes out."""
    seg = case.seg(identity, profile=Profile(seg_type="labelmap"))
    seg.save_as(path, enforce_file_format=True)
    return path


def pixels_as(change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> Callable[[Dataset], None]:
    def fault(ds: Dataset) -> None:
        pixels = change(ds.pixel_array)
        ds.decompress(generate_instance_uid=False)
        ds.compress(RLELossless, np.ascontiguousarray(pixels), encoding_plugin="pydicom", generate_instance_uid=False)

    return fault


LABEL_FAULTS: dict[str, Callable[[Dataset], None]] = {
    "rows flipped": pixels_as(lambda pixels: pixels[:, ::-1]),
    "columns flipped": pixels_as(lambda pixels: pixels[:, :, ::-1]),
    "frames reversed": pixels_as(lambda pixels: pixels[::-1]),
    "shifted": pixels_as(lambda pixels: np.roll(pixels, 1, axis=2)),
    "labels swapped": pixels_as(lambda pixels: np.array([0, 1, 3, 2], np.uint8)[pixels]),
    "a lesion gone": pixels_as(lambda pixels: np.where(pixels == 3, 1, pixels).astype(np.uint8)),
    "origins moved": move_origins,
    "a slice too high": shift_one_slice,
    "rows turned": turn_rows,
    "pixels widened": widen_pixels,
    "slices widened": widen_slices,
    "spacing forgotten": forget_spacing,
    "another image named": name_another_image,
    "another frame of reference": move_to_another_frame_of_reference,
    "positions forgotten": forget_positions,
}


@pytest.mark.parametrize("fault", LABEL_FAULTS)
def test_a_wrong_label_map_is_held_back(make_case, identity, tmp_path, fault) -> None:
    """The same faults, in the other form."""
    case = make_case()
    path = write_labelmap(case, identity, tmp_path / "seg.dcm")
    check(case, path)
    ds = pydicom.dcmread(path)
    LABEL_FAULTS[fault](ds)
    ds.save_as(path, enforce_file_format=True)
    with pytest.raises(GeometryNotProved):
        check(case, path)


@pytest.mark.parametrize(
    "how",
    [
        {"positions_mm": np.cumsum(np.linspace(2, 3.3, 14)), "drift_mm": 0.3},
        {"positions_mm": np.delete(np.arange(16) * 2.5, [4, 9])},
        {"orientation": (0, 1, 0, 0, 0, -1), "modality": "MR"},
        {"frame_numbers": range(3, 17)},
        {"lesions": False},
    ],
    ids=["uneven and tilted", "slices missing", "sagittal MR", "frames", "liver alone"],
)
def test_a_right_label_map_is_let_through(make_case, identity, tmp_path, how) -> None:
    case = make_case(**how)
    check(case, write_labelmap(case, identity, tmp_path / "seg.dcm"))
