"""Shapes whose size is known, measured."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from dicom_io.files.uids import derive_uid
from dicom_io.geometry import Geometry
from dicom_io.segmentation import Algorithm, Segmentation
from dicom_io.volume import Volume
from reports.findings.criteria import CRITERIA_CAVEAT
from reports.findings.measurements import NO_LIVER, UNEVEN_VOLUME_ERROR, Findings, measure
from reports.findings.severity import NO_LESION, NOT_ALL_CAME, NOT_CERTAIN, NOT_JUDGED, NOT_KNOWN, NOT_WHOLE
from reports.findings.wording import assessment, lesion_place
from reports.measures import LESION
from reports.objects.findings_json import findings_json

ALGORITHM = Algorithm("resnet50", "1.2.0", "ab" * 32)


def stack(
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    row_cosines: tuple[float, float, float] = (1, 0, 0),
    column_cosines: tuple[float, float, float] = (0, 1, 0),
    positions_mm: NDArray[np.float64] | None = None,
) -> Geometry:
    positions = np.arange(shape[0]) * spacing_mm[0] if positions_mm is None else positions_mm
    normal = np.cross(row_cosines, column_cosines)
    return Geometry(
        origins_lps_mm=np.array([10.0, -20.0, 30.0]) + positions[:, None] * normal,
        row_cosines=np.array(row_cosines, float),
        column_cosines=np.array(column_cosines, float),
        row_spacing_mm=spacing_mm[1],
        column_spacing_mm=spacing_mm[2],
        rows=shape[1],
        columns=shape[2],
        frame_of_reference_uid="1.2.3",
        slice_spacing_mm=spacing_mm[0],
    )


def findings_of(labels: NDArray[np.uint8], geometry: Geometry, hu: NDArray[np.int16] | None = None) -> Findings:
    array = np.full(labels.shape, 110, np.int16) if hu is None else hu
    uids = tuple(f"1.2.{index + 1}" for index in range(len(labels)))
    volume = Volume(array, geometry, "CT", "1.2", uids)
    return measure(volume, Segmentation(labels, geometry, ALGORITHM), tracking_seed="job")


def ellipsoid(
    geometry: Geometry, centre: tuple[float, ...], radii_mm: tuple[float, float, float], degrees: float = 0
) -> NDArray[np.bool_]:
    """True inside; centre in indices, radii along (normal, turned column direction, turned row direction)."""
    z, row, column = np.indices(geometry.shape)
    z_mm = (z - centre[0]) * geometry.step_mm
    y_mm, x_mm = (row - centre[1]) * geometry.row_spacing_mm, (column - centre[2]) * geometry.column_spacing_mm
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    u, v = -sin * x_mm + cos * y_mm, cos * x_mm + sin * y_mm
    return (z_mm / radii_mm[0]) ** 2 + (u / radii_mm[1]) ** 2 + (v / radii_mm[2]) ** 2 <= 1


def length(ends) -> float:
    return float(np.linalg.norm(np.subtract(*ends)))


def test_a_disc_measures_its_diameter_both_ways() -> None:
    """Radius 20 mm at 0.5 mm pixels: 40 mm within one pixel."""
    geometry = stack((3, 100, 100), (5.0, 0.5, 0.5))
    labels = np.zeros(geometry.shape, np.uint8)
    labels[1][ellipsoid(geometry, (1, 50, 50), (1, 20, 20))[1]] = 2
    lesion = findings_of(labels, geometry).lesions[0]
    assert lesion.size.long_axis_mm == pytest.approx(40, abs=0.5)
    assert lesion.size.short_axis_mm == pytest.approx(40, abs=0.5)
    assert lesion.place.key_slice == 1 and lesion.place.key_sop_instance_uid == "1.2.2"


@pytest.mark.parametrize("degrees", [0, 30, 45, 75, 120])
def test_an_ellipse_at_an_angle_on_anisotropic_pixels(degrees: float) -> None:
    """60 x 30 mm, turned: both axes within a pixel, at right angles, and their end points say the same."""
    geometry = stack((1, 110, 140), (5.0, 0.9, 0.6))
    labels = np.zeros(geometry.shape, np.uint8)
    labels[ellipsoid(geometry, (0, 55, 70), (1, 15, 30), degrees)] = 2
    lesion = findings_of(labels, geometry).lesions[0]
    assert lesion.size.long_axis_mm == pytest.approx(60, abs=0.9)
    assert lesion.size.short_axis_mm == pytest.approx(30, abs=0.9)
    long_ends, short_ends = lesion.size.axis_end_points_lps_mm
    assert length(long_ends) == pytest.approx(lesion.size.long_axis_mm)
    assert length(short_ends) == pytest.approx(lesion.size.short_axis_mm)
    assert np.dot(np.subtract(*long_ends), np.subtract(*short_ends)) == pytest.approx(0, abs=1e-6)
    direction = np.subtract(*long_ends) / lesion.size.long_axis_mm
    expected = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees)), 0])
    assert abs(direction @ expected) > np.cos(np.radians(4))


def test_a_long_axis_is_long_by_less_than_a_pixel() -> None:
    """Discs of many sizes and places: the bias that the module's docstring states holds."""
    geometry = stack((1, 64, 64), (1.0, 0.8, 0.8))
    rng, errors = np.random.default_rng(3), []
    for _ in range(40):
        radius, centre = rng.uniform(4, 20), rng.uniform(30, 33, 2)
        labels = np.zeros(geometry.shape, np.uint8)
        labels[ellipsoid(geometry, (0, *centre), (1, radius, radius))] = 2
        errors.append((findings_of(labels, geometry).lesions[0].size.long_axis_mm - 2 * radius) / 0.8)
    assert min(errors) > 0.5 and max(errors) < 1
    assert np.mean(errors) == pytest.approx(0.75, abs=0.1)


