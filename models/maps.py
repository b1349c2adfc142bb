"""What a network gives beside labels, on the source's grid: probabilities, and what it looked at. Imports no torch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Probabilities:
    """The network's probabilities of each voxel (slice, row, column) of the source's grid, in 1/255, uint8.

    `liver` counts its tumours in. Before postprocessing: a component that was left out of the labels has its
    probability here. 0 where the fine pass did not look.
    """

    liver: NDArray[np.uint8]
    tumour: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Heat:
    """A map (slice, row, column) float32 from 0 to 1 on the source's rows and columns; its first slice is `first`.

    Slices beyond it are 0.
    """

    first: int
    values: NDArray[np.float32]

    def plane(self, number: int) -> NDArray[np.float32]:
        """(row, column) of a slice of the source."""
        index = number - self.first
        inside = 0 <= index < len(self.values)
        return self.values[index] if inside else np.zeros(self.values.shape[1:], np.float32)
