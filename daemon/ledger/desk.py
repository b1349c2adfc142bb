"""The ledger as an administrator asks it, and has it go on, process again or send again; beside a running service."""

from collections.abc import Iterator, Sequence
from statistics import median

import sqlalchemy as sa

from daemon.jobs import Delivery, Job, Shadow
from daemon.ledger.by_hand import process_again, resume_job, send_again
from daemon.ledger.queries import delivery_of, job_of, select_deliveries, select_shadows, shadow_of
from daemon.ledger.refused import refusal_of, select_refusals
from daemon.ledger.rows import Arrival, Happened, Outgoing, Refusal
from daemon.ledger.schema import deliveries, events, jobs, shadows
from daemon.ledger.searches import (
    STARTED,
    JobFilter,
    count_jobs,
    select_arrivals,
    select_jobs,
    select_latest_stages,
    select_queue,
    select_stalled,
    select_study_of,
)
from daemon.ledger.store import Ledger

AT_ONCE = 500
"""As many ids are asked for by one statement."""


class Desk:
    """What is asked and changed by hand. Raises LedgerUnavailable as the ledger does."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._reading, self._transaction = ledger.database.reading, ledger.database.transaction

    def jobs(self, wanted: JobFilter, *, limit: int | None = None) -> list[Job]:
        """The jobs that are meant, newest first; `limit` of them at most."""
        with self._reading() as connection:
            return [job_of(row) for row in connection.execute(select_jobs(wanted).limit(limit))]

    def count(self, wanted: JobFilter) -> int:
        """How many jobs are meant."""
        with self._reading() as connection:
            return int(connection.execute(count_jobs(wanted)).scalar_one())

    def stalled(self, *, now: float, destination: str | None = None, reason: str | None = None) -> list[Job]:
        """The jobs that stand still or wait, be it with a delivery: all, or of a destination or reason; by id."""
        with self._reading() as connection:
            query = select_stalled(now=now, destination=destination, reason=reason)
            return [job_of(row) for row in connection.execute(query)]

    def rules(self) -> list[str]:
        """The names of the rules under which jobs fell."""
        return self._distinct(jobs.c.rule)

    def destinations(self) -> list[str]:
        """The names of the destinations for which there are objects."""
        return self._distinct(deliveries.c.destination)

    def statuses(self) -> list[str]:
        """How deliveries went last."""
        return self._distinct(deliveries.c.last_status)

    def _distinct(self, column: sa.ColumnElement[str]) -> list[str]:
        with self._reading() as connection:
            return list(connection.execute(sa.select(column).where(column.is_not(None)).distinct()).scalars())

    def study_of(self, uid: str) -> str | None:
        """The StudyInstanceUID of a study or series of which anything came; None of another UID."""
        with self._reading() as connection:
            return connection.execute(select_study_of(uid)).scalar_one_or_none()

    def arrivals(self, study_instance_uid: str) -> list[Arrival]:
        """What came of each series of a study, the oldest first."""
        with self._reading() as connection:
            return [Arrival(**row._mapping) for row in connection.execute(select_arrivals(study_instance_uid))]

    def deliveries(self, jobs: Sequence[Job]) -> dict[int, list[Delivery]]:
        """The deliveries of each of these jobs."""
        found: dict[int, list[Delivery]] = {job.id: [] for job in jobs}
        with self._reading() as connection:
            for ids in _some(list(found)):
                query = select_deliveries().where(deliveries.c.job_id.in_(ids)).order_by(deliveries.c.id)
                for row in connection.execute(query):
                    found[row.job_id].append(delivery_of(row))
        return found

    def shadows(self, jobs: Sequence[Job]) -> dict[int, list[Shadow]]:
        """The shadows of each of these jobs."""
        found: dict[int, list[Shadow]] = {job.id: [] for job in jobs}
        with self._reading() as connection:
            for ids in _some(list(found)):
                query = select_shadows().where(shadows.c.job_id.in_(ids)).order_by(shadows.c.id)
                for row in connection.execute(query):
                    found[row.job_id].append(shadow_of(row))
        return found

    def histories(self, jobs: Sequence[Job]) -> dict[int, list[Happened]]:
        """What happened to each of these jobs, the oldest first."""
        found: dict[int, list[Happened]] = {job.id: [] for job in jobs}
        columns = [events.c[name] for name in ("job_id", *Happened.__dataclass_fields__)]
        with self._reading() as connection:
            for ids in _some(list(found)):
                query = sa.select(*columns).where(events.c.job_id.in_(ids)).order_by(events.c.job_id, events.c.id)
                for job_id, *values in connection.execute(query):
                    found[job_id].append(Happened(*values))
        return found

    def queue(self, *, now: float) -> list[int]:
        """The ids of the jobs that wait for a worker, or have one, in the order in which they are worked on."""
        with self._reading() as connection:
            return list(connection.execute(select_queue(now=now)).scalars())

    def seconds_a_job(self, *, most: int = 20) -> float | None:
        """How long a worker takes for a job: the median of the last that were reported; None where none was."""
        taken: dict[int, float] = {}
        began: dict[int, float] = {}
        with self._reading() as connection:
            for job_id, event, at in connection.execute(select_latest_stages(most=most)):
                if event == STARTED:
                    began[job_id] = at
                elif job_id in began:
                    taken[job_id] = taken.get(job_id, 0.0) + max(0.0, at - began.pop(job_id))
        return median(taken.values()) if taken else None

    def refusals(self, *, since: float) -> list[Refusal]:
        """The peers that did not get through since then, the latest first."""
        with self._reading() as connection:
            return [refusal_of(row) for row in connection.execute(select_refusals(since=since))]

    def retry(self, job: Job, *, now: float, destination: str | None = None, reason: str | None = None) -> None:
        """Have a job go on, or what of it has to do with a destination or reason. Raises WrongState."""
        with self._transaction() as connection:
            resume_job(connection, job, now=now, destination=destination, reason=reason)

    def rerun(self, job_id: int, *, now: float) -> Job:
        """Have the series of a job matched and processed again; return the job that is.

        Raises UnknownJob; WrongState for a series that is being received.
        """
        with self._transaction() as connection:
            return process_again(connection, job_id, now=now)

    def send(self, job: Job, destinations: Sequence[str], outgoing: Sequence[Outgoing], *, now: float) -> int:
        """Have results sent again to destinations that have them, and `outgoing` sent; return how many objects.

        Raises WrongState for a job without results.
        """
        with self._transaction() as connection:
            locked = connection.execute(sa.select(jobs).where(jobs.c.id == job.id).with_for_update()).one()
            return send_again(connection, job_of(locked), destinations, outgoing, now=now)


def _some(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), AT_ONCE):
        yield ids[start : start + AT_ONCE]
