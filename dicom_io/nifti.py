"""NIfTI images and label volumes, in and out: RAS outside, LPS and (slice, row, column) inside.

An image is placed by its sform or, without one, its qform (nibabel's order). Arrays keep their voxels: axes are
permuted so that slices follow the patient's long axis as closely as they can, rows and columns the other two; the
slice axis alone is turned round where the Geometry's law (slices grow along row x column cosines) wants it.
"""

import gzip
import zlib
from itertools import permutations
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Image
from nibabel.spatialimages import HeaderDataError, SpatialImage
from numpy.typing import NDArray

from dicom_io.errors import NotNifti
from dicom_io.files.uids import derive_uid
from dicom_io.geometry import COSINE_TOLERANCE, Float, Geometry, from_affine
from dicom_io.sizes import check_size
from dicom_io.volume import Volume

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

GRID_TOLERANCE = 0.1
"""How far, in voxels, corresponding voxel centres of two grids may lie apart and still be the same grid."""

STACK_TOLERANCE_MM = 0.05
"""How far a slice may lie from where an affine of the whole stack has it (positions carry two decimals)."""

MOST_FRACTION = 65535
"""What stands for 1 where fractions are stored as uint16."""

SHEARED = "the image is sheared, its axes are not at right angles; give the DICOM series of a tilted gantry instead"

UNREADABLE = (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, gzip.BadGzipFile, zlib.error)
"""What nibabel raises on a file that is no image, is cut off or is damaged."""


def read_nifti(path: Path) -> Volume:
    """Read a 3-D NIfTI image as a Volume, int16 where every value fits exactly, else float32.

    A fourth axis of one time point is no axis. Values are HU if the file's author wrote a CT: NIfTI does not say. The
    Volume's `modality` is therefore CT, its SeriesInstanceUID is derived from the file name, and it names no source
    images.

    Raises NotNifti for a file that is no NIfTI, is not 3-D (a 4-D one is several volumes), has no orientation, is
    sheared, or holds values that are not finite; SeriesRejected(IMPOSSIBLE_SIZE) for millimetres that no patient has.
    """
    image = _load(path)
    places = _lps_affine(image, path)
    shown, affine = _as_stack(np.broadcast_to(np.uint8(0), image.shape[:3]), places.copy())
    uid = derive_uid("nifti", path.name)
    try:
        geometry = from_affine(affine, shown.shape, derive_uid("nifti-frame-of-reference", path.name))
    except ValueError as error:
        raise NotNifti(f"{path}: {SHEARED}") from error
    if geometry.is_tilted:
        raise NotNifti(f"{path}: {SHEARED}")
    check_size(geometry)  # before a voxel is read
    values = _values(image, path)
    if not np.isfinite(values).all():
        raise NotNifti(f"{path}: holds values that are not finite")
    array, _ = _as_stack(values, places)
    return Volume(array=_narrowed(array), geometry=geometry, modality="CT", series_instance_uid=uid)


def write_labels(labels: NDArray[np.uint8], geometry: Geometry, path: Path) -> None:
    """Write labels (slice, row, column) on `geometry` as a uint8 NIfTI, its axes (column, row, slice).

    A tilted stack gets a sheared sform and no qform, which cannot hold a shear. Raises ValueError when the labels do
    not fill the geometry, or its slices are not evenly spaced: see `has_affine`.
    """
    if labels.shape != geometry.shape:
        raise ValueError(f"labels are {labels.shape}, their geometry {geometry.shape}")
    _write(labels.astype(np.uint8), geometry, path)


def write_image(array: NDArray[np.int16] | NDArray[np.float32], geometry: Geometry, path: Path) -> None:
    """Write values (slice, row, column) on `geometry` as an int16 NIfTI, placed as `write_labels` places labels.

    Fractions are rounded. Raises ValueError when the values do not fill the geometry, or its slices are not even.
    """
    if array.shape != geometry.shape:
        raise ValueError(f"array is {array.shape}, its geometry {geometry.shape}")
    _write(np.rint(array).astype(np.int16), geometry, path)


