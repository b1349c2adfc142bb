"""A small CT with a liver and lesions, made in memory; and real series with their truth."""

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.valuerep import DS
from scipy import ndimage

from dicom_io.geometry import Geometry
from dicom_io.segmentation import Algorithm, Segmentation
from dicom_io.series import open_series
from dicom_io.volume import Volume
from reports.identity import ResultIdentity
from reports.measurements import Findings, measure
from reports.seg import build_seg

ALGORITHM = Algorithm("resnet50", "1.2.0", "0123456789abcdef" * 4)
IDENTITY = ResultIdentity(
    seed="job-7", revision=1, created=datetime(2024, 5, 1, 12, 30, tzinfo=UTC), software_version="0.1.0"
)


@dataclass(frozen=True, eq=False)
class Case:
    """One series with what was found in it."""

    headers: tuple[Dataset, ...]
    volume: Volume
    segmentation: Segmentation
    findings: Findings

    def seg(self, identity: ResultIdentity = IDENTITY) -> Dataset:
        """Its SEG."""
        return build_seg(self.headers, self.segmentation, self.findings, identity=identity)

    def write_seg(self, path: Path) -> Path:
        """Its SEG on disk."""
        self.seg().save_as(path, enforce_file_format=True)
        return path


MakeCase = Callable[..., Case]


@pytest.fixture
def make_case() -> MakeCase:
    """Build a Case; every part of its geometry and each header attribute can be set."""
    return _make_case


def _make_case(
    *,
    positions_mm: Sequence[float] = tuple(np.arange(14) * 2.5),
    rows: int = 45,
    columns: int = 51,
    orientation: Sequence[float] = (1, 0, 0, 0, 1, 0),
    spacing_mm: tuple[float, float] = (0.8, 0.7),
    drift_mm: float = 0.0,
    lesions: bool = True,
    liver: bool = True,
    frame_of_reference_uid: str | None = "1.2.3.4",
    **attributes: object,
) -> Case:
    row_cosines, column_cosines = np.array(orientation[:3], float), np.array(orientation[3:], float)
    normal = np.cross(row_cosines, column_cosines)
    origins = np.array(
        [np.array([-20.5, -31.25, 1000.5]) + z * normal + z * drift_mm * column_cosines for z in positions_mm]
    )
    headers = []
    for index, origin in enumerate(origins):
        header = Dataset()
        header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        header.SOPInstanceUID = f"1.2.826.0.1.77.{index + 1}"
        header.SeriesInstanceUID = "1.2.826.0.1.7.2"
        header.StudyInstanceUID = "1.2.826.0.1.7.1"
        header.Modality = "CT"
        header.Manufacturer = "Scanner Works"
        header.PatientName, header.PatientID = "Doe^Jane", "P-1"
        header.PatientBirthDate, header.PatientSex = "19600102", "F"
        header.StudyDate, header.StudyTime = "20240501", "101500"
        header.StudyID, header.AccessionNumber, header.ReferringPhysicianName = "S1", "A1", "Ref^Doc"
        header.SeriesNumber, header.InstanceNumber = 4, index + 1
        header.Rows, header.Columns = rows, columns
        header.ImagePositionPatient = [DS(f"{value:.4f}") for value in origin]
        header.ImageOrientationPatient = [DS(float(value)) for value in orientation]
        header.PixelSpacing = [DS(value) for value in spacing_mm]
        header.SliceThickness = "3"
        if frame_of_reference_uid:
            header.FrameOfReferenceUID = frame_of_reference_uid
        for keyword, value in attributes.items():
            if value is None:
                header.pop(keyword, None)
            else:
                setattr(header, keyword, value)
        headers.append(header)
    geometry = Geometry(
        origins_lps_mm=np.array([[float(v) for v in header.ImagePositionPatient] for header in headers]),
        row_cosines=row_cosines,
        column_cosines=column_cosines,
        row_spacing_mm=spacing_mm[0],
        column_spacing_mm=spacing_mm[1],
        rows=rows,
        columns=columns,
        frame_of_reference_uid=frame_of_reference_uid or "2.25.99",
    )
    labels = _labels(geometry.shape) if liver else np.zeros(geometry.shape, np.uint8)
    if not lesions:
        labels[labels > 1] = 1
    array = np.random.default_rng(7).integers(-50, 150, geometry.shape).astype(np.int16)
    uids = tuple(str(header.SOPInstanceUID) for header in headers)
    volume = Volume(array, geometry, "CT", "1.2.826.0.1.7.2", uids)
    segmentation = Segmentation(labels, geometry, ALGORITHM)
    return Case(tuple(headers), volume, segmentation, measure(volume, segmentation, tracking_seed="job-7"))


