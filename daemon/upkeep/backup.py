"""A backup of the storage root and its ledger, made while the service runs, and a root made of one.

    backup.json       written last: what the backup holds; a folder without it is no whole backup
    ledger            the ledger as it was at one moment, as `daemon.ledger.copies` makes it
    root/spool/…      the files that its rows name, linked where the file system can, else copied
    root/outbox/…     the results of its jobs; those of later jobs are left out, whose ids will be given again
    root/…            everything else of the root, copied: models, quarantine, what stands for removed files

A row is committed after its file is on the disk. So the ledger is copied first, and a file that it names is there, or
was moved or removed meanwhile: then all is copied once more. What is still missing is missing from the root itself.
"""

import errno
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from daemon.errors import BadRequest, FileDamaged, LedgerUnavailable, StorageUnusable
from daemon.ledger.copies import copied, put_back, refuse_full
from daemon.ledger.store import Ledger
from daemon.storage.integrity import check_file, file_sha256
from daemon.storage.sidecar import sidecar_path
from daemon.storage.spool import FOLDERS, LOCK, RESTORING, Spool, write_durably
from daemon.upkeep.verification import Verification, verify_storage
from dicom_io.progress import Progress, ignore_progress
from reports.identity import software_version

MANIFEST, LEDGER, ROOT = "backup.json", "ledger", "root"
SCHEMA = 1
PASSES = 5
"""How often all is copied anew because files were moved or removed meanwhile."""

COPIED = ("corrections", "quarantine", "removing", "removed")
"""The folders of the root that are copied whole."""

NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP)
"""What a file system says that cannot link these two: then the file is copied."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""What ends a backup; any other error is that of one file."""


@dataclass(frozen=True)
class Backup:
    """What a backup holds. `sums` has the sha256 of each file whose hash the ledger does not know.

    `missing` are the files that the ledger names and that the root itself does not have, or not readable.
    """

    schema: int
    software: str
    made_at: float
    ledger_kind: str
    ledger_version: str
    instances: int
    objects: int
    missing: tuple[str, ...]
    sums: dict[str, str]


def back_up(spool: Spool, ledger: Ledger, target: Path, *, progress: Progress = ignore_progress) -> Backup:
    """Back up into a new or empty folder; `progress` is told how many instances are there.

    Raises BadRequest where the folder cannot be used, StorageUnusable where it cannot be written, LedgerUnavailable.
    """
    try:
        _refuse_target(spool, target)
        target.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = _copy_all(spool, ledger, target, progress)
        os.sync()  # all of it, before the manifest says that it is there
        write_durably(target / MANIFEST, (json.dumps(asdict(made), indent=1) + "\n").encode())
    except OSError as error:
        raise StorageUnusable(f"{target}: cannot be written: {error.strerror}") from error
    return made


def restore(source: Path, spool: Spool, ledger: Ledger, *, progress: Progress = ignore_progress) -> Verification:
    """Fill an empty root and an empty ledger with a backup; return what `porta verify` says of them.

    `progress` is told how many series were looked at. Until all is there the service refuses the root.

    Raises BadRequest for a folder that is no whole backup, StorageUnusable where something is there already,
    LedgerUnavailable.
    """
    held = read_manifest(source)
    _refuse_foreign(held, ledger, source)
    refuse_full(ledger.database)
    try:
        if any(path.name != "lost+found" for path in _listed(spool.root)):
            raise StorageUnusable(f"storage root {spool.root} is not empty: a backup is put back into an empty one")
        spool.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(spool.root / RESTORING, b"")
        for path in _files(source / ROOT):
            _copy(path, spool.root / path.relative_to(source / ROOT))
        spool.make_folders()
        put_back(ledger.database, source / LEDGER)
        ledger.migrate()
        done = verify_storage(spool, ledger, progress=progress)
        os.sync()
        (spool.root / RESTORING).unlink()
    except OSError as error:
        raise StorageUnusable(f"storage root {spool.root}: {error.strerror}") from error
    return done


def read_manifest(source: Path) -> Backup:
    """Return what a backup holds. Raises BadRequest where it is not whole, or of a later version."""
    try:
        said: dict[str, Any] = json.loads((source / MANIFEST).read_text())
    except (OSError, ValueError):
        raise BadRequest(f"{source}: no whole backup: its {MANIFEST} is missing or damaged") from None
    if said.get("schema") != SCHEMA:
        raise BadRequest(f"{source}: a backup of a later version of Porta: restore it with that version")
    return Backup(**said | {"missing": tuple(said["missing"])})


