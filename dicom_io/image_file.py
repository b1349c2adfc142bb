"""Files of one kind or another, and what each says: read leniently, once. Pixels stay where they are."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pydicom import Dataset, FileDataset, dcmread
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicom_io.errors import NotDicom
from dicom_io.image_header import ImageHeader, PixelFormat, Plane

DAMAGED = (
    *(InvalidDicomError, BytesLengthException, EOFError, ValueError, TypeError, LookupError, AttributeError),
    *(RuntimeError, ArithmeticError, AssertionError, struct.error, zlib.error),
)
"""What pydicom and its decoders raise on bytes that are no data set, or a damaged one (found by changing bytes of
files at random, 20 000 times). NotImplementedError is a RuntimeError; a decoder's own errors come as RuntimeError."""

SPLITTING = (
    *("AcquisitionNumber", "TemporalPositionIdentifier", "TemporalPositionIndex", "EchoNumbers", "EchoTime"),
    *("ImageType", "ComplexImageComponent", "DiffusionBValue", "DiffusionGradientOrientation", "TriggerTime"),
    *("InversionTime", "FlipAngle", "KVP", "ConvolutionKernel", "SliceThickness", "ContrastBolusAgent", "StackID"),
    *("AcquisitionDateTime", "ContentTime"),
)
"""What may tell apart the volumes of one series, the most telling first."""

DESCRIBING = ("SeriesDescription", "ProtocolName", "ContrastBolusStartTime")
"""What says of a volume which phase or kernel it is. Never shown: people write anything into descriptions."""

MARKS = SPLITTING + DESCRIBING

PIXEL_DATA = 0x7FE00010
LONG_FORM = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN")
UNDEFINED_LENGTH = 0xFFFFFFFF

MACROS = {
    "MREchoSequence": {"EffectiveEchoTime": "EchoTime"},
    "MRDiffusionSequence": {"DiffusionBValue": "DiffusionBValue"},
    "MRImageFrameTypeSequence": {"ComplexImageComponent": "ComplexImageComponent"},
    "FrameContentSequence": {
        "TemporalPositionIndex": "TemporalPositionIndex",
        "StackID": "StackID",
        "FrameAcquisitionNumber": "AcquisitionNumber",
        "FrameAcquisitionDateTime": "AcquisitionDateTime",
    },
    "CardiacSynchronizationSequence": {"NominalCardiacTriggerDelayTime": "TriggerTime"},
    "MRModifierSequence": {"InversionTimes": "InversionTime"},
    "MRTimingAndRelatedParametersSequence": {"FlipAngle": "FlipAngle"},
    "CTXRayDetailsSequence": {"KVP": "KVP"},
}
"""Functional groups that tell frames apart, and the mark that each of their attributes is (PS3.3 section C.7.6.16)."""


@dataclass(frozen=True)
class ImageFile:
    """A file, and what it says of its images."""

    path: Path
    header: ImageHeader


def read_dataset(path: Path) -> Dataset:
    """The data set of a DICOM file without its pixel data. Raises NotDicom when there is none to read.

    OSError goes through when the disk failed, as it says nothing about the file.
    """
    return _read(path)[0]


def read_image_file(path: Path) -> ImageFile:
    """The file with its header. A blank or broken value is an empty one there: it is for `arrange` to judge.

    Raises NotDicom when the file holds no data set; OSError when the disk failed.
    """
    ds, offset = _read(path)
    return ImageFile(path, image_header(ds, offset))


def image_header(ds: Dataset, offset: int | None) -> ImageHeader:
    """What a data set says of its images. `offset` is where the value of native PixelData begins in the file."""
    rows, columns = _integer(ds, "Rows") or 0, _integer(ds, "Columns") or 0
    pixels, planes = None, list[Plane]()
    if rows and columns:
        pixels = _pixel_format(ds, offset)
        planes = list(_frames(ds)) if "PerFrameFunctionalGroupsSequence" in ds else [_plane(ds)]
    return ImageHeader(
        sop_class_uid=_text(ds, "SOPClassUID"),
        sop_instance_uid=_text(ds, "SOPInstanceUID"),
        series_instance_uid=_text(ds, "SeriesInstanceUID"),
        study_instance_uid=_text(ds, "StudyInstanceUID"),
        frame_of_reference_uid=_text(ds, "FrameOfReferenceUID"),
        modality=_text(ds, "Modality"),
        rows=rows,
        columns=columns,
        pixels=pixels,
        planes=tuple(planes),
    )