def test_an_ellipsoid_is_longest_across_the_slices() -> None:
    """The RECIST axis stays in the slice; the 3-D diameter, another number, does not."""
    geometry = stack((60, 60, 60), (1.5, 0.7, 0.7))
    labels = np.zeros(geometry.shape, np.uint8)
    labels[ellipsoid(geometry, (30, 30, 30), (40, 10, 14))] = 2
    lesion = findings_of(labels, geometry).lesions[0]
    assert lesion.size.diameter_3d_mm == pytest.approx(80, abs=1.5)
    assert lesion.size.long_axis_mm == pytest.approx(28, abs=0.7)
    assert lesion.size.short_axis_mm == pytest.approx(20, abs=0.7)
    assert lesion.size.volume_ml == pytest.approx(4 / 3 * np.pi * 40 * 10 * 14 / 1000, rel=0.01)
    assert lesion.place.centroid_lps_mm == pytest.approx((10 + 21, -20 + 21, 30 + 45), abs=0.05)


def test_one_voxel_is_as_long_as_its_edges() -> None:
    """The smallest lesion there is has a size, not an error."""
    geometry = stack((5, 9, 9), (3.0, 0.9, 0.6))
    labels = np.ones(geometry.shape, np.uint8)
    labels[2, 4, 6] = 2
    hu = np.full(geometry.shape, 60, np.int16)
    hu[2, 4, 6] = 17
    lesion = findings_of(labels, geometry, hu).lesions[0]
    assert (lesion.size.long_axis_mm, lesion.size.short_axis_mm) == pytest.approx((0.9, 0.6))
    assert lesion.size.diameter_3d_mm == pytest.approx(3.0)
    assert lesion.size.volume_ml == pytest.approx(3.0 * 0.9 * 0.6 / 1000)
    assert (lesion.values.hu_mean, lesion.values.hu_sd) == (17, 0)
    assert lesion.place.centroid_lps_mm == pytest.approx(tuple(geometry.index_to_lps([2, 4, 6])))


@pytest.mark.parametrize(
    ("row_cosines", "column_cosines"),
    [((1, 0, 0), (0, -1, 0)), ((-1, 0, 0), (0, 1, 0)), ((0.6, 0.8, 0), (-0.8, 0.6, 0))],
    ids=["rows run backwards", "feet first", "turned in the plane"],
)
def test_sizes_do_not_depend_on_how_the_stack_lies(row_cosines, column_cosines) -> None:
    """Normal (0, 0, -1) or turned: the same numbers, and points that lie where the voxels lie."""
    labels = np.zeros((20, 40, 50), np.uint8)
    plain = stack(labels.shape, (2.0, 0.8, 0.7))
    labels[ellipsoid(plain, (9, 18, 22), (12, 8, 13), 25)] = 2
    turned = stack(labels.shape, (2.0, 0.8, 0.7), row_cosines, column_cosines)
    expected, found = findings_of(labels, plain).lesions[0], findings_of(labels, turned).lesions[0]
    for name in ("volume_ml", "long_axis_mm", "short_axis_mm", "diameter_3d_mm"):
        assert getattr(found.size, name) == pytest.approx(getattr(expected.size, name))
    assert found.place.key_slice == expected.place.key_slice
    for there, here in (
        (found.place.centroid_lps_mm, expected.place.centroid_lps_mm),
        (found.size.axis_end_points_lps_mm, expected.size.axis_end_points_lps_mm),
    ):
        np.testing.assert_allclose(turned.lps_to_index(there), plain.lps_to_index(here), atol=1e-9)


