"""The clock: wakes asking, closing, choice, work, delivery and heartbeat.

It holds no state; all of that is in the ledger.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

# It warns at each tick of a function that is still running, which here is how a long stage looks.
logging.getLogger("apscheduler").setLevel(logging.ERROR)


class Clock:
    """Calls functions at intervals, each never twice at once, and sooner when woken.

    At most `threads` of them at the same time.
    """

    def __init__(self, threads: int = 8) -> None:
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(threads)},
            job_defaults={"coalesce": True, "max_instances": 1},
        )

    def every(self, seconds: float, name: str, function: Callable[[], None]) -> None:
        """Call `function` now and every `seconds` from then on, under `name`."""
        self._scheduler.add_job(
            function,
            IntervalTrigger(seconds=seconds, timezone=UTC),
            id=name,
            next_run_time=datetime.now(UTC),
            misfire_grace_time=None,
        )

    def once(self, name: str, function: Callable[[], None]) -> None:
        """Call `function` once, at the start."""
        self._scheduler.add_job(function, id=name, misfire_grace_time=None)

    def wake(self, name: str) -> None:
        """Call the function of this name at once; where it is running, at its next interval."""
        with suppress(JobLookupError):
            self._scheduler.modify_job(name, next_run_time=datetime.now(UTC))

    def start(self) -> None:
        """Start calling."""
        self._scheduler.start()

    def stop(self) -> None:
        """Stop calling; a function that is running is not waited for."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
