"""Stacks that are not axial: an axial volume sampled from them, and probabilities on it read back at their own voxels.

The network knows slices from inferior to superior. A sagittal, coronal or oblique stack is sampled where such slices
would lie, once; what is found there is read at the centre of each source voxel, linearly, from the network's own grid.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from torch import Tensor
from torch.nn import functional as F

from dicom_io.geometry import Float, Geometry
from dicom_io.volume import Volume
from models.cards import Preprocessing
from models.preprocessing import AIR_HU, resize, slabs

MIN_AXIAL_COSINE = 0.8
"""The least cosine between the normal and the patient's long axis (37 degrees) for a stack to count as axial: its own
slices are then shown to the network. Training turned and bent images in their plane alone, and an upright liver still
looks like one at the tilt of a gantry (30 degrees at most)."""
MAX_GRID_VOXELS = 2**26
"""Voxels of an axial grid at most (256 MiB as float32); what needs more is sampled more coarsely. A field of 500 x 500
x 400 mm needs 45 million."""


def is_axial(geometry: Geometry) -> bool:
    """True where the network can be shown the slices of this stack without reslicing."""
    return bool(abs(geometry.normal[2]) >= MIN_AXIAL_COSINE)


def axial_grid(geometry: Geometry, how: Preprocessing) -> Geometry:
    """Return the axial grid that covers a stack (its voxels to their outer edges), with the network's pixels.

    Its slices lie as close as the source resolves along the patient, but not closer than the network can use. Columns
    run to the patient's left, rows to the back, slices up: `to_canonical` leaves it as it is.
    """
    slices, rows, columns = geometry.shape
    planes = np.r_[-0.5, np.arange(slices), slices - 0.5]
    edges = np.meshgrid(planes, [-0.5, rows - 0.5], [-0.5, columns - 0.5], indexing="ij")
    field = geometry.index_to_lps(np.stack(edges, axis=-1)).reshape(-1, 3)
    low, high = field.min(axis=0), field.max(axis=0)
    closest = float(np.diff(geometry.positions_mm).min()) if slices > 1 else geometry.slice_spacing_mm
    voxels_per_mm = np.abs(
        [
            geometry.normal[2] / closest,
            geometry.column_cosines[2] / geometry.row_spacing_mm,
            geometry.row_cosines[2] / geometry.column_spacing_mm,
        ]
    ).max()
    step = max(1 / voxels_per_mm, how.fine_step_mm / 2)
    spacing = np.array([how.fine_spacing_mm, how.fine_spacing_mm, step])
    while (counts := np.ceil((high - low) / spacing).astype(int) + 1).prod() > MAX_GRID_VOXELS:
        spacing = spacing * 1.1
    first = (low + high) / 2 - (counts - 1) / 2 * spacing
    return Geometry(
        origins_lps_mm=first + np.arange(counts[2])[:, None] * np.array([0.0, 0.0, spacing[2]]),
        row_cosines=np.array([1.0, 0.0, 0.0]),
        column_cosines=np.array([0.0, 1.0, 0.0]),
        row_spacing_mm=float(spacing[1]),
        column_spacing_mm=float(spacing[0]),
        rows=int(counts[1]),
        columns=int(counts[0]),
        frame_of_reference_uid=geometry.frame_of_reference_uid,
        slice_spacing_mm=float(spacing[2]),
    )


def reslice(volume: Volume, how: Preprocessing) -> Volume:
    """The axial volume on `axial_grid`, linear between the source's voxels; outside its field air for CT, 0 for MR."""
    outside = AIR_HU if volume.modality == "CT" else 0.0
    array, geometry = _reduced(volume, how.fine_spacing_mm)
    last = np.array(geometry.shape) - 1
    grid = axial_grid(volume.geometry, how)
    sampled = np.empty(grid.shape, np.float32)
    plane = np.stack(np.meshgrid([0], np.arange(grid.rows), np.arange(grid.columns), indexing="ij"), axis=-1)[0]
    for number, into in enumerate(sampled):
        index = geometry.lps_to_index(grid.index_to_lps(plane + np.array([number, 0, 0])))
        map_coordinates(array, np.moveaxis(index, -1, 0), output=into, order=1, mode="nearest")
        into[((index < -0.5) | (index > last + 0.5)).any(axis=-1)] = outside
    return Volume(sampled, grid, volume.modality, volume.series_instance_uid)


