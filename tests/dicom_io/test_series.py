"""Files of one series to a volume, or to the reason why not."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import CTImageStorage

from dicom_io.errors import NotDicom, RejectReason, SeriesRejected
from dicom_io.geometry import Geometry
from dicom_io.series import Series, group_by_series, open_series, read_header, read_volume

MakeSeries = Callable[..., list[Path]]


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


def gap(ds: Dataset, index: int) -> None:
    if index > 5:
        height(ds, ds.ImagePositionPatient[2] + 5)


def tilt(ds: Dataset, index: int) -> None:
    ds.ImagePositionPatient = [-20.5, 10.25 + 2 * index, 100 + 5 * index]


def at_one_place(ds: Dataset, index: int) -> None:
    height(ds, 100 + 5 * (index // 2))


def short(ds: Dataset, index: int) -> None:
    height(ds, 100 + index)


def cut_off(ds: Dataset, index: int) -> None:
    if index == 3:
        ds.PixelData = ds.PixelData[:10]


REJECTED: dict[RejectReason, list[Callable[[Dataset, int], None]]] = {
    RejectReason.NOT_CT: [setting(Modality="MR"), only(3, Modality="PT"), setting(Modality=None)],
    RejectReason.NOT_IMAGES: [no_image],
    RejectReason.LOCALIZER_ONLY: [setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])],
    RejectReason.MULTIFRAME: [only(0, NumberOfFrames=2)],
    RejectReason.NO_POSITION: [
        only(2, ImagePositionPatient=None),
        only(2, ImageOrientationPatient=None),
        only(2, PixelSpacing=None),
        only(2, ImagePositionPatient=[0, 0]),
        only(2, PixelSpacing=[0, 0.5]),
        setting(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]),
    ],
    RejectReason.MIXED_ORIENTATION: [only(4, ImageOrientationPatient=[1, 0, 0, 0, 0.99619, 0.08716])],
    RejectReason.NOT_AXIAL: [setting(ImageOrientationPatient=[0, 1, 0, 0, 0, -1])],
    RejectReason.MIXED_GRID: [
        only(4, PixelSpacing=[0.8, 0.5]),
        only(4, Rows=3),
        only(4, FrameOfReferenceUID="1.2.4"),
    ],
    RejectReason.DUPLICATE_POSITIONS: [at_one_place],
    RejectReason.UNEVEN_SPACING: [gap],
    RejectReason.TILT: [tilt],
    RejectReason.TOO_SHORT: [short],
    RejectReason.UNREADABLE_PIXELS: [
        cut_off,
        only(3, PixelData=None),
        only(3, RescaleSlope="nan"),
        only(3, SamplesPerPixel=3),
    ],
}


@pytest.mark.parametrize(
    ("reason", "change"), [(reason, change) for reason, changes in REJECTED.items() for change in changes]
)
def test_each_reason(make_series: MakeSeries, reason: RejectReason, change: Callable[[Dataset, int], None]) -> None:
    """Whatever is no plain axial CT is refused, and the reason is named."""
    paths = make_series(change)
    with pytest.raises(SeriesRejected) as caught:
        read_volume(open_series(paths))
    assert caught.value.reason is reason


def test_too_few_slices(make_series: MakeSeries) -> None:
    with pytest.raises(SeriesRejected) as caught:
        open_series(make_series()[:4])
    assert caught.value.reason is RejectReason.TOO_FEW_SLICES


def test_every_reason_is_tested() -> None:
    """NO_RULE is the job's, not the images'."""
    assert set(REJECTED) | {RejectReason.TOO_FEW_SLICES, RejectReason.NO_RULE} == set(RejectReason)


def test_slices_are_sorted_by_position(make_series: MakeSeries) -> None:
    """Not by file name, order of arrival, or InstanceNumber."""
    paths = make_series(lambda ds, index: setattr(ds, "InstanceNumber", 100 - index))
    shuffled = random.Random(1).sample(paths, len(paths))
    assert open_series(shuffled).paths == tuple(paths)
    volume = read_volume(open_series(shuffled))
    assert np.array_equal(volume.array.ravel(), np.arange(volume.array.size) - 500)
    assert volume.sop_instance_uids == tuple(read_header(path).SOPInstanceUID for path in paths)


def test_rescale_is_taken_from_each_slice(make_series: MakeSeries) -> None:
    """Slope and intercept of one slice are not another's."""

    def change(ds: Dataset, index: int) -> None:
        ds.RescaleIntercept = -1024 + 10 * index

    array = read_volume(open_series(make_series(change))).array
    plain = np.arange(array.size).reshape(array.shape) - 500
    assert array.dtype == np.int16
    assert np.array_equal(array - plain, np.broadcast_to(10 * np.arange(12)[:, None, None], array.shape))


