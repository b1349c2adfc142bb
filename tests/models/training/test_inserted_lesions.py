"""Lesions that are put into livers: where, how large, how bright, and cut by three planes."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models.training.filters import blur
from models.training.inserted_lesions import draw_diameter_mm, draw_look, insert_lesions


@pytest.fixture
def sample() -> tuple[Tensor, Tensor]:
    """Three planes of soft tissue with a square liver, and its label."""
    label = torch.zeros(64, 64, dtype=torch.uint8)
    label[10:50, 14:44] = 1
    image = torch.full((3, 64, 64), 40.0) + 60.0 * (label > 0)
    return image, label


@pytest.mark.parametrize("seed", range(10))
def test_lesions_are_put_into_the_liver_alone(sample: tuple[Tensor, Tensor], seed: int) -> None:
    """Outside of the liver neither image nor label changes; what lies far from every lesion stays too."""
    image, label = sample
    before = image.clone()
    changed, labelled = insert_lesions(image, label, 1.5, 4.0, np.random.default_rng(seed))
    liver = label > 0
    assert torch.equal(image, before)
    assert torch.equal(labelled > 0, liver)
    assert torch.equal(changed[:, ~liver], image[:, ~liver])
    lesion = labelled == 2
    assert bool(lesion.any())
    far_from_it = liver & ~(blur(lesion.float()[None], 4.0)[0] > 1e-3)
    assert float((changed[1] - image[1])[far_from_it].abs().sum()) == 0


def inserted(seed: int, *, liver_hu: float = 110.0, spacing_mm: float = 1.5) -> tuple[Tensor, Tensor]:
    """The change of three planes that are all liver, and the label."""
    liver = torch.ones(128, 128, dtype=torch.uint8)
    image = torch.full((3, 128, 128), liver_hu)
    changed, labels = insert_lesions(image, liver, spacing_mm, 4.0, np.random.default_rng(seed))
    return changed - liver_hu, labels


def test_dark_and_bright_about_evenly_and_brighter_in_a_pale_liver() -> None:
    """A third of the samples of a portal phase, two thirds of those of others."""
    shares = []
    for liver_hu in (110.0, 60.0):
        means = [
            float(change[1][labels == 2].mean())
            for change, labels in (inserted(seed, liver_hu=liver_hu) for seed in range(150))
        ]
        assert min(means) > -130
        shares.append(np.mean(np.array(means) > 0))
    assert 0.2 < shares[0] < 0.45
    assert 0.45 < shares[1] < 0.75


def test_sizes_are_millimetres() -> None:
    """At half the spacing a lesion has four times the pixels."""
    pixels = {mm: [int((inserted(seed, spacing_mm=mm)[1] == 2).sum()) for seed in range(60)] for mm in (1.5, 3.0)}
    assert 4 * np.median(pixels[3.0]) == pytest.approx(np.median(pixels[1.5]), rel=0.35)


def test_most_are_under_two_centimetres() -> None:
    """And a crowd's nearly all; a few are large."""
    draw = np.random.default_rng(0)
    alone, crowded = ([draw_diameter_mm(draw, crowd=crowd) for _ in range(400)] for crowd in (False, True))
    assert 0.5 < np.mean(np.array(alone) < 20) < 0.75
    assert np.mean(np.array(crowded) < 20) > 0.75
    assert np.mean(np.array(alone) > 50) > 0.02


def test_lesions_are_as_large_on_the_neighbours_as_on_the_slice() -> None:
    """Of a ball cut anywhere one neighbour has less and the other more: on average of large ones nearly as much."""
    shares = []
    for seed in range(200):
        change, labels = inserted(seed)
        depth = change.abs()
        drawn = (depth > depth[1][labels == 2].median() / 2).sum(dim=(1, 2))
        if drawn[1] > 400:
            shares += (drawn[[0, 2]] / drawn[1]).tolist()
    assert len(shares) > 60
    assert 0.8 < float(np.mean(shares)) < 1.1


def test_looks_are_those_that_are_named() -> None:
    """Of large ones some have a rim, a core, specks; small ones never a core; dark is dark and bright is bright."""
    draw = np.random.default_rng(0)
    bright, dark, small = (
        [draw_look(draw, radius_mm, bright=is_bright) for _ in range(200)]
        for radius_mm, is_bright in ((15.0, True), (15.0, False), (4.0, False))
    )
    for looks in (bright, dark):
        for part in ("rim_mm", "core", "specks_hu"):
            assert 0.02 < np.mean([getattr(look, part) > 0 for look in looks]) < 0.6
    assert all(max(look.body_hu, look.rim_hu) >= 12 for look in bright)
    assert all(-80 <= look.body_hu <= -15 for look in dark)
    assert not any(look.core or look.specks_hu for look in small)
