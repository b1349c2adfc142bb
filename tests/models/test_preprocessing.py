"""The way to the network's grid and back: exact for every orientation, linear for every spacing."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from dicom_io.geometry import Geometry
from dicom_io.volume import Volume
from models.cards import Preprocessing
from models.preprocessing import (
    AIR_HU,
    PERCENTILE_VOXELS,
    Canonical,
    channels,
    normalise,
    resample_slices,
    shrink,
    shrunk_stack,
    slice_positions,
    to_canonical,
    value_window,
)

MakeGeometry = Callable[..., Geometry]

ORIENTATIONS = list(product((False, True), (1, -1), (1, -1)))
"""swap, down, right: the eight ways in which a transverse image can lie; the normal follows."""


def numbered(geometry: Geometry) -> Volume:
    """A volume in which each voxel bears its own number."""
    array = np.arange(np.prod(geometry.shape), dtype=np.int16).reshape(geometry.shape)
    return Volume(array, geometry, "CT", "1.2.3")


@pytest.mark.parametrize(("swap", "down", "right"), ORIENTATIONS)
def test_canonical_axes_run_superior_posterior_left(axial: MakeGeometry, swap: bool, down: int, right: int) -> None:
    """Each canonical voxel lies, by the source's geometry, where its canonical index says, and none is lost."""
    geometry = axial(swap=swap, down=down, right=right)
    canonical = to_canonical(numbered(geometry))
    source = np.stack(np.unravel_index(canonical.array.astype(int), geometry.shape), axis=-1)
    lps = geometry.index_to_lps(source)
    inferior_anterior_right = lps.reshape(-1, 3).min(axis=0)
    steps = np.stack(np.meshgrid(*map(np.arange, canonical.array.shape), indexing="ij"), axis=-1)
    row_mm, column_mm = canonical.spacing_mm
    expected = inferior_anterior_right + steps[..., ::-1] * np.array([column_mm, row_mm, 5.0])
    np.testing.assert_allclose(lps, expected, atol=1e-9)
    np.testing.assert_allclose(canonical.positions_mm, lps[:, 0, 0, 2], atol=1e-9)


@pytest.mark.parametrize(("swap", "down", "right"), ORIENTATIONS)
def test_labelled_corner_comes_back_at_its_place(axial: MakeGeometry, swap: bool, down: int, right: int) -> None:
    """The most inferior, anterior, right voxel of the canonical grid is that of the source too."""
    geometry = axial(swap=swap, down=down, right=right)
    canonical = to_canonical(numbered(geometry))
    labels = np.zeros(canonical.array.shape, np.uint8)
    labels[0, 0, 0] = 7
    restored = canonical.restore(labels)
    assert restored.shape == geometry.shape
    corners = geometry.index_to_lps([[0, 0, 0], np.array(geometry.shape) - 1])
    np.testing.assert_allclose(geometry.index_to_lps(np.argwhere(restored == 7)), [corners.min(axis=0)], atol=1e-9)


def test_rows_back_to_front_turn_the_normal_down(axial: MakeGeometry) -> None:
    """LiTS 0: ImageOrientationPatient 1,0,0,0,-1,0. Slices and rows are turned, columns are not."""
    geometry = axial(down=-1)
    np.testing.assert_array_equal(geometry.normal, [0, 0, -1])
    canonical = to_canonical(numbered(geometry))
    assert (canonical.swap, canonical.flips) == (False, (True, True, False))
    assert np.diff(canonical.positions_mm).min() > 0


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("flips", list(product((False, True), repeat=3)))
def test_restore_undoes_every_turn(axial: MakeGeometry, flips: tuple[bool, bool, bool], swap: bool) -> None:
    """Labels to the canonical grid and back are the same labels, and the other way round."""
    geometry = axial()
    shape = (geometry.slices, geometry.columns, geometry.rows) if swap else geometry.shape
    like = Canonical(np.zeros(shape, np.float32), np.arange(geometry.slices) * 5.0, (3.0, 3.5), swap, flips)
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 200, geometry.shape).astype(np.uint8)
    np.testing.assert_array_equal(like.restore(like.turn(labels)), labels)
    turned = draw.integers(0, 200, shape).astype(np.uint8)
    np.testing.assert_array_equal(like.turn(like.restore(turned)), turned)


