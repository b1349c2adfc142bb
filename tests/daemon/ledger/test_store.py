"""One suite over both databases: what is recorded, who may work on it, and that nobody overtakes anybody."""

import multiprocessing
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from daemon.choice import Choice, Chosen
from daemon.errors import LedgerLost, LedgerUnavailable, UnknownJob, WrongState
from daemon.jobs import Delivery, DeliveryState, Event, HaltCode, Job, State
from daemon.ledger.answers import first_received_at, is_answered, is_incomplete
from daemon.ledger.desk import Desk
from daemon.ledger.schema import metadata
from daemon.ledger.store import LEASE_S, Due, Incoming, Instance, Ledger, Outgoing
from dicom_io.errors import RejectReason
from dicom_io.files.uids import derive_uid
from reports.objects.kinds import FORMS

NOW = 1_000_000.0
LEASE = "host-a/1"
OTHER_LEASE = "host-b/1"

MakeInstance = Callable[..., Instance]


def outgoing(object: str = "seg", destination: str = "archive", confirm: str = "none") -> Outgoing:
    return Outgoing(
        destination=destination,
        form=FORMS[object],
        sop_instance_uid=derive_uid(object),
        series_instance_uid=derive_uid(object, "series"),
        path=f"outbox/1/{object}.dcm",
        confirm=confirm,
    )


def only_job(ledger: Ledger) -> Job:
    (job,) = ledger.all_jobs()
    return job


def due(ledger: Ledger, *, now: float = NOW + 100) -> list[Due]:
    return ledger.due_series(now=now, quiet_s=20, released_quiet_s=5)


def waiting(ledger: Ledger, instance: Instance, *, priority: int = 0) -> Job:
    """A job in RECEIVED, of a series of one instance, that is not chosen yet."""
    assert ledger.record_instance(instance, now=NOW)
    (item,) = [item for item in due(ledger) if item.series_instance_uid == instance.series_instance_uid]
    assert ledger.close_series(item, now=NOW + 100, rule="liver-ct", priority=priority)
    return ledger.job(item.job_id)


def closed(ledger: Ledger, instance: Instance, *, priority: int = 0) -> Job:
    """A job in RECEIVED, of a series of one instance, that is to be worked on."""
    return choose(ledger, waiting(ledger, instance, priority=priority).id)


def choose(ledger: Ledger, job_id: int, *, now: float = NOW + 100) -> Job:
    """The job, chosen, whatever else its study holds."""
    job = ledger.job(job_id)
    assert ledger.choose(Choice(chosen=(Chosen(job),)), rivals(ledger, job), now=now)
    return ledger.job(job_id)


def rivals(ledger: Ledger, job: Job) -> list[Job]:
    """All jobs of its study under its rule."""
    return [other for other in ledger.jobs_of_study(job.study_instance_uid) if other.rule == job.rule]


def claimed(ledger: Ledger, *, lease: str = LEASE, now: float = NOW + 100) -> Job:
    job = ledger.claim_job(lease, now=now)
    assert job is not None
    return job


def reported(ledger: Ledger, instance: Instance, *items: Outgoing) -> Job:
    """A job in REPORTED with these deliveries; without any it goes further at once."""
    closed(ledger, instance)
    assert ledger.finish_stage(claimed(ledger), Event.SEGMENTED, now=NOW + 101)
    job = claimed(ledger, now=NOW + 102)
    assert ledger.finish_stage(job, Event.REPORTED, now=NOW + 102, outgoing=items)
    return ledger.job(job.id)


def advanced(ledger: Ledger, job_id: int, *states: DeliveryState) -> State:
    """The state of the job when its deliveries were put into these, one after another."""
    for delivery, state in zip(ledger.deliveries_of(job_id), states, strict=True):
        if delivery.state != state:
            ledger.advance_delivery(delivery, state, now=NOW + 103, status="0x0000")
    return ledger.job(job_id).state


def in_state(ledger: Ledger, instance: Instance, state: State) -> Job:
    """A job that went the usual way to `state`."""
    if state == State.RECEIVING:
        ledger.record_instance(instance, now=NOW)
        return only_job(ledger)
    if state == State.REJECTED:
        ledger.record_instance(instance, now=NOW)
        (item,) = due(ledger)
        assert ledger.close_series(item, now=NOW, rule=None, reject_reason=RejectReason.NO_RULE)
        return only_job(ledger)
    if state == State.CANCELLED:
        ledger.record_instance(instance, now=NOW)
        ledger.cancel(only_job(ledger).id, now=NOW)
        return only_job(ledger)
    if state == State.RECEIVED:
        return closed(ledger, instance)
    if state == State.SEGMENTED:
        closed(ledger, instance)
        assert ledger.finish_stage(claimed(ledger), Event.SEGMENTED, now=NOW + 101, warnings=["NO_LIVER"])
        return only_job(ledger)
    if state == State.REFUSED:
        assert ledger.refuse(closed(ledger, instance), RejectReason.TOO_SHORT, now=NOW + 101)
        return only_job(ledger)
    job = reported(ledger, instance, outgoing(confirm="query"))
    if state in (State.DELIVERED, State.CONFIRMED):
        advanced(ledger, job.id, DeliveryState.STORED)
    if state == State.CONFIRMED:
        advanced(ledger, job.id, DeliveryState.CONFIRMED)
    return ledger.job(job.id)


def events(ledger: Ledger, job_id: int) -> list[tuple[str, str | None, str | None]]:
    """What happened to a job, but for the moments at which a worker took it up."""
    rows = [row for row in ledger.history(job_id) if row["event"] != "STARTED"]
    return [(row["event"], row["from_state"], row["to_state"]) for row in rows]


def uids_of(instance: Instance) -> tuple[str, str]:
    return instance.series_instance_uid, instance.sop_instance_uid


# --- what comes in


def test_the_first_instance_opens_the_job(any_ledger: Ledger, make_instance: MakeInstance):
    """A job in RECEIVING with the sender and the count, and the event of its birth."""
    assert any_ledger.record_instance(make_instance(), now=NOW)
    job = only_job(any_ledger)
    assert job == Job(
        id=job.id,
        series_instance_uid=derive_uid("series", 1),
        study_instance_uid=derive_uid("study", 1),
        revision=1,
        calling_ae_title="MODALITY",
        rule=None,
        priority=0,
        state=State.RECEIVING,
        reject_reason=None,
        attempts=0,
        not_before=None,
        halt=None,
        instances=1,
        warnings=(),
        created_at=NOW,
    )
    assert events(any_ledger, job.id) == [("OPENED", None, "RECEIVING")]


def test_an_instance_is_read_back_as_it_was_recorded(any_ledger: Ledger, make_instance: MakeInstance):
    """Also one that is larger than a 32-bit number can say."""
    instance = make_instance(bytes=5_000_000_000)
    any_ledger.record_instance(instance, now=NOW)
    assert any_ledger.versions(*uids_of(instance)) == [instance]
    assert any_ledger.versions(instance.series_instance_uid, derive_uid("never seen")) == []
    assert any_ledger.instance_paths(instance.series_instance_uid) == [instance.path]


def test_the_same_instance_twice_is_one_row(any_ledger: Ledger, make_instance: MakeInstance):
    """The second is answered False, and counts nowhere."""
    assert any_ledger.record_instance(make_instance(), now=NOW)
    assert not any_ledger.record_instance(make_instance(sha256="f" * 64), now=NOW + 50)
    assert only_job(any_ledger).instances == 1
    assert any_ledger.versions(*uids_of(make_instance())) == [make_instance()]
    # Nor does it put off the closing.
    assert len(due(any_ledger, now=NOW + 21)) == 1


def test_further_instances_join_the_open_job(any_ledger: Ledger, make_instance: MakeInstance):
    """One job a series, however many instances, and one a series when there are two."""
    for series in (1, 2):
        for index in range(4):
            assert any_ledger.record_instance(make_instance(series, index), now=NOW)
    assert [job.instances for job in any_ledger.all_jobs()] == [4, 4]
    paths = any_ledger.instance_paths(derive_uid("series", 1))
    by_uid = sorted(range(4), key=lambda index: derive_uid("instance", 1, index))
    assert paths == [f"spool/1/{index}.dcm" for index in by_uid]


@pytest.mark.parametrize("state", [State.RECEIVING, State.RECEIVED, State.SEGMENTED, State.REFUSED, State.REJECTED])
def test_a_late_instance_reopens_the_job(any_ledger: Ledger, make_instance: MakeInstance, state: State):
    """What was learned of fewer slices (reason, warnings, attempts, a wait) is forgotten with the old state."""
    job = in_state(any_ledger, make_instance(index=1), state)
    assert any_ledger.record_instance(make_instance(index=2), now=NOW + 200)
    again = only_job(any_ledger)
    assert (again.id, again.revision, again.state, again.instances) == (job.id, 1, State.RECEIVING, 2)
    assert (again.reject_reason, again.warnings, again.attempts, again.not_before) == (None, (), 0, None)
    if state != State.RECEIVING:
        assert events(any_ledger, job.id)[-1] == ("LATE_INSTANCE", state, "RECEIVING")
    assert [item.instances for item in due(any_ledger, now=NOW + 220)] == [2]


@pytest.mark.parametrize("state", [State.REPORTED, State.DELIVERED, State.CONFIRMED])
def test_a_late_instance_after_the_results_opens_a_revision(
    any_ledger: Ledger, make_instance: MakeInstance, state: State
):
    """The first job keeps its state and its results; a second one has all instances."""
    before = in_state(any_ledger, make_instance(index=1), state)
    assert any_ledger.record_instance(make_instance(index=2), now=NOW + 200)
    first, second = any_ledger.all_jobs()
    assert first == before
    assert (second.revision, second.state, second.instances) == (2, State.RECEIVING, 2)
    assert second.series_instance_uid == first.series_instance_uid
    # The next one joins it.
    assert any_ledger.record_instance(make_instance(index=3), now=NOW + 201)
    assert [job.instances for job in any_ledger.all_jobs()] == [1, 3]
    (item,) = due(any_ledger, now=NOW + 300)
    assert item.job_id == second.id
    assert any_ledger.close_series(item, now=NOW + 300, rule="liver-ct")


