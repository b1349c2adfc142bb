"""Surfaces in space: a lesion's area and sphericity, and how far it lies from the liver's outer surface.

Pure. A surface runs half-way between a voxel inside and its neighbour outside, as marching cubes draw it at half
height. Points of it are mapped into space by the geometry, so that uneven and tilted slices are no special cases.
"""

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist
from skimage.measure import marching_cubes

from dicom_io.axes import Bool
from dicom_io.geometry import Float, Geometry

GROUP_MM = (10.0, 4.0, 1.5)
"""The sizes of the cubes of points that are compared, one after the other, before any point is."""


@dataclass(frozen=True)
class Shape:
    """Area and volume of a lesion's mesh, as IBSI measures them."""

    surface_mm2: float
    mesh_volume_ml: float

    @property
    def sphericity(self) -> float:
        """The area of a ball of this volume, divided by this area: 1 for a ball (IBSI QCFX)."""
        return float((36 * np.pi * (1000 * self.mesh_volume_ml) ** 2) ** (1 / 3) / self.surface_mm2)


def shape_of(mask: Bool, geometry: Geometry, corner: Float) -> Shape:
    """Measure the surface of `mask` by marching cubes at 0.5 (IBSI C0JK, RNU0); `corner` is its first voxel's index.

    The same triangles as scikit-image draws, without drawing them: each cell of eight voxels is one of 256 cases,
    whose triangles are known, so that counting the cases of each gap between slices is enough. A surface of steps is
    larger than the smooth one that it follows: of balls by 8 to 9 %, which makes their sphericity 0.92 to 0.93
    (0.85 for a single voxel); a box's faces are exact, its edges cut.
    """
    cells = _cells(mask)
    first = int(corner[0])
    planes = geometry.index_to_lps(
        np.column_stack([np.arange(first - 1, first + len(cells)), *np.zeros((2, 1 + len(cells)))])
    )
    in_plane = geometry.column_cosines * geometry.row_spacing_mm, geometry.row_cosines * geometry.column_spacing_mm
    surface_mm2 = volume_mm3 = 0.0
    cases: dict[tuple[float, ...], tuple[Float, Float, Float]] = {}
    for gap, cell in enumerate(cells):
        counts = np.bincount(cell.ravel(), minlength=256)
        across = planes[gap + 1] - planes[gap]
        # Equal gaps have equal triangles; a nanometre apart is equal
        key = tuple(np.round(across, 6))
        if key not in cases:
            cases[key] = _case_sums(np.stack([across, *in_plane]), geometry.normal)
        areas, upward, flux = cases[key]
        surface_mm2 += float(counts @ areas)
        # Gauss: the volume inside is the integral, over the surface, of height times the normal's upward part
        volume_mm3 += float(counts @ flux + ((planes[gap] - planes[0]) @ geometry.normal) * (counts @ upward))
    return Shape(surface_mm2, abs(volume_mm3) / 1000)


def _cells(mask: Bool) -> NDArray[np.uint8]:
    """The case (0 to 255) of each cell of eight voxels of the padded mask: bit 4 z + 2 y + x is voxel (z, y, x)."""
    padded = np.pad(mask, 1).view(np.uint8)
    cells = np.zeros([size - 1 for size in padded.shape], np.uint8)
    for bit in range(8):
        z, y, x = bit >> 2, bit >> 1 & 1, bit & 1
        cells |= padded[z : z + len(cells), y : y + cells.shape[1], x : x + cells.shape[2]] << np.uint8(bit)
    return cells


@cache
def _triangles() -> tuple[NDArray[np.intp], Float]:
    """Return the triangles of all cases: (n,) the case of each, and (n, 3, 3) its corners (slice, row, column)."""
    cases, triangles = [], []
    for case in range(1, 255):
        voxels = (case >> np.arange(8) & 1).reshape(2, 2, 2).astype(np.float32)
        vertices, faces, _, _ = marching_cubes(voxels, 0.5)  # type: ignore[no-untyped-call]
        cases.append(np.full(len(faces), case))
        triangles.append(vertices[faces].astype(np.float64))
    return np.concatenate(cases), np.concatenate(triangles)


def _case_sums(edges_mm: Float, normal: Float) -> tuple[Float, Float, Float]:
    """Three times (256,): area, area along the normal, and that times height, of the triangles of each case.

    `edges_mm` (3, 3) are the edges of the cell in space: across the slices, down the rows, along the columns.
    """
    cases, triangles = _triangles()
    corners = triangles @ edges_mm
    vectors = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) / 2
    upward = vectors @ normal
    heights = corners.mean(axis=1) @ normal

    def summed(values: Float) -> Float:
        return np.bincount(cases, weights=values, minlength=256).astype(np.float64)

    return summed(np.linalg.norm(vectors, axis=1)), summed(upward), summed(upward * heights)


