"""Blurs and interpolations of planes."""

import pytest
import torch
from torch.nn import functional as F

from models.training.filters import blur, cubic


def test_blur_keeps_what_it_spreads() -> None:
    """A constant stays, a point becomes a spot of the same sum about the same place."""
    constant = torch.full((2, 20, 20), 7.0)
    torch.testing.assert_close(blur(constant, 1.5), constant)
    point = torch.zeros(1, 21, 21)
    point[0, 8, 12] = 5.0
    spot = blur(point, 1.5)[0]
    assert float(spot.sum()) == pytest.approx(5.0, rel=1e-4)
    assert divmod(int(spot.argmax()), 21) == (8, 12)
    assert float(spot.max()) < 1


def test_cubic_interpolates_as_pytorch_does() -> None:
    """Two products of matrices, the same values."""
    values = torch.randn(4, 5)
    ours = cubic(4, 30) @ values @ cubic(5, 40).T
    theirs = F.interpolate(values[None, None], size=(30, 40), mode="bicubic", align_corners=False)[0, 0]
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
