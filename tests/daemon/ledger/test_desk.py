"""What an administrator has done with jobs: which are meant, and what becomes of them. On both databases."""

from collections.abc import Callable

import pytest

from daemon.choice import Choice, Chosen
from daemon.errors import UnknownJob, WrongState
from daemon.jobs import Delivery, DeliveryState, Event, HaltCode, Job, State
from daemon.ledger.desk import Desk
from daemon.ledger.searches import HALTED, JobFilter
from daemon.ledger.store import Instance, Ledger, Outgoing
from dicom_io.errors import RejectReason
from dicom_io.files.uids import derive_uid
from reports.objects.kinds import FORMS

NOW = 1_000_000.0
MakeInstance = Callable[..., Instance]


@pytest.fixture
def desk(any_ledger: Ledger) -> Desk:
    return Desk(any_ledger)


@pytest.fixture
def receive(desk: Desk, make_instance: MakeInstance) -> Callable[..., Job]:
    """`receive(series, rule)`: two instances of a series, closed under the rule, or by none."""

    def received(series: int, rule: str | None = "liver-ct", *, at: float = NOW) -> Job:
        for index in (1, 2):
            desk.ledger.record_instance(make_instance(series, index), now=at)
        return close(desk, rule, at=at)

    return received


def close(desk: Desk, rule: str | None, *, at: float = NOW) -> Job:
    (due,) = desk.ledger.due_series(now=at + 100, quiet_s=20, released_quiet_s=5)
    reason = None if rule else RejectReason.NO_RULE
    assert desk.ledger.close_series(due, now=at + 100, rule=rule, reject_reason=reason)
    return desk.ledger.job(due.job_id)


def report(desk: Desk, job: Job, *destinations: str, confirm: str = "none") -> Job:
    """Choose a job and take it to REPORTED, with a SEG and an SR for each destination."""
    assert desk.ledger.choose(Choice(chosen=(Chosen(job),)), [job], now=NOW + 101)
    outgoing = [
        Outgoing(to, FORMS[name], derive_uid(job.id, name), derive_uid(job.id, name, "s"), f"{name}.dcm", confirm)
        for to in destinations
        for name in ("seg", "sr")
    ]
    for event, items in ((Event.SEGMENTED, []), (Event.REPORTED, outgoing)):
        claimed = desk.ledger.claim_job("host/1", now=NOW + 102)
        assert claimed is not None
        assert desk.ledger.finish_stage(claimed, event, now=NOW + 103, outgoing=items)
    return desk.ledger.job(job.id)


def deliver(desk: Desk, job: Job) -> None:
    for item in desk.ledger.deliveries_of(job.id):
        if item.state == DeliveryState.PENDING:
            desk.ledger.advance_delivery(item, DeliveryState.STORED, now=NOW + 104, status="0x0000")


def states(desk: Desk, job: Job) -> list[tuple[str, str, str | None]]:
    return [(item.destination, str(item.state), item.last_status) for item in desk.ledger.deliveries_of(job.id)]


def due(desk: Desk, *, now: float = NOW + 200) -> list[Delivery]:
    return desk.ledger.due_deliveries(now=now)


# --- match again


@pytest.mark.parametrize("state", [State.RECEIVED, State.SEGMENTED, State.REFUSED, State.REJECTED, State.CANCELLED])
def test_a_job_that_has_sent_nothing_is_matched_again(desk: Desk, receive: Callable[..., Job], state: State):
    """From the beginning: what was learned is void; whoever works on it has lost it."""
    job = receive(1, None if state == State.REJECTED else "liver-ct")
    ledger = desk.ledger
    if state in (State.SEGMENTED, State.REFUSED):
        assert ledger.choose(Choice(chosen=(Chosen(job),)), [job], now=NOW + 101)
        claimed = ledger.claim_job("host/1", now=NOW + 102)
        assert claimed is not None
        if state == State.SEGMENTED:
            ledger.finish_stage(claimed, Event.SEGMENTED, now=NOW + 103, warnings=["SHORT"])
            claimed = ledger.claim_job("host/1", now=NOW + 104)
            assert claimed is not None
        else:
            ledger.refuse(claimed, "TOO_SHORT", now=NOW + 103)
    if state == State.CANCELLED:
        ledger.cancel(job.id, now=NOW + 101)
    again = desk.rerun(job.id, now=NOW + 300)
    assert (again.id, again.revision, again.state, again.rule, again.instances) == (job.id, 1, State.RECEIVING, None, 2)
    assert (again.reject_reason, again.warnings, again.chosen, again.lease) == (None, (), False, None)
    assert ledger.history(job.id)[-1]["event"] == "REMATCHED"
    if state == State.SEGMENTED:
        assert not ledger.finish_stage(claimed, Event.REPORTED, now=NOW + 301)
    assert close(desk, "other", at=NOW + 300).rule == "other"


