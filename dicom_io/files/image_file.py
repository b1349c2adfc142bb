"""Files of one kind or another, and what each says: read leniently, once. Pixels stay where they are."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
)

from dicom_io.errors import NotDicom
from dicom_io.files import values
from dicom_io.files.dataset_reader import Contents, read_contents, sequence_items
from dicom_io.files.identity import identity_of
from dicom_io.files.image_header import ImageHeader, PixelFormat, Plane
from dicom_io.files.values import DAMAGED

SPLITTING = (
    *("AcquisitionNumber", "TemporalPositionIdentifier", "TemporalPositionIndex", "EchoNumbers", "EchoTime"),
    *("ImageType", "ComplexImageComponent", "DiffusionBValue", "DiffusionGradientOrientation", "TriggerTime"),
    *("InversionTime", "FlipAngle", "KVP", "ConvolutionKernel", "SliceThickness", "ContrastBolusAgent", "StackID"),
    *("AcquisitionDateTime", "ContentTime"),
)
"""Attributes that may tell apart the volumes of one series, the most telling first."""

DESCRIBING = ("SeriesDescription", "ProtocolName", "ContrastBolusStartTime")
"""Attributes that name the phase or kernel of a volume. Never shown: people write anything into descriptions."""

MARKS = SPLITTING + DESCRIBING

SHARED_GROUPS, GROUPS_OF_FRAMES = 0x52009229, 0x52009230

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

MODALITY_OF = {
    **dict.fromkeys((CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage), "CT"),
    **dict.fromkeys((MRImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage), "MR"),
}
"""The SOP classes whose images are slices, and the Modality that their IODs demand (PS3.3 sections A.3 and A.36)."""

DISPENSABLE: Mapping[str, Callable[[Dataset, str], object]] = {
    **dict.fromkeys(("SliceThickness", "HighBit", "NumberOfFrames"), values.number),
    **dict.fromkeys(("PixelPaddingValue", "PixelPaddingRangeLimit"), values.stored_value),
    **dict.fromkeys(("Modality", "PhotometricInterpretation"), values.code),
    "FrameOfReferenceUID": values.uid,
    "ImageType": values.codes,
}
"""What an image is read without, and how: where what is stated cannot be used, a reader of the results is warned."""

UNREAD = (None, "", ())


@dataclass(frozen=True)
class ImageFile:
    """A file and the header of its images."""

    path: Path
    header: ImageHeader


def read_dataset(path: Path) -> Dataset:
    """Read the data set of a DICOM file without its pixel data, and without values of more than LONGEST bytes.

    Raises NotDicom where there is none. OSError goes through when the disk failed, as it says nothing about the file.
    """
    return _read(path).ds


def read_image_file(path: Path) -> ImageFile:
    """The file with its header. A blank or broken value is an empty one there: it is for `arrange` to judge.

    Raises NotDicom when the file holds no data set, or what places its frames is too long; OSError for the disk.
    """
    contents = _read(path)
    if not is_described(contents):
        raise NotDicom(path, "a header that is too long")
    return ImageFile(path, image_header(contents))


def is_described(contents: Contents) -> bool:
    """True where all that an image header is made of was read."""
    return not any(tag in contents.left_out for tag in (SHARED_GROUPS, GROUPS_OF_FRAMES))


def image_header(contents: Contents) -> ImageHeader:
    """Return the header of the images of a file."""
    ds = contents.ds
    rows, columns = values.integer(ds, "Rows") or 0, values.integer(ds, "Columns") or 0
    pixels, planes = None, list[Plane]()
    if rows > 0 and columns > 0:
        pixels = _pixel_format(contents)
        with suppress(*DAMAGED):
            planes = list(_frames(ds)) if GROUPS_OF_FRAMES in ds else [_plane(ds)]
    stated = {keyword: read for keyword, read in DISPENSABLE.items() if values.is_stated(ds, keyword)}
    return ImageHeader(
        sop_class_uid=values.uid(ds, "SOPClassUID"),
        sop_instance_uid=values.uid(ds, "SOPInstanceUID"),
        series_instance_uid=values.uid(ds, "SeriesInstanceUID"),
        study_instance_uid=values.uid(ds, "StudyInstanceUID"),
        frame_of_reference_uid=values.uid(ds, "FrameOfReferenceUID"),
        modality=modality(ds),
        rows=rows,
        columns=columns,
        pixels=pixels,
        planes=tuple(planes),
        unusable=tuple(keyword for keyword, read in stated.items() if read(ds, keyword) in UNREAD),
        identity=identity_of(ds),
        trailing=contents.trailing,
        instance_number=values.integer(ds, "InstanceNumber"),
    )


def modality(ds: Dataset) -> str:
    """Modality, in capitals; of a CT or MR image that states none, that of its SOP class."""
    return values.code(ds, "Modality") or MODALITY_OF.get(UID(values.uid(ds, "SOPClassUID")), "")


def is_of_the_disk(error: Exception) -> bool:
    """True for an error of the operating system, which says nothing about the file; pydicom's own have no errno."""
    return isinstance(error, OSError) and error.errno is not None and not isinstance(error, IsADirectoryError)


