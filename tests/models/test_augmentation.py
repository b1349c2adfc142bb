"""Augmentation changes values, and labels only where it puts a lesion into a liver."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models.augmentation import augment, blur, change_acquisition, change_enhancement, insert_lesion
from models.cards import Preprocessing
from models.dataset import Batch, Case, draw_batch


@pytest.fixture
def sample() -> tuple[Tensor, Tensor]:
    """Three planes of soft tissue with a square liver, and its label."""
    label = torch.zeros(64, 64, dtype=torch.int64)
    label[10:50, 14:44] = 1
    image = torch.full((3, 64, 64), 40.0) + 60.0 * (label > 0)
    return image, label


@pytest.mark.parametrize("seed", range(10))
def test_lesions_are_put_into_the_liver_alone(sample: tuple[Tensor, Tensor], seed: int) -> None:
    """Outside of the liver neither image nor label changes; inside, what is labelled is darker or brighter."""
    image, label = sample
    changed, labelled = insert_lesion(image, label, np.random.default_rng(seed))
    liver = label > 0
    assert torch.equal(labelled > 0, liver)
    assert torch.equal(changed[:, ~liver], image[:, ~liver])
    lesion = labelled == 2
    assert bool(lesion.any())
    assert float((changed[1] - image[1])[lesion].abs().mean()) > 10
    far_from_it = liver & ~(blur(lesion.float()[None], 4.0)[0] > 1e-3)
    assert float((changed[1] - image[1])[far_from_it].abs().sum()) == 0


def test_inserting_leaves_the_given_sample_as_it_was(sample: tuple[Tensor, Tensor]) -> None:
    """The case is drawn from again."""
    image, label = sample
    before = image.clone(), label.clone()
    insert_lesion(image, label, np.random.default_rng(0))
    assert torch.equal(image, before[0])
    assert torch.equal(label, before[1])


def test_enhancement_moves_the_liver_as_one(sample: tuple[Tensor, Tensor]) -> None:
    """Its inside is shifted by one value, and by another than its surroundings."""
    image, label = sample
    shifts = change_enhancement(image, label, np.random.default_rng(3)) - image
    inside = shifts[:, 16:44, 20:38]
    assert float(inside.std()) < 0.5
    assert abs(float(inside.mean())) > 1
    assert float(shifts[:, :4].std()) > 1


def test_enhancement_leaves_air_and_bone_alone(sample: tuple[Tensor, Tensor]) -> None:
    """Contrast medium is in soft tissue."""
    image, label = sample
    image[:, :4], image[:, -4:] = -1000.0, 700.0
    changed = change_enhancement(image, label, np.random.default_rng(3))
    assert torch.equal(changed[:, :4], image[:, :4])
    assert torch.equal(changed[:, -4:], image[:, -4:])


def test_acquisition_keeps_places_and_order(sample: tuple[Tensor, Tensor]) -> None:
    """Whatever gain, sharpness and grain, the liver stays brighter than what is around it, where it was."""
    image, label = sample
    for seed in range(10):
        changed = change_acquisition(image, np.random.default_rng(seed))
        assert changed.shape == image.shape
        assert bool(torch.isfinite(changed).all())
        around = torch.zeros_like(label, dtype=torch.bool)
        around[28:36, 4:12] = around[28:36, 46:54] = True
        assert float(changed[:, 28:36, 20:38].mean()) > float(changed[:, around].mean()) + 20


def test_batch_keeps_livers_and_shapes_and_depends_on_the_seed(tiny_case: Case, how: Preprocessing) -> None:
    """Only labels inside a liver may change, `merged` passes through, and a seed says what is done."""
    batch = draw_batch([tiny_case], [], how, np.random.default_rng(0), size=8, pixels=32)
    batch = Batch(batch.image, batch.labels, torch.arange(8) % 2 == 0)
    before = batch.image.clone()
    one, two, other = (augment(batch, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(batch.image, before)
    assert torch.equal(one.labels > 0, batch.labels > 0)
    assert torch.equal(one.merged, batch.merged)
    assert one.image.shape == batch.image.shape
    assert torch.equal(one.image, two.image)
    assert torch.equal(one.labels, two.labels)
    assert not torch.equal(one.image, other.image)


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
