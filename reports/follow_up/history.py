"""A study on the way of several earlier ones: sizes from study to study, and RECIST 1.1 from baseline and nadir.

Pure. The latest earlier study that fits is the one that lesions are compared with. Each further one is laid over
today's study for the sizes that today's lesions had then, and over the baseline for the sum of its targets' diameters.
The baseline is the first study that RECIST can measure, the nadir the one of the smallest sum (Eisenhauer 2009, section
4.3.1). Of a study of which there is only a report, lesions are known by their tracking UIDs alone: it has a place on
the way, and may be the nadir, but neither the baseline nor the study that is compared with. Where lesions have merged
or split, a tracking UID stands for a part alone, and nothing is made of the report's numbers.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date

from reports.errors import LiversDiffer
from reports.findings.course import Course, EarlierStudy, PriorSize, earlier_by
from reports.findings.findings import Findings
from reports.findings.response import Growth, Reference, Response, Status, sum_of
from reports.follow_up.follow_up import Today, courses_of, follow_up, response_since, with_follow_up
from reports.follow_up.matching import Matching, match
from reports.follow_up.numbers import with_lasting_numbers
from reports.follow_up.prior import Prior
from reports.follow_up.reported import ReportedStudy


@dataclass(frozen=True, eq=False)
class _Fitted:
    """An earlier study that today's could be laid over."""

    prior: Prior
    matching: Matching


def with_history(
    today: Today,
    latest: Prior,
    others: Iterable[Iterable[Prior]] = (),
    reported: Sequence[ReportedStudy] = (),
    *,
    left_out: int = 0,
) -> Findings:
    """Compare the findings of today with `latest`, and add the sizes of all earlier studies.

    `others` are the further ones, the first study first, of each the SEGs that may be tried until one fits; they may
    come one by one, so that not all lie in memory. `reported` are those of which there is only a report, `left_out` is
    how many studies with a SEG did not fit before `latest` did; what does not fit of `others` is counted too, and said.
    Raises LiversDiffer when `latest` does not fit.
    """
    compared = _Fitted(latest, match(today.laid, latest.laid))
    followed = follow_up(today, latest, compared.matching)
    since = courses_of(today, latest.lesions, compared.matching, followed.days)
    today = today.with_findings(with_follow_up(today.findings, followed, since))
    given = {latest.highest_number}
    studies: list[tuple[date | None, EarlierStudy]] = []
    baseline: _Fitted | None = None
    for tries in others:
        fitted = _first_fit(today, tries)
        if fitted is None:
            left_out += 1
            continue
        given.add(fitted.prior.highest_number)
        baseline = baseline or (fitted if _is_measurable(fitted.prior) else None)
        days = today.days_since(fitted.prior.study_date)
        courses = courses_of(today, fitted.prior.lesions, fitted.matching, days)
        studies.append((fitted.prior.study_date, _study(today, fitted, baseline, courses)))
    baseline = baseline or (compared if _is_measurable(latest) else None)
    newest = replace(_study(today, compared, baseline, since), is_compared=True)
    studies.append((latest.study_date, newest))
    if baseline is not None:
        today = today.with_findings(_with_targets(today.findings, baseline))
    known = _Known.of(today, [study for _, study in studies], reported)
    studies += [(report.study_date, _reported(today, report, baseline, known)) for report in reported]
    # What has no date to be read comes first: it was made before the others at the latest
    ordered = _with_nadir([study for _, study in sorted(studies, key=lambda item: item[0] or date.min)])
    response = followed.response if baseline is None else _response(today, baseline, ordered, len(followed.outside))
    if left_out:
        which = "1 earlier study" if left_out == 1 else f"{left_out} earlier studies"
        reason = f"{which} could not be laid over today's: baseline and nadir may be others"
        response = replace(response, reasons=(*response.reasons, reason))
    findings = replace(today.findings, follow_up=replace(followed, studies=ordered, response=response))
    return with_lasting_numbers(findings, given | {size.number for study in ordered for size in study.lesions})


def _with_targets(findings: Findings, baseline: _Fitted) -> Findings:
    """Mark what the baseline's targets have become, and nothing else."""
    ranks: dict[int, int] = {}
    for rank, place in enumerate(baseline.prior.targets, start=1):
        for index in baseline.matching.heirs([place]):
            ranks.setdefault(index, rank)
    lesions = tuple(replace(lesion, target=ranks.get(index)) for index, lesion in enumerate(findings.lesions))
    return replace(findings, lesions=lesions)


def _first_fit(today: Today, tries: Iterable[Prior]) -> _Fitted | None:
    """Return the first SEG of a study that fits."""
    for prior in tries:
        with suppress(LiversDiffer):
            return _Fitted(prior, match(today.laid, prior.laid))
    return None


def _is_measurable(prior: Prior) -> bool:
    """True for a possible baseline: slices thin enough, and a lesion large enough (RECIST 1.1)."""
    return not prior.slices_are_thick() and bool(prior.targets)


def _study(today: Today, fitted: _Fitted, baseline: _Fitted | None, courses: tuple[Course, ...]) -> EarlierStudy:
    return EarlierStudy(
        days=today.days_since(fitted.prior.study_date),
        lesions=_sizes(fitted.prior),
        courses=courses,
        target_sum_mm=_target_sum(fitted.prior, baseline.prior) if baseline else None,
        is_baseline=fitted is baseline,
    )