def test_a_late_instance_of_a_cancelled_job_is_kept_and_opens_nothing(any_ledger: Ledger, make_instance: MakeInstance):
    """A person has said stop."""
    before = in_state(any_ledger, make_instance(index=1), State.CANCELLED)
    assert any_ledger.record_instance(make_instance(index=2), now=NOW + 200)
    assert only_job(any_ledger) == before
    assert any_ledger.versions(*uids_of(make_instance(index=2)))


def test_a_late_instance_takes_the_job_from_its_worker(any_ledger: Ledger, make_instance: MakeInstance):
    """Whoever works on fewer slices finds at the end that the job is no longer its own."""
    closed(any_ledger, make_instance(index=1))
    job = claimed(any_ledger)
    assert any_ledger.record_instance(make_instance(index=2), now=NOW + 200)
    assert not any_ledger.finish_stage(job, Event.SEGMENTED, now=NOW + 201)
    any_ledger.postpone(job, now=NOW + 201, until=NOW + 999, code="WorkerCrashed", counts=True)
    any_ledger.halt(job, HaltCode.WORKER_FAILED, now=NOW + 201)
    again = only_job(any_ledger)
    assert (again.state, again.attempts, again.not_before, again.halt) == (State.RECEIVING, 0, None, None)


# --- when a series is due


@pytest.mark.parametrize(("age_s", "expected"), [(19.9, 0), (20.0, 1), (1000.0, 1)])
def test_a_series_is_due_when_quiet(any_ledger: Ledger, make_instance: MakeInstance, age_s: float, expected: int):
    """`quiet_s` after its last instance, when nobody released an association."""
    any_ledger.record_instance(make_instance(index=1), now=NOW - 500)
    any_ledger.record_instance(make_instance(index=2), now=NOW)
    items = due(any_ledger, now=NOW + age_s)
    assert [(item.instances, item.calling_ae_title) for item in items] == [(2, "MODALITY")] * expected


@pytest.mark.parametrize(("age_s", "expected"), [(4.9, 0), (5.0, 1)])
def test_a_released_series_is_due_sooner(any_ledger: Ledger, make_instance: MakeInstance, age_s: float, expected: int):
    """`released_quiet_s` after the release of the last association that brought one of its instances."""
    any_ledger.record_instance(make_instance(1), now=NOW)
    any_ledger.record_instance(make_instance(2), now=NOW)
    any_ledger.release_series([derive_uid("series", 1)], now=NOW + 3)
    items = due(any_ledger, now=NOW + 3 + age_s)
    assert [item.series_instance_uid for item in items] == [derive_uid("series", 1)] * expected


def test_an_instance_after_the_release_makes_the_series_wait_again(any_ledger: Ledger, make_instance: MakeInstance):
    """Somebody else is sending: only quiet or another release closes the series."""
    any_ledger.record_instance(make_instance(index=1), now=NOW)
    any_ledger.release_series([derive_uid("series", 1)], now=NOW + 1)
    any_ledger.record_instance(make_instance(index=2), now=NOW + 2)
    assert due(any_ledger, now=NOW + 10) == []
    assert len(due(any_ledger, now=NOW + 22)) == 1
    any_ledger.release_series([derive_uid("series", 1)], now=NOW + 3)
    assert len(due(any_ledger, now=NOW + 10)) == 1


def test_what_is_closed_is_no_longer_due(any_ledger: Ledger, make_instance: MakeInstance):
    """And is what it was closed as: under a rule with its priority, or rejected with a reason."""
    any_ledger.record_instance(make_instance(1), now=NOW)
    any_ledger.record_instance(make_instance(2), now=NOW)
    first, second = due(any_ledger)
    assert any_ledger.close_series(first, now=NOW + 100, rule="liver-ct", priority=7)
    assert any_ledger.close_series(second, now=NOW + 100, rule=None, reject_reason=RejectReason.NO_RULE)
    assert due(any_ledger) == []
    assert not any_ledger.close_series(first, now=NOW + 101, rule="other")
    accepted, rejected = any_ledger.all_jobs()
    assert (accepted.state, accepted.rule, accepted.priority) == (State.RECEIVED, "liver-ct", 7)
    assert (rejected.state, rejected.rule, rejected.reject_reason) == (State.REJECTED, None, "NO_RULE")
    assert [row["code"] for row in any_ledger.history(rejected.id)] == [None, "NO_RULE"]


@pytest.mark.parametrize(
    ("expected", "released", "age_s", "evidence"),
    [
        (3, False, 0.0, "PROVED"),
        (3, True, 19.9, "PROVED"),
        (3, True, 100.0, "QUIET"),
        (5, False, 19.9, None),
        (5, True, 19.9, None),
        (5, True, 20.0, "QUIET"),
        (2, True, 4.9, None),
        (2, True, 5.0, "RELEASED"),
        (2, False, 19.9, None),
        (None, True, 5.0, "RELEASED"),
        (None, True, 20.0, "QUIET"),
        (None, False, 20.0, "QUIET"),
    ],
)
def test_by_what_evidence_a_series_is_due(
    any_ledger: Ledger,
    make_instance: MakeInstance,
    expected: int | None,
    released: bool,
    age_s: float,
    evidence: str | None,
):
    """Three instances: as many as the sender has, or fewer, or more, or it said nothing."""
    for index in range(3):
        any_ledger.record_instance(make_instance(index=index), now=NOW)
    if expected is not None:
        any_ledger.expect({derive_uid("series", 1): expected, derive_uid("series", 2): 7}, now=NOW)
    if released:
        any_ledger.release_series([derive_uid("series", 1)], now=NOW)
    found = [(item.evidence, item.expected, item.instances) for item in due(any_ledger, now=NOW + age_s)]
    assert found == ([] if evidence is None else [(evidence, expected, 3)])


@pytest.mark.parametrize(
    ("broken", "expected", "asked_after_s", "incomplete"),
    [
        (False, None, 0, False),
        (True, None, 0, True),
        (True, 3, 1.9, True),
        (True, 3, 2.0, False),
        (True, 2, 5.0, True),
        (False, 4, 0, True),
        (False, 2, 5.0, False),
    ],
)
def test_when_slices_may_be_missing(
    any_ledger: Ledger,
    make_instance: MakeInstance,
    broken: bool,
    expected: int | None,
    asked_after_s: float,
    incomplete: bool,
):
    """Its sending broke off, and no count proves that all three are here; or its sender has more."""
    for index in range(3):
        any_ledger.record_instance(make_instance(index=index), now=NOW)
    if broken:
        any_ledger.hold_series([derive_uid("series", 1)], calling_ae_title="MODALITY")
    if expected is not None:
        any_ledger.expect({derive_uid("series", 1): expected}, now=NOW + asked_after_s)
    assert is_incomplete(any_ledger.database, derive_uid("series", 1)) is incomplete


def test_what_was_coming_when_the_service_ended_broke_off(any_ledger: Ledger, make_instance: MakeInstance):
    """Nobody saw those associations end; what was released since its last instance, or is closed, is not concerned."""
    for number in (1, 2, 3):
        any_ledger.record_instance(make_instance(number), now=NOW)
    in_state(any_ledger, make_instance("closed"), State.RECEIVED)
    numbers = [derive_uid("series", number) for number in (1, 2, 3, "closed")]
    any_ledger.release_series(numbers[:2], now=NOW + 1)
    any_ledger.record_instance(make_instance(2, index=2), now=NOW + 2)
    assert any_ledger.hold_unreleased() == 2
    assert [is_incomplete(any_ledger.database, uid) for uid in numbers] == [False, True, True, False]
    any_ledger.release_series(numbers[2:3], now=NOW + 3)
    any_ledger.resume_series({numbers[1]: 1})
    assert is_incomplete(any_ledger.database, numbers[1])
    any_ledger.resume_series({numbers[1]: 2})
    assert [is_incomplete(any_ledger.database, uid) for uid in numbers] == [False] * 4


def test_one_more_than_was_proved(any_ledger: Ledger, make_instance: MakeInstance):
    """The proof held for what was there; the late one is waited with like any."""
    any_ledger.record_instance(make_instance(index=1), now=NOW)
    any_ledger.expect({derive_uid("series", 1): 1}, now=NOW)
    (item,) = due(any_ledger, now=NOW)
    any_ledger.record_instance(make_instance(index=2), now=NOW + 1)
    assert not any_ledger.close_series(item, now=NOW + 1, rule="liver-ct")
    assert due(any_ledger, now=NOW + 2) == []
    assert len(due(any_ledger, now=NOW + 21)) == 1


def test_what_a_peer_is_sending(any_ledger: Ledger, make_instance: MakeInstance):
    """Its own series that are still coming in, with what there is to know of them."""
    in_state(any_ledger, make_instance("closed"), State.RECEIVED)
    any_ledger.record_instance(make_instance(1), now=NOW)
    any_ledger.record_instance(make_instance(2, calling_ae_title="OTHER"), now=NOW)
    any_ledger.record_instance(make_instance(1, 2), now=NOW + 1)
    any_ledger.release_series([derive_uid("series", 1)], now=NOW + 2)
    any_ledger.expect({derive_uid("series", 1): 40}, now=NOW)
    (item,) = any_ledger.incoming("MODALITY")
    assert item == Incoming(derive_uid("series", 1), derive_uid("study", 1), 2, 40, NOW + 1, NOW + 2, 1)
    assert [item.instances for item in any_ledger.incoming("OTHER")] == [1]
    assert any_ledger.incoming("NOBODY") == []


