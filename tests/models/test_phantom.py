"""The phantom: the same for a seed on every grid, its lesions in the liver, its values those of a CT."""

from itertools import combinations

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, label
from SimpleITK import ConnectedComponent, GetArrayFromImage, GetImageFromArray

from dicom_io.geometry import Geometry
from models.datasets.phantoms import TEST_SEEDS, phantom_sources
from models.phantom import (
    DEMO_SEED,
    TRAINING_SEEDS,
    Kernel,
    Phantom,
    Phase,
    Placement,
    Weighting,
    grid,
    make_phantom,
    training_phantom,
)
from models.phantom.acquisition import Acquisition, noise_of, sample_offsets_mm
from models.phantom.contrast import Tissue, ct_contrast, mr_contrast
from models.phantom.shapes import Ellipsoid, common, joined, tube
from models.phantom.space import axes_of, smooth_field

SEEDS = (1_000_001, 1_000_002, 1_000_003)


@pytest.fixture(scope="module")
def coarse() -> Geometry:
    """Voxels of 5 mm about the origin."""
    return grid(slices=49, rows=61, columns=77, spacing_mm=(5.0, 5.0, 5.0), seed=1)


@pytest.fixture(scope="module")
def phantoms(coarse: Geometry) -> dict[int, Phantom]:
    """Phantoms with four small lesions asked for."""
    return {seed: make_phantom(coarse, seed=seed, lesions=4, lesion_axes_mm=(7.0, 10.0)) for seed in SEEDS}


def liver_ml(phantom: Phantom) -> float:
    """Volume of the liver with its lesions."""
    return float((phantom.truth > 0).sum(axis=(1, 2)) @ phantom.volume.geometry.voxel_volumes_mm3) / 1000


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
def test_phantom_is_the_same_on_another_grid(coarse: Geometry, seed: int) -> None:
    """Sampled with half the spacing, every second voxel says what the coarse grid says; the lesions are the same."""
    fine = grid(slices=97, rows=121, columns=153, spacing_mm=(2.5, 2.5, 2.5), seed=1)
    np.testing.assert_allclose(fine.index_to_lps([2, 4, 6]), coarse.index_to_lps([1, 2, 3]))
    on_coarse, on_fine = (
        make_phantom(geometry, seed=seed, lesions=4, noise_hu=0.0, thickness_mm=5.0) for geometry in (coarse, fine)
    )
    assert on_coarse.lesions == on_fine.lesions
    there = on_fine.truth[::2, ::2, ::2]
    assert np.count_nonzero(on_coarse.truth != there) <= 0.001 * np.count_nonzero(there)
    ml = [liver_ml(phantom) for phantom in (on_coarse, on_fine)]
    assert ml[0] == pytest.approx(ml[1], rel=0.02)
    assert 700 < ml[1] < 3200
    inside = binary_erosion(there == 1, iterations=2)
    apart = on_coarse.volume.array[inside].astype(float) - on_fine.volume.array[::2, ::2, ::2][inside]
    assert np.median(np.abs(apart)) <= 2


def test_lesions_are_those_of_the_patient_not_of_the_image(coarse: Geometry) -> None:
    """An image that shows a part of the liver shows the lesions that lie there, at the same places."""
    part = grid(slices=12, rows=61, columns=77, spacing_mm=(5.0, 5.0, 5.0), seed=1)
    whole, cut = (make_phantom(geometry, seed=SEEDS[0], lesions=6) for geometry in (coarse, part))
    assert set(cut.lesions) < set(whole.lesions)
    assert cut.instances is not None
    assert sorted(np.unique(cut.instances)) == list(range(len(cut.lesions) + 1))


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


