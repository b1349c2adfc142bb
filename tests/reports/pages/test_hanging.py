"""Which way up, and what is written at the edges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.pages.hanging import hanging, letters


@pytest.mark.parametrize(
    ("normal", "right", "bottom"),
    [
        ((0, 0, 1), "L", "P"),
        ((0, 0, -1), "L", "P"),
        ((1, 0, 0), "P", "F"),
        ((-1, 0, 0), "P", "F"),
        ((0, 1, 0), "L", "F"),
    ],
    ids=["axial", "axial, feet first", "sagittal", "sagittal, from the right", "coronal"],
)
def test_slices_hang_as_radiologists_hang_them(normal, right, bottom) -> None:
    """Whatever the direction in which the slices are counted."""
    assert tuple(map(letters, hanging(np.array(normal, float)))) == (right, bottom)


def test_an_oblique_plane_has_several_letters() -> None:
    """The nearest first; what is under 17 degrees gets none."""
    right, down = hanging(np.array([0.0, -0.6, 0.8]))
    assert (letters(right), letters(down), letters(-down)) == ("L", "PH", "AF")
    assert letters(np.array([0.98, 0.2, 0.0])) == "L"


@given(st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1))
def test_the_picture_lies_in_the_plane(vector) -> None:
    """Two unit vectors at right angles to each other and to the normal: lengths stay true."""
    normal = np.array(vector) / np.linalg.norm(vector)
    right, down = hanging(normal)
    frame = np.stack([right, down, normal])
    np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-9)
    assert all(map(letters, (right, down)))