def test_closing_loses_to_an_instance_that_came_meanwhile(any_ledger: Ledger, make_instance: MakeInstance):
    """The series was due as it stood; it stands otherwise now."""
    any_ledger.record_instance(make_instance(index=1), now=NOW)
    (item,) = due(any_ledger)
    any_ledger.record_instance(make_instance(index=2), now=NOW + 100)
    assert not any_ledger.close_series(item, now=NOW + 100, rule="liver-ct")
    assert only_job(any_ledger).state == State.RECEIVING
    assert only_job(any_ledger).instances == 2


def test_closing_loses_to_an_instance_whose_transaction_is_open(
    postgres_database: str, make_instance: MakeInstance, until: Callable[[Callable[[], object]], None]
):
    """PostgreSQL lets both begin: the closing waits for the row, and must then see what it has become."""
    ledger = Ledger(postgres_database)
    ledger.migrate()
    ledger.record_instance(make_instance(index=1), now=NOW)
    (item,) = due(ledger)
    engine = sa.create_engine(postgres_database)
    answers: list[bool] = []
    closing = threading.Thread(target=lambda: answers.append(ledger.close_series(item, now=NOW + 100, rule="liver-ct")))
    with engine.begin() as connection:
        # The statements of `record_instance`, held open before their commit.
        for table in ("series", "jobs"):
            connection.execute(sa.text(f"UPDATE {table} SET instances = instances + 1"))
        closing.start()
        with engine.connect() as watching:
            waiting = sa.text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            until(lambda: watching.execute(waiting).scalar_one() or watching.rollback())
    closing.join()
    assert answers == [False]
    assert only_job(ledger).state == State.RECEIVING
    engine.dispose()
    ledger.close()


# --- who works on it


def test_a_claim_takes_the_most_urgent_job_once(any_ledger: Ledger, make_instance: MakeInstance):
    """By priority, then by age; two claimers never get the same one, and the third gets none."""
    first = closed(any_ledger, make_instance(1))
    urgent = closed(any_ledger, make_instance(2), priority=5)
    assert claimed(any_ledger).id == urgent.id
    assert claimed(any_ledger, lease=OTHER_LEASE).id == first.id
    assert any_ledger.claim_job("host-c/1", now=NOW + 100) is None


def test_the_results_of_the_most_urgent_job_are_sent_first(any_ledger: Ledger, make_instance: MakeInstance):
    """By priority, then by age; but what failed before keeps none waiting."""
    ordered = [
        closed(any_ledger, make_instance(number), priority=priority).id for number, priority in enumerate((0, 5, 5))
    ]
    for _ in ordered:
        assert any_ledger.finish_stage(claimed(any_ledger), Event.SEGMENTED, now=NOW + 101)
        assert any_ledger.finish_stage(claimed(any_ledger), Event.REPORTED, now=NOW + 102, outgoing=(outgoing(),))
    usual, urgent, later = ordered
    assert [item.job_id for item in any_ledger.due_deliveries(now=NOW + 103)] == [urgent, later, usual]
    failed = any_ledger.due_deliveries(now=NOW + 103)[0]
    any_ledger.postpone_delivery(failed, until=NOW + 103, status="0x0110", counts=True)
    assert [item.job_id for item in any_ledger.due_deliveries(now=NOW + 103)] == [later, usual, urgent]


def test_a_study_is_answered_by_what_another_series_of_it_sent(any_ledger: Ledger, make_instance: MakeInstance):
    """Not by its own results, nor by a verdict; the first image of a series tells when it began."""

    def is_answered_for(instance: Instance) -> bool:
        uids = {key: getattr(instance, key) for key in ("study_instance_uid", "series_instance_uid")}
        return is_answered(any_ledger.database, **uids)

    first, second, refused = (make_instance(number, study_instance_uid="1.2.3") for number in (1, 2, 3))
    job = closed(any_ledger, refused)
    assert any_ledger.refuse(claimed(any_ledger), RejectReason.TOO_FEW_SLICES, now=NOW + 101)
    job = any_ledger.job(job.id)
    assert any_ledger.choose(Choice(verdicts=(job,)), [job], now=NOW + 102)
    assert any_ledger.finish_stage(claimed(any_ledger), Event.REPORTED, now=NOW + 103, outgoing=(outgoing("verdict"),))
    assert not is_answered_for(second)
    reported(any_ledger, first, outgoing())
    assert is_answered_for(second)
    assert not is_answered_for(first)
    assert first_received_at(any_ledger.database, first.series_instance_uid) == NOW
    assert first_received_at(any_ledger.database, "1.2.9") == 0


def test_nothing_but_received_and_segmented_is_claimed(any_ledger: Ledger, make_instance: MakeInstance):
    """Jobs that are still coming in, have ended, or are on their way out need no worker."""
    any_ledger.record_instance(make_instance("receiving"), now=NOW + 100)
    reported(any_ledger, make_instance("reported"), outgoing())
    rejected = closed(any_ledger, make_instance("rejected"))
    assert any_ledger.refuse(claimed(any_ledger), "NOT_CT", now=NOW + 101)
    assert any_ledger.claim_job(LEASE, now=NOW + 101) is None
    refused = any_ledger.job(rejected.id)
    assert any_ledger.choose(Choice(refused=(refused,)), [refused], now=NOW + 101)
    assert any_ledger.job(rejected.id).state == State.REJECTED
    cancelled = closed(any_ledger, make_instance("cancelled"))
    any_ledger.cancel(cancelled.id, now=NOW + 101)
    halted = closed(any_ledger, make_instance("halted"))
    any_ledger.halt(claimed(any_ledger), HaltCode.WORKER_FAILED, now=NOW + 101)
    assert any_ledger.job(halted.id).halt == HaltCode.WORKER_FAILED
    assert any_ledger.claim_job(LEASE, now=NOW + 1000) is None


def test_many_claimers_at_once_share_the_jobs(any_ledger: Ledger, make_instance: MakeInstance):
    """Eight threads, six jobs: each job is claimed by exactly one."""
    for series in range(6):
        closed(any_ledger, make_instance(series))
    start = threading.Barrier(8)
    got: list[Job | None] = []

    def claim(number: int) -> None:
        start.wait()
        got.append(any_ledger.claim_job(f"host-{number}/1", now=NOW + 100))

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A claimer may look at the row that another one is just taking, and go away with none: it will look again.
    while (job := any_ledger.claim_job("host-last/1", now=NOW + 100)) and len(got) < 100:
        got.append(job)
        any_ledger.renew_lease("host-last/1", now=NOW + 100)
        any_ledger.finish_stage(job, Event.SEGMENTED, now=NOW + 100)
    ids = [job.id for job in got[:8] if job]
    assert len(set(ids)) == len(ids)
    assert {job.id for job in got if job} == {job.id for job in any_ledger.all_jobs()}


def test_a_lease_that_ran_out_can_be_taken(any_ledger: Ledger, make_instance: MakeInstance):
    """A worker that was not heard of for 30 s has lost its job, and its result."""
    closed(any_ledger, make_instance())
    lost = claimed(any_ledger)
    assert any_ledger.claim_job(OTHER_LEASE, now=NOW + 100 + LEASE_S) is None
    taken = any_ledger.claim_job(OTHER_LEASE, now=NOW + 101 + LEASE_S)
    assert taken is not None
    assert not any_ledger.finish_stage(lost, Event.SEGMENTED, now=NOW + 200)
    assert any_ledger.finish_stage(taken, Event.SEGMENTED, now=NOW + 200)
    assert only_job(any_ledger).attempts == 0


def test_a_heartbeat_keeps_the_lease(any_ledger: Ledger, make_instance: MakeInstance):
    """However long the work takes; another's heartbeat doesn't."""
    closed(any_ledger, make_instance())
    job = claimed(any_ledger)
    any_ledger.renew_lease(LEASE, now=NOW + 100 + LEASE_S)
    assert any_ledger.claim_job(OTHER_LEASE, now=NOW + 101 + LEASE_S) is None
    any_ledger.renew_lease(OTHER_LEASE, now=NOW + 100 + 2 * LEASE_S)
    assert any_ledger.claim_job(OTHER_LEASE, now=NOW + 101 + 2 * LEASE_S) is not None
    assert not any_ledger.finish_stage(job, Event.SEGMENTED, now=NOW + 200)


def test_a_service_renews_the_leases_of_all_its_workers(any_ledger: Ledger, make_instance: MakeInstance):
    """And of no other service, also where its number begins alike."""
    workers = ["host/1/1", "host/1/2", "host/12/1"]
    for series, lease in enumerate(workers, start=1):
        closed(any_ledger, make_instance(series))
        claimed(any_ledger, lease=lease)
    any_ledger.renew_lease("host/1", now=NOW + 100 + LEASE_S)
    taken = any_ledger.claim_job(OTHER_LEASE, now=NOW + 101 + LEASE_S)
    assert taken is not None
    assert taken.id == 3
    assert any_ledger.claim_job("host-c/1", now=NOW + 101 + LEASE_S) is None


def test_a_worker_gets_back_what_it_could_not_give_back(any_ledger: Ledger, make_instance: MakeInstance):
    """The ledger was away when its stage ended: its heartbeat would keep the job for ever, and nobody work on it."""
    closed(any_ledger, make_instance())
    job = claimed(any_ledger)
    any_ledger.renew_lease(LEASE, now=NOW + 110)
    assert claimed(any_ledger, now=NOW + 111) == job


def test_leases_of_the_own_host_are_freed(any_ledger: Ledger, make_instance: MakeInstance):
    """At start; those of a host whose name only begins alike, or that looks like a pattern, are not touched."""
    for series, lease in enumerate(["host/1", "host/22", "host-b/1", "hostess/1", "ho_t/1"]):
        closed(any_ledger, make_instance(series))
        claimed(any_ledger, lease=lease)
    assert any_ledger.free_leases("ho_t") == 1
    assert any_ledger.free_leases("host") == 2
    leases = [job.lease for job in any_ledger.all_jobs()]
    assert leases == [None, None, "host-b/1", "hostess/1", None]
    assert [job.attempts for job in any_ledger.all_jobs()] == [0] * 5


