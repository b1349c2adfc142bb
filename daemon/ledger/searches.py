"""Which jobs an administrator means, as a question to the tables. Used by the ledger alone."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from daemon.jobs import ENDED, State
from daemon.ledger.by_hand import is_stalled
from daemon.ledger.schema import deliveries, jobs

HALTED = "HALTED"
"""Stands for a state: the jobs that stand still, or have a delivery that does."""


@dataclass(frozen=True)
class JobFilter:
    """Which jobs are meant; what is None or empty excludes none. `since` and `until` are about when they were opened.

    `reason`: why they are not processed or stand still, or a delivery does. `states` may hold HALTED. `only_last`: of
    each series the last job alone, and none that takes results back.
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
    conditions += [] if wanted.since is None else [jobs.c.created_at >= wanted.since]
    conditions += [] if wanted.until is None else [jobs.c.created_at < wanted.until]
    if wanted.destination is not None:
        conditions.append(sa.exists().where(of_job, deliveries.c.destination == wanted.destination))
    if wanted.reason is not None:
        of_delivery = sa.exists().where(of_job, deliveries.c.halt == wanted.reason)
        conditions.append(sa.or_(jobs.c.reject_reason == wanted.reason, jobs.c.halt == wanted.reason, of_delivery))
    if wanted.states:
        states = jobs.c.state.in_([state for state in wanted.states if state in list(State)])
        halted = sa.or_(jobs.c.halt.is_not(None), sa.exists().where(of_job, deliveries.c.halt.is_not(None)))
        conditions.append(sa.or_(states, halted) if HALTED in wanted.states else states)
    if wanted.only_last:
        other = jobs.alias()
        later = sa.exists().where(
            other.c.series_instance_uid == jobs.c.series_instance_uid,
            other.c.revision > jobs.c.revision,
            other.c.before_instance.is_(None),
        )
        conditions += [~later, jobs.c.before_instance.is_(None)]
    return conditions