def test_volumes_of_lesions_are_those_drawn() -> None:
    """Four thirds pi times the semi-axes, for lesions deep in the liver; each voxel of the truth belongs to one."""
    geometry = grid(slices=160, rows=160, columns=180, spacing_mm=(1.5, 1.5, 1.5), seed=1)
    phantom = make_phantom(geometry, seed=SEEDS[1], lesions=4, lesion_axes_mm=(7.0, 9.0))
    assert len(phantom.lesions) == 4
    assert phantom.instances is not None
    np.testing.assert_array_equal(phantom.instances > 0, phantom.truth == 2)
    ratios = []
    for number, lesion in enumerate(phantom.lesions, start=1):
        drawn = 4 / 3 * np.pi * np.prod(lesion.axes)
        ratios.append(np.count_nonzero(phantom.instances == number) * 1.5**3 / drawn)
    assert np.median(ratios) == pytest.approx(1.0, abs=0.02)
    assert all(0.85 < ratio < 1.03 for ratio in ratios)  # one may bulge out of the liver, and is cut there


def test_lesions_of_120_mm_are_drawn(coarse: Geometry) -> None:
    """One that fills most of a lobe lies where there is most room."""
    (lesion,) = make_phantom(coarse, seed=SEEDS[0], lesions=1, lesion_axes_mm=(58.0, 60.0)).lesions
    assert lesion.diameter_mm > 110


def test_lesions_lie_as_asked_for(coarse: Geometry) -> None:
    """Merged ones touch, those of the capsule reach it."""
    apart, merged, capsule = (
        make_phantom(coarse, seed=SEEDS[1], lesions=5, lesion_axes_mm=(10.0, 14.0), placement=placement)
        for placement in (Placement.APART, Placement.MERGED, Placement.CAPSULE)
    )
    assert label(apart.truth == 2)[1] == len(apart.lesions)
    assert label(merged.truth == 2)[1] < len(merged.lesions)
    inside = binary_erosion(capsule.truth > 0)
    at_capsule = [np.any((capsule.instances == number) & ~inside) for number in range(1, len(capsule.lesions) + 1)]
    assert all(at_capsule)


def test_cysts_are_liver(coarse: Geometry) -> None:
    """They are dark and round, and no tumours: the truth is as it was without them."""
    with_cysts, without = (make_phantom(coarse, seed=5, lesions=0, noise_hu=0, cysts=count) for count in (4, 0))
    np.testing.assert_array_equal(with_cysts.truth, without.truth)
    darker = without.volume.array.astype(int) - with_cysts.volume.array
    assert darker.max() > 50


@pytest.mark.parametrize("seed", range(1_000_040, 1_000_048))
def test_liver_is_one_piece_of_a_livers_size(coarse: Geometry, seed: int) -> None:
    """From 700 mL to 3.2 L, not in crumbs, and most of it on the patient's right."""
    phantom = make_phantom(coarse, seed=seed, lesions=0)
    parts, _ = label(phantom.truth)
    assert 700 < liver_ml(phantom) < 3200
    assert np.bincount(parts.ravel())[1:].max() > 0.97 * np.count_nonzero(phantom.truth)
    assert np.mean(coarse.index_to_lps(np.argwhere(phantom.truth))[:, 0] < 0) > 0.6


def test_tissues_enhance_in_order() -> None:
    """Aorta first, then kidney cortex, portal vein and liver; a carcinoma lights up early and washes out."""
    draw = np.random.default_rng(0)
    native, arterial, portal, delayed = (ct_contrast(draw, phase, spread=0.0).mean for phase in Phase)
    for tissue in (Tissue.AORTA, Tissue.CARCINOMA):
        assert native[tissue] < delayed[tissue] < portal[tissue] < arterial[tissue]
    for tissue in (Tissue.LIVER, Tissue.PORTAL_VEIN, Tissue.HEPATIC_VEIN):
        assert native[tissue] < arterial[tissue] < delayed[tissue] < portal[tissue]
    assert arterial[Tissue.CARCINOMA] > arterial[Tissue.LIVER] + 30
    assert delayed[Tissue.CARCINOMA] < delayed[Tissue.LIVER] - 15
    assert arterial[Tissue.KIDNEY_CORTEX] > arterial[Tissue.KIDNEY_MEDULLA] + 60
    for phase in (native, arterial, portal, delayed):
        assert phase[Tissue.METASTASIS] < phase[Tissue.LIVER]
        assert phase[Tissue.AIR] < phase[Tissue.LUNG] < phase[Tissue.FAT] < phase[Tissue.LIVER] < phase[Tissue.CORTEX]