def test_a_stage_ends_with_its_warnings(any_ledger: Ledger, make_instance: MakeInstance):
    """They are gathered along the way, each once, and the lease, the attempts and the wait are gone."""
    closed(any_ledger, make_instance())
    any_ledger.postpone(claimed(any_ledger), now=NOW + 100, until=NOW + 110, code="WorkerCrashed", counts=True)
    assert any_ledger.claim_job(LEASE, now=NOW + 109) is None
    job = claimed(any_ledger, now=NOW + 110)
    assert job.attempts == 1
    assert any_ledger.finish_stage(job, Event.SEGMENTED, now=NOW + 111, warnings=["A", "B"])
    job = claimed(any_ledger, now=NOW + 112)
    assert (job.state, job.attempts, job.not_before, job.warnings) == (State.SEGMENTED, 0, None, ("A", "B"))
    assert any_ledger.finish_stage(job, Event.REPORTED, now=NOW + 113, warnings=["B", "C"], outgoing=[outgoing()])
    assert only_job(any_ledger).warnings == ("A", "B", "C")
    assert only_job(any_ledger).lease is None


def test_a_job_without_deliveries_is_delivered_at_once(any_ledger: Ledger, make_instance: MakeInstance):
    """No destination wants what there is: nothing will ever be stored, and nothing is owed."""
    job = reported(any_ledger, make_instance())
    assert job.state == State.DELIVERED
    assert [event for event, _, _ in events(any_ledger, job.id)][-2:] == ["REPORTED", "DELIVERED"]
    with pytest.raises(WrongState):
        any_ledger.cancel(job.id, now=NOW + 103)


def test_what_is_kept_is_delivered_by_a_person_alone(any_ledger: Ledger, make_instance: MakeInstance):
    """Nothing is due, and its study is not answered by it; sent by hand, it is delivered as all else."""
    kept = replace(outgoing(confirm="query"), is_kept=True)
    job = reported(any_ledger, make_instance(), kept)
    assert job.state == State.DELIVERED
    assert [item.state for item in any_ledger.deliveries_of(job.id)] == [DeliveryState.KEPT]
    assert any_ledger.due_deliveries(now=NOW + 104) == []
    uids = {"study_instance_uid": job.study_instance_uid, "series_instance_uid": "1.2.9"}
    assert not is_answered(any_ledger.database, **uids)
    assert Desk(any_ledger).send(job, ["archive"], [], now=NOW + 104) == 1
    assert advanced(any_ledger, job.id, DeliveryState.STORED) == State.DELIVERED
    assert advanced(any_ledger, job.id, DeliveryState.CONFIRMED) == State.CONFIRMED
    assert is_answered(any_ledger.database, **uids)


@pytest.mark.parametrize("counts", [True, False])
def test_a_job_is_postponed(any_ledger: Ledger, make_instance: MakeInstance, counts: bool):
    """Until then nobody claims it; whether it was an attempt is said by whoever postpones."""
    closed(any_ledger, make_instance())
    any_ledger.postpone(claimed(any_ledger), now=NOW + 100, until=NOW + 150, code="WorkerCrashed", counts=counts)
    job = only_job(any_ledger)
    assert (job.state, job.not_before, job.attempts, job.lease) == (State.RECEIVED, NOW + 150, int(counts), None)
    assert any_ledger.claim_job(OTHER_LEASE, now=NOW + 149) is None
    assert any_ledger.claim_job(OTHER_LEASE, now=NOW + 150) is not None
    assert [row["code"] for row in any_ledger.history(job.id) if row["event"] == "POSTPONED"] == ["WorkerCrashed"]


def test_a_halted_job_stands_still_until_retry(any_ledger: Ledger, make_instance: MakeInstance):
    """The state still says where to resume; a retry begins to count from nothing."""
    closed(any_ledger, make_instance())
    any_ledger.halt(claimed(any_ledger), HaltCode.WORKER_FAILED, now=NOW + 100)
    job = only_job(any_ledger)
    assert (job.state, job.halt, job.attempts, job.lease) == (State.RECEIVED, "WORKER_FAILED", 1, None)
    assert any_ledger.claim_job(LEASE, now=NOW + 10_000) is None
    any_ledger.retry(job.id, now=NOW + 10_000)
    # Meanwhile another series of its study may have been reported.
    assert any_ledger.claim_job(LEASE, now=NOW + 10_000) is None
    choose(any_ledger, job.id)
    job = claimed(any_ledger, now=NOW + 10_000)
    assert (job.state, job.halt, job.attempts) == (State.RECEIVED, None, 0)
    told = [event for event, _, _ in events(any_ledger, job.id)]
    assert told == ["OPENED", "CLOSED", "CHOSEN", "HALTED", "RETRIED", "CHOSEN"]


@pytest.mark.parametrize("state", State)
def test_retry_of_a_job_that_does_not_stand_still(any_ledger: Ledger, make_instance: MakeInstance, state: State):
    """Is refused, whatever its state, and changes nothing."""
    job = in_state(any_ledger, make_instance(), state)
    with pytest.raises(WrongState) as raised:
        any_ledger.retry(job.id, now=NOW + 300)
    assert (raised.value.job_id, raised.value.state, raised.value.verb) == (job.id, state, "retry")
    assert any_ledger.job(job.id) == job


@pytest.mark.parametrize("state", State)
def test_cancel_in_every_state(any_ledger: Ledger, make_instance: MakeInstance, state: State):
    """What has ended cannot be cancelled; all else ends, even under a worker's hands."""
    job = in_state(any_ledger, make_instance(), state)
    worker = any_ledger.claim_job(LEASE, now=NOW + 200)
    if state in (State.CONFIRMED, State.REJECTED, State.CANCELLED):
        with pytest.raises(WrongState):
            any_ledger.cancel(job.id, now=NOW + 300)
        assert any_ledger.job(job.id) == job
        return
    any_ledger.cancel(job.id, now=NOW + 300)
    assert any_ledger.job(job.id).state == State.CANCELLED
    assert events(any_ledger, job.id)[-1] == ("CANCELLED", state, "CANCELLED")
    assert any_ledger.due_deliveries(now=NOW + 400) == []
    assert due(any_ledger, now=NOW + 400) == []
    if worker:
        assert not any_ledger.refuse(worker, "NOT_CT", now=NOW + 301)


def test_a_job_that_is_not_there(any_ledger: Ledger):
    """Is unknown to whoever asks for it."""
    for ask in (
        lambda: any_ledger.job(7),
        lambda: any_ledger.retry(7, now=NOW),
        lambda: any_ledger.cancel(7, now=NOW),
    ):
        with pytest.raises(UnknownJob) as raised:
            ask()
        assert raised.value.job_id == 7
    assert any_ledger.history(7) == []
    assert any_ledger.deliveries_of(7) == []


# --- which of a study


STUDY = derive_uid("study")


@pytest.fixture
def of_study(make_instance: MakeInstance) -> MakeInstance:
    """Instances of one study."""
    return lambda series, index=1: make_instance(series, index, study_instance_uid=STUDY)


def test_only_what_is_chosen_is_worked_on(any_ledger: Ledger, of_study: MakeInstance):
    """A closed series waits until it is said whether it is reported."""
    first, second = waiting(any_ledger, of_study(1)), waiting(any_ledger, of_study(2))
    assert any_ledger.claim_job(LEASE, now=NOW + 100) is None
    choice = Choice(chosen=(Chosen(second),), superseded=(first,))
    assert any_ledger.choose(choice, rivals(any_ledger, first), now=NOW + 101)
    assert claimed(any_ledger).id == second.id
    first, second = any_ledger.all_jobs()
    assert (first.state, first.reject_reason, first.chosen) == (State.REJECTED, "SUPERSEDED_BY_BETTER", False)
    assert (second.state, second.chosen, second.replaces_series_instance_uid) == (State.RECEIVED, True, None)
    assert events(any_ledger, first.id)[-1] == ("REJECTED", "RECEIVED", "REJECTED")
    assert any_ledger.history(first.id)[-1]["code"] == "SUPERSEDED_BY_BETTER"
    assert events(any_ledger, second.id)[-1] == ("CHOSEN", "RECEIVED", None)


def test_a_study_is_chosen_from_when_nothing_of_it_is_coming_in(
    any_ledger: Ledger, of_study: MakeInstance, make_instance: MakeInstance
):
    """Not while a series is being received; halted and cancelled ones hold up nothing, and other studies neither."""

    def studies(now: float = NOW + 100) -> list[str]:
        return any_ledger.studies_to_choose(now=now)

    assert studies() == []
    job = waiting(any_ledger, of_study(1))
    assert studies() == [STUDY]
    any_ledger.record_instance(of_study(2), now=NOW + 100)
    assert studies() == []
    any_ledger.record_instance(make_instance("of another study"), now=NOW + 100)
    any_ledger.cancel(any_ledger.all_jobs()[1].id, now=NOW + 101)
    assert studies() == [STUDY]
    any_ledger.postpone(job, now=NOW + 101, until=NOW + 105, code="OSError", counts=True)
    waiting(any_ledger, of_study(3))
    assert studies(NOW + 104.9) == []
    assert studies(NOW + 105) == [STUDY]
    any_ledger.halt(any_ledger.job(job.id), HaltCode.SPOOL_UNREADABLE, now=NOW + 105)
    assert studies() == [STUDY]
    choose(any_ledger, any_ledger.all_jobs()[-1].id)
    assert studies(NOW + 10_000) == []


