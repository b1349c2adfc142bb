"""How deliveries are waited for, go on and are given up, within a transaction. Used by the ledger alone."""

from collections.abc import Sequence
from dataclasses import asdict

import sqlalchemy as sa

from daemon.jobs import Delivery, DeliveryState, HaltCode
from daemon.ledger.moves import note
from daemon.ledger.queries import awaits_confirmation
from daemon.ledger.rows import Outgoing
from daemon.ledger.schema import deliveries


def insert_deliveries(connection: sa.Connection, job_id: int, outgoing: Sequence[Outgoing]) -> None:
    """Add the rows of objects that are to be delivered, or kept."""
    for item in outgoing:
        values = asdict(item)
        form = values.pop("form")
        state = DeliveryState.KEPT if values.pop("is_kept") else DeliveryState.PENDING
        connection.execute(sa.insert(deliveries).values(job_id=job_id, state=state, attempts=0, **values, **form))


def wait_for(connection: sa.Connection, destination: str, *, now: float, until: float, status: str) -> int:
    """Put off what is due at a destination before `until`, to be tried together then; how many deliveries.

    Each counts for how long it has been waited for in all, by the waits and not by the clock.
    """
    from_now = sa.case((deliveries.c.not_before > now, deliveries.c.not_before), else_=now)
    waiting = connection.execute(
        sa.update(deliveries)
        .where(
            _undone(destination),
            sa.or_(deliveries.c.not_before.is_(None), deliveries.c.not_before < until),
            sa.or_(deliveries.c.waited_s > 0, deliveries.c.not_before.is_(None), deliveries.c.not_before <= now),
        )
        .values(waited_s=deliveries.c.waited_s + (until - from_now), not_before=until, last_status=status)
    )
    return int(waiting.rowcount)


def resume(connection: sa.Connection, destination: str) -> int:
    """The destination has answered: all that waited for it is due; how many deliveries."""
    resumed = connection.execute(
        sa.update(deliveries).where(_undone(destination), deliveries.c.waited_s > 0).values(waited_s=0, not_before=None)
    )
    return int(resumed.rowcount)


def give_up(connection: sa.Connection, delivery: Delivery, code: HaltCode, *, now: float, status: str) -> None:
    """Halt one delivery, with its event row; what else the job has to send goes on."""
    halted = connection.execute(
        sa.update(deliveries)
        .where(deliveries.c.id == delivery.id, deliveries.c.state == delivery.state)
        .values(state=DeliveryState.FAILED, attempts=delivery.attempts + 1, last_status=status, halt=code)
    )
    if halted.rowcount:
        note(connection, delivery.job_id, "DELIVERY_HALTED", now=now, code=code)


def _undone(destination: str) -> sa.ColumnElement[bool]:
    return sa.and_(
        deliveries.c.destination == destination,
        sa.or_(deliveries.c.state == DeliveryState.PENDING, awaits_confirmation()),
    )
