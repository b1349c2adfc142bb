"""The ledger: what is durably known of instances, series, jobs and deliveries. One transaction a change.

Claims are one statement with a lease; every change of a job's state is `UPDATE ... WHERE state = ?` and an event row
in the same transaction, so that whoever lost the job (to a late slice, to another host) changes nothing.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.util import CommandError
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError

from daemon import sqlite_session
from daemon.errors import LedgerUnavailable, UnknownJob, WrongState
from daemon.jobs import (
    WORKABLE,
    Delivery,
    DeliveryState,
    Event,
    HaltCode,
    Job,
    State,
    opens_revision,
)
from daemon.ledger_moves import (
    awaits_confirmation,
    delivery_of,
    follow_deliveries,
    job_of,
    move_job,
    note,
    select_deliveries,
)
from daemon.migrations.schema import deliveries, events, instances, jobs, series

LEASE_S = 30.0
MIGRATION_LOCK = 0x706F727461  # "porta"
ENDED = (State.COMMITTED, State.REJECTED, State.CANCELLED)


@dataclass(frozen=True)
class Instance:
    """A received instance; `path` is relative to the storage root."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    series_instance_uid: str
    study_instance_uid: str
    calling_ae_title: str
    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Due:
    """A job whose series is due to be closed, as it stood then."""

    job_id: int
    series_instance_uid: str
    calling_ae_title: str
    instances: int


@dataclass(frozen=True)
class Outgoing:
    """An object to be delivered, before the ledger knows it."""

    destination: str
    object: str
    sop_instance_uid: str
    series_instance_uid: str
    path: str
    confirm: str