@pytest.mark.parametrize(("swap", "down", "right"), ORIENTATIONS)
def test_labels_are_turned_as_the_image_is(axial: MakeGeometry, swap: bool, down: int, right: int) -> None:
    """A mask drawn on the source covers the same voxels of the turned image."""
    geometry = axial(swap=swap, down=down, right=right)
    volume = numbered(geometry)
    canonical = to_canonical(volume)
    labels = (volume.array % 7 == 0).astype(np.uint8)
    np.testing.assert_array_equal(canonical.turn(labels), canonical.array % 7 == 0)


def test_whatever_lies_outside_the_reconstruction_is_air(axial: MakeGeometry) -> None:
    """A fill value of -3024 does not reach the network; other values stay."""
    geometry = axial()
    array = np.full(geometry.shape, -3024, np.int16)
    array[0, 0, 0] = 55
    canonical = to_canonical(Volume(array, geometry, "CT", "1.2.3")).array
    assert canonical[0, 0, 0] == 55
    assert canonical[1:].min() == canonical[1:].max() == AIR_HU


def test_values_of_mr_are_left_alone(axial: MakeGeometry) -> None:
    """They have no unit, and below -1024 is no air: phase images and odd slopes reach far down."""
    geometry = axial()
    array = np.full(geometry.shape, -30000.5, np.float32)
    canonical = to_canonical(Volume(array, geometry, "MR", "1.2.3"))
    assert (canonical.array == array[0, 0, 0]).all()
    assert (canonical.planes(np.array([2, 5]), slice(1, 4), slice(None)) == -30000.5).all()


@pytest.mark.parametrize(("swap", "down", "right"), ORIENTATIONS)
def test_planes_are_parts_of_the_whole(axial: MakeGeometry, swap: bool, down: int, right: int) -> None:
    """What inference reads slab by slab is what training reads at once; and the way back is a view of the source."""
    geometry = axial(swap=swap, down=down, right=right)
    volume = numbered(geometry)
    canonical = to_canonical(volume)
    slices, rows, columns = np.array([1, 2, 7]), slice(2, 9), slice(3, 11)
    planes = canonical.planes(slices, rows, columns)
    np.testing.assert_array_equal(planes.numpy(), canonical.array[slices, rows, columns])
    labels = np.zeros(geometry.shape, np.uint8)
    canonical.turn(labels)[4, 5, 6] = 9
    np.testing.assert_array_equal(volume.array[labels == 9], canonical.array[4, 5, 6])


@pytest.mark.parametrize("spacing", ["dense", "sparse", "uneven"])
def test_only_the_slices_that_are_read_are_shrunk(axial: MakeGeometry, how: Preprocessing, spacing: str) -> None:
    """And what `channels` reads of them is what it would read of all."""
    positions = {
        "dense": np.arange(60) * 0.7,
        "sparse": np.arange(9) * 9.0,
        "uneven": np.cumsum(np.r_[0.0, np.tile([1.1, 7.4, 4.2], 5)]),
    }[spacing]
    canonical = to_canonical(numbered(axial(rows=40, columns=44, positions_mm=positions)))
    centres = slice_positions(canonical, 4.0)
    part = shrunk_stack(canonical, centres, how, target_mm=3.0)
    everything = shrink(torch.from_numpy(canonical.array), canonical.spacing_mm, 3.0)
    assert (len(part.positions_mm) < len(positions)) == (spacing == "dense")
    read = channels(part.planes, part.positions_mm, centres, how, part.drift)
    assert torch.equal(read, channels(everything, canonical.positions_mm, centres, how))


