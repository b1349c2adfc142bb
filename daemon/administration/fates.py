"""What has become of a series, and what to do: one sentence for each fate that there is. Pure.

The fates in the order in which the one of a study is found among its series: the first of these that any has.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil

from daemon.administration.conditions import command_for, halt_of
from daemon.administration.moments import for_so_long, in_zone
from daemon.delivery.statuses import advice_on
from daemon.jobs import OUT, WORKABLE, Delivery, DeliveryState, HaltCode, Job, State
from daemon.ledger.rows import Arrival, Happened
from dicom_io.errors import RejectReason


class Fate(StrEnum):
    """What may become of a study or series."""

    HALTED = "HALTED"
    SEGMENTING = "SEGMENTING"
    QUEUED = "QUEUED"
    WAITING = "WAITING"
    RECEIVING = "RECEIVING"
    SENDING = "SENDING"
    DELIVERED = "DELIVERED"
    CONFIRMED = "CONFIRMED"
    KEPT = "KEPT"
    NOT_PROCESSED = "NOT_PROCESSED"
    NO_RULE = "NO_RULE"
    SUPERSEDED = "SUPERSEDED"
    CANCELLED = "CANCELLED"
    REFUSED = "REFUSED"
    NOT_SENT = "NOT_SENT"


HALT_ADVICE: dict[HaltCode, str] = {
    HaltCode.GEOMETRY_NOT_PROVED: "the SEG did not lie where the model drew it and was not sent: report this",
    HaltCode.MODEL_UNUSABLE: "the model cannot be used: `porta models verify` says why; mend that",
    HaltCode.REPORT_FAILED: "the results could not be written: look into the log for job.halted, report this",
    HaltCode.WORKER_FAILED: "the worker failed at each attempt (crash, deadline or memory): look into the log, "
    "raise engine.deadline_s or give it memory",
    HaltCode.STORAGE_UNUSABLE: "the disk of the storage root did not read or write: look at it",
    HaltCode.SPOOL_UNREADABLE: "an image in the spool is gone or damaged: `porta verify` names it; have it sent again",
    HaltCode.DELIVERY_FAILED: "the destination answered each attempt with an error: look into its log",
    HaltCode.DELIVERY_REFUSED: "the destination refuses such objects for good: look into its log",
    HaltCode.DESTINATION_UNREACHABLE: "the destination was waited for in vain: see that it runs and can be reached",
    HaltCode.DESTINATION_GONE: "the configuration has this destination no more: enter it again, `porta reload`",
    HaltCode.OUTBOX_UNREADABLE: "a result in the outbox is gone or damaged: put a backup of the file back",
    HaltCode.RULE_GONE: "the configuration has its rule no more, and something was sent already",
    HaltCode.UNEXPECTED: "something happened that Porta does not foresee: look into the log, report this",
}
"""What a person does about each halt, before `porta retry`."""


@dataclass(frozen=True)
class Case:
    """All that is known of a series: its last job, what came, what is sent, what happened, and how others stand.

    `ahead`: how many jobs are worked on before it; None where it does not wait. `job_s`: how long one takes, None where
    nobody knows. `percent`: how much of the segmentation is done. `mismatches`: why each rule of today does not match,
    by its name. `quiet_s` is the configuration's.
    """

    job: Job
    arrival: Arrival
    deliveries: Sequence[Delivery]
    history: Sequence[Happened]
    now: float
    ahead: int | None = None
    job_s: float | None = None
    mismatches: Mapping[str, str] | None = None
    answered_by: str | None = None
    quiet_s: float = 20.0
    percent: int | None = None
    workers: int = 1

    @property
    def fate(self) -> Fate:
        """What has become of it."""
        job = self.job
        if halt_of(job, self.deliveries):
            return Fate.HALTED
        if job.state in WORKABLE:
            if not job.chosen:
                return Fate.WAITING
            return Fate.SEGMENTING if job.lease else Fate.QUEUED
        if job.state == State.REJECTED:
            reasons = {RejectReason.NO_RULE: Fate.NO_RULE, RejectReason.SUPERSEDED_BY_BETTER: Fate.SUPERSEDED}
            return reasons.get(RejectReason(str(job.reject_reason)), Fate.NOT_PROCESSED)
        if self.deliveries and all(item.state == DeliveryState.KEPT for item in self.deliveries):
            return Fate.KEPT
        return {
            State.RECEIVING: Fate.RECEIVING,
            State.REPORTED: Fate.SENDING,
            State.DELIVERED: Fate.DELIVERED,
            State.CONFIRMED: Fate.CONFIRMED,
            State.CANCELLED: Fate.CANCELLED,
        }[job.state]

    @property
    def sentence(self) -> str:
        """What has become of it, and what to do."""
        if self.removed_on is None:
            return SENTENCES[self.fate](self)
        return _removed(self)

    @property
    def removed_on(self) -> str | None:
        """When images or results were removed by retention, as people read it; None where all are there."""
        times = [self.job.removed_at or 0.0, (self.arrival.removed_at or 0.0) if self.arrival.removed else 0.0]
        return in_zone(max(times)) if any(times) else None

    @property
    def counted(self) -> str:
        """How many images, of how many where that is known."""
        arrival = self.arrival
        of = f" of {arrival.expected}" if arrival.expected and arrival.expected >= arrival.instances else ""
        return f"{arrival.instances}{of} images"


def _removed(case: Case) -> str:
    """What is to be said where retention has removed files."""
    job = case.job
    gone = f"{case.arrival.removed} images" if case.arrival.removed else "its results"
    gone += " and its results" if case.arrival.removed and job.removed_at and job.state in OUT else ""
    said = f"Of it {gone} were removed by retention on {case.removed_on}"
    if job.state == State.RECEIVING or job.halt == HaltCode.SPOOL_UNREADABLE:
        then = "have all of the series sent again" + (f", then `porta retry {job.id}`" if job.halt else "")
        return f"More of it came than had been reported. {said}: {then}."
    told = {
        Fate.DELIVERED: f"{_to(case)} took {_results(case)}.",
        Fate.CONFIRMED: f"{_to(case)} has {_results(case)}.",
        Fate.KEPT: "Its rule sent nothing.",
        Fate.NO_RULE: "No rule matched it.",
        Fate.SUPERSEDED: "Another series of its study was reported in its place.",
        Fate.CANCELLED: "A person ended it.",
        Fate.NOT_PROCESSED: f"It was not processed ({job.reject_reason}).",
    }.get(case.fate)
    if told is None:  # a later revision is on its way, with all of its images
        return SENTENCES[case.fate](case)
    return f"{told} {said}; to process it again, have it sent again, then `porta rerun {job.id}`."


STAGE_OF: dict[str, str] = {
    "CLOSED": "receiving",
    "CHOSEN": "choosing",
    "STARTED": "queue",
    "SEGMENTED": "segmenting",
    "REPORTED": "reporting",
    "REFUSED": "judging",
    "REJECTED": "judging",
    "DELIVERED": "delivering",
    "CONFIRMED": "confirming",
}
"""The stage that an event ends."""


def stages_of(history: Sequence[Happened]) -> list[tuple[str, float, float]]:
    """The stages of a job in their order: name, when it ended, and how many seconds it took."""
    return [
        (STAGE_OF[item.event], item.at, max(0.0, item.at - before.at))
        for before, item in zip(history, history[1:], strict=False)
        if item.event in STAGE_OF
    ]


def _halted(case: Case) -> str:
    code = halt_of(case.job, case.deliveries)
    failed = next((item for item in case.deliveries if item.halt), None)
    advice = f"{HALT_ADVICE[HaltCode(str(code))]}; then"
    where = ""
    if failed and not case.job.halt:
        where = f" at {failed.destination}, {failed.last_status}"
        advice = f"{known} Then" if (known := advice_on(failed.last_status)) else advice
    since = next((item.at for item in reversed(case.history) if item.event.endswith("HALTED")), None)
    when = f" since {in_zone(since)}" if since else ""
    return f"It stands still{when} ({code}{where}): {advice} `{command_for(case.job, case.deliveries)}`."


def _segmenting(case: Case) -> str:
    began = next((item.at for item in reversed(case.history) if item.event == "STARTED"), case.now)
    what = "segmented" if case.job.state == State.RECEIVED else "reported"
    done = "" if case.percent is None else f" ({case.percent} %)"
    return f"It is being {what}{done}, for {for_so_long(case.now - began)} now{_expected(case, 1)}: nothing to do."


def _queued(case: Case) -> str:
    not_before = case.job.not_before or 0.0
    later = f", not before {in_zone(not_before)}" if not_before > case.now else ""
    ahead = case.ahead or 0
    place = "next" if not ahead else f"number {ahead + 1}"
    return f"It is {place} in the queue{later}{_expected(case, ahead + 1)}: nothing to do."


def _expected(case: Case, jobs: int) -> str:
    if case.job_s is None:
        return ""
    return f", and should be done in about {for_so_long(ceil(jobs / case.workers) * case.job_s)}"


def _waiting(case: Case) -> str:
    return "It is complete, and waits for other series of its study that are still coming in: nothing to do."


def _receiving(case: Case) -> str:
    ago = for_so_long(max(0.0, case.now - case.arrival.last_received_at))
    return (
        f"It is coming in: {case.counted}, the last {ago} ago; without further images it counts as complete "
        f"{for_so_long(case.quiet_s)} after the last: nothing to do."
    )


def _sending(case: Case) -> str:
    undone = [item for item in case.deliveries if item.state == DeliveryState.PENDING]
    waits = next((item for item in undone if item.last_status), None)
    if waits is None:
        return f"Its results are being sent to {_to(case)}: nothing to do."
    again = f", next at {in_zone(waits.not_before)}" if waits.not_before else ""
    advice = advice_on(waits.last_status) or "Look into the log of the destination."
    return (
        f"Its results wait for {waits.destination} ({waits.last_status}{again}). {advice} "
        f"`porta retry {case.job.id}` tries at once."
    )


def _delivered(case: Case) -> str:
    if not case.deliveries:
        return "It was reported, and no destination takes any of its objects: enter `objects` of one."
    if any(item.confirm != "none" and item.state == DeliveryState.STORED for item in case.deliveries):
        return f"{_to(case)} took its results, and is asked by C-FIND whether it has them: nothing to do."
    return (
        f"{_to(case)} took {_results(case)} with success: nothing to do; where they are missing there, look into its "
        f"log, and `porta send {case.job.id}` sends them again."
    )


def _confirmed(case: Case) -> str:
    return f"{_to(case)} has {_results(case)}, as it answered to C-FIND: nothing to do."


def _kept(case: Case) -> str:
    return (
        f"Its rule sends nothing (`send = false`): {_results(case)} lie in outbox/{case.job.id} of the storage root; "
        f"`porta send {case.job.id}` sends them."
    )


def _results(case: Case) -> str:
    if case.job.reject_reason:
        return f"an SR that says why it is not processed ({case.job.reject_reason})"
    return "its results"


def _not_processed(case: Case) -> str:
    reason = RejectReason(str(case.job.reject_reason))
    helps = "have the missing images sent" if reason.cure and reason.cure == "MORE_SLICES" else "nothing to do"
    if reason.cure and reason.cure == "CONFIGURATION":
        helps = f"change the configuration, `porta reload`, `porta rerun {case.job.id}`"
    return f"It is not processed ({reason}). {reason.sentence} {helps[0].upper()}{helps[1:]}."


def _no_rule(case: Case) -> str:
    if case.mismatches is None:
        why = "its images cannot be read any more"
    elif not case.mismatches:
        why = "the rules of today do: nothing but a new run is missing"
    else:
        why = "; ".join(f"{rule}: {reason}" for rule, reason in case.mismatches.items())
    then = f"mend the rule, `porta reload`, `porta rerun {case.job.id}`"
    return f"No rule matched it ({why}). If it should be processed: {then}."


def _superseded(case: Case) -> str:
    by = f"series {case.answered_by}" if case.answered_by else "another series"
    return f"Of its study {by} suits better and is reported in its place: nothing to do."


def _cancelled(case: Case) -> str:
    return f"A person ended it: `porta rerun {case.job.id}` processes it all the same."


def _to(case: Case) -> str:
    return " and ".join(dict.fromkeys(item.destination for item in case.deliveries)) or "no destination"


SENTENCES: dict[Fate, Callable[[Case], str]] = {
    Fate.HALTED: _halted,
    Fate.SEGMENTING: _segmenting,
    Fate.QUEUED: _queued,
    Fate.WAITING: _waiting,
    Fate.RECEIVING: _receiving,
    Fate.SENDING: _sending,
    Fate.DELIVERED: _delivered,
    Fate.CONFIRMED: _confirmed,
    Fate.KEPT: _kept,
    Fate.NOT_PROCESSED: _not_processed,
    Fate.NO_RULE: _no_rule,
    Fate.SUPERSEDED: _superseded,
    Fate.CANCELLED: _cancelled,
}
"""Of what came; what did not is told by `daemon.administration.absences`."""


def of_study(cases: Sequence[Case]) -> Case:
    """The case that says most of a study: the first of the fates; of equals the newest job."""
    order = list(Fate)
    return min(cases, key=lambda case: (order.index(case.fate), -case.job.id))