def _sizes(prior: Prior) -> tuple[PriorSize, ...]:
    return tuple(
        PriorSize(lesion.number, lesion.tracking_uid, lesion.volume_ml, lesion.long_axis_mm, lesion.short_axis_mm)
        for lesion in prior.lesions
    )


def _target_sum(prior: Prior, baseline: Prior) -> float | None:
    """The long axes of what the baseline's targets were in this study; None where that cannot be known."""
    targets = baseline.targets
    if prior is baseline:
        return sum_of([prior.lesions[index].long_axis_mm for index in targets])
    try:
        matching = match(prior.laid, baseline.laid)
    except LiversDiffer:
        return None
    heirs = matching.heirs(targets)
    if prior.slices_are_thick(heirs) or set(targets) & set(matching.outside):
        return None
    return sum_of([prior.lesions[index].long_axis_mm for index in heirs])


@dataclass(frozen=True)
class _Known:
    """The tracking UIDs that SEGs and later reports tell of.

    `uids` are those whose place is known from a SEG, or that were new in a report. `alone` are those of today's lesions
    that, as far as the SEGs show, have never been more than one lesion.
    """

    uids: frozenset[str]
    new: frozenset[str]
    alone: frozenset[str]

    @classmethod
    def of(cls, today: Today, studies: Sequence[EarlierStudy], reported: Sequence[ReportedStudy]) -> "_Known":
        lesions = today.findings.lesions
        new = frozenset(uid for report in reported for uid in report.new)
        placed = {lesion.tracking_uid for lesion in lesions}
        placed |= {size.tracking_uid for study in studies for size in study.lesions}
        together = {
            lesion.tracking_uid
            for study in studies
            for lesion, course in zip(lesions, study.courses, strict=True)
            if len(course.numbers) > 1 or len(course.prior_numbers) > 1
        }
        alone = {lesion.tracking_uid for lesion in lesions} - together
        return cls(frozenset(placed | new) - {""}, new, frozenset(alone))


def _reported(today: Today, report: ReportedStudy, baseline: _Fitted | None, known: _Known) -> EarlierStudy:
    """Return a study of which only a report exists: a lesion is known again by its tracking UID."""
    sizes = {size.tracking_uid: size for size in report.lesions if size.tracking_uid}
    days = today.days_since(report.study_date)
    is_whole = report.is_whole(known.uids)
    courses = []
    for lesion in today.findings.lesions:
        size = sizes.get(lesion.tracking_uid)
        is_alone = lesion.tracking_uid in known.alone and lesion.tracking_uid not in report.merged
        if size is None or not is_whole or not is_alone:
            courses.append(Course(lesion.number, Status.OUTSIDE, lesion.tracking_uid))
            continue
        growth = Growth(size.long_axis_mm, lesion.size.long_axis_mm, size.volume_ml, lesion.size.volume_ml, days)
        numbers = (lesion.number,), (size.number,)
        courses.append(Course(lesion.number, growth.status, lesion.tracking_uid, *numbers, growth))
    return EarlierStudy(
        days=days,
        lesions=report.lesions,
        courses=tuple(courses),
        target_sum_mm=_reported_sum(report, sizes, baseline.prior, known.new) if baseline else None,
        is_from_report=True,
    )


def _reported_sum(
    report: ReportedStudy, sizes: Mapping[str, PriorSize], baseline: Prior, new: Collection[str]
) -> float | None:
    """The long axes of the baseline's targets as they were reported; None unless all of them were, whole, and later."""
    uids = [baseline.lesions[index].tracking_uid for index in baseline.targets]
    is_later = report.study_date and baseline.study_date and report.study_date > baseline.study_date
    # A target that the report has not may be gone, or have merged: a report does not say where a lesion lay. What
    # neither the baseline had nor has come since may be a part of a target
    is_whole = report.is_whole({lesion.tracking_uid for lesion in baseline.lesions} - {""} | set(new))
    if not is_later or not report.is_measurable or not is_whole or not set(uids) <= set(sizes):
        return None
    return sum_of([sizes[uid].long_axis_mm for uid in uids])


def _with_nadir(studies: Sequence[EarlierStudy]) -> tuple[EarlierStudy, ...]:
    """The studies, the first of those with the smallest sum since the baseline marked as the nadir."""
    sums = [study.target_sum_mm for study in studies]
    known = [(value, index) for index, value in enumerate(sums) if value is not None]
    if not any(study.is_baseline for study in studies) or not known:
        return tuple(studies)
    nadir = min(known)[1]
    return tuple(replace(study, is_nadir=index == nadir) for index, study in enumerate(studies))


def _response(today: Today, baseline: _Fitted, studies: Sequence[EarlierStudy], outside: int) -> Response:
    lowest = next(study for study in studies if study.is_nadir)
    compared = next(study for study in studies if study.is_compared)
    nadir = None
    if not lowest.is_baseline and lowest.target_sum_mm is not None:
        nadir = Reference(lowest.target_sum_mm, earlier_by(lowest.days), is_complete=not lowest.lesions)
    when = f"{earlier_by(today.days_since(baseline.prior.study_date))} (baseline)"
    response = response_since(
        today,
        baseline.prior,
        baseline.matching,
        baseline_when="then" if compared.is_baseline else when,
        nadir=nadir,
        outside=outside,
    )
    return replace(response, prior_sum_mm=compared.target_sum_mm) if response.sum_mm is not None else response
