"""Cases for training: an image and its labels on the canonical grid, and samples drawn from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dicom_io.volume import Volume
from models.cards import Preprocessing
from models.phantom import grid, make_phantom
from models.preprocessing import labels_to_canonical, resample_slices, shrink, slice_positions, to_canonical


@dataclass(frozen=True, eq=False)
class Case:
    """One patient (or phantom) at both resolutions of the network.

    `fine`, `coarse`: (slice, row, column) HU with pixels of `fine_spacing_mm` and `coarse_spacing_mm`, slices
    `fine_step_mm` apart in both. `labels` the same for 0, 1, 2. `merged`: label 1 may hide tumours.
    """

    name: str
    fine: tuple[Tensor, Tensor]
    coarse: tuple[Tensor, Tensor]
    merged: bool
    step_mm: float


def prepare(volume: Volume, labels: NDArray[np.uint8], how: Preprocessing, *, name: str, merged: bool) -> Case:
    """Resample a volume and its labels (0, 1, 2 on the source grid) as inference does."""
    canonical = to_canonical(volume)
    positions = slice_positions(canonical, how.fine_step_mm)
    image = torch.from_numpy(np.ascontiguousarray(canonical.array))
    truth = torch.from_numpy(labels_to_canonical(labels, volume.geometry, canonical))

    def at(spacing_mm: float) -> tuple[Tensor, Tensor]:
        hu = resample_slices(shrink(image, canonical.spacing_mm, spacing_mm), canonical.positions_mm, positions)
        either, lesion = (
            resample_slices(shrink(mask.float(), canonical.spacing_mm, spacing_mm), canonical.positions_mm, positions)
            for mask in (truth > 0, truth > 1)
        )
        drawn = (either > 0.5).to(torch.uint8) + (lesion > 0.5).to(torch.uint8)
        return hu.to(torch.float16), drawn

    step = float(positions[1] - positions[0])
    return Case(name, at(how.fine_spacing_mm), at(how.coarse_spacing_mm), merged, step)


def phantom_case(seed: int, how: Preprocessing) -> Case:
    """The phantom of `seed` on a grid drawn from the same seed."""
    draw = np.random.default_rng(seed + 77)
    pixel, step = float(draw.uniform(1.4, 1.7)), float(draw.choice([2.5, 3.0, 4.0]))
    geometry = grid(slices=int(250 / step), rows=232, columns=256, spacing_mm=(step, pixel, pixel), seed=seed)
    phantom = make_phantom(geometry, seed=seed, noise_hu=float(draw.uniform(2, 14)))
    return prepare(phantom.volume, phantom.truth, how, name=f"phantom {seed}", merged=False)


@dataclass(frozen=True, eq=False)
class Batch:
    """`image` (N, 3, row, column) HU, `labels` (N, row, column) int64, `merged` (N,) bool."""

    image: Tensor
    labels: Tensor
    merged: Tensor


def draw_batch(
    cases: Sequence[Case],
    phantoms: Sequence[Case],
    how: Preprocessing,
    draw: np.random.Generator,
    *,
    size: int,
    pixels: int,
    real_share: float = 0.6,
) -> Batch:
    """`size` samples, `real_share` of them from real cases where there are any, turned, scaled, bent and shifted."""
    images, labels, merged = [], [], []
    for _ in range(size):
        pool = cases if cases and (not phantoms or draw.random() < real_share) else phantoms
        case = pool[int(draw.integers(len(pool)))]
        image, label = draw_sample(case, how, draw, pixels=pixels)
        images.append(image)
        labels.append(label)
        merged.append(case.merged)
    return Batch(torch.stack(images), torch.stack(labels), torch.tensor(merged))


def draw_sample(case: Case, how: Preprocessing, draw: np.random.Generator, *, pixels: int) -> tuple[Tensor, Tensor]:
    """Three neighbouring planes (3, pixels, pixels) in HU and the labels of the middle one."""
    fine = draw.random() < 0.45
    stack, truth = case.fine if fine else case.coarse
    spacing = how.fine_spacing_mm if fine else how.coarse_spacing_mm
    per_slice = truth.flatten(1)
    has_liver = torch.nonzero(per_slice.amax(1) > 0)[:, 0].numpy()
    has_tumour = torch.nonzero(per_slice.amax(1) > 1)[:, 0].numpy()
    if len(has_tumour) and draw.random() < 0.35:
        middle = int(draw.choice(has_tumour))
    elif len(has_liver) and (fine or draw.random() < 0.75):
        middle = int(draw.choice(has_liver))
    else:
        middle = int(draw.integers(len(stack)))
    offset = how.neighbour_mm / case.step_mm * draw.uniform(0.8, 1.2)
    at = np.clip(middle + np.array([-offset, 0, offset]), 0, len(stack) - 1)
    below = np.minimum(at.astype(int), len(stack) - 2)
    part = torch.tensor(at - below, dtype=torch.float32)[:, None, None]
    planes = torch.lerp(stack[below].float(), stack[below + 1].float(), part)

    rows, columns = truth.shape[1:]
    centre = np.array([rows, columns]) / 2
    if fine and per_slice[middle].any():
        inside = torch.nonzero(truth[middle]).numpy()
        centre = inside.mean(0) if draw.random() < 0.5 else inside[draw.integers(len(inside))]
    centre = centre + draw.normal(0, 20 if fine else 25, 2) / spacing
    field = _sampling_field((rows, columns), centre, pixels, draw, spacing)
    image = F.grid_sample(planes[None] + 1024, field, mode="bilinear", align_corners=False)[0] - 1024
    label = F.grid_sample(truth[middle][None, None].float(), field, mode="nearest", align_corners=False)[0, 0]
    return image, label.long()


def _sampling_field(
    shape: tuple[int, int], centre: NDArray[np.float64], pixels: int, draw: np.random.Generator, spacing_mm: float
) -> Tensor:
    """(1, pixels, pixels, 2) normalised positions to read: rotation, anisotropic scale and a smooth bend."""
    angle = np.radians(draw.normal(0, 7))
    zoom = np.exp(draw.normal(0, 0.12)) * np.exp(draw.normal(0, 0.05, 2))
    axis = np.arange(pixels) - (pixels - 1) / 2
    v, u = np.meshgrid(axis * zoom[0], axis * zoom[1], indexing="ij")
    rows = centre[0] + v * np.cos(angle) - u * np.sin(angle)
    columns = centre[1] + v * np.sin(angle) + u * np.cos(angle)
    bend = torch.from_numpy(draw.normal(0, 4.0 / spacing_mm, (1, 2, 5, 5)).astype(np.float32))
    bend = F.interpolate(bend, size=(pixels, pixels), mode="bicubic", align_corners=True)[0]
    row = (torch.from_numpy(rows.astype(np.float32)) + bend[0]) * 2 / shape[0] - 1
    column = (torch.from_numpy(columns.astype(np.float32)) + bend[1]) * 2 / shape[1] - 1
    return torch.stack([column, row], dim=-1)[None]