def test_a_job_that_has_sent_something_gets_its_next_revision(desk: Desk, receive: Callable[..., Job]):
    """Which is matched afresh; what is on its way goes on."""
    first = report(desk, receive(1), "archive")
    again = desk.rerun(first.id, now=NOW + 300)
    assert (again.id, again.revision, again.state, again.created_at) == (2, 2, State.RECEIVING, NOW + 300)
    assert (again.instances, again.calling_ae_title, again.rule) == (2, "MODALITY", None)
    assert desk.ledger.job(first.id) == first
    assert len(due(desk)) == 2
    assert [row["code"] for row in desk.ledger.history(again.id)] == ["RERUN"]


def test_a_cancelled_job_that_had_results_gets_its_next_revision(desk: Desk, receive: Callable[..., Job]):
    """One of its objects may have been sent."""
    first = report(desk, receive(1), "archive")
    desk.ledger.cancel(first.id, now=NOW + 200)
    assert desk.rerun(first.id, now=NOW + 300).revision == 2
    assert desk.ledger.job(first.id).state == State.CANCELLED


def test_a_series_is_processed_again_once(desk: Desk, receive: Callable[..., Job]):
    """While it is matched anew nothing more can be asked; and it is its last job that is, whichever is named."""
    first = report(desk, receive(1), "archive")
    again = desk.rerun(first.id, now=NOW + 300)
    for job_id in (first.id, again.id):
        with pytest.raises(WrongState) as raised:
            desk.rerun(job_id, now=NOW + 301)
        assert (raised.value.job_id, raised.value.state) == (again.id, State.RECEIVING)
    rejected = close(desk, None, at=NOW + 300)
    assert desk.rerun(first.id, now=NOW + 500).id == rejected.id


def test_no_job_is_processed_again(desk: Desk):
    """Where there is none."""
    with pytest.raises(UnknownJob):
        desk.rerun(7, now=NOW)


def test_a_halt_while_receiving_is_cleared(desk: Desk, make_instance: MakeInstance):
    """Its files could not be read, and now can."""
    desk.ledger.record_instance(make_instance(1), now=NOW)
    desk.ledger.halt(desk.ledger.job(1), HaltCode.SPOOL_UNREADABLE, now=NOW + 1)
    again = desk.rerun(1, now=NOW + 2)
    assert (again.id, again.state, again.halt) == (1, State.RECEIVING, None)


# --- send again


@pytest.mark.parametrize("confirm", ["none", "query"])
def test_results_are_sent_again(desk: Desk, receive: Callable[..., Job], confirm: str):
    """To one destination of two; the job is done once that has them again."""
    job = report(desk, receive(1), "archive", "ris", confirm=confirm)
    deliver(desk, job)
    before = desk.ledger.job(job.id)
    assert before.state == State.DELIVERED
    assert desk.send(before, ["ris"], [], now=NOW + 300) == 2
    assert desk.ledger.job(job.id).state == State.REPORTED
    stored = [("archive", "STORED", "0x0000")] * 2
    assert states(desk, job) == [*stored, *[("ris", "PENDING", None)] * 2]
    deliver(desk, job)
    assert states(desk, job) == [*stored, *[("ris", "STORED", "0x0000")] * 2]
    assert desk.ledger.job(job.id).state == before.state
    assert [row["event"] for row in desk.ledger.history(job.id)].count("RESENT") == 1


def test_results_are_sent_to_a_destination_that_never_had_them(desk: Desk, receive: Callable[..., Job]):
    """The rows are as those of the others."""
    job = report(desk, receive(1), "archive")
    deliver(desk, job)
    seg = desk.ledger.deliveries_of(job.id)[0]
    new = Outgoing("ris", seg.form, seg.sop_instance_uid, seg.series_instance_uid, seg.path, "query", sha256="ab")
    assert desk.send(desk.ledger.job(job.id), ["ris"], [new], now=NOW + 300) == 1
    assert [(item.destination, item.sop_instance_uid, item.sha256) for item in due(desk)] == [
        ("ris", seg.sop_instance_uid, "ab")
    ]


def test_nothing_is_sent_of_a_job_without_results(desk: Desk, receive: Callable[..., Job]):
    """Nor of one that was cancelled."""
    job = receive(1)
    with pytest.raises(WrongState):
        desk.send(job, ["archive"], [], now=NOW)
    reported = report(desk, job, "archive")
    desk.ledger.cancel(job.id, now=NOW + 200)
    with pytest.raises(WrongState):
        desk.send(reported, ["archive"], [], now=NOW + 201)


# --- go on


