"""The condition of a job in a line for people: its state, why, and the command that helps."""

from collections.abc import Sequence

from daemon.jobs import WORKABLE, Delivery, HaltCode, Job, State
from daemon.storage.spool import Spool
from dicom_io.errors import Cure, RejectReason


def halt_of(job: Job, deliveries: Sequence[Delivery]) -> str | None:
    """Return the code of the halt of a job, else that of its first delivery that has one: it needs a person."""
    return job.halt or next((delivery.halt for delivery in deliveries if delivery.halt), None)


def stage_of(job: Job) -> str | None:
    """Return what a worker does with a job, or is to do; None where none has anything to do with it."""
    if job.state not in WORKABLE or job.halt:
        return None
    if not job.chosen:
        return "WAITING"
    if not job.lease:
        return "QUEUED"
    return "SEGMENTING" if job.state == State.RECEIVED else "REPORTING"


def progress_of(spool: Spool, job: Job) -> int | None:
    """Return how much of the segmentation of a job is done, in percent; None where it does not run."""
    return spool.progress(job.id) if stage_of(job) == "SEGMENTING" else None


def command_for(job: Job, deliveries: Sequence[Delivery]) -> str | None:
    """Return the command that has a job go on, once what its code says is mended; None where none is needed."""
    halt = halt_of(job, deliveries)
    if halt and halt != HaltCode.RULE_GONE:
        return f"porta retry {job.id}"
    reason = RejectReason(job.reject_reason) if job.reject_reason else None
    if halt or job.state == State.CANCELLED or (reason and reason.cure is Cure.CONFIGURATION):
        return f"porta rerun {job.id}"
    return None


def condition(job: Job, deliveries: Sequence[Delivery]) -> str:
    """Return `job 1 is REJECTED (NO_RULE): `porta rerun 1``, or as much of it as there is."""
    halt = halt_of(job, deliveries)
    why = f"halted: {halt}" if halt else job.reject_reason
    command = command_for(job, deliveries)
    return f"job {job.id} is {job.state}" + (f" ({why})" if why else "") + (f": `{command}`" if command else "")
