"""The findings as a TID 1500 Comprehensive 3D SR whose TID 1411 groups refer to the SEG's segments.

First what was found in words, a sentence for each lesion. Then one group per segment, in segment order (Slicer maps
them by index), and last a TID 1501 group about the liver as a whole: lesion count, tumour burden. That one is there
whatever was found, so that "no lesion" and "no liver" are stated and not left to guess.
"""

from collections.abc import Sequence

from highdicom.sr import (
    FindingSite,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ReferencedSegment,
    SourceSeriesForSegmentation,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom import Dataset
from pydicom.sr.coding import Code

from dicom_io.errors import RejectReason
from dicom_io.files import values
from dicom_io.segmentation import LIVER, Algorithm
from reports import codes
from reports.envelope import RESEARCH_USE
from reports.errors import SourceUnusable
from reports.findings.caveats import caveat
from reports.findings.course import Course
from reports.findings.measurements import Findings, Lesion
from reports.findings.names import lesion_tracking_id
from reports.findings.response import Response
from reports.findings.wording import assessment, course_assessment, lesion_course, lesion_place, lesion_sentence
from reports.identity import ResultIdentity
from reports.measures import CHANGE, SUMMARY, Measure, Whole
from reports.measures import LESION as LESION_MEASURES
from reports.measures import LIVER as LIVER_MEASURES
from reports.objects.case import Case
from reports.objects.kinds import FORMS, KINDS, Form, Need
from reports.objects.result_object import source_series
from reports.objects.seg import LIVER_TRACKING_ID
from reports.objects.sr_document import (
    Group,
    Note,
    add_comments,
    algorithm_id,
    case_document,
    document,
    measurement,
)
from reports.source_headers import quietly, study_header

KIND = KINDS["sr"]
SUMMARY_TRACKING_ID = "Summary"


def build_sr(case: Case) -> list[Dataset]:
    """The SR of one result, in its own series of the source's study: complete, preliminary, unverified.

    The same case gives the same bytes. Raises SourceUnusable.
    """
    groups = [*case_segment_groups(case), summary_group(case)]
    title = codes.ONCOLOGY_MEASUREMENT_REPORT
    return [case_document(case, groups, kind=KIND, title=title, notes=notes_of(case))]


def build_rejection_sr(
    headers: Sequence[Dataset],
    reason_sentence: str,
    reason_code: str,
    *,
    identity: ResultIdentity,
    algorithm: Algorithm | None = None,
    predecessors: Sequence[Dataset] = (),
    form: Form = FORMS["verdict"],
) -> Dataset:
    """The SR of a series that was not processed, or whose results are withdrawn: why, where the radiologist looks.

    `reason_code` is a RejectReason or halt code, `reason_sentence` what it means. The headers may be of any object,
    an image or not: those that lack UIDs cannot be referred to and are passed over, and the first of the others has
    patient and study. Its UIDs are other ones than those of the SR with results, which may follow it in the same
    revision. Raises SourceUnusable when none has UIDs.
    """
    named = [header for header in headers if _has_uids(header)]
    if not named:
        raise SourceUnusable("No source object has the UIDs to refer to.")
    with quietly():
        sources = [_bare_header(header) for header in named]
    for tag, element in study_header(named[0]).items():
        sources[0].setdefault(tag, element)
    is_withdrawn = reason_code == RejectReason.REASSIGNED
    heading = "Results withdrawn" if is_withdrawn else "Not processed"
    meaning = f"{heading}: {reason_code.replace('_', ' ').lower()}"
    reason = Code(reason_code, codes.PRIVATE_SCHEME, meaning[:64])
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(identity.summary_tracking_uid, SUMMARY_TRACKING_ID),
        qualitative_evaluations=[QualitativeEvaluation(codes.PROCESSING_RESULT, reason)],
    )
    said = (f"{heading.upper()}. {reason_sentence}", _named_series(named[0]), RESEARCH_USE)
    return document(
        [group],
        sources,
        form=form,
        title=codes.ONCOLOGY_MEASUREMENT_REPORT,
        library=[],
        source=named[0],
        algorithm=algorithm,
        identity=identity,
        predecessors=predecessors,
        notes=[(codes.SUMMARY, said)],
        description="Porta: results withdrawn" if is_withdrawn else None,
    )


