"""A small CT with a liver and lesions, made in memory; real series with their truth; evaluations that nobody made."""

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.valuerep import DS
from scipy import ndimage
from scipy.stats import norm

from dicom_io.axes import SIZE_CLASSES, size_class_of
from dicom_io.geometry import Geometry
from dicom_io.segmentation import Algorithm, Segmentation
from dicom_io.series.series import open_series, stack_headers
from dicom_io.series.stacks import Stack
from dicom_io.volume import Volume
from reports.findings.measurements import Findings, measure
from reports.identity import ResultIdentity
from reports.objects.case import Case, source_images, with_image_numbers
from reports.objects.profile import Profile
from reports.objects.seg import build_seg

ALGORITHM = Algorithm("resnet50", "1.2.0", "0123456789abcdef" * 4)
IDENTITY = ResultIdentity(
    seed="job-7", revision=1, created=datetime(2024, 5, 1, 12, 30, tzinfo=UTC), software_version="0.1.0"
)

PROFILE = Profile()


@dataclass(frozen=True, eq=False)
class Example:
    """One series with what was found in it, of which a test may change anything."""

    headers: tuple[Dataset, ...]
    volume: Volume
    segmentation: Segmentation
    findings: Findings

    def under(self, identity: ResultIdentity = IDENTITY, *, profile: Profile = PROFILE, **parts: Any) -> Case:
        """What builders take of it, under an identity."""
        frame_of_reference_uid = self.volume.geometry.frame_of_reference_uid if self.findings.liver_volume_ml else None
        source = source_images(self.headers, self.volume.frame_numbers, frame_of_reference_uid)
        return Case(source, self.volume, self.segmentation, self.findings, identity, profile=profile, **parts)

    def seg(self, identity: ResultIdentity = IDENTITY, *, profile: Profile = PROFILE) -> Dataset:
        """Its SEG."""
        (ds,) = build_seg(self.under(identity, profile=profile))
        return ds

    def reported(self, identity: ResultIdentity = IDENTITY, *, profile: Profile = PROFILE, **parts: Any) -> Case:
        """What builders of SRs take of it: with its SEG."""
        if "seg" not in parts and self.findings.liver_volume_ml:
            parts["seg"] = self.seg(identity, profile=profile)
        return self.under(identity, profile=profile, **parts)

    def write_seg(self, path: Path) -> Path:
        """Its SEG on disk."""
        self.seg().save_as(path, enforce_file_format=True)
        return path


SOP_CLASSES = {
    ("CT", False): "1.2.840.10008.5.1.4.1.1.2",
    ("CT", True): "1.2.840.10008.5.1.4.1.1.2.1",
    ("MR", False): "1.2.840.10008.5.1.4.1.1.4",
    ("MR", True): "1.2.840.10008.5.1.4.1.1.4.1",
}
"""By modality, and whether the image is an Enhanced one."""

MakeCase = Callable[..., Example]


@pytest.fixture
def make_case() -> MakeCase:
    """Build an Example; every part of its geometry and each header attribute can be set.

    `frame_numbers` makes it one Enhanced image, of which these frames are the volume.
    """
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
    modality: str = "CT",
    frame_numbers: Sequence[int] = (),
    **attributes: object,
) -> Example:
    row_cosines, column_cosines = np.array(orientation[:3], float), np.array(orientation[3:], float)
    normal = np.cross(row_cosines, column_cosines)
    origins = np.array(
        [np.array([-20.5, -31.25, 1000.5]) + z * normal + z * drift_mm * column_cosines for z in positions_mm]
    )
    headers = []
    for index, origin in enumerate(origins):
        header = Dataset()
        header.SOPClassUID = SOP_CLASSES[modality, bool(frame_numbers)]
        header.SOPInstanceUID = "1.2.826.0.1.77.0" if frame_numbers else f"1.2.826.0.1.77.{index + 1}"
        header.SeriesInstanceUID = "1.2.826.0.1.7.2"
        header.StudyInstanceUID = "1.2.826.0.1.7.1"
        header.Modality = modality
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
    volume = Volume(array, geometry, modality, "1.2.826.0.1.7.2", uids, tuple(frame_numbers))
    segmentation = Segmentation(labels, geometry, ALGORITHM)
    findings = with_image_numbers(measure(volume, segmentation, tracking_seed="job-7"), headers)
    return Example(tuple(headers), volume, segmentation, findings)


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
def real_case(unpacked: Callable[[str], list[Path]], shared_data: Path) -> Callable[[str], Example]:
    """A real series with its truth as segmentation; the pixels, which no object holds, are left unread."""

    def case(name: str) -> Example:
        (stack,) = open_series(unpacked(f"{name}/ct_dicom")).stacks
        truth_path = next((shared_data / name).glob("l*.nii.gz"))
        truth = np.asarray(nibabel.load(truth_path).dataobj).transpose(2, 1, 0)
        truth = truth[np.argsort(np.argsort(stack.geometry.origins_lps_mm[:, 2]))]
        labels = (truth > 0).astype(np.uint8)
        parts, _ = ndimage.label(truth == 2)
        sizes = np.bincount(parts.ravel())[1:]
        for number, part in enumerate(np.argsort(-sizes, kind="stable"), start=2):
            labels[parts == part + 1] = number
        return _case_of(stack, labels)

    return case


