"""The state machine, whole: every pair of state and event, and what every error there is means for a job."""

import inspect
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import daemon.errors
import dicom_io.errors
import models.errors
import reports.errors
from daemon.jobs import (
    DEVICE_RETRY_S,
    FIRST_RETRY_S,
    LONGEST_RETRY_S,
    TRANSITIONS,
    WORKABLE,
    Delivery,
    DeliveryState,
    Event,
    Halt,
    HaltCode,
    Job,
    Patience,
    Reject,
    Retry,
    State,
    advance,
    backoff_s,
    decide,
    opens_revision,
)
from dicom_io.errors import RejectReason, SeriesRejected
from reports.objects.kinds import FORMS

NOW = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
MAX_ATTEMPTS = 3

ENDINGS = {State.CONFIRMED, State.REJECTED, State.CANCELLED}

MOVES = {
    "RECEIVING": {"CLOSED": "RECEIVED", "REJECTED": "REJECTED", "LATE_INSTANCE": "RECEIVING", "CANCELLED": "CANCELLED"},
    "RECEIVED": {
        "SEGMENTED": "SEGMENTED",
        "REFUSED": "REFUSED",
        "REJECTED": "REJECTED",
        "LATE_INSTANCE": "RECEIVING",
        "CANCELLED": "CANCELLED",
        "REMATCHED": "RECEIVING",
    },
    "SEGMENTED": {
        "REPORTED": "REPORTED",
        "REFUSED": "REFUSED",
        "REJECTED": "REJECTED",
        "LATE_INSTANCE": "RECEIVING",
        "CANCELLED": "CANCELLED",
        "REMATCHED": "RECEIVING",
    },
    "REFUSED": {
        "REPORTED": "REPORTED",
        "REJECTED": "REJECTED",
        "LATE_INSTANCE": "RECEIVING",
        "CANCELLED": "CANCELLED",
        "REMATCHED": "RECEIVING",
    },
    "REPORTED": {"DELIVERED": "DELIVERED", "CANCELLED": "CANCELLED"},
    "DELIVERED": {"CONFIRMED": "CONFIRMED", "CANCELLED": "CANCELLED", "RESENT": "REPORTED"},
    "CONFIRMED": {"RESENT": "REPORTED"},
    "REJECTED": {
        "LATE_INSTANCE": "RECEIVING",
        "REOPENED": "RECEIVED",
        "REFUSED": "REFUSED",
        "REMATCHED": "RECEIVING",
    },
    "CANCELLED": {"REMATCHED": "RECEIVING"},
}
"""The machine as DESIGN.md tells it, written down a second time."""


def job(attempts: int = 0) -> Job:
    return Job(
        id=1,
        series_instance_uid="1.2.3",
        study_instance_uid="1.2",
        revision=1,
        calling_ae_title="MODALITY",
        rule="liver-ct",
        priority=0,
        state=State.RECEIVED,
        reject_reason=None,
        attempts=attempts,
        not_before=None,
        halt=None,
        instances=12,
        warnings=(),
        created_at=NOW,
    )


WITH: Any = {"now": NOW, "jitter": lambda: 0.5, "patience": Patience(MAX_ATTEMPTS)}


def decided(error: Exception, attempts: int = 0) -> Retry | Halt | Reject:
    return decide(error, job(attempts), **WITH)


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_every_event_in_every_state(state: State, event: Event):
    """An event leads to the state that the design says, or is an error; no pair is left out."""
    expected = MOVES[state].get(event)
    if expected is None:
        with pytest.raises(daemon.errors.DaemonError, match=f"no move {event} from {state}"):
            advance(state, event)
    else:
        assert advance(state, event) == expected


def test_the_table_holds_nothing_else():
    """The table and the second writing of it have the same pairs."""
    assert {(str(state), str(event)) for state, event in TRANSITIONS} == {
        (state, event) for state, moves in MOVES.items() for event in moves
    }


@pytest.mark.parametrize("state", State)
def test_a_late_instance_reopens_or_opens_a_revision_but_is_never_both(state: State):
    """In every state but CANCELLED, where a person has said stop, a late instance has exactly one consequence."""
    reopens = (state, Event.LATE_INSTANCE) in TRANSITIONS
    assert reopens + opens_revision(state) == (state != State.CANCELLED)


