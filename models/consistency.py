"""What neighbouring slices say of one another: the network sees three at a time, and judges each for itself."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

SHARE = 0.15
"""What each of both neighbours counts; the slice itself counts for the rest.

Two neighbours that say nothing leave 0.7 of what a slice is sure of: it takes doubt to be outvoted. Measured with the
slices of the source themselves shown to the network, on six phantoms that no weights saw: 2 false lesions where there
were 7, one lesion of ten found less (6), liver Dice 0.9605 (0.9604), tumour Dice 0.484 (0.486); on three real cases
liver Dice 0.9675 (0.9670), tumour 0.925 (0.924). A share of 0.25 finds fewer lesions, smoothing within slices draws
worse livers, and a median over three slices leaves 4 false lesions.
"""
REACH_MM = 5.0
"""Slices further apart than this are strangers."""


def agree(probabilities: Tensor, centres_mm: NDArray[np.float64]) -> Tensor:
    """Probabilities (slice, class, row, column) at `centres_mm`, each mixed with those of its neighbours, in place.

    Outermost slices, and those beyond a gap, count themselves in a neighbour's stead.
    """
    near = np.diff(centres_mm) <= REACH_MM + 0.5
    before = probabilities[0].clone()
    for index in range(len(probabilities)):
        own = probabilities[index].clone()
        below = before if index and near[index - 1] else own
        above = probabilities[index + 1] if index < len(near) and near[index] else own
        probabilities[index] = (1 - 2 * SHARE) * own.float() + SHARE * (below.float() + above.float())
        before = own
    return probabilities
