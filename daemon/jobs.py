"""A series on its way through the pipeline: states, the moves between them, and what an error means. Pure.

A state is a fact made durable; a stage is an edge; a worker's hold is a lease. There is no RUNNING.

    RECEIVING -> RECEIVED -> SEGMENTED -> REPORTED -> DELIVERED -> CONFIRMED

REJECTED (with a reason) and CANCELLED end a job. A series that is refused waits as REFUSED, with its reason, for the
choice: it ends REJECTED in silence, or goes on to REPORTED with an SR that says the reason: the verdict. An error that
repeats itself, or cannot pass, puts a `halt` on the job: its state still says where to resume. Of the series of one
study only those that are `chosen` are worked on; which ones, `daemon.choice` says.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import inf

from daemon.errors import (
    DaemonError,
    DestinationGone,
    FileDamaged,
    LedgerUnavailable,
    RuleGone,
    StorageUnusable,
    WorkDamaged,
    WorkerFailed,
)
from dicom_io.errors import (
    AssociationRefused,
    ContextNotAccepted,
    NotDicom,
    PeerError,
    PeerUnreachable,
    RejectReason,
    SeriesRejected,
    StoreRefused,
    WebRefused,
)
from models.errors import DeviceLost, DeviceUnavailable, ModelError
from reports.errors import GeometryNotProved, ReportError
from reports.objects.kinds import Form


class State(StrEnum):
    """The states of a job; each is a fact that is durably true."""

    RECEIVING = "RECEIVING"
    RECEIVED = "RECEIVED"
    SEGMENTED = "SEGMENTED"
    REFUSED = "REFUSED"
    REPORTED = "REPORTED"
    DELIVERED = "DELIVERED"
    CONFIRMED = "CONFIRMED"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"


class Event(StrEnum):
    """The events of a job."""

    CLOSED = "CLOSED"
    SEGMENTED = "SEGMENTED"
    REPORTED = "REPORTED"
    DELIVERED = "DELIVERED"
    CONFIRMED = "CONFIRMED"
    REFUSED = "REFUSED"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"
    LATE_INSTANCE = "LATE_INSTANCE"
    REOPENED = "REOPENED"
    REMATCHED = "REMATCHED"
    RESENT = "RESENT"


ENDED = (State.CONFIRMED, State.REJECTED, State.CANCELLED)
"""The states that nothing is to be done about; nor is about DELIVERED where nothing is to be confirmed."""

TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.RECEIVING, Event.CLOSED): State.RECEIVED,
    (State.RECEIVING, Event.REJECTED): State.REJECTED,
    (State.RECEIVING, Event.LATE_INSTANCE): State.RECEIVING,
    (State.RECEIVED, Event.SEGMENTED): State.SEGMENTED,
    (State.RECEIVED, Event.REFUSED): State.REFUSED,
    (State.RECEIVED, Event.REJECTED): State.REJECTED,
    (State.RECEIVED, Event.LATE_INSTANCE): State.RECEIVING,
    (State.SEGMENTED, Event.REPORTED): State.REPORTED,
    (State.SEGMENTED, Event.REFUSED): State.REFUSED,
    (State.SEGMENTED, Event.REJECTED): State.REJECTED,
    (State.SEGMENTED, Event.LATE_INSTANCE): State.RECEIVING,
    (State.REFUSED, Event.REPORTED): State.REPORTED,
    (State.REFUSED, Event.REJECTED): State.REJECTED,
    (State.REFUSED, Event.LATE_INSTANCE): State.RECEIVING,
    (State.REPORTED, Event.DELIVERED): State.DELIVERED,
    (State.DELIVERED, Event.CONFIRMED): State.CONFIRMED,
    (State.REJECTED, Event.LATE_INSTANCE): State.RECEIVING,
    (State.REJECTED, Event.REOPENED): State.RECEIVED,
    (State.REJECTED, Event.REFUSED): State.REFUSED,
    (State.RECEIVED, Event.REMATCHED): State.RECEIVING,
    (State.SEGMENTED, Event.REMATCHED): State.RECEIVING,
    (State.REFUSED, Event.REMATCHED): State.RECEIVING,
    (State.REJECTED, Event.REMATCHED): State.RECEIVING,
    (State.CANCELLED, Event.REMATCHED): State.RECEIVING,
    (State.DELIVERED, Event.RESENT): State.REPORTED,
    (State.CONFIRMED, Event.RESENT): State.REPORTED,
    **{(state, Event.CANCELLED): State.CANCELLED for state in State if state not in ENDED},
}
"""Every move there is. A late instance reopens a job as long as no result of it is written; from REPORTED on it opens
the next revision, which is another job (see `opens_revision`). REOPENED: the series that was to be reported in
place of this one turned out to be none; REFUSED from REJECTED: nothing of the study is answered any more, so that the
reason has to be told. REMATCHED: the rules are asked again, because a person said so or the job's rule is gone; RESENT:
a person has the results sent again."""


def opens_revision(state: State) -> bool:
    """True where a late instance needs a new job: the results of this one are being sent, or were sent."""
    return state in OUT


WORKABLE = (State.RECEIVED, State.SEGMENTED, State.REFUSED)
"""The states from which the pipeline's worker goes on."""

