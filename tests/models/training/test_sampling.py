"""Samples: labels stay on their image, what is beyond it is air, and a seed says which samples come."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.cards import Preprocessing
from models.preprocessing import AIR_HU
from models.training.prepared import PreparedCase
from models.training.recipe import Balance
from models.training.sampling import PATCH, Sample, collate, draw_patch, read_patch, validation_samples

MakeCase = Callable[..., PreparedCase]
BALANCE = Balance()


def draws(cases: list[PreparedCase], how: Preprocessing, count: int, balance: Balance = BALANCE) -> list[Sample]:
    """So many patches, each of a seed of its own."""
    return [draw_patch(cases, how, np.random.default_rng(seed), pixels=32, balance=balance) for seed in range(count)]


def test_label_lies_on_its_image(image_equal_to_label: PreparedCase, how: Preprocessing) -> None:
    """Every pixel that is liver in the image is in the label, and the reverse."""
    for patch in draws([image_equal_to_label], how, 20):
        assert patch.image.shape == (3, 48, 48)
        assert (patch.labels.shape, patch.labels.dtype) == ((48, 48), torch.uint8)
        assert torch.equal(patch.image[1] > 0, patch.labels > 0)


def test_what_lies_beyond_the_image_is_air(image_equal_to_label: PreparedCase) -> None:
    """A patch about a corner, and one that misses the image altogether."""
    case = image_equal_to_label
    corner = read_patch(case, case.fine, 5, 4.0, np.array([0.0, 0.0]), 40)
    assert bool((corner.image[:, :20] == AIR_HU).all())
    assert bool((corner.image[:, :, :20] == AIR_HU).all())
    assert float(corner.image[1, 20:, 20:].min()) == -100
    away = read_patch(case, case.fine, 5, 4.0, np.array([-500.0, 900.0]), 40)
    assert bool((away.image == AIR_HU).all())
    assert not bool(away.labels.any())


def test_patch_says_how_far_its_pixels_are_apart(image_equal_to_label: PreparedCase, how: Preprocessing) -> None:
    """Those of the stack that it was drawn from."""
    for fine, stack in ((1.0, image_equal_to_label.fine), (0.0, image_equal_to_label.coarse)):
        (patch,) = draws([image_equal_to_label], how, 1, Balance(fine=fine))
        assert patch.spacing_mm == stack.spacing_mm


def test_neighbouring_planes_lie_above_and_below(prepared_case: MakeCase, how: Preprocessing) -> None:
    """A case whose value is its slice's position: the channels differ by the distance asked for, between slices too."""
    positions = np.arange(40, dtype=np.int16) * 20
    image = np.broadcast_to(positions[:, None, None], (40, 64, 64))
    case = prepared_case(image, np.ones((40, 64, 64), np.uint8))
    patch = read_patch(case, case.fine, 12, 5.0, np.array([32.0, 32.0]), 32)
    assert patch.image[:, 16, 16].tolist() == pytest.approx([240 - 50, 240, 240 + 50])
    for drawn in draws([case], how, 5, Balance(fine=1.0)):
        below, middle, above = drawn.image[:, 24, 24].tolist()
        if 100 < middle < 700 and below > AIR_HU:
            assert 32 <= middle - below <= 48
            assert above - middle == pytest.approx(middle - below, abs=0.1)


def test_ends_of_the_stack_stand_for_what_lies_beyond(prepared_case: MakeCase) -> None:
    """As inference clamps them."""
    image = np.broadcast_to(np.arange(5, dtype=np.int16)[:, None, None], (5, 64, 64))
    case = prepared_case(image, np.ones((5, 64, 64), np.uint8))
    for middle, expected in ((0, [0, 0, 2]), (4, [2, 4, 4])):
        patch = read_patch(case, case.fine, middle, 4.0, np.array([32.0, 32.0]), 32)
        assert patch.image[:, 5, 5].tolist() == expected


