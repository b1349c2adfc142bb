"""Lesions put into the livers of samples: dark and bright, rimmed, washed out, necrotic, calcified; small, mostly.

Label-free lesions in the spirit of Hu et al., CVPR 2023, as bodies in space that the three planes of a sample cut. How
often which looks comes from what is reported of metastases and carcinomas in the phases of a CT; HU are relative to the
liver about them.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.training.filters import blur

SIZE_MM, SIZE_SPREAD = 15.0, 0.6
"""Median of the diameters, and the deviation of their logarithm: seven of ten are under 2 cm, as in LiTS."""
SIZES_MM = (5.0, 90.0)
LARGE = 0.12
"""The share that has any size up to the largest."""
DARK_HU, BRIGHT_HU = (-80.0, -15.0), (12.0, 65.0)
BRIGHT, BRIGHT_PALE = 0.35, 0.65
"""The share of bright ones, and that in a liver that the contrast medium has not reached: under PALE_HU."""
PALE_HU = 85.0
CROWD = 0.15
"""The share of samples with up to eight small ones."""


@dataclass(frozen=True)
class Look:
    """HU beside the liver's. `core`: up to which part of the radius it is necrotic; `rim_mm`: how thick its rim is.

    `specks_hu`: of calcifications, or of lipiodol; 0 for none.
    """

    body_hu: float
    core: float = 0.0
    core_hu: float = 0.0
    rim_mm: float = 0.0
    rim_hu: float = 0.0
    specks_hu: float = 0.0


def insert_lesions(
    image: Tensor, labels: Tensor, spacing_mm: float, planes_mm: float, draw: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Image (3, row, column) and labels (row, column) with one to eight lesions in the liver.

    `spacing_mm` lies between pixels, `planes_mm` between planes. Nothing outside the liver changes.
    """
    inside = torch.nonzero(labels > 0)
    image, labels = image.clone(), labels.clone()
    liver = (labels > 0).float()
    parenchyma = image[1][labels == 1]
    pale = len(parenchyma) > 0 and float(parenchyma.median()) < PALE_HU
    crowd = draw.random() < CROWD
    for _ in range(int(draw.integers(4, 9) if crowd else draw.integers(1, 4))):
        place = inside[int(draw.integers(len(inside)))].numpy()
        radius_mm = draw_diameter_mm(draw, crowd=crowd) / 2
        look = draw_look(draw, radius_mm, bright=bool(draw.random() < (BRIGHT_PALE if pale else BRIGHT)))
        _insert(
            image,
            labels,
            liver,
            place=place,
            radius_mm=radius_mm,
            look=look,
            apart_mm=(spacing_mm, planes_mm),
            draw=draw,
        )
    return image, labels


def draw_look(draw: np.random.Generator, radius_mm: float, *, bright: bool) -> Look:
    """Draw how a lesion looks: small ones are plain."""
    specks_hu = 0.0
    if radius_mm > 5 and draw.random() < 0.1:
        specks_hu = float(draw.uniform(80, 400))
    large = radius_mm > 6
    rim_mm = min(0.45 * radius_mm, float(draw.uniform(1.5, 4.0)))
    core, kind = float(draw.uniform(0.3, 0.75)), float(draw.random())
    if bright:
        body = float(draw.uniform(*BRIGHT_HU))
        if kind < 0.25:  # its rim alone takes up contrast medium
            return Look(float(draw.uniform(-30, 5)), rim_mm=rim_mm, rim_hu=body, specks_hu=specks_hu)
        if kind < 0.45 and large:  # necrotic
            return Look(body, core=core, core_hu=float(draw.uniform(-60, -10)), specks_hu=specks_hu)
        return Look(body, specks_hu=specks_hu)
    body = float(draw.uniform(*DARK_HU))
    if kind < 0.2 and large:  # washed out, with a capsule
        capsule_mm = min(rim_mm, 2.5)
        return Look(max(body, -45.0), rim_mm=capsule_mm, rim_hu=float(draw.uniform(5, 35)), specks_hu=specks_hu)
    if kind < 0.4:  # its rim hardly differs from the liver
        return Look(body, rim_mm=rim_mm, rim_hu=body * float(draw.uniform(0.1, 0.5)), specks_hu=specks_hu)
    if kind < 0.6 and large:
        return Look(body, core=core, core_hu=body - float(draw.uniform(10, 40)), specks_hu=specks_hu)
    return Look(body, specks_hu=specks_hu)


def draw_diameter_mm(draw: np.random.Generator, *, crowd: bool) -> float:
    """A diameter; in a crowd smaller ones."""
    if not crowd and draw.random() < LARGE:
        return float(np.exp(draw.uniform(np.log(20.0), np.log(SIZES_MM[1]))))
    median = SIZE_MM * (0.7 if crowd else 1.0)
    return float(np.clip(np.exp(draw.normal(np.log(median), SIZE_SPREAD)), *SIZES_MM))


def _insert(
    image: Tensor,
    labels: Tensor,
    liver: Tensor,
    *,
    place: NDArray[np.integer],
    radius_mm: float,
    look: Look,
    apart_mm: tuple[float, float],
    draw: np.random.Generator,
) -> None:
    """Insert one lesion, cut anywhere by the middle plane, in place."""
    spacing_mm, planes_mm = apart_mm
    semi = radius_mm * np.exp(draw.normal(0, 0.18, 3))  # across the planes, and along two directions in them
    angle, height = float(draw.uniform(0, np.pi)), float(draw.uniform(-0.75, 0.75)) * semi[0]
    reach = int(np.ceil(1.5 * semi[1:].max() / spacing_mm)) + 2
    box = tuple(
        slice(max(0, int(at) - reach), min(size, int(at) + reach + 1))
        for at, size in zip(place, labels.shape, strict=True)
    )
    rows, columns = torch.meshgrid(
        *((torch.arange(part.start, part.stop) - int(at)) * spacing_mm for part, at in zip(box, place, strict=True)),
        indexing="ij",
    )
    u = (rows * np.cos(angle) + columns * np.sin(angle)) / semi[1]
    v = (columns * np.cos(angle) - rows * np.sin(angle)) / semi[2]
    theta = torch.atan2(v, u)
    uneven = 1 + sum(draw.normal(0, 0.07) * torch.cos(k * theta + draw.uniform(0, 6.3)) for k in range(2, 6))
    grain = blur(torch.from_numpy(draw.standard_normal((2, *rows.shape), np.float32)), 2.0) * 7  # of deviation 1
    texture, specks = float(draw.uniform(0, 9)) * grain[0], ((grain[1] - 1.2) * 2).clamp(0, 1)
    edge_mm = max(spacing_mm, float(draw.uniform(1.0, 3.5)))
    within = liver[box]
    for plane, z_mm in enumerate((-planes_mm, 0.0, planes_mm)):
        w = (z_mm - height) / semi[0]
        radius = torch.sqrt((u**2 + v**2) / uneven**2 + w**2)
        depth_mm = (1 - radius) * radius_mm
        change = look.body_hu + texture
        if look.rim_mm:
            change = torch.where(depth_mm < look.rim_mm, look.rim_hu, change)
        if look.core:
            change = torch.lerp(
                change, torch.tensor(look.core_hu), ((look.core - radius) * radius_mm + 0.5).clamp(0, 1)
            )
        if look.specks_hu:
            change = change + look.specks_hu * specks * (radius < 0.8)
        image[plane][box] += ((depth_mm / edge_mm + 0.5).clamp(0, 1)) * within * change
        if z_mm == 0:
            labels[box][(radius < 1) & (within > 0)] = 2
