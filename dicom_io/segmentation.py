"""Labels on the source's own grid: what models make and reports read."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_io.geometry import Geometry

LIVER = 1
"""Segment number of the liver; lesions follow from 2 by falling volume."""

MAX_LESIONS = 254


@dataclass(frozen=True)
class Algorithm:
    """The model that made a segmentation: its name, its version, and the sha256 of its weights file."""

    name: str
    version: str
    weights_sha256: str
    modalities: tuple[str, ...] = ("CT",)
    trained_on: str = ""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Segment numbers (slice, row, column) uint8 on `geometry`: 0 background, 1 liver, 2... lesions.

    Lesion numbers are consecutive and ordered by falling volume. `confidences` are the mean tumour probabilities of the
    lesions, in that order; where `calibrated`, how probably each is real. `warnings` are codes (for example
    LESIONS_TRUNCATED). `expected_dice`: how well the network expects to have drawn the liver, 0..1; None where it
    found none, or was not asked.
    """

    labels: NDArray[np.uint8]
    geometry: Geometry
    algorithm: Algorithm
    confidences: tuple[float, ...] = ()
    warnings: tuple[str, ...] = ()
    calibrated: bool = False
    expected_dice: float | None = None

    def __post_init__(self) -> None:
        if self.labels.dtype != np.uint8:
            raise TypeError("labels must be uint8")
        if self.labels.shape != self.geometry.shape:
            raise ValueError(f"labels are {self.labels.shape}, their geometry {self.geometry.shape}")
        if len(self.confidences) not in (0, self.lesion_count):
            raise ValueError("one confidence per lesion, or none")
        # A plane at a time: bincount makes eight bytes of each voxel
        counts = sum((np.bincount(plane.ravel(), minlength=256) for plane in self.labels), np.zeros(256, np.int64))
        present = np.flatnonzero(counts[LIVER + 1 :])
        if len(present) and present[-1] + 1 != len(present):
            raise ValueError("lesion numbers must be consecutive from 2")
        self.labels.setflags(write=False)

    @property
    def lesion_count(self) -> int:
        """The number of lesions."""
        return max(0, int(self.labels.max(initial=0)) - LIVER)
