"""Scores against second implementations, and on shapes whose scores can be worked out."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt
from scipy.stats import bootstrap
from sklearn import metrics as sklearn_metrics

from dicom_io.geometry import Geometry
from models.evaluation import metrics
from models.evaluation.metrics import binary, confusion, histogram, interval, roc, surface_distances, voxel_scores

Bool = NDArray[np.bool_]


def stack(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], positions: object = None) -> Geometry:
    """An axial grid; `positions` of its slices where they are not even."""
    slices, rows, columns = shape
    z = np.arange(slices) * spacing_mm[0] if positions is None else np.asarray(positions, float)
    return Geometry(
        origins_lps_mm=np.stack([np.zeros(slices), np.zeros(slices), z], axis=-1),
        row_cosines=np.array([1.0, 0, 0]),
        column_cosines=np.array([0, 1.0, 0]),
        row_spacing_mm=spacing_mm[1],
        column_spacing_mm=spacing_mm[2],
        rows=rows,
        columns=columns,
        frame_of_reference_uid="1.2.3",
    )


def ball(geometry: Geometry, centre: tuple[float, float, float], radius_mm: float) -> Bool:
    """Voxels whose centres (x, y, z mm) lie within a sphere."""
    index = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), axis=-1)
    return np.asarray(np.linalg.norm(geometry.index_to_lps(index) - centre, axis=-1) <= radius_mm)


@pytest.fixture
def blobs() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Two label volumes (0, 1, 2) that agree in part."""
    draw = np.random.default_rng(5)
    noise = draw.normal(size=(2, 12, 30, 28)) * 0.4
    field = draw.normal(size=(12, 30, 28)) + noise
    truth, found = ((part > 0.2).astype(np.uint8) + (part > 1.1) for part in field)
    return truth, found


