"""Pixels as stored to voxels, against what was stored, and against GDCM (in SimpleITK) where that reads the file."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from imagecodecs import htj2k_encode, jpeg2k_encode, jpeg8_encode, jpegls_encode
from pydicom import Dataset, FileMetaDataset, dcmread
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import (
    HTJ2K,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_io.errors import RejectReason, SeriesRejected
from dicom_io.files.image_file import read_image_file
from dicom_io.geometry import Geometry
from dicom_io.pixel_format import SUPPORTED_SYNTAXES, check_pixels
from dicom_io.pixels import read_volume
from dicom_io.series.stacks import Slice, Stack

ROWS, COLUMNS = 6, 7
ROOT = Path(__file__).resolve().parents[2]
NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)


def stack_of(paths: Sequence[Path], warnings: tuple[str, ...] = ()) -> Stack:
    """Every frame of the files, in order, wherever they say that they lie."""
    files = [read_image_file(path) for path in paths]
    slices = [Slice(file.path, file.header, plane) for file in files for plane in file.header.planes]
    origins = np.c_[np.zeros((len(slices), 2)), np.arange(len(slices))]
    rows, columns = slices[0].header.rows, slices[0].header.columns
    geometry = Geometry(origins, [1, 0, 0], [0, 1, 0], 1.0, 1.0, rows, columns, "1.2.3")  # type: ignore[arg-type]
    return Stack(tuple(slices), geometry, warnings=warnings)


def voxels(*paths: Path) -> np.ndarray:
    return read_volume(stack_of(paths)).array


def by_gdcm(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def refused(*paths: Path) -> SeriesRejected:
    with pytest.raises(SeriesRejected) as caught:
        voxels(*paths)
    return caught.value


def write(path: Path, value: bytes | list[bytes], syntax: str, **attributes: object) -> Path:
    """A CT image of `ROWS` by `COLUMNS`, 16 bits signed unless said otherwise. A list is encapsulated."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = "1.2.3.4"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = "1.2.3", "1.2.3.1", "CT"
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = ROWS, COLUMNS, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.PixelSpacing = [0, 0, 0], [1, 0, 0, 0, 1, 0], [1, 1]
    ds.RescaleSlope, ds.RescaleIntercept = 1, 0
    vr = str(attributes.pop("vr", "OW"))
    for keyword, number in attributes.items():
        setattr(ds, keyword, number)
    if isinstance(value, list):
        value, vr = encapsulate(value), "OB"
    ds.add_new("PixelData", vr, value + b"\0" * (len(value) % 2))
    ds["PixelData"].is_undefined_length = syntax not in NATIVE
    ds.save_as(path, enforce_file_format=True)
    return path


def numbers(bits: int, signed: bool, shape: tuple[int, ...] = (ROWS, COLUMNS)) -> np.ndarray:
    """Numbers over all that so many bits can hold, both ends included."""
    low = -(1 << (bits - 1)) if signed else 0
    drawn = np.random.default_rng(bits).integers(low, low + (1 << bits), shape)
    drawn.ravel()[:2] = low, low + (1 << bits) - 1
    return drawn


