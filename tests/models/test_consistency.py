"""Neighbouring slices: what they can outvote, and what they cannot."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models.consistency import agree


def stack(tumour: list[float]) -> Tensor:
    """(slice, class, 1, 1) float16: so likely a tumour, else liver."""
    p = torch.tensor(tumour)
    return torch.stack([torch.zeros_like(p), 1 - p, p], dim=1)[:, :, None, None].to(torch.float16)


def mixed(tumour: list[float], gap_mm: float = 2.0) -> list[float]:
    """What is left of it."""
    positions = np.arange(len(tumour)) * gap_mm
    return agree(stack(tumour), positions)[:, 2, 0, 0].float().tolist()


def test_a_doubtful_slice_is_outvoted() -> None:
    """A speck on one slice, and a hole in one."""
    assert mixed([0.0, 0.6, 0.0])[1] < 0.5
    assert mixed([1.0, 0.4, 1.0])[1] > 0.5


def test_a_slice_that_is_sure_stays() -> None:
    """A lesion of one slice is none the less one, and ends where it ended."""
    assert [value > 0.5 for value in mixed([0, 0, 1, 0, 0, 1, 1, 0], 0.5)] == [
        False,
        False,
        True,
        False,
        False,
        True,
        True,
        False,
    ]


def test_each_is_mixed_with_what_was_there_before() -> None:
    """Not with what its neighbour has become; the outermost count themselves."""
    np.testing.assert_allclose(mixed([1, 0, 0, 0], 1.0), [0.85, 0.15, 0, 0], atol=1e-3)
    np.testing.assert_allclose(mixed([0, 0, 0, 1], 1.0), [0, 0, 0.15, 0.85], atol=1e-3)


def test_the_further_the_less_they_say() -> None:
    """Across the gap at hand: the nearer neighbour says more than the further."""
    p = agree(stack([0, 1, 0]), np.array([0.0, 2.0, 6.0]))[:, 2, 0, 0].float()
    np.testing.assert_allclose(p, [0.15, 0.79, 0.06], atol=1e-3)


@pytest.mark.parametrize("gap_mm", [5.0, 8.0])
def test_slices_beyond_a_gap_have_no_say(gap_mm: float) -> None:
    """A lesion of 10 mm may lie on one slice of 5 mm. Nor has one without neighbours."""
    assert mixed([0, 1, 0], gap_mm) == [0, 1, 0]
    assert mixed([1.0]) == [1.0]


def test_probabilities_still_add_up_to_one() -> None:
    """In each voxel."""
    p = torch.softmax(torch.randn(7, 3, 4, 5, generator=torch.Generator().manual_seed(1)), dim=1).to(torch.float16)
    total = agree(p, np.arange(7) * 2.5).float().sum(dim=1)
    torch.testing.assert_close(total, torch.ones_like(total), atol=3e-3, rtol=0)
