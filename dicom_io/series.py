"""The files of one series, put in order and read as one Volume, or refused with a RejectReason.

Axial CT of single-frame images on a regular stack is read; whatever else comes is named and refused.
"""

import struct
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.errors import BytesLengthException, InvalidDicomError

from dicom_io.errors import NotDicom, RejectReason, SeriesRejected
from dicom_io.geometry import Geometry, is_orthonormal
from dicom_io.uids import derive_uid
from dicom_io.volume import Volume

MIN_SLICES = 5
MIN_EXTENT_MM = 50.0
"""A stack shorter than this along its normal cannot hold a liver worth measuring."""
MIN_AXIAL_COSINE = 0.8
"""The least cosine between the normal and the patient's long axis for a series to count as axial."""
ORIENTATION_TOLERANCE = 1e-3
"""How far the orientation cosines of two images may differ and still be the same plane direction."""

NO_FRAME_OF_REFERENCE = "NO_FRAME_OF_REFERENCE"
LEFT_OUT = "LEFT_OUT"

DECODED_BY_SIMPLEITK = frozenset(f"1.2.840.10008.1.2.4.{process}" for process in (51, 52, 53, 55))
"""JPEG processes (2/4, 3/5, 6/8, 10/12) that no plugin of pydicom decodes with 12 bits; SimpleITK's values are
rescaled."""

NEEDED = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "Modality", "ImageType"),
    *("NumberOfFrames", "Rows", "Columns", "FrameOfReferenceUID", "PixelSpacing"),
    *("ImagePositionPatient", "ImageOrientationPatient"),
)
"""The attributes that a series is arranged by."""

DAMAGED = (
    *(InvalidDicomError, BytesLengthException, EOFError, ValueError, TypeError, LookupError, AttributeError),
    *(RuntimeError, ArithmeticError, AssertionError, struct.error, zlib.error),
)
"""What pydicom and its decoders raise on bytes that are no data set, or a damaged one (found by changing bytes of
files at random, 20 000 times). NotImplementedError is a RuntimeError; a decoder's own errors come as RuntimeError."""

DECODE_THREADS = 2


@dataclass(frozen=True, eq=False)
class Series:
    """Single-frame images in slice order along `geometry.normal`, and where they lie.

    `headers` are the data sets without pixel data, `paths` their files. `left_out` counts images of the
    series that are no part of the volume (localizers). `warnings` are codes for the report.
    """

    headers: tuple[Dataset, ...]
    paths: tuple[Path, ...]
    geometry: Geometry
    left_out: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def series_instance_uid(self) -> str:
        """SeriesInstanceUID of all its images."""
        return str(self.headers[0].SeriesInstanceUID)

    @property
    def sop_instance_uids(self) -> tuple[str, ...]:
        """SOPInstanceUID of each image, in slice order."""
        return tuple(str(header.SOPInstanceUID) for header in self.headers)


def read_header(path: Path) -> Dataset:
    """The data set of a DICOM file without its pixel data. Raises NotDicom when there is none to read.

    OSError goes through when the disk failed, as it says nothing about the file.
    """
    try:
        header = dcmread(path, stop_before_pixels=True)
        for keyword in NEEDED:  # values are decoded when first asked for: a damaged one shows here, not later
            header.get(keyword)
    except (*DAMAGED, OSError) as error:
        if _is_of_the_disk(error):
            raise
        raise NotDicom(path) from error
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        if not header.get(keyword):
            raise NotDicom(path, f"no {keyword}")
    return header


def open_series(paths: Sequence[Path]) -> Series:
    """Read the headers of one series' files and arrange them. Raises NotDicom, or SeriesRejected."""
    with ThreadPoolExecutor(DECODE_THREADS) as pool:
        return arrange(list(pool.map(read_header, paths)), paths)


