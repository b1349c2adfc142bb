"""A ledger made anew: what was received and reported before, played back in its order. Used by the ledger alone.

Instances open, reopen and outrun jobs as they did when they came; results that lie in the outbox are those of the job
that they stand in the place of, and are delivered again, unchanged. Every other job is decided again, but for those
whose files were removed: of these it is known what became of them.
"""

from collections.abc import Iterable

import sqlalchemy as sa

from daemon.errors import StorageUnusable
from daemon.jobs import OUT, State
from daemon.ledger.by_hand import REMOVED
from daemon.ledger.moves import add_instance, count_in_series, follow_deliveries, insert_job, note, open_job
from daemon.ledger.rows import Received, Reported, Tombstone
from daemon.ledger.schema import deliveries, instances, jobs, series
from daemon.ledger.sending import insert_deliveries
from dicom_io.errors import RejectReason

NOBODY = "0"
"""The series of a row that is there while SQLite counts on from its id."""


def replay(connection: sa.Connection, past: Iterable[Received | Reported | Tombstone], *, first_job_id: int) -> int:
    """Record the past in an empty ledger; return how many jobs were reported. Raises StorageUnusable for another."""
    if connection.execute(sa.select(sa.exists().select_from(series))).scalar_one():
        raise StorageUnusable("the ledger is not empty: to make it anew from the spool, move it away first")
    _count_from(connection, first_job_id)
    reported = 0
    for item in past:
        if isinstance(item, Reported):
            reported += _report(connection, item)
        elif isinstance(item, Tombstone):
            _remember(connection, item)
        else:
            _receive(connection, item)
    connection.execute(sa.delete(jobs).where(jobs.c.series_instance_uid == NOBODY))
    connection.execute(sa.delete(series).where(series.c.series_instance_uid == NOBODY))
    return reported


def _count_from(connection: sa.Connection, first_job_id: int) -> None:
    """Have the next job get this id: the folders of earlier ones bear theirs."""
    if connection.dialect.name == "postgresql":
        sequence = sa.func.pg_get_serial_sequence("jobs", "id")
        connection.execute(sa.select(sa.func.setval(sequence, first_job_id, False)))
    elif first_job_id > 1:
        named = {"series_instance_uid": NOBODY, "study_instance_uid": NOBODY, "calling_ae_title": NOBODY}
        connection.execute(sa.insert(series).values(named | {"instances": 0, "last_received_at": 0.0}))
        counts = {"revision": 1, "priority": 0, "attempts": 0, "instances": 0, "created_at": 0.0}
        row = named | counts | {"id": first_job_id - 1, "state": State.CANCELLED, "warnings": "[]"}
        connection.execute(sa.insert(jobs).values(row))


def _receive(connection: sa.Connection, received: Received) -> None:
    instance, at, is_elsewhere = received.instance, received.at, received.is_elsewhere
    count_in_series(connection, instance, now=at, is_elsewhere=is_elsewhere)
    added = add_instance(connection, instance, now=at)
    elsewhere_from = added if is_elsewhere else None
    open_job(connection, instance, now=at, difference=received.difference, elsewhere_from=elsewhere_from)


def _remember(connection: sa.Connection, tombstone: Tombstone) -> None:
    """Put back the rows of a series whose files were removed; its jobs have their ids again."""
    rows = {
        table: [{key: row[key] for key in row if key in table.c} for row in tombstone.rows[table.name]]
        for table in (series, instances, jobs, deliveries)
    }
    connection.execute(sa.insert(series), rows[series])
    ids: dict[int | None, int | None] = {None: None}
    for row in rows[instances]:
        values = {key: value for key, value in row.items() if key not in ("id", "replaced_by")}
        added = connection.execute(sa.insert(instances).values(values).returning(instances.c.id))
        ids[row["id"]] = int(added.scalar_one())
    for row in rows[instances]:
        same = instances.c.id == ids[row["id"]]
        connection.execute(sa.update(instances).where(same).values(replaced_by=ids[row["replaced_by"]]))
    for row in rows[jobs]:
        before = ids[row["before_instance"]]
        anew = {"before_instance": before, "lease": None, "lease_until": None}
        connection.execute(sa.insert(jobs).values(row | anew))
        note(connection, int(row["id"]), REMOVED, now=tombstone.removed_at)
    for row in rows[deliveries]:
        connection.execute(sa.insert(deliveries).values({key: value for key, value in row.items() if key != "id"}))


def _report(connection: sa.Connection, reported: Reported) -> bool:
    """Move the job that made these results to where it was; False where there is none that could have."""
    takes_back = reported.reject_reason == RejectReason.REASSIGNED
    open_jobs = connection.execute(
        sa.select(jobs.c.id, jobs.c.revision, jobs.c.state)
        .where(
            jobs.c.series_instance_uid == reported.series_instance_uid,
            jobs.c.before_instance.is_not(None) if takes_back else jobs.c.before_instance.is_(None),
            jobs.c.state.not_in(OUT),
        )
        .order_by(jobs.c.revision)
    ).all()
    if open_jobs:
        job = next((job for job in open_jobs if job.revision == reported.revision), open_jobs[-1])
        job_id, state = job.id, job.state
    elif takes_back:
        return False
    else:  # a person had the series processed again
        of_series = sa.select(series).where(series.c.series_instance_uid == reported.series_instance_uid)
        row, state = connection.execute(of_series).one(), State.RECEIVING
        job_id = insert_job(
            connection,
            series_instance_uid=row.series_instance_uid,
            study_instance_uid=row.study_instance_uid,
            revision=reported.revision,
            calling_ae_title=row.calling_ae_title,
            now=reported.at,
            code=None,
        )
    replaced, replaced_revision = reported.replaces or (None, None)
    connection.execute(
        sa.update(jobs)
        .where(jobs.c.id == job_id)
        .values(
            state=State.REPORTED,
            revision=reported.revision,
            rule=reported.rule,
            reject_reason=reported.reject_reason,
            chosen=True,
            replaces_series_instance_uid=replaced,
            replaces_revision=replaced_revision,
        )
    )
    at, code = reported.at, reported.reject_reason
    note(connection, job_id, "REBUILT", now=at, from_state=state, to_state=State.REPORTED, code=code)
    insert_deliveries(connection, job_id, reported.outgoing)
    follow_deliveries(connection, job_id, now=at)
    return True
