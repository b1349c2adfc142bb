"""Look twice: a coarse pass finds the liver in the whole stack, a fine pass segments inside its box."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dicom_io.geometry import SPACING_TOLERANCE_MM, Geometry
from dicom_io.progress import Progress, ignore_progress
from dicom_io.segmentation import Segmentation
from dicom_io.volume import Volume
from models.cards import Preprocessing
from models.consistency import agree
from models.doubts import UNFIT, doubts, expected_dice
from models.edges import settle_edges
from models.errors import WrongModality
from models.forward import Model, computes_bfloat16, load_model, predict
from models.maps import Probabilities
from models.postprocessing import by_volume, largest_component, number_segments, without_lesions
from models.preprocessing import (
    MAX_PREDICTED,
    Canonical,
    Shrunk,
    channels,
    interpolation,
    shrunk_stack,
    slice_positions,
    to_canonical,
    value_window,
)
from models.reslicing import Box, is_axial, read_back, reslice

__all__ = [
    "Field",
    "Model",
    "computes_bfloat16",
    "load_model",
    "segment",
    "segment_with_probabilities",
]

MARGIN_MM = 15.0
"""How far the fine pass reaches beyond the liver that the coarse pass found."""


@dataclass(frozen=True, eq=False)
class Field:
    """The field of the fine pass: slices at `centres_mm` of a canonical stack, within its `rows` and `columns`."""

    canonical: Canonical
    centres_mm: NDArray[np.float64]
    rows: slice
    columns: slice

    def shrunk(self, centres_mm: NDArray[np.float64], how: Preprocessing) -> Shrunk:
        """The input of the fine pass at some of the centres, or at places between them."""
        return shrunk_stack(
            self.canonical, centres_mm, how, target_mm=how.fine_spacing_mm, rows=self.rows, columns=self.columns
        )


@dataclass(frozen=True, eq=False)
class Found:
    """The result of the fine pass: `probabilities` (slice, class, row, column) float16 of a box in a canonical stack.

    Its slices lie at `centres_mm`; its pixels fill `rows` and `columns` of the stack, whatever their own number.
    """

    probabilities: Tensor
    centres_mm: NDArray[np.float64]
    rows: slice
    columns: slice


def segment(model: Model, volume: Volume, progress: Progress = ignore_progress) -> Segmentation:
    """Liver and lesions of a volume of any orientation on its own grid. Raises WrongModality."""
    return _numbered(model, volume, _look(model, volume, progress, None))


def segment_with_probabilities(
    model: Model, volume: Volume, progress: Progress = ignore_progress
) -> tuple[Segmentation, Probabilities]:
    """Segment a volume; return the probabilities too. Raises WrongModality."""
    liver = np.zeros(volume.geometry.shape, np.uint8)
    seen = _look(model, volume, progress, liver)
    return _numbered(model, volume, seen), Probabilities(liver, seen.tumour)


@dataclass(frozen=True, eq=False)
class _Seen:
    """Classes (0, 1, 2) and the probability of tumour in 1/255 on the source's grid; the Dice that is expected."""

    classes: NDArray[np.uint8]
    tumour: NDArray[np.uint8]
    expected_dice: float | None


def _look(model: Model, volume: Volume, progress: Progress, liver: NDArray[np.uint8] | None) -> _Seen:
    """Both passes; `liver` is filled in with its probability in 1/255 if given."""
    geometry = volume.geometry
    axial, how = view_for(model, volume)
    canonical = to_canonical(axial)
    found = look_twice(model, canonical, how, progress)
    classes, tumour = np.zeros(geometry.shape, np.uint8), np.zeros(geometry.shape, np.uint8)
    if found is None:
        return _Seen(classes, tumour, None)
    if axial is volume:
        turned = None if liver is None else canonical.turn(liver)
        draw(found, canonical, canonical.turn(classes), canonical.turn(tumour), turned)
    else:
        carry_back(found, axial.geometry, geometry, classes, tumour, liver)
    return _Seen(classes, tumour, expected_dice(found.probabilities, found.centres_mm))


def view_for(model: Model, volume: Volume) -> tuple[Volume, Preprocessing]:
    """The volume itself, or an axial one sampled from it, with this volume's window. Raises WrongModality."""
    card = model.card
    if not card.takes(volume.modality):
        raise WrongModality(f"model {card.name} is for {', '.join(card.modalities)}, the volume is {volume.modality}")
    how = replace(card.preprocessing, window_hu=value_window(volume, card.preprocessing))
    return (volume if is_axial(volume.geometry) else reslice(volume, how)), how


