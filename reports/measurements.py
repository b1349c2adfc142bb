"""What a segmentation measures: volumes, RECIST axes, three-dimensional diameters, Hounsfield units.

Pure. Lengths are taken between the midpoints of pixel edges on the outline: the border that find_contours and
marching cubes draw at half height, and the vertices of the mesh that IBSI measures diameters on. A run of n
pixels measures n pixel spacings, a single pixel one. The longest of many chords of a pixelled outline is a
little long: on discs by 0.6 to 0.9 pixel spacings, never by a whole one (pixel corners would add half a
spacing more, pixel centres would call a single pixel 0 mm long).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from scipy.spatial import ConvexHull

from dicom_io.geometry import Float, Geometry
from dicom_io.segmentation import LIVER, Algorithm, Segmentation
from dicom_io.uids import derive_uid
from dicom_io.volume import Volume

NO_LIVER = "NO_LIVER"

UNEVEN_VOLUME_ERROR = 0.375
"""The volume of an ellipsoid on uneven slices is off by at most this times (widest gap / semi-axis across the
slices) squared, for gaps up to that semi-axis. The worst case has wide gaps at both ends and narrow ones between:
each end adds up to half of it, and the slices between take away up to 0.25. With gaps of up to
8 mm that is 1.5 % at 40 mm, 6 % at 20 mm, 24 % at 10 mm. Gaps of 1 to 8 mm drawn at random are kinder: 0 on average, at
40 mm a standard deviation of 0.3 % (more than 1 % in 4 of 60 000 draws), at 20 mm of 1.1 %, at 10 mm of 4.3 %."""

Point = tuple[float, float, float]
Bool = NDArray[np.bool_]
Box = tuple[slice, slice, slice]

HALF_STEPS_2D = np.array([(0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)])
HALF_STEPS_3D = np.vstack([0.5 * np.eye(3), -0.5 * np.eye(3)])


@dataclass(frozen=True)
class Lesion:
    """One lesion: `number` counts from 1, `segment` is its SegmentNumber in the SEG.

    Long and short axis follow RECIST 1.1: the longest diameter in one slice, and the longest chord at a right angle
    to it in that slice, both on the convex outline; `axis_end_points_lps_mm` are ((p, q), (p, q)), long before
    short. The slice, `key_slice`, is one of those acquired, as RECIST has it: of an axial stack an axial one, of a
    sagittal, coronal or oblique stack one of that plane, where the axes are other ones than an axial slice would
    show. `key_sop_instance_uid` and, in an Enhanced image, `key_frame_number` name its image.

    `diameter_3d_mm` is the largest distance in space, another number with another name. `hu_mean` and `hu_sd` are
    None where the values are no Hounsfield units (MR). `confidence` is the model's mean tumour probability,
    uncalibrated.
    """

    number: int
    segment: int
    tracking_uid: str
    volume_ml: float
    long_axis_mm: float
    short_axis_mm: float
    axis_end_points_lps_mm: tuple[tuple[Point, Point], tuple[Point, Point]]
    diameter_3d_mm: float
    hu_mean: float | None
    hu_sd: float | None
    key_slice: int
    key_sop_instance_uid: str | None
    confidence: float | None
    centroid_lps_mm: Point
    key_frame_number: int | None = None


@dataclass(frozen=True)
class Findings:
    """What was found. The liver includes its lesions; no lesion, and no liver, are findings too.

    `plane` is the one that the slices lie in, and the lesions' axes with them (`Geometry.plane_name`).
    """

    liver_volume_ml: float
    liver_centroid_lps_mm: Point | None
    lesions: tuple[Lesion, ...]
    burden_percent: float | None
    warnings: tuple[str, ...]
    plane: str = "axial"

    @property
    def lesion_count(self) -> int:
        """How many lesions were found."""
        return len(self.lesions)


def measure(volume: Volume, segmentation: Segmentation, *, tracking_seed: str) -> Findings:
    """Measure the liver and every lesion of `segmentation` on the voxel values of `volume`.

    A voxel's volume is its pixel's area times the width that its slice stands for, half-way to its neighbours: what
    is between slices, missing ones too, is measured from both sides. That holds on tilted stacks, for widths are
    taken along the normal. On uneven ones it is right on average, and for an ellipsoid never wrong by more than
    UNEVEN_VOLUME_ERROR says.

    Tracking UIDs derive from `tracking_seed` and the lesion's number. Raises ValueError when the two do not
    share a grid.
    """
    geometry = segmentation.geometry
    if volume.geometry.shape != geometry.shape or not np.allclose(
        volume.geometry.origins_lps_mm, geometry.origins_lps_mm, atol=1e-3
    ):
        raise ValueError("volume and segmentation must share their grid")
    boxes: list[Box | None] = find_objects(segmentation.labels)
    lesions = tuple(
        _lesion(volume, segmentation, box, number, tracking_seed)
        for number, box in enumerate(boxes[LIVER:], start=1)
        if box is not None
    )
    organ = segmentation.labels > 0
    liver_volume_ml = _volume_ml(organ, geometry)
    warnings = [*volume.warnings, *segmentation.warnings]
    if liver_volume_ml == 0:
        warnings.append(NO_LIVER)
    return Findings(
        liver_volume_ml=liver_volume_ml,
        liver_centroid_lps_mm=_centroid(organ, geometry) if liver_volume_ml else None,
        lesions=lesions,
        burden_percent=100 * sum(lesion.volume_ml for lesion in lesions) / liver_volume_ml if liver_volume_ml else None,
        warnings=tuple(dict.fromkeys(warnings)),
        plane=geometry.plane_name,
    )


def findings_json(findings: Findings, algorithm: Algorithm, *, software: str) -> dict[str, Any]:
    """The content of findings.json, schema 1: every key always present, null where unknown.

    `software` is the name and version of the program. Lengths are mm, volumes mL, points LPS mm.
    """
    return {
        "schema": 1,
        "software": software,
        "model": {
            "name": algorithm.name,
            "version": algorithm.version,
            "sha256": algorithm.weights_sha256,
            "research_use_only": True,
        },
        "liver": {
            "volume_ml": _rounded(findings.liver_volume_ml),
            "centroid_lps_mm": _rounded(findings.liver_centroid_lps_mm),
        },
        "lesions": [
            {
                "number": lesion.number,
                "segment": lesion.segment,
                "tracking_uid": lesion.tracking_uid,
                "volume_ml": _rounded(lesion.volume_ml),
                "long_axis_mm": _rounded(lesion.long_axis_mm),
                "short_axis_mm": _rounded(lesion.short_axis_mm),
                "axis_end_points_lps_mm": _rounded(lesion.axis_end_points_lps_mm),
                "diameter_3d_mm": _rounded(lesion.diameter_3d_mm),
                "hu_mean": _rounded(lesion.hu_mean),
                "hu_sd": _rounded(lesion.hu_sd),
                "key_slice": lesion.key_slice,
                "key_sop_instance_uid": lesion.key_sop_instance_uid,
                "key_frame_number": lesion.key_frame_number,
                "confidence": _rounded(lesion.confidence),
                "centroid_lps_mm": _rounded(lesion.centroid_lps_mm),
            }
            for lesion in findings.lesions
        ],
        "lesion_count": findings.lesion_count,
        "burden_percent": _rounded(findings.burden_percent),
        "severity": None,
        "plane": findings.plane,
        "warnings": list(findings.warnings),
    }


def _rounded(value: Any) -> Any:
    """Numbers to a thousandth, in nested tuples too: below that a voxel grid says nothing."""
    if isinstance(value, tuple):
        return [_rounded(part) for part in value]
    return None if value is None else round(float(value), 3)


def _lesion(volume: Volume, segmentation: Segmentation, box: Box, number: int, tracking_seed: str) -> Lesion:
    geometry = segmentation.geometry
    segment = number + LIVER
    mask: Bool = segmentation.labels[box] == segment
    corner = np.array([part.start for part in box], dtype=np.float64)
    values = volume.array[box][mask].astype(np.float64) if volume.modality == "CT" else None
    axes = _recist_axes(mask, geometry)
    key_slice = int(corner[0]) + axes.plane

    def to_lps(row_column: Float) -> Point:
        return _point(geometry.index_to_lps([key_slice, *(row_column + corner[1:])]))

    return Lesion(
        number=number,
        segment=segment,
        tracking_uid=derive_uid("lesion", tracking_seed, number),
        volume_ml=_volume_ml(mask, geometry, int(corner[0])),
        long_axis_mm=axes.long_mm,
        short_axis_mm=axes.short_mm,
        axis_end_points_lps_mm=(
            (to_lps(axes.long_ends[0]), to_lps(axes.long_ends[1])),
            (to_lps(axes.short_ends[0]), to_lps(axes.short_ends[1])),
        ),
        diameter_3d_mm=_diameter_3d_mm(mask, lambda indices: geometry.index_to_lps(indices + corner)),
        hu_mean=None if values is None else float(values.mean()),
        hu_sd=None if values is None else float(values.std()),
        key_slice=key_slice,
        key_sop_instance_uid=volume.sop_instance_uids[key_slice] if volume.sop_instance_uids else None,
        confidence=float(segmentation.confidences[number - 1]) if segmentation.confidences else None,
        centroid_lps_mm=_centroid(mask, geometry, corner),
        key_frame_number=volume.frame_numbers[key_slice] if volume.frame_numbers else None,
    )


def _volume_ml(mask: Bool, geometry: Geometry, first_slice: int = 0) -> float:
    """Voxels of each slice times what a voxel of that slice holds: right for uneven stacks too."""
    counts = np.count_nonzero(mask, axis=(1, 2))
    return float(counts @ geometry.voxel_volumes_mm3[first_slice : first_slice + len(counts)]) / 1000


def _centroid(mask: Bool, geometry: Geometry, corner: Float | None = None) -> Point:
    """Centre of volume: each slice's centre, weighted by its count and width. `corner` is the mask's first index."""
    offset = np.zeros(3) if corner is None else corner
    by_row, by_column = np.count_nonzero(mask, axis=2), np.count_nonzero(mask, axis=1)
    counts = by_row.sum(axis=1)
    filled = np.flatnonzero(counts)
    rows = by_row[filled] @ np.arange(mask.shape[1]) / counts[filled]
    columns = by_column[filled] @ np.arange(mask.shape[2]) / counts[filled]
    centres = geometry.index_to_lps(np.stack([filled, rows, columns], axis=-1) + offset)
    weights = counts[filled] * geometry.voxel_volumes_mm3[filled + int(offset[0])]
    return _point(weights @ centres / weights.sum())


@dataclass(frozen=True, eq=False)
class _Axes:
    """Long and short axis in one plane; ends are (2, 2): row, column of both, relative to the mask."""

    plane: int
    long_mm: float
    short_mm: float
    long_ends: Float
    short_ends: Float


def _recist_axes(mask: Bool, geometry: Geometry) -> _Axes:
    spacing = np.array([geometry.row_spacing_mm, geometry.column_spacing_mm])
    best_mm, best_plane, best_hull, best_pair = 0.0, 0, np.zeros((0, 2)), (0, 0)
    areas = np.count_nonzero(mask, axis=(1, 2))
    # Large slices first: most others then cannot hold a longer axis, and need no hull
    for plane in np.argsort(-areas, kind="stable")[: np.count_nonzero(areas)]:
        ends = _line_ends(mask[plane])
        if np.linalg.norm((np.ptp(ends, axis=0) + 1) * spacing) <= best_mm:
            continue
        hull = _hull((ends[:, None] + HALF_STEPS_2D).reshape(-1, 2) * spacing)
        length, pair = _farthest(hull)
        if length > best_mm:
            best_mm, best_plane, best_hull, best_pair = length, int(plane), hull, pair
    long_ends = best_hull[list(best_pair)]
    short_ends = _longest_chord(best_hull, along=(long_ends[1] - long_ends[0]) / best_mm)
    short_mm = float(np.linalg.norm(short_ends[1] - short_ends[0]))
    return _Axes(best_plane, best_mm, short_mm, long_ends / spacing, short_ends / spacing)


def _diameter_3d_mm(mask: Bool, to_lps_mm: Callable[[Float], Float]) -> float:
    """Largest distance between two points of the surface; `to_lps_mm` maps the mask's indices into space."""
    planes, rows = np.nonzero(mask.any(axis=2))
    lines = mask[planes, rows]
    first, last = lines.argmax(axis=1), _last_true(lines)
    ends = np.concatenate([np.stack([planes, rows, first], axis=-1), np.stack([planes, rows, last], axis=-1)])
    return _farthest(_hull(to_lps_mm((ends[:, None] + HALF_STEPS_3D).reshape(-1, 3))))[0]