@pytest.fixture
def real_volumes(unpacked: Callable[[str], list[Path]]) -> Callable[[str], list[Example]]:
    """Every volume of a real series, with a liver and lesions that were never there; the pixels are left unread."""

    def volumes(name: str) -> list[Example]:
        return [_case_of(stack, _labels(stack.geometry.shape)) for stack in open_series(unpacked(name)).stacks]

    return volumes


def _case_of(stack: Stack, labels: NDArray[np.uint8]) -> Example:
    volume = Volume(
        array=np.zeros(stack.geometry.shape, np.int16),
        geometry=stack.geometry,
        modality=stack.modality,
        series_instance_uid=stack.series_instance_uid,
        sop_instance_uids=stack.sop_instance_uids,
        frame_numbers=stack.frame_numbers,
        warnings=stack.warnings,
    )
    segmentation = Segmentation(labels, stack.geometry, ALGORITHM)
    headers = stack_headers(stack)
    findings = with_image_numbers(measure(volume, segmentation, tracking_seed="job-7"), headers)
    return Example(headers, volume, segmentation, findings)


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
        "LongitudinalTemporalEventType",  # the source's own terms (HCC-TACE-Seg: DIAGNOSIS)
        "RequestingService(0032,1033)",  # General Study has it (PS3.3 C.7.2.1), dciodvfy 2022 not
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


@pytest.fixture
def dcmqi_labels(require_binary: Callable[[str], str], tmp_path: Path) -> Callable[..., NDArray[np.uint8]]:
    """What dcmqi, and Slicer with it, makes of a case's SEG, laid on the source's grid by physical space."""
    program = require_binary("segimage2itkimage")

    def labels_of(case: Example, seg: Dataset | None = None) -> NDArray[np.uint8]:
        path = tmp_path / "seg.dcm"
        (seg or case.seg()).save_as(path, enforce_file_format=True)
        command = [program, "--inputDICOM", str(path), "--outputDirectory", str(tmp_path), "-t", "nrrd", "-p", "s"]
        subprocess.run(command, check=True, capture_output=True)
        geometry, labels = case.volume.geometry, np.zeros(case.segmentation.labels.shape, np.uint8)
        # The grid that it rebuilds has the slices that are missing in the source, and nothing may lie on them
        for file in tmp_path.glob("*.nrrd"):
            image = sitk.ReadImage(str(file))
            array = sitk.GetArrayViewFromImage(image)
            steps = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
            where = []
            for axis, size in enumerate(array.shape):
                # One index line per axis: the grid is rectangular, so these three place every voxel
                line = np.array(image.GetOrigin()) + np.arange(size)[:, None] * steps[:, 2 - axis]
                places = geometry.lps_to_index(line)[:, axis]
                filled = array.any(axis=tuple({0, 1, 2} - {axis}))
                assert np.abs(places - np.rint(places))[filled].max() < 0.05
                where.append(np.rint(places).astype(int))
            found = np.argwhere(array)
            labels[tuple(where[axis][found[:, axis]] for axis in range(3))] = array[tuple(found.T)]
        return labels

    return labels_of


METRIC_KEYS = (
    "dice",
    "iou",
    "voe",
    "rvd",
    "assd_mm",
    "hd95_mm",
    "accuracy",
    "precision",
    "recall",
    "specificity",
    "f1",
    "auc_roc",
    "volume_ml",
    "true_volume_ml",
)


@pytest.fixture
def make_evaluation():
    """Build the content of an evaluation.json whose figures are drawn by a seed, not measured of anything."""
    return _made_evaluation


def _made_evaluation(name="resnet50", *, seed=0, cases=6, skill=0.9, tumours=True) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    made = [_made_case(draw, number, skill, tumours=tumours and number != 1) for number in range(cases)]
    return {
        "schema": 1,
        "software": "porta-hepatis 0.0.0",
        "model": {"name": name, "version": "0.0.0", "architecture": name, "sha256": "0" * 64},
        "command": "porta evaluate --data made-up",
        "split_part": "test",
        "data_sha256": "1" * 64,
        "classes": ["background", "liver", "tumour"],
        "cases": made,
        "roc": {"liver": _made_roc(4.5 * skill), "tumour": _made_roc(3.5 * skill) if tumours else None},
        "summary": _made_summary(made),
        "worst": [case["name"] for case in sorted(made, key=lambda case: case["liver"]["dice"])[:5]],
    }