def test_confusion_is_scikit_learns(blobs: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    """Rows the truth; numbered lesions count as tumour."""
    truth, found = blobs
    expected = sklearn_metrics.confusion_matrix(truth.ravel(), found.ravel())
    np.testing.assert_array_equal(confusion(truth, found), expected)
    numbered = np.where(found == 2, 2 + np.arange(28, dtype=np.uint8), found).astype(np.uint8)
    np.testing.assert_array_equal(confusion(truth, numbered), expected)


@pytest.mark.parametrize("first", [1, 2])
def test_voxel_scores_are_those_of_the_voxels(blobs: tuple[NDArray[np.uint8], NDArray[np.uint8]], first: int) -> None:
    """Against numpy by hand, and MONAI's confusion matrix."""
    import torch
    from monai.metrics import compute_confusion_matrix_metric, get_confusion_matrix

    truth, found = (labels >= first for labels in blobs)
    scores = voxel_scores(binary(confusion(*blobs), first))
    both, either = (truth & found).sum(), (truth | found).sum()
    assert scores["dice"] == scores["f1"] == pytest.approx(2 * both / (truth.sum() + found.sum()))
    assert scores["iou"] == pytest.approx(both / either)
    assert scores["voe"] == pytest.approx(1 - both / either)
    assert scores["accuracy"] == pytest.approx((truth == found).mean())
    one_hot = [torch.from_numpy(np.stack([~mask, mask])[None].astype(np.float32)) for mask in (found, truth)]
    matrix = get_confusion_matrix(*one_hot, include_background=False)[0, 0].double()
    for name in ("precision", "recall", "specificity", "accuracy"):
        assert scores[name] == pytest.approx(float(compute_confusion_matrix_metric(name, matrix)), abs=1e-6)


def test_scores_of_shifted_cubes_are_known() -> None:
    """Cubes of 10 voxels, one moved by 2: 800 common voxels of 1000 each, in a field of 8000."""
    truth, found = np.zeros((2, 20, 20, 20), np.uint8)
    truth[5:15, 5:15, 5:15] = found[5:15, 5:15, 7:17] = 1
    scores = voxel_scores(binary(confusion(truth, found), 1))
    assert scores == pytest.approx(
        {
            "dice": 0.8,
            "iou": 800 / 1200,
            "voe": 400 / 1200,
            "accuracy": 7600 / 8000,
            "precision": 0.8,
            "recall": 0.8,
            "specificity": 6800 / 7000,
            "f1": 0.8,
        }
    )


@pytest.mark.parametrize(
    ("true_voxels", "found_voxels", "expected"),
    [
        (0, 0, {"dice": None, "iou": None, "voe": None, "precision": None, "recall": None, "specificity": 1.0}),
        (5, 0, {"dice": 0.0, "iou": 0.0, "voe": 1.0, "precision": None, "recall": 0.0, "specificity": 1.0}),
        (0, 5, {"dice": 0.0, "iou": 0.0, "voe": 1.0, "precision": 0.0, "recall": None, "specificity": 0.95}),
        (100, 100, {"dice": 1.0, "iou": 1.0, "voe": 0.0, "precision": 1.0, "recall": 1.0, "specificity": None}),
    ],
)
def test_undefined_scores_are_none(true_voxels: int, found_voxels: int, expected: dict[str, float | None]) -> None:
    """Empty and full masks: no 0/0 becomes a number."""
    truth, found = np.zeros((2, 100), np.uint8)
    truth[:true_voxels], found[:found_voxels] = 1, 1
    scores = voxel_scores(binary(confusion(truth.reshape(4, 5, 5), found.reshape(4, 5, 5)), 1))
    assert {name: scores[name] for name in expected} == expected


def test_volume_difference_is_signed() -> None:
    """Too little is negative; without a truth there is none."""
    assert metrics.relative_volume_difference(90, 100) == pytest.approx(-0.1)
    assert metrics.relative_volume_difference(90, 0) is None


def test_volume_weighs_each_slice_with_its_width() -> None:
    """2, 2 and 6 mm apart: a column of one pixel of 1 x 3 mm in all four slices."""
    geometry = stack((4, 3, 3), (1, 1, 3), positions=[0, 2, 4, 10])
    mask = np.zeros(geometry.shape, bool)
    mask[:, 1, 1] = True
    assert metrics.volume_ml(mask, geometry) == pytest.approx((2 + 2 + 4 + 6) * 3 / 1000)


def by_scipy(found: Bool, truth: Bool, spacing_mm: tuple[float, float, float]) -> tuple[float, float]:
    """ASSD and HD95 with scipy's exact Euclidean transform of the whole field."""
    edges = [mask & ~binary_erosion(mask) for mask in (found, truth)]
    one, two = (distance_transform_edt(~edges[1 - i], sampling=spacing_mm)[edges[i]] for i in (0, 1))
    return float(np.r_[one, two].mean()), max(float(np.percentile(each, 95)) for each in (one, two))


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (5.0, 0.7, 0.7), (2.5, 1.5, 0.8)])
def test_distances_are_those_of_scipy_and_monai(spacing_mm: tuple[float, float, float]) -> None:
    """Two ragged bodies on grids of any spacing; one reaches the image's edge."""
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    geometry = stack((20, 60, 64), spacing_mm)
    draw = np.random.default_rng(1)
    middle = geometry.index_to_lps([9, 28, 30])
    radius = 0.45 * min(np.array(geometry.shape) * spacing_mm)
    truth = ball(geometry, tuple(middle), radius) & (draw.random(geometry.shape) > 0.05)
    found = ball(geometry, tuple(middle + np.array([2.0, -1.0, spacing_mm[0]])), 1.1 * radius)
    distances = surface_distances(found, truth, geometry)
    assert distances is not None
    assert (distances.assd_mm, distances.hd95_mm) == pytest.approx(by_scipy(found, truth, spacing_mm), abs=1e-4)
    pair = [torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (found, truth)]
    options = {"include_background": True, "spacing": list(spacing_mm)}
    assert distances.assd_mm == pytest.approx(
        float(compute_average_surface_distance(*pair, symmetric=True, **options)), abs=1e-3
    )
    assert distances.hd95_mm == pytest.approx(
        float(compute_hausdorff_distance(*pair, percentile=95, **options)), abs=1e-3
    )


