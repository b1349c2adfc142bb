"""Files of one series to its volumes, or to the reason why not."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import (
    CTImageStorage,
    PositronEmissionTomographyImageStorage,
    RawDataStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
)

from dicom_io.errors import RejectReason, SeriesRejected, SeriesWarning
from dicom_io.files.image_file import read_image_file
from dicom_io.geometry import Geometry
from dicom_io.pixel_format import check_pixels
from dicom_io.series.series import Series, arrange, group_by_series, open_series, stack_headers

MakeSeries = Callable[..., list[Path]]
Change = Callable[[Dataset, int], None]


def setting(**values: object) -> Callable[[Dataset, int], None]:
    """A change of every file: attributes set, or deleted where None."""

    def change(ds: Dataset, index: int) -> None:
        for keyword, value in values.items():
            if value is None:
                del ds[keyword]
            else:
                setattr(ds, keyword, value)

    return change


def only(number: int, **values: object) -> Callable[[Dataset, int], None]:
    """A change of one file."""
    return lambda ds, index: setting(**values)(ds, index) if index == number else None


def height(ds: Dataset, value_mm: float) -> None:
    ds.ImagePositionPatient = [ds.ImagePositionPatient[0], ds.ImagePositionPatient[1], value_mm]


def no_image(ds: Dataset, index: int) -> None:
    for keyword in ("Rows", "Columns", "PixelData"):
        del ds[keyword]


def tilt(ds: Dataset, index: int) -> None:
    ds.ImagePositionPatient = [-20.5, 10.25 + 2 * index, 100 + 5 * index]


def at_one_place(ds: Dataset, index: int) -> None:
    height(ds, 100 + 5 * (index // 2))


def short(ds: Dataset, index: int) -> None:
    height(ds, 100 + index)


def at_heights(*heights_mm: float) -> Change:
    return lambda ds, index: height(ds, heights_mm[index])


def three_directions(ds: Dataset, index: int) -> None:
    cosines = ([1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1])
    ds.ImageOrientationPatient = cosines[index % 3]


def stating(keyword: str, vr: str, value: bytes) -> Change:
    def change(ds: Dataset, index: int) -> None:
        if index == 3:
            ds[keyword] = RawDataElement(Tag(keyword), vr, len(value), value, 0, False, True)

    return change


def frame_of_each(ds: Dataset, index: int) -> None:
    ds.FrameOfReferenceUID = f"1.2.{index}"


def frame_of_every_third(ds: Dataset, index: int) -> None:
    ds.FrameOfReferenceUID = "1.2.4" if index % 3 else "1.2.5"


def spacing_of_each(ds: Dataset, index: int) -> None:
    ds.PixelSpacing = [0.5 + index / 5, 0.5]


def spacing_of_every_third(ds: Dataset, index: int) -> None:
    ds.PixelSpacing = [0.5, 0.5] if index % 3 else [0.9, 0.9]


REFUSED: dict[RejectReason, list[Change]] = {
    RejectReason.NOT_CT_OR_MR: [
        setting(Modality="PT", SOPClassUID=PositronEmissionTomographyImageStorage),
        setting(Modality="CTPT"),
        only(3, Modality="MR"),
        setting(Modality="RTSTRUCT", SOPClassUID=RTStructureSetStorage),
    ],
    RejectReason.NOT_IMAGES: [
        no_image,
        setting(SOPClassUID=SecondaryCaptureImageStorage),
        setting(SamplesPerPixel=3),
    ],
    RejectReason.NO_UID: [
        only(0, **{keyword: ""})
        for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
    ],
    RejectReason.LOCALIZER_ONLY: [setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])],
    RejectReason.NO_POSITION: [
        only(2, ImagePositionPatient=None),
        only(2, ImageOrientationPatient=None),
        only(2, PixelSpacing=None),
        only(2, ImagePositionPatient=[0, 0]),
        only(2, PixelSpacing=[0, 0.5]),
        setting(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]),
        setting(NumberOfFrames=2, ImagePositionPatient=None),
    ],
    RejectReason.MIXED_ORIENTATION: [three_directions],
    RejectReason.MIXED_FRAMES_OF_REFERENCE: [frame_of_each, frame_of_every_third],
    RejectReason.MIXED_GRIDS: [spacing_of_each, spacing_of_every_third],
    RejectReason.MIXED_IDENTITY: [
        only(0, PatientID="ANOTHER"),
        only(11, PatientName="Another^Person"),
        only(3, StudyInstanceUID="1.2.3"),
    ],
    RejectReason.DUPLICATE_POSITIONS: [at_one_place],
    RejectReason.MISSING_SLICES: [
        at_heights(0, 5, 10, 15, 20, 45, 50, 55, 60, 65, 70, 75),
        at_heights(0, 5, 10, 20, 25, 30, 40, 45, 50, 60, 65, 70),
    ],
    RejectReason.TOO_SHORT: [short],
    RejectReason.IMPOSSIBLE_SIZE: [setting(PixelSpacing=["300", "300"])],
    RejectReason.NOT_HOUNSFIELD: [
        *(setting(RescaleType=unit) for unit in ("Z_EFF", "MGML", "ED", "EDW", "HU_MOD", "z_eff ", "mg/ml")),
        only(3, RescaleType="PCT"),
        only(3, RescaleIntercept=""),
        only(3, RescaleIntercept=None),
        only(3, RescaleSlope="-1"),
    ],
    RejectReason.UNREADABLE_PIXELS: [only(3, RescaleSlope="nan"), only(3, RescaleIntercept="inf")],
}


@pytest.mark.parametrize(
    ("reason", "change"), [(reason, change) for reason, changes in REFUSED.items() for change in changes]
)
def test_each_reason(make_series: MakeSeries, reason: RejectReason, change: Change) -> None:
    """What cannot be read right is refused, and the reason is named."""
    with pytest.raises(SeriesRejected) as caught:
        open_series(make_series(change))
    assert caught.value.reason is reason


def test_too_few_slices(make_series: MakeSeries) -> None:
    with pytest.raises(SeriesRejected) as caught:
        open_series(make_series()[:4])
    assert caught.value.reason is RejectReason.TOO_FEW_SLICES


def test_every_reason_is_tested() -> None:
    """Here or where it is found: the pixels (test_pixels), the memory, the rule and the model (the daemon's)."""
    elsewhere = {
        RejectReason.TOO_FEW_SLICES,
        RejectReason.UNSUPPORTED_SYNTAX,
        RejectReason.TOO_LARGE,
        RejectReason.REASSIGNED,
        RejectReason.NO_RULE,
        RejectReason.NO_MODEL,
        RejectReason.SUPERSEDED_BY_BETTER,
    }
    assert set(REFUSED) | elsewhere == set(RejectReason)


def coronal(ds: Dataset, index: int) -> None:
    ds.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    ds.ImagePositionPatient = [0, 100 + 5 * index, 0]


WARNED: dict[SeriesWarning, list[Change]] = {
    SeriesWarning.TILT: [tilt],
    SeriesWarning.UNEVEN_SPACING: [at_heights(0, 3, 8, 13, 17, 22, 25.3, 30.3, 37.3, 42.3, 47.3, 52.3)],
    SeriesWarning.MISSING_SLICES: [at_heights(0, 5, 10, 15, 20, 25, 35, 40, 45, 50, 55, 60)],
    SeriesWarning.LEFT_OUT: [
        only(0, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        only(0, SOPClassUID=SecondaryCaptureImageStorage, ImagePositionPatient=None),
        only(0, SOPClassUID=RawDataStorage),
        only(11, Rows=3),
        only(11, PixelSpacing=[0.8, 0.5]),
        lambda ds, index: coronal(ds, index) if index == 11 else None,
    ],
    SeriesWarning.THICK_SLICES: [lambda ds, index: height(ds, 7 * index)],
    SeriesWarning.NO_FRAME_OF_REFERENCE: [setting(FrameOfReferenceUID=None)],
    SeriesWarning.UNUSABLE_VALUES: [
        stating("SliceThickness", "DS", b"5,0 "),
        stating("SliceThickness", "DS", b"5 mm"),
        stating("FrameOfReferenceUID", "UI", b"none"),
        stating("Modality", "CS", b"CT\\MR "),
        stating("ImageType", "DS", b"4.0 "),
    ],
    SeriesWarning.IDENTITY_SPELLING: [only(3, AccessionNumber="A1"), only(3, PatientSex="other")],
    SeriesWarning.NO_RESCALE: [setting(RescaleIntercept=None), setting(RescaleIntercept="")],
}


@pytest.mark.parametrize(
    ("warning", "change"), [(warning, change) for warning, changes in WARNED.items() for change in changes]
)
def test_each_warning(make_series: MakeSeries, warning: SeriesWarning, change: Change) -> None:
    """What a reader must know travels with the stack; nothing else does."""
    series = open_series(make_series(change))
    assert series.stacks[0].warnings == (warning,)
    assert series.left_out == (1 if warning == SeriesWarning.LEFT_OUT else 0)


def test_a_plain_series_has_no_warnings(make_series: MakeSeries) -> None:
    series = open_series(make_series())
    assert (series.warnings, series.left_out, series.stacks[0].warnings, series.stacks[0].label) == ((), 0, (), "")


def test_bytes_after_the_pixels_are_told(make_series: MakeSeries) -> None:
    """Of one image of a series too; its pixels are read as those of the others are."""
    paths = make_series()
    expected = open_series(paths).stacks[0]
    paths[3].write_bytes(paths[3].read_bytes() + b"\xff\x0f" * 496)
    (stack,) = open_series(paths).stacks
    assert stack.warnings == (SeriesWarning.TRAILING_BYTES,)
    assert [item.header.pixels for item in stack.slices] == [item.header.pixels for item in expected.slices]


def test_one_missing_slice_is_the_limit_of_a_short_stack(make_series: MakeSeries) -> None:
    """A tenth, and never less than one: one of 13 is let through, three of 15 are not (see REFUSED)."""
    assert open_series(make_series(WARNED[SeriesWarning.MISSING_SLICES][0])).stacks[0].geometry.missing_slices == 1


@pytest.mark.parametrize(
    ("cosines", "plane"),
    [
        ([1, 0, 0, 0, 1, 0], "axial"),
        ([-1, 0, 0, 0, 1, 0], "axial"),
        ([0, 1, 0, 1, 0, 0], "axial"),
        ([0, 1, 0, 0, 0, -1], "sagittal"),
        ([1, 0, 0, 0, 0, -1], "coronal"),
        ([1, 0, 0, 0, 0.96593, 0.25882], "axial"),
        ([1, 0, 0, 0, 0.76604, 0.64279], "oblique"),
    ],
)
def test_every_direction_is_read(make_series: MakeSeries, cosines: list[float], plane: str) -> None:
    """Slices are sorted along their own normal, whatever it is."""
    normal = np.cross(cosines[:3], cosines[3:])

    def turn(ds: Dataset, index: int) -> None:
        ds.ImageOrientationPatient = cosines
        ds.ImagePositionPatient = [round(float(value), 6) for value in (11 - index) * 5 * normal]

    paths = make_series(turn)
    stack = open_series(paths).stacks[0]
    assert stack.geometry.plane_name == plane
    assert [item.path for item in stack.slices] == paths[::-1]
    assert stack.geometry.is_regular


TURNED = [0.99999, 0.0003, 0, -0.0003, 0.99999, 0]


@pytest.mark.parametrize(
    ("rows", "change"),
    [
        (512, {"PixelSpacing": ["0.7813", "0.7813"]}),
        (512, {"PixelSpacing": ["0.781", "0.781"]}),
        (512, {"PixelSpacing": ["0.78125000", "0.7812500001"]}),
        (512, {"ImageOrientationPatient": [1, 0.0001, 0, -0.0001, 1, 0]}),
        (256, {"ImageOrientationPatient": TURNED}),
    ],
)
@pytest.mark.parametrize("every", [2, 3])
def test_what_is_written_otherwise_is_the_same(
    make_series: MakeSeries, rows: int, change: dict[str, list[object]], every: int
) -> None:
    """An archive rewrote some of the headers with fewer decimals: one grid, on which no pixel moved."""

    def rewritten(ds: Dataset, index: int) -> None:
        ds.Rows = ds.Columns = rows
        ds.PixelSpacing = ["0.78125", "0.78125"]
        if index % every == 0:
            setting(**change)(ds, index)

    series = open_series(make_series(rewritten))
    assert [stack.geometry.slices for stack in series.stacks] == [12]
    assert (series.left_out, series.warnings) == (0, ())


def test_another_reconstruction_is_another_grid(make_series: MakeSeries) -> None:
    """A field of view that is 1 mm larger; what would be 0.4 mm off over the image is no rounding."""

    def larger(ds: Dataset, index: int) -> None:
        ds.Rows = ds.Columns = 512
        ds.PixelSpacing = ["0.78320", "0.78320"] if index == 11 else ["0.78125", "0.78125"]

    assert open_series(make_series(larger)).left_out == 1


def test_the_images_of_a_tracked_bolus_are_left_out(
    make_series: MakeSeries, make_stack: Callable[..., Geometry]
) -> None:
    """Many, all at one place above the stack, on a smaller field of view: they miss no part of it."""

    def tracked(ds: Dataset, index: int) -> None:
        setting(SeriesInstanceUID="1.2.3.4", StudyInstanceUID="1.2.3.5", PixelSpacing=[0.6, 0.4])(ds, index)
        height(ds, 200)

    of_series = setting(SeriesInstanceUID="1.2.3.4", StudyInstanceUID="1.2.3.5")
    series = open_series(make_series(of_series) + make_series(tracked, folder="tracked", seed="tracked"))
    assert (len(series.stacks), series.left_out, series.warnings) == (1, 12, ("LEFT_OUT",))


def test_two_grids_in_turn(make_series: MakeSeries, make_stack: Callable[..., Geometry]) -> None:
    """Every other PixelSpacing was cut to two decimals: two halves of one volume, and no two volumes."""

    def cut(ds: Dataset, index: int) -> None:
        ds.Rows = ds.Columns = 512
        ds.PixelSpacing = ["0.78", "0.78"] if index % 2 else ["0.78125", "0.78125"]

    with pytest.raises(SeriesRejected, match="MIXED_GRIDS") as caught:
        open_series(make_series(cut, make_stack(24)))
    assert "in turn" in caught.value.detail


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ({"FrameOfReferenceUID": "1.2.3.4.5"}, "MIXED_FRAMES_OF_REFERENCE"),
        ({"ImageOrientationPatient": [0.8003, 0.5996, 0, -0.5996, 0.8003, 0]}, "MIXED_GRIDS"),
        ({"Rows": 500}, "MIXED_GRIDS"),
    ],
)
def test_other_planes_in_turn(
    make_series: MakeSeries, make_stack: Callable[..., Geometry], odd: dict[str, object], reason: str
) -> None:
    """Whatever stands in every other header: no two livers with a report each."""

    def change(ds: Dataset, index: int) -> None:
        ds.ImageOrientationPatient = [0.8, 0.6, 0, -0.6, 0.8, 0]
        ds.Rows = ds.Columns = 512
        if index % 2:
            for keyword, value in odd.items():
                setattr(ds, keyword, value)

    with pytest.raises(SeriesRejected, match=reason) as caught:
        open_series(make_series(change, make_stack(24)))
    assert "in turn" in caught.value.detail


