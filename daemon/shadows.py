"""Shadow models: run on what is reported already, compared, written down. Nothing of theirs is ever sent.

They run in a second worker of low priority, which ends when there is nothing to compare. None begins while a job
waits for a worker or has one; one that has begun goes on beside a job that comes then, which may be slower by it on the
same device. A shadow that fails, hangs or is killed leaves a job as it is. What is due stands in the ledger, as
deliveries do; the labels that a shadow is compared with stay in the work folder until it is settled.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from daemon.configuration.config import Config
from daemon.guard import guarded
from daemon.jobs import ENDED, OUT, Halt, Patience, Reject, Retry, Shadow, ShadowState, State, decide
from daemon.ledger.store import Ledger
from daemon.log import bound_job, get_logger
from daemon.storage.spool import Spool
from daemon.worker.executor import Executor
from daemon.worker.handover import keep_labels
from daemon.worker.requests import SHADOW, Engine, ShadowRequest

log = get_logger()

LATE_INSTANCE, CANCELLED = "LATE_INSTANCE", "CANCELLED"
"""Why there is nothing to compare: the series is not what was segmented any more, a person ended the job."""


class BackgroundExecutor(Executor, Protocol):
    """Where shadows run."""

    def rest(self) -> None:
        """Give memory back: nothing is to be run for a while."""
        ...


@dataclass(frozen=True)
class Shadows:
    """Works on the shadows that are due. Every method returns when nothing is left to do at `clock()`."""

    config: Config
    spool: Spool
    ledger: Ledger
    executor: BackgroundExecutor
    clock: Callable[[], float] = time.time
    jitter: Callable[[], float] = random.random

    def compare_due(self) -> int:
        """Run and compare one shadow after another, until a job comes; return how many were looked at."""
        done: set[int] = set()
        while due := [shadow for shadow in self.ledger.due_shadows(now=self.clock()) if shadow.id not in done]:
            with (
                bound_job(due[0].job_id, series_instance_uid=due[0].series_instance_uid),
                guarded(partial(self._settle, due[0])),
            ):
                self._compare(due[0])
            done.add(due[0].id)
        if done:
            self.executor.rest()
        return len(done)

    def sweep(self) -> None:
        """Remove the work folders that a kill left, of jobs that no longer need them."""
        for folder in (self.spool.root / "work").iterdir():
            if folder.name.isdecimal():
                with bound_job(folder.name), guarded(lambda error: log.warning("folder.kept", error=error)):
                    self._tidy(int(folder.name))

    def _compare(self, shadow: Shadow) -> None:
        started = time.monotonic()
        paths = [self.spool.root / path for path in self.ledger.instance_paths(shadow.series_instance_uid)]
        if shadow.job_state == State.CANCELLED:
            self._leave(shadow, CANCELLED)
        elif len(paths) != shadow.instances:
            self._leave(shadow, LATE_INSTANCE)
        else:
            with guarded(partial(self._settle, shadow)):
                self._run(shadow, paths)
                log.info("shadow.compared", model=shadow.model, duration_s=round(time.monotonic() - started, 2))
        with guarded(lambda error: log.warning("folder.kept", error=error)):
            self._tidy(shadow.job_id)

    def _run(self, shadow: Shadow, paths: list[Path]) -> None:
        engine = self.config.engine
        request = ShadowRequest(
            paths=tuple(paths),
            model=self.config.card(shadow.model),
            engine=Engine(device=engine.worker_devices[0], threads=engine.threads),
            work=self.spool.work(shadow.job_id),
        )
        compared = self.executor.run(engine.deadline_s, SHADOW, request)
        self.ledger.settle_shadow(shadow, now=self.clock(), compared=compared)

    def _settle(self, shadow: Shadow, error: Exception) -> None:
        """Record an error for one shadow: what would halt or reject a job gives the shadow up."""
        now = self.clock()
        patience = Patience(self.config.engine.attempts)
        decision = decide(error, shadow, now=now, jitter=self.jitter, patience=patience)
        match decision:
            case Retry(at, counts):
                self.ledger.postpone_shadow(shadow, until=at, code=type(error).__name__, counts=counts)
                log.warning("shadow.postponed", model=shadow.model, error=error, delay_s=round(at - now, 1))
            case Halt(code):
                self._give_up(shadow, code, error)
            case Reject(reason):
                self._give_up(shadow, reason, error)

    def _leave(self, shadow: Shadow, code: str) -> None:
        """Give a shadow up that has nothing to compare any more."""
        self.ledger.settle_shadow(shadow, now=self.clock(), code=code)
        log.info("shadow.left", model=shadow.model, code=code)

    def _give_up(self, shadow: Shadow, code: str, error: Exception) -> None:
        self.ledger.settle_shadow(replace(shadow, attempts=shadow.attempts + 1), now=self.clock(), code=code)
        log.error("shadow.failed", model=shadow.model, code=code, error=error)

    def _tidy(self, job_id: int) -> None:
        """Remove the work folder of a job that is reported or has ended, unless a shadow still needs its labels."""
        if self.ledger.job(job_id).state not in (*OUT, *ENDED):
            return
        if any(shadow.state == ShadowState.PENDING for shadow in self.ledger.shadows_of(job_id)):
            keep_labels(self.spool.work(job_id))
        else:
            self.spool.clear_work(job_id)
