"""The moves of a job within a transaction. Used by the ledger alone.

Who changes several jobs of a study locks them all first, in the order of their ids (`lock_study`): no two wait for
each other. A late instance changes one.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from daemon.choice import Choice
from daemon.jobs import DeliveryState, Event, Job, Shadow, ShadowState, State, advance, opens_revision
from daemon.ledger.queries import awaits_confirmation, job_of
from daemon.ledger.rows import Compared, Instance
from daemon.ledger.schema import deliveries, events, instances, jobs, series, shadows
from dicom_io.errors import RejectReason

NOT_CHOSEN: dict[str, Any] = {
    "chosen": False,
    "replaces_series_instance_uid": None,
    "replaces_revision": None,
}

ANEW: dict[str, Any] = NOT_CHOSEN | {
    "lease": None,
    "lease_until": None,
    "reject_reason": None,
    "attempts": 0,
    "not_before": None,
    "halt": None,
    "warnings": "[]",
}
"""A job from the beginning: what was learned of other slices, be it a warning, a reason or a failure, is void."""


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


def count_in_series(connection: sa.Connection, instance: Instance, *, now: float, is_elsewhere: bool) -> None:
    """Note that an instance of a series came, its first or not. A pause counts while the series is being received.

    One that takes the place of another is none more; where it `is_elsewhere`, the series is of its study now. Until the
    transaction ends, no other instance of the series is recorded: the ids of their rows are in the order in which they
    count.
    """
    pause_s = now - series.c.last_received_at
    of_series = jobs.c.series_instance_uid == instance.series_instance_uid
    receiving = sa.exists().where(of_series, jobs.c.state == State.RECEIVING)
    longest = sa.case((pause_s > series.c.longest_pause_s, pause_s), else_=series.c.longest_pause_s)
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    changed: dict[str, Any] = {
        "instances": series.c.instances + int(instance.version == 1),
        "last_received_at": now,
        "longest_pause_s": sa.case((receiving, longest), else_=0.0),
    }
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
            set_=changed | ({"study_instance_uid": instance.study_instance_uid} if is_elsewhere else {}),
        )
    )


def add_instance(connection: sa.Connection, instance: Instance, *, now: float) -> int:
    """Add the row of an instance, in the place of the version before it; return its id."""
    columns = [column.name for column in instances.c if column.name not in ("id", "replaced_by")]
    values = {name: getattr(instance, name, now) for name in columns}
    added = int(connection.execute(sa.insert(instances).values(values).returning(instances.c.id)).scalar_one())
    connection.execute(
        sa.update(instances)
        .where(
            instances.c.series_instance_uid == instance.series_instance_uid,
            instances.c.sop_instance_uid == instance.sop_instance_uid,
            instances.c.version == instance.version - 1,
        )
        .values(replaced_by=added)
    )
    return added


def open_job(
    connection: sa.Connection,
    instance: Instance,
    *,
    now: float,
    difference: str | None,
    elsewhere_from: int | None,
) -> None:
    """Open the job of a series at its first instance; at a late one reopen it, or open the next.

    `elsewhere_from`: this instance, the id of its row, is of another patient or study now. What was sent of the series
    before is taken back, and the job goes on under the new one.
    """
    of_series = jobs.c.series_instance_uid == instance.series_instance_uid
    query = sa.select(jobs).where(of_series).order_by(jobs.c.revision).with_for_update()
    rows: Sequence[sa.Row[Any]] = connection.execute(query).all()
    row = next((row for row in reversed(rows) if row.before_instance is None), None)
    revision = rows[-1].revision + 1 if rows else 1
    moved: dict[str, Any] = {}
    if row and elsewhere_from is not None:
        moved = {"study_instance_uid": instance.study_instance_uid}
        if told := _told_since_taken_back(connection, rows):
            _take_back(connection, told, revision, elsewhere_from, now=now)
            revision += 1
            moved["revision"] = revision
    state = State(row.state) if row else None
    one_more = jobs.c.instances + int(instance.version == 1)
    if row and state == State.RECEIVING:
        # What failed with other images, as the reading of a damaged one, is tried again with this one
        values = {"instances": one_more, "halt": None, "attempts": 0, "not_before": None}
        connection.execute(sa.update(jobs).where(jobs.c.id == row.id).values(values | moved))
    elif row and state == State.CANCELLED and "revision" not in moved:
        return
    elif (
        row
        and state
        and state != State.CANCELLED
        and not opens_revision(state)
        and not any_delivery(connection, row.id, sa.true())
    ):
        values = ANEW | {"instances": one_more}
        move_job(connection, row.id, state, Event.LATE_INSTANCE, now=now, values=values | moved, code=difference)
    else:
        insert_job(
            connection,
            series_instance_uid=instance.series_instance_uid,
            study_instance_uid=row.study_instance_uid if row and not moved else instance.study_instance_uid,
            revision=revision,
            calling_ae_title=instance.calling_ae_title,
            now=now,
            code=difference,
        )


def insert_job(
    connection: sa.Connection,
    *,
    series_instance_uid: str,
    study_instance_uid: str,
    revision: int,
    calling_ae_title: str,
    now: float,
    code: str | None,
) -> int:
    """Open a job of all instances of a series, with its event row; return its id."""
    count = sa.select(series.c.instances).where(series.c.series_instance_uid == series_instance_uid)
    opened = connection.execute(
        sa.insert(jobs)
        .values(
            series_instance_uid=series_instance_uid,
            study_instance_uid=study_instance_uid,
            revision=revision,
            calling_ae_title=calling_ae_title,
            priority=0,
            state=State.RECEIVING,
            attempts=0,
            instances=count.scalar_subquery(),
            warnings="[]",
            created_at=now,
        )
        .returning(jobs.c.id)
    )
    job_id = int(opened.scalar_one())
    note(connection, job_id, "OPENED", now=now, to_state=State.RECEIVING, code=code)
    return job_id


def _told_since_taken_back(connection: sa.Connection, rows: Sequence[sa.Row[Any]]) -> sa.Row[Any] | None:
    """The last job of a series that sent anything, unless that was taken back; `rows` are all, by revision."""
    last = next((index for index, row in reversed(list(enumerate(rows))) if row.before_instance is not None), -1)
    told = [row for row in rows[last + 1 :] if any_delivery(connection, row.id, sa.true())]
    return told[-1] if told else None


def _take_back(
    connection: sa.Connection, told: sa.Row[Any], revision: int, before_instance: int, *, now: float
) -> None:
    """Open the job that says, where a job of the series has told something, that it does not hold any more."""
    copied = ("series_instance_uid", "study_instance_uid", "calling_ae_title", "rule", "priority", "instances")
    values = {name: told._mapping[name] for name in copied}
    job_id = connection.execute(
        sa.insert(jobs)
        .values(
            revision=revision,
            state=State.REFUSED,
            reject_reason=RejectReason.REASSIGNED,
            attempts=0,
            warnings="[]",
            created_at=now,
            before_instance=before_instance,
            **values,
        )
        .returning(jobs.c.id)
    ).scalar_one()
    note(connection, job_id, "OPENED", now=now, to_state=State.REFUSED, code=RejectReason.REASSIGNED)


def lock_study(connection: sa.Connection, study_instance_uid: str) -> list[Job]:
    """Every job of a study, oldest first, for this transaction alone."""
    query = sa.select(jobs).where(jobs.c.study_instance_uid == study_instance_uid).order_by(jobs.c.id)
    return [job_of(row) for row in connection.execute(query.with_for_update())]


def is_as_seen(locked: Sequence[Job], seen: Sequence[Job]) -> bool:
    """Whether the jobs of a study under one rule are still as they were, and none of the study is coming in.

    What only concerns how they are worked on may have changed.
    """
    if any(job.state == State.RECEIVING and job.halt is None for job in locked):
        return False
    before, after = (
        [
            replace(job, lease=None, attempts=0, not_before=None, warnings=())
            for job in known
            if job.rule == seen[0].rule
        ]
        for known in (seen, locked)
    )
    return before == after


def apply_choice(connection: sa.Connection, choice: Choice, *, now: float) -> None:
    """Write a choice down; the jobs of its study are locked."""
    for chosen in choice.chosen:
        job, replaced = chosen.job, chosen.replaces
        if job.state == State.REJECTED:
            move_job(connection, job.id, job.state, Event.REOPENED, now=now, values={"reject_reason": None})
        connection.execute(
            sa.update(jobs)
            .where(jobs.c.id == job.id)
            .values(
                chosen=True,
                not_before=None,
                attempts=0,
                replaces_series_instance_uid=replaced.series_instance_uid if replaced else None,
                replaces_revision=replaced.revision if replaced else None,
            )
        )
        note(connection, job.id, "CHOSEN", now=now, from_state=job.state)
    for job in choice.verdicts:
        _choose_verdict(connection, job, now=now)
    ended = [(job, job.reject_reason) for job in choice.refused]
    ended += [(job, RejectReason.SUPERSEDED_BY_BETTER) for job in choice.superseded]
    for job, reason in ended:
        values = NOT_CHOSEN | {
            "reject_reason": reason,
            "lease": None,
            "lease_until": None,
            "attempts": 0,
            "not_before": None,
        }
        move_job(connection, job.id, job.state, Event.REJECTED, now=now, values=values, code=reason)


def _choose_verdict(connection: sa.Connection, job: Job, *, now: float) -> None:
    """Have a refused job report its reason, also one that had ended in silence."""
    if job.state == State.REJECTED:
        move_job(connection, job.id, job.state, Event.REFUSED, now=now, code=job.reject_reason)
    connection.execute(sa.update(jobs).where(jobs.c.id == job.id).values(chosen=True, not_before=None, attempts=0))
    note(connection, job.id, "CHOSEN", now=now, from_state=State.REFUSED, code=job.reject_reason)


def follow_deliveries(connection: sa.Connection, job_id: int, *, now: float) -> None:
    """Move a reported job to where all of its deliveries are.

    DELIVERED is the end where nothing is asked for a confirmation, and where there is no delivery.
    """
    done = deliveries.c.state.in_([DeliveryState.STORED, DeliveryState.CONFIRMED, DeliveryState.KEPT])
    if not any_delivery(connection, job_id, sa.not_(done)):
        move_job(connection, job_id, State.REPORTED, Event.DELIVERED, now=now)
        is_confirmed = any_delivery(connection, job_id, deliveries.c.state == DeliveryState.CONFIRMED)
        if is_confirmed and not any_delivery(connection, job_id, awaits_confirmation()):
            move_job(connection, job_id, State.DELIVERED, Event.CONFIRMED, now=now)


def cast_shadows(connection: sa.Connection, job_id: int, models: Sequence[str]) -> None:
    """Note which models are to be run on the volumes of a job."""
    for model in models:
        row = {"job_id": job_id, "model": model, "state": ShadowState.PENDING, "attempts": 0}
        connection.execute(sa.insert(shadows).values(row))


def settle(
    connection: sa.Connection, shadow: Shadow, compared: Compared | None, *, now: float, code: str | None
) -> None:
    """Record the outcome of a shadow, once, with its event row."""
    state = ShadowState.COMPARED if compared else ShadowState.FAILED
    values: dict[str, Any] = {"state": state, "code": code, "not_before": None}
    if compared:
        values |= {"version": compared.version, "sha256": compared.sha256, "volumes": json.dumps(compared.volumes)}
    settled = connection.execute(
        sa.update(shadows)
        .where(shadows.c.id == shadow.id, shadows.c.state == ShadowState.PENDING)
        .values(attempts=shadow.attempts, **values)
    )
    if settled.rowcount:
        note(connection, shadow.job_id, f"SHADOW_{state}", now=now, code=code)


def any_delivery(connection: sa.Connection, job_id: int, condition: sa.ColumnElement[bool]) -> bool:
    """True where a job has a delivery for which the condition holds."""
    query = sa.select(sa.exists().where(deliveries.c.job_id == job_id, condition))
    return bool(connection.execute(query).scalar_one())