def arrange(headers: Sequence[Dataset], paths: Sequence[Path]) -> Series:
    """Sort the images of one series into a regular axial stack. Raises SeriesRejected with the reason.

    Slices are sorted by the projection of ImagePositionPatient on the normal (PS3.3 section C.7.6.2.1.1),
    never by InstanceNumber or file name.
    """
    images = [(header, path) for header, path in zip(headers, paths, strict=True) if "Rows" in header]
    if not images:
        raise SeriesRejected(RejectReason.NOT_IMAGES)
    if any(header.get("Modality") != "CT" for header, _ in images):
        raise SeriesRejected(RejectReason.NOT_CT)
    if any(int(header.get("NumberOfFrames") or 1) > 1 for header, _ in images):
        raise SeriesRejected(RejectReason.MULTIFRAME)
    sliced = [(header, path) for header, path in images if not _is_localizer(header)]
    if not sliced:
        raise SeriesRejected(RejectReason.LOCALIZER_ONLY)
    left_out = len(headers) - len(sliced)
    if len(sliced) < MIN_SLICES:
        raise SeriesRejected(RejectReason.TOO_FEW_SLICES, f"{len(sliced)} of at least {MIN_SLICES}.")

    planes = [_plane(header) for header, _ in sliced]
    first = planes[0]
    if any(np.abs(plane.orientation - first.orientation).max() > ORIENTATION_TOLERANCE for plane in planes):
        raise SeriesRejected(RejectReason.MIXED_ORIENTATION)
    if any(plane.grid != first.grid for plane in planes):
        raise SeriesRejected(RejectReason.MIXED_GRID)
    normal = np.cross(first.orientation[:3], first.orientation[3:])
    if abs(normal[2]) < MIN_AXIAL_COSINE:
        raise SeriesRejected(RejectReason.NOT_AXIAL)

    positions = np.array([plane.origin @ normal for plane in planes])
    order = np.argsort(positions, kind="stable")
    if np.diff(positions[order]).min() < 1e-3:
        raise SeriesRejected(RejectReason.DUPLICATE_POSITIONS)
    frame_of_reference, warnings = first.frame_of_reference_uid, []
    if not frame_of_reference:
        frame_of_reference = derive_uid("frame-of-reference", str(sliced[0][0].SeriesInstanceUID))
        warnings.append(NO_FRAME_OF_REFERENCE)
    if left_out:
        warnings.append(LEFT_OUT)
    geometry = Geometry(
        origins_lps_mm=np.array([planes[i].origin for i in order]),
        row_cosines=first.orientation[:3],
        column_cosines=first.orientation[3:],
        row_spacing_mm=first.row_spacing_mm,
        column_spacing_mm=first.column_spacing_mm,
        rows=first.rows,
        columns=first.columns,
        frame_of_reference_uid=frame_of_reference,
    )
    if not geometry.is_even:
        gaps = np.diff(geometry.positions_mm)
        detail = f"From {gaps.min():.2f} to {gaps.max():.2f} mm."
        raise SeriesRejected(RejectReason.UNEVEN_SPACING, detail)
    if geometry.is_tilted:
        raise SeriesRejected(RejectReason.TILT, f"{geometry.tilt_degrees:.1f} degrees.")
    if geometry.step_mm * geometry.slices < MIN_EXTENT_MM:
        raise SeriesRejected(RejectReason.TOO_SHORT, f"{geometry.step_mm * geometry.slices:.0f} mm.")
    return Series(
        headers=tuple(sliced[i][0] for i in order),
        paths=tuple(sliced[i][1] for i in order),
        geometry=geometry,
        left_out=left_out,
        warnings=tuple(warnings),
    )


def read_volume(series: Series, progress: Callable[[int, int], None] | None = None) -> Volume:
    """Decode the pixels of a series and rescale them, slice by slice, to HU.

    Integers stay int16 where every value fits exactly; else float32. Raises SeriesRejected(UNREADABLE_PIXELS).
    """
    array: NDArray[np.int16] | NDArray[np.float32] = np.empty(series.geometry.shape, dtype=np.int16)
    with ThreadPoolExecutor(DECODE_THREADS) as pool:
        for index, plane in enumerate(pool.map(_read_plane, series.paths)):
            if plane.shape != series.geometry.shape[1:]:
                raise SeriesRejected(RejectReason.UNREADABLE_PIXELS, "The pixels do not fill the image.")
            if plane.dtype != array.dtype and array.dtype == np.int16:
                array = array.astype(np.float32)
            array[index] = plane
            if progress:
                progress(index + 1, series.geometry.slices)
    return Volume(
        array=array,
        geometry=series.geometry,
        modality=str(series.headers[0].Modality),
        series_instance_uid=series.series_instance_uid,
        sop_instance_uids=series.sop_instance_uids,
        warnings=series.warnings,
    )


