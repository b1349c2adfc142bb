"""What makes a result doubtful though it looks like one: values that are not CT's, a liver that the network doubts."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dicom_io.segmentation import LIVER
from dicom_io.volume import Volume

VALUES_DOUBTFUL = "VALUES_DOUBTFUL"
LIVER_UNCERTAIN = "LIVER_UNCERTAIN"
NOT_LIKE_LIVER = "NOT_LIKE_LIVER"
LIVER_VOLUME_DOUBTFUL = "LIVER_VOLUME_DOUBTFUL"
UNFIT = frozenset({VALUES_DOUBTFUL, NOT_LIKE_LIVER})
"""Where one of these holds, what was found is no liver that these weights know, and no lesion in it is one."""

FAT_BELOW_HU = -50.0
"""Fat has -120 to -60 HU, lung and air less: no CT of a body is without."""
LEAST_FAT = 0.005
"""The part of the voxels that must be fat, lung or air for values to be Hounsfield units."""
SAMPLED_VOXELS = 2**20
"""Values are looked at in about so many voxels, evenly spread."""


LEAST_EXPECTED_DICE = 0.955
"""With the weights 2.0.0 the six of 40 phantoms whose livers had a Dice under 0.9 had 0.878 to 0.949, all others (0.95
and more) 0.966 to 0.984; three real cases in training had 0.972 to 0.978, 3D-IRCADb 17 left out 0.968."""

LIVER_MEAN_HU = (0.0, 250.0)
"""Fat can take a liver down to water, iodine or iron up to 200 HU; beyond is none."""
LIVER_SPREAD_HU = 80.0
"""The most that the values of a liver differ (standard deviation, without lesions, with its vessels and noise): in
three real cases and six phantoms 15 to 34 HU. What the weights 1.0.0 took for a liver in a head had 160."""

LIVER_ML = (400.0, 5000.0)
"""A remnant after a resection has less seldom, a polycystic or congested liver more."""


def doubts(volume: Volume, labels: NDArray[np.uint8], expected: float | None) -> tuple[str, ...]:
    """The codes of what is doubtful in `labels` of a volume; `expected` as `expected_dice` says."""
    unsure = bool(labels.any()) and expected is not None and expected < LEAST_EXPECTED_DICE
    codes = {
        VALUES_DOUBTFUL: are_no_hu(volume),
        LIVER_UNCERTAIN: unsure,
        NOT_LIKE_LIVER: is_unlike_liver(volume, labels),
        LIVER_VOLUME_DOUBTFUL: bool(labels.any()) and not LIVER_ML[0] <= volume_ml(volume, labels) <= LIVER_ML[1],
    }
    return tuple(code for code, holds in codes.items() if holds)


def volume_ml(volume: Volume, labels: NDArray[np.uint8]) -> float:
    """The volume of all that is labelled, each slice's voxels counted with their own."""
    counts = np.array([np.count_nonzero(plane) for plane in labels])
    return float(counts @ volume.geometry.voxel_volumes_mm3) / 1000


def are_no_hu(volume: Volume) -> bool:
    """True for a CT whose values are something else than HU: MR in a NIfTI, or a window burnt in."""
    if volume.modality != "CT":
        return False
    every = max(1, int((volume.array.size / SAMPLED_VOXELS) ** (1 / 3)))
    return bool(np.mean(volume.array[::every, ::every, ::every] < FAT_BELOW_HU) < LEAST_FAT)


def is_unlike_liver(volume: Volume, labels: NDArray[np.uint8]) -> bool:
    """True where the liver that was drawn in a CT has values that no liver has: bone and brain, bowel and its gas."""
    if volume.modality != "CT":
        return False
    count, total, squares = 0, 0.0, 0.0
    for plane, drawn in zip(volume.array, labels, strict=True):
        values = plane[drawn == LIVER].astype(np.float64)
        count, total, squares = count + values.size, total + values.sum(), squares + values @ values
    if not count:
        return False
    mean = total / count
    spread = np.sqrt(max(0.0, squares / count - mean**2))
    return bool(not LIVER_MEAN_HU[0] <= mean <= LIVER_MEAN_HU[1] or spread > LIVER_SPREAD_HU)


def expected_dice(probabilities: Tensor, centres_mm: NDArray[np.float64]) -> float | None:
    """The Dice with the truth that the network itself expects of the liver it found (tumours included).

    With p the probability of liver or tumour of a voxel and S those over one half: 2 sum(p in S) / (sum(p) + |S|).
    `probabilities` (slice, class, row, column) at `centres_mm`. None where nothing is over one half.
    """
    common = likely = drawn = 0.0
    for plane, width in zip(probabilities, np.gradient(centres_mm).tolist(), strict=True):
        liver = plane[1:].float().sum(dim=0)
        inside = liver > 0.5
        common += width * float(liver[inside].sum())
        likely += width * float(liver.sum())
        drawn += width * float(inside.sum())
    return 2 * common / (likely + drawn) if drawn else None
