"""Other patients, scanners, phases and doses, made from the few there are: MONAI's transforms on single samples.

MONAI turns, scales and bends (one resampling for all of it), changes contrast and HU, adds noise, blurs, sharpens and
takes resolution away. It knows neither contrast phases nor lesions nor a reconstruction's round field of view: those
are ours. The array transforms are used and not the dictionary ones, whose bookkeeping costs more than the work on
three small planes.

All that is drawn comes from the generator that `__call__` is given: a sample is the same in any process.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from monai.data.meta_obj import set_track_meta
from monai.transforms.compose import Compose, OneOf
from monai.transforms.intensity.array import (
    RandAdjustContrast,
    RandBiasField,
    RandGaussianNoise,
    RandGaussianSharpen,
    RandGaussianSmooth,
    RandScaleIntensity,
    RandShiftIntensity,
)
from monai.transforms.spatial.array import RandAffineGrid, RandDeformGrid, RandSimulateLowResolution, Resample
from monai.transforms.transform import Randomizable
from torch import Tensor
from torch.nn import functional as F

from models.cards import Preprocessing
from models.preprocessing import AIR_HU
from models.training.recipe import Chances
from models.training.sampling import Sample

CENTRE_HU, UNIT_HU = 40.0, 100.0
"""MONAI's intensities are unitless: gain is about soft tissue, and one of theirs is a hundred of ours."""
BEYOND_HU = 150.0
"""Values further than this outside the window would pull at gamma and blur what the network never sees apart."""
BEND = 32
"""Pixels between the points that are moved where a sample is bent."""
REGIONS = 4
"""Rows and columns of the values between which soft tissue's enhancement varies over a sample."""
PLANES_APART = (1.2, 2.8)
"""Pixels between the planes of a sample: 4 mm, at 3 mm a pixel and at 1.5."""
SOFT_HU = (-20.0, 60.0, 220.0)
"""The darkest, a middle and the brightest soft tissue."""
FARTHEST = 3.0
"""Nothing of an inserted lesion lies further from its centre, in radii along its longer axis: it grows by two fifths
between planes, the edge of the smallest is soft over half a radius, and an outline is uneven by a third or so."""