MAX_GROUP_PAIRS = 4_000_000
"""Of how many groups the distances are taken at once: 32 MB of them."""


@dataclass(frozen=True, eq=False)
class Capsule:
    """The liver's outer surface, as points (n, 3) half-way between its voxels and those outside.

    Cavities that the liver encloses on all sides are no part of it, nor is the edge of the field of view, where the
    liver is cut; the surface towards vessels that leave the liver is.
    """

    points_lps_mm: Float

    def distance_mm(self, mask: Bool, geometry: Geometry, corner: Float) -> float | None:
        """Return the least distance from the surface of `mask` to this one: 0 where they touch; None without one."""
        if len(self.points_lps_mm) == 0:
            return None
        coarse, *finer = GROUP_MM
        points = geometry.index_to_lps(_face_indices(np.pad(mask, 1)) + corner - 1)
        near, far, bound = _nearest_groups(_grouped(points, coarse), self._groups)
        for size_mm in finer:
            one, other = _grouped(near, size_mm), _grouped(far, size_mm)
            if len(one.starts) * len(other.starts) > MAX_GROUP_PAIRS:  # scattered over the whole liver
                break
            near, far, bound = _nearest_groups(one, other)
        return min(bound, float(KDTree(far).query(near, distance_upper_bound=bound)[0].min()))

    @cached_property
    def _groups(self) -> "_Groups":
        return _grouped(self.points_lps_mm, GROUP_MM[0])


@dataclass(frozen=True, eq=False)
class _Groups:
    """Points (n, 3), a cube's together from its place in `starts` on; the centres and radii of their groups."""

    points: Float
    starts: NDArray[np.intp]
    centres: Float
    radii: Float

    @property
    def counts(self) -> NDArray[np.intp]:
        """The number of points of each group."""
        return np.diff(np.append(self.starts, len(self.points)))

    def members(self, group: int) -> Float:
        """The points of one group."""
        return self.points[self.starts[group] : self.starts[group] + self.counts[group]]


def _grouped(points: Float, size_mm: float) -> _Groups:
    # Column by column: along an axis of three numpy's own minimum takes ten times as long
    lowest = np.array([column.min() for column in points.T])
    cubes = np.floor((points - lowest) / size_mm).astype(np.int64) @ np.array([1 << 40, 1 << 20, 1])
    order = np.argsort(cubes, kind="stable")
    points, cubes = points[order], cubes[order]
    starts = np.flatnonzero(np.diff(cubes, prepend=-1))
    counts = np.diff(np.append(starts, len(points)))
    centres = np.add.reduceat(points, starts) / counts[:, None]
    radii = np.maximum.reduceat(np.linalg.norm(points - np.repeat(centres, counts, axis=0), axis=1), starts)
    return _Groups(points, starts, centres, radii)


def _nearest_groups(near: _Groups, far: _Groups) -> tuple[Float, Float, float]:
    """The points of both whose groups may hold the nearest two, and a distance that two points do have.

    No two points of two groups are nearer than their centres less both radii.
    """
    distances = cdist(near.centres, far.centres)
    one, other = np.unravel_index(int(distances.argmin()), distances.shape)
    bound = float(cdist(near.members(int(one)), far.members(int(other))).min())
    possible = distances - near.radii[:, None] - far.radii <= bound
    mine, theirs = (np.repeat(possible.any(axis=axis), groups.counts) for axis, groups in ((1, near), (0, far)))
    return near.points[mine], far.points[theirs], bound


def capsule_of(organ: Bool, geometry: Geometry, corner: Float) -> Capsule:
    """The outer surface of the liver `organ`, a box of the grid with its first voxel at index `corner`.

    The box must hold the whole liver and, but at the field's edge, a voxel more on every side.
    """
    outside, count = label(~organ)
    sides = [np.take(outside, end, axis=axis) for axis in range(3) for end in (0, -1)]
    reached = np.unique(np.concatenate([side.ravel() for side in sides]))
    filled = organ
    if count > np.count_nonzero(reached):
        filled = organ | ~np.isin(outside, reached)
    return Capsule(geometry.index_to_lps(_face_indices(filled) + corner))


def _face_indices(mask: Bool) -> Float:
    """(n, 3) slice, row, column half-way between every voxel of `mask` and its neighbour outside."""
    faces = []
    for axis in range(3):
        near, far = (mask[(slice(None),) * axis + (part,)] for part in (slice(None, -1), slice(1, None)))
        changes = near != far
        indices = np.stack(np.unravel_index(np.flatnonzero(changes), changes.shape), axis=-1).astype(np.float64)
        indices[:, axis] += 0.5
        faces.append(indices)
    return np.concatenate(faces)
