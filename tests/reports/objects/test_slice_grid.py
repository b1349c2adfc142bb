"""The step of a grid that slices lie on, written as SpacingBetweenSlices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_io.geometry import Geometry
from reports.objects.slice_grid import spacing_between_slices_mm


def stack(positions_mm, drift_mm: float = 0.0) -> Geometry:
    positions = np.asarray(positions_mm, float)
    origins = np.column_stack([np.full(len(positions), -20.0), drift_mm * positions, positions])
    return Geometry(origins, np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), 1, 1, 4, 4, "1.2")


@given(
    step=st.floats(0.3, 10),
    missing=st.sets(st.integers(1, 78), max_size=8),
    decimals=st.integers(2, 6),
    first=st.floats(-1000, 1000),
)
def test_the_step_is_found_where_slices_are_missing(step, missing, decimals, first) -> None:
    """Also of positions that were rounded: every slice lies on a multiple of it, and none is counted twice."""
    numbers = np.array([number for number in range(80) if number not in missing])
    found = spacing_between_slices_mm(stack(np.round(first + numbers * step, decimals)))
    assert found is not None
    assert found * 79 == pytest.approx(step * 79, abs=0.021)


@given(gaps=st.lists(st.floats(1, 8), min_size=4, max_size=40))
def test_where_a_step_is_found_the_slices_lie_on_its_multiples(gaps) -> None:
    """Whatever the gaps: a reader that multiplies it finds every slice."""
    geometry = stack(np.r_[0, np.cumsum(gaps)])
    step = spacing_between_slices_mm(geometry)
    if step is not None:
        places = (geometry.positions_mm - geometry.positions_mm[0]) / step
        assert np.abs(places - np.rint(places)).max() <= 0.06
        assert len(np.unique(np.rint(places))) == geometry.slices


@pytest.mark.parametrize(
    "gaps",
    [np.linspace(2, 3.3, 14), [1, 4.2, 7.4, 1.1, 4.2], [1.0, 5.0, 8.0, 3.0, 4.0, 7.0], [2.0, 2.0, 2.0, 3.0, 2.0]],
    ids=["growing", "mixed", "whole millimetres", "half a step"],
)
def test_uneven_slices_have_no_step(gaps) -> None:
    """Nor have those that happen to lie on a fine grid of which hardly a slice is there."""
    assert spacing_between_slices_mm(stack(np.r_[0, np.cumsum(gaps)])) is None


def test_a_tilted_stack_has_no_step() -> None:
    """A reader would lay its slices one above the other. One slice has none either."""
    assert spacing_between_slices_mm(stack(np.arange(14) * 2.5, drift_mm=0.3)) is None
    assert spacing_between_slices_mm(stack([0.0])) is None
