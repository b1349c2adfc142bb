"""The service: puts the rooms together, starts the clock, and ends cleanly on SIGTERM."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import FrameType

from daemon.completeness import Asker, Closer
from daemon.configuration.config import Config, Destination
from daemon.delivery import Deliverer
from daemon.errors import LedgerLost, LedgerUnavailable, StorageUnusable, WorkerStopped
from daemon.guard import guarded
from daemon.heartbeat import Heartbeat
from daemon.history import refuse_lost_ledger
from daemon.intake import Intake, open_storage
from daemon.judgement import Judge
from daemon.ledger.store import LEASE_S, Ledger
from daemon.log import get_logger, tell_repeated
from daemon.pipeline import Pipeline
from daemon.process import limit_service
from daemon.quarantine import Quarantine
from daemon.receiver import Receiver
from daemon.scheduler import Clock
from daemon.shadows import Shadows
from daemon.worker.executor import LocalExecutor, Setup
from daemon.worker.sources import open_spooled
from reports.identity import software_version

TICK_S = 0.5
ASKING_TICK_S = 0.2
TRIMMING_TICK_S = 3600.0
REFUSALS_TICK_S = 5.0
THREADS = 9
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
        closer = Closer(config, spool, ledger, judge, listening_since=time.time())
        pipeline = Pipeline(config, spool, ledger, judge, executor, lease, software_version())
        deliverer = Deliverer(config, spool, ledger)
        shadows = Shadows(config, spool, ledger, background)
        shadows.sweep()
        storage = config.storage
        quarantine = Quarantine(spool, storage.quarantine_mb, storage.quarantine_days)
        receiver = Receiver(config, Intake(spool, ledger, quarantine=quarantine), ledger)
        stopping = _stop_on_signals()
        clock = _build_clock(config, closer, pipeline, deliverer, shadows, ledger=ledger, lease=lease)
        clock.every(TRIMMING_TICK_S, "quarantine", _guarded(quarantine.trim))
        clock.every(REFUSALS_TICK_S, "refusals", _guarded(receiver.tell_refusals))
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
            clock.start()
            stopping.wait()
        finally:
            started = time.monotonic()
            log.info("service.stopping")
            clock.stop()
            executor.stop()
            background.stop()
            receiver.stop(STOP_S)
            with suppress(LedgerUnavailable):
                ledger.free_leases(host)
            ledger.close()
            tell_repeated(at_once=True)
            log.info("service.stopped", duration_s=round(time.monotonic() - started, 2))


def _build_clock(
    config: Config,
    closer: Closer,
    pipeline: Pipeline,
    deliverer: Deliverer,
    shadows: Shadows,
    *,
    ledger: Ledger,
    lease: str,
) -> Clock:
    """Build the clock with everything that it wakes.

    Each peer is asked, and each destination delivered to, in a separate thread: a slow one delays no other.
    """
    askers = [Asker(config, peer, ledger) for peer in config.peers if peer.query]
    clock = Clock(threads=THREADS + len(askers) + len(config.destinations))

    def ask(asker: Asker) -> None:
        if asker.ask_due():
            clock.wake("closing")

    def close() -> None:
        if closer.close_due():
            clock.wake("choice")

    def choose() -> None:
        if pipeline.choose_due():
            clock.wake("work")

    def work() -> None:
        if pipeline.work_off():
            for destination in config.destinations:
                clock.wake(f"delivery/{destination.peer}")
            clock.wake("shadows")

    def deliver(destination: Destination) -> None:
        # Twice: what was stored by the first round is confirmed by the second.
        if deliverer.deliver_to(destination):
            deliverer.deliver_to(destination)

    clock.once("models", _guarded(pipeline.warm_up))
    for asker in askers:
        clock.every(ASKING_TICK_S, f"asking/{asker.peer.name}", _guarded(partial(ask, asker)))
    clock.every(TICK_S, "closing", _guarded(close))
    clock.every(TICK_S, "choice", _guarded(choose))
    clock.every(TICK_S, "work", _guarded(work))
    for destination in config.destinations:
        clock.every(TICK_S, f"delivery/{destination.peer}", _guarded(partial(deliver, destination)))
    clock.every(TICK_S, "delivery", _guarded(deliverer.halt_orphans))
    clock.every(TICK_S, "shadows", _guarded(shadows.compare_due))
    heartbeat = Heartbeat(ledger, lease, str(config.storage.root), time.time)
    clock.every(LEASE_S / 3, "log", _guarded(tell_repeated))
    clock.every(LEASE_S / 3, "heartbeat", _guarded(heartbeat.beat))
    return clock


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


def _stop_on_signals() -> threading.Event:
    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return stopping
