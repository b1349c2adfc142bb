"""Files that are there in full or as they were before: written under another name, then renamed.

A process that is killed meanwhile leaves the file under that other name; the next one writes over it.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


def part_of(path: Path) -> Path:
    """The name that a file bears while it is written: beside the one that it will take, and hidden."""
    return path.with_name(f".{path.name}.part")


@contextmanager
def open_whole(path: Path, *, part: Path | None = None, mode: int = 0o666, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a file that replaces the one at `path` when the block ends; when it raises, nothing of it is left.

    `part` is where it is written, on the same file system; `mode`, less the umask, holds from its first byte on. Once a
    `durable` one is in place, its bytes and its name are on the disk. Raises OSError.
    """
    part = part or part_of(path)
    with ExitStack() as leftovers:
        leftovers.callback(_remove, part)
        with open(part, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        rename_whole(part, path, durable=durable)
        leftovers.pop_all()


def write_whole(path: Path, content: bytes | memoryview, *, durable: bool = True) -> None:
    """Write `content` as `open_whole` does. Raises OSError."""
    with open_whole(path, durable=durable) as file:
        file.write(content)


def rename_whole(part: Path, path: Path, *, durable: bool = True) -> None:
    """Give a written file its name, in place of what bore it; of a `durable` one that is on the disk afterwards."""
    part.replace(path)
    if durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(part: Path) -> None:
    # On a disk that has gone read-only nothing can be removed, and nothing was written.
    with suppress(OSError):
        part.unlink(missing_ok=True)
