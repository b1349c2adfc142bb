"""A stack of parallel image planes in patient space (LPS, millimetres).

Indices are (slice, row, column), zero-based, integer at voxel centres (PS3.3 section C.7.6.2.1.1). Pure: no I/O.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float64]

SAME_PLACE_MM = 0.04
"""Planes nearer to one another along their normal lie at the same place, which was written in two ways: the nearest
slices that scanners make are a quarter of a millimetre apart."""

SAME_GRID_MM = 0.15
"""How far apart the last pixels of the rows and columns of two images, laid on one another, may be in one grid: what
a spacing cut to three decimals makes of 512 pixels (0.13), a quarter of a pixel; other reconstructions differ by 1."""

COSINE_TOLERANCE = 1e-4
"""How far orientation cosines may be from unit length or a right angle (files carry six decimals, some four)."""

SPACING_TOLERANCE_MM = 0.02
"""How far a slice distance may be from the median for the stack to count as regular; positions are often
written with two decimals, so that neighbouring distances differ by up to 0.01 mm twice."""

GRID_TOLERANCE = 0.02
"""How far, in steps, a plane may lie from its place on a regular grid; or SPACING_TOLERANCE_MM where that is more."""

SHEAR_TOLERANCE = 5e-3
"""In-plane drift per millimetre along the normal above which a stack counts as tilted (about 0.3 degrees)."""

OFF_LINE_TOLERANCE_MM = 0.1
"""How far the first pixels may lie from a straight line through the stack for it to count as not tilted."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """A stack of parallel planes, sorted along the normal; regular, unevenly spaced or tilted.

    `origins_lps_mm` (slices, 3): centre of the first pixel of each plane (ImagePositionPatient).
    `row_cosines`, `column_cosines` (3,): the first and last three values of ImageOrientationPatient: the
    direction in which the column index, or the row index, grows.
    `row_spacing_mm`, `column_spacing_mm`: PixelSpacing, between rows and between columns.
    `slice_spacing_mm`: the distance given to a stack of one plane; ignored for more.

    Raises ValueError when the planes are not sorted, coincide, or the cosines are no orthonormal pair.
    """

    origins_lps_mm: Float
    row_cosines: Float
    column_cosines: Float
    row_spacing_mm: float
    column_spacing_mm: float
    rows: int
    columns: int
    frame_of_reference_uid: str
    slice_spacing_mm: float = 1.0

    def __post_init__(self) -> None:
        for name in ("origins_lps_mm", "row_cosines", "column_cosines"):
            array = np.array(getattr(self, name), dtype=np.float64)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if self.origins_lps_mm.ndim != 2 or self.origins_lps_mm.shape[1] != 3 or len(self.origins_lps_mm) == 0:
            raise ValueError("origins_lps_mm must be (slices, 3) with at least one slice")
        if not np.isfinite(self.origins_lps_mm).all():
            raise ValueError("origins must be finite")
        if not is_orthonormal(self.row_cosines, self.column_cosines):
            raise ValueError("row and column cosines must be of unit length and at a right angle")
        if not (self.row_spacing_mm > 0 and self.column_spacing_mm > 0 and self.slice_spacing_mm > 0):
            raise ValueError("spacings must be positive")
        if self.rows < 1 or self.columns < 1:
            raise ValueError("rows and columns must be positive")
        if self.slices > 1 and np.diff(self.positions_mm).min() <= 0:
            raise ValueError("planes must be sorted along the normal and lie apart")

    @property
    def slices(self) -> int:
        """The number of planes."""
        return len(self.origins_lps_mm)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns)."""
        return self.slices, self.rows, self.columns

    @cached_property
    def normal(self) -> Float:
        """Unit vector (3,) across the planes, along which they are sorted: row cosines x column cosines."""
        return np.cross(self.row_cosines, self.column_cosines)

    @cached_property
    def positions_mm(self) -> Float:
        """(slices,) distance of each plane from the patient's origin along the normal."""
        return self.origins_lps_mm @ self.normal

    @cached_property
    def step_mm(self) -> float:
        """The median distance between neighbouring planes."""
        return float(np.median(np.diff(self.positions_mm))) if self.slices > 1 else self.slice_spacing_mm

    @cached_property
    def is_even(self) -> bool:
        """True where neighbouring planes lie equally far apart, within SPACING_TOLERANCE_MM."""
        if self.slices == 1:
            return True
        ideal = np.linspace(self.positions_mm[0], self.positions_mm[-1], self.slices)
        gaps = np.diff(self.positions_mm)
        beside = np.round([np.abs(gaps - self.step_mm).max(), np.abs(self.positions_mm - ideal).max() / 2], 6)
        return bool(beside.max() <= SPACING_TOLERANCE_MM)

    @cached_property
    def grid_step_mm(self) -> float | None:
        """The step of the regular grid that the planes lie on, also where some are missing; None when there is none.

        A grid has most of its planes: at least half of the gaps are single steps. Where they are not, the distances
        are as they were meant to be.
        """
        if self.slices == 1:
            return None
        gaps = np.diff(self.positions_mm)
        length = float(gaps.sum())
        if self.is_even:
            # The whole length, not one gap: positions are rounded, and a reader multiplies what is written here
            return length / len(gaps)
        step = float(gaps.min())
        for _ in range(2):  # the smallest gap is a rounded one; what it says of the whole length is not
            steps = np.rint(gaps / step)
            step = length / float(steps.sum())
        off_grid_mm = float(np.abs(np.cumsum(gaps) - np.cumsum(steps) * step).max())
        is_near = off_grid_mm <= max(GRID_TOLERANCE * step, SPACING_TOLERANCE_MM)
        return step if is_near and 2 * np.count_nonzero(steps == 1) >= len(steps) else None

    @cached_property
    def missing_slices(self) -> int:
        """The number of planes that are missing from the grid of the others; 0 where there is no such grid.

        Three and more equal wide gaps in a row are no holes: a scanner was told to go on in wider steps.
        """
        if self.grid_step_mm is None:
            return 0
        steps = np.rint(np.diff(self.positions_mm) / self.grid_step_mm).astype(np.intp)
        runs = np.split(steps, np.flatnonzero(np.diff(steps)) + 1)
        return sum(int((run - 1).sum()) for run in runs if len(run) < 3)

    @cached_property
    def plane_name(self) -> str:
        """The orientation of the planes: axial, sagittal, coronal; oblique when over 30 degrees from all three."""
        axis = int(np.abs(self.normal).argmax())
        return ("sagittal", "coronal", "axial")[axis] if abs(self.normal[axis]) >= np.cos(np.pi / 6) else "oblique"

    @cached_property
    def is_tilted(self) -> bool:
        """True where the first pixels drift in the plane from slice to slice (gantry tilt, or a shifted table)."""
        if self.slices == 1:
            return False
        steps = self.origins_lps_mm - self.origins_lps_mm[0]
        in_plane = np.stack([steps @ self.row_cosines, steps @ self.column_cosines], axis=-1)
        along = steps @ self.normal
        drift = in_plane[-1] / along[-1]
        off_line_mm = np.abs(in_plane - along[:, None] * drift).max()
        return bool(np.abs(drift).max() > SHEAR_TOLERANCE or off_line_mm > OFF_LINE_TOLERANCE_MM)

    @cached_property
    def tilt_degrees(self) -> float:
        """Angle between the normal and the line through the first pixels of the outermost planes."""
        if self.slices == 1:
            return 0.0
        line = self.origins_lps_mm[-1] - self.origins_lps_mm[0]
        return float(np.degrees(np.arccos(np.clip(line @ self.normal / np.linalg.norm(line), -1.0, 1.0))))

    @property
    def is_regular(self) -> bool:
        """Even and not tilted: an `affine` describes the whole stack."""
        return self.is_even and not self.is_tilted

    @cached_property
    def affine(self) -> Float:
        """(4, 4) from (slice, row, column, 1) to LPS mm. Raises ValueError for a stack that is not regular."""
        if not self.is_regular:
            raise ValueError("an uneven or tilted stack has no affine")
        matrix = np.eye(4)
        if self.slices > 1:
            matrix[:3, 0] = (self.origins_lps_mm[-1] - self.origins_lps_mm[0]) / (self.slices - 1)
        else:
            matrix[:3, 0] = self.normal * self.slice_spacing_mm
        matrix[:3, 1] = self.column_cosines * self.row_spacing_mm
        matrix[:3, 2] = self.row_cosines * self.column_spacing_mm
        matrix[:3, 3] = self.origins_lps_mm[0]
        return matrix

    @cached_property
    def slice_widths_mm(self) -> Float:
        """(slices,) the extent along the normal that each plane stands for: half-way to its neighbours.

        The outermost planes reach as far outward as inward, so that a regular stack's widths are all its step.
        """
        if self.slices == 1:
            return np.array([self.slice_spacing_mm])
        gaps = np.diff(self.positions_mm)
        return np.asarray((np.r_[gaps[0], gaps] + np.r_[gaps, gaps[-1]]) / 2)

    @cached_property
    def voxel_volumes_mm3(self) -> Float:
        """(slices,) volume of one voxel of each slice."""
        return self.slice_widths_mm * self.row_spacing_mm * self.column_spacing_mm

    def index_to_lps(self, indices: ArrayLike) -> Float:
        """(..., 3) slice, row, column (slices may lie between planes or beyond them) to (..., 3) LPS mm."""
        index = np.asarray(indices, dtype=np.float64)
        plane = index[..., 0]
        if self.slices == 1:
            origin = self.origins_lps_mm[0] + plane[..., None] * self.normal * self.slice_spacing_mm
        else:
            below = np.clip(np.floor(plane), 0, self.slices - 2).astype(np.intp)
            part = (plane - below)[..., None]
            origin = self.origins_lps_mm[below] * (1 - part) + self.origins_lps_mm[below + 1] * part
        return np.asarray(
            origin
            + index[..., 1, None] * self.column_cosines * self.row_spacing_mm
            + index[..., 2, None] * self.row_cosines * self.column_spacing_mm
        )

    def lps_to_index(self, points_lps_mm: ArrayLike) -> Float:
        """(..., 3) LPS mm to (..., 3) slice, row, column; the exact inverse of `index_to_lps`."""
        points = np.asarray(points_lps_mm, dtype=np.float64)
        position = points @ self.normal
        if self.slices == 1:
            plane = (position - self.positions_mm[0]) / self.slice_spacing_mm
        else:
            below = np.clip(np.searchsorted(self.positions_mm, position, side="right") - 1, 0, self.slices - 2)
            gap = self.positions_mm[below + 1] - self.positions_mm[below]
            plane = below + (position - self.positions_mm[below]) / gap
        origin = self.index_to_lps(np.stack([plane, np.zeros_like(plane), np.zeros_like(plane)], axis=-1))
        offset = points - origin
        row = offset @ self.column_cosines / self.row_spacing_mm
        column = offset @ self.row_cosines / self.column_spacing_mm
        return np.stack([plane, row, column], axis=-1)


