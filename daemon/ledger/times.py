"""The times that the ledger waits for, moved when the wall clock has jumped, and bounded by what is waited at most."""

from collections.abc import Sequence

import sqlalchemy as sa

from daemon.jobs import WORKABLE, CorrectionState, DeliveryState, ShadowState, State
from daemon.ledger.database import Database
from daemon.ledger.schema import corrections, deliveries, jobs, series, shadows

DUE: Sequence[tuple[sa.Table, str, Sequence[str]]] = (
    (jobs, "not_before", (State.RECEIVING, *WORKABLE)),
    (jobs, "lease_until", WORKABLE),
    (deliveries, "not_before", (DeliveryState.PENDING, DeliveryState.STORED)),
    (shadows, "not_before", (ShadowState.PENDING,)),
    (corrections, "not_before", (CorrectionState.PENDING,)),
)
"""What comes due at a time, in which states of its row."""
HEARD: Sequence[str] = ("last_received_at", "released_at", "expected_at")
"""When something was last heard of a series."""


def move_times(database: Database, jump_s: float) -> None:
    """Move all that is waited for, and all since when a series is waited for, by a jump of the wall clock."""
    with database.transaction() as connection:
        for table, name, states in DUE:
            moved = {name: table.c[name] + jump_s}
            is_due = sa.and_(table.c.state.in_(states), table.c[name].is_not(None))
            connection.execute(sa.update(table).where(is_due).values(moved))
        heard = {name: series.c[name] + jump_s for name in HEARD}
        connection.execute(sa.update(series).where(_is_coming()).values(heard))


def bound_times(database: Database, *, now: float, longest_s: float) -> int:
    """Take back what lies further ahead than anything is waited for; return how many rows.

    So it does when the wall clock was set back while the service was down, or for who wrote as it was being set.
    """
    latest, rows = now + longest_s, 0
    with database.transaction() as connection:
        for table, name, states in DUE:
            is_late = sa.and_(table.c.state.in_(states), table.c[name] > latest)
            rows += connection.execute(sa.update(table).where(is_late).values({name: latest})).rowcount
        for name in HEARD:
            is_late = sa.and_(_is_coming(), series.c[name] > now)
            rows += connection.execute(sa.update(series).where(is_late).values({name: now})).rowcount
    return rows


def _is_coming() -> sa.ColumnElement[bool]:
    coming = sa.select(jobs.c.series_instance_uid).where(jobs.c.state == State.RECEIVING)
    return series.c.series_instance_uid.in_(coming)