def test_fractions_become_float(make_series: MakeSeries) -> None:
    """A slope that is no whole number leaves int16, for the slices before it too."""
    array = read_volume(open_series(make_series(only(5, RescaleSlope="0.5")))).array
    assert array.dtype == np.float32
    assert array[5, 0, 0] == (5 * 48 - 500 + 1024) * 0.5 - 1024
    assert array[6, 0, 0] == 6 * 48 - 500


def test_localizers_are_left_out(make_series: MakeSeries) -> None:
    """And counted, and said."""
    series = open_series(make_series(only(0, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])))
    assert (series.geometry.slices, series.left_out, series.warnings) == (11, 1, ("LEFT_OUT",))


def test_no_frame_of_reference(make_series: MakeSeries) -> None:
    """It is derived from the series, so that every reading gives the same."""
    paths = make_series(setting(FrameOfReferenceUID=None))
    series = open_series(paths)
    assert series.warnings == ("NO_FRAME_OF_REFERENCE",)
    assert series.geometry.frame_of_reference_uid == open_series(paths[::-1]).geometry.frame_of_reference_uid != ""


def test_progress_is_told(make_series: MakeSeries) -> None:
    told: list[tuple[int, int]] = []
    read_volume(open_series(make_series()), lambda done, total: told.append((done, total)))
    assert told == [(index + 1, 12) for index in range(12)]


def test_files_are_grouped_by_series(make_series: MakeSeries, tmp_path: Path) -> None:
    """Each instance once; what is no DICOM is handed back, not lost."""
    one, two = make_series(folder="one", seed="1"), make_series(folder="two", seed="2")
    text = tmp_path / "text"
    text.write_text("hello")
    groups, unreadable = group_by_series([*one, *two, *one, text])
    assert [[path for _, path in group] for group in groups.values()] == [one, two]
    assert [error.path for error in unreadable] == [text]


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"])
def test_an_instance_has_uids(make_series: MakeSeries, keyword: str) -> None:
    with pytest.raises(NotDicom, match=keyword):
        read_header(make_series(only(0, **{keyword: ""}))[0])


@pytest.mark.parametrize("cut", [0, 100, 140, 300, 700])
def test_a_truncated_file_is_no_dicom(make_series: MakeSeries, cut: int) -> None:
    path = make_series()[0]
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(NotDicom):
        read_header(path)


@pytest.mark.filterwarnings("ignore")
def test_changed_bytes_are_refused_not_raised(make_series: MakeSeries) -> None:
    """A damaged file ends as NotDicom or SeriesRejected, never as whatever pydicom happens to raise."""
    path = make_series()[0]
    whole, chance = path.read_bytes(), random.Random(7)
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(chance.choice([1, 5, 40])):
            damaged[chance.randrange(128, len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            read_volume(open_series([path] * 5))
        except (NotDicom, SeriesRejected):
            continue


def test_a_folder_is_no_dicom(tmp_path: Path) -> None:
    with pytest.raises(NotDicom):
        read_header(tmp_path)


def test_a_missing_file_is_not_called_damaged(tmp_path: Path) -> None:
    """What the disk says is no verdict on the file."""
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "missing")


def test_errors_quote_no_patient(make_series: MakeSeries) -> None:
    paths = make_series(setting(PatientName="ZZPHI^CANARY", ImagePositionPatient=None))
    with pytest.raises(SeriesRejected) as caught:
        open_series(paths)
    assert "ZZPHI" not in str(caught.value)


# Real series.


@pytest.mark.parametrize(
    ("name", "shape", "step_mm", "warnings"),
    [
        ("ircadb_case17/ct_dicom", (119, 512, 512), 1.6, ("NO_FRAME_OF_REFERENCE",)),
        ("chaos_ct3/ct_dicom", (78, 512, 512), 2.0, ()),
        ("lits_volume0/ct_dicom", (75, 512, 512), 5.0, ()),
        ("hcc_tace_seg_007/ct_precontrast_10mm_dicom", (18, 512, 512), 10.0, ()),
    ],
)
def test_real_series(
    unpacked: Callable[[str], list[Path]],
    name: str,
    shape: tuple[int, int, int],
    step_mm: float,
    warnings: tuple[str, ...],
) -> None:
    series = open_series(unpacked(name))
    assert series.geometry.shape == shape
    assert series.geometry.step_mm == pytest.approx(step_mm, abs=1e-3)
    assert series.warnings == warnings


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("hcc_tace_seg_007/ct_two_phases_in_one_series_dicom", RejectReason.DUPLICATE_POSITIONS),
        ("dcm_qa_ct/ge_tilt18_variable_gap_dicom", RejectReason.UNEVEN_SPACING),
        ("dcm_qa_mr/philips_enhanced_mr_multiframe_dicom", RejectReason.NOT_CT),
    ],
)
def test_real_series_that_are_refused(unpacked: Callable[[str], list[Path]], name: str, reason: RejectReason) -> None:
    with pytest.raises(SeriesRejected) as caught:
        open_series(unpacked(name))
    assert caught.value.reason is reason


