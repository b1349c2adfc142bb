"""What the ledger asks its tables, and their rows as values. Used by the ledger alone."""

import json
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from daemon.jobs import WORKABLE, Delivery, DeliveryState, Evidence, HaltCode, Job, Shadow, ShadowState, State
from daemon.ledger.rows import Instance
from daemon.ledger.schema import deliveries, instances, jobs, series, shadows
from reports.objects.kinds import Form

PATIENCE = 2
"""A sender that has paused for so long is waited for this many times as long, before less than `quiet_s` counts."""

PROVED_QUIET_S = 2.0
"""How long nothing must have come before a sender's count is taken for all that there will be."""


def select_due(
    *, now: float, quiet_since: float | None, released_since: float, proved_quiet_s: float
) -> sa.Select[Any]:
    """Jobs in RECEIVING whose series is complete, and by what evidence.

    All that its sender has, which it still said after `proved_quiet_s`; nothing since `quiet_since`; or no sender since
    `released_since` that has more.
    """
    heard_out = _heard_out()
    proved = is_proved(proved_quiet_s)
    quiet = sa.false() if quiet_since is None else series.c.last_received_at <= quiet_since
    released = sa.and_(
        series.c.released_at >= series.c.last_received_at,
        series.c.released_at <= released_since,
        heard_out <= now,
        sa.or_(series.c.expected.is_(None), series.c.expected <= series.c.instances),
    )
    evidence = sa.case((quiet, Evidence.QUIET), (proved, Evidence.PROVED), else_=Evidence.RELEASED)
    columns = (
        jobs.c.id.label("job_id"),
        jobs.c.series_instance_uid,
        jobs.c.study_instance_uid,
        jobs.c.calling_ae_title,
        jobs.c.instances,
        series.c.expected,
    )
    return (
        sa.select(*columns, evidence.label("evidence"))
        .join(series)
        .where(
            jobs.c.state == State.RECEIVING,
            jobs.c.halt.is_(None),
            sa.or_(jobs.c.not_before.is_(None), jobs.c.not_before <= now),
            sa.or_(proved, quiet, released),
        )
        .order_by(jobs.c.id)
    )


def is_proved(proved_quiet_s: float = PROVED_QUIET_S) -> sa.ColumnElement[bool]:
    """All that the sender of a series has came: it still said so after some quiet seconds."""
    return sa.and_(
        series.c.instances == series.c.expected,
        series.c.expected_at >= series.c.last_received_at + proved_quiet_s,
        series.c.expected_at >= _heard_out(),
    )


def _heard_out() -> sa.ColumnElement[float]:
    return series.c.last_received_at + PATIENCE * series.c.longest_pause_s


def select_incoming(calling_ae_title: str, *, columns: Sequence[str]) -> sa.Select[Any]:
    """These columns of the series that a peer is sending."""
    return (
        sa.select(*(series.c[column] for column in columns))
        .join(jobs)
        .where(series.c.calling_ae_title == calling_ae_title, jobs.c.state == State.RECEIVING, jobs.c.halt.is_(None))
        .order_by(jobs.c.id)
    )


def select_studies_to_choose(*, now: float) -> sa.Select[Any]:
    """Studies with a job that awaits the choice, and none that is to be waited for; the oldest first.

    A series that leaves a study is waited for until all of it has come, for the other: some of it may stay.
    """
    other, leaving, arriving = jobs.alias(), jobs.alias(), jobs.alias()
    waits = sa.or_(other.c.state == State.RECEIVING, sa.and_(_awaits_choice(other), other.c.not_before > now))
    study = jobs.c.study_instance_uid
    held_up = sa.exists().where(other.c.study_instance_uid == study, other.c.halt.is_(None), waits)
    between = sa.exists().where(
        leaving.c.study_instance_uid == study,
        leaving.c.before_instance.is_not(None),
        _awaits_choice(leaving),
        arriving.c.series_instance_uid == leaving.c.series_instance_uid,
        arriving.c.state == State.RECEIVING,
        arriving.c.halt.is_(None),
    )
    due = sa.and_(_awaits_choice(jobs), ~held_up, ~between)
    return sa.select(study).where(due).group_by(study).order_by(sa.func.min(jobs.c.id))


def _awaits_choice(table: sa.FromClause) -> sa.ColumnElement[bool]:
    """Closed, and not chosen; `table` is `jobs` or an alias of it."""
    return sa.and_(table.c.state.in_(WORKABLE), sa.not_(table.c.chosen), table.c.halt.is_(None))


def select_claimable(lease: str, *, now: float) -> sa.Select[Any]:
    """The id of the most urgent chosen job that the holder of `lease` may work on."""
    return (
        sa.select(jobs.c.id)
        .where(
            is_to_be_worked_on(jobs, now=now),
            sa.or_(jobs.c.lease_until.is_(None), jobs.c.lease_until < now, jobs.c.lease == lease),
        )
        .order_by(jobs.c.priority.desc(), jobs.c.id)
        .limit(1)
    )


