"""The scheduler: wakes asking, closing, choice, work, delivery and heartbeat.

It holds no state; all of that is in the ledger. It waits by the monotonic clock: who sets the other delays nothing.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from daemon.log import get_logger

log = get_logger()


@dataclass(frozen=True)
class _Round:
    """A function, and the seconds after which it is called again; None: it is called once."""

    function: Callable[[], None]
    seconds: float | None
    woken: threading.Event = field(default_factory=threading.Event)


class Scheduler:
    """Calls functions at intervals, each in a thread that it has alone, never twice at once, and sooner when woken."""

    def __init__(self) -> None:
        self._rounds: dict[str, _Round] = {}
        self._stopping = threading.Event()

    def every(self, seconds: float, name: str, function: Callable[[], None]) -> None:
        """Call `function` at the start, and again `seconds` after each call has ended, under `name`."""
        self._rounds[name] = _Round(function, seconds)

    def once(self, name: str, function: Callable[[], None]) -> None:
        """Call `function` once, at the start."""
        self._rounds[name] = _Round(function, None)

    def wake(self, name: str) -> None:
        """Call the function of this name at once; where it is running, as soon as it has ended."""
        if name in self._rounds:
            self._rounds[name].woken.set()

    def start(self) -> None:
        """Start calling."""
        for name, item in self._rounds.items():
            threading.Thread(target=self._call, args=(item,), name=name, daemon=True).start()

    def stop(self) -> None:
        """Stop calling; a function that is running is not waited for."""
        self._stopping.set()
        for item in self._rounds.values():
            item.woken.set()

    def _call(self, item: _Round) -> None:
        while not self._stopping.is_set():
            item.woken.clear()
            try:
                item.function()
            except Exception as error:  # noqa: BLE001  whatever it was, the next round has its turn
                log.error("round.failed", error=error)
            if item.seconds is None:
                return
            if not self._stopping.is_set():
                item.woken.wait(item.seconds)
