"""A file is replaced when the new one is whole."""

import os
from pathlib import Path

import pytest

from dicom_io.files.whole_files import open_whole, part_of, write_whole


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files and folders in the order in which they are synced."""
    names = list[str]()
    monkeypatch.setattr(os, "fsync", lambda number: names.append(Path(os.readlink(f"/proc/self/fd/{number}")).name))
    return names


def test_a_file_is_replaced_when_it_is_whole(tmp_path: Path):
    """Until the block ends the earlier one is there, and afterwards nothing is beside it."""
    path = tmp_path / "card.json"
    write_whole(path, b"earlier")
    with open_whole(path) as file:
        file.write(b"later")
        file.flush()
        assert path.read_bytes() == b"earlier"
    assert path.read_bytes() == b"later"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(28, "No space left"), ValueError("unforeseen"), KeyboardInterrupt()])
def test_a_file_that_breaks_off_leaves_the_earlier_one(tmp_path: Path, error: BaseException):
    """A full disk, a fault of ours, or the user."""
    path = tmp_path / "card.json"
    write_whole(path, b"earlier")
    with pytest.raises(type(error)), open_whole(path) as file:
        file.write(b"half of it")
        raise error
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_written_over(tmp_path: Path):
    """Its longer bytes do not show through."""
    path = tmp_path / "card.json"
    part_of(path).write_bytes(b"half of something longer")
    write_whole(path, b"whole")
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]


def test_bytes_are_on_the_disk_before_the_name(tmp_path: Path, synced: list[str]):
    """Or after a power cut the name would stand for an empty file."""
    write_whole(tmp_path / "card.json", b"content")
    assert synced == [".card.json.part", tmp_path.name]


def test_what_need_not_be_durable_costs_no_sync(tmp_path: Path, synced: list[str]):
    """A chart is drawn again."""
    write_whole(tmp_path / "chart.png", b"content", durable=False)
    assert synced == []


def test_nobody_else_may_look_meanwhile(tmp_path: Path):
    """The mode holds while the file is being written."""
    before = os.umask(0)
    try:
        with open_whole(tmp_path / "seg.dcm", mode=0o600) as file:
            assert os.fstat(file.fileno()).st_mode & 0o777 == 0o600
    finally:
        os.umask(before)
    assert (tmp_path / "seg.dcm").stat().st_mode & 0o777 == 0o600
