"""Sizes in millimetres that a patient can have: another size is an error of a header, and would take any time."""

import numpy as np

from dicom_io.errors import RejectReason, SeriesRejected
from dicom_io.geometry import Geometry

MIN_FIELD_MM, MAX_FIELD_MM = 50.0, 1000.0
"""The field of view, along rows and along columns."""
LEAST_PIXELS = 64
"""Of an image with fewer pixels a side, a thumbnail, the field may be smaller: the bound is on its pixels then."""
MIN_PIXEL_MM = 0.05
MIN_STEP_MM, MAX_STEP_MM = 0.1, 50.0
"""The distance of neighbouring slices (their median)."""
MAX_LENGTH_MM = 3000.0
"""From the first to the last slice; and of an image, in the direction from the feet to the head."""
LENGTHWISE = 0.7
"""The part of a direction from which it goes rather along the patient than across."""
FARTHEST_MM = 1e5
"""How far from the origin of its frame of reference an image may lie."""


def check_size(geometry: Geometry) -> None:
    """Raise SeriesRejected(IMPOSSIBLE_SIZE) for a stack that no patient fits; `detail` says what is wrong with it."""
    sides = (
        (geometry.rows, geometry.row_spacing_mm, geometry.column_cosines),
        (geometry.columns, geometry.column_spacing_mm, geometry.row_cosines),
    )
    for pixels, spacing_mm, direction in sides:
        field_mm = pixels * spacing_mm
        most_mm = MAX_LENGTH_MM if abs(direction[2]) > LENGTHWISE else MAX_FIELD_MM
        if field_mm > most_mm or spacing_mm < MIN_PIXEL_MM or (pixels >= LEAST_PIXELS and field_mm < MIN_FIELD_MM):
            raise _impossible(f"A field of view of {field_mm:.5g} mm, {pixels} pixels of {spacing_mm:.5g} mm.")
    if not MIN_STEP_MM <= geometry.step_mm <= MAX_STEP_MM:
        raise _impossible(f"Slices {geometry.step_mm:.5g} mm apart.")
    length_mm = float(geometry.slice_widths_mm.sum())
    if length_mm > MAX_LENGTH_MM:
        raise _impossible(f"{length_mm:.5g} mm from the first to the last slice.")
    if np.abs(geometry.origins_lps_mm).max() > FARTHEST_MM:
        raise _impossible("Slices far from the origin.")


def _impossible(detail: str) -> SeriesRejected:
    return SeriesRejected(RejectReason.IMPOSSIBLE_SIZE, detail)
