"""What training minimises: cross-entropy plus MONAI's soft Dice, with livers whose tumours were not drawn apart."""

import torch
from monai.losses.dice import DiceLoss
from torch import Tensor
from torch.nn import functional as F

from models.datasets.cases import LIVER, TUMOUR

SMOOTH_PIXELS = 10.0
"""Added above and below the fraction: a batch without tumour has a Dice of one, and a gradient that is no cliff."""


def segmentation_loss(logits: Tensor, target: Tensor, merged: Tensor) -> Tensor:
    """Mean cross-entropy plus one minus the mean soft Dice of liver and tumour.

    `logits` (N, 3, row, column); `target` (N, row, column) int64; `merged` (N,) bool marks samples whose label 1
    means "liver or tumour": there the two probabilities count as one (marginal loss; Shi et al., Medical Image
    Analysis 2021). A label 2 in such a sample still means tumour.

    The Dice is MONAI's DiceLoss over the whole batch as one volume (Milletari et al., 3DV 2016), of "liver or tumour"
    and of "tumour". MONAI's DiceCELoss takes one class a pixel and so cannot say "either of two": the cross-entropy
    is taken here, which for samples that are not merged is PyTorch's.
    """
    log_p = F.log_softmax(logits.float(), dim=1)
    either = torch.logsumexp(log_p[:, LIVER:], dim=1)
    picked = log_p.gather(1, target[:, None])[:, 0]
    unknown = merged[:, None, None] & (target == LIVER)
    cross_entropy = -torch.where(unknown, either, picked).mean()

    p = log_p.exp()
    known = (~merged).float()[:, None, None]
    found = torch.stack([p[:, LIVER] + p[:, TUMOUR], p[:, TUMOUR] * known], dim=1)
    truth = torch.stack([(target >= LIVER).float(), (target == TUMOUR).float() * known], dim=1)
    dice: Tensor = DiceLoss(batch=True, smooth_nr=SMOOTH_PIXELS, smooth_dr=SMOOTH_PIXELS)(found, truth)
    return cross_entropy + dice
