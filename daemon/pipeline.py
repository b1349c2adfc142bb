"""From a closed series to results in the outbox: choice, segmentation, report. Meets others in the ledger."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeVar

from daemon.choice import Choice, Standing, Suitability, choose, standing_of, taking_part
from daemon.config import Config
from daemon.errors import LedgerUnavailable, WorkerFailed
from daemon.executor import WorkerStopped
from daemon.jobs import Decision, Event, Halt, HaltCode, Job, Reject, Retry, State, decide
from daemon.judgement import Judge
from daemon.ledger import Ledger, Outgoing
from daemon.log import bound_job, get_logger
from daemon.spool import Spool
from daemon.stages import Engine, Replaced, Reported, identity_of, load_models, report_series, segment_series
from dicom_io.errors import RejectReason, SeriesRejected
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
    """Chooses among series and works on jobs. Every method returns when there is nothing left to do at `clock()`."""

    config: Config
    spool: Spool
    ledger: Ledger
    judge: Judge
    executor: Executor
    lease: str
    software_version: str
    clock: Callable[[], float] = time.time
    jitter: Callable[[], float] = random.random

    def choose_due(self) -> int:
        """Choose which of the series that have closed are reported, study by study; how many were chosen."""
        chosen = 0
        for study_instance_uid in self.ledger.studies_to_choose(now=self.clock()):
            by_rule: dict[str | None, list[Job]] = {}
            for job in self.ledger.jobs_of_study(study_instance_uid):
                by_rule.setdefault(job.rule, []).append(job)
            for jobs in by_rule.values():
                if any(standing_of(job) == Standing.NEWCOMER for job in jobs):
                    chosen += self._choose(jobs)
        return chosen

    def _choose(self, jobs: list[Job]) -> int:
        """Choose among all jobs of one study under one rule; how many were chosen."""
        suitabilities: dict[str, Suitability | None] = {}
        rejected: dict[int, RejectReason] = {}
        halted: dict[int, HaltCode] = {}
        for job in taking_part(jobs):
            judged, standing = self.judge.suitability(job), standing_of(job)
            if not isinstance(judged, Exception):
                suitabilities[job.series_instance_uid] = judged
            elif standing != Standing.SUPERSEDED:
                suitabilities[job.series_instance_uid] = None
            if isinstance(judged, SeriesRejected) and standing == Standing.NEWCOMER:
                rejected[job.id] = judged.reason
            elif isinstance(judged, Exception) and standing == Standing.NEWCOMER:
                with bound_job(job.id):
                    decision = self._settle(job, judged)
                if not isinstance(decision, Halt):  # the study waits until it is tried again
                    return 0
                halted[job.id] = decision.code
        jobs = [replace(job, halt=halted.get(job.id, job.halt)) for job in jobs]
        rule = next((rule for rule in self.config.rules if rule.name == jobs[0].rule), None)
        if rule is None:
            return 0
        choice = choose([job for job in jobs if job.id not in rejected], suitabilities, per_study=rule.per_study)
        reasons = tuple((job, rejected[job.id]) for job in jobs if job.id in rejected)
        choice = replace(choice, rejected=reasons)
        if not self.ledger.choose(choice, jobs, now=self.clock()):
            return 0
        self._tell(choice)
        return len(choice.chosen)

    def _tell(self, choice: Choice) -> None:
        for chosen in choice.chosen:
            with bound_job(chosen.job.id):
                log.info("job.chosen", rule=chosen.job.rule)
        superseded = [(job, RejectReason.SUPERSEDED_BY_BETTER) for job in choice.superseded]
        for job, reason in (*choice.rejected, *superseded):
            with bound_job(job.id):
                log.info("job.rejected", reason=reason)

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
        rule = self.judge.rule(job)
        warnings = self._run(
            segment_series,
            self._paths(job.series_instance_uid),
            rule.model,
            self._engine,
            self.spool.work(job.id),
            rule.prefer,
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
            self._replaced_by(job),
        )
        moved = self.ledger.finish_stage(
            job,
            Event.REPORTED,
            now=self.clock(),
            warnings=reported.warnings,
            outgoing=self._outgoing(job, reported),
        )
        if moved:
            self.spool.clear_work(job.id)
        return moved

    def _replaced_by(self, job: Job) -> Replaced | None:
        """The answer that a job takes the place of, which does not change any more; None where it sent no SR."""
        if job.replaces_series_instance_uid is None:
            return None
        for other in self.ledger.jobs_of_study(job.study_instance_uid):
            named = (other.series_instance_uid, other.revision)
            if named != (job.replaces_series_instance_uid, job.replaces_revision):
                continue
            deliveries = self.ledger.deliveries_of(other.id)
            volumes = {delivery.volume_index for delivery in deliveries if delivery.object == "sr"}
            return Replaced(job.study_instance_uid, *named, tuple(sorted(volumes))) if volumes else None
        return None

    def _outgoing(self, job: Job, reported: Reported) -> list[Outgoing]:
        return [
            Outgoing(
                destination=destination.peer,
                object=result.object,
                sop_instance_uid=result.sop_instance_uid,
                series_instance_uid=result.series_instance_uid,
                path=str(result.path.relative_to(self.spool.root)),
                confirm=destination.confirm,
                volume_index=result.volume_index,
            )
            for destination in map(self.config.destination, self.judge.rule(job).destinations)
            for result in reported.results
            if result.object in destination.objects
        ]

    def _settle(self, job: Job, error: Exception) -> Decision:
        """Write down what an error means for a job."""
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
        return decision

    def _run(self, function: Callable[..., T], *args: object) -> T:
        return self.executor.run(self.config.engine.deadline_s, function, *args)

    def _paths(self, series_instance_uid: str) -> list[Path]:
        return [self.spool.root / path for path in self.ledger.instance_paths(series_instance_uid)]

    @property
    def _engine(self) -> Engine:
        return Engine(device=self.config.engine.device, threads=self.config.engine.threads)
