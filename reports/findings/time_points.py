"""Every lesion at every time point: a table of the earlier studies and today's, also of lesions that are gone.

Pure.
"""

from collections.abc import Sequence

from reports.findings.course import Course, EarlierStudy, PriorSize
from reports.findings.findings import Findings
from reports.findings.wording import millilitres

Row = tuple[str, Sequence[str]]
"""The name of a lesion, and its size in each study: "12.0 (1.5)", or what is known of it."""


def time_points(findings: Findings, *, most: int) -> tuple[list[str], list[Row]]:
    """Return the heads of the columns, the first study first, today last, and a row for each lesion, by number.

    At most `most` columns: baseline, nadir, the study compared with, and today are among them. Raises ValueError
    without an earlier study.
    """
    if findings.follow_up is None:
        raise ValueError("no earlier study")
    studies = _chosen(findings.follow_up.studies, most - 1)
    heads = [_head(study) for study in studies] + ["now"]
    rows: dict[int, Row] = {}
    for place, lesion in enumerate(findings.lesions):
        cells = [_cell(study.courses[place], study) for study in studies]
        rows[lesion.number] = lesion.name, [*cells, _size(lesion.size.long_axis_mm, lesion.size.volume_ml)]
    outside = {lesion.number for lesion in findings.follow_up.outside}
    for number in sorted({size.number for study in studies for size in _left(study)} - set(rows)):
        cells = [next((_of(size) for size in _left(study) if size.number == number), "-") for study in studies]
        rows[number] = str(number), [*cells, "outside" if number in outside else "gone"]
    return heads, [rows[number] for number in sorted(rows)]


def _chosen(studies: Sequence[EarlierStudy], most: int) -> list[EarlierStudy]:
    """Return those that have a part in the response, then the latest, in their order."""
    order = sorted(
        range(len(studies)),
        key=lambda index: (studies[index].is_baseline, studies[index].is_compared, studies[index].is_nadir, index),
        reverse=True,
    )
    return [studies[index] for index in sorted(order[:most])]


def _head(study: EarlierStudy) -> str:
    roles = [name for name, has in (("baseline", study.is_baseline), ("nadir", study.is_nadir)) if has]
    when = "earlier" if study.days is None else f"-{study.days} d"
    return f"{when}, {', '.join(roles)}" if roles else when


def _cell(course: Course, study: EarlierStudy) -> str:
    """The size of what the lesion was; of lesions that merged or split, that of all of them together."""
    if course.growth is None:
        return "-"
    together = "*" if len(course.numbers) > 1 or len(course.prior_numbers) > 1 else ""
    return _size(course.growth.prior_diameter_mm, course.growth.prior_volume_ml) + together


def _left(study: EarlierStudy) -> list[PriorSize]:
    """The lesions of a study that none of today's was."""
    known = {number for course in study.courses for number in course.prior_numbers}
    return [size for size in study.lesions if size.number not in known]


def _of(size: PriorSize) -> str:
    return _size(size.long_axis_mm, size.volume_ml)


def _size(long_axis_mm: float, volume_ml: float) -> str:
    return f"{long_axis_mm:.1f} ({millilitres(volume_ml)})"