def test_image_shows_its_phase(coarse: Geometry) -> None:
    """The liver of one patient in the four phases; the anatomy does not change."""
    images = [make_phantom(coarse, seed=7, lesions=0, noise_hu=0.0, contrast=phase) for phase in Phase]
    native, arterial, portal, delayed = (float(np.median(p.volume.array[p.truth == 1])) for p in images)
    assert native < arterial < delayed < portal
    assert portal - native > 25
    assert all(np.array_equal(image.truth, images[0].truth) for image in images)


def test_mr_is_an_mr(coarse: Geometry) -> None:
    """Signal without HU: nothing negative, bile dark in T1 and bright in T2."""
    for weighting in Weighting:
        phantom = make_phantom(coarse, seed=3, contrast=weighting)
        assert phantom.volume.modality == "MR"
        assert phantom.volume.array.min() >= 0
    draw = np.random.default_rng(0)
    t1, t2 = (mr_contrast(draw, weighting, spread=0.0).mean for weighting in Weighting)
    assert t1[Tissue.BILE] < t1[Tissue.LIVER] < t2[Tissue.BILE]
    assert t1[Tissue.SPLEEN] < t1[Tissue.LIVER]
    assert t2[Tissue.SPLEEN] > t2[Tissue.LIVER]


def test_thick_slices_are_averages(coarse: Geometry) -> None:
    """A small lesion in a slice of 15 mm loses contrast; the truth, of the voxels' centres, stays as it was."""
    thin, thick = (
        make_phantom(
            coarse, seed=SEEDS[0], lesions=4, lesion_axes_mm=(5.0, 6.0), noise_hu=0.0, thickness_mm=mm, lesion_variety=0
        )
        for mm in (1.0, 15.0)
    )
    np.testing.assert_array_equal(thin.truth, thick.truth)
    liver = np.median(thin.volume.array[thin.truth == 1])
    fades = [abs(float(np.mean(p.volume.array[p.truth == 2])) - liver) for p in (thin, thick)]
    assert fades[1] < 0.85 * fades[0]


def test_planes_of_a_slice_are_spread_over_it() -> None:
    """An odd number of them, so that the middle is one, each for the same part of the thickness."""
    for thickness_mm, count in ((1.0, 1), (2.6, 1), (3.0, 3), (7.8, 3), (10.0, 5)):
        offsets = sample_offsets_mm(thickness_mm)
        assert len(offsets) == count
        assert 0.0 in offsets
        assert np.mean(offsets) == pytest.approx(0.0)
        assert np.ptp(offsets) == pytest.approx(thickness_mm * (count - 1) / count)


def test_kernels_differ_in_grain() -> None:
    """Unit deviation for all; the softer, the more alike are neighbours; streaks run along the patient's width."""
    alike = {}
    for kernel in Kernel:
        how = Acquisition(kernel=kernel, streaks=0.0)
        noise = noise_of(np.random.default_rng(0), (4, 200, 240), how, (0.8, 0.8))
        assert noise.std() == pytest.approx(1.0, rel=0.03)
        assert abs(noise.mean()) < 0.02
        alike[kernel] = float(np.mean(noise[:, :, 1:] * noise[:, :, :-1]))
    assert alike[Kernel.SOFT] > alike[Kernel.STANDARD] > alike[Kernel.SHARP]
    streaky = noise_of(np.random.default_rng(0), (4, 200, 240), Acquisition(streaks=2.0), (0.8, 0.8))
    assert np.mean(streaky[:, :, 1:] * streaky[:, :, :-1]) > np.mean(streaky[:, 1:] * streaky[:, :-1]) + 0.1


