"""Files that a kill, or an older ledger, left without a row: put in order at start, and each hour since.

An image without a row is taken in again, as if it were received now: it may have been acknowledged, where a backup of
the ledger that is older was put back. One that the ledger knows otherwise goes to quarantine. Labels of a job that the
ledger does not have are removed. Results that it does not have are a person's to look at: `porta verify` names them.
"""

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset

from daemon.errors import UnknownJob
from daemon.guard import guarded
from daemon.intake import Intake, Verdict
from daemon.ledger.removals import file_counts, remains_of
from daemon.ledger.store import Ledger
from daemon.log import get_logger
from daemon.storage.integrity import spooled_sha256
from daemon.storage.quarantine import Quarantine
from daemon.storage.spool import Spool
from dicom_io.errors import NotDicom
from dicom_io.files import values
from dicom_io.files.image_file import read_dataset

SETTLED_S = 60.0
"""A file that is younger may not have its row yet."""
ORPHAN = "ORPHAN"
"""The reason in quarantine of other bytes than the ledger has under the same UIDs."""
SUBMITTED = "SUBMIT"
"""The sender of a file that names none."""

log = get_logger()


@dataclass(frozen=True)
class Orphans:
    """Looks for files without a row. For one thread at a time; a service that receives may run meanwhile."""

    spool: Spool
    ledger: Ledger
    intake: Intake
    quarantine: Quarantine
    clock: Callable[[], float] = time.time

    def put_in_order(self) -> int:
        """Return how many images were found without a row. Raises OSError, LedgerUnavailable."""
        self._clear_halves()
        counts, found = file_counts(self.ledger.database), 0
        for folder in (self.spool.root / "spool").glob("*/"):
            with guarded(_failed):
                lying = list(folder.glob("*.dcm"))
                if len(lying) > counts.get(folder.name, 0):
                    found += self._look_at(folder.name, lying)
        return found

    def _look_at(self, uid: str, lying: list[Path]) -> int:
        versions = self.ledger.versions(uid)
        known = {item.path for item in versions}
        settled = [path for path in lying if self._is_settled(path)]
        orphans = [path for path in settled if str(path.relative_to(self.spool.root)) not in known]
        for path in orphans:
            with guarded(_failed):
                self._take(uid, path)
        with self.spool.removal():  # what was coming back, and was not acknowledged
            for relative in remains_of(self.ledger.database, uid).paths:
                if (self.spool.root / relative) in settled:
                    self.spool.discard(Path(relative))
        return len(orphans)

    def _take(self, uid: str, path: Path) -> None:
        """Take an image in that the ledger does not have; the file goes, unless it is the one that is named now."""
        relative, sop_instance_uid = path.relative_to(self.spool.root), path.name.partition("-")[0]
        known = self.ledger.versions(uid, sop_instance_uid)
        verdict: str = Verdict.ALREADY_STORED
        with path.open("rb") as content:
            if not known:
                verdict = self.intake.take(content, calling_ae_title=_sender_of(path)).verdict
            elif spooled_sha256(path) not in {item.sha256 for item in known}:
                with self.spool.part() as part:
                    part.fill(content)
                    part.finish()
                    verdict = ORPHAN
                    self.quarantine.keep(part, reason=ORPHAN, source="", sop_instance_uid=sop_instance_uid)
        log.warning("orphan.found", code=verdict, series_instance_uid=uid)
        if verdict != Verdict.NO_ROOM and str(relative) not in {item.path for item in self.ledger.versions(uid)}:
            self.spool.discard(relative)

    def _is_settled(self, path: Path) -> bool:
        try:
            return path.stat().st_mtime < self.clock() - SETTLED_S
        except OSError:
            return False

    def _clear_halves(self) -> None:
        """Remove what was being written in quarantine, reasons without bytes, and labels of no job."""
        quarantine = self.spool.root / "quarantine"
        halves = [path for path in quarantine.glob(".*.part") if self._is_settled(path)]
        halves += [path for path in quarantine.glob("*.reason") if not path.with_suffix(".dcm").exists()]
        for path in halves:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        for folder in (self.spool.root / "work").glob("*/"):
            with suppress(OSError, ValueError):
                try:
                    self.ledger.job(int(folder.name))
                except UnknownJob:
                    shutil.rmtree(folder)


def _failed(error: Exception) -> None:
    log.error("orphan.failed", error=error)


def _sender_of(path: Path) -> str:
    with suppress(NotDicom, OSError):
        meta = getattr(read_dataset(path), "file_meta", Dataset())
        return values.text(meta, "SourceApplicationEntityTitle").strip()[:16] or SUBMITTED
    return SUBMITTED