def test_distances_of_a_shifted_slab_are_known() -> None:
    """Two plates as wide as the image, 3 slices of 2.5 mm apart: every voxel of both lies 7.5 mm off."""
    geometry = stack((12, 16, 16), (2.5, 0.9, 0.9))
    truth, found = np.zeros((2, *geometry.shape), bool)
    truth[3], found[6] = True, True
    distances = surface_distances(found, truth, geometry)
    assert distances is not None
    assert (distances.assd_mm, distances.hd95_mm) == pytest.approx((7.5, 7.5))


def test_distances_of_concentric_spheres_are_the_difference_of_radii() -> None:
    """40 and 34 mm: 6 mm everywhere, up to half a voxel."""
    geometry = stack((60, 60, 60), (1.5, 1.5, 1.5))
    truth, found = (ball(geometry, (44, 44, 44), radius) for radius in (40, 34))
    distances = surface_distances(found, truth, geometry)
    assert distances is not None
    assert distances.assd_mm == pytest.approx(6, abs=0.4)
    assert distances.hd95_mm == pytest.approx(6, abs=0.8)


def test_equal_masks_are_no_distance_apart() -> None:
    """A single voxel too."""
    geometry = stack((5, 6, 7), (3, 1, 2))
    mask = np.zeros(geometry.shape, bool)
    mask[2, 3, 4] = True
    distances = surface_distances(mask, mask.copy(), geometry)
    assert distances is not None
    assert (distances.assd_mm, distances.hd95_mm) == (0, 0)


def test_distance_to_nothing_is_none() -> None:
    """Either way, and both."""
    geometry = stack((5, 6, 7), (3, 1, 2))
    mask, empty = np.ones(geometry.shape, bool), np.zeros(geometry.shape, bool)
    for pair in ((mask, empty), (empty, mask), (empty, empty)):
        assert surface_distances(*pair, geometry) is None


def test_distances_on_uneven_and_tilted_stacks_are_taken_in_space() -> None:
    """Plates 4 and 9 mm up in a stack of uneven slices; and where pixels drift, the same way as on an even grid."""
    uneven = stack((5, 9, 9), (1, 1, 1), positions=[0, 4, 5, 9, 20])
    truth, found = np.zeros((2, *uneven.shape), bool)
    truth[1], found[3] = True, True
    distances = surface_distances(found, truth, uneven)
    assert distances is not None
    assert (distances.assd_mm, distances.hd95_mm) == pytest.approx((5, 5))

    even = stack((14, 20, 20), (2, 1, 1))
    drift = even.origins_lps_mm + np.arange(14)[:, None] * np.array([0, 1.0, 0])
    tilted = replace(even, origins_lps_mm=drift)
    assert tilted.is_tilted
    truth, found = np.zeros((2, *even.shape), bool)
    truth[4:10, 6:14, 6:14] = True
    found[4:10, 6:14, 9:17] = True  # moved along the rows alone, as the drift does not
    reference = surface_distances(found, truth, even)
    sheared = surface_distances(found, truth, tilted)
    assert reference is not None
    assert sheared is not None
    assert sheared.hd95_mm == pytest.approx(reference.hd95_mm) == 3


def test_both_ways_of_measuring_agree() -> None:
    """The search among centres gives on an even grid what SimpleITK gives."""
    geometry = stack((16, 40, 40), (3, 1.2, 0.8))
    found = ball(geometry, (15, 22, 24), 12)
    truth = ball(geometry, (17, 20, 22), 13)
    even = surface_distances(found, truth, geometry)
    moved = geometry.origins_lps_mm.copy()
    moved[0, 2] -= 0.5  # a slice that holds nothing makes the stack uneven
    other = surface_distances(found, truth, replace(geometry, origins_lps_mm=moved))
    assert even is not None
    assert other is not None
    np.testing.assert_allclose(np.sort(even.to_truth_mm), np.sort(other.to_truth_mm), atol=1e-4)
    np.testing.assert_allclose(np.sort(even.to_found_mm), np.sort(other.to_found_mm), atol=1e-4)