@pytest.mark.parametrize("last", [10, 9])
def test_slices_that_only_another_grid_shows(make_series: MakeSeries, last: int) -> None:
    """Two of twelve at the end would be a part of the liver, and nobody would see that it is not there."""
    change = lambda ds, index: setting(PixelSpacing=[0.8, 0.55])(ds, index) if index >= last else None  # noqa: E731
    with pytest.raises(SeriesRejected) as caught:
        open_series(make_series(change))
    assert caught.value.reason is RejectReason.MIXED_GRIDS


def test_slices_are_sorted_by_position(make_series: MakeSeries) -> None:
    """Not by file name, order of arrival, or InstanceNumber."""
    paths = make_series(lambda ds, index: setattr(ds, "InstanceNumber", 100 - index))
    stack = open_series(random.Random(1).sample(paths, len(paths))).stacks[0]
    assert [item.path for item in stack.slices] == paths
    assert stack.sop_instance_uids == tuple(dcmread(path).SOPInstanceUID for path in paths)
    assert stack.frame_numbers == (None,) * 12


@pytest.mark.parametrize(
    "unit", ["HU", "hu", "US", "", " HU ", "Hounsfield Units", "[HU]", "UNSPECIFIED", "N/A", ["HU", "HU"]]
)
def test_a_ct_in_hounsfield_units(make_series: MakeSeries, unit: object) -> None:
    assert open_series(make_series(setting(RescaleType=unit))).stacks[0].warnings == ()


