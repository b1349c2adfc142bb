"""Draw docs/phantoms.png: what the phantoms look like, for people.

    .venv/bin/python docs/draw_phantoms.py [docs/phantoms.png]

One patient at eight heights; one slice in the four phases of a CT and as T1 and T2, with a sharp kernel and in a thick
slice; eight phantoms as training draws them, their truth in outline: cyan the liver, red the lesions.
"""

import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from models.phantom import DEMO_SEED, Kernel, Phantom, Phase, Weighting, grid, make_phantom, training_phantom

COLUMNS, CENTRE_MM = 8, (0.0, 12.0)
WINDOW_HU = (-140.0, 240.0)
HEIGHTS_MM = (92.0, 68.0, 48.0, 28.0, 8.0, -14.0, -40.0, -90.0)
TRAINING = (0, 1, 27, 28, 23, 106, 2, 24)
SEED = DEMO_SEED + 3


def main() -> None:
    """Draw the three rows."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "phantoms.png"
    figure, places = plt.subplots(3, COLUMNS, figsize=(16, 4.7), facecolor="black")
    for place, height in zip(places[0], HEIGHTS_MM, strict=True):
        show(place, slice_of(height, lesions=5), f"{height:+.0f} mm")
    looks = [*((phase, Kernel.STANDARD, 2.5) for phase in Phase), *((w, Kernel.STANDARD, 2.5) for w in Weighting)]
    looks += [(Phase.PORTAL, Kernel.SHARP, 1.0), (Phase.PORTAL, Kernel.SOFT, 15.0)]
    for place, (contrast, kernel, thickness_mm) in zip(places[1], looks, strict=True):
        noise = 24.0 if kernel is Kernel.SHARP else 9.0
        drawn = slice_of(8.0, lesions=5, contrast=contrast, kernel=kernel, thickness_mm=thickness_mm, noise_hu=noise)
        show(place, drawn, f"{contrast}, {kernel}, {thickness_mm:g} mm")
    for place, seed in zip(places[2], TRAINING, strict=True):
        show(place, training_phantom(seed), f"training {seed}")
    figure.subplots_adjust(0, 0, 1, 0.95, 0.01, 0.09)
    figure.savefig(out, dpi=80, facecolor="black", pil_kwargs={"optimize": True})


def slice_of(height_mm: float, **how: object) -> Phantom:
    """One slice of the patient at this height."""
    around = grid(
        slices=1, rows=250, columns=320, spacing_mm=(2.5, 1.15, 1.15), seed=SEED, centre_lps_mm=(*CENTRE_MM, height_mm)
    )
    return make_phantom(around, seed=SEED, **({"noise_hu": 9.0} | how))  # type: ignore[arg-type]


def show(place: Axes, phantom: Phantom, title: str) -> None:
    """The slice with most lesion, or most liver."""
    size = [np.count_nonzero(phantom.truth == label, axis=(1, 2)) for label in (2, 1)]
    index = int(np.argmax(size[0] if size[0].any() else size[1]))
    pixels, truth = phantom.volume.array[index], phantom.truth[index]
    low, high = WINDOW_HU if phantom.volume.modality == "CT" else np.percentile(pixels, [1, 99.7])
    place.imshow(pixels, cmap="gray", vmin=low, vmax=high, interpolation="bilinear")
    if title.startswith("training"):
        for label, colour in ((0.5, "cyan"), (1.5, "red")):
            if truth.max() > label:
                place.contour(truth > label, [0.5], colors=colour, linewidths=0.7)
    place.set_title(title, color="white", fontsize=8, pad=2)
    place.axis("off")


if __name__ == "__main__":
    main()
