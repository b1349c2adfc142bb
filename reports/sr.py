"""The findings as a TID 1500 Comprehensive 3D SR whose TID 1411 groups refer to the SEG's segments.

One group per segment, in segment order (Slicer maps them by index), and last a TID 1501 group about the liver
as a whole: lesion count, tumour burden, warnings. That one is there whatever was found, so that "no lesion"
and "no liver" are stated and not left to guess.
"""

from collections.abc import Sequence

import highdicom as hd
from highdicom.sr import (
    AlgorithmIdentification,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from dicom_io.segmentation import LIVER, Algorithm
from reports import codes
from reports.caveats import caveat
from reports.envelope import RESEARCH_USE, contributing_equipment, seal, series_description, software_versions
from reports.errors import SourceUnusable
from reports.identity import MANUFACTURER_MODEL_NAME, ResultIdentity
from reports.measurements import Findings, Lesion
from reports.seg import LIVER_TRACKING_ID, lesion_tracking_id
from reports.source_frames import source_frames
from reports.source_headers import UNICODE, quietly, study_header, usable_headers

SERIES_DESCRIPTION = "Porta: findings"
SUMMARY_TRACKING_ID = "Summary"

PROCEDURES = {"CT": codes.CT_PROCEDURE, "MR": codes.MR_PROCEDURE}
"""ProcedureReported by Modality."""

IMAGE_LIBRARY = "111028"

LIBRARY_IMAGES = 10
"""How many key images the Image Library lists at most; each costs 4.3 kB, and viewers need only that it is there."""


def build_sr(
    headers: Sequence[Dataset],
    findings: Findings,
    algorithm: Algorithm,
    *,
    identity: ResultIdentity,
    seg: Dataset | None,
    predecessor: Dataset | None = None,
    frame_numbers: Sequence[int | None] = (),
    volume_note: str = "",
) -> Dataset:
    """The SR of one result, in its own series of the source's study: complete, preliminary, unverified.

    `headers` and `frame_numbers` are the images of the volume in slice order, as `build_seg` has them; they are not
    changed. `seg` is the SEG it refers to, None only when no liver was found. `predecessor` is the SR that this one
    supersedes, of an earlier revision or of another series of the study (its UIDs are enough). `volume_note` is a
    sentence that says which volume of the series was segmented. The same arguments give the same bytes. Raises
    SourceUnusable.
    """
    if (seg is None) != (findings.liver_volume_ml == 0):
        raise ValueError("a SEG goes with a liver, and with nothing else")
    sources = usable_headers(headers, None if seg is None else str(seg.FrameOfReferenceUID))
    frames = source_frames(sources, frame_numbers)
    groups = [_summary_group(findings, algorithm, identity, volume_note)]
    if seg is not None:
        groups = [*_segment_groups(findings, algorithm, identity, seg, str(sources[0].SeriesInstanceUID)), *groups]
    evidence = sources if seg is None else [*sources, seg]
    key_slices = _key_slices(findings, len(sources))
    sr = _document(
        groups,
        evidence,
        library=[sources[plane] for plane in key_slices],
        source=headers[0],
        algorithm=algorithm,
        identity=identity,
        predecessor=predecessor,
    )
    _name_frames(sr, [frames[plane].frame_number for plane in key_slices])
    return sr


def build_rejection_sr(
    headers: Sequence[Dataset],
    reason_sentence: str,
    reason_code: str,
    *,
    identity: ResultIdentity,
    algorithm: Algorithm | None = None,
) -> Dataset:
    """The SR of a series that was not processed: why there is no overlay, where the radiologist looks.

    `reason_code` is a RejectReason or halt code, `reason_sentence` what it means. The headers may be of any object,
    an image or not: those that lack UIDs cannot be referred to and are passed over, and the first of the others has
    patient and study. Raises SourceUnusable when none has UIDs.
    """
    named = [header for header in headers if _has_uids(header)]
    if not named:
        raise SourceUnusable("No source object has the UIDs to refer to.")
    with quietly():
        sources = [_bare_header(header) for header in named]
    for tag, element in study_header(named[0]).items():
        sources[0].setdefault(tag, element)
    meaning = f"Not processed: {reason_code.replace('_', ' ').lower()}"
    reason = Code(reason_code, codes.PRIVATE_SCHEME, meaning[:64])
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(identity.summary_tracking_uid, SUMMARY_TRACKING_ID),
        qualitative_evaluations=[QualitativeEvaluation(codes.PROCESSING_RESULT, reason)],
    )
    _add_comments(group, [f"NOT PROCESSED. {reason_sentence}", RESEARCH_USE])
    return _document(
        [group],
        sources,
        library=[],
        source=named[0],
        algorithm=algorithm or Algorithm("none", "none", ""),
        identity=identity,
        predecessor=None,
    )


