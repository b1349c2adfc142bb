"""Training of one network on prepared cases: bf16 or fp16 autocast, one-cycle schedule, averaged weights."""

import math
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from models.augmentation import augment
from models.cards import Preprocessing
from models.dataset import Batch, Case, draw_batch
from models.losses import segmentation_loss
from models.preprocessing import normalise
from models.weights import ARCHITECTURES


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the same for every fold and for the weights that ship."""

    architecture: str = "resnet50"
    steps: int = 1000
    batch: int = 12
    pixels: int = 128
    learning_rate: float = 6e-4
    weight_decay: float = 1e-2
    average: float = 0.99
    real_share: float = 0.6
    seed: int = 0
    checkpoint_steps: int = 100


def train(
    cases: Sequence[Case],
    phantoms: Sequence[Case],
    how: Preprocessing,
    recipe: Recipe,
    *,
    checkpoint: Path,
    report: Callable[[int, float, float], None],
    initial: nn.Module | None = None,
    workers: int = 1,
) -> nn.Module:
    """Train from scratch, or from `initial`, or on from `checkpoint` where it exists; returns the averaged network.

    `report(step, loss, seconds_left)` is called after each step. The order of samples depends on the seed and
    the step alone, so that a run that was stopped goes on as if it had not been.
    """
    torch.manual_seed(recipe.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network: nn.Module = ARCHITECTURES[recipe.architecture]()
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if initial is not None:
        network.load_state_dict(initial.state_dict())
    average = deepcopy(network).eval()
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        first = state["step"]

    # A process of its own: in a thread beside the network's, the samples' small operations wait for its cores.
    batches = DataLoader(_Steps(cases, phantoms, how, recipe, first), batch_size=None, num_workers=workers)
    started = time.monotonic()
    for step, batch in enumerate(batches, start=first):
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * schedule(step, recipe.steps)
        network.train()
        image = normalise(batch.image, how.window_hu).to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            logits = network(image)
        loss = segmentation_loss(logits, batch.labels.to(device), batch.merged.to(device))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        _follow(average, network, min(recipe.average, (1 + step) / (10 + step)))
        step_s = (time.monotonic() - started) / (step + 1 - first)
        report(step + 1, float(loss.detach()), step_s * (recipe.steps - step - 1))
        if (step + 1) % recipe.checkpoint_steps == 0 or step + 1 == recipe.steps:
            state = {
                "network": network.state_dict(),
                "average": average.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": step + 1,
            }
            part = checkpoint.with_suffix(".part")
            torch.save(state, part)
            part.replace(checkpoint)
    return average


@dataclass(frozen=True)
class _Steps(Dataset[Batch]):
    """The batches of a run, from step `first` on; each depends on the seed and its step alone."""

    cases: Sequence[Case]
    phantoms: Sequence[Case]
    how: Preprocessing
    recipe: Recipe
    first: int

    def __len__(self) -> int:
        return self.recipe.steps - self.first

    def __getitem__(self, index: int) -> Batch:
        draw = np.random.default_rng((self.recipe.seed, self.first + index))
        size, pixels, share = self.recipe.batch, self.recipe.pixels, self.recipe.real_share
        drawn = draw_batch(self.cases, self.phantoms, self.how, draw, size=size, pixels=pixels, real_share=share)
        return augment(drawn, draw)


def schedule(step: int, steps: int) -> float:
    """Fraction of the peak learning rate: linear warm-up over a twentieth, then a cosine to zero."""
    warm_up = max(1, steps // 20)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, keep: float) -> None:
    """Exponential moving average of parameters and batch-norm statistics."""
    for mean, now in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(now, 1 - keep)
        else:
            mean.copy_(now)