OUT = (State.REPORTED, State.DELIVERED, State.CONFIRMED)
"""The states in which the results are written, and on their way or there: nothing takes them back."""


class Evidence(StrEnum):
    """The reason why a series counts as complete: its sender has no more, or has gone, or sent nothing for long."""

    PROVED = "PROVED"
    RELEASED = "RELEASED"
    QUIET = "QUIET"


class DeliveryState(StrEnum):
    """The states of one object on its way to one destination. KEPT: its rule sends nothing."""

    KEPT = "KEPT"
    PENDING = "PENDING"
    STORED = "STORED"
    CONFIRMED = "CONFIRMED"
    FAILED = "FAILED"


class ShadowState(StrEnum):
    """The states of a shadow: waiting, compared, or given up."""

    PENDING = "PENDING"
    COMPARED = "COMPARED"
    FAILED = "FAILED"


class CorrectionState(StrEnum):
    """The states of a correction: to be scored, scored, or of no use for that."""

    PENDING = "PENDING"
    SCORED = "SCORED"
    FAILED = "FAILED"


class HaltCode(StrEnum):
    """The reason why a job, or one of its deliveries, stands still until a person runs `porta retry`."""

    GEOMETRY_NOT_PROVED = "GEOMETRY_NOT_PROVED"
    MODEL_UNUSABLE = "MODEL_UNUSABLE"
    REPORT_FAILED = "REPORT_FAILED"
    WORKER_FAILED = "WORKER_FAILED"
    STORAGE_UNUSABLE = "STORAGE_UNUSABLE"
    SPOOL_UNREADABLE = "SPOOL_UNREADABLE"
    DELIVERY_FAILED = "DELIVERY_FAILED"
    DELIVERY_REFUSED = "DELIVERY_REFUSED"
    DESTINATION_UNREACHABLE = "DESTINATION_UNREACHABLE"
    DESTINATION_GONE = "DESTINATION_GONE"
    OUTBOX_UNREADABLE = "OUTBOX_UNREADABLE"
    RULE_GONE = "RULE_GONE"
    UNEXPECTED = "UNEXPECTED"


@dataclass(frozen=True)
class Job:
    """One revision of one series; times are seconds since 1970, UTC. Holds no patient attribute.

    `chosen`: it is of the series of its study that are reported. `reject_reason`: why the series is refused, also where
    that is what is reported. `replaces_series_instance_uid` and
    `replaces_revision` name the job, of another series of the study, whose results those of this one supersede.
    `before_instance`: it takes back what was sent of the images as they were before this one (the id of its row in the
    ledger) came as those of another patient or study. `removed_at`: when retention removed the files of its results.
    """

    id: int
    series_instance_uid: str
    study_instance_uid: str
    revision: int
    calling_ae_title: str
    rule: str | None
    priority: int
    state: State
    reject_reason: str | None
    attempts: int
    not_before: float | None
    halt: str | None
    instances: int
    warnings: tuple[str, ...]
    created_at: float
    lease: str | None = None
    chosen: bool = False
    replaces_series_instance_uid: str | None = None
    replaces_revision: int | None = None
    before_instance: int | None = None
    removed_at: float | None = None