class Augmentation:
    """Patches of `models.training.sampling` in, samples of `pixels` rows and columns out."""

    def __init__(self, how: Preprocessing, *, pixels: int, chances: Chances) -> None:
        set_track_meta(False)  # of the whole process: the history of each change costs a fifth of a sample
        self.pixels, self.chances = pixels, chances
        self.window = how.window_hu
        self.low, self.high = how.window_hu[0] - BEYOND_HU, how.window_hu[1] + BEYOND_HU
        self.turned = RandAffineGrid(rotate_range=0.22, shear_range=0.08, scale_range=(0.22, 0.22))
        self.bent = RandDeformGrid(spacing=(BEND, BEND), magnitude_range=(0.0, 3.0))
        self.resampled = Resample(mode="bilinear", padding_mode="border")
        changes: list[Callable[..., Any]] = [
            RandScaleIntensity(factors=0.15, prob=chances.contrast),
            RandShiftIntensity(offsets=0.16, prob=chances.contrast),
            RandAdjustContrast(prob=chances.gamma, gamma=(0.8, 1.25)),
            # Before the blur it becomes the coarse grain of a soft kernel, after it the fine one of a sharp kernel.
            RandGaussianNoise(prob=chances.noise, std=0.25),
            OneOf(
                [
                    RandGaussianSmooth(prob=chances.sharpness, sigma_x=(0.4, 1.1), sigma_y=(0.4, 1.1)),
                    RandGaussianSharpen(
                        prob=chances.sharpness,
                        sigma1_x=(0.6, 1.0),
                        sigma1_y=(0.6, 1.0),
                        sigma2_x=(0.4, 0.5),
                        sigma2_y=(0.4, 0.5),
                        alpha=(0.3, 1.2),
                    ),
                ],
                weights=(0.7, 0.3),
            ),
            RandGaussianNoise(prob=chances.noise, std=0.2),
            RandSimulateLowResolution(prob=chances.low_resolution, zoom_range=(0.5, 0.9), upsample_mode="bilinear"),
        ]
        if how.window_percentiles is not None:  # MR: the coils are nearer to one side
            changes.insert(0, RandBiasField(prob=0.3, degree=2, coeff_range=(0.0, 0.15)))
        self.values = Compose(changes)

    def __call__(self, patch: Sample, draw: np.random.Generator) -> Sample:
        """One sample out of a patch, which stays as it is."""
        state = np.random.RandomState(int(draw.integers(2**32)))
        for transform in (self.turned, self.bent, self.values):
            _draw_from(state, transform)
        if draw.random() < self.chances.shape:
            image, labels = self._reshape(patch)
        else:
            middle = _middle(patch.labels.shape[-1], self.pixels)
            image, labels = patch.image[:, middle, middle], patch.labels[middle, middle]
        if draw.random() < self.chances.enhancement:
            image = change_enhancement(image, labels, draw)
        if draw.random() < self.chances.lesion and not patch.merged and bool((labels > 0).any()):
            image, labels = insert_lesion(image, labels, draw)
        if self.chances.remap and draw.random() < self.chances.remap:
            image = remap(image, self.window, draw)
        image = (image.clamp(self.low, self.high) - CENTRE_HU) / UNIT_HU
        image = torch.as_tensor(self.values(image)) * UNIT_HU + CENTRE_HU
        if draw.random() < self.chances.field_of_view:
            image, labels = crop_field_of_view(image, labels, draw)
        return Sample(image, labels, patch.merged)

    def _reshape(self, patch: Sample) -> tuple[Tensor, Tensor]:
        """Turned, scaled, sheared and bent. Image and masks are read at the same places, all linearly, at once.

        This is MONAI's Rand2DElastic but for the way in which the places are interpolated between its control points:
        as products of matrices, that are cut to the sample at once, it takes a twentieth of the time.
        """
        size = (self.pixels, self.pixels)
        places = torch.as_tensor(self.turned(grid=self.bent(spatial_size=size)))
        points = places.shape[-1]
        weights = cubic(points, points * BEND)[_middle(points * BEND, self.pixels)]
        masks = torch.stack([patch.labels > 0, patch.labels > 1]).float()
        read = torch.as_tensor(self.resampled(torch.cat([patch.image, masks]), weights @ places @ weights.T))
        image, (liver, tumour) = read[:3], read[3:] > 0.5
        return image, liver.to(torch.uint8) + (liver & tumour).to(torch.uint8)


