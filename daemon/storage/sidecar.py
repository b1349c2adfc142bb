"""The image header of a spooled file, kept beside it when it came, so that it is parsed once.

    <name of the file>.header        one line with form, size of the file and hash of the rest: the header as JSON

A cache of bytes that never change: nothing here is fsynced, and what is missing, torn, damaged, in an older form, or of
a file of another size is read from the file itself.
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from daemon.storage.integrity import check_spooled
from dicom_io.files.image_file import ImageFile, read_image_file
from dicom_io.files.image_header import ImageHeader, from_json
from dicom_io.files.values import DAMAGED

FORM = 6
"""Counts the forms of the header; one that was written in another form is not read."""

LONGEST_AT_ONCE = 1 << 21
"""Bytes of a value that is read of each instance as it comes, of many at a time. A header that needs a longer one, as
that of more than two thousand frames does, is read when its series is looked at."""


def sidecar_path(path: Path) -> Path:
    """Return the path of the header that is kept beside a spooled file."""
    return path.with_name(f"{path.name}.header")


def write_sidecar(path: Path, header: ImageHeader, *, size: int) -> None:
    """Keep the header of the spooled file at `path` of `size` bytes. A disk that does not take it is no fault."""
    text = header.to_json()
    content = f"{_first_line(text, size)}\n{text}".encode()
    with suppress(OSError), open(sidecar_path(path), "wb", buffering=0, opener=_private) as file:
        file.write(content)


def read_spooled(path: Path) -> ImageFile:
    """Read a spooled file with its header, from beside it where possible.

    Raises FileDamaged when the file is read and is not what was received, NotDicom when it holds no data set; OSError,
    FileNotFoundError too, when the disk failed.
    """
    size = path.stat().st_size
    with suppress(*DAMAGED, OSError):
        return ImageFile(path, read_sidecar(path, size=size))
    check_spooled(path)
    return read_image_file(path)


def read_sidecar(path: Path, *, size: int) -> ImageHeader:
    """The header beside the spooled file at `path` of `size` bytes.

    Raises OSError, or ValueError or another of DAMAGED for one that is damaged, or of another form or file.
    """
    # A sender may write other file meta information before the same data set: then the pixels lie elsewhere.
    first, _, text = sidecar_path(path).read_text().partition("\n")
    if first != _first_line(text, size):
        raise ValueError("not what was kept of this file")
    return from_json(text)


def _first_line(text: str, size: int) -> str:
    return f"{FORM} {size} {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