def _labels(shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """A liver off the middle of the grid with two lesions, none of them its own mirror image."""
    z, row, column = (axis / (size - 1) for axis, size in zip(np.indices(shape), shape, strict=True))
    labels = np.zeros(shape, np.uint8)
    labels[((z - 0.45) / 0.4) ** 2 + ((row - 0.42) / 0.36) ** 2 + ((column - 0.4) / 0.32) ** 2 < 1] = 1
    labels[(labels == 1) & (row > 0.6) & (column > 0.5)] = 0
    labels[((z - 0.4) / 0.2) ** 2 + ((row - 0.35) / 0.12) ** 2 + ((column - 0.3) / 0.1) ** 2 < 1] = 2
    labels[((z - 0.55) / 0.12) ** 2 + ((row - 0.55) / 0.07) ** 2 + ((column - 0.5) / 0.09) ** 2 < 1] = 3
    return labels


@pytest.fixture
def real_case(unpacked: Callable[[str], list[Path]], shared_data: Path) -> Callable[[str], Case]:
    """A real series with its truth as segmentation; the pixels, which no object holds, are left unread."""

    def case(name: str) -> Case:
        series = open_series(unpacked(f"{name}/ct_dicom"))
        truth_path = next((shared_data / name).glob("l*.nii.gz"))
        truth = np.asarray(nibabel.load(truth_path).dataobj).transpose(2, 1, 0)
        truth = truth[np.argsort(np.argsort(series.geometry.origins_lps_mm[:, 2]))]
        labels = (truth > 0).astype(np.uint8)
        parts, _ = ndimage.label(truth == 2)
        sizes = np.bincount(parts.ravel())[1:]
        for number, part in enumerate(np.argsort(-sizes, kind="stable"), start=2):
            labels[parts == part + 1] = number
        volume = Volume(
            np.zeros(series.geometry.shape, np.int16),
            series.geometry,
            "CT",
            series.series_instance_uid,
            series.sop_instance_uids,
            series.warnings,
        )
        segmentation = Segmentation(labels, series.geometry, ALGORITHM)
        return Case(series.headers, volume, segmentation, measure(volume, segmentation, tracking_seed="job-7"))

    return case


@pytest.fixture
def identity() -> ResultIdentity:
    """A first revision, made at a fixed time."""
    return IDENTITY


@pytest.fixture
def validate(require_binary: Callable[[str], str], tmp_path: Path) -> Callable[[Dataset], list[str]]:
    """What dciodvfy finds wrong with an object, less what the source or the standard itself excuses."""
    program = require_binary("dciodvfy")
    excused = (
        "needed to build DICOMDIR",
        "Retired Person Name form",
        "Unrecognized defined term = <99PORTA>",  # a private scheme is by its nature in no list
    )

    def complaints(ds: Dataset) -> list[str]:
        path = tmp_path / "validated.dcm"
        ds.save_as(path, enforce_file_format=True)
        done = subprocess.run([program, "-new", str(path)], capture_output=True, check=False)
        lines = (done.stderr + done.stdout).decode("utf-8", "replace").splitlines()
        marked = [line for line in lines if line.startswith(("Error", "Warning")) or " - " in line]
        return [line for line in marked if not any(phrase in line for phrase in excused)]

    return complaints
