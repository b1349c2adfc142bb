"""What is told to the ledger, and what it tells, besides jobs, deliveries and shadows themselves."""

from collections.abc import Mapping
from dataclasses import dataclass

from daemon.jobs import Evidence
from reports.objects.kinds import Form


@dataclass(frozen=True)
class Instance:
    """A received instance; `path` is relative to the storage root. `version` counts what came under its UIDs."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    series_instance_uid: str
    study_instance_uid: str
    calling_ae_title: str
    path: str
    bytes: int
    sha256: str
    version: int = 1


@dataclass(frozen=True)
class Due:
    """A job whose series is due to be closed, as it stood then; `expected` is how many its sender said it has."""

    job_id: int
    series_instance_uid: str
    calling_ae_title: str
    instances: int
    expected: int | None = None
    evidence: Evidence = Evidence.QUIET


@dataclass(frozen=True)
class Incoming:
    """A series that is being received, as it stands; `expected` is how many instances its sender said it has."""

    series_instance_uid: str
    study_instance_uid: str
    instances: int
    expected: int | None
    last_received_at: float
    released_at: float | None
    longest_pause_s: float


@dataclass(frozen=True)
class Outgoing:
    """An object to be delivered, before the ledger knows it; `sha256` is that of its file.

    `study_instance_uid` is that of the study that it is of, where that is not its job's.
    """

    destination: str
    form: Form
    sop_instance_uid: str
    series_instance_uid: str
    path: str
    confirm: str
    volume_index: int = 0
    sha256: str | None = None
    study_instance_uid: str | None = None


@dataclass(frozen=True)
class Compared:
    """What a shadow found beside the job's own model: who it was, and figures for each volume."""

    version: str
    sha256: str
    volumes: tuple[Mapping[str, int | float | None], ...]


@dataclass(frozen=True)
class Received:
    """An instance of the past, as it came at a time, and what it changed of the version before it."""

    instance: Instance
    at: float
    difference: str | None = None
    is_elsewhere: bool = False


@dataclass(frozen=True)
class Reported:
    """The results of one revision of a series, written in the past: what is to be sent of them, by which rule.

    `reject_reason` is what they say where they are no results; `replaces` names the series and revision whose place
    they took.
    """

    series_instance_uid: str
    revision: int
    at: float
    rule: str | None
    reject_reason: str | None
    outgoing: tuple[Outgoing, ...]
    replaces: tuple[str, int] | None = None