@pytest.mark.parametrize(("swap", "down", "right"), ORIENTATIONS)
@pytest.mark.parametrize("drift", [(0.0, np.tan(np.radians(18.5))), (0.3, -0.2)])
def test_neighbours_of_a_tilted_stack_lie_along_the_normal(
    axial: MakeGeometry, how: Preprocessing, swap: bool, down: int, right: int, drift: tuple[float, float]
) -> None:
    """Where the value is the place, the three channels of a pixel differ by the way along the normal alone."""
    geometry = axial(swap=swap, down=down, right=right, rows=64, columns=70, positions_mm=np.arange(12) * 5.0)
    geometry = replace(
        geometry,
        origins_lps_mm=geometry.origins_lps_mm + np.outer(np.arange(12) * 5.0, [drift[0], drift[1], 0.0]),
    )
    assert geometry.is_tilted
    lps = geometry.index_to_lps(np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), axis=-1))
    for place in (lps[..., 0], lps[..., 1]):
        canonical = to_canonical(Volume(place.astype(np.float32), geometry, "CT", "1.2.3"))
        centres = np.array([20.0, 30.0, 41.0]) + canonical.positions_mm[0]
        stack = shrunk_stack(canonical, centres, how, target_mm=1.5)
        wide = replace(how, window_hu=(-1000.0, 1000.0))
        hu = channels(stack.planes, stack.positions_mm, centres, wide, stack.drift)[..., 20:-20, 20:-20] * 1000
        for neighbour in (0, 2):
            np.testing.assert_allclose(hu[:, neighbour], hu[:, 1], atol=0.05)


def test_window_of_ct_is_the_cards_and_of_mr_its_own(axial: MakeGeometry, how: Preprocessing) -> None:
    """Percentiles of the voxels, for a card that has both."""
    geometry = axial()
    both = replace(how, window_percentiles=(5.0, 95.0))
    array = np.arange(np.prod(geometry.shape), dtype=np.float32).reshape(geometry.shape)
    assert value_window(Volume(array, geometry, "CT", "1.2.3"), both) == how.window_hu
    low, high = value_window(Volume(array, geometry, "MR", "1.2.3"), both)
    assert (low, high) == pytest.approx((0.05 * (array.size - 1), 0.95 * (array.size - 1)))
    with pytest.raises(ValueError, match="percentiles"):
        value_window(Volume(array, geometry, "MR", "1.2.3"), how)


def test_window_of_an_image_of_one_value_is_none_that_divides_by_nothing(
    axial: MakeGeometry, how: Preprocessing
) -> None:
    """An empty MR becomes numbers, not NaN."""
    geometry = axial()
    volume = Volume(np.full(geometry.shape, 400, np.int16), geometry, "MR", "1.2.3")
    window = value_window(volume, replace(how, window_percentiles=(1.0, 99.0)))
    assert normalise(torch.tensor([0.0, 400.0, 401.0]), window).tolist() == [-1.0, -1.0, 1.0]


def test_window_of_a_large_volume_is_taken_of_a_part_evenly_spread(axial: MakeGeometry, how: Preprocessing) -> None:
    """Close to that of all voxels, where they are too many to sort."""
    geometry = axial(rows=700, columns=710)
    array = np.random.default_rng(0).normal(300, 50, geometry.shape).astype(np.float32)
    assert array.size > PERCENTILE_VOXELS
    window = value_window(Volume(array, geometry, "MR", "1.2.3"), replace(how, window_percentiles=(1.0, 99.0)))
    np.testing.assert_allclose(window, np.percentile(array, (1.0, 99.0)), atol=0.5)


def test_no_plane_is_enlarged_without_bound() -> None:
    """A pixel spacing of 40 mm is a mistake of the file, and no reason to need gigabytes."""
    assert shrink(torch.zeros(1, 64, 300), (40.0, 40.0), 1.5).shape == (1, 1024, 1024)


