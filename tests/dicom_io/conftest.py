"""CT series made for a test: small, valid, and changed where the test wants it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from dicom_io.geometry import Geometry
from dicom_io.image_writer import write_ct_series

MakeSeries = Callable[..., list[Path]]


def stack(
    slices: int = 12, step_mm: float = 5.0, rows: int = 6, columns: int = 8, row_spacing_mm: float = 0.75
) -> Geometry:
    """A plain axial stack; the spacings differ, so that a swap shows."""
    origins = np.c_[np.full(slices, -20.5), np.full(slices, 10.25), 100 + step_mm * np.arange(slices)]
    return Geometry(origins, [1, 0, 0], [0, 1, 0], row_spacing_mm, 0.5, rows, columns, "1.2.3")  # type: ignore[arg-type]


@pytest.fixture
def make_stack() -> Callable[..., Geometry]:
    return stack


@pytest.fixture
def make_series(tmp_path: Path) -> MakeSeries:
    """Write a series; `change(ds, index)` may alter each data set, `geometry` and `array` replace the plain ones."""

    def make(
        change: Callable[[Dataset, int], None] | None = None,
        geometry: Geometry | None = None,
        array: np.ndarray | None = None,
        folder: str = "series",
        seed: str = "test",
    ) -> list[Path]:
        geometry = geometry or stack()
        if array is None:
            array = np.arange(np.prod(geometry.shape), dtype=np.int16).reshape(geometry.shape) - 500
        paths = write_ct_series(array, geometry, tmp_path / folder, seed=seed)
        for index, path in enumerate(paths):
            if change:
                ds = dcmread(path)
                change(ds, index)
                ds.save_as(path)
        return paths

    return make
