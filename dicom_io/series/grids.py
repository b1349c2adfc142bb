"""Where images lie, and which of them share direction, size, spacing and frame of reference."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dicom_io.errors import RejectReason, SeriesRejected
from dicom_io.geometry import SAME_GRID_MM, Float, is_orthonormal
from dicom_io.series.partition import Placed, clusters
from dicom_io.series.stacks import Slice
from dicom_io.sizes import FARTHEST_MM, MAX_FIELD_MM


def place(item: Slice) -> Placed[Slice]:
    """Return the place of an image. Raises SeriesRejected(NO_POSITION) where it is not usable."""
    plane = item.plane
    try:
        origin = np.array([float(value) for value in plane.image_position_patient])
        orientation = np.array([float(value) for value in plane.image_orientation_patient])
        spacing = tuple(float(value) for value in plane.pixel_spacing)
    except ValueError as error:
        raise SeriesRejected(RejectReason.NO_POSITION) from error
    usable = (
        origin.shape == (3,)
        and np.isfinite(origin).all()
        and orientation.shape == (6,)
        and is_orthonormal(orientation[:3], orientation[3:])
        and len(spacing) == 2
        and all(0 < value < np.inf for value in spacing)
    )
    if not usable:
        raise SeriesRejected(RejectReason.NO_POSITION)
    if max(spacing) > MAX_FIELD_MM or np.abs(origin).max() > FARTHEST_MM:
        raise SeriesRejected(RejectReason.IMPOSSIBLE_SIZE)
    return Placed(item, origin, orientation, plane.marks)


def in_the_only_frame(placed: Sequence[Placed[Slice]]) -> Sequence[Placed[Slice]]:
    """Give images without a frame of reference that of the others, where all of those state one and the same."""
    stated = {item.slice.header.frame_of_reference_uid for item in placed} - {""}
    return (
        [as_if(item, frame_of_reference_uid=uid) for item in placed for uid in stated] if len(stated) == 1 else placed
    )


def as_if(item: Placed[Slice], **stated: Any) -> Placed[Slice]:
    """The image as if its header said this."""
    return replace(item, slice=replace(item.slice, header=replace(item.slice.header, **stated)))


def by_grid(placed: Sequence[Placed[Slice]]) -> list[list[Placed[Slice]]]:
    """Images that share plane direction, size, spacing and frame of reference; the largest group first."""
    alike: dict[tuple[object, ...], list[Placed[Slice]]] = {}
    for item in placed:
        header = item.slice.header
        alike.setdefault((header.rows, header.columns, header.frame_of_reference_uid), []).append(item)
    parts = [
        [members[index] for index in group]
        for members in alike.values()
        for group in clusters(np.array([_ends_mm(item) for item in members]), SAME_GRID_MM)
    ]
    return sorted(parts, key=len, reverse=True)


def _ends_mm(item: Placed[Slice]) -> Float:
    """(2, 3) where the ends of the first row and column lie, seen from the first pixel."""
    header = item.slice.header
    row_spacing, column_spacing = (float(value) for value in item.slice.plane.pixel_spacing)
    along = item.orientation[:3] * column_spacing * (header.columns - 1)
    down = item.orientation[3:] * row_spacing * (header.rows - 1)
    return np.stack([along, down])