def test_a_stage_can_end_in_each_way_that_decide_knows():
    """A worker's stage may find that the series is not to be processed; the choice then ends or reports it."""
    for state in set(WORKABLE) - {State.REFUSED}:
        assert advance(state, Event.REFUSED) == State.REFUSED
        assert decide(SeriesRejected(RejectReason.TOO_SHORT), replace(job(), state=state), **WITH) == Reject(
            RejectReason.TOO_SHORT
        )
    assert advance(State.REFUSED, Event.REJECTED) == State.REJECTED
    assert advance(State.REFUSED, Event.REPORTED) == State.REPORTED


def test_what_is_refused_is_not_refused_again():
    """It would be chosen, refused and chosen for ever."""
    refused = replace(job(), state=State.REFUSED, reject_reason="TOO_SHORT")
    again = decide(SeriesRejected(RejectReason.NO_UID), refused, **WITH)
    assert again == Halt(HaltCode.REPORT_FAILED)


def test_every_state_is_reached_and_every_one_but_the_endings_is_left():
    """No state is a dead letter without a name; what reopens a job comes from outside of it."""
    assert set(TRANSITIONS.values()) == set(State)
    from_outside = (Event.LATE_INSTANCE, Event.REOPENED, Event.REMATCHED, Event.RESENT)
    left = {state for state, event in TRANSITIONS if event not in from_outside}
    assert left - {State.REJECTED} == set(State) - ENDINGS  # one that nobody was told of may have to be told


REJECTED = [SeriesRejected(reason, "3 of 5.") for reason in RejectReason]


@pytest.mark.parametrize("error", REJECTED, ids=lambda error: error.reason)
@pytest.mark.parametrize("attempts", [0, MAX_ATTEMPTS + 1])
def test_every_reject_reason_rejects_with_itself(error: SeriesRejected, attempts: int):
    """However often it was tried."""
    assert decided(error, attempts) == Reject(error.reason)


OF_DEVICES = (models.errors.DeviceLost, models.errors.DeviceUnavailable)
MODEL_ERRORS = [kind for _, kind in inspect.getmembers(models.errors, inspect.isclass) if issubclass(kind, Exception)]