# Native pixels.


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    ("allocated", "stored", "high"),
    [(8, 8, 7), (8, 5, 6), (16, 16, 15), (16, 12, 11), (16, 12, 15), (16, 10, 12), (32, 32, 31), (32, 20, 25)],
)
def test_bits_are_taken_from_where_the_header_says(
    tmp_path: Path, syntax: str, signed: bool, allocated: int, stored: int, high: int
) -> None:
    """Whatever lies around them is not theirs, and the sign is that of the high bit."""
    meant = numbers(stored, signed)
    words = (meant & ((1 << stored) - 1)) << (high + 1 - stored)
    rubbish = np.random.default_rng(0).integers(0, 1 << allocated, meant.shape)
    words |= rubbish & ~(((1 << stored) - 1) << (high + 1 - stored))
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    format_ = {"BitsAllocated": allocated, "BitsStored": stored, "HighBit": high, "PixelRepresentation": int(signed)}
    value = words.astype(f"{order}u{allocated // 8}").tobytes()
    path = write(tmp_path / "image", value, syntax, vr="OB" if allocated == 8 else "OW", **format_)
    if order == ">" and allocated == 32:
        assert "read in two ways" in refused(path).detail  # gdcm and pydicom differ
        return
    array = voxels(path)[0]
    assert np.array_equal(array, meant.astype(array.dtype))
    if high == stored - 1:
        assert np.array_equal(by_gdcm(path)[0].astype(np.float32), meant.astype(np.float32))


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize(("rows", "columns"), [(6, 7), (5, 7)])
def test_big_endian_words_of_two_8_bit_pixels(tmp_path: Path, frames: int, rows: int, columns: int) -> None:
    """As OW they are swapped in pairs, over the whole value: a frame of odd size begins in the midst of a pair."""
    meant = numbers(8, False, (frames, rows, columns)).astype(np.uint8)
    value = meant.tobytes() + b"\0" * (meant.size % 2)
    swapped = np.frombuffer(value, "<u2").astype(">u2").tobytes()
    format_ = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0}
    path = write(
        tmp_path / "image", swapped, ExplicitVRBigEndian, Rows=rows, Columns=columns, **enhanced(frames), **format_
    )
    assert np.array_equal(voxels(path), meant)


def enhanced(frames: int) -> dict[str, object]:
    """What makes an image multi-frame; each frame has its own intercept."""
    if frames == 1:
        return {}
    groups = []
    for _ in range(frames):
        group = Dataset()
        group.PixelValueTransformationSequence = [Dataset()]
        group.PixelValueTransformationSequence[0].RescaleSlope = "1"
        group.PixelValueTransformationSequence[0].RescaleIntercept = "0"
        groups.append(group)
    return {
        "SOPClassUID": EnhancedCTImageStorage,
        "NumberOfFrames": frames,
        "PerFrameFunctionalGroupsSequence": groups,
    }


@pytest.mark.parametrize("syntax", NATIVE)
def test_frames_of_one_file(tmp_path: Path, syntax: str) -> None:
    meant = numbers(16, True, (4, ROWS, COLUMNS))
    value = meant.astype(">i2" if syntax == ExplicitVRBigEndian else "<i2").tobytes()
    assert np.array_equal(voxels(write(tmp_path / "image", value, syntax, **enhanced(4))), meant)


@pytest.mark.parametrize("syntax", NATIVE[:3])
@pytest.mark.parametrize("cut", [1, 40, 80])
def test_a_truncated_file_is_unreadable(tmp_path: Path, syntax: str, cut: int) -> None:
    path = write(tmp_path / "image", numbers(16, True).astype("<i2").tobytes(), syntax)
    path.write_bytes(path.read_bytes()[:-cut])
    assert refused(path).reason is RejectReason.UNREADABLE_PIXELS


def test_a_short_value_is_not_filled_with_what_follows(tmp_path: Path) -> None:
    """The file is long enough, its PixelData is not."""
    path = write(tmp_path / "image", b"\0" * 40, ExplicitVRLittleEndian, DataSetTrailingPadding=b"\1" * 200)
    assert refused(path).reason is RejectReason.UNREADABLE_PIXELS


def test_another_file_in_its_place_is_noticed(tmp_path: Path) -> None:
    """Headers may be read long before pixels."""
    value = numbers(16, True).astype("<i2").tobytes()
    stack = stack_of([write(tmp_path / "image", value, ExplicitVRLittleEndian)])
    write(tmp_path / "image", value, ExplicitVRLittleEndian, SeriesDescription="longer than before")
    with pytest.raises(SeriesRejected) as caught:
        read_volume(stack)
    assert caught.value.reason is RejectReason.UNREADABLE_PIXELS


def test_what_the_disk_says_is_no_verdict(tmp_path: Path) -> None:
    path = write(tmp_path / "image", numbers(16, True).astype("<i2").tobytes(), ExplicitVRLittleEndian)
    stack = stack_of([path])
    path.unlink()
    with pytest.raises(FileNotFoundError):
        read_volume(stack)


# Rescale and padding.