def write_fractions(values: NDArray[np.float32], first: int, geometry: Geometry, path: Path) -> None:
    """Write values from 0 to 1 (slice, row, column), the first of them on slice `first`, placed as labels are.

    Stored as uint16 with a slope of 1/65535, which readers apply; slices beyond the values are 0. Raises ValueError
    when the values reach beyond the geometry, or its slices are not even.
    """
    last = first + len(values)
    if values.shape[1:] != geometry.shape[1:] or first < 0 or last > geometry.slices:
        raise ValueError(f"values are {values.shape} from slice {first}, the geometry {geometry.shape}")
    stored = np.zeros(geometry.shape, np.uint16)
    stored[first:last] = np.rint(values * MOST_FRACTION)
    _write(stored, geometry, path, slope=1 / MOST_FRACTION)


def _write(
    array: NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.int16],
    geometry: Geometry,
    path: Path,
    *,
    slope: float | None = None,
) -> None:
    if not has_affine(geometry):
        raise ValueError("an uneven stack has no affine")
    affine = RAS_TO_LPS @ _stack_affine(geometry)[:, [2, 1, 0, 3]]
    image: Any = Nifti1Image(array.transpose(2, 1, 0), affine)  # type: ignore[no-untyped-call]
    image.set_sform(affine, code="scanner")
    if geometry.is_tilted:
        image.set_qform(None, code="unknown")
    else:
        image.set_qform(affine, code="scanner")
    image.header.set_xyzt_units("mm")
    if slope is not None:
        image.header.set_slope_inter(slope, 0.0)  # with one of our own, nibabel stores the values as they are
    nib.save(image, path)


def has_affine(geometry: Geometry) -> bool:
    """True where one affine, sheared or not, places all slices: they are even, and drift evenly if they drift."""
    if not geometry.is_even:
        return False
    ideal = np.linspace(geometry.origins_lps_mm[0], geometry.origins_lps_mm[-1], geometry.slices)
    return bool(np.abs(geometry.origins_lps_mm - ideal).max() <= STACK_TOLERANCE_MM)


def _stack_affine(geometry: Geometry) -> Float:
    """(4, 4) from (slice, row, column, 1) to LPS mm; the slice axis goes where the first pixels go."""
    if geometry.is_regular:
        return geometry.affine
    matrix = np.eye(4)
    matrix[:3, 0] = (geometry.origins_lps_mm[-1] - geometry.origins_lps_mm[0]) / (geometry.slices - 1)
    matrix[:3, 1] = geometry.column_cosines * geometry.row_spacing_mm
    matrix[:3, 2] = geometry.row_cosines * geometry.column_spacing_mm
    matrix[:3, 3] = geometry.origins_lps_mm[0]
    return matrix


def read_labels(path: Path, geometry: Geometry) -> NDArray[np.uint8]:
    """Read labels (slice, row, column) of a NIfTI file that lies on the grid of `geometry`, in any order of axes.

    The voxels are placed by the file's own affine, never by their order. (The truth masks of ../shared/data may be
    read so: their affines agree with their series within 0.01 voxel. LiTS 0's file counts its slices upward, its
    series, whose rows run back to front, downward: the affines say so, and the slices are turned round here.)

    Raises NotNifti when the file is no label volume on this grid; ValueError when the geometry is not regular.
    """
    image = _load(path)
    values = _values(image, path)
    # From the file's index to the geometry's: for the same grid, a permutation with signs, and an offset.
    to_index = np.linalg.inv(geometry.affine) @ _lps_affine(image, path)
    order = np.argmax(np.abs(to_index[:3, :3]), axis=1)
    if sorted(order) != [0, 1, 2]:
        raise NotNifti(f"{path}: does not lie on the grid of the series")
    array = values.transpose(order)
    steps = to_index[[0, 1, 2], order]
    array = array[tuple(slice(None, None, -1 if step < 0 else 1) for step in steps)]
    if array.shape != geometry.shape or not _same_corners(to_index, values.shape, geometry.shape):
        raise NotNifti(f"{path}: does not lie on the grid of the series")
    return _as_labels(array, path)


def read_labels_like(path: Path, image: Path) -> NDArray[np.uint8]:
    """Read labels (slice, row, column) in the voxel order of another file, whatever their own affine says.

    For collections whose masks lost their place, and are voxel by voxel those of their image; who calls this must
    prove it. Raises NotNifti when either is no NIfTI image, or their shapes differ.
    """
    values, like = _values(_load(path), path), _load(image)
    if values.shape != like.shape[:3]:
        raise NotNifti(f"{path}: is {_times(values.shape)} voxels, its image {_times(like.shape[:3])}")
    return _as_labels(_as_stack(values, _lps_affine(like, image))[0], path)


