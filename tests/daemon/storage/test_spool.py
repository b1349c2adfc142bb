"""The files are durable, private, and whole or not there at all, also when the disk gives way."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import StorageUnusable
from daemon.storage.incoming import Part
from daemon.storage.sidecar import sidecar_path
from daemon.storage.spool import FOLDERS, Spool, write_durably
from dicom_io.errors import InvalidUID
from tests.daemon.conftest import keep

RELATIVE = Path("spool/1.2.3/1.2.3.4.dcm")


@pytest.fixture
def small_disk(tmp_path: Path, missing: Callable[[str], None]) -> Iterator[Path]:
    """A file system of 1 MiB, which only root can mount."""
    point = tmp_path / "disk"
    point.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(point)], capture_output=True)
    if made.returncode:
        missing("a small file system cannot be mounted here")
    yield point
    subprocess.run(["umount", str(point)], check=True)


def remount(point: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(point)], check=True)


def files(root: Path) -> list[Path]:
    return sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())


def modes(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*")}


def test_what_is_kept_is_there_whole_and_alone(spool: Spool):
    """All chunks, one after another, under the name, and nothing besides."""
    keep(spool, RELATIVE, b"first ", b"", b"second")
    assert (spool.root / RELATIVE).read_bytes() == b"first second"
    assert files(spool.root) == [RELATIVE]


def test_what_is_kept_again_replaces(spool: Spool):
    """As when the ledger was away after the first time, and the sender sends once more."""
    keep(spool, RELATIVE, b"first, and longer")
    keep(spool, RELATIVE, b"second")
    assert (spool.root / RELATIVE).read_bytes() == b"second"


def test_nobody_else_may_look(tmp_path: Path):
    """Folders are 0700 and files 0600, whatever the umask of whoever starts the service."""
    before = os.umask(0)
    try:
        spool = Spool(tmp_path / "root")
        spool.prepare()
        keep(spool, RELATIVE, b"image")
        write_durably(spool.outbox(1) / "seg.dcm", b"result")
    finally:
        os.umask(before)
    found = modes(tmp_path)
    assert found["root"] == 0o700
    for name, mode in found.items():
        assert mode == (0o700 if (tmp_path / name).is_dir() else 0o600), name
    assert len(found) == 1 + len(FOLDERS) + 2 + 2


@pytest.mark.parametrize(
    "uid", ["", "../../etc/passwd", "1.2/3", "1." + "2" * 63, "1", "1..2", ".1.2", "1.2.a", "1.2\n", "１.２"]
)
def test_what_is_no_uid_never_becomes_a_path(spool: Spool, uid: str):
    """Neither as a series nor as an instance."""
    for pair in ((uid, "1.2.3"), ("1.2.3", uid)):
        with pytest.raises(InvalidUID):
            spool.instance_path(*pair, "0" * 16)


def test_paths_of_instances_lie_below_the_spool(spool: Spool):
    """Also of the longest UID there may be, and of one that is padded as DICOM pads."""
    longest = "1." + "2" * 62
    name = f"{longest}-{'0' * 16}.dcm"
    assert spool.instance_path("1.2.3\0", longest, "0" * 16) == Path(f"spool/1.2.3/{name}")


def test_a_full_disk_takes_nothing_and_keeps_nothing(small_disk: Path):
    """The write that does not fit is refused, its bytes are given back, and what fits is still taken."""
    spool = Spool(small_disk)
    spool.prepare()
    keep(spool, RELATIVE, bytes(200_000))
    with pytest.raises(StorageUnusable, match="No space left"):
        keep(spool, Path("spool/1.2.3/1.2.3.5.dcm"), bytes(500_000), bytes(500_000))
    assert files(small_disk) == [RELATIVE]
    keep(spool, Path("spool/1.2.3/1.2.3.6.dcm"), bytes(200_000))
    with pytest.raises(StorageUnusable, match="No space left"):
        write_durably(spool.outbox(1) / "seg.dcm", bytes(1_000_000))
    assert not (spool.outbox(1) / "seg.dcm").exists()


def test_a_disk_that_has_gone_read_only(small_disk: Path):
    """Nothing is taken while running, and the root is unusable at the next start."""
    spool = Spool(small_disk)
    spool.prepare()
    keep(spool, RELATIVE, b"image")
    remount(small_disk, "ro")
    try:
        with pytest.raises(StorageUnusable, match="Read-only"):
            keep(spool, Path("spool/1.2.3/1.2.3.5.dcm"), b"image")
        with pytest.raises(StorageUnusable, match="Read-only"):
            write_durably(spool.outbox(1) / "seg.dcm", b"result")
        with pytest.raises(StorageUnusable, match=r"storage root .*Read-only"):
            spool.prepare()
    finally:
        remount(small_disk, "rw")
    assert files(small_disk) == [RELATIVE]
    keep(spool, Path("spool/1.2.3/1.2.3.5.dcm"), b"image")


def test_less_room_than_is_to_be_left_free(tmp_path: Path):
    """`min_free_mb` refuses before the disk does."""
    spool = Spool(tmp_path, min_free_mb=10**9)
    spool.prepare()
    with pytest.raises(StorageUnusable, match="min_free_mb is 1000000000"):
        keep(spool, RELATIVE, b"image")
    assert files(tmp_path) == []
    assert 0 < spool.free_mb() < 10**9


def test_more_room_is_wanted_before_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_log: Any):
    """From `resume_free_mb` on: the two watermarks stand in the log, once each."""
    spool = Spool(tmp_path, min_free_mb=100, resume_free_mb=125)
    spool.prepare()
    for free, is_taken in ((100, True), (99, False), (124, False), (125, True), (100, True)):
        monkeypatch.setattr(Spool, "free_mb", lambda spool, free=free: free)
        if is_taken:
            spool.check_room()
            continue
        with pytest.raises(StorageUnusable, match=f"{free} MB free, min_free_mb is 100: .* until 125 MB are"):
            spool.check_room()
    said = [(line["event"], line["free_mb"], line["min_free_mb"], line["resume_free_mb"]) for line in read_log.events]
    assert said == [("storage.full", 99, 100, 125), ("storage.freed", 125, 100, 125)]


def test_a_folder_that_was_removed_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Retention removes the empty folder of a series between two looks at it: it is made again, durably."""
    spool = Spool(tmp_path)
    spool.prepare()
    keep(spool, RELATIVE, b"image")
    (tmp_path / RELATIVE).unlink()
    sync = Part.sync

    def sync_then_remove(part: Part) -> None:
        sync(part)
        (tmp_path / RELATIVE).parent.rmdir()

    monkeypatch.setattr(Part, "sync", sync_then_remove)
    keep(spool, RELATIVE, b"image")
    assert (tmp_path / RELATIVE).read_bytes() == b"image"