def test_no_frame_of_reference(make_series: MakeSeries) -> None:
    """It is derived from the series, so that every reading gives the same."""
    paths = make_series(setting(FrameOfReferenceUID=None))
    first, again = (open_series(files).stacks[0].geometry.frame_of_reference_uid for files in (paths, paths[::-1]))
    assert first == again != ""


def test_an_absent_frame_of_reference_is_that_of_the_others(make_series: MakeSeries) -> None:
    """It is the only one stated, and the volume is one."""
    (stack,) = open_series(
        make_series(lambda ds, index: ds.pop("FrameOfReferenceUID") if index % 3 == 0 else None)
    ).stacks
    assert (len(stack.slices), stack.geometry.frame_of_reference_uid, stack.warnings) == (12, "1.2.3", ())
    assert {header.FrameOfReferenceUID for header in stack_headers(stack)} == {"1.2.3"}


def test_codes_in_small_letters(make_series: MakeSeries) -> None:
    """Are those in capitals."""
    series = open_series(make_series(setting(Modality="ct", ImageType=["original", "primary", "axial"])))
    assert (series.modality, series.warnings) == ("CT", ())
    check_pixels(open_series(make_series(setting(PhotometricInterpretation="monochrome2"))).stacks[0])


def test_a_reformat_beside_the_original_is_left_out(make_series: MakeSeries) -> None:
    def reformat(ds: Dataset, index: int) -> None:
        ds.SeriesInstanceUID, ds.StudyInstanceUID = "1.2.3.4", "1.2.3.5"
        ds.ImageType = ["DERIVED", "SECONDARY", "REFORMATTED"]
        coronal(ds, index)

    paths = make_series(setting(SeriesInstanceUID="1.2.3.4", StudyInstanceUID="1.2.3.5")) + make_series(
        reformat, folder="coronal", seed="coronal"
    )
    series = open_series(paths)
    assert [stack.geometry.plane_name for stack in series.stacks] == ["axial"]
    assert (series.left_out, series.warnings) == (12, ("LEFT_OUT",))