def is_orthonormal(row_cosines: Float, column_cosines: Float) -> bool:
    """True for two direction cosines (3,) of unit length at a right angle, within COSINE_TOLERANCE."""
    return bool(
        np.isfinite(row_cosines).all()
        and np.isfinite(column_cosines).all()
        and abs(np.linalg.norm(row_cosines) - 1) <= COSINE_TOLERANCE
        and abs(np.linalg.norm(column_cosines) - 1) <= COSINE_TOLERANCE
        and abs(row_cosines @ column_cosines) <= COSINE_TOLERANCE
    )


def from_affine(affine: ArrayLike, shape: Sequence[int], frame_of_reference_uid: str) -> Geometry:
    """The Geometry of a regular array (slice, row, column) whose index maps to LPS mm by `affine` (4, 4).

    The slice axis must grow along row x column cosines; raises ValueError otherwise, or when the axes are
    not at right angles.
    """
    matrix = np.asarray(affine, dtype=np.float64)
    row_spacing, column_spacing = float(np.linalg.norm(matrix[:3, 1])), float(np.linalg.norm(matrix[:3, 2]))
    origins = matrix[:3, 3] + np.arange(shape[0])[:, None] * matrix[:3, 0]
    return Geometry(
        origins_lps_mm=origins,
        row_cosines=matrix[:3, 2] / column_spacing,
        column_cosines=matrix[:3, 1] / row_spacing,
        row_spacing_mm=row_spacing,
        column_spacing_mm=column_spacing,
        rows=int(shape[1]),
        columns=int(shape[2]),
        frame_of_reference_uid=frame_of_reference_uid,
        slice_spacing_mm=float(np.linalg.norm(matrix[:3, 0])),
    )


SAME_DIRECTION = 0.999
"""The cosine between the normals of stacks that lie one beside the other."""


def lie_apart(geometries: Sequence[Geometry]) -> bool:
    """Whether these are several stacks of one direction, none of which shows what another one shows."""
    if len(geometries) < 2:
        return False
    normal = geometries[0].normal
    if any(abs(float(geometry.normal @ normal)) < SAME_DIRECTION for geometry in geometries):
        return False
    places = [geometry.origins_lps_mm @ normal for geometry in geometries]
    spans = sorted((float(place.min()), float(place.max())) for place in places)
    return all(after[0] > before[1] for before, after in pairwise(spans))
