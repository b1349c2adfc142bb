"""Stacks of every axial orientation, a network whose answer is known, and small training cases."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dicom_io.geometry import Geometry
from dicom_io.volume import Volume
from models.cards import Card, Preprocessing
from models.datasets.cases import Case
from models.inference import Model
from models.phantom import grid, make_phantom
from models.training.prepared import PreparedCase, PreparedStack, resample

HOW = Preprocessing(
    coarse_spacing_mm=3.0,
    fine_spacing_mm=1.5,
    coarse_step_mm=4.0,
    fine_step_mm=2.0,
    neighbour_mm=4.0,
    window_hu=(-160.0, 240.0),
)

BACKGROUND_HU, LIVER_HU, LESION_HU = -100.0, 110.0, 210.0

MakeGeometry = Callable[..., Geometry]


@pytest.fixture
def how() -> Preprocessing:
    """The preprocessing of the recipe."""
    return HOW


@pytest.fixture
def axial() -> MakeGeometry:
    """Build a transverse Geometry: which way rows and columns run, and whether they are exchanged."""
    return _axial


def _axial(
    *,
    swap: bool = False,
    down: int = 1,
    right: int = 1,
    rows: int = 12,
    columns: int = 15,
    spacing_mm: tuple[float, float] = (3.0, 3.5),
    positions_mm: Sequence[float] = tuple(np.arange(9) * 5.0),
) -> Geometry:
    """The column index grows along `right` * x and the row index along `down` * y; with `swap` the other way round.

    The stack begins 20 mm beyond the origin along its normal, whichever way that points.
    """
    along_x, along_y = np.array([right, 0.0, 0.0]), np.array([0.0, down, 0.0])
    row_cosines, column_cosines = (along_y, along_x) if swap else (along_x, along_y)
    normal = np.cross(row_cosines, column_cosines)
    return Geometry(
        origins_lps_mm=np.array([-31.0, 17.0, 0.0]) + (20.0 + np.asarray(positions_mm))[:, None] * normal,
        row_cosines=row_cosines,
        column_cosines=column_cosines,
        row_spacing_mm=spacing_mm[0],
        column_spacing_mm=spacing_mm[1],
        rows=rows,
        columns=columns,
        frame_of_reference_uid="1.2.3",
    )


class Thresholds(nn.Module):
    """Says liver above 5 HU and tumour above 160 HU of the middle slice, for the window of HOW."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, row, column) to logits of the same shape."""
        low, high = HOW.window_hu
        hu = (x[:, 1] + 1) * (high - low) / 2 + low
        above_liver, above_lesion = (hu - 5.0) / 4, (hu - 160.0) / 4
        return torch.stack([-above_liver, torch.minimum(above_liver, -above_lesion), above_lesion], dim=1)


@pytest.fixture
def stand_in() -> Model:
    """A Model whose network is two thresholds: what it must answer can be worked out."""
    card = Card(
        name="thresholds",
        version="1.0.0",
        architecture="none",
        modalities=("CT",),
        preprocessing=HOW,
        sha256="0" * 64,
        weights=Path("none.safetensors"),
        trained_on="nothing",
        licence="none",
        quality={},
        research_use_only=True,
    )
    return Model(Thresholds().eval(), card, torch.device("cpu"))


@pytest.fixture
def lopsided() -> Callable[[Geometry], tuple[Volume, NDArray[np.uint8]]]:
    """A volume with a liver and one lesion, far from every plane of symmetry, and its truth (0, 1, 2)."""
    return _lopsided


def _lopsided(geometry: Geometry) -> tuple[Volume, NDArray[np.uint8]]:
    index = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), axis=-1)
    lps = geometry.index_to_lps(index)
    corners = geometry.index_to_lps([[0, 0, 0], np.array(geometry.shape) - 1])
    low, extent = corners.min(axis=0), np.ptp(corners, axis=0)

    def ball(centre: Sequence[float], radius_mm: float) -> NDArray[np.bool_]:
        return np.asarray(np.linalg.norm(lps - (low + extent * np.array(centre)), axis=-1) < radius_mm)

    liver = ball((0.36, 0.42, 0.56), 0.3 * extent.min())
    lesion = ball((0.30, 0.38, 0.60), 0.11 * extent.min())
    truth = liver.astype(np.uint8) + (liver & lesion)
    hu = np.array([BACKGROUND_HU, LIVER_HU, LESION_HU], np.float32)[truth]
    return Volume(hu.astype(np.int16), geometry, "CT", "1.2.3.4"), truth


def stacked(image: NDArray[np.generic], labels: NDArray[np.uint8], spacing_mm: float) -> PreparedStack:
    """A stack as `models.training.prepared` makes it."""
    highest = labels.max(axis=(1, 2))
    return PreparedStack(
        image.astype(np.int16), labels, spacing_mm, np.flatnonzero(highest >= 1), np.flatnonzero(highest >= 2)
    )


MakeCase = Callable[..., PreparedCase]


@pytest.fixture
def prepared_case() -> MakeCase:
    """Build a PreparedCase, the same image and labels at both resolutions, slices 2 mm apart."""
    return _prepared_case


def _prepared_case(
    image: NDArray[np.generic],
    labels: NDArray[np.uint8],
    *,
    name: str = "made",
    collection: str = "made by hand",
    tumours_drawn: bool = True,
) -> PreparedCase:
    fine, coarse = (stacked(image, labels, spacing) for spacing in (HOW.fine_spacing_mm, HOW.coarse_spacing_mm))
    return PreparedCase(name, name, collection, tumours_drawn, 2.0, fine, coarse)


@pytest.fixture
def image_equal_to_label() -> PreparedCase:
    """A case whose image is 100 HU where its label is liver and -100 HU elsewhere: an L, no two sides alike."""
    labels = np.zeros((12, 90, 100), np.uint8)
    labels[:, 20:70, 30:45] = 1
    labels[:, 55:70, 30:80] = 1
    return _prepared_case(labels.astype(np.int16) * 200 - 100, labels, name="L")


@pytest.fixture(scope="session")
def tiny_case() -> PreparedCase:
    """A phantom with lesions on a grid of large voxels, prepared for training."""
    geometry = grid(slices=24, rows=60, columns=64, spacing_mm=(10.0, 6.0, 6.0), seed=4)
    phantom = make_phantom(geometry, seed=4, lesions=4)
    fine, coarse, step_mm = resample(Case("tiny", "tiny", phantom.volume, phantom.truth), HOW)
    stacks = (stacked(stack.image, stack.labels, stack.spacing_mm) for stack in (fine, coarse))
    return PreparedCase("tiny", "tiny", "phantoms", True, step_mm, *stacks)
