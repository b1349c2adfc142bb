"""Edges of lesions by their values, on balls whose edges are known."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from dicom_io.geometry import Geometry
from dicom_io.segmentation import LIVER
from dicom_io.volume import Volume
from models.edges import settle_edges

MakeGeometry = Callable[..., Geometry]
Labels = NDArray[np.uint8]
CENTRE_MM = (40.0, 44.0, 46.0)


def distance_mm(geometry: Geometry, centre_mm: tuple[float, float, float] = CENTRE_MM) -> NDArray[np.float64]:
    """Of each voxel to a place in (slice, row, column) mm."""
    steps = (geometry.slice_widths_mm[0], geometry.row_spacing_mm, geometry.column_spacing_mm)
    axes = (np.arange(n) * mm - at for n, mm, at in zip(geometry.shape, steps, centre_mm, strict=True))
    return np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij", sparse=True)))


def drawn(geometry: Geometry, radius_mm: float, number: int = 2, *, on: Labels | None = None) -> Labels:
    """A ball in a liver that fills all but the outermost voxels."""
    labels = np.zeros(geometry.shape, np.uint8) if on is None else on
    if on is None:
        labels[1:-1, 2:-2, 2:-2] = LIVER
    labels[(distance_mm(geometry) < radius_mm) & (labels == LIVER)] = number
    return labels


def made(
    geometry: Geometry, radius_mm: float, contrast: float = -50.0, noise: float = 8.0, *, modality: str = "CT"
) -> Volume:
    """A liver of 110 HU with a ball in it whose edge is blurred by 1 mm."""
    steps = (geometry.slice_widths_mm[0], geometry.row_spacing_mm, geometry.column_spacing_mm)
    ball = gaussian_filter((distance_mm(geometry) < radius_mm).astype(np.float32), [1.0 / mm for mm in steps])
    values = 110 + contrast * ball + np.random.default_rng(0).normal(0, noise, geometry.shape)
    return Volume(values.astype(np.float32), geometry, modality, "")


@pytest.fixture(params=[(1.0, 1.0, 1.0), (2.5, 0.8, 1.2)], ids=["cubes", "thick"])
def grid(request: pytest.FixtureRequest, axial: MakeGeometry) -> Geometry:
    """84 x 88 x 92 mm."""
    step, row, column = request.param
    shape = round(84 / step), round(88 / row), round(92 / column)
    return axial(rows=shape[1], columns=shape[2], spacing_mm=(row, column), positions_mm=np.arange(shape[0]) * step)


def volume_over_truth(labels: Labels, geometry: Geometry, radius_mm: float) -> float:
    """Of lesion 2 over a ball's voxels."""
    return float(np.count_nonzero(labels == 2) / np.count_nonzero(distance_mm(geometry) < radius_mm))


@pytest.mark.parametrize("contrast", [-50.0, 60.0], ids=["darker", "brighter"])
@pytest.mark.parametrize("error_mm", [2.0, 0.0, -2.0])
def test_edge_that_was_drawn_wrong_is_put_right(grid: Geometry, contrast: float, error_mm: float) -> None:
    """2 mm too far out are 1.5 of the volume, too far in 0.6: both come to within 4 %."""
    labels = drawn(grid, 14 + error_mm)
    assert error_mm == 0 or not 0.7 < volume_over_truth(labels, grid, 14) < 1.4
    settle_edges(made(grid, 14, contrast), labels)
    assert volume_over_truth(labels, grid, 14) == pytest.approx(1, abs=0.04)
    assert int((labels > 0).sum()) == int((drawn(grid, 0) > 0).sum()), "what the lesion lost is liver"


def test_edge_moves_no_further_than_the_band(axial: MakeGeometry) -> None:
    """Five millimetres too far in, it goes out by three."""
    cubes = axial(rows=88, columns=92, spacing_mm=(1.0, 1.0), positions_mm=np.arange(84.0))
    labels = drawn(cubes, 9)
    settle_edges(made(cubes, 14), labels)
    assert volume_over_truth(labels, cubes, 12) == pytest.approx(1, abs=0.08)


