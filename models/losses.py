"""What training minimises: cross-entropy plus soft Dice, with livers whose tumours were not drawn apart."""

import torch
from torch import Tensor
from torch.nn import functional as F

LIVER, TUMOUR = 1, 2


def segmentation_loss(logits: Tensor, target: Tensor, merged: Tensor) -> Tensor:
    """Mean cross-entropy plus one minus the mean soft Dice of liver and tumour.

    `logits` (N, 3, row, column); `target` (N, row, column) int64; `merged` (N,) bool marks samples whose label 1
    means "liver or tumour": there the two probabilities count as one (marginal loss; Shi et al., Medical Image
    Analysis 2021). A label 2 in such a sample (an inserted lesion) still means tumour.
    """
    log_p = F.log_softmax(logits.float(), dim=1)
    either = torch.logsumexp(log_p[:, LIVER:], dim=1)
    picked = log_p.gather(1, target[:, None])[:, 0]
    unknown = merged[:, None, None] & (target == LIVER)
    cross_entropy = -torch.where(unknown, either, picked).mean()

    p = log_p.exp()
    known = (~merged).float()[:, None, None]
    whole = soft_dice(p[:, LIVER] + p[:, TUMOUR], (target >= LIVER).float())
    tumour = soft_dice(p[:, TUMOUR] * known, (target == TUMOUR).float() * known)
    return cross_entropy + 1 - (whole + tumour) / 2


def soft_dice(p: Tensor, truth: Tensor) -> Tensor:
    """Dice of the whole batch as one volume; 1 when both are empty (Milletari et al., 3DV 2016)."""
    smooth = 10.0
    return (2 * (p * truth).sum() + smooth) / (p.sum() + truth.sum() + smooth)
