"""Synthetic series on disk, for what is timed by its size and not by what it shows."""

from pathlib import Path

import numpy as np

from dicom_io.files.image_writer import write_ct_series
from models.phantom import Phantom, grid, make_phantom

ROWS = COLUMNS = 512
"""With 16 bits a slice has 0.5 MB, as a CT's."""


def write_noise(
    directory: Path,
    *,
    slices: int,
    seed: str,
    step_mm: float = 1.0,
    rows: int = ROWS,
    series_description: str = "Portal venous",
) -> list[Path]:
    """A regular axial CT series of noise, `rows` by `rows`: nothing in it can be skipped or compressed."""
    geometry = grid(slices=slices, rows=rows, columns=rows, spacing_mm=(step_mm, 0.75, 0.75), seed=0)
    draw = np.random.default_rng(0)
    array = draw.integers(-1000, 1000, geometry.shape, dtype=np.int16)
    return write_ct_series(array, geometry, directory, seed=seed, series_description=series_description)


def enlarged_phantom(*, slices: int, rows: int, extent_mm: tuple[float, float], seed: int, times: int = 2) -> Phantom:
    """A phantom abdomen of `extent_mm` (along the patient, in the plane), each of its pixels drawn `times` by `times`.

    `rows` counts those of the result. Drawing it coarser and enlarging it takes a quarter of the time.
    """
    along_mm, across_mm = extent_mm
    small = (along_mm / slices, across_mm * times / rows, across_mm * times / rows)
    drawn = make_phantom(
        grid(slices=slices, rows=rows // times, columns=rows // times, spacing_mm=small, seed=seed), seed=seed
    )
    array, truth = (np.repeat(np.repeat(a, times, axis=1), times, axis=2) for a in (drawn.volume.array, drawn.truth))
    spacing = (small[0], across_mm / rows, across_mm / rows)
    geometry = grid(slices=slices, rows=rows, columns=rows, spacing_mm=spacing, seed=seed)
    return Phantom(type(drawn.volume)(array, geometry, "CT", drawn.volume.series_instance_uid), truth, drawn.lesions)
