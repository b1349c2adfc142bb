"""Stacks of any orientation: what is found lies where it is, never mirrored, as large as it is."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dicom_io.geometry import Geometry
from dicom_io.volume import Volume
from models.cards import Preprocessing
from models.inference import Model, segment
from models.preprocessing import AIR_HU, to_canonical
from models.reslicing import MAX_GRID_VOXELS, axial_grid, is_axial, reslice

LIVER_LPS_MM, LIVER_AXES_MM = np.array([21.0, -37.0, 512.0]), np.array([46.0, 39.0, 33.0])
LESION_LPS_MM, LESION_RADIUS_MM = LIVER_LPS_MM + np.array([17.0, -11.0, 8.0]), 14.0
FIELD_MM = 130.0

AXIS_ALIGNED = [
    np.array(signs)[:, None] * np.eye(3)[list(axes)]
    for axes in permutations(range(3))
    for signs in product((1.0, -1.0), repeat=3)
]
"""All 48: the directions in which slice, row and column index grow. Half of them have slices against the normal."""


def stack(
    directions: NDArray[np.float64],
    *,
    gaps_mm: NDArray[np.float64],
    spacing_mm: tuple[float, float] = (3.0, 3.0),
    size_mm: tuple[float, float] = (FIELD_MM, FIELD_MM),
    drift: tuple[float, float] = (0.0, 0.0),
) -> Geometry:
    """A stack around the liver. `directions`: of slice, row and column index; slices are sorted along the normal.

    `drift`: movement along rows and columns of the image per millimetre along the normal, as a tilted gantry makes.
    """
    column_cosines, row_cosines = directions[1], directions[2]
    normal = np.cross(row_cosines, column_cosines)
    rows, columns = (max(1, round(size / mm)) for size, mm in zip(size_mm, spacing_mm, strict=True))
    heights = np.r_[0.0, np.cumsum(gaps_mm)]
    heights = heights - heights.mean()
    along = normal + drift[0] * row_cosines + drift[1] * column_cosines
    corner = -column_cosines * (rows - 1) / 2 * spacing_mm[0] - row_cosines * (columns - 1) / 2 * spacing_mm[1]
    return Geometry(
        origins_lps_mm=LIVER_LPS_MM + corner + heights[:, None] * along,
        row_cosines=row_cosines,
        column_cosines=column_cosines,
        row_spacing_mm=spacing_mm[0],
        column_spacing_mm=spacing_mm[1],
        rows=rows,
        columns=columns,
        frame_of_reference_uid="1.2.3",
        slice_spacing_mm=8.0,
    )


def imaged(geometry: Geometry) -> tuple[Volume, NDArray[np.uint8]]:
    """A volume of the liver with its lesion, their borders 4 mm wide as a scanner draws them, and the truth."""
    lps = geometry.index_to_lps(np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), axis=-1))
    liver_mm = (np.linalg.norm((lps - LIVER_LPS_MM) / LIVER_AXES_MM, axis=-1) - 1) * LIVER_AXES_MM.mean()
    lesion_mm = np.linalg.norm(lps - LESION_LPS_MM, axis=-1) - LESION_RADIUS_MM
    hu = -100 + 210 * np.clip(0.5 - liver_mm / 4, 0, 1) + 100 * np.clip(0.5 - lesion_mm / 4, 0, 1)
    truth = (liver_mm < 0).astype(np.uint8) + (lesion_mm < 0)
    return Volume(np.rint(hu).astype(np.int16), geometry, "CT", "1.2.3.4"), truth


def measured(mask: NDArray[np.bool_], geometry: Geometry) -> tuple[float, NDArray[np.float64]]:
    """Volume in mm3 and centre in LPS of a mask."""
    index = np.argwhere(mask)
    volumes = geometry.voxel_volumes_mm3[index[:, 0]]
    return float(volumes.sum()), np.average(geometry.index_to_lps(index), axis=0, weights=volumes)


def check(model: Model, geometry: Geometry) -> None:
    """Liver and lesion as large as the truth on the same voxels, at the same place.

    On even axial stacks of thick slices the network is shown slices between the source's own, and their blend, twice
    over, is smaller at its ends; elsewhere a few per cent are what the voxels leave open.
    """
    volume, truth = imaged(geometry)
    segmentation = segment(model, volume)
    assert segmentation.geometry is geometry
    assert segmentation.lesion_count == 1
    blended = is_axial(geometry) and geometry.is_even
    for label, least, within in ((1, 0.96, 0.07 if blended else 0.05), (2, 0.88, 0.25 if blended else 0.12)):
        found, real = segmentation.labels >= label, truth >= label
        (volume_mm3, centre), (true_mm3, true_centre) = measured(found, geometry), measured(real, geometry)
        assert volume_mm3 == pytest.approx(true_mm3, rel=within)
        np.testing.assert_allclose(centre, true_centre, atol=0.8)
        assert 2 * (found & real).sum() >= least * (found.sum() + real.sum())


def rotation(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rotation (3, 3) of a quaternion of any length."""
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