@pytest.mark.parametrize("name", ["root", "root/incoming", "root/quarantine"])
def test_a_root_that_is_a_file(tmp_path: Path, name: str):
    """Or a folder of it that is: said at start, with the root's path."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("not a folder")
    with pytest.raises(StorageUnusable, match=f"storage root {tmp_path / 'root'}: "):
        Spool(tmp_path / "root").prepare()


def test_preparing_twice_loses_nothing(spool: Spool):
    """Every start and every command does it."""
    keep(spool, RELATIVE, b"image")
    spool.prepare()
    assert files(spool.root) == [RELATIVE]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
@pytest.mark.parametrize("owned", ["", "spool"])
def test_another_user_is_refused(tmp_path: Path, owned: str):
    """Who hands in files as root beside a service of another user would write what that one cannot read."""
    root = tmp_path / "root"
    root.mkdir()
    if owned:
        Spool(root).prepare()
    os.chown(root / owned, 12345, 12345)
    with pytest.raises(StorageUnusable, match="belongs to user 12345: run this as that user"):
        Spool(root).prepare()
    assert (root / "spool").exists() == bool(owned)


@pytest.fixture
def volume() -> Iterator[Path]:
    """A folder of root's in which everybody may write, as a volume is mounted for a container."""
    folder = Path(tempfile.mkdtemp(prefix="porta-volume-"))  # pytest's own folders are closed to others
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_mounted_volume_belongs_to_who_uses_it_first(volume: Path):
    """Its own folder is root's; what lies in it is the service's."""
    script = (
        "import os, sys; from pathlib import Path; from daemon.storage.spool import Spool; "
        "os.seteuid(12345); Spool(Path(sys.argv[1])).prepare()"
    )
    subprocess.run([sys.executable, "-c", script, volume], check=True, timeout=60)
    with pytest.raises(StorageUnusable, match="belongs to user 12345"):
        Spool(volume).prepare()


def test_one_service_a_root(spool: Spool):
    """A second one is refused, in this process and in another, until the first lets go."""
    script = (
        "import sys; from pathlib import Path; from daemon.storage.spool import Spool\n"
        "try: Spool(Path(sys.argv[1])).lock()\n"
        "except Exception as error: print(type(error).__name__, error)\n"
        "else: print('held')"
    )

    def other() -> str:
        command = [sys.executable, "-c", script, str(spool.root)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()

    with spool.lock():
        with pytest.raises(StorageUnusable, match="another porta run is using it"):
            spool.lock()
        assert other() == f"StorageUnusable storage root {spool.root}: another porta run is using it"
    assert other() == "held"
    spool.lock().close()


def test_sweep_removes_what_was_never_acknowledged(spool: Spool):
    """And nothing else."""
    keep(spool, RELATIVE, b"image")
    (spool.root / "incoming" / "broken-off.part").write_bytes(b"half")
    spool.sweep()
    assert files(spool.root) == [RELATIVE]


def test_what_is_discarded_leaves_nothing_beside_it(spool: Spool):
    """Neither the file nor what was read of it; and what is not there need not be."""
    keep(spool, RELATIVE, b"image")
    sidecar_path(spool.root / RELATIVE).write_text("header")
    for _ in range(2):
        spool.discard(RELATIVE)
    assert files(spool.root) == []


def test_clearing_is_for_one_job(spool: Spool):
    """Work alone, or the outbox too; those of the others stay, and what is not there need not be."""
    for job_id in (1, 11):
        write_durably(spool.work(job_id) / "labels.npz", b"labels")
        write_durably(spool.outbox(job_id) / "seg.dcm", b"result")
    spool.clear_work(1)
    assert len(files(spool.root)) == 3
    for _ in range(2):
        spool.clear(1)
    assert files(spool.root) == [Path("outbox/11/seg.dcm"), Path("work/11/labels.npz")]
