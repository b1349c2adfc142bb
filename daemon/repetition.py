"""The same warning or error again is counted, not written: a line, and after a minute a line with how often.

Whoever sends what cannot be read a thousand times a second fills no disk with it. Two lines are the same when they say
the same but for the time and the places that an exception passed. What a host does is bounded also where it differs, by
an AE title say: more than `VARIANTS` lines of one event, reason and host within a minute are counted together.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import UTC, datetime

from structlog import DropEvent
from structlog.typing import EventDict, Processor, WrappedLogger

WINDOW_S = 60.0
VARIANTS = 20
MOST_LINES = 5000
"""What is kept within a minute; of more, only how many there were of each event."""

COUNTED = frozenset({"warning", "error"})
VARYING = frozenset({"timestamp", "frames"})
REPEATED = "repeated"


@dataclass
class _Line:
    event: EventDict
    at: float
    group: Hashable = None
    again: int = 0


class Repetition:
    """The renderer of a log, behind which a line that comes again within `WINDOW_S` is counted."""

    def __init__(self, renderer: Processor, clock: Callable[[], float] = time.monotonic) -> None:
        self._renderer = renderer
        self._clock = clock
        self._lock = threading.Lock()
        self._lines: dict[Hashable, _Line] = {}
        self._variants: Counter[Hashable] = Counter()

    def __call__(self, logger: WrappedLogger, name: str, event: EventDict) -> str:
        """Render an event and the counts that are due. Raises DropEvent where there is nothing to write."""
        with self._lock:
            events = self._due(self._clock() - WINDOW_S)
            if event.get("level") not in COUNTED or self._is_new(event):
                events.append(event)
        if not events:
            raise DropEvent
        return "\n".join(self._rendered(each) for each in events)

    def due(self, *, at_once: bool = False) -> list[str]:
        """Return the counts whose minute is over, or all, as lines; they are not told again."""
        with self._lock:
            events = self._due(self._clock() if at_once else self._clock() - WINDOW_S)
        return [self._rendered(each) for each in events]

    def _rendered(self, event: EventDict) -> str:
        return str(self._renderer(None, str(event.get("level")), dict(event)))

    def _is_new(self, event: EventDict) -> bool:
        """Whether the line is the first in its minute; else count it."""
        key: Hashable = tuple((name, repr(value)) for name, value in event.items() if name not in VARYING)
        group: Hashable = None
        if key not in self._lines:
            bounds: tuple[str, ...] = ("level", "event", "reason", "host") if "host" in event else ()
            if len(self._lines) >= MOST_LINES:
                bounds = ("level", "event")
            if bounds:
                group = tuple(event.get(name) for name in bounds)
                if self._variants[group] >= VARIANTS or len(self._lines) >= MOST_LINES:
                    key, event = group, {name: event[name] for name in bounds if name in event}
        if key in self._lines:
            self._lines[key].again += 1
            return False
        self._lines[key] = _Line(event, self._clock(), group)
        self._variants[group] += 1
        return True

    def _due(self, before: float) -> list[EventDict]:
        """Forget the lines from before that time; return those that came again, with how often."""
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        due: list[EventDict] = []
        while self._lines:  # the oldest stands first
            key, line = next(iter(self._lines.items()))
            if line.at > before:
                break
            del self._lines[key]
            self._variants[line.group] -= 1
            if line.again:
                due.append({"timestamp": now} | {**line.event, "timestamp": now, REPEATED: line.again})
        self._variants = +self._variants
        return due