def case_segment_groups(case: Case) -> list[Group]:
    """The groups about the segments of the case's SEG; none without one."""
    if (case.seg is None) != (Need.LIVER not in case.has):
        raise ValueError("a SEG goes with a liver, and with nothing else")
    if case.seg is None:
        return []
    series_instance_uid = str(case.source.usable[0].SeriesInstanceUID)
    return segment_groups(case.findings, case.segmentation.algorithm, case.identity, case.seg, series_instance_uid)


def segment_groups(
    findings: Findings, algorithm: Algorithm, identity: ResultIdentity, seg: Dataset, series_instance_uid: str
) -> list[Group]:
    """TID 1411 of the liver, then of each lesion."""

    def group(
        segment: int,
        tracking: TrackingIdentifier,
        category: Code,
        finding: Code,
        *,
        measurements: list[Measurement],
        sites: list[FindingSite] | None = None,
        evaluations: list[QualitativeEvaluation] | None = None,
    ) -> Group:
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
            algorithm_id=algorithm_id(algorithm, identity),
            measurements=measurements,
            qualitative_evaluations=evaluations,
        )

    liver = group(
        LIVER,
        TrackingIdentifier(identity.liver_tracking_uid, LIVER_TRACKING_ID),
        codes.ANATOMICAL_STRUCTURE,
        codes.LIVER,
        measurements=_measured(LIVER_MEASURES, findings),
    )
    lesions = [
        group(
            lesion.segment,
            TrackingIdentifier(lesion.tracking_uid, lesion_tracking_id(lesion.number)),
            codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
            codes.MASS,
            measurements=[*_measured(LESION_MEASURES, lesion), *_changes(lesion.course)],
            sites=[FindingSite(codes.LIVER)],
            evaluations=_lesion_evaluations(lesion),
        )
        for lesion in findings.lesions
    ]
    for lesion, about in zip(findings.lesions, lesions, strict=True):
        add_comments(about, [text for text in (lesion_place(lesion), lesion_course(findings, lesion)) if text])
    return [liver, *lesions]


def _measured(measures: Sequence[Measure[Whole]], whole: Whole) -> list[Measurement]:
    """Return the measurements that the SR has of a list, as far as they are known of this whole."""
    known = [(measure, measure.code, measure.of(whole)) for measure in measures]
    return [
        measurement(code, measure.factor * value, measure.unit, measure.derivation, method=measure.method)
        for measure, code, value in known
        if code is not None and value is not None
    ]


def _changes(course: Course | None) -> list[Measurement]:
    """Give the changes of a lesion since the earlier study."""
    return [] if course is None or course.growth is None else _measured(CHANGE, course.growth)


def _lesion_evaluations(lesion: Lesion) -> list[QualitativeEvaluation] | None:
    said = [] if lesion.target is None else [(codes.RECIST_TARGET, codes.TARGETS[lesion.target])]
    said += [] if lesion.course is None else [(codes.LESION_COURSE, codes.COURSES[lesion.course.status])]
    return [QualitativeEvaluation(concept, value) for concept, value in said] or None