def _numbered(model: Model, volume: Volume, seen: _Seen) -> Segmentation:
    numbered, calibration = number_segments(seen.classes, seen.tumour, volume.geometry), model.card.calibration
    doubtful = doubts(volume, numbered.labels, seen.expected_dice)
    if UNFIT & set(doubtful):
        numbered = without_lesions(numbered)
    if numbered.confidences:
        settle_edges(volume, numbered.labels)
        numbered = by_volume(numbered, volume.geometry)
    confidences = numbered.confidences
    return Segmentation(
        labels=numbered.labels,
        geometry=volume.geometry,
        algorithm=model.algorithm,
        confidences=tuple(map(calibration.of, confidences)) if calibration else confidences,
        warnings=volume.warnings + numbered.warnings + doubtful,
        calibrated=calibration is not None,
        expected_dice=seen.expected_dice,
    )


def look_twice(model: Model, canonical: Canonical, how: Preprocessing, progress: Progress) -> Found | None:
    """The coarse and the fine pass on a canonical stack; None where the coarse one finds no liver."""
    field = look_once(model, canonical, how, progress)
    if field is None:
        return None
    fine = field.shrunk(field.centres_mm, how)
    probabilities = _probabilities(model, fine, field.centres_mm, how, progress)
    return Found(agree(probabilities, field.centres_mm), field.centres_mm, field.rows, field.columns)


def look_once(model: Model, canonical: Canonical, how: Preprocessing, progress: Progress) -> Field | None:
    """The coarse pass: where the fine one has to look; None where there is no liver."""
    canonical = at_least_two(canonical)
    centres = slice_positions(canonical, how.coarse_step_mm)
    coarse = shrunk_stack(canonical, centres, how, target_mm=how.coarse_spacing_mm)
    box = _liver_box(_probabilities(model, coarse, centres, how, progress), centres, canonical)
    if box is None:
        return None
    rows, columns, (first, last) = box
    return Field(canonical, _fine_centres(canonical.positions_mm, first, last, how), rows, columns)


def at_least_two(canonical: Canonical) -> Canonical:
    """A stack that can be interpolated: an only slice stands for two, 1 mm apart."""
    if len(canonical.positions_mm) > 1:
        return canonical
    twice = np.repeat(canonical.values, 2, axis=0)
    return replace(canonical, values=twice, positions_mm=canonical.positions_mm + np.array([0.0, 1.0]))


def draw(
    found: Found,
    canonical: Canonical,
    classes: NDArray[np.uint8],
    tumour: NDArray[np.uint8],
    liver: NDArray[np.uint8] | None = None,
) -> None:
    """Fill in classes (0, 1, 2) and the probability of tumour in 1/255, both on the canonical grid.

    And that of liver or tumour, where `liver` is given.
    """
    size = (found.rows.stop - found.rows.start, found.columns.stop - found.columns.start)
    positions, centres = canonical.positions_mm, found.centres_mm
    inside = np.flatnonzero((positions >= centres[0]) & (positions <= centres[-1]))
    below, part = interpolation(centres, positions[inside])
    for plane, b, weight in zip(inside, below.tolist(), part.tolist(), strict=True):
        p = torch.lerp(found.probabilities[b].float(), found.probabilities[b + 1].float(), weight)
        p = F.interpolate(p[None], size=size, mode="bilinear", align_corners=False)[0]
        drawn, lesion = _classes(p[1], p[2])
        classes[plane, found.rows, found.columns] = drawn.numpy()
        tumour[plane, found.rows, found.columns] = lesion.numpy()
        if liver is not None:
            liver[plane, found.rows, found.columns] = _in_255(p[1] + p[2]).numpy()


def carry_back(
    found: Found,
    grid: Geometry,
    source: Geometry,
    classes: NDArray[np.uint8],
    tumour: NDArray[np.uint8],
    liver: NDArray[np.uint8] | None = None,
) -> None:
    """Carry labels back to the `source` of a resliced stack: each voxel reads its centre in the network's `grid`."""
    step = found.centres_mm[1] - found.centres_mm[0]
    rows, columns = found.rows, found.columns
    first = grid.index_to_lps([0, rows.start - 0.5, columns.start - 0.5])
    last = grid.index_to_lps([0, rows.stop - 0.5, columns.stop - 0.5])
    box = Box(
        found.probabilities[:, 1:].transpose(0, 1).float(),
        np.array([first[0], first[1], found.centres_mm[0] - step / 2]),
        np.array([last[0], last[1], found.centres_mm[-1] + step / 2]),
    )
    for voxels, p, inside in read_back(box, source):
        drawn, lesion = _classes(p[0], p[1])
        classes[voxels] = (drawn * inside).numpy()
        tumour[voxels] = (lesion * inside).numpy()
        if liver is not None:
            liver[voxels] = (_in_255(p[0] + p[1]) * inside).numpy()


