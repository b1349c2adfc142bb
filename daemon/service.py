"""The service: puts the rooms together, starts the rounds, and ends cleanly on SIGTERM."""

import os
import signal
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from daemon.clock import ServiceClock
from daemon.completeness import Asker, Closer
from daemon.configuration.config import Config, Destination
from daemon.delivery.deliverer import Deliverer
from daemon.errors import ConfigurationError, LedgerLost, LedgerUnavailable, StorageUnusable, WorkerStopped
from daemon.feedback import Feedback
from daemon.guard import guarded
from daemon.heartbeat import Heartbeat
from daemon.intake import Intake, open_storage
from daemon.jobs import LONGEST_RETRY_S, spread_wait
from daemon.judgement import Judge
from daemon.ledger.store import LEASE_S, Ledger
from daemon.ledger.times import move_times
from daemon.log import get_logger, tell_repeated
from daemon.pipeline import Pipeline
from daemon.process import limit_service, refuse_taken_port, tell_systemd
from daemon.receiver import Receiver
from daemon.retention.orphans import Orphans
from daemon.retention.removal import Retention
from daemon.scheduler import Scheduler
from daemon.shadows import Shadows
from daemon.storage.note import Note
from daemon.storage.quarantine import Quarantine
from daemon.storage.spool import Spool
from daemon.terminal import warn
from daemon.upkeep.history import refuse_lost_ledger
from daemon.worker.executor import LocalExecutor, Setup
from daemon.worker.sources import open_spooled
from dicom_io.errors import CertificateUnusable
from dicom_io.expiry import WARNED_DAYS, days_left
from reports.identity import software_version

TICK_S = 0.5
ASKING_TICK_S = 0.2
TRIMMING_TICK_S = 3600.0
RETENTION_TICK_S = 60.0
FEEDBACK_TICK_S = 5.0
CERTIFICATES_TICK_S = 86400.0
WATCHDOG_TICK_S = 10.0
"""How often systemd is told that rounds are made; it waits for several times as long (deploy/porta.service)."""
RESTART_NEEDED = (
    "a restart is needed: a running service takes up peers, destinations, rules, models, [series], and AE title and "
    "port of [dicom] alone; nothing was taken up"
)
STOP_S = 8.0
"""How long the parts may take to end: systemd and containers wait for 10 s before they kill."""

log = get_logger()


@dataclass
class _Common:
    """What outlives a configuration that is read anew: files, ledger, workers, the listener, and who is at work."""

    spool: Spool
    ledger: Ledger
    executors: tuple[LocalExecutor, ...]
    background: LocalExecutor
    lease: str
    clock: ServiceClock
    quarantine: Quarantine
    orphans: Orphans
    receiver: Receiver
    locks: defaultdict[str, threading.Lock] = field(default_factory=lambda: defaultdict(threading.Lock))
    """A round of the new configuration begins when that of the same name of the old one has ended."""


