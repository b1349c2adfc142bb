"""The judgement on a series by its headers, before anything is segmented. Runs in the service's process, without torch.

Whatever is met on the way is an answer too, and comes back as a value: a series that nobody thought of must not keep
the clock from looking at the others.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from daemon.choice import Suitability
from daemon.configuration.config import Config, Rule
from daemon.errors import FileDamaged, RuleGone
from daemon.jobs import Job
from daemon.ledger.store import Ledger
from daemon.storage.sidecar import read_spooled
from daemon.storage.spool import Spool
from dicom_io.errors import NotDicom, RejectReason, SeriesRejected
from dicom_io.series.preference import suitability
from dicom_io.series.series import Series
from models.cards import find, fitting

COMPUTED = frozenset({"DERIVED", "SECONDARY"})
"""Values 1 and 2 of ImageType in images that no scanner acquired, as reformats are."""

OpenSeries = Callable[[Sequence[Path], int | None], Series]
"""Arranges the spooled files of a series that must fit into this many MiB (None: into the machine). See `sources`."""


@dataclass(frozen=True)
class Judge:
    """Reads the headers of spooled series, with `open_series`."""

    config: Config
    spool: Spool
    ledger: Ledger
    open_series: OpenSeries

    def look(self, series_instance_uid: str) -> Series | Exception:
        """Arrange the series in the spool, or return why that fails. Raises LedgerUnavailable."""
        paths = self._paths(series_instance_uid)
        try:
            return self.open_series(paths, self.config.engine.memory_mb)
        except Exception as error:  # noqa: BLE001  the stage runner: `decide` says what it means
            return error

    def suitability(self, job: Job) -> Suitability | Exception:
        """Return how well the series of a job suits its rule, or why it cannot be used. Raises LedgerUnavailable."""
        paths = self._paths(job.series_instance_uid)
        try:
            rule = self.rule(job)
            series = self.open_series(paths, self.config.engine.memory_mb)
            if not find(fitting(self.config.card(rule.model), series.modality)).takes(series.modality):
                raise SeriesRejected(RejectReason.NO_MODEL)
            return suitability(series, rule.prefer)
        except Exception as error:  # noqa: BLE001  the stage runner: `decide` says what it means
            return error

    def is_computed(self, job: Job) -> bool:
        """True where all images of a job's series are DERIVED or SECONDARY (PS3.3 section C.7.6.1.1.2).

        Raises LedgerUnavailable.
        """
        kinds = []
        for path in self._paths(job.series_instance_uid):
            with suppress(FileDamaged, NotDicom, OSError):
                kinds += [set(plane.image_type[:2]) for plane in read_spooled(path).header.planes]
        return bool(kinds) and all(kind & COMPUTED for kind in kinds)

    def rule(self, job: Job) -> Rule:
        """Return the rule that a job was routed by. Raises RuleGone: the service may have a new configuration."""
        for rule in self.config.rules:
            if rule.name == job.rule:
                return rule
        raise RuleGone(str(job.rule))

    def _paths(self, series_instance_uid: str) -> list[Path]:
        return [self.spool.root / path for path in self.ledger.instance_paths(series_instance_uid)]
