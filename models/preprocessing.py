"""From a Volume to the network's grid and back, exactly.

The canonical grid has slices from inferior to superior, rows from anterior to posterior and columns from the
patient's right to left, whatever way the source runs; its slices lie at chosen positions along the source's own
normal, and its pixels share the outer edges of the source's image (or of a box in it). So the way back meets
every source voxel at its own centre.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dicom_io.geometry import Geometry
from dicom_io.volume import Volume
from models.cards import Preprocessing

AIR_HU = -1024.0
"""Scanners fill what lies outside the reconstruction with lower values (-3024, -2000): all of it is air."""


@dataclass(frozen=True, eq=False)
class Canonical:
    """A volume's array turned to (superior, posterior, left), with how to turn it back.

    `positions_mm` (slices,) grow; `spacing_mm` is (row, column). `swap` says that rows and columns were
    exchanged, `flips` which canonical axes were turned round.
    """

    array: NDArray[np.float32]
    positions_mm: NDArray[np.float64]
    spacing_mm: tuple[float, float]
    swap: bool
    flips: tuple[bool, bool, bool]

    def restore(self, canonical: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An array on the canonical grid, put back on the source's."""
        array = np.flip(canonical, tuple(axis for axis in range(3) if self.flips[axis]))
        return np.ascontiguousarray(array.transpose(0, 2, 1) if self.swap else array)


@dataclass(frozen=True)
class Box:
    """Rows and columns of a canonical array, half-open."""

    top: int
    bottom: int
    left: int
    right: int


def to_canonical(volume: Volume) -> Canonical:
    """Turn a transverse (or nearly so) volume to (superior, posterior, left)."""
    geometry = volume.geometry
    swap = abs(geometry.column_cosines[0]) > abs(geometry.column_cosines[1])
    down, right = geometry.column_cosines, geometry.row_cosines
    spacing = (geometry.row_spacing_mm, geometry.column_spacing_mm)
    array = np.asarray(volume.array, dtype=np.float32)
    if swap:
        down, right, spacing, array = right, down, spacing[::-1], array.transpose(0, 2, 1)
    flips = (bool(geometry.normal[2] < 0), bool(down[1] < 0), bool(right[0] < 0))
    turned = np.flip(array, tuple(axis for axis in range(3) if flips[axis]))
    positions = -geometry.positions_mm[::-1] if flips[0] else geometry.positions_mm
    return Canonical(np.maximum(turned, np.float32(AIR_HU)), positions, spacing, bool(swap), flips)


def labels_to_canonical(labels: NDArray[np.uint8], geometry: Geometry, like: Canonical) -> NDArray[np.uint8]:
    """Labels on the source grid, turned as `like` was; for training."""
    if labels.shape != geometry.shape:
        raise ValueError("labels must lie on the volume's geometry")
    turned = labels.transpose(0, 2, 1) if like.swap else labels
    return np.ascontiguousarray(np.flip(turned, tuple(axis for axis in range(3) if like.flips[axis])))


def slice_positions(canonical: Canonical, step_mm: float) -> NDArray[np.float64]:
    """Positions of the slices to predict: from the first to the last source slice, `step_mm` apart or closer."""
    first, last = float(canonical.positions_mm[0]), float(canonical.positions_mm[-1])
    return np.linspace(first, last, max(2, int(np.ceil((last - first) / step_mm)) + 1))


def interpolation(sources_mm: NDArray[np.float64], targets_mm: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
    """For each target position the source slice below it and the part of the one above, clamped at the ends."""
    below = np.clip(np.searchsorted(sources_mm, targets_mm, side="right") - 1, 0, len(sources_mm) - 2)
    part = (targets_mm - sources_mm[below]) / (sources_mm[below + 1] - sources_mm[below])
    return torch.from_numpy(below), torch.from_numpy(np.clip(part, 0.0, 1.0).astype(np.float32))


def resample_slices(stack: Tensor, sources_mm: NDArray[np.float64], targets_mm: NDArray[np.float64]) -> Tensor:
    """A stack whose first axis lies at `sources_mm`, read at `targets_mm`, linearly."""
    below, part = interpolation(sources_mm, targets_mm)
    part = part.to(stack.device).reshape(-1, *[1] * (stack.ndim - 1))
    return torch.lerp(stack[below], stack[below + 1], part)


def shrink(planes: Tensor, spacing_mm: tuple[float, float], target_mm: float) -> Tensor:
    """Planes (slice, row, column) with pixels of about `target_mm`, edges kept; averaged where pixels merge."""
    rows = max(32, round(planes.shape[-2] * spacing_mm[0] / target_mm))
    columns = max(32, round(planes.shape[-1] * spacing_mm[1] / target_mm))
    return F.interpolate(planes[:, None], size=(rows, columns), mode="bilinear", antialias=True)[:, 0]


def normalise(hu: Tensor, window_hu: tuple[float, float]) -> Tensor:
    """HU to -1..1 over the window, clipped beyond it."""
    low, high = window_hu
    return (hu.clamp(low, high) - low) * (2 / (high - low)) - 1


def channels(
    stack: Tensor, positions_mm: NDArray[np.float64], centres_mm: NDArray[np.float64], how: Preprocessing
) -> Tensor:
    """(N, 3, row, column): for each centre the slice below, the slice itself and the slice above, normalised."""
    planes = [
        resample_slices(stack, positions_mm, centres_mm + offset)
        for offset in (-how.neighbour_mm, 0.0, how.neighbour_mm)
    ]
    return normalise(torch.stack(planes, dim=1), how.window_hu)
