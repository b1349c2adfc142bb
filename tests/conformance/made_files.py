"""How the made series are written: a volume with known voxels, as files of one slice each or as an Enhanced image.

Files are named and numbered in no order of space, so that nobody can lean on either.
"""

import hashlib
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, FileDataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    MRImageStorage,
    SecondaryCaptureImageStorage,
)

from dicom_io.files.image_writer import decimal_string, write_ct_series
from dicom_io.files.uids import derive_uid
from dicom_io.geometry import Geometry

Change = Callable[[Dataset, int], None]

BRIGHT_HU = 3000
"""The labelled point; no other voxel comes near."""

AXIAL = (1, 0, 0, 0, 1, 0)
SAGITTAL = (0, 1, 0, 0, 0, -1)
CORONAL = (1, 0, 0, 0, 0, -1)


@dataclass(frozen=True, eq=False)
class Made:
    """A volume as it was written: values (slice, row, column) in slice order, and the index of its brightest voxel."""

    array: NDArray[np.float32]
    geometry: Geometry
    bright: tuple[int, int, int]

    @property
    def bright_lps_mm(self) -> NDArray[np.float64]:
        """Where the brightest voxel lies, by equation C.7.6.2.1-1 of PS3.3 and nothing of ours."""
        plane, row, column = self.bright
        grid = self.geometry
        down = np.asarray(grid.column_cosines) * grid.row_spacing_mm * row
        along = np.asarray(grid.row_cosines) * grid.column_spacing_mm * column
        return np.asarray(grid.origins_lps_mm[plane] + down + along)


def stack(
    slices: int = 14,
    step_mm: float = 5.0,
    *,
    orientation: Sequence[float] = AXIAL,
    positions_mm: Iterable[float] | None = None,
    spacing_mm: tuple[float, float] = (0.9, 0.7),
    shape: tuple[int, int] = (32, 40),
    frame_of_reference_uid: str = "1.2.3",
    start_mm: float = 0.0,
) -> Geometry:
    """Parallel planes at `positions_mm` along their normal, or `slices` of them every `step_mm`."""
    row, column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    places = np.array(list(positions_mm) if positions_mm is not None else step_mm * np.arange(slices)) + start_mm
    origins = np.array([-60.5, -42.25, 100.0]) + places[:, None] * np.cross(row, column)
    return Geometry(origins, row, column, *spacing_mm, *shape, frame_of_reference_uid)


def tilted(degrees: float, positions_mm: Iterable[float]) -> Geometry:
    """The gantry turned about the patient's left-right axis, the table moved along z to `positions_mm`."""
    angle = math.radians(degrees)
    column = np.array([0.0, math.cos(angle), -math.sin(angle)])
    origins = np.array([[-60.5, -42.25, 100.0 + z] for z in positions_mm])
    return Geometry(origins, np.array([1.0, 0, 0]), column, 0.9, 0.7, 32, 40, "1.2.3")


def turned(*degrees: float) -> tuple[float, ...]:
    """Orientation cosines of an axial plane turned about x, then y, then z."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        one, two = [(1, 2), (2, 0), (0, 1)][axis]
        step = np.eye(3)
        step[one, one] = step[two, two] = math.cos(angle)
        step[one, two], step[two, one] = -math.sin(angle), math.sin(angle)
        matrix = step @ matrix
    return tuple(float(decimal_string(value)) for value in (*matrix[:, 0], *matrix[:, 1]))


def content(geometry: Geometry, seed: object = 0) -> Made:
    """Noise of whole HU between -1000 and 1500, and one bright voxel."""
    rng = np.random.default_rng(list(str(seed).encode()))
    array = rng.integers(-1000, 1500, geometry.shape).astype(np.float32)
    bright = tuple(int(rng.integers(0, size)) for size in geometry.shape)
    array[bright] = BRIGHT_HU
    return Made(array, geometry, bright)  # type: ignore[arg-type]


def write(out: Path, made: Made, change: Change | None = None, *, seed: str = "made", series: str = "made") -> None:
    """One file for each slice; `change(ds, slice)` may alter it. `seed` makes the instances, `series` their series."""
    with TemporaryDirectory() as scratch:
        paths = write_ct_series(made.array, made.geometry, Path(scratch), seed=seed, study_seed="made")
        for index, path in enumerate(paths):
            ds = dcmread(path)
            ds.SeriesInstanceUID = derive_uid("made-series", series)
            ds.InstanceNumber = int(hashlib.sha256(f"number {index}".encode()).hexdigest()[:4], 16)
            if change:
                change(ds, index)
            save(ds, out, f"{seed} {index}")


def save(ds: Dataset, out: Path, name: str) -> Path:
    """Write `ds` under a name that tells nothing."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / hashlib.sha256(name.encode()).hexdigest()[:12]
    if ds.file_meta.TransferSyntaxUID == ExplicitVRBigEndian:  # pydicom turns nothing round that it has read itself
        meta, ds = ds.file_meta, decoded(ds)
        ds.file_meta, ds.preamble = meta, bytes(128)
    ds.save_as(path, enforce_file_format=True)
    return path


def decoded(ds: Dataset) -> Dataset:
    """The same elements in a data set that knows nothing of the file it was read from."""
    copy = Dataset()
    for element in ds:
        copy.add(element)
    return copy


