"""When a series is complete: by its sender's own count, by the absence of gaps and senders, or by quiet.

- **Proved**: the peer that sends it says by C-FIND how many instances it has (`query = true`), and this many are here;
  it said so after some quiet seconds, for it may itself still be receiving what it sends on.
- **Released**: the last association that brought any of it was released `released_quiet_s` ago, none broke off, its
  sender does not claim to have more, and no slice is missing between those that are here.
- **Quiet**: nothing came for `quiet_s`. Then it is closed as it is.

A series that would be refused for want of slices waits for quiet whatever else is known: a "not processed" that the
next slice makes untrue stays in the study. A sender that pauses between slices is waited for twice as long as it has
paused.
"""

import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial

from pydicom import Dataset

from daemon.configuration.config import Config, Peer, Rule
from daemon.errors import FileDamaged
from daemon.guard import guarded
from daemon.jobs import Evidence, Halt, Job, Patience, Reject, Retry, decide
from daemon.judgement import Judge
from daemon.ledger.answers import first_received_at, is_answered
from daemon.ledger.queries import PATIENCE, PROVED_QUIET_S
from daemon.ledger.store import Due, Incoming, Ledger
from daemon.log import bound_job, get_logger
from daemon.routing import Candidate, first_match
from daemon.storage.integrity import check_spooled
from daemon.storage.spool import Spool
from dicom_io.errors import Cure, NotDicom, PeerError, RejectReason, SeriesRejected, SeriesWarning
from dicom_io.files.image_file import read_dataset
from dicom_io.network import scu
from dicom_io.series.series import Series