def test_rows_that_run_back_to_front(unpacked: Callable[[str], list[Path]]) -> None:
    """LiTS 0 (column cosines 0,-1,0): the normal points to the feet, so slices run downward and every index has its
    place: the patient's back, where the table is, has the small row numbers."""
    series = open_series(unpacked("lits_volume0/ct_dicom"))
    geometry = series.geometry
    assert geometry.normal.tolist() == [0, 0, -1]
    assert geometry.origins_lps_mm[0, 2] > geometry.origins_lps_mm[-1, 2]
    first, last = geometry.index_to_lps([[0, 0, 0], [0, geometry.rows - 1, 0]])
    assert first[1] > last[1]  # LPS y grows to the back


SYNTAXES = {
    "CTImage.dcm": 0,
    "CTImage.dcm_BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2.dcm": 0,
    "CTImage.dcm_DeflatedExplicitVRLittleEndianTransferSyntax_1.2.840.10008.1.2.1.99.dcm": 0,
    "CTImage.dcm_JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90.dcm": 0,
    "CTImage.dcm_JPEG2000TransferSyntax_1.2.840.10008.1.2.4.91.dcm": 5,
    "CTImage.dcm_JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80.dcm": 0,
    "CTImage.dcm_JPEGLSLossyTransferSyntax_1.2.840.10008.1.2.4.81.dcm": 1,
    "CTImage.dcm_JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70.dcm": 0,
    "CTImage.dcm_JPEGProcess14TransferSyntax_1.2.840.10008.1.2.4.57.dcm": 0,
    "CTImage.dcm_LittleEndianImplicitTransferSyntax_1.2.840.10008.1.2.dcm": 0,
    "CTImage.dcm_RLELosslessTransferSyntax_1.2.840.10008.1.2.5.dcm": 0,
    # 8 and 12 bits for a range of 8191 HU, with the slope that this takes: 32 and 2 HU a step.
    "CTImage.dcm_JPEGProcess1TransferSyntax_1.2.840.10008.1.2.4.50.dcm": 65,
    "CTImage.dcm_JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51.dcm": 36,
    "CTImage.dcm_JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53.dcm": 36,
    "CTImage.dcm_JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55.dcm": 36,
}
"""The same slice in every transfer syntax, and the largest error of a voxel in HU."""


def one_slice(path: Path) -> np.ndarray:
    header = read_header(path)
    geometry = Geometry(
        origins_lps_mm=np.array([header.ImagePositionPatient]),
        row_cosines=np.array([1.0, 0.0, 0.0]),
        column_cosines=np.array([0.0, 1.0, 0.0]),
        row_spacing_mm=1.0,
        column_spacing_mm=1.0,
        rows=header.Rows,
        columns=header.Columns,
        frame_of_reference_uid="1.2.3",
    )
    return read_volume(Series((header,), (path,), geometry)).array


@pytest.mark.parametrize("name", SYNTAXES)
def test_every_transfer_syntax(shared_data: Path, name: str) -> None:
    """Lossless ones are exact, lossy ones as close as their quantization."""
    folder = shared_data / "ct_transfer_syntaxes"
    expected = one_slice(folder / "CTImage.dcm_LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1.dcm")
    error = np.abs(one_slice(folder / name).astype(np.float64) - expected).max()
    assert error <= SYNTAXES[name]


def test_every_stored_syntax_is_listed(shared_data: Path) -> None:
    names = {path.name for path in (shared_data / "ct_transfer_syntaxes").glob("CTImage.dcm*")}
    assert names - set(SYNTAXES) == {"CTImage.dcm_LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1.dcm"}


def test_the_maker_makes_ct(make_series: MakeSeries) -> None:
    assert {dcmread(path).SOPClassUID for path in make_series()} == {CTImageStorage}
