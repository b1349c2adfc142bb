"""How all stands, in figures, for the console's pages and metrics."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from daemon.jobs import ENDED, DeliveryState, Event, Job, State
from daemon.ledger.queries import awaits_confirmation, job_of
from daemon.ledger.schema import deliveries, events, instances, jobs
from daemon.ledger.searches import STARTED
from daemon.ledger.store import Ledger

LIVE = tuple(state for state in State if state not in ENDED)
LATEST = 2000
"""As many of the last instances, or events, are looked at for a rate, or for a last success."""


@dataclass(frozen=True)
class Cause:
    """Why jobs stand still: a code, of jobs themselves or of their deliveries to a destination; the lowest job."""

    halt: str
    destination: str | None
    jobs: int
    job_id: int


@dataclass(frozen=True)
class Line:
    """How one destination stands: objects that wait or have failed, when the next is tried, the last success."""

    destination: str
    waiting: int = 0
    failed: int = 0
    outage: bool = False
    next_at: float | None = None
    last_status: str | None = None
    last_success_at: float | None = None


@dataclass(frozen=True)
class Working:
    """A job that a worker has, and since when."""

    job: Job
    since: float


class Overview:
    """The figures of a ledger. Raises LedgerUnavailable as it does."""

    def __init__(self, ledger: Ledger) -> None:
        self._reading = ledger.database.reading

    def states(self) -> dict[State, int]:
        """How many jobs are in each state."""
        query = sa.select(jobs.c.state, sa.func.count()).group_by(jobs.c.state)
        with self._reading() as connection:
            counts = {state: count for state, count in connection.execute(query)}
        return {state: counts.get(state, 0) for state in State}

    def causes(self) -> list[Cause]:
        """Why jobs stand still, the most frequent first."""
        of_jobs = (
            sa.select(jobs.c.halt, sa.null().label("destination"), sa.func.count(), sa.func.min(jobs.c.id))
            .where(jobs.c.state.in_(LIVE), jobs.c.halt.is_not(None))
            .group_by(jobs.c.halt)
        )
        failed = (
            sa.select(
                deliveries.c.halt,
                deliveries.c.destination,
                sa.func.count(deliveries.c.job_id.distinct()),
                sa.func.min(deliveries.c.job_id),
            )
            .join_from(deliveries, jobs)
            .where(deliveries.c.state == DeliveryState.FAILED, deliveries.c.halt.is_not(None), jobs.c.state.in_(LIVE))
            .group_by(deliveries.c.halt, deliveries.c.destination)
        )
        with self._reading() as connection:
            queries: tuple[sa.Select[Any], ...] = (of_jobs, failed)
            found = [Cause(*row) for query in queries for row in connection.execute(query)]
        return sorted(found, key=lambda cause: -cause.jobs)

    def lines(self) -> dict[str, Line]:
        """How each destination stands that anything is, or lately was, sent to."""
        undone = sa.or_(deliveries.c.state.in_([DeliveryState.PENDING, DeliveryState.FAILED]), awaits_confirmation())
        failed = sa.case((deliveries.c.state == DeliveryState.FAILED, 1), else_=0)
        waits = (
            sa.select(
                deliveries.c.destination,
                (sa.func.count() - sa.func.sum(failed)).label("waiting"),
                sa.func.sum(failed).label("failed"),
                sa.func.max(deliveries.c.waited_s).label("waited_s"),
                sa.func.min(deliveries.c.not_before).label("next_at"),
                sa.func.max(deliveries.c.last_status).label("last_status"),
            )
            .join_from(deliveries, jobs)
            .where(undone, jobs.c.state.in_(LIVE))
            .group_by(deliveries.c.destination)
        )
        latest = sa.select(events.c.job_id, events.c.at, events.c.event).order_by(events.c.id.desc()).limit(LATEST)
        recent = latest.subquery()
        successes: sa.Select[Any] = (
            sa.select(deliveries.c.destination, sa.func.max(recent.c.at))
            .join_from(deliveries, recent, deliveries.c.job_id == recent.c.job_id)
            .where(
                recent.c.event.in_([Event.DELIVERED, Event.CONFIRMED]),
                deliveries.c.state.not_in([DeliveryState.FAILED, DeliveryState.KEPT]),
            )
            .group_by(deliveries.c.destination)
        )
        with self._reading() as connection:
            last = {name: at for name, at in connection.execute(successes)}
            rows = {row.destination: row for row in connection.execute(waits)}
        return {
            name: Line(
                name,
                int(rows[name].waiting) if name in rows else 0,
                int(rows[name].failed) if name in rows else 0,
                bool(name in rows and rows[name].waited_s),
                rows[name].next_at if name in rows else None,
                rows[name].last_status if name in rows else None,
                last.get(name),
            )
            for name in {**last, **rows}
        }

    def working(self, *, now: float) -> list[Working]:
        """The jobs that a worker has."""
        held = sa.select(jobs).where(jobs.c.state.in_(LIVE), jobs.c.lease.is_not(None), jobs.c.lease_until >= now)
        with self._reading() as connection:
            found = [job_of(row) for row in connection.execute(held.order_by(jobs.c.id))]
            began = sa.select(events.c.job_id, sa.func.max(events.c.at)).where(
                events.c.job_id.in_([job.id for job in found]), events.c.event == STARTED
            )
            since = {job_id: at for job_id, at in connection.execute(began.group_by(events.c.job_id))}
        return [Working(job, since.get(job.id, now)) for job in found]

    def hits(self, *, since: float) -> dict[str | None, int]:
        """How many jobs were opened since then under each rule; under None those that no rule matched yet."""
        query = sa.select(jobs.c.rule, sa.func.count()).where(jobs.c.created_at >= since).group_by(jobs.c.rule)
        with self._reading() as connection:
            return {row[0]: int(row[1]) for row in connection.execute(query)}

    def bytes_a_day(self) -> float | None:
        """How many bytes a day came lately; None where too little did to tell."""
        latest = sa.select(instances.c.bytes, instances.c.received_at).order_by(instances.c.id.desc()).limit(LATEST)
        recent = latest.subquery()
        first_and_last = sa.func.min(recent.c.received_at), sa.func.max(recent.c.received_at)
        query: sa.Select[Any] = sa.select(sa.func.sum(recent.c.bytes), *first_and_last)
        with self._reading() as connection:
            total, first, last = connection.execute(query).one()
        span_s = (last or 0.0) - (first or 0.0)
        return float(total) * 86_400 / span_s if span_s > 3600 else None

    def last_event(self) -> int:
        """The number of the last event: it changes with everything that happens to a job."""
        with self._reading() as connection:
            return int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(events.c.id), 0))).scalar_one())