def group_by_series(paths: Sequence[Path]) -> tuple[dict[str, list[tuple[Dataset, Path]]], list[NotDicom]]:
    """Headers and files by SeriesInstanceUID, each SOP instance once, and what could not be read."""
    groups: dict[str, list[tuple[Dataset, Path]]] = {}
    seen: set[str] = set()
    unreadable: list[NotDicom] = []
    for path in paths:
        try:
            header = read_header(path)
        except NotDicom as error:
            unreadable.append(error)
            continue
        if header.SOPInstanceUID not in seen:
            seen.add(header.SOPInstanceUID)
            groups.setdefault(str(header.SeriesInstanceUID), []).append((header, path))
    return groups, unreadable


@dataclass(frozen=True, eq=False)
class _Plane:
    origin: NDArray[np.float64]
    orientation: NDArray[np.float64]
    row_spacing_mm: float
    column_spacing_mm: float
    rows: int
    columns: int
    frame_of_reference_uid: str

    @property
    def grid(self) -> tuple[float, float, int, int, str]:
        return (
            round(self.row_spacing_mm, 4),
            round(self.column_spacing_mm, 4),
            self.rows,
            self.columns,
            self.frame_of_reference_uid,
        )


def _plane(header: Dataset) -> _Plane:
    """Position, orientation and grid of one image. Raises SeriesRejected(NO_POSITION) when they are unusable."""
    try:
        origin = np.array([float(value) for value in header.ImagePositionPatient])
        orientation = np.array([float(value) for value in header.ImageOrientationPatient])
        row_spacing, column_spacing = (float(value) for value in header.PixelSpacing)
        rows, columns = int(header.Rows), int(header.Columns)
    except (AttributeError, TypeError, ValueError) as error:
        raise SeriesRejected(RejectReason.NO_POSITION) from error
    usable = (
        origin.shape == (3,)
        and np.isfinite(origin).all()
        and orientation.shape == (6,)
        and is_orthonormal(orientation[:3], orientation[3:])
        and 0 < row_spacing < np.inf
        and 0 < column_spacing < np.inf
    )
    if not usable:
        raise SeriesRejected(RejectReason.NO_POSITION)
    frame_of_reference = str(header.get("FrameOfReferenceUID") or "")
    return _Plane(origin, orientation, row_spacing, column_spacing, rows, columns, frame_of_reference)


def _is_localizer(header: Dataset) -> bool:
    return "LOCALIZER" in [str(value).upper() for value in (header.get("ImageType") or [])]


def _read_plane(path: Path) -> NDArray[np.int16] | NDArray[np.float32]:
    """Rescaled pixels (row, column) of one single-frame file: int16 when exact, else float32."""
    try:
        ds = dcmread(path)
        if ds.file_meta.TransferSyntaxUID in DECODED_BY_SIMPLEITK:
            return _narrowed(sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0])
        if int(ds.get("SamplesPerPixel") or 1) != 1:
            raise SeriesRejected(RejectReason.UNREADABLE_PIXELS, "A colour image.")
        stored = ds.pixel_array
        slope, intercept = _number(ds, "RescaleSlope", 1.0), _number(ds, "RescaleIntercept", 0.0)
    except (*DAMAGED, OSError) as error:
        if _is_of_the_disk(error):
            raise
        raise SeriesRejected(RejectReason.UNREADABLE_PIXELS) from error
    if not np.isfinite([slope, intercept]).all():
        raise SeriesRejected(RejectReason.UNREADABLE_PIXELS, "The rescale values are no numbers.")
    if slope == int(slope) and intercept == int(intercept):
        return _narrowed(stored.astype(np.int32) * int(slope) + int(intercept))
    return (stored * np.float32(slope) + np.float32(intercept)).astype(np.float32)


def _is_of_the_disk(error: Exception) -> bool:
    """Whether an error is the operating system's, which says nothing about the file; pydicom's own have no errno."""
    return isinstance(error, OSError) and error.errno is not None and not isinstance(error, IsADirectoryError)


def _narrowed(values: NDArray[np.generic]) -> NDArray[np.int16] | NDArray[np.float32]:
    low, high = float(values.min()), float(values.max())
    integral = np.issubdtype(values.dtype, np.integer)
    if integral and low >= np.iinfo(np.int16).min and high <= np.iinfo(np.int16).max:
        return values.astype(np.int16)
    return values.astype(np.float32)


def _number(ds: Dataset, keyword: str, default: float) -> float:
    value = ds.get(keyword)
    return default if value is None or value == "" else float(value)
