"""Which jobs an administrator means, as a question to the tables. Used by the ledger alone."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from daemon.errors import BadRequest
from daemon.jobs import ENDED, WORKABLE, DeliveryState, Event, State
from daemon.ledger.by_hand import is_stalled
from daemon.ledger.queries import is_to_be_worked_on
from daemon.ledger.schema import deliveries, events, instances, jobs, series

STARTED = "STARTED"
"""The event of a worker that begins with a stage of a job."""

HALTED = "HALTED"
"""Stands for a state: the jobs that stand still, or have a delivery that does."""


STAGES: dict[str, sa.ColumnElement[bool]] = {
    "WAITING": sa.and_(jobs.c.state.in_(WORKABLE), ~jobs.c.chosen),
    "QUEUED": sa.and_(jobs.c.state.in_(WORKABLE), jobs.c.chosen, jobs.c.lease.is_(None)),
    "SEGMENTING": sa.and_(jobs.c.state == State.RECEIVED, jobs.c.chosen, jobs.c.lease.is_not(None)),
    "REPORTING": sa.and_(
        jobs.c.state.in_(WORKABLE), jobs.c.state != State.RECEIVED, jobs.c.chosen, jobs.c.lease.is_not(None)
    ),
}
"""Stand for states: what a worker does with a job that does not stand still, or is to do."""

KEPT = "KEPT"
"""Stands for a state: the jobs whose results all stay here, because their rule sends nothing."""


@dataclass(frozen=True)
class JobFilter:
    """Which jobs are meant; what is None or empty excludes none. `since` and `until` are about when they were opened.

    `reason`: why they are not processed or stand still, or a delivery does. `states` may hold HALTED, KEPT and STAGES.
    `only_last`: of each series the last job alone, and none that takes results back. `before`: with lower ids.
    """

    ids: tuple[int, ...] = ()
    since: float | None = None
    until: float | None = None
    states: tuple[str, ...] = ()
    study_instance_uid: str | None = None
    series_instance_uid: str | None = None
    rule: str | None = None
    destination: str | None = None
    reason: str | None = None
    only_last: bool = False
    before: int | None = None


def checked_states(states: Iterable[str]) -> tuple[str, ...]:
    """Return states as they are written. Raises BadRequest for one that is none."""
    known = [*State, *STAGES, KEPT, HALTED]
    given = tuple(state.upper() for state in states)
    if wrong := [state for state in given if state not in known]:
        raise BadRequest(f"--state: there is no state {wrong[0]}; there are: {', '.join(known)}")
    return given


def select_jobs(wanted: JobFilter) -> sa.Select[Any]:
    """The jobs that are meant, newest first."""
    return sa.select(jobs).where(*_conditions(wanted)).order_by(jobs.c.id.desc())


def count_jobs(wanted: JobFilter) -> sa.Select[Any]:
    """How many jobs are meant."""
    return sa.select(sa.func.count()).select_from(jobs).where(*_conditions(wanted))


def select_stalled(*, now: float, destination: str | None, reason: str | None) -> sa.Select[Any]:
    """The jobs that stand still or wait, or have a delivery that does: all, or of a destination or reason; by id."""
    delivery = sa.exists().where(
        deliveries.c.job_id == jobs.c.id, is_stalled(now=now, destination=destination, reason=reason)
    )
    itself = sa.or_(jobs.c.halt.is_not(None), jobs.c.not_before > now)
    if destination is not None:
        itself = sa.false()
    elif reason is not None:
        itself = jobs.c.halt == reason
    return sa.select(jobs).where(jobs.c.state.not_in(ENDED), sa.or_(itself, delivery)).order_by(jobs.c.id)


def select_arrivals(study_instance_uid: str) -> sa.Select[Any]:
    """What came of each series that is, or was, of a study; the oldest first."""
    of_jobs = sa.select(jobs.c.series_instance_uid).where(jobs.c.study_instance_uid == study_instance_uid)
    theirs = sa.or_(series.c.study_instance_uid == study_instance_uid, series.c.series_instance_uid.in_(of_jobs))
    first = sa.func.min(instances.c.received_at)
    counted = ("series_instance_uid", "calling_ae_title", "instances", "expected", "last_received_at")
    columns = [series.c[name] for name in counted]
    is_removed = sa.and_(instances.c.removed_at.is_not(None), instances.c.replaced_by.is_(None))
    removed = sa.func.sum(sa.case((is_removed, 1), else_=0)).label("removed")
    removed_at = sa.func.max(instances.c.removed_at).label("removed_at")
    found = (*columns, first.label("first_received_at"), removed, removed_at)
    query = sa.select(*found).join(instances).where(theirs)
    return query.group_by(*columns).order_by(first)


def select_study_of(uid: str) -> sa.Executable:
    """The StudyInstanceUID of a study, or of a series, of which anything came."""
    of_job = sa.select(jobs.c.study_instance_uid).where(
        sa.or_(jobs.c.study_instance_uid == uid, jobs.c.series_instance_uid == uid)
    )
    of_series = sa.select(series.c.study_instance_uid).where(
        sa.or_(series.c.study_instance_uid == uid, series.c.series_instance_uid == uid)
    )
    return of_job.union_all(of_series).limit(1)


def select_queue(*, now: float) -> sa.Select[Any]:
    """The ids of the jobs that wait for a worker, or have one, in the order in which they are worked on."""
    return sa.select(jobs.c.id).where(is_to_be_worked_on(jobs, now=now)).order_by(jobs.c.priority.desc(), jobs.c.id)


def select_latest_stages(*, most: int) -> sa.Select[Any]:
    """The events of the last jobs that were reported: when a worker began with a stage, and when it was done."""
    reported = events.alias()
    latest = (
        sa.select(reported.c.job_id)
        .where(reported.c.event == Event.REPORTED)
        .order_by(reported.c.id.desc())
        .limit(most)
        .subquery()
    )
    staged = events.c.event.in_([STARTED, Event.SEGMENTED, Event.REPORTED])
    return (
        sa.select(events.c.job_id, events.c.event, events.c.at)
        .where(events.c.job_id.in_(sa.select(latest.c.job_id)), staged)
        .order_by(events.c.job_id, events.c.id)
    )


def _conditions(wanted: JobFilter) -> list[sa.ColumnElement[bool]]:
    of_job = deliveries.c.job_id == jobs.c.id
    conditions: list[sa.ColumnElement[bool]] = []
    for column, value in (
        (jobs.c.study_instance_uid, wanted.study_instance_uid),
        (jobs.c.series_instance_uid, wanted.series_instance_uid),
        (jobs.c.rule, wanted.rule),
    ):
        conditions += [] if value is None else [column == value]
    conditions += [jobs.c.id.in_(wanted.ids)] if wanted.ids else []
    conditions += [] if wanted.before is None else [jobs.c.id < wanted.before]
    conditions += [] if wanted.since is None else [jobs.c.created_at >= wanted.since]
    conditions += [] if wanted.until is None else [jobs.c.created_at < wanted.until]
    if wanted.destination is not None:
        conditions.append(sa.exists().where(of_job, deliveries.c.destination == wanted.destination))
    if wanted.reason is not None:
        of_delivery = sa.exists().where(of_job, deliveries.c.halt == wanted.reason)
        conditions.append(sa.or_(jobs.c.reject_reason == wanted.reason, jobs.c.halt == wanted.reason, of_delivery))
    if wanted.states:
        is_kept = deliveries.c.state == DeliveryState.KEPT
        others = {stage: sa.and_(jobs.c.halt.is_(None), condition) for stage, condition in STAGES.items()} | {
            HALTED: sa.or_(jobs.c.halt.is_not(None), _with_delivery(deliveries.c.halt.is_not(None))),
            KEPT: sa.and_(_with_delivery(is_kept), ~sa.exists().where(of_job, ~is_kept)),
        }
        states = jobs.c.state.in_([state for state in wanted.states if state not in others])
        conditions.append(sa.or_(states, *(others[state] for state in wanted.states if state in others)))
    if wanted.only_last:
        other = jobs.alias()
        later = sa.exists().where(
            other.c.series_instance_uid == jobs.c.series_instance_uid,
            other.c.revision > jobs.c.revision,
            other.c.before_instance.is_(None),
        )
        conditions += [~later, jobs.c.before_instance.is_(None)]
    return conditions


def _with_delivery(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """The jobs that have a delivery of which this holds; the deliveries are looked through once, not for each job."""
    return jobs.c.id.in_(sa.select(deliveries.c.job_id).where(condition))
