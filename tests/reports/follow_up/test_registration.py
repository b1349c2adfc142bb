"""A liver laid over itself as an earlier study had it: moved, turned, stretched, bent; and livers that do not fit."""

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_io.geometry import Geometry
from models.phantom import grid, make_phantom
from reports.errors import LiversDiffer
from reports.follow_up.registration import Organ, register, sample_labels

GRID = grid(slices=60, rows=100, columns=120, spacing_mm=(5.0, 3.0, 3.0), seed=1, centre_lps_mm=(0.0, 14.0, 0.0))


@pytest.fixture(scope="module")
def liver() -> NDArray[np.bool_]:
    """The liver of a phantom on GRID."""
    return make_phantom(GRID, seed=1_000_020, lesions=0, noise_hu=0.0).truth > 0


def rotation(degrees: tuple[float, float, float]) -> NDArray[np.float64]:
    """About x, then y, then z."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        turn = np.eye(3)
        first, second = [other for other in range(3) if other != axis]
        turn[[first, second], [first, second]] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def moved(geometry: Geometry, matrix: NDArray[np.float64], shift_mm: tuple[float, float, float]) -> Geometry:
    """The same stack with the patient turned and shifted under it."""
    return Geometry(
        origins_lps_mm=geometry.origins_lps_mm @ matrix.T + np.array(shift_mm),
        row_cosines=matrix @ geometry.row_cosines,
        column_cosines=matrix @ geometry.column_cosines,
        row_spacing_mm=geometry.row_spacing_mm,
        column_spacing_mm=geometry.column_spacing_mm,
        rows=geometry.rows,
        columns=geometry.columns,
        frame_of_reference_uid="1.2.3",
    )


@pytest.mark.parametrize(
    ("degrees", "shift_mm"),
    [((0, 0, 0), (0, 0, 0)), ((4, -3, 8), (30, -20, 150)), ((12, 0, 25), (-80, 40, -900))],
)
def test_a_liver_is_found_wherever_it_lay(liver, degrees, shift_mm) -> None:
    """Moved by up to a metre and turned by up to 25 degrees, every point of it is mapped within a millimetre."""
    before = moved(GRID, rotation(degrees), shift_mm)
    found = register(Organ(liver, GRID).surface, Organ(liver, before).surface)
    voxels = np.argwhere(liver)[::50]
    here, there = GRID.index_to_lps(voxels), before.index_to_lps(voxels)
    assert np.linalg.norm(found.to_prior(here) - there, axis=1).max() < 1.0
    assert found.dice > 0.97
    assert found.surface_mm < 1.0
    np.testing.assert_allclose(found.from_prior(found.to_prior(here)), here, atol=1e-9)


def test_a_liver_is_found_on_another_grid(liver) -> None:
    """Thinner slices of a coarser pixel, beginning elsewhere."""
    other = grid(slices=110, rows=70, columns=80, spacing_mm=(2.8, 4.0, 4.5), seed=1, centre_lps_mm=(3.0, 18.0, 5.0))
    before = make_phantom(other, seed=1_000_020, lesions=0, noise_hu=0.0).truth > 0
    found = register(Organ(liver, GRID).surface, Organ(before, other).surface)
    points = GRID.index_to_lps(np.argwhere(liver)[::50])
    assert np.linalg.norm(found.to_prior(points) - points, axis=1).max() < 1.5


def test_a_liver_that_was_drawn_out_is_found(liver) -> None:
    """Breathed in: a tenth longer along the body, and a tenth narrower."""
    scale = np.diag([0.9, 1.0, 1.1])
    voxels = np.indices(GRID.shape).reshape(3, -1).T
    sources = GRID.index_to_lps(voxels) / scale.diagonal()
    before = sample_labels(liver, GRID, sources).reshape(GRID.shape)
    found = register(Organ(liver, GRID).surface, Organ(before, GRID).surface)
    points = GRID.index_to_lps(np.argwhere(liver)[::50])
    assert np.linalg.norm(found.to_prior(points) - points @ scale, axis=1).max() < 2.5


def test_the_same_livers_give_the_same_map(liver) -> None:
    """To the last bit: no thread and no chance has a part in it."""
    before = Organ(liver, moved(GRID, rotation((0, 5, 5)), (10, 0, 0))).surface
    first, second = (register(Organ(liver, GRID).surface, before) for _ in range(2))
    assert np.array_equal(first.matrix, second.matrix)
    assert first.dice == second.dice


def test_half_a_liver_is_no_match(liver) -> None:
    """An earlier study that shows the upper half alone is refused, with the figures that say why."""
    planes = np.flatnonzero(liver.any(axis=(1, 2)))
    half = liver.copy()
    half[: planes[len(planes) // 2]] = False
    with pytest.raises(LiversDiffer, match=r"overlap 0\.\d\d, surfaces .* mm apart, stretched by"):
        register(Organ(liver, GRID).surface, Organ(half, GRID).surface)


def test_a_ball_is_no_liver(liver) -> None:
    """Nor is anything else of its volume."""
    z, y, x = (np.indices(GRID.shape) - np.array([30, 50, 60])[:, None, None, None]) * np.array([5, 3, 3])[
        :, None, None, None
    ]
    radius = (np.count_nonzero(liver) * 45 * 3 / 4 / np.pi) ** (1 / 3)
    with pytest.raises(LiversDiffer):
        register(Organ(liver, GRID).surface, Organ(z**2 + y**2 + x**2 < radius**2, GRID).surface)


def test_nothing_is_not_registered() -> None:
    """An empty mask, or one of another shape, is a mistake of the caller."""
    with pytest.raises(ValueError, match="no liver"):
        Organ(np.zeros(GRID.shape, bool), GRID)
    with pytest.raises(ValueError, match="its geometry"):
        Organ(np.ones((1, 2, 3), bool), GRID)