def test_volume_and_centroid_agree_with_simpleitk() -> None:
    """An independent implementation on an oblique-free, anisotropic grid."""
    geometry = stack((20, 40, 50), (2.5, 0.8, 0.7))
    labels = np.zeros(geometry.shape, np.uint8)
    labels[ellipsoid(geometry, (9, 18, 22), (20, 14, 15))] = 1
    labels[ellipsoid(geometry, (8, 16, 20), (6, 5, 4))] = 2
    found = findings_of(labels, geometry)
    image = sitk.GetImageFromArray((labels > 0).astype(np.uint8) + (labels == 2))
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((10, -20, 30))
    shapes = sitk.LabelShapeStatisticsImageFilter()
    shapes.Execute(image)
    assert found.lesions[0].size.volume_ml == pytest.approx(shapes.GetPhysicalSize(2) / 1000)
    assert found.lesions[0].place.centroid_lps_mm == pytest.approx(shapes.GetCentroid(2))
    shapes.Execute(image > 0)
    assert found.liver_volume_ml == pytest.approx(shapes.GetPhysicalSize(1) / 1000)
    assert found.liver_centroid_lps_mm == pytest.approx(shapes.GetCentroid(1))
    assert found.burden_percent == pytest.approx(100 * found.lesions[0].size.volume_ml / found.liver_volume_ml)


def test_an_uneven_stack_is_measured_slice_by_slice() -> None:
    """Slices at 0, 2, 4 and 10 mm stand for 2, 2, 4 and 6 mm."""
    geometry = stack((4, 10, 10), positions_mm=np.array([0.0, 2.0, 4.0, 10.0]))
    labels = np.zeros(geometry.shape, np.uint8)
    labels[:, 2:7, 2:6] = 1
    assert findings_of(labels, geometry).liver_volume_ml == pytest.approx(20 * (2 + 2 + 4 + 6) / 1000)


def uneven_ellipsoid(seed: int, semi_axes_mm: tuple[float, float], gaps_mm: tuple[float, float]) -> tuple[float, float]:
    """Relative error of an ellipsoid's volume on random uneven, tilted, oblique slices; and its half extent across.

    Semi-axes, gaps and directions are drawn; the tilt is that of a gantry, none or 18 degrees.
    """
    rng = np.random.default_rng(seed)
    semi_axes = rng.uniform(*semi_axes_mm, 3)
    own = Rotation.random(random_state=seed).as_matrix()
    matrix = own @ np.diag(semi_axes**2) @ own.T  # in the stack's directions: column, row, normal
    extents = np.sqrt(np.diag(matrix))
    reach = float(extents[2]) + gaps_mm[1]
    positions = np.cumsum(rng.uniform(*gaps_mm, int(3 * reach / gaps_mm[0]) + 2))
    positions = positions[: int(np.searchsorted(positions, 3 * reach)) + 1]
    centre = rng.uniform(positions[0] + reach, positions[-1] - reach)
    pixel = float(extents[:2].min()) / 30
    tilt = float(rng.choice([0.0, 0.33]))
    rows, columns = (int(2 * (extents[axis] + drift * reach) / pixel) + 8 for axis, drift in ((1, 2 * tilt), (0, 0.0)))
    x0, y0 = -pixel * columns / 2 + rng.uniform(0, pixel), -pixel * rows / 2 + rng.uniform(0, pixel)
    offsets = positions - centre
    firsts = np.column_stack([np.full(len(offsets), x0), y0 + tilt * offsets, offsets])
    turn = Rotation.random(random_state=seed + 1).as_matrix()
    geometry = Geometry(firsts @ turn.T + 100, turn[:, 0], turn[:, 1], pixel, pixel, rows, columns, "1.2.3")
    inverse = np.linalg.inv(matrix)
    labels = np.zeros(geometry.shape, np.uint8)
    x, y = x0 + pixel * np.arange(columns), pixel * np.arange(rows)[:, None]
    for plane, first in enumerate(firsts):
        points = np.stack(np.broadcast_arrays(x, first[1] + y, first[2]), axis=-1)
        labels[plane] = np.einsum("...i,ij,...j", points, inverse, points) <= 1
    volume_ml = 4 / 3 * np.pi * float(np.prod(semi_axes)) / 1000
    return findings_of(labels, geometry).liver_volume_ml / volume_ml - 1, float(extents[2])