def test_small_ball_loses_nothing_to_the_blur(axial: MakeGeometry) -> None:
    """Of 10 mm, sharp and drawn right: half-way after a blur of 1 mm would be 12 % less."""
    cubes = axial(rows=88, columns=92, spacing_mm=(1.0, 1.0), positions_mm=np.arange(84.0))
    sharp = (distance_mm(cubes) < 5).astype(np.float32)
    labels = drawn(cubes, 5)
    settle_edges(Volume(110 - 50 * sharp, cubes, "CT", ""), labels)
    assert volume_over_truth(labels, cubes, 5) == pytest.approx(1, abs=0.05)


def unchanged(volume: Volume, labels: Labels) -> bool:
    """Whether no voxel gets another label."""
    before = labels.copy()
    settle_edges(volume, labels)
    return bool((labels == before).all())


def test_what_hardly_stands_out_stays_as_the_network_drew_it(grid: Geometry) -> None:
    """A contrast of two times the noise says nothing of single voxels; nor do values of MR, which were not measured."""
    assert unchanged(made(grid, 14, -20.0, 10.0), drawn(grid, 16))
    assert not unchanged(made(grid, 14, -50.0, 10.0), drawn(grid, 16))
    assert unchanged(made(grid, 14, -50.0, 10.0, modality="MR"), drawn(grid, 16))


def test_bright_rim_stays_part_of_a_dark_lesion(grid: Geometry) -> None:
    """As of a metastasis that takes up contrast at its edge."""
    inside, outside = made(grid, 14, noise=4.0).array, made(grid, 17, 40.0, noise=4.0).array
    volume = Volume(inside + np.where(distance_mm(grid) > 14, outside - 110, 0).astype(np.float32), grid, "CT", "")
    assert unchanged(volume, drawn(grid, 17))


def test_lesion_of_two_parts_stays(grid: Geometry) -> None:
    """Half of it is like the liver: no one value is its own."""
    volume = made(grid, 14)
    half = volume.array.copy()
    half[: len(half) // 2] = made(grid, 0).array[: len(half) // 2]
    assert unchanged(Volume(half, grid, "CT", ""), drawn(grid, 16))


def test_another_lesion_is_not_taken(grid: Geometry) -> None:
    """Nor what lies outside the liver: an edge moves within liver alone, and each lesion keeps its number."""
    labels = drawn(grid, 12)
    labels[: len(labels) // 2][labels[: len(labels) // 2] == LIVER] = 0
    other = (distance_mm(grid) < 15) & (labels == LIVER)
    labels[other & (np.arange(grid.shape[2]) > grid.shape[2] // 2)] = 3
    before = labels.copy()
    settle_edges(made(grid, 14), labels)
    assert set(before[(labels == 2) & (before != 2)].tolist()) <= {LIVER}
    assert ((labels == 0) == (before == 0)).all()


def test_no_lesion_becomes_too_small_to_be_one(axial: MakeGeometry) -> None:
    """Drawn 8 mm wide and really 5.5: less than the 6 mm from which on anything is a lesion."""
    fine = axial(rows=110, columns=115, spacing_mm=(0.8, 0.8), positions_mm=np.arange(105) * 0.8)
    assert unchanged(made(fine, 2.75, -90.0), drawn(fine, 4))
    assert not unchanged(made(fine, 3.6, -90.0), drawn(fine, 4.6))


@pytest.mark.parametrize("radius_mm", [0.9, 2.5])
def test_a_few_voxels_are_left_alone(axial: MakeGeometry, radius_mm: float) -> None:
    """Of a speck there is no inside to compare."""
    thick = axial(rows=30, columns=30, spacing_mm=(3.0, 3.0), positions_mm=np.arange(17) * 5.0)
    assert unchanged(made(thick, 6), drawn(thick, radius_mm))
