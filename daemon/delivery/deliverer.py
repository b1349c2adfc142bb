"""From the outbox to the destinations: sent, then confirmed, each tried again until it works or is given up."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial

from daemon.configuration.config import Config, Destination
from daemon.delivery.archives import Archive, reach, remote_of
from daemon.delivery.statuses import (
    ANSWER_LOST,
    NOT_COMMITTED,
    NotCommitted,
    NotHeld,
    NotReported,
    Unanswered,
    status_code,
)
from daemon.errors import DestinationGone
from daemon.guard import guarded
from daemon.jobs import Decision, Delivery, DeliveryState, Halt, HaltCode, Patience, Retry, decide, is_outage
from daemon.ledger.commitments import ASKED, COMMITTED, Commitments, Reported, take_report
from daemon.ledger.store import Ledger
from daemon.log import bound_job, get_logger
from daemon.storage.integrity import check_file
from daemon.storage.spool import Spool
from dicom_io.errors import AssociationLost, ContextNotAccepted, PeerError, PeerUnreachable, StoreRefused
from dicom_io.network.commitment import (
    MOST_REFERENCES,
    Reference,
    new_transaction_uid,
    read_reference,
    request,
)
from dicom_io.pace import Pace

log = get_logger()


REPORT_S = 2.0
"""How long an association is kept open for the report of a storage commitment; a later one comes on another."""


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
    report_s: float = REPORT_S
    _paces: dict[str, Pace] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        paces = {item.peer: Pace(item.bandwidth_mbit) for item in self.config.destinations if item.bandwidth_mbit}
        object.__setattr__(self, "_paces", paces)

    @property
    def commitments(self) -> Commitments:
        """What the ledger knows of storage commitment."""
        return Commitments(self.ledger)

    def deliver_to(self, destination: Destination) -> int:
        """Try once every delivery that is due at a destination; return how many moved on.

        The first try is a probe: where it finds the destination away or full, all wait, and keep their attempts. So
        they do when two in a row get no answer. One alone, after others had theirs, is itself to blame.
        """
        moved = self._settle_reports(destination)
        if not destination.is_open(self.clock()):
            return moved
        silent: list[tuple[Delivery, Exception]] = []
        due = self.ledger.due_deliveries(now=self.clock(), to=destination.peer)
        to_commit = [delivery for delivery in due if _awaits_commitment(delivery)]
        others = [delivery for delivery in due if not _awaits_commitment(delivery)]
        for delivery, error in self._try_each(others, destination):
            if error is None:
                moved += 1
            elif is_outage(error):
                silent.append((delivery, error))
            else:
                self._settle(delivery, destination, error)
            if silent and (_is_of_destination(silent[-1][1]) or (not moved and len(silent) > 1)):
                self._wait_for(destination, silent[-1][1])
                return moved
        if silent and not moved:
            self._wait_for(destination, silent[0][1])
        elif moved:
            for delivery, error in silent:
                self._settle(delivery, destination, Unanswered(status_code(error)))
            if resumed := self.ledger.resume_destination(destination.peer):
                log.info("destination.resumed", destination=destination.peer, deliveries=resumed)
        for first in range(0, len(to_commit), MOST_REFERENCES):
            moved += self._ask_to_commit(to_commit[first : first + MOST_REFERENCES], destination)
        return moved

    def _try_each(
        self, due: Sequence[Delivery], destination: Destination
    ) -> Iterator[tuple[Delivery, Exception | None]]:
        """Try the first, then as many at a time as the destination takes; give each with its error, in their order."""

        def attempt(delivery: Delivery) -> Exception | None:
            errors: list[Exception] = []
            with _bound(delivery), guarded(errors.append):
                self._try(delivery, destination)
            return errors[0] if errors else None

        first, rest = due[:1], due[1:]
        for delivery in first if destination.associations > 1 else due:
            yield delivery, attempt(delivery)
        if rest and destination.associations > 1:
            with ThreadPoolExecutor(destination.associations, thread_name_prefix=f"to-{destination.peer}") as senders:
                for start in range(0, len(rest), destination.associations):
                    batch = rest[start : start + destination.associations]
                    yield from zip(batch, senders.map(attempt, batch), strict=True)

    def halt_orphans(self) -> None:
        """Halt the deliveries to destinations that are no longer in the configuration."""
        known = [destination.peer for destination in self.config.destinations]
        for delivery in self.ledger.due_deliveries(now=self.clock(), not_to=known):
            with _bound(delivery), guarded(lambda error: log.error("item.failed", error=error)):
                self._halt(delivery, HaltCode.DESTINATION_GONE, DestinationGone(delivery.destination))

    def _ask_to_commit(self, due: Sequence[Delivery], destination: Destination) -> int:
        """Ask a destination to commit itself to objects that it stored; return how many it was asked for.

        Those that it was asked for before, and did not report on, are asked for under a new Transaction UID.
        """
        asked: dict[Reference, Delivery] = {}
        for delivery in due:
            with _bound(delivery), guarded(partial(self._settle, delivery, destination)):
                if delivery.last_status == ASKED and delivery.attempts >= destination.attempts:
                    raise NotReported(f"{destination.peer} did not report on {delivery.attempts} requests")
                asked[read_reference(self.spool.root / delivery.path)] = delivery
        if not asked:
            return 0
        batch, transaction_uid = list(asked.values()), new_transaction_uid()
        failed: list[Exception] = []
        with guarded(failed.append):
            self.commitments.open(transaction_uid, batch, now=self.clock())
            request(
                remote_of(self.config, destination),
                list(asked),
                transaction_uid=transaction_uid,
                calling_ae_title=self.config.dicom.ae_title,
                timeout_s=destination.timeout_s,
                report_s=self.report_s,
                reported=partial(take_report, self.commitments, (destination.peer,), self.clock),
            )
            self.commitments.await_report(batch, until=self.clock() + destination.commitment_s)
            log.info("commitment.requested", destination=destination.peer, deliveries=len(batch))
            return len(batch) + self._settle_reports(destination)
        self.commitments.forget(transaction_uid)
        if is_outage(failed[0]):
            self._wait_for(destination, failed[0])
        else:
            for delivery in batch:
                self._settle(delivery, destination, failed[0])
        return 0

    def _settle_reports(self, destination: Destination) -> int:
        """Act on what a destination has reported since; return for how many objects it was good."""
        confirmed = 0
        for reported in self.commitments.reported(destination.peer):
            delivery = reported.delivery
            with _bound(delivery), guarded(lambda error: log.error("item.failed", error=error)):
                if reported.failure is None:
                    self.commitments.confirm(delivery, now=self.clock())
                    log.info(
                        "object.confirmed", destination=delivery.destination, object=delivery.object, status=COMMITTED
                    )
                    confirmed += 1
                elif not reported.is_latest:
                    self.commitments.drop(reported)
                else:
                    self._send_again(reported, destination)
        return confirmed

    def _send_again(self, reported: Reported, destination: Destination) -> None:
        """Send an object once more that its destination does not keep; give it up after `attempts` of that."""
        delivery, now = reported.delivery, self.clock()
        error = NotCommitted(f"{destination.peer} does not keep what it was sent")
        match self._decide(error, replace(delivery, attempts=delivery.not_committed), destination, now):
            case Halt(code):
                self.commitments.drop(reported)
                self._halt(delivery, code, error)
            case Retry(at):
                self.commitments.send_again(reported, now=now, until=at, status=NOT_COMMITTED)
                log.warning(
                    "delivery.postponed",
                    **_named(delivery, error),
                    status=NOT_COMMITTED,
                    code=reported.failure,
                    attempts=delivery.not_committed + 1,
                    delay_s=round(at - now, 1),
                )

    def _try(self, delivery: Delivery, destination: Destination) -> None:
        archive = reach(self.config, destination, self._paces.get(destination.peer))
        if delivery.state == DeliveryState.PENDING:
            if delivery.last_status == ANSWER_LOST and self._is_there(archive, delivery):
                self._advance(delivery, DeliveryState.STORED, "FOUND")
                return
            path = self.spool.root / delivery.path
            check_file(path, delivery.sha256)
            status = archive.store(path)
            self._advance(delivery, DeliveryState.STORED, f"0x{status:04X}")
            return
        if not archive.holds(**_where(delivery)):
            raise NotHeld(f"{archive} does not hold what it was sent")
        self._advance(delivery, DeliveryState.CONFIRMED, "FOUND")

    @staticmethod
    def _is_there(archive: Archive, delivery: Delivery) -> bool:
        """Whether an object arrived whose answer did not; False where the archive answers no queries."""
        try:
            return archive.holds(**_where(delivery))
        except PeerUnreachable:
            raise
        except PeerError:
            return False

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
            status = status_code(error)
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
                    status = status_code(error)
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
        status = status_code(error)
        self.ledger.halt_delivery(delivery, code, now=self.clock(), status=status)
        log.error("delivery.halted", **_named(delivery, error), halt=code, status=status, error=error)


def _where(delivery: Delivery) -> dict[str, str]:
    keys = ("study_instance_uid", "series_instance_uid", "sop_instance_uid")
    return {key: getattr(delivery, key) for key in keys}


def _awaits_commitment(delivery: Delivery) -> bool:
    return delivery.state == DeliveryState.STORED and delivery.confirm == "commitment"


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
