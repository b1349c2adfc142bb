"""Everything that was kept, looked at again: the spool and the outbox against the ledger and SHA256SUMS, both ways.

Nothing is changed, and a service may run meanwhile: what it is writing at the moment is no finding.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path

from daemon.errors import FileDamaged, StorageUnusable
from daemon.jobs import OUT, Delivery, DeliveryState
from daemon.ledger.store import Instance, Ledger
from daemon.storage.integrity import check_file, check_spooled, read_sums
from daemon.storage.quarantine import Quarantine
from daemon.storage.spool import Spool
from dicom_io.progress import Progress, ignore_progress

ARRIVING_S = 60.0
"""A file that is younger may not have its row yet."""

LEDGER = "the ledger"
REBUILD = "stop the service, put a backup of the ledger back or move it away, and run `porta ledger rebuild`"
SEND_AGAIN = "send the instance again from the PACS; where its job has halted, `porta retry` goes on"
PUT_BACK_VERSION = "a later version has taken its place, and only a withdrawal reads it: put a backup of the file back"
UNKNOWN_INSTANCE = "send the instance again from the PACS, or remove the file: no row of the ledger refers to it"
PUT_BACK_AND_RETRY = "put a backup of the file back; where its delivery has halted, `porta retry` sends it"
FETCH = "it was delivered: put back a backup of the file, or what the destination holds"
PUT_BACK = "it is not sent: put a backup of the file back, or leave it"
UNKNOWN_OBJECT = "remove the file: no delivery refers to it"


class Fault(StrEnum):
    """What is wrong with a file: it holds other bytes than were written, is gone, the disk fails, nobody knows it."""

    DAMAGED = "DAMAGED"
    MISSING = "MISSING"
    UNREADABLE = "UNREADABLE"
    ORPHAN = "ORPHAN"


@dataclass(frozen=True)
class Finding:
    """One file that is not as it should be; `path` is relative to the storage root, `remedy` says what heals it."""

    fault: Fault
    path: str
    remedy: str
    series_instance_uid: str | None = None
    sop_instance_uid: str | None = None
    job_id: int | None = None


@dataclass
class Verification:
    """The counts of a walk so far: what was whole or not, what lies in quarantine, what retention has removed."""

    instances: int = 0
    objects: int = 0
    bytes: int = 0
    removed: int = 0
    quarantined: int = 0
    quarantined_bytes: int = 0
    findings: list[Finding] = field(default_factory=list)


def verify_storage(
    spool: Spool, ledger: Ledger, *, clock: Callable[[], float] = time.time, progress: Progress = ignore_progress
) -> Verification:
    """Look at every file of spool and outbox, and at every row that names one; at no more where the ledger is damaged.

    `progress` is told how many series of the spool were looked at.

    Raises LedgerUnavailable, and StorageUnusable where a folder cannot be listed.
    """
    done = Verification()
    if not ledger.database.is_whole():
        done.findings.append(Finding(Fault.DAMAGED, LEDGER, REBUILD))
        return done
    try:
        _verify_spool(spool, ledger, done, progress, youngest=clock() - ARRIVING_S)
        _verify_outbox(spool, ledger, done)
        entries = Quarantine(spool).entries()
    except OSError as error:
        raise StorageUnusable(f"storage root {spool.root}: {error.strerror}") from error
    done.quarantined, done.quarantined_bytes = len(entries), sum(entry.bytes for entry in entries)
    return done


def _verify_spool(spool: Spool, ledger: Ledger, done: Verification, progress: Progress, *, youngest: float) -> None:
    folders = {path.name for path in (spool.root / "spool").glob("*/")}
    every = sorted(folders | set(ledger.all_series()))
    for count, uid in enumerate(every, start=1):
        folder = Path("spool") / uid
        lying = {str(folder / path.name) for path in (spool.root / folder).glob("*.dcm")} if uid in folders else set()
        known = ledger.versions(uid)
        latest = {instance.sop_instance_uid: instance.version for instance in known}
        kept = [instance for instance in known if instance.removed_at is None]
        done.removed += len(known) - len(kept)
        for instance in kept:
            is_current = instance.version == latest[instance.sop_instance_uid]
            _verify_instance(spool, ledger, instance, done, remedy=SEND_AGAIN if is_current else PUT_BACK_VERSION)
        for path in sorted(lying - {instance.path for instance in known}):
            with suppress(FileNotFoundError):  # it made room for what was sent again, or was never recorded
                if (spool.root / path).stat().st_mtime < youngest:
                    done.findings.append(Finding(Fault.ORPHAN, path, UNKNOWN_INSTANCE, series_instance_uid=uid))
        progress(count, len(every))


def _verify_instance(spool: Spool, ledger: Ledger, instance: Instance, done: Verification, *, remedy: str) -> None:
    done.instances += 1
    found = _fault_of(spool, instance.path, lambda path: check_spooled(path, instance.sha256), done)
    if found:  # unless a file that was sent again has taken its place meanwhile
        again = ledger.versions(instance.series_instance_uid, instance.sop_instance_uid)[instance.version - 1]
        if again.removed_at is not None:
            return
        found = _fault_of(spool, again.path, lambda path: check_spooled(path, again.sha256), done)
        if found:
            uids = instance.series_instance_uid, instance.sop_instance_uid
            done.findings.append(Finding(found, again.path, remedy, *uids))


def _verify_outbox(spool: Spool, ledger: Ledger, done: Verification) -> None:
    jobs = {job.id: job for job in ledger.all_jobs()}
    removed = {job.id for job in jobs.values() if job.removed_at is not None}
    sent: dict[str, list[Delivery]] = {}
    for job_id in sorted(jobs.keys() - removed):
        for delivery in ledger.deliveries_of(job_id):
            sent.setdefault(delivery.path, []).append(delivery)
    for path, deliveries in sent.items():
        _verify_object(spool, ledger, path, deliveries, done)
    for folder in sorted(path for path in (spool.root / "outbox").glob("*/*") if path.is_dir()):
        name = folder.parent.name
        job = jobs.get(int(name)) if name.isdecimal() else None
        if job is None or (job.state in OUT and job.removed_at is None):  # else its results may be being written
            _verify_others(spool, folder, sent, done, is_known=job is not None)


def _verify_object(spool: Spool, ledger: Ledger, path: str, deliveries: list[Delivery], done: Verification) -> None:
    """Look at an object that some destinations get; an old one has the hash of SHA256SUMS, or none."""
    first = deliveries[0]
    file = spool.root / path
    sha256 = first.sha256 or read_sums(file.parent).get(file.name)
    done.objects += 1
    found = _fault_of(spool, path, lambda file: check_file(file, sha256), done)
    if found and ledger.job(first.job_id).removed_at is None:
        has_arrived = all(item.state in (DeliveryState.STORED, DeliveryState.CONFIRMED) for item in deliveries)
        remedy = FETCH if has_arrived else PUT_BACK_AND_RETRY
        uids = first.series_instance_uid, first.sop_instance_uid
        done.findings.append(Finding(found, path, remedy, *uids, job_id=first.job_id))


def _verify_others(
    spool: Spool, folder: Path, sent: Mapping[str, object], done: Verification, *, is_known: bool
) -> None:
    """Look at the files of a folder of results that no destination gets; `is_known` says whether its job is."""
    sums = read_sums(folder)
    paths = {str(path.relative_to(spool.root)) for path in folder.glob("*.dcm")}
    for path in sorted(paths - sent.keys()):
        if Path(path).name not in sums or not (is_known or sent.keys() & paths):
            done.findings.append(Finding(Fault.ORPHAN, path, UNKNOWN_OBJECT))
    for name, sha256 in sums.items():
        path = str((folder / name).relative_to(spool.root))
        if path not in sent:
            done.objects += 1
            if found := _fault_of(spool, path, partial(check_file, sha256=sha256), done):
                done.findings.append(Finding(found, path, PUT_BACK))


def _fault_of(spool: Spool, path: str, check: Callable[[Path], None], done: Verification) -> Fault | None:
    """Return the fault of one file, None where it is whole; then its bytes are counted."""
    try:
        size = (spool.root / path).stat().st_size
        check(spool.root / path)
    except FileDamaged:
        return Fault.DAMAGED
    except (FileNotFoundError, NotADirectoryError):
        return Fault.MISSING
    except OSError:
        return Fault.UNREADABLE
    done.bytes += size
    return None
