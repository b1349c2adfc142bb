"""Bytes that were not taken in, with the reason and the sender: each kept once, counted, listed, and bounded.

    quarantine/<id>.dcm      the bytes as they came
    quarantine/<id>.reason   the entry as JSON

The id is made of the reason and the bytes: the same again is the same entry. A reason is a code, a sender an AE title.
"""

import hashlib
import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from daemon.log import get_logger
from daemon.storage.incoming import Part
from daemon.storage.spool import Spool, write_durably

HARMLESS = ("DUPLICATE_DIFFERENT", "NO_IMAGE", "OWN_RESULT")
"""Reasons of what nothing is lost with: these go first where there is no room."""

UNKNOWN = "UNKNOWN"
"""The reason of bytes whose entry was not written any more, or is not readable."""

DAY_S = 86_400
ID_DIGITS = 32

log = get_logger()


@dataclass(frozen=True)
class Entry:
    """What came, how often, when first and last (seconds since 1970, UTC), and who sent it last."""

    id: str
    reason: str
    source: str
    sop_instance_uid: str | None
    bytes: int
    count: int
    first_at: float
    last_at: float

    @property
    def precedence(self) -> tuple[bool, float]:
        """The order in which entries go: harmless ones first, of these and of the others the oldest."""
        return self.reason not in HARMLESS, self.last_at


class Quarantine:
    """The folder below the storage root. Safe to use from many threads at once."""

    def __init__(
        self, spool: Spool, maximum_mb: int = 2048, maximum_days: int = 90, clock: Callable[[], float] = time.time
    ) -> None:
        self._spool = spool
        self._folder = spool.root / "quarantine"
        self._maximum_bytes, self._maximum_s = maximum_mb << 20, maximum_days * DAY_S
        self._clock = clock
        self._lock = threading.Lock()
        self._bytes: int | None = None
        """How much it holds; None until it was counted."""

    def keep(self, part: Part, *, reason: str, source: str, sop_instance_uid: str | None = None) -> Entry:
        """Keep what came in durably, or count it where it is kept already. Raises StorageUnusable."""
        name, now = _id(part, reason), self._clock()
        with self._lock:
            known = self._read(name)
            if known is None:
                self._spool.keep(part, Path("quarantine") / f"{name}.dcm")
                entry = Entry(name, reason, source, sop_instance_uid, part.bytes, 1, now, now)
            else:
                entry = replace(known, reason=reason, source=source, count=known.count + 1, last_at=now)
            write_durably(self._folder / f"{name}.reason", json.dumps(asdict(entry)).encode())
            if known is None and self._bytes is not None:
                self._bytes += entry.bytes
            if self._bytes is None or self._bytes > self._maximum_bytes:
                self._trim(spared=name)
        return entry

    def entries(self) -> list[Entry]:
        """List what is kept, the latest last."""
        found = [self._read(path.stem) for path in self._folder.glob("*.dcm")]
        return sorted(filter(None, found), key=lambda entry: entry.last_at)

    def count(self) -> int:
        """Return how many entries there are, without reading them."""
        return sum(1 for _ in self._folder.glob("*.dcm"))

    def trim(self) -> int:
        """Remove what is too old, and what there is no room for; return how many entries."""
        with self._lock:
            return self._trim()

    def excess(self) -> int:
        """Return how many entries `trim` would remove."""
        return len(self._excess()[0])

    def _excess(self, spared: str = "") -> tuple[list[Entry], int]:
        """Return what is too old and what there is no room for, and how many bytes the others have."""
        entries = sorted(self.entries(), key=lambda entry: entry.precedence)
        held, excess = sum(entry.bytes for entry in entries), []
        for entry in entries:
            is_old = entry.last_at < self._clock() - self._maximum_s
            if entry.id != spared and (is_old or held > self._maximum_bytes):
                excess.append(entry)
                held -= entry.bytes
        return excess, held

    def _trim(self, spared: str = "") -> int:
        excess, held = self._excess(spared)
        for entry in excess:
            for suffix in (".dcm", ".reason"):
                with suppress(OSError):  # what cannot be removed is tried again
                    (self._folder / f"{entry.id}{suffix}").unlink(missing_ok=True)
        self._bytes, removed = held, len(excess)
        if removed:
            log.info("quarantine.trimmed", count=removed, bytes=held)
        return removed

    def _read(self, name: str) -> Entry | None:
        """Return the entry of this id, in part where it is not readable; None where there is none."""
        try:
            status = (self._folder / f"{name}.dcm").stat()
        except OSError:
            return None
        times = status.st_mtime, status.st_mtime
        unknown = Entry(name, UNKNOWN, "", None, status.st_size, 1, *times)
        try:
            said = json.loads((self._folder / f"{name}.reason").read_text())
            if set(said) == {"reason", "source"}:  # as older versions wrote it
                return replace(unknown, **said)
            return Entry(**said)
        except (OSError, ValueError, TypeError):
            return unknown


def _id(part: Part, reason: str) -> str:
    return hashlib.sha256(f"{reason} {part.hash.digits} {part.hash.dataset_sha256}".encode()).hexdigest()[:ID_DIGITS]