def setting(**values: object) -> Change:
    """A change of every file: attributes set, or deleted where None."""

    def change(ds: Dataset, _: int) -> None:
        for keyword, value in values.items():
            if value is None:
                ds.pop(keyword, None)
            else:
                setattr(ds, keyword, value)

    return change


def both(*changes: Change) -> Change:
    """One change after the other."""

    def change(ds: Dataset, index: int) -> None:
        for each in changes:
            each(ds, index)

    return change


AS_MR = setting(Modality="MR", SOPClassUID=MRImageStorage, KVP=None, RescaleType=None)


def instance(out: Path, name: str, change: Change, *, series: str = "made") -> None:
    """One more object for the series: a CT slice of 32 x 40 until `change` makes something else of it."""

    def altered(ds: Dataset, index: int) -> None:
        ds.SOPInstanceUID = derive_uid("made-instance", series, name)
        change(ds, index)
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID

    write(out, content(stack(1), name), altered, seed=name, series=series)


def secondary_capture(ds: Dataset, _: int) -> None:
    """A screenshot: no place in the patient, colours."""
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "FrameOfReferenceUID"):
        del ds[keyword]
    ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.ImageType = ["DERIVED", "SECONDARY", "SCREEN SAVE"]
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.PixelData = bytes(3 * 32 * 40)


def without_pixels(ds: Dataset, _: int) -> None:
    """No image any more."""
    for keyword in ("Rows", "Columns", "PixelData", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        del ds[keyword]


def enhanced(
    out: Path,
    volumes: Sequence[Made],
    mark: Callable[[Dataset, int], None] = lambda frame, volume: None,
    *,
    sop_class_uid: str = EnhancedCTImageStorage,
    modality: str = "CT",
    shared: bool = True,
    name: str = "enhanced",
    change: Callable[[Dataset], None] = lambda ds: None,
) -> None:
    """One Enhanced image whose frames are all slices of `volumes`, shuffled, each with another rescale.

    `mark(frame, volume)` says in the functional groups of a frame which volume it belongs to. Orientation and pixel
    measures stand in the shared groups or, if not `shared`, in those of each frame.
    """
    with TemporaryDirectory() as scratch:
        made = volumes[0]
        ds = dcmread(write_ct_series(made.array, made.geometry, Path(scratch), seed=name, study_seed="made")[0])
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        del ds[keyword]
    for keyword in ("RescaleIntercept", "RescaleSlope", "RescaleType", "SliceLocation", "AcquisitionNumber"):
        del ds[keyword]
    ds.SeriesInstanceUID = derive_uid("made-series", "made")
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class_uid
    ds.Modality = modality
    places = [(number, index) for number, each in enumerate(volumes) for index in range(each.geometry.slices)]
    random.Random(name).shuffle(places)
    ds.NumberOfFrames = len(places)
    pixels, groups = [], []
    for number, index in places:
        made, frame, intercept = volumes[number], Dataset(), -1024 - 3 * index
        for keyword, values in _placement(made.geometry, index).items():
            if keyword == "PlanePositionSequence" or not shared:
                setattr(frame, keyword, [_item(**values)])
        values = {"RescaleIntercept": str(intercept), "RescaleSlope": "1", "RescaleType": "US"}
        frame.PixelValueTransformationSequence = [_item(**values)]
        frame.FrameContentSequence = [_item(InStackPositionNumber=index + 1)]
        mark(frame, number)
        groups.append(frame)
        pixels.append((made.array[index] - intercept).astype("<i2"))
    common = Dataset()
    for keyword, values in _placement(volumes[0].geometry, 0).items():
        if shared and keyword != "PlanePositionSequence":
            setattr(common, keyword, [_item(**values)])
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = [common], groups
    ds.PixelData = np.stack(pixels).tobytes()
    change(ds)
    save(ds, out, name)


def _placement(geometry: Geometry, index: int) -> dict[str, dict[str, object]]:
    """The macros that place a frame (PS3.3 sections C.7.6.16.2.1, .3 and .4)."""
    cosines = [*geometry.row_cosines, *geometry.column_cosines]
    return {
        "PlanePositionSequence": {"ImagePositionPatient": _strings(geometry.origins_lps_mm[index])},
        "PlaneOrientationSequence": {"ImageOrientationPatient": _strings(cosines)},
        "PixelMeasuresSequence": {
            "PixelSpacing": _strings([geometry.row_spacing_mm, geometry.column_spacing_mm]),
            "SliceThickness": decimal_string(geometry.step_mm),
        },
    }


def _strings(values: Iterable[float]) -> list[str]:
    return [decimal_string(float(value)) for value in values]


def _item(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def object_of(sop_class_uid: str, name: str, *, modality: str = "CT", series: str = "made") -> FileDataset:
    """An object of the series that is no image at all: identity alone."""
    ds = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=bytes(128))
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class_uid
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = derive_uid("made-instance", series, name)
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.StudyInstanceUID, ds.SeriesInstanceUID = derive_uid("ct-study", "made"), derive_uid("made-series", series)
    ds.Modality, ds.PatientName, ds.PatientID = modality, "PHANTOM^LIVER", "PHANTOM"
    return ds
