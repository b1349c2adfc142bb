"""Cases and samples: labels stay on their image through every turn, and a seed says which samples come."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dicom_io.geometry import Geometry
from dicom_io.volume import Volume
from models.cards import Preprocessing
from models.dataset import Case, draw_batch, draw_sample, phantom_case, prepare

Lopsided = Callable[[Geometry], tuple[Volume, NDArray[np.uint8]]]


def inner(mask: Tensor) -> Tensor:
    """A mask (row, column) less its outermost pixels."""
    return -F.max_pool2d(-mask.float()[None], 3, 1, 1)[0] > 0.5


def clearly_wrong(image: Tensor, label: Tensor) -> int:
    """Pixels that are liver in the image and not in the label, or the reverse, beyond the outline's own pixels."""
    bright = image > 0
    return int((inner(bright) & (label == 0)).sum() + (inner(~bright) & (label > 0)).sum())


@pytest.mark.parametrize("reversed_rows", [False, True])
@pytest.mark.parametrize("resolution", ["fine", "coarse"])
def test_prepared_labels_lie_on_the_prepared_image(
    axial: Callable[..., Geometry], lopsided: Lopsided, how: Preprocessing, reversed_rows: bool, resolution: str
) -> None:
    """At both resolutions, whichever way the rows of the source run."""
    geometry = axial(down=-1 if reversed_rows else 1, rows=70, columns=60, positions_mm=np.arange(30) * 5.0)
    volume, truth = lopsided(geometry)
    case = prepare(volume, truth, how, name="lopsided", merged=False)
    image, labels = getattr(case, resolution)
    assert image.shape == labels.shape
    assert (image.dtype, labels.dtype) == (torch.float16, torch.uint8)
    assert set(labels.unique().tolist()) == {0, 1, 2}
    wrong = sum(clearly_wrong(plane.float(), label) for plane, label in zip(image, labels, strict=True))
    assert wrong <= 0.002 * int((labels > 0).sum())
    assert float(image.float()[labels == 2].mean()) > 170 > 130 > float(image.float()[labels == 1].mean())


def test_prepared_pixels_are_of_the_size_asked_for(
    axial: Callable[..., Geometry], lopsided: Lopsided, how: Preprocessing
) -> None:
    """Extent over spacing, in the plane and across it."""
    geometry = axial(rows=70, columns=60, spacing_mm=(3.0, 3.5), positions_mm=np.arange(30) * 5.0)
    case = prepare(*lopsided(geometry), how, name="lopsided", merged=True)
    assert case.merged
    assert case.step_mm == pytest.approx(145 / 73)
    assert case.fine[0].shape == (74, 140, 140)
    assert case.coarse[0].shape == (74, 70, 70)


def test_phantom_case_is_the_same_for_the_same_seed(how: Preprocessing) -> None:
    """A case of the recipe: its fine and coarse pixels, never merged."""
    one, two = phantom_case(3, how), phantom_case(3, how)
    assert torch.equal(one.coarse[0], two.coarse[0])
    assert torch.equal(one.fine[1], two.fine[1])
    assert (one.name, one.merged) == ("phantom 3", False)


@pytest.mark.parametrize("seed", range(12))
def test_sampled_label_lies_on_the_sampled_image(image_equal_to_label: Case, how: Preprocessing, seed: int) -> None:
    """Turned, scaled, bent and shifted, both are read at the same places."""
    image, label = draw_sample(image_equal_to_label, how, np.random.default_rng(seed), pixels=64)
    assert image.shape == (3, 64, 64)
    assert (label.shape, label.dtype) == ((64, 64), torch.int64)
    assert int((label > 0).sum()) > 200
    assert clearly_wrong(image[1], label) <= 2


def test_samples_stay_upright(how: Preprocessing) -> None:
    """Values that grow with the row, and in the other case with the column, still do: no sample is turned over."""
    labels = torch.ones(12, 90, 100, dtype=torch.uint8)
    rows = torch.arange(90, dtype=torch.float16)[:, None].expand(12, -1, 100).contiguous()
    columns = torch.arange(100, dtype=torch.float16)[None, :].expand(12, 90, -1).contiguous()
    for image, axis in ((rows, 1), (columns, 2)):
        case = Case("ramp", (image, labels), (image, labels), merged=False, step_mm=2.0)
        for seed in range(6):
            planes, label = draw_sample(case, how, np.random.default_rng(seed), pixels=32)
            middle = planes[1].double().masked_fill(label == 0, float("nan"))
            # The median: at the image's edge a pixel is read half from the air around it
            along, across = (float(torch.diff(middle, dim=dim).nanmedian()) for dim in (axis - 1, 2 - axis))
            assert 0.6 < along < 1.5
            assert abs(across) < 0.5


def test_neighbouring_planes_lie_above_and_below(how: Preprocessing) -> None:
    """A case whose value is its slice's position: the channels differ by the distance of the preprocessing."""
    positions = torch.arange(40, dtype=torch.float32) * 2
    image = positions[:, None, None].expand(-1, 64, 64).to(torch.float16).contiguous()
    labels = torch.zeros(40, 64, 64, dtype=torch.uint8)
    labels[15:25, 20:40, 20:40] = 1
    case = Case("ramp", (image, labels), (image, labels), merged=False, step_mm=2.0)
    draw = np.random.default_rng(0)
    for _ in range(5):
        planes, label = draw_sample(case, how, draw, pixels=32)
        if not bool((label > 0).any()):
            continue
        below, middle, above = planes[:, label > 0].mean(dim=1).tolist()
        assert 0.75 * how.neighbour_mm < middle - below < 1.25 * how.neighbour_mm
        assert above - middle == pytest.approx(middle - below, abs=0.1)


def test_batch_is_the_same_for_the_same_seed(tiny_case: Case, how: Preprocessing) -> None:
    """And another for another."""
    one, two, other = (
        draw_batch([tiny_case], [tiny_case], how, np.random.default_rng(seed), size=3, pixels=32) for seed in (7, 7, 8)
    )
    assert torch.equal(one.image, two.image)
    assert torch.equal(one.labels, two.labels)
    assert not torch.equal(one.image, other.image)


def test_batch_says_which_samples_are_merged(tiny_case: Case, how: Preprocessing) -> None:
    """Three of five come from the real cases, here those whose tumours were not drawn apart."""
    real = replace(tiny_case, merged=True)
    batch = draw_batch([real], [tiny_case], how, np.random.default_rng(0), size=80, pixels=32)
    assert batch.image.shape == (80, 3, 32, 32)
    assert batch.labels.shape == (80, 32, 32)
    assert 32 < int(batch.merged.sum()) < 64


@pytest.mark.parametrize("real", [True, False])
def test_either_kind_of_case_is_enough(tiny_case: Case, how: Preprocessing, real: bool) -> None:
    """Without phantoms every sample is of a real case, and the other way round."""
    marked = replace(tiny_case, merged=real)
    pools = ([marked], []) if real else ([], [marked])
    batch = draw_batch(*pools, how, np.random.default_rng(0), size=6, pixels=32)
    assert batch.merged.tolist() == [real] * 6
