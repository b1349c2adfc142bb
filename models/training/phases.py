"""Contrast phases and what lies beside a liver, made from the portal CTs that there are, on the planes of a sample."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.training.filters import blur, cubic

REGIONS = 4
"""Rows and columns of the values between which soft tissue's enhancement varies over a sample."""
ENHANCED_HU = 85.0
"""A liver of less has not taken up what a portal phase brings: no other phase is made from it."""
SOFT_HU = (-20.0, 260.0)
VESSEL_HU = 12.0
"""By how much a vessel of the liver is brighter than it in a portal phase, at least, and a tumour darker."""
LUNG_HU = (-960.0, -350.0)
LEAST_LUNG = 150
"""Pixels of lung in which fluid may stand."""


def change_enhancement(image: Tensor, labels: Tensor, draw: np.random.Generator) -> Tensor:
    """Another contrast phase: liver, vessels in it and other soft tissue become brighter or darker, each by itself."""
    liver = blur((labels > 0).float()[None], 1.0)
    soft = ((image > -30) & (image < 250)).float() * (1 - liver)
    regions = torch.from_numpy(draw.normal(0, 1, (REGIONS, REGIONS)).astype(np.float32))
    rows, columns = (cubic(REGIONS, size) for size in image.shape[-2:])
    patches = rows @ regions @ columns.T
    shift = draw.normal(0, 22) * liver + soft * (draw.normal(0, 18) + 18 * patches)
    parenchyma = image[1][labels == 1]
    if len(parenchyma):
        # What is brighter than the liver about it is a vessel in a portal phase; natively it is darker.
        vessel = ((image - parenchyma.median() - 15) / 30).clamp(0, 1) * liver
        shift = shift + draw.normal(0, 20) * vessel
    return image + shift


def change_phase(image: Tensor, labels: Tensor, draw: np.random.Generator) -> Tensor:
    """Make a portal phase arterial, native or of equilibrium; a sample with a pale liver is left unchanged.

    Arterial: a liver of 48 to 78 HU, whose veins are as dark or darker, with vessels and organs beside it brighter or
    not yet enhanced. Native: everything alike, veins darker than the liver. Equilibrium: half of all contrast. The
    contrast of drawn tumours shrinks with it.
    """
    parenchyma = image[1][labels == 1]
    liver_hu = float(parenchyma.median()) if len(parenchyma) else 110.0
    if liver_hu < ENHANCED_HU:
        return image
    phase = float(draw.random())
    regions = torch.from_numpy(draw.normal(0, 1, (REGIONS, REGIONS)).astype(np.float32))
    rows, columns = (cubic(REGIONS, size) for size in image.shape[-2:])
    patches = rows @ regions @ columns.T
    if phase < 0.5:
        target, vessels, gain = draw.uniform(48, 78), draw.uniform(-0.35, 0.1), torch.exp(0.6 * patches)
    elif phase < 0.7:
        target, vessels, gain = draw.uniform(40, 65), draw.uniform(-0.5, -0.1), torch.tensor(draw.uniform(0.0, 0.25))
    else:
        target, vessels, gain = draw.uniform(70, 100), draw.uniform(0.1, 0.5), torch.tensor(draw.uniform(0.4, 0.8))
    tumours = draw.uniform(0.3, 1.0)
    smooth = blur(image, 1.0)
    liver = blur((labels > 0).float()[None], 1.0)
    apart = smooth - liver_hu
    bright = ((apart - VESSEL_HU) / 25).clamp(0, 1)
    dark = ((-apart - VESSEL_HU) / 25).clamp(0, 1) * (smooth > SOFT_HU[0])
    within = (target - liver_hu) + apart * ((vessels - 1) * bright + (tumours - 1) * dark)
    soft = ((smooth - SOFT_HU[0]) / 20).clamp(0, 1) * ((SOFT_HU[1] - smooth) / 20).clamp(0, 1)
    beside = (gain - 1) * (smooth - 60).clamp(min=0) * soft
    within = within * ((smooth - SOFT_HU[0]) / 20).clamp(0, 1)  # fat in a fissure takes up nothing
    return (image + liver * within + (1 - liver) * beside).to(image.dtype)


def insert_effusion(image: Tensor, labels: Tensor, draw: np.random.Generator) -> Tensor:
    """Insert fluid behind the lung, in some of it collapsed lung; a sample without lung is left unchanged.

    A patient lies on the back: fluid fills up the lowest part. Neither it nor collapsed lung, which takes up contrast
    medium, is liver.
    """
    smooth = blur(image, 0.7)
    lung = open_mask((smooth > LUNG_HU[0]) & (smooth < LUNG_HU[1]) & (labels == 0))
    places = torch.nonzero(lung[1])
    if len(places) < LEAST_LUNG:
        return image
    level = float(np.quantile(places[:, 0].numpy(), draw.uniform(0.1, 0.9)))
    size = image.shape[-2:]
    axis = torch.arange(size[0], dtype=torch.float32)[:, None]
    below = axis > level + draw.normal(0, 0.12) * (torch.arange(size[1]) - size[1] / 2)
    filled = dilate(lung, 2) & below & (smooth < SOFT_HU[0])
    noise = torch.from_numpy(draw.standard_normal(tuple(image.shape), np.float32))
    value = float(draw.uniform(0, 35)) + float(draw.uniform(8, 22)) * blur(noise, 0.6)
    if draw.random() < 0.6:
        regions = torch.from_numpy(draw.normal(0, 1, (8, 8)).astype(np.float32))
        rows, columns = (cubic(8, side) for side in size)
        collapsed = ((rows @ regions @ columns.T - draw.uniform(-0.8, 0.8)) * 4).clamp(0, 1)
        value = value + float(draw.uniform(25, 95)) * collapsed
    cover = blur(filled.float(), 0.7) * (labels == 0)
    return torch.lerp(image, value, cover)


def open_mask(mask: Tensor, reach: int = 2) -> Tensor:
    """A mask (plane, row, column) without what is narrower than twice `reach` pixels."""
    kept = -F.max_pool2d(-mask.float()[:, None], 2 * reach + 1, 1, reach)[:, 0] > 0
    return dilate(kept, reach) & mask


def dilate(mask: Tensor, reach: int) -> Tensor:
    """A mask (plane, row, column) and what lies within `reach` pixels of it."""
    return F.max_pool2d(mask.float()[:, None], 2 * reach + 1, 1, reach)[:, 0] > 0
