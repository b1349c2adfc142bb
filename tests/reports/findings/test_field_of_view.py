"""What the edge of the images cuts: on upright, uneven and tilted stacks."""

import numpy as np
import pytest

from dicom_io.geometry import Geometry
from reports.findings.field_of_view import cut_off_mm2, distance_to_edge_mm
from tests.reports.findings.test_measurements import stack


def tilted(tangent: float) -> Geometry:
    """Ten slices 4 mm apart along the normal, each shifted down by `tangent` times that."""
    origins = np.arange(10)[:, None] * np.array([0, 4 * tangent, 4.0])
    return Geometry(origins, np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), 0.8, 0.5, 50, 60, "1.2.3")


def test_distances_are_those_of_a_box() -> None:
    """The nearest of six sides, between borders: zero where a voxel lies on one."""
    geometry = stack((10, 50, 60), (4.0, 0.8, 0.5))
    whole = {0: 10, 1: 50, 2: 60}
    assert distance_to_edge_mm(geometry, (4, 20, 25), (6, 30, 35)) == pytest.approx(25 * 0.5)
    assert distance_to_edge_mm(geometry, (4, 10, 25), (6, 30, 35)) == pytest.approx(10 * 0.8)
    assert distance_to_edge_mm(geometry, (1, 20, 25), (6, 30, 35)) == pytest.approx(4)
    for axis, size in whole.items():
        first, stop = [4, 20, 25], [6, 30, 35]
        first[axis] = 0
        assert distance_to_edge_mm(geometry, tuple(first), tuple(stop)) == 0
        first[axis], stop[axis] = size - 1, size
        assert distance_to_edge_mm(geometry, tuple(first), tuple(stop)) == 0


def test_uneven_slices_are_as_wide_as_they_are() -> None:
    """Slices at 0, 2, 4 and 10 mm reach from -1 to 13 mm, that at 4 mm from 3 to 7."""
    geometry = stack((4, 500, 500), positions_mm=np.array([0.0, 2.0, 4.0, 10.0]))
    assert distance_to_edge_mm(geometry, (2, 200, 200), (3, 210, 210)) == pytest.approx(4)
    assert distance_to_edge_mm(geometry, (1, 200, 200), (2, 210, 210)) == pytest.approx(2)


def test_a_leaning_side_is_nearer_than_its_rows_say() -> None:
    """At a right angle to it: rows times the cosine of the tilt; columns are not touched by it."""
    geometry = tilted(1.0)
    assert distance_to_edge_mm(geometry, (5, 10, 29), (6, 11, 30)) == pytest.approx(10 * 0.8 / 2**0.5)
    assert distance_to_edge_mm(tilted(0.0), (5, 10, 29), (6, 11, 30)) == pytest.approx(8)
    assert distance_to_edge_mm(geometry, (5, 25, 8), (6, 26, 9)) == pytest.approx(8 * 0.5)


@pytest.mark.parametrize("tangent", [0.0, 0.325])
def test_the_whole_field_cuts_on_all_sides(tangent) -> None:
    """The surface of the box, whose leaning sides are longer."""
    geometry = tilted(tangent)
    rows_mm, columns_mm, height_mm = 50 * 0.8, 60 * 0.5, 40.0
    expected = 2 * (rows_mm * columns_mm + columns_mm * height_mm * np.hypot(1, tangent) + rows_mm * height_mm)
    assert cut_off_mm2(np.ones(geometry.shape, bool), geometry, (0, 0, 0)) == pytest.approx(expected)


def test_only_what_lies_on_the_edge_counts() -> None:
    """A box of the grid that begins inside touches nothing, and one that ends with the field touches there."""
    geometry = tilted(0.0)
    assert cut_off_mm2(np.ones((3, 10, 10), bool), geometry, (4, 20, 20)) == 0
    assert cut_off_mm2(np.ones((3, 10, 10), bool), geometry, (7, 20, 20)) == pytest.approx(100 * 0.8 * 0.5)
    assert cut_off_mm2(np.ones((3, 10, 10), bool), geometry, (4, 20, 50)) == pytest.approx(3 * 4 * 10 * 0.8)