def test_two_originals_in_two_directions_are_two_volumes(make_series: MakeSeries) -> None:
    def other(ds: Dataset, index: int) -> None:
        ds.SeriesInstanceUID, ds.StudyInstanceUID = "1.2.3.4", "1.2.3.5"
        coronal(ds, index)

    paths = make_series(setting(SeriesInstanceUID="1.2.3.4", StudyInstanceUID="1.2.3.5")) + make_series(
        other, folder="coronal", seed="coronal"
    )
    series = open_series(paths)
    assert [(stack.index, stack.label) for stack in series.stacks] == [(0, "axial"), (1, "coronal")]
    assert series.warnings == ("SEVERAL_VOLUMES",)


def test_the_same_instance_twice(make_series: MakeSeries) -> None:
    """Equal files are one image; of different ones under one UID the first is used, and that is said."""
    paths, again = make_series(), make_series(folder="again")
    assert open_series([*paths, *again]).warnings == ()
    ds = dcmread(again[3])
    ds.PixelData = bytes(len(ds.PixelData))
    ds.save_as(again[3])
    series = open_series([*paths, *again])
    assert series.warnings == series.stacks[0].warnings == ("DUPLICATE_DIFFERENT",)
    assert [item.path for item in series.stacks[0].slices] == paths


def test_frames_are_slices(make_enhanced: Callable[..., Path]) -> None:
    """Each frame has its own place and rescale, and is named by its number."""
    series = open_series([make_enhanced()])
    stack = series.stacks[0]
    assert stack.geometry.shape == (12, 6, 8)
    assert stack.frame_numbers == tuple(range(1, 13))
    assert len(set(stack.sop_instance_uids)) == 1
    assert stack.geometry.origins_lps_mm[3].tolist() == [-20.5, 10.25, 115.0]


