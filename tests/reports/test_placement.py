"""A labelled point comes back where it lies in the patient, however the stack lies and whatever it lacks."""

import io
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pydicom
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from scipy.spatial.transform import Rotation

from dicom_io.files.image_writer import decimal_string
from dicom_io.geometry import Geometry
from dicom_io.seg_reader import read_seg
from dicom_io.segmentation import Algorithm, Segmentation
from dicom_io.volume import Volume
from reports.findings.measurements import measure
from reports.objects.verification import verify_seg
from tests.reports.conftest import SOP_CLASSES, Example

ALGORITHM = Algorithm("resnet50", "1.2.0", "ab" * 32)
PLACED_WITHIN_MM = 0.01


@dataclass(frozen=True, eq=False)
class Placed:
    """A stack with two labelled voxels: a liver (1) and a lesion (2), at indices (slice, row, column)."""

    headers: list[Dataset]
    frame_numbers: tuple[int | None, ...]
    geometry: Geometry
    points: tuple[tuple[int, int, int], tuple[int, int, int]]


def strings(values: np.ndarray) -> list[str]:
    return [decimal_string(float(value)) for value in values]


@st.composite
def placed(draw: st.DrawFn) -> Placed:
    """Any direction, spacing, tilt and gaps; the files are numbered at random and put in order by their positions."""
    turn = Rotation.from_rotvec(draw(st.tuples(*[st.floats(-3, 3)] * 3)))
    row_cosines, column_cosines = turn.apply([[1, 0, 0], [0, 1, 0]])
    normal = np.cross(row_cosines, column_cosines)
    # Of frames under 8 pixels, which no scanner makes, highdicom 0.28 packs the second wrong
    slices, rows, columns = draw(st.integers(3, 9)), draw(st.integers(3, 9)), draw(st.integers(3, 9))
    spacing = draw(st.floats(0.3, 4)), draw(st.floats(0.3, 4))
    step = draw(st.floats(0.6, 8))
    gaps = {
        "even": np.full(slices - 1, step),
        "missing": step * np.array(draw(st.lists(st.integers(1, 2), min_size=slices - 1, max_size=slices - 1))),
        "uneven": np.array(draw(st.lists(st.floats(0.6, 8), min_size=slices - 1, max_size=slices - 1))),
    }[draw(st.sampled_from(["even", "missing", "uneven"]))]
    drift = draw(st.sampled_from([(0.0, 0.0), (0.0, 0.33), (0.0, -0.5), (0.2, 0.1)]))
    along = normal + drift[0] * row_cosines + drift[1] * column_cosines
    first = np.array(draw(st.tuples(*[st.floats(-900, 900)] * 3)))
    origins = first + np.r_[0, np.cumsum(gaps)][:, None] * along
    modality, enhanced = draw(st.sampled_from(["CT", "MR"])), draw(st.booleans())
    names = draw(st.permutations(range(1, slices + 1)))
    files = []
    for name, origin in zip(names, origins, strict=True):
        ds = Dataset()
        ds.SOPClassUID, ds.Modality = SOP_CLASSES[modality, enhanced], modality
        ds.SOPInstanceUID = "1.2.826.0.1.8" if enhanced else f"1.2.826.0.1.8.{name}"
        ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID = "1.2.826.0.1.9", "1.2.826.0.1.10", "1.2.3"
        ds.Rows, ds.Columns = rows, columns
        ds.ImagePositionPatient = strings(origin)
        ds.ImageOrientationPatient = strings(np.r_[row_cosines, column_cosines])
        ds.PixelSpacing = strings(np.array(spacing))
        files.append((name, ds))
    shuffled = sorted(files, key=lambda file: file[0])
    ordered = sorted(shuffled, key=lambda file: float(np.array(file[1].ImagePositionPatient, float) @ normal))
    geometry = Geometry(
        origins_lps_mm=np.array([[float(v) for v in ds.ImagePositionPatient] for _, ds in ordered]),
        row_cosines=np.array(ordered[0][1].ImageOrientationPatient[:3], float),
        column_cosines=np.array(ordered[0][1].ImageOrientationPatient[3:], float),
        row_spacing_mm=float(ordered[0][1].PixelSpacing[0]),
        column_spacing_mm=float(ordered[0][1].PixelSpacing[1]),
        rows=rows,
        columns=columns,
        frame_of_reference_uid="1.2.3",
    )
    index = st.tuples(*[st.integers(0, size - 1) for size in (slices, rows, columns)])
    liver, lesion = draw(st.lists(index, min_size=2, max_size=2, unique=True))
    numbers = tuple(name if enhanced else None for name, _ in ordered)
    return Placed([ds for _, ds in ordered], numbers, geometry, (liver, lesion))


