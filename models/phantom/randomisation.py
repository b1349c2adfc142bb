"""Phantoms for training: patient, grid and acquisition drawn from one seed."""

import numpy as np

from models.phantom.plain import Phantom, grid, make_phantom


def training_phantom(seed: int) -> Phantom:
    """The phantom of `seed` on a grid, with a noise, that are drawn from the same seed."""
    draw = np.random.default_rng(seed + 77)
    pixel, step = float(draw.uniform(1.6, 2.0)), float(draw.choice([2.5, 3.0, 4.0]))
    geometry = grid(
        slices=int(250 / step),
        rows=int(352 / pixel),
        columns=int(400 / pixel),
        spacing_mm=(step, pixel, pixel),
        seed=seed,
    )
    return make_phantom(geometry, seed=seed, noise_hu=float(draw.uniform(2, 14)))
