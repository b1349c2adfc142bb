"""Removes the files of what is done: by its age, and for want of room. A kill at any moment leaves nothing half.

The tombstone is written durably, then the ledger says that the files are removed, then they are: images and sidecars,
results, labels. `recover` goes on where a kill ended that. Nothing that is undelivered, halted or at work is touched.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from daemon.configuration.config import Config
from daemon.guard import guarded
from daemon.ledger.removals import Done, Outcome, done_series, forget, received_bytes, remains_of, remove
from daemon.ledger.store import Ledger
from daemon.log import get_logger
from daemon.retention.tombstones import final_path, pending, pending_path, write_tombstone
from daemon.storage.spool import Spool
from dicom_io.files.whole_files import rename_whole

DAY_S = 86_400.0
ROUND_S = 3600.0
"""How often ages are looked at; free space is at each call."""
LEAST_AGE_S = 3600.0
"""What ended less long ago does not go for want of room: its sender may be about to send more of it."""
MOST_JUMP_S = DAY_S
"""By this much the wall clock may outrun the monotonic one before ages are not believed any more."""
MB = 1 << 20

KEYS = {
    Outcome.DELIVERED: "delivered_days",
    Outcome.KEPT: "kept_days",
    Outcome.REJECTED: "rejected_days",
    Outcome.CANCELLED: "cancelled_days",
}
"""The key of [retention] that says how long what has this outcome is kept."""

log = get_logger()


@dataclass(frozen=True)
class Planned:
    """A series whose files are to go, the key of [retention] that says so, and the bytes of images and results."""

    done: Done
    key: str
    bytes: int


@dataclass
class Retention:
    """Removes what [retention] says. For one thread at a time."""

    config: Config
    spool: Spool
    ledger: Ledger
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    _began: tuple[float, float] = field(init=False)
    _looked_at: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._began = self.clock(), self.monotonic()

    def recover(self) -> int:
        """Remove what a kill left half removed; return of how many series. Raises OSError, LedgerUnavailable."""
        uids = list(pending(self.spool))
        for uid in uids:
            with guarded(_failed), self.spool.removal():
                self._finish(uid)
        return len(uids)

    def work_off(self) -> int:
        """Remove what is due; return how many series. Where there is room, ages are looked at once in ROUND_S."""
        is_recent = self._looked_at is not None and self.monotonic() < self._looked_at + ROUND_S
        if (is_recent and self._missing_free_bytes() <= 0) or self._clock_is_doubtful():
            return 0
        self._looked_at = self.monotonic()
        return self.carry_out()

    def carry_out(self) -> int:
        """Remove all that is planned now; return how many series. Raises OSError, LedgerUnavailable."""
        self.recover()
        removed = 0
        for planned in self.plan():
            with guarded(_failed), self.spool.removal():
                removed += self._remove(planned)
        if (days := self.config.retention.history_days) is not None:
            forget(self.ledger.database, before=self.clock() - days * DAY_S)
        return removed

    def plan(self) -> list[Planned]:
        """List what is too old, then what goes to make room, that first which ended first. Raises LedgerUnavailable."""
        now, planned, others = self.clock(), [], []
        for done in done_series(self.ledger.database):
            days: int | None = getattr(self.config.retention, KEYS[done.outcome])
            if days is not None and done.ended_at <= now - days * DAY_S:
                planned.append(Planned(done, KEYS[done.outcome], self._bytes_of(done)))
            elif done.outcome != Outcome.KEPT and done.ended_at <= now - LEAST_AGE_S:
                others.append(done)
        missing = {"total_mb": self._excess_bytes(), "free_mb": self._missing_free_bytes()}
        freed = sum(item.bytes for item in planned)
        while key := next((key for key, wanted in missing.items() if wanted > freed), None):
            if not others:
                log.warning("retention.exhausted", code=key, free_mb=self.spool.free_mb())
                break
            planned.append(Planned(others[0], key, self._bytes_of(others.pop(0))))
            freed += planned[-1].bytes
        return planned

    def _excess_bytes(self) -> int:
        """Return by how much images and results exceed total_mb."""
        total_mb = self.config.retention.total_mb
        if total_mb is None:
            return 0
        return received_bytes(self.ledger.database) + _size(self.spool.root / "outbox") - total_mb * MB

    def _missing_free_bytes(self) -> int:
        """Return how much less than free_mb is free."""
        free_mb = self.config.retention.free_mb
        return 0 if free_mb is None else (free_mb - self.spool.free_mb()) * MB

    def _bytes_of(self, done: Done) -> int:
        return done.bytes + sum(_size(self.spool.outbox(job_id)) for job_id in done.job_ids)

    def _clock_is_doubtful(self) -> bool:
        """Whether the wall clock was set forward: what seems old may not be."""
        wall, monotonic = self._began
        jump_s = (self.clock() - wall) - (self.monotonic() - monotonic)
        if jump_s > MOST_JUMP_S:
            log.error("retention.held", reason="CLOCK_JUMPED", jump_s=round(jump_s, 1))
        return jump_s > MOST_JUMP_S

    def _remove(self, planned: Planned) -> bool:
        done = planned.done
        uid, database = done.series_instance_uid, self.ledger.database
        if not remove(database, done, now=self.clock(), keep=lambda stone: write_tombstone(self.spool, stone)):
            return False
        self._finish(uid)
        log.info(
            "series.removed",
            series_instance_uid=uid,
            result=done.outcome,
            reason=planned.key,
            instances=done.instances,
            bytes=planned.bytes,
        )
        return True

    def _finish(self, uid: str) -> None:
        """Remove the files that the ledger says are removed, and then have the tombstone say so too."""
        remains = remains_of(self.ledger.database, uid)
        stone = pending_path(self.spool, uid)
        if not (remains.paths or remains.job_ids):  # killed before the ledger was told: nothing has gone
            stone.unlink(missing_ok=True)
            return
        for path in remains.paths:
            self.spool.discard(Path(path))
        with suppress(OSError):  # not there any more, or what came since is in it
            (self.spool.root / "spool" / uid).rmdir()
        for job_id in remains.job_ids:
            self.spool.clear(job_id)
        rename_whole(stone, final_path(self.spool, uid))


def _failed(error: Exception) -> None:
    log.error("removal.failed", error=error)


def _size(folder: Path) -> int:
    """Return the bytes of all files below a folder; 0 where there is none."""
    size = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            size += path.lstat().st_size if path.is_file() else 0
    return size
