"""How well a segmentation agrees with the truth: voxel by voxel, surface by surface, at every threshold.

The scores of voxels are scikit-learn's on the four kinds of voxels, weighted with how many there are of each: exact,
and no larger for a larger volume. Distances are SimpleITK's. A score that is undefined (nothing to find, nothing found)
is None, never 0 or 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, find_objects
from scipy.spatial import cKDTree
from sklearn import metrics as sklearn_metrics

from dicom_io.geometry import Float, Geometry

Bool = NDArray[np.bool_]
Box = tuple[slice, slice, slice]
Counts = NDArray[np.int64]

CLASSES = 3
LEVELS = 256
"""Probabilities come in steps of 1/255: a threshold between two of them says no more."""
CURVE_POINTS = 256
"""Points of a ROC curve that are kept for drawing; its area is that of all of them."""
VOXEL_SCORES = ("dice", "iou", "voe", "accuracy", "precision", "recall", "specificity", "f1")


def confusion(truth: NDArray[np.uint8], found: NDArray[np.uint8]) -> Counts:
    """(3, 3) voxels by class: rows the truth (0 background, 1 liver, 2 tumour), columns what was found.

    Found labels above 2 (lesions are numbered) count as 2.
    """
    counts = np.zeros(CLASSES * CLASSES, np.int64)
    for true_plane, found_plane in zip(truth, found, strict=True):
        pairs = np.minimum(true_plane, CLASSES - 1) * np.uint8(CLASSES) + np.minimum(found_plane, CLASSES - 1)
        counts += np.bincount(pairs.ravel(), minlength=len(counts))
    return counts.reshape(CLASSES, CLASSES)


def binary(counts: Counts, first: int) -> Counts:
    """(2, 2) of a (3, 3) confusion: classes from `first` on against those below it. The liver includes its tumours."""
    rows = np.stack([counts[:first].sum(axis=0), counts[first:].sum(axis=0)])
    return np.stack([rows[:, :first].sum(axis=1), rows[:, first:].sum(axis=1)], axis=1)


def voxel_scores(counts: Counts) -> dict[str, float | None]:
    """VOXEL_SCORES of a (2, 2) confusion, each from 0 to 1; None where undefined.

    VOE, the volumetric overlap error, is 1 - IoU (Heimann et al., IEEE TMI 2009). Dice and F1 are the same number of
    voxels, by two names.
    """
    truth, found = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    weights = counts.ravel()
    seen = {"sample_weight": weights, "zero_division": np.nan}
    f1 = sklearn_metrics.f1_score(truth, found, **seen)
    nothing = not weights[1:].any()
    iou = np.nan if nothing else sklearn_metrics.jaccard_score(truth, found, sample_weight=weights)
    scores = {
        "dice": f1,
        "iou": iou,
        "voe": 1 - iou,
        "accuracy": sklearn_metrics.accuracy_score(truth, found, sample_weight=weights),
        "precision": sklearn_metrics.precision_score(truth, found, **seen),
        "recall": sklearn_metrics.recall_score(truth, found, **seen),
        "specificity": sklearn_metrics.recall_score(truth, found, pos_label=0, **seen),
        "f1": f1,
    }
    return {name: finite_or_none(value) for name, value in scores.items()}


def volume_ml(mask: Bool, geometry: Geometry) -> float:
    """Add up the voxels of each slice times the volume of one of them: right for uneven stacks too."""
    return float(np.count_nonzero(mask, axis=(1, 2)) @ geometry.voxel_volumes_mm3) / 1000


def relative_volume_difference(found_ml: float, true_ml: float) -> float | None:
    """RVD, (found - true) / true: negative where too little was found (Heimann et al. 2009). None without a truth."""
    return (found_ml - true_ml) / true_ml if true_ml else None


@dataclass(frozen=True, eq=False)
class Distances:
    """Millimetres from each surface voxel of the one mask to the nearest one of the other, and back."""

    to_truth_mm: Float
    to_found_mm: Float

    @property
    def assd_mm(self) -> float:
        """Average symmetric surface distance: the mean over both surfaces (Heimann et al. 2009)."""
        count = len(self.to_truth_mm) + len(self.to_found_mm)
        return float((self.to_truth_mm.sum() + self.to_found_mm.sum()) / count)

    @property
    def hd95_mm(self) -> float:
        """The larger of the two directed 95th percentiles, as MONAI has it."""
        return float(max(np.percentile(self.to_truth_mm, 95), np.percentile(self.to_found_mm, 95)))


def surface_distances(found: Bool, truth: Bool, geometry: Geometry) -> Distances | None:
    """Measure distances between the surfaces of two masks (slice, row, column); None where one of them is empty.

    A surface is the voxels of a mask that have a face in common with what is outside of it; the image's edge is
    outside. SimpleITK measures on the grid's own spacing. Slices that lie unevenly, or whose pixels drift (a tilted
    gantry), are on no grid that it knows: there the nearest voxel is sought among the centres in patient space.
    """
    box = filled_box(found | truth)
    if box is None or not found.any() or not truth.any():
        return None
    found, truth = (np.pad(mask[box], 1) for mask in (found, truth))
    if not geometry.is_regular:
        first = np.array([part.start - 1 for part in box])
        points = [geometry.index_to_lps(np.argwhere(_surface(mask)) + first) for mask in (found, truth)]
        return Distances(*(cKDTree(points[1 - i]).query(points[i])[0] for i in (0, 1)))
    slice_mm = float(np.linalg.norm(geometry.affine[:3, 0]))
    spacing_mm = (geometry.column_spacing_mm, geometry.row_spacing_mm, slice_mm)
    surfaces = [_surface(mask) for mask in (found, truth)]
    return Distances(*(_distances_mm(surfaces[i], surfaces[1 - i], spacing_mm) for i in (0, 1)))


def _distances_mm(of: Bool, to: Bool, spacing_mm: tuple[float, float, float]) -> Float:
    """Measure from each voxel of a surface to the nearest of another; spacing as in SimpleITK (column, row, slice)."""
    image: Any = sitk.GetImageFromArray(to.view(np.uint8))
    image.SetSpacing(spacing_mm)
    away: Any = sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)  # type: ignore[no-untyped-call]
    # Negative inside, and 0 on a surface, of which every voxel is a border. A view: a copy is as large as the volume
    return np.asarray(np.abs(sitk.GetArrayViewFromImage(away)[of], dtype=np.float64))


def _surface(mask: Bool) -> Bool:
    return np.asarray(mask & ~binary_erosion(mask))


def filled_box(mask: Bool) -> Box | None:
    """The smallest box that holds a mask; None where it is empty."""
    boxes: list[Box] = find_objects(mask.view(np.uint8))
    return boxes[0] if boxes else None


def histogram(truth: Bool, probability: NDArray[np.uint8]) -> Counts:
    """(2, 256) voxels by probability in 1/255: first those outside of the truth, then those in it."""
    counts = np.zeros(2 * LEVELS, np.int64)
    for true_plane, plane in zip(truth, probability, strict=True):
        counts += np.bincount((true_plane * np.uint16(LEVELS) + plane).ravel(), minlength=len(counts))
    return counts.reshape(2, LEVELS)


@dataclass(frozen=True)
class Curve:
    """False and true positive rates at falling thresholds, at most CURVE_POINTS of them, and the area under it."""

    fpr: tuple[float, ...]
    tpr: tuple[float, ...]
    auc: float


def roc(counts: Counts) -> Curve | None:
    """The ROC curve of a `histogram`, or a sum of them; None where all voxels are in the truth, or none.

    Exact for probabilities in 1/255: scikit-learn gets each of the 512 kinds of voxels once, with its count as weight.
    """
    if not counts[0].any() or not counts[1].any():
        return None
    truth, score = np.repeat([0, 1], LEVELS), np.tile(np.arange(LEVELS), 2)
    fpr, tpr, _ = sklearn_metrics.roc_curve(truth, score, sample_weight=counts.ravel(), drop_intermediate=False)
    area = float(sklearn_metrics.auc(fpr, tpr))
    kept = np.unique(np.linspace(0, len(fpr) - 1, min(len(fpr), CURVE_POINTS)).round().astype(np.intp))
    return Curve(tuple(fpr[kept].tolist()), tuple(tpr[kept].tolist()), area)


@dataclass(frozen=True)
class Interval:
    """A mean and the bounds of its 95 % interval; None where there is nothing to take it of, or too few patients."""

    mean: float | None
    low: float | None = None
    high: float | None = None


RESAMPLES = 2000
SEED = 0


def interval(
    sums: Sequence[float], counts: Sequence[float], patients: Sequence[str], *, resamples: int = RESAMPLES
) -> Interval:
    """Mean and 95 % percentile bootstrap of a ratio: all `sums` over all `counts`, an element of each per case.

    For the mean of a score, sums are the scores and counts are 1; for a recall, lesions found and lesions there are.
    Patients are drawn, not cases: two examinations of one patient are no two witnesses (Field and Welsh, J R Stat Soc B
    2007). Seeded, so that the same figures have the same bounds. Without two patients there are no bounds.
    """
    if not sum(counts):
        return Interval(None)
    mean = float(sum(sums) / sum(counts))
    known = [index for index, count in enumerate(counts) if count]
    names = sorted({patients[index] for index in known})
    if len(names) < 2:
        return Interval(mean)
    row = {name: number for number, name in enumerate(names)}
    totals = np.zeros((len(names), 2))
    for index in known:
        totals[row[patients[index]]] += sums[index], counts[index]
    drawn = totals[np.random.default_rng(SEED).integers(len(names), size=(resamples, len(names)))].sum(axis=1)
    low, high = np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
    return Interval(mean, float(low), float(high))


def finite_or_none(value: float) -> float | None:
    """A plain float, or None for what is not a number."""
    return None if np.isnan(value) else float(value)
