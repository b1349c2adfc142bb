"""What is told to the ledger, and what it tells, besides jobs, deliveries and shadows themselves."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from daemon.jobs import Evidence
from reports.objects.kinds import Form


@dataclass(frozen=True)
class Instance:
    """A received instance; `path` is relative to the storage root. `version` counts what came under its UIDs.

    `removed_at`: when its file was removed by retention; None while it is there.
    """

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
    removed_at: float | None = None


@dataclass(frozen=True)
class Due:
    """A job whose series is due to be closed, as it stood then; `expected` is how many its sender said it has."""

    job_id: int
    series_instance_uid: str
    calling_ae_title: str
    instances: int
    expected: int | None = None
    evidence: Evidence = Evidence.QUIET
    study_instance_uid: str = ""


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

    `study_instance_uid` is that of the study that it is of, where that is not its job's. One that `is_kept` is not sent
    before a person says so.
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
    is_kept: bool = False


@dataclass(frozen=True)
class Compared:
    """What a shadow found beside the job's own model: who it was, and figures for each volume."""

    version: str
    sha256: str
    volumes: tuple[Mapping[str, int | float | None], ...]


@dataclass(frozen=True)
class Scored:
    """How far a correction is from what was sent: by which job and model, and figures for each volume."""

    job_id: int
    model: str
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


@dataclass(frozen=True)
class Tombstone:
    """What the ledger said of a series when its files were removed: the rows of each table, by their columns."""

    series_instance_uid: str
    removed_at: float
    rows: Mapping[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Arrival:
    """What came of a series: from whom, how many images, of how many (where the sender said so), and when.

    `removed` is how many of them retention has removed since, the last `removed_at`.
    """

    series_instance_uid: str
    calling_ae_title: str
    instances: int
    expected: int | None
    last_received_at: float
    first_received_at: float
    removed: int = 0
    removed_at: float | None = None


@dataclass(frozen=True)
class Happened:
    """Something that happened to a job, when, and the code of why."""

    event: str
    at: float
    from_state: str | None
    to_state: str | None
    code: str | None


class RefusalKind(StrEnum):
    """What a peer wanted and did not get: an association, a presentation context, or one that broke off."""

    ASSOCIATION = "ASSOCIATION"
    CONTEXT = "CONTEXT"
    BROKEN_OFF = "BROKEN_OFF"


@dataclass(frozen=True)
class Refusal:
    """A peer that did not get through, how often, when first and last; `reason` is a code, or a SOP class's UID."""

    kind: RefusalKind
    reason: str
    calling_ae_title: str
    called_ae_title: str
    host: str
    count: int
    first_at: float
    last_at: float

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from others."""
        return self.kind, self.reason, self.calling_ae_title, self.called_ae_title, self.host
