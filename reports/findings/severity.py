"""How severe the findings are: low, moderate or high, by the table of docs/severity.md.

Pure. A sorting aid from four numbers of one image series; no stage, no prognosis, and nothing known of the patient.
"""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """NONE: a liver without lesions."""

    NONE = "none"
    LOW = "low"
    MODERATE = "moderate"
    HIGH = "high"


class Aspect(StrEnum):
    """The aspects that are judged: largest long axis, number of lesions, their part of the liver, halves."""

    SIZE = "size"
    NUMBER = "number"
    BURDEN = "burden"
    SPREAD = "spread"


@dataclass(frozen=True)
class Row:
    """One row of the table: `level` where the aspect's value is `above` this; `source` as docs/severity.md lists it."""

    aspect: Aspect
    above: float
    level: Level
    source: str


TABLE = (
    Row(Aspect.SIZE, 0, Level.LOW, ""),
    Row(Aspect.SIZE, 30, Level.MODERATE, "Mazzaferro 1996, van der Lei 2025"),
    Row(Aspect.SIZE, 50, Level.HIGH, "Mazzaferro 1996, Nagashima 2006"),
    Row(Aspect.NUMBER, 0, Level.LOW, ""),
    Row(Aspect.NUMBER, 3, Level.MODERATE, "Mazzaferro 1996"),
    Row(Aspect.NUMBER, 10, Level.HIGH, "van der Lei 2025"),
    Row(Aspect.BURDEN, 0, Level.LOW, ""),
    Row(Aspect.BURDEN, 25, Level.MODERATE, "Gennari 1985"),
    Row(Aspect.BURDEN, 50, Level.HIGH, "Gennari 1985"),
    Row(Aspect.SPREAD, 0, Level.LOW, ""),
    Row(Aspect.SPREAD, 1, Level.MODERATE, "Iwatsuki 1999"),
)
"""By aspect, then by rising threshold: the last row of an aspect that its value is above gives its level."""

_ORDER = list(Level)
_UNITS = {Aspect.SIZE: " mm", Aspect.NUMBER: "", Aspect.BURDEN: " %", Aspect.SPREAD: ""}
_NAMES = {
    Aspect.SIZE: "largest long axis",
    Aspect.NUMBER: "number of lesions",
    Aspect.BURDEN: "part of the liver's volume",
    Aspect.SPREAD: "halves of the liver with lesions",
}


@dataclass(frozen=True)
class Severity:
    """The highest level of all aspects, and in words which of them gave it. None where it cannot be known."""

    level: Level | None
    reasons: tuple[str, ...] = ()


NOT_KNOWN = Severity(None, ("no liver was found",))
NOT_JUDGED = Severity(None, ("the images are unlike those that the model was trained on",))
NOT_WHOLE = Severity(None, ("a part of the liver alone lies in this volume",))
NOT_ALL_CAME = Severity(None, ("nothing shows that all images came",))
MOST_LIVER_ML = 5000.0
"""Beyond it what was found is no liver, or one that no figure here was made for."""
NOT_SO_LARGE = Severity(None, (f"what was found is larger than a liver: over {MOST_LIVER_ML:.0f} mL",))
NOT_CERTAIN = Severity(None, ("no lesion is certain",))
NO_LESION = Severity(Level.NONE, ("no lesion was found",))


def severity_of(*, largest_mm: float, lesion_count: int, burden_percent: float, halves: int) -> Severity:
    """Return the severity of at least one lesion in a liver.

    `largest_mm` is the longest long axis, `halves` in how many halves of the liver lesions lie. Millimetres and percent
    are compared as they are written, to a tenth.
    """
    values = {
        Aspect.SIZE: round(largest_mm, 1),
        Aspect.NUMBER: lesion_count,
        Aspect.BURDEN: round(burden_percent, 1),
        Aspect.SPREAD: halves,
    }
    met = {aspect: _row_met(aspect, value) for aspect, value in values.items()}
    level = max((row.level for row in met.values()), key=_ORDER.index)
    return Severity(level, tuple(_reason(row, values[row.aspect]) for row in met.values() if row.level is level))


def _row_met(aspect: Aspect, value: float) -> Row:
    rows = [row for row in TABLE if row.aspect is aspect]
    # A burden of 0.04 % is written 0.0, and is a lesion all the same
    return [row for row in rows if row is rows[0] or value > row.above][-1]


def _reason(row: Row, value: float) -> str:
    unit = _UNITS[row.aspect]
    if row.level is not Level.LOW:
        return f"{_NAMES[row.aspect]} {value:g}{unit}, over {row.above:g}{unit}"
    limit = next(other.above for other in TABLE if other.aspect is row.aspect and other.above > row.above)
    return f"{_NAMES[row.aspect]} {value:g}{unit}, not over {limit:g}{unit}"
