"""Right or left, cranial or caudal: by patient space, however the stack lies."""

import numpy as np
import pytest

from reports.findings.regions import regions_of
from tests.reports.findings.test_measurements import stack


def liver_block(geometry, low_lps_mm, high_lps_mm):
    """All voxels whose centres lie in a box of patient space."""
    points = geometry.index_to_lps(np.moveaxis(np.indices(geometry.shape), 0, -1))
    return np.all((points >= low_lps_mm) & (points <= high_lps_mm), axis=-1)


@pytest.mark.parametrize(
    ("row_cosines", "column_cosines"),
    [
        ((1, 0, 0), (0, 1, 0)),
        ((-1, 0, 0), (0, 1, 0)),
        ((0, 1, 0), (0, 0, -1)),
        ((1, 0, 0), (0, 0, -1)),
        ((0, 0, 1), (1, 0, 0)),
    ],
    ids=["axial", "feet first", "sagittal", "coronal", "a third sagittal"],
)
def test_a_block_is_divided_where_its_volume_and_length_say(row_cosines, column_cosines) -> None:
    """100 x 60 x 90 mm: 65 % from the right, a third and two thirds from below."""
    geometry = stack((120, 120, 120), row_cosines=row_cosines, column_cosines=column_cosines)
    middle = geometry.index_to_lps([60, 60, 60])
    half = np.array([50, 30, 45])
    regions = regions_of(liver_block(geometry, middle - half, middle + half), geometry, (0, 0, 0))
    assert regions.divide_x_mm == pytest.approx(middle[0] - 50 + 65, abs=1)
    assert (regions.lowest_z_mm, regions.highest_z_mm) == pytest.approx((middle[2] - 45, middle[2] + 45), abs=1)
    expected = {
        (10, -20): ("right", "caudal"), (20, -20): ("left", "caudal"), (-40, 0): ("right", "middle"),
        (40, 14): ("left", "middle"), (14, 17): ("right", "cranial"), (40, 44): ("left", "cranial"),
    }  # fmt: skip
    for (x, z), words in expected.items():
        point = tuple(middle + [x, 0, z])
        assert (regions.half(point), regions.third(point)) == words


def test_uneven_slices_count_by_what_they_stand_for() -> None:
    """Sagittal slices of 1 and of 5 mm: the plane lies by volume, not by voxels."""
    positions = np.r_[np.arange(20.0), 20 + 5 * np.arange(17.0)]
    geometry = stack((37, 20, 20), positions_mm=positions, row_cosines=(0, 1, 0), column_cosines=(0, 0, -1))
    organ = np.ones(geometry.shape, bool)
    regions = regions_of(organ, geometry, (0, 0, 0))
    across = -geometry.positions_mm if geometry.normal[0] < 0 else geometry.positions_mm
    low, width = across.min(), np.ptp(across)
    expected = low + 0.65 * width if geometry.normal[0] > 0 else low + 0.65 * width
    assert regions.divide_x_mm == pytest.approx(expected, abs=5)


def test_a_part_of_the_grid_is_divided_as_the_whole() -> None:
    """Where the box begins changes nothing."""
    geometry = stack((30, 40, 50), (2.0, 0.8, 0.7))
    organ = np.zeros(geometry.shape, bool)
    organ[5:25, 10:35, 7:44] = True
    organ[5:15, 10:20, 30:44] = False
    assert regions_of(organ, geometry, (0, 0, 0)).divide_x_mm == pytest.approx(
        regions_of(organ[4:26, 9:36, 6:45], geometry, (4, 9, 6)).divide_x_mm, abs=0.5
    )
