"""Image volumes of cases, read from DICOM files or NIfTI."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from dicom_io.archive import named_files
from dicom_io.errors import NotDicom
from dicom_io.files.image_file import ImageFile, read_image_file
from dicom_io.nifti import read_nifti
from dicom_io.series.series import Series, arrange
from dicom_io.volume import Volume
from models.datasets.sources import files_below
from models.errors import CaseUnreadable

NamedFiles = list[tuple[PurePosixPath, Path]]


@contextmanager
def unpack(path: Path) -> Iterator[NamedFiles]:
    """The files of a folder or archive with their names in it, while the context lasts. Raises NotDicom.

    Links in a folder are followed, as discovery does it: a data set may be linked into place.
    """
    if path.is_dir():
        yield [(PurePosixPath(file.relative_to(path)), file) for file in files_below(path)]
        return
    with TemporaryDirectory(prefix="porta-case-") as workdir:
        yield named_files(path, Path(workdir))


def image_files(paths: Sequence[Path], said: Path) -> list[ImageFile]:
    """The DICOM files among `paths`; others (a DICOMDIR, notes) are passed over. Raises CaseUnreadable for none."""
    files = []
    for path in paths:
        try:
            file = read_image_file(path)
        except NotDicom:
            continue
        if file.header.pixels is not None:
            files.append(file)
    if not files:
        raise CaseUnreadable(f"{said}: holds no DICOM images")
    return files


def open_images(paths: Sequence[Path], said: Path) -> Series:
    """The volumes of the DICOM images among `paths`. Raises CaseUnreadable, SeriesRejected."""
    return arrange(image_files(paths, said))


def nifti_image(path: Path, modality: str) -> Volume:
    """A NIfTI image, of the modality that its collection states. Raises CaseUnreadable, NotNifti."""
    if not path.is_file():
        raise CaseUnreadable(f"{path}: no such file")
    volume = read_nifti(path)
    return volume if volume.modality == modality else replace(volume, modality=modality)
