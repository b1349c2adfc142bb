"""Series judged before a worker has them: from what lies beside their files, and from the headers alone."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian

from daemon.storage.sidecar import sidecar_path, write_sidecar
from daemon.worker import sources
from daemon.worker.sources import find_series, name_member, open_spooled, spooled_series, usable_memory_mb
from dicom_io.errors import NotDicom, RejectReason, SeriesRejected
from dicom_io.files.image_file import read_image_file
from dicom_io.files.image_header import ImageHeader
from dicom_io.files.image_writer import write_ct_series
from dicom_io.geometry import Geometry

JPEG_XL = "1.2.840.10008.1.2.4.110"


def stack(slices: int = 12, rows: int = 8) -> Geometry:
    origins = np.c_[np.zeros(slices), np.zeros(slices), 5.0 * np.arange(slices)]
    return Geometry(origins, np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), 1.0, 1.0, rows, 8, "1.2.3")


@pytest.fixture
def spooled(tmp_path: Path) -> list[Path]:
    """A series as the intake leaves it."""
    paths = write_ct_series(np.zeros(stack().shape), stack(), tmp_path, seed="spooled")
    for path in paths:
        write_sidecar(path, read_image_file(path).header, size=path.stat().st_size)
    return paths


def rewrite(path: Path, change: Callable[[ImageHeader], ImageHeader]) -> None:
    """Have something else said beside the file."""
    write_sidecar(path, change(read_image_file(path).header), size=path.stat().st_size)


def with_syntax(syntax: str) -> Callable[[ImageHeader], ImageHeader]:
    def change(header: ImageHeader) -> ImageHeader:
        assert header.pixels
        return replace(header, pixels=replace(header.pixels, transfer_syntax_uid=syntax, offset=None))

    return change


def reason(paths: list[Path], memory_mb: int | None = None) -> RejectReason:
    with pytest.raises(SeriesRejected) as caught:
        open_spooled(paths, memory_mb)
    return caught.value.reason


def test_a_series_is_opened_without_reading_its_files(spooled: list[Path]):
    """The headers beside them are enough, with those that lack one read for themselves."""
    sidecar_path(spooled[3]).unlink()
    expected = open_spooled(spooled, None).stacks[0]
    for path in spooled[:3] + spooled[4:]:
        path.write_bytes(bytes(path.stat().st_size))
    opened = open_spooled(spooled, None).stacks[0]
    assert opened.slices == expected.slices
    assert opened.geometry.shape == (12, 8, 8)


def test_a_file_that_is_gone(spooled: list[Path]):
    """Its header does not stand for it."""
    spooled[3].unlink()
    with pytest.raises(FileNotFoundError):
        open_spooled(spooled, None)


def test_a_file_that_is_none(spooled: list[Path], tmp_path: Path):
    (tmp_path / "x.dcm").write_text("no image")
    with pytest.raises(NotDicom):
        open_spooled([*spooled, tmp_path / "x.dcm"], None)


def test_a_series_that_is_no_volume(spooled: list[Path]):
    assert reason(spooled[:3]) == RejectReason.TOO_FEW_SLICES


def test_no_decoder(spooled: list[Path]):
    """Foretold by one header; the worker is never asked."""
    rewrite(spooled[5], with_syntax(JPEG_XL))
    assert reason(spooled) == RejectReason.UNSUPPORTED_SYNTAX
    spooled_series(spooled)


def test_one_volume_without_a_decoder_among_two(tmp_path: Path):
    """The other can be segmented; what cannot be read is left out later."""
    paths = []
    for number in (1, 2):
        for path in write_ct_series(np.zeros(stack().shape), stack(), tmp_path / str(number), seed=str(number)):
            ds = dcmread(path)
            ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.AcquisitionNumber = "1.2.4", "1.2.5", number
            ds.save_as(path)
            paths.append(path)
    for path in paths[:12]:
        rewrite(path, with_syntax(JPEG_XL))
    assert len(open_spooled(paths, None).stacks) == 2
    for path in paths[12:]:
        rewrite(path, with_syntax(JPEG_XL))
    assert reason(paths) == RejectReason.UNSUPPORTED_SYNTAX


def test_too_large_for_what_is_configured(spooled: list[Path]):
    """Said before the worker runs out of memory; the machine's own memory counts where nothing is configured."""
    for path in spooled:
        rewrite(path, _in_fine_pixels)
    assert reason(spooled, 2048) == RejectReason.TOO_LARGE
    open_spooled(spooled, 10_000_000)


def _in_fine_pixels(header: ImageHeader) -> ImageHeader:
    planes = tuple(replace(plane, pixel_spacing=("0.05", "0.05")) for plane in header.planes)
    return replace(header, rows=19_000, columns=19_000, planes=planes)


def test_the_memory_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A machine's memory is not the container's; "max" is no limit."""
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(sources, "CGROUP_LIMIT", limit)
    machine = usable_memory_mb()
    assert machine > 100
    for text, expected in (("max\n", machine), (f"{100 * 2**20}\n", 80), (f"{2**60}\n", machine)):
        limit.write_text(text)
        assert usable_memory_mb() == expected


def test_no_torch_is_loaded():
    """The service judges in its own process, which never needs a network."""
    script = "import sys, daemon.worker.sources; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_persons_files_by_series(spooled: list[Path], tmp_path: Path):
    """Series, and what is in none, each with its reason; sidecars are for the spool alone."""
    folder = tmp_path / "others"
    paths = write_ct_series(np.zeros(stack().shape), stack(), folder, seed="other")
    (folder / "notes.txt").write_text("no image")
    blank = Dataset()
    blank.SpecificCharacterSet = "ISO_IR 100"
    blank.save_as(folder / "directory", implicit_vr=False, little_endian=True)
    heard: list[tuple[int, int]] = []
    files = [*spooled, *paths, folder / "notes.txt", folder / "directory", folder / "gone"]
    found = find_series(files, lambda done, of: heard.append((done, of)))
    assert sorted(map(len, found.groups.values())) == [12, 12]
    assert set(found.seconds) == set(found.groups)
    assert [error.path.name for error in found.unreadable] == ["notes.txt", "directory", "gone"]
    assert str(found.unreadable[2]) == f"{folder / 'gone'}: No such file or directory"
    assert heard == [(number, len(files)) for number in range(1, len(files) + 1)]


def test_members_of_an_archive_are_said_to_be_such(tmp_path: Path):
    error = NotDicom(tmp_path / "000041", "not a DICOM file")
    assert str(name_member(error, Path("study.zip"), tmp_path)) == "study.zip: file 42 in it: not a DICOM file"
    assert name_member(error, Path("study.zip"), tmp_path / "other") is error


def test_the_syntax_of_made_series_is_known(spooled: list[Path]):
    """What these tests change was right before."""
    header = read_image_file(spooled[0]).header
    assert header.pixels and header.pixels.transfer_syntax_uid == ExplicitVRLittleEndian
