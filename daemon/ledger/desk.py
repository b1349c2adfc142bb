"""The ledger as an administrator asks it, and has it go on, process again or send again; beside a running service."""

from collections.abc import Sequence

import sqlalchemy as sa

from daemon.jobs import Job
from daemon.ledger.by_hand import process_again, resume_job, send_again
from daemon.ledger.queries import job_of
from daemon.ledger.rows import Outgoing
from daemon.ledger.schema import jobs
from daemon.ledger.searches import JobFilter, count_jobs, select_jobs, select_stalled
from daemon.ledger.store import Ledger


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