part = st.floats(-1, 1)
oblique = st.tuples(part, part, part, st.floats(0.1, 1)).map(np.array).map(rotation)


@st.composite
def stacks(draw: st.DrawFn) -> Geometry:
    """Sagittal, coronal, axial, oblique; tilted or not, even or not, pixels of any shape, rows running either way."""
    directions = draw(st.one_of(st.sampled_from(AXIS_ALIGNED), oblique))
    step = draw(st.floats(2.0, 6.0))
    jitter = draw(st.lists(st.floats(0.6, 1.5), min_size=5, max_size=5) | st.just([1.0]))
    gaps = step * np.resize(jitter, int(FIELD_MM / step))
    drift = draw(st.tuples(*[st.floats(-0.45, 0.45)] * 2) | st.just((0.0, 0.0)))
    spacing = draw(st.tuples(*[st.floats(1.0, 3.5)] * 2))
    return stack(directions, gaps_mm=gaps, spacing_mm=spacing, size_mm=(150.0, 140.0), drift=drift)


@settings(
    max_examples=settings.default.max_examples // 20,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # half a second each: shrinking would take minutes
)
@given(geometry=stacks())
def test_what_is_found_lies_where_it_is_in_any_stack(stand_in: Model, geometry: Geometry) -> None:
    """Liver and lesion, which no turn but the right one brings together, at their LPS positions."""
    check(stand_in, geometry)


def test_all_orientations_along_the_axes_label_the_same_points(stand_in: Model) -> None:
    """One object on one lattice of points, imaged in 48 ways: the same points are liver, the same are lesion."""
    answers: dict[bool, list[NDArray[np.int64]]] = {True: [], False: []}
    for directions in AXIS_ALIGNED:
        geometry = stack(directions, gaps_mm=np.full(42, 3.0), size_mm=(129.0, 129.0))
        volume, _ = imaged(geometry)
        labels = segment(stand_in, volume).labels
        lattice = np.zeros((43, 43, 43), np.int64)
        points = (geometry.index_to_lps(np.argwhere(labels)) - LIVER_LPS_MM) / 3 + 21
        lattice[tuple(np.rint(points).astype(int).T)] = labels[labels > 0]
        answers[is_axial(geometry)].append(lattice)
    assert (len(answers[True]), len(answers[False])) == (16, 32)
    shown, resliced = answers[True][0], answers[False][0]
    assert (np.count_nonzero(shown == 2), np.count_nonzero(shown)) > (300, 8000)
    for same in (answers[True], answers[False]):
        assert all(np.count_nonzero(other != same[0]) <= 8 for other in same)
    assert np.count_nonzero(shown != resliced) < 0.05 * np.count_nonzero(shown)


@pytest.mark.parametrize("directions", [np.eye(3), np.eye(3)[[1, 2, 0]], np.eye(3)[[2, 1, 0]]])
@pytest.mark.parametrize("gaps", [(), (9.0,), (12.0, 9.0, 11.0, 12.0), (14.0, 300.0), (10.0,) * 4 + (400.0, 900.0)])
def test_a_few_slices_and_huge_gaps_are_segmented(
    stand_in: Model, directions: NDArray[np.float64], gaps: tuple[float, ...]
) -> None:
    """One slice, two, five, and stacks with holes: the liver is found on the slices that show it."""
    geometry = stack(directions, gaps_mm=np.array(gaps))
    shown = np.argmin(np.abs(geometry.positions_mm - LIVER_LPS_MM @ geometry.normal))
    offset = (geometry.positions_mm[shown] - LIVER_LPS_MM @ geometry.normal) * geometry.normal
    geometry = replace(geometry, origins_lps_mm=geometry.origins_lps_mm - offset)
    volume, truth = imaged(geometry)
    found = segment(stand_in, volume).labels[shown] > 0
    assert 2 * (found & (truth[shown] > 0)).sum() > 0.9 * (found.sum() + (truth[shown] > 0).sum())


