"""Statistics of the voxel values of a lesion, and of the liver around it.

Pure. Definitions are those of the Image Biomarker Standardisation Initiative (IBSI, Zwanenburg 2020, and its
reference manual); every voxel counts alike, whatever width its slice stands for.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_io.axes import Bool
from dicom_io.geometry import Geometry
from dicom_io.volume import Volume

BIN_WIDTH_HU = 25.0
"""The fixed bin size of the intensity histogram."""

LOWEST_HU = -1000.0
"""Where its first bin begins: the same for every lesion, so that equal tissue falls into equal bins."""

PARENCHYMA_MARGIN_MM = 3.0
"""How far from its edge, and from a lesion, the liver is no longer mixed with its neighbours. At least one voxel."""


@dataclass(frozen=True)
class Values:
    """First-order statistics of the voxel values of one lesion.

    All but `skewness` and `kurtosis` (excess), which have no unit, are None where the values are no Hounsfield units
    (MR). `contrast_to_liver_hu` is the lesion's mean less that of the liver without lesions, None also where no liver
    is left to compare with.
    """

    hu_mean: float | None
    hu_sd: float | None
    hu_p10: float | None
    hu_p50: float | None
    hu_p90: float | None
    skewness: float
    kurtosis: float
    entropy_bits: float | None
    contrast_to_liver_hu: float | None


def values_of(values: NDArray[np.generic], *, is_hu: bool = True, liver_hu_mean: float | None = None) -> Values:
    """Give the statistics of the values (n,) of one lesion, at least one.

    Mean (IBSI Q4LE), standard deviation over n (the root of ECT3), percentiles with linear interpolation (QG58, Y12H,
    8DWT), skewness (KE2A), excess kurtosis (IPH6; both 0 where all values are equal), entropy of the histogram with
    bins of BIN_WIDTH_HU from LOWEST_HU, in bits (TLU2).
    """
    exact = values.astype(np.float64)
    mean = float(exact.mean())
    from_mean = exact - mean
    squares = from_mean**2
    variance = float(squares.mean())
    p10, p50, p90 = (float(value) for value in np.percentile(exact, [10, 50, 90]))
    bins = np.floor((exact - LOWEST_HU) / BIN_WIDTH_HU)
    shares = np.unique(bins, return_counts=True)[1] / len(exact)

    def hu(value: float) -> float | None:
        return value if is_hu else None

    return Values(
        hu_mean=hu(mean),
        hu_sd=hu(variance**0.5),
        hu_p10=hu(p10),
        hu_p50=hu(p50),
        hu_p90=hu(p90),
        skewness=float((squares * from_mean).mean()) / variance**1.5 if variance else 0.0,
        kurtosis=float((squares**2).mean()) / variance**2 - 3 if variance else 0.0,
        entropy_bits=hu(float(abs(shares @ np.log2(shares)))),
        contrast_to_liver_hu=None if liver_hu_mean is None else mean - liver_hu_mean,
    )


def parenchyma_mean_and_sd(volume: Volume, liver: Bool, first: tuple[int, int, int]) -> tuple[float, float] | None:
    """Return mean and standard deviation of `liver` away from its edge; None where nothing is left of it.

    `liver` is a box of the grid from index `first`, without lesions; what it does not hold is taken to be no liver,
    but what lies beyond the field of view is not known and takes nothing away.
    """
    geometry = volume.geometry
    slices = range(first[0], first[0] + len(liver))
    rows, columns = (slice(start, start + size) for start, size in zip(first[1:], liver.shape[1:], strict=True))
    in_plane = [_eroded(plane, geometry) for plane in liver]
    count, total, squares = 0, 0.0, 0.0
    for plane, index in enumerate(slices):
        inside = in_plane[plane].copy()
        for neighbour in _neighbours(geometry, index):
            if 0 <= neighbour - first[0] < len(liver):
                inside &= in_plane[neighbour - first[0]]
            else:
                inside[:] = False
        values = volume.array[index, rows, columns][inside].astype(np.float64)
        count, total, squares = (
            count + len(values),
            total + float(values.sum()),
            squares + float(np.square(values).sum()),
        )
    if count == 0:
        return None
    mean = total / count
    return mean, max(0.0, squares / count - mean**2) ** 0.5


def _eroded(plane: Bool, geometry: Geometry) -> Bool:
    """Return what lies at least the margin away from the border within its slice; beyond the plane is no border."""
    result = plane.copy()
    for axis, spacing_mm in enumerate((geometry.row_spacing_mm, geometry.column_spacing_mm)):
        lines, before = np.moveaxis(result, axis, 0), np.moveaxis(result.copy(), axis, 0)
        for step in range(1, int(np.ceil(PARENCHYMA_MARGIN_MM / spacing_mm)) + 1):
            lines[step:] &= before[:-step]
            lines[:-step] &= before[step:]
    return result


def _neighbours(geometry: Geometry, index: int) -> list[int]:
    """The slices within the margin of slice `index`, and in any case the ones next to it, as far as there are any."""
    distances = np.abs(geometry.positions_mm - geometry.positions_mm[index])
    near = set(np.flatnonzero(distances <= PARENCHYMA_MARGIN_MM).tolist()) | {index - 1, index + 1}
    return sorted(near & set(range(geometry.slices)) - {index})