def test_what_a_choice_replaces_is_written_down(any_ledger: Ledger, of_study: MakeInstance):
    """By series and revision; a late slice undoes it with the choice."""
    closed(any_ledger, of_study(1))
    any_ledger.finish_stage(claimed(any_ledger), Event.SEGMENTED, now=NOW + 101)
    any_ledger.finish_stage(claimed(any_ledger), Event.REPORTED, now=NOW + 102, outgoing=[outgoing()])
    answer = any_ledger.job(1)
    better = waiting(any_ledger, of_study(2))
    choice = Choice(chosen=(Chosen(better, answer),))
    assert any_ledger.choose(choice, rivals(any_ledger, better), now=NOW + 103)
    better = any_ledger.job(better.id)
    assert (better.replaces_series_instance_uid, better.replaces_revision) == (derive_uid("series", 1), 1)
    assert claimed(any_ledger) == replace(better, lease=LEASE)
    assert any_ledger.record_instance(of_study(2, 2), now=NOW + 104)
    late = any_ledger.job(better.id)
    assert (late.state, late.chosen, late.replaces_series_instance_uid, late.replaces_revision) == (
        State.RECEIVING,
        False,
        None,
        None,
    )


CHANGES: dict[str, Callable[[Ledger, MakeInstance], object]] = {
    "a late slice": lambda ledger, of_study: ledger.record_instance(of_study(1, 2), now=NOW + 200),
    "a new series": lambda ledger, of_study: ledger.record_instance(of_study(3), now=NOW + 200),
    "a cancel": lambda ledger, of_study: ledger.cancel(1, now=NOW + 200),
    "a halt": lambda ledger, of_study: ledger.halt(ledger.job(1), HaltCode.SPOOL_UNREADABLE, now=NOW + 200),
    "another choice": lambda ledger, of_study: choose(ledger, 1),
    "a series that closed": lambda ledger, of_study: waiting(ledger, of_study(3)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_choice_of_what_is_no_longer_so_changes_nothing(any_ledger: Ledger, of_study: MakeInstance, change: str):
    """While the headers were read something happened: the next round sees it."""
    first, second = waiting(any_ledger, of_study(1)), waiting(any_ledger, of_study(2))
    seen = rivals(any_ledger, first)
    CHANGES[change](any_ledger, of_study)
    before = any_ledger.all_jobs()
    choice = Choice(chosen=(Chosen(second),), superseded=(first,))
    assert not any_ledger.choose(choice, seen, now=NOW + 201)
    assert any_ledger.all_jobs() == before


def test_what_a_worker_does_meanwhile_is_no_change(any_ledger: Ledger, of_study: MakeInstance):
    """It takes the incumbent up; the better series displaces it all the same, and its result is discarded."""
    incumbent = closed(any_ledger, of_study(1))
    better = waiting(any_ledger, of_study(2))
    seen = rivals(any_ledger, better)
    at_work = claimed(any_ledger)
    choice = Choice(chosen=(Chosen(better),), superseded=(incumbent,))
    assert any_ledger.choose(choice, seen, now=NOW + 101)
    assert not any_ledger.finish_stage(at_work, Event.SEGMENTED, now=NOW + 102)
    assert any_ledger.job(incumbent.id).lease is None
    assert claimed(any_ledger).id == better.id


def test_what_the_worker_has_reported_meanwhile_is_one(any_ledger: Ledger, of_study: MakeInstance):
    """An answer that is out cannot be superseded in silence."""
    incumbent = closed(any_ledger, of_study(1))
    better = waiting(any_ledger, of_study(2))
    seen = rivals(any_ledger, better)
    for event in (Event.SEGMENTED, Event.REPORTED):
        any_ledger.finish_stage(
            claimed(any_ledger), event, now=NOW + 101, outgoing=[outgoing()] * (event == "REPORTED")
        )
    choice = Choice(chosen=(Chosen(better),), superseded=(incumbent,))
    assert not any_ledger.choose(choice, seen, now=NOW + 102)
    assert any_ledger.job(incumbent.id).state == State.REPORTED


def test_a_refusal_by_the_worker_awaits_the_choice(any_ledger: Ledger, of_study: MakeInstance):
    """With its reason: the study is to be chosen from again, of what was superseded too."""
    jobs = [waiting(any_ledger, of_study(number)) for number in (1, 2, 3)]
    assert any_ledger.refuse(jobs[2], "LOCALIZER_ONLY", now=NOW + 100)
    silent = any_ledger.job(jobs[2].id)
    choice = Choice(chosen=(Chosen(jobs[1]),), superseded=(jobs[0],), refused=(silent,))
    assert any_ledger.choose(choice, rivals(any_ledger, jobs[0]), now=NOW + 100)
    assert any_ledger.finish_stage(claimed(any_ledger), Event.SEGMENTED, now=NOW + 101)
    assert any_ledger.studies_to_choose(now=NOW + 101) == []
    assert any_ledger.refuse(claimed(any_ledger), "UNREADABLE_PIXELS", now=NOW + 102)
    found = [(job.state, job.reject_reason, job.chosen) for job in any_ledger.all_jobs()]
    assert found == [
        (State.REJECTED, "SUPERSEDED_BY_BETTER", False),
        (State.REFUSED, "UNREADABLE_PIXELS", False),
        (State.REJECTED, "LOCALIZER_ONLY", False),
    ]
    assert events(any_ledger, jobs[1].id)[-1] == ("REFUSED", "SEGMENTED", "REFUSED")
    assert any_ledger.studies_to_choose(now=NOW + 102) == [STUDY]


@pytest.mark.parametrize("state", [State.RECEIVED, State.SEGMENTED, State.REJECTED])
def test_a_verdict_is_chosen_and_goes_out_with_its_reason(
    any_ledger: Ledger, make_instance: MakeInstance, state: State
):
    """From whichever state the choice finds the job in; the reason stays with it to the end."""
    job = in_state(any_ledger, make_instance(), state)
    reason = job.reject_reason or "TOO_SHORT"
    assert state == State.REJECTED or any_ledger.refuse(job, reason, now=NOW + 199)
    refused = any_ledger.job(job.id)
    assert any_ledger.choose(Choice(verdicts=(refused,)), [refused], now=NOW + 200)
    pending = claimed(any_ledger, now=NOW + 201)
    assert (pending.state, pending.reject_reason, pending.chosen) == (State.REFUSED, reason, True)
    assert events(any_ledger, job.id)[-2:] == [("REFUSED", state, "REFUSED"), ("CHOSEN", "REFUSED", None)]
    assert [row["code"] for row in any_ledger.history(job.id) if row["event"] == "CHOSEN"][-1] == reason
    sent = outgoing("verdict", confirm="query")
    assert any_ledger.finish_stage(pending, Event.REPORTED, now=NOW + 202, outgoing=[sent])
    for expected, delivered in (
        (State.REPORTED, None),
        (State.DELIVERED, DeliveryState.STORED),
        (State.CONFIRMED, DeliveryState.CONFIRMED),
    ):
        if delivered:
            advanced(any_ledger, job.id, delivered)
        found = any_ledger.job(job.id)
        assert (found.state, found.reject_reason) == (expected, reason)
    assert events(any_ledger, job.id)[-3][0] == "REPORTED"


def test_a_late_instance_forgets_a_refusal_or_opens_a_revision(any_ledger: Ledger, make_instance: MakeInstance):
    """As long as the verdict is not written it is void; afterwards the next revision has a word of its own."""
    for number, event in ((1, None), (2, Event.REPORTED)):
        closed(any_ledger, make_instance(number))
        assert any_ledger.refuse(claimed(any_ledger), "TOO_SHORT", now=NOW + 101)
        (refused,) = any_ledger.jobs_of_study(derive_uid("study", number))
        assert any_ledger.choose(Choice(verdicts=(refused,)), [refused], now=NOW + 102)
        job = claimed(any_ledger, now=NOW + 102)
        if event:
            assert any_ledger.finish_stage(job, event, now=NOW + 103, outgoing=[outgoing("verdict")])
        assert any_ledger.record_instance(make_instance(number, 2), now=NOW + 104)
        found = [
            (item.revision, item.state, item.reject_reason)
            for item in any_ledger.jobs_of_study(derive_uid("study", number))
        ]
        again = (1 if event is None else 2, State.RECEIVING, None)
        assert found == ([again] if event is None else [(1, State.REPORTED, "TOO_SHORT"), again])
        if event is None:
            assert not any_ledger.finish_stage(job, Event.REPORTED, now=NOW + 105)
            any_ledger.cancel(job.id, now=NOW + 105)


def test_a_job_whose_seg_was_held_back_says_so_and_nothing_else(any_ledger: Ledger, make_instance: MakeInstance):
    """Its verdict is delivered though it stands still, and neither moves nor frees it."""
    job = in_state(any_ledger, make_instance(), State.SEGMENTED)
    sent = [outgoing("verdict", confirm="query")]
    any_ledger.halt(claimed(any_ledger), HaltCode.GEOMETRY_NOT_PROVED, now=NOW + 103, outgoing=sent)
    (delivery,) = any_ledger.due_deliveries(now=NOW + 104)
    assert delivery.object == "verdict"
    assert advanced(any_ledger, job.id, DeliveryState.STORED) == State.SEGMENTED
    assert advanced(any_ledger, job.id, DeliveryState.CONFIRMED) == State.SEGMENTED
    assert any_ledger.job(job.id).halt == HaltCode.GEOMETRY_NOT_PROVED
    any_ledger.retry(job.id, now=NOW + 105)
    choose(any_ledger, job.id)
    again = claimed(any_ledger, now=NOW + 106)
    assert any_ledger.finish_stage(again, Event.REPORTED, now=NOW + 107, outgoing=[outgoing("sr")])
    assert [item.object for item in any_ledger.due_deliveries(now=NOW + 108)] == ["sr"]


def test_a_verdict_that_cannot_be_delivered_hides_no_halt(any_ledger: Ledger, make_instance: MakeInstance):
    """What a person has to look at first is the geometry."""
    job = in_state(any_ledger, make_instance(), State.SEGMENTED)
    any_ledger.halt(claimed(any_ledger), HaltCode.GEOMETRY_NOT_PROVED, now=NOW + 103, outgoing=[outgoing("verdict")])
    (verdict,) = any_ledger.due_deliveries(now=NOW + 104)
    any_ledger.halt_delivery(verdict, HaltCode.DESTINATION_UNREACHABLE, now=NOW + 104, status="UNREACHABLE")
    assert any_ledger.job(job.id).halt == HaltCode.GEOMETRY_NOT_PROVED


def test_a_late_instance_after_a_seg_was_held_back(any_ledger: Ledger, make_instance: MakeInstance):
    """What was said is out: a revision is opened, and the job of fewer slices is not to be retried any more."""
    job = in_state(any_ledger, make_instance(), State.SEGMENTED)
    any_ledger.halt(claimed(any_ledger), HaltCode.GEOMETRY_NOT_PROVED, now=NOW + 103, outgoing=[outgoing("verdict")])
    assert any_ledger.record_instance(make_instance(index=2), now=NOW + 104)
    assert [(item.revision, item.state) for item in any_ledger.all_jobs()] == [
        (1, State.SEGMENTED),
        (2, State.RECEIVING),
    ]
    with pytest.raises(WrongState):
        any_ledger.retry(job.id, now=NOW + 105)


def test_what_was_superseded_can_be_chosen_at_once(any_ledger: Ledger, of_study: MakeInstance):
    """The choice itself reopens it."""
    first, second = waiting(any_ledger, of_study(1)), waiting(any_ledger, of_study(2))
    seen = rivals(any_ledger, first)
    any_ledger.choose(Choice(chosen=(Chosen(first),), superseded=(second,)), seen, now=NOW + 100)
    any_ledger.cancel(first.id, now=NOW + 101)
    choose(any_ledger, second.id)
    assert [event for event, _, _ in events(any_ledger, second.id)][-3:] == ["REJECTED", "REOPENED", "CHOSEN"]
    assert claimed(any_ledger).id == second.id


@pytest.mark.parametrize("state", [State.RECEIVED, State.SEGMENTED])
def test_a_retry_is_chosen_from_again(any_ledger: Ledger, make_instance: MakeInstance, state: State):
    """It may be no longer the best; in whichever state it stood still."""
    job = in_state(any_ledger, make_instance(), state)
    any_ledger.halt(claimed(any_ledger), HaltCode.WORKER_FAILED, now=NOW + 103)
    any_ledger.retry(job.id, now=NOW + 104)
    again = any_ledger.job(job.id)
    assert (again.state, again.halt, again.chosen) == (state, None, False)
    assert any_ledger.studies_to_choose(now=NOW + 104) == [job.study_instance_uid]
    choice = Choice(superseded=(again,))
    assert any_ledger.choose(choice, [again], now=NOW + 105)
    assert any_ledger.job(job.id).state == State.REJECTED


def test_two_services_choose_once(postgres_database: str, of_study: MakeInstance):
    """On one PostgreSQL, each with another opinion: the first to commit is right, the other has to look again."""
    ledgers = [Ledger(postgres_database) for _ in range(2)]
    ledgers[0].migrate()
    jobs = [waiting(ledgers[0], of_study(number)) for number in range(6)]
    seen = rivals(ledgers[0], jobs[0])
    for _ in range(5):
        start = threading.Barrier(2)
        answers: list[bool] = []

        def decide(number: int, seen: list[Job], start: threading.Barrier, answers: list[bool]) -> None:
            best = seen[number]
            rest = tuple(job for job in seen if job is not best and job.state == State.RECEIVED)
            choice = Choice(chosen=(Chosen(best),), superseded=rest)
            start.wait()
            answers.append(ledgers[number].choose(choice, seen, now=NOW + 101))

        threads = [threading.Thread(target=decide, args=(number, seen, start, answers)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers) == [False, True]
        states = [job.state for job in ledgers[0].all_jobs()]
        assert (states.count(State.RECEIVED), states.count(State.REJECTED)) == (1, 5)
        # Once more, from what has become of it: the choice reopens what it takes.
        (chosen,) = [job for job in ledgers[0].all_jobs() if job.chosen]
        job = claimed(ledgers[0])
        assert job.id == chosen.id
        ledgers[0].refuse(job, RejectReason.TOO_SHORT, now=NOW + 102)
        ledgers[0].record_instance(of_study(chosen.id - 1, 100 + len(ledgers[0].history(chosen.id))), now=NOW + 103)
        (item,) = due(ledgers[0], now=NOW + 200)
        ledgers[0].close_series(item, now=NOW + 200, rule="liver-ct")
        seen = rivals(ledgers[0], jobs[0])
        assert [job.state for job in seen].count(State.RECEIVED) == 1
    for ledger in ledgers:
        ledger.close()


def test_choices_rejections_and_late_slices_at_once(any_ledger: Ledger, of_study: MakeInstance):
    """Whoever changes several jobs of a study locks them in one order: nobody ends in a deadlock."""
    for number in range(4):
        waiting(any_ledger, of_study(number))
    errors: list[BaseException] = []
    start = threading.Barrier(3)

    def choosing() -> None:
        for round_ in range(15):
            seen = any_ledger.jobs_of_study(STUDY)
            open_jobs = [job for job in seen if job.state == State.RECEIVED and not job.chosen]
            if open_jobs:
                best = open_jobs[round_ % len(open_jobs)]
                rest = tuple(job for job in open_jobs if job is not best)
                any_ledger.choose(Choice(chosen=(Chosen(best),), superseded=rest), seen, now=NOW + 101)

    def rejecting() -> None:
        for _ in range(15):
            if job := any_ledger.claim_job(LEASE, now=NOW + 101):
                any_ledger.refuse(job, RejectReason.UNREADABLE_PIXELS, now=NOW + 102)

    def sending() -> None:
        for index in range(2, 17):
            any_ledger.record_instance(of_study(index % 4, index), now=NOW)
            for item in due(any_ledger):
                any_ledger.close_series(item, now=NOW + 100, rule="liver-ct")

    def run(work: Callable[[], None]) -> None:
        start.wait()
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in (choosing, rejecting, sending)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


# --- what goes out


def test_the_objects_of_several_volumes_are_deliveries_of_their_own(any_ledger: Ledger, make_instance: MakeInstance):
    """Of each volume one; the same instance twice to one destination is a fault."""
    volumes = [
        replace(outgoing("seg"), sop_instance_uid=derive_uid("seg", volume), volume_index=volume) for volume in range(3)
    ]
    job = reported(any_ledger, make_instance(), *volumes)
    assert [item.volume_index for item in any_ledger.deliveries_of(job.id)] == [0, 1, 2]
    closed(any_ledger, make_instance(2))
    any_ledger.finish_stage(claimed(any_ledger), Event.SEGMENTED, now=NOW + 101)
    with pytest.raises(sa.exc.IntegrityError):
        any_ledger.finish_stage(claimed(any_ledger), Event.REPORTED, now=NOW + 102, outgoing=volumes[:1] * 2)


def test_deliveries_are_due_in_their_order(any_ledger: Ledger, make_instance: MakeInstance):
    """SEG before SR, each with what is needed to send it and to ask for it."""
    job = reported(any_ledger, make_instance(), outgoing("seg"), outgoing("sr"))
    first, second = any_ledger.due_deliveries(now=NOW + 103)
    assert first == Delivery(
        id=first.id,
        job_id=job.id,
        destination="archive",
        form=FORMS["seg"],
        sop_instance_uid=derive_uid("seg"),
        series_instance_uid=derive_uid("seg", "series"),
        study_instance_uid=job.study_instance_uid,
        path="outbox/1/seg.dcm",
        confirm="none",
        state=DeliveryState.PENDING,
        attempts=0,
        not_before=None,
        last_status=None,
        source_series_instance_uid=job.series_instance_uid,
    )
    assert second.object == "sr"
    assert any_ledger.deliveries_of(job.id) == [first, second]


def test_without_confirmation_stored_is_the_end(any_ledger: Ledger, make_instance: MakeInstance):
    """REPORTED while one is not stored, DELIVERED when both are; nothing is due afterwards, nor to be cancelled."""
    job = reported(any_ledger, make_instance(), outgoing("seg"), outgoing("sr"))
    assert advanced(any_ledger, job.id, DeliveryState.STORED, DeliveryState.PENDING) == State.REPORTED
    assert [delivery.object for delivery in any_ledger.due_deliveries(now=NOW + 104)] == ["sr"]
    assert advanced(any_ledger, job.id, DeliveryState.STORED, DeliveryState.STORED) == State.DELIVERED
    assert any_ledger.due_deliveries(now=NOW + 104) == []
    assert events(any_ledger, job.id)[-1] == ("DELIVERED", "REPORTED", "DELIVERED")
    with pytest.raises(WrongState):
        any_ledger.cancel(job.id, now=NOW + 105)


def test_destinations_that_confirm_and_that_do_not(any_ledger: Ledger, make_instance: MakeInstance):
    """DELIVERED when all is stored; CONFIRMED when those that are asked have confirmed."""
    job = reported(
        any_ledger,
        make_instance(),
        outgoing("seg", "archive", "query"),
        outgoing("seg", "viewer", "none"),
        outgoing("sr", "archive", "query"),
    )
    stored, confirmed, pending = DeliveryState.STORED, DeliveryState.CONFIRMED, DeliveryState.PENDING
    # A confirmation may well be earlier than another object's storing.
    assert advanced(any_ledger, job.id, stored, stored, pending) == State.REPORTED
    assert advanced(any_ledger, job.id, confirmed, stored, pending) == State.REPORTED
    assert advanced(any_ledger, job.id, confirmed, stored, stored) == State.DELIVERED
    assert [delivery.object for delivery in any_ledger.due_deliveries(now=NOW + 104)] == ["sr"]
    assert advanced(any_ledger, job.id, confirmed, stored, confirmed) == State.CONFIRMED


def test_a_delivery_advances_once(any_ledger: Ledger, make_instance: MakeInstance):
    """Who comes second with the same news changes nothing."""
    job = reported(any_ledger, make_instance(), outgoing("seg"), outgoing("sr"))
    delivery, _ = any_ledger.deliveries_of(job.id)
    any_ledger.advance_delivery(delivery, DeliveryState.STORED, now=NOW + 103, status="0x0000")
    any_ledger.advance_delivery(delivery, DeliveryState.STORED, now=NOW + 104, status="0xB000")
    assert any_ledger.deliveries_of(job.id)[0].last_status == "0x0000"


def test_the_last_two_deliveries_at_once(any_ledger: Ledger, make_instance: MakeInstance):
    """However two threads interleave, one of them sees that all is stored."""
    for series in range(10):
        job = reported(any_ledger, make_instance(series), outgoing("seg"), outgoing("sr"))
        start = threading.Barrier(2)

        def store(delivery: Delivery, start: threading.Barrier = start) -> None:
            start.wait()
            any_ledger.advance_delivery(delivery, DeliveryState.STORED, now=NOW + 103, status="0x0000")

        threads = [threading.Thread(target=store, args=(item,)) for item in any_ledger.deliveries_of(job.id)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert any_ledger.job(job.id).state == State.DELIVERED


def test_a_delivery_waits_for_one_whose_transaction_is_open(
    postgres_database: str, make_instance: MakeInstance, until: Callable[[Callable[[], object]], None]
):
    """PostgreSQL: of two that store the last two objects, the second must see what the first has done."""
    ledger = Ledger(postgres_database)
    ledger.migrate()
    job = reported(ledger, make_instance(), outgoing("seg"), outgoing("sr"))
    seg, sr = ledger.deliveries_of(job.id)
    engine = sa.create_engine(postgres_database)
    second = threading.Thread(
        target=lambda: ledger.advance_delivery(sr, DeliveryState.STORED, now=NOW + 103, status="0x0000")
    )
    with engine.begin() as connection:
        # The statements of the first `advance_delivery`, held open before their commit.
        connection.execute(sa.text("SELECT id FROM jobs FOR UPDATE"))
        connection.execute(sa.text("UPDATE deliveries SET state = 'STORED' WHERE id = :id"), {"id": seg.id})
        second.start()
        with engine.connect() as watching:
            waiting = sa.text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            until(lambda: watching.execute(waiting).scalar_one() or not second.is_alive() or watching.rollback())
    second.join()
    assert ledger.job(job.id).state == State.DELIVERED
    engine.dispose()
    ledger.close()


@pytest.mark.parametrize("counts", [True, False])
def test_a_delivery_is_postponed(any_ledger: Ledger, make_instance: MakeInstance, counts: bool):
    """It is due again at its time, and has one attempt more only if there was one."""
    job = reported(any_ledger, make_instance(), outgoing())
    (delivery,) = any_ledger.due_deliveries(now=NOW + 103)
    any_ledger.postpone_delivery(delivery, until=NOW + 200, status="UNREACHABLE", counts=counts)
    assert any_ledger.due_deliveries(now=NOW + 199) == []
    (again,) = any_ledger.due_deliveries(now=NOW + 200)
    assert again == replace(delivery, attempts=int(counts), not_before=NOW + 200, last_status="UNREACHABLE")
    assert any_ledger.job(job.id).state == State.REPORTED
    any_ledger.advance_delivery(again, DeliveryState.STORED, now=NOW + 201, status="0x0000")
    (stored,) = any_ledger.deliveries_of(job.id)
    assert (stored.attempts, stored.not_before) == (0, None)


def test_a_halt_is_of_one_delivery_until_retry(any_ledger: Ledger, make_instance: MakeInstance):
    """The other object of the job goes on; after the retry the halted one is due, from the beginning."""
    job = reported(any_ledger, make_instance(1), outgoing("seg"), outgoing("sr"))
    delivery = any_ledger.deliveries_of(job.id)[0]
    again = replace(delivery, attempts=7)
    any_ledger.halt_delivery(again, HaltCode.DELIVERY_FAILED, now=NOW + 103, status="0x0110")
    halted = any_ledger.deliveries_of(job.id)[0]
    assert (halted.state, halted.attempts, halted.last_status) == (DeliveryState.FAILED, 8, "0x0110")
    assert (halted.halt, any_ledger.job(job.id).halt) == (HaltCode.DELIVERY_FAILED, None)
    assert any_ledger.job(job.id).state == State.REPORTED
    (other,) = any_ledger.due_deliveries(now=NOW + 9999)
    any_ledger.advance_delivery(other, DeliveryState.STORED, now=NOW + 104, status="0x0000")
    assert any_ledger.job(job.id).state == State.REPORTED
    any_ledger.retry(job.id, now=NOW + 200)
    (again,) = any_ledger.due_deliveries(now=NOW + 200, to=delivery.destination)
    assert (again.object, again.state, again.attempts, again.halt) == ("seg", "PENDING", 0, None)
    any_ledger.advance_delivery(again, DeliveryState.STORED, now=NOW + 201, status="0x0000")
    with pytest.raises(WrongState):
        any_ledger.retry(job.id, now=NOW + 202)


def test_what_waits_for_a_destination_waits_together(any_ledger: Ledger, make_instance: MakeInstance):
    """What is due is put off, each by what it has been waited for; what waits for a reason of its own is let be."""
    job = reported(any_ledger, make_instance(1), outgoing("seg"), outgoing("sr"), outgoing("pdf"))
    seg, sr, pdf = any_ledger.due_deliveries(now=NOW)
    any_ledger.postpone_delivery(pdf, until=NOW + 15, status="0x0110", counts=True)
    to = seg.destination
    assert any_ledger.wait_for_destination(to, now=NOW, until=NOW + 10, status="UNREACHABLE") == 2
    assert any_ledger.wait_for_destination(to, now=NOW + 5, until=NOW + 25, status="UNREACHABLE") == 2
    assert {item.object: (item.waited_s, item.not_before) for item in any_ledger.deliveries_of(job.id)} == {
        "seg": (25, NOW + 25),
        "sr": (25, NOW + 25),
        "pdf": (0, NOW + 15),
    }
    assert any_ledger.resume_destination("elsewhere") == 0
    assert any_ledger.resume_destination(to) == 2
    assert [item.object for item in any_ledger.due_deliveries(now=NOW + 6, to=to)] == ["seg", "sr"]
    assert any_ledger.due_deliveries(now=NOW + 30, not_to=[to]) == []


def test_a_delivery_of_a_cancelled_job_that_halts(any_ledger: Ledger, make_instance: MakeInstance):
    """The job has ended: there is nothing to take up again."""
    job = reported(any_ledger, make_instance(), outgoing())
    (delivery,) = any_ledger.due_deliveries(now=NOW + 103)
    any_ledger.cancel(job.id, now=NOW + 103)
    any_ledger.halt_delivery(delivery, HaltCode.DELIVERY_FAILED, now=NOW + 104, status="0x0110")
    assert any_ledger.job(job.id).halt is None
    with pytest.raises(WrongState):
        any_ledger.retry(job.id, now=NOW + 105)


# --- the tables


def test_history_is_only_ever_added_to(any_ledger: Ledger, make_instance: MakeInstance):
    """What stood in it once stands in it for ever, in the same order."""
    seen: list[dict[str, Any]] = []

    def look() -> None:
        rows = any_ledger.history(1)
        assert rows[: len(seen)] == seen
        assert len(rows) > len(seen)
        seen[:] = rows

    any_ledger.record_instance(make_instance(index=1), now=NOW)
    look()
    (item,) = due(any_ledger)
    any_ledger.close_series(item, now=NOW + 100, rule="liver-ct")
    look()
    any_ledger.record_instance(make_instance(index=2), now=NOW + 101)
    look()
    (item,) = due(any_ledger, now=NOW + 200)
    any_ledger.close_series(item, now=NOW + 200, rule="liver-ct")
    look()
    choose(any_ledger, 1, now=NOW + 200)
    look()
    any_ledger.postpone(claimed(any_ledger, now=NOW + 200), now=NOW + 200, until=NOW + 201, code="X", counts=True)
    look()
    any_ledger.halt(claimed(any_ledger, now=NOW + 201), HaltCode.UNEXPECTED, now=NOW + 201)
    look()
    any_ledger.retry(1, now=NOW + 202)
    look()
    any_ledger.cancel(1, now=NOW + 203)
    look()
    assert [row["at"] for row in seen] == sorted(row["at"] for row in seen)


COLUMNS = {
    "series": """series_instance_uid study_instance_uid calling_ae_title instances last_received_at released_at
        expected expected_at longest_pause_s broken_off""",
    "instances": """id study_instance_uid series_instance_uid sop_instance_uid version replaced_by sop_class_uid
        transfer_syntax_uid path bytes sha256 received_at removed_at""",
    "jobs": """id series_instance_uid study_instance_uid revision calling_ae_title rule priority state reject_reason
        attempts not_before lease lease_until halt instances warnings created_at chosen replaces_series_instance_uid
        replaces_revision before_instance removed_at""",
    "events": "id job_id at event from_state to_state code",
    "deliveries": """id job_id destination kind seg_type sr_class sop_instance_uid series_instance_uid path confirm
        state attempts not_before last_status volume_index waited_s halt sha256 study_instance_uid not_committed""",
    "commitments": "id transaction_uid delivery_id requested_at reported_at failure",
    "shadows": "id job_id model state attempts not_before code version sha256 volumes",
    "corrections": """id sop_instance_uid series_instance_uid study_instance_uid calling_ae_title path bytes sha256
        received_at state attempts not_before code job_id model version model_sha256 volumes""",
    "refusals": "id kind reason calling_ae_title called_ae_title host count first_at last_at",
    "users": "name role password_hash created_at failures locked_until",
    "sessions": "digest user opened_at seen_at",
    "audit": "id at user action host code job_id study_instance_uid",
    "root": "id identity place",
}
"""UIDs, AE titles, counts, codes, times, our own paths, and who signs in to the console. Before a column is added here:
could it hold a patient's name, an id, a birth date, an accession number, or a free text of a header?"""


def test_no_column_holds_a_patient_attribute(any_ledger: Ledger, ledger_url: str):
    """The database has exactly the columns that were looked at."""
    engine = sa.create_engine(ledger_url)
    inspector = sa.inspect(engine)
    found = {
        table: {column["name"] for column in inspector.get_columns(table)}
        for table in inspector.get_table_names()
        if table != "alembic_version"
    }
    engine.dispose()
    assert found == {table: set(columns.split()) for table, columns in COLUMNS.items()}
    assert found == {table.name: {column.name for column in table.columns} for table in metadata.tables.values()}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE jobs SET state = 'RUNNING'",
        "UPDATE jobs SET state = 'REJECTED'",
        "UPDATE jobs SET state = 'REFUSED'",
        "UPDATE jobs SET state = 'RECEIVED', reject_reason = 'NOT_CT'",
        "UPDATE deliveries SET state = 'SENT'",
        "DELETE FROM series",
        "UPDATE instances SET series_instance_uid = '1.2.3'",
        "INSERT INTO events (job_id, at, event) VALUES (99, 0, 'OPENED')",
    ],
)
def test_the_database_itself_refuses_what_cannot_be(any_ledger: Ledger, make_instance: MakeInstance, statement: str):
    """States, reasons and references are checked by the tables, whoever writes."""
    reported(any_ledger, make_instance(), outgoing())
    with pytest.raises(sa.exc.IntegrityError), any_ledger._transaction() as connection:
        connection.execute(sa.text(statement))


def test_sqlite_is_as_durable_as_it_can_be(ledger: Ledger):
    """WAL and synchronous=FULL are in force on every connection of the pool, and so are the references."""
    with ledger._reading() as first, ledger._reading() as second:
        for connection in (first, second):
            pragmas = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            }
            assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 20000}


