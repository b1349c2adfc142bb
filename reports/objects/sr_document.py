"""The parts that every SR of a result shares: a TID 1500 document with its observer, evidence and Image Library."""

from collections.abc import Iterable, Iterator, Sequence

import highdicom as hd
from highdicom.sr import (
    AlgorithmIdentification,
    Comprehensive3DSR,
    ComprehensiveSR,
    ContainerContentItem,
    ContentSequence,
    CoordinatesForMeasurement,
    DeviceObserverIdentifyingAttributes,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    RelationshipTypeValues,
    TextContentItem,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom import DataElement, Dataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from dicom_io.segmentation import Algorithm
from reports import codes
from reports.envelope import contributing_equipment, seal, series_description, software_versions
from reports.errors import SourceUnusable
from reports.findings.measurements import Findings
from reports.identity import MANUFACTURER_MODEL_NAME, ResultIdentity
from reports.objects.case import Case
from reports.objects.kinds import KINDS, Form, Kind, SrClass
from reports.source_headers import UNICODE, quietly

CLASSES: dict[SrClass | None, type[Dataset]] = {"comprehensive_3d": Comprehensive3DSR, "comprehensive": ComprehensiveSR}
"""The content is the same: Comprehensive is for archives and viewers that do not know the newer class."""

PROCEDURES = {"CT": codes.CT_PROCEDURE, "MR": codes.MR_PROCEDURE}
"""ProcedureReported by Modality."""

IMAGE_LIBRARY = "111028"

LIBRARY_IMAGES = 10
"""How many key images the Image Library lists at most; each costs 4.3 kB, and viewers need only that it is there."""

Group = VolumetricROIMeasurementsAndQualitativeEvaluations | MeasurementsAndQualitativeEvaluations


Note = tuple[Code, Sequence[str]]
"""A part of the head of a report: its heading, and its sentences."""


def case_document(case: Case, groups: Sequence[Group], *, kind: Kind, title: Code, notes: Sequence[Note]) -> Dataset:
    """The SR of a kind about a case; one that refers to the SEG has it as evidence. Raises SourceUnusable."""
    planes = key_slices(case.findings, len(case.source.usable))
    seg = case.seg if kind.refers_to_seg else None
    sr = document(
        groups,
        case.source.usable if seg is None else [*case.source.usable, seg],
        form=case.form_of(kind),
        title=title,
        library=[case.source.usable[plane] for plane in planes],
        source=case.source.headers[0],
        algorithm=case.segmentation.algorithm,
        identity=case.identity,
        predecessors=case.predecessors,
        notes=notes,
    )
    name_frames(sr, [case.source.frames[plane].frame_number for plane in planes])
    return sr


def document(
    groups: Sequence[Group],
    evidence: Sequence[Dataset],
    *,
    form: Form,
    title: Code,
    library: Sequence[Dataset],
    source: Dataset,
    algorithm: Algorithm | None,
    identity: ResultIdentity,
    predecessors: Sequence[Dataset],
    notes: Sequence[Note],
    description: str | None = None,
) -> Dataset:
    """The SR: complete, preliminary, unverified. Raises SourceUnusable.

    `evidence` are the images and objects that it refers to, `library` those of them that the Image Library lists;
    `source` has the character set, `predecessors` are the SRs that it supersedes (their UIDs are enough), which
    it also says in words: viewers show no PredecessorDocumentsSequence. `notes` stand before the numbers, so that a
    reader of the tree has the words first. `description` is the series', else the kind's.
    """
    kind = KINDS[form.kind]
    if predecessors:
        notes = [(codes.COMMENT, [_replacing(len(predecessors))]), *notes]
    with quietly():
        try:
            report = MeasurementReport(
                observation_context=_observation_context(algorithm, identity),
                procedure_reported=PROCEDURES.get(evidence[0].Modality, codes.IMAGING_PROCEDURE),
                imaging_measurements=groups,
                title=title,
                referenced_images=library or None,
            )
            _require_evidence(report, evidence)
            _put_first(report[0], notes)
            sr = CLASSES[form.sr_class](
                evidence=evidence,
                content=_without_children(report[0]),
                series_instance_uid=identity.series_instance_uid(form.name),
                series_number=identity.series_number_of(kind.series_offset),
                sop_instance_uid=identity.sop_instance_uid(form.name),
                instance_number=1,
                manufacturer=identity.manufacturer,
                is_complete=True,
                is_final=False,
                is_verified=False,
                previous_versions=list(predecessors) or None,
                transfer_syntax_uid=ExplicitVRLittleEndian,
                contributing_equipment=[contributing_equipment(algorithm, identity)],
                manufacturer_model_name=MANUFACTURER_MODEL_NAME,
                software_versions=software_versions(algorithm, identity),
                device_serial_number=identity.device_observer_uid,
                series_description=series_description(description or kind.description, identity),
                coding_schemes=[codes.private_scheme()],
                specific_character_set=UNICODE,
            )
            sr.add(report[0]["ContentSequence"])
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            # highdicom's own message may quote a value of the header
            raise SourceUnusable(f"highdicom refuses the source headers ({type(error).__name__}).") from error
        seal(sr, source, identity)
    return sr


def _put_first(root: Dataset, notes: Sequence[Note]) -> None:
    """Put texts before the Image Library and the measurements: TID 1500 is extensible, and groups keep their order.

    Each part has a container: viewers run the texts of one into one paragraph.
    """
    place = next(index for index, item in enumerate(root.ContentSequence) if item.RelationshipType == CONTAINS.value)
    parts = [(heading, texts) for heading, texts in notes if texts]
    for number, (heading, texts) in enumerate(parts):
        part = ContainerContentItem(name=heading, relationship_type=CONTAINS)
        part.ContentSequence = ContentSequence(
            [TextContentItem(name=codes.COMMENT, value=text, relationship_type=CONTAINS) for text in texts]
        )
        root.ContentSequence.insert(place + number, part)


CONTAINS = RelationshipTypeValues.CONTAINS


def _replacing(count: int) -> str:
    earlier = "1 earlier report" if count == 1 else f"{count} earlier reports"
    return f"This report replaces {earlier} of Porta Hepatis; what an earlier one says, also NOT PROCESSED, is void."


def _without_children(root: Dataset) -> Dataset:
    """The root of the tree by itself.

    highdicom keeps a deep copy of what it is given, which nothing here reads, and goes through the tree once for each
    kind of reference: together half of the time that an SR takes.
    """
    bare = Dataset()
    bare.update(root)
    bare.add(DataElement("ContentSequence", "SQ", []))
    return bare


def _require_evidence(items: Iterable[Dataset], evidence: Sequence[Dataset]) -> None:
    """Raise ValueError where the tree refers to an object that is not listed as evidence (PS3.3 section C.17.2.3)."""
    missing = set(_referenced_uids(items)) - {str(ds.SOPInstanceUID) for ds in evidence}
    if missing:
        raise ValueError(f"{len(missing)} objects are referred to and are no evidence")


def _referenced_uids(items: Iterable[Dataset]) -> Iterator[str]:
    for item in items:
        for reference in item.get("ReferencedSOPSequence", ()):
            yield str(reference.ReferencedSOPInstanceUID)
        yield from _referenced_uids(item.get("ContentSequence", ()))


def add_comments(group: Group, texts: Sequence[str]) -> None:
    """Put texts at the end of a group."""
    for text in texts:
        item = TextContentItem(name=codes.COMMENT, value=text, relationship_type=CONTAINS)
        group[0].ContentSequence.append(item)


def measurement(
    name: Code,
    value: float,
    unit: Code,
    derivation: Code | None = None,
    *,
    coordinates: Sequence[CoordinatesForMeasurement] | None = None,
    method: Code | None = None,
) -> Measurement:
    """A number with its unit, how it was measured, and the lines that it was inferred from."""
    # DS holds 16 characters, and a thousandth is below what a voxel grid can say
    return Measurement(
        name=name,
        value=round(float(value), 3),
        unit=unit,
        derivation=derivation,
        method=method,
        referenced_coordinates=coordinates,
    )


def algorithm_id(algorithm: Algorithm, identity: ResultIdentity) -> AlgorithmIdentification:
    """Return the algorithm that measured: TID 4019. The weights' hash is said once, by the observer's serial number."""
    return AlgorithmIdentification(
        name=algorithm.name,
        version=algorithm.version,
        family=codes.ARTIFICIAL_INTELLIGENCE,
        manufacturer=identity.manufacturer,
    )


def _observation_context(algorithm: Algorithm | None, identity: ResultIdentity) -> ObservationContext:
    device = DeviceObserverIdentifyingAttributes(
        uid=identity.device_observer_uid,
        name=f"{MANUFACTURER_MODEL_NAME} {identity.software_version}",
        manufacturer_name=identity.manufacturer,
        model_name=f"{algorithm.name} {algorithm.version}" if algorithm else MANUFACTURER_MODEL_NAME,
        serial_number=algorithm.weights_sha256 or None if algorithm else None,
    )
    observer = ObserverContext(hd.sr.CodedConcept.from_code(codes.DEVICE), device)
    return ObservationContext(observer_device_context=observer)


def key_slices(findings: Findings, slices: int) -> list[int]:
    """The slices that hold the axes of the largest lesions, in slice order; else the middle of the stack."""
    planes = list(dict.fromkeys(lesion.place.key_slice for lesion in findings.lesions))[:LIBRARY_IMAGES]
    return sorted(planes or [slices // 2])


def name_frames(sr: Dataset, frame_numbers: Sequence[int | None]) -> None:
    """Say in the Image Library which frame each entry is; the entries stand in the order that they were given in."""
    (library,) = [item for item in sr.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == IMAGE_LIBRARY]
    entries = [item for group in library.ContentSequence for item in group.ContentSequence if item.ValueType == "IMAGE"]
    for entry, number in zip(entries, frame_numbers, strict=True):
        if number is not None:
            entry.ReferencedSOPSequence[0].ReferencedFrameNumber = number
