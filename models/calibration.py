"""How often a lesion is real of which the network is so sure: Platt's scaling of its mean tumour probability.

    porta evaluate -> evaluation.json: lesions found, each real or false -> fit -> "calibration" of a card

A network's probability says how well the voxels of a lesion fit what it learned, not how many of such lesions are real.
The scaling is logistic on the logit, with the targets of Platt (Advances in Large Margin Classifiers, 1999, §3), which
few lesions cannot drive to certainty. By hand, because scikit-learn's LogisticRegression has no offset, without which
its penalty holds a slope near 0 and not near 1. Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import NotCalibrated

Float = NDArray[np.float64]

LEAST_OF_EACH = 5
"""Real and false lesions that a calibration needs: with fewer it says what one of them happened to be."""
ENDS = 1e-3
"""Probabilities nearer than this to 0 and 1 count as so near."""
STEPS, SMALL_STEP = 100, 1e-9


@dataclass(frozen=True)
class Judged:
    """A lesion that was found: how sure the network was (0..1), whether the truth has it, and in which case."""

    confidence: float
    real: bool
    case: str


@dataclass(frozen=True)
class Calibration:
    """`slope` and `intercept` on the logit, and what they were fitted on: lesions found, how many real, cases.

    `brier_before`, `brier_after`: the mean squared error of the confidence, the second with each case judged by a fit
    to the others.
    """

    slope: float
    intercept: float
    lesions: int
    real: int
    cases: int
    brier_before: float
    brier_after: float

    def of(self, confidence: float) -> float:
        """The probability, 0..1, that a lesion of this mean tumour probability is real."""
        return float(_scaled(np.array([confidence]), np.array([self.slope, self.intercept]))[0])


def fit(judged: Sequence[Judged]) -> Calibration:
    """The calibration of lesions whose truth is known. Raises NotCalibrated where there are too few."""
    real = np.array([lesion.real for lesion in judged], bool)
    if min(real.sum(), (~real).sum()) < LEAST_OF_EACH:
        counted = f"{real.sum()} real and {(~real).sum()} false"
        raise NotCalibrated(f"{counted} lesions are too few: {LEAST_OF_EACH} of each are needed")
    confidences = np.array([lesion.confidence for lesion in judged])
    cases = np.array([lesion.case for lesion in judged])
    slope, intercept = _fitted(confidences, real)
    left_out = np.empty(len(judged))
    for case in set(cases.tolist()):
        held = cases == case
        left_out[held] = _scaled(confidences[held], _fitted(confidences[~held], real[~held]))
    return Calibration(
        slope=round(float(slope), 4),
        intercept=round(float(intercept), 4),
        lesions=len(judged),
        real=int(real.sum()),
        cases=len(set(cases.tolist())),
        brier_before=round(float(np.mean((confidences - real) ** 2)), 4),
        brier_after=round(float(np.mean((left_out - real) ** 2)), 4),
    )


def _scaled(confidences: Float, parameters: Float) -> Float:
    slope, intercept = parameters
    scaled: Float = 1 / (1 + np.exp(-(slope * _logit(confidences) + intercept)))
    return scaled


def _logit(confidences: Float) -> Float:
    clipped = np.clip(confidences, ENDS, 1 - ENDS)
    logits: Float = np.log(clipped / (1 - clipped))
    return logits


def _fitted(confidences: Float, real: NDArray[np.bool_]) -> Float:
    """(slope, intercept), held near (1, 0) as by one observation each: a slope needs a hold. By Newton's method."""
    count = int(real.sum())
    target = np.where(real, (count + 1) / (count + 2), 1 / (len(real) - count + 2))
    known = np.stack([_logit(confidences), np.ones(len(real))], axis=-1)
    start = np.array([1.0, 0.0])

    def loss(parameters: Float) -> float:
        odds = known @ parameters
        return float(np.sum(np.logaddexp(0, odds) - target * odds) + np.sum((parameters - start) ** 2) / 2)

    parameters = start
    for _ in range(STEPS):
        said = _scaled(confidences, parameters)
        gradient = known.T @ (said - target) + (parameters - start)
        curvature = (known * (said * (1 - said))[:, None]).T @ known + np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        while np.abs(step).max() > SMALL_STEP and loss(parameters - step) > loss(parameters):
            step = step / 2
        parameters = parameters - step
        if np.abs(step).max() <= SMALL_STEP:
            break
    return parameters
