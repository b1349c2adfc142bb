"""From the outbox to the destinations: C-STORE, then confirmation, each tried again until it works or is given up."""

import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from daemon.configuration.config import Config, Destination
from daemon.errors import DestinationGone, FileDamaged
from daemon.guard import guarded
from daemon.integrity import check_file
from daemon.jobs import Decision, Delivery, DeliveryState, Halt, HaltCode, Patience, Retry, decide, is_outage
from daemon.ledger.store import Ledger
from daemon.log import bound_job, get_logger
from daemon.spool import Spool
from dicom_io.errors import (
    AssociationLost,
    AssociationRefused,
    ContextNotAccepted,
    NotDicom,
    PeerError,
    PeerUnreachable,
    QueryRefused,
    StoreRefused,
)
from dicom_io.network import scu

log = get_logger()

CLASS_NOT_ACCEPTED, SYNTAX_NOT_ACCEPTED = "CLASS_NOT_ACCEPTED", "SYNTAX_NOT_ACCEPTED"
FIND_NOT_ACCEPTED, FIND_FAILED = "FIND_NOT_ACCEPTED", "FIND_FAILED"
OUTBOX_DAMAGED, OUTBOX_UNREADABLE = "OUTBOX_DAMAGED", "OUTBOX_UNREADABLE"

ADVICE = {
    CLASS_NOT_ACCEPTED: "The destination does not accept objects of this class: have it accept them, or leave this one "
    "out of `objects`.",
    SYNTAX_NOT_ACCEPTED: "The destination accepts this class of objects, but not the transfer syntax of this one: have "
    "it accept that, or choose another `seg_type`.",
    FIND_NOT_ACCEPTED: "The destination has stored it, and does not answer C-FIND: have it answer, or set "
    '`confirm = "none"`.',
    FIND_FAILED: "The destination has stored it, and answers C-FIND with an error: look into its own log, or set "
    '`confirm = "none"`.',
    "ASSOCIATION_REFUSED": "The destination refuses the association: does it know our AE title, host and port, and is "
    "its own AE title right?",
    "UNREACHABLE": "The destination does not answer: are its host and port right, is it running, is there a firewall?",
    OUTBOX_DAMAGED: "The file in the outbox holds other bytes than were written, and was not sent: look at the disk, "
    "put a backup of the file back, and `porta retry` sends it.",
    OUTBOX_UNREADABLE: "The file in the outbox is gone, or no DICOM file: look at the disk, put a backup of the file "
    "back, and `porta retry` sends it.",
    "NOT_HELD": "The destination took it with success and does not have it now: look into its own log.",
}
"""What a person can do about a `last_status`."""