def is_to_be_worked_on(table: sa.FromClause, *, now: float) -> sa.ColumnElement[bool]:
    """Waits for a worker, or has one; `table` is `jobs` or an alias of it."""
    return sa.and_(
        table.c.state.in_(WORKABLE),
        table.c.chosen,
        table.c.halt.is_(None),
        sa.or_(table.c.not_before.is_(None), table.c.not_before <= now),
    )


def select_due_deliveries(*, now: float, to: str | None, not_to: Collection[str]) -> sa.Select[Any]:
    """Deliveries that are to be stored or confirmed now, at a destination or at none of some.

    Those of the highest priority first, of equals the oldest; but those that failed before come last: one that fails
    each time keeps none from finding its destination there.
    A job whose geometry is not proved stands still, and has nothing to send but its verdict.
    """
    out = jobs.c.state.in_([State.REPORTED, State.DELIVERED])
    there = deliveries.c.destination.not_in(not_to) if to is None else deliveries.c.destination == to
    return (
        select_deliveries()
        .where(
            there,
            sa.or_(deliveries.c.state == DeliveryState.PENDING, awaits_confirmation()),
            sa.or_(out, jobs.c.halt == HaltCode.GEOMETRY_NOT_PROVED),
            sa.or_(deliveries.c.not_before.is_(None), deliveries.c.not_before <= now),
        )
        .order_by(deliveries.c.attempts, jobs.c.priority.desc(), deliveries.c.id)
    )


def awaits_confirmation() -> sa.ColumnElement[bool]:
    """Stored, and to be confirmed."""
    return sa.and_(deliveries.c.state == DeliveryState.STORED, deliveries.c.confirm != "none")


def job_of(row: sa.Row[Any]) -> Job:
    """A row of `jobs` as a value."""
    values = {field: row._mapping[field] for field in Job.__dataclass_fields__}
    return Job(**values | {"state": State(row.state), "warnings": tuple(json.loads(row.warnings))})


def select_deliveries() -> sa.Select[Any]:
    """Deliveries with the study that their object is of: its own, or that of their job."""
    study = sa.func.coalesce(deliveries.c.study_instance_uid, jobs.c.study_instance_uid)
    others = [column for column in deliveries.c if column.name != "study_instance_uid"]
    source = jobs.c.series_instance_uid.label("source_series_instance_uid")
    return sa.select(*others, study.label("study_instance_uid"), source).join_from(deliveries, jobs)


def select_paths(series_instance_uid: str, *, before_instance: int | None) -> sa.Select[Any]:
    """Paths of the instances of a series, in the order of their UIDs: now, or before one of them was replaced."""
    current: sa.ColumnElement[bool] = instances.c.replaced_by.is_(None)
    if before_instance is not None:
        current = sa.and_(instances.c.id < before_instance, sa.or_(current, instances.c.replaced_by >= before_instance))
    of_series = instances.c.series_instance_uid == series_instance_uid
    return sa.select(instances.c.path).where(of_series, current).order_by(instances.c.sop_instance_uid)


def select_versions(series_instance_uid: str, sop_instance_uid: str | None) -> sa.Select[Any]:
    """Instances of a series, or the versions of one; the oldest version first."""
    query = sa.select(instances, series.c.calling_ae_title).join(series)
    if sop_instance_uid is not None:
        query = query.where(instances.c.sop_instance_uid == sop_instance_uid)
    of_series = instances.c.series_instance_uid == series_instance_uid
    return query.where(of_series).order_by(instances.c.sop_instance_uid, instances.c.version)


def instance_of(row: sa.Row[Any]) -> Instance:
    """A row of `select_versions` as a value."""
    return Instance(**{field: row._mapping[field] for field in Instance.__dataclass_fields__})


def delivery_of(row: sa.Row[Any]) -> Delivery:
    """A row of `select_deliveries` as a value."""
    values = {field: row._mapping[field] for field in Delivery.__dataclass_fields__ if field != "form"}
    form = Form(row.kind, row.seg_type, row.sr_class)
    return Delivery(**values | {"state": DeliveryState(row.state), "form": form})


def select_shadows() -> sa.Select[Any]:
    """Shadows, each with the facts of its job."""
    return sa.select(shadows, jobs.c.series_instance_uid, jobs.c.state.label("job_state"), jobs.c.instances).join(jobs)


def select_due_shadows(*, now: float) -> sa.Select[Any]:
    """Shadows that are to be run now, oldest first; none while a job waits for a worker or has one."""
    other = jobs.alias()
    return (
        select_shadows()
        .where(
            shadows.c.state == ShadowState.PENDING,
            ~sa.exists().where(is_to_be_worked_on(other, now=now)),
            sa.or_(shadows.c.not_before.is_(None), shadows.c.not_before <= now),
        )
        .order_by(shadows.c.id)
    )


def shadow_of(row: sa.Row[Any]) -> Shadow:
    """A row of `select_shadows` as a value."""
    values = {field: row._mapping[field] for field in Shadow.__dataclass_fields__}
    return Shadow(
        **values
        | {
            "state": ShadowState(row.state),
            "job_state": State(row.job_state),
            "volumes": tuple(json.loads(row.volumes or "[]")),
        }
    )
