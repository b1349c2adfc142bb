"""Bytes that are not what was written are found: wherever they lie in a file, and whatever became of it."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.errors import FileDamaged
from daemon.storage.integrity import (
    SUMS,
    check_file,
    check_spooled,
    file_sha256,
    list_sums,
    read_sums,
    unsound_files,
)
from tests.daemon.conftest import dataset_sha256, spooled_digits

MakeCt = Callable[..., bytes]


@pytest.fixture
def spooled(tmp_path: Path, make_ct: MakeCt) -> Path:
    """A file under the name that the intake gives it."""
    content = make_ct()
    path = tmp_path / f"1.2.3-{spooled_digits(content)}.dcm"
    path.write_bytes(content)
    return path


def invert(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0xFF
    path.write_bytes(content)


def test_no_byte_of_a_spooled_file_can_be_inverted(spooled: Path):
    """Nor one of the preamble or of the file meta information, which the hash of the data set leaves out."""
    check_spooled(spooled)
    content = spooled.read_bytes()
    for offset in range(len(content)):
        invert(spooled, offset)
        with pytest.raises(FileDamaged):
            check_spooled(spooled)
        invert(spooled, offset)
    check_spooled(spooled, dataset_sha256(content))


@pytest.mark.parametrize("length", [0, 1, 100, 139, 143, 144, 300, -1])
def test_a_spooled_file_that_was_cut(spooled: Path, length: int):
    """Before, within and behind the file meta information."""
    spooled.write_bytes(spooled.read_bytes()[:length])
    with pytest.raises(FileDamaged):
        check_spooled(spooled)


def test_spooled_files_that_were_swapped(spooled: Path, make_ct: MakeCt):
    """A whole file under another's name is not that one."""
    spooled.write_bytes(make_ct(index=2))
    with pytest.raises(FileDamaged):
        check_spooled(spooled)


def test_the_ledger_knows_all_digits(spooled: Path):
    """A file whose name fits and whose hash does not is of another instance."""
    with pytest.raises(FileDamaged):
        check_spooled(spooled, f"{dataset_sha256(spooled.read_bytes())[:-1]}x")


def test_a_file_of_an_older_version(tmp_path: Path, make_ct: MakeCt):
    """It was named by its data set alone; one without any digits is not looked at."""
    content = make_ct()
    path = tmp_path / f"1.2.3-{dataset_sha256(content)[:16]}.dcm"
    path.write_bytes(content)
    check_spooled(path)
    invert(path, -1)
    with pytest.raises(FileDamaged):
        check_spooled(path)
    check_spooled(path.rename(tmp_path / "image.dcm"))


def test_a_file_that_the_disk_does_not_give(tmp_path: Path):
    """That is an error of its own, which says so; a folder in its place is no such file."""
    with pytest.raises(FileNotFoundError):
        check_spooled(tmp_path / "1.2.3-0123456789abcdef.dcm")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OSError, match="symbolic links"):
        check_file(tmp_path / "loop", "0" * 64)
    with pytest.raises(FileDamaged):
        check_file(tmp_path, "0" * 64)


def test_a_file_that_was_never_hashed(tmp_path: Path):
    """As results of an older version were: there is nothing to compare."""
    check_file(tmp_path / "gone.dcm", None)


def test_the_sums_of_a_folder(tmp_path: Path):
    """They are what sha256sum reads; each file that is damaged or gone is named with what is wrong."""
    for name in ("seg.dcm", "sr.dcm", "findings.json"):
        (tmp_path / name).write_text(name)
    (tmp_path / SUMS).write_text(list_sums(tmp_path))
    assert subprocess.run(["sha256sum", "-c", SUMS], cwd=tmp_path, capture_output=True, check=False).returncode == 0
    assert read_sums(tmp_path)["sr.dcm"] == file_sha256(tmp_path / "sr.dcm")
    assert list(unsound_files(tmp_path)) == []
    invert(tmp_path / "seg.dcm", 0)
    (tmp_path / "sr.dcm").unlink()
    found = {path.name: type(error) for path, error in unsound_files(tmp_path)}
    assert found == {"seg.dcm": FileDamaged, "sr.dcm": FileNotFoundError}
