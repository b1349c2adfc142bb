"""Livers with balls in them whose size and place are known, as today's study and as earlier ones."""

from collections.abc import Sequence
from datetime import date
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from dicom_io.geometry import Geometry
from dicom_io.segmentation import Algorithm, Segmentation
from dicom_io.volume import Volume
from models.phantom import grid, make_phantom
from reports.findings.measurements import Findings, measure
from reports.follow_up.prior import Prior, prior_of

GRID = grid(slices=62, rows=100, columns=120, spacing_mm=(4.8, 3.0, 3.0), seed=1, centre_lps_mm=(0.0, 14.0, 0.0))
ALGORITHM = Algorithm("resnet50", "1.2.0", "0123456789abcdef" * 4)
THEN, NOW = date(2024, 1, 10), date(2024, 4, 9)

Ball = tuple[NDArray[np.float64], float]
"""Its centre in the phantom (LPS mm) and its radius in mm."""


@cache
def liver() -> NDArray[np.bool_]:
    """The liver of a phantom on GRID."""
    return make_phantom(GRID, seed=1_000_020, lesions=0, noise_hu=0.0).truth > 0


@cache
def places() -> list[NDArray[np.float64]]:
    """Eight points of the liver (LPS mm), each deep in it and far from the others."""
    depth = distance_transform_edt(liver(), sampling=(4.8, 3.0, 3.0))
    found: list[NDArray[np.float64]] = []
    points = GRID.index_to_lps(np.argwhere(depth > 16))
    nearest_mm = np.full(len(points), np.inf)
    for _ in range(8):
        found.append(points[int(nearest_mm.argmax())])
        nearest_mm = np.minimum(nearest_mm, np.linalg.norm(points - found[-1], axis=1))
    return found


def drawn(mask: NDArray[np.bool_], balls: Sequence[Ball]) -> NDArray[np.uint8]:
    """Labels on GRID: 1 liver, 2... the balls in the order given."""
    labels = mask.astype(np.uint8)
    points = GRID.index_to_lps(np.argwhere(mask))
    for number, (centre, radius_mm) in enumerate(balls, start=2):
        labels[mask] = np.where(np.linalg.norm(points - centre, axis=1) < radius_mm, number, labels[mask])
    return labels


def turned(degrees: float, shift_mm: Sequence[float]) -> Geometry:
    """GRID with the patient turned about the body's axis and shifted."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])
    return Geometry(
        origins_lps_mm=GRID.origins_lps_mm @ matrix.T + np.array(shift_mm),
        row_cosines=matrix @ GRID.row_cosines,
        column_cosines=matrix @ GRID.column_cosines,
        row_spacing_mm=GRID.row_spacing_mm,
        column_spacing_mm=GRID.column_spacing_mm,
        rows=GRID.rows,
        columns=GRID.columns,
        frame_of_reference_uid="1.2.3",
    )


def study(labels: NDArray[np.uint8], geometry: Geometry = GRID) -> tuple[Findings, Segmentation]:
    """What is measured today; the lesions numbered by falling volume, as postprocessing does."""
    sizes = np.bincount(labels.ravel(), minlength=labels.max() + 1)
    order = np.argsort(-sizes[2:], kind="stable")
    table = np.r_[0, 1, 2 + np.argsort(order)].astype(np.uint8)
    segmentation = Segmentation(table[labels], geometry, ALGORITHM)
    volume = Volume(np.zeros(geometry.shape, np.int16), geometry, "CT", "1.2")
    return measure(volume, segmentation, tracking_seed="now"), segmentation


def earlier(
    labels: NDArray[np.uint8], geometry: Geometry = GRID, when: date | None = THEN, tracked: str = "1"
) -> Prior:
    """The same of the earlier study, tracked as "1.1", "1.2", … in the order of the labels."""
    count = int(labels.max()) - 1
    return prior_of(labels, geometry, [f"{tracked}.{number}" for number in range(1, count + 1)], when)
