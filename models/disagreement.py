"""How far two segmentations of one volume are apart, where nobody knows the truth: ratios and counts alone.

No volume: beside the UIDs of a series it would be a finding of a patient, and the ledger keeps these figures.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_io.segmentation import LIVER, Segmentation


@dataclass(frozen=True)
class Disagreement:
    """How a job's own segmentation and that of a shadow differ. Dice are None where neither found anything.

    The liver counts its lesions in. `liver_rvd`, `lesion_rvd`: the shadow's volume less the job's own, over the
    latter; None where that is nothing. `lesions_met`: how many of the job's own lesions share a voxel with one of the
    shadow's; `shadow_lesions_met`: how many of the shadow's with one of the job's own.
    """

    liver_dice: float | None
    lesion_dice: float | None
    liver_rvd: float | None
    lesion_rvd: float | None
    lesions: int
    shadow_lesions: int
    lesions_met: int
    shadow_lesions_met: int


def disagreement(own: Segmentation, shadow: Segmentation) -> Disagreement:
    """Compare two segmentations, by volume: slices count for what they hold. Raises ValueError for two grids."""
    if own.labels.shape != shadow.labels.shape:
        raise ValueError(f"labels are {own.labels.shape} and {shadow.labels.shape}")
    volumes_ml = np.zeros((2, 3))  # (liver, lesions), (own, shadow, common)
    met: tuple[set[int], set[int]] = set(), set()
    voxels_ml = own.geometry.voxel_volumes_mm3 / 1000
    for ours, theirs, voxel_ml in zip(own.labels, shadow.labels, voxels_ml, strict=True):
        for row, first in enumerate((LIVER, LIVER + 1)):
            volumes_ml[row] += voxel_ml * np.array(_counts(ours >= first, theirs >= first))
        both = (ours > LIVER) & (theirs > LIVER)
        met[0].update(np.unique(ours[both]).tolist())
        met[1].update(np.unique(theirs[both]).tolist())
    (liver, shadow_liver, common), (lesions, shadow_lesions, common_lesions) = volumes_ml.tolist()
    return Disagreement(
        liver_dice=_dice(liver, shadow_liver, common),
        lesion_dice=_dice(lesions, shadow_lesions, common_lesions),
        liver_rvd=_difference(liver, shadow_liver),
        lesion_rvd=_difference(lesions, shadow_lesions),
        lesions=own.lesion_count,
        shadow_lesions=shadow.lesion_count,
        lesions_met=len(met[0]),
        shadow_lesions_met=len(met[1]),
    )


def _counts(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> tuple[int, int, int]:
    return int(ours.sum()), int(theirs.sum()), int((ours & theirs).sum())


def _dice(ours: float, theirs: float, common: float) -> float | None:
    return round(2 * common / (ours + theirs), 4) if ours + theirs else None


def _difference(ours: float, theirs: float) -> float | None:
    return round((theirs - ours) / ours, 4) if ours else None
