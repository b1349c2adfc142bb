"""From the outbox to the destinations: C-STORE, then confirmation, each tried again until it works or is given up."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from daemon.configuration.config import Config, Destination
from daemon.jobs import Delivery, DeliveryState, backoff_s
from daemon.ledger.store import Ledger
from daemon.log import bound_job, get_logger
from daemon.spool import Spool
from dicom_io.errors import (
    AssociationRefused,
    ContextNotAccepted,
    DicomIOError,
    NotDicom,
    PeerError,
    PeerUnreachable,
    StoreRefused,
)
from dicom_io.network import scu

log = get_logger()

CLASS_NOT_ACCEPTED, SYNTAX_NOT_ACCEPTED = "CLASS_NOT_ACCEPTED", "SYNTAX_NOT_ACCEPTED"
FIND_NOT_ACCEPTED = "FIND_NOT_ACCEPTED"

ADVICE = {
    CLASS_NOT_ACCEPTED: "The destination does not accept objects of this class: have it accept them, or leave this one "
    "out of `objects`.",
    SYNTAX_NOT_ACCEPTED: "The destination accepts this class of objects, but not the transfer syntax of this one: have "
    "it accept that, or choose another `seg_type`.",
    FIND_NOT_ACCEPTED: "The destination has stored it, and does not answer C-FIND: have it answer, or set "
    '`confirm = "none"`.',
    "ASSOCIATION_REFUSED": "The destination refuses the association: does it know our AE title, host and port, and is "
    "its own AE title right?",
    "UNREACHABLE": "The destination does not answer: are its host and port right, is it running, is there a firewall?",
    "NOT_HELD": "The destination took it with success and does not have it now: look into its own log.",
}
"""What a person can do about a `last_status`."""


@dataclass(frozen=True)
class Deliverer:
    """Sends what the ledger says is due. The bytes in the outbox are sent as they are."""

    config: Config
    spool: Spool
    ledger: Ledger
    clock: Callable[[], float] = time.time
    jitter: Callable[[], float] = random.random

    def deliver_due(self) -> int:
        """Try every delivery that is due, once; how many moved on."""
        moved = 0
        unreachable: dict[str, float] = {}
        for delivery in self.ledger.due_deliveries(now=self.clock()):
            if delivery.destination in unreachable:
                # One try finds out for all: those behind it wait with it, and keep their attempts.
                until = unreachable[delivery.destination]
                self.ledger.postpone_delivery(delivery, until=until, status="UNREACHABLE", counts=False)
                continue
            with bound_job(delivery.job_id):
                try:
                    moved += self._try(delivery)
                except (DicomIOError, FileNotFoundError, KeyError) as error:
                    until = self._failed(delivery, error)
                    if isinstance(error, PeerUnreachable):
                        unreachable[delivery.destination] = until
        return moved

    def _try(self, delivery: Delivery) -> bool:
        destination = self.config.destination(delivery.destination)
        peer = self.config.peer(destination.peer)
        if peer.host is None or peer.port is None:  # the configuration is checked for this; a later one may differ
            raise KeyError(destination.peer)
        remote = scu.Remote(peer.ae_title, peer.host, peer.port)
        ours, timeout_s = self.config.dicom.ae_title, destination.timeout_s
        if delivery.state == DeliveryState.PENDING:
            (status,) = scu.store(remote, [self.spool.root / delivery.path], calling_ae_title=ours, timeout_s=timeout_s)
            self._advance(delivery, DeliveryState.STORED, f"0x{status:04X}")
            return True
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
        return True

    def _advance(self, delivery: Delivery, state: DeliveryState, status: str) -> None:
        self.ledger.advance_delivery(delivery, state, now=self.clock(), status=status)
        log.info(
            "object.stored" if state == DeliveryState.STORED else "object.confirmed",
            destination=delivery.destination,
            object=delivery.object,
            status=status,
        )

    def _failed(self, delivery: Delivery, error: Exception) -> float:
        """Put an attempt that failed into the ledger; the time of the next one, now where there is none."""
        status = _status(error)
        destination = next((d for d in self.config.destinations if d.peer == delivery.destination), None)
        if destination is None or delivery.attempts + 1 >= destination.attempts:
            self.ledger.fail_delivery(delivery, now=self.clock(), status=status)
            log.error("delivery.failed", status=status, **_named(delivery, error))
            return self.clock()
        delay_s = _delay_s(delivery, destination, self.jitter())
        until = self.clock() + delay_s
        self.ledger.postpone_delivery(delivery, until=until, status=status, counts=True)
        log.warning(
            "delivery.postponed",
            **_named(delivery, error),
            status=status,
            attempts=delivery.attempts + 1,
            delay_s=round(delay_s, 1),
        )
        return until


class NotHeld(PeerError):
    """The destination took an object with success and does not know it now."""


def _named(delivery: Delivery, error: Exception) -> dict[str, str]:
    """What the log says of a delivery: where to, what, and the class that was not accepted."""
    named = {"destination": delivery.destination, "object": delivery.object}
    return named | ({"sop_class_uid": error.abstract_syntax} if isinstance(error, ContextNotAccepted) else {})


def _delay_s(delivery: Delivery, destination: Destination, jitter: float) -> float:
    return backoff_s(
        delivery.attempts, first_s=destination.first_retry_s, longest_s=destination.longest_retry_s, jitter=jitter
    )


def _status(error: Exception) -> str:
    """A code for the ledger and the log."""
    match error:
        case StoreRefused():
            return f"0x{error.status:04X}"
        case PeerUnreachable():
            return "UNREACHABLE"
        case ContextNotAccepted(abstract_syntax=scu.FIND):
            return FIND_NOT_ACCEPTED
        case ContextNotAccepted():
            return SYNTAX_NOT_ACCEPTED if error.only_syntax else CLASS_NOT_ACCEPTED
        case AssociationRefused():
            return "ASSOCIATION_REFUSED"
        case NotHeld():
            return "NOT_HELD"
        case NotDicom() | FileNotFoundError():
            return "OUTBOX_UNREADABLE"
        case KeyError():
            return "NO_DESTINATION"
        case _:
            return "PEER_ERROR"
