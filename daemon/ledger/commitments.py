"""Requests for storage commitment, and the reports on them: which delivery waits for which, and what was said.

A request that nobody reported on in time is made again under a new Transaction UID. A report on any of them that says
that an object is kept counts, however late; one that says that it is not counts of the latest request alone.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from daemon.errors import LedgerUnavailable
from daemon.jobs import Delivery, DeliveryState
from daemon.ledger.moves import follow_deliveries, note
from daemon.ledger.queries import delivery_of, select_deliveries
from daemon.ledger.schema import commitments, deliveries, jobs
from daemon.ledger.store import Ledger
from daemon.log import get_logger
from dicom_io.network.commitment import PROCESSING_FAILURE, SUCCESS, Report

log = get_logger()

ASKED = "COMMITMENT_ASKED"
"""The `last_status` of a delivery that waits for a report."""

COMMITTED = "COMMITTED"


@dataclass(frozen=True)
class Reported:
    """What was said of one delivery; `failure` is a code (0xNNNN), None where the destination keeps the object."""

    id: int
    delivery: Delivery
    failure: str | None
    is_latest: bool


class Commitments:
    """What the ledger knows of storage commitment. Raises LedgerUnavailable as the ledger does."""

    def __init__(self, ledger: Ledger) -> None:
        self._reading, self._transaction = ledger.database.reading, ledger.database.transaction

    def open(self, transaction_uid: str, batch: Sequence[Delivery], *, now: float) -> None:
        """Note a request that is about to be made: its report may come before its answer."""
        rows = [{"transaction_uid": transaction_uid, "delivery_id": item.id, "requested_at": now} for item in batch]
        with self._transaction() as connection:
            connection.execute(sa.insert(commitments), rows)

    def forget(self, transaction_uid: str) -> None:
        """Remove a request that the destination did not take."""
        with self._transaction() as connection:
            connection.execute(sa.delete(commitments).where(commitments.c.transaction_uid == transaction_uid))

    def await_report(self, batch: Sequence[Delivery], *, until: float) -> None:
        """The destination has taken a request: its report is waited for; each request counts as an attempt."""
        with self._transaction() as connection:
            connection.execute(
                sa.update(deliveries)
                .where(deliveries.c.id.in_([item.id for item in batch]), deliveries.c.state == DeliveryState.STORED)
                .values(attempts=deliveries.c.attempts + 1, not_before=until, waited_s=0, last_status=ASKED)
            )

    def report(
        self, transaction_uid: str, failures: Mapping[str, str | None], *, destinations: Collection[str], now: float
    ) -> int:
        """Note what one of these destinations reports, by SOP Instance UID; return for how many objects.

        None of a request that is not known, or that another destination was sent.
        """
        theirs = (
            sa.select(commitments.c.id, deliveries.c.sop_instance_uid)
            .join(deliveries)
            .where(
                commitments.c.transaction_uid == transaction_uid,
                deliveries.c.destination.in_(destinations),
                deliveries.c.sop_instance_uid.in_(failures),
            )
        )
        with self._transaction() as connection:
            rows = connection.execute(theirs).all()
            for row in rows:
                connection.execute(
                    sa.update(commitments)
                    .where(commitments.c.id == row.id)
                    .values(reported_at=now, failure=failures[row.sop_instance_uid])
                )
        return len(rows)

    def reported(self, destination: str) -> list[Reported]:
        """What a destination reported and nobody has acted on; of requests that came to nothing too, if it is good."""
        later = commitments.alias()
        is_later = sa.and_(later.c.delivery_id == commitments.c.delivery_id, later.c.id > commitments.c.id)
        columns = (
            commitments.c.id.label("request_id"),
            commitments.c.failure,
            sa.not_(sa.exists().where(is_later)).label("is_latest"),
        )
        given_up = sa.and_(deliveries.c.state == DeliveryState.FAILED, commitments.c.failure.is_(None))
        query = (
            select_deliveries()
            .add_columns(*columns)
            .join(commitments, commitments.c.delivery_id == deliveries.c.id)
            .where(
                deliveries.c.destination == destination,
                commitments.c.reported_at.is_not(None),
                sa.or_(deliveries.c.state == DeliveryState.STORED, given_up),
            )
            .order_by(commitments.c.id)
        )
        said = sa.select(sa.exists().where(commitments.c.reported_at.is_not(None)))
        with self._reading() as connection:
            if not connection.execute(said).scalar_one():  # nearly always: each destination asks twice a second
                return []
            return [
                Reported(row.request_id, delivery_of(row), row.failure, bool(row.is_latest))
                for row in connection.execute(query)
            ]

    def confirm(self, delivery: Delivery, *, now: float) -> None:
        """The destination keeps the object: its delivery is CONFIRMED, and no further report on it matters."""
        values = {"state": DeliveryState.CONFIRMED, "attempts": 0, "not_before": None, "waited_s": 0, "halt": None}
        with self._transaction() as connection:
            connection.execute(sa.select(jobs.c.id).where(jobs.c.id == delivery.job_id).with_for_update())
            moved = connection.execute(
                sa.update(deliveries)
                .where(deliveries.c.id == delivery.id, deliveries.c.state == delivery.state)
                .values(last_status=COMMITTED, **values)
            )
            connection.execute(sa.delete(commitments).where(commitments.c.delivery_id == delivery.id))
            if moved.rowcount:
                follow_deliveries(connection, delivery.job_id, now=now)

    def drop(self, reported: Reported) -> None:
        """Forget a report that says nothing any more."""
        with self._transaction() as connection:
            connection.execute(sa.delete(commitments).where(commitments.c.id == reported.id))

    def send_again(self, reported: Reported, *, now: float, until: float, status: str) -> None:
        """The destination does not keep the object: it is PENDING again, alone, and due at `until`."""
        delivery = reported.delivery
        values = {"state": DeliveryState.PENDING, "attempts": 0, "not_before": until, "last_status": status}
        with self._transaction() as connection:
            moved = connection.execute(
                sa.update(deliveries)
                .where(deliveries.c.id == delivery.id, deliveries.c.state == DeliveryState.STORED)
                .values(not_committed=deliveries.c.not_committed + 1, **values)
            )
            connection.execute(sa.delete(commitments).where(commitments.c.id == reported.id))
            if moved.rowcount:
                note(connection, delivery.job_id, status, now=now, code=reported.failure)


def take_report(
    commitments: Commitments, destinations: Collection[str], clock: Callable[[], float], report: Report
) -> int:
    """Write down what one of these destinations reports; return the status to answer (PS3.7 section 10.1.1.1.8).

    A report on nothing that is waited for is answered with success: it was heard, and may be of long ago.
    """
    failures = {uid: None if code is None else f"0x{code:04X}" for uid, code in report.failures.items()}
    try:
        count = commitments.report(report.transaction_uid, failures, destinations=destinations, now=clock())
    except LedgerUnavailable as error:
        log.warning("commitment.lost", error=error)
        return PROCESSING_FAILURE
    failed = sum(failure is not None for failure in failures.values())
    log.info("commitment.reported", deliveries=count, count=len(failures), missing=failed)
    return SUCCESS
