"""Whether a file still holds the bytes that were written: the sha256 that was recorded, and looking again.

spool/…/<SOPInstanceUID>-<16 digits>[-<8 digits>].dcm    the sha256 of the data set, and of what stands before it
outbox/<job>/<volume>/SHA256SUMS                         of each file beside it, as `sha256sum -c` reads it
the ledger                                               of each received data set, and of each object that is sent
"""

import hashlib
import re
import struct
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from daemon.errors import FileDamaged

META_LENGTH = b"\x02\x00\x00\x00UL\x04\x00"
"""The first element of a file's meta information, up to its value: how many bytes follow it (PS3.10 section 7.1)."""
HEAD_BYTES = 128 + 4 + 12
"""Preamble, prefix and that element."""

SUMS = "SHA256SUMS"

_DIGITS = re.compile(r"-([0-9a-f]{16})(?:-([0-9a-f]{8}))?\.dcm")


class FileHash:
    """Hashes the bytes of a file (PS3.10) as they come: its data set, and what stands before it."""

    def __init__(self) -> None:
        self._before, self._dataset = hashlib.sha256(), hashlib.sha256()
        self._dataset_at: int | None = None
        self._bytes = 0

    def update(self, piece: memoryview) -> None:
        """Go on with the next bytes; the first piece holds HEAD_BYTES at least, or the whole file."""
        if self._dataset_at is None:
            self._dataset_at = _dataset_offset(bytes(piece[:HEAD_BYTES]))
        split = max(0, self._dataset_at - self._bytes)
        self._before.update(piece[:split])
        self._dataset.update(piece[split:])
        self._bytes += len(piece)

    @property
    def dataset_sha256(self) -> str:
        """The hash of the data set alone: two copies of an instance may differ in their file meta information."""
        return self._dataset.hexdigest()

    @property
    def digits(self) -> str:
        """The digits that the name of a spooled file bears: of the sha256 of its data set, and of all before that.

        They are checked where nothing but the file is at hand, and cover every byte of it.
        """
        return f"{self.dataset_sha256[:16]}-{self._before.hexdigest()[:8]}"


def check_spooled(path: Path, sha256: str | None = None) -> None:
    """Raise FileDamaged where a spooled file holds other bytes than its name, and `sha256` of its data set, say.

    An older version named files by their data set alone; a file without digits is not of the spool. Raises OSError
    where the disk does not give the file.
    """
    if sha256 is None and not _DIGITS.search(path.name):
        return
    found = spooled_sha256(path)
    if found != (sha256 or found):
        raise FileDamaged(path)


def spooled_sha256(path: Path) -> str:
    """Return the hash of the data set of a spooled file. Raises FileDamaged where its name says otherwise; OSError."""
    digits = _DIGITS.search(path.name)
    with _opened(path) as file:
        head = file.read(HEAD_BYTES)
        before = head + file.read(max(0, _dataset_offset(head) - len(head)))
        found = hashlib.file_digest(file, "sha256").hexdigest()
    dataset, meta = digits.groups() if digits else ("", None)
    if not (found.startswith(dataset) and hashlib.sha256(before).hexdigest().startswith(meta or "")):
        raise FileDamaged(path)
    return found


def file_sha256(path: Path) -> str:
    """Return the hash of a whole file. Raises OSError, FileDamaged for a folder."""
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_file(path: Path, sha256: str | None) -> None:
    """Raise FileDamaged where a file does not have this hash; None: it was written before hashes were kept.

    Raises OSError where the disk does not give the file.
    """
    if sha256 is not None and file_sha256(path) != sha256:
        raise FileDamaged(path)


def list_sums(folder: Path) -> str:
    """Return what SHA256SUMS is to say of the files of a folder."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name != SUMS)
    return "".join(f"{file_sha256(folder / name)}  {name}\n" for name in names)


def read_sums(folder: Path) -> dict[str, str]:
    """Return the hash of each file that SHA256SUMS names; a folder without it names none, nor does a damaged line."""
    try:
        lines = (folder / SUMS).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    pairs = (line.split("  ", 1) for line in lines)
    return {pair[1]: pair[0] for pair in pairs if len(pair) == 2}


def unsound_files(folder: Path) -> Iterator[tuple[Path, OSError | FileDamaged]]:
    """Give each file that SHA256SUMS names and that does not hold what was written, with what is wrong with it."""
    for name, sha256 in read_sums(folder).items():
        try:
            check_file(folder / name, sha256)
        except (OSError, FileDamaged) as error:
            yield folder / name, error


def _opened(path: Path) -> BufferedReader:
    """Open a file that is to be looked at; a folder in its place is none of its bytes."""
    try:
        return path.open("rb")
    except IsADirectoryError:
        raise FileDamaged(path) from None


def _dataset_offset(head: bytes) -> int:
    """Return where the data set of a file begins, by its first bytes; behind them in a file that does not say it."""
    if len(head) == HEAD_BYTES and head[132:140] == META_LENGTH:
        return HEAD_BYTES + int(struct.unpack("<L", head[140:144])[0])
    return HEAD_BYTES
