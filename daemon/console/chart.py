"""The Dice of each week as a line in SVG, without a script."""

from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 600, 120


@dataclass(frozen=True)
class Line:
    """A line: its points as SVG has them, and the places and words of the weeks. Dice 0 is below, 1 above."""

    name: str
    points: str
    marks: tuple[tuple[float, float, str], ...]


def line_of(weeks: list[dict[str, Any]]) -> tuple[Line, ...]:
    """Return the lines of liver and lesions, the oldest week left."""
    step = WIDTH / max(1, len(weeks) - 1)
    lines = []
    for name, key in (("Liver", "liver_dice"), ("Lesions", "lesion_dice")):
        marks = tuple(
            (
                round(index * step, 1),
                round(HEIGHT * (1 - week[key]), 1),
                f"{name}, week of {week['week']}: {week[key]:.3f} of {week['corrections']} corrections",
            )
            for index, week in enumerate(weeks)
            if week[key] is not None
        )
        lines.append(Line(name, " ".join(f"{x},{y}" for x, y, _ in marks), marks))
    return tuple(lines)