SETTLED_S = 0.3
"""How long nothing must have come before a peer is asked whether it has more."""
TIMEOUT_S = 5.0
"""For one connection or answer: a peer that takes longer is no help."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 8.0
"""Between two questions about one series; doubled each time."""
FIRST_REST_S, LONGEST_REST_S = 2.0, 120.0
"""After a failure, before the peer is asked anything again; doubled each time."""
FORGOTTEN_S = 3600.0

log = get_logger()


@dataclass
class _Asked:
    """The last question to a peer about a series: its time, how many instances were here, when to ask again."""

    at: float
    instances: int
    pause_s: float


@dataclass(frozen=True)
class Asker:
    """Asks one peer how many instances it has of the series that it is sending. Used by one thread."""

    config: Config
    peer: Peer
    ledger: Ledger
    clock: Callable[[], float] = time.time
    timeout_s: float = TIMEOUT_S
    _asked: dict[str, _Asked] = field(default_factory=dict, repr=False, compare=False)
    _failures: list[float] = field(default_factory=list, repr=False, compare=False)
    """When it failed to answer, since it last did."""

    def ask_due(self) -> bool:
        """Ask about every series that is due; return True where one of them has arrived completely."""
        now = self.clock()
        if self._failures and now < self._failures[-1] + self._rest_s:
            return False
        self._forget(now)
        wanted = [item for item in self.ledger.incoming(self.peer.ae_title) if self._is_due(item, now)]
        if not wanted:
            return False
        asked_at = self.clock()
        try:
            sizes = self._sizes(wanted)
        except PeerError as error:
            self._failures.append(self.clock())
            log.warning("peer.failed", peer=self.peer.name, verb="C-FIND", error=error, delay_s=self._rest_s)
            return False
        self._failures.clear()
        for item in wanted:
            self._note(item, sizes.get(item.series_instance_uid), asked_at)
        self.ledger.expect(sizes, now=asked_at)
        return any(
            sizes.get(item.series_instance_uid) == item.instances and asked_at >= self._proved_from(item)
            for item in wanted
        )

    def move_times(self, jump_s: float) -> None:
        """Move what it remembers by a jump of the wall clock, which `clock` has followed."""
        for asked in self._asked.values():
            asked.at += jump_s
        self._failures[:] = [at + jump_s for at in self._failures]

    def _sizes(self, wanted: list[Incoming]) -> dict[str, int]:
        series_of: dict[str, set[str]] = {}
        for item in wanted:
            series_of.setdefault(item.study_instance_uid, set()).add(item.series_instance_uid)
        if self.peer.host is None or self.peer.port is None:
            raise ValueError(f"peer {self.peer.name} has no port to be asked at")
        certificates = self.config.tls_with(self.peer)
        remote = scu.Remote(self.peer.ae_title, self.peer.host, self.peer.port, certificates)
        return scu.series_sizes(
            remote, series_of, calling_ae_title=self.config.dicom.ae_title, timeout_s=self.timeout_s
        )

    def _is_due(self, item: Incoming, now: float) -> bool:
        """True where the peer is to be asked: soon after an instance, and again when its count must be confirmed."""
        before, proved_from = self._asked.get(item.series_instance_uid), self._proved_from(item)
        if before and before.at < proved_from <= now:
            return True
        if before and now < before.at + before.pause_s:
            return False
        if now >= proved_from:
            return True
        is_released = item.released_at is not None and item.released_at >= item.last_received_at
        settled_s = now - item.last_received_at
        is_early = settled_s < PROVED_QUIET_S and (is_released or settled_s >= SETTLED_S)
        return is_early and (before is None or before.instances != item.instances)

    def _proved_from(self, item: Incoming) -> float:
        """Return the time from which on the peer's count, if it equals ours, proves the series complete."""
        return item.last_received_at + max(PROVED_QUIET_S, PATIENCE * item.longest_pause_s)

    def _note(self, item: Incoming, said: int | None, asked_at: float) -> None:
        before = self._asked.get(item.series_instance_uid)
        pause_s = min(2 * before.pause_s, LONGEST_PAUSE_S) if before else FIRST_PAUSE_S
        self._asked[item.series_instance_uid] = _Asked(asked_at, item.instances, pause_s)
        if said is not None and said > item.instances:
            log.info(
                "series.awaited",
                series_instance_uid=item.series_instance_uid,
                peer=self.peer.name,
                instances=item.instances,
                missing=said - item.instances,
            )

    def _forget(self, now: float) -> None:
        for uid in [uid for uid, asked in self._asked.items() if asked.at < now - FORGOTTEN_S]:
            del self._asked[uid]

    @property
    def _rest_s(self) -> float:
        return min(LONGEST_REST_S, FIRST_REST_S * 2.0 ** min(len(self._failures) - 1, 30))


