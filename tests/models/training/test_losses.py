"""The loss: nothing for a perfect answer, nothing for what the truth does not tell, a way down for the rest."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.datasets.cases import LIVER, TUMOUR
from models.training.losses import SMOOTH_PIXELS, segmentation_loss

KNOWN, MERGED = torch.tensor([False, False]), torch.tensor([True, True])


@pytest.fixture
def target() -> Tensor:
    """Two images of background, liver and tumour."""
    target = torch.zeros(2, 32, 32, dtype=torch.int64)
    target[:, 4:24, 6:28] = LIVER
    target[:, 8:14, 10:20] = TUMOUR
    return target


def sure_of(classes: Tensor) -> Tensor:
    """Logits that leave no doubt about `classes`."""
    return 40.0 * F.one_hot(classes, 3).permute(0, 3, 1, 2).float()


def test_perfect_answer_costs_nothing(target: Tensor) -> None:
    """Certain and right: zero."""
    assert float(segmentation_loss(sure_of(target), target, KNOWN)) == pytest.approx(0.0, abs=1e-5)


def test_each_mistake_costs(target: Tensor) -> None:
    """A missed tumour costs something, a missed liver more."""
    no_tumour = sure_of(target.clamp(max=LIVER))
    nothing = sure_of(torch.zeros_like(target))
    missed = float(segmentation_loss(no_tumour, target, KNOWN))
    assert missed > 0.4
    assert float(segmentation_loss(nothing, target, KNOWN)) > missed + 1


def test_where_tumours_were_not_drawn_apart_calling_liver_tumour_costs_nothing(target: Tensor) -> None:
    """Label 1 means liver or tumour there: either answer, and any division of the probability, is right."""
    merged_truth = target.clamp(max=LIVER)
    assert float(segmentation_loss(sure_of(target), merged_truth, MERGED)) == pytest.approx(0.0, abs=1e-5)
    assert float(segmentation_loss(sure_of(merged_truth), merged_truth, MERGED)) == pytest.approx(0.0, abs=1e-5)
    torn = sure_of(merged_truth)
    torn[:, TUMOUR] = torn[:, LIVER]
    assert float(segmentation_loss(torn, merged_truth, MERGED)) == pytest.approx(0.0, abs=1e-5)
    assert float(segmentation_loss(sure_of(target), merged_truth, KNOWN)) > 0.4


def test_inserted_lesion_counts_even_where_tumours_were_not_drawn_apart(target: Tensor) -> None:
    """Label 2 in such a sample was put there by us: calling it liver costs."""
    as_liver = sure_of(target.clamp(max=LIVER))
    assert (
        float(segmentation_loss(as_liver, target, MERGED))
        > float(segmentation_loss(sure_of(target), target, MERGED)) + 0.5
    )


def test_one_merged_sample_does_not_excuse_the_other(target: Tensor) -> None:
    """The exception is of each sample, not of the batch."""
    truth, answer = target.clamp(max=LIVER), sure_of(target)
    mixed = float(segmentation_loss(answer, truth, torch.tensor([True, False])))
    assert 0.1 < mixed < float(segmentation_loss(answer, truth, KNOWN))


@pytest.mark.parametrize("merged", [KNOWN, MERGED])
def test_empty_truth_has_a_finite_loss_and_gradient(merged: Tensor) -> None:
    """A slice without liver: no division by nothing, and a lower loss for finding nothing."""
    empty = torch.zeros(2, 32, 32, dtype=torch.int64)
    logits = torch.zeros(2, 3, 32, 32, requires_grad=True)
    loss = segmentation_loss(logits, empty, merged)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert bool(torch.isfinite(loss))
    assert bool(torch.isfinite(gradient).all())
    assert float(segmentation_loss(sure_of(empty), empty, merged)) < 0.01 < float(loss.detach())


def test_gradient_leads_to_the_truth(target: Tensor) -> None:
    """Following it from no opinion ends in the right class everywhere."""
    logits = torch.zeros(2, 3, 32, 32, requires_grad=True)
    optimiser = torch.optim.SGD([logits], lr=500.0)
    for _ in range(20):
        optimiser.zero_grad()
        segmentation_loss(logits, target, KNOWN).backward()
        optimiser.step()
    assert torch.equal(logits.argmax(dim=1), target)


def test_half_precision_logits_are_summed_in_full(target: Tensor) -> None:
    """As they come from autocast: the loss is that of the same values in float32."""
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 32, 32).bfloat16()
    loss = segmentation_loss(logits, target, KNOWN)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(segmentation_loss(logits.float(), target, KNOWN)))


def dice_by_hand(p: Tensor, truth: Tensor) -> Tensor:
    """Dice of the whole batch as one volume, smoothed."""
    return (2 * (p * truth).sum() + SMOOTH_PIXELS) / (p.sum() + truth.sum() + SMOOTH_PIXELS)


@pytest.mark.parametrize("merged", [KNOWN, MERGED, torch.tensor([True, False])])
def test_loss_is_that_of_the_formula(target: Tensor, merged: Tensor) -> None:
    """MONAI's Dice and PyTorch's cross-entropy against both written out."""
    torch.manual_seed(1)
    logits = torch.randn(2, 3, 32, 32)
    p = logits.softmax(dim=1)
    sums = p[:, LIVER] + p[:, TUMOUR]
    certain = torch.where(merged[:, None, None] & (target == LIVER), sums, p.gather(1, target[:, None])[:, 0])
    known = (~merged).float()[:, None, None]
    whole = dice_by_hand(sums, (target >= LIVER).float())
    tumour = dice_by_hand(p[:, TUMOUR] * known, (target == TUMOUR).float() * known)
    expected = -certain.log().mean() + 1 - (whole + tumour) / 2
    assert float(segmentation_loss(logits, target, merged)) == pytest.approx(float(expected), rel=1e-5)


def test_cross_entropy_of_known_tumours_is_pytorchs(target: Tensor) -> None:
    """Nothing marginal about samples whose tumours were drawn."""
    torch.manual_seed(2)
    logits = torch.randn(2, 3, 32, 32)
    p = logits.softmax(dim=1)
    dices = [
        dice_by_hand(p[:, LIVER:].sum(1), (target >= LIVER).float()),
        dice_by_hand(p[:, TUMOUR], (target == TUMOUR).float()),
    ]
    dice_loss = 1 - float(sum(dices)) / 2
    expected = float(F.cross_entropy(logits, target)) + dice_loss
    assert float(segmentation_loss(logits, target, KNOWN)) == pytest.approx(expected, rel=1e-5)
