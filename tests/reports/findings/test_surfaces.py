"""Surfaces and distances of shapes whose answers are known, and against scikit-image's meshes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, label
from scipy.spatial.transform import Rotation
from skimage.measure import marching_cubes, mesh_surface_area

from dicom_io.geometry import Geometry
from reports.findings.surfaces import capsule_of, shape_of
from tests.reports.findings.test_measurements import ellipsoid, stack

ORIGIN = np.zeros(3)


def random_shape(seed: int) -> np.ndarray:
    """Smooth blobs with handles, holes and diagonal contacts: every case of a cell."""
    return gaussian_filter(np.random.default_rng(seed).normal(size=(12, 15, 17)), 0.7) > 0.15


def oracle(mask: np.ndarray, geometry: Geometry, corner: np.ndarray) -> tuple[float, float]:
    """Area and volume of scikit-image's mesh, its vertices laid into space."""
    vertices, faces, _, _ = marching_cubes(np.pad(mask, 1).astype(np.float32), 0.5)
    points = geometry.index_to_lps(vertices - 1 + corner)
    a, b, c = (points[faces[:, index]] - points.mean(axis=0) for index in range(3))
    return mesh_surface_area(points, faces), abs(np.einsum("ij,ij->", a, np.cross(b, c))) / 6


@given(seed=st.integers(0, 10_000), kind=st.sampled_from(["even", "uneven", "tilted", "both"]))
@settings(max_examples=settings.default.max_examples // 5)
def test_any_shape_on_any_stack_has_the_mesh_of_scikit_image(seed, kind) -> None:
    """The same area and volume to nine digits, wherever the stack turns, leans and widens."""
    rng = np.random.default_rng(seed)
    mask = random_shape(seed)
    gaps = rng.uniform(1, 6, 20) if kind in ("uneven", "both") else np.full(20, 2.5)
    lean = 0.33 if kind in ("tilted", "both") else 0.0
    turn = Rotation.random(random_state=seed).as_matrix()
    firsts = np.stack([np.zeros(20), lean * np.cumsum(gaps), np.cumsum(gaps)], axis=-1) @ turn.T
    geometry = Geometry(firsts, turn[:, 0], turn[:, 1], 0.9, 0.7, 40, 40, "1.2.3")
    corner = np.array([rng.integers(0, 9), 3, 5], float)
    found = shape_of(mask, geometry, corner)
    area, volume = oracle(mask, geometry, corner)
    assert found.surface_mm2 == pytest.approx(area, rel=1e-6)
    assert 1000 * found.mesh_volume_ml == pytest.approx(volume, rel=1e-6)


@pytest.mark.parametrize("radius", [6.0, 12.0, 20.0])
def test_a_ball_of_steps(radius) -> None:
    """Its volume within a percent; its area larger by 7 to 10 %, as the docstring says, and so its sphericity."""
    geometry = stack((64, 64, 64), (0.8, 0.8, 0.8))
    mask = ellipsoid(geometry, (31.3, 32.1, 31.8), (radius, radius, radius))
    found = shape_of(mask, geometry, ORIGIN)
    assert 1000 * found.mesh_volume_ml == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.015)
    assert 1.07 < found.surface_mm2 / (4 * np.pi * radius**2) < 1.10
    assert 0.91 < found.sphericity < 0.94


def test_a_box_has_the_faces_of_a_box() -> None:
    """20 x 24 x 14 mm: the area within what is cut from twelve edges, the volume too."""
    geometry = stack((30, 50, 50), (2.0, 0.8, 0.7))
    mask = np.zeros(geometry.shape, bool)
    mask[5:15, 5:35, 5:25] = True
    found = shape_of(mask, geometry, ORIGIN)
    assert found.surface_mm2 == pytest.approx(2 * (20 * 24 + 20 * 14 + 24 * 14), rel=0.05)
    assert 1000 * found.mesh_volume_ml == pytest.approx(20 * 24 * 14, rel=0.03)
    assert found.surface_mm2 < 2 * (20 * 24 + 20 * 14 + 24 * 14)


def test_a_flat_ellipsoid_is_less_of_a_ball() -> None:
    """Against the ellipsoid's own sphericity, 0.93 of it as for the ball."""
    geometry = stack((60, 60, 80), (0.8, 0.8, 0.8))
    a, b, c = 24.0, 16.0, 8.0
    mask = ellipsoid(geometry, (30, 30, 40), (c, b, a))
    p = 1.6075  # Thomsen's formula, within 1.1 %
    area = 4 * np.pi * (((a * b) ** p + (a * c) ** p + (b * c) ** p) / 3) ** (1 / p)
    exact = np.pi ** (1 / 3) * (6 * 4 / 3 * np.pi * a * b * c) ** (2 / 3) / area
    assert shape_of(mask, geometry, ORIGIN).sphericity == pytest.approx(0.925 * exact, rel=0.02)


