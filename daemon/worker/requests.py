"""What the service asks of its worker and what it gets back: the stages by name, and frozen values.

The service imports this module and no stage: torch, highdicom, Matplotlib and SimpleITK are loaded by the worker alone.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from daemon.ledger.rows import Compared, Scored
from daemon.worker.executor import Stage
from dicom_io.network.moving import Moving
from dicom_io.network.scu import Remote
from dicom_io.web.service import WebService
from reports.identity import ResultIdentity
from reports.objects.kinds import Form
from reports.objects.profile import Profile


@dataclass(frozen=True)
class Engine:
    """The device that a model runs on, and its settings."""

    device: str = "auto"
    threads: int | None = None
    compiled: bool = False
    workers: int = 1
    """How many workers share the processors, where `threads` is not given."""


@dataclass(frozen=True)
class Archive:
    """An archive that is asked for earlier results: as whom, the time for each answer, and whether for images too.

    `moving` is where a C-MOVE may send to, where it offers no C-GET.
    """

    remote: Remote | WebService
    calling_ae_title: str
    timeout_s: float
    images: bool = False
    moving: Moving | None = None

    @property
    def name(self) -> str:
        """What stands for it in the log: its AE title, or the host of its address."""
        return str(self.remote) if isinstance(self.remote, WebService) else self.remote.ae_title


@dataclass(frozen=True)
class SentSr:
    """An SR that was sent: its form, its volume and its UIDs; where it lies, and by which revision of its series."""

    form: Form
    volume_index: int
    series_instance_uid: str
    sop_instance_uid: str
    path: Path | None = field(default=None, compare=False)
    revision: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Replaced:
    """What earlier jobs of a series sent, answers or verdicts, that the SRs of this one supersede: one at least.

    Of several revisions the last counts that sent any under the same patient and study.
    """

    srs: tuple[SentSr, ...]


@dataclass(frozen=True)
class Result:
    """One object that was written, proved, and is to be sent; `volume_index` is that of its volume in the series.

    `sha256` is that of the file. `study_instance_uid`: "" where it is of the study of its job.
    """

    form: Form
    sop_instance_uid: str
    series_instance_uid: str
    path: Path
    volume_index: int = 0
    sha256: str | None = None
    study_instance_uid: str = ""


@dataclass(frozen=True)
class Reported:
    """The outcome of the report stage: the objects of all volumes in the order of sending, and the warnings."""

    results: tuple[Result, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class WarmUpRequest:
    """Load these models before the first series needs them."""

    models: tuple[str, ...]
    engine: Engine


@dataclass(frozen=True)
class SegmentRequest:
    """Segment the volumes of a series that `prefer` chooses, and keep the labels of volume i in `work`/i.

    The network's other output is kept as far as the `profiles` of the destinations need it.
    """

    paths: tuple[Path, ...]
    model: str
    engine: Engine
    work: Path
    prefer: str
    profiles: tuple[Profile, ...] = (Profile(),)


@dataclass(frozen=True)
class ReportRequest:
    """Write the results of the volumes that `work` has labels of, those of volume i to `outbox`/i.

    `identity` is that of the first volume; `profiles` say what the destinations take. The SRs supersede those of
    `replaced`. The findings are compared with what `archives` have of the patient's earlier studies; where that is
    nothing but images, `model` segments those that `prefer` chooses and that fit into `memory_mb` (None: the machine).
    `oncology` names the tumours whose criteria are reported ("hcc"). Of what `is_incomplete` slices may be missing.
    """

    paths: tuple[Path, ...]
    model: str
    engine: Engine
    work: Path
    outbox: Path
    identity: ResultIdentity
    prefer: str
    profiles: tuple[Profile, ...] = (Profile(),)
    replaced: tuple[Replaced, ...] = ()
    archives: tuple[Archive, ...] = ()
    memory_mb: int | None = None
    oncology: tuple[str, ...] = ()
    is_incomplete: bool = False


@dataclass(frozen=True)
class VerdictRequest:
    """Write the SR that says why the series has no results, in each class that `profiles` ask for.

    Where its images are filed under several patients or studies, each gets one, to `outbox`/0, `outbox`/1, …; but not
    one where the `current` images are, which took the place of these.
    `code` is a RejectReason, or GEOMETRY_NOT_PROVED; `model` and `memory_mb` are what the series was judged for.
    """

    paths: tuple[Path, ...]
    model: str
    outbox: Path
    identity: ResultIdentity
    code: str
    profiles: tuple[Profile, ...] = (Profile(),)
    replaced: tuple[Replaced, ...] = ()
    memory_mb: int | None = None
    current: tuple[Path, ...] = ()


@dataclass(frozen=True)
class ShadowRequest:
    """Segment the volumes that `work` has labels of with another model, and compare the two."""

    paths: tuple[Path, ...]
    model: str
    engine: Engine
    work: Path


@dataclass(frozen=True)
class ScoreRequest:
    """Compare a SEG that a person drew on the images of `paths` with the results of a job in its `outbox`."""

    paths: tuple[Path, ...]
    correction: Path
    sha256: str
    job_id: int
    outbox: Path


class Unusable(StrEnum):
    """The reason why a SEG that came is not compared: it tells nothing about what was sent.

    OTHER_ALGORITHM: another program made it, and nobody corrected it. NO_RESULT: the images have no results.
    """

    OTHER_PATIENT = "OTHER_PATIENT"
    UNREADABLE = "UNREADABLE"
    NO_LIVER_OR_LESION = "NO_LIVER_OR_LESION"
    NOT_ON_IMAGES = "NOT_ON_IMAGES"
    OTHER_ALGORITHM = "OTHER_ALGORITHM"
    NO_RESULT = "NO_RESULT"


STAGES = "daemon.worker.stages"

WARM_UP: Stage[WarmUpRequest, None] = Stage(STAGES, "load_models")
SEGMENT: Stage[SegmentRequest, tuple[str, ...]] = Stage(STAGES, "segment_series")
REPORT: Stage[ReportRequest, Reported] = Stage(STAGES, "report_series")
VERDICT: Stage[VerdictRequest, Reported] = Stage(STAGES, "report_verdict")
SHADOW: Stage[ShadowRequest, Compared] = Stage(STAGES, "shadow_series")
SCORE: Stage[ScoreRequest, Scored | Unusable] = Stage("daemon.worker.scoring", "score_correction")