def series(tmp_path: Path, *images: dict[str, object], stored: np.ndarray | None = None) -> list[Path]:
    stored = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) if stored is None else stored
    value = stored.astype("<i2").tobytes()
    return [write(tmp_path / str(i), value, ExplicitVRLittleEndian, **image) for i, image in enumerate(images)]


def test_each_slice_has_its_own_rescale(tmp_path: Path) -> None:
    array = voxels(*series(tmp_path, {}, {"RescaleIntercept": -1024}, {"RescaleSlope": -3, "RescaleIntercept": 7}))
    plain = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    assert array.dtype == np.int16
    assert np.array_equal(array, [plain, plain - 1024, 7 - 3 * plain])


def test_no_rescale_is_none(tmp_path: Path) -> None:
    (path,) = series(tmp_path, {"RescaleSlope": None, "RescaleIntercept": None})
    assert voxels(path).max() == ROWS * COLUMNS - 1


@pytest.mark.parametrize("odd", [{"RescaleSlope": "0.5"}, {"RescaleIntercept": "-0.25"}, {"RescaleSlope": "2000"}])
def test_one_slice_that_does_not_fit_makes_all_float(tmp_path: Path, odd: dict[str, object]) -> None:
    """Be it seen in the headers or, after slices were read, in the values."""
    array = voxels(*series(tmp_path, {}, {}, odd, {}))
    slope, intercept = float(str(odd.get("RescaleSlope", 1))), float(str(odd.get("RescaleIntercept", 0)))
    plain = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    assert array.dtype == np.float32
    assert np.array_equal(array, [plain, plain, plain * slope + intercept, plain])


@pytest.mark.parametrize(("slope", "stored"), [(1, 40000), (16, 65535), (3, 30000)])
def test_words_that_overflow_on_the_way_but_fit_in_the_end(tmp_path: Path, slope: int, stored: int) -> None:
    value = np.full((ROWS, COLUMNS), stored, "<u2").tobytes()
    intercept = 100 - slope * stored
    path = write(
        tmp_path / "image",
        value,
        ExplicitVRLittleEndian,
        PixelRepresentation=0,
        RescaleSlope=slope,
        RescaleIntercept=intercept,
    )
    assert (voxels(path).dtype, np.unique(voxels(path)).tolist()) == (np.int16, [100])


@pytest.mark.parametrize("rescale", [("nan", 0), (0, 0), ("inf", 0), (1, "nan"), (1, 1e40)])
def test_rescale_values_that_rescale_nothing(tmp_path: Path, rescale: tuple[object, object]) -> None:
    (path,) = series(tmp_path, {})
    stack = stack_of([path])
    slope, intercept = (float(str(number)) for number in rescale)
    plane = replace(stack.slices[0].plane, rescale_slope=slope, rescale_intercept=intercept)
    with pytest.raises(SeriesRejected) as caught:
        read_volume(replace(stack, slices=(replace(stack.slices[0], plane=plane),)))
    assert caught.value.reason is RejectReason.UNREADABLE_PIXELS


PADDED = np.array(
    [
        [9, 9, 9, 9, 9, 9, 9],
        [9, 9, 40, 40, 40, 9, 9],
        [9, 40, 40, 9, 40, 40, 9],
        [9, 40, 40, 40, 40, 40, 8],
        [9, 9, 40, 40, 40, 9, 7],
        [9, 9, 9, 9, 9, 9, 9],
    ]
)


def test_padding_above_air_becomes_air(tmp_path: Path) -> None:
    """From the border inward; the same number inside the body was measured there."""
    (path,) = series(tmp_path, {"PixelPaddingValue": 9}, stored=PADDED)
    expected = np.where(PADDED == 9, -1024, PADDED)
    expected[2, 3] = 9
    assert np.array_equal(voxels(path)[0], expected)


def test_a_range_of_padding(tmp_path: Path) -> None:
    (path,) = series(tmp_path, {"PixelPaddingValue": 9, "PixelPaddingRangeLimit": 7}, stored=PADDED)
    expected = np.where(PADDED < 10, -1024, PADDED)
    expected[2, 3] = 9
    assert np.array_equal(voxels(path)[0], expected)


