"""Lesions keep their numbers for life: one that is known again bears its old one, a new one a number that none had.

Pure.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from reports.findings.course import Course, EarlierStudy
from reports.findings.findings import Findings, Lesion
from reports.findings.response import Status


def with_lasting_numbers(findings: Findings, given: Collection[int]) -> Findings:
    """Name the lesions, which are numbered by size, as the earlier studies of `findings.follow_up` did.

    What has become of a lesion bears its number: of several that split from it the one that has its tracking UID. One
    that the study compared with had not, but one before it, has its number and its tracking UID again. Others get
    numbers above all of `given`. Those that are gone keep theirs.
    """
    followed = findings.follow_up
    if followed is None:
        return findings
    known = {lesion.segment: _inherited(lesion.course) for lesion in findings.lesions}
    uids = {lesion.segment: lesion.tracking_uid for lesion in findings.lesions}
    for index, lesion in enumerate(findings.lesions):
        if lesion.course is None or lesion.course.status not in (Status.NEW, Status.OUTSIDE):
            continue
        for study in _latest_first(followed.studies):
            course = study.courses[index]
            number = _inherited(course)
            if number and number not in known.values() and course.tracking_uid not in uids.values():
                known[lesion.segment], uids[lesion.segment] = number, course.tracking_uid
                break
    free = max([0, *given, *known.values()]) + 1
    numbers: dict[int, int] = {}
    for lesion in findings.lesions:
        numbers[lesion.number] = known[lesion.segment] or free
        free += not known[lesion.segment]

    def renamed(course: Course, lesion: Lesion) -> Course:
        own = course.tracking_uid if course.tracking_uid != lesion.tracking_uid else uids[lesion.segment]
        others = tuple(numbers[number] for number in course.numbers)
        return replace(course, number=numbers[course.number], numbers=others, tracking_uid=own)

    def renamed_all(study: EarlierStudy) -> EarlierStudy:
        pairs = zip(study.courses, findings.lesions, strict=True)
        return replace(study, courses=tuple(renamed(course, lesion) for course, lesion in pairs))

    lesions = tuple(
        replace(
            lesion,
            number=numbers[lesion.number],
            tracking_uid=uids[lesion.segment],
            course=renamed(lesion.course, lesion) if lesion.course else None,
        )
        for lesion in findings.lesions
    )
    return replace(
        findings,
        lesions=lesions,
        targets=tuple(numbers[number] for number in findings.targets),
        follow_up=replace(
            followed,
            studies=tuple(map(renamed_all, followed.studies)),
            highest_number=max([0, *given, *numbers.values()]),
        ),
    )


def _inherited(course: Course | None) -> int:
    """Return the earlier number of a lesion that is the heir of another; 0 where it is none."""
    is_heir = course is not None and course.prior_numbers and course.numbers[0] == course.number
    return course.prior_numbers[0] if course and is_heir else 0


def _latest_first(studies: Sequence[EarlierStudy]) -> list[EarlierStudy]:
    """Return the further studies: those of SEGs that fit, and of reports alone."""
    return [study for study in reversed(studies) if not study.is_compared]
