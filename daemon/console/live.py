"""What goes on at this moment, as one value that all pages share: made at most once a second, whoever asks."""

import threading
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from daemon.administration.conditions import progress_of
from daemon.administration.opened import running_service
from daemon.administration.records import iso
from daemon.console.quality import Quality
from daemon.console.state import ConsoleState
from daemon.jobs import State
from daemon.ledger.overview import Line, Overview
from reports.identity import software_version

FRESH_S = 1.0
QUEUE_SHOWN = 20


@dataclass
class Live:
    """The latest snapshot of a console. Safe to use from many threads."""

    console: ConsoleState
    quality: Quality
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _made_at: float = -1e9
    _last: dict[str, Any] = field(default_factory=dict)

    def latest(self) -> dict[str, Any]:
        """Return what goes on, no older than FRESH_S. Raises LedgerUnavailable."""
        with self._lock:
            if time.monotonic() - self._made_at >= FRESH_S:
                self._last = snapshot(self.console) | {"drift": self.quality.drift}
                self._made_at = time.monotonic()
            return self._last


def snapshot(console: ConsoleState) -> dict[str, Any]:
    """Return what goes on: service, queue, jobs in work, destinations, disk. Raises LedgerUnavailable."""
    config, now, overview = console.config, console.clock(), Overview(console.ledger)
    job_s, queue = console.desk.seconds_a_job(), console.desk.queue(now=now)
    lines, causes = overview.lines(), overview.causes()
    service = running_service(config)
    return {
        "at": iso(now),
        "version": software_version(),
        "service": {"running": console.spool.running() is not None, "pid": service.pid if service else None},
        "device": ", ".join(config.engine.worker_devices),
        "states": {str(state): count for state, count in overview.states().items()},
        "halted": sum(cause.jobs for cause in causes),
        "causes": [asdict(cause) for cause in causes],
        "quarantine": console.quarantine.count(),
        "queue": {"length": len(queue), "first": queue[:QUEUE_SHOWN], "seconds_a_job": job_s},
        "working": [
            {
                "job": item.job.id,
                "study_instance_uid": item.job.study_instance_uid,
                "stage": "segmenting" if item.job.state == State.RECEIVED else "reporting",
                "since": iso(item.since),
                "seconds": round(max(0.0, now - item.since), 1),
                "progress": None if (percent := progress_of(console.spool, item.job)) is None else percent / 100,
            }
            for item in overview.working(now=now)
        ],
        "destinations": [_light(lines.get(each.peer, Line(each.peer)), now) for each in config.destinations],
        "disk": _disk(console, overview),
        "last_event": overview.last_event(),
    }


def _light(line: Line, now: float) -> dict[str, Any]:
    """A destination as a light, and in words: a colour alone tells some people nothing."""
    if line.failed:
        light, words = "red", "gave up on some objects"
    elif line.outage:
        light, words = "red", "is away: it is waited for"
    elif line.waiting and line.last_status not in (None, "0x0000"):
        light, words = "amber", "is tried again"
    elif line.waiting or line.last_success_at is not None:
        light, words = "green", "takes what is sent"
    else:
        light, words = "grey", "nothing was sent lately"
    times = {"next_at": iso(line.next_at), "last_success_at": iso(line.last_success_at)}
    return {"light": light, "words": words, **asdict(line), **times}


def _disk(console: ConsoleState, overview: Overview) -> dict[str, Any]:
    free, least, a_day = console.spool.free_mb(), console.first.storage.min_free_mb, overview.bytes_a_day()
    days = None if not a_day else round(max(0.0, free - least) * 2**20 / a_day, 1)
    return {"free_mb": free, "min_free_mb": least, "days_left": days}