@dataclass(frozen=True)
class Delivery:
    """One object of a job on its way to one destination; `confirm` says how that is confirmed ("none": not at all).

    `volume_index` is that of the volume of the series that it is about. `waited_s`: for how long its destination was
    waited for, since it last answered. `halt`: why it was given up. `sha256` is that of the file, where it is known.
    `source_series_instance_uid` is its job's. `not_committed`: how often the destination, asked for storage commitment,
    said that it does not keep it.
    """

    id: int
    job_id: int
    destination: str
    form: Form
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    path: str
    confirm: str
    state: DeliveryState
    attempts: int
    not_before: float | None
    last_status: str | None
    volume_index: int = 0
    waited_s: float = 0.0
    halt: str | None = None
    sha256: str | None = None
    source_series_instance_uid: str = ""
    not_committed: int = 0

    @property
    def object(self) -> str:
        """The name of its form, as people and scripts read it."""
        return self.form.name


@dataclass(frozen=True)
class Shadow:
    """A model that is run on the volumes of a job after its own; what it finds is compared, and never sent.

    `model` is the rule's name for it, `code` why it was postponed or failed; `volumes` has the figures of each volume
    (see `models.disagreement`). `series_instance_uid`, `job_state` and `instances` are the job's.
    """

    id: int
    job_id: int
    model: str
    state: ShadowState
    attempts: int
    not_before: float | None
    code: str | None
    version: str | None
    sha256: str | None
    volumes: tuple[Mapping[str, int | float | None], ...]
    series_instance_uid: str
    job_state: State
    instances: int


@dataclass(frozen=True)
class Correction:
    """A SEG that a person drew on images that are here, most often ours with changes, and stored to us.

    `series_instance_uid` and `study_instance_uid` are those of the images; `job_id` is the job whose results it was
    compared with, and `model`, `version`, `model_sha256` are what made these. `code`: why it was postponed, or of
    no use. `volumes` has the figures of each volume (see `models.disagreement`; theirs in the place of the shadow's).
    """

    id: int
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    calling_ae_title: str
    path: str
    bytes: int
    sha256: str
    received_at: float
    state: CorrectionState
    attempts: int = 0
    not_before: float | None = None
    code: str | None = None
    job_id: int | None = None
    model: str | None = None
    version: str | None = None
    model_sha256: str | None = None
    volumes: tuple[Mapping[str, int | float | None], ...] = ()


@dataclass(frozen=True)
class Retry:
    """Try again, not before `at`; `counts` says whether this was an attempt."""

    at: float
    counts: bool = True


@dataclass(frozen=True)
class Halt:
    """Stand still; only a person can help."""

    code: HaltCode


@dataclass(frozen=True)
class Reject:
    """The series is not to be processed."""

    reason: RejectReason


Decision = Retry | Halt | Reject

Item = Job | Shadow | Delivery | Correction
"""What an error may befall."""

FIRST_RETRY_S = 2.0
LONGEST_RETRY_S = 300.0
DEVICE_RETRY_S = 30.0
"""A GPU that failed is asked for again by a new worker, which takes some seconds to start."""


@dataclass(frozen=True)
class Patience:
    """How often a failing thing is tried (`attempts`), and how long a silent one is waited for; waits double."""

    attempts: int
    first_s: float = FIRST_RETRY_S
    longest_s: float = LONGEST_RETRY_S
    give_up_after_s: float = inf


def decide(error: Exception, item: Item, *, now: float, jitter: Callable[[], float], patience: Patience) -> Decision:
    """What an error means for its item; `jitter()` is from 0 to 1, `item.attempts` counts those before.

    A series that cannot be read is rejected, once. What cannot pass by itself (geometry, weights, a report that
    cannot be built, a spooled file that is gone or damaged) halts at once. The rest is tried again, ever more slowly,
    until the attempts are used up. A ledger, a disk or a GPU that is away costs no attempt; a GPU that fails at work
    does: it may be this series that it fails at.

    For a delivery: a destination that is away (see `is_outage`) is waited for, at most `give_up_after_s`, and costs
    no attempt; what it refuses for good halts at once.
    """
    if isinstance(item, Delivery):
        return _decide_delivery(error, item, now=now, jitter=jitter, patience=patience)
    if isinstance(error, SeriesRejected):
        return Halt(HaltCode.REPORT_FAILED) if item.state is State.REFUSED else Reject(error.reason)
    if isinstance(error, GeometryNotProved):
        return Halt(HaltCode.GEOMETRY_NOT_PROVED)
    if isinstance(error, ReportError):
        return Halt(HaltCode.REPORT_FAILED)
    if isinstance(error, DeviceUnavailable):
        return Retry(now + DEVICE_RETRY_S * (1 + jitter()), counts=False)
    if isinstance(error, ModelError) and not isinstance(error, DeviceLost):
        return Halt(HaltCode.MODEL_UNUSABLE)
    if isinstance(error, NotDicom | FileDamaged | FileNotFoundError):
        return Halt(HaltCode.SPOOL_UNREADABLE)
    if isinstance(error, WorkDamaged):
        return Halt(HaltCode.STORAGE_UNUSABLE)
    if isinstance(error, RuleGone):
        return Halt(HaltCode.RULE_GONE)
    if isinstance(error, LedgerUnavailable | StorageUnusable):
        return Retry(now + FIRST_RETRY_S * (1 + jitter()), counts=False)
    if item.attempts + 1 >= patience.attempts:
        return Halt(_halt_code(error))
    if isinstance(error, DeviceLost):
        return Retry(now + DEVICE_RETRY_S * (1 + jitter()))
    return Retry(now + _backoff_s(item, patience, jitter))