@dataclass
class Closer:
    """Closes series that are complete: RECEIVED under a rule, or REJECTED(NO_RULE).

    No silence counts that began before `listening_since`.
    """

    config: Config
    spool: Spool
    ledger: Ledger
    judge: Judge
    listening_since: float = 0.0
    clock: Callable[[], float] = time.time
    jitter: Callable[[], float] = random.random
    _gaps: dict[int, tuple[int, Evidence]] = field(default_factory=dict, repr=False, compare=False)
    """The jobs that were found to have a gap, of how many instances, and by what evidence they were looked at."""

    def close_due(self) -> int:
        """Close each series that is complete at `clock()`; return how many were closed."""
        series = self.config.series
        due = self.ledger.due_series(
            now=self.clock(),
            quiet_s=series.quiet_s,
            released_quiet_s=series.released_quiet_s,
            proved_quiet_s=PROVED_QUIET_S,
            listening_since=self.listening_since,
        )
        closed = 0
        for item in due:
            with _bound(item), guarded(partial(self._failed, item)):
                closed += self._close(item)
        return closed

    def _failed(self, due: Due, error: Exception) -> None:
        """Record an error for the one series that was to be closed."""
        job, now = self.ledger.job(due.job_id), self.clock()
        decision = decide(error, job, now=now, jitter=self.jitter, patience=Patience(self.config.engine.attempts))
        match decision:
            case Retry(at, counts):
                self.ledger.postpone(job, now=now, until=at, code=type(error).__name__, counts=counts)
                log.warning("job.postponed", error=error, attempts=job.attempts + counts, delay_s=round(at - now, 1))
            case Halt(code):
                self.ledger.halt(job, code, now=now)
                log.error("job.halted", halt=code, error=error)
            case Reject(reason):
                self.ledger.close_series(due, now=now, rule=None, reject_reason=reason)
                log.info("job.rejected", reason=reason)

    def _rule(self, due: Due) -> Rule | None:
        """The rule of the first image that is what was received. Raises FileDamaged, NotDicom or OSError if none is."""
        found = candidate(self.spool, self.ledger, due)
        return None if found is None else first_match(self.config.rules, found)

    def _close(self, due: Due) -> bool:
        rule = self._rule(due)
        if rule and due.evidence != Evidence.QUIET and self._has_gap(due):
            return False
        closed = self.ledger.close_series(
            due,
            now=self.clock(),
            rule=rule.name if rule else None,
            priority=rule.priority if rule else 0,
            reject_reason=None if rule else RejectReason.NO_RULE,
        )
        if closed:
            self._gaps.pop(due.job_id, None)
            missing = max(0, (due.expected or 0) - due.instances)
            with _bound(due):
                name = rule.name if rule else None
                log.info("series.closed", instances=due.instances, missing=missing, rule=name, code=due.evidence)
        return closed

    def _has_gap(self, due: Due) -> bool:
        if self._gaps.get(due.job_id) == (due.instances, due.evidence):
            return True
        found = self.judge.look(due.series_instance_uid)
        if not (is_open(found) if due.evidence == Evidence.RELEASED else is_refused_for_want_of_slices(found)):
            return False
        self._gaps[due.job_id] = due.instances, due.evidence
        with _bound(due):
            log.info("series.gapped", instances=due.instances, quiet_s=self.config.series.quiet_s)
        return True


def candidate(spool: Spool, ledger: Ledger, of: Due | Job) -> Candidate | None:
    """Return a series as rules see it; None where none of it came. Raises what `first_header` raises."""
    header = first_header(spool, ledger, of.series_instance_uid)
    if header is None:
        return None
    began_at = first_received_at(ledger.database, of.series_instance_uid)
    uids = {"study_instance_uid": of.study_instance_uid, "series_instance_uid": of.series_instance_uid}
    return Candidate(header, of.calling_ae_title, began_at, partial(is_answered, ledger.database, **uids))


def first_header(spool: Spool, ledger: Ledger, series_instance_uid: str) -> Dataset | None:
    """Return the first image of a series that is what was received, without pixels; None where none came.

    Raises FileDamaged, NotDicom or OSError where all are damaged, or gone.
    """
    unread: Exception | None = None
    for path in ledger.instance_paths(series_instance_uid):
        try:
            check_spooled(spool.root / path)
            return read_dataset(spool.root / path)
        except (FileDamaged, NotDicom, OSError) as error:
            unread = error
    if unread:
        raise unread
    return None


def is_refused_for_want_of_slices(found: Series | Exception) -> bool:
    """True where the series would be refused as it stands, and further slices may change that."""
    return isinstance(found, SeriesRejected) and found.reason.cure is Cure.MORE_SLICES


def is_open(found: Series | Exception) -> bool:
    """True where the headers of a series leave room for further slices."""
    return is_refused_for_want_of_slices(found) or (
        isinstance(found, Series)
        and any(
            {SeriesWarning.MISSING_SLICES, SeriesWarning.SEPARATE_RANGES} & set(warnings)
            for warnings in (found.warnings, *(stack.warnings for stack in found.stacks))
        )
    )


def _bound(due: Due) -> AbstractContextManager[None]:
    return bound_job(due.job_id, study_instance_uid=due.study_instance_uid, series_instance_uid=due.series_instance_uid)