@pytest.mark.parametrize(("size", "spacing_mm"), [((96, 120), (0.7, 0.75)), ((40, 44), (3.1, 4.0))])
def test_shrink_keeps_a_ramp_a_ramp_and_the_edges_where_they_were(
    size: tuple[int, int], spacing_mm: tuple[float, float]
) -> None:
    """Old and new pixels share their outer edges: a ramp read at the new pixels' centres is what comes out."""
    y, x = (np.arange(n) + 0.5 for n in size)
    ramp = torch.from_numpy((3.0 * y[:, None] * spacing_mm[0] - 2.0 * x * spacing_mm[1]).astype(np.float32))[None]
    small = shrink(ramp, spacing_mm, 1.5)[0].numpy()
    extent = [n * mm for n, mm in zip(size, spacing_mm, strict=True)]
    assert small.shape == tuple(max(32, round(mm / 1.5)) for mm in extent)
    new_y, new_x = ((np.arange(n) + 0.5) * mm / n for n, mm in zip(small.shape, extent, strict=True))
    expected = 3.0 * new_y[:, None] - 2.0 * new_x
    # The ramp rises by 3 HU/mm: 0.15 HU are a twentieth of a millimetre. Half a pixel would be over 1 HU.
    inner = slice(4, -4)  # beyond the image there is nothing to average with
    np.testing.assert_allclose(small[inner, inner], expected[inner, inner], atol=0.15)


def test_shrink_averages_where_pixels_merge() -> None:
    """Noise of single pixels fades; a nearest neighbour would keep it."""
    noise = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (1, 256, 256)).astype(np.float32))
    assert float(shrink(noise, (0.5, 0.5), 2.0).std()) < 0.45


def test_shrink_never_goes_below_what_the_network_takes() -> None:
    """32 pixels, however small the image."""
    assert shrink(torch.zeros(2, 10, 20), (1.0, 1.0), 3.0).shape == (2, 32, 32)


def test_slices_are_read_exactly_where_they_are_linear() -> None:
    """Uneven slices: a value proportional to the position is found at every position, and clamped at the ends."""
    sources = np.array([-10.0, -7.5, -7.0, 0.0, 12.0])
    stack = torch.from_numpy((2 * sources + 3).astype(np.float32))[:, None, None].expand(-1, 2, 3)
    targets = np.array([-50.0, -10.0, -9.0, -7.3, -7.0, -0.5, 0.0, 11.0, 12.0, 40.0])
    read = resample_slices(stack, sources, targets)
    expected = 2 * np.clip(targets, -10, 12) + 3
    np.testing.assert_allclose(read.numpy(), np.broadcast_to(expected[:, None, None], (10, 2, 3)), atol=1e-5)


@pytest.mark.parametrize("step_mm", [2.0, 3.3, 100.0])
def test_predicted_slices_reach_from_the_first_to_the_last(axial: MakeGeometry, step_mm: float) -> None:
    """They lie evenly, never further apart than asked for unless the ends are all there is."""
    canonical = to_canonical(numbered(axial(positions_mm=(0.0, 5.0, 6.0, 20.0, 41.0))))
    positions = slice_positions(canonical, step_mm)
    assert (positions[0], positions[-1]) == (canonical.positions_mm[0], canonical.positions_mm[-1])
    gaps = np.diff(positions)
    np.testing.assert_allclose(gaps, gaps[0])
    assert gaps[0] <= step_mm
    assert len(positions) == 2 or gaps[0] > step_mm / 2


def test_window_maps_to_one_and_clips() -> None:
    """The ends of the window are -1 and 1, its middle 0, and beyond nothing more is told apart."""
    hu = torch.tensor([-3024.0, -160.0, 40.0, 240.0, 3000.0])
    assert normalise(hu, (-160.0, 240.0)).tolist() == [-1.0, -1.0, 0.0, 1.0, 1.0]


def test_channels_are_the_slice_below_the_slice_and_the_slice_above(how: Preprocessing) -> None:
    """In millimetres, not in slices: at the distance of the preprocessing, on an uneven stack."""
    positions = np.array([0.0, 3.0, 10.0, 22.0])
    stack = torch.from_numpy(positions.astype(np.float32))[:, None, None].expand(-1, 4, 5)
    read = channels(stack, positions, np.array([8.0, 12.0]), how)
    assert read.shape == (2, 3, 4, 5)
    low, high = how.window_hu
    hu = (read[:, :, 0, 0].numpy() + 1) * (high - low) / 2 + low
    np.testing.assert_allclose(hu, [[4.0, 8.0, 12.0], [8.0, 12.0, 16.0]], atol=1e-3)
