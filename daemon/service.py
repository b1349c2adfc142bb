"""The service: puts the rooms together, starts the rounds, and ends cleanly on SIGTERM."""

import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from types import FrameType

from daemon.clock import ServiceClock
from daemon.completeness import Asker, Closer
from daemon.configuration.config import Config, Destination
from daemon.delivery import Deliverer
from daemon.errors import LedgerLost, LedgerUnavailable, StorageUnusable, WorkerStopped
from daemon.guard import guarded
from daemon.heartbeat import Heartbeat
from daemon.history import refuse_lost_ledger
from daemon.intake import Intake, open_storage
from daemon.jobs import LONGEST_RETRY_S, spread_wait
from daemon.judgement import Judge
from daemon.ledger.store import LEASE_S, Ledger
from daemon.ledger.times import move_times
from daemon.log import get_logger, tell_repeated
from daemon.pipeline import Pipeline
from daemon.process import limit_service
from daemon.quarantine import Quarantine
from daemon.receiver import Receiver
from daemon.scheduler import Scheduler
from daemon.shadows import Shadows
from daemon.worker.executor import LocalExecutor, Setup
from daemon.worker.sources import open_spooled
from reports.identity import software_version

TICK_S = 0.5
ASKING_TICK_S = 0.2
TRIMMING_TICK_S = 3600.0
REFUSALS_TICK_S = 5.0
STOP_S = 8.0
"""How long the parts may take to end: systemd and containers wait for 10 s before they kill."""

log = get_logger()


def run(config: Config) -> None:
    """Run the service in the foreground until SIGTERM or SIGINT.

    Raises StorageUnusable, LedgerUnavailable or OSError (the port) before anything is accepted.
    """
    limit_service()
    spool, ledger = open_storage(config)
    with spool.lock(config.routing_digest):
        refuse_lost_ledger(spool, ledger)
        spool.sweep()
        host = socket.gethostname()
        freed = ledger.free_leases(host)
        setup = Setup(config.log.level, config.log.format, config.engine.memory_mb)
        executor, background = LocalExecutor(setup), LocalExecutor(replace(setup, background=True))
        lease = f"{host}/{os.getpid()}"
        judge = Judge(config, spool, ledger, open_spooled)
        clock = ServiceClock()
        closer = Closer(config, spool, ledger, judge, listening_since=clock(), clock=clock)
        pipeline = Pipeline(config, spool, ledger, judge, executor, lease, software_version(), clock)
        deliverer = Deliverer(config, spool, ledger, clock)
        shadows = Shadows(config, spool, ledger, background, clock)
        shadows.sweep()
        storage = config.storage
        quarantine = Quarantine(spool, storage.quarantine_mb, storage.quarantine_days, clock)
        receiver = Receiver(config, Intake(spool, ledger, clock, quarantine), ledger, clock)
        wait_for_signal = _stop_on_signals()
        scheduler = _build_scheduler(
            config, closer, pipeline, deliverer, shadows, ledger=ledger, lease=lease, clock=clock
        )
        scheduler.every(TRIMMING_TICK_S, "quarantine", _guarded(quarantine.trim))
        scheduler.every(REFUSALS_TICK_S, "refusals", _guarded(receiver.tell_refusals))
        try:
            port = receiver.start()
            log.info(
                "service.started",
                host=config.dicom.host,
                port=port,
                called_ae_title=config.dicom.ae_title,
                version=software_version(),
                root=str(config.storage.root),
                lease=lease,
                count=freed,
            )
            scheduler.start()
            wait_for_signal()
        finally:
            started = time.monotonic()
            log.info("service.stopping")
            scheduler.stop()
            executor.stop()
            background.stop()
            receiver.stop(STOP_S)
            with suppress(LedgerUnavailable):
                ledger.free_leases(host)
            ledger.close()
            tell_repeated(at_once=True)
            log.info("service.stopped", duration_s=round(time.monotonic() - started, 2))


def _build_scheduler(
    config: Config,
    closer: Closer,
    pipeline: Pipeline,
    deliverer: Deliverer,
    shadows: Shadows,
    *,
    ledger: Ledger,
    lease: str,
    clock: ServiceClock,
) -> Scheduler:
    """Build the scheduler with everything that it wakes.

    Each peer is asked, and each destination delivered to, in a separate thread: a slow one delays no other.
    """
    askers = [Asker(config, peer, ledger, clock) for peer in config.peers if peer.query]
    scheduler = Scheduler()

    def ask(asker: Asker) -> None:
        if asker.ask_due():
            scheduler.wake("closing")

    def close() -> None:
        follow_clock(clock, closer, askers)  # by this thread, so that nothing is closed while times are moved
        if closer.close_due():
            scheduler.wake("choice")

    def choose() -> None:
        if pipeline.choose_due():
            scheduler.wake("work")

    def work() -> None:
        if pipeline.work_off():
            for destination in config.destinations:
                scheduler.wake(f"delivery/{destination.peer}")
            scheduler.wake("shadows")

    def deliver(destination: Destination) -> None:
        # Twice: what was stored by the first round is confirmed by the second.
        if deliverer.deliver_to(destination):
            deliverer.deliver_to(destination)

    scheduler.once("models", _guarded(pipeline.warm_up))
    for asker in askers:
        scheduler.every(ASKING_TICK_S, f"asking/{asker.peer.name}", _guarded(partial(ask, asker)))
    scheduler.every(TICK_S, "closing", _guarded(close))
    scheduler.every(TICK_S, "choice", _guarded(choose))
    scheduler.every(TICK_S, "work", _guarded(work))
    for destination in config.destinations:
        scheduler.every(TICK_S, f"delivery/{destination.peer}", _guarded(partial(deliver, destination)))
    scheduler.every(TICK_S, "delivery", _guarded(deliverer.halt_orphans))
    scheduler.every(TICK_S, "shadows", _guarded(shadows.compare_due))
    longest_s = max([LONGEST_RETRY_S, *(destination.longest_retry_s for destination in config.destinations)])
    heartbeat = Heartbeat(ledger, lease, str(config.storage.root), clock, spread_wait(longest_s, 1.0))
    scheduler.every(LEASE_S / 3, "log", _guarded(tell_repeated))
    scheduler.every(LEASE_S / 3, "heartbeat", _guarded(heartbeat.beat))
    return scheduler


def follow_clock(clock: ServiceClock, closer: Closer, askers: Sequence[Asker]) -> None:
    """Move all that is waited for where the wall clock has jumped. Raises LedgerUnavailable: then nothing is moved."""
    if jump_s := clock.follow(partial(move_times, closer.ledger.database)):
        closer.listening_since = clock()
        for asker in askers:
            asker.move_times(jump_s)
        log.warning("clock.jumped", jump_s=round(jump_s, 1))


def _guarded(function: Callable[[], object]) -> Callable[[], None]:
    """Write an error that no round has caught to the log; the next tick tries again."""

    def failed(error: Exception) -> None:
        if isinstance(error, LedgerUnavailable | StorageUnusable | OSError):  # they pass when somebody sees to them
            log.warning("tick.failed", error=error)
        else:
            log.error("tick.failed", error=error)

    def call() -> None:
        try:
            with suppress(WorkerStopped), guarded(failed):
                function()
        except LedgerLost:
            pass  # the heartbeat says it, once
        except LedgerUnavailable as error:
            failed(error)

    return call


def _stop_on_signals() -> Callable[[], object]:
    """Return what waits for SIGTERM or SIGINT."""
    # The handler runs in the thread that waits: an Event's lock may be held there just then, and is not reentrant
    stopping = SimpleQueue[int]()

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.put(number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return stopping.get
