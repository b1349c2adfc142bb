"""What stands on the disk for files that were removed, so that a lost ledger is made anew with them.

removing/<SeriesInstanceUID>.json.gz   written before the ledger says that they are removed; files go afterwards
removed/<SeriesInstanceUID>.json.gz    the same, once all of them have gone
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from daemon.ledger.rows import Tombstone
from daemon.storage.spool import Spool, write_durably
from dicom_io.errors import InvalidUID
from dicom_io.files.uids import checked_uid

SUFFIX = ".json.gz"


def pending_path(spool: Spool, series_instance_uid: str) -> Path:
    """Return where the tombstone lies until all is removed."""
    return spool.root / "removing" / f"{checked_uid(series_instance_uid)}{SUFFIX}"


def final_path(spool: Spool, series_instance_uid: str) -> Path:
    """Return where it lies afterwards."""
    return spool.root / "removed" / f"{checked_uid(series_instance_uid)}{SUFFIX}"


def pending(spool: Spool) -> Iterator[str]:
    """Give the series whose files a kill may have left half removed. Raises OSError."""
    yield from _uids(spool.root / "removing")


def write_tombstone(spool: Spool, tombstone: Tombstone) -> None:
    """Write it durably, before anything is removed. Raises StorageUnusable."""
    content = json.dumps(asdict(tombstone)).encode()
    write_durably(pending_path(spool, tombstone.series_instance_uid), gzip.compress(content, 6))


def read_tombstones(spool: Spool) -> Iterator[Tombstone | Path]:
    """Give every tombstone, or the path of one that is damaged. Raises OSError where the disk does not list them."""
    for uid in sorted({*pending(spool), *_uids(spool.root / "removed")}):
        yield tombstone_of(spool, uid) or final_path(spool, uid)


def tombstone_of(spool: Spool, series_instance_uid: str) -> Tombstone | None:
    """Return the tombstone of a series, the latest that is whole; None where there is none."""
    for path_of in (pending_path, final_path):
        with suppress(InvalidUID, OSError, EOFError, zlib.error, ValueError, TypeError):
            content = path_of(spool, series_instance_uid).read_bytes()
            found = Tombstone(**json.loads(gzip.decompress(content)))
            if found.series_instance_uid == series_instance_uid:
                return found
    return None


def _uids(folder: Path) -> Iterator[str]:
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:  # the service of this version has not started here yet
        return
    for name in names:
        uid = name.removesuffix(SUFFIX)
        try:
            if name.endswith(SUFFIX):
                yield checked_uid(uid)
        except InvalidUID:
            continue
