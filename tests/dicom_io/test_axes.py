"""Long axes of lesions in parts; classes of size: one table of them for reports, evaluation and charts."""

import numpy as np
import pytest

from dicom_io.axes import recist_axes, size_class_of
from dicom_io.geometry import Geometry


@pytest.mark.parametrize(
    ("long_axis_mm", "expected"),
    [
        (0.0, "<10"), (9.94, "<10"), (9.96, "10-20"), (10.0, "10-20"), (20.04, "10-20"), (20.06, "20-30"),
        (30.0, "20-30"), (30.1, "30-50"), (50.0, "30-50"), (50.1, "50-100"), (100.0, "50-100"), (100.1, ">100"),
    ],
)  # fmt: skip
def test_upper_bounds_belong_to_a_class_and_ten_is_measurable(long_axis_mm: float, expected: str) -> None:
    """Lengths count as they are written, to a tenth of a millimetre."""
    assert size_class_of(long_axis_mm) == expected


def flat(slices: int = 1) -> Geometry:
    """A stack of slices of 100 x 100 pixels of 1 mm."""
    origins = np.array([[0.0, 0.0, 3.0 * index] for index in range(slices)])
    return Geometry(origins, np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), 1.0, 1.0, 100, 100, "2.25.1", 3.0)


def test_no_axis_bridges_two_islands() -> None:
    """A caliper ran from a lesion across the liver to a speck of 46 pixels of the same segment."""
    mask = np.zeros((1, 100, 100), bool)
    mask[0, 40:60, 10:60] = True
    mask[0, 45:51, 80:86] = True  # 36 of 1036 pixels: a speck
    axes = recist_axes(mask, flat())
    alone = recist_axes(mask & (np.arange(100) < 70), flat())
    assert axes.long_mm == alone.long_mm < 56
    assert axes.short_mm == alone.short_mm
    assert (axes.long_ends[:, 1] < 61).all() and (axes.short_ends[:, 1] < 61).all()


def test_the_longest_part_of_all_slices_counts_and_specks_do_not() -> None:
    """The part may be the smaller one, or lie in a slice with less of the lesion; a thin long speck is none."""
    mask = np.zeros((3, 100, 100), bool)
    mask[0, 10:40, 10:40] = True
    mask[0, 50, 5:95] = True  # 90 of 990 pixels, 90 mm long
    mask[1] = mask[0]
    mask[1, 50, 5:95] = False
    mask[1, 60, 5:50] = True  # 45 of 945: under 5 %
    mask[2, 70:72, 5:65] = True
    assert recist_axes(mask, flat(3)).plane == 0
    assert recist_axes(mask[:1], flat()).long_mm == pytest.approx(90, abs=0.5)
    assert recist_axes(mask[1:2], flat()).long_mm == pytest.approx(30 * 2**0.5, abs=1)
    assert recist_axes(mask[1:], flat(2)).plane == 1


def test_corners_that_touch_are_one_part() -> None:
    """Eight neighbours: pixels that meet at a corner are connected."""
    mask = np.eye(100, dtype=bool)[None]
    assert recist_axes(mask, flat()).long_mm > 139