def _refuse_target(spool: Spool, target: Path) -> None:
    if target.resolve().is_relative_to(spool.root.resolve()):
        raise BadRequest(f"{target} lies in the storage root: name a folder elsewhere")
    if any(_listed(target)):
        raise BadRequest(f"{target} is not empty: name a new folder for each backup")


def _refuse_foreign(held: Backup, ledger: Ledger, source: Path) -> None:
    """Refuse a ledger of another kind or a later version, and what is damaged, before anything is written."""
    if held.ledger_kind != ledger.database.kind:
        raise BadRequest(f"{source}: holds a {held.ledger_kind} ledger, and [ledger] url names another kind")
    if held.ledger_version > ledger.database.head:
        raise BadRequest(f"{source}: its ledger is of a later version of Porta: restore it with that version")
    for name, sha256 in held.sums.items():
        try:
            check_file(source / name, sha256)
        except FileDamaged as error:
            raise BadRequest(str(error)) from None
        except OSError as error:
            raise BadRequest(f"{source / name}: {error.strerror}") from None


def _copy_all(spool: Spool, ledger: Ledger, target: Path, progress: Progress) -> Backup:
    version, _ = ledger.database.versions()
    if version is None:
        raise LedgerUnavailable("it has no tables: the service has not run with this configuration")
    gone: set[str] = set()
    for _ in range(PASSES):
        for name in (LEDGER, ROOT):
            _remove(target / name)
        before, made = gone, _copy_once(spool, ledger, target, progress)
        gone = set(made.missing)
        if gone <= before:  # named by a later copy of the ledger too: missing here, not moved meanwhile
            break
    return replace(made, ledger_version=version)


def _copy_once(spool: Spool, ledger: Ledger, target: Path, progress: Progress) -> Backup:
    made_at, missing, objects = time.time(), [], 0
    with copied(ledger.database, target / LEDGER) as named:
        of = named.instance_count
        for done, path in enumerate(named.instances(), start=1):
            if not _take(spool.root / path, target / ROOT / path):
                missing.append(path)
            _take(sidecar_path(spool.root / path), sidecar_path(target / ROOT / path), link=False)  # written in place
            progress(done, of)
        for job_id in named.job_ids():
            for file in _files(spool.outbox(job_id)):
                _take(file, target / ROOT / file.relative_to(spool.root))
        for path in named.objects():
            objects += 1
            if not (target / ROOT / path).exists():
                missing.append(path)
    sums = {LEDGER: file_sha256(target / LEDGER)}
    for file in _others(spool.root, ledger.database.path):
        there = Path(ROOT) / file.relative_to(spool.root)
        if _take(file, target / there, link=False):
            sums[str(there)] = file_sha256(target / there)
    kind = ledger.database.kind
    return Backup(SCHEMA, software_version(), made_at, kind, "", of, objects, tuple(missing), sums)


def _others(root: Path, ledger: Path | None) -> Iterator[Path]:
    """Give each file of the root that is neither the ledger's nor in a folder of the stages' own."""
    for path in _listed(root):
        is_ledger = ledger is not None and path.name.startswith(ledger.name)
        is_left_out = path.name in (*FOLDERS, LOCK, RESTORING) and path.name not in COPIED
        if not (is_left_out or is_ledger):
            yield from _files(path)


def _files(place: Path) -> Iterator[Path]:
    """Give each file of a folder, or the file itself; no link, and none that is being written."""
    if place.is_dir() and not place.is_symlink():
        for path in _listed(place):
            yield from _files(path)
    elif place.is_file() and not place.is_symlink() and not place.name.endswith(".part"):
        yield place


def _listed(folder: Path) -> Iterable[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return ()


def _take(source: Path, target: Path, *, link: bool = True) -> bool:
    """Link or copy a file; False where it is gone or cannot be read. Raises OSError where there is no room."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if link:
            try:
                os.link(source, target, follow_symlinks=False)
                return True
            except OSError as error:
                if error.errno not in NO_LINK:
                    raise
        _copy(source, target)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise
        return error.errno == errno.EEXIST
    return True


def _copy(source: Path, target: Path) -> None:
    """Copy a file with its times, by which a lost ledger is made anew."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    shutil.copy2(source, target)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