def test_an_organ_on_uneven_slices_is_measured_within_one_percent() -> None:
    """Semi-axes of 40 to 80 mm, gaps of 1 to 8 mm mixed, any direction, tilted too; and right on average."""
    errors = [uneven_ellipsoid(seed, (40, 80), (1, 8))[0] for seed in range(60)]
    assert np.abs(errors).max() < 0.01
    assert abs(np.mean(errors)) < 0.001


@given(seed=st.integers(0, 10_000), size=st.sampled_from([10.0, 15.0, 20.0, 30.0]), widest=st.floats(2, 8))
@settings(max_examples=settings.default.max_examples // 4)
def test_a_lesion_on_uneven_slices_is_measured_within_the_stated_bound(seed, size, widest) -> None:
    """UNEVEN_VOLUME_ERROR, and half a percent for the pixels of an outline of 60."""
    error, extent = uneven_ellipsoid(seed, (size, 1.4 * size), (1.0, widest))
    assert abs(error) < UNEVEN_VOLUME_ERROR * (widest / extent) ** 2 + 0.005


@pytest.mark.parametrize("offset", np.linspace(0, 1, 9))
def test_the_worst_that_gaps_can_do_is_within_the_bound(offset) -> None:
    """Wide gaps at both ends of a sphere, narrow ones between; or wide ones throughout."""
    radius, wide = 40.0, 8.0
    inner = np.arange(-radius + wide * offset, radius - wide * offset + 1e-9, 1.0)
    ends = wide * np.arange(1, 4)
    worst = np.r_[inner[0] - ends[::-1], inner, inner[-1] + ends]
    even = np.arange(-7, 8) * wide + offset * wide
    for positions in (worst, even):
        geometry = stack((len(positions), 172, 172), (1, 0.5, 0.5), positions_mm=positions)
        row, column = (np.indices((172, 172)) - 85.5) * 0.5
        labels = (row**2 + column**2 + positions[:, None, None] ** 2 <= radius**2).astype(np.uint8)
        error = findings_of(labels, geometry).liver_volume_ml / (4 / 3 * np.pi * radius**3 / 1000) - 1
        assert abs(error) < UNEVEN_VOLUME_ERROR * (wide / radius) ** 2 + 0.001


def test_mr_has_no_hounsfield_units() -> None:
    """Its values mean nothing outside their own series; sizes are sizes. The key frame is named."""
    geometry = stack((4, 20, 20), row_cosines=(0, 1, 0), column_cosines=(0, 0, -1))
    labels = np.ones(geometry.shape, np.uint8)
    labels[1, 2:8, 2:8] = 2
    volume = Volume(np.full(labels.shape, 300, np.int16), geometry, "MR", "1.2", ("1.5",) * 4, (9, 8, 7, 6))
    found = measure(volume, Segmentation(labels, geometry, ALGORITHM), tracking_seed="job")
    (lesion,) = found.lesions
    assert lesion.values.hu_mean is None and lesion.values.hu_sd is None and lesion.size.volume_ml > 0
    assert {
        lesion.values.hu_p10,
        lesion.values.hu_p50,
        lesion.values.hu_p90,
        lesion.values.entropy_bits,
        lesion.values.contrast_to_liver_hu,
    } == {None}
    assert (lesion.values.skewness, lesion.values.kurtosis, found.liver_hu_mean) == (0, 0, None)
    assert "CONTRAST_DOUBTFUL" not in found.warnings
    assert (lesion.place.key_sop_instance_uid, lesion.place.key_frame_number) == ("1.5", 8)
    content = findings_json(found, ALGORITHM, software="porta 0.1.0")
    assert content["lesions"][0]["hu_mean"] is None and content["lesions"][0]["key_frame_number"] == 8
    assert content["plane"] == "sagittal"


def test_axes_lie_in_the_plane_of_the_slices() -> None:
    """A rod along the body is long on sagittal slices, and short on axial ones."""
    rod = np.zeros((9, 30, 9), np.uint8)
    rod[3:6, 5:25, 3:6] = 2
    sagittal = stack(rod.shape, row_cosines=(0, 1, 0), column_cosines=(0, 0, -1))
    axial = stack((30, 9, 9))
    seen = findings_of(rod, sagittal), findings_of(np.ascontiguousarray(rod.transpose(1, 0, 2)), axial)
    assert [found.plane for found in seen] == ["sagittal", "axial"]
    lengths = [found.lesions[0].size.long_axis_mm for found in seen]
    assert lengths[0] > 20 and lengths[1] < 5
    ends = np.array(seen[0].lesions[0].size.axis_end_points_lps_mm)
    assert np.ptp(ends[..., 0]) < 1e-9


def test_lesions_are_numbered_tracked_and_counted() -> None:
    """Numbers follow the segments, tracking UIDs the seed; confidence is passed on."""
    geometry = stack((4, 20, 20))
    labels = np.ones(geometry.shape, np.uint8)
    labels[1, 2:8, 2:8], labels[2, 12:15, 12:15] = 2, 3
    volume = Volume(np.zeros(labels.shape, np.int16), geometry, "CT", "1.2", warnings=("LEFT_OUT",))
    segmentation = Segmentation(labels, geometry, ALGORITHM, confidences=(0.9, 0.6), warnings=("LEFT_OUT", "TILT"))
    found = measure(volume, segmentation, tracking_seed="job")
    assert found.lesion_count == 2
    assert [(lesion.number, lesion.segment) for lesion in found.lesions] == [(1, 2), (2, 3)]
    assert [lesion.confidence for lesion in found.lesions] == [0.9, 0.6]
    assert [lesion.tracking_uid for lesion in found.lesions] == [derive_uid("lesion", "job", n) for n in (1, 2)]
    assert found.lesions[0].place.key_sop_instance_uid is None
    assert found.warnings == ("LEFT_OUT", "TILT", "PARTIAL_LIVER", "CONTRAST_DOUBTFUL")


def test_nothing_found_is_a_result() -> None:
    """No lesion: a burden of 0. No liver: a volume of 0, no burden, and a warning."""
    geometry = stack((4, 10, 10))
    labels = np.zeros(geometry.shape, np.uint8)
    labels[1:3, 1:9, 1:9] = 1
    healthy = findings_of(labels, geometry)
    assert (healthy.lesion_count, healthy.burden_percent, healthy.warnings) == (0, 0.0, ())
    assert (healthy.targets, healthy.target_diameter_sum_mm, healthy.spread) == ((), 0.0, "none")
    assert (healthy.lobes, healthy.size_category, healthy.milan, healthy.up_to_seven) == (None, None, None, None)
    assert healthy.severity == NO_LESION
    empty = findings_of(np.zeros(geometry.shape, np.uint8), geometry)
    assert (empty.liver_volume_ml, empty.burden_percent, empty.liver_centroid_lps_mm) == (0.0, None, None)
    assert empty.warnings == (NO_LIVER,) and empty.severity == NOT_KNOWN and empty.target_diameter_sum_mm is None


@pytest.mark.parametrize("code", ["VALUES_DOUBTFUL", "NOT_LIKE_LIVER"])
def test_of_images_that_the_model_does_not_know_nothing_is_judged(code: str) -> None:
    """No severity, no burden, and no count, which would say that there is none: the reason, and the liver's volume."""
    geometry = stack((4, 10, 10))
    labels = np.zeros(geometry.shape, np.uint8)
    labels[1:3, 1:9, 1:9] = 1
    volume = Volume(np.full(labels.shape, 110, np.int16), geometry, "CT", "1.2")
    found = measure(volume, Segmentation(labels, geometry, ALGORITHM, warnings=(code,)), tracking_seed="job")
    assert found.liver_volume_ml > 0 and found.has_liver and not found.is_judged
    assert (found.severity, found.burden_percent, found.lesions) == (NOT_JUDGED, None, ())
    content = findings_json(found, ALGORITHM, software="porta 0.1.0")
    assert (content["lesion_count"], content["burden_percent"]) == (None, None)
    assert content["severity"] == {
        "level": None,
        "reasons": ["the images are unlike those that the model was trained on"],
    }
    assert assessment(found) == (
        "Lesions are not reported: the images are unlike those that the model was trained on.",
    )


@pytest.mark.parametrize("unsure", [True, False])
def test_lesions_at_a_doubtful_edge_are_not_certain(unsure: bool) -> None:
    """Within 5 mm of an outline that the model is unsure of; severity and criteria are those of the others."""
    geometry = stack((40, 60, 60))
    labels = np.zeros(geometry.shape, np.uint8)
    labels[2:38, 2:58, 2:58] = 1
    labels[10:20, 3:53, 20:30] = 2
    labels[26:30, 28:32, 28:32] = 3
    volume = Volume(np.full(labels.shape, 110, np.int16), geometry, "CT", "1.2")
    warnings = ("LIVER_UNCERTAIN",) if unsure else ()
    found = measure(volume, Segmentation(labels, geometry, ALGORITHM, warnings=warnings), tracking_seed="job")
    assert [lesion.certain for lesion in found.lesions] == [not unsure, True]
    assert [lesion["certain"] for lesion in findings_json(found, ALGORITHM, software="porta")["lesions"]] == [
        not unsure,
        True,
    ]
    assert ("LESION_NOT_CERTAIN" in found.warnings) is unsure
    assert found.severity.level == ("low" if unsure else "high")
    assert found.targets == (() if unsure else (1,))
    assert ("not certain" in lesion_place(found.lesions[0])) is unsure
    assert found.burden_percent is not None and found.lesion_count == 2


def test_where_no_lesion_is_certain_severity_is_not_known() -> None:
    """The lesions are said, and that nothing follows from them."""
    geometry = stack((20, 40, 40))
    labels = np.zeros(geometry.shape, np.uint8)
    labels[2:18, 2:38, 2:38] = 1
    labels[5:12, 2:12, 10:20] = 2
    volume = Volume(np.full(labels.shape, 110, np.int16), geometry, "CT", "1.2")
    found = measure(
        volume, Segmentation(labels, geometry, ALGORITHM, warnings=("LIVER_UNCERTAIN",)), tracking_seed="job"
    )
    assert (found.severity, found.milan, found.targets, found.lesion_count) == (NOT_CERTAIN, None, (), 1)
    assert "Severity not known: no lesion is certain." in assessment(found)


def test_sixty_lesions_are_measured() -> None:
    """Metastases come in dozens. In a CT of the usual size; `bench/objects.py` has the time."""
    geometry = stack((300, 512, 512), (1.0, 0.75, 0.75))
    labels = np.zeros(geometry.shape, np.uint8)
    labels[70:230, 150:350, 140:390] = 1
    spots = [
        (z, row, column) for z in (95, 135, 175, 210) for row in range(175, 340, 50) for column in (165, 225, 285, 345)
    ]
    for number, (z, row, column) in enumerate(spots[:60], start=2):
        part = np.s_[z - 16 : z + 16, row - 22 : row + 22, column - 22 : column + 22]
        depth, height, width = np.ogrid[-16:16, -22:22, -22:22]
        distances = depth**2 + (0.75 * height) ** 2 + (0.75 * width) ** 2
        labels[part][distances <= (15 - number / 6) ** 2] = number
    hu = np.random.default_rng(1).integers(60, 160, geometry.shape, np.int16)
    volume = Volume(hu, geometry, "CT", "1.2")
    segmentation = Segmentation(labels, geometry, ALGORITHM)
    assert measure(volume, segmentation, tracking_seed="job").lesion_count == 60


def doubtful(**changes) -> Findings:
    """The findings of a liver in the middle of 30 slices with a lesion of 20 mm, of which something is changed."""
    geometry = stack((30, 60, 60), (changes.get("step_mm", 2.0), 1.0, 1.0))
    labels = np.zeros(geometry.shape, np.uint8)
    labels[changes.get("first", 3) : 27, 10:50, 10:50] = 1
    labels[10:20, 15:35, 15:35] = 2
    if "lesion_row" in changes:
        labels[12, : changes["lesion_row"], 20] = 2
    hu = np.full(geometry.shape, changes.get("hu", 110), np.int16)
    volume = Volume(hu, geometry, changes.get("modality", "CT"), "1.2", warnings=changes.get("warnings", ()))
    confidences = (changes["confidence"],) if "confidence" in changes else ()
    said = changes.get("said", ())
    segmentation = Segmentation(labels, geometry, ALGORITHM, confidences=confidences, warnings=said)
    return measure(volume, segmentation, tracking_seed="job")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, None),
        ({"first": 0}, "PARTIAL_LIVER"),
        ({"lesion_row": 40}, "LESION_CUT_OFF"),
        ({"confidence": 0.6}, None),
        ({"confidence": 0.59}, "LOW_CONFIDENCE"),
        ({"hu": 75}, None),
        ({"hu": 74}, "CONTRAST_DOUBTFUL"),
        ({"hu": 10, "modality": "MR"}, None),
        ({"step_mm": 5.0}, None),
        ({"step_mm": 5.5}, "THICK_SLICES"),
    ],
)
def test_what_makes_the_findings_doubtful_is_said(changes, code) -> None:
    """Each warning for its own reason, and none without."""
    assert doubtful(**changes).warnings == (() if code is None else (code,))


