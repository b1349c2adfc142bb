"""Files from a person instead of a PACS, handed to the service through its own intake."""

import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from daemon.administration.conditions import condition
from daemon.configuration.config import Config
from daemon.errors import StorageUnusable
from daemon.intake import STATUS, Intake, Verdict, open_storage
from daemon.storage.quarantine import Quarantine
from daemon.terminal import Say, say
from daemon.upkeep.history import refuse_lost_ledger
from dicom_io.archive import dicom_files
from dicom_io.errors import NotDicom

SUBMIT = "SUBMIT"
"""The calling AE title of what a person submits."""


def submit_paths(config: Config, paths: Sequence[Path], *, say: Say = say) -> list[str]:
    """Take files, folders and zips in through the service's own intake; returns a line for each that was refused.

    Raises StorageUnusable, LedgerUnavailable; also when there is no room for a file.
    """
    spool, ledger = open_storage(config)
    refuse_lost_ledger(spool, ledger)
    storage = config.storage
    quarantine = Quarantine(spool, storage.quarantine_mb, storage.quarantine_days)
    intake = Intake(spool, ledger, quarantine=quarantine)
    refused: list[str] = []
    new: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="porta-submit-") as workdir:
        for path in paths:
            try:
                files = dicom_files(path, Path(workdir))
            except NotDicom as error:
                refused.append(str(error))
                continue
            for file in files:
                try:
                    with file.open("rb") as content:
                        accepted = intake.take(content, calling_ae_title=SUBMIT)
                except OSError as error:
                    refused.append(f"{file}: {error.strerror}")
                    continue
                if accepted.verdict == Verdict.NO_ROOM:
                    raise StorageUnusable(f"storage root {config.storage.root}: no room, or the ledger is away")
                uid = accepted.series_instance_uid
                if STATUS[accepted.verdict] == 0x0000 and uid:
                    is_new = accepted.verdict != Verdict.ALREADY_STORED
                    if is_new and not new[uid]:
                        ledger.hold_series([uid])  # whoever ends this now has not handed in all of it
                    new[uid] += is_new
                else:
                    name = path if len(files) == 1 else file
                    refused.append(f"{name}: {accepted.verdict}, kept in quarantine")
    ledger.release_series(sorted(new), now=time.time())
    known = [uid for uid, count in new.items() if not count]
    if len(known) < len(new) or not new:
        say(f"{new.total()} instances of {len(new) - len(known)} series taken in")
    for uid in known:
        job = next(job for job in reversed(ledger.jobs_of_series(uid)) if job.before_instance is None)
        say(f"all here already; {condition(job, ledger.deliveries_of(job.id))}")
    return refused