class Ledger:
    """All reading and writing of the database. Raises LedgerUnavailable when it does not answer or commit."""

    def __init__(self, url: str) -> None:
        self._engine = sa.create_engine(url, pool_pre_ping=not url.startswith("sqlite"), hide_parameters=True)
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", sqlite_session.prepare)
            sa.event.listen(self._engine, "begin", sqlite_session.begin)

    def migrate(self) -> None:
        """Bring the tables to this version's form, one process at a time.

        Raises LedgerUnavailable, also when they are of a later version.
        """
        settings = AlembicConfig()
        settings.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self._transaction() as connection:
            if connection.dialect.name == "postgresql":  # SQLite has taken its one lock already
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            settings.attributes["connection"] = connection
            try:
                command.upgrade(settings, "head")
            except CommandError as error:
                raise LedgerUnavailable("its tables are of a later version of Porta") from error

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def instance(self, sop_instance_uid: str) -> Instance | None:
        """The instance of this UID, if it was received."""
        with self._reading() as connection:
            row = connection.execute(
                sa.select(instances, series.c.study_instance_uid, series.c.calling_ae_title)
                .join(series)
                .where(instances.c.sop_instance_uid == sop_instance_uid)
            ).one_or_none()
        return Instance(**{field: row._mapping[field] for field in Instance.__dataclass_fields__}) if row else None

    def record_instance(self, instance: Instance, *, now: float) -> bool:
        """Commit a new instance to its series and job; False when its UID was there already.

        The first instance opens the job of the series; a late one reopens it, or opens its next revision.
        """
        try:
            with self._transaction() as connection:
                self._count_in_series(connection, instance, now)
                connection.execute(
                    sa.insert(instances).values(
                        {column.name: getattr(instance, column.name, now) for column in instances.c}
                    )
                )
                self._open_job(connection, instance, now)
        except IntegrityError:
            return False
        return True

    def _count_in_series(self, connection: sa.Connection, instance: Instance, now: float) -> None:
        insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        connection.execute(
            insert(series)
            .values(
                series_instance_uid=instance.series_instance_uid,
                study_instance_uid=instance.study_instance_uid,
                calling_ae_title=instance.calling_ae_title,
                instances=1,
                last_received_at=now,
            )
            .on_conflict_do_update(
                index_elements=["series_instance_uid"],
                set_={"instances": series.c.instances + 1, "last_received_at": now},
            )
        )

    def _open_job(self, connection: sa.Connection, instance: Instance, now: float) -> None:
        row = connection.execute(
            sa.select(jobs.c.id, jobs.c.state, jobs.c.revision)
            .where(jobs.c.series_instance_uid == instance.series_instance_uid)
            .order_by(jobs.c.revision.desc())
            .limit(1)
            .with_for_update()
        ).one_or_none()
        state = State(row.state) if row else None
        if row and state == State.RECEIVING:
            connection.execute(sa.update(jobs).where(jobs.c.id == row.id).values(instances=jobs.c.instances + 1))
        elif row and state == State.CANCELLED:
            return
        elif row and state and not opens_revision(state):
            # What was learned of fewer slices, be it a warning, a reason or a failure, says nothing of these.
            values = {
                "instances": jobs.c.instances + 1,
                "lease": None,
                "lease_until": None,
                "reject_reason": None,
                "attempts": 0,
                "not_before": None,
                "halt": None,
                "warnings": "[]",
            }
            move_job(connection, row.id, state, Event.LATE_INSTANCE, now=now, values=values)
        else:
            count = sa.select(series.c.instances).where(series.c.series_instance_uid == instance.series_instance_uid)
            job_id = connection.execute(
                sa.insert(jobs)
                .values(
                    series_instance_uid=instance.series_instance_uid,
                    study_instance_uid=instance.study_instance_uid,
                    revision=row.revision + 1 if row else 1,
                    calling_ae_title=instance.calling_ae_title,
                    priority=0,
                    state=State.RECEIVING,
                    attempts=0,
                    instances=count.scalar_subquery(),
                    warnings="[]",
                    created_at=now,
                )
                .returning(jobs.c.id)
            ).scalar_one()
            note(connection, job_id, "OPENED", now=now, to_state=State.RECEIVING)

    def release_series(self, series_instance_uids: Sequence[str], *, now: float) -> None:
        """The last association that brought instances of these series has ended."""
        with self._transaction() as connection:
            connection.execute(
                sa.update(series).where(series.c.series_instance_uid.in_(series_instance_uids)).values(released_at=now)
            )

    def due_series(
        self, *, now: float, quiet_s: float, released_quiet_s: float, listening_since: float = 0.0
    ) -> list[Due]:
        """Jobs in RECEIVING whose series has been quiet for long enough.

        A service that was down could not hear a sender: its silence counts from `listening_since` on.
        """
        quiet = sa.and_(series.c.last_received_at <= now - quiet_s, sa.literal(listening_since <= now - quiet_s))
        released = sa.and_(
            series.c.released_at >= series.c.last_received_at, series.c.released_at <= now - released_quiet_s
        )
        with self._reading() as connection:
            rows = connection.execute(
                sa.select(jobs.c.id, jobs.c.series_instance_uid, jobs.c.calling_ae_title, jobs.c.instances)
                .join(series)
                .where(jobs.c.state == State.RECEIVING, jobs.c.halt.is_(None), sa.or_(quiet, released))
                .order_by(jobs.c.id)
            ).all()
        return [Due(*row) for row in rows]

    def close_series(
        self, due: Due, *, now: float, rule: str | None, priority: int = 0, reject_reason: str | None = None
    ) -> bool:
        """RECEIVING to RECEIVED, or to REJECTED with a reason; False when another instance came meanwhile."""
        event = Event.REJECTED if reject_reason else Event.CLOSED
        values = {"rule": rule, "priority": priority, "reject_reason": reject_reason}
        with self._transaction() as connection:
            return move_job(
                connection,
                due.job_id,
                State.RECEIVING,
                event,
                now=now,
                values=values,
                code=reject_reason,
                where=jobs.c.instances == due.instances,
            )

    def instance_paths(self, series_instance_uid: str) -> list[str]:
        """Paths, relative to the storage root, of a series' instances, in the order of their UIDs."""
        with self._reading() as connection:
            return list(
                connection.execute(
                    sa.select(instances.c.path)
                    .where(instances.c.series_instance_uid == series_instance_uid)
                    .order_by(instances.c.sop_instance_uid)
                ).scalars()
            )

    def claim_job(self, lease: str, *, now: float) -> Job | None:
        """Take the most urgent job that a worker can go on with, for LEASE_S seconds; None when there is none.

        A worker that asks holds nothing: a job still under its lease is one that it could not give back.
        """
        waiting = (
            sa.select(jobs.c.id)
            .where(
                jobs.c.state.in_(WORKABLE),
                jobs.c.halt.is_(None),
                sa.or_(jobs.c.not_before.is_(None), jobs.c.not_before <= now),
                sa.or_(jobs.c.lease_until.is_(None), jobs.c.lease_until < now, jobs.c.lease == lease),
            )
            .order_by(jobs.c.priority.desc(), jobs.c.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        with self._transaction() as connection:
            row = connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == waiting.scalar_subquery())
                .values(lease=lease, lease_until=now + LEASE_S)
                .returning(jobs)
            ).one_or_none()
        return job_of(row) if row else None

    def renew_lease(self, lease: str, *, now: float) -> None:
        """The heartbeat of the worker that holds `lease`."""
        with self._transaction() as connection:
            connection.execute(sa.update(jobs).where(jobs.c.lease == lease).values(lease_until=now + LEASE_S))

    def free_leases(self, host: str) -> int:
        """Free what workers of this host held when the service ended; costs no attempt."""
        with self._transaction() as connection:
            freed = connection.execute(
                sa.update(jobs)
                .where(jobs.c.lease.startswith(f"{host}/", autoescape=True))
                .values(lease=None, lease_until=None)
            )
        return int(freed.rowcount)

    def finish_stage(
        self,
        job: Job,
        event: Event,
        *,
        now: float,
        warnings: Sequence[str] = (),
        reject_reason: str | None = None,
        outgoing: Sequence[Outgoing] = (),
    ) -> bool:
        """Move a claimed job on and give its lease back; False when the job is no longer ours or elsewhere."""
        values: dict[str, Any] = {
            "lease": None,
            "lease_until": None,
            "attempts": 0,
            "not_before": None,
            "warnings": json.dumps(list(dict.fromkeys([*job.warnings, *warnings]))),
            "reject_reason": reject_reason,
        }
        with self._transaction() as connection:
            moved = move_job(
                connection,
                job.id,
                job.state,
                event,
                now=now,
                values=values,
                code=reject_reason,
                where=jobs.c.lease == job.lease,
            )
            if moved:
                for item in outgoing:
                    connection.execute(
                        sa.insert(deliveries).values(
                            job_id=job.id, state=DeliveryState.PENDING, attempts=0, **item.__dict__
                        )
                    )
                if event == Event.REPORTED:
                    follow_deliveries(connection, job.id, now=now)
        return moved

    def postpone(self, job: Job, *, now: float, until: float, code: str, counts: bool) -> None:
        """Give a claimed job back, to be tried again; `counts` says whether this was an attempt."""
        values = {"not_before": until, "attempts": job.attempts + int(counts)}
        self._give_back(job, "POSTPONED", now=now, code=code, values=values)

    def halt(self, job: Job, code: HaltCode, *, now: float) -> None:
        """Give a claimed job back, to stand still until `retry`."""
        self._give_back(job, "HALTED", now=now, code=code, values={"halt": code, "attempts": job.attempts + 1})

    def _give_back(self, job: Job, event: str, *, now: float, code: str, values: Mapping[str, Any]) -> None:
        with self._transaction() as connection:
            given = connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == job.id, jobs.c.state == job.state, jobs.c.lease == job.lease)
                .values(lease=None, lease_until=None, **values)
            )
            if given.rowcount:
                note(connection, job.id, event, now=now, from_state=job.state, code=code)

    def due_deliveries(self, *, now: float) -> list[Delivery]:
        """Objects that are to be stored or confirmed now, oldest first."""
        with self._reading() as connection:
            rows = connection.execute(
                select_deliveries()
                .where(
                    sa.or_(deliveries.c.state == DeliveryState.PENDING, awaits_confirmation()),
                    jobs.c.state.in_([State.REPORTED, State.DELIVERED]),
                    jobs.c.halt.is_(None),
                    sa.or_(deliveries.c.not_before.is_(None), deliveries.c.not_before <= now),
                )
                .order_by(deliveries.c.id)
            ).all()
        return [delivery_of(row) for row in rows]

    def deliveries_of(self, job_id: int) -> list[Delivery]:
        """All deliveries of a job."""
        with self._reading() as connection:
            rows = connection.execute(
                select_deliveries().where(deliveries.c.job_id == job_id).order_by(deliveries.c.id)
            )
            return [delivery_of(row) for row in rows]

    def advance_delivery(
        self, delivery: Delivery, state: DeliveryState, *, now: float, status: str, not_before: float | None = None
    ) -> None:
        """Move a delivery on, and its job with it once all of its deliveries are as far."""
        with self._transaction() as connection:
            # One at a time: of two that advance the last two deliveries at once, neither would see the other's.
            connection.execute(sa.select(jobs.c.id).where(jobs.c.id == delivery.job_id).with_for_update())
            moved = connection.execute(
                sa.update(deliveries)
                .where(deliveries.c.id == delivery.id, deliveries.c.state == delivery.state)
                .values(state=state, attempts=0, last_status=status, not_before=not_before)
            )
            if moved.rowcount:
                follow_deliveries(connection, delivery.job_id, now=now)

    def postpone_delivery(self, delivery: Delivery, *, until: float, status: str, counts: bool) -> None:
        """The next attempt is not before `until`; `counts` says whether there was one that failed."""
        with self._transaction() as connection:
            connection.execute(
                sa.update(deliveries)
                .where(deliveries.c.id == delivery.id)
                .values(attempts=delivery.attempts + int(counts), not_before=until, last_status=status)
            )

    def fail_delivery(self, delivery: Delivery, *, now: float, status: str) -> None:
        """The attempts are used up: the delivery has failed, and its job halts if it has not ended meanwhile."""
        with self._transaction() as connection:
            connection.execute(
                sa.update(deliveries)
                .where(deliveries.c.id == delivery.id)
                .values(state=DeliveryState.FAILED, attempts=delivery.attempts + 1, last_status=status)
            )
            halted = connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == delivery.job_id, jobs.c.state.not_in(ENDED))
                .values(halt=HaltCode.DELIVERY_FAILED)
            )
            if halted.rowcount:
                note(connection, delivery.job_id, "HALTED", now=now, code=HaltCode.DELIVERY_FAILED)

    def all_jobs(self) -> list[Job]:
        """Every job, oldest first."""
        with self._reading() as connection:
            return [job_of(row) for row in connection.execute(sa.select(jobs).order_by(jobs.c.id))]

    def job(self, job_id: int) -> Job:
        """One job. Raises UnknownJob."""
        with self._reading() as connection:
            row = connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).one_or_none()
        if row is None:
            raise UnknownJob(job_id)
        return job_of(row)

    def history(self, job_id: int) -> list[dict[str, Any]]:
        """The events of a job, oldest first."""
        with self._reading() as connection:
            rows = connection.execute(sa.select(events).where(events.c.job_id == job_id).order_by(events.c.id))
            return [dict(row._mapping) for row in rows]

    def retry(self, job_id: int, *, now: float) -> None:
        """Clear the halt of a job and of its failed deliveries. Raises UnknownJob, WrongState when it has none."""
        job = self.job(job_id)
        if job.halt is None:
            raise WrongState(job_id, job.state, "retry")
        with self._transaction() as connection:
            connection.execute(
                sa.update(jobs).where(jobs.c.id == job_id).values(halt=None, attempts=0, not_before=None)
            )
            connection.execute(
                sa.update(deliveries)
                .where(deliveries.c.job_id == job_id, deliveries.c.state == DeliveryState.FAILED)
                .values(state=DeliveryState.PENDING, attempts=0, not_before=None)
            )
            note(connection, job_id, "RETRIED", now=now, from_state=job.state)

    def cancel(self, job_id: int, *, now: float) -> None:
        """End a job. Raises UnknownJob, WrongState when it has ended."""
        job = self.job(job_id)
        if job.state in ENDED:
            raise WrongState(job_id, job.state, "cancel")
        with self._transaction() as connection:
            values = {"lease": None, "lease_until": None, "halt": None}
            if not move_job(connection, job_id, job.state, Event.CANCELLED, now=now, values=values):
                raise WrongState(job_id, job.state, "cancel")

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        """One consistent view; on SQLite it does not wait for a writer, nor make one wait."""
        with self._transaction(begin="BEGIN") as connection:
            yield connection

    @contextmanager
    def _transaction(self, *, begin: str = "BEGIN IMMEDIATE") -> Iterator[sa.Connection]:
        try:
            with self._engine.connect().execution_options(begin=begin) as connection, connection.begin():
                yield connection
        except IntegrityError:
            raise
        except (DBAPIError, sa.exc.TimeoutError) as error:
            # The driver's message may quote statements; the type is enough.
            raise LedgerUnavailable(type(error).__name__) from None
