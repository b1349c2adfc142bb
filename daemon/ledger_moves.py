"""The moves of a job within a transaction, and rows as values. Used by the ledger alone."""

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from daemon.jobs import Delivery, DeliveryState, Event, Job, State, advance
from daemon.migrations.schema import deliveries, events, jobs


def move_job(
    connection: sa.Connection,
    job_id: int,
    state: State,
    event: Event,
    *,
    now: float,
    values: Mapping[str, Any] | None = None,
    code: str | None = None,
    where: sa.ColumnElement[bool] | None = None,
) -> bool:
    """Change a job's state if it still is `state` (and `where` holds), with its event row; else False."""
    target = advance(state, event)
    moved = connection.execute(
        sa.update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state == state, *([] if where is None else [where]))
        .values(state=target, **(values or {}))
    )
    if not moved.rowcount:
        return False
    note(connection, job_id, event, now=now, from_state=state, to_state=target, code=code)
    return True


def note(
    connection: sa.Connection,
    job_id: int,
    event: str,
    *,
    now: float,
    from_state: str | None = None,
    to_state: str | None = None,
    code: str | None = None,
) -> None:
    """Append an event row."""
    connection.execute(
        sa.insert(events).values(
            job_id=job_id, at=now, event=event, from_state=from_state, to_state=to_state, code=code
        )
    )


def follow_deliveries(connection: sa.Connection, job_id: int, *, now: float) -> None:
    """Move a reported job to where all of its deliveries are; without any it is committed at once."""
    stored = deliveries.c.state.in_([DeliveryState.STORED, DeliveryState.CONFIRMED])
    if not _any_delivery(connection, job_id, sa.not_(stored)):
        move_job(connection, job_id, State.REPORTED, Event.DELIVERED, now=now)
        if not _any_delivery(connection, job_id, awaits_confirmation()):
            move_job(connection, job_id, State.DELIVERED, Event.COMMITTED, now=now)


def awaits_confirmation() -> sa.ColumnElement[bool]:
    """Stored, and to be confirmed."""
    return sa.and_(deliveries.c.state == DeliveryState.STORED, deliveries.c.confirm != "none")


def _any_delivery(connection: sa.Connection, job_id: int, condition: sa.ColumnElement[bool]) -> bool:
    query = sa.select(sa.exists().where(deliveries.c.job_id == job_id, condition))
    return bool(connection.execute(query).scalar_one())


def job_of(row: sa.Row[Any]) -> Job:
    """A row of `jobs` as a value."""
    values = {field: row._mapping[field] for field in Job.__dataclass_fields__}
    return Job(**values | {"state": State(row.state), "warnings": tuple(json.loads(row.warnings))})


def select_deliveries() -> sa.Select[Any]:
    """Deliveries with the study of their job."""
    return sa.select(deliveries, jobs.c.study_instance_uid).join(jobs)


def delivery_of(row: sa.Row[Any]) -> Delivery:
    """A row of `select_deliveries` as a value."""
    values = {field: row._mapping[field] for field in Delivery.__dataclass_fields__}
    return Delivery(**values | {"state": DeliveryState(row.state)})
