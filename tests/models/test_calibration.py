"""Confidences that say how often: fitted on lesions whose truth is drawn from a known law."""

import numpy as np
import pytest

from models.calibration import Judged, fit
from models.errors import NotCalibrated


def judged(count: int, slope: float, intercept: float, seed: int = 0) -> list[Judged]:
    """Lesions that are real as often as the law says, four in a case."""
    draw = np.random.default_rng(seed)
    confidences = draw.uniform(0.75, 0.99, count)
    chances = 1 / (1 + np.exp(-(slope * np.log(confidences / (1 - confidences)) + intercept)))
    real = draw.uniform(size=count) < chances
    pairs = zip(confidences.tolist(), real.tolist(), strict=True)
    return [Judged(confidence, bool(is_real), str(number // 4)) for number, (confidence, is_real) in enumerate(pairs)]


def test_the_law_is_found_again() -> None:
    """Of a network that is too sure of itself; the error falls to what chance leaves."""
    lesions = judged(4000, 1.5, -3.0)
    calibration = fit(lesions)
    assert calibration.slope == pytest.approx(1.5, abs=0.15)
    assert calibration.intercept == pytest.approx(-3.0, abs=0.3)
    assert calibration.brier_after < calibration.brier_before - 0.05
    assert (calibration.lesions, calibration.cases) == (4000, 1000)
    assert calibration.real == sum(lesion.real for lesion in lesions)
    for confidence in (0.8, 0.9, 0.97):
        odds = 1.5 * np.log(confidence / (1 - confidence)) - 3.0
        assert calibration.of(confidence) == pytest.approx(1 / (1 + np.exp(-odds)), abs=0.03)


def test_it_grows_and_is_a_probability() -> None:
    """A lesion that the network is surer of is never said to be less so."""
    calibration = fit(judged(60, 1.0, -2.0))
    said = [calibration.of(confidence) for confidence in (0.0, 0.5, 0.75, 0.9, 0.99, 1.0)]
    assert said == sorted(said)
    assert 0 < said[0] < said[-1] < 1


def test_few_lesions_that_part_cleanly_make_nobody_certain() -> None:
    """Ten that could be told apart by a threshold."""
    apart = [Judged(0.76 + 0.01 * n, False, f"a{n}") for n in range(5)]
    apart += [Judged(0.9 + 0.01 * n, True, f"b{n}") for n in range(5)]
    calibration = fit(apart)
    assert 0.02 < calibration.of(0.76) < 0.5 < calibration.of(0.94) < 0.98


def test_too_few_are_refused() -> None:
    """Without false ones nobody knows what a false one looks like."""
    with pytest.raises(NotCalibrated, match="9 real and 4 false lesions are too few: 5 of each are needed"):
        fit([Judged(0.9, number < 9, str(number)) for number in range(13)])
