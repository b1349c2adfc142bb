"""The files behind a series, judged from their headers alone: by the service, and for a person. No torch, no pixels."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from daemon.storage.integrity import check_spooled
from daemon.storage.sidecar import read_spooled
from dicom_io.errors import NotDicom, RejectReason, SeriesRejected
from dicom_io.files.image_file import ImageFile, read_image_file
from dicom_io.geometry import Geometry
from dicom_io.pixel_format import check_pixels
from dicom_io.progress import Progress, ignore_progress
from dicom_io.series.series import Series, arrange
from dicom_io.series.stacks import Stack
from models.memory import required_memory_mb

MEMORY_SHARE = 0.8
"""Of a machine's memory, what Porta may use where nothing is configured; the rest is for the system and the service."""

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""What a container may use, which the machine's own figure does not say."""


def open_spooled(paths: Sequence[Path], memory_mb: int | None) -> Series:
    """The series that lies in the spool, if it can be segmented within `memory_mb` (None: what the machine has).

    Judged from headers: no pixel is read. Raises SeriesRejected, NotDicom, FileDamaged, FileNotFoundError.
    """
    series = arrange([read_spooled(path) for path in paths])
    refuse_unfit(series, memory_mb)
    return series


def spooled_series(paths: Sequence[Path]) -> Series:
    """The same for a stage, which reads pixels: of files that hold what was received, without that judgement.

    Raises FileDamaged, SeriesRejected, NotDicom, FileNotFoundError.
    """
    for path in paths:
        check_spooled(path)
    return arrange([read_spooled(path) for path in paths])


def refuse_unfit(series: Series, memory_mb: int | None) -> None:
    """Raise SeriesRejected where no volume has pixels that can be read, or the largest one needs too much memory."""
    foretold = [error for stack in series.stacks if (error := foretold_by_headers(stack))]
    if len(foretold) == len(series.stacks):
        raise foretold[0]
    refuse_too_large([stack.geometry for stack in series.stacks], memory_mb)


def refuse_too_large(geometries: Sequence[Geometry], memory_mb: int | None) -> None:
    """Raise SeriesRejected(TOO_LARGE) where the largest volume needs more than `memory_mb` (None: the machine's)."""
    available = usable_memory_mb() if memory_mb is None else memory_mb
    needed = max(
        required_memory_mb(each.shape, (each.rows * each.row_spacing_mm, each.columns * each.column_spacing_mm))
        for each in geometries
    )
    if needed > available:
        raise SeriesRejected(RejectReason.TOO_LARGE, f"It needs {needed} MB, there are {available}.")


def foretold_by_headers(stack: Stack) -> SeriesRejected | None:
    """Return why the pixels of a volume cannot be read (UNSUPPORTED_SYNTAX, UNREADABLE_PIXELS), as headers tell it."""
    try:
        check_pixels(stack)
    except SeriesRejected as error:
        return error
    return None


def usable_memory_mb() -> int:
    """Return the megabytes that Porta may use: a share of the machine's memory, or of the container's."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = int(CGROUP_LIMIT.read_text())
    except (OSError, ValueError):  # no such file, or "max"
        limit = machine
    return int(MEMORY_SHARE * min(machine, limit)) // 2**20


@dataclass
class Found:
    """The content of a person's files: series by SeriesInstanceUID, the seconds that each took, and the rest."""

    groups: dict[str, list[ImageFile]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    unreadable: list[NotDicom] = field(default_factory=list)


def find_series(paths: Sequence[Path], progress: Progress = ignore_progress) -> Found:
    """Read the headers of all files. What cannot be read is in `unreadable`."""
    found = Found()
    for number, path in enumerate(paths, start=1):
        started = time.perf_counter()
        try:
            file = _object_of_a_series(path)
        except NotDicom as error:
            found.unreadable.append(error)
        else:
            uid = file.header.series_instance_uid
            found.groups.setdefault(uid, []).append(file)
            found.seconds[uid] = found.seconds.get(uid, 0.0) + time.perf_counter() - started
        progress(number, len(paths))
    return found


def name_member(error: NotDicom, source: Path, workdir: Path) -> NotDicom:
    """Return the error with the path that the person gave: for a member of an archive, that of the archive."""
    if not error.path.is_relative_to(workdir):
        return error
    return NotDicom(source, f"file {int(error.path.name) + 1} in it: {error.why}")


def _object_of_a_series(path: Path) -> ImageFile:
    """Raises NotDicom also for what the disk does not give, and for what is in no series, as a DICOMDIR."""
    try:
        file = read_image_file(path)
    except OSError as error:
        raise NotDicom(path, error.strerror or "cannot be read") from error
    header = file.header
    if not (header.series_instance_uid or header.sop_instance_uid or header.modality or header.pixels):
        raise NotDicom(path, "an object that belongs to no series")
    return file
