"""Whether the values of a CT are Hounsfield units: what its headers say they are, and what the values themselves do.

Spectral scanners make series of Modality CT whose values are atomic numbers, concentrations or electron densities
(RescaleType, PS3.3 section C.11.1.1.2), and headers with a wrong sign or intercept make numbers that nobody measured.
What is refused lies nowhere near: crops without air, contrast, metal and fillers of any kind are read.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dicom_io.errors import RejectReason, SeriesRejected
from dicom_io.image_header import Plane
from dicom_io.volume import Volume

UNITS = frozenset(
    ("", "HU", "[HU]", "HOUNSFIELD", "HOUNSFIELD UNIT", "HOUNSFIELD UNITS", "US", "UNSPECIFIED", "NONE", "N/A", "-")
)
"""The RescaleType of a CT that is read: Hounsfield units; unspecified (US), and what is written for that."""

OTHER_UNITS = frozenset(("Z_EFF", "MGML", "ED", "EDW", "HU_MOD", "PCT", "OD"))
"""The others that the standard defines; what else stands there may be anything, and is not repeated."""

SAMPLED_VOXELS = 2**20
"""Values are looked at in about this many voxels, evenly spread."""

FILL_HU = -1100.0
"""Below is no measured value: what surrounds the reconstructed circle, or a padding."""
BEYOND_HU = 32768.0
"""Above lies no metal either, not on an extended scale: a negative number that was read without its sign."""
MOST_BEYOND = 0.001
FAT_BELOW_HU = -30.0
LEAST_FAT = 0.0005
"""What has fewer values below is a crop within an organ, or no CT: then the values must be those of an organ."""
ORGAN_HU = (15.0, 300.0)
LEAST_ORGAN = 0.7
"""Of the values of such a crop. Air at 0, as in every other unit, or at a few stored units, leaves less."""
MOST_ZERO = 0.05
"""A map is cut off at 0; of a crop with noise few voxels are just that."""
SOFT_HU = (-30.0, 300.0)
MOST_BELOW_AIR = 0.05
"""Of all values, where there is no soft tissue: air itself has been lowered then, with all the rest."""
LEAST_SOFT = 0.02
"""Of all that was measured: muscle, liver, blood. In a wide field of view around a slim patient there are 8 %."""
BODY_HU = (-300.0, 3000.0)
BODY_MEDIAN_HU = (-200.0, 700.0)
"""The middle value of all that is neither air nor lung: fat at the least, which lies at -180 at 40 keV, and far from a
scale that is off by 1000."""


def unit_of(rescale_type: str) -> str:
    """Return RescaleType as it is compared; "" where it says HU, or nothing."""
    units = {" ".join(part.upper().split()) for part in rescale_type.split("\\")}
    return "" if units <= UNITS else max(units - UNITS)


def refuse_other_units(planes: Sequence[Plane]) -> None:
    """Raise SeriesRejected(NOT_HOUNSFIELD) where headers of a CT say that not all its values are Hounsfield units."""
    others = {unit for plane in planes if (unit := unit_of(plane.rescale_type))}
    if others:
        known = " and ".join(sorted(others & OTHER_UNITS)) or "something else"
        raise SeriesRejected(RejectReason.NOT_HOUNSFIELD, f"RescaleType says that they are {known}.")
    intercepts = {plane.rescale_intercept for plane in planes}
    if None in intercepts and intercepts - {None, 0.0}:
        raise SeriesRejected(RejectReason.NOT_HOUNSFIELD, "Some images state a RescaleIntercept, and some do not.")
    if len({plane.rescale_slope is None or plane.rescale_slope > 0 for plane in planes}) > 1:
        raise SeriesRejected(RejectReason.NOT_HOUNSFIELD, "RescaleSlope is negative in some images, and not in others.")


def refuse_other_values(volume: Volume) -> None:
    """Raise SeriesRejected(NOT_HOUNSFIELD) where the values of a CT cannot be Hounsfield units."""
    if volume.modality == "CT" and (why := why_not_hounsfield(volume.array)):
        raise SeriesRejected(RejectReason.NOT_HOUNSFIELD, why)


def why_not_hounsfield(array: NDArray[np.int16] | NDArray[np.float32]) -> str:
    """Say why these values are no Hounsfield units; "" where they may be."""
    every = max(1, int((array.size / SAMPLED_VOXELS) ** (1 / 3)))
    values = array[::every, ::every, ::every]
    measured = values[values > FILL_HU]
    if not measured.size:
        return "All values lie below those of air."
    if (beyond := _share(measured, BEYOND_HU, np.inf)) > MOST_BEYOND:
        return f"{beyond:.1%} of the values lie above those of any metal."
    if _share(measured, -np.inf, FAT_BELOW_HU) < LEAST_FAT:
        if _share(measured, -0.5, 0.5) > MOST_ZERO or _share(measured, *ORGAN_HU) < LEAST_ORGAN:
            return "There is neither air nor fat, and the values are not those of an organ."
        return ""
    if _share(measured, *SOFT_HU) < LEAST_SOFT:
        is_lowered = measured.size < (1 - MOST_BELOW_AIR) * values.size
        return "There is no soft tissue, and much lies below air." if is_lowered else ""
    low, high = BODY_MEDIAN_HU
    body = measured[(measured > BODY_HU[0]) & (measured < BODY_HU[1])]
    if not low <= float(np.median(body)) <= high:
        return "Fat and soft tissue do not lie where they lie in CT."
    return ""


def _share(values: NDArray[np.int16] | NDArray[np.float32], low: float, high: float) -> float:
    return float(np.mean((values > low) & (values < high)))
