"""SEGs that people drew on images that are here: each compared once with what was sent; docs/feedback.md says why.

It runs in the worker of the shadows, while no job waits; nothing is ever sent, and a job does not know of it.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from daemon.configuration.config import Config
from daemon.guard import guarded
from daemon.jobs import ENDED, OUT, Correction, Halt, Job, Patience, Reject, Retry, decide
from daemon.ledger.corrections import Corrections
from daemon.ledger.desk import Desk
from daemon.ledger.searches import JobFilter
from daemon.ledger.store import Ledger
from daemon.log import bound_job, get_logger
from daemon.shadows import BackgroundExecutor
from daemon.storage.spool import Spool
from daemon.worker.requests import SCORE, ScoreRequest, Unusable

NOT_YET, NOT_YET_S = "NO_RESULT_YET", 60.0
"""Why one waits whose images are still worked on, and how long."""

log = get_logger()


@dataclass(frozen=True)
class Feedback:
    """Scores the corrections that are due. Returns when nothing is left to do at `clock()`."""

    config: Config
    spool: Spool
    ledger: Ledger
    executor: BackgroundExecutor
    clock: Callable[[], float] = time.time
    jitter: Callable[[], float] = random.random

    def score_due(self) -> int:
        """Score one correction after another, until a job comes; return how many were looked at."""
        corrections, done = Corrections(self.ledger), set[int]()
        while due := [item for item in corrections.due(now=self.clock()) if item.id not in done]:
            with guarded(partial(self._settle, corrections, due[0])):
                self._score(corrections, due[0])
            done.add(due[0].id)
        if done:
            self.executor.rest()
        return len(done)

    def _score(self, corrections: Corrections, correction: Correction) -> None:
        of_series = Desk(self.ledger).jobs(JobFilter(series_instance_uid=correction.series_instance_uid))
        answer = next((job for job in of_series if job.state in OUT and job.reject_reason is None), None)
        paths = self.ledger.instance_paths(correction.series_instance_uid)
        if answer is not None and paths:
            self._compare(corrections, correction, answer, paths)
        elif all(job.state in ENDED or job.state in OUT for job in of_series):
            self._leave(corrections, correction, Unusable.NO_RESULT)
        else:
            until = self.clock() + NOT_YET_S
            corrections.postpone(correction, until=until, code=NOT_YET, counts=False)

    def _compare(self, corrections: Corrections, correction: Correction, answer: Job, paths: Sequence[str]) -> None:
        request = ScoreRequest(
            paths=tuple(self.spool.root / path for path in paths),
            correction=self.spool.root / correction.path,
            sha256=correction.sha256,
            job_id=answer.id,
            outbox=self.spool.outbox(answer.id),
        )
        with bound_job(answer.id, series_instance_uid=correction.series_instance_uid):
            found = self.executor.run(self.config.engine.deadline_s, SCORE, request)
            if isinstance(found, Unusable):
                self._leave(corrections, correction, found)
            else:
                corrections.settle(correction, found)
                log.info("correction.scored", model=found.model, count=len(found.volumes))

    def _leave(self, corrections: Corrections, correction: Correction, code: Unusable) -> None:
        corrections.settle(correction, None, code=code)
        log.info("correction.left", code=code, sop_instance_uid=correction.sop_instance_uid)

    def _settle(self, corrections: Corrections, correction: Correction, error: Exception) -> None:
        """Record an error for one: what would halt or reject a job gives it up."""
        now, patience = self.clock(), Patience(self.config.engine.attempts)
        match decide(error, correction, now=now, jitter=self.jitter, patience=patience):
            case Retry(at, counts):
                corrections.postpone(correction, until=at, code=type(error).__name__, counts=counts)
                log.warning("correction.postponed", error=error, delay_s=round(at - now, 1))
            case Halt(code):
                corrections.settle(correction, None, code=code)
                log.error("correction.failed", code=code, error=error)
            case Reject(reason):
                corrections.settle(correction, None, code=reason)
                log.error("correction.failed", code=reason, error=error)
