"""The edge of the images: how far a lesion lies from it, and how much of the liver lies on it.

Pure. The field is the box, or sheared box, of whole voxels; the circle that a CT is reconstructed in is not known here.
"""

import numpy as np

from dicom_io.axes import Bool
from dicom_io.geometry import Float, Geometry


def distance_to_edge_mm(geometry: Geometry, first: tuple[int, int, int], stop: tuple[int, int, int]) -> float:
    """Measure from the box of voxels `first` to before `stop` (slice, row, column) to the nearest side of the field.

    0 where the box holds a voxel of the edge. Distances are those at a right angle to the side, on a tilted stack
    too, between the border of the outermost voxels and the border of the field.
    """
    widths = geometry.slice_widths_mm
    row_lean, column_lean = _leans(geometry)
    return float(
        min(
            widths[: first[0]].sum(),
            widths[stop[0] :].sum(),
            min(first[1], geometry.rows - stop[1]) * geometry.row_spacing_mm / row_lean,
            min(first[2], geometry.columns - stop[2]) * geometry.column_spacing_mm / column_lean,
        )
    )


def cut_off_mm2(organ: Bool, geometry: Geometry, first: tuple[int, int, int]) -> float:
    """The area of `organ`, a box of voxels from index `first`, that lies on the edge of the field."""
    pixel_mm2 = geometry.row_spacing_mm * geometry.column_spacing_mm
    row_lean, column_lean = _leans(geometry)
    widths = geometry.slice_widths_mm[first[0] : first[0] + len(organ)]
    area = 0.0
    for end, at_edge in _ends(organ, geometry, first):
        if at_edge[0]:
            area += pixel_mm2 * np.count_nonzero(organ[end])
        if at_edge[1]:
            area += geometry.column_spacing_mm * row_lean * float(widths @ np.count_nonzero(organ[:, end], axis=1))
        if at_edge[2]:
            area += geometry.row_spacing_mm * column_lean * float(widths @ np.count_nonzero(organ[:, :, end], axis=1))
    return area


def _ends(organ: Bool, geometry: Geometry, first: tuple[int, int, int]) -> list[tuple[int, tuple[bool, ...]]]:
    """The low and the high end of the box, and along which of the three axes it is the edge of the field."""
    stop = tuple(start + size for start, size in zip(first, organ.shape, strict=True))
    low = tuple(start == 0 for start in first)
    high = tuple(end == size for end, size in zip(stop, geometry.shape, strict=True))
    return [(0, low), (-1, high)]


def _leans(geometry: Geometry) -> tuple[float, float]:
    """Return how much longer the sides of the field are than upright ones: those along a row, and a column."""
    line: Float = geometry.normal
    if geometry.slices > 1:
        line = geometry.origins_lps_mm[-1] - geometry.origins_lps_mm[0]
        line = line / (line @ geometry.normal)
    along_row, along_column = np.cross(geometry.row_cosines, line), np.cross(geometry.column_cosines, line)
    return float(np.linalg.norm(along_row)), float(np.linalg.norm(along_column))