def test_impossible_acquisitions_are_refused() -> None:
    """Noise below nothing, a slice without thickness, a modality that phantoms have not."""
    with pytest.raises(ValueError, match="noise"):
        Acquisition(noise=-1.0)
    with pytest.raises(ValueError, match="thickness"):
        Acquisition(thickness_mm=0.0)
    with pytest.raises(ValueError, match="CT or MR"):
        training_phantom(1, modality="PT")


def test_training_phantoms_are_repeatable_and_differ() -> None:
    """One seed, one phantom, grid and all; others have other grids, contrasts and numbers of lesions."""
    one, two = training_phantom(11), training_phantom(11)
    np.testing.assert_array_equal(one.volume.array, two.volume.array)
    np.testing.assert_array_equal(one.truth, two.truth)
    others = [one, *(training_phantom(seed) for seed in range(12, 18))]
    assert len({phantom.volume.geometry.shape for phantom in others}) == len(others)
    assert len({len(phantom.lesions) for phantom in others}) > 2
    livers = [float(np.median(phantom.volume.array[phantom.truth == 1])) for phantom in others]
    assert np.ptp(livers) > 15
    for phantom in others:
        assert phantom.volume.modality == "CT"
        assert phantom.instances is not None
        assert set(np.unique(phantom.instances)) == set(range(len(phantom.lesions) + 1))
        np.testing.assert_array_equal(phantom.instances > 0, phantom.truth == 2)


def test_training_phantom_of_mr() -> None:
    """The same patient may be had as an MR."""
    phantom = training_phantom(11, modality="MR")
    assert phantom.volume.modality == "MR"
    assert phantom.volume.array.min() >= 0
    assert (phantom.truth > 0).any()


def test_smooth_fields_are_functions_of_the_position(coarse: Geometry) -> None:
    """Mean 0 and deviation 1 over the lattice, the same on every grid, and smooth."""
    field = smooth_field(np.random.default_rng(0), 16.0)
    fine = grid(slices=97, rows=121, columns=153, spacing_mm=(2.5, 2.5, 2.5), seed=1)
    on_coarse, on_fine = (field.on(axes_of(geometry)) for geometry in (coarse, fine))
    np.testing.assert_allclose(on_coarse, on_fine[::2, ::2, ::2], atol=1e-4)
    assert on_fine.mean() == pytest.approx(0.0, abs=0.1)
    assert on_fine.std() == pytest.approx(1.0, abs=0.1)
    assert np.abs(np.diff(on_fine, axis=2)).max() < 0.8


def test_shapes_measure_distance(coarse: Geometry) -> None:
    """A ball and a straight tube, known; union and intersection, rounded only where two surfaces meet."""
    axes = axes_of(coarse)
    x, y, z = axes.open
    ball = Ellipsoid((10.0, -5.0, 20.0), (30.0, 30.0, 30.0))
    exact = np.sqrt((x - 10) ** 2 + (y + 5) ** 2 + (z - 20) ** 2) - 30
    np.testing.assert_allclose(ball.distance(axes), exact, atol=1e-3)
    pipe = tube(((0.0, 0.0, -500.0), 7.0), ((0.0, 0.0, 0.0), 7.0), ((0.0, 0.0, 500.0), 7.0))
    around = np.broadcast_to(np.hypot(x, y) - 7, axes.shape)
    np.testing.assert_allclose(pipe.distance(axes), around, atol=1e-2)
    both, either = common(exact, around, 4.0), joined(exact, around, 4.0)
    far = np.abs(exact - around) > 4
    np.testing.assert_allclose(both[far], np.maximum(exact, around)[far], atol=1e-3)
    np.testing.assert_allclose(either[far], np.minimum(exact, around)[far], atol=1e-3)
    assert (both >= np.maximum(exact, around) - 1e-3).all()


def test_what_is_shown_was_never_trained_on() -> None:
    """The demonstration's seed and those of the measured figures lie outside of what training may draw."""
    assert DEMO_SEED not in TRAINING_SEEDS
    assert {source.seed for source in phantom_sources(100)} <= set(TRAINING_SEEDS)
    assert not set(TEST_SEEDS) & set(TRAINING_SEEDS)
