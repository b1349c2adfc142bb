"""What the SEG and the SR of a result say alike: who made them, when, and in which characters."""

from datetime import datetime, timedelta, timezone

from highdicom import AlgorithmIdentificationSequence, ContributingEquipment
from pydicom import Dataset
from pydicom.valuerep import DT

from dicom_io.segmentation import Algorithm
from reports import codes
from reports.identity import MANUFACTURER_MODEL_NAME, ResultIdentity
from reports.source_headers import character_set

RESEARCH_USE = "For research use, not a diagnosis."


def software_versions(algorithm: Algorithm, identity: ResultIdentity) -> tuple[str, ...]:
    """SoftwareVersions: the program, the model, and the sha256 of its weights (LO: at most 64 characters)."""
    model = f"{algorithm.name} {algorithm.version}"
    return tuple(_long_string(text) for text in (identity.software_version, model, algorithm.weights_sha256) if text)


def algorithm_identification(algorithm: Algorithm, identity: ResultIdentity) -> AlgorithmIdentificationSequence:
    """SegmentationAlgorithmIdentificationSequence (PS3.3 table 10-19)."""
    return AlgorithmIdentificationSequence(
        name=_long_string(algorithm.name),
        version=_long_string(algorithm.version),
        family=codes.ARTIFICIAL_INTELLIGENCE,
        source=_long_string(identity.manufacturer),
        parameters={"weights_sha256": algorithm.weights_sha256, "software": identity.software_version},
    )


def contributing_equipment(algorithm: Algorithm, identity: ResultIdentity) -> ContributingEquipment:
    """The item of ContributingEquipmentSequence for this software (PS3.3 section C.12.1)."""
    return ContributingEquipment(
        manufacturer=_long_string(identity.manufacturer),
        purpose_of_reference=codes.PROCESSING_EQUIPMENT,
        manufacturer_model_name=MANUFACTURER_MODEL_NAME,
        software_versions=software_versions(algorithm, identity),
        device_serial_number=identity.device_observer_uid,
        contribution_description=f"Segmentation by {algorithm.name} {algorithm.version}. {RESEARCH_USE}",
    )


def seal(ds: Dataset, source: Dataset, identity: ResultIdentity) -> None:
    """Set every date and time to `identity.created`, and the source's character set and time zone.

    highdicom writes the clock of the moment into several places; with this the same input gives the same
    bytes. Its text was handed over as Unicode, because it refuses ISO 2022 character sets: only the encoder
    has to know them.
    """
    created = _local_time(identity, source)
    for keyword in ("InstanceCreation", "Content", "Series"):
        setattr(ds, f"{keyword}Date", created.strftime("%Y%m%d"))
        setattr(ds, f"{keyword}Time", created.strftime("%H%M%S"))
    for item in ds.get("ContributingEquipmentSequence", []):
        if "ContributionDateTime" in item or item.Manufacturer == identity.manufacturer:
            item.ContributionDateTime = DT(identity.created.strftime("%Y%m%d%H%M%S+0000"))
    if source.get("TimezoneOffsetFromUTC"):
        ds.TimezoneOffsetFromUTC = source.TimezoneOffsetFromUTC
    charset = character_set(source)
    if charset:
        ds.SpecificCharacterSet = charset
    else:
        ds.pop("SpecificCharacterSet", None)


def _local_time(identity: ResultIdentity, source: Dataset) -> datetime:
    """The time of creation on the study's clock: at the source's stated offset, else in the node's time zone."""
    try:
        text = str(source.get("TimezoneOffsetFromUTC") or "")
        offset = timedelta(hours=int(text[1:3]), minutes=int(text[3:5])) * (-1 if text[0] == "-" else 1)
    except (ValueError, IndexError):
        return identity.created.astimezone()
    return identity.created.astimezone(timezone(offset))


def _long_string(text: str) -> str:
    """`text` as an LO value (PS3.5 section 6.2)."""
    return text.replace("\\", "/")[:64] or "unknown"
