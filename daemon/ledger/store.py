"""The ledger: the durable record of instances, series, jobs and deliveries. One transaction a change.

Claims are one statement with a lease; every change of a job's state is `UPDATE ... WHERE state = ?` and an event row
in the same transaction, so that whoever lost the job (to a late slice, to another host) changes nothing.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from daemon.choice import Choice
from daemon.errors import UnknownJob
from daemon.jobs import Delivery, DeliveryState, Event, Evidence, HaltCode, Job, Shadow, State
from daemon.ledger.by_hand import cancel_job, match_again, resume_job
from daemon.ledger.database import Database
from daemon.ledger.moves import (
    NOT_CHOSEN,
    add_instance,
    apply_choice,
    cast_shadows,
    count_in_series,
    follow_deliveries,
    is_as_seen,
    lock_study,
    move_job,
    note,
    open_job,
    settle,
)
from daemon.ledger.queries import (
    delivery_of,
    instance_of,
    job_of,
    select_claimable,
    select_deliveries,
    select_due,
    select_due_deliveries,
    select_due_shadows,
    select_incoming,
    select_paths,
    select_shadows,
    select_studies_to_choose,
    select_versions,
    shadow_of,
)
from daemon.ledger.refused import count_refusals
from daemon.ledger.replay import replay
from daemon.ledger.rows import Compared, Due, Incoming, Instance, Outgoing, Received, Refusal, Reported, Tombstone
from daemon.ledger.schema import deliveries, events, instances, jobs, series, shadows
from daemon.ledger.senders import break_off, break_off_unreleased, go_on, release
from daemon.ledger.sending import give_up, insert_deliveries, resume, wait_for

__all__ = ["LEASE_S", "Due", "Incoming", "Instance", "Ledger", "Outgoing"]

LEASE_S = 30.0


class Ledger:
    """All reading and writing of the database. Raises LedgerUnavailable when it does not answer or commit."""

    def __init__(self, url: str) -> None:
        self.database = database = Database(url)
        self._reading, self._transaction = database.reading, database.transaction
        self.migrate, self.close = database.migrate, database.close

    def versions(self, series_instance_uid: str, sop_instance_uid: str | None = None) -> list[Instance]:
        """What came under these UIDs, the oldest first: the last is what counts. Without the second, of each UID."""
        with self._reading() as connection:
            rows = connection.execute(select_versions(series_instance_uid, sop_instance_uid))
            return [instance_of(row) for row in rows]

    def all_series(self) -> list[str]:
        """The UID of every series of which anything came; none in a ledger that is empty."""
        with self._reading() as connection:
            query = sa.select(series.c.series_instance_uid).order_by(series.c.series_instance_uid)
            return list(connection.execute(query).scalars())

    def record_instance(
        self, instance: Instance, *, now: float, difference: str | None = None, is_elsewhere: bool = False
    ) -> bool:
        """Commit an instance to its series and job; False when this version of it was there already.

        The first instance opens the job of the series; a late one reopens it, or opens its next revision. So does a
        later version, which takes the place of the one before: `difference` is what changed, `is_elsewhere` says that
        an archive files it under another patient or study. There, what was sent is to be taken back by a job.
        """
        try:
            with self._transaction() as connection:
                count_in_series(connection, instance, now=now, is_elsewhere=is_elsewhere)
                instance_id = add_instance(connection, instance, now=now)
                open_job(
                    connection,
                    instance,
                    now=now,
                    difference=difference,
                    elsewhere_from=instance_id if is_elsewhere else None,
                )
        except IntegrityError:
            return False
        return True

    def rebuild(self, past: Iterable[Received | Reported | Tombstone], *, first_job_id: int) -> int:
        """Fill an empty ledger with what was received and reported, in one transaction; return how many were reported.

        The ids of its jobs begin with `first_job_id`. Raises StorageUnusable where the ledger is not empty.
        """
        with self._transaction() as connection:
            return replay(connection, past, first_job_id=first_job_id)

    def move_instance(self, instance: Instance, *, path: str) -> None:
        """Record that the file of an instance lies at another path."""
        key = "series_instance_uid", "sop_instance_uid", "version"
        same = [instances.c[name] == getattr(instance, name) for name in key]
        with self._transaction() as connection:
            connection.execute(sa.update(instances).where(*same).values(path=path))

    def release_series(self, series_instance_uids: Sequence[str], *, now: float) -> None:
        """The last association that brought instances of these series has ended, and none had broken off."""
        with self._transaction() as connection:
            release(connection, series_instance_uids, now=now)

    def resume_series(self, instances_of: Mapping[str, int | None]) -> None:
        """The sending of these series had broken off; their sender has sent more of them, and come to an end.

        Or so many instances that were here already (None: some were not): all of them, where there are no more.
        """
        with self._transaction() as connection:
            go_on(connection, instances_of)

    def hold_series(self, series_instance_uids: Sequence[str], *, calling_ae_title: str | None = None) -> None:
        """An association broke off: no earlier release closes these series, nor others that this peer is sending.

        Without a peer: these are not all here before they are released.
        """
        with self._transaction() as connection:
            break_off(connection, series_instance_uids, calling_ae_title=calling_ae_title)

    def hold_unreleased(self) -> int:
        """The service ended, and with it every association: what these were bringing broke off; return how many."""
        with self._transaction() as connection:
            return break_off_unreleased(connection)

    def due_series(
        self,
        *,
        now: float,
        quiet_s: float,
        released_quiet_s: float,
        proved_quiet_s: float = 0.0,
        listening_since: float = 0.0,
    ) -> list[Due]:
        """Jobs in RECEIVING whose series is all there, or has been quiet for long enough.

        One of which the sender said that it has more than came waits `quiet_s`. A service that was down could not
        hear a sender: its silence counts from `listening_since` on.
        """
        quiet_since = now - quiet_s if listening_since <= now - quiet_s else None
        with self._reading() as connection:
            query = select_due(
                now=now,
                quiet_since=quiet_since,
                released_since=now - released_quiet_s,
                proved_quiet_s=proved_quiet_s,
            )
            rows = connection.execute(query).all()
        return [Due(**{**row._mapping, "evidence": Evidence(row.evidence)}) for row in rows]

    def incoming(self, calling_ae_title: str) -> list[Incoming]:
        """The series that this peer is sending, as far as they are here."""
        with self._reading() as connection:
            query = select_incoming(calling_ae_title, columns=list(Incoming.__dataclass_fields__))
            return [Incoming(*row) for row in connection.execute(query)]

    def expect(self, instances_of: Mapping[str, int], *, now: float) -> None:
        """How many instances the sender says that each of these series has; it was asked at `now`."""
        with self._transaction() as connection:
            for uid, expected in sorted(instances_of.items()):
                connection.execute(
                    sa.update(series)
                    .where(series.c.series_instance_uid == uid)
                    .values(expected=expected, expected_at=now)
                )

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

    def studies_to_choose(self, *, now: float) -> list[str]:
        """Studies with a closed series of which it is not said yet whether it is reported, and none still coming in.

        Nor one whose judgement is to be tried again later.
        """
        with self._reading() as connection:
            return list(connection.execute(select_studies_to_choose(now=now)).scalars())

    def jobs_of_study(self, study_instance_uid: str) -> list[Job]:
        """Every job of a study, oldest first."""
        with self._reading() as connection:
            query = sa.select(jobs).where(jobs.c.study_instance_uid == study_instance_uid)
            return [job_of(row) for row in connection.execute(query.order_by(jobs.c.id))]

    def jobs_of_series(self, series_instance_uid: str) -> list[Job]:
        """Every job of a series, by revision."""
        with self._reading() as connection:
            query = sa.select(jobs).where(jobs.c.series_instance_uid == series_instance_uid)
            return [job_of(row) for row in connection.execute(query.order_by(jobs.c.revision))]

    def choose(self, choice: Choice, seen: Sequence[Job], *, now: float) -> bool:
        """Commit a choice that was made of `seen`, all jobs of one study under one rule.

        False, and nothing changes, when they are not what they were, or another series of the study is coming in.
        """
        with self._transaction() as connection:
            locked = lock_study(connection, seen[0].study_instance_uid)
            if not is_as_seen(locked, seen):
                return False
            apply_choice(connection, choice, now=now)
        return True

    def instance_paths(self, series_instance_uid: str, *, before_instance: int | None = None) -> list[str]:
        """Paths, relative to the storage root, of a series' instances, in the order of their UIDs.

        Those that count now, or that counted before this instance, the id of its row, took the place of another.
        """
        with self._reading() as connection:
            query = select_paths(series_instance_uid, before_instance=before_instance)
            return list(connection.execute(query).scalars())

    def claim_job(self, lease: str, *, now: float) -> Job | None:
        """Take the most urgent chosen job that a worker can go on with, for LEASE_S seconds; None if there is none.

        A worker that asks holds nothing: a job still under its lease is one that it could not give back.
        """
        waiting = select_claimable(lease, now=now).with_for_update(skip_locked=True)
        with self._transaction() as connection:
            row = connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == waiting.scalar_subquery())
                .values(lease=lease, lease_until=now + LEASE_S)
                .returning(jobs)
            ).one_or_none()
            if row:
                note(connection, row.id, "STARTED", now=now, from_state=row.state)
        return job_of(row) if row else None

    def renew_lease(self, lease: str, *, now: float) -> None:
        """The heartbeat of the worker that holds `lease`, and of those whose leases begin with it and a slash."""
        held = sa.or_(jobs.c.lease == lease, jobs.c.lease.startswith(f"{lease}/", autoescape=True))
        with self._transaction() as connection:
            connection.execute(sa.update(jobs).where(held).values(lease_until=now + LEASE_S))

    def free_leases(self, host: str) -> int:
        """Free the leases that workers of this host held when the service ended; costs no attempt."""
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
        outgoing: Sequence[Outgoing] = (),
        shadow_models: Sequence[str] = (),
    ) -> bool:
        """Move a claimed job on and give its lease back; False when the job is no longer ours or elsewhere.

        `shadow_models` are run on its volumes from then on.
        """
        values = {
            "lease": None,
            "lease_until": None,
            "attempts": 0,
            "not_before": None,
            "warnings": json.dumps(list(dict.fromkeys([*job.warnings, *warnings]))),
        }
        with self._transaction() as connection:
            moved = move_job(
                connection,
                job.id,
                job.state,
                event,
                now=now,
                values=values,
                code=job.reject_reason,
                where=jobs.c.lease == job.lease,
            )
            if moved:
                insert_deliveries(connection, job.id, outgoing)
                cast_shadows(connection, job.id, shadow_models)
                if event == Event.REPORTED:
                    follow_deliveries(connection, job.id, now=now)
        return moved

    def refuse(self, job: Job, reason: str, *, now: float) -> bool:
        """Give a claimed job back with a reason why it is not processed; False when it is no longer ours.

        It waits as REFUSED for the choice: another series may be answered in its place.
        """
        values = NOT_CHOSEN | {
            "reject_reason": reason,
            "lease": None,
            "lease_until": None,
            "attempts": 0,
            "not_before": None,
        }
        with self._transaction() as connection:
            return move_job(
                connection,
                job.id,
                job.state,
                Event.REFUSED,
                now=now,
                values=values,
                code=reason,
                where=jobs.c.lease == job.lease,
            )

    def postpone(self, job: Job, *, now: float, until: float, code: str, counts: bool) -> None:
        """Give a claimed job back, to be tried again; `counts` says whether this was an attempt."""
        values = {"not_before": until, "attempts": job.attempts + int(counts)}
        self._give_back(job, "POSTPONED", now=now, code=code, values=values)

    def halt(self, job: Job, code: HaltCode, *, now: float, outgoing: Sequence[Outgoing] = ()) -> None:
        """Give a claimed job back, to stand still until `retry`; `outgoing` says meanwhile why there are no results."""
        values = {"halt": code, "attempts": job.attempts + 1}
        self._give_back(job, "HALTED", now=now, code=code, values=values, outgoing=outgoing)

    def _give_back(
        self,
        job: Job,
        event: str,
        *,
        now: float,
        code: str,
        values: Mapping[str, Any],
        outgoing: Sequence[Outgoing] = (),
    ) -> None:
        with self._transaction() as connection:
            given = connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == job.id, jobs.c.state == job.state, jobs.c.lease == job.lease)
                .values(lease=None, lease_until=None, **values)
            )
            if given.rowcount:
                note(connection, job.id, event, now=now, from_state=job.state, code=code)
                insert_deliveries(connection, job.id, outgoing)

    def due_deliveries(self, *, now: float, to: str | None = None, not_to: Collection[str] = ()) -> list[Delivery]:
        """Objects that are to be stored or confirmed now: those for one destination, or for none of `not_to`."""
        with self._reading() as connection:
            query = select_due_deliveries(now=now, to=to, not_to=not_to)
            return [delivery_of(row) for row in connection.execute(query)]

    def has_sent_series(self, series_instance_uid: str) -> bool:
        """Whether a series is one of results of ours."""
        query = sa.select(sa.exists().where(deliveries.c.series_instance_uid == series_instance_uid))
        with self._reading() as connection:
            return bool(connection.execute(query).scalar_one())

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
                .values(state=state, attempts=0, last_status=status, not_before=not_before, waited_s=0)
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

    def halt_delivery(self, delivery: Delivery, code: HaltCode, *, now: float, status: str) -> None:
        """The delivery has failed, and stands still until `retry`; the others of its job go on."""
        with self._transaction() as connection:
            give_up(connection, delivery, code, now=now, status=status)

    def wait_for_destination(self, destination: str, *, now: float, until: float, status: str) -> int:
        """Nothing is tried there before `until`; how many deliveries wait. It costs none of them an attempt."""
        with self._transaction() as connection:
            return wait_for(connection, destination, now=now, until=until, status=status)

    def resume_destination(self, destination: str) -> int:
        """All that waited for a destination is due now; how many deliveries."""
        with self._transaction() as connection:
            return resume(connection, destination)

    def due_shadows(self, *, now: float) -> list[Shadow]:
        """Shadows that are to be run now, oldest first, also of cancelled jobs; none while a job is to be worked on."""
        with self._reading() as connection:
            return [shadow_of(row) for row in connection.execute(select_due_shadows(now=now))]

    def shadows_of(self, job_id: int) -> list[Shadow]:
        """All shadows of a job."""
        with self._reading() as connection:
            rows = connection.execute(select_shadows().where(shadows.c.job_id == job_id).order_by(shadows.c.id))
            return [shadow_of(row) for row in rows]

    def settle_shadow(self, shadow: Shadow, *, now: float, compared: Compared | None = None, code: str = "") -> None:
        """Record the outcome of a shadow: how it compares, or the code of why there is nothing to compare."""
        with self._transaction() as connection:
            settle(connection, shadow, compared, now=now, code=code or None)

    def postpone_shadow(self, shadow: Shadow, *, until: float, code: str, counts: bool) -> None:
        """The next attempt is not before `until`; `counts` says whether there was one that failed."""
        with self._transaction() as connection:
            connection.execute(
                sa.update(shadows)
                .where(shadows.c.id == shadow.id)
                .values(attempts=shadow.attempts + int(counts), not_before=until, code=code)
            )

    def count_refusals(self, refused: Sequence[Refusal]) -> None:
        """Add to what is known of peers that did not get through."""
        with self._transaction() as connection:
            count_refusals(connection, refused)

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
        """Have a job, and its deliveries, go on that stand still or wait. Raises UnknownJob, WrongState.

        WrongState where nothing does, and for one without results that has a later revision: that is of more slices.
        Meanwhile another series of the study may have been reported: one without results is to be chosen again.
        """
        job = self.job(job_id)
        with self._transaction() as connection:
            resume_job(connection, job, now=now)

    def rematch(self, job: Job, *, now: float) -> bool:
        """Have a job whose rule is gone fall under one of today; False where it has sent something, or is not ours."""
        with self._transaction() as connection:
            return match_again(connection, job, now=now)

    def cancel(self, job_id: int, *, now: float) -> None:
        """End a job. Raises UnknownJob, WrongState when it has ended."""
        job = self.job(job_id)
        with self._transaction() as connection:
            cancel_job(connection, job, now=now)
