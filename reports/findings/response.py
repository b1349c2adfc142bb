"""The course of lesions since an earlier study in numbers: growth, doubling time, and the category of RECIST 1.1.

Pure. Lengths are compared as they are written, to a tenth of a millimetre; sums are of those.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import log

GROWN_PERCENT, SHRUNK_PERCENT = 73.0, -65.0
"""By how much a lesion's volume must have changed to count as grown, or shrunk: what +20 and -30 % of the diameter are
for a ball (Therasse 2000, J Natl Cancer Inst 92:205, its table of diameters, products and volumes)."""

DOUBLING_FROM_PERCENT = 25.0
"""The growth of the volume from which a doubling time is given: less is within the error of measuring (as the lung's
nodules have it: Callister 2015, Thorax 70 suppl 2)."""

PROGRESSION_PERCENT, PROGRESSION_MM, PARTIAL_PERCENT = 20.0, 5.0, -30.0
"""RECIST 1.1 (Eisenhauer 2009, Eur J Cancer 45:228, section 4.3.1): the sum of diameters grown by at least 20 % and
5 mm is progression, shrunk by at least 30 % is partial response."""

UNEQUIVOCAL_PERCENT, UNEQUIVOCAL_MM = 20.0, 5.0
"""From when the growth of non-targets is offered as unequivocal progression: by what makes progression of targets, in
percent of the long axes of all lesions of the baseline, so that a small lesion which grows a little beside large ones
is none (Eisenhauer 2009, section 4.3.4, asks for an increase "comparable in magnitude", and sets no number)."""

NEW_FROM_MM = 10.0
"""The long axis from which a new lesion makes progression here. RECIST asks that it be unequivocal and sets no size;
what a program draws is that, at the earliest, where it could also be measured."""

RESPONSE_CAVEAT = (
    "A suggestion, computed only from the diameters of liver lesions in the earlier studies that were found. It is not "
    "known whether the first of them is the baseline of a treatment. Other organs and lymph nodes are not included. "
    "Whether non-target lesions have unequivocally progressed is for a person to say."
)


class Status(StrEnum):
    """The state of a lesion, seen from the earlier study."""

    NEW = "new"
    GROWN = "grown"
    STABLE = "stable"
    SHRUNK = "shrunk"
    MERGED = "merged"
    SPLIT = "split"
    OUTSIDE = "outside"


class Category(StrEnum):
    """RECIST 1.1: complete and partial response, stable and progressive disease; NEITHER of non-targets alone."""

    CR = "CR"
    PR = "PR"
    SD = "SD"
    PD = "PD"
    NEITHER = "non-CR/non-PD"


CATEGORY_NAMES = {
    Category.CR: "complete response",
    Category.PR: "partial response",
    Category.SD: "stable disease",
    Category.PD: "progressive disease",
    Category.NEITHER: "neither complete response nor progression",
}


@dataclass(frozen=True)
class Growth:
    """The change from an earlier size to this one; `days` between them, None where unknown.

    Diameters are long axes: of lesions that merged or split the sum of the parts (RECIST 1.1, section 4.3.2).
    """

    prior_diameter_mm: float
    diameter_mm: float
    prior_volume_ml: float
    volume_ml: float
    days: int | None

    @property
    def diameter_change_mm(self) -> float:
        """In millimetres."""
        return self.diameter_mm - self.prior_diameter_mm

    @property
    def diameter_percent(self) -> float:
        """The change of the diameter in percent of the earlier one."""
        return 100 * self.diameter_change_mm / self.prior_diameter_mm

    @property
    def volume_change_ml(self) -> float:
        """In millilitres."""
        return self.volume_ml - self.prior_volume_ml

    @property
    def volume_percent(self) -> float:
        """The change of the volume in percent of the earlier one."""
        return 100 * self.volume_change_ml / self.prior_volume_ml

    @property
    def doubling_days(self) -> float | None:
        """The days in which the volume doubles (Schwartz 1961); None where it hardly grows or the days are unknown."""
        if not self.days or self.days < 0 or self.volume_percent < DOUBLING_FROM_PERCENT:
            return None
        return self.days * log(2) / log(self.volume_ml / self.prior_volume_ml)

    @property
    def status(self) -> Status:
        """GROWN, SHRUNK or STABLE."""
        if self.volume_percent >= GROWN_PERCENT:
            return Status.GROWN
        return Status.SHRUNK if self.volume_percent <= SHRUNK_PERCENT else Status.STABLE


@dataclass(frozen=True)
class Response:
    """The overall category, None where there is none to give, and in words what gave it. RESPONSE_CAVEAT goes with it.

    `target` and `non_target` are the categories of those lesions alone, None where the baseline had none or they could
    not be measured; `has_new` tells whether a new lesion counts. The sums are those of the baseline's targets: at the
    baseline, at the nadir, in the earlier study that is compared with, and now; each None where it is not known.
    """

    category: Category | None
    reasons: tuple[str, ...]
    prior_sum_mm: float | None = None
    sum_mm: float | None = None
    baseline_sum_mm: float | None = None
    nadir_sum_mm: float | None = None
    target: Category | None = None
    non_target: Category | None = None
    has_new: bool = False


def sum_of(axes_mm: Sequence[float]) -> float:
    """Add up long axes as they are written, to a tenth of a millimetre."""
    return round(sum(round(axis, 1) for axis in axes_mm), 1)


@dataclass(frozen=True)
class Reference:
    """An earlier study that RECIST 1.1 refers to: the sum of the targets' diameters then, and when it was, in words.

    `is_complete`: it had no lesion at all, which was a complete response.
    """

    sum_mm: float
    when: str
    is_complete: bool = False


@dataclass(frozen=True)
class Axes:
    """Long axes in mm of lesions of the baseline: `then`, and `now` of what they are today. What is gone has none."""

    then: Sequence[float] = ()
    now: Sequence[float] = ()

    @property
    def change_mm(self) -> float:
        """Of the sum, as sums are written."""
        return round(sum_of(self.now) - sum_of(self.then), 1)


def response_of(
    targets: Axes,
    non_targets: Axes = Axes(),
    *,
    new_mm: Sequence[float] = (),
    baseline_when: str = "then",
    nadir: Reference | None = None,
    unseen: Sequence[str] = (),
) -> Response:
    """The RECIST 1.1 category of a liver, as a suggestion (Eisenhauer 2009, section 4.3 and tables 1 and 2).

    `new_mm` are the long axes of all lesions that the baseline had not. `nadir` is a later study with a smaller sum
    than the baseline's, None where there is none: progression is measured from it, response from the baseline.
    `unseen` says in words why a lesion may be there that was not looked at: with it there is no complete response.
    """
    reasons: list[str] = []
    target = non_target = None
    if targets.then:
        target = _target_category(targets, nadir)
        reasons += _target_reasons(targets, baseline_when, nadir)
    else:
        which = "earlier study" if baseline_when == "then" else "baseline"
        reasons.append(f"no lesion of the {which} was measurable (at least {NEW_FROM_MM:g} mm)")
    if non_targets.then:
        all_mm = sum_of([*targets.then, *non_targets.then])
        non_target = _non_target_category(non_targets, all_mm, unseen)
        reasons.append(_non_target_reason(non_targets, all_mm, baseline_when, non_target))
    newcomers = response_by_new(new_mm, baseline_when=baseline_when)
    reasons += newcomers.reasons
    is_back = nadir is not None and nadir.is_complete and any((targets.now, non_targets.now, new_mm))
    if is_back and nadir is not None:
        reasons.append(f"no lesion was left {nadir.when}: what is back after a complete response is progression")
    overall: Category | None
    is_gone = (targets.then or non_targets.then) and not targets.now and not non_targets.now
    if is_gone:
        reasons += [f"{reason}: no complete response" for reason in unseen]
    if Category.PD in (target, non_target, newcomers.category) or is_back:
        overall = Category.PD
    elif is_gone and not new_mm and not unseen:
        overall = Category.CR
    elif target == Category.CR:
        # Table 1: targets gone, others still there or not evaluated
        overall = Category.PR
    else:
        overall = target or (Category.NEITHER if non_target else None)
    response = Response(
        overall, tuple(reasons), target=target, non_target=non_target, has_new=newcomers.category is not None
    )
    if not targets.then:
        return response
    before, now = sum_of(targets.then), sum_of(targets.now)
    lowest = before if nadir is None else nadir.sum_mm
    return replace(response, prior_sum_mm=before, sum_mm=now, baseline_sum_mm=before, nadir_sum_mm=lowest)


def response_by_new(
    new_mm: Sequence[float], *, reasons: Sequence[str] = (), baseline_when: str = "then", least_mm: float = NEW_FROM_MM
) -> Response:
    """What new lesions alone come to: progression, whatever became of the targets (Eisenhauer 2009, table 1).

    `new_mm` are their long axes, `least_mm` the one from which they count; `reasons` are said before them.
    """
    since = "" if baseline_when == "then" else " since the baseline"
    said = list(reasons)
    large = sum(round(axis, 1) >= round(least_mm, 1) for axis in new_mm)
    if large:
        said.append(f"{_lesions(large)} of at least {least_mm:.3g} mm, new{since}")
    if small := len(new_mm) - large:
        said.append(f"{_lesions(small)} under {least_mm:.3g} mm, new{since}: not counted, please review")
    return Response(Category.PD if large else None, tuple(said), has_new=bool(large))


def _target_category(targets: Axes, nadir: Reference | None) -> Category:
    before, now = sum_of(targets.then), sum_of(targets.now)
    if _has_progressed(before if nadir is None else nadir.sum_mm, now):
        return Category.PD
    if not targets.now:
        return Category.CR
    return Category.PR if round(100 * (now - before) / before, 6) <= PARTIAL_PERCENT else Category.SD


def _target_reasons(targets: Axes, baseline_when: str, nadir: Reference | None) -> list[str]:
    before, now = sum_of(targets.then), sum_of(targets.now)
    percent = 100 * (now - before) / before
    reasons = [f"sum of target diameters {before:.1f} mm {baseline_when}, {now:.1f} mm now ({_signed(percent)} %)"]
    if nadir is not None:
        lowest, change = nadir.sum_mm, now - nadir.sum_mm
        more = f"{change:+.1f} mm" + (f", {_signed(100 * change / lowest)} %" if lowest else "")
        reasons.append(f"smallest sum (nadir) {lowest:.1f} mm {nadir.when} ({more} since)")
    return reasons if targets.now else [*reasons, "all targets have disappeared"]


def _non_target_category(non_targets: Axes, all_mm: float, unseen: Sequence[str]) -> Category:
    """By UNEQUIVOCAL_PERCENT of `all_mm`, the long axes of all lesions of the baseline, and UNEQUIVOCAL_MM."""
    change = non_targets.change_mm
    if change >= UNEQUIVOCAL_MM and round(100 * change / all_mm, 6) >= UNEQUIVOCAL_PERCENT:
        return Category.PD
    return Category.NEITHER if non_targets.now or unseen else Category.CR


def _non_target_reason(non_targets: Axes, all_mm: float, baseline_when: str, category: Category) -> str:
    before, now, change = sum_of(non_targets.then), sum_of(non_targets.now), non_targets.change_mm
    sums = f"sum of non-target diameters {before:.1f} mm {baseline_when}, {now:.1f} mm now"
    if not non_targets.now:
        return f"{sums}: all non-targets have disappeared"
    if category != Category.PD:
        return f"{sums} ({change:+.1f} mm)"
    share = 100 * change / all_mm
    return (
        f"{sums} ({change:+.1f} mm, {_signed(share)} % of the {all_mm:.1f} mm of all lesions): unequivocal progression"
    )


def _has_progressed(lowest_mm: float, now_mm: float) -> bool:
    """Whether a sum has grown from the smallest one to progression; from none, by the millimetres alone."""
    change = round(now_mm - lowest_mm, 1)
    percent = 100 * change / lowest_mm if lowest_mm else PROGRESSION_PERCENT
    return round(percent, 6) >= PROGRESSION_PERCENT and change >= PROGRESSION_MM


def _signed(percent: float) -> str:
    """A percentage with one decimal; with two where one would make it a threshold that it does not reach."""
    rounded = round(percent, 1)
    is_threshold = rounded in (PROGRESSION_PERCENT, PARTIAL_PERCENT) and round(percent, 6) != rounded
    return f"{percent:+.2f}" if is_threshold else f"{rounded or 0.0:+.1f}"


def _lesions(count: int) -> str:
    return "1 lesion" if count == 1 else f"{count} lesions"
