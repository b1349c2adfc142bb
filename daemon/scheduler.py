"""The scheduler: wakes asking, closing, choice, work, delivery and heartbeat.

It holds no state; all of that is in the ledger. APScheduler waits by the wall clock; a watch by the monotonic one calls
everything where that clock was set back, so that it delays nothing.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from time import monotonic, time

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from daemon.clock import LEAST_JUMP_S
from daemon.log import get_logger

LOOK_S = 0.5
"""How often the watch looks at both clocks."""

# It warns at each tick of a function that is still running, which here is how a long stage looks.
logging.getLogger("apscheduler").setLevel(logging.ERROR)

log = get_logger()


class _Pause(BaseTrigger):  # type: ignore[misc]
    """Fires a time after it last did, by the clock of that moment: a clock set forward makes up for no rounds."""

    def __init__(self, seconds: float) -> None:
        self._pause = timedelta(seconds=seconds)

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        return now + self._pause


class _Round:
    """A function that is never called twice at once, and called once more where it was woken while it ran."""

    def __init__(self, function: Callable[[], None], stopping: threading.Event) -> None:
        self._function, self._stopping = function, stopping
        self._lock = threading.Lock()
        self._is_running = self._is_woken = False

    def __call__(self) -> None:
        while True:
            with self._lock:
                self._is_running, self._is_woken = True, False
            try:
                self._function()
            except Exception as error:  # noqa: BLE001  whatever it was, the next round has its turn
                log.error("round.failed", error=error)
            with self._lock:
                self._is_running = self._is_woken and not self._stopping.is_set()
                if not self._is_running:
                    return

    def wake(self) -> bool:
        """Have the function called once more if it is running; return whether it is."""
        with self._lock:
            self._is_woken = True
            return self._is_running


class Scheduler:
    """Calls functions at intervals, as many at a time as there are, each never twice at once, and sooner when woken."""

    def __init__(self) -> None:
        self._scheduler = BackgroundScheduler(
            timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )
        self._rounds: dict[str, _Round] = {}
        self._stopping = threading.Event()

    def every(self, seconds: float, name: str, function: Callable[[], None]) -> None:
        """Call `function` at the start and `seconds` after each call of it, under `name`."""
        self._rounds[name] = _Round(function, self._stopping)
        self._scheduler.add_job(self._rounds[name], _Pause(seconds), id=name, next_run_time=datetime.now(UTC))

    def once(self, name: str, function: Callable[[], None]) -> None:
        """Call `function` once, at the start."""
        self._rounds[name] = _Round(function, self._stopping)
        self._scheduler.add_job(self._rounds[name], id=name)

    def wake(self, name: str) -> None:
        """Call the function of this name at once; where it is running, as soon as it has ended."""
        if name in self._rounds and not self._rounds[name].wake():
            with suppress(JobLookupError):
                self._scheduler.modify_job(name, next_run_time=datetime.now(UTC))

    def start(self) -> None:
        """Start calling."""
        self._scheduler.add_executor(ThreadPoolExecutor(max(1, len(self._rounds))))
        self._scheduler.start()
        threading.Thread(target=self._watch, name="clock-watch", daemon=True).start()

    def stop(self) -> None:
        """Stop calling; a function that is running is not waited for."""
        self._stopping.set()
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def _watch(self) -> None:
        """Call everything where the wall clock was set back: APScheduler would wait for as long as that."""
        ahead_s = time() - monotonic()
        while not self._stopping.wait(LOOK_S):
            before_s, ahead_s = ahead_s, time() - monotonic()
            if ahead_s - before_s <= -LEAST_JUMP_S:
                for name in self._rounds:
                    self.wake(name)