_Group = VolumetricROIMeasurementsAndQualitativeEvaluations | MeasurementsAndQualitativeEvaluations


def _document(
    groups: Sequence[_Group],
    evidence: Sequence[Dataset],
    *,
    library: Sequence[Dataset],
    source: Dataset,
    algorithm: Algorithm,
    identity: ResultIdentity,
    predecessor: Dataset | None,
) -> Dataset:
    with quietly():
        try:
            report = MeasurementReport(
                observation_context=_observation_context(algorithm, identity),
                procedure_reported=PROCEDURES.get(evidence[0].Modality, codes.IMAGING_PROCEDURE),
                imaging_measurements=groups,
                title=codes.ONCOLOGY_MEASUREMENT_REPORT,
                referenced_images=library or None,
            )
            sr = Comprehensive3DSR(
                evidence=evidence,
                content=report,
                series_instance_uid=identity.sr_series_instance_uid,
                series_number=identity.sr_series_number,
                sop_instance_uid=identity.sr_sop_instance_uid,
                instance_number=1,
                manufacturer=identity.manufacturer,
                is_complete=True,
                is_final=False,
                is_verified=False,
                previous_versions=None if predecessor is None else [predecessor],
                transfer_syntax_uid=ExplicitVRLittleEndian,
                contributing_equipment=[contributing_equipment(algorithm, identity)],
                manufacturer_model_name=MANUFACTURER_MODEL_NAME,
                software_versions=software_versions(algorithm, identity),
                device_serial_number=identity.device_observer_uid,
                series_description=series_description(SERIES_DESCRIPTION, identity),
                coding_schemes=[codes.private_scheme()],
                specific_character_set=UNICODE,
            )
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            # highdicom's own message may quote a value of the header
            raise SourceUnusable(f"highdicom refuses the source headers ({type(error).__name__}).") from error
        seal(sr, source, identity)
    return sr


def _segment_groups(
    findings: Findings, algorithm: Algorithm, identity: ResultIdentity, seg: Dataset, series_instance_uid: str
) -> list[_Group]:
    """TID 1411 of the liver, then of each lesion."""

    def group(
        segment: int,
        tracking: TrackingIdentifier,
        category: Code,
        finding: Code,
        measurements: list[Measurement],
        sites: list[FindingSite] | None,
    ) -> _Group:
        return VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=tracking,
            referenced_segment=ReferencedSegment(
                sop_class_uid=seg.SOPClassUID,
                sop_instance_uid=seg.SOPInstanceUID,
                segment_number=segment,
                source_series=SourceSeriesForSegmentation(series_instance_uid),
            ),
            finding_category=category,
            finding_type=finding,
            finding_sites=sites,
            algorithm_id=_algorithm_id(algorithm, identity),
            measurements=measurements,
        )

    liver = group(
        LIVER,
        TrackingIdentifier(identity.liver_tracking_uid, LIVER_TRACKING_ID),
        codes.ANATOMICAL_STRUCTURE,
        codes.LIVER,
        [_measurement(codes.VOLUME, findings.liver_volume_ml, codes.MILLILITER)],
        None,
    )
    lesions = [
        group(
            lesion.segment,
            TrackingIdentifier(lesion.tracking_uid, lesion_tracking_id(lesion.number)),
            codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
            codes.MASS,
            _lesion_measurements(lesion),
            [FindingSite(codes.LIVER)],
        )
        for lesion in findings.lesions
    ]
    return [liver, *lesions]


def _lesion_measurements(lesion: Lesion) -> list[Measurement]:
    sizes = [
        _measurement(codes.VOLUME, lesion.volume_ml, codes.MILLILITER),
        _measurement(codes.LONG_AXIS, lesion.long_axis_mm, codes.MILLIMETER),
        _measurement(codes.SHORT_AXIS, lesion.short_axis_mm, codes.MILLIMETER),
        _measurement(codes.DIAMETER_3D, lesion.diameter_3d_mm, codes.MILLIMETER),
    ]
    attenuation = [
        _measurement(codes.ATTENUATION_COEFFICIENT, value, codes.HOUNSFIELD_UNIT, derivation)
        for value, derivation in ((lesion.hu_mean, codes.MEAN), (lesion.hu_sd, codes.STANDARD_DEVIATION))
        if value is not None  # MR values have no unit, and no meaning outside their own series
    ]
    return [*sizes, *attenuation]


