"""Values of known distributions, and independent implementations."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage, stats

from dicom_io.volume import Volume
from reports.findings.texture import PARENCHYMA_MARGIN_MM, parenchyma_mean_and_sd, values_of
from tests.reports.findings.test_measurements import stack


def test_moments_and_percentiles_agree_with_scipy() -> None:
    """The biased moments, as IBSI has them; kurtosis is excess."""
    values = np.random.default_rng(5).gamma(3, 20, 4000).astype(np.int16)
    found = values_of(values)
    assert (found.hu_mean, found.hu_sd) == pytest.approx((values.mean(), values.std()))
    assert found.skewness == pytest.approx(stats.skew(values))
    assert found.kurtosis == pytest.approx(stats.kurtosis(values))
    assert (found.hu_p10, found.hu_p50, found.hu_p90) == pytest.approx(tuple(np.percentile(values, [10, 50, 90])))


def test_moments_agree_with_simpleitk() -> None:
    """LabelStatistics: mean, median and standard deviation (over n - 1) of a label."""
    rng = np.random.default_rng(6)
    values, labels = rng.normal(60, 30, (8, 20, 20)).astype(np.int16), (rng.random((8, 20, 20)) < 0.4).astype(np.uint8)
    oracle = sitk.LabelStatisticsImageFilter()
    oracle.Execute(sitk.GetImageFromArray(values), sitk.GetImageFromArray(labels))
    inside = values[labels == 1]
    found = values_of(inside)
    assert found.hu_mean == pytest.approx(oracle.GetMean(1))
    assert found.hu_sd * (len(inside) / (len(inside) - 1)) ** 0.5 == pytest.approx(oracle.GetSigma(1))


@pytest.mark.parametrize(
    ("values", "bits"),
    [
        ([60], 0),
        ([50, 74], 0),
        ([50, 75], 1),
        ([-1, 0, 25, 50], 2),
        ([10] * 3 + [30], 0.811278),
        ([-5, -30, 5, 5], 1.5),
    ],
)
def test_entropy_is_that_of_bins_of_25_hu(values, bits) -> None:
    """Bins begin at multiples of 25 HU, below zero too."""
    assert values_of(np.array(values, np.int16)).entropy_bits == pytest.approx(bits, abs=1e-6)


def test_equal_values_have_no_shape() -> None:
    """No division by nothing."""
    found = values_of(np.full(7, 40, np.int16))
    assert (found.hu_sd, found.skewness, found.kurtosis, found.entropy_bits) == (0, 0, 0, 0)


@pytest.mark.parametrize("step_mm", [0.8, 1.5, 5.0])
def test_the_inner_liver_is_that_of_an_erosion(step_mm) -> None:
    """scipy's erosion by the same box: the margin in millimetres, at least one voxel, none at the field's edge."""
    geometry = stack((24, 40, 50), (step_mm, 0.8, 0.7))
    rng = np.random.default_rng(2)
    hu = rng.integers(0, 200, geometry.shape).astype(np.int16)
    liver = np.zeros(geometry.shape, bool)
    liver[0:20, 5:40, 4:45] = True
    liver[6:9, 15:18, 20:22] = False
    reach = [int(np.ceil(PARENCHYMA_MARGIN_MM / 0.8)), int(np.ceil(PARENCHYMA_MARGIN_MM / 0.7))]
    across = max(1, int(PARENCHYMA_MARGIN_MM / step_mm + 1e-9))
    box = np.ones((2 * across + 1, 2 * reach[0] + 1, 2 * reach[1] + 1))
    expected = ndimage.binary_erosion(liver, box, border_value=1)
    volume = Volume(hu, geometry, "CT", "1.2")
    mean, sd = parenchyma_mean_and_sd(volume, liver[:21, 4:, 3:46], (0, 4, 3))
    assert mean == pytest.approx(hu[expected].mean()) and sd == pytest.approx(hu[expected].std())
    assert parenchyma_mean_and_sd(volume, np.zeros((2, 3, 3), bool), (0, 0, 0)) is None
