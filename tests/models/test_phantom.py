"""The phantom: the same for a seed on every grid, its lesions in the liver, its values those of a CT."""

from itertools import combinations

import numpy as np
import pytest
from SimpleITK import ConnectedComponent, GetArrayFromImage, GetImageFromArray

from dicom_io.geometry import Geometry
from models.datasets.phantoms import TEST_SEEDS, phantom_sources
from models.phantom import DEMO_SEED, TRAINING_SEEDS, Phantom, grid, make_phantom

SEEDS = (1_000_001, 1_000_002, 1_000_003)


@pytest.fixture(scope="module")
def coarse() -> Geometry:
    """Voxels of 5 mm about the origin."""
    return grid(slices=49, rows=61, columns=77, spacing_mm=(5.0, 5.0, 5.0), seed=1)


@pytest.fixture(scope="module")
def phantoms(coarse: Geometry) -> dict[int, Phantom]:
    """Phantoms with four small lesions asked for."""
    return {seed: make_phantom(coarse, seed=seed, lesions=4, lesion_axes_mm=(7.0, 10.0)) for seed in SEEDS}


def test_grid_is_centred_on_the_abdomen(coarse: Geometry) -> None:
    """Its middle voxel lies at the origin of LPS."""
    np.testing.assert_allclose(coarse.index_to_lps([24, 30, 38]), [0, 0, 0], atol=1e-9)
    assert coarse.is_regular
    assert coarse.step_mm == pytest.approx(5.0)


def test_same_seed_is_the_same_phantom(coarse: Geometry) -> None:
    """To the last voxel, its noise too; another seed is another patient."""
    one, two, other = (make_phantom(coarse, seed=seed, lesions=2) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.volume.array, two.volume.array)
    np.testing.assert_array_equal(one.truth, two.truth)
    assert one.lesions == two.lesions
    assert (one.truth > 0).sum() != (other.truth > 0).sum()


@pytest.mark.parametrize("seed", SEEDS)
def test_liver_is_the_same_on_another_grid(coarse: Geometry, seed: int) -> None:
    """Sampled with half the spacing, every second voxel says what the coarse grid says at that place."""
    fine = grid(slices=97, rows=121, columns=153, spacing_mm=(2.5, 2.5, 2.5), seed=1)
    np.testing.assert_allclose(fine.index_to_lps([2, 4, 6]), coarse.index_to_lps([1, 2, 3]))
    on_coarse = make_phantom(coarse, seed=seed, lesions=0).truth
    on_fine = make_phantom(fine, seed=seed, lesions=0).truth
    assert np.count_nonzero(on_coarse != on_fine[::2, ::2, ::2]) <= 0.001 * np.count_nonzero(on_coarse)
    ml = [
        float((p > 0).sum(axis=(1, 2)) @ g.voxel_volumes_mm3) / 1000 for p, g in ((on_coarse, coarse), (on_fine, fine))
    ]
    assert ml[0] == pytest.approx(ml[1], rel=0.02)
    assert 500 < ml[1] < 3500


@pytest.mark.parametrize("seed", SEEDS)
def test_lesions_lie_in_the_liver(coarse: Geometry, phantoms: dict[int, Phantom], seed: int) -> None:
    """With lesions or without, the liver with its lesions is the same; their centres are lesion."""
    phantom = phantoms[seed]
    without = make_phantom(coarse, seed=seed, lesions=0)
    np.testing.assert_array_equal(phantom.truth > 0, without.truth > 0)
    assert without.truth.max() == 1
    for lesion in phantom.lesions:
        index = np.rint(coarse.lps_to_index(lesion.centre)).astype(int)
        assert phantom.truth[tuple(index)] == 2


@pytest.mark.parametrize("seed", SEEDS)
def test_lesions_are_as_many_as_asked_for_and_apart(phantoms: dict[int, Phantom], seed: int) -> None:
    """Four small ones fit: four ellipsoids, the largest first, and as many parts in the truth."""
    phantom = phantoms[seed]
    assert len(phantom.lesions) == 4
    for one, two in combinations(phantom.lesions, 2):
        distance = np.linalg.norm(np.subtract(one.centre, two.centre))
        assert distance > max(one.axes) + max(two.axes) + 8
    parts = ConnectedComponent(GetImageFromArray((phantom.truth == 2).astype(np.uint8)))
    assert GetArrayFromImage(parts).max() == 4