def _summary_group(findings: Findings, algorithm: Algorithm, identity: ResultIdentity, volume_note: str) -> _Group:
    """TID 1501 about the whole: count and burden, or that no liver was found; what must be known to read it."""
    measurements: list[Measurement] = []
    evaluations: list[QualitativeEvaluation] = []
    if findings.burden_percent is None:
        evaluations.append(QualitativeEvaluation(codes.LIVER, codes.NOT_DETECTED))
    else:
        measurements.append(_measurement(codes.NUMBER_OF_LESIONS, findings.lesion_count, codes.NO_UNITS))
        measurements.append(_measurement(codes.TUMOR_BURDEN, findings.burden_percent, codes.PERCENT))
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(identity.summary_tracking_uid, SUMMARY_TRACKING_ID),
        finding_sites=[FindingSite(codes.LIVER)],
        algorithm_id=_algorithm_id(algorithm, identity),
        measurements=measurements or None,
        qualitative_evaluations=evaluations or None,
    )
    notes = [volume_note, _plane_note(findings), *(caveat(code) for code in findings.warnings)]
    _add_comments(group, [RESEARCH_USE, _in_words(findings), *(note for note in notes if note)])
    return group


def _in_words(findings: Findings) -> str:
    if findings.burden_percent is None:
        return "No liver was found in this series; no segmentation was made."
    if not findings.lesions:
        return f"No liver lesion was found. Liver volume {findings.liver_volume_ml:.0f} mL."
    one = findings.lesion_count == 1
    count = "1 liver lesion was found." if one else f"{findings.lesion_count} liver lesions were found."
    return f"{count} Liver volume {findings.liver_volume_ml:.0f} mL, lesions included."


def _plane_note(findings: Findings) -> str:
    if not findings.lesions or findings.plane == "axial":
        return ""
    return f"Long and short axes were measured in the {findings.plane} plane, as the images were acquired."


def _add_comments(group: _Group, texts: Sequence[str]) -> None:
    for text in texts:
        item = TextContentItem(name=codes.COMMENT, value=text, relationship_type=RelationshipTypeValues.CONTAINS)
        group[0].ContentSequence.append(item)


def _measurement(name: Code, value: float, unit: Code, derivation: Code | None = None) -> Measurement:
    # DS holds 16 characters, and a thousandth is below what a voxel grid can say
    return Measurement(name=name, value=round(float(value), 3), unit=unit, derivation=derivation)


def _algorithm_id(algorithm: Algorithm, identity: ResultIdentity) -> AlgorithmIdentification:
    parameters = [f"weights_sha256={algorithm.weights_sha256}"] if algorithm.weights_sha256 else None
    return AlgorithmIdentification(
        name=algorithm.name,
        version=algorithm.version,
        parameters=parameters,
        family=codes.ARTIFICIAL_INTELLIGENCE,
        manufacturer=identity.manufacturer,
    )


def _observation_context(algorithm: Algorithm, identity: ResultIdentity) -> ObservationContext:
    device = DeviceObserverIdentifyingAttributes(
        uid=identity.device_observer_uid,
        name=f"{MANUFACTURER_MODEL_NAME} {identity.software_version}",
        manufacturer_name=identity.manufacturer,
        model_name=f"{algorithm.name} {algorithm.version}",
        serial_number=algorithm.weights_sha256 or None,
    )
    observer = ObserverContext(hd.sr.CodedConcept.from_code(codes.DEVICE), device)
    return ObservationContext(observer_device_context=observer)


def _key_slices(findings: Findings, slices: int) -> list[int]:
    """The slices that hold the axes of the largest lesions, in slice order; else the middle of the stack."""
    planes = list(dict.fromkeys(lesion.key_slice for lesion in findings.lesions))[:LIBRARY_IMAGES]
    return sorted(planes or [slices // 2])


def _name_frames(sr: Dataset, frame_numbers: Sequence[int | None]) -> None:
    """Say in the Image Library which frame each entry is; the entries stand in the order that they were given in."""
    (library,) = [item for item in sr.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == IMAGE_LIBRARY]
    entries = [item for group in library.ContentSequence for item in group.ContentSequence if item.ValueType == "IMAGE"]
    for entry, number in zip(entries, frame_numbers, strict=True):
        if number is not None:
            entry.ReferencedSOPSequence[0].ReferencedFrameNumber = number


REFERENCED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")


def _has_uids(header: Dataset) -> bool:
    return all(str(header.get(keyword) or "").strip() for keyword in REFERENCED)


def _bare_header(header: Dataset) -> Dataset:
    copy = Dataset()
    for keyword in REFERENCED:
        setattr(copy, keyword, str(header[keyword].value))
    copy.Modality = str(header.get("Modality") or "OT")
    return copy