def _decide_delivery(
    error: Exception, delivery: Delivery, *, now: float, jitter: Callable[[], float], patience: Patience
) -> Decision:
    if isinstance(error, DestinationGone):
        return Halt(HaltCode.DESTINATION_GONE)
    if isinstance(error, NotDicom | FileDamaged | FileNotFoundError):
        return Halt(HaltCode.OUTBOX_UNREADABLE)
    if isinstance(error, ContextNotAccepted) or (isinstance(error, StoreRefused) and is_final(error.status)):
        return Halt(HaltCode.DELIVERY_REFUSED)
    if isinstance(error, LedgerUnavailable | StorageUnusable):
        return Retry(now + FIRST_RETRY_S * (1 + jitter()), counts=False)
    if is_outage(error):
        if delivery.waited_s >= patience.give_up_after_s:
            return Halt(HaltCode.DESTINATION_UNREACHABLE)
        # As long again as it has been waited for: doubled each time, whatever the clock said meanwhile
        wait_s = min(patience.longest_s, patience.first_s + delivery.waited_s)
        return Retry(now + spread_wait(wait_s, jitter()), counts=False)
    if delivery.attempts + 1 >= patience.attempts:
        return Halt(_halt_code(error))
    return Retry(now + _backoff_s(delivery, patience, jitter))


def is_outage(error: Exception) -> bool:
    """True where an error says that a destination is away or full, False where it refuses the object."""
    is_full = isinstance(error, StoreRefused) and error.status & 0xFF00 == 0xA700
    is_shut = isinstance(error, WebRefused) and error.is_passing
    return is_full or is_shut or isinstance(error, PeerUnreachable | AssociationRefused)


FINAL = (0x0112, 0x0117, 0x0118, 0x0119, 0x0122, 0x0124, 0x0211, 0x0212)
"""Statuses that an object gets whenever it is sent: SOP class not supported, not authorized, … (PS3.7 annex C)."""


def is_final(status: int) -> bool:
    """True for a C-STORE status that no retry changes: as above, data set does not match (A9xx), cannot understand."""
    return status in FINAL or status & 0xFF00 == 0xA900 or status & 0xF000 == 0xC000


def _backoff_s(item: Item, patience: Patience, jitter: Callable[[], float]) -> float:
    return backoff_s(item.attempts, first_s=patience.first_s, longest_s=patience.longest_s, jitter=jitter())


def _halt_code(error: Exception) -> HaltCode:
    if isinstance(error, WorkerFailed | DeviceLost):
        return HaltCode.WORKER_FAILED
    if isinstance(error, OSError):
        return HaltCode.STORAGE_UNUSABLE
    if isinstance(error, PeerError):
        return HaltCode.DELIVERY_FAILED
    return HaltCode.UNEXPECTED


def backoff_s(attempts: int, *, first_s: float, longest_s: float, jitter: float) -> float:
    """Return the seconds to wait after `attempts` failures: doubled each time, capped, then spread."""
    return spread_wait(min(longest_s, first_s * 2.0 ** min(attempts, 30)), jitter)


def spread_wait(wait_s: float, jitter: float) -> float:
    """Spread a wait by half of itself, so that things that wait for the same do not all try again at one moment."""
    return wait_s * (0.75 + 0.5 * jitter)


def advance(state: State, event: Event) -> State:
    """Return the state that an event leads to. Raises DaemonError for a move that the table does not have."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise DaemonError(f"no move {event} from {state}") from None
