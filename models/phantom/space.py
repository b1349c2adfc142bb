"""Where a phantom is sampled: the axes of a transverse grid, parts of it, and random fields that are smooth in space.

Everything is a function of the patient position (LPS mm), so that one phantom looks the same on every grid.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_io.geometry import Geometry

Float = NDArray[np.float32]
Window = tuple[slice, slice, slice]
Point = tuple[float, float, float]

FIELD_EXTENT_MM = 512.0
"""A smooth field repeats itself beyond this many mm (a fine one, of MOST_KNOTS a side, earlier)."""
MOST_KNOTS = 64
SPLINE_DEVIATION = 0.479**0.5
"""Of a cubic B-spline with independent unit coefficients, along one axis, averaged over a knot's interval."""


@dataclass(frozen=True, eq=False)
class Axes:
    """LPS x (columns,), y (rows,) and z (slices,) of the voxel centres of a transverse grid, each growing."""

    x: Float
    y: Float
    z: Float

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        return len(self.z), len(self.y), len(self.x)

    @property
    def open(self) -> tuple[Float, Float, Float]:
        """X (1, 1, column), y (1, row, 1) and z (slice, 1, 1), to be broadcast."""
        return self.x[None, None, :], self.y[None, :, None], self.z[:, None, None]

    def window(self, low: Point, high: Point) -> Window | None:
        """The voxels from `low` to `high` (LPS mm), or None where there are none."""
        parts = []
        for axis, first, last in zip((self.z, self.y, self.x), low[::-1], high[::-1], strict=True):
            start, stop = np.searchsorted(axis, [first, last])
            if start >= stop:
                return None
            parts.append(slice(int(start), int(stop)))
        return parts[0], parts[1], parts[2]

    def part(self, window: Window) -> "Axes":
        """The axes of a part of the grid."""
        return Axes(self.x[window[2]], self.y[window[1]], self.z[window[0]])


def axes_of(geometry: Geometry) -> Axes:
    """The axes of a transverse geometry. Raises ValueError for another orientation, or a tilted stack."""
    cosines = np.concatenate([geometry.row_cosines, geometry.column_cosines])
    if not np.allclose(cosines, [1, 0, 0, 0, 1, 0]) or np.ptp(geometry.origins_lps_mm[:, :2], axis=0).max() > 1e-6:
        raise ValueError("phantoms are sampled on transverse grids")
    x = geometry.origins_lps_mm[0, 0] + np.arange(geometry.columns) * geometry.column_spacing_mm
    y = geometry.origins_lps_mm[0, 1] + np.arange(geometry.rows) * geometry.row_spacing_mm
    return Axes(x.astype(np.float32), y.astype(np.float32), geometry.origins_lps_mm[:, 2].astype(np.float32))


@dataclass(frozen=True, eq=False)
class SmoothField:
    """A random function of the position with mean 0 and deviation 1: a cubic B-spline on a lattice of knots.

    `coefficients` (n, n, n) along z, y, x; the lattice repeats itself, so that there is no edge.
    """

    coefficients: Float
    knot_mm: float

    def on(self, axes: Axes) -> Float:
        """(slice, row, column) values at the voxel centres: three small matrix products, for a spline is separable."""
        along_z, along_y, along_x = (self._weights(axis) for axis in (axes.z, axes.y, axes.x))
        layers = np.tensordot(along_z, self.coefficients, 1)
        return np.asarray((along_y @ layers) @ along_x.T, dtype=np.float32)

    def _weights(self, positions: Float) -> Float:
        """(positions, knots): the cubic B-spline's four weights of each position."""
        knots = self.coefficients.shape[0]
        at = positions.astype(np.float64) / self.knot_mm
        below = np.floor(at)
        t = at - below
        parts = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=-1) / 6
        index = (below[:, None] + np.arange(-1, 3)).astype(int) % knots
        weights = np.zeros((len(at), knots), dtype=np.float32)
        np.add.at(weights, (np.arange(len(at))[:, None], index), parts.astype(np.float32))
        return weights


def smooth_field(draw: np.random.Generator, knot_mm: float) -> SmoothField:
    """A field that changes over about twice `knot_mm`."""
    knots = min(int(np.ceil(FIELD_EXTENT_MM / knot_mm)), MOST_KNOTS)
    coefficients = draw.standard_normal((knots, knots, knots), dtype=np.float32)
    return SmoothField(coefficients / np.float32(SPLINE_DEVIATION**3), knot_mm)
