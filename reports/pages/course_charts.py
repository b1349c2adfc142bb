"""Several studies on one line of time: volumes of the lesions, and the sum of the targets' diameters; for the PDF.

Time is days before today's study, which is 0. A study without a date has no place on it.
"""

from collections.abc import Sequence

from matplotlib.axes import Axes

from reports.findings.findings import Findings, Lesion

LOOKS = (
    ("#0072B2", "o"),
    ("#D55E00", "s"),
    ("#009E73", "D"),
    ("#CC79A7", "^"),
    ("#56B4E9", "v"),
    ("#E69F00", "P"),
    ("#333333", "X"),
)
"""Colour (Okabe & Ito: told apart by everybody) and marker of each line, and so how many lesions have one."""

Point = tuple[int, float]
"""Days before today, as a negative number, and a value."""


def volume_course(findings: Findings, lesion: Lesion) -> list[Point]:
    """Return the volume of a lesion in each study that knows it, today's too, the first study first.

    What merged into it is counted with it; what it split from stands at the first of the parts alone.
    """
    points = [
        (-study.days, course.growth.prior_volume_ml)
        for study, course in findings.history(lesion)
        if study.days is not None and course.growth is not None and course.numbers[0] == course.number
    ]
    return [*points, (0, lesion.size.volume_ml)]


def target_course(findings: Findings) -> list[Point]:
    """The sum of the targets' diameters in each study where it is known, today's too, the first study first."""
    followed = findings.follow_up
    if followed is None:
        return []
    sums = [(study.days, study.target_sum_mm) for study in followed.studies]
    points = [(-days, value) for days, value in sums if days is not None and value is not None]
    return points if followed.response.sum_mm is None else [*points, (0, followed.response.sum_mm)]


def draw_volume_course(axes: Axes, findings: Findings) -> None:
    """A line for each of the largest lesions; one that no earlier study knows is a point."""
    for lesion, (colour, marker) in zip(findings.lesions, LOOKS, strict=False):
        days, volumes = zip(*volume_course(findings, lesion), strict=True)
        axes.plot(
            days,
            volumes,
            color=colour,
            marker=marker,
            markersize=3.5,
            linewidth=1.2,
            label=f"lesion {lesion.number}",
        )
    axes.set_ylim(bottom=0)


def draw_target_course(axes: Axes, findings: Findings, *, colour: str, size: float) -> None:
    """The line of the sums, with the studies named that RECIST 1.1 refers to."""
    points = target_course(findings)
    if not points:
        axes.text(0.5, 0.5, "not known", transform=axes.transAxes, ha="center", va="center", fontsize=size)
        return
    days, sums = zip(*points, strict=True)
    axes.plot(days, sums, color=colour, marker="o", markersize=3.5, linewidth=1.2)
    axes.set_ylim(0, 1.35 * max(*sums, 1.0))
    for study in findings.follow_up.studies if findings.follow_up else ():
        names = [name for name, has in (("baseline", study.is_baseline), ("nadir", study.is_nadir)) if has]
        if names and study.days is not None and study.target_sum_mm is not None:
            place = (-study.days, study.target_sum_mm)
            text = ", ".join(names)
            axes.annotate(text, place, (0, 6), textcoords="offset points", ha="center", fontsize=size, color=colour)


def study_days(findings: Findings) -> Sequence[int]:
    """The places of all dated studies on the line, today's too."""
    studies = findings.follow_up.studies if findings.follow_up else ()
    return sorted({0, *(-study.days for study in studies if study.days is not None)})