def test_a_reader_does_not_wait_for_a_writer(any_ledger: Ledger, make_instance: MakeInstance):
    """Nor sees what is not committed: the status is answered in the middle of a long write."""
    any_ledger.record_instance(make_instance(), now=NOW)
    with any_ledger._transaction() as writing:
        writing.execute(sa.text("UPDATE jobs SET attempts = 7"))
        assert only_job(any_ledger).attempts == 0
        assert any_ledger.versions(*uids_of(make_instance())) == [make_instance()]
        assert any_ledger.due_deliveries(now=NOW) == []
    assert only_job(any_ledger).attempts == 7


# --- when it is away, and when others write too


def every_call(ledger: Ledger, instance: Instance) -> list[Callable[[], object]]:
    return [
        lambda: ledger.versions(*uids_of(instance)),
        lambda: ledger.jobs_of_series(instance.series_instance_uid),
        lambda: ledger.record_instance(instance, now=NOW),
        lambda: ledger.release_series([instance.series_instance_uid], now=NOW),
        lambda: ledger.hold_series([instance.series_instance_uid], calling_ae_title="MODALITY"),
        lambda: ledger.resume_series({instance.series_instance_uid: None}),
        ledger.hold_unreleased,
        lambda: due(ledger),
        lambda: ledger.incoming("MODALITY"),
        lambda: ledger.expect({instance.series_instance_uid: 3}, now=NOW),
        lambda: ledger.studies_to_choose(now=NOW),
        lambda: ledger.jobs_of_study(instance.study_instance_uid),
        lambda: ledger.instance_paths(instance.series_instance_uid),
        lambda: ledger.claim_job(LEASE, now=NOW),
        lambda: ledger.renew_lease(LEASE, now=NOW),
        lambda: ledger.free_leases("host"),
        lambda: ledger.due_deliveries(now=NOW),
        lambda: ledger.all_jobs(),
        lambda: ledger.job(1),
        lambda: ledger.history(1),
    ]