def _middle(size: int, kept: int) -> slice:
    return slice(size // 2 - kept // 2, size // 2 - kept // 2 + kept)


def _draw_from(state: np.random.RandomState, transform: Randomizable) -> None:
    """Let a transform, and all that it is composed of, draw from one state: Compose would make a new one for each."""
    if isinstance(transform, Compose):
        transform.R = state
        for part in transform.transforms:
            _draw_from(state, part)
    else:
        transform.set_random_state(state=state)


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


def remap(image: Tensor, window: tuple[float, float], draw: np.random.Generator) -> Tensor:
    """What a CT might look like as MR: HU through a random curve into `window`, where the values of an MR are put too.

    Air stays dark. Fat and bone get any value; soft tissue keeps or turns its order, with up to twice its contrasts.
    """
    low, size = window[0], window[1] - window[0]
    fat, bone, middle = (low + size * draw.uniform(*part) for part in ((0.2, 1.1), (-0.2, 0.5), (0.2, 0.8)))
    gain = float(np.exp(draw.uniform(np.log(0.6), np.log(2.2)))) * draw.choice((-1, 1))
    soft = [middle + gain * (value - SOFT_HU[1]) for value in SOFT_HU]
    values = np.interp(image.numpy(), (-250, -130, -90, *SOFT_HU, 350), (low, fat, fat, *soft, bone))
    return torch.from_numpy(values.astype(np.float32))


@cache
def cubic(values: int, size: int) -> Tensor:
    """(size, values) weights that interpolate so many values over `size` places: PyTorch's bicubic along one axis.

    As two products of matrices an interpolation takes a fifteenth of the time.
    """
    impulses = torch.eye(values)[None, :, :, None]  # a channel for each
    return F.interpolate(impulses, size=(size, 1), mode="bicubic", align_corners=False)[0, :, :, 0].T


def insert_lesion(image: Tensor, labels: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
    """One to three blobs in the liver, darker or brighter, with an uneven outline and a soft edge.

    Label-free lesions in the spirit of Hu et al., CVPR 2023, on the three planes of a sample.
    """
    inside = torch.nonzero(labels > 0)
    image, labels = image.clone(), labels.clone()
    for _ in range(int(draw.integers(1, 4))):
        row, column = inside[int(draw.integers(len(inside)))].tolist()
        radius = float(np.exp(draw.uniform(np.log(1.5), np.log(16))))
        stretch, angle = float(np.exp(draw.normal(0, 0.2))), float(draw.uniform(0, np.pi))
        reach = int(np.ceil(FARTHEST * radius * max(stretch, 1 / stretch)))
        box = tuple(
            slice(max(0, at - reach), min(size, at + reach + 1))
            for at, size in zip((row, column), labels.shape, strict=True)
        )
        rows, columns = torch.meshgrid(*(torch.arange(part.start, part.stop) for part in box), indexing="ij")
        u = (rows - row) * np.cos(angle) + (columns - column) * np.sin(angle)
        v = (columns - column) * np.cos(angle) - (rows - row) * np.sin(angle)
        theta = torch.atan2(v.float(), u.float())
        uneven = sum(draw.normal(0, 0.08) * torch.cos(k * theta + draw.uniform(0, 6.3)) for k in range(2, 6))
        distance = torch.sqrt((u / stretch) ** 2 + (v * stretch) ** 2) / (radius * (1 + uneven))
        contrast = draw.uniform(-80, -22) if draw.random() < 0.85 else draw.uniform(30, 80)
        texture = blur(torch.from_numpy(draw.standard_normal((1, *rows.shape), np.float32)), 2.0) * 20
        liver = (labels[box] > 0).float()
        for plane, growth in enumerate(_growths(draw, radius)):
            softness = draw.uniform(0.8, 1.6) / radius
            part = ((growth - distance) / softness + 0.5).clamp(0, 1) * liver
            image[plane][box] += part * (contrast + texture[0])
        labels[box][(distance < 1) & (labels[box] > 0)] = 2
    return image, labels


def _growths(draw: np.random.Generator, radius: float) -> tuple[float, float, float]:
    """The radius on each of the three planes over that on the middle one, of a ball cut anywhere; -1 beyond its end.

    Were both neighbours smaller on average, the network would take what it sees on them for less than there is.
    """
    height = float(draw.uniform(-0.7, 0.7))
    ball = radius / np.sqrt(1 - height**2)
    apart = float(draw.uniform(*PLANES_APART))
    squares = [ball**2 - (height * ball + side * apart) ** 2 for side in (-1, 0, 1)]
    below, middle, above = (float(np.sqrt(square) / radius) if square > 0 else -1.0 for square in squares)
    return below, middle, above


def crop_field_of_view(image: Tensor, labels: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Air, and nothing to find, outside a circle, as a reconstruction leaves it that is smaller than the patient."""
    size = image.shape[-1]
    axis = torch.arange(size) - (size - 1) / 2
    down, across = (axis - draw.normal(0, 4) for _ in range(2))
    outside = (down[:, None] ** 2 + across[None, :] ** 2) > (size * draw.uniform(0.42, 0.55)) ** 2
    return image.masked_fill(outside, AIR_HU), labels.masked_fill(outside, 0)


def blur(planes: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (plane, row, column), sigma in pixels."""
    reach = max(1, int(np.ceil(2.5 * sigma)))
    axis = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-(axis**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(planes[:, None], (reach, reach, reach, reach), mode="replicate")
    across = F.conv2d(padded, kernel[None, None, None, :])
    return F.conv2d(across, kernel[None, None, :, None])[:, 0]