def test_a_single_voxel_is_an_octahedron() -> None:
    """Corners half a step away on six sides: a sixth of the voxel's volume."""
    found = shape_of(np.ones((1, 1, 1), bool), stack((3, 3, 3)), np.ones(3))
    assert (1000 * found.mesh_volume_ml, found.surface_mm2) == pytest.approx((1 / 6, 3**0.5))
    assert found.sphericity == pytest.approx(0.846, abs=0.001)


def distance(liver, lesion, geometry) -> float | None:
    first, stop = np.argwhere(lesion).min(axis=0), np.argwhere(lesion).max(axis=0) + 1
    box = tuple(slice(a, b) for a, b in zip(first, stop, strict=True))
    return capsule_of(liver, geometry, ORIGIN).distance_mm(lesion[box], geometry, first.astype(float))


def test_concentric_balls_are_apart_by_their_radii() -> None:
    """A lesion of 10 mm in a liver of 30: 20 mm, within a voxel; off the middle, less."""
    geometry = stack((50, 90, 90), (1.5, 0.8, 0.8))
    liver = ellipsoid(geometry, (25, 45, 45), (30, 30, 30))
    for shift_mm in (0, 8, 16, 19.5):
        lesion = ellipsoid(geometry, (25, 45 + shift_mm / 0.8, 45), (10, 10, 10))
        assert distance(liver, lesion, geometry) == pytest.approx(20 - shift_mm, abs=1.5)


def test_a_lesion_on_the_surface_touches_it() -> None:
    """One voxel less of liver is one step of distance, along each axis."""
    geometry = stack((20, 30, 40), (2.5, 0.8, 0.7))
    liver = np.zeros(geometry.shape, bool)
    liver[2:18, 3:27, 4:36] = True
    for axis, spacing in ((0, 2.5), (1, 0.8), (2, 0.7)):
        for depth in range(4):
            first = [9, 14, 18]
            first[axis] = (2, 3, 4)[axis] + depth
            lesion = np.zeros(geometry.shape, bool)
            lesion[tuple(slice(start, start + 2) for start in first)] = True
            assert distance(liver, lesion, geometry) == pytest.approx(depth * spacing, abs=1e-9)


def test_a_cavity_is_no_capsule_and_neither_is_the_edge_of_the_field() -> None:
    """Only what is outside counts: not a hole, not the last slice; with nothing outside nothing is known."""
    geometry = stack((20, 40, 40))
    liver = np.ones(geometry.shape, bool)
    liver[:, :, 35:] = False
    liver[8:12, 16:20, 16:20] = False
    lesion = np.zeros(geometry.shape, bool)
    lesion[0:3, 17:19, 21:25] = True
    assert distance(liver, lesion, geometry) == pytest.approx(10)
    liver[8:12, 16:20, 20:] = False  # open to the outside: now it is surface
    assert distance(liver, lesion, geometry) == pytest.approx(5)
    assert distance(np.ones(geometry.shape, bool), lesion, geometry) is None


@given(seed=st.integers(0, 10_000))
@settings(max_examples=settings.default.max_examples // 10)
def test_distances_are_those_of_all_pairs_of_points(seed) -> None:
    """Groups leave none out: on any shapes and stacks, the least of every pair of half-way points."""
    rng = np.random.default_rng(seed)
    liver = gaussian_filter(rng.normal(size=(16, 40, 44)), 5) > -0.005
    inside = np.argwhere(liver)
    start = inside[rng.integers(len(inside))]
    lesion = np.zeros(liver.shape, bool)
    lesion[tuple(slice(at, at + size) for at, size in zip(start, rng.integers(1, 9, 3), strict=True))] = True
    liver |= lesion
    gaps = rng.uniform(0.8, 5, len(liver))
    origins = np.stack([np.zeros(len(liver)), 0.3 * np.cumsum(gaps), np.cumsum(gaps)], axis=-1)
    geometry = Geometry(origins, np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), 0.8, 0.7, 40, 44, "1.2.3")

    def half_way(mask, border):
        padded = np.pad(mask, 1, constant_values=border)
        points = []
        for axis in range(3):
            for step in (-1, 1):
                outside = mask & ~np.roll(padded, -step, axis)[1:-1, 1:-1, 1:-1]
                points.append(np.argwhere(outside) + np.eye(3)[axis] * step / 2)
        return geometry.index_to_lps(np.concatenate(points))

    outside, _ = label(~liver)
    reached = np.unique(np.concatenate([outside.take(end, axis).ravel() for axis in range(3) for end in (0, -1)]))
    filled = liver | ~np.isin(outside, reached)
    surface = half_way(filled, border=True)
    if len(surface) == 0:
        assert distance(liver, lesion, geometry) is None
        return
    points = half_way(lesion, border=False)
    expected = min(np.linalg.norm(surface - point, axis=1).min() for point in points)
    assert distance(liver, lesion, geometry) == pytest.approx(expected, abs=1e-9)
