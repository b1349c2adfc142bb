"""What `porta check` looked at: what was found, and what to do about it."""

from dataclasses import dataclass
from enum import StrEnum


class Result(StrEnum):
    """How a check ended. A warning does not make the command fail."""

    OK = "OK"
    WARNING = "WARNING"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Checked:
    """One thing that was looked at: what was found, and what to do about it."""

    name: str
    result: Result
    said: str
    remedy: str | None = None
