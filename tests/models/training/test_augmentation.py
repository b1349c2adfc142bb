"""Augmentation keeps labels on their image, and adds to them only where it puts a lesion into a liver."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.transforms.spatial.array import Rand2DElastic
from torch import Tensor
from torch.nn import functional as F

from models.cards import Preprocessing
from models.preprocessing import AIR_HU
from models.training.augmentation import (
    BEND,
    Augmentation,
    crop_field_of_view,
    remap,
)
from models.training.prepared import PreparedCase
from models.training.recipe import Balance, Chances
from models.training.sampling import Sample, draw_patch

NOTHING = dict.fromkeys(vars(Chances()), 0.0)
SEEDS = range(8)


@pytest.fixture
def sample() -> tuple[Tensor, Tensor]:
    """Three planes of soft tissue with a square liver, and its label."""
    label = torch.zeros(64, 64, dtype=torch.uint8)
    label[10:50, 14:44] = 1
    image = torch.full((3, 64, 64), 40.0) + 60.0 * (label > 0)
    return image, label


@pytest.fixture
def patch(image_equal_to_label: PreparedCase, how: Preprocessing) -> Sample:
    """A patch of the L, for samples of 64 pixels."""
    return draw_patch([image_equal_to_label], how, np.random.default_rng(1), pixels=64, balance=Balance(fine=1.0))


def inner(mask: Tensor) -> Tensor:
    """A mask (row, column) less its outermost pixels."""
    return -F.max_pool2d(-mask.float()[None], 3, 1, 1)[0] > 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_label_stays_on_its_image_through_every_turn(patch: Sample, how: Preprocessing, seed: int) -> None:
    """Turned, scaled, sheared and bent, both are read at the same places."""
    augment = Augmentation(how, pixels=64, chances=Chances(**(NOTHING | {"shape": 1.0})))
    turned = augment(patch, np.random.default_rng(seed))
    assert turned.image.shape == (3, 64, 64)
    assert (turned.labels.shape, turned.labels.dtype) == ((64, 64), torch.uint8)
    bright = turned.image[1] > 0
    wrong = (inner(bright) & (turned.labels == 0)) | (inner(~bright) & (turned.labels > 0))
    assert int(wrong.sum()) <= 2
    assert int((turned.labels > 0).sum()) > 100


def test_samples_are_bent_as_monai_bends_them(how: Preprocessing) -> None:
    """Its Rand2DElastic, with the same draws, reads the same values: only the way to them is shorter."""
    pixels, image = 96, torch.from_numpy(np.random.default_rng(0).normal(0, 100, (3, 144, 144)).astype(np.float32))
    augment = Augmentation(how, pixels=pixels, chances=Chances(**(NOTHING | {"shape": 1.0})))
    ours = augment(Sample(image, torch.zeros(144, 144, dtype=torch.uint8), False, 1.5), np.random.default_rng(3)).image
    theirs = Rand2DElastic(
        spacing=(BEND, BEND), magnitude_range=(0, 3), spatial_size=(pixels, pixels), padding_mode="border"
    )
    theirs.rand_affine_grid, theirs.deform_grid = augment.turned, augment.bent
    augment.turned.randomize = augment.bent.randomize = lambda data=None: None  # what was drawn last
    theirs._do_transform = True
    expected = torch.as_tensor(theirs(image, randomize=False))
    assert float((ours - expected.clamp(augment.low, augment.high)).abs().max()) < 0.01  # HU


def test_samples_stay_upright(how: Preprocessing) -> None:
    """Values that grow with the row, and in the other case with the column, still do: no sample is turned over."""
    ramp = torch.arange(96.0)
    augment = Augmentation(how, pixels=64, chances=Chances(**(NOTHING | {"shape": 1.0})))
    for planes, axis in ((ramp[:, None].expand(3, 96, 96), 1), (ramp[None, :].expand(3, 96, 96), 2)):
        for seed in SEEDS:
            patch = Sample(planes.contiguous(), torch.ones(96, 96, dtype=torch.uint8), merged=False, spacing_mm=1.5)
            middle = augment(patch, np.random.default_rng(seed)).image[1]
            along, across = (float(torch.diff(middle, dim=dim).median()) for dim in (axis - 1, 2 - axis))
            assert 0.6 < along < 1.5
            assert abs(across) < 0.6


def test_with_no_chances_the_middle_of_the_patch_comes_back(patch: Sample, how: Preprocessing) -> None:
    """Each change can be switched off; values far outside the window are cut."""
    same = Augmentation(how, pixels=64, chances=Chances(**NOTHING))(patch, np.random.default_rng(0))
    low = how.window_hu[0] - 150
    torch.testing.assert_close(same.image, patch.image[:, 16:80, 16:80].clamp(min=low), atol=1e-2, rtol=0)
    assert torch.equal(same.labels, patch.labels[16:80, 16:80])


@pytest.mark.parametrize("name", [name for name in NOTHING if name not in ("shape", "phase", "effusion")])
def test_each_change_changes_values_and_only_a_lesion_the_label(patch: Sample, how: Preprocessing, name: str) -> None:
    """One at a time, with certainty; the liver stays where it was."""
    patch = replace(patch, image=patch.image + torch.linspace(0, 40, 96))
    plain = Augmentation(how, pixels=64, chances=Chances(**NOTHING))(patch, np.random.default_rng(5))
    changes = Augmentation(how, pixels=64, chances=Chances(**(NOTHING | {name: 1.0})))
    changed = [changes(patch, np.random.default_rng(seed)) for seed in range(4)]
    assert any(not torch.equal(one.image, plain.image) for one in changed)
    for one in changed:
        assert bool(torch.isfinite(one.image).all())
        seen = (one.image[1] != AIR_HU) if name == "field_of_view" else torch.ones_like(plain.labels, dtype=torch.bool)
        assert torch.equal(one.labels > 0, (plain.labels > 0) & seen)
        assert name == "lesion" or torch.equal(one.labels, plain.labels * seen)
    assert name != "lesion" or all(bool((one.labels == 2).any()) for one in changed)


def test_sample_depends_on_its_generator_alone(patch: Sample, how: Preprocessing) -> None:
    """Not on what was drawn before it, nor by whom; and the patch stays as it was."""
    before = patch.image.clone(), patch.labels.clone()
    augment, another = (Augmentation(how, pixels=64, chances=Chances()) for _ in range(2))
    one = augment(patch, np.random.default_rng(3))
    another(patch, np.random.default_rng(9))
    same, other = another(patch, np.random.default_rng(3)), augment(patch, np.random.default_rng(4))
    assert torch.equal(one.image, same.image)
    assert torch.equal(one.labels, same.labels)
    assert not torch.equal(one.image, other.image)
    assert torch.equal(patch.image, before[0])
    assert torch.equal(patch.labels, before[1])
    assert type(one.image) is Tensor


def test_none_is_put_where_tumours_were_not_drawn(patch: Sample, how: Preprocessing) -> None:
    """Nothing would say that what lies about it is none: the loss forbids no tumour in such a liver."""
    augment = Augmentation(how, pixels=64, chances=Chances(**(NOTHING | {"lesion": 1.0})))
    known, unknown = (augment(replace(patch, merged=merged), np.random.default_rng(0)) for merged in (False, True))
    assert int(known.labels.max()) == 2
    assert torch.equal(unknown.labels, patch.labels[16:80, 16:80])


def test_a_ct_looks_like_mr() -> None:
    """Air is dark; soft tissue keeps its order or is turned, both happen; fat may be the brightest; all is drawn."""
    tissues = torch.tensor([-1000.0, -300, -100, -90, 0, 60, 120, 220, 400]).expand(3, 2, -1)
    turned, fat_first = [], []
    for seed in range(30):
        values = remap(tissues, (-150.0, 250.0), np.random.default_rng(seed))
        assert values.dtype == torch.float32
        assert bool((values[..., :2] == -150).all())
        soft = values[1, 1, 4:8]
        steps = soft.diff()
        assert bool((steps > 0).all()) or bool((steps < 0).all())
        assert 0.6 < abs(float(soft[2] - soft[1])) / 60 < 2.2
        turned.append(bool(steps[0] < 0))
        fat_first.append(bool(values[1, 1, 2] > soft.max()))
    assert 5 < sum(turned) < 25
    assert 0 < sum(fat_first) < 30


def test_field_of_view_is_round(sample: tuple[Tensor, Tensor]) -> None:
    """Corners are air, the middle stays."""
    everywhere = torch.full_like(sample[1], 2)
    cropped, labels = crop_field_of_view(sample[0], everywhere, np.random.default_rng(0))
    assert bool((cropped[:, [0, 0, -1, -1], [0, -1, 0, -1]] == AIR_HU).all())
    assert torch.equal(cropped[:, 24:40, 24:40], sample[0][:, 24:40, 24:40])
    assert not labels[[0, 0, -1, -1], [0, -1, 0, -1]].any() and bool((labels[24:40, 24:40] == 2).all())


def test_gain_moves_the_liver_and_leaves_the_lower_end(patch: Sample, how: Preprocessing) -> None:
    """An MR's brightest fluid decides where its liver lies: from half to twice as high in the window."""
    dark, bright = how.window_hu[0], how.window_hu[0] + 0.25 * (how.window_hu[1] - how.window_hu[0])
    flat = replace(patch, image=torch.where(patch.labels > 0, bright, dark).expand(3, -1, -1).float())
    augment = Augmentation(how, pixels=64, chances=Chances(**(NOTHING | {"gain": 1.0})))
    samples = [augment(flat, np.random.default_rng(seed)) for seed in range(40)]
    heights = np.array([float(sample.image[0][sample.labels > 0].mean()) - dark for sample in samples]) / (
        bright - dark
    )
    assert all(float(sample.image[0][sample.labels == 0].std()) < 1e-3 for sample in samples)
    assert 0.5 <= heights.min() < 0.65
    assert 1.55 < heights.max() <= 2.0
