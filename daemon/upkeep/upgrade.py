"""The step to this version: what it changes in the ledger, tried on a copy of it while the service runs."""

import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from daemon.errors import LedgerUnavailable, StorageUnusable
from daemon.ledger.copies import copied
from daemon.ledger.store import Ledger
from daemon.storage.spool import Spool


@dataclass(frozen=True)
class Trial:
    """What an upgrade does: the versions of the tables, and how a copy took it.

    `seconds` is None where no copy was made: there is nothing to change, or the ledger is PostgreSQL's.
    """

    there: str
    ours: str
    jobs: int = 0
    seconds: float | None = None

    @property
    def is_needed(self) -> bool:
        """Whether the tables are of an earlier version."""
        return self.there != self.ours


def try_upgrade(spool: Spool, ledger: Ledger) -> Trial:
    """Upgrade a copy of the ledger below the storage root, and look whether each job is still there.

    Raises LedgerUnavailable where there is none, it is of a later version or the copy did not take it; StorageUnusable
    where there is no room for a copy.
    """
    there, ours = ledger.database.versions()
    if there is None:
        raise LedgerUnavailable("it has no tables: the service has not run with this configuration")
    if there > ours:
        raise LedgerUnavailable(f"its tables are of a later version of Porta ({there}, not {ours})")
    if there == ours or ledger.database.path is None:
        return Trial(there, ours)
    # Tables are made anew beside the old ones, in the file and in its log
    needed_mb = 4 * ledger.database.path.stat().st_size // 2**20
    if spool.free_mb() < needed_mb:
        raise StorageUnusable(
            f"storage root {spool.root}: the upgrade needs {needed_mb} MB, {spool.free_mb()} are free"
        )
    folder = Path(tempfile.mkdtemp(prefix="upgrade-", dir=spool.root / "work"))
    try:
        with copied(ledger.database, folder / "ledger.sqlite") as named:
            jobs = named.job_count
        copy = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
        started = time.monotonic()
        copy.migrate()
        seconds = time.monotonic() - started
        kept, is_whole = len(copy.all_jobs()), copy.database.is_whole()
        copy.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if kept != jobs or not is_whole:
        raise LedgerUnavailable(f"a copy of it did not take the upgrade: {kept} of {jobs} jobs are there afterwards")
    return Trial(there, ours, jobs, seconds)
