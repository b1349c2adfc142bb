"""Index and patient space, there and back, over every kind of stack."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_io.geometry import Geometry, from_affine, is_orthonormal

spacings = st.floats(0.2, 8.0)
angles = st.floats(-np.pi, np.pi)


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    """Oblique, tilted, gapped, anisotropic: planes anywhere, as long as they are sorted along the normal."""
    a, b, c = draw(angles), draw(angles), draw(angles)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    about_y = np.array([[np.cos(c), 0, np.sin(c)], [0, 1, 0], [-np.sin(c), 0, np.cos(c)]])
    turn = about_z @ about_x @ about_y
    gaps = draw(st.lists(spacings, max_size=8))
    heights = np.r_[0.0, np.cumsum(gaps)]
    drift = np.array(draw(st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))))
    corner = np.array(draw(st.tuples(*[st.floats(-400, 400)] * 3)))
    local = np.c_[heights[:, None] * drift, heights]
    return Geometry(
        origins_lps_mm=corner + local @ turn.T,
        row_cosines=turn[:, 0],
        column_cosines=turn[:, 1],
        row_spacing_mm=draw(spacings),
        column_spacing_mm=draw(spacings),
        rows=draw(st.integers(1, 512)),
        columns=draw(st.integers(1, 512)),
        frame_of_reference_uid="1.2.3",
        slice_spacing_mm=draw(spacings),
    )


def plain(heights: list[float], **changes: object) -> Geometry:
    values: dict[str, object] = {
        "origins_lps_mm": np.array([[0.0, 0.0, height] for height in heights]),
        "row_cosines": np.array([1.0, 0.0, 0.0]),
        "column_cosines": np.array([0.0, 1.0, 0.0]),
        "row_spacing_mm": 0.7,
        "column_spacing_mm": 0.5,
        "rows": 4,
        "columns": 6,
        "frame_of_reference_uid": "1.2.3",
    }
    return Geometry(**(values | changes))  # type: ignore[arg-type]


@given(geometries(), st.lists(st.tuples(*[st.floats(-20, 600)] * 3), min_size=1, max_size=20))
def test_index_to_lps_and_back(geometry: Geometry, indices: list[tuple[float, float, float]]) -> None:
    """Between planes, beyond them and outside the image: the way back is exact."""
    there = geometry.index_to_lps(indices)
    assert np.abs(geometry.lps_to_index(there) - indices).max() <= 1e-6


@settings(max_examples=settings.default.max_examples // 2)
@given(geometries())
def test_origins_are_the_first_voxels(geometry: Geometry) -> None:
    """Index (slice, 0, 0) is ImagePositionPatient."""
    first = np.c_[np.arange(geometry.slices), np.zeros((geometry.slices, 2))]
    assert np.allclose(geometry.index_to_lps(first), geometry.origins_lps_mm, atol=1e-9)


@settings(max_examples=settings.default.max_examples // 2)
@given(geometries())
def test_widths_fill_the_stack(geometry: Geometry) -> None:
    """Each plane stands for the space half-way to its neighbours, so the widths sum to the whole."""
    gaps = np.diff(geometry.positions_mm)
    ends = (gaps[0] + gaps[-1]) / 2 if geometry.slices > 1 else geometry.slice_spacing_mm
    assert geometry.slice_widths_mm.sum() == pytest.approx(gaps.sum() + ends)
    assert (geometry.slice_widths_mm > 0).all()


def test_affine_agrees_with_index_to_lps() -> None:
    """On a regular stack both ways to patient space are one."""
    geometry = plain([5.0, 7.5, 10.0])
    index = np.array([1.25, 2.0, 3.5])
    assert np.allclose((geometry.affine @ [*index, 1])[:3], geometry.index_to_lps(index))
    again = from_affine(geometry.affine, geometry.shape, "1.2.3")
    assert np.allclose(again.origins_lps_mm, geometry.origins_lps_mm)
    assert (again.row_spacing_mm, again.column_spacing_mm) == pytest.approx((0.7, 0.5))


def test_row_and_column_spacing_are_not_swapped() -> None:
    """PixelSpacing's first value lies between rows: it goes with the row index and the column cosines."""
    assert np.allclose(plain([0.0, 1.0]).index_to_lps([0, 1, 0]), [0, 0.7, 0])
    assert np.allclose(plain([0.0, 1.0]).index_to_lps([0, 0, 1]), [0.5, 0, 0])


def test_uneven_widths() -> None:
    """Gaps of 2, 2 and 6 mm: widths of 2, 2, 4 and 6 mm."""
    geometry = plain([0.0, 2.0, 4.0, 10.0])
    assert not geometry.is_even and not geometry.is_regular
    assert geometry.slice_widths_mm.tolist() == [2, 2, 4, 6]
    assert geometry.voxel_volumes_mm3[2] == pytest.approx(4 * 0.7 * 0.5)
    with pytest.raises(ValueError, match="no affine"):
        _ = geometry.affine


def test_tilt_is_seen() -> None:
    """A gantry tilt of 20 degrees: no affine, and the angle is named."""
    geometry = plain([0.0, 5.0, 10.0])
    drift = np.outer([0, 5, 10], [0, np.tan(np.radians(20)), 0])
    tilted = plain([0.0], origins_lps_mm=geometry.origins_lps_mm + drift)
    assert tilted.is_tilted and tilted.is_even and not tilted.is_regular
    assert tilted.tilt_degrees == pytest.approx(20)


