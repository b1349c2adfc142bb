"""The service's time: the wall clock's, but without its jumps.

A wall clock is set by people and by NTP, and jumps when a machine was suspended. Waits must neither end early nor last
longer for that: between two jumps this clock goes by the monotonic one; of a jump it is told (`follow`), once what is
waited for was moved by as much.
"""

import threading
import time
from collections.abc import Callable

LEAST_JUMP_S = 1.0
"""Less than that is the clock's own inexactness."""


class ServiceClock:
    """Returns seconds since 1970, UTC, as the ledger keeps them. Safe to call from many threads at once."""

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._offset_s = wall() - monotonic()
        self._lock = threading.Lock()

    def __call__(self) -> float:
        """Return the time."""
        return self._monotonic() + self._offset_s

    def follow(self, move: Callable[[float], None]) -> float:
        """Follow the wall clock where it has jumped; return by how many seconds, 0.0 where it has not.

        `move(jump_s)` moves what is waited for; where it raises, the jump is not followed yet.
        """
        with self._lock:
            jump_s = self._wall() - self._monotonic() - self._offset_s
            if abs(jump_s) < LEAST_JUMP_S:
                return 0.0
            move(jump_s)
            self._offset_s += jump_s
            return jump_s
