"""From a closed series to results in the outbox: choice, segmentation, report. Meets others in the ledger."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

from daemon.choice import (
    Choice,
    Standing,
    Suitability,
    awaits_choice,
    candidates_for_verdict,
    choose,
    has_verdict,
    is_answered,
    not_taken_back,
    standing_of,
    taking_part,
    told_in_any_case,
    with_verdicts,
)
from daemon.configuration.config import Config
from daemon.delivery.acceptance import Acceptance
from daemon.errors import RuleGone, WorkDamaged, WorkerFailed, WorkerStopped
from daemon.guard import guarded
from daemon.jobs import Decision, DeliveryState, Event, Halt, HaltCode, Job, Patience, Reject, Retry, State, decide
from daemon.judgement import Judge
from daemon.ledger.answers import is_incomplete
from daemon.ledger.history import SEG_TYPE_FELL_BACK, SR_CLASS_FELL_BACK, tell
from daemon.ledger.store import Ledger, Outgoing
from daemon.log import bound_job, get_logger
from daemon.storage.spool import Spool
from daemon.worker.executor import Executor, Stage
from daemon.worker.handover import keep_labels
from daemon.worker.requests import (
    REPORT,
    SEGMENT,
    VERDICT,
    WARM_UP,
    Archive,
    Engine,
    Replaced,
    ReportRequest,
    Result,
    SegmentRequest,
    SentSr,
    VerdictRequest,
    WarmUpRequest,
)
from dicom_io.errors import RejectReason
from dicom_io.network.moving import Moving
from dicom_io.network.scu import Remote
from dicom_io.web.service import WebService
from models.errors import ModelError
from reports.identity import ResultIdentity, identity_of
from reports.objects.kinds import KINDS
from reports.objects.profile import Profile

Request = TypeVar("Request")
Answer = TypeVar("Answer")

log = get_logger()


@dataclass(frozen=True)
class Pipeline:
    """Chooses among series and works on jobs. Every method returns when nothing is left to do at `clock()`."""

    config: Config
    spool: Spool
    ledger: Ledger
    judge: Judge
    executor: Executor
    lease: str
    software_version: str
    clock: Callable[[], float] = time.time
    jitter: Callable[[], float] = random.random
    device: str | None = None
    """The device of the worker; None for that of the configuration."""
    is_current: Callable[[], bool] = lambda: True
    """False once another pipeline, of a configuration that was read anew, goes on with the jobs."""
    acceptance: Acceptance = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "acceptance", Acceptance(self.config))

    def choose_due(self) -> int:
        """Choose, study by study, which closed series are reported; return how many were chosen.

        Where none can be reported, one that was refused is chosen to say why.
        """
        chosen = 0
        for study_instance_uid in self.ledger.studies_to_choose(now=self.clock()):
            by_rule: dict[str | None, list[Job]] = {}
            for job in self.ledger.jobs_of_study(study_instance_uid):
                by_rule.setdefault(job.rule, []).append(job)
            for jobs in by_rule.values():
                awaiting = list(filter(awaits_choice, jobs))
                with guarded(partial(self._settle_all, awaiting)):
                    chosen += self._choose(jobs) if awaiting else 0
        return chosen

    def _settle_all(self, jobs: Sequence[Job], error: Exception) -> None:
        """Record an error of the choice for the jobs that waited for it."""
        for job in jobs:
            with _bound(job):
                self._settle(job, error)

    def _choose(self, jobs: list[Job]) -> int:
        """Choose among all jobs of one study under one rule; return how many were chosen."""
        suitabilities: dict[str, Suitability | None] = {}
        settled: dict[int, Job] = {}
        for job in taking_part(not_taken_back(jobs)):
            judged, standing = self.judge.suitability(job), standing_of(job)
            if not isinstance(judged, Exception):
                suitabilities[job.series_instance_uid] = judged
            elif standing != Standing.SUPERSEDED:
                suitabilities[job.series_instance_uid] = None
            if isinstance(judged, Exception) and standing == Standing.NEWCOMER:
                with _bound(job):
                    if isinstance(self._settle(job, judged), Retry):  # the study waits until it is tried again
                        return 0
                settled[job.id] = self.ledger.job(job.id)
        jobs = [settled.get(job.id, job) for job in jobs]
        rule = next((rule for rule in self.config.rules if rule.name == jobs[0].rule), None)
        if rule is None:  # what takes something back had to be told by it; the others are matched again
            refused = [job for job in jobs if standing_of(job) == Standing.REFUSED]
            for job in (job for job in refused if job.before_instance is None):
                with _bound(job):
                    self._settle(job, RuleGone(str(job.rule)))
            choice = Choice(refused=tuple(job for job in refused if job.before_instance is not None))
        else:
            current = not_taken_back(jobs)
            choice = choose(current, suitabilities, per_study=rule.per_study)
            told = (job for job in candidates_for_verdict(current, choice) if not self.judge.is_computed(job))
            whose = [job for job in told_in_any_case(jobs) if job.before_instance or not self.judge.is_computed(job)]
            choice = with_verdicts(choice, [*whose, *islice(told, 1)])
        if not self.ledger.choose(choice, jobs, now=self.clock()):
            return 0
        self._tell(choice)
        return len(choice.chosen) + len(choice.verdicts)

    def _tell(self, choice: Choice) -> None:
        for chosen in choice.chosen:
            with _bound(chosen.job):
                log.info("job.chosen", rule=chosen.job.rule)
        for job in choice.verdicts:
            with _bound(job):
                log.info("verdict.chosen", rule=job.rule, reason=job.reject_reason)
        superseded = [(job, str(RejectReason.SUPERSEDED_BY_BETTER)) for job in choice.superseded]
        for job, reason in (*((job, job.reject_reason) for job in choice.refused), *superseded):
            with _bound(job):
                log.info("job.rejected", reason=reason)

    def warm_up(self) -> None:
        """Have the worker load the models of the rules, so that the first series does not wait for it."""
        models = sorted({self.config.card(rule.model) for rule in self.config.enabled_rules})
        try:
            self._run(WARM_UP, WarmUpRequest(tuple(models), self._engine))
        except WorkerStopped:
            raise
        except (ModelError, WorkerFailed) as error:
            # The first job will meet it again, and halt with its reason.
            log.error("models.failed", error=error)

    def work_off(self) -> int:
        """Take jobs through their stages, the most urgent first, until none is left."""
        done = 0
        while self.is_current() and (job := self.ledger.claim_job(self.lease, now=self.clock())) is not None:
            with _bound(job):
                self._run_stage(job)
            done += 1
        return done

    def _run_stage(self, job: Job) -> None:
        started = time.monotonic()
        try:
            with guarded(partial(self._settle, job)):
                moved = self._stage_of(job)(job)
                duration_s = round(time.monotonic() - started, 2)
                log.info("stage.finished" if moved else "stage.discarded", from_state=job.state, duration_s=duration_s)
        except WorkerStopped:
            self.ledger.postpone(job, now=self.clock(), until=self.clock(), code="STOPPED", counts=False)
            raise

    def _stage_of(self, job: Job) -> Callable[[Job], bool]:
        if job.state == State.REFUSED:
            return self._report_verdict
        return self._segment if job.state == State.RECEIVED else self._report

    def _segment(self, job: Job) -> bool:
        warnings = self._segmented(job)
        return self.ledger.finish_stage(job, Event.SEGMENTED, now=self.clock(), warnings=warnings)

    def _segmented(self, job: Job) -> tuple[str, ...]:
        self._clear(job)
        rule = self.judge.rule(job)
        request = SegmentRequest(
            paths=self._paths(job),
            model=self.config.card(rule.model),
            engine=self._engine,
            work=self.spool.work(job.id),
            prefer=rule.prefer,
            profiles=self._profiles(job),
        )
        return self._run(SEGMENT, request)

    def _report(self, job: Job) -> bool:
        rule, taken = self.judge.rule(job), self._taken(job)
        request = ReportRequest(
            paths=self._paths(job),
            model=self.config.card(rule.model),
            engine=self._engine,
            work=self.spool.work(job.id),
            outbox=self.spool.outbox(job.id),
            identity=self._identity(job),
            prefer=rule.prefer,
            profiles=tuple(dict.fromkeys(taken.values())),
            replaced=self._replaced_by(job),
            archives=self._archives(job),
            memory_mb=self.config.engine.memory_mb,
            oncology=rule.oncology,
            is_incomplete=is_incomplete(self.ledger.database, job.series_instance_uid),
        )
        try:
            reported = self._run(REPORT, request)
        except WorkDamaged as error:  # once: where it happens again, the disk cannot be trusted
            log.warning("work.damaged", error=error)
            self._segmented(job)
            reported = self._run(REPORT, request)
        shadows = rule.shadow
        moved = self.ledger.finish_stage(
            job,
            Event.REPORTED,
            now=self.clock(),
            warnings=reported.warnings,
            outgoing=self._outgoing(job, reported.results, taken),
            shadow_models=shadows,
        )
        if moved and shadows:
            keep_labels(self.spool.work(job.id))
        elif moved:
            self.spool.clear_work(job.id)
        return moved

    def _report_verdict(self, job: Job) -> bool:
        """Report why a job is not processed, unless its SEG was held back: that has been said already."""
        outgoing: list[Outgoing] = []
        if not self.ledger.deliveries_of(job.id):
            self._clear(job)
            outgoing = self._verdict(job, str(job.reject_reason))
        moved = self.ledger.finish_stage(job, Event.REPORTED, now=self.clock(), outgoing=outgoing)
        if moved:
            self.spool.clear_work(job.id)
        return moved

    def _verdict(self, job: Job, code: str) -> list[Outgoing]:
        taken = self._taken(job)
        request = VerdictRequest(
            paths=self._paths(job),
            model=self.config.card(self.judge.rule(job).model),
            outbox=self.spool.outbox(job.id),
            identity=self._identity(job),
            code=code,
            profiles=tuple(dict.fromkeys(taken.values())),
            replaced=self._replaced_by(job),
            memory_mb=self.config.engine.memory_mb,
            current=self._paths(replace(job, before_instance=None)) if job.before_instance else (),
        )
        reported = self._run(VERDICT, request)
        return self._outgoing(job, reported.results, taken)

    def _clear(self, job: Job) -> None:
        """Remove the files of an earlier walk that a late slice made void, unless something of them was sent."""
        if self.ledger.deliveries_of(job.id):
            self.spool.clear_work(job.id)
        else:
            self.spool.clear(job.id)

    def _identity(self, job: Job) -> ResultIdentity:
        """Return the identity of the job's results: made when it came into its state, which the ledger keeps."""
        entered = [event["at"] for event in self.ledger.history(job.id) if event["to_state"] == job.state]
        return identity_of(
            job.study_instance_uid,
            job.series_instance_uid,
            revision=job.revision,
            created=datetime.fromtimestamp(entered[-1] if entered else job.created_at, UTC),
            software_version=self.software_version,
        )

    def _profiles(self, job: Job) -> tuple[Profile, ...]:
        destinations = map(self.config.destination, self.judge.rule(job).destinations)
        return tuple(dict.fromkeys(destination.profile for destination in destinations))

    def _taken(self, job: Job) -> dict[str, Profile]:
        """Return what each destination of a job takes now, by its name; an older form is told in the job's history."""
        rule, taken = self.judge.rule(job), {}
        for destination in map(self.config.destination, rule.destinations):
            wanted = destination.profile
            found = taken[destination.peer] = self.acceptance.profile_of(destination) if rule.send else wanted
            for event, before, after in (
                (SEG_TYPE_FELL_BACK, wanted.seg_type, found.seg_type),
                (SR_CLASS_FELL_BACK, wanted.sr_class, found.sr_class),
            ):
                if before != after:
                    tell(self.ledger.database, job.id, event, code=destination.peer, now=self.clock())
                    log.warning("form.fell_back", destination=destination.peer, object=before, result=after)
        return taken

    def _archives(self, job: Job) -> tuple[Archive, ...]:
        """List the job's destinations that are asked for earlier results."""
        dicom, archives = self.config.dicom, []
        title = dicom.move_ae_title
        moving = None if title is None else Moving(title, dicom.host, dicom.move_port)
        for destination in map(self.config.destination, self.judge.rule(job).destinations):
            peer = self.config.peer(destination.peer)
            remote: Remote | WebService | None = peer.web_service if peer.url else None
            if remote is None and peer.host is not None and peer.port is not None:
                remote = Remote(peer.ae_title, peer.host, peer.port, self.config.tls_with(peer))
            if destination.priors and remote is not None:
                asked = remote, dicom.ae_title, destination.timeout_s, destination.prior_images, moving
                archives.append(Archive(*asked))
        return tuple(archives)

    def _replaced_by(self, job: Job) -> tuple[Replaced, ...]:
        """Return the objects sent earlier that the SRs of a job supersede, and that do not change any more.

        The series' last revision that sent an SR (all of them, where its images came again as another patient's or
        study's: the worker knows which SR lies where), the answer or verdict of another series that the job takes the
        place of, and its own word that the SEG was held back.
        """
        ours = self.ledger.jobs_of_series(job.series_instance_uid)
        earlier = [other for other in reversed(ours) if other.revision < job.revision]
        sent = [srs for other in earlier if (srs := self._sent_srs(other))]
        if not any(other.before_instance for other in ours):
            sent = sent[:1]
        sent = [tuple(sr for srs in sent for sr in srs)]
        named = (job.replaces_series_instance_uid, job.replaces_revision)
        jobs = self.ledger.jobs_of_study(job.study_instance_uid)
        others = [other for other in jobs if (other.series_instance_uid, other.revision) == named]
        found = [*sent, *(self._sent_srs(other) for other in (*others, job))]
        return tuple(Replaced(srs) for srs in found if srs)

    def _sent_srs(self, job: Job) -> tuple[SentSr, ...]:
        """List the SRs of a job that a destination gets, each once."""
        return tuple(
            dict.fromkeys(
                SentSr(
                    item.form,
                    item.volume_index,
                    item.series_instance_uid,
                    item.sop_instance_uid,
                    self.spool.root / item.path,
                    job.revision,
                )
                for item in self.ledger.deliveries_of(job.id)
                if KINDS[item.form.kind].is_sr and item.state != DeliveryState.KEPT
            )
        )

    def _outgoing(self, job: Job, results: Sequence[Result], taken: Mapping[str, Profile]) -> list[Outgoing]:
        rule = self.judge.rule(job)
        return [
            Outgoing(
                destination=destination.peer,
                form=result.form,
                sop_instance_uid=result.sop_instance_uid,
                series_instance_uid=result.series_instance_uid,
                path=str(result.path.relative_to(self.spool.root)),
                confirm=destination.confirm,
                volume_index=result.volume_index,
                sha256=result.sha256,
                study_instance_uid=result.study_instance_uid or None,
                is_kept=not rule.send,
            )
            for destination in map(self.config.destination, rule.destinations)
            for result in results
            if result.form in taken[destination.peer].forms
        ]

    def _settle(self, job: Job, error: Exception) -> Decision:
        """Record an error for one job."""
        now = self.clock()
        code = type(error).__name__
        decision = decide(error, job, now=now, jitter=self.jitter, patience=Patience(self.config.engine.attempts))
        match decision:
            case Reject(reason):
                if self.ledger.refuse(job, reason, now=now):
                    log.info("job.refused", reason=reason)
            case Retry(at, counts):
                self.ledger.postpone(job, now=now, until=at, code=code, counts=counts)
                log.warning("job.postponed", error=error, attempts=job.attempts + counts, delay_s=round(at - now, 1))
            case Halt(HaltCode.RULE_GONE) if self.ledger.rematch(job, now=now):
                log.info("job.rematched", rule=job.rule)
            case Halt(halt):
                outgoing = self._held_back(job) if halt == HaltCode.GEOMETRY_NOT_PROVED else []
                self.ledger.halt(job, halt, now=now, outgoing=outgoing)
                log.error("job.halted", halt=halt, error=error)
        return decision

    def _held_back(self, job: Job) -> list[Outgoing]:
        """What tells the radiologist, meanwhile, that a SEG was held back; nothing where the study has its answer."""
        others = [
            other
            for other in self.ledger.jobs_of_study(job.study_instance_uid)
            if other.rule == job.rule and other.id != job.id
        ]
        told = has_verdict(others, job, HaltCode.GEOMETRY_NOT_PROVED) or self.ledger.deliveries_of(job.id)
        if told or is_answered(others):
            return []
        outgoing: list[Outgoing] = []
        with guarded(lambda error: log.error("verdict.failed", error=error)):  # the halt tells a person in any case
            outgoing = self._verdict(job, HaltCode.GEOMETRY_NOT_PROVED)
        return outgoing

    def _run(self, stage: Stage[Request, Answer], request: Request) -> Answer:
        return self.executor.run(self.config.engine.deadline_s, stage, request)

    def _paths(self, job: Job) -> tuple[Path, ...]:
        paths = self.ledger.instance_paths(job.series_instance_uid, before_instance=job.before_instance)
        return tuple(self.spool.root / path for path in paths)

    @property
    def _engine(self) -> Engine:
        engine = self.config.engine
        return Engine(
            device=self.device or engine.device,
            threads=engine.threads,
            compiled=engine.compile,
            workers=len(engine.worker_devices),
        )


def _bound(job: Job) -> AbstractContextManager[None]:
    return bound_job(job.id, study_instance_uid=job.study_instance_uid, series_instance_uid=job.series_instance_uid)
