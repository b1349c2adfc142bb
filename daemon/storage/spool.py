"""The files under the storage root, and how they become durable.

    identity                         a UUID, by which a ledger knows its root
    service.lock                     held by the one service that runs on this root
    incoming/                        being written, as it comes
    spool/<SeriesInstanceUID>/<SOPInstanceUID>-<sha256>.dcm   as received
    spool/…/<the same>.dcm.header    what was read of it, as `daemon.storage.sidecar` keeps it
    work/<job>/<volume>/             labels between segmentation and report
    work/<job>/progress              how much of the segmentation is done, in percent; a number for people alone
    outbox/<job>/<volume>/           results, written once
    corrections/                     SEGs that people drew on images that are here
    quarantine/                      what could not be taken in, and why: see `daemon.storage.quarantine`
    removing/<SeriesInstanceUID>.json.gz   whose files are being removed: see `daemon.retention`
    removed/<SeriesInstanceUID>.json.gz    what the ledger said of it when its files were removed
    restoring                        there while a backup is put back: see `daemon.upkeep.backup`

Folders are 0700, files 0600: they hold patients' images.
"""

import fcntl
import os
import pwd
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from uuid import uuid4

from daemon.errors import StorageUnusable
from daemon.log import get_logger
from daemon.storage.incoming import PRIVATE, Part
from daemon.storage.sidecar import sidecar_path
from dicom_io.files.uids import checked_uid
from dicom_io.files.whole_files import open_whole, rename_whole, sync_folder

FOLDERS = ("incoming", "spool", "work", "outbox", "corrections", "quarantine", "removing", "removed")
LOCK = "service.lock"
IDENTITY = "identity"
REMOVAL_LOCK = "removing/.lock"
RESTORING = "restoring"
"""Is there while `porta restore` fills the root; what a broken-off one has left is not all."""

log = get_logger()


