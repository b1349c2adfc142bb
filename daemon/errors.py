"""What can go wrong in the service itself.

    DaemonError
    ├── ConfigurationError(faults)             the file is missing or wrong; one line per fault
    ├── BadRequest(detail)                     what the command line asks for cannot be made
    ├── StorageUnusable(detail)                the storage root cannot be written, or is full
    ├── LedgerUnavailable(detail)              the database does not answer
    │   └── LedgerLost(path)                   its file was deleted or replaced while it was in use
    ├── FileDamaged(path)                      a file holds other bytes than were written
    ├── WorkDamaged(path)                      what one stage left for the next is gone or damaged
    ├── LedgerRefused(detail)                  the database does not take this value
    ├── UnknownJob(job_id)                     no job bears this id
    ├── DestinationGone(name)                  the configuration does not have the destination any more
    ├── RuleGone(rule)                         the configuration does not have the rule any more
    ├── WrongState(job_id, state, verb)        the job is not in a state where this can be done to it
    ├── TrainingStopped(detail)                a signal ended a training before its last step
    ├── EvaluationStopped(detail)              a signal ended an evaluation before its last case
    ├── ComparisonStopped(detail)              a signal ended a comparison before its page was drawn
    └── WorkerFailed(detail)                   an attempt in the worker process ended without a result
        ├── WorkerCrashed(detail)              the process is gone
        ├── WorkerTimedOut(detail)             it was still working at its deadline
        ├── WorkerOutOfMemory(detail)          it asked for more memory than there is
        └── WorkerStopped(detail)              the service is stopping

What is wrong with a series, a file or a peer is said by `dicom_io.errors`. Messages hold UIDs, ids, counts, codes and
paths of the configuration; never an attribute of a patient. What an error means for a job, `jobs.decide` says.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar


class DaemonError(Exception):
    """Root of this folder's errors. `exit_code` is that of a command that ends with it: 2 where its input is wrong."""

    exit_code: ClassVar[int] = 1


class ConfigurationError(DaemonError):
    """The configuration cannot be used. `faults` has one printable line for each fault."""

    exit_code = 2

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))

    def __reduce__(self) -> tuple[type["ConfigurationError"], tuple[tuple[str, ...]]]:
        return ConfigurationError, (self.faults,)


class BadRequest(DaemonError):
    """An option of the command line has an impossible value; the message names it."""

    exit_code = 2


class StorageUnusable(DaemonError):
    """The storage root cannot be written or is full: a sender gets 0xA700, a start ends with exit code 2."""

    exit_code = 2

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


class LedgerUnavailable(DaemonError):
    """The ledger's database cannot be reached or does not commit: a sender gets 0xA700, the service tries again."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)

    def __str__(self) -> str:
        return f"the ledger cannot be used: {self.detail}"


class LedgerLost(LedgerUnavailable):
    """The file of the ledger was deleted or replaced while it was in use: what is written now would be lost with it."""

    def __init__(self, path: Path | str) -> None:
        self.path = str(path)
        super().__init__(f"{path} was deleted or replaced while it was in use")

    def __reduce__(self) -> tuple[type["LedgerLost"], tuple[str]]:
        return LedgerLost, (self.path,)


class FileDamaged(DaemonError):
    """A file of spool or outbox holds other bytes than its recorded sha256 says."""

    def __init__(self, path: Path | str) -> None:
        self.path = str(path)
        super().__init__(f"{path}: holds other bytes than were written")

    def __reduce__(self) -> tuple[type["FileDamaged"], tuple[str]]:
        return FileDamaged, (self.path,)


class WorkDamaged(DaemonError):
    """What a stage left in the work folder for the next one is gone or damaged: it has to be made again."""

    def __init__(self, path: Path | str) -> None:
        self.path = str(path)
        super().__init__(f"{path}: gone, or holds other bytes than were written")

    def __reduce__(self) -> tuple[type["WorkDamaged"], tuple[str]]:
        return WorkDamaged, (self.path,)


class LedgerRefused(DaemonError):
    """The database cannot hold a value of this item: a number that is too large, or a text with a NUL."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


class UnknownJob(DaemonError):
    """The ledger has no job with this id."""

    exit_code = 2

    def __init__(self, job_id: int | str) -> None:
        self.job_id = job_id
        super().__init__(f"there is no job {job_id}")

    def __reduce__(self) -> tuple[type["UnknownJob"], tuple[int | str]]:
        return UnknownJob, (self.job_id,)


class DestinationGone(DaemonError):
    """The object was made for a destination that the configuration no longer has, or has without a port."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"the configuration has no destination {name} any more")

    def __reduce__(self) -> tuple[type["DestinationGone"], tuple[str]]:
        return DestinationGone, (self.name,)


class RuleGone(DaemonError):
    """The job was routed by a rule that the configuration no longer has."""

    def __init__(self, rule: str) -> None:
        self.rule = rule
        super().__init__(f"the configuration has no rule {rule} any more")

    def __reduce__(self) -> tuple[type["RuleGone"], tuple[str]]:
        return RuleGone, (self.rule,)


class WrongState(DaemonError):
    """The job exists, but `verb` (retry, cancel, …) cannot be done to it in `state`."""

    exit_code = 2

    def __init__(self, job_id: int | str, state: str, verb: str) -> None:
        self.job_id = job_id
        self.state = state
        self.verb = verb
        super().__init__(f"job {job_id} is {state}: cannot {verb} it")

    def __reduce__(self) -> tuple[type["WrongState"], tuple[int | str, str, str]]:
        return WrongState, (self.job_id, self.state, self.verb)


class TrainingStopped(DaemonError):
    """Ctrl-C or SIGTERM ended a training; its last checkpoint is on the disk, and it can go on."""


class EvaluationStopped(DaemonError):
    """Ctrl-C or SIGTERM ended an evaluation; the cases that were measured are kept, and it can go on."""


class ComparisonStopped(DaemonError):
    """Ctrl-C or SIGTERM ended a comparison; what was trained and measured is kept, and it can go on."""


class WorkerFailed(DaemonError):
    """An attempt in the worker process ended without a result. It counts as an attempt of the job."""

    def __init__(self, detail: str = "") -> None:
        self.detail = detail
        super().__init__(detail)


class WorkerCrashed(WorkerFailed):
    """The worker process ended by itself or by a signal; `detail` has its exit code."""


class WorkerTimedOut(WorkerFailed):
    """The worker was still busy at its deadline (`engine.deadline_s`) and was stopped."""


class WorkerOutOfMemory(WorkerFailed):
    """The worker asked for more memory than it may have or the machine or the GPU holds."""


class WorkerStopped(WorkerFailed):
    """The service is stopping: the attempt was broken off and does not count."""
