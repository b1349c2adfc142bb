"""In-memory copies of the source headers that highdicom can use and every validator accepts.

What comes in may be odd and is kept where it is; what goes out is repaired, or left out where it cannot be.
Three values are never touched, empty, missing or odd as they may be: PatientID, PatientName and
StudyInstanceUID. A changed one would put the results into another patient or study.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from pydicom import DataElement, Dataset
from pydicom.charset import python_encoding
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VR
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.valuerep import DS, validate_value

from reports.errors import SourceUnusable

UNTOUCHED = frozenset({"PatientID", "PatientName", "StudyInstanceUID"})

TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
)
"""Attributes of the Patient and General Study modules that must be there and may be empty (PS3.3 C.7.1, C.7.2)."""

COPIED_GROUPS = frozenset({0x0008, 0x0010, 0x0012, 0x0018, 0x0020, 0x0032, 0x0038, 0x0040})
LOSSY_TAGS = frozenset({0x00282110, 0x00282112, 0x00282114})
"""LossyImageCompression, its ratio and method: a result of lossy images has to say so (PS3.3 C.7.6.1.1.5)."""

PLANE_KEYWORDS = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")

UNICODE = "ISO_IR 192"


@contextmanager
def quietly() -> Iterator[None]:
    """Keep pydicom's and highdicom's warnings to themselves: they quote values, so names of patients too.

    Their loggers stay silent afterwards: nothing they warn of may be logged anywhere, and giving levels back
    would race between threads.
    """
    for name in ("pydicom", "highdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def usable_headers(headers: Sequence[Dataset], frame_of_reference_uid: str | None) -> list[Dataset]:
    """Copy a volume's headers: the first with patient, study and equipment, all with plane and UIDs.

    They lie in `frame_of_reference_uid`, which is the source's own wherever it has one. Decimal strings keep
    the source's characters where PS3.5 allows them (at most 16), so that positions are copied bit by bit. A
    missing SliceThickness becomes the distance between the slices. One set of copies may serve several objects: they
    are to be read only, and share their elements. Raises SourceUnusable.
    """
    if not headers:
        raise SourceUnusable("There are no source images.")
    made: Elements = {}
    with quietly():
        copies = [_plane_header(header, headers[0], made) for header in headers]
    for keyword, value in study_header(headers[0]).items():
        copies[0].setdefault(keyword, value)
    # highdicom compares these exactly; the series was accepted because they agree within a tolerance
    alike = [copies[0]["ImageOrientationPatient"], copies[0]["StudyInstanceUID"]]
    if frame_of_reference_uid:
        alike.append(DataElement("FrameOfReferenceUID", "UI", frame_of_reference_uid))
    thickness = DataElement("SliceThickness", "DS", DS(_step_mm(copies), auto_format=True))
    for copy in copies:
        for element in alike:
            copy.add(element)
        copy.setdefault(thickness.tag, thickness)
    return copies


def study_header(header: Dataset) -> Dataset:
    """A repaired copy of one header without plane and pixels: patient, study, trial, equipment.

    Elements whose value breaks their VR are left out, as are empty sequences and code items without a scheme;
    missing type 2 attributes are there, empty. Text is decoded: write it in `character_set(header)`.
    """
    copy = Dataset()
    with quietly():
        for tag in list(header.keys()):
            if tag.group not in COPIED_GROUPS and tag not in LOSSY_TAGS:
                continue
            element = _read(header, tag)
            if element is not None and element.keyword in UNTOUCHED:
                copy.add(DataElement(element.tag, element.VR, element.value))
            elif element is not None and (sound := _repaired(element)) is not None:
                copy.add(sound)
    for keyword in TYPE_2:
        if keyword not in copy:
            setattr(copy, keyword, "")
    for keyword in PLANE_KEYWORDS:
        copy.pop(keyword, None)
    copy.pop("SpecificCharacterSet", None)
    if copy.PatientSex not in ("F", "M", "O"):
        copy.PatientSex = ""
    if copy.get("LossyImageCompression") not in ("00", "01"):
        copy.pop("LossyImageCompression", None)
    if copy.get("PatientIdentityRemoved") == "YES" and "DeidentificationMethodCodeSequence" not in copy:
        # Type 1C of one another: a source that states neither leaves us to say so
        copy.setdefault("DeidentificationMethod", DataElement(0x00120063, "LO", "Not stated by the source"))
    return copy


def character_set(header: Dataset) -> str | list[str] | None:
    """Return the SpecificCharacterSet for the source's text: its own, or Unicode where that is not valid.

    None, the default repertoire, stays: pydicom reads and writes stray bytes over 127 alike there.
    """
    value = header.get("SpecificCharacterSet")
    terms = [str(term) for term in value] if isinstance(value, MultiValue) else [str(value or "")]
    if not any(terms):
        return None
    if any(term not in python_encoding for term in terms):
        return UNICODE
    return terms if len(terms) > 1 else terms[0]


Elements = dict[tuple[str, object], DataElement]
"""Elements by keyword and value: most of what a plane says the one before it said too, and checking takes time."""


def _plane_header(header: Dataset, first: Dataset, made: Elements) -> Dataset:
    """UIDs, size and place of one image. What its series has in common may stand in the `first` alone."""
    copy = Dataset()
    try:
        copy.SOPInstanceUID = str(header["SOPInstanceUID"].value)
        for keyword in ("SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID", "Modality"):
            text = str((header if keyword in header else first)[keyword].value)
            copy.add(_made(made, keyword, text, lambda value: value))
        for keyword in ("Rows", "Columns"):
            copy.add(_made(made, keyword, int(header[keyword].value), lambda value: value))
        for keyword, count in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2)):
            values = tuple(map(str, header[keyword].value))
            if len(values) != count:
                raise SourceUnusable(f"A source image has {len(values)} values in {keyword}.")
            copy.add(_made(made, keyword, values, lambda texts: [DS(text, auto_format=True) for text in texts]))
    except (KeyError, AttributeError, TypeError, ValueError, OverflowError) as error:
        raise SourceUnusable("A source image lacks UIDs, size, position, orientation or spacing.") from error
    thickness = _positive(_read(header, "SliceThickness"))
    if thickness is not None:
        copy.SliceThickness = thickness
    return copy


def _made(made: Elements, keyword: str, value: Any, convert: Callable[[Any], object]) -> DataElement:
    """The element of this value, converted only once."""
    if (keyword, value) not in made:
        made[keyword, value] = DataElement(keyword, dictionary_VR(keyword), convert(value))
    return made[keyword, value]


def _step_mm(copies: Sequence[Dataset]) -> float:
    """Median distance between neighbouring planes; 1 for a single one."""
    if len(copies) < 2:
        return 1.0
    orientation = np.array([float(value) for value in copies[0].ImageOrientationPatient])
    origins = np.array([[float(value) for value in copy.ImagePositionPatient] for copy in copies])
    gaps = np.diff(np.sort(origins @ np.cross(orientation[:3], orientation[3:])))
    return float(np.median(gaps)) or 1.0


def _positive(element: DataElement | None) -> object | None:
    try:
        value = DS(element.value, auto_format=True) if element is not None else None
    except (TypeError, ValueError, OverflowError):
        return None
    return value if value is not None and value != "" and 0 < float(value) < np.inf else None


def _read(header: Dataset, tag: BaseTag | str) -> DataElement | None:
    """The element, decoded; None when it is missing or cannot be decoded at all."""
    try:
        return header[tag]
    except (ValueError, TypeError, OverflowError, NotImplementedError, AttributeError, LookupError):
        return None


def _repaired(element: DataElement) -> DataElement | None:
    """The element if it is sound, a sound version of it, or None."""
    if element.tag.is_private or not element.keyword or element.VR in ("UN", "OB", "OW"):
        return None
    if element.VR == "SQ":
        items = [item for item in map(_repaired_item, element.value) if _is_meaningful(item, element.keyword)]
        return DataElement(element.tag, "SQ", items) if items else None
    if element.is_empty:
        return element if element.keyword.startswith("ClinicalTrial") else None
    values = element.value if isinstance(element.value, MultiValue) else [element.value]
    try:
        if element.VR == "DS":
            values = [DS(value, auto_format=True) for value in values]
        for value in values:
            if isinstance(value, str) or element.VR in ("DA", "TM", "DT", "PN"):
                validate_value(str(element.VR), str(value), RAISE)
    except (ValueError, TypeError, OverflowError):
        return None
    return DataElement(element.tag, element.VR, values[0] if len(values) == 1 else list(values))


def _repaired_item(item: Dataset) -> Dataset:
    copy = Dataset()
    for tag in list(item.keys()):
        element = _read(item, tag)
        if element is not None and (sound := _repaired(element)) is not None:
            copy.add(sound)
    return copy


def _is_meaningful(item: Dataset, keyword: str) -> bool:
    """True where a sequence's item has what its macro requires (PS3.3 tables 8.8-1 and 10-11)."""
    if keyword.endswith("CodeSequence"):
        coded = "CodeValue" in item or "LongCodeValue" in item
        return (coded and "CodingSchemeDesignator" in item or "URNCodeValue" in item) and "CodeMeaning" in item
    if keyword.startswith("Referenced"):
        return "ReferencedSOPClassUID" in item and "ReferencedSOPInstanceUID" in item
    return len(item) > 0
