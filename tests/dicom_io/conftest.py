"""CT and MR series made for a test: small, valid, and changed where the test wants it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage

from dicom_io.files.image_writer import decimal_string, write_ct_series
from dicom_io.files.uids import derive_uid
from dicom_io.geometry import Geometry

MakeSeries = Callable[..., list[Path]]


def stack(
    slices: int = 12, step_mm: float = 5.0, rows: int = 6, columns: int = 8, row_spacing_mm: float = 0.75
) -> Geometry:
    """A plain axial stack; the spacings differ, so that a swap shows."""
    origins = np.c_[np.full(slices, -20.5), np.full(slices, 10.25), 100 + step_mm * np.arange(slices)]
    return Geometry(origins, [1, 0, 0], [0, 1, 0], row_spacing_mm, 0.5, rows, columns, "1.2.3")  # type: ignore[arg-type]


@pytest.fixture
def make_stack() -> Callable[..., Geometry]:
    return stack


@pytest.fixture
def make_series(tmp_path: Path) -> MakeSeries:
    """Write a series; `change(ds, index)` may alter each data set, `geometry` and `array` replace the plain ones."""

    def make(
        change: Callable[[Dataset, int], None] | None = None,
        geometry: Geometry | None = None,
        array: np.ndarray | None = None,
        folder: str = "series",
        seed: str = "test",
    ) -> list[Path]:
        geometry = geometry or stack()
        if array is None:
            array = np.arange(np.prod(geometry.shape), dtype=np.int16).reshape(geometry.shape) - 500
        paths = write_ct_series(array, geometry, tmp_path / folder, seed=seed)
        for index, path in enumerate(paths):
            if change:
                ds = dcmread(path)
                change(ds, index)
                ds.save_as(path)
        return paths

    return make


@pytest.fixture
def make_volumes(make_series: MakeSeries) -> MakeSeries:
    """Write several volumes at the same positions into one series; `change(ds, volume, slice)` tells them apart."""

    def make(
        count: int, change: Callable[[Dataset, int, int], None], *, modality: str = "CT", slices: int = 12
    ) -> list[Path]:
        def altered(volume: int) -> Callable[[Dataset, int], None]:
            def alter(ds: Dataset, index: int) -> None:
                ds.StudyInstanceUID, ds.SeriesInstanceUID = derive_uid("study of volumes"), derive_uid("volumes")
                ds.AcquisitionNumber = None
                if modality == "MR":
                    ds.Modality, ds.SOPClassUID = "MR", MRImageStorage
                change(ds, volume, index)

            return alter

        return [
            path
            for volume in range(count)
            for path in make_series(altered(volume), stack(slices), folder=f"volume-{volume}", seed=f"volume {volume}")
        ]

    return make


@pytest.fixture
def make_enhanced(make_series: MakeSeries, tmp_path: Path) -> Callable[..., Path]:
    """Write an Enhanced MR image whose frames walk `times` times through a stack, each with its own rescale."""

    def make(geometry: Geometry | None = None, times: int = 1, folder: str = "enhanced") -> Path:
        geometry = geometry or stack()
        ds = dcmread(make_series(geometry=geometry, folder=folder)[0])
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
            del ds[keyword]
        del ds.RescaleIntercept, ds.RescaleSlope
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
        ds.Modality = "MR"
        ds.NumberOfFrames = geometry.slices * times
        spacing = [decimal_string(geometry.row_spacing_mm), decimal_string(geometry.column_spacing_mm)]
        shared = Dataset()
        shared.PixelMeasuresSequence = [Dataset()]
        shared.PixelMeasuresSequence[0].PixelSpacing = spacing
        shared.PixelMeasuresSequence[0].SliceThickness = "2"
        cosines = [*geometry.row_cosines, *geometry.column_cosines]
        shared.PlaneOrientationSequence = [Dataset()]
        shared.PlaneOrientationSequence[0].ImageOrientationPatient = [decimal_string(float(c)) for c in cosines]
        frames = []
        for time in range(times):
            for index in range(geometry.slices):
                frame = Dataset()
                frame.PlanePositionSequence = [Dataset()]
                frame.PlanePositionSequence[0].ImagePositionPatient = [
                    decimal_string(float(value)) for value in geometry.origins_lps_mm[index]
                ]
                frame.FrameContentSequence = [Dataset()]
                frame.FrameContentSequence[0].TemporalPositionIndex = time + 1
                frame.PixelValueTransformationSequence = [Dataset()]
                frame.PixelValueTransformationSequence[0].RescaleIntercept = str(-10 * time)
                frame.PixelValueTransformationSequence[0].RescaleSlope = "1"
                frames.append(frame)
        ds.SharedFunctionalGroupsSequence = [shared]
        ds.PerFrameFunctionalGroupsSequence = frames
        pixels = np.arange(len(frames) * geometry.rows * geometry.columns, dtype=np.int16)
        ds.PixelData = pixels.astype("<i2").tobytes()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = tmp_path / f"{folder}.dcm"
        ds.save_as(path)
        return path

    return make
