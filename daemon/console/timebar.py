"""The stages of a job as a bar: each as long as it took, the last one still growing."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from daemon.administration.moments import for_so_long
from daemon.jobs import ENDED

LEAST = 2.0
"""Percent: what is shorter could not be seen."""

STAGES = ("receiving", "choosing", "queue", "segmenting", "reporting", "judging", "delivering", "confirming")


@dataclass(frozen=True)
class Part:
    """A stage: its name, duration in words, and place on a bar of 100."""

    name: str
    words: str
    start: float
    width: float

    @property
    def number(self) -> int:
        """The number of its colour."""
        return STAGES.index(self.name) if self.name in STAGES else len(STAGES)


def bar_of(job: dict[str, Any], *, now: float) -> list[Part]:
    """The parts of the bar of a job as `job_json` gives it; widths add up to 100, none is too thin to be seen."""
    spans = [(stage["stage"], float(stage["seconds"])) for stage in job["stages"]]
    if job["state"] not in ENDED and not job["halt"]:
        last = max((stage["ended_at"] for stage in job["stages"]), default=job["created_at"])
        spans.append(("now", max(0.0, now - datetime.fromisoformat(last).timestamp())))
    total = sum(seconds for _, seconds in spans) or 1.0
    widths = [max(LEAST, 100 * seconds / total) for _, seconds in spans]
    scale = 100 / (sum(widths) or 1.0)
    parts, start = [], 0.0
    for (name, seconds), width in zip(spans, widths, strict=True):
        parts.append(Part(name, for_so_long(seconds), round(start, 2), round(width * scale, 2)))
        start += width * scale
    return parts
