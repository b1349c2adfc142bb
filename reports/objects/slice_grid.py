"""The distance between the frames of a SEG, as it is written."""

from dicom_io.geometry import Geometry


def spacing_between_slices_mm(geometry: Geometry) -> float | None:
    """SpacingBetweenSlices: the step of the grid that the slices lie on, also where some are missing; else None.

    Without it dcmqi, and Slicer with it, takes the slice thickness and loses voxels without a word. A tilted stack
    has none: a reader would stack its frames along the normal.
    """
    return None if geometry.is_tilted else geometry.grid_step_mm
