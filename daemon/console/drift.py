"""Whether a measure is other lately than it was: two means, against how much single values scatter. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, variance

LEAST_BEFORE = 2
"""Times as many values stand before as are lately looked at, at least."""
STANDARD_ERRORS = 4.0
"""A difference of means beyond this many of its standard errors (Welch) is chance once in ten thousand looks."""


@dataclass(frozen=True)
class Rule:
    """When a measure drifts: by `least` (of the earlier mean where `relative`) over its last `lately` values.

    `sign`: -1 where only less is an alarm, 1 only more, 0 both.
    """

    name: str
    lately: int
    least: float
    sign: int
    relative: bool = False


MEASURES = {
    "liver_dice": Rule("Dice of the liver against corrections", 10, 0.03, -1),
    "lesion_dice": Rule("Dice of the lesions against corrections", 10, 0.1, -1),
    "confidence": Rule("confidence of the lesions", 30, 0.1, -1),
    "expected_dice": Rule("Dice that the network expects of its liver", 30, 0.03, -1),
    "liver_ml": Rule("liver volume in mL", 30, 0.1, 0, relative=True),
    "refused": Rule("share of refused series", 30, 0.1, 1),
}


@dataclass(frozen=True)
class Drift:
    """A measure that drifted, of all values of one model, scanner or rule: the mean before, and lately."""

    by: str
    name: str
    measure: str
    before: float
    lately: float

    @property
    def sentence(self) -> str:
        """For people: names of our own, a scanner's type, and means of many."""
        what = MEASURES[self.measure].name
        return f"{self.by} {self.name}: {what} was {self.before:.3g}, and is {self.lately:.3g} lately."


def drift_of(by: str, name: str, measure: str, values: Sequence[float]) -> Drift | None:
    """Return the drift of values, the oldest first; None where there is none, or where they are too few to tell."""
    rule = MEASURES[measure]
    before, lately = values[: -rule.lately], values[-rule.lately :]
    if len(before) < LEAST_BEFORE * rule.lately:
        return None
    was, now = fmean(before), fmean(lately)
    difference = now - was
    if abs(difference) < rule.least * (abs(was) if rule.relative else 1.0) or difference * rule.sign < 0:
        return None
    error = sqrt(variance(before) / len(before) + variance(lately) / len(lately))
    if error and abs(difference) < STANDARD_ERRORS * error:
        return None
    return Drift(by, name, measure, was, now)
