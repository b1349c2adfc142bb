"""Other patients, scanners, phases and doses, made from the few there are: MONAI's transforms on single samples.

MONAI turns, scales and bends (one resampling for all of it), changes contrast and HU, adds noise, blurs, sharpens and
takes resolution away. It knows neither contrast phases (`phases`) nor lesions (`inserted_lesions`) nor a
reconstruction's round field of view: those are ours. The array transforms are used and not the dictionary ones, whose
bookkeeping costs more than the work on three small planes.

All that is drawn comes from the generator that `__call__` is given: a sample is the same in any process.
"""

from collections.abc import Callable
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

from models.cards import Preprocessing
from models.preprocessing import AIR_HU
from models.training.filters import cubic
from models.training.inserted_lesions import insert_lesions
from models.training.phases import change_enhancement, change_phase, insert_effusion
from models.training.recipe import Chances
from models.training.sampling import Sample

CENTRE_HU, UNIT_HU = 40.0, 100.0
"""MONAI's intensities are unitless: gain is about soft tissue, and one of theirs is a hundred of ours."""
GAIN = (0.5, 2.0)
"""The brightest fluid of an MR decides its window: livers of 16 patients (CHAOS) lie at 0.16 to 0.56 of it."""
BEYOND_HU = 150.0
"""Values further than this outside the window would pull at gamma and blur what the network never sees apart."""
BEND = 32
"""Pixels between the points that are moved where a sample is bent."""
SOFT_HU = (-20.0, 60.0, 220.0)
"""The darkest, a middle and the brightest soft tissue."""


class Augmentation:
    """Patches of `models.training.sampling` in, samples of `pixels` rows and columns out."""

    def __init__(self, how: Preprocessing, *, pixels: int, chances: Chances) -> None:
        set_track_meta(False)  # of the whole process: the history of each change costs a fifth of a sample
        self.pixels, self.chances = pixels, chances
        self.window, self.neighbour_mm = how.window_hu, how.neighbour_mm
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
        """Make one sample of a patch, which is left unchanged."""
        state = np.random.RandomState(int(draw.integers(2**32)))
        for transform in (self.turned, self.bent, self.values):
            _draw_from(state, transform)
        if draw.random() < self.chances.shape:
            image, labels = self._reshape(patch)
        else:
            middle = _middle(patch.labels.shape[-1], self.pixels)
            image, labels = patch.image[:, middle, middle], patch.labels[middle, middle]
        if self.chances.phase and draw.random() < self.chances.phase:
            image = change_phase(image, labels, draw)
        if draw.random() < self.chances.enhancement:
            image = change_enhancement(image, labels, draw)
        if self.chances.effusion and draw.random() < self.chances.effusion:
            image = insert_effusion(image, labels, draw)
        if draw.random() < self.chances.lesion and not patch.merged and bool((labels > 0).any()):
            image, labels = insert_lesions(image, labels, patch.spacing_mm, self.neighbour_mm, draw)
        if self.chances.gain and draw.random() < self.chances.gain:
            image = self.window[0] + (image - self.window[0]) * float(np.exp(draw.uniform(*np.log(GAIN))))
        if self.chances.remap and draw.random() < self.chances.remap:
            image = remap(image, self.window, draw)
        image = (image.clamp(self.low, self.high) - CENTRE_HU) / UNIT_HU
        image = torch.as_tensor(self.values(image)) * UNIT_HU + CENTRE_HU
        if draw.random() < self.chances.field_of_view:
            image, labels = crop_field_of_view(image, labels, draw)
        return Sample(image, labels, patch.merged, patch.spacing_mm)

    def _reshape(self, patch: Sample) -> tuple[Tensor, Tensor]:
        """Turn, scale, shear and bend a sample. Image and masks are read at the same places, all linearly, at once.

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


def remap(image: Tensor, window: tuple[float, float], draw: np.random.Generator) -> Tensor:
    """Make a CT look like an MR: HU through a random curve into `window`, where the values of an MR are put too.

    Air stays dark. Fat and bone get any value; soft tissue keeps or turns its order, with up to twice its contrasts.
    """
    low, size = window[0], window[1] - window[0]
    fat, bone, middle = (low + size * draw.uniform(*part) for part in ((0.2, 1.1), (-0.2, 0.5), (0.2, 0.8)))
    gain = float(np.exp(draw.uniform(np.log(0.6), np.log(2.2)))) * draw.choice((-1, 1))
    soft = [middle + gain * (value - SOFT_HU[1]) for value in SOFT_HU]
    values = np.interp(image.numpy(), (-250, -130, -90, *SOFT_HU, 350), (low, fat, fat, *soft, bone))
    return torch.from_numpy(values.astype(np.float32))


def crop_field_of_view(image: Tensor, labels: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Air, and nothing to find, outside a circle, as a reconstruction leaves it that is smaller than the patient."""
    size = image.shape[-1]
    axis = torch.arange(size) - (size - 1) / 2
    down, across = (axis - draw.normal(0, 4) for _ in range(2))
    outside = (down[:, None] ** 2 + across[None, :] ** 2) > (size * draw.uniform(0.42, 0.55)) ** 2
    return image.masked_fill(outside, AIR_HU), labels.masked_fill(outside, 0)