def _reduced(volume: Volume, target_mm: float) -> tuple[NDArray[np.float32], Geometry]:
    """Voxels averaged in their planes to pixels of about `target_mm` where they are finer, their outer edges kept."""
    geometry = volume.geometry
    rows = min(geometry.rows, max(1, round(geometry.rows * geometry.row_spacing_mm / target_mm)))
    columns = min(geometry.columns, max(1, round(geometry.columns * geometry.column_spacing_mm / target_mm)))
    row_mm = geometry.row_spacing_mm * geometry.rows / rows
    column_mm = geometry.column_spacing_mm * geometry.columns / columns
    shift = geometry.column_cosines * (row_mm - geometry.row_spacing_mm) / 2
    shift = shift + geometry.row_cosines * (column_mm - geometry.column_spacing_mm) / 2
    reduced = replace(
        geometry,
        origins_lps_mm=geometry.origins_lps_mm + shift,
        row_spacing_mm=row_mm,
        column_spacing_mm=column_mm,
        rows=rows,
        columns=columns,
    )
    floor = np.float32(AIR_HU if volume.modality == "CT" else -np.inf)
    array = np.empty(reduced.shape, np.float32)
    for slab in slabs(np.arange(geometry.slices), geometry.rows * geometry.columns):
        planes = np.maximum(volume.array[slab], floor, dtype=np.float32)
        array[slab] = resize(torch.from_numpy(planes), rows, columns).numpy()
    return array, reduced


@dataclass(frozen=True, eq=False)
class Box:
    """Values (channel, z, y, x) float32 of axial cells that fill the box from `low_lps_mm` to `high_lps_mm` (3,)."""

    values: Tensor
    low_lps_mm: Float
    high_lps_mm: Float


def read_back(box: Box, geometry: Geometry) -> Iterator[tuple[tuple[int, slice, slice], Tensor, Tensor]]:
    """Yield, for each plane that meets the box, its voxels, their values (channel, row, column), and which lie inside.

    Linear between the centres of the cells, constant from the outermost centres to the edges of the box.
    """
    ends = np.stack([box.low_lps_mm, box.high_lps_mm])
    corners = np.stack(np.meshgrid(*ends.T, indexing="ij"), axis=-1).reshape(-1, 3)
    heights = corners @ geometry.normal
    extent = box.high_lps_mm - box.low_lps_mm
    down, right = geometry.column_cosines * geometry.row_spacing_mm, geometry.row_cosines * geometry.column_spacing_mm
    for number in np.flatnonzero((geometry.positions_mm >= heights.min()) & (geometry.positions_mm <= heights.max())):
        origin = geometry.origins_lps_mm[number]
        rows = _meeting((corners - origin) @ geometry.column_cosines / geometry.row_spacing_mm, geometry.rows)
        columns = _meeting((corners - origin) @ geometry.row_cosines / geometry.column_spacing_mm, geometry.columns)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        first = 2 * (origin + rows.start * down + columns.start * right - box.low_lps_mm) / extent - 1
        along = np.arange(rows.stop - rows.start)[:, None] * (2 * down / extent)
        across = np.arange(columns.stop - columns.start)[:, None] * (2 * right / extent)
        places = torch.from_numpy((first + along[:, None] + across[None]).astype(np.float32))
        values = F.grid_sample(box.values[None], places[None, None], padding_mode="border", align_corners=False)
        yield (int(number), rows, columns), values[0, :, 0], (places.abs() <= 1).all(dim=-1)


def _meeting(indices: Float, count: int) -> slice:
    """Return the whole indices between the least and the greatest of `indices` that an axis of `count` has."""
    return slice(max(0, int(np.ceil(indices.min()))), min(count, int(np.floor(indices.max())) + 1))