MEANING: list[tuple[Exception, HaltCode | None, HaltCode | None]] = [
    # the error, the halt at the first attempt, the halt at the last (None: tried again)
    (dicom_io.errors.DicomIOError(), None, HaltCode.UNEXPECTED),
    (dicom_io.errors.NotDicom("spool/1.2/1.dcm"), HaltCode.SPOOL_UNREADABLE, HaltCode.SPOOL_UNREADABLE),
    (dicom_io.errors.NotNifti(), None, HaltCode.UNEXPECTED),
    (dicom_io.errors.SegmentationUnreadable(), None, HaltCode.UNEXPECTED),
    (dicom_io.errors.InvalidUID(), None, HaltCode.UNEXPECTED),
    (dicom_io.errors.PeerError(), None, HaltCode.DELIVERY_FAILED),
    (dicom_io.errors.PeerUnreachable(), None, HaltCode.DELIVERY_FAILED),
    (dicom_io.errors.AssociationLost(), None, HaltCode.DELIVERY_FAILED),
    (dicom_io.errors.AssociationRefused(), None, HaltCode.DELIVERY_FAILED),
    (dicom_io.errors.ContextNotAccepted("PEER", "1.2.3", name="SEG"), None, HaltCode.DELIVERY_FAILED),
    (dicom_io.errors.StoreRefused(0xA700), None, HaltCode.DELIVERY_FAILED),
    (dicom_io.errors.QueryRefused("PEER", 0xC000), None, HaltCode.DELIVERY_FAILED),
    (dicom_io.errors.CommitmentRefused("PEER", 0x0110), None, HaltCode.DELIVERY_FAILED),
    (dicom_io.errors.WebRefused("PEER", 503), None, HaltCode.DELIVERY_FAILED),
    (dicom_io.errors.CertificateUnusable("x.pem"), None, HaltCode.DELIVERY_FAILED),
    *((kind(), HaltCode.MODEL_UNUSABLE, HaltCode.MODEL_UNUSABLE) for kind in MODEL_ERRORS if kind not in OF_DEVICES),
    (models.errors.DeviceLost("the GPU failed"), None, HaltCode.WORKER_FAILED),
    (models.errors.DeviceUnavailable("gone"), None, None),
    (reports.errors.ReportError(), HaltCode.REPORT_FAILED, HaltCode.REPORT_FAILED),
    (reports.errors.GeometryNotProved("2 mm"), HaltCode.GEOMETRY_NOT_PROVED, HaltCode.GEOMETRY_NOT_PROVED),
    (reports.errors.SourceUnusable("StudyInstanceUID"), HaltCode.REPORT_FAILED, HaltCode.REPORT_FAILED),
    (reports.errors.EvaluationUnreadable("damaged"), HaltCode.REPORT_FAILED, HaltCode.REPORT_FAILED),
    (reports.errors.LiversDiffer("overlap 0.5"), HaltCode.REPORT_FAILED, HaltCode.REPORT_FAILED),
    (reports.errors.ReportUnreadable("no template"), HaltCode.REPORT_FAILED, HaltCode.REPORT_FAILED),
    (daemon.errors.DaemonError(), None, HaltCode.UNEXPECTED),
    (daemon.errors.BadRequest("--seed"), None, HaltCode.UNEXPECTED),
    (daemon.errors.TrainingStopped("at step 3"), None, HaltCode.UNEXPECTED),
    (daemon.errors.EvaluationStopped("after a case"), None, HaltCode.UNEXPECTED),
    (daemon.errors.ComparisonStopped("at step 3"), None, HaltCode.UNEXPECTED),
    (daemon.errors.ConfigurationError(["porta.toml:1: a"]), None, HaltCode.UNEXPECTED),
    (daemon.errors.StorageUnusable("no room"), None, None),
    (daemon.errors.LedgerUnavailable("no answer"), None, None),
    (daemon.errors.LedgerLost("/ledger.sqlite"), None, None),
    (daemon.errors.LedgerRefused("DataError"), None, HaltCode.UNEXPECTED),
    (daemon.errors.DestinationGone("archive"), None, HaltCode.UNEXPECTED),
    (daemon.errors.RuleGone("liver-ct"), HaltCode.RULE_GONE, HaltCode.RULE_GONE),
    (daemon.errors.UnknownJob(3), None, HaltCode.UNEXPECTED),
    (daemon.errors.WrongState(3, "RECEIVED", "retry"), None, HaltCode.UNEXPECTED),
    (daemon.errors.WorkerFailed("ValueError"), None, HaltCode.WORKER_FAILED),
    (daemon.errors.WorkerCrashed("exit code 1"), None, HaltCode.WORKER_FAILED),
    (daemon.errors.WorkerTimedOut("1800 s"), None, HaltCode.WORKER_FAILED),
    (daemon.errors.WorkerOutOfMemory("9 GB"), None, HaltCode.WORKER_FAILED),
    (daemon.errors.WorkerStopped("stopping"), None, HaltCode.WORKER_FAILED),
    (FileNotFoundError(2, "gone"), HaltCode.SPOOL_UNREADABLE, HaltCode.SPOOL_UNREADABLE),
    (daemon.errors.FileDamaged("spool/1.2/1.dcm"), HaltCode.SPOOL_UNREADABLE, HaltCode.SPOOL_UNREADABLE),
    (daemon.errors.WorkDamaged("work/1/0/labels.npz"), HaltCode.STORAGE_UNUSABLE, HaltCode.STORAGE_UNUSABLE),
    (OSError(5, "broken"), None, HaltCode.STORAGE_UNUSABLE),
    (ZeroDivisionError(), None, HaltCode.UNEXPECTED),
]


