"""The course of lesions since an earlier study (`reports.follow_up.matching` says which are the same).

Pure. Sizes are never taken through the map: each study is measured on its own images.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

from dicom_io.segmentation import Segmentation
from reports.findings import criteria
from reports.findings.caveats import PARTIAL_LIVER_MM2
from reports.findings.course import Course, FollowUp, PriorLesion
from reports.findings.findings import Findings, Lesion
from reports.findings.response import (
    NEW_FROM_MM,
    Axes,
    Growth,
    Reference,
    Response,
    Status,
    response_by_new,
    response_of,
)
from reports.follow_up.matching import Group, Laid, Matching
from reports.follow_up.prior import Prior
from reports.follow_up.registration import Organ

TOO_THICK = "slices of over 5 mm: too thick for RECIST 1.1"


@dataclass(frozen=True, eq=False)
class Today:
    """The findings of the study that is reported, in space. `study_date` is None where it has none."""

    findings: Findings
    laid: Laid
    study_date: date | None = None

    @classmethod
    def of(cls, findings: Findings, segmentation: Segmentation, study_date: date | None = None) -> "Today":
        """Raises ValueError without a liver."""
        surface = Organ(segmentation.labels > 0, segmentation.geometry).surface
        centroids = [lesion.place.centroid_lps_mm for lesion in findings.lesions]
        laid = Laid(segmentation.labels, segmentation.geometry, findings.lesions, centroids, surface)
        return cls(findings, laid, study_date)

    def with_findings(self, findings: Findings) -> "Today":
        """Return the same study with lesions under other names."""
        return replace(self, findings=findings, laid=replace(self.laid, lesions=findings.lesions))

    def days_since(self, earlier: date | None) -> int | None:
        """Return the days between; None where a date is missing."""
        return (self.study_date - earlier).days if self.study_date and earlier else None

    def slices_are_thick(self, further: Sequence[int] = ()) -> bool:
        """True where slices are too thick for RECIST 1.1: of its targets, or of the `further` lesions, by place."""
        lesions = self.findings.lesions
        planes = {lesion.place.key_slice for lesion in lesions if lesion.number in self.findings.targets}
        planes |= {lesions[index].place.key_slice for index in further}
        return criteria.slices_are_thick(self.laid.geometry, sorted(planes))


def follow_up(today: Today, prior: Prior, matching: Matching) -> FollowUp:
    """Compare today's study with `prior`, over which `matching` has laid it."""
    return FollowUp(
        days=today.days_since(prior.study_date),
        prior_lesions=prior.lesions,
        disappeared=tuple(prior.lesions[index] for index in matching.gone),
        outside=tuple(prior.lesions[index] for index in matching.outside),
        response=response_since(today, prior, matching),
        dice=matching.registration.dice,
        surface_mm=matching.registration.surface_mm,
    )


def with_follow_up(findings: Findings, followed: FollowUp, courses: Sequence[Course]) -> Findings:
    """Give the lesions their courses, in their order, and the tracking UIDs that they had in the earlier study."""
    lesions = tuple(
        replace(lesion, tracking_uid=course.tracking_uid, course=course)
        for lesion, course in zip(findings.lesions, courses, strict=True)
    )
    return replace(findings, lesions=lesions, follow_up=followed)


def courses_of(
    today: Today, earlier: Sequence[PriorLesion], matching: Matching, days: int | None
) -> tuple[Course, ...]:
    """Return the course of each lesion of today, in their order."""
    lesions = today.findings.lesions
    courses = [Course(lesion.number, Status.NEW, lesion.tracking_uid) for lesion in lesions]
    for index in matching.unseen:
        courses[index] = replace(courses[index], status=Status.OUTSIDE)
    for group in matching.groups:
        _follow(courses, lesions, earlier, group, days)
    return tuple(courses)


def _follow(
    courses: list[Course], lesions: Sequence[Lesion], earlier: Sequence[PriorLesion], group: Group, days: int | None
) -> None:
    """Put the course of a group's lesions at their places."""
    now, before = [lesions[index] for index in group.now], [earlier[index] for index in group.before]
    growth = Growth(
        prior_diameter_mm=sum(lesion.long_axis_mm for lesion in before),
        diameter_mm=sum(lesion.size.long_axis_mm for lesion in now),
        prior_volume_ml=sum(lesion.volume_ml for lesion in before),
        volume_ml=sum(lesion.size.volume_ml for lesion in now),
        days=days,
    )
    status = growth.status
    if len(before) > 1 or len(now) > 1:
        status = Status.MERGED if len(before) > 1 else Status.SPLIT
    for index, lesion in zip(group.now, now, strict=True):
        is_heir = index == group.now[0] and before[0].tracking_uid
        courses[index] = Course(
            number=lesion.number,
            status=status,
            tracking_uid=before[0].tracking_uid if is_heir else lesion.tracking_uid,
            numbers=tuple(other.number for other in now),
            prior_numbers=tuple(other.number for other in before),
            growth=growth,
        )


def response_since(
    today: Today,
    baseline: Prior,
    matching: Matching,
    *,
    baseline_when: str = "then",
    nadir: Reference | None = None,
    outside: int = 0,
) -> Response:
    """Judge the response by the targets of the baseline, over which `matching` lays today's study.

    `outside` is how many lesions of the study that is compared with today's images do not reach.
    """
    lesions, targets = today.findings.lesions, baseline.targets
    followed = matching.heirs(targets)
    new_mm = [lesions[index].size.long_axis_mm for index in matching.new]
    if baseline.slices_are_thick() or today.slices_are_thick(followed):
        # What is twice as long as slices are thick is measurable on them too (Eisenhauer 2009, section 3.2.2), and so
        # was not missed then
        least_mm = max(NEW_FROM_MM, 2 * _widest_mm(baseline.laid), 2 * _widest_mm(today.laid))
        return response_by_new(new_mm, reasons=[TOO_THICK], baseline_when=baseline_when, least_mm=least_mm)
    if set(targets) & set(matching.outside):
        which = "earlier study" if baseline_when == "then" else "baseline"
        reason = f"a target of the {which} lies outside of the images"
        return response_by_new(new_mm, reasons=[reason], baseline_when=baseline_when)
    if not lesions and not baseline.lesions:
        return Response(None, ("no lesion then, none now",))
    beside = [i for i in range(len(baseline.lesions)) if i not in targets and i not in matching.outside]
    heirs = [index for index in matching.heirs(beside) if index not in followed]
    return response_of(
        Axes([baseline.lesions[i].long_axis_mm for i in targets], [lesions[i].size.long_axis_mm for i in followed]),
        Axes([baseline.lesions[i].long_axis_mm for i in beside], [lesions[i].size.long_axis_mm for i in heirs]),
        new_mm=new_mm,
        baseline_when=baseline_when,
        nadir=nadir,
        unseen=_unseen(today, max(len(matching.outside), outside)),
    )


def _widest_mm(laid: Laid) -> float:
    return float(laid.geometry.slice_widths_mm.max())


def _unseen(today: Today, outside: int) -> list[str]:
    """Return the reasons why an earlier lesion may still be there unseen."""
    reasons = (
        [f"{outside} earlier lesion{'s lie' if outside > 1 else ' lies'} outside of the images"] if outside else []
    )
    # A cut liver is laid over a whole one by stretching it: what lay beyond the cut may then seem to lie within
    if today.findings.liver_cut_off_mm2 > PARTIAL_LIVER_MM2:
        reasons.append("the liver reaches the edge of the images")
    return reasons
