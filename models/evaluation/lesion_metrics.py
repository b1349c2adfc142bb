"""Lesion by lesion: which true ones were found, which found ones are none, and how wrong their sizes are.

The rule of matching: each true lesion is paired with at most one found lesion and each found one with at most one true
one. Pairs that share voxels are taken in the order of their common volume, the largest first. A true lesion is found
when it is in a pair: any overlap is enough to point at it, and one large found lesion that covers everything still
finds only one. A found lesion without a pair is false. The stricter rule of LiTS, whose evaluation reports both (Bilic
et al., The Liver Tumor Segmentation Benchmark, Med Image Anal 2023), asks for an intersection over union of one half
as well: `STRICT_IOU`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label

from dicom_io.axes import recist_axes, size_class_of
from dicom_io.geometry import Float, Geometry
from dicom_io.segmentation import LIVER, Segmentation
from models.datasets.cases import TUMOUR, Case
from models.evaluation.metrics import Bool, Box, filled_box

STRICT_IOU = 0.5

Labels = NDArray[np.integer]


@dataclass(frozen=True)
class Size:
    """The size of one lesion: volume, and longest diameter in one slice (RECIST 1.1, as in the reports)."""

    volume_ml: float
    diameter_mm: float

    @property
    def size_class(self) -> str:
        """One of `dicom_io.axes.SIZE_CLASSES`."""
        return size_class_of(self.diameter_mm)


@dataclass(frozen=True)
class TrueLesion:
    """A lesion of the truth, and the found one that it is paired with; None, 0 and 0 where it was missed.

    `confidence` is that of the found one, as in the SR.
    """

    size: Size
    found: Size | None
    dice: float
    iou: float
    confidence: float | None = None


@dataclass(frozen=True)
class FalseLesion:
    """A lesion that was found and is paired with none of the truth. `confidence` as in the SR."""

    size: Size
    confidence: float | None


@dataclass(frozen=True)
class Lesions:
    """All lesions of a case: the true ones from large to small, and the false ones as they were numbered."""

    true: tuple[TrueLesion, ...]
    false: tuple[FalseLesion, ...]


def match_lesions(case: Case, segmentation: Segmentation) -> Lesions:
    """Pair the true lesions of a case with those of a segmentation of its volume, by the rule of this module."""
    box = filled_box((case.labels == TUMOUR) | (segmentation.labels > LIVER))
    if box is None:
        return Lesions((), ())
    drawn = None if case.instances is None else case.instances[box]
    truth, true_count = true_instances(case.labels[box] == TUMOUR, drawn)
    labels = segmentation.labels[box]
    found = np.where(labels > LIVER, labels - np.uint8(LIVER), 0).astype(np.uint8)
    slices = case.volume.geometry.voxel_volumes_mm3[box[0]]
    true_sizes = _sizes(truth, true_count, slices, case.volume.geometry)
    found_sizes = _sizes(found, segmentation.lesion_count, slices, case.volume.geometry)
    common = _common_mm3(truth, found, (true_count, len(found_sizes)), slices)
    pairs = _pairs(common)
    confidences: Sequence[float | None] = segmentation.confidences or (None,) * len(found_sizes)

    def judged(number: int) -> TrueLesion:
        size = true_sizes[number]
        if number not in pairs:
            return TrueLesion(size, None, 0.0, 0.0)
        partner, both = found_sizes[pairs[number]], common[number, pairs[number]] / 1000
        together = size.volume_ml + partner.volume_ml
        dice, iou = float(2 * both / together), float(both / (together - both))
        return TrueLesion(size, partner, dice, iou, confidences[pairs[number]])

    order = sorted(range(true_count), key=lambda number: -true_sizes[number].volume_ml)
    taken = set(pairs.values())
    false = [FalseLesion(size, confidences[i]) for i, size in enumerate(found_sizes) if i not in taken]
    return Lesions(tuple(map(judged, order)), tuple(false))


def true_instances(tumour: Bool, drawn: NDArray[np.uint8] | None) -> tuple[Labels, int]:
    """The tumours numbered from 1, and how many: as they were `drawn`, else by connected components (faces).

    What was drawn counts only where the truth says tumour; tumour that no instance covers is taken by components.
    """
    if drawn is None:
        components, count = label(tumour)
        return components, int(count)
    numbered = np.where(tumour, drawn, 0).astype(np.int32)
    rest, _ = label(tumour & (numbered == 0))
    numbered[rest > 0] = rest[rest > 0] + np.iinfo(np.uint8).max
    present = [number for number, box in enumerate(find_objects(numbered), start=1) if box is not None]
    consecutive = np.zeros(max(present, default=0) + 1, np.int32)
    consecutive[present] = np.arange(len(present)) + 1
    return consecutive[numbered], len(present)


def _common_mm3(truth: Labels, found: Labels, shape: tuple[int, int], voxel_volumes_mm3: Float) -> NDArray[np.float64]:
    """(true, found) volume that each true lesion has in common with each found one."""
    common = np.zeros((shape[0] + 1, shape[1] + 1))
    for true_plane, found_plane, volume in zip(truth, found, voxel_volumes_mm3, strict=True):
        both = (true_plane > 0) & (found_plane > 0)
        np.add.at(common, (true_plane[both], found_plane[both]), volume)
    return common[1:, 1:]


def _pairs(common: NDArray[np.float64]) -> dict[int, int]:
    """Pair true lesions with found ones, by falling common volume."""
    pairs: dict[int, int] = {}
    for index in np.argsort(-common, axis=None, kind="stable").tolist():
        true, found = divmod(index, common.shape[1])
        if not common[true, found]:
            break
        if true not in pairs and found not in pairs.values():
            pairs[true] = found
    return pairs


def _sizes(labels: Labels, count: int, voxel_volumes_mm3: Float, geometry: Geometry) -> list[Size]:
    """Measure the labels 1 to `count`, each of which has a voxel."""
    sizes = []
    boxes: list[Box] = find_objects(labels)[:count]
    for number, box in enumerate(boxes, start=1):
        mask = labels[box] == number
        volume_mm3 = np.count_nonzero(mask, axis=(1, 2)) @ voxel_volumes_mm3[box[0]]
        sizes.append(Size(float(volume_mm3) / 1000, recist_axes(mask, geometry).long_mm))
    return sizes
