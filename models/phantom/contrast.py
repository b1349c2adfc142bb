"""What value each tissue has: HU in the four phases of a CT, signal in weighted MR, or anything at all.

HU are those of clinical abdominal CT at 120 kV (Webb, Brant, Major: Fundamentals of Body CT, ch. 9-14); the order of
enhancement is that of a liver protocol: aorta and kidney cortex first, then portal vein and liver, then everything
pales. MR signals have no unit; only their order means something.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np


class Phase(StrEnum):
    """When, after the contrast medium, the image was taken."""

    NATIVE = "native"
    ARTERIAL = "arterial"
    PORTAL = "portal"
    DELAYED = "delayed"


class Weighting(StrEnum):
    """What an MR image is about."""

    T1 = "T1"
    T2 = "T2"


class Tissue(StrEnum):
    """All that is painted with one value."""

    AIR = "air"
    LUNG = "lung"
    FAT = "fat"
    SKIN = "skin"
    MUSCLE = "muscle"
    CORTEX = "cortical bone"
    MARROW = "marrow"
    DISC = "disc"
    CARTILAGE = "cartilage"
    CORD = "spinal canal"
    MYOCARDIUM = "myocardium"
    HEART_BLOOD = "blood of the heart"
    AORTA = "aorta"
    VENA_CAVA = "vena cava"
    PORTAL_VEIN = "portal vein"
    HEPATIC_VEIN = "hepatic vein"
    LIVER = "liver"
    SPLEEN = "spleen"
    PANCREAS = "pancreas"
    KIDNEY_CORTEX = "kidney cortex"
    KIDNEY_MEDULLA = "kidney medulla"
    URINE = "urine"
    BILE = "bile"
    GUT_WALL = "gut wall"
    GUT_FLUID = "gut fluid"
    STOOL = "stool"
    GAS = "gas"
    METASTASIS = "metastasis"
    CARCINOMA = "carcinoma"
    HAEMANGIOMA = "haemangioma"
    RIM = "rim"
    NECROSIS = "necrosis"
    CALCIUM = "calcium"
    CYST = "cyst"


_CT: dict[Tissue, tuple[float, float, float, float]] = {
    Tissue.AIR: (-1000, -1000, -1000, -1000),
    Tissue.LUNG: (-860, -850, -850, -850),
    Tissue.FAT: (-106, -105, -104, -104),
    Tissue.SKIN: (5, 10, 20, 20),
    Tissue.MUSCLE: (52, 56, 62, 62),
    Tissue.CORTEX: (520, 520, 520, 520),
    Tissue.MARROW: (140, 145, 155, 155),
    Tissue.DISC: (80, 80, 85, 85),
    Tissue.CARTILAGE: (95, 95, 100, 100),
    Tissue.CORD: (28, 30, 32, 32),
    Tissue.MYOCARDIUM: (45, 95, 115, 100),
    Tissue.HEART_BLOOD: (40, 260, 150, 120),
    Tissue.AORTA: (40, 290, 150, 120),
    Tissue.VENA_CAVA: (40, 75, 135, 120),
    Tissue.PORTAL_VEIN: (40, 85, 168, 128),
    Tissue.HEPATIC_VEIN: (40, 48, 155, 124),
    Tissue.LIVER: (57, 66, 110, 95),
    Tissue.SPLEEN: (48, 115, 122, 102),
    Tissue.PANCREAS: (40, 100, 92, 78),
    Tissue.KIDNEY_CORTEX: (33, 170, 180, 150),
    Tissue.KIDNEY_MEDULLA: (30, 65, 160, 152),
    Tissue.URINE: (5, 5, 15, 420),
    Tissue.BILE: (8, 8, 9, 10),
    Tissue.GUT_WALL: (38, 85, 92, 78),
    Tissue.GUT_FLUID: (14, 16, 16, 16),
    Tissue.STOOL: (10, 10, 12, 12),
    Tissue.GAS: (-850, -850, -850, -850),
    Tissue.METASTASIS: (38, 46, 62, 66),
    Tissue.CARCINOMA: (45, 112, 84, 68),
    Tissue.HAEMANGIOMA: (38, 50, 72, 104),
    Tissue.RIM: (45, 100, 122, 108),
    Tissue.NECROSIS: (22, 23, 26, 26),
    Tissue.CALCIUM: (320, 320, 330, 330),
    Tissue.CYST: (6, 6, 7, 7),
}

_MR: dict[Tissue, tuple[float, float]] = {
    Tissue.AIR: (4, 4),
    Tissue.LUNG: (24, 24),
    Tissue.FAT: (390, 330),
    Tissue.SKIN: (160, 90),
    Tissue.MUSCLE: (150, 70),
    Tissue.CORTEX: (20, 15),
    Tissue.MARROW: (240, 150),
    Tissue.DISC: (110, 180),
    Tissue.CARTILAGE: (120, 130),
    Tissue.CORD: (90, 420),
    Tissue.MYOCARDIUM: (150, 100),
    Tissue.HEART_BLOOD: (95, 40),
    Tissue.AORTA: (70, 25),
    Tissue.VENA_CAVA: (75, 45),
    Tissue.PORTAL_VEIN: (80, 50),
    Tissue.HEPATIC_VEIN: (80, 55),
    Tissue.LIVER: (230, 115),
    Tissue.SPLEEN: (140, 220),
    Tissue.PANCREAS: (250, 140),
    Tissue.KIDNEY_CORTEX: (190, 230),
    Tissue.KIDNEY_MEDULLA: (130, 280),
    Tissue.URINE: (50, 560),
    Tissue.BILE: (90, 570),
    Tissue.GUT_WALL: (150, 130),
    Tissue.GUT_FLUID: (60, 500),
    Tissue.STOOL: (170, 160),
    Tissue.GAS: (4, 4),
    Tissue.METASTASIS: (140, 205),
    Tissue.CARCINOMA: (165, 190),
    Tissue.HAEMANGIOMA: (110, 420),
    Tissue.RIM: (180, 170),
    Tissue.NECROSIS: (90, 330),
    Tissue.CALCIUM: (20, 15),
    Tissue.CYST: (55, 590),
}

_GRAIN = {
    Tissue.FAT: 6.0,
    Tissue.MUSCLE: 6.0,
    Tissue.MARROW: 30.0,
    Tissue.LUNG: 28.0,
    Tissue.LIVER: 2.5,
    Tissue.SPLEEN: 2.5,
    Tissue.PANCREAS: 14.0,
    Tissue.STOOL: 70.0,
    Tissue.GUT_FLUID: 8.0,
    Tissue.HEART_BLOOD: 5.0,
    Tissue.MYOCARDIUM: 5.0,
    Tissue.METASTASIS: 5.0,
    Tissue.CARCINOMA: 9.0,
    Tissue.HAEMANGIOMA: 8.0,
}
_MR_GRAIN = 0.5
"""Of MR, whose scale is about twice as wide, relative to the figures above."""


@dataclass(frozen=True)
class Contrast:
    """The mean value of each tissue, and the deviation of its texture; `is_ct` says that values are HU."""

    mean: Mapping[Tissue, float]
    grain: Mapping[Tissue, float]
    is_ct: bool


def ct_contrast(draw: np.random.Generator, phase: Phase, *, spread: float = 1.0) -> Contrast:
    """HU of `phase`, a little different in each patient; `spread` 0 is the table itself.

    One patient in eight has a fatty liver. The dose and the timing of the contrast medium scale all enhancement.
    """
    column = list(Phase).index(phase)
    dose = 1 + spread * draw.normal(0, 0.14)
    fatty = draw.uniform(15, 45) if draw.random() < 0.125 * spread else 0.0
    noise = {tissue: spread * draw.normal(0, 1) for tissue in Tissue}
    mean = {}
    for tissue, values in _CT.items():
        native, enhanced = values[0], values[column] - values[0]
        scatter = {Tissue.LUNG: 25.0, Tissue.CORTEX: 60.0, Tissue.MARROW: 35.0}.get(tissue, 3.0 + 0.08 * abs(enhanced))
        mean[tissue] = native + dose * enhanced + scatter * noise[tissue] * (tissue not in (Tissue.AIR, Tissue.GAS))
    for tissue in (Tissue.AORTA, Tissue.HEART_BLOOD):
        mean[tissue] = mean[Tissue.AORTA] * (1 if tissue is Tissue.AORTA else 0.96)
    if spread:
        mean[Tissue.GUT_FLUID] = float(draw.choice([mean[Tissue.GUT_FLUID], draw.uniform(120, 300)], p=[0.8, 0.2]))
    for tissue in (Tissue.LIVER, Tissue.RIM):
        mean[tissue] -= fatty
    return Contrast(mean, _GRAIN, is_ct=True)


def mr_contrast(draw: np.random.Generator, weighting: Weighting, *, spread: float = 1.0) -> Contrast:
    """Signal of a weighted MR image, each tissue up to a fifth off; half of them with suppressed fat."""
    column = list(Weighting).index(weighting)
    mean = {tissue: values[column] * float(np.exp(spread * draw.normal(0, 0.1))) for tissue, values in _MR.items()}
    if draw.random() < 0.5 * spread:
        mean[Tissue.FAT] *= 0.15
        mean[Tissue.MARROW] *= 0.4
    return Contrast(mean, {tissue: _MR_GRAIN * value for tissue, value in _GRAIN.items()}, is_ct=False)


def random_contrast(draw: np.random.Generator, low: float, high: float, *, is_ct: bool) -> Contrast:
    """Any value for any soft tissue from `low` to `high` (SynthSeg: Billot et al., Med Image Anal 86, 2023).

    Air, gas, lung and bone keep their place in a CT, for there they are what tells where the body is.
    """
    mean = {tissue: float(draw.uniform(low, high)) for tissue in Tissue}
    grain = {tissue: float(draw.uniform(0, 0.06) * (high - low)) for tissue in Tissue}
    for tissue in (Tissue.AIR, Tissue.GAS, *((Tissue.LUNG, Tissue.CORTEX) if is_ct else ())):
        mean[tissue] = _CT[tissue][0] if is_ct else 4.0
        grain[tissue] = 0.0
    for tissue in (Tissue.PORTAL_VEIN, Tissue.HEPATIC_VEIN):  # a liver whose vessels hide in it, now and then
        mean[tissue] = mean[tissue] if draw.random() < 0.7 else mean[Tissue.LIVER]
    return Contrast(mean, grain, is_ct)