def run(
    config: Config,
    read_again: Callable[[], Config] | None = None,
    require_models: Callable[[Config], Config] = lambda config: config,
) -> None:
    """Run the service in the foreground until SIGTERM or SIGINT; at SIGHUP take up what `read_again` gives.

    `require_models` gives a configuration back with the cards of its models, which takes a while.

    Raises StorageUnusable, LedgerUnavailable or OSError (the port) before anything is accepted.
    """
    limit_service()
    spool, ledger = open_storage(config)
    note = Note.of(config)
    with spool.lock(note.text) as lock:
        refuse_lost_ledger(spool, ledger)
        spool.sweep()
        host = socket.gethostname()
        freed = ledger.free_leases(host)
        ledger.hold_unreleased()
        setup = Setup(config.log.level, config.log.format, config.engine.memory_mb)
        clock = ServiceClock()
        storage = config.storage
        quarantine = Quarantine(spool, storage.quarantine_mb, storage.quarantine_days, clock)
        intake = Intake(spool, ledger, clock, quarantine)
        common = _Common(
            spool,
            ledger,
            tuple(LocalExecutor(setup) for _ in config.engine.worker_devices),
            LocalExecutor(replace(setup, background=True)),
            f"{host}/{os.getpid()}",
            clock,
            quarantine,
            Orphans(spool, ledger, intake, quarantine, clock),
            Receiver(config, intake, ledger, clock),
        )
        wait_for_signal = _listen_to_signals()
        Shadows(config, spool, ledger, common.background, clock).sweep()
        Retention(config, spool, ledger, clock).recover()
        rounds = _Rounds(config, common, listening_since=clock())
        try:
            port = common.receiver.start()
            log.info(
                "service.started",
                host=config.dicom.host,
                port=port,
                called_ae_title=config.dicom.ae_title,
                version=software_version(),
                root=str(config.storage.root),
                lease=common.lease,
                count=freed,
            )
            rounds.scheduler.start()
            tell_systemd("READY=1")
            while wait_for_signal() == signal.SIGHUP:
                tell_systemd("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
                try:
                    config = _taken_up(config, read_again, require_models, common.receiver)
                except ConfigurationError as error:
                    for line in error.faults:
                        warn(f"porta: {line}")
                    note = replace(note, answers=note.answers + 1, refused=error.faults)
                else:
                    rounds = rounds.replaced_by(config)
                    note = Note.of(config, answers=note.answers + 1)
                    log.info("configuration.reloaded", count=len(config.rules))
                spool.note(lock, note.text)
                tell_systemd("READY=1")
        finally:
            started = time.monotonic()
            log.info("service.stopping")
            tell_systemd("STOPPING=1")
            rounds.scheduler.stop()
            for executor in (*common.executors, common.background):
                executor.stop()
            common.receiver.stop(STOP_S)
            with suppress(LedgerUnavailable):
                ledger.free_leases(host)
            ledger.close()
            tell_repeated(at_once=True)
            log.info("service.stopped", duration_s=round(time.monotonic() - started, 2))


def _taken_up(
    config: Config,
    read_again: Callable[[], Config] | None,
    require_models: Callable[[Config], Config],
    receiver: Receiver,
) -> Config:
    """The configuration as the file has it now, by which `receiver` lets peers in already.

    Raises ConfigurationError, with the reasons, where it cannot be taken up: then nothing has changed. What can be said
    at once comes before the models are looked at.
    """
    if read_again is None:
        return config
    new = _unless_refused(read_again)
    if changed := config.fixed_changes(new):
        log.error("configuration.refused", count=len(changed), reason="RESTART_NEEDED")
        raise ConfigurationError([new.fault(key, RESTART_NEEDED) for key in changed])
    try:
        if new.dicom.port != config.dicom.port:
            refuse_taken_port(new.dicom.host, new.dicom.port)
        new = _unless_refused(partial(require_models, new))
        receiver.reload(new)
    except OSError as error:
        log.error("configuration.refused", count=1, reason="PORT_NOT_FREE", port=new.dicom.port)
        raise ConfigurationError([port_fault(new, error)]) from error
    return new


def _unless_refused(read: Callable[[], Config]) -> Config:
    try:
        return read()
    except ConfigurationError as error:
        log.error("configuration.refused", count=len(error.faults))
        raise


def port_fault(config: Config, error: OSError) -> str:
    """Return the line of a fault: the port cannot be listened on."""
    dicom = config.dicom
    sentence = f"cannot listen on {dicom.host}:{dicom.port}: {error.strerror}"
    return config.fault(("dicom", "port"), f"{sentence}; end what has the port, or choose another one")


class _Rounds:
    """The rounds of one configuration."""

    def __init__(self, config: Config, common: _Common, *, listening_since: float) -> None:
        self.common = common
        self._outdated = threading.Event()
        spool, ledger, clock = common.spool, common.ledger, common.clock
        judge = Judge(config, spool, ledger, open_spooled)
        self.closer = Closer(config, spool, ledger, judge, listening_since=listening_since, clock=clock)
        pipelines = [
            Pipeline(
                config,
                spool,
                ledger,
                judge,
                executor,
                f"{common.lease}/{number}",
                software_version(),
                clock,
                device=device,
                is_current=lambda: not self._outdated.is_set(),
            )
            for number, (executor, device) in enumerate(
                zip(common.executors, config.engine.worker_devices, strict=True), start=1
            )
        ]
        deliverer = Deliverer(config, spool, ledger, clock)
        shadows = Shadows(config, spool, ledger, common.background, clock)
        feedback = Feedback(config, spool, ledger, common.background, clock)
        self.scheduler = _build_scheduler(
            config, self.closer, pipelines, deliverer, shadows, feedback=feedback, common=common
        )

    def replaced_by(self, config: Config) -> "_Rounds":
        """Start the rounds of another configuration; what is being done by these is done to its end first."""
        self._outdated.set()
        self.scheduler.stop()
        rounds = _Rounds(config, self.common, listening_since=self.closer.listening_since)
        rounds.scheduler.start()
        return rounds


def _build_scheduler(
    config: Config,
    closer: Closer,
    pipelines: Sequence[Pipeline],
    deliverer: Deliverer,
    shadows: Shadows,
    *,
    feedback: Feedback,
    common: _Common,
) -> Scheduler:
    """Build the scheduler with everything that it wakes.

    Each peer is asked, each destination delivered to, and each worker fed in a separate thread: a slow one
    delays no other.
    """
    ledger, clock = common.ledger, common.clock
    askers = [Asker(config, peer, ledger, clock) for peer in config.peers if peer.query]
    scheduler = Scheduler()

    def every(seconds: float, name: str, function: Callable[[], object]) -> None:
        scheduler.every(seconds, name, _guarded(partial(_alone, common.locks[name], function)))

    def waking(function: Callable[[], object], *names: str) -> Callable[[], None]:
        """Call the rounds of these names at once where `function` has something for them."""

        def call() -> None:
            if function():
                for name in names:
                    scheduler.wake(name)

        return call

    def close() -> int:
        follow_clock(clock, closer, askers)  # by this thread, so that nothing is closed while times are moved
        return closer.close_due()

    def deliver(destination: Destination) -> None:
        # Twice: what was stored by the first round is confirmed by the second.
        if deliverer.deliver_to(destination):
            deliverer.deliver_to(destination)

    for asker in askers:
        every(ASKING_TICK_S, f"asking/{asker.peer.name}", waking(asker.ask_due, "closing"))
    every(TICK_S, "closing", waking(close, "choice"))
    work = [f"work/{number}" for number in range(len(pipelines))]
    every(TICK_S, "choice", waking(pipelines[0].choose_due, *work))
    deliveries = [f"delivery/{destination.peer}" for destination in config.destinations]
    for name, pipeline in zip(work, pipelines, strict=True):
        warm_up = partial(_alone, common.locks[f"models of {name}"], pipeline.warm_up)
        scheduler.once(f"models of {name}", _guarded(warm_up))
        every(TICK_S, name, waking(pipeline.work_off, *deliveries, "shadows"))
    for name, destination in zip(deliveries, config.destinations, strict=True):
        every(TICK_S, name, partial(deliver, destination))
    every(TICK_S, "delivery", deliverer.halt_orphans)
    every(TICK_S, "shadows", shadows.compare_due)
    every(FEEDBACK_TICK_S, "feedback", feedback.score_due)
    longest_s = max([LONGEST_RETRY_S, *(destination.longest_retry_s for destination in config.destinations)])
    heartbeat = Heartbeat(ledger, common.lease, str(config.storage.root), clock, spread_wait(longest_s, 1.0))
    every(LEASE_S / 3, "log", tell_repeated)
    every(LEASE_S / 3, "heartbeat", heartbeat.beat)
    every(TRIMMING_TICK_S, "quarantine", common.quarantine.trim)
    every(TRIMMING_TICK_S, "orphans", common.orphans.put_in_order)
    every(RETENTION_TICK_S, "retention", Retention(config, common.spool, ledger, clock).work_off)
    every(WATCHDOG_TICK_S, "watchdog", partial(tell_systemd, "WATCHDOG=1"))
    every(TICK_S, "refusals", common.receiver.tell_refusals)
    every(CERTIFICATES_TICK_S, "certificates", partial(warn_of_certificates, config, clock))
    return scheduler


def follow_clock(clock: ServiceClock, closer: Closer, askers: Sequence[Asker]) -> None:
    """Move all that is waited for where the wall clock has jumped. Raises LedgerUnavailable: then nothing is moved."""
    if jump_s := clock.follow(partial(move_times, closer.ledger.database)):
        closer.listening_since = clock()
        for asker in askers:
            asker.move_times(jump_s)
        log.warning("clock.jumped", jump_s=round(jump_s, 1))


def warn_of_certificates(config: Config, clock: Callable[[], float]) -> None:
    """Say in the log which of our certificates end soon, or cannot be read."""
    for name, certificates in config.certificates.items():
        try:
            left = days_left(certificates, clock())
        except CertificateUnusable as error:
            log.error("certificate.unusable", peer=name, error=error)
            continue
        if left is not None and left < WARNED_DAYS:
            tell = log.warning if left >= 0 else log.error
            tell("certificate.expires", peer=name, days=left)


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


def _alone(lock: threading.Lock, function: Callable[[], object]) -> None:
    with lock:
        function()


def _listen_to_signals() -> Callable[[], int]:
    """Return what waits for the next of SIGTERM, SIGINT and SIGHUP, and tells which."""
    # Written by the interpreter at the moment of the signal, in whichever thread: a lock that is waited for is not let
    # go by a signal which came just before, and its handler would not be called until the next one
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno())
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for number in numbers:
        signal.signal(number, lambda *_: None)

    def wait() -> int:
        assert writer.fileno() >= 0  # held open, for as long as it is waited
        while (number := reader.recv(1)[0]) not in numbers:
            pass
        return number

    return wait
