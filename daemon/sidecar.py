"""What a spooled file says of its images, kept beside it when it came, so that nobody parses it again.

    <name of the file>.header        one line with the form and the size of the file, then the header as JSON

A cache of bytes that never change: nothing here is fsynced, and what is missing, torn, in an older form, or of a file
of another size is read from the file itself.
"""

import os
from contextlib import suppress
from pathlib import Path

from dicom_io.image_file import ImageFile, read_image_file
from dicom_io.image_header import ImageHeader, from_json
from dicom_io.values import DAMAGED

FORM = 2
"""Counts the forms of the header; one that was written in another form is not read."""


def sidecar_path(path: Path) -> Path:
    """Where the header of a spooled file lies."""
    return path.with_name(f"{path.name}.header")


def write_sidecar(path: Path, header: ImageHeader, *, size: int) -> None:
    """Keep the header of the spooled file at `path` of `size` bytes. A disk that does not take it is no fault."""
    content = f"{FORM} {size}\n{header.to_json()}".encode()
    with suppress(OSError), open(sidecar_path(path), "wb", buffering=0, opener=_private) as file:
        file.write(content)


def read_spooled(path: Path) -> ImageFile:
    """The spooled file with its header, from beside it where that can be.

    Raises NotDicom when the file holds no data set; OSError, FileNotFoundError too, when the disk failed.
    """
    # A sender may write other file meta information before the same data set: then the pixels lie elsewhere.
    wanted = f"{FORM} {path.stat().st_size}"
    try:
        first, _, text = sidecar_path(path).read_text().partition("\n")
        if first == wanted:
            return ImageFile(path, from_json(text))
    except (*DAMAGED, OSError):
        pass
    return read_image_file(path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
