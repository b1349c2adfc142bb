"""Files from a browser: DICOM goes the way of C-STORE, an archive is unpacked and a NIfTI written as DICOM before.

What a file is its first bytes say, never its name, which is not even sent: names hold patients' names. Everything is
bounded by `[web] upload_mb`: the request, what an archive says that it unpacks to, the voxels of a NIfTI.
"""

import gzip
import hashlib
import math
import tempfile
import threading
import zipfile
import zlib
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from starlette.concurrency import run_in_threadpool

from daemon.administration.submission import SUBMIT
from daemon.console.state import ConsoleState
from daemon.errors import BadRequest, StorageUnusable
from daemon.intake import STATUS, Intake, Verdict
from daemon.storage.incoming import Part
from dicom_io.archive import dicom_files
from dicom_io.errors import DicomIOError, NotDicom

PIECE = 1 << 20
BROUGHT = 1000
"""Sessions whose series are remembered until they are released."""

_one_at_a_time = threading.Semaphore(1)
"""Archives and NIfTI take memory and disk: one after the other."""


@dataclass
class Taken:
    """What became of one file: `kind` of it, how many instances had each verdict, of which series."""

    kind: str
    verdicts: Counter[str] = field(default_factory=Counter)
    series: set[str] = field(default_factory=set)

    def add(self, verdict: Verdict, series: str | None) -> None:
        """Count an instance. Raises StorageUnusable where there is no room: the person tries again later."""
        if verdict == Verdict.NO_ROOM:
            raise StorageUnusable("no room, or the ledger is away")
        self.verdicts[verdict] += 1
        if series and STATUS[verdict] == 0x0000:
            self.series.add(series)


class Uploads:
    """Takes files in for a console. Safe to use from many threads."""

    def __init__(self, console: ConsoleState) -> None:
        self._console = console
        self._intake = Intake(console.spool, console.ledger, console.clock, console.quarantine)
        self._most_bytes = console.first.web.upload_mb << 20
        self._brought: OrderedDict[str, set[str]] = OrderedDict()
        self._lock = threading.Lock()

    async def take(self, pieces: AsyncIterator[bytes], *, modality: str, session: str) -> Taken:
        """Take one file in. Raises BadRequest for what is neither DICOM, archive nor NIfTI; StorageUnusable."""
        part = await run_in_threadpool(self._intake.begin)
        with part:
            waiting = bytearray()
            async for piece in pieces:
                waiting += piece
                if len(waiting) >= PIECE:
                    await run_in_threadpool(part.write, bytes(waiting))
                    waiting.clear()
            if waiting:
                await run_in_threadpool(part.write, bytes(waiting))
            taken = await run_in_threadpool(self._take, part, modality)
        with self._lock:
            self._brought.setdefault(session, set()).update(taken.series)
            while len(self._brought) > BROUGHT:
                self._brought.popitem(last=False)
        return taken

    def finish(self, session: str) -> list[str]:
        """Say that a session has sent all that it has; return its series."""
        with self._lock:
            series = sorted(self._brought.pop(session, set()))
        if series:
            self._console.ledger.release_series(series, now=self._console.clock())
        return series

    def _take(self, part: Part, modality: str) -> Taken:
        part.finish()
        if part.bytes == 0:
            raise BadRequest("an empty file")
        with part.path.open("rb") as file:
            head = file.read(352)
        if head[128:132] == b"DICM":
            taken = Taken("dicom")
            self._take_one(part, taken)
            return taken
        with _one_at_a_time, tempfile.TemporaryDirectory(prefix="porta-upload-") as folder:
            if head[:2] == b"PK":
                return self._take_all("archive", unpack(part.path, Path(folder), self._most_bytes))
            if head[:2] == b"\x1f\x8b" or is_nifti(head):
                return self._take_all("nifti", write_as_dicom(part.path, Path(folder), self._most_bytes, modality))
        raise BadRequest("neither DICOM, a zip archive nor a NIfTI image")

    def _take_all(self, kind: str, files: Iterable[Path]) -> Taken:
        taken = Taken(kind)
        for file in files:
            with file.open("rb") as content:
                self._take_one(content, taken)
            file.unlink()
        return taken

    def _take_one(self, content: Part | BinaryIO, taken: Taken) -> None:
        """Take an instance in. Whoever closes the page before `finish` has not handed in all of its series."""
        accepted = self._intake.take(content, calling_ae_title=SUBMIT)
        uid = accepted.series_instance_uid
        if uid and uid not in taken.series and accepted.verdict != Verdict.ALREADY_STORED:
            self._console.ledger.hold_series([uid])
        taken.add(accepted.verdict, uid)


def unpack(path: Path, folder: Path, most_bytes: int) -> list[Path]:
    """Unpack an archive. Raises BadRequest for one that is damaged, or says to hold more than that."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > most_bytes:
                raise BadRequest("the archive unpacks to more than may be sent: see [web] upload_mb")
        return dicom_files(path, folder)
    except (NotDicom, zipfile.BadZipFile, zlib.error, EOFError, ValueError):
        raise BadRequest("the archive is damaged, encrypted, or holds too many files") from None


def is_nifti(head: bytes) -> bool:
    """True for the header of a NIfTI image in one file: `n+1` at 344, or that of NIfTI-2 at 4."""
    return head[344:348] == b"n+1\0" or head[4:8] == b"n+2\0"


def write_as_dicom(path: Path, folder: Path, most_bytes: int, modality: str) -> list[Path]:
    """Write a NIfTI image as a CT or MR series, of a patient named after its bytes. Raises BadRequest.

    It names no patient, and its identifiers follow from its bytes: the same image is the same study.
    """
    import nibabel

    from dicom_io.files.image_writer import write_ct_series, write_mr_series
    from dicom_io.nifti import UNREADABLE, read_nifti

    nibabel.imageglobals.logger.disabled = True  # it writes values of the header to stderr

    plain, digest = folder / "image.nii", hashlib.sha256()
    with path.open("rb") as packed, plain.open("wb") as target:
        source: BinaryIO = gzip.GzipFile(fileobj=packed) if packed.read(2) == b"\x1f\x8b" else packed  # type: ignore[assignment]
        packed.seek(0)
        try:
            while piece := source.read(PIECE):
                digest.update(piece)
                target.write(piece)
                if target.tell() > most_bytes:
                    raise BadRequest("the image unpacks to more than may be sent: see [web] upload_mb")
        except (OSError, EOFError, zlib.error):
            raise BadRequest("the image is damaged") from None
    try:
        image = nibabel.load(plain)
        lengths = image.shape if isinstance(image, nibabel.Nifti1Image) else ()
        if math.prod(lengths) * 4 > most_bytes:
            raise BadRequest("the image has more voxels than may be sent: see [web] upload_mb")
        volume = read_nifti(plain)
        seed = digest.hexdigest()
        write = write_mr_series if modality == "MR" else write_ct_series
        return write(
            volume.array,
            volume.geometry,
            folder / "dicom",
            seed=seed,
            patient_name="UPLOAD",
            patient_id=f"UPLOAD-{seed[:12]}",
            study_description="NIfTI",
            series_description="NIfTI",
        )
    except DicomIOError as error:
        raise BadRequest(str(error).replace(str(plain), "the image")) from None
    except UNREADABLE:
        raise BadRequest("no NIfTI image that can be read") from None
    finally:
        with suppress(OSError):
            plain.unlink()
