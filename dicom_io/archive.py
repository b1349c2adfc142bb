"""The files of what a user points at: one file, a folder, or a zip archive, which is unpacked with care."""

import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from dicom_io.errors import NotDicom

MAX_MEMBERS = 100_000
MAX_MEMBER_BYTES = 4 << 30
MAX_TOTAL_BYTES = 64 << 30
"""What an archive may unpack to. A long abdominal CT has some thousand members and 1 GB in all."""

UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
"""What zipfile raises on a damaged, oddly packed or encrypted member."""


def dicom_files(path: Path, workdir: Path) -> list[Path]:
    """The files behind `path`, sorted: itself, the files below a folder, or a zip's members, unpacked to `workdir`.

    Which of them are DICOM is for the reader to find out. Symbolic links below a folder or in an archive are
    ignored, as are members with an absolute path or one that leads out of the archive.

    Raises NotDicom when there is no such path, or the archive is damaged, encrypted or too large.
    """
    return [file for _, file in named_files(path, workdir)]


def named_files(path: Path, workdir: Path) -> list[tuple[PurePosixPath, Path]]:
    """Yield the same files, each with its name below `path`; that of a member may be anything. Raises NotDicom."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and not file.is_symlink())
        return [(PurePosixPath(file.relative_to(path)), file) for file in files]
    if not path.is_file():
        raise NotDicom(path, "no such file or folder")
    if zipfile.is_zipfile(path):
        return _unpacked(path, workdir)
    if path.suffix.casefold() == ".zip":
        raise NotDicom(path, "not a zip archive, or one that is cut off")
    return [(PurePosixPath(path.name), path)]


def _unpacked(path: Path, workdir: Path) -> list[tuple[PurePosixPath, Path]]:
    files = []
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if _is_plain(member)]
            if len(members) > MAX_MEMBERS:
                raise NotDicom(path, f"more than {MAX_MEMBERS} files in the archive")
            # The announced sizes bound what is written: zipfile reads no further and checks the CRC.
            if max((member.file_size for member in members), default=0) > MAX_MEMBER_BYTES:
                raise NotDicom(path, f"a file in the archive is larger than {MAX_MEMBER_BYTES >> 30} GiB")
            if sum(member.file_size for member in members) > MAX_TOTAL_BYTES:
                raise NotDicom(path, f"the archive unpacks to more than {MAX_TOTAL_BYTES >> 30} GiB")
            # Numbered, not named after the member: names may collide, hold a patient's name, or be no file name here.
            for number, member in enumerate(sorted(members, key=lambda member: member.filename)):
                target = workdir / f"{number:06d}"
                with archive.open(member) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
                files.append((_name(member), target))
    except UNREADABLE as error:
        raise NotDicom(path, "the archive is damaged or encrypted") from error
    return files


def _is_plain(member: zipfile.ZipInfo) -> bool:
    """True for a member that is a regular file with a path inside the archive."""
    name = _name(member)
    kind = member.external_attr >> 16 & 0o170000
    is_file = not member.is_dir() and kind in (0, 0o100000)
    return is_file and not name.is_absolute() and ".." not in name.parts and ":" not in name.parts[0]


def _name(member: zipfile.ZipInfo) -> PurePosixPath:
    return PurePosixPath(member.filename.replace("\\", "/"))
