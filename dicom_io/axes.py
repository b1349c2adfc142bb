"""The longest lines that fit into a lesion: RECIST axes in one slice, the diameter in space, and classes of size.

Pure. Lengths are taken between the midpoints of pixel edges on the outline: the border that find_contours and
marching cubes draw at half height, and the vertices of the mesh that IBSI measures diameters on. A run of n
pixels measures n pixel spacings, a single pixel one. The longest of many chords of a pixelled outline is a
little long: on discs by 0.6 to 0.9 pixel spacings, never by a whole one (pixel corners would add half a
spacing more, pixel centres would call a single pixel 0 mm long).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label
from scipy.spatial import ConvexHull
from scipy.spatial.distance import cdist

from dicom_io.geometry import Float, Geometry

Bool = NDArray[np.bool_]

DIRECTIONS = 16
"""In how many directions the width of a slice is looked at before its axes are sought."""

SIZE_CLASSES = ("<10", "10-20", "20-30", "30-50", "50-100", ">100")
"""Of the long axis in mm. Upper bounds belong to a class, as in the staging rules (at most 2, 3, 5 cm), but 10 mm is
measurable (RECIST 1.1) and begins the second."""
SIZE_BOUNDS_MM = (20.0, 30.0, 50.0, 100.0)
MEASURABLE_MM = 10.0

EIGHT_NEIGHBOURS = np.ones((3, 3), np.int8)
SPECK = 0.05
"""The part of a lesion's area in a slice under which a connected part of it there is a speck, and is not measured."""

HALF_STEPS_2D = np.array([(0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)])
HALF_STEPS_3D = np.vstack([0.5 * np.eye(3), -0.5 * np.eye(3)])


@dataclass(frozen=True, eq=False)
class Axes:
    """Long and short axis in one plane of a mask; ends are (2, 2): row, column of both, in the mask's indices."""

    plane: int
    long_mm: float
    short_mm: float
    long_ends: Float
    short_ends: Float


def size_class_of(long_axis_mm: float) -> str:
    """Return which of SIZE_CLASSES a length is in; it counts as it is written, to a tenth of a millimetre."""
    written = round(long_axis_mm, 1)
    if written < MEASURABLE_MM:
        return SIZE_CLASSES[0]
    return SIZE_CLASSES[1 + int(np.searchsorted(SIZE_BOUNDS_MM, written))]


def recist_axes(mask: Bool, geometry: Geometry) -> Axes:
    """The longest diameter of `mask` (slice, row, column) in one slice, and the longest chord across it there.

    RECIST 1.1 (Eisenhauer 2009): the short axis is at a right angle to the long one, in the same slice. Both are
    taken on the convex outline of one connected part of the slice (8 neighbours): no caliper runs from one island to
    another. Parts under SPECK of the slice's area are passed over.
    """
    spacing = np.array([geometry.row_spacing_mm, geometry.column_spacing_mm])
    best_mm, best_plane, best_hull, best_pair = 0.0, 0, np.zeros((0, 2)), (0, 0)
    corners = _corners(mask)
    starts = np.searchsorted(corners[:, 0], np.arange(len(mask) + 1))
    bounds = _longest_possible_mm(corners, starts, spacing)
    areas = np.count_nonzero(mask, axis=(1, 2))
    # Large slices first: most others then cannot hold a longer axis, and need no hull
    for plane in np.argsort(-areas, kind="stable")[: np.count_nonzero(areas)]:
        if bounds[plane] <= best_mm:
            continue
        for ends in _part_corners(mask[plane], corners[starts[plane] : starts[plane + 1], 1:]):
            hull = _hull((ends[:, None] + HALF_STEPS_2D).reshape(-1, 2) * spacing)
            length, pair = _farthest(hull)
            if length > best_mm:
                best_mm, best_plane, best_hull, best_pair = length, int(plane), hull, pair
    long_ends = best_hull[list(best_pair)]
    short_ends = _longest_chord(best_hull, along=(long_ends[1] - long_ends[0]) / best_mm)
    short_mm = float(np.linalg.norm(short_ends[1] - short_ends[0]))
    return Axes(best_plane, best_mm, short_mm, long_ends / spacing, short_ends / spacing)


def diameter_3d_mm(mask: Bool, to_lps_mm: Callable[[Float], Float]) -> float:
    """Largest distance between two points of the surface; `to_lps_mm` maps the mask's indices into space."""
    return _farthest(_hull(to_lps_mm((_corners(mask)[:, None] + HALF_STEPS_3D).reshape(-1, 3))))[0]