def test_no_severity_of_a_liver_that_lies_across_separate_ranges() -> None:
    """Half of it would be judged as all of it: "no lesion" of the one, another level of the other."""
    apart = {"warnings": ("SEPARATE_RANGES",)}
    assert doubtful(**apart).severity.level is not None
    assert doubtful(first=0).severity.level is not None
    assert doubtful(first=0, **apart).severity == NOT_WHOLE


def test_no_severity_where_slices_may_be_missing() -> None:
    """The sending broke off: what did not come may hold lesions, or the rest of the liver."""
    assert doubtful(said=("INCOMPLETE",)).severity == NOT_ALL_CAME
    assert doubtful(first=0, said=("INCOMPLETE",)).severity == NOT_ALL_CAME


def test_targets_are_added_up_where_slices_are_thin() -> None:
    """The two largest of at least 10 mm; none where the slices are too thick to measure them (RECIST 1.1)."""
    for step_mm, expected in ((2.5, 31 + 21), (6.0, None)):
        geometry = stack((20, 60, 100), (step_mm, 1.0, 1.0))
        labels = np.ones(geometry.shape, np.uint8)
        for number, (column, width) in enumerate(((5, 30), (40, 20), (65, 12), (80, 5)), start=2):
            labels[4:6, 10:13, column : column + width] = number
        found = findings_of(labels, geometry)
        lengths = [lesion.size.long_axis_mm for lesion in found.lesions]
        assert lengths == pytest.approx([30, 20, 12, 5], abs=0.4)
        assert found.targets == (1, 2)
        if expected is None:
            assert found.target_diameter_sum_mm is None and "THICK_SLICES" in found.warnings
        else:
            assert found.target_diameter_sum_mm == pytest.approx(sum(lengths[:2]))
            assert "THICK_SLICES" not in found.warnings


