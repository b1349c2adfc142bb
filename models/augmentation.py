"""Other scanners, phases and doses, made from the few there are: changes of intensity and inserted lesions."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.dataset import Batch


def augment(batch: Batch, draw: np.random.Generator) -> Batch:
    """The batch with lesions inserted into some livers, other enhancement, contrast, noise and sharpness."""
    images, labels = [], []
    for image, label in zip(batch.image, batch.labels, strict=True):
        if draw.random() < 0.7:
            image = change_enhancement(image, label, draw)
        if draw.random() < 0.35 and bool((label > 0).any()):
            image, label = insert_lesion(image, label, draw)
        images.append(change_acquisition(image, draw))
        labels.append(label)
    return Batch(torch.stack(images), torch.stack(labels), batch.merged)


def change_enhancement(image: Tensor, label: Tensor, draw: np.random.Generator) -> Tensor:
    """Liver and, apart from it, all other soft tissue brighter or darker, as in another contrast phase."""
    liver = blur((label > 0).float()[None], 1.0)
    soft = ((image > -30) & (image < 250)).float() * (1 - liver)
    regions = torch.from_numpy(draw.normal(0, 1, (1, 1, 4, 4)).astype(np.float32))
    patches = F.interpolate(regions, size=image.shape[-2:], mode="bicubic", align_corners=True)[0]
    shift = draw.normal(0, 22) * liver + soft * (draw.normal(0, 18) + 18 * patches)
    return image + shift


def insert_lesion(image: Tensor, label: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
    """One to three blobs in the liver, darker or brighter, with an uneven outline and a soft edge.

    Label-free lesions in the spirit of Hu et al., CVPR 2023, on the three planes of a sample.
    """
    inside = torch.nonzero(label > 0)
    rows, columns = torch.meshgrid(torch.arange(label.shape[0]), torch.arange(label.shape[1]), indexing="ij")
    image, label = image.clone(), label.clone()
    for _ in range(int(draw.integers(1, 4))):
        row, column = inside[int(draw.integers(len(inside)))].tolist()
        radius = float(np.exp(draw.uniform(np.log(1.5), np.log(16))))
        stretch, angle = float(np.exp(draw.normal(0, 0.2))), float(draw.uniform(0, np.pi))
        u = (rows - row) * np.cos(angle) + (columns - column) * np.sin(angle)
        v = (columns - column) * np.cos(angle) - (rows - row) * np.sin(angle)
        theta = torch.atan2(v.float(), u.float())
        uneven = sum(draw.normal(0, 0.08) * torch.cos(k * theta + draw.uniform(0, 6.3)) for k in range(2, 6))
        distance = torch.sqrt((u / stretch) ** 2 + (v * stretch) ** 2) / (radius * (1 + uneven))
        contrast = draw.uniform(-80, -22) if draw.random() < 0.85 else draw.uniform(30, 80)
        texture = blur(torch.from_numpy(draw.normal(0, 1, (1, *label.shape)).astype(np.float32)), 2.0) * 20
        liver = (label > 0).float()
        for plane, growth in enumerate((draw.uniform(0.6, 1.1), 1.0, draw.uniform(0.6, 1.1))):
            softness = draw.uniform(0.8, 1.6) / radius
            part = ((growth - distance) / softness + 0.5).clamp(0, 1) * liver
            image[plane] = image[plane] + part * (contrast + texture[0])
        label[(distance < 1) & (label > 0)] = 2
    return image, label


def change_acquisition(image: Tensor, draw: np.random.Generator) -> Tensor:
    """Calibration, sharpness and dose: gain and offset, blur or sharpening, grain, a smaller field of view."""
    image = (image - 40) * draw.uniform(0.85, 1.15) + 40 + draw.normal(0, 8)
    sharpness = draw.random()
    if sharpness < 0.3:
        image = blur(image, draw.uniform(0.4, 1.1))
    elif sharpness < 0.45:
        image = image + draw.uniform(0.2, 0.7) * (image - blur(image, 0.8))
    if draw.random() < 0.6:
        grain = torch.from_numpy(draw.normal(0, draw.uniform(3, 25), image.shape).astype(np.float32))
        image = image + (grain if draw.random() < 0.5 else 1.8 * blur(grain, 0.6))
    if draw.random() < 0.15:
        size = image.shape[-1]
        axis = torch.arange(size) - (size - 1) / 2 - draw.normal(0, 4)
        outside = (axis[:, None] ** 2 + axis[None, :] ** 2) > (size * draw.uniform(0.42, 0.55)) ** 2
        image = image.masked_fill(outside, -1024.0)
    return image


def blur(planes: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (plane, row, column), sigma in pixels."""
    reach = max(1, int(np.ceil(2.5 * sigma)))
    axis = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-(axis**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(planes[:, None], (reach, reach, reach, reach), mode="replicate")
    across = F.conv2d(padded, kernel[None, None, None, :])
    return F.conv2d(across, kernel[None, None, :, None])[:, 0]
