"""A small phantom, and the files that collections keep their cases in, made from it or from real data at test time."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from imagecodecs import png_encode
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from dicom_io.files.image_writer import write_ct_series
from dicom_io.geometry import Geometry
from dicom_io.volume import Volume
from models.phantom import grid, make_phantom


@dataclass(frozen=True, eq=False)
class Drawn:
    """An image and its classes (0, 1, 2) on one grid."""

    volume: Volume
    truth: NDArray[np.uint8]

    @property
    def geometry(self) -> Geometry:
        return self.volume.geometry


@pytest.fixture(scope="session")
def drawn() -> Drawn:
    """A phantom with lesions, on a coarse grid: 24 slices of 60 x 64."""
    geometry = grid(slices=24, rows=60, columns=64, spacing_mm=(10.0, 6.0, 6.0), seed=4)
    phantom = make_phantom(geometry, seed=4, lesions=4)
    assert set(np.unique(phantom.truth)) == {0, 1, 2}
    return Drawn(phantom.volume, phantom.truth)


@pytest.fixture
def save_nifti() -> Callable[..., Path]:
    return _save_nifti


def _save_nifti(array: NDArray[Any], geometry: Geometry, path: Path, affine: NDArray[np.float64] | None = None) -> Path:
    """An array (slice, row, column) as NIfTI, its axes (column, row, slice); `affine` may lie about where it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if affine is None:
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ geometry.affine[:, [2, 1, 0, 3]]
    image = Nifti1Image(array.transpose(2, 1, 0), affine)
    image.set_sform(affine, code="scanner")
    nib.save(image, path)
    return path


@pytest.fixture
def save_pair(drawn: Drawn) -> Callable[[Path, Path], None]:
    """Write the phantom and its truth to two paths."""

    def save(image: Path, truth: Path) -> None:
        _save_nifti(np.asarray(drawn.volume.array), drawn.geometry, image)
        _save_nifti(drawn.truth, drawn.geometry, truth)

    return save


@pytest.fixture
def save_series() -> Callable[..., list[Path]]:
    """Write a CT series, its files named by `name(index)`."""

    def save(volume: Volume, folder: Path, name: Callable[[int], str] = lambda index: f"image_{index}") -> list[Path]:
        paths = write_ct_series(volume.array, volume.geometry, folder, seed=folder.name)
        return [path.rename(folder / name(index)) for index, path in enumerate(paths)]

    return save


@pytest.fixture
def save_masks() -> Callable[..., None]:
    """Write masks (slice, row, column) as 8-bit secondary captures of 0 and 255, a file for each slice."""

    def save(mask: NDArray[np.bool_], geometry: Geometry, folder: Path, numbers: Iterable[int], placed: bool) -> None:
        folder.mkdir(parents=True)
        for number, index in zip(numbers, range(len(mask)), strict=True):
            ds = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=bytes(128))
            ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = SecondaryCaptureImageStorage
            ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
            ds.SeriesInstanceUID = ds.StudyInstanceUID = "1.2.3"
            ds.Modality = "OT"
            ds.Rows, ds.Columns = mask.shape[1:]
            ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
            ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
            if placed:
                ds.ImagePositionPatient = [f"{value:.6f}" for value in geometry.origins_lps_mm[index]]
            ds.PixelData = (mask[index] * np.uint8(255)).tobytes()
            ds["PixelData"].VR = "OB"
            ds.save_as(folder / f"image_{number}")

    return save


@pytest.fixture
def save_pngs() -> Callable[[Iterable[NDArray[np.bool_]], Path], None]:
    """Write masks as `liver_GT_000.png`, … in the order given."""

    def save(masks: Iterable[NDArray[np.bool_]], folder: Path, white: int = 255) -> None:
        folder.mkdir(parents=True)
        for number, mask in enumerate(masks):
            (folder / f"liver_GT_{number:03d}.png").write_bytes(png_encode(mask * np.uint8(white)))

    return save