def test_time_points_of_an_enhanced_image_are_volumes(make_enhanced: Callable[..., Path]) -> None:
    series = open_series([make_enhanced(times=3)])
    assert [stack.label for stack in series.stacks] == [f"TemporalPositionIndex {time}" for time in (1, 2, 3)]
    assert [stack.frame_numbers[0] for stack in series.stacks] == [1, 13, 25]
    assert [stack.slices[0].plane.rescale_intercept for stack in series.stacks] == [0, -10, -20]


def test_headers_of_a_stack(make_series: MakeSeries) -> None:
    """The first says everything, each its own plane, in the characters of its file."""
    paths = make_series(lambda ds, index: setattr(ds, "PixelSpacing", ["0.7500", "0.50"]))
    headers = stack_headers(open_series(paths[::-1]).stacks[0])
    assert headers[0].PatientName == "PHANTOM^LIVER"
    assert "PatientName" not in headers[1]
    assert all("PixelData" not in header for header in headers)
    for path, header in zip(paths, headers, strict=True):
        whole = dcmread(path)
        for keyword in ("SOPInstanceUID", "SOPClassUID", "ImagePositionPatient", "SliceThickness", "Rows"):
            assert header[keyword].value == whole[keyword].value
        assert [str(value) for value in header.PixelSpacing] == ["0.7500", "0.50"]