def summary_group(case: Case) -> Group:
    """TID 1501 about the whole: count and burden, or that no liver was found. `notes_of` says it in words."""
    findings, identity = case.findings, case.identity
    measurements: list[Measurement] = []
    evaluations: list[QualitativeEvaluation] = []
    if not findings.has_liver:
        evaluations.append(QualitativeEvaluation(codes.LIVER, codes.NOT_DETECTED))
    elif findings.burden_percent is not None:
        measurements = _measured(SUMMARY, findings)
        if findings.severity.level is not None:
            evaluations.append(QualitativeEvaluation(codes.SEVERITY, codes.SEVERITY_LEVELS[findings.severity.level]))
        for concept, criterion in ((codes.MILAN, findings.milan), (codes.UP_TO_SEVEN, findings.up_to_seven)):
            if criterion is not None:
                evaluations.append(QualitativeEvaluation(concept, codes.YES if criterion.met else codes.NO))
        if findings.follow_up is not None:
            evaluations += _response_evaluations(findings.follow_up.response)
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(identity.summary_tracking_uid, SUMMARY_TRACKING_ID),
        finding_sites=[FindingSite(codes.LIVER)],
        algorithm_id=algorithm_id(case.segmentation.algorithm, identity),
        measurements=measurements or None,
        qualitative_evaluations=evaluations or None,
    )


def _response_evaluations(response: Response) -> list[QualitativeEvaluation]:
    """Give the categories of targets, of non-targets and over all apart, and whether there are new lesions."""
    if response.category is None:
        return []
    said = [(codes.OVERALL_RESPONSE, codes.OVERALL_RESPONSES[response.category])]
    if response.target is not None:
        said.append((codes.CURRENT_RESPONSE, codes.TARGET_RESPONSES[response.target]))
    if response.non_target is not None:
        said.append((codes.CURRENT_RESPONSE, codes.NON_TARGET_RESPONSES[response.non_target]))
    said.append((codes.NEW_LESIONS, codes.YES if response.has_new else codes.NO))
    return [QualitativeEvaluation(concept, value) for concept, value in said]


def notes_of(case: Case, *whole: str) -> list[Note]:
    """Return what is read first: the summary, a sentence for each lesion, the assessment, and warnings.

    `whole` are further sentences about the whole.
    """
    findings = case.findings
    assessed = assessment(findings) if findings.lesions else course_assessment(findings)
    summary = (_in_words(findings), *whole, _series_sentence(case), case.note)
    lesions = (lesion_sentence(findings, lesion) for lesion in findings.lesions)
    warnings = [_plane_note(findings), *(caveat(code) for code in findings.warnings)]
    return [
        (codes.SUMMARY, [RESEARCH_USE, *filter(None, summary)]),
        *((codes.FINDING, [text]) for text in lesions),
        (codes.SUMMARY, assessed),
        *((codes.COMMENT, [text]) for text in warnings if text),
    ]


def _series_sentence(case: Case) -> str:
    return f"Segmented: {source_series(case.source.headers[0], case.volume.modality)}."


def _in_words(findings: Findings) -> str:
    if not findings.has_liver:
        return "No liver was found in this series; no segmentation was made."
    if not findings.is_judged:
        return f"{assessment(findings)[0]} Liver volume {findings.liver_volume_ml:.0f} mL."
    if not findings.lesions:
        return f"No liver lesion was found. Liver volume {findings.liver_volume_ml:.0f} mL."
    one = findings.lesion_count == 1
    count = "1 liver lesion was found." if one else f"{findings.lesion_count} liver lesions were found."
    return f"{count} Liver volume {findings.liver_volume_ml:.0f} mL, lesions included."


def _plane_note(findings: Findings) -> str:
    if not findings.lesions or findings.plane == "axial":
        return ""
    return f"Long and short axes were measured in the {findings.plane} plane, as the images were acquired."


REFERENCED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")


def _has_uids(header: Dataset) -> bool:
    return all(str(header.get(keyword) or "").strip() for keyword in REFERENCED)


def _named_series(header: Dataset) -> str:
    return f"The series is {source_series(header, values.code(header, 'Modality') or 'OT')}."


def _bare_header(header: Dataset) -> Dataset:
    copy = Dataset()
    for keyword in REFERENCED:
        setattr(copy, keyword, str(header[keyword].value))
    copy.Modality = str(header.get("Modality") or "OT")
    return copy
