"""A series rebuilt as one array on its Geometry. No patient attributes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_io.geometry import Geometry


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxel values (slice, row, column), HU for CT, on `geometry`.

    `sop_instance_uids` name the source image of each slice, in slice order, and `frame_numbers` the frame in it (from
    1; None for a single-frame image); both are empty for an array that did not come from DICOM. `warnings` are codes
    that travel into the report.
    """

    array: NDArray[np.int16] | NDArray[np.float32]
    geometry: Geometry
    modality: str
    series_instance_uid: str
    sop_instance_uids: tuple[str, ...] = ()
    frame_numbers: tuple[int | None, ...] = ()
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.array.shape != self.geometry.shape:
            raise ValueError(f"array is {self.array.shape}, its geometry {self.geometry.shape}")
        if self.sop_instance_uids and len(self.sop_instance_uids) != self.geometry.slices:
            raise ValueError("one SOP instance UID per slice, or none")
        if self.frame_numbers and len(self.frame_numbers) != self.geometry.slices:
            raise ValueError("one frame number per slice, or none")
        self.array.setflags(write=False)
