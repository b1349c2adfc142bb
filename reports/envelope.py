"""The attributes that the SEG and the SR of a result share: who made them, when, and in which characters."""

from collections.abc import Sequence

from highdicom import AlgorithmIdentificationSequence, ContributingEquipment
from pydicom import Dataset
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.valuerep import DT

from dicom_io.files import values
from dicom_io.segmentation import Algorithm
from reports import codes
from reports.identity import MANUFACTURER_MODEL_NAME, ResultIdentity
from reports.source_headers import character_set, copy_keys, offset_of, requests_of

LONG_STRING = 64
"""Characters of an LO value (PS3.5 section 6.2)."""

RESEARCH_USE = "For research use, not a diagnosis."


def software_versions(algorithm: Algorithm | None, identity: ResultIdentity) -> list[str]:
    """SoftwareVersions: the program, the model, and the sha256 of its weights (LO: at most 64 characters)."""
    model = () if algorithm is None else (f"{algorithm.name} {algorithm.version}", algorithm.weights_sha256)
    return [_long_string(text) for text in (identity.software_version, *model) if text]


def algorithm_identification(algorithm: Algorithm, identity: ResultIdentity) -> AlgorithmIdentificationSequence:
    """SegmentationAlgorithmIdentificationSequence (PS3.3 table 10-19)."""
    return AlgorithmIdentificationSequence(
        name=_long_string(algorithm.name),
        version=_long_string(algorithm.version),
        family=codes.ARTIFICIAL_INTELLIGENCE,
        source=_long_string(identity.manufacturer),
        parameters={"weights_sha256": algorithm.weights_sha256, "software": identity.software_version},
    )


def contributing_equipment(algorithm: Algorithm | None, identity: ResultIdentity) -> ContributingEquipment:
    """The item of ContributingEquipmentSequence for this software (PS3.3 section C.12.1).

    Without an algorithm nothing was segmented.
    """
    did = "No segmentation" if algorithm is None else f"Segmentation by {algorithm.name} {algorithm.version}"
    return ContributingEquipment(
        manufacturer=_long_string(identity.manufacturer),
        purpose_of_reference=codes.PROCESSING_EQUIPMENT,
        manufacturer_model_name=MANUFACTURER_MODEL_NAME,
        software_versions=software_versions(algorithm, identity),
        device_serial_number=identity.device_observer_uid,
        contribution_description=f"{did}. {RESEARCH_USE}",
    )


def series_description(result: str, identity: ResultIdentity) -> str:
    """Return SeriesDescription of a result: its kind, and its volume of the series if there are several (LO)."""
    room = LONG_STRING - len(f"{result} ()")
    return _long_string(f"{result} ({identity.volume_label[:room]})" if identity.volume_label else result)


def seal(ds: Dataset, source: Dataset, identity: ResultIdentity) -> None:
    """Set every date and time to `identity.created`, and the source's keys, character set and time zone.

    highdicom writes the clock of the moment into several places; with this the same input gives the same
    bytes. Its text was handed over as Unicode, because it refuses ISO 2022 character sets: only the encoder
    has to know them. It refuses odd names and dates too: the keys of patient and study come in behind its checks,
    as bytes that pydicom writes as they are. No element of them may be read before `ds` is written.
    """
    offset = offset_of(source)
    # Without a stated offset the study's times are those of its site, and so of this node
    created = identity.created.astimezone(offset)
    for keyword in ("InstanceCreation", "Content", "Series"):
        setattr(ds, f"{keyword}Date", created.strftime("%Y%m%d"))
        setattr(ds, f"{keyword}Time", created.strftime("%H%M%S"))
    for item in ds.get("ContributingEquipmentSequence", []):
        if item.PurposeOfReferenceCodeSequence[0].CodeValue == codes.PROCESSING_EQUIPMENT.value:
            item.ContributionDateTime = DT(identity.created.strftime("%Y%m%d%H%M%S+0000"))
    if offset is not None:
        ds.TimezoneOffsetFromUTC = values.text(source, "TimezoneOffsetFromUTC")
    charset = character_set(source)
    if charset:
        ds.SpecificCharacterSet = charset if len(charset) > 1 else charset[0]
    else:
        ds.pop("SpecificCharacterSet", None)
    if requests := requests_of(source):
        _set_requests(ds, requests)
    copy_keys(source, ds)
    # An element as bytes is written as it is where nothing is to be encoded anew; VRs are made certain before
    correct_ambiguous_vr(ds, is_little_endian=True)
    ds.set_original_encoding(is_implicit_vr=False, is_little_endian=True, character_encoding=ds._character_set)


REQUEST_TYPE_2 = (
    "AccessionNumber",
    "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest",
    "RequestedProcedureID",
    "RequestedProcedureDescription",
)
"""What a ReferencedRequestSequence has beside its sequences, and may be empty (PS3.3 section C.17.2)."""


def _set_requests(ds: Dataset, requests: Sequence[Dataset]) -> None:
    """Say for which requests the images were made: an SR by ReferencedRequestSequence, others as the images do."""
    if ds.get("Modality") != "SR":
        ds.RequestAttributesSequence = requests
        return
    items = []
    for request in requests:
        item = Dataset()
        item.StudyInstanceUID = request.get("StudyInstanceUID") or ds.StudyInstanceUID
        item.ReferencedStudySequence = request.get("ReferencedStudySequence") or []
        item.RequestedProcedureCodeSequence = request.get("RequestedProcedureCodeSequence") or []
        for keyword in REQUEST_TYPE_2:
            setattr(item, keyword, request.get(keyword) or "")
        items.append(item)
    ds.ReferencedRequestSequence = items


def _long_string(text: str) -> str:
    """`text` as an LO value."""
    return text.replace("\\", "/")[:LONG_STRING] or "unknown"