def stall(desk: Desk, receive: Callable[..., Job]) -> dict[str, Job]:
    """A job that halts, one with a delivery that does, one that waits for its destination, one that waits itself."""
    halted = receive(1)
    desk.ledger.halt(halted, HaltCode.MODEL_UNUSABLE, now=NOW + 101)
    refused = report(desk, receive(2), "archive", "ris")
    desk.ledger.halt_delivery(
        desk.ledger.deliveries_of(refused.id)[0], HaltCode.DELIVERY_REFUSED, now=NOW + 104, status="0xA900"
    )
    awaiting = report(desk, receive(3), "ris")
    desk.ledger.wait_for_destination("ris", now=NOW + 105, until=NOW + 9000, status="UNREACHABLE")
    postponed = receive(4)
    desk.ledger.postpone(postponed, now=NOW + 106, until=NOW + 9000, code="WorkerCrashed", counts=True)
    return {"halted": halted, "refused": refused, "awaiting": awaiting, "postponed": postponed}


@pytest.mark.parametrize(
    ("meant", "found"),
    [
        ({}, ["halted", "refused", "awaiting", "postponed"]),
        ({"destination": "archive"}, ["refused"]),
        ({"destination": "ris"}, ["refused", "awaiting"]),
        ({"destination": "nowhere"}, []),
        ({"reason": "MODEL_UNUSABLE"}, ["halted"]),
        ({"reason": "DELIVERY_REFUSED"}, ["refused"]),
        ({"reason": "UNREACHABLE"}, ["refused", "awaiting"]),
        ({"reason": "UNREACHABLE", "destination": "archive"}, []),
    ],
    ids=str,
)
def test_what_stands_still_or_waits_goes_on(
    desk: Desk, receive: Callable[..., Job], meant: dict[str, str], found: list[str]
):
    """All of it, or what has to do with a destination or a reason; the rest is as it was."""
    jobs = stall(desk, receive)
    stalled = desk.stalled(now=NOW + 200, **meant)
    assert {name for name, job in jobs.items() if job.id in {item.id for item in stalled}} == set(found)
    for job in stalled:
        desk.retry(job, now=NOW + 200, **meant)
    left = {job.id for job in desk.stalled(now=NOW + 201, **meant)}
    assert left == set()
    if not meant:
        assert desk.stalled(now=NOW + 201) == []
        assert len(due(desk)) == 6
        assert desk.ledger.job(jobs["postponed"].id).not_before is None


def test_a_wait_that_is_over_is_no_wait(desk: Desk, receive: Callable[..., Job]):
    """What is due goes on by itself."""
    job = receive(1)
    desk.ledger.postpone(job, now=NOW + 106, until=NOW + 150, code="WorkerCrashed", counts=True)
    assert desk.stalled(now=NOW + 151) == []
    with pytest.raises(WrongState):
        desk.retry(desk.ledger.job(job.id), now=NOW + 151)


# --- which jobs are meant


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (JobFilter(), [4, 3, 2, 1]),
        (JobFilter(ids=(2, 4)), [4, 2]),
        (JobFilter(since=NOW + 1000), [4, 3]),
        (JobFilter(until=NOW + 1000), [2, 1]),
        (JobFilter(states=("REJECTED",)), [1]),
        (JobFilter(states=("REJECTED", HALTED)), [2, 1]),
        (JobFilter(states=(HALTED,)), [2]),
        (JobFilter(rule="mr"), [3]),
        (JobFilter(destination="archive"), [2]),
        (JobFilter(reason="NO_RULE"), [1]),
        (JobFilter(reason="DELIVERY_REFUSED"), [2]),
        (JobFilter(study_instance_uid=derive_uid("study", 2)), [4, 2]),
        (JobFilter(series_instance_uid=derive_uid("series", 2), only_last=True), [4]),
        (JobFilter(only_last=True), [4, 3, 1]),
        (JobFilter(rule="liver-ct", since=NOW + 1000), []),
    ],
    ids=str,
)
def test_which_jobs_are_meant(desk: Desk, receive: Callable[..., Job], wanted: JobFilter, found: list[int]):
    """Newest first; each condition narrows."""
    receive(1, None)
    reported = report(desk, receive(2), "archive")
    desk.ledger.halt_delivery(
        desk.ledger.deliveries_of(reported.id)[0], HaltCode.DELIVERY_REFUSED, now=NOW + 104, status="0xA900"
    )
    receive(3, "mr", at=NOW + 1000)
    desk.rerun(2, now=NOW + 2000)
    assert [job.id for job in desk.jobs(wanted)] == found
    assert desk.count(wanted) == len(found)
    assert [job.id for job in desk.jobs(wanted, limit=1)] == found[:1]
