"""From a quiet series to results in the outbox: closing, routing, segmentation, report. Meets others in the ledger."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeVar

from daemon.config import Config, Rule
from daemon.errors import LedgerUnavailable, RuleGone, WorkerFailed
from daemon.executor import WorkerStopped
from daemon.jobs import Event, Halt, Job, Reject, Retry, State, decide
from daemon.ledger import Due, Ledger, Outgoing
from daemon.log import bound_job, get_logger
from daemon.routing import first_match
from daemon.spool import Spool
from daemon.stages import Engine, Reported, identity_of, load_models, report_series, segment_series
from dicom_io.errors import NotDicom, RejectReason
from dicom_io.series import read_header
from models.errors import ModelError

T = TypeVar("T")

log = get_logger()


class Executor(Protocol):
    """Where stages run: the local worker, or a cluster."""

    def run(self, deadline_s: float, function: Callable[..., T], *args: object, **kwargs: object) -> T:
        """The function's result. Raises what it raised, or WorkerFailed."""
        ...


@dataclass(frozen=True)
class Pipeline:
    """Closes series and works on jobs. Every method returns when there is nothing left to do at `clock()`."""

    config: Config
    spool: Spool
    ledger: Ledger
    executor: Executor
    lease: str
    software_version: str
    listening_since: float = 0.0
    clock: Callable[[], float] = time.time
    jitter: Callable[[], float] = random.random

    def close_due(self) -> int:
        """Close each series that has been quiet long enough: RECEIVED under a rule, or REJECTED(NO_RULE)."""
        series = self.config.series
        due = self.ledger.due_series(
            now=self.clock(),
            quiet_s=series.quiet_s,
            released_quiet_s=series.released_quiet_s,
            listening_since=self.listening_since,
        )
        return sum(self._close(item) for item in due)

    def _close(self, due: Due) -> bool:
        rule = None
        for path in self._paths(due.series_instance_uid):
            try:
                rule = first_match(self.config.rules, read_header(path), calling_ae_title=due.calling_ae_title)
                break
            except (NotDicom, FileNotFoundError):
                continue
        closed = self.ledger.close_series(
            due,
            now=self.clock(),
            rule=rule.name if rule else None,
            priority=rule.priority if rule else 0,
            reject_reason=None if rule else RejectReason.NO_RULE,
        )
        if closed:
            with bound_job(due.job_id):
                log.info("series.closed", instances=due.instances, rule=rule.name if rule else None)
        return closed

    def warm_up(self) -> None:
        """Have the worker load the models of all rules, so that the first series does not wait for it."""
        models = sorted({rule.model for rule in self.config.rules})
        try:
            self._run(load_models, models, self._engine)
        except WorkerStopped:
            raise
        except (ModelError, WorkerFailed) as error:
            # The first job will meet it again, and halt with its reason.
            log.error("models.failed", error=error)

    def work_off(self) -> int:
        """Take jobs through their stages, the most urgent first, until none is left."""
        done = 0
        while (job := self.ledger.claim_job(self.lease, now=self.clock())) is not None:
            with bound_job(job.id):
                self._run_stage(job)
            done += 1
        return done

    def _run_stage(self, job: Job) -> None:
        started = self.clock()
        try:
            moved = self._segment(job) if job.state == State.RECEIVED else self._report(job)
        except WorkerStopped:
            self.ledger.postpone(job, now=self.clock(), until=self.clock(), code="STOPPED", counts=False)
            raise
        except LedgerUnavailable:
            raise
        except Exception as error:  # the stage runner: `decide` says what it means
            self._settle(job, error)
            return
        if moved:
            log.info("stage.finished", from_state=job.state, duration_s=round(self.clock() - started, 2))
        else:
            log.info("stage.discarded", from_state=job.state)

    def _segment(self, job: Job) -> bool:
        # A walk that a late slice made void may have left results here; none of them was sent.
        self.spool.clear(job.id)
        warnings = self._run(
            segment_series,
            self._paths(job.series_instance_uid),
            self._rule(job).model,
            self._engine,
            self.spool.work(job.id),
        )
        return self.ledger.finish_stage(job, Event.SEGMENTED, now=self.clock(), warnings=warnings)

    def _report(self, job: Job) -> bool:
        identity = identity_of(
            job.study_instance_uid,
            job.series_instance_uid,
            revision=job.revision,
            created=datetime.fromtimestamp(job.created_at, UTC),
            software_version=self.software_version,
        )
        reported = self._run(
            report_series,
            self._paths(job.series_instance_uid),
            self.spool.work(job.id),
            self.spool.outbox(job.id),
            identity,
        )
        moved = self.ledger.finish_stage(
            job,
            Event.REPORTED,
            now=self.clock(),
            warnings=reported.findings.warnings,
            outgoing=self._outgoing(job, reported),
        )
        if moved:
            self.spool.clear_work(job.id)
        return moved

    def _outgoing(self, job: Job, reported: Reported) -> list[Outgoing]:
        return [
            Outgoing(
                destination=destination.peer,
                object=result.object,
                sop_instance_uid=result.sop_instance_uid,
                series_instance_uid=result.series_instance_uid,
                path=str(result.path.relative_to(self.spool.root)),
                confirm=destination.confirm,
            )
            for destination in map(self.config.destination, self._rule(job).destinations)
            for result in reported.results
            if result.object in destination.objects
        ]

    def _rule(self, job: Job) -> Rule:
        """The rule that the job was routed by. Raises RuleGone: the service may have a new configuration."""
        for rule in self.config.rules:
            if rule.name == job.rule:
                return rule
        raise RuleGone(str(job.rule))

    def _settle(self, job: Job, error: Exception) -> None:
        now = self.clock()
        code = type(error).__name__
        decision = decide(error, job, now=now, jitter=self.jitter, max_attempts=self.config.engine.attempts)
        match decision:
            case Reject(reason):
                if self.ledger.finish_stage(job, Event.REJECTED, now=now, reject_reason=reason):
                    log.info("job.rejected", reason=reason)
            case Retry(at, counts):
                self.ledger.postpone(job, now=now, until=at, code=code, counts=counts)
                log.warning("job.postponed", error=error, attempts=job.attempts + counts, delay_s=round(at - now, 1))
            case Halt(halt):
                self.ledger.halt(job, halt, now=now)
                log.error("job.halted", halt=halt, error=error)

    def _run(self, function: Callable[..., T], *args: object) -> T:
        return self.executor.run(self.config.engine.deadline_s, function, *args)

    def _paths(self, series_instance_uid: str) -> list[Path]:
        return [self.spool.root / path for path in self.ledger.instance_paths(series_instance_uid)]

    @property
    def _engine(self) -> Engine:
        return Engine(device=self.config.engine.device, threads=self.config.engine.threads)