@pytest.mark.parametrize(("error", "first", "last"), MEANING, ids=lambda value: type(value).__name__)
def test_what_an_error_means(error: Exception, first: HaltCode | None, last: HaltCode | None):
    """At the first attempt, and when the attempts are used up."""
    at_first, at_last = decided(error, 0), decided(error, MAX_ATTEMPTS - 1)
    if first is None:
        assert isinstance(at_first, Retry)
        assert at_first.at > NOW
    else:
        assert at_first == Halt(first)
    if last is None:
        assert isinstance(at_last, Retry)
        assert at_last.at > NOW
    else:
        assert at_last == Halt(last)


def delivery(attempts: int = 0, waited_s: float = 0.0) -> Delivery:
    return Delivery(
        *(1, 1, "archive", FORMS["seg"], "1.2.3", "1.2", "1", "outbox/1/0/seg.dcm", "query"),
        DeliveryState.PENDING,
        attempts,
        not_before=None,
        last_status=None,
        waited_s=waited_s,
    )


OF_DELIVERIES: list[tuple[Exception, HaltCode | None, HaltCode | None]] = [
    # the error, the halt at the first attempt, the halt at the last
    (dicom_io.errors.ContextNotAccepted("peer", "1.2", name="SEG"), *[HaltCode.DELIVERY_REFUSED] * 2),
    (dicom_io.errors.StoreRefused(0x0122), *[HaltCode.DELIVERY_REFUSED] * 2),
    (dicom_io.errors.StoreRefused(0xA901), *[HaltCode.DELIVERY_REFUSED] * 2),
    (dicom_io.errors.StoreRefused(0xC123), *[HaltCode.DELIVERY_REFUSED] * 2),
    (dicom_io.errors.StoreRefused(0x0110), None, HaltCode.DELIVERY_FAILED),
    (dicom_io.errors.StoreRefused(0xA701), None, None),
    (dicom_io.errors.PeerUnreachable(), None, None),
    (dicom_io.errors.WebRefused("PEER", 500), None, HaltCode.DELIVERY_FAILED),
    (dicom_io.errors.WebRefused("PEER", 503), None, None),
    (dicom_io.errors.CertificateUnusable("x.pem"), None, None),
    (dicom_io.errors.AssociationLost(), None, None),
    (dicom_io.errors.AssociationRefused(), None, None),
    (dicom_io.errors.PeerError(), None, HaltCode.DELIVERY_FAILED),
    (daemon.errors.DestinationGone("archive"), *[HaltCode.DESTINATION_GONE] * 2),
    (daemon.errors.StorageUnusable("no room"), None, None),
    (daemon.errors.LedgerUnavailable("no answer"), None, None),
    (dicom_io.errors.NotDicom("outbox/1/0/seg.dcm"), *[HaltCode.OUTBOX_UNREADABLE] * 2),
    (FileNotFoundError(2, "gone"), *[HaltCode.OUTBOX_UNREADABLE] * 2),
    (daemon.errors.FileDamaged("outbox/1/0/seg.dcm"), *[HaltCode.OUTBOX_UNREADABLE] * 2),
    (OSError(5, "broken"), None, HaltCode.STORAGE_UNUSABLE),
    (KeyError(), None, HaltCode.UNEXPECTED),
]


@pytest.mark.parametrize(("error", "first", "last"), OF_DELIVERIES, ids=lambda value: type(value).__name__)
def test_what_an_error_means_for_a_delivery(error: Exception, first: HaltCode | None, last: HaltCode | None):
    """At the first attempt, and when the attempts are used up."""
    for attempts, halt in ((0, first), (MAX_ATTEMPTS - 1, last)):
        patience = Patience(MAX_ATTEMPTS, first_s=5, longest_s=300, give_up_after_s=3600)
        found = decide(error, delivery(attempts), now=NOW, jitter=lambda: 0.5, patience=patience)
        assert found == Halt(halt) if halt else isinstance(found, Retry) and found.at > NOW