def _read(path: Path) -> Contents:
    try:
        with path.open("rb") as file:
            contents = read_contents(file)
            ds = contents.ds
            # No preamble: a bare data set, as old exports are, or no DICOM at all
            if ds.preamble is None and not (values.uid(ds, "SOPClassUID") and values.uid(ds, "SOPInstanceUID")):
                raise NotDicom(path)
            if not len(ds):
                raise NotDicom(path, "an empty data set")
            return contents
    except (*DAMAGED, OSError) as error:
        if is_of_the_disk(error):
            raise
        raise NotDicom(path) from error


def _pixel_format(contents: Contents) -> PixelFormat:
    ds = contents.ds
    stored, sign = values.integer(ds, "BitsStored") or 0, values.integer(ds, "PixelRepresentation")
    return PixelFormat(
        transfer_syntax_uid=contents.transfer_syntax_uid,
        samples_per_pixel=values.integer(ds, "SamplesPerPixel") or 1,
        photometric_interpretation=values.code(ds, "PhotometricInterpretation"),
        bits_allocated=values.integer(ds, "BitsAllocated") or 0,
        bits_stored=stored,
        high_bit=stored - 1 if (high := values.integer(ds, "HighBit")) is None else high,
        pixel_representation=sign if sign in (0, 1) else None,
        number_of_frames=values.integer(ds, "NumberOfFrames") or 1,
        pixel_padding_value=values.stored_value(ds, "PixelPaddingValue"),
        pixel_padding_range_limit=values.stored_value(ds, "PixelPaddingRangeLimit"),
        offset=contents.native_offset,
    )


def marks_of(ds: Dataset) -> dict[str, str]:
    """The values of MARKS that stand in the header itself, apart from those of frames."""
    marks = {keyword: values.text(ds, keyword) for keyword in MARKS}
    marks["ImageType"] = "\\".join(values.codes(ds, "ImageType"))
    marks["AcquisitionDateTime"] = marks["AcquisitionDateTime"] or values.text(ds, "AcquisitionDate") + values.text(
        ds, "AcquisitionTime"
    )
    return {keyword: value for keyword, value in marks.items() if value}


def _plane(ds: Dataset) -> Plane:
    """The one plane of a single-frame image (PS3.3 section C.7.6.2)."""
    return Plane(
        frame_number=None,
        image_position_patient=values.decimals(ds, "ImagePositionPatient"),
        image_orientation_patient=values.decimals(ds, "ImageOrientationPatient"),
        pixel_spacing=values.decimals(ds, "PixelSpacing"),
        slice_thickness=values.decimal(ds, "SliceThickness"),
        image_type=values.codes(ds, "ImageType"),
        rescale_slope=_rescale(ds, "RescaleSlope"),
        rescale_intercept=_rescale(ds, "RescaleIntercept"),
        rescale_type=values.text(ds, "RescaleType"),
        marks=marks_of(ds),
    )


def _frames(ds: Dataset) -> Iterator[Plane]:
    """A plane for each frame of an Enhanced image, from its functional groups (PS3.3 section C.7.6.16)."""
    shared = list(sequence_items(ds, SHARED_GROUPS))
    described = {keyword: values.text(ds, keyword) for keyword in DESCRIBING}
    for number, groups in enumerate(sequence_items(ds, GROUPS_OF_FRAMES), start=1):

        def macro(keyword: str, groups: Dataset = groups) -> Dataset:
            # A macro stands in the shared or in the per-frame groups, never in both
            return next((items[0] for owner in (groups, *shared) if (items := values.items(owner, keyword))), Dataset())

        kind = next((item for name in ("CT", "MR") if (item := macro(f"{name}ImageFrameTypeSequence"))), Dataset())
        transformation, measures = macro("PixelValueTransformationSequence"), macro("PixelMeasuresSequence")
        marks = dict(described)
        for name, attributes in MACROS.items():
            item = macro(name)
            marks |= {mark: values.text(item, keyword) for keyword, mark in attributes.items()}
        image_type = values.codes(kind, "FrameType") or values.codes(ds, "ImageType")
        marks["ImageType"] = "\\".join(image_type)
        gradient = values.items(macro("MRDiffusionSequence"), "DiffusionGradientDirectionSequence")
        if gradient:
            marks["DiffusionGradientOrientation"] = values.text(gradient[0], "DiffusionGradientOrientation")
        yield Plane(
            frame_number=number,
            image_position_patient=values.decimals(macro("PlanePositionSequence"), "ImagePositionPatient"),
            image_orientation_patient=values.decimals(macro("PlaneOrientationSequence"), "ImageOrientationPatient"),
            pixel_spacing=values.decimals(measures, "PixelSpacing"),
            slice_thickness=values.decimal(measures, "SliceThickness"),
            image_type=image_type,
            rescale_slope=_rescale(transformation, "RescaleSlope"),
            rescale_intercept=_rescale(transformation, "RescaleIntercept"),
            rescale_type=values.text(transformation, "RescaleType"),
            marks={keyword: value for keyword, value in marks.items() if value},
        )


def _rescale(ds: Dataset, keyword: str) -> float | None:
    """None where the file says nothing; NaN where what it says is no number, which must not pass for nothing."""
    number = values.number(ds, keyword)
    return float("nan") if number is None and values.is_stated(ds, keyword) else number