@pytest.mark.parametrize(
    ("value", "written", "signed"), [(-5, 65531, 1), (-5, -5, 1), (65531, 65531, 0), (65531, -5, 0)]
)
def test_padding_with_the_wrong_sign(tmp_path: Path, value: int, written: int, signed: int) -> None:
    """PixelPaddingValue is written as US or SS, whatever PixelRepresentation says; and padding needs not fit int16."""
    path = write(
        tmp_path / "image",
        np.where(PADDED == 9, value & 0xFFFF, PADDED).astype("<u2").tobytes(),
        ExplicitVRLittleEndian,
        PixelRepresentation=signed,
    )
    stack = stack_of([path])
    pixels = replace(stack.slices[0].header.pixels, pixel_padding_value=written)
    item = replace(stack.slices[0], header=replace(stack.slices[0].header, pixels=pixels))
    array = read_volume(replace(stack, slices=(item,))).array
    assert array[0, 0, 0] == array[0, 5, 6] == -1024
    assert array[0, 2, 3] == value
    assert array.dtype == (np.int16 if signed else np.float32)  # the one inside the body does not fit


def test_padding_below_air_stays(tmp_path: Path) -> None:
    """As all that scanners write: -1500, -2000 or -3024 HU says by itself what it is."""
    padding = {"PixelPaddingValue": 9, "RescaleIntercept": -1033}
    (path,) = series(tmp_path, padding, stored=PADDED)
    assert np.array_equal(voxels(path)[0], PADDED - 1033)


def test_padding_is_a_matter_of_ct(tmp_path: Path) -> None:
    (path,) = series(tmp_path, {"PixelPaddingValue": 9, "Modality": "MR"}, stored=PADDED)
    assert np.array_equal(voxels(path)[0], PADDED)


def test_monochrome1_is_not_inverted(tmp_path: Path) -> None:
    """It says how to show values, not what they are."""
    (path,) = series(tmp_path, {"PhotometricInterpretation": "MONOCHROME1"}, stored=PADDED)
    assert np.array_equal(voxels(path)[0], PADDED)


# What is told, and what headers foretell.


def test_the_volume_says_what_the_stack_says(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    stack = stack_of(series(tmp_path, {}, {}, {}), warnings=("TILT",))
    volume = read_volume(stack, lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert (volume.warnings, volume.modality, volume.series_instance_uid) == (("TILT",), "CT", "1.2.3.1")
    assert (volume.sop_instance_uids, volume.frame_numbers) == (stack.sop_instance_uids, stack.frame_numbers)


@pytest.mark.parametrize(
    ("attributes", "syntax", "reason"),
    [
        ({"SamplesPerPixel": 3}, ExplicitVRLittleEndian, RejectReason.UNREADABLE_PIXELS),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, ExplicitVRLittleEndian, RejectReason.UNREADABLE_PIXELS),
        ({"BitsAllocated": 12, "BitsStored": 12}, ExplicitVRLittleEndian, RejectReason.UNREADABLE_PIXELS),
        ({"BitsStored": 17}, ExplicitVRLittleEndian, RejectReason.UNREADABLE_PIXELS),
        ({}, "1.2.840.10008.1.2.4.100", RejectReason.UNSUPPORTED_SYNTAX),
        ({}, "1.2.840.10008.1.2.4.94", RejectReason.UNSUPPORTED_SYNTAX),
        ({}, "1.2.840.10008.1.2.4.110", RejectReason.UNSUPPORTED_SYNTAX),
        ({}, "1.2.3.4.5", RejectReason.UNSUPPORTED_SYNTAX),
    ],
)
def test_headers_foretell(tmp_path: Path, attributes: dict[str, object], syntax: str, reason: RejectReason) -> None:
    """No file is opened for these."""
    stack = stack_of(series(tmp_path, attributes))
    header = stack.slices[0].header
    header = replace(header, pixels=replace(header.pixels, transfer_syntax_uid=syntax))
    (tmp_path / "0").unlink()
    with pytest.raises(SeriesRejected) as caught:
        check_pixels(replace(stack, slices=(replace(stack.slices[0], header=header),)))
    assert caught.value.reason is reason


def test_no_text_of_the_file_is_quoted(tmp_path: Path) -> None:
    """A file may hold anything where its transfer syntax belongs."""
    stack = stack_of(series(tmp_path, {}))
    header = stack.slices[0].header
    header = replace(header, pixels=replace(header.pixels, transfer_syntax_uid="ZZPHI^CANARY"))
    with pytest.raises(SeriesRejected) as caught:
        check_pixels(replace(stack, slices=(replace(stack.slices[0], header=header),)))
    assert "ZZPHI" not in str(caught.value)


# Compressed pixels.

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
    "CTImage.dcm_LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1.dcm": 0,
    "CTImage.dcm_LittleEndianImplicitTransferSyntax_1.2.840.10008.1.2.dcm": 0,
    "CTImage.dcm_RLELosslessTransferSyntax_1.2.840.10008.1.2.5.dcm": 0,
    # 8 and 12 bits for a range of 8191 HU, with the slope that this takes: 32 and 2 HU a step.
    "CTImage.dcm_JPEGProcess1TransferSyntax_1.2.840.10008.1.2.4.50.dcm": 65,
    "CTImage.dcm_JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51.dcm": 36,
    "CTImage.dcm_JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53.dcm": 36,
    "CTImage.dcm_JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55.dcm": 36,
}
"""The same slice in every transfer syntax, and the largest error of a voxel in HU."""


