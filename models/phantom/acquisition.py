"""The scanner's effects on an image: slice thickness, the kernel's sharpness, noise, and for MR uneven coils."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.fft import fftfreq, irfft2, rfft2, rfftfreq
from scipy.ndimage import gaussian_filter

from models.phantom.space import Axes, Float, SmoothField, smooth_field

THICKEST_SAMPLE_MM = 2.6
"""A slice is the mean of an odd number of planes that stand for at most so much of it."""


class Kernel(StrEnum):
    """The reconstruction kernel: how sharp the edges are, and how coarse the grain."""

    SOFT = "soft"
    STANDARD = "standard"
    SHARP = "sharp"


_BLUR_MM = {Kernel.SOFT: 0.85, Kernel.STANDARD: 0.6, Kernel.SHARP: 0.4}
_SHARPENING = {Kernel.SOFT: 0.0, Kernel.STANDARD: 0.0, Kernel.SHARP: 0.5}
_CUT_OFF_PER_MM = {Kernel.SOFT: 0.26, Kernel.STANDARD: 0.36, Kernel.SHARP: 0.60}


@dataclass(frozen=True)
class Acquisition:
    """How the image is taken.

    `noise`: its standard deviation in the body, HU or units of signal, for slices of this thickness. `thickness_mm`
    None: the distance between slices. `streaks`: how much stronger noise is along the patient's width than along the
    depth, where X-rays pass through more of the body. `table`: whether the couch is seen. `shading`: the deviation of
    the coils' sensitivity, of MR, in its logarithm.
    """

    noise: float = 12.0
    kernel: Kernel = Kernel.STANDARD
    thickness_mm: float | None = None
    streaks: float = 0.5
    table: bool = True
    shading: float = 0.0

    def __post_init__(self) -> None:
        if self.noise < 0 or self.shading < 0 or (self.thickness_mm is not None and self.thickness_mm <= 0):
            raise ValueError("noise and shading must not be negative, and a slice must have a thickness")


def sample_offsets_mm(thickness_mm: float) -> list[float]:
    """Where, about its middle, a slice is sampled; the middle is one of them."""
    pairs = max(0, int(np.ceil((thickness_mm / THICKEST_SAMPLE_MM - 1) / 2)))
    count = 2 * pairs + 1
    return [float(offset) for offset in (np.arange(count) - (count - 1) / 2) * thickness_mm / count]


def blurred(values: Float, kernel: Kernel, pixel_mm: float) -> Float:
    """The image through the kernel, in the plane."""
    sigma = _BLUR_MM[kernel] / pixel_mm
    if sigma > 0.35:
        values = gaussian_filter(values, (0, sigma, sigma), mode="nearest", truncate=3.0)
    if _SHARPENING[kernel]:
        wide = gaussian_filter(values, (0, 1.2, 1.2), mode="nearest", truncate=2.5)
        values = values + np.float32(_SHARPENING[kernel]) * (values - wide)
    return np.asarray(values, dtype=np.float32)


def noise_of(
    draw: np.random.Generator, shape: tuple[int, int, int], how: Acquisition, pixel_mm: tuple[float, float]
) -> Float:
    """Noise of unit deviation with the spectrum of filtered back-projection: a ramp, cut off by the kernel.

    (slice, row, column). Riederer, Pelc, Chesler, Phys Med Biol 23:446 (1978). Streaks: more power in waves along y,
    that is in lines along x.
    """
    along_y = fftfreq(shape[1], pixel_mm[0]).astype(np.float32)[:, None]
    along_x = rfftfreq(shape[2], pixel_mm[1]).astype(np.float32)[None, :]
    frequency = np.hypot(along_x, along_y)
    share = (along_y / np.maximum(frequency, 1e-6)) ** 2
    spectrum = np.sqrt(frequency + 0.01) * np.exp(-((frequency / _CUT_OFF_PER_MM[how.kernel]) ** 2))
    spectrum = spectrum * np.sqrt(1 + how.streaks * 2 * share**4)
    double = np.ones_like(frequency)
    double[:, 1 : (shape[2] + 1) // 2] = 2  # a real image's spectrum has each of these columns twice
    spectrum *= np.sqrt(shape[1] * shape[2] / float((double * spectrum**2).sum()))
    white = draw.standard_normal(shape, dtype=np.float32)
    filtered = irfft2(rfft2(white, axes=(1, 2)) * spectrum.astype(np.float32), s=shape[1:], axes=(1, 2))
    return np.asarray(filtered, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Shading:
    """The uneven sensitivity of receive coils: a smooth field over the patient."""

    strength: float
    field: SmoothField

    def on(self, axes: Axes) -> Float:
        """The factor at each voxel."""
        return np.asarray(np.exp(np.float32(self.strength) * self.field.on(axes)), dtype=np.float32)


def draw_shading(draw: np.random.Generator, strength: float) -> Shading:
    """Sensitivity that changes over a hand's breadth."""
    return Shading(strength, smooth_field(draw, 110.0))
