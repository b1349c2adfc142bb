"""A phantom as asked for, and phantoms for training: everything about them drawn from one seed."""

from dataclasses import replace

import numpy as np

from dicom_io.geometry import Geometry
from models.phantom.acquisition import Acquisition, Kernel
from models.phantom.contrast import Phase, Tissue, Weighting, ct_contrast, mr_contrast, random_contrast
from models.phantom.lesions import Placement, Wish
from models.phantom.patient import Phantom, draw_lesions, draw_patient, grid, image, stream

TRAINING_SEEDS = range(0, 1_000_000)
"""Seeds that training may draw; the demonstration and the tests take theirs from above."""
DEMO_SEED = 1_000_007


def make_phantom(
    geometry: Geometry,
    *,
    seed: int,
    lesions: int | None = None,
    noise_hu: float = 12.0,
    lesion_axes_mm: tuple[float, float] = (4.0, 25.0),
    lesion_kinds: tuple[Tissue, ...] | None = None,
    placement: Placement = Placement.APART,
    cysts: int = 0,
    contrast: Phase | Weighting = Phase.PORTAL,
    kernel: Kernel = Kernel.STANDARD,
    thickness_mm: float | None = None,
) -> Phantom:
    """The abdomen of `seed` on a transverse `geometry`; `lesions` None draws their number (0 to 6).

    `lesion_axes_mm`: least and greatest semi-axis of a lesion, between which the sizes are drawn log-uniformly
    (each lesion's three axes then vary by a fifth about its size). Lesions for which the liver has no room, or which
    do not reach into the image, are left out: `Phantom.lesions` are those that are there. A Weighting for `contrast`
    makes an MR. `noise_hu` is in units of signal there. Raises ValueError for a range that is none, or a grid that is
    not transverse.
    """
    wish = Wish(lesions, lesion_axes_mm, placement, lesion_kinds)
    patient, placed = draw_lesions(draw_patient(seed), wish, cysts=cysts)
    chosen = stream(seed, "contrast")
    looks = ct_contrast(chosen, contrast) if isinstance(contrast, Phase) else mr_contrast(chosen, contrast)
    how = Acquisition(noise=noise_hu, kernel=kernel, thickness_mm=thickness_mm)
    return image(patient, placed, geometry, contrast=looks, how=how)


def training_phantom(seed: int, *, modality: str = "CT") -> Phantom:
    """The phantom of `seed` with a contrast, lesions, a grid and an acquisition that are drawn from the same seed.

    `modality`: "CT" or "MR". Raises ValueError for another.
    """
    if modality not in ("CT", "MR"):
        raise ValueError("phantoms are CT or MR")
    draw = stream(seed, f"training {modality}")
    pixel, step = float(draw.uniform(1.7, 2.0)), float(draw.choice([2.5, 3.0, 4.0, 5.0]))
    low, high = draw.uniform(-150, -105), draw.uniform(105, 150)
    geometry = grid(
        slices=int((high - low) / step),
        rows=int(310 / pixel),
        columns=int(390 / pixel),
        spacing_mm=(step, pixel, pixel),
        seed=seed,
        centre_lps_mm=(float(draw.normal(0, 6)), 14.0 + float(draw.normal(0, 6)), (low + high) / 2),
    )
    cysts = int(draw.choice([0, 1, 3], p=[0.8, 0.13, 0.07]))
    patient, lesions = draw_lesions(draw_patient(seed), _wish(draw), cysts=cysts)
    if modality == "CT":
        phase = list(Phase)[int(draw.choice(4, p=[0.15, 0.15, 0.55, 0.15]))]
        contrast = random_contrast(draw, -60.0, 220.0, is_ct=True) if draw.random() < 0.12 else ct_contrast(draw, phase)
        spread = 8.0 if contrast.mean[Tissue.FAT] < -60 else 0.0
        shifted = {tissue: value + draw.normal(0, spread) for tissue, value in contrast.mean.items()}
        how = Acquisition(
            noise=float(draw.uniform(2, 22)),
            kernel=list(Kernel)[int(draw.integers(3))],
            streaks=float(draw.uniform(0, 1.5)),
            table=bool(draw.random() < 0.8),
        )
    else:
        weighted = mr_contrast(draw, list(Weighting)[int(draw.integers(2))])
        contrast = random_contrast(draw, 20.0, 500.0, is_ct=False) if draw.random() < 0.4 else weighted
        shifted = {tissue: value * float(np.exp(draw.normal(0, 0.08))) for tissue, value in contrast.mean.items()}
        how = Acquisition(noise=float(draw.uniform(3, 25)), shading=float(draw.uniform(0, 0.35)), table=False)
    return image(patient, lesions, geometry, contrast=replace(contrast, mean=shifted), how=how)


def _wish(draw: np.random.Generator) -> Wish:
    """None, few, many or one huge lesion; apart, under the capsule or grown together; more or less bumpy."""
    count = int(draw.choice([0, 1, 2, 4, 8, 14], p=[0.12, 0.22, 0.24, 0.22, 0.14, 0.06]))
    largest = float(draw.choice([8.0, 18.0, 32.0, 60.0], p=[0.15, 0.35, 0.35, 0.15]))
    placement = list(Placement)[int(draw.choice(3, p=[0.6, 0.2, 0.2]))]
    return Wish(count, (2.0 if count > 2 else 0.3 * largest, largest), placement, bumpy=float(draw.uniform(0, 1)))
