"""Points in time as a person writes them."""

import re
from datetime import datetime

from daemon.errors import BadRequest

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

_AGO = re.compile(rf"(\d+)([{''.join(UNITS_S)}])")


def moment(option: str, text: str | None, *, now: float) -> float | None:
    """Return seconds since 1970 of `2h` (ago), or of a date or time as ISO 8601 writes it; None of None.

    A time without a zone is one of this machine's. Raises BadRequest, with the name of the option.
    """
    if text is None:
        return None
    if ago := _AGO.fullmatch(text):
        return now - int(ago[1]) * UNITS_S[ago[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise BadRequest(
            f'{option}: "{text}" is no time; write 30m, 12h or 7d (ago), 2026-03-01, or 2026-03-01T08:30'
        ) from None


def in_zone(seconds: float) -> str:
    """Return a point in time for people, in this machine's zone, to the second."""
    return datetime.fromtimestamp(seconds).isoformat(sep=" ", timespec="seconds")


def for_so_long(seconds: float) -> str:
    """Return a duration in words, rounded: 0.4 s, 12 s, 3 min, 5 h, 2 days."""
    for unit, size, most in (("s", 1, 120), ("min", 60, 120), ("h", 3600, 48)):
        if seconds < most * size:
            count = seconds / size
            return f"{count:.1f} {unit}" if count < 9.95 and unit == "s" else f"{count:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"