@pytest.mark.parametrize("name", SYNTAXES)
def test_every_transfer_syntax(shared_data: Path, name: str) -> None:
    """Lossless ones are exact, lossy ones as close as their quantization; and all are what GDCM reads."""
    folder = shared_data / "ct_transfer_syntaxes"
    array = voxels(folder / name)
    expected = by_gdcm(folder / "CTImage.dcm_LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1.dcm")
    assert np.abs(array.astype(np.float64) - expected).max() <= SYNTAXES[name]
    assert np.array_equal(array, by_gdcm(folder / name).astype(array.dtype))


def test_every_stored_syntax_is_listed(shared_data: Path) -> None:
    assert {path.name for path in (shared_data / "ct_transfer_syntaxes").glob("CTImage.dcm*")} == set(SYNTAXES)


def jpeg_ls(frame: np.ndarray) -> bytes:
    return bytes(jpegls_encode(frame.astype(np.uint16)))


def jpeg_lossless(frame: np.ndarray) -> bytes:
    return bytes(jpeg8_encode(frame.astype(np.uint16), lossless=True, predictor=1, bitspersample=16))


def j2k(frame: np.ndarray) -> bytes:
    return bytes(jpeg2k_encode(frame, codecformat="j2k", reversible=True, level=0))


def htj2k(frame: np.ndarray) -> bytes:
    return bytes(htj2k_encode(frame, reversible=True))


def rle(frame: np.ndarray) -> bytes:
    """Segments of literal runs alone."""
    parts = [frame.astype(">u2").tobytes()[byte::2] for byte in range(2)]
    runs = [b"".join(bytes([len(p[i : i + 128]) - 1]) + p[i : i + 128] for i in range(0, len(p), 128)) for p in parts]
    runs = [run + b"\x80" * (len(run) % 2) for run in runs]
    return np.array([2, 64, 64 + len(runs[0]), *[0] * 13], "<u4").tobytes() + b"".join(runs)


ENCODERS: dict[str, Callable[[np.ndarray], bytes]] = {
    JPEGLSLossless: jpeg_ls,
    JPEGLosslessSV1: jpeg_lossless,
    JPEG2000Lossless: j2k,
    HTJ2KLossless: htj2k,
    HTJ2KLosslessRPCL: htj2k,
    HTJ2K: htj2k,
    RLELossless: rle,
}

LARGE = {"Rows": 64, "Columns": 48}