@dataclass(frozen=True)
class Spool:
    """The storage root. Every path that it returns is made of checked UIDs, job ids and names of Porta."""

    root: Path
    min_free_mb: int = 0
    resume_free_mb: int = 0
    _synced: set[Path] = field(default_factory=set, repr=False, compare=False)
    """Folders whose own name this process knows to be durable: once is enough, and costs an fsync."""
    _full: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)
    """Set from less than `min_free_mb` on until there are `resume_free_mb`."""

    def prepare(self) -> None:
        """Make the folders and prove that they can be written. Raises StorageUnusable.

        Raises it also where the root belongs to another user: the service could not read what this user writes.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.refuse_other_user()
            if (self.root / RESTORING).exists():
                raise StorageUnusable(
                    f"storage root {self.root}: `porta restore` was broken off: empty the root and restore again"
                )
            self.make_folders()
            probe = self.root / "incoming" / f"{uuid4()}.probe"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            user = _name(os.geteuid())
            sentence = f"user {user} cannot use it ({error.strerror}): give it to that user, or name another folder"
            raise StorageUnusable(f"storage root {self.root}: {sentence}") from error

    def make_folders(self) -> None:
        """Make the folders that are not there yet. Raises OSError."""
        for name in FOLDERS:
            (self.root / name).mkdir(exist_ok=True, mode=0o700)

    def identity(self) -> str:
        """Return the UUID of this root, which is drawn once. Raises StorageUnusable."""
        path = self.root / IDENTITY
        try:
            if not path.exists():
                drawn = self.root / "incoming" / f"{uuid4()}.part"
                write_durably(drawn, f"{uuid4()}\n".encode())
                with suppress(FileExistsError):  # another process has just drawn one
                    os.link(drawn, path)
                sync_folder(self.root)
                drawn.unlink()
            return path.read_text(errors="replace").strip()
        except OSError as error:
            raise StorageUnusable(f"storage root {self.root}: {error.strerror}") from error

    def refuse_other_user(self) -> None:
        """Raise StorageUnusable where the files belong to another user than this process's.

        Where there are no files yet, the root's owner decides, unless that is root, as for a mounted volume.
        """
        place = self.root / "spool"
        owner, user = (place if place.exists() else self.root).stat().st_uid, os.geteuid()
        if owner != user and (place.exists() or owner != 0):
            raise StorageUnusable(f"storage root {self.root} belongs to user {_name(owner)}: run this as that user")

    def lock(self, note: str = "") -> IO[bytes]:
        """Lock the root for this process, until the file is closed or the process ends, with a note for `running`.

        Raises StorageUnusable.
        """
        handle = (self.root / LOCK).open("ab")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            handle.close()
            raise StorageUnusable(f"storage root {self.root}: another porta run is using it") from error
        self.note(handle, note)
        return handle

    @staticmethod
    def note(handle: IO[bytes], note: str) -> None:
        """Write another note for `running` into the file that `lock` gave."""
        handle.truncate(0)
        handle.write(note.encode())
        handle.flush()

    def running(self) -> str | None:
        """Return the note of the service that has locked the root; None where none runs.

        Raises StorageUnusable for a user who may not read it: whether one runs is not known then.
        """
        try:
            with (self.root / LOCK).open("rb") as handle:
                try:
                    fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return handle.read().decode(errors="replace")
        except PermissionError as error:
            user = f"user {_name(os.geteuid())} may not read it"
            raise StorageUnusable(f"storage root {self.root}: {user}: run this as the service's user") from error
        except OSError:
            return None
        return None

    def sweep(self) -> None:
        """Remove files that were being written when the service was killed: they were never acknowledged."""
        for part in (self.root / "incoming").iterdir():
            with suppress(OSError):  # what cannot be removed is in nobody's way
                part.unlink(missing_ok=True)

    def part(self) -> Part:
        """Return a file that is coming in."""
        return Part(self.root / "incoming" / f"{uuid4()}.part", self.check_room)

    def check_room(self) -> None:
        """Raise StorageUnusable where less than `min_free_mb` is free, and then until `resume_free_mb` are."""
        if not self.min_free_mb:
            return
        least, enough = self.min_free_mb, max(self.min_free_mb, self.resume_free_mb)
        free = self.free_mb()
        if free < (enough if self._full.is_set() else least):
            if not self._full.is_set():
                self._full.set()
                log.error("storage.full", free_mb=free, min_free_mb=least, resume_free_mb=enough)
            raise StorageUnusable(f"{free} MB free, min_free_mb is {least}: nothing is taken in until {enough} MB are")
        if self._full.is_set():
            self._full.clear()
            log.warning("storage.freed", free_mb=free, min_free_mb=least, resume_free_mb=enough)

    def free_mb(self) -> int:
        """Return the free space for this user, in MiB."""
        status = os.statvfs(self.root)
        return status.f_bavail * status.f_frsize // 2**20

    def instance_path(self, series_instance_uid: str, sop_instance_uid: str, digits: str) -> Path:
        """Return the path of an instance, relative to the root. Raises InvalidUID.

        Its digits (`daemon.storage.integrity.FileHash`) are in the name, so that other bytes under the same UID, taken
        in by another process at the same moment, can never replace those that were acknowledged.
        """
        name = f"{checked_uid(sop_instance_uid)}-{digits}.dcm"
        return Path("spool") / checked_uid(series_instance_uid) / name

    def correction_path(self, sop_instance_uid: str, digits: str) -> Path:
        """Return the path of a SEG that a person drew, relative to the root. Raises InvalidUID."""
        return Path("corrections") / f"{checked_uid(sop_instance_uid)}-{digits}.dcm"

    def work(self, job_id: int) -> Path:
        """Return the folder of a job between two stages; absolute."""
        return self.root / "work" / str(job_id)

    def progress(self, job_id: int) -> int | None:
        """How much of a job's segmentation is done, in percent; None where nobody says."""
        try:
            return int(progress_file(self.work(job_id)).read_text())
        except (OSError, ValueError):
            return None

    def outbox(self, job_id: int) -> Path:
        """Return the folder of a job's results; absolute."""
        return self.root / "outbox" / str(job_id)

    def keep(self, part: Part, relative: Path) -> None:
        """Keep what came in durably under a name: it is on the disk with name and folder when this returns.

        Raises StorageUnusable when there is no room or the disk does not take it.
        """
        target = self.root / relative
        try:
            is_new = _make_folder(target.parent)
            part.sync()
            try:
                rename_whole(part.path, target)
            except FileNotFoundError:  # retention has just removed the folder, which was empty
                is_new = _make_folder(target.parent)
                rename_whole(part.path, target)
            part.moved(target, kept=True)
            if is_new or target.parent not in self._synced:
                sync_folder(target.parent.parent)
                self._synced.add(target.parent)
        except OSError as error:
            raise StorageUnusable(f"cannot write: {error.strerror}") from error

    def take_back(self, part: Part) -> None:
        """Take what was kept, and what no row refers to, back among what comes in. Raises StorageUnusable."""
        path = self.root / "incoming" / f"{uuid4()}.part"
        try:
            part.path.rename(path)
        except OSError as error:
            raise StorageUnusable(f"cannot write: {error.strerror}") from error
        part.moved(path, kept=False)

    def discard(self, relative: Path) -> None:
        """Remove a file that no row refers to, and its sidecar."""
        for path in (self.root / relative, sidecar_path(self.root / relative)):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    @contextmanager
    def removal(self, *, shared: bool = False) -> Iterator[None]:
        """Hold off, in all processes, who removes files; one who removes them also who brings them back (`shared`)."""
        with (self.root / REMOVAL_LOCK).open("ab") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            yield

    def clear(self, job_id: int) -> None:
        """Remove all that a job has made so far; only for one that has sent nothing."""
        self.clear_work(job_id)
        shutil.rmtree(self.outbox(job_id), ignore_errors=True)

    def clear_work(self, job_id: int) -> None:
        """Remove the files that only the stages needed."""
        shutil.rmtree(self.work(job_id), ignore_errors=True)


def _make_folder(folder: Path) -> bool:
    """Make a folder where there is none; return whether there was none."""
    try:
        folder.mkdir(parents=True, mode=0o700)
    except FileExistsError:
        return False
    return True


def progress_file(work: Path) -> Path:
    """Return the file that says how much of a segmentation is done."""
    return work / "progress"


def write_durably(path: Path, content: bytes | memoryview) -> None:
    """Write a file that after a crash is there in full or not at all; 0600, folders 0700.

    Raises StorageUnusable.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open_whole(path, mode=PRIVATE) as file:
            file.write(content)
        sync_folder(path.parent.parent)
    except OSError as error:
        raise StorageUnusable(f"cannot write {path}: {error.strerror}") from error


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:  # a number without a name, as in containers
        return str(user)
