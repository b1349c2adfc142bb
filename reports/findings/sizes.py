"""The size of a lesion: its volume, and its diameters in a slice and in space.

Pure. Lengths are those of `dicom_io.axes`.
"""

from dataclasses import dataclass

import numpy as np

from dicom_io.axes import Axes, Bool, diameter_3d_mm
from dicom_io.geometry import Float, Geometry

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Size:
    """The volume and the diameters of one lesion.

    Long and short axis follow RECIST 1.1: the longest diameter in one slice, and the longest chord at a right angle
    to it in that slice, both on the convex outline of one connected part of the lesion there; `axis_end_points_lps_mm`
    are ((p, q), (p, q)), long before short. The slice, `Place.key_slice`, is one of those acquired, as RECIST has it:
    of an axial stack an axial one, of a sagittal, coronal or oblique stack one of that plane, where the axes are other
    ones than an axial slice would show. `diameter_3d_mm` is the largest distance in space, another number with another
    name. `volume_ml` counts voxels.
    """

    volume_ml: float
    long_axis_mm: float
    short_axis_mm: float
    axis_end_points_lps_mm: tuple[tuple[Point, Point], tuple[Point, Point]]
    diameter_3d_mm: float


def size_of(mask: Bool, geometry: Geometry, corner: Float, axes: Axes) -> Size:
    """Measure the lesion `mask`, a box of voxels from index `corner` on; `axes` are those of the mask."""

    def to_lps(row_column: Float) -> Point:
        return point_of(geometry.index_to_lps(corner + [axes.plane, *row_column]))

    return Size(
        volume_ml=volume_ml(mask, geometry, int(corner[0])),
        long_axis_mm=axes.long_mm,
        short_axis_mm=axes.short_mm,
        axis_end_points_lps_mm=(
            (to_lps(axes.long_ends[0]), to_lps(axes.long_ends[1])),
            (to_lps(axes.short_ends[0]), to_lps(axes.short_ends[1])),
        ),
        diameter_3d_mm=diameter_3d_mm(mask, lambda indices: geometry.index_to_lps(indices + corner)),
    )


def volume_ml(mask: Bool, geometry: Geometry, first_slice: int) -> float:
    """Add up the voxels of each slice times the volume of a voxel of that slice: right for uneven stacks too."""
    counts = np.count_nonzero(mask, axis=(1, 2))
    return float(counts @ geometry.voxel_volumes_mm3[first_slice : first_slice + len(counts)]) / 1000


def point_of(point_lps_mm: Float) -> Point:
    """Give a point of three values as plain numbers."""
    x, y, z = (float(value) for value in point_lps_mm)
    return x, y, z
