"""Not a test: what each process of `torchrun` runs in test_ranks. Trains a network without batch norm in a folder."""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from models.training import loop as training
from models.training.prepared import PreparedCase, PreparedStack
from models.training.ranks import join_ranks
from models.training.recipe import DEFAULT_PREPROCESSING, Recipe
from models.training.runs import RunFolder

RECIPE = Recipe("plain", steps=4, batch=4, pixels=32, epoch=2, checkpoint=1, validation_slices=4, learning_rate=1e-2)


def made_case() -> PreparedCase:
    """Noise with a brighter liver and, in some slices, a darker tumour."""
    draw = np.random.default_rng(0)
    labels = np.zeros((20, 80, 80), np.uint8)
    labels[4:16, 20:60, 24:56] = 1
    labels[8:10, 30:40, 30:40] = 2
    image = (40 + 60 * (labels == 1) + draw.normal(0, 10, labels.shape)).astype(np.int16)
    slices = np.arange(4, 16), np.arange(8, 10)
    fine, coarse = (PreparedStack(image, labels, spacing, *slices) for spacing in (1.5, 3.0))
    return PreparedCase("made", "made", "made", True, 2.0, fine, coarse)


def main(path: Path) -> None:
    """Train, or go on."""
    torch.manual_seed(0)
    training.autocast_dtype = lambda _device: None  # bfloat16 would round the gradient of each process's part by itself
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))
    path.mkdir(exist_ok=True)
    case, folder = made_case(), RunFolder(path, {"architecture": "plain"})
    with join_ranks("cpu") as rank:
        told = rank.told([f"from {rank.number}"])
        (path / f"told-{rank.number}").write_text(f"{told} {torch.get_num_threads()}")
        training.train([case], [case], DEFAULT_PREPROCESSING, RECIPE, network=network, folder=folder, rank=rank)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
