"""The place of a lesion: its slice and centre, its part of the liver, and how far it lies from edges.

Pure.
"""

from dataclasses import dataclass

import numpy as np

from dicom_io.axes import Bool
from dicom_io.geometry import Float, Geometry
from reports.findings.sizes import Point, point_of

SUBCAPSULAR_MM = 10.0
"""Lesions nearer than this to the liver's surface are subcapsular (under 1 cm, as ablation studies have it: for example
Diagn Interv Radiol 2020, PMC7075578)."""


@dataclass(frozen=True)
class Place:
    """The place of one lesion.

    `key_slice` is the slice of the long and short axis; `key_sop_instance_uid` and, in an Enhanced image,
    `key_frame_number` name its image. `centroid_lps_mm` is the centre of volume. Viewers show the image by
    `key_instance_number` (None where it has none) and its place, `key_position_mm` along `key_axis` of the patient.

    `distance_to_capsule_mm` leads to the liver's outer surface (None where none is in the field), `subcapsular`
    when it is under SUBCAPSULAR_MM; `distance_to_edge_mm` to the edge of the field of view, `touches_border` when the
    lesion lies on that edge and so is cut off; `half` ("right", "left") and `third` ("cranial", "middle", "caudal") of
    the liver, by the lesion's centre (`reports.findings.regions`).
    """

    key_slice: int
    key_sop_instance_uid: str | None
    key_frame_number: int | None
    centroid_lps_mm: Point
    distance_to_capsule_mm: float | None
    distance_to_edge_mm: float
    half: str
    third: str
    key_axis: str = "z"
    key_position_mm: float = 0.0
    key_instance_number: int | None = None

    @property
    def subcapsular(self) -> bool | None:
        """True where the lesion lies near the liver's surface; None where that is not known."""
        return None if self.distance_to_capsule_mm is None else self.distance_to_capsule_mm < SUBCAPSULAR_MM

    @property
    def touches_border(self) -> bool:
        """True where the lesion reaches the edge of the images."""
        return self.distance_to_edge_mm == 0

    @property
    def key_image(self) -> str:
        """The image of the axes as viewers count it: "image 21", "frame 5"; else the slice, counted from the feet."""
        return image_name(self.key_slice, self.key_instance_number, self.key_frame_number)

    @property
    def key_position(self) -> str:
        """Where that image lies: "z = -34.5 mm"."""
        return f"{self.key_axis} = {self.key_position_mm:.1f} mm"

    @property
    def region(self) -> str:
        """The part of the liver, in words."""
        return f"{self.half} half, {self.third} third"


def image_name(plane: int, instance_number: int | None, frame_number: int | None) -> str:
    """Name a slice as viewers count it: by InstanceNumber, or by frame; without either by its place in the stack."""
    if frame_number is not None:
        return f"frame {frame_number}"
    return f"slice {plane + 1}" if instance_number is None else f"image {instance_number}"


def slice_position(geometry: Geometry, plane: int) -> tuple[str, float]:
    """Return the axis of the patient that the slices follow, and where on it the middle of a slice lies, in LPS mm."""
    axis = int(np.abs(geometry.normal).argmax())
    middle = geometry.index_to_lps([plane, (geometry.rows - 1) / 2, (geometry.columns - 1) / 2])
    return "xyz"[axis], float(middle[axis])


def centroid_of(mask: Bool, geometry: Geometry, corner: Float) -> Point:
    """Centre of volume: each slice's centre, weighted by its count and width. `corner` is the mask's first index."""
    by_row, by_column = np.count_nonzero(mask, axis=2), np.count_nonzero(mask, axis=1)
    counts = by_row.sum(axis=1)
    filled = np.flatnonzero(counts)
    rows = by_row[filled] @ np.arange(mask.shape[1]) / counts[filled]
    columns = by_column[filled] @ np.arange(mask.shape[2]) / counts[filled]
    centres = geometry.index_to_lps(np.stack([filled, rows, columns], axis=-1) + corner)
    weights = counts[filled] * geometry.voxel_volumes_mm3[filled + int(corner[0])]
    return point_of(weights @ centres / weights.sum())