def test_a_database_without_its_tables_is_unavailable(database: str, make_instance: MakeInstance):
    """Every call says so with our own error, and none with the driver's words."""
    ledger = Ledger(database)
    for call in every_call(ledger, make_instance(calling_ae_title="ZZPHI")):
        with pytest.raises(LedgerUnavailable) as raised:
            call()
        assert raised.value.detail.split(": ")[-1] in ("OperationalError", "ProgrammingError")
        assert raised.value.__suppress_context__
    ledger.close()


def test_a_postgresql_that_went_away(postgres_database: str, make_instance: MakeInstance):
    """Broken connections are LedgerUnavailable or made anew; a server that is gone is LedgerUnavailable."""
    ledger = Ledger(postgres_database)
    ledger.migrate()
    server = sa.create_engine(postgres_database)
    with server.begin() as connection:
        connection.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )
        )
    server.dispose()
    assert ledger.record_instance(make_instance(), now=NOW)
    ledger.close()
    gone = Ledger("postgresql+psycopg://porta@/porta?host=/nonexistent")
    for call in every_call(gone, make_instance()):
        with pytest.raises(LedgerUnavailable):
            call()


@pytest.mark.parametrize("what", ["a folder that is not there", "no database", "locked"])
def test_a_sqlite_file_that_cannot_be_used(tmp_path: Path, make_instance: MakeInstance, what: str):
    """The folder is gone, the bytes are something else, or another program holds the file."""
    path = tmp_path / "any.sqlite"
    if what == "a folder that is not there":
        path = tmp_path / "nowhere" / "any.sqlite"
    elif what == "no database":
        path.write_bytes(b"no database " * 1000)
    ledger = Ledger(f"sqlite:///{path}")
    if what == "locked":
        ledger.migrate()
        pooled = ledger.database._engine.raw_connection()
        pooled.cursor().execute("PRAGMA busy_timeout=50")
        pooled.close()
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(LedgerUnavailable):
        ledger.record_instance(make_instance(), now=NOW)
    if what == "locked":
        holder.execute("ROLLBACK")
        assert ledger.record_instance(make_instance(), now=NOW)
        holder.close()
    ledger.close()