def test_rounded_positions_are_even() -> None:
    """Positions written with two decimals are still a regular stack; a lost slice is none."""
    heights = [round(index * 0.6667, 2) for index in range(60)]
    assert plain(heights).is_even
    assert not plain(heights[:30] + heights[31:]).is_even


def test_drifting_spacing_is_uneven() -> None:
    """Each gap alone is within tolerance, but they add up."""
    assert not plain(list(np.cumsum(2 + np.linspace(-0.015, 0.015, 100)))).is_even


@pytest.mark.parametrize(
    "changes",
    [
        {"origins_lps_mm": np.zeros((0, 3))},
        {"origins_lps_mm": np.array([0.0, 0.0, 0.0])},
        {"origins_lps_mm": np.array([[0, 0, np.nan]])},
        {"origins_lps_mm": np.array([[0, 0, 1.0], [0, 0, 0.0]])},
        {"origins_lps_mm": np.array([[0, 0, 1.0], [5, 0, 1.0]])},
        {"row_cosines": np.array([1.0, 0.1, 0.0])},
        {"column_cosines": np.array([1.0, 0.0, 0.0])},
        {"row_spacing_mm": 0.0},
        {"column_spacing_mm": -1.0},
        {"column_spacing_mm": float("nan")},
        {"slice_spacing_mm": 0.0},
        {"rows": 0},
        {"columns": 0},
    ],
)
def test_invalid_from_birth(changes: dict[str, object]) -> None:
    """What is no stack of planes cannot be made."""
    with pytest.raises(ValueError):
        plain([0.0, 1.0], **changes)


def test_values_cannot_be_changed() -> None:
    """The arrays of a geometry are read-only, and not the caller's own."""
    origins = np.array([[0.0, 0.0, 0.0]])
    geometry = plain([0.0], origins_lps_mm=origins)
    origins[0, 0] = 99
    assert geometry.origins_lps_mm[0, 0] == 0
    with pytest.raises(ValueError):
        geometry.origins_lps_mm[0, 0] = 1


def test_from_affine_refuses_a_left_handed_stack() -> None:
    """Slices must grow along row x column cosines."""
    with pytest.raises(ValueError):
        from_affine(plain([0.0, 1.0]).affine * [-1, 1, 1, 1], (2, 4, 6), "1.2.3")


def test_orthonormal() -> None:
    assert is_orthonormal(np.array([0.999999, 0.001, 0.0]), np.array([-0.001, 0.999999, 0.0]))
    assert not is_orthonormal(np.array([np.nan, 0, 0]), np.array([0, 1.0, 0]))


@pytest.mark.parametrize(
    ("heights", "missing"),
    [
        ([0, 5, 10, 15, 20], 0),
        ([0, 5, 10, 20, 25], 1),
        ([0, 5, 10.02, 25, 30.01], 2),
        ([0, 3, 7, 14, 18, 25, 26, 30], 0),  # whole millimetres are no grid
        ([0, 1, 6, 11, 16, 21], 0),
        ([0, 5, 11, 17, 22], 0),
        ([0, 5, 10, 15, 20, 30, 40, 50], 0),  # wider steps from there on
        ([0, 5, 10, 20, 30, 35, 40], 2),
        ([0], 0),
    ],
)
def test_missing_slices(heights: list[float], missing: int) -> None:
    """Slices that a regular grid would have between the others."""
    assert plain(heights).missing_slices == missing


@pytest.mark.parametrize(
    ("row", "column", "name"),
    [
        ([1, 0, 0], [0, 1, 0], "axial"),
        ([-1, 0, 0], [0, -1, 0], "axial"),
        ([0, 1, 0], [0, 0, -1], "sagittal"),
        ([1, 0, 0], [0, 0, 1], "coronal"),
        ([1, 0, 0], [0, np.cos(0.5), np.sin(0.5)], "axial"),
        ([1, 0, 0], [0, np.cos(0.6), np.sin(0.6)], "oblique"),
    ],
)
def test_plane_name(row: list[float], column: list[float], name: str) -> None:
    origins = np.array([[0.0, 0, 0], np.cross(row, column)])
    turned = plain([0, 5], origins_lps_mm=origins, row_cosines=np.array(row), column_cosines=np.array(column))
    assert turned.plane_name == name


def test_rounded_positions_of_an_oblique_stack_are_no_tilt() -> None:
    """1 mm apart and written to a hundredth: single gaps drift by a hundredth, the stack does not."""
    row, column = np.array([0.8, 0.6, 0.0]), np.array([-0.36, 0.48, 0.8])
    origins = np.round(np.arange(80)[:, None] * np.cross(row, column), 2)
    assert not plain([0], origins_lps_mm=origins, row_cosines=row, column_cosines=column).is_tilted


def test_one_slice_out_of_line_is_seen() -> None:
    """An affine would place it wrong."""
    origins = np.array([[0.0, 0, 5 * index] for index in range(12)])
    origins[4, 0] = 0.5
    assert plain([0], origins_lps_mm=origins).is_tilted