@pytest.mark.parametrize(("modality", "outside"), [("CT", AIR_HU), ("MR", 0.0)])
def test_outside_of_the_field_is_air_or_nothing(how: Preprocessing, modality: str, outside: float) -> None:
    """An oblique stack fills its axial grid in part; the rest is no copy of its border."""
    geometry = stack(rotation(np.array([1.0, 0.9, 0.1, 0.2])), gaps_mm=np.full(20, 6.0))
    volume = Volume(np.full(geometry.shape, 77, np.int16), geometry, modality, "1.2.3")
    sampled = reslice(volume, how)
    assert set(np.unique(sampled.array)) == {outside, 77.0}
    index = geometry.lps_to_index(sampled.geometry.index_to_lps(np.argwhere(sampled.array == 77)))
    assert (index >= -0.5).all()
    assert (index <= np.array(geometry.shape) - 0.5).all()
    cells = np.count_nonzero(sampled.array == 77) * sampled.geometry.voxel_volumes_mm3[0]
    assert cells == pytest.approx(np.prod(geometry.shape) * geometry.voxel_volumes_mm3[0], rel=0.01)


def test_fill_values_of_a_scanner_do_not_bleed_into_the_body(how: Preprocessing) -> None:
    """-3024 is air before it is averaged with its neighbours."""
    geometry = stack(np.eye(3)[[0, 1, 2]], gaps_mm=np.full(20, 3.0), spacing_mm=(0.75, 0.75))
    array = np.full(geometry.shape, -3024, np.int16)
    array[:, 0::2] = 1024
    sampled = reslice(Volume(array, geometry, "CT", "1.2.3"), how)
    inner = sampled.array[5:-5, 10:-10, 10:-10]
    np.testing.assert_allclose(inner, 0, atol=60)


@pytest.mark.parametrize("directions", AXIS_ALIGNED[::5])
def test_axial_grid_is_canonical_and_holds_every_voxel(how: Preprocessing, directions: NDArray[np.float64]) -> None:
    """`to_canonical` turns nothing, and the centre of every source voxel lies between its outermost centres."""
    geometry = stack(directions, gaps_mm=np.array([3.0, 7.0, 2.0]), spacing_mm=(0.9, 2.0), drift=(0.3, -0.2))
    grid = axial_grid(geometry, how)
    canonical = to_canonical(Volume(np.zeros(grid.shape, np.float32), grid, "CT", "1.2.3"))
    assert (canonical.swap, canonical.flips) == (False, (False, False, False))
    index = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), axis=-1)
    place = grid.lps_to_index(geometry.index_to_lps(index))
    assert place.min() >= 0
    assert (place <= np.array(grid.shape) - 1).all()


def test_axial_grid_is_bounded_whatever_the_file_says(how: Preprocessing) -> None:
    """Pixels of 40 mm, or a field of a scanner and more: coarser, not larger."""
    for spacing, size in (((40.0, 40.0), (20000.0, 20000.0)), ((1.0, 1.0), (800.0, 800.0))):
        geometry = stack(
            rotation(np.array([1.0, 0.8, 0.3, 0.5])), gaps_mm=np.full(400, 2.0), spacing_mm=spacing, size_mm=size
        )
        assert np.prod(axial_grid(geometry, how).shape, dtype=float) <= MAX_GRID_VOXELS


def test_axial_grid_is_as_fine_as_the_network_reads(how: Preprocessing) -> None:
    """Pixels of its fine pass; slices no closer than the source resolves, or the network can use."""
    sagittal = np.eye(3)[[0, 2, 1]]
    for row_mm, step_mm in ((0.5, 1.0), (1.7, 1.7), (4.0, 4.0)):
        grid = axial_grid(stack(sagittal, gaps_mm=np.full(20, 5.0), spacing_mm=(row_mm, 0.7)), how)
        assert (grid.row_spacing_mm, grid.column_spacing_mm) == (1.5, 1.5)
        assert grid.step_mm == pytest.approx(step_mm)


@pytest.mark.parametrize(("degrees", "axial"), [(0, True), (18.5, True), (36, True), (38, False), (90, False)])
def test_a_tilted_gantry_is_axial_and_a_reformat_is_not(degrees: float, axial: bool) -> None:
    """Up to 37 degrees the network is shown the slices themselves; head first or feet first is the same."""
    turn = np.radians(degrees)
    for sign in (1.0, -1.0):
        column_cosines = np.array([0.0, np.cos(turn), np.sin(turn)]) * sign
        directions = np.stack([np.zeros(3), column_cosines, np.array([1.0, 0.0, 0.0])])
        assert is_axial(stack(directions, gaps_mm=np.full(5, 3.0))) is axial