def _made_case(draw: np.random.Generator, number: int, skill: float, *, tumours: bool) -> dict[str, Any]:
    def figures(dice: float, volume: float) -> dict[str, float]:
        rvd = float(draw.normal(0, (1 - dice) / 2))
        values = {
            "dice": dice, "iou": dice / (2 - dice), "voe": 1 - dice / (2 - dice), "rvd": rvd,
            "assd_mm": 20 * (1 - dice), "hd95_mm": 90 * (1 - dice), "accuracy": 0.99, "precision": dice**0.8,
            "recall": dice**1.2, "specificity": 0.995, "f1": dice, "auc_roc": 1 - (1 - dice) / 4,
            "volume_ml": volume * (1 + rvd), "true_volume_ml": volume,
        }  # fmt: skip
        assert tuple(values) == METRIC_KEYS
        return values

    truth = np.array([9_000_000, 600_000, 40_000 if tumours else 0])
    mixing = np.array([[0.995, 0.0045, 0.0005], [1 - skill, 0.98 * skill, 0.02 * skill], [0.1, 0.9 - skill / 2, 0.0]])
    mixing[2, 2] = 1 - mixing[2].sum()
    diameters = draw.lognormal(3.1, 0.6, draw.integers(1, 6)) if tumours else []
    lesions = []
    for mm in map(float, diameters):
        found = bool(draw.random() < skill * mm / (mm + 6))
        lesions.append({
            "true_volume_ml": mm**3 / 1910, "true_diameter_mm": mm, "size_class": size_class_of(mm), "found": found,
            "volume_ml": mm**3 / 2000 if found else None, "diameter_mm": mm * 0.97 if found else None,
            "dice": skill * 0.9 if found else None,
        })  # fmt: skip
    burden = sum(lesion["true_volume_ml"] for lesion in lesions) / 16
    return {
        "name": f"case-{number}",
        "patient": f"patient-{number // 2}",
        "collection": "phantoms" if number % 3 else "made up",
        "tumours_drawn": number != 1,
        "seconds": 12.0,
        "slices": 100,
        "liver": figures(float(np.clip(draw.normal(skill + 0.05, 0.02), 0, 1)), float(draw.normal(1500, 250))),
        "tumour": figures(float(np.clip(draw.normal(skill - 0.2, 0.1), 0, 1)), 60.0) if tumours else None,
        "confusion": None if number == 1 else (truth[:, None] * mixing).astype(int).tolist(),
        "lesions": lesions,
        "false_lesions": [{"volume_ml": 0.4, "diameter_mm": 9.0, "confidence": 0.6}] if number % 2 else [],
        "burden_percent": burden * 0.95,
        "true_burden_percent": burden,
    }


def _made_roc(separation: float) -> dict[str, Any]:
    threshold = np.linspace(9, -4, 200)
    fpr, tpr = norm.sf(threshold), norm.sf(threshold - separation)
    return {"fpr": fpr.tolist(), "tpr": tpr.tolist(), "auc": float(norm.cdf(separation / np.sqrt(2)))}


def _made_summary(cases: list[dict[str, Any]]) -> dict[str, Any]:
    def mean(structure: str, key: str) -> dict[str, float | None]:
        values = [case[structure][key] for case in cases if case[structure]]
        if not values:
            return {"mean": None, "low": None, "high": None}
        half = 1.96 * float(np.std(values)) / len(values) ** 0.5
        return {
            "mean": float(np.mean(values)),
            "low": float(np.mean(values)) - half,
            "high": float(np.mean(values)) + half,
        }

    lesions = [lesion for case in cases for lesion in case["lesions"]]
    by_size = {}
    for name in SIZE_CLASSES:
        found = [lesion["found"] for lesion in lesions if lesion["size_class"] == name]
        by_size[name] = {"recall": sum(found) / len(found) if found else None, "count": len(found)}
    return {
        "liver": {key: mean("liver", key) for key in METRIC_KEYS},
        "tumour": {key: mean("tumour", key) for key in METRIC_KEYS},
        "global": {"liver_dice": 0.95, "tumour_dice": 0.7},
        "lesions": {
            "precision": {"mean": 0.8, "low": 0.7, "high": 0.9},
            "recall": {"mean": 0.75, "low": 0.6, "high": 0.85},
            "strict": {"precision": 0.5, "recall": {"mean": 0.5, "low": None, "high": None}, "least_iou": 0.5},
            "recall_by_size": by_size, "false_per_scan": 0.5,
            "diameter_error_mm": {"mean": -1.1, "low": -2.0, "high": 0.1},
            "burden_error_percent": {"mean": 0.2, "low": -0.4, "high": 0.7},
        },
    }  # fmt: skip


@pytest.fixture(scope="session")
def many_lesions() -> Callable[[Example, int], Example]:
    """`many_lesions(case, 30)` is the case with so many lesions of two pixels' width in its liver."""

    def drawn(case: Example, count: int) -> Example:
        labels = np.minimum(case.segmentation.labels, 1)
        places = [p for p in np.argwhere(labels == 1) if not (p % (1, 4, 4)).any()]
        for number, (plane, row, column) in enumerate(places[:count], start=2):
            labels[plane, row : row + 2, column : column + 2] = number
        segmentation = Segmentation(labels, case.volume.geometry, case.segmentation.algorithm)
        findings = measure(case.volume, segmentation, tracking_seed="x")
        return replace(case, segmentation=segmentation, findings=findings)

    return drawn