def _classes(liver: Tensor, lesion: Tensor) -> tuple[Tensor, Tensor]:
    """Class (0, 1, 2) and probability of tumour in 1/255, both uint8."""
    drawn = (liver + lesion > 0.5).to(torch.uint8) * (1 + (lesion > liver).to(torch.uint8))
    return drawn, _in_255(lesion)


def _in_255(probability: Tensor) -> Tensor:
    return (probability * 255).round().clamp(max=255).to(torch.uint8)


def _fine_centres(
    positions_mm: NDArray[np.float64], first_mm: float, last_mm: float, how: Preprocessing
) -> NDArray[np.float64]:
    """Return where the fine pass predicts: at slices of the source, as far apart as `fine_step_mm` allows.

    A centre between two slices would show the network a blend of both, in which what ends between them is smaller. Even
    stacks have even centres, with the one beyond the last slice that this may ask for: there the last slice is shown.
    """
    low, high = _slices_around(positions_mm, first_mm, last_mm)
    gaps, step_mm = np.diff(positions_mm), how.fine_step_mm
    while True:
        if np.ptp(gaps) <= 2 * SPACING_TOLERANCE_MM:
            every = max(1, int((step_mm + SPACING_TOLERANCE_MM) / np.median(gaps)))
            chosen = np.arange(low, high + every, every)
            beyond = np.maximum(chosen - (len(positions_mm) - 1), 0)
            centres = positions_mm[chosen - beyond] + beyond * np.median(gaps)
        else:
            picked = [low]
            while picked[-1] < high:
                reached = int(np.searchsorted(positions_mm, positions_mm[picked[-1]] + step_mm, side="right")) - 1
                picked.append(min(max(reached, picked[-1] + 1), high))
            centres = positions_mm[picked]
        if len(centres) <= MAX_PREDICTED:
            return centres
        step_mm *= 2


def _slices_around(positions_mm: NDArray[np.float64], first_mm: float, last_mm: float) -> tuple[int, int]:
    """The numbers of the first and the last slice from `first_mm` to `last_mm`, or of those around: two, at least."""
    low = int(np.searchsorted(positions_mm, first_mm - SPACING_TOLERANCE_MM))
    high = int(np.searchsorted(positions_mm, last_mm + SPACING_TOLERANCE_MM)) - 1
    if low >= high:
        low, high = max(0, high), min(low, len(positions_mm) - 1)
    if low >= high:
        low, high = (low - 1, high) if low else (low, high + 1)
    return low, high


def _probabilities(
    model: Model, stack: Shrunk, centres_mm: NDArray[np.float64], how: Preprocessing, progress: Progress
) -> Tensor:
    """(slice, class, row, column) float16 on the CPU, for slices at `centres_mm`."""

    def shown(at: slice) -> Tensor:
        return channels(stack.planes, stack.positions_mm, centres_mm[at], how, stack.drift)

    return predict(model, shown, (len(centres_mm), *stack.planes.shape[-2:]), progress)


def _liver_box(
    probabilities: Tensor, centres_mm: NDArray[np.float64], canonical: Canonical
) -> tuple[slice, slice, tuple[float, float]] | None:
    """Source rows and columns, and positions along the normal, around the coarse pass's liver; None without one."""
    likely = (probabilities[:, 1:].float().sum(dim=1) > 0.5).numpy()
    kept = largest_component(likely)
    if not kept.any():
        return None
    slices, rows, columns = (np.flatnonzero(kept.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    first = max(centres_mm[slices[0]] - MARGIN_MM, canonical.positions_mm[0])
    last = min(centres_mm[slices[-1]] + MARGIN_MM, canonical.positions_mm[-1])
    spans = []
    for index, axis in ((rows, 1), (columns, 2)):
        scale = canonical.values.shape[axis] / kept.shape[axis]
        margin = MARGIN_MM / canonical.spacing_mm[axis - 1]
        start = max(0, int(np.floor(index[0] * scale - margin)))
        stop = min(canonical.values.shape[axis], int(np.ceil((index[-1] + 1) * scale + margin)))
        spans.append(slice(start, stop))
    return spans[0], spans[1], (float(first), float(last))
