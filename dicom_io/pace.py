"""How fast bytes may go or come: whoever uses a pace waits, so that all who share it keep to it together."""

import threading
import time
from collections.abc import Callable

BITS = 1_000_000 / 8
"""Bytes a second of one Mbit/s."""


class Pace:
    """Lets through so many Mbit/s on average. Safe to use from many threads at once."""

    def __init__(
        self,
        mbit_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._bytes_per_s = mbit_s * BITS
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._free_at = 0.0

    def __call__(self, count: int) -> float:
        """Wait until so many bytes may follow those before them; return for how long that was."""
        with self._lock:
            now = self._clock()
            begin = max(now, self._free_at)
            self._free_at = begin + count / self._bytes_per_s
        if begin > now:
            self._sleep(begin - now)
        return begin - now