def test_an_outage_is_waited_for_ever_longer_and_not_for_ever():
    """The wait doubles to the longest, by what was waited; no attempt is counted; then a person is asked."""
    patience, waited, waits = Patience(3, first_s=10, longest_s=100, give_up_after_s=500), 0.0, []
    while True:
        error = dicom_io.errors.PeerUnreachable()
        found = decide(error, delivery(waited_s=waited), now=NOW, jitter=lambda: 0.5, patience=patience)
        if not isinstance(found, Retry):
            break
        assert not found.counts
        waits.append(found.at - NOW)
        waited += waits[-1]
    assert waits[:6] == [10, 20, 40, 80, 100, 100]
    assert found == Halt(HaltCode.DESTINATION_UNREACHABLE)
    assert waited >= 500


@pytest.mark.parametrize("tree", [dicom_io.errors, models.errors, reports.errors, daemon.errors])
def test_no_error_of_any_folder_is_left_out(tree: ModuleType):
    """An error that is added to a tree must be added here, with what it means."""
    known = {type(error) for error, _, _ in MEANING} | {SeriesRejected}
    for name, kind in inspect.getmembers(tree, inspect.isclass):
        if issubclass(kind, Exception):
            assert kind in known, f"{tree.__name__}.{name} has no meaning"


@pytest.mark.parametrize(
    "error", [daemon.errors.StorageUnusable("no room"), daemon.errors.LedgerUnavailable("no answer")]
)
@pytest.mark.parametrize("attempts", [0, MAX_ATTEMPTS - 1, 100])
def test_a_disk_or_a_ledger_that_is_away_costs_no_attempt(error: Exception, attempts: int):
    """It is nobody's fault but the site's, and passes when somebody makes room."""
    assert decided(error, attempts) == Retry(NOW + 1.5 * FIRST_RETRY_S, counts=False)


@pytest.mark.parametrize("attempts", [0, MAX_ATTEMPTS - 1, 100])
def test_a_gpu_that_is_away_costs_no_attempt(attempts: int):
    """However long it takes until somebody has put it right."""
    error = models.errors.DeviceUnavailable("there is no CUDA")
    assert decided(error, attempts) == Retry(NOW + 1.5 * DEVICE_RETRY_S, counts=False)


def test_a_gpu_that_fails_at_every_attempt_at_a_series_halts_it():
    """The series itself may be what it fails at; until then it waits for a new worker."""
    error = models.errors.DeviceLost("the GPU failed")
    for attempts in range(MAX_ATTEMPTS - 1):
        assert decided(error, attempts) == Retry(NOW + 1.5 * DEVICE_RETRY_S, counts=True)
    assert decided(error, MAX_ATTEMPTS - 1) == Halt(HaltCode.WORKER_FAILED)


@pytest.mark.parametrize("attempts", range(MAX_ATTEMPTS + 2))
def test_attempts_are_used_up_at_their_number(attempts: int):
    """Three attempts: two are tried again and count, the third halts."""
    decision = decided(daemon.errors.WorkerCrashed("exit code 1"), attempts)
    if attempts < MAX_ATTEMPTS - 1:
        assert decision == Retry(NOW + FIRST_RETRY_S * 2**attempts, counts=True)
    else:
        assert decision == Halt(HaltCode.WORKER_FAILED)


@given(
    attempts=st.integers(0, 10_000),
    first_s=st.floats(0.001, 1000),
    factor=st.floats(1, 10_000),
    jitter=st.floats(0, 1),
)
def test_backoff_is_bounded(attempts: int, first_s: float, factor: float, jitter: float):
    """Never less than three quarters of the first wait, never more than five quarters of the longest."""
    longest_s = first_s * factor
    wait_s = backoff_s(attempts, first_s=first_s, longest_s=longest_s, jitter=jitter)
    assert 0.75 * first_s <= wait_s * (1 + 1e-12)
    assert wait_s <= 1.25 * longest_s * (1 + 1e-12)


@given(attempts=st.integers(0, 100), jitter=st.floats(0, 1))
def test_backoff_doubles_until_the_longest(attempts: int, jitter: float):
    """Each wait is twice the one before it, until both are the longest."""
    this, following = (
        backoff_s(attempts + more, first_s=FIRST_RETRY_S, longest_s=LONGEST_RETRY_S, jitter=jitter) for more in (0, 1)
    )
    longest_s = LONGEST_RETRY_S * (0.75 + 0.5 * jitter)
    assert following == pytest.approx(min(2 * this, longest_s))