def test_shares_are_kept(prepared_case: MakeCase, how: Preprocessing) -> None:
    """Six of ten are real; a third of the slices have a tumour, where one in forty has."""
    labels = np.zeros((80, 64, 64), np.uint8)
    labels[20:60, 16:48, 16:48] = 1
    labels[30:32, 30:34, 30:34] = 2
    real = prepared_case(labels, labels, tumours_drawn=False)
    phantom = prepared_case(labels, labels, collection="phantoms")
    patches = draws([real, phantom], how, 300, Balance(real=0.6, tumour=0.35))
    assert sum(patch.merged for patch in patches) / 300 == pytest.approx(0.6, abs=0.09)
    assert sum(bool((patch.labels == 2).any()) for patch in patches) / 300 > 0.25
    only = draws([real, phantom], how, 20, Balance(real=1.0))
    assert all(patch.merged for patch in only)


def test_fine_samples_beyond_the_liver_are_anywhere_in_the_body(prepared_case: MakeCase, how: Preprocessing) -> None:
    """On any slice, about a place that is not air, as often as asked for; without it they all show the liver."""
    labels = np.zeros((80, 300, 300), np.uint8)
    labels[38:42, 20:40, 20:40] = 1
    image = np.full(labels.shape, -1000, np.int16)
    image[:, 10:290, 10:290] = 50
    case = prepared_case(image, labels)
    for beyond, least, most in ((0.0, 0.9, 1.0), (1.0, 0.0, 0.1)):
        patches = draws([case], how, 60, Balance(fine=1.0, beyond=beyond))
        assert least <= np.mean([bool(patch.labels.any()) for patch in patches]) <= most
        assert np.mean([bool((patch.image[1] == 50).any()) for patch in patches]) > 0.9


@pytest.mark.parametrize("collection", ["phantoms", "LiTS"])
def test_either_kind_of_case_is_enough(tiny_case: PreparedCase, how: Preprocessing, collection: str) -> None:
    """Without phantoms every sample is of a real case, and the other way round."""
    case = replace(tiny_case, collection=collection)
    assert len(draws([case], how, 4)) == 4


def test_patch_is_the_same_for_the_same_seed(tiny_case: PreparedCase, how: Preprocessing) -> None:
    """And another for another."""
    one, other = draws([tiny_case], how, 2)
    again = draws([tiny_case], how, 1)[0]
    assert torch.equal(one.image, again.image)
    assert not torch.equal(one.image, other.image)
    assert one.image.shape[-1] == PATCH * 32


def test_collated_samples_are_a_batch(tiny_case: PreparedCase, how: Preprocessing) -> None:
    """Each in its place."""
    patches = draws([tiny_case, replace(tiny_case, collection="LiTS", tumours_drawn=False)], how, 8)
    batch = collate(patches)
    assert batch.image.shape == (8, 3, 48, 48)
    assert (batch.labels.shape, batch.labels.dtype) == ((8, 48, 48), torch.int64)
    assert batch.merged.tolist() == [patch.merged for patch in patches]


def test_validation_is_the_same_every_time_and_mostly_liver(tiny_case: PreparedCase, how: Preprocessing) -> None:
    """As many samples of each case as asked for, of its own slices, unchanged."""
    one, two = (validation_samples([tiny_case, tiny_case], how, pixels=32, per_case=12) for _ in range(2))
    assert len(one) == 24
    assert all(torch.equal(a.image, b.image) for a, b in zip(one, two, strict=True))
    assert sum(bool(sample.labels.any()) for sample in one) >= 18


def test_case_without_liver_is_validated_too(prepared_case: MakeCase, how: Preprocessing) -> None:
    """What is found there is false."""
    empty = np.zeros((6, 64, 64), np.uint8)
    samples = validation_samples([prepared_case(empty, empty)], how, pixels=32, per_case=8)
    assert samples
    assert not any(bool(sample.labels.any()) for sample in samples)