@pytest.mark.parametrize("syntax", ENCODERS)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("stored", [12, 16])
def test_signs_in_codestreams_that_know_none(tmp_path: Path, syntax: str, signed: bool, stored: int) -> None:
    """Numbers with a sign are encoded as if they had none; of JPEG 2000 too, as by some archives."""
    meant = numbers(stored, signed, (64, 48))
    encoded = ENCODERS[syntax]((meant & ((1 << stored) - 1)).astype(np.uint16))
    format_ = {"BitsStored": stored, "HighBit": stored - 1, "PixelRepresentation": int(signed)}
    array = voxels(write(tmp_path / "image", [encoded], syntax, **LARGE, **format_))[0]
    assert np.array_equal(array, meant.astype(array.dtype))


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, HTJ2KLossless])
def test_signs_in_codestreams_that_know_them(tmp_path: Path, syntax: str) -> None:
    meant = numbers(16, True, (64, 48)).astype(np.int16)
    assert np.array_equal(voxels(write(tmp_path / "image", [ENCODERS[syntax](meant)], syntax, **LARGE))[0], meant)


@pytest.mark.parametrize(("name", "low", "high"), [("J2K_pixelrep_mismatch", -2000, 1896), ("693_J2KI", -3995, 1812)])
def test_codestreams_that_contradict_their_header(shared_data: Path, name: str, low: int, high: int) -> None:
    """One has no sign where the header says that it has, one 16 bits where the header says 14."""
    path = shared_data / "pydicom_small" / f"{name}.dcm"
    array = voxels(path)
    assert (array.min(), array.max()) == (low, high)
    assert np.array_equal(array, by_gdcm(path))


FRAMES = 5


@pytest.mark.parametrize(
    ("syntax", "fragments", "table"),
    [
        (syntax, fragments, table)
        for syntax in ENCODERS
        for fragments, table in [(1, "none"), (1, "basic"), (1, "extended"), (3, "none"), (3, "basic")]
        if (syntax, fragments, table) != (RLELossless, 3, "none")  # nothing in RLE says where a frame ends
    ],
)
def test_frames_in_fragments(tmp_path: Path, syntax: str, fragments: int, table: str) -> None:
    """Each frame is found, with an offset table or without, in any order that the stack has."""
    meant = numbers(15, False, (FRAMES, 64, 48)).astype(np.uint16)
    encoded = [ENCODERS[syntax](frame) for frame in meant]
    offsets: dict[str, object] = {}
    if table == "extended":
        value, offsets["ExtendedOffsetTable"], offsets["ExtendedOffsetTableLengths"] = encapsulate_extended(encoded)
    else:
        value = encapsulate(encoded, fragments_per_frame=fragments, has_bot=table == "basic")
    path = write(tmp_path / "image", value, syntax, vr="OB", **LARGE, **enhanced(FRAMES), **offsets)
    assert np.array_equal(voxels(path), meant)
    stack = stack_of([path])
    assert np.array_equal(read_volume(replace(stack, slices=stack.slices[::-1])).array, meant[::-1])


def test_one_frame_in_fragments_with_a_wrong_table(tmp_path: Path) -> None:
    """Of one frame all fragments are its own, whatever the table says."""
    meant = numbers(16, False, (64, 48)).astype(np.uint16)
    value = bytearray(encapsulate([j2k(meant)], fragments_per_frame=4, has_bot=True))
    value[8:12] = b"\1\2\3\4"
    path = write(tmp_path / "image", bytes(value), JPEG2000Lossless, vr="OB", PixelRepresentation=0, **LARGE)
    assert np.array_equal(voxels(path)[0], meant)


@pytest.mark.parametrize(
    ("rows", "columns", "read"), [(ROWS - 1, COLUMNS, False), (ROWS, COLUMNS - 1, False), (ROWS, COLUMNS, True)]
)
def test_more_pixels_than_the_image_has(tmp_path: Path, rows: int, columns: int, read: bool) -> None:
    """Of too few columns every row would begin elsewhere; a few bytes of padding are none."""
    value = numbers(16, True).astype("<i2").tobytes() + bytes(6) * read
    path = write(tmp_path / "image", value, ExplicitVRLittleEndian, Rows=rows, Columns=columns)
    if read:
        assert np.array_equal(voxels(path)[0], numbers(16, True))
    else:
        assert refused(path).reason is RejectReason.UNREADABLE_PIXELS