def is_of_the_disk(error: Exception) -> bool:
    """Whether an error is the operating system's, which says nothing about the file; pydicom's own have no errno."""
    return isinstance(error, OSError) and error.errno is not None and not isinstance(error, IsADirectoryError)


def native_offset(file: IO[bytes], ds: FileDataset) -> int | None:
    """Where the value of native PixelData begins; `file` stands where `dcmread(stop_before_pixels=True)` left it.

    None where there is none, or it is compressed or deflated (PS3.5 sections 7.1 and A.4).
    """
    syntax = UID(ds.file_meta.get("TransferSyntaxUID", ""))
    if syntax == DeflatedExplicitVRLittleEndian:
        return None
    implicit, little = ds.original_encoding
    start, head = file.tell(), file.read(12)
    order = "<" if little else ">"
    if len(head) < 8 or struct.unpack(f"{order}HH", head[:4]) != (0x7FE0, 0x0010):
        return None
    if implicit:
        length, size = struct.unpack(f"{order}L", head[4:8])[0], 8
    elif head[4:6] in LONG_FORM and len(head) == 12:
        length, size = struct.unpack(f"{order}L", head[8:12])[0], 12
    else:
        return None
    return None if length == UNDEFINED_LENGTH else start + size


def _read(path: Path) -> tuple[FileDataset, int | None]:
    try:
        with path.open("rb") as file:
            try:
                ds = dcmread(file, stop_before_pixels=True)
            except InvalidDicomError:  # no preamble: a bare data set, as old exports are, or no DICOM at all
                file.seek(0)
                ds = dcmread(file, stop_before_pixels=True, force=True)
                if not (ds.get("SOPClassUID") and ds.get("SOPInstanceUID")):
                    raise
            if not len(ds):
                raise NotDicom(path, "an empty data set")
            return ds, native_offset(file, ds)
    except (*DAMAGED, OSError) as error:
        if is_of_the_disk(error):
            raise
        raise NotDicom(path) from error


def _transfer_syntax(ds: Dataset) -> str:
    """TransferSyntaxUID; of a bare data set the one that it was read by."""
    stated = _text(getattr(ds, "file_meta", Dataset()), "TransferSyntaxUID")
    implicit, little = getattr(ds, "original_encoding", (None, None))
    if stated or implicit is None:
        return stated
    return str(ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian)


def _pixel_format(ds: Dataset, offset: int | None) -> PixelFormat:
    stored = _integer(ds, "BitsStored") or _integer(ds, "BitsAllocated") or 16
    return PixelFormat(
        transfer_syntax_uid=_transfer_syntax(ds),
        samples_per_pixel=_integer(ds, "SamplesPerPixel") or 1,
        photometric_interpretation=_text(ds, "PhotometricInterpretation"),
        bits_allocated=_integer(ds, "BitsAllocated") or 16,
        bits_stored=stored,
        high_bit=stored - 1 if (high := _integer(ds, "HighBit")) is None else high,
        pixel_representation=_integer(ds, "PixelRepresentation") or 0,
        number_of_frames=_integer(ds, "NumberOfFrames") or 1,
        pixel_padding_value=_stored_value(ds, "PixelPaddingValue"),
        pixel_padding_range_limit=_stored_value(ds, "PixelPaddingRangeLimit"),
        offset=offset,
    )


def _plane(ds: Dataset) -> Plane:
    """The one plane of a single-frame image (PS3.3 section C.7.6.2)."""
    marks = {keyword: "\\".join(_texts(ds, keyword)) for keyword in MARKS}
    marks["AcquisitionDateTime"] = marks["AcquisitionDateTime"] or _text(ds, "AcquisitionDate") + _text(
        ds, "AcquisitionTime"
    )
    return Plane(
        frame_number=None,
        image_position_patient=_texts(ds, "ImagePositionPatient"),
        image_orientation_patient=_texts(ds, "ImageOrientationPatient"),
        pixel_spacing=_texts(ds, "PixelSpacing"),
        slice_thickness=_text(ds, "SliceThickness"),
        image_type=_texts(ds, "ImageType"),
        rescale_slope=_rescale(ds, "RescaleSlope"),
        rescale_intercept=_rescale(ds, "RescaleIntercept"),
        marks={keyword: value for keyword, value in marks.items() if value},
    )


