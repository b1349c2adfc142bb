"""What a person changes by hand: go on, match again, send again. Within a transaction; used by the ledger alone."""

from collections.abc import Sequence

import sqlalchemy as sa

from daemon.errors import UnknownJob, WrongState
from daemon.jobs import ENDED, OUT, WORKABLE, DeliveryState, Event, Job, State
from daemon.ledger.moves import ANEW, any_delivery, insert_job, move_job, note
from daemon.ledger.queries import awaits_confirmation, job_of
from daemon.ledger.rows import Outgoing
from daemon.ledger.schema import deliveries, instances, jobs, series
from daemon.ledger.sending import insert_deliveries

REMOVED = "REMOVED"
"""Stands for a state: retention has removed the files."""

AT_ONCE = {"attempts": 0, "not_before": None, "waited_s": 0, "halt": None, "not_committed": 0}
"""A delivery that is due now, from the beginning."""


def is_stalled(*, now: float, destination: str | None = None, reason: str | None = None) -> sa.ColumnElement[bool]:
    """The deliveries that stand still or wait: all, or those for a destination, or for a reason (halt or status)."""
    undone = sa.or_(deliveries.c.state == DeliveryState.PENDING, awaits_confirmation())
    waits = sa.and_(undone, sa.or_(deliveries.c.not_before > now, deliveries.c.waited_s > 0))
    chosen = [deliveries.c.state == DeliveryState.FAILED, waits]
    given = [] if destination is None else [deliveries.c.destination == destination]
    given += [] if reason is None else [sa.or_(deliveries.c.halt == reason, deliveries.c.last_status == reason)]
    return sa.and_(sa.or_(*chosen), *given)


def resume_job(
    connection: sa.Connection, job: Job, *, now: float, destination: str | None = None, reason: str | None = None
) -> None:
    """Clear what a job, and its deliveries, stand still or wait for; only what is meant, see `is_stalled`.

    Raises WrongState where nothing does, and where a later revision of the job has all that it would have.
    """
    stalled = sa.and_(deliveries.c.job_id == job.id, is_stalled(now=now, destination=destination, reason=reason))
    state = sa.case((deliveries.c.state == DeliveryState.FAILED, DeliveryState.PENDING), else_=deliveries.c.state)
    again = connection.execute(sa.update(deliveries).where(stalled).values(state=state, **AT_ONCE)).rowcount
    waits = job.not_before is not None and job.not_before > now
    is_meant = destination is None and reason in (None, job.halt)
    resumes = is_meant and (job.halt is not None or waits)
    if job.state in ENDED or not (again or resumes):
        raise WrongState(job.id, job.state, "retry")
    if resumes:
        if job.halt is not None and job.state in WORKABLE and _has_later_revision(connection, job):
            raise WrongState(job.id, job.state, "retry")
        values: dict[str, object] = {"halt": None, "attempts": 0, "not_before": None}
        if job.halt is not None:
            values["chosen"] = sa.and_(jobs.c.chosen, jobs.c.state.not_in(WORKABLE))
        connection.execute(sa.update(jobs).where(jobs.c.id == job.id).values(values))
    note(connection, job.id, "RETRIED", now=now, from_state=job.state)


def cancel_job(connection: sa.Connection, job: Job, *, now: float) -> None:
    """End a job. Raises WrongState where nothing is to be done about it any more, or it has changed."""
    values = {"lease": None, "lease_until": None, "halt": None}
    is_done = job.state == State.DELIVERED and not any_delivery(connection, job.id, awaits_confirmation())
    if job.state in ENDED or is_done:
        raise WrongState(job.id, job.state, "cancel")
    if not move_job(connection, job.id, job.state, Event.CANCELLED, now=now, values=values):
        raise WrongState(job.id, job.state, "cancel")