@pytest.mark.parametrize("syntax", ENCODERS)
@pytest.mark.parametrize("change", ["cut", "codestream cut", "size", "frames", "empty", "native", "zeros"])
def test_compressed_pixels_that_are_not_the_image(tmp_path: Path, syntax: str, change: str) -> None:
    """None of them becomes a grey or half-filled slice."""
    encoded = ENCODERS[syntax](numbers(15, False, (64, 48)).astype(np.uint16))
    value: bytes | list[bytes] = [encoded]
    more: dict[str, object] = dict(LARGE)
    if change == "codestream cut":
        value = [encoded[: len(encoded) // 2]]
    elif change == "size":
        more = {"Rows": 64, "Columns": 56}
    elif change == "frames":
        more |= enhanced(3)
    elif change == "empty":
        value = [b"\0\0"]
    elif change == "zeros":
        value = [b"\0" * 500]
    path = write(tmp_path / "image", value, syntax, **more)
    if change == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif change == "native":
        path = write(tmp_path / "image", encoded, ExplicitVRLittleEndian, **more)
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"))
    assert refused(path).reason is RejectReason.UNREADABLE_PIXELS


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless])
def test_colours_in_a_codestream_that_the_header_calls_grey(tmp_path: Path, syntax: str) -> None:
    colours = np.zeros((64, 48, 3), np.uint8)
    encoded = j2k(colours) if syntax == JPEG2000Lossless else bytes(jpegls_encode(colours))
    assert refused(write(tmp_path / "image", [encoded], syntax, **LARGE)).detail == "A colour image."


def test_real_enhanced_frames(unpacked: Callable[[str], list[Path]]) -> None:
    """Each frame with its own rescale, against pydicom's decoding."""
    (path,) = unpacked("dcm_qa_mr/philips_enhanced_mr_multiframe_dicom")
    stack, stored = stack_of([path]), dcmread(path).pixel_array
    planes = [item.plane for item in stack.slices]
    assert None not in {planes[0].rescale_slope, planes[0].rescale_intercept}
    expected = [
        frame * np.float64(plane.rescale_slope or 1) + (plane.rescale_intercept or 0)
        for frame, plane in zip(stored, planes, strict=True)
    ]
    assert np.array_equal(read_volume(stack).array, np.asarray(expected, np.float32))


def test_deflated_pixels_cut_short(tmp_path: Path) -> None:
    """The inflated value ends before the image does."""
    path = write(tmp_path / "image", b"\0" * 20, DeflatedExplicitVRLittleEndian)
    assert refused(path).reason is RejectReason.UNREADABLE_PIXELS


def test_supported_syntaxes_are_those_of_the_set_and_htj2k() -> None:
    listed = {name.rsplit("_", 1)[1].removesuffix(".dcm") for name in SYNTAXES if "_" in name}
    assert listed | {HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K} == SUPPORTED_SYNTAXES


DAMAGING = """
import random, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[1])
from test_pixels import voxels
from dicom_io.errors import NotDicom, SeriesRejected
path = Path(sys.argv[2])
whole, chance, count = path.read_bytes(), random.Random(7), int(sys.argv[3])
start = whole.index(bytes.fromhex("e07f1000"))
for _ in range(count):
    damaged = bytearray(whole)
    end = min(len(damaged), start + 300) if chance.random() < 0.6 else len(damaged)
    for _ in range(chance.choice([1, 1, 2, 5, 40])):
        damaged[chance.randrange(start, end)] = chance.randrange(256)
    path.write_bytes(damaged)
    try:
        voxels(path)
    except (NotDicom, SeriesRejected):
        continue
print("lived")
"""


@pytest.mark.parametrize("syntax", ENCODERS)
def test_damaged_codestreams_end_in_a_verdict(tmp_path: Path, syntax: str) -> None:
    """Never in another error, and never in the end of the process; in another one, should it be otherwise."""
    encoded = ENCODERS[syntax](numbers(12, False, (64, 48)).astype(np.uint16))
    path = write(tmp_path / "image", [encoded], syntax, **LARGE)
    command = [sys.executable, "-c", DAMAGING, str(Path(__file__).parent), str(path), "400"]
    child = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, check=False)
    assert (child.returncode, child.stdout) == (0, "lived\n"), child.stderr[-2000:]
