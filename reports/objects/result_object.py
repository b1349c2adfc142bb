"""What a key image and a PDF have alike: their place in the study, who made them, and from which images."""

from collections.abc import Sequence

from highdicom.base import SOPClass
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_io.files import values
from reports import codes
from reports.envelope import contributing_equipment, series_description, software_versions
from reports.errors import SourceUnusable
from reports.findings.places import image_name
from reports.identity import MANUFACTURER_MODEL_NAME
from reports.objects.case import Case
from reports.objects.kinds import Kind
from reports.pages.slice_page import ImageNames
from reports.source_frames import SourceFrame
from reports.source_headers import UNICODE


def result_object(case: Case, kind: Kind, number: int, *, sop_class_uid: str, modality: str) -> Dataset:
    """A data set with patient, study, series and equipment: instance `number` of the series of its kind.

    Text is Unicode until `envelope.seal`. Raises SourceUnusable.
    """
    source, algorithm, identity = case.source.usable[0], case.segmentation.algorithm, case.identity
    try:
        ds = SOPClass(
            study_instance_uid=source.StudyInstanceUID,
            series_instance_uid=identity.series_instance_uid(kind.name),
            series_number=identity.series_number_of(kind.series_offset),
            sop_instance_uid=identity.sop_instance_uid(f"{kind.name}-{number}"),
            sop_class_uid=sop_class_uid,
            instance_number=number,
            modality=modality,
            manufacturer=identity.manufacturer,
            manufacturer_model_name=MANUFACTURER_MODEL_NAME,
            software_versions=software_versions(algorithm, identity),  # type: ignore[arg-type]
            device_serial_number=identity.device_observer_uid,
            series_description=series_description(kind.description, identity),
            specific_character_set=UNICODE,
            transfer_syntax_uid=ExplicitVRLittleEndian,
        )
        ds.copy_patient_and_study_information(source)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        # highdicom's own message may quote a value of the header
        raise SourceUnusable(f"highdicom refuses the source headers ({type(error).__name__}).") from error
    ds.ContributingEquipmentSequence = [contributing_equipment(algorithm, identity)]
    return ds


def image_references(frames: Sequence[SourceFrame]) -> list[Dataset]:
    """Image SOP Instance References (PS3.3 table 10-3): each image once, with the frames of it that were used.

    Their purpose says that they are what the result was processed from (CID 7202).
    """
    used: dict[str, list[int]] = {}
    for frame in frames:
        if frame.frame_number is not None:
            used.setdefault(frame.sop_instance_uid, []).append(frame.frame_number)
    items = instance_references(frames)
    for item in items:
        if numbers := used.get(item.ReferencedSOPInstanceUID):
            item.ReferencedFrameNumber = numbers if len(numbers) > 1 else numbers[0]
        item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.SOURCE_IMAGE)]
    return items


def instance_references(frames: Sequence[SourceFrame]) -> list[Dataset]:
    """SOP Instance References (PS3.3 table 10-11): each image once."""
    items = []
    for sop_class_uid, sop_instance_uid in dict.fromkeys((f.sop_class_uid, f.sop_instance_uid) for f in frames):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
        items.append(item)
    return items


def source_series(source: Dataset, modality: str) -> str:
    """Name the series as viewers list it: 'CT series 4, "LIVER 3 PHASE"', as far as its header says."""
    description = values.text(source, "SeriesDescription").strip()
    named = f', "{description}"' if description and all(ord(letter) < LAST_LETTER for letter in description) else ""
    return f"{modality} series {source_series_number(source)}".rstrip() + named


LAST_LETTER = 0x0530
"""Latin, Greek and Cyrillic end before it; DejaVu Sans, in which the pages are set, has them all."""


def image_names(case: Case) -> ImageNames:
    """Return the names of the images of a case, as pages show them."""
    numbers = zip(case.source.headers, case.source.frames, strict=True)
    return ImageNames(
        f"{case.volume.modality} series {source_series_number(case.source.usable[0])}".rstrip(),
        [
            image_name(plane, values.integer(header, "InstanceNumber"), frame.frame_number)
            for plane, (header, frame) in enumerate(numbers)
        ],
    )


def source_series_number(source: Dataset) -> str:
    """Return SeriesNumber as it is shown; a text that is no number is not shown."""
    try:
        return str(int(source.SeriesNumber))
    except (AttributeError, TypeError, ValueError):
        return ""
