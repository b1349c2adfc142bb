"""In-memory copies of the source headers that highdicom can use and every validator accepts.

What comes in may be odd and is kept where it is; what goes out is converted, or left out where it cannot be.
The keys of patient and study, by which an archive matches, are no part of the copies: `copy_keys` puts them into a
finished object as they stand in the source, byte for byte. A changed one would put it into another patient or study.
"""

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta, timezone
from typing import Any

import numpy as np
from pydicom import DataElement, Dataset
from pydicom.charset import convert_encodings, python_encoding
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VM, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import DS, validate_value

from dicom_io.files import values
from reports.errors import SourceUnusable

KEYS = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientBirthTime", "PatientSex"),
    *("OtherPatientNames", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "StudyDescription"),
    *("ReferringPhysicianName", "NameOfPhysiciansReadingStudy"),
)
"""By what an archive matches patients and studies (PS3.4 tables C.6-1 and C.6-5), StudyInstanceUID aside."""

DESCRIBING = (
    *("PatientBirthDateInAlternativeCalendar", "PatientDeathDateInAlternativeCalendar", "PatientAlternativeCalendar"),
    *("TypeOfPatientID", "IssuerOfPatientIDQualifiersSequence", "OtherPatientIDsSequence", "EthnicGroupCodeSequence"),
    *("PatientComments", "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    *("ResponsiblePerson", "ResponsiblePersonRole", "ResponsibleOrganization", "IssuerOfAccessionNumberSequence"),
    *("ReferringPhysicianIdentificationSequence", "ConsultingPhysicianName", "PhysiciansOfRecord"),
    *("ProcedureCodeSequence", "RequestingService", "ReasonForPerformedProcedureCodeSequence"),
    *("AdmittingDiagnosesDescription", "AdmittingDiagnosesCodeSequence", "PatientAge", "PatientSize"),
    *("PatientBodyMassIndex", "PatientWeight", "MedicalAlerts", "Allergies", "Occupation", "SmokingStatus"),
    *("AdditionalPatientHistory", "PregnancyStatus", "LastMenstrualDate", "PatientSexNeutered", "ReasonForVisit"),
    *("ReasonForVisitCodeSequence", "AdmissionID", "IssuerOfAdmissionIDSequence", "ServiceEpisodeID"),
    *("ServiceEpisodeDescription", "PatientState", "ClinicalTrialSponsorName", "ClinicalTrialProtocolID"),
    *("ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName", "ClinicalTrialSubjectID"),
    *("ClinicalTrialTimePointID", "ClinicalTrialTimePointDescription", "LongitudinalTemporalOffsetFromEvent"),
)
"""What else the results say of patient, study and trial (PS3.3 sections C.7.1, C.7.2), valid or not at all."""

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

ENUMERATED: dict[str, Sequence[object]] = {
    "LossyImageCompression": ("00", "01"),
    "TypeOfPatientID": ("TEXT", "RFID", "BARCODE"),
    **dict.fromkeys(("PatientIdentityRemoved", "QualityControlSubject"), ("YES", "NO")),
    "SmokingStatus": ("YES", "NO", "UNKNOWN"),
    "PregnancyStatus": (1, 2, 3, 4),
    "PatientSexNeutered": ("ALTERED", "UNALTERED"),
}
"""Attributes of which the standard lists all values."""

COPIED_GROUPS = frozenset({0x0008, 0x0010, 0x0012, 0x0018, 0x0020, 0x0032, 0x0038, 0x0040})
LOSSY_TAGS = frozenset({0x00282110, 0x00282112, 0x00282114})
"""LossyImageCompression, its ratio and method: a result of lossy images has to say so (PS3.3 C.7.6.1.1.5)."""

PLANE_KEYWORDS = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")

UNICODE = "ISO_IR 192"
UNDECODED = "\ufffd"
"""What stands in a text for bytes that the character set does not have."""


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
    missing type 2 attributes and the keys are there, empty. Text is decoded: write it in `character_set(header)`.
    """
    copy = Dataset()
    with quietly():
        for tag in list(header.keys()):
            if tag.group not in COPIED_GROUPS and tag not in LOSSY_TAGS:
                continue
            element = _converted(header, tag)
            if element is not None and element.keyword == "StudyInstanceUID":
                copy.add(DataElement(element.tag, element.VR, element.value))
            elif element is not None and (sound := _repaired(element)) is not None:
                copy.add(sound)
    for keyword in KEYS:
        copy.pop(keyword, None)
    for keyword in TYPE_2:
        setattr(copy, keyword, "")
    for keyword in PLANE_KEYWORDS:
        copy.pop(keyword, None)
    copy.pop("SpecificCharacterSet", None)
    for keyword, known in ENUMERATED.items():
        if copy.get(keyword) not in known:
            copy.pop(keyword, None)
    if copy.get("PatientIdentityRemoved") == "YES" and "DeidentificationMethodCodeSequence" not in copy:
        # Type 1C of one another: a source that states neither leaves us to say so
        copy.setdefault("DeidentificationMethod", DataElement(0x00120063, "LO", "Not stated by the source"))
    return copy


def requests_of(header: Dataset) -> list[Dataset]:
    """Return the items of RequestAttributesSequence (PS3.3 table 10-9), as far as they are sound."""
    with quietly():
        element = _converted(header, Tag("RequestAttributesSequence"))
        sound = _repaired(element) if element is not None and element.VR == "SQ" else None
    return [] if sound is None else list(sound.value)


def copy_keys(source: Dataset, ds: Dataset) -> None:
    """Put the keys of patient and study into `ds`, byte for byte as the source has them, valid or not.

    Bytes are written as they are where `ds` is written in its original encoding (`Dataset.set_original_encoding`).
    """
    for keyword in KEYS:
        tag = Tag(keyword)
        found = values.stored(source, tag)
        if isinstance(found, RawDataElement):
            content = (found.value or b"").rstrip(b"\0")  # padding, and no part of the value
            even = content + b" " * (len(content) % 2)
            if even:
                ds[tag] = RawDataElement(tag, dictionary_VR(tag), len(even), even, 0, False, True)
        elif isinstance(found, DataElement) and not found.is_empty and found.VR != "SQ":
            ds[tag] = DataElement(tag, dictionary_VR(tag), found.value, already_converted=True)


def left_out(header: Dataset) -> tuple[str, ...]:
    """Return the attributes of patient and study that the source states, and the results do not: no valid form of them.

    Keywords alone. Those of the time zone and of the character set are among them.
    """
    copy = study_header(header)
    lost = [keyword for keyword in DESCRIBING if keyword not in copy and _is_said(header, keyword)]
    lost += ["TimezoneOffsetFromUTC"] if _is_said(header, "TimezoneOffsetFromUTC") and not offset_of(header) else []
    lost += ["SpecificCharacterSet"] if _is_said(header, "SpecificCharacterSet") and not character_set(header) else []
    return tuple(lost)


def _is_said(header: Dataset, keyword: str) -> bool:
    """True where an attribute holds anything; a sequence, an item that does."""
    if dictionary_VR(keyword) == "SQ" and values.element(header, keyword) is not None:
        return any(len(item) for item in values.items(header, keyword))
    return values.is_stated(header, keyword)


def character_set(header: Dataset) -> list[str]:
    """Return the SpecificCharacterSet for the source's text: that of the source, be it known or not.

    Empty, the default repertoire, stays: pydicom reads and writes stray bytes over 127 alike there. So is one in which
    our own words cannot be written, which are ASCII ("UTF-16").
    """
    terms = values.texts(header, "SpecificCharacterSet")
    if not any(terms) or not _writes_ascii(terms):
        return []
    return list(terms)


ASCII = bytes(range(32, 127))


def _writes_ascii(terms: Sequence[str]) -> bool:
    if all(term in python_encoding for term in terms):
        return True
    try:
        with quietly():
            return all(ASCII.decode().encode(name) == ASCII for name in convert_encodings(list(terms)))
    except (LookupError, ValueError, TypeError):  # Python knows codecs that encode no text, as "hex"
        return False


def offset_of(source: Dataset) -> timezone | None:
    """TimezoneOffsetFromUTC, which counts for every date and time of a data set; None if absent or broken."""
    match = re.fullmatch(r"([+-])(\d\d)([0-5]\d)", values.text(source, "TimezoneOffsetFromUTC"), re.ASCII)
    if match is None or int(match[2]) > 14:
        return None
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return timezone(-offset if match[1] == "-" else offset)


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
            stated = tuple(map(str, header[keyword].value))
            if len(stated) != count:
                raise SourceUnusable(f"A source image has {len(stated)} values in {keyword}.")
            copy.add(_made(made, keyword, stated, lambda texts: [DS(text, auto_format=True) for text in texts]))
    except (KeyError, AttributeError, TypeError, ValueError, OverflowError) as error:
        raise SourceUnusable("A source image lacks UIDs, size, position, orientation or spacing.") from error
    thickness = values.decimal(header, "SliceThickness")
    if thickness and float(thickness) > 0:
        copy.SliceThickness = DS(thickness, auto_format=True)
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


YEARS = re.compile(r"[0-9]{1,3}[Yy]?")
CONVERSIONS: dict[str, Callable[[str], str]] = {
    "AS": lambda text: (
        f"{text.upper().removesuffix('Y'):0>3}Y" if re.fullmatch(r"\d{1,3}[Yy]?", text) else text.upper()
    ),
    "CS": str.upper,
    "DA": lambda text: re.sub(r"(\d{4})[-./](\d\d)[-./](\d\d)", r"\1\2\3", text),
    "DS": lambda text: text.replace(",", ".") if "." not in text else text,
    "TM": lambda text: text.replace(":", ""),
}
"""Spellings that are not valid and mean one thing: ages, decimal commas, and dates and times as before 1993."""


TEXT = ("SH", "LO", "ST", "LT", "UC", "UT")


def _converted(header: Dataset, tag: BaseTag) -> DataElement | None:
    """The element, decoded, in a spelling and under the VR of today.

    None for what the standard does not know, and where the value cannot be decoded at all.
    """
    found, vr = values.stored(header, tag), "" if tag.is_private else values.standard_vr(tag)
    if isinstance(found, RawDataElement) and found.value and vr in CONVERSIONS:
        written = found.value.decode("ascii", "replace").split("\\")
        spelled = [CONVERSIONS[vr](text.strip(values.PADDING)) for text in written]
        return DataElement(tag, vr, spelled[0] if len(spelled) == 1 else spelled, already_converted=True)
    element = values.element(header, tag) if vr else None
    if element is None or vr == element.VR or element.VR in vr.split(" or "):
        return element
    return DataElement(tag, vr, element.value, already_converted=True) if {vr, element.VR} <= {*TEXT} else None


def _repaired(element: DataElement) -> DataElement | None:
    """The element if it is sound, a sound version of it, or None."""
    if element.tag.is_private or not element.keyword or element.VR in ("UN", "OB", "OW"):
        return None
    if element.VR == "SQ":
        items = [item for item in map(_repaired_item, element.value) if _is_meaningful(item, element.keyword)]
        return DataElement(element.tag, "SQ", items) if items else None
    if element.is_empty:
        return element if element.keyword.startswith("ClinicalTrial") else None
    found = element.value if isinstance(element.value, MultiValue | list) else [element.value]
    if len(found) > 1 and dictionary_VM(element.tag) == "1":
        return None
    try:
        if element.VR == "DS":
            if not all(values.is_number(str(value)) for value in found):
                return None
            found = [DS(str(value), auto_format=True) for value in found]
        for value in found:
            if isinstance(value, str) or element.VR in ("DA", "TM", "DT", "PN"):
                validate_value(str(element.VR), str(value), RAISE)
                if UNDECODED in str(value):
                    return None
    except (ValueError, TypeError, OverflowError):
        return None
    return DataElement(element.tag, element.VR, found[0] if len(found) == 1 else list(found))


def _repaired_item(item: Dataset) -> Dataset:
    copy = Dataset()
    for tag in list(item.keys()):
        element = _converted(item, tag)
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
