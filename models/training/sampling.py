"""Samples for training, drawn out of prepared cases: three neighbouring planes and the labels of the middle one.

What is drawn depends on the generator alone, never on the order of processes: see `models.training.loop`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.cards import Preprocessing
from models.datasets.cases import LIVER
from models.preprocessing import AIR_HU
from models.training.prepared import PreparedCase, PreparedStack
from models.training.recipe import Balance

PHANTOMS = "phantoms"
"""The collection of the cases that never lived."""
BODY_HU = -200
"""What lies beside a liver is looked for where there is more than air and lung."""
PATCH = 1.5
"""Rows and columns of a patch over those of a sample: what turning and shrinking (`augmentation`) may reach."""


@dataclass(frozen=True, eq=False)
class Sample:
    """`image` (3, row, column) float32 in HU, `labels` (row, column) uint8; `merged`: label 1 may hide tumours.

    `spacing_mm` lies between its pixels.
    """

    image: Tensor
    labels: Tensor
    merged: bool
    spacing_mm: float


@dataclass(frozen=True, eq=False)
class Batch:
    """`image` (N, 3, row, column) HU, `labels` (N, row, column) int64, `merged` (N,) bool."""

    image: Tensor
    labels: Tensor
    merged: Tensor


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples of one size, as the network takes them."""
    return Batch(
        torch.stack([sample.image for sample in samples]),
        torch.stack([sample.labels for sample in samples]).long(),
        torch.tensor([sample.merged for sample in samples]),
    )


def draw_patch(
    cases: Sequence[PreparedCase], how: Preprocessing, draw: np.random.Generator, *, pixels: int, balance: Balance
) -> Sample:
    """A patch of one of the cases, PATCH times `pixels` wide, about a place that is worth learning from."""
    case = _draw_case(cases, draw, balance)
    fine = bool(draw.random() < balance.fine)
    stack = case.fine if fine else case.coarse
    beyond = fine and balance.beyond > 0 and bool(draw.random() < balance.beyond)
    middle = int(draw.integers(len(stack.labels))) if beyond else _draw_slice(stack, draw, balance, fine=fine)
    # Slices of other patients lie closer or further apart than the step: the network shall not count on it.
    offset_mm = how.neighbour_mm * float(draw.uniform(0.8, 1.2))
    centre = np.array(stack.labels.shape[1:]) / 2
    inside = np.argwhere(stack.labels[middle] >= LIVER) if fine else np.empty((0, 2))
    if beyond:
        body = np.argwhere(stack.image[middle] > BODY_HU)
        centre = body[draw.integers(len(body))] if len(body) else centre
    elif len(inside):
        centre = inside.mean(axis=0) if draw.random() < 0.5 else inside[draw.integers(len(inside))]
    centre = centre + draw.normal(0, 20 if fine else 25, 2) / stack.spacing_mm
    size = 2 * round(PATCH * pixels / 2)
    return read_patch(case, stack, middle, offset_mm, centre, size)


def read_patch(
    case: PreparedCase,
    stack: PreparedStack,
    middle: int,
    offset_mm: float,
    centre: NDArray[np.float64],
    size: int,
) -> Sample:
    """`size` rows and columns about `centre` (row, column) of the slice `middle` and those `offset_mm` from it.

    Beyond the image lies air, and no liver.
    """
    slices, rows, columns = stack.labels.shape
    corner = np.round(centre).astype(int) - size // 2
    first = np.maximum(corner, 0)
    last = np.minimum(corner + size, (rows, columns))
    image = torch.full((3, size, size), AIR_HU)
    labels = torch.zeros(size, size, dtype=torch.uint8)
    if (last > first).all():
        source = (slice(first[0], last[0]), slice(first[1], last[1]))
        target = tuple(slice(a - c, b - c) for a, b, c in zip(first, last, corner, strict=True))
        offset = offset_mm / case.step_mm
        at = np.clip(middle + np.array([-offset, 0.0, offset]), 0, slices - 1)
        below = np.clip(at.astype(int), 0, max(0, slices - 2))
        for plane, (index, part) in enumerate(zip(below.tolist(), (at - below).tolist(), strict=True)):
            low = torch.from_numpy(stack.image[index][source].astype(np.float32))
            if part > 0:
                high = torch.from_numpy(stack.image[index + 1][source].astype(np.float32))
                low = torch.lerp(low, high, part)
            image[plane][target] = low
        labels[target] = torch.from_numpy(np.array(stack.labels[middle][source]))
    return Sample(image, labels, merged=not case.tumours_drawn, spacing_mm=stack.spacing_mm)


def _draw_case(cases: Sequence[PreparedCase], draw: np.random.Generator, balance: Balance) -> PreparedCase:
    real = [case for case in cases if case.collection != PHANTOMS]
    phantoms = [case for case in cases if case.collection == PHANTOMS]
    wants_real = bool(draw.random() < balance.real)
    pool = real if real and (wants_real or not phantoms) else phantoms
    return pool[int(draw.integers(len(pool)))]


def _draw_slice(stack: PreparedStack, draw: np.random.Generator, balance: Balance, *, fine: bool) -> int:
    if len(stack.tumour_slices) and draw.random() < balance.tumour:
        return int(draw.choice(stack.tumour_slices))
    if len(stack.liver_slices) and (fine or draw.random() < balance.liver):
        return int(draw.choice(stack.liver_slices))
    return int(draw.integers(len(stack.labels)))


def validation_samples(
    cases: Sequence[PreparedCase], how: Preprocessing, *, pixels: int, per_case: int
) -> list[Sample]:
    """Unchanged samples spread evenly over each case, the same every time: half of them fine, about the liver.

    Liver slices and, a quarter of the coarse ones, any.
    """
    samples = []
    for case in cases:
        for stack, count in ((case.fine, per_case - per_case // 2), (case.coarse, per_case // 2)):
            everywhere = np.arange(len(stack.labels))
            livers = stack.liver_slices if len(stack.liver_slices) else everywhere
            beyond = count // 4 if stack is case.coarse else 0
            middles = [*_evenly(livers, count - beyond), *_evenly(everywhere, beyond)]
            for middle in middles:
                inside = np.argwhere(stack.labels[middle] >= LIVER)
                centre = (
                    inside.mean(axis=0) if len(inside) and stack is case.fine else np.array(stack.labels.shape[1:]) / 2
                )
                samples.append(read_patch(case, stack, int(middle), how.neighbour_mm, centre, pixels))
    return samples


def _evenly(slices: NDArray[np.intp], count: int) -> list[int]:
    """`count` of the slices, or all where there are fewer, at even distances and none twice."""
    places = (np.arange(min(count, len(slices))) + 0.5) * len(slices) / max(1, min(count, len(slices)))
    return [int(slices[int(place)]) for place in places]