def _line_ends(plane: Bool) -> Float:
    """(2n, 2) first and last pixel of every row of a plane: no other pixel can be a corner of the hull."""
    rows = np.flatnonzero(plane.any(axis=1))
    lines = plane[rows]
    columns = np.concatenate([lines.argmax(axis=1), _last_true(lines)])
    return np.stack([np.tile(rows, 2), columns], axis=-1).astype(np.float64)


def _last_true(lines: Bool) -> NDArray[np.intp]:
    positions = np.arange(lines.shape[1])
    return np.asarray(np.where(lines, positions, -1).max(axis=1))


def _hull(points_mm: Float) -> Float:
    """The corners of the convex hull of points (n, 2) or (n, 3); in the plane in order around it."""
    return np.asarray(points_mm[ConvexHull(points_mm).vertices])


def _farthest(points_mm: Float) -> tuple[float, tuple[int, int]]:
    """Greatest distance between two of the points, and which two."""
    # Rows at a time: the square of a few thousand corners would not fit the cache, nor always the memory
    best, pair = -1.0, (0, 0)
    for start in range(0, len(points_mm), 256):
        part = points_mm[start : start + 256]
        squares = ((part[:, None] - points_mm) ** 2).sum(axis=-1)
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


def _point(point_lps_mm: Float) -> Point:
    x, y, z = (float(value) for value in point_lps_mm)
    return x, y, z
