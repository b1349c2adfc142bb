"""Which series are done, so that their files may go; and what the ledger says once they have gone, or came back.

Rows stay: what is sent again is known by its sha256, revisions are counted on, UIDs stay as they were.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from daemon.jobs import OUT, CorrectionState, DeliveryState, ShadowState, State
from daemon.ledger.by_hand import REMOVED
from daemon.ledger.database import Database
from daemon.ledger.moves import note
from daemon.ledger.queries import awaits_confirmation
from daemon.ledger.rows import Instance, Tombstone
from daemon.ledger.schema import (
    commitments,
    corrections,
    deliveries,
    events,
    instances,
    jobs,
    refusals,
    series,
    shadows,
)

UNDONE = (State.RECEIVING, State.RECEIVED, State.SEGMENTED, State.REFUSED, State.REPORTED)


class Outcome(StrEnum):
    """What became of a series that is done: of these the first that any of its jobs has."""

    KEPT = "KEPT"
    DELIVERED = "DELIVERED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"


@dataclass(frozen=True)
class Done:
    """A series that nothing is to be done about any more, with the images that are here and the jobs with results.

    `ended_at`: when the last thing happened to it, or the last of its images came. `bytes` are those of its images.
    """

    series_instance_uid: str
    outcome: Outcome
    ended_at: float
    instances: int
    bytes: int
    job_ids: tuple[int, ...]


@dataclass(frozen=True)
class Remains:
    """What is removed of a series: the paths of images, relative to the storage root, and whose results."""

    paths: tuple[str, ...]
    job_ids: tuple[int, ...]


@dataclass(frozen=True)
class Forgotten:
    """How many rows of the past are, or were, removed."""

    events: int
    commitments: int
    shadows: int
    refusals: int


def done_series(database: Database) -> list[Done]:
    """List what is done and not removed, that first which ended first. A study with a job that is not done has none.

    Nor is a series done that a person has corrected: it is a case to train on.
    """
    with database.reading() as connection:
        return _done(connection)


def received_bytes(database: Database) -> int:
    """Return how much the images that are here take up."""
    query = sa.select(sa.func.sum(instances.c.bytes)).where(instances.c.removed_at.is_(None))
    with database.reading() as connection:
        return int(connection.execute(query).scalar_one() or 0)


def file_counts(database: Database) -> dict[str, int]:
    """Return how many files the spool should hold of each series of which anything came."""
    here = sa.func.sum(sa.case((instances.c.removed_at.is_(None), 1), else_=0))
    query = sa.select(instances.c.series_instance_uid, here).group_by(instances.c.series_instance_uid)
    with database.reading() as connection:
        return {uid: int(count) for uid, count in connection.execute(query)}


def remove(database: Database, done: Done, *, now: float, keep: Callable[[Tombstone], None]) -> bool:
    """Record that the files of a series are removed; False where anything has happened to it since.

    `keep` makes the tombstone durable before this is committed: a ledger that is lost later is made anew with it.
    """
    uid = done.series_instance_uid
    with database.transaction() as connection:
        # In the order of a late instance: first the series, then its jobs
        connection.execute(sa.select(series).where(series.c.series_instance_uid == uid).with_for_update())
        of_series = sa.select(jobs.c.id).where(jobs.c.series_instance_uid == uid)
        connection.execute(of_series.order_by(jobs.c.revision).with_for_update())
        if _done(connection, uid) != [done]:
            return False
        for table in (instances, jobs):
            here = sa.and_(table.c.series_instance_uid == uid, table.c.removed_at.is_(None))
            connection.execute(sa.update(table).where(here).values(removed_at=now))
        for job_id in done.job_ids:
            note(connection, job_id, REMOVED, now=now)
        keep(Tombstone(uid, now, _rows_of(connection, uid)))
    return True


def remains_of(database: Database, series_instance_uid: str) -> Remains:
    """Return what the ledger says is removed of a series: its files may be there still, where a kill came before."""
    with database.reading() as connection:
        gone = [
            connection.execute(
                sa.select(column).where(
                    column.table.c.series_instance_uid == series_instance_uid,
                    column.table.c.removed_at.is_not(None),
                )
            ).scalars()
            for column in (instances.c.path, jobs.c.id)
        ]
        return Remains(*map(tuple, gone))


def bring_back(database: Database, instance: Instance, *, path: str, now: float) -> None:
    """Record that an instance whose file was removed came again and is kept; a job that missed it goes on.

    It is waited for the others as for new ones.
    """
    key = "series_instance_uid", "sop_instance_uid", "version"
    uid = instance.series_instance_uid
    with database.transaction() as connection:
        connection.execute(sa.update(series).where(series.c.series_instance_uid == uid).values(last_received_at=now))
        same = [instances.c[name] == getattr(instance, name) for name in key]
        values = {"path": path, "removed_at": None, "received_at": now}
        connection.execute(sa.update(instances).where(*same).values(values))
        misses = sa.and_(jobs.c.series_instance_uid == uid, jobs.c.state == State.RECEIVING)
        connection.execute(sa.update(jobs).where(misses).values(halt=None, attempts=0, not_before=None))


def forget(database: Database, *, before: float, dry: bool = False) -> Forgotten:
    """Remove the history of what was removed before a time, and refusals that are as old; `dry`: count them alone."""
    gone = sa.select(jobs.c.id).where(jobs.c.removed_at < before)
    sent = sa.select(deliveries.c.id).where(deliveries.c.job_id.in_(gone))
    old = {
        events: events.c.job_id.in_(gone),
        commitments: commitments.c.delivery_id.in_(sent),
        shadows: shadows.c.job_id.in_(gone),
        refusals: refusals.c.last_at < before,
    }
    with database.reading() if dry else database.transaction() as connection:
        counts = []
        for table, condition in old.items():
            count = sa.select(sa.func.count()).select_from(table).where(condition)
            counts.append(int(connection.execute(count).scalar_one()))
            if counts[-1] and not dry:
                connection.execute(sa.delete(table).where(condition))
    return Forgotten(*counts)


def _done(connection: sa.Connection, series_instance_uid: str | None = None) -> list[Done]:
    """List what is done and not removed: all, or what this series has."""

    def meant(table: sa.FromClause) -> sa.ColumnElement[bool]:
        return sa.true() if series_instance_uid is None else table.c.series_instance_uid == series_instance_uid

    here = (
        sa.select(
            instances.c.series_instance_uid,
            sa.func.count().label("images"),
            sa.func.sum(instances.c.bytes).label("bytes"),
            sa.func.max(instances.c.received_at).label("received_at"),
        )
        .where(meant(instances), instances.c.removed_at.is_(None))
        .group_by(instances.c.series_instance_uid)
        .subquery()
    )
    last = sa.select(sa.func.max(events.c.at)).where(events.c.job_id == jobs.c.id).scalar_subquery()
    kept = sa.exists().where(deliveries.c.job_id == jobs.c.id, deliveries.c.state == DeliveryState.KEPT)
    other, theirs = jobs.alias(), jobs.alias()
    at_work = sa.exists().where(
        theirs.c.series_instance_uid == jobs.c.series_instance_uid,
        other.c.study_instance_uid == theirs.c.study_instance_uid,
        _is_undone(other),
    )
    corrected = sa.exists().where(
        corrections.c.series_instance_uid == jobs.c.series_instance_uid,
        corrections.c.state != CorrectionState.FAILED,
    )
    query = (
        sa.select(
            jobs.c.series_instance_uid,
            jobs.c.id,
            jobs.c.state,
            jobs.c.created_at,
            jobs.c.removed_at,
            last.label("last"),
            kept.label("kept"),
            here.c.images,
            here.c.bytes,
            here.c.received_at,
        )
        .outerjoin(here, here.c.series_instance_uid == jobs.c.series_instance_uid)
        .where(meant(jobs), ~at_work, ~corrected)
        .order_by(jobs.c.id)
    )
    rows: dict[str, list[sa.Row[Any]]] = {}
    for row in connection.execute(query):
        rows.setdefault(row.series_instance_uid, []).append(row)
    found = [_as_done(uid, of_one) for uid, of_one in rows.items()]
    return sorted(filter(lambda done: done.instances or done.job_ids, found), key=lambda done: done.ended_at)


def _as_done(uid: str, rows: list[sa.Row[Any]]) -> Done:
    first = rows[0]
    states = {State(row.state) for row in rows}
    outcome = Outcome.CANCELLED if State.CANCELLED in states else Outcome.REJECTED
    outcome = Outcome.DELIVERED if states & set(OUT) else outcome
    outcome = Outcome.KEPT if any(row.kept for row in rows) else outcome
    return Done(
        uid,
        outcome,
        max(first.received_at or 0.0, *(row.last or row.created_at for row in rows)),
        first.images or 0,
        int(first.bytes or 0),
        tuple(row.id for row in rows if row.removed_at is None),
    )


def _is_undone(table: sa.FromClause) -> sa.ColumnElement[bool]:
    """Halted, at work, or with something that is to be delivered, confirmed or compared; `table` is an alias of jobs.

    A person who cancelled a job has nothing of it delivered any more.
    """
    of_job = deliveries.c.job_id == table.c.id
    open_states = deliveries.c.state.in_([DeliveryState.PENDING, DeliveryState.FAILED])
    undelivered = sa.exists().where(of_job, sa.or_(open_states, awaits_confirmation()))
    uncompared = sa.exists().where(shadows.c.job_id == table.c.id, shadows.c.state == ShadowState.PENDING)
    return sa.or_(
        table.c.halt.is_not(None),
        table.c.state.in_(UNDONE),
        sa.and_(table.c.state != State.CANCELLED, undelivered),
        uncompared,
    )


def _rows_of(connection: sa.Connection, series_instance_uid: str) -> dict[str, list[dict[str, Any]]]:
    """Return all that is said of a series, but for what happened to it."""
    queries = {
        table.name: sa.select(table).where(table.c.series_instance_uid == series_instance_uid).order_by(table.c[key])
        for table, key in ((series, "series_instance_uid"), (instances, "id"), (jobs, "id"))
    }
    of_jobs = sa.select(jobs.c.id).where(jobs.c.series_instance_uid == series_instance_uid)
    queries["deliveries"] = sa.select(deliveries).where(deliveries.c.job_id.in_(of_jobs)).order_by(deliveries.c.id)
    return {name: [dict(row._mapping) for row in connection.execute(query)] for name, query in queries.items()}
