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
from reports.envelope import RESEARCH_USE, contributing_equipment, seal, software_versions
from reports.errors import SourceUnusable
from reports.identity import MANUFACTURER_MODEL_NAME, ResultIdentity
from reports.measurements import Findings, Lesion
from reports.seg import LIVER_TRACKING_ID, lesion_tracking_id
from reports.source_headers import UNICODE, quietly, study_header, usable_headers

SERIES_DESCRIPTION = "Porta: findings"
SUMMARY_TRACKING_ID = "Summary"

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
) -> Dataset:
    """The SR of one result, in its own series of the source's study: complete, preliminary, unverified.

    `headers` are the source images in slice order; they are not changed. `seg` is the SEG it refers to, None
    only when no liver was found. `predecessor` is the SR of the revision that this one supersedes (its UIDs are
    enough). The same arguments give the same bytes. Raises SourceUnusable.
    """
    if (seg is None) != (findings.liver_volume_ml == 0):
        raise ValueError("a SEG goes with a liver, and with nothing else")
    sources = usable_headers(headers, None if seg is None else str(seg.FrameOfReferenceUID))
    groups = [_summary_group(findings, algorithm, identity)]
    if seg is not None:
        groups = [*_segment_groups(findings, algorithm, identity, seg, str(sources[0].SeriesInstanceUID)), *groups]
    evidence = sources if seg is None else [*sources, seg]
    return _document(
        groups,
        evidence,
        library=_key_images(sources, findings),
        source=headers[0],
        algorithm=algorithm,
        identity=identity,
        predecessor=predecessor,
    )


def build_rejection_sr(
    headers: Sequence[Dataset],
    reason_sentence: str,
    reason_code: str,
    *,
    identity: ResultIdentity,
    algorithm: Algorithm | None = None,
) -> Dataset:
    """The SR of a series that was not processed: why there is no overlay, where the radiologist looks.

    `reason_code` is a RejectReason or halt code, `reason_sentence` what it means. The headers need no usable
    geometry. Raises SourceUnusable when they hold no UIDs.
    """
    if not headers:
        raise SourceUnusable("There are no source images.")
    sources = [_bare_header(header) for header in headers]
    for tag, element in study_header(headers[0]).items():
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
        source=headers[0],
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
                procedure_reported=codes.MR_PROCEDURE if evidence[0].Modality == "MR" else codes.CT_PROCEDURE,
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
                series_description=SERIES_DESCRIPTION,
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
    return [
        _measurement(codes.VOLUME, lesion.volume_ml, codes.MILLILITER),
        _measurement(codes.LONG_AXIS, lesion.long_axis_mm, codes.MILLIMETER),
        _measurement(codes.SHORT_AXIS, lesion.short_axis_mm, codes.MILLIMETER),
        _measurement(codes.DIAMETER_3D, lesion.diameter_3d_mm, codes.MILLIMETER),
        _measurement(codes.ATTENUATION_COEFFICIENT, lesion.hu_mean, codes.HOUNSFIELD_UNIT, codes.MEAN),
        _measurement(codes.ATTENUATION_COEFFICIENT, lesion.hu_sd, codes.HOUNSFIELD_UNIT, codes.STANDARD_DEVIATION),
    ]


def _summary_group(findings: Findings, algorithm: Algorithm, identity: ResultIdentity) -> _Group:
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
    _add_comments(group, [RESEARCH_USE, _in_words(findings), *(f"Warning: {code}" for code in findings.warnings)])
    return group


def _in_words(findings: Findings) -> str:
    if findings.burden_percent is None:
        return "No liver was found in this series; no segmentation was made."
    if not findings.lesions:
        return f"No liver lesion was found. Liver volume {findings.liver_volume_ml:.0f} mL."
    one = findings.lesion_count == 1
    count = "1 liver lesion was found." if one else f"{findings.lesion_count} liver lesions were found."
    return f"{count} Liver volume {findings.liver_volume_ml:.0f} mL, lesions included."


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


def _key_images(sources: Sequence[Dataset], findings: Findings) -> list[Dataset]:
    """The slices that hold the lesions' axes, the largest lesions first; else the middle of the stack."""
    planes = list(dict.fromkeys(lesion.key_slice for lesion in findings.lesions))[:LIBRARY_IMAGES]
    return [sources[plane] for plane in sorted(planes or [len(sources) // 2])]


def _bare_header(header: Dataset) -> Dataset:
    copy = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        if not header.get(keyword):
            raise SourceUnusable(f"A source object has no {keyword}.")
        setattr(copy, keyword, str(header[keyword].value))
    copy.Modality = str(header.get("Modality") or "OT")
    return copy
