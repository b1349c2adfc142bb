"""Contrast phases and effusions: what changes, and what must not."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models.training.phases import change_enhancement, change_phase, insert_effusion

SEEDS = range(12)


@pytest.fixture
def sample() -> tuple[Tensor, Tensor]:
    """Three planes of soft tissue with a square liver, and its label."""
    label = torch.zeros(64, 64, dtype=torch.uint8)
    label[10:50, 14:44] = 1
    image = torch.full((3, 64, 64), 40.0) + 60.0 * (label > 0)
    return image, label


@pytest.fixture
def portal() -> tuple[Tensor, Tensor]:
    """A portal liver of 110 HU with a vein of 165 and a tumour of 60, beside fat, muscle, aorta and bone; its label."""
    label = torch.zeros(96, 96, dtype=torch.uint8)
    label[8:60, 8:60] = 1
    image = torch.full((3, 96, 96), -100.0)
    image[:, label > 0] = 110.0
    image[:, 20:28, 20:28] = 165.0
    image[:, 40:52, 40:52] = 60.0
    label[40:52, 40:52] = 2
    image[:, 8:30, 70:90] = 60.0
    image[:, 40:60, 70:90] = 150.0
    image[:, 70:90, 70:90] = 500.0
    return image, label


@pytest.fixture
def chest() -> tuple[Tensor, Tensor]:
    """A chest wall about a lung, a liver in front of it, air around."""
    label = torch.zeros(96, 96, dtype=torch.uint8)
    image = torch.full((3, 96, 96), -1000.0)
    image[:, 8:88, 8:88] = 50.0
    image[:, 14:82, 14:82] = -850.0
    image[:, 14:40, 14:50] = 110.0
    label[14:40, 14:50] = 1
    return image, label


def test_enhancement_moves_the_liver_as_one(sample: tuple[Tensor, Tensor]) -> None:
    """Its inside is shifted by one value, and by another than its surroundings."""
    image, label = sample
    shifts = change_enhancement(image, label, np.random.default_rng(3)) - image
    inside = shifts[:, 16:44, 20:38]
    assert float(inside.std()) < 0.5
    assert abs(float(inside.mean())) > 1
    assert float(shifts[:, :4].std()) > 1


def test_enhancement_moves_vessels_apart_from_the_liver(sample: tuple[Tensor, Tensor]) -> None:
    """What is brighter than the parenchyma about it is another compartment."""
    image, label = sample
    image[:, 28:32, 26:30] += 80.0
    shifts = change_enhancement(image, label, np.random.default_rng(3)) - image
    assert abs(float(shifts[1, 29:31, 27:29].mean() - shifts[1, 40:44, 34:38].mean())) > 2


def test_enhancement_leaves_air_and_bone_alone(sample: tuple[Tensor, Tensor]) -> None:
    """Contrast medium is in soft tissue."""
    image, label = sample
    image[:, :4], image[:, -4:] = -1000.0, 700.0
    changed = change_enhancement(image, label, np.random.default_rng(3))
    assert torch.equal(changed[:, :4], image[:, :4])
    assert torch.equal(changed[:, -4:], image[:, -4:])


@pytest.mark.parametrize("seed", SEEDS)
def test_another_phase_pales_the_liver(portal: tuple[Tensor, Tensor], seed: int) -> None:
    """To 40 to 100 HU; veins stand out less, or are darker; fat and bone stay, and the tumour stays dark."""
    image, label = portal
    changed = change_phase(image, label, np.random.default_rng(seed))[1]
    liver, vein, tumour = (float(changed[at]) for at in ((34, 34), (24, 24), (46, 46)))
    assert 39 < liver < 101
    assert vein - liver < 0.6 * 55
    assert -51 < tumour - liver < -10
    for at in ((80, 80), (92, 40)):
        assert float(changed[at]) == pytest.approx(float(image[1][at]), abs=0.5)
    assert float(changed[16, 80]) == pytest.approx(60, abs=1)


def test_phases_differ(portal: tuple[Tensor, Tensor]) -> None:
    """An aorta is brighter than it was in some, and paler in others: arterial, and native."""
    image, label = portal
    aortas = [float(change_phase(image, label, np.random.default_rng(seed))[1, 50, 80]) for seed in range(40)]
    assert max(aortas) > 180
    assert min(aortas) < 90


def test_noise_stays_as_strong(portal: tuple[Tensor, Tensor]) -> None:
    """What a vein loses is decided by smoothed values: noise of the liver is not cut on one side."""
    image, label = portal
    noise = torch.from_numpy(np.random.default_rng(0).normal(0, 18, tuple(image.shape)).astype(np.float32))
    for seed in SEEDS:
        clean, noisy = (change_phase(planes, label, np.random.default_rng(seed)) for planes in (image, image + noise))
        inside = (noisy - clean)[:, 29:39, 29:39]
        assert 0.75 * 18 < float(inside.std()) < 1.3 * 18


def test_a_pale_liver_stays(portal: tuple[Tensor, Tensor]) -> None:
    """No other phase can be made of what is none of the portal vein."""
    image, label = portal
    image = torch.where(image == 110, 60.0, image)
    assert torch.equal(change_phase(image, label, np.random.default_rng(0)), image)


@pytest.mark.parametrize("seed", SEEDS)
def test_fluid_stands_at_the_back_of_the_lung(chest: tuple[Tensor, Tensor], seed: int) -> None:
    """Rows run to the back. Liver, wall and the air about the body stay as they were."""
    image, label = chest
    changed = insert_effusion(image, label, np.random.default_rng(seed))
    lung = image[1] < -800
    lung &= image[1] > -900
    filled = lung & (changed[1] > -100)
    assert bool(filled.any())
    rows = torch.nonzero(filled)[:, 0].float().mean()
    assert float(rows) > float(torch.nonzero(lung)[:, 0].float().mean())
    assert float(changed[1][filled].mean()) < 140
    same = (label > 0) | (image[1] == -1000)
    assert torch.equal(changed[:, same], image[:, same])


def test_without_lung_there_is_no_effusion(portal: tuple[Tensor, Tensor]) -> None:
    """Nor where only the skin's edge has a lung's value."""
    image, label = portal
    image[:, 93:] = -1000.0
    image[:, 91:93] = -500.0
    assert torch.equal(insert_effusion(image, label, np.random.default_rng(0)), image)
