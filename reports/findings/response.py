"""What has become of lesions since an earlier study, in numbers: growth, doubling time, and the category of RECIST 1.1.

Pure. Lengths are compared as they are written, to a tenth of a millimetre; sums are of those.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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

NEW_FROM_MM = 10.0
"""The long axis from which a new lesion makes progression here. RECIST asks that it be unequivocal and sets no size;
what a program draws is that, at the earliest, where it could also be measured."""

RESPONSE_CAVEAT = (
    "A suggestion, computed only from the diameters of liver lesions in the earlier studies that were found. It is not "
    "known whether the first of them is the baseline of a treatment. Other organs, lymph nodes and the course of "
    "non-target lesions are not included."
)


class Status(StrEnum):
    """What a lesion is, seen from the earlier study."""

    NEW = "new"
    GROWN = "grown"
    STABLE = "stable"
    SHRUNK = "shrunk"
    MERGED = "merged"
    SPLIT = "split"
    OUTSIDE = "outside"


class Category(StrEnum):
    """RECIST 1.1: complete and partial response, stable and progressive disease."""

    CR = "CR"
    PR = "PR"
    SD = "SD"
    PD = "PD"


CATEGORY_NAMES = {
    Category.CR: "complete response",
    Category.PR: "partial response",
    Category.SD: "stable disease",
    Category.PD: "progressive disease",
}


@dataclass(frozen=True)
class Growth:
    """From an earlier size to this one; `days` between them, None where unknown.

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
        """In how many days the volume doubles (Schwartz 1961); None where it hardly grows or the days are unknown."""
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
    """A category, None where there is none to give, and in words what gave it. RESPONSE_CAVEAT belongs beside it.

    The sums are those of the baseline's targets: at the baseline, at the nadir, in the earlier study that is compared
    with, and now; each None where it is not known.
    """

    category: Category | None
    reasons: tuple[str, ...]
    prior_sum_mm: float | None = None
    sum_mm: float | None = None
    baseline_sum_mm: float | None = None
    nadir_sum_mm: float | None = None


def sum_of(axes_mm: Sequence[float]) -> float:
    """Long axes added up as they are written, to a tenth of a millimetre."""
    return round(sum(round(axis, 1) for axis in axes_mm), 1)


@dataclass(frozen=True)
class Reference:
    """An earlier study that RECIST 1.1 refers to: the sum of the targets' diameters then, and when it was, in words."""

    sum_mm: float
    when: str


def response_of(
    *,
    baseline_targets_mm: Sequence[float],
    targets_mm: Sequence[float],
    new_mm: Sequence[float],
    others: int,
    baseline_when: str = "then",
    nadir: Reference | None = None,
    unseen: Sequence[str] = (),
) -> Response:
    """The RECIST 1.1 category of a liver, as a suggestion.

    `baseline_targets_mm` are the long axes of the baseline's targets, `targets_mm` those of what they are now (a
    target that is gone has none), `new_mm` of all lesions that the baseline had not, `others` how many further lesions
    there are now. `nadir` is a later study with a smaller sum than the baseline's, None where there is none:
    progression is measured from it, response from the baseline (Eisenhauer 2009, section 4.3.1). `unseen` says in
    words why a lesion may be there that was not looked at: with it there is no complete response.
    """
    before, now = sum_of(baseline_targets_mm), sum_of(targets_mm)
    lowest = before if nadir is None else nadir.sum_mm
    reasons: list[str] = []
    categories: list[Category] = []
    if baseline_targets_mm:
        percent = 100 * (now - before) / before
        reasons.append(f"sum of target diameters {before:.1f} mm {baseline_when}, {now:.1f} mm now ({percent:+.0f} %)")
        if nadir is not None:
            more = f"{now - lowest:+.1f} mm" + (f", {100 * (now - lowest) / lowest:+.0f} %" if lowest else "")
            reasons.append(f"smallest sum (nadir) {lowest:.1f} mm {nadir.when} ({more} since)")
        if _has_progressed(lowest, now):
            categories.append(Category.PD)
        elif not targets_mm:
            # Eisenhauer 2009, table 1: targets gone, others still there or not evaluated, is a partial response
            categories.append(Category.PR if others or unseen else Category.CR)
        else:
            categories.append(Category.PR if round(percent, 6) <= PARTIAL_PERCENT else Category.SD)
        if not targets_mm:
            remain = f"; {_lesions(others)} remain" + "s" * (others == 1) if others else ""
            reasons.append(f"all targets have disappeared{remain}")
            reasons += [f"{reason}: no complete response" for reason in unseen]
    else:
        which = "earlier study" if baseline_when == "then" else "baseline"
        reasons.append(f"no lesion of the {which} was measurable (at least {NEW_FROM_MM:g} mm)")
    newcomers = response_by_new(new_mm, baseline_when=baseline_when)
    reasons += newcomers.reasons
    categories += [newcomers.category] if newcomers.category else []
    category = Category.PD if Category.PD in categories else (categories[0] if categories else None)
    if not baseline_targets_mm:
        return Response(category, tuple(reasons))
    return Response(category, tuple(reasons), before, now, before, lowest)


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
    return Response(Category.PD if large else None, tuple(said))


def _has_progressed(lowest_mm: float, now_mm: float) -> bool:
    """Whether a sum has grown from the smallest one to progression; from none, by the millimetres alone."""
    change = round(now_mm - lowest_mm, 1)
    percent = 100 * change / lowest_mm if lowest_mm else PROGRESSION_PERCENT
    return round(percent, 6) >= PROGRESSION_PERCENT and change >= PROGRESSION_MM


def _lesions(count: int) -> str:
    return "1 lesion" if count == 1 else f"{count} lesions"
