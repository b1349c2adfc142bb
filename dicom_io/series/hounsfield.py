"""Whether the values of a CT are Hounsfield units, by its headers and by the values; and whether all slices hold them.

Spectral scanners make series of Modality CT whose values are atomic numbers, concentrations or electron densities
(RescaleType, PS3.3 section C.11.1.1.2), and headers with a wrong sign or intercept make numbers that nobody measured.
What is refused lies nowhere near: crops without air, contrast, metal and fillers of any kind are read.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dicom_io.errors import RejectReason, SeriesRejected
from dicom_io.files.image_header import Plane
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
LEAST_BELOW = 0.02
"""What has fewer values below is a crop within an organ, or no CT: then the values must be those of an organ."""
AIR_HU = -900.0
LEAST_AIR = 0.05
"""Where there is more, the patient ends in it."""
FAT_HU = (-250.0, -50.0)
LEAST_FAT = 0.02
"""Of the body, with what lies between skin and air: 10 to 42 % in real scans, of a head the least. A map that is -1024
around the patient has nothing there but blurred edges: no atomic number, concentration or density is negative."""
ORGAN_HU = (15.0, 300.0)
LEAST_ORGAN = 0.7
"""Of the values of such a crop. Air at 0, as in every other unit, or at a few stored units, leaves less."""
MOST_ZERO = 0.05
"""A map is cut off at 0; of a crop with noise few voxels are just that."""
SOFT_HU = (-30.0, 300.0)
LEAST_SOFT = 0.05
"""Of the body: muscle, liver, blood. Corners filled with 1000 leave 12 % of a slim patient, a wrong slope 3 %."""
BODY_HU = (-300.0, 3000.0)
LEAST_BODY = 0.005
"""Of all values: a slim patient in a wide field of view has 25 %; a scale that is far too short leaves bone alone."""
LEAST_SPREAD_HU = 20.0
"""Of the middle four fifths of the body; noise alone has more, and fat and soft tissue together 200."""
NOISE_HU = 25.0
AIR_FROM_HU = -1015.0
"""The spread of the values of air alone, and where its middle one lies: a map of small numbers less 1024 lies below."""
WITHOUT_AIR_FAT_HU, WITHOUT_AIR_SOFT_HU = -45.0, (10.0, 700.0)
"""Where there is fat and no air around the patient: the middle values of what lies below FAT_BELOW_HU, which is more
than the tail of noise, and above. Water, and what did not change between two images, lie at 0."""
BODY_MEDIAN_HU = (-200.0, 700.0)
"""The middle value of all that is neither air nor lung: fat at the least, which lies at -180 at 40 keV, and far from a
scale that is off by 1000."""

SAMPLED_SIDE = 128
"""Rows and columns of the slices that are compared with each other."""
MOST_STEP_HU = 200.0
"""Between two slices, by the median of all pixels: anatomy changes fewer than half of them."""
TISSUE_HU = -500.0
LEAST_TISSUE = 0.02
"""Of a slice that has a body in it."""
MOST_LOST = 0.2
"""Of the body that both neighbours of a slice have: more of it is air in no slice between; gas in a bowel is less."""


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
    """Raise SeriesRejected where the values of a CT, or of some of its slices, cannot be those of a patient.

    NOT_HOUNSFIELD for another scale, MISSING_SLICES for slices between others that hold nothing.
    """
    if volume.modality != "CT":
        return
    if why := why_not_hounsfield(volume.array) or why_not_one_scale(volume.array):
        raise SeriesRejected(RejectReason.NOT_HOUNSFIELD, why)
    if empty := empty_slices(volume.array):
        raise SeriesRejected(RejectReason.MISSING_SLICES, f"{empty} images hold nothing where those beside them do.")


def why_not_hounsfield(array: NDArray[np.int16] | NDArray[np.float32]) -> str:
    """Say why these values are no Hounsfield units; "" where they may be."""
    every = max(1, int((array.size / SAMPLED_VOXELS) ** (1 / 3)))
    values = array[::every, ::every, ::every]
    measured = values[values > FILL_HU]
    if not measured.size:
        return "All values lie below those of air."
    if (beyond := _share(measured, BEYOND_HU, np.inf)) > MOST_BEYOND:
        return f"{beyond:.1%} of the values lie above those of any metal."
    if _share(measured, -np.inf, FAT_BELOW_HU) < LEAST_BELOW:
        if _share(measured, -0.5, 0.5) > MOST_ZERO or _share(measured, *ORGAN_HU) < LEAST_ORGAN:
            return "There is neither air nor fat, and the values are not those of an organ."
        return ""
    body = measured[(measured > BODY_HU[0]) & (measured < BODY_HU[1])]
    spread, middle = float(measured.std()), float(np.median(measured))
    if not body.size and spread < NOISE_HU and (middle > AIR_FROM_HU or not spread):
        return ""  # air alone, or nothing: there is no liver in it
    if body.size < LEAST_BODY * values.size or _share(body, *SOFT_HU) < LEAST_SOFT:
        return "There is no soft tissue where it lies in CT."
    if _share(measured, FILL_HU, AIR_HU) > LEAST_AIR:
        if _share(body, *FAT_HU) < LEAST_FAT:
            return "There is no fat where it lies in CT."
        if float(np.ptp(np.percentile(body, (10, 90)))) < LEAST_SPREAD_HU:
            return "The values of the body lie closer together than those of fat and soft tissue."
    elif _lies_elsewhere(measured):
        return "Fat and soft tissue do not lie where they lie in CT."
    low, high = BODY_MEDIAN_HU
    if not low <= float(np.median(body)) <= high:
        return "Fat and soft tissue do not lie where they lie in CT."
    return ""


def _lies_elsewhere(measured: NDArray[np.int16] | NDArray[np.float32]) -> bool:
    """Say whether values without air have fat, or soft tissue, where CT has none."""
    if _share(measured, -0.5, 0.5) > MOST_ZERO:
        measured = measured[np.abs(measured) >= 0.5]  # a filler
    fat = measured[(measured > BODY_HU[0]) & (measured < FAT_BELOW_HU)]
    soft = measured[(measured > FAT_BELOW_HU) & (measured < BODY_HU[1])]
    low, high = WITHOUT_AIR_SOFT_HU
    return (soft.size > 0 and not low <= float(np.median(soft)) <= high) or (
        fat.size > 0 and float(np.median(fat)) > WITHOUT_AIR_FAT_HU
    )


def why_not_one_scale(array: NDArray[np.int16] | NDArray[np.float32]) -> str:
    """Say by how much slices lie above or below those beside them; "" where all are of one scale."""
    planes = _sampled(array)
    steps = [float(np.median(after - before)) for before, after in pairwise(planes)]
    most = max(map(abs, steps), default=0.0)
    return f"Some images lie {most:.0f} HU above or below those beside them." if most > MOST_STEP_HU else ""


def empty_slices(array: NDArray[np.int16] | NDArray[np.float32]) -> int:
    """Count the slices that hold one value, or air in place of the body that the slices around them have.

    Those at both ends may be empty: nothing is cut in two there.
    """
    planes = _sampled(array)
    tissue = planes > TISSUE_HU
    is_flat = planes.min(axis=(1, 2)) == planes.max(axis=(1, 2))
    bodies = [index for index in range(len(planes)) if not is_flat[index] and tissue[index].mean() >= LEAST_TISSUE]
    empty = 0
    for index in range(bodies[0] + 1, bodies[-1]) if bodies else ():
        before, after = max(i for i in bodies if i < index), min(i for i in bodies if i > index)
        body = tissue[before] & tissue[after]
        empty += bool(is_flat[index] or (planes[index] < AIR_HU)[body].sum() > MOST_LOST * max(1, body.sum()))
    return empty


def _sampled(array: NDArray[np.int16] | NDArray[np.float32]) -> NDArray[np.float32]:
    every = max(1, max(array.shape[1:]) // SAMPLED_SIDE)
    return array[:, ::every, ::every].astype(np.float32)


def _share(values: NDArray[np.int16] | NDArray[np.float32], low: float, high: float) -> float:
    return float(np.mean((values > low) & (values < high)))