def _part_corners(plane: Bool, corners: Float) -> list[Float]:
    """(n, 2) corners of each connected part of a slice but the specks; `corners` are those of the whole slice."""
    parts, count = label(plane, EIGHT_NEIGHBOURS)
    if count == 1:
        return [corners]
    areas = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    # Nothing but specks: the largest of them
    least = min(SPECK * areas.sum(), areas.max())
    return [_corners((parts == number + 1)[None])[:, 1:] for number in np.flatnonzero(areas >= least)]


def _corners(mask: Bool) -> Float:
    """(n, 3) voxels of `mask` that may be corners of a convex hull, slice by slice.

    No others than the ends of each row can be; nor those that do not stand out beyond the line between the ends of the
    row before and the row after: they are a mixture of other voxels of their slice, whatever the distance of slices.
    """
    rows = mask.any(axis=2)
    size = mask.shape[2]
    # A row without voxels never stands in for a neighbour: its ends lie far on the other side
    first = np.where(rows, mask.argmax(axis=2), 4 * size)
    last = np.where(rows, size - 1 - mask[:, :, ::-1].argmax(axis=2), -4 * size)
    ends = []
    for end, outward in ((first, -1), (last, 1)):
        reach = np.pad(outward * end, ((0, 0), (1, 1)), constant_values=-4 * size)
        planes, lines = np.nonzero(rows & (2 * reach[:, 1:-1] > reach[:, :-2] + reach[:, 2:]))
        ends.append(np.stack([planes, lines, end[planes, lines]], axis=-1))
    corners = np.concatenate(ends)
    return corners[np.argsort(corners[:, 0], kind="stable")].astype(np.float64)


def _longest_possible_mm(corners: Float, starts: NDArray[np.intp], spacing_mm: Float) -> Float:
    """(slices,) upper limits of the longest axis of each slice; `starts` says where its corners begin.

    A line is as long as its shadow on a direction, divided by the cosine of the angle between: at most half the angle
    between two of the directions that are tried.
    """
    angles = np.arange(DIRECTIONS) * np.pi / DIRECTIONS
    directions = np.stack([np.sin(angles), np.cos(angles)]) * spacing_mm[:, None]
    shadows = corners[:, 1:] @ directions
    filled = np.flatnonzero(np.diff(starts))
    bounds = np.zeros(len(starts) - 1)
    widths = np.maximum.reduceat(shadows, starts[filled]) - np.minimum.reduceat(shadows, starts[filled])
    bounds[filled] = (widths + np.abs(directions).max(axis=0)).max(axis=1) / np.cos(np.pi / DIRECTIONS / 2)
    return bounds


def _hull(points_mm: Float) -> Float:
    """The corners of the convex hull of points (n, 2) or (n, 3); in the plane in order around it."""
    return np.asarray(points_mm[ConvexHull(points_mm).vertices])


def _farthest(points_mm: Float) -> tuple[float, tuple[int, int]]:
    """Greatest distance between two of the points, and which two."""
    # Rows at a time: the square of a few thousand corners would not fit the cache, nor always the memory
    best, pair = -1.0, (0, 0)
    for start in range(0, len(points_mm), 256):
        part = points_mm[start : start + 256]
        squares = cdist(part, points_mm, "sqeuclidean")
        index = int(squares.argmax())
        if squares.flat[index] > best:
            best, pair = float(squares.flat[index]), (start + index // len(points_mm), index % len(points_mm))
    return float(np.sqrt(best)), pair


def _longest_chord(hull_mm: Float, along: Float) -> Float:
    """(2, 2) the longest chord of a convex polygon at a right angle to the unit vector `along`.

    A chord's length is a concave, piecewise linear function of its place along the axis, with its knees at the
    polygon's corners: so the longest one goes through a corner.
    """
    across = np.array([-along[1], along[0]])
    place, height = hull_mm @ along, hull_mm @ across
    lower, upper = np.inf * np.ones(len(place)), -np.inf * np.ones(len(place))
    for start, end in zip(range(len(place)), [*range(1, len(place)), 0], strict=True):
        low, high = min(place[start], place[end]), max(place[start], place[end])
        crossed = (place >= low) & (place <= high)
        if high - low < 1e-9:
            heights = np.array([[height[start]], [height[end]]])
        else:
            part = (place[crossed] - place[start]) / (place[end] - place[start])
            heights = (height[start] + part * (height[end] - height[start]))[None]
        lower[crossed] = np.minimum(lower[crossed], heights.min(axis=0))
        upper[crossed] = np.maximum(upper[crossed], heights.max(axis=0))
    best = int((upper - lower).argmax())
    return np.stack([place[best] * along + lower[best] * across, place[best] * along + upper[best] * across])
