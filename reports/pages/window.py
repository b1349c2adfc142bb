"""Which values are shown black and which white."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.multival import MultiValue

from dicom_io.volume import Volume
from reports.source_headers import quietly

CENTER_HU, WIDTH_HU = 60.0, 400.0
"""A window of the abdomen, for CT whose own does not show the liver."""

LIVER_HU = (0.0, 150.0)
"""What a window has to tell apart to be one of the liver: lesions before contrast up to the enhanced organ."""

WIDEST_HU = 800.0
"""A wider window (lung, bone) leaves too few greys to the liver."""

PERCENTILES = (1.0, 99.5)
"""What is black and white in MR, whose values have no unit, in percent of the volume's voxels."""

SAMPLE = 500_000
"""About how many voxels the percentiles are taken of: more change nothing that is seen."""


@dataclass(frozen=True)
class Window:
    """The values of black and white; in the field's words, WindowCenter and WindowWidth (PS3.3 section C.11.2)."""

    low: float
    high: float

    @property
    def name(self) -> str:
        """As viewers write it."""
        return f"C {(self.low + self.high) / 2:.0f} W {self.high - self.low:.0f}"

    def grey(self, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        """`values` as greys from 0 to 255."""
        greys = values - np.float32(self.low)
        greys *= np.float32(255 / (self.high - self.low))
        np.rint(greys, out=greys)
        return np.asarray(np.clip(greys, 0, 255, out=greys).astype(np.uint8))


def display_window(volume: Volume, header: Dataset | None = None) -> Window:
    """CT: the first window in the source's `header` that shows a liver, else 60/400. MR: percentiles of the volume."""
    if volume.modality == "CT":
        own = [] if header is None else _stated(header)
        fit = [w for w in own if w.low <= LIVER_HU[0] and LIVER_HU[1] <= w.high and w.high - w.low <= WIDEST_HU]
        return fit[0] if fit else Window(CENTER_HU - WIDTH_HU / 2, CENTER_HU + WIDTH_HU / 2)
    step = max(1, round((volume.array.size / SAMPLE) ** (1 / 3)))
    low, high = np.percentile(volume.array[::step, ::step, ::step], PERCENTILES)
    return Window(float(low), float(high)) if high > low else Window(float(low), float(low) + 1)


def _stated(header: Dataset) -> list[Window]:
    """Return the windows of a header, as far as they are numbers."""
    try:
        with quietly():
            centers, widths = (
                [float(value) for value in (stated if isinstance(stated, MultiValue) else [stated])]
                for stated in (header.get("WindowCenter"), header.get("WindowWidth"))
            )
    except (TypeError, ValueError, OverflowError):
        return []
    pairs = zip(centers, widths, strict=False)
    return [Window(c - w / 2, c + w / 2) for c, w in pairs if math.isfinite(c) and math.isfinite(w) and w >= 1]