def match_again(connection: sa.Connection, job: Job, *, now: float) -> bool:
    """Have the rules asked again about a job; False where it has sent something, or is not as it was."""
    if any_delivery(connection, job.id, sa.true()):
        return False
    count = sa.select(series.c.instances).where(series.c.series_instance_uid == job.series_instance_uid)
    values = ANEW | {"rule": None, "priority": 0, "instances": count.scalar_subquery()}
    return move_job(
        connection,
        job.id,
        job.state,
        Event.REMATCHED,
        now=now,
        values=values,
        code=job.reject_reason or job.halt,
        where=jobs.c.lease == job.lease,
    )


def process_again(connection: sa.Connection, job_id: int, *, now: float) -> Job:
    """Have the series of a job matched and processed again; return the job that is, this one or the next revision.

    It is a new one where the last one of the series has sent something, which its results supersede. Raises UnknownJob;
    WrongState for a series that is being received.
    """
    of_job = sa.select(jobs.c.series_instance_uid).where(jobs.c.id == job_id)
    uid = connection.execute(of_job).scalar_one_or_none()
    if uid is None:
        raise UnknownJob(job_id)
    # In the order of a late instance: first the series, then its jobs
    connection.execute(sa.select(series).where(series.c.series_instance_uid == uid).with_for_update())
    query = sa.select(jobs).where(jobs.c.series_instance_uid == uid).order_by(jobs.c.revision).with_for_update()
    of_series = [job_of(row) for row in connection.execute(query)]
    last = next((job for job in reversed(of_series) if job.before_instance is None), of_series[-1])
    gone = sa.exists().where(
        instances.c.series_instance_uid == uid, instances.c.replaced_by.is_(None), instances.c.removed_at.is_not(None)
    )
    if connection.execute(sa.select(gone)).scalar_one():
        raise WrongState(last.id, REMOVED, "rerun")
    if last.before_instance is not None or (last.state == State.RECEIVING and last.halt is None):
        raise WrongState(last.id, last.state, "rerun")
    if last.state == State.RECEIVING:
        resume_job(connection, last, now=now)
        again = last.id
    elif last.state not in OUT and match_again(connection, last, now=now):
        again = last.id
    else:
        again = insert_job(
            connection,
            series_instance_uid=last.series_instance_uid,
            study_instance_uid=last.study_instance_uid,
            revision=of_series[-1].revision + 1,
            calling_ae_title=last.calling_ae_title,
            now=now,
            code="RERUN",
        )
    return job_of(connection.execute(sa.select(jobs).where(jobs.c.id == again)).one())


def send_again(
    connection: sa.Connection, job: Job, destinations: Sequence[str], outgoing: Sequence[Outgoing], *, now: float
) -> int:
    """Have what a job sent to these destinations sent there again, and `outgoing` as well; return how many objects.

    Raises WrongState for a job without results, or one that has changed meanwhile.
    """
    if job.state not in OUT or job.removed_at is not None:
        raise WrongState(job.id, REMOVED if job.removed_at else job.state, "send")
    there = sa.and_(deliveries.c.job_id == job.id, deliveries.c.destination.in_(destinations))
    values = {"state": DeliveryState.PENDING, "last_status": None, **AT_ONCE}
    count = int(connection.execute(sa.update(deliveries).where(there).values(values)).rowcount)
    insert_deliveries(connection, job.id, outgoing)
    if job.state == State.REPORTED:
        note(connection, job.id, Event.RESENT, now=now, from_state=job.state, to_state=job.state)
    elif not move_job(connection, job.id, job.state, Event.RESENT, now=now):
        raise WrongState(job.id, job.state, "send")
    return count + len(outgoing)


def _has_later_revision(connection: sa.Connection, job: Job) -> bool:
    """Whether a late instance has opened another job of the series since."""
    later = sa.exists().where(jobs.c.series_instance_uid == job.series_instance_uid, jobs.c.revision > job.revision)
    return bool(connection.execute(sa.select(later)).scalar_one())