def _frames(ds: Dataset) -> Iterator[Plane]:
    """A plane for each frame of an Enhanced image, from its functional groups (PS3.3 section C.7.6.16)."""
    shared = _items(ds, "SharedFunctionalGroupsSequence")
    described = {keyword: "\\".join(_texts(ds, keyword)) for keyword in DESCRIBING}
    for number, groups in enumerate(_items(ds, "PerFrameFunctionalGroupsSequence"), start=1):

        def macro(keyword: str, groups: Dataset = groups) -> Dataset:
            # A macro stands in the shared or in the per-frame groups, never in both
            return next((items[0] for owner in (groups, *shared) if (items := _items(owner, keyword))), Dataset())

        kind = next((item for name in ("CT", "MR") if (item := macro(f"{name}ImageFrameTypeSequence"))), Dataset())
        transformation, measures = macro("PixelValueTransformationSequence"), macro("PixelMeasuresSequence")
        marks = dict(described)
        for name, attributes in MACROS.items():
            item = macro(name)
            marks |= {mark: "\\".join(_texts(item, keyword)) for keyword, mark in attributes.items()}
        image_type = _texts(kind, "FrameType") or _texts(ds, "ImageType")
        marks["ImageType"] = "\\".join(image_type)
        gradient = _items(macro("MRDiffusionSequence"), "DiffusionGradientDirectionSequence")
        if gradient:
            marks["DiffusionGradientOrientation"] = "\\".join(_texts(gradient[0], "DiffusionGradientOrientation"))
        yield Plane(
            frame_number=number,
            image_position_patient=_texts(macro("PlanePositionSequence"), "ImagePositionPatient"),
            image_orientation_patient=_texts(macro("PlaneOrientationSequence"), "ImageOrientationPatient"),
            pixel_spacing=_texts(measures, "PixelSpacing"),
            slice_thickness=_text(measures, "SliceThickness"),
            image_type=image_type,
            rescale_slope=_rescale(transformation, "RescaleSlope"),
            rescale_intercept=_rescale(transformation, "RescaleIntercept"),
            marks={keyword: value for keyword, value in marks.items() if value},
        )


def _items(ds: Dataset, keyword: str) -> list[Dataset]:
    value = _value(ds, keyword)
    return list(value) if value else []


def _texts(ds: Dataset, keyword: str) -> tuple[str, ...]:
    """The values of an attribute as text: decimal strings as they stand in the file."""
    value = _value(ds, keyword)
    if value is None or value == "":
        return ()
    values = value if isinstance(value, MultiValue | list) else [value]
    return tuple(str(item).strip(" \0") for item in values)


def _text(ds: Dataset, keyword: str) -> str:
    """The first value as text, "" where there is none."""
    return next(iter(_texts(ds, keyword)), "")


def _integer(ds: Dataset, keyword: str) -> int | None:
    number = _number(ds, keyword)
    return None if number is None else int(number)


def _number(ds: Dataset, keyword: str) -> float | None:
    """The first value as a finite number; None where there is none, or it is none."""
    try:
        number = float(_text(ds, keyword))
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None


def _rescale(ds: Dataset, keyword: str) -> float | None:
    """None where the file says nothing; NaN where what it says is no number, which must not pass for nothing."""
    try:
        blank = ds.get(keyword) in (None, "")
    except (*DAMAGED, OSError):
        blank = False
    number = _number(ds, keyword)
    return float("nan") if number is None and not blank else number


def _stored_value(ds: Dataset, keyword: str) -> int | None:
    """A value of VR "US or SS": pydicom leaves bytes where Implicit VR does not say which of the two."""
    value = _value(ds, keyword)
    if isinstance(value, bytes):
        return int.from_bytes(value[:2], "little", signed=bool(_integer(ds, "PixelRepresentation")))
    return _integer(ds, keyword)


def _value(ds: Dataset, keyword: str) -> Any:
    """An attribute's value; values are decoded when first asked for, and a damaged one counts as absent."""
    try:
        return ds.get(keyword)
    except (*DAMAGED, OSError):  # pydicom's OSError, of a sequence that is cut short: nothing is read from the disk
        return None