def test_contrast_is_that_of_liver_without_lesions_and_edges() -> None:
    """A rim around the liver and one around the lesion, both of other values, change nothing."""
    geometry = stack((30, 60, 60), (2.0, 1.0, 1.0))
    labels, hu = np.zeros(geometry.shape, np.uint8), np.full(geometry.shape, -80, np.int16)
    labels[4:26, 8:52, 8:52], hu[4:26, 8:52, 8:52] = 1, 30
    hu[5:25, 10:50, 10:50] = 120
    hu[10:20, 20:36, 20:36], labels[11:19, 22:34, 22:34], hu[11:19, 22:34, 22:34] = 90, 2, 70
    found = findings_of(labels, geometry, hu)
    assert (found.liver_hu_mean, found.liver_hu_sd) == (120, 0)
    assert found.lesions[0].values.contrast_to_liver_hu == -50
    alone = findings_of(np.where(labels == 1, np.uint8(0), labels), geometry, hu)
    assert alone.liver_hu_mean is None and alone.lesions[0].values.contrast_to_liver_hu is None
    assert alone.lesions[0].place.distance_to_capsule_mm == 0 and alone.lesions[0].place.subcapsular


def test_findings_json_has_every_key_and_plain_numbers() -> None:
    """The contract of findings.json, schema 1."""
    geometry = stack((3, 12, 12))
    labels = np.ones(geometry.shape, np.uint8)
    labels[1, 4:7, 4:9] = 2
    content = json.loads(json.dumps(findings_json(findings_of(labels, geometry), ALGORITHM, software="porta 0.1.0")))
    assert set(content) == {
        "schema", "software", "model", "liver", "lesions", "lesion_count", "burden_percent", "severity", "plane",
        "warnings", "targets", "target_diameter_sum_mm", "spread", "lobes", "size_category", "milan", "up_to_seven",
        "prior", "confidence_calibrated", "entropy_bin_width_hu",
    }  # fmt: skip
    assert set(content["liver"]) == {"volume_ml", "centroid_lps_mm", "hu_mean", "hu_sd", "cut_off_mm2", "expected_dice"}
    assert content["schema"] == 1 and content["lesion_count"] == 1
    assert content["confidence_calibrated"] is False and content["liver"]["expected_dice"] is None
    assert content["severity"]["level"] == "low" and len(content["severity"]["reasons"]) == 4
    assert content["milan"] == {
        "met": True,
        "computed": "1 lesion, the largest 5.4 mm; 1 of at most 50 mm, or up to 3 of at most 30 mm",
        "caveat": CRITERIA_CAVEAT,
    }
    assert content["model"] == {
        "name": "resnet50", "version": "1.2.0", "sha256": "ab" * 32, "research_use_only": True,
    }  # fmt: skip
    lesion = content["lesions"][0]
    assert set(lesion) == {
        "number", "segment", "tracking_uid", "volume_ml", "long_axis_mm", "short_axis_mm", "axis_end_points_lps_mm",
        "diameter_3d_mm", "surface_mm2", "mesh_volume_ml", "sphericity", "hu_mean", "hu_sd", "hu_p10", "hu_p50",
        "hu_p90", "skewness", "kurtosis", "entropy_bits", "contrast_to_liver_hu", "distance_to_capsule_mm",
        "subcapsular", "distance_to_edge_mm", "touches_border", "region", "key_slice", "key_sop_instance_uid",
        "key_instance_number", "key_position_mm", "target",
        "key_frame_number", "confidence", "certain", "centroid_lps_mm", "status", "prior_numbers", "growth_mm",
        "growth_ml", "growth_percent", "doubling_days", "history",
    } | {measure.key for measure in LESION}  # fmt: skip
    assert lesion["region"] == {"half": "right", "third": "middle"} and lesion["touches_border"] is False
    assert lesion["confidence"] is None and lesion["key_sop_instance_uid"] == "1.2.2"
    assert lesion["key_frame_number"] is None and content["plane"] == "axial"
    assert np.array(lesion["axis_end_points_lps_mm"]).shape == (2, 2, 3)
    assert content["prior"] is None and lesion["status"] is None and lesion["growth_percent"] is None
    nothing = findings_json(findings_of(np.zeros(geometry.shape, np.uint8), geometry), ALGORITHM, software="p")
    assert set(nothing) == set(content) and set(nothing["liver"]) == set(content["liver"])
    assert nothing["severity"] == {"level": None, "reasons": ["no liver was found"]} and nothing["milan"] is None
    assert nothing["lesions"] == [] and nothing["burden_percent"] is None and nothing["warnings"] == [NO_LIVER]


def test_volume_and_segmentation_must_share_a_grid() -> None:
    """Labels measured on another grid's voxels would be a wrong number without a word."""
    geometry, other = stack((3, 5, 5)), stack((3, 5, 5), (2.0, 1.0, 1.0))
    volume = Volume(np.zeros(geometry.shape, np.int16), geometry, "CT", "1.2")
    with pytest.raises(ValueError, match="grid"):
        measure(volume, Segmentation(np.ones(other.shape, np.uint8), other, ALGORITHM), tracking_seed="job")


def test_what_is_larger_than_a_liver_has_no_severity() -> None:
    """Eight litres: the figures are there, a judgement is not."""
    geometry = stack((20, 20, 20), (10.0, 10.0, 10.0))
    labels = np.ones(geometry.shape, np.uint8)
    labels[9:11, 9:11, 9:11] = 2
    found = findings_of(labels, geometry)
    assert found.liver_volume_ml == 8000 and len(found.lesions) == 1
    assert found.severity.level is None and "larger than a liver" in found.severity.reasons[0]
