"""Bytes that are read forward in bounded memory: those of a file, or those that a deflated file inflates to."""

import zlib
from typing import BinaryIO, Protocol

PIECE = 1 << 16

INFLATED_ANYWAY = 1 << 26
LARGEST_RATIO = 100
MOST_INFLATED = 1 << 31
"""What a deflated data set may inflate to: this much without being asked, then so many times its size, at most 2 GiB.
A slice of nothing but air may be deflated to a five-hundredth, 64 MiB of slices never are to a hundredth."""


class Stream(Protocol):
    """Bytes that are read forward."""

    @property
    def position(self) -> int:
        """How many bytes lie before."""

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes. Raises EOFError where fewer are left."""

    def skip(self, count: int) -> None:
        """Go on by `count` bytes. Raises EOFError where fewer are left."""

    def peek(self, count: int) -> bytes:
        """Return the next `count` bytes, or the fewer that are left, without going on."""


class Plain:
    """The bytes of a file from where it stands; `size` and `position` count from its beginning."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.position = file.tell()
        self.size = file.seek(0, 2)
        file.seek(self.position)

    def read(self, count: int) -> bytes:
        """Return the next bytes. A size that the file does not have costs no memory."""
        self._need(count)
        self.position += count
        return self._file.read(count)

    def skip(self, count: int) -> None:
        """Go on without reading."""
        self._need(count)
        self.position = self._file.seek(self.position + count)

    def peek(self, count: int) -> bytes:
        """Return the next bytes and stay."""
        found = self._file.read(count)
        self._file.seek(self.position)
        return found

    def _need(self, count: int) -> None:
        if count > self.size - self.position:
            raise EOFError("the file is cut short")


class Inflated:
    """What the rest of a file inflates to (PS3.5 section A.5), in pieces; `position` counts inflated bytes.

    `wbits` says what the deflated data are wrapped in, as zlib's does: mostly in nothing.

    Raises zlib.error where it is no deflated data, or would inflate to too much.
    """

    def __init__(self, file: BinaryIO, wbits: int | None = None) -> None:
        self._file = file
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS if wbits is None else wbits)
        self._ahead = bytearray()
        self._taken = self._inflated = 0
        self.position = 0

    def read(self, count: int) -> bytes:
        """Return the next bytes."""
        self._inflate(count)
        if len(self._ahead) < count:
            raise EOFError("the data set is cut short")
        found = bytes(self._ahead[:count])
        del self._ahead[:count]
        self.position += count
        return found

    def skip(self, count: int) -> None:
        """Inflate the next bytes and forget them."""
        while count:
            count -= len(self.read(min(count, PIECE)))

    def peek(self, count: int) -> bytes:
        """Return the next bytes and stay."""
        self._inflate(count)
        return bytes(self._ahead[:count])

    def skip_all(self) -> None:
        """Inflate all that is left. Raises EOFError where the deflated data are cut short."""
        while part := self.peek(PIECE):
            self.skip(len(part))

    def _inflate(self, count: int) -> None:
        while len(self._ahead) < count and not self._inflater.eof:
            deflated = self._inflater.unconsumed_tail
            if not deflated:
                deflated = self._file.read(PIECE)
                self._taken += len(deflated)
            part = self._inflater.decompress(deflated, PIECE)
            if not deflated and not part:
                raise EOFError("the deflated data are cut short")
            self._ahead += part
            self._inflated += len(part)
            if self._inflated > min(MOST_INFLATED, max(INFLATED_ANYWAY, LARGEST_RATIO * self._taken)):
                raise zlib.error("inflates to too much")