@dataclass(frozen=True)
class Deliverer:
    """Sends the objects that are due. The bytes in the outbox are sent unchanged.

    Each destination is delivered to by itself, one thread each: what one of them does concerns no other.
    """

    config: Config
    spool: Spool
    ledger: Ledger
    clock: Callable[[], float] = time.time
    jitter: Callable[[], float] = random.random

    def deliver_to(self, destination: Destination) -> int:
        """Try once every delivery that is due at a destination; return how many moved on.

        The first try is a probe: where it finds the destination away or full, all wait, and keep their attempts. So
        they do when two in a row get no answer. One alone, after others had theirs, is itself to blame.
        """
        moved = 0
        silent: list[tuple[Delivery, Exception]] = []

        def failed(delivery: Delivery, error: Exception) -> None:
            if is_outage(error):
                silent.append((delivery, error))
            else:
                self._settle(delivery, destination, error)

        for delivery in self.ledger.due_deliveries(now=self.clock(), to=destination.peer):
            with _bound(delivery), guarded(partial(failed, delivery)):
                self._try(delivery, destination)
                moved += 1
            if silent and (_is_of_destination(silent[-1][1]) or (not moved and len(silent) > 1)):
                self._wait_for(destination, silent[-1][1])
                return moved
        if silent and not moved:
            self._wait_for(destination, silent[0][1])
        elif moved:
            for delivery, error in silent:
                self._settle(delivery, destination, _Unanswered(_status(error)))
            if resumed := self.ledger.resume_destination(destination.peer):
                log.info("destination.resumed", destination=destination.peer, deliveries=resumed)
        return moved

    def halt_orphans(self) -> None:
        """Halt the deliveries to destinations that are no longer in the configuration."""
        known = [destination.peer for destination in self.config.destinations]
        for delivery in self.ledger.due_deliveries(now=self.clock(), not_to=known):
            with _bound(delivery), guarded(lambda error: log.error("item.failed", error=error)):
                self._halt(delivery, HaltCode.DESTINATION_GONE, DestinationGone(delivery.destination))

    def _try(self, delivery: Delivery, destination: Destination) -> None:
        peer = self.config.peer(destination.peer)
        if peer.host is None or peer.port is None:  # the configuration is checked for this; a later one may differ
            raise DestinationGone(destination.peer)
        remote = scu.Remote(peer.ae_title, peer.host, peer.port)
        ours, timeout_s = self.config.dicom.ae_title, destination.timeout_s
        if delivery.state == DeliveryState.PENDING:
            path = self.spool.root / delivery.path
            check_file(path, delivery.sha256)
            (status,) = scu.store(remote, [path], calling_ae_title=ours, timeout_s=timeout_s)
            self._advance(delivery, DeliveryState.STORED, f"0x{status:04X}")
            return
        held = scu.holds(
            remote,
            study_instance_uid=delivery.study_instance_uid,
            series_instance_uid=delivery.series_instance_uid,
            sop_instance_uid=delivery.sop_instance_uid,
            calling_ae_title=ours,
            timeout_s=timeout_s,
        )
        if not held:
            raise NotHeld(f"{remote} does not hold what it was sent")
        self._advance(delivery, DeliveryState.CONFIRMED, "HELD")

    def _advance(self, delivery: Delivery, state: DeliveryState, status: str) -> None:
        self.ledger.advance_delivery(delivery, state, now=self.clock(), status=status)
        log.info(
            "object.stored" if state == DeliveryState.STORED else "object.confirmed",
            destination=delivery.destination,
            object=delivery.object,
            status=status,
        )

    def _wait_for(self, destination: Destination, error: Exception) -> None:
        """Postpone all that is due at a destination that is away; halt what has waited too long."""
        now, until = self.clock(), None
        for delivery in self.ledger.due_deliveries(now=now, to=destination.peer):
            match self._decide(error, delivery, destination, now):
                case Halt(code):
                    with _bound(delivery):
                        self._halt(delivery, code, error)
                case Retry(at):
                    until = max(at, until or at)
        if until is not None:
            status = _status(error)
            count = self.ledger.wait_for_destination(destination.peer, now=now, until=until, status=status)
            log.warning(
                "destination.awaited",
                destination=destination.peer,
                status=status,
                deliveries=count,
                delay_s=round(until - now, 1),
            )

    def _settle(self, delivery: Delivery, destination: Destination, error: Exception) -> None:
        """Record an error for one delivery."""
        now = self.clock()
        with _bound(delivery):
            match self._decide(error, delivery, destination, now):
                case Halt(code):
                    self._halt(delivery, code, error)
                case Retry(at, counts):
                    status = _status(error)
                    self.ledger.postpone_delivery(delivery, until=at, status=status, counts=counts)
                    log.warning(
                        "delivery.postponed",
                        **_named(delivery, error),
                        status=status,
                        attempts=delivery.attempts + counts,
                        delay_s=round(at - now, 1),
                    )

    def _decide(self, error: Exception, delivery: Delivery, destination: Destination, now: float) -> Decision:
        patience = Patience(
            destination.attempts,
            destination.first_retry_s,
            destination.longest_retry_s,
            destination.give_up_after_s,
        )
        return decide(error, delivery, now=now, jitter=self.jitter, patience=patience)

    def _halt(self, delivery: Delivery, code: HaltCode, error: Exception) -> None:
        status = _status(error)
        self.ledger.halt_delivery(delivery, code, now=self.clock(), status=status)
        log.error("delivery.halted", **_named(delivery, error), halt=code, status=status, error=error)


class NotHeld(PeerError):
    """The destination accepted an object with success, and does not have it now."""


class _Unanswered(PeerError):
    """An object got no answer, or no room, where others did: it counts as an attempt of this object."""

    def __init__(self, status: str) -> None:
        self.status = status
        super().__init__(status)


def _is_of_destination(error: Exception) -> bool:
    """True for an outage that came before any object was sent: no association could be opened."""
    return not isinstance(error, AssociationLost | StoreRefused)


def _bound(delivery: Delivery) -> AbstractContextManager[None]:
    return bound_job(
        delivery.job_id,
        study_instance_uid=delivery.study_instance_uid,
        series_instance_uid=delivery.source_series_instance_uid,
    )


def _named(delivery: Delivery, error: Exception) -> dict[str, str]:
    """Return the keys of a delivery for the log: destination, object, and the class that was not accepted."""
    named = {"destination": delivery.destination, "object": delivery.object}
    return named | ({"sop_class_uid": error.abstract_syntax} if isinstance(error, ContextNotAccepted) else {})


def _status(error: Exception) -> str:
    """Return a code for the ledger and the log."""
    match error:
        case StoreRefused():
            return f"0x{error.status:04X}"
        case PeerUnreachable():
            return "UNREACHABLE"
        case ContextNotAccepted(abstract_syntax=scu.FIND):
            return FIND_NOT_ACCEPTED
        case QueryRefused():
            return FIND_FAILED
        case ContextNotAccepted():
            return SYNTAX_NOT_ACCEPTED if error.only_syntax else CLASS_NOT_ACCEPTED
        case AssociationRefused():
            return "ASSOCIATION_REFUSED"
        case NotHeld():
            return "NOT_HELD"
        case FileDamaged():
            return OUTBOX_DAMAGED
        case NotDicom() | FileNotFoundError():
            return OUTBOX_UNREADABLE
        case DestinationGone():
            return "NO_DESTINATION"
        case _Unanswered():
            return error.status
        case PeerError():
            return "PEER_ERROR"
        case _:
            return "UNEXPECTED"
