"""What comes in is on the disk as it comes, and nothing of it stays that is not kept."""

from io import BytesIO
from pathlib import Path
from random import Random

import pytest

from daemon.errors import StorageUnusable
from daemon.storage.incoming import PIECE, ROOM_STEP, Part
from daemon.storage.spool import Spool
from tests.daemon.conftest import dataset_sha256, spooled_digits

RELATIVE = Path("spool/1.2.3/1.2.3.4.dcm")


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def test_the_hashes_are_those_of_the_whole(spool: Spool, make_ct):
    """However it was cut into pieces, as long as the first holds the length of the file meta information."""
    content, random = make_ct(), Random(1)
    for _ in range(20):
        with spool.part() as part:
            part.write(content[:144])
            at = 144
            while at < len(content):
                length = random.randint(1, 400)
                part.write(content[at : at + length])
                at += length
            part.finish()
            assert (part.hash.dataset_sha256, part.hash.digits) == (dataset_sha256(content), spooled_digits(content))
            assert (part.bytes, part.path.read_bytes()) == (len(content), content)


def test_a_file_is_taken_in_pieces(spool: Spool):
    with spool.part() as part:
        part.fill(BytesIO(bytes(2 * PIECE + 1)))
        part.finish()
        assert part.path.stat().st_size == 2 * PIECE + 1


def test_what_breaks_off_leaves_nothing(spool: Spool):
    """Nor does what nobody ends."""
    with pytest.raises(ConnectionError), spool.part() as part:
        part.write(b"half of it")
        assert files(spool.root) == [part.path]
        raise ConnectionError
    assert files(spool.root) == []
    forgotten = spool.part()
    assert len(files(spool.root)) == 1
    del forgotten
    assert files(spool.root) == []


def test_what_is_kept_stays_and_can_be_taken_back(spool: Spool):
    """Until then it is nobody's to remove."""
    with spool.part() as part:
        part.write(b"image")
        part.finish()
        spool.keep(part, RELATIVE)
    assert files(spool.root) == [spool.root / RELATIVE]
    with part:
        spool.take_back(part)
        assert part.path.parent == spool.root / "incoming"
        spool.keep(part, RELATIVE)
        spool.take_back(part)
    assert files(spool.root) == []


def test_room_is_looked_for_while_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What came is given back at once; what still comes is passed over, and said to be lost in the end."""
    spool = Spool(tmp_path / "root", min_free_mb=100)
    spool.prepare()
    free = [1000]
    monkeypatch.setattr(Spool, "free_mb", lambda spool: free[0])
    with spool.part() as part:
        part.write(bytes(1000))
        free[0] = 99
        part.write(bytes(ROOM_STEP + 1))
        assert files(spool.root) == []
        part.write(bytes(1000))
        with pytest.raises(StorageUnusable, match="99 MB free, min_free_mb is 100"):
            part.finish()


def test_a_folder_that_is_gone(tmp_path: Path):
    """The error is said when all has come, for the sender has to be answered then."""
    part = Part(tmp_path / "nowhere" / "part", lambda: None)
    part.write(b"image")
    with pytest.raises(StorageUnusable, match="No such file"):
        part.finish()