def _as_labels(array: NDArray[np.generic], path: Path) -> NDArray[np.uint8]:
    labels = array.astype(np.uint8)
    if not np.array_equal(labels, array):
        raise NotNifti(f"{path}: holds values that are no labels from 0 to 255")
    return np.ascontiguousarray(labels)


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _load(path: Path) -> SpatialImage:
    try:
        image = nib.load(path)
    except UNREADABLE as error:
        raise NotNifti(f"{path}: not a NIfTI image") from error
    if not isinstance(image, Nifti1Image):  # NIfTI-2 is a subclass; Analyze and others carry no safe orientation
        raise NotNifti(f"{path}: not a NIfTI image")
    if len(_without_ones(image.shape)) != 3 or 0 in image.shape:
        raise NotNifti(f"{path}: not a 3-D image, its shape is {_times(image.shape)}")
    return image


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The first three lengths, and those of the others that are not 1."""
    return shape[:3] + tuple(length for length in shape[3:] if length != 1)


def _values(image: SpatialImage, path: Path) -> NDArray[np.generic]:
    """The scaled values, integers where the file holds integers that need no scaling."""
    try:
        values = np.asanyarray(image.dataobj)
    except UNREADABLE as error:
        raise NotNifti(f"{path}: the voxels cannot be read") from error
    if values.dtype.kind not in "iuf":
        raise NotNifti(f"{path}: holds no plain numbers")
    return values.reshape(values.shape[:3])


def _lps_affine(image: SpatialImage, path: Path) -> Float:
    """(4, 4) from the file's own index to LPS mm."""
    header: Any = image.header
    if not header["sform_code"] and not header["qform_code"]:
        raise NotNifti(f"{path}: says nothing about its orientation, so left and right cannot be told apart")
    affine = RAS_TO_LPS @ np.asarray(image.affine, dtype=np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise NotNifti(f"{path}: its affine places no volume")
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if np.abs(directions.T @ directions - np.eye(3)).max() > 10 * COSINE_TOLERANCE:
        raise NotNifti(f"{path}: {SHEARED}")
    return affine


def _as_stack(values: NDArray[np.generic], affine: Float) -> tuple[NDArray[np.generic], Float]:
    """The array as (slice, row, column), and its affine: slices nearest the patient's long axis, right-handed."""
    directions = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    # LPS z for slices, y for rows, x for columns: the assignment of axes with the largest sum of cosines.
    order = max(
        permutations(range(3)),
        key=lambda axes: directions[2, axes[0]] + directions[1, axes[1]] + directions[0, axes[2]],
    )
    array = values.transpose(order)
    stacked = affine[:, [*order, 3]]
    normal = np.cross(stacked[:3, 2], stacked[:3, 1])  # row cosines x column cosines
    if normal @ stacked[:3, 0] < 0:
        stacked[:3, 3] += stacked[:3, 0] * (array.shape[0] - 1)
        stacked[:3, 0] *= -1
        array = array[::-1]
    return array, stacked


def _same_corners(to_index: Float, shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """True where the corner voxels of one grid fall on corner voxels of the other."""
    corners = np.array(np.meshgrid(*[[0, size - 1] for size in shape], indexing="ij")).reshape(3, -1)
    index = (to_index[:3, :3] @ corners).T + to_index[:3, 3]
    last = np.array(target) - 1
    return bool(np.minimum(np.abs(index), np.abs(index - last)).max() <= GRID_TOLERANCE)


def _narrowed(values: NDArray[np.generic]) -> NDArray[np.int16] | NDArray[np.float32]:
    """int16 where that loses nothing, else float32; contiguous."""
    low, high = float(values.min()), float(values.max())
    if np.iinfo(np.int16).min <= low and high <= np.iinfo(np.int16).max:
        whole = values.astype(np.int16)
        if np.array_equal(whole, values):
            return np.ascontiguousarray(whole)
    return np.ascontiguousarray(values, dtype=np.float32)
