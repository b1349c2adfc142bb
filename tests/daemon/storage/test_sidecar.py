"""What is kept beside a spooled file is believed only where it must be right; else the file itself is read."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import FileDamaged
from daemon.storage import sidecar
from daemon.storage.sidecar import read_spooled, sidecar_path, write_sidecar
from dicom_io.errors import NotDicom
from dicom_io.files.image_file import read_image_file
from tests.daemon.conftest import spooled_digits


@pytest.fixture
def kept(tmp_path: Path, make_ct: Callable[..., bytes]) -> Path:
    """A file with its header beside it."""
    path = tmp_path / "1.2.3-0123.dcm"
    path.write_bytes(make_ct())
    write_sidecar(path, read_image_file(path).header, size=path.stat().st_size)
    return path


def test_the_file_is_not_read_again(kept: Path):
    """Nothing but its size is asked for."""
    expected = read_image_file(kept)
    kept.write_bytes(bytes(kept.stat().st_size))
    assert read_spooled(kept) == expected


@pytest.mark.parametrize("length", [0, 1, 5, 40, -1])
def test_a_torn_header(kept: Path, length: int):
    """As after a loss of power."""
    torn = sidecar_path(kept).read_bytes()[:length]
    sidecar_path(kept).write_bytes(torn)
    assert read_spooled(kept) == read_image_file(kept)


@pytest.mark.parametrize("content", [b"\0" * 900, b"\xff\xfe", b"1\n{}", b"not a header\n{}"])
def test_a_header_that_is_none(kept: Path, content: bytes):
    """Blocks that were never written, or what somebody else put there."""
    sidecar_path(kept).write_bytes(content)
    assert read_spooled(kept) == read_image_file(kept)


def test_a_header_that_says_something_else(kept: Path):
    """A digit of a position that was changed is as good a header as any, and not what was kept."""
    said = sidecar_path(kept).read_text()
    assert "5.0" in said
    sidecar_path(kept).write_text(said.replace("5.0", "6.0", 1))
    assert read_spooled(kept) == read_image_file(kept)


def test_a_damaged_file_is_not_read_instead(kept: Path):
    """Where nothing lies beside it any more, the file itself has to be what was received."""
    content = kept.read_bytes()
    named = kept.rename(kept.with_name(f"1.2.3-{spooled_digits(content)}.dcm"))
    assert read_spooled(named).header.modality == "CT"
    named.write_bytes(content.replace(b"CS\x02\0CT", b"CS\x02\0MR"))
    with pytest.raises(FileDamaged):
        read_spooled(named)


def test_a_header_of_another_form(kept: Path, monkeypatch: pytest.MonkeyPatch):
    """One that lacks a value, has one more, or was written when the values meant something else."""
    first, _, text = sidecar_path(kept).read_text().partition("\n")
    header = json.loads(text)

    def say(wrong: dict[str, Any]) -> None:
        text = json.dumps(wrong)
        digits = hashlib.sha256(text.encode()).hexdigest()[:16]
        sidecar_path(kept).write_text(f"{first.rpartition(' ')[0]} {digits}\n{text}")

    for wrong in ({**header, "station": "CT1"}, {key: header[key] for key in list(header)[1:]}):
        say(wrong)
        assert read_spooled(kept) == read_image_file(kept)
    say({**header, "modality": "MR"})
    assert read_spooled(kept).header.modality == "MR"
    monkeypatch.setattr(sidecar, "FORM", sidecar.FORM + 1)
    assert read_spooled(kept).header.modality == "CT"


def test_a_header_of_other_bytes(kept: Path, make_ct: Callable[..., bytes]):
    """The same data set behind longer file meta information: the pixels lie elsewhere."""
    before = read_spooled(kept).header.pixels
    kept.write_bytes(make_ct(source="ANOTHER"))
    after = read_spooled(kept).header.pixels
    assert before and after and before.offset and after.offset
    assert after.offset > before.offset
    assert after == read_image_file(kept).header.pixels  # type: ignore[union-attr]


def test_a_file_that_is_gone_or_none(kept: Path, tmp_path: Path):
    """Its header alone is nothing to go on with."""
    kept.unlink()
    with pytest.raises(FileNotFoundError):
        read_spooled(kept)
    other = tmp_path / "notes.dcm"
    other.write_text("no image")
    with pytest.raises(NotDicom):
        read_spooled(other)
