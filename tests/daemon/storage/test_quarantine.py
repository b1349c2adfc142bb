"""What is not taken in: kept once, counted, listed, and bounded in size and age."""

import json
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import StorageUnusable
from daemon.storage.quarantine import DAY_S, Entry, Quarantine
from daemon.storage.spool import Spool

MIB = 2**20


@pytest.fixture
def quarantine(spool: Spool, clock: Any) -> Quarantine:
    return Quarantine(spool, maximum_mb=4, maximum_days=30, clock=clock)


def keep(quarantine: Quarantine, content: bytes, reason: str = "UNDECODABLE", **more: Any) -> Entry:
    with quarantine._spool.part() as part:
        part.write(content)
        part.finish()
        return quarantine.keep(part, reason=reason, source="MODALITY", **more)


def files(spool: Spool) -> list[Path]:
    return sorted((spool.root / "quarantine").iterdir())


def test_the_bytes_and_the_reason(quarantine: Quarantine, spool: Spool, clock: Any):
    """Under a name of our own; the reason is a code, the source an AE title, and nobody else may look."""
    entry = keep(quarantine, b"bytes", sop_instance_uid="1.2.3")
    kept, reason = files(spool)
    assert (kept.suffix, reason.suffix, kept.stem) == (".dcm", ".reason", entry.id)
    assert kept.read_bytes() == b"bytes"
    assert entry == Entry(entry.id, "UNDECODABLE", "MODALITY", "1.2.3", 5, 1, clock(), clock())
    assert json.loads(reason.read_text())["reason"] == "UNDECODABLE"
    assert quarantine.entries() == [entry]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files(spool)} == {0o600}


def test_the_same_again_is_counted(quarantine: Quarantine, spool: Spool, clock: Any):
    """Ten times the same duplicate is one entry; for another reason, or with other bytes, it is another."""
    for _ in range(10):
        clock.pass_s(1)
        last = keep(quarantine, b"bytes", "DUPLICATE_DIFFERENT")
    assert (last.count, last.last_at - last.first_at) == (10, 9)
    keep(quarantine, b"bytes")
    keep(quarantine, b"other", "DUPLICATE_DIFFERENT")
    assert sorted(entry.count for entry in quarantine.entries()) == [1, 1, 10]
    assert len(files(spool)) == 6
    assert Quarantine(spool).entries() == quarantine.entries()


def test_from_many_threads(quarantine: Quarantine):
    threads = [threading.Thread(target=keep, args=(quarantine, b"bytes")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [entry.count for entry in quarantine.entries()] == [8]


def test_what_is_harmless_goes_first_and_of_that_the_oldest(quarantine: Quarantine, spool: Spool, clock: Any):
    """There is room for four; the latest always stays, even where it is larger than all the room."""
    for index, reason in enumerate(("UNDECODABLE", "NO_IMAGE", "DUPLICATE_DIFFERENT", "MISMATCH", "NO_IMAGE")):
        clock.pass_s(1)
        keep(quarantine, bytes([index]) * MIB, reason)
    reasons = [entry.reason for entry in quarantine.entries()]
    assert reasons == ["UNDECODABLE", "DUPLICATE_DIFFERENT", "MISMATCH", "NO_IMAGE"]
    for index in range(3):
        clock.pass_s(1)
        keep(quarantine, bytes([10 + index]) * MIB)
    reasons = [entry.reason for entry in quarantine.entries()]
    assert reasons == ["MISMATCH", "UNDECODABLE", "UNDECODABLE", "UNDECODABLE"]
    last = keep(quarantine, bytes(5 * MIB))
    assert quarantine.entries() == [last]
    assert len(files(spool)) == 2


def test_what_is_old_goes(quarantine: Quarantine, clock: Any, read_log: Any):
    """By its last time: what still comes stays."""
    keep(quarantine, b"old")
    keep(quarantine, b"again")
    clock.pass_s(20 * DAY_S)
    keep(quarantine, b"again")
    clock.pass_s(20 * DAY_S)
    assert quarantine.trim() == 1
    assert [entry.count for entry in quarantine.entries()] == [2]
    assert [line["count"] for line in read_log.named("quarantine.trimmed")] == [1]


@pytest.mark.parametrize("written", [None, b"", b"{", b"[]", b'{"reason": 1, "other": 2}'])
def test_an_entry_that_is_torn_is_an_entry(quarantine: Quarantine, spool: Spool, written: bytes | None):
    """A kill between the two files: the bytes are listed, and count."""
    keep(quarantine, b"bytes")
    _, reason = files(spool)
    reason.unlink() if written is None else reason.write_bytes(written)
    (entry,) = quarantine.entries()
    assert (entry.reason, entry.bytes, entry.count) == ("UNKNOWN", 5, 1)
    again = keep(quarantine, b"bytes")
    assert (again.reason, again.count) == ("UNDECODABLE", 2)


def test_an_entry_of_an_older_version(spool: Spool):
    folder = spool.root / "quarantine"
    (folder / "a.dcm").write_bytes(b"bytes")
    (folder / "a.reason").write_text('{"reason": "NO_IMAGE", "source": "PACS"}')
    (entry,) = Quarantine(spool).entries()
    assert (entry.reason, entry.source, entry.count, entry.bytes) == ("NO_IMAGE", "PACS", 1, 5)


def test_no_room_is_said(tmp_path: Path):
    spool = Spool(tmp_path / "root", min_free_mb=10**9)
    spool.prepare()
    with pytest.raises(StorageUnusable):
        keep(Quarantine(spool), b"bytes")
    assert files(spool) == []


def test_the_list_for_people_and_for_scripts(
    quarantine: Quarantine, make_config: Callable[..., Any], capsys: pytest.CaptureFixture[str]
):
    """`porta quarantine`: with reason, UID, sender and count, and no name of a patient."""
    from daemon.commands.status import print_quarantine

    entry = keep(quarantine, b"ZZPHI^CANARY", "DUPLICATE_DIFFERENT", sop_instance_uid="1.2.3.4")
    print_quarantine(make_config(), as_json=True)
    (said,) = json.loads(capsys.readouterr().out)
    assert said["first_at"] == "1970-01-12T13:46:40+00:00"
    assert {key: said[key] for key in ("id", "reason", "source", "sop_instance_uid", "count", "bytes")} == {
        "id": entry.id,
        "reason": "DUPLICATE_DIFFERENT",
        "source": "MODALITY",
        "sop_instance_uid": "1.2.3.4",
        "count": 1,
        "bytes": 12,
    }
    print_quarantine(make_config(), as_json=False)
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("DUPLICATE_DIFFERENT", "MODALITY", "1.2.3.4"))
    assert "ZZPHI" not in printed