def test_headers_of_frames(make_enhanced: Callable[..., Path]) -> None:
    """They look like single-frame images that share a UID."""
    headers = stack_headers(open_series([make_enhanced(times=2)]).stacks[1])
    assert len(headers) == 12
    assert "PerFrameFunctionalGroupsSequence" not in headers[0] and "NumberOfFrames" not in headers[0]
    assert headers[0].PatientName == "PHANTOM^LIVER"
    assert [float(header.ImagePositionPatient[2]) for header in headers] == [100 + 5.0 * index for index in range(12)]


def test_files_are_grouped_by_series(make_series: MakeSeries, tmp_path: Path) -> None:
    """What is no DICOM is handed back, not lost."""
    one, two = make_series(folder="one", seed="1"), make_series(folder="two", seed="2")
    text = tmp_path / "text"
    text.write_text("hello")
    groups, unreadable = group_by_series([*one, *two, text])
    assert [[file.path for file in group] for group in groups.values()] == [one, two]
    assert [error.path for error in unreadable] == [text]


def test_errors_quote_no_patient(make_series: MakeSeries) -> None:
    paths = make_series(setting(PatientName="ZZPHI^CANARY", ImagePositionPatient=None))
    with pytest.raises(SeriesRejected) as caught:
        open_series(paths)
    assert "ZZPHI" not in str(caught.value)


def test_arrange_reads_no_file(make_series: MakeSeries) -> None:
    """Headers are enough: the files may be elsewhere by then."""
    paths = make_series()
    files = [read_image_file(path) for path in paths]
    for path in paths:
        path.unlink()
    assert arrange(files).stacks[0].geometry.slices == 12


# Real series: every one of them stands in tests/conformance; here is what no verdict shows.


def volumes(series: Series) -> list[Geometry]:
    return [stack.geometry for stack in series.stacks]


def test_rows_that_run_back_to_front(unpacked: Callable[[str], list[Path]]) -> None:
    """LiTS 0 (column cosines 0,-1,0): the normal points to the feet, so slices run downward and every index has its
    place: the patient's back, where the table is, has the small row numbers."""
    geometry = volumes(open_series(unpacked("lits_volume0/ct_dicom")))[0]
    assert geometry.normal.tolist() == [0, 0, -1]
    assert geometry.origins_lps_mm[0, 2] > geometry.origins_lps_mm[-1, 2]
    first, last = geometry.index_to_lps([[0, 0, 0], [0, geometry.rows - 1, 0]])
    assert first[1] > last[1]  # LPS y grows to the back


def test_two_phases_at_the_same_positions(unpacked: Callable[[str], list[Path]]) -> None:
    """HCC_007: two volumes, each of one AcquisitionNumber alone."""
    series = open_series(unpacked("hcc_tace_seg_007/ct_two_phases_in_one_series_dicom"))
    assert [stack.label for stack in series.stacks] == ["AcquisitionNumber 2", "AcquisitionNumber 3"]
    for stack in series.stacks:
        assert len({item.plane.marks["AcquisitionNumber"] for item in stack.slices}) == 1
    assert np.array_equal(*(geometry.origins_lps_mm for geometry in volumes(series)))


def test_a_tilted_stack_keeps_its_planes(unpacked: Callable[[str], list[Path]]) -> None:
    """GE, 18.5 degrees: each slice's own position is its origin, the distances along the normal are the slices' own."""
    geometry = volumes(open_series(unpacked("dcm_qa_ct/ge_tilt18_variable_gap_dicom")))[0]
    assert geometry.tilt_degrees == pytest.approx(18.5, abs=0.1)
    gaps = np.diff(geometry.origins_lps_mm[:, 2])
    assert [np.abs(gaps - wanted).min() < 0.01 for wanted in (4.22, 7.38, 1.14)] == [True] * 3
    assert np.allclose(np.diff(geometry.positions_mm), np.abs(gaps) * np.cos(np.radians(18.5)), atol=0.01)


def test_the_maker_makes_ct(make_series: MakeSeries) -> None:
    assert {dcmread(path).SOPClassUID for path in make_series()} == {CTImageStorage}


def test_each_header_has_the_number_of_its_image(make_series: MakeSeries) -> None:
    """Viewers show an image by its InstanceNumber; only the first slice's header had one."""

    def change(ds: Dataset, index: int) -> None:
        ds.InstanceNumber = 100 - index

    (stack,) = open_series(make_series(change)).stacks
    numbers = [int(header.InstanceNumber) for header in stack_headers(stack)]
    assert numbers == [100 - index for index in range(len(stack.slices))]