def write_all(url: str, instances: list[Instance]) -> None:
    """What each of the writing processes does."""
    ledger = Ledger(url)
    ledger.migrate()
    for instance in instances:
        assert ledger.record_instance(instance, now=NOW)
    ledger.close()


def move_away(path: Path, other: Path) -> None:
    path.rename(path.with_suffix(".away"))


def put_another(path: Path, other: Path) -> None:
    shutil.copy(other, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


@pytest.mark.parametrize("attack", [move_away, put_another])
def test_a_file_that_was_deleted_or_replaced_is_lost(
    ledger: Ledger,
    tmp_path: Path,
    empty_ledger: Path,
    make_instance: MakeInstance,
    attack: Callable[[Path, Path], None],
):
    """No instance is recorded from then on, by no connection, and no empty file takes the place of a deleted one.

    Where the file itself comes back, all goes on.
    """
    assert ledger.record_instance(make_instance(1), now=NOW)
    path = tmp_path / "ledger.sqlite"
    keep = path.with_suffix(".kept")
    os.link(path, keep)
    attack(path, empty_ledger)
    failures: list[Exception] = []

    def record(number: int) -> None:
        try:
            ledger.record_instance(make_instance(number), now=NOW)
        except LedgerLost as error:
            failures.append(error)

    threads = [threading.Thread(target=record, args=(number,)) for number in (2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failures) == 3
    assert str(path) in str(failures[0])
    with pytest.raises(LedgerUnavailable):
        ledger.all_jobs()
    assert path.exists() == (attack is put_another)

    keep.replace(path)
    assert len(ledger.all_jobs()) == 1
    assert ledger.record_instance(make_instance(2), now=NOW)


def test_a_file_that_goes_during_a_transaction_is_lost(
    ledger: Ledger, tmp_path: Path, make_instance: MakeInstance, monkeypatch: pytest.MonkeyPatch
):
    """What was committed to a file that is deleted already is not acknowledged."""
    ledger.all_jobs()

    def deleted(*_: Any, **__: Any) -> None:
        (tmp_path / "ledger.sqlite").unlink(missing_ok=True)

    monkeypatch.setattr("daemon.ledger.store.open_job", deleted)
    with pytest.raises(LedgerLost):
        ledger.record_instance(make_instance(1), now=NOW)


def test_two_processes_write_at_once(database: str, make_instance: MakeInstance):
    """A service and a `porta submit`, both bringing instances of the same series: no row and no count is lost."""
    context = multiprocessing.get_context("spawn")
    batches = [[make_instance(index % 3, index) for index in range(start, start + 150)] for start in (0, 150)]
    processes = [context.Process(target=write_all, args=(database, batch)) for batch in batches]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    ledger = Ledger(database)
    assert [job.instances for job in ledger.all_jobs()] == [100, 100, 100]
    for series in range(3):
        assert len(ledger.instance_paths(derive_uid("series", series))) == 100
    assert all(ledger.versions(*uids_of(instance)) == [instance] for batch in batches for instance in batch[::10])
    ledger.close()


def test_the_same_instances_from_many_threads(any_ledger: Ledger, make_instance: MakeInstance):
    """Each is recorded by exactly one of them."""
    start = threading.Barrier(6)
    answers: list[bool] = []

    def record() -> None:
        start.wait()
        for index in range(10):
            answers.append(any_ledger.record_instance(make_instance(index=index), now=NOW))

    threads = [threading.Thread(target=record) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (answers.count(True), answers.count(False)) == (10, 50)
    assert only_job(any_ledger).instances == 10