@pytest.mark.parametrize("axes_mm", [(6.0, 7.0), (12.0, 12.0)])
def test_lesions_are_of_the_size_asked_for(coarse: Geometry, axes_mm: tuple[float, float]) -> None:
    """Each axis within a fifth of the range."""
    lesions = make_phantom(coarse, seed=SEEDS[0], lesions=5, lesion_axes_mm=axes_mm).lesions
    assert lesions
    for lesion in lesions:
        assert all(0.8 * axes_mm[0] <= axis <= 1.2 * axes_mm[1] for axis in lesion.axes)


def test_sizes_that_are_none_are_refused(coarse: Geometry) -> None:
    """The greatest before the least, or nothing at all."""
    for axes_mm in ((10.0, 5.0), (0.0, 5.0)):
        with pytest.raises(ValueError, match="lesion_axes_mm"):
            make_phantom(coarse, seed=1, lesion_axes_mm=axes_mm)


def test_number_of_lesions_is_drawn_when_none_is_given(coarse: Geometry) -> None:
    """From none to six, and not the same for all."""
    counts = {len(make_phantom(coarse, seed=seed).lesions) for seed in range(1_000_020, 1_000_028)}
    assert len(counts) > 2
    assert max(counts) <= 6


@pytest.mark.parametrize("seed", SEEDS)
def test_values_are_those_of_a_ct(phantoms: dict[int, Phantom], seed: int) -> None:
    """Air around the patient, lung above the liver, soft tissue and bone, and a liver in between, in HU."""
    hu, truth = phantoms[seed].volume.array, phantoms[seed].truth
    assert hu.dtype == np.int16
    assert -1024 <= hu.min()
    assert hu.max() <= 3071
    assert np.mean(hu[:, 0, 0]) == pytest.approx(-1000, abs=15)
    assert 45 < np.median(hu[truth == 1]) < 145
    assert np.mean((hu > -950) & (hu < -750)) > 0.005
    assert np.mean((hu > -130) & (hu < -70)) > 0.05
    assert np.mean(hu > 180) > 0.002


@pytest.mark.parametrize("seed", SEEDS)
def test_lesions_can_be_seen(coarse: Geometry, seed: int) -> None:
    """Within the core of a lesion the values differ from what the liver was there by more than the noise."""
    phantom = make_phantom(coarse, seed=seed, lesions=3, lesion_axes_mm=(16.0, 18.0), noise_hu=3.0)
    without = make_phantom(coarse, seed=seed, lesions=0, noise_hu=0.0)
    assert phantom.lesions
    lps = coarse.index_to_lps(np.stack(np.meshgrid(*map(np.arange, coarse.shape), indexing="ij"), axis=-1))
    liver_hu = np.median(without.volume.array[without.truth == 1])
    for lesion in phantom.lesions:
        core = lesion.distance(*np.moveaxis(lps, -1, 0)) < 0.6
        assert abs(np.mean(phantom.volume.array[core]) - liver_hu) > 20


def test_noise_is_as_strong_as_asked_for(coarse: Geometry) -> None:
    """Its deviation in the liver, the difference to the image without noise; less of it in the air."""
    quiet, loud = (make_phantom(coarse, seed=1, noise_hu=noise) for noise in (0.0, 10.0))
    noise = loud.volume.array.astype(float) - quiet.volume.array
    assert noise[quiet.truth > 0].std() == pytest.approx(10.0, rel=0.1)
    assert 2 < noise[:, :4, :4].std() < 7


def test_only_transverse_grids_are_sampled(coarse: Geometry) -> None:
    """The formulas are separable in x, y and z; another orientation would be sampled wrongly."""
    turned = Geometry(
        origins_lps_mm=coarse.origins_lps_mm[::-1],
        row_cosines=coarse.row_cosines,
        column_cosines=-coarse.column_cosines,
        row_spacing_mm=5.0,
        column_spacing_mm=5.0,
        rows=coarse.rows,
        columns=coarse.columns,
        frame_of_reference_uid="1.2.3",
    )
    with pytest.raises(ValueError, match="transverse"):
        make_phantom(turned, seed=1)


def test_what_is_shown_was_never_trained_on() -> None:
    """The demonstration's seed and those of the measured figures lie outside of what training may draw."""
    assert DEMO_SEED not in TRAINING_SEEDS
    assert {source.seed for source in phantom_sources(100)} <= set(TRAINING_SEEDS)
    assert not set(TEST_SEEDS) & set(TRAINING_SEEDS)