def by_hand(ds: Dataset) -> dict[int, list[np.ndarray]]:
    """LPS of every set pixel of every segment, from the object's bytes alone (PS3.3 section C.7.6.2.1.1)."""
    shared = ds.SharedFunctionalGroupsSequence[0]
    row_spacing, column_spacing = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    cosines = np.array([float(v) for v in shared.PlaneOrientationSequence[0].ImageOrientationPatient])
    bits = np.unpackbits(np.frombuffer(ds.PixelData, np.uint8), bitorder="little")
    pixels = bits[: ds.NumberOfFrames * ds.Rows * ds.Columns].reshape(ds.NumberOfFrames, ds.Rows, ds.Columns)
    found: dict[int, list[np.ndarray]] = {}
    for groups, frame in zip(ds.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        origin = np.array([float(v) for v in groups.PlanePositionSequence[0].ImagePositionPatient])
        number = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        for row, column in np.argwhere(frame):
            point = origin + column * cosines[:3] * column_spacing + row * cosines[3:] * row_spacing
            found.setdefault(number, []).append(point)
    return found


@settings(
    max_examples=settings.default.max_examples // 4, phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]
)
@given(placed())
def test_a_labelled_point_comes_back_at_its_place(case: Placed) -> None:
    """Within 0.01 mm, by hand and by our reader; the object passes the self-check, and names the right image."""
    labels = np.zeros(case.geometry.shape, np.uint8)
    for number, point in enumerate(case.points, start=1):
        labels[point] = number
    uids = tuple(str(header.SOPInstanceUID) for header in case.headers)
    array = np.zeros(labels.shape, np.int16)
    volume = Volume(array, case.geometry, case.headers[0].Modality, "1.2", uids, case.frame_numbers)
    segmentation = Segmentation(labels, case.geometry, ALGORITHM)
    findings = measure(volume, segmentation, tracking_seed="job")
    made = Example(tuple(case.headers), volume, segmentation, findings)
    seg = made.seg()
    buffer = io.BytesIO()
    seg.save_as(buffer, enforce_file_format=True)
    ds = pydicom.dcmread(io.BytesIO(buffer.getvalue()))

    hand, segments = by_hand(ds), read_seg(ds)
    for number, (plane, row, column) in enumerate(case.points, start=1):
        header = case.headers[plane]
        cosines = np.array([float(value) for value in header.ImageOrientationPatient])
        spacing = [float(value) for value in header.PixelSpacing]
        origin = np.array([float(value) for value in header.ImagePositionPatient])
        expected = origin + column * spacing[1] * cosines[:3] + row * spacing[0] * cosines[3:]
        (point,) = hand[number]
        assert np.linalg.norm(point - expected) < PLACED_WITHIN_MM
        segment = segments[number - 1]
        assert np.linalg.norm(segment.centroid_lps_mm - expected) < PLACED_WITHIN_MM
        assert segment.source_sop_instance_uids == ((uids[plane],),)
        assert segment.source_frame_numbers == ((case.frame_numbers[plane],),)
    lesion = findings.lesions[0].place.centroid_lps_mm
    assert np.linalg.norm(np.array(lesion) - hand[2][0]) < PLACED_WITHIN_MM
    with TemporaryDirectory() as folder:
        path = Path(folder) / "seg.dcm"
        path.write_bytes(buffer.getvalue())
        verify_seg(path, made.under())