def test_roc_is_that_of_all_voxels() -> None:
    """Area and curve as scikit-learn has them of the voxels themselves, probabilities in 1/255."""
    draw = np.random.default_rng(3)
    truth = draw.random((6, 40, 40)) < 0.2
    probability = np.clip(draw.normal(90 + 60 * truth, 40), 0, 255).astype(np.uint8)
    counts = histogram(truth, probability)
    assert counts.sum() == truth.size
    curve = roc(counts)
    assert curve is not None
    assert curve.auc == pytest.approx(sklearn_metrics.roc_auc_score(truth.ravel(), probability.ravel()), abs=1e-12)
    assert len(curve.fpr) == len(curve.tpr) <= metrics.CURVE_POINTS
    assert (curve.fpr[0], curve.tpr[0], curve.fpr[-1], curve.tpr[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(curve.tpr, curve.fpr) == pytest.approx(curve.auc, abs=1e-3)


def test_roc_of_halves_is_pooled() -> None:
    """Histograms of two cases add up to that of both."""
    draw = np.random.default_rng(4)
    truth, probability = draw.random((4, 9, 9)) < 0.3, draw.integers(0, 256, (4, 9, 9)).astype(np.uint8)
    halves = histogram(truth[:2], probability[:2]) + histogram(truth[2:], probability[2:])
    assert roc(halves) == roc(histogram(truth, probability))


@pytest.mark.parametrize("value", [False, True])
def test_roc_of_one_class_is_none(value: bool) -> None:
    """Nothing to tell apart."""
    assert roc(histogram(np.full((2, 3, 3), value), np.zeros((2, 3, 3), np.uint8))) is None


def test_perfect_and_useless_probabilities() -> None:
    """Areas of 1 and one half."""
    truth = np.arange(50).reshape(2, 5, 5) < 20
    for probability, area in ((truth * 200, 1.0), (truth * 0, 0.5)):
        curve = roc(histogram(truth, probability.astype(np.uint8)))
        assert curve is not None
        assert curve.auc == pytest.approx(area)


def test_interval_is_that_of_a_normal_mean() -> None:
    """60 patients of one case each: the bootstrap is near mean +- 1.96 standard errors, and the same each time."""
    values = np.random.default_rng(0).normal(0.9, 0.05, 60).tolist()
    patients = [f"p{number}" for number in range(60)]
    found = interval(values, [1] * 60, patients)
    error = 1.96 * np.std(values, ddof=1) / np.sqrt(60)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.low == pytest.approx(np.mean(values) - error, abs=0.15 * error)
    assert found.high == pytest.approx(np.mean(values) + error, abs=0.15 * error)
    assert found == interval(values, [1] * 60, patients)


def test_interval_is_that_of_scipy() -> None:
    """Its own percentile bootstrap, of a ratio of two sums that are drawn together."""
    draw = np.random.default_rng(8)
    counts = draw.integers(1, 9, 25)
    sums = draw.binomial(counts, 0.7)
    found = interval(sums.tolist(), counts.tolist(), [f"p{number}" for number in range(25)])
    reference = bootstrap(
        (sums, counts),
        lambda x, y, axis: x.sum(axis) / y.sum(axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=20000,
        rng=draw,
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=0.01)


def test_interval_draws_patients_not_cases() -> None:
    """Four equal cases of each patient make the interval no narrower."""
    values, patients = [0.7, 0.8, 0.9, 0.95, 0.6], list("abcde")
    once = interval(values, [1] * 5, patients)
    again = interval(values * 4, [1] * 20, patients * 4)
    assert (again.mean, again.low, again.high) == pytest.approx((once.mean, once.low, once.high))


def test_interval_of_little_is_open() -> None:
    """One patient has a mean and no bounds; nothing has neither; a ratio leaves out who has nothing to count."""
    assert interval([0.5, 0.7], [1, 1], ["a", "a"]) == metrics.Interval(pytest.approx(0.6))
    assert interval([], [], []) == metrics.Interval(None)
    assert interval([0], [0], ["a"]) == metrics.Interval(None)
    ratio = interval([2, 0, 1], [2, 0, 4], ["a", "b", "c"])
    assert ratio.mean == pytest.approx(0.5)
    assert (ratio.low, ratio.high) == pytest.approx((0.25, 1))
