"""Files that are coming in: written to incoming/ as they come, and hashed; kept or forgotten when they end."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from weakref import finalize

from daemon.errors import StorageUnusable
from daemon.storage.integrity import FileHash

PRIVATE = 0o600
BUFFER = 1 << 18
ROOM_STEP = 1 << 23
"""How many bytes are written before it is asked again whether there is room for more."""
PIECE = 1 << 20


class Part:
    """A file (PS3.10) that grows. For one thread at a time; what is not kept is removed in the end, come what may.

    A disk that takes no more ends the growing, not the sending: what comes then is passed over, and `finish` raises.
    """

    def __init__(self, path: Path, check_room: Callable[[], None]) -> None:
        self.path = path
        """Where it lies: in incoming/ until it is kept."""
        self.bytes = 0
        self.hash = FileHash()
        self._check_room = check_room
        self._room_for = 0
        self._error: StorageUnusable | None = None
        self._file: BinaryIO | None = None
        self._forget = finalize(self, _remove, path)
        self._try(self._open)

    def __enter__(self) -> "Part":
        return self

    def __exit__(self, *error: object) -> None:
        self.discard()

    def write(self, piece: bytes | memoryview) -> None:
        """Append; the first piece holds HEAD_BYTES at least, or the whole file."""
        if self._error is None:
            self._try(lambda: self._append(memoryview(piece)))

    def fill(self, file: BinaryIO) -> None:
        """Append the rest of another file. Raises OSError where that one cannot be read."""
        while self._error is None and (piece := file.read(PIECE)):
            self.write(piece)

    def finish(self) -> None:
        """Say that all of it has come. Raises StorageUnusable where not all of it could be written."""
        if self._error is None and self._file is not None:
            self._try(self._file.flush)
        if self._error is not None:
            raise self._error

    def sync(self) -> None:
        """Have the disk hold all of it, if it does not yet. Raises OSError."""
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._close()

    def moved(self, path: Path, *, kept: bool) -> None:
        """It has another name now; a kept one is nobody's to remove."""
        self.path = path
        self._forget.detach()
        if not kept:
            self._forget = finalize(self, _remove, path)

    def discard(self) -> None:
        """Remove it, unless it is kept."""
        self._close()
        self._forget()

    def _open(self) -> None:
        self._check_room()
        self._file = open(self.path, "wb", BUFFER, opener=lambda name, flags: os.open(name, flags, PRIVATE))  # noqa: SIM115

    def _append(self, piece: memoryview) -> None:
        if self._file is None:
            raise OSError("not open any more")
        if self.bytes + len(piece) > self._room_for:
            self._check_room()
            self._room_for = self.bytes + len(piece) + ROOM_STEP
        self.hash.update(piece)
        self._file.write(piece)
        self.bytes += len(piece)

    def _try(self, step: Callable[[], object]) -> None:
        try:
            step()
        except OSError as error:
            self._fail(StorageUnusable(f"cannot write: {error.strerror}"))
        except StorageUnusable as error:
            self._fail(error)

    def _fail(self, error: StorageUnusable) -> None:
        self._error = error
        self.discard()

    def _close(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # a buffer that the disk does not take is not wanted any more
                self._file.close()
            self._file = None


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
