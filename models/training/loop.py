"""Training of one network on prepared cases: mixed precision, averaged weights, checkpoints that go on exactly.

What is drawn and what falls out (dropout) at a step depends on the seed, the step and the process alone, so a run that
was stopped anywhere goes on from its checkpoint as if it had not been: no state of a generator needs keeping.
"""

import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from models.architectures.backbones import BackboneWeights
from models.architectures.registry import ENCODERS, build
from models.cards import Card, Preprocessing
from models.errors import UnknownModel
from models.inference import computes_bfloat16
from models.preprocessing import normalise
from models.training.augmentation import Augmentation
from models.training.losses import segmentation_loss
from models.training.prepared import PreparedCase
from models.training.ranks import Rank
from models.training.recipe import Recipe, Schedule
from models.training.runs import BEST, LAST, Quality, RunFolder
from models.training.sampling import Batch, Sample, collate, draw_patch, validation_samples
from models.weights import load_network

GRADIENT_NORM = 1.0
SYNC_STEPS = 10
"""On a GPU the losses of so many steps are read at once: reading one waits for all that was asked for before."""


@dataclass(frozen=True)
class Watch:
    """Callbacks: `step(step, loss, seconds_left)` and `epoch(quality)`; `stop()` is True to end after this step."""

    step: Callable[[int, float, float], None] = lambda step, loss, seconds_left: None
    epoch: Callable[[Quality], None] = lambda quality: None
    stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class Trained:
    """The outcome of a run; `best` is None where nothing was validated."""

    step: int
    best: Quality | None
    stopped: bool


def train(
    training: Sequence[PreparedCase],
    validation: Sequence[PreparedCase],
    how: Preprocessing,
    recipe: Recipe,
    *,
    network: nn.Module,
    folder: RunFolder,
    rank: Rank,
    watch: Watch = Watch(),  # noqa: B008
    workers: int = 1,
) -> Trained:
    """Train `network`, or on from the folder's checkpoint, and leave best and last weights in the folder.

    The best are those of the highest validation Dice. Raises ValueError where `recipe.batch` is no multiple of the
    processes.
    """
    if recipe.batch % rank.world:
        raise ValueError(f"batch {recipe.batch} cannot be shared by {rank.world} processes")
    learner = _Learner(network, recipe, rank)
    first, best = 0, None
    if (state := folder.read_checkpoint()) is not None:
        learner.load(state)
        first, best = state["step"], Quality(**state["best"]) if state["best"] else None
    watched: Sequence[Sample] = ()
    if rank.first:
        folder.cut_logs(first)
        watched = validation_samples(validation, how, pixels=recipe.pixels, per_case=recipe.validation_slices)
    losses = _Losses(folder, rank, watch, first=first, steps=recipe.steps)
    step, stopped = first, False
    for step, batch in enumerate(batches(training, how, recipe, first, rank=rank, workers=workers), start=first + 1):
        losses.waiting.append((step, *learner.learn(batch, how, step)))
        validates = step % recipe.epoch == 0 or step == recipe.steps
        keeps = validates or step % recipe.checkpoint == 0
        if keeps or rank.device.type == "cpu" or len(losses.waiting) == SYNC_STEPS:
            losses.tell()
            stopped = rank.any(watch.stop()) and step < recipe.steps
        if validates and watched:
            quality = validate(
                learner.average, watched, how, recipe, step=step, device=rank.device, dtype=learner.dtype
            )
            folder.log_dice(quality)
            if best is None or quality.score >= best.score:
                best = quality
                folder.save_weights(learner.average, BEST, best)
            watch.epoch(quality)
        if rank.first and (keeps or stopped):
            folder.write_checkpoint({**learner.state(), "step": step, "best": vars(best) if best else None})
        if stopped:
            break
    if rank.first:
        folder.save_weights(learner.average, LAST, None)
        if not watched:
            folder.save_weights(learner.average, BEST, None)
    rank.wait()
    return Trained(step, best, stopped)


class _Learner:
    """A network that learns from this process's part of each batch, and the moving average of its weights."""

    def __init__(self, network: nn.Module, recipe: Recipe, rank: Rank) -> None:
        network.to(rank.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.recipe, self.rank, self.dtype = recipe, rank, autocast_dtype(rank.device)
        self.frozen = frozen_modules(network, recipe)
        self.average = deepcopy(network).eval()
        self.spread = rank.spread(network)
        self.network = self.spread.module if isinstance(self.spread, DistributedDataParallel) else self.spread
        self.optimiser = make_optimiser(self.spread, recipe)
        self.scaler = torch.amp.GradScaler(rank.device.type, enabled=self.dtype is torch.float16)

    def state(self) -> dict[str, Any]:
        """Return the state that `load` goes on from."""
        parts = {"network": self.network, "average": self.average, "optimiser": self.optimiser, "scaler": self.scaler}
        return {name: part.state_dict() for name, part in parts.items()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from where `state` was asked for."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])

    def learn(self, batch: Batch, how: Preprocessing, step: int) -> tuple[Tensor, float]:
        """Take one step; its loss, which a GPU may still be computing, and its learning rate."""
        recipe, rank = self.recipe, self.rank
        rate = recipe.learning_rate * fraction(step - 1, recipe)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        torch.manual_seed(int(np.random.SeedSequence((recipe.seed, step, rank.number)).generate_state(1)[0]))
        self.spread.train()
        for module in self.frozen:
            module.eval()  # batch norm neither follows nor uses the batch
        loss = batch_loss(self.spread, batch, how, dtype=self.dtype, rank=rank)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss * rank.world).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimiser)
        nn.utils.clip_grad_norm_(self.spread.parameters(), GRADIENT_NORM)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        _follow(self.average, self.network, min(recipe.average, step / (9 + step)))
        return loss.detach(), rate


class _Losses:
    """Losses (step, loss, learning rate) that wait until they are read: logged, and told with the seconds left."""

    def __init__(self, folder: RunFolder, rank: Rank, watch: Watch, *, first: int, steps: int) -> None:
        self.folder, self.rank, self.watch, self.first, self.steps = folder, rank, watch, first, steps
        self.started = time.monotonic()
        self.waiting: list[tuple[int, Tensor, float]] = []

    def tell(self) -> None:
        """Read all losses that wait; the last one is of the step that has just been taken."""
        step_s = (time.monotonic() - self.started) / (self.waiting[-1][0] - self.first)
        for number, value, rate in self.waiting:
            if self.rank.first:
                self.folder.log_loss(number, float(value), rate)
            self.watch.step(number, float(value), step_s * (self.steps - number))
        self.waiting.clear()


def make_network(recipe: Recipe, backbone_weights: str, initial: Card | None) -> nn.Module:
    """The network to begin with: that of a card, or one drawn from the seed on its backbone's weights.

    `backbone_weights`: "none", "imagenet", or the path of a torchvision state dict. Raises what
    `registry.build` and `weights.load_network` raise, and UnknownModel for a card of another architecture.
    """
    torch.manual_seed(recipe.seed)
    if initial is not None:
        if initial.architecture != recipe.architecture:
            raise UnknownModel(f"{initial.weights.name} is a {initial.architecture}, not a {recipe.architecture}")
        return load_network(initial)
    weights = backbone_weights if backbone_weights in ("none", "imagenet") else Path(backbone_weights)
    return build(recipe.architecture, cast(BackboneWeights, weights))


def make_optimiser(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW of what learns, in one pass: by default PyTorch makes ten, a ninth of a step on the CPU."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(learning, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)


def frozen_modules(network: nn.Module, recipe: Recipe) -> list[nn.Module]:
    """The modules that do not learn: the encoder's where the recipe says so, from now on without gradients."""
    names = ENCODERS[recipe.architecture] if recipe.freeze_encoder else ()
    return [network.get_submodule(name).requires_grad_(False) for name in names]


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """Return the type of the forward pass: bfloat16 where it is fast, else float16 on CUDA and float32 on the CPU."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if computes_bfloat16(device) else None


def batch_loss(
    network: nn.Module, batch: Batch, how: Preprocessing, *, dtype: torch.dtype | None, rank: Rank
) -> Tensor:
    """Return the loss of the whole batch; this process computes its part."""
    device = rank.device
    image = batch.image.to(device, non_blocking=True)
    image = normalise(image, how.window_hu).contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
        logits = network(image)
    target, merged = batch.labels.to(device, non_blocking=True), batch.merged.to(device, non_blocking=True)
    return segmentation_loss(rank.gather(logits.float()), rank.gather(target), rank.gather(merged))


@torch.no_grad()
def validate(
    network: nn.Module,
    samples: Sequence[Sample],
    how: Preprocessing,
    recipe: Recipe,
    *,
    step: int,
    device: torch.device,
    dtype: torch.dtype | None,
) -> Quality:
    """Dice over all the samples together; that of tumours over those whose tumours were drawn."""
    counts = torch.zeros(2, 2, dtype=torch.float64)  # (liver, tumour), (common, both)
    for start in range(0, len(samples), recipe.batch):
        batch = collate(samples[start : start + recipe.batch])
        image = normalise(batch.image.to(device), how.window_hu).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            logits = network(image)
        p = logits.float().softmax(dim=1).cpu()
        liver = p[:, 1] + p[:, 2] > 0.5  # as inference decides
        tumour = liver & (p[:, 2] > p[:, 1])
        known = ~batch.merged
        for row, (found, truth) in enumerate(((liver, batch.labels > 0), (tumour[known], batch.labels[known] > 1))):
            counts[row] += torch.tensor([2.0 * (found & truth).sum(), float(found.sum() + truth.sum())])
    known_tumours = any(bool((sample.labels > 1).any()) for sample in samples if not sample.merged)
    (liver_common, liver_both), (tumour_common, tumour_both) = counts.tolist()
    return Quality(
        step=step,
        liver_dice=liver_common / max(1.0, liver_both),
        tumour_dice=tumour_common / max(1.0, tumour_both) if known_tumours else None,
        slices=len(samples),
    )


def batches(
    cases: Sequence[PreparedCase], how: Preprocessing, recipe: Recipe, first: int, *, rank: Rank, workers: int
) -> DataLoader[Batch]:
    """Yield this process's parts of the batches from step `first` on, made by `workers` worker processes.

    In a thread beside the network's, the samples' small operations wait for its cores.
    """
    steps = _Steps(cases, how, recipe, first, rank.number, rank.world)
    return DataLoader(
        steps,
        batch_size=None,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,  # the cases are mapped, and would be copied by spawn
        prefetch_factor=4 if workers else None,
        worker_init_fn=_serve,
        pin_memory=rank.device.type == "cuda",
    )


def _serve(worker: int) -> None:
    """Use one core, and ignore Ctrl-C and SIGTERM: both reach the whole group, and the loop still needs batches.

    The worker ends with the loop that asks it, or with its parent (PyTorch's watchdog).
    """
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


class _Steps(Dataset[Batch]):
    """Parts of the batches of a run, from step `first` on; each sample depends on seed, step and its place alone."""

    def __init__(
        self, cases: Sequence[PreparedCase], how: Preprocessing, recipe: Recipe, first: int, number: int, world: int
    ) -> None:
        self.cases, self.how, self.recipe, self.first = cases, how, recipe, first
        share = recipe.batch // world
        self.places = range(number * share, (number + 1) * share)
        self.augment = Augmentation(how, pixels=recipe.pixels, chances=recipe.chances)

    def __len__(self) -> int:
        return self.recipe.steps - self.first

    def __getitem__(self, index: int) -> Batch:
        recipe, samples = self.recipe, []
        for place in self.places:
            draw = np.random.default_rng((recipe.seed, self.first + index, place))
            patch = draw_patch(self.cases, self.how, draw, pixels=recipe.pixels, balance=recipe.balance)
            samples.append(self.augment(patch, draw))
        return collate(samples)


def fraction(step: int, recipe: Recipe) -> float:
    """The part of the peak learning rate at a step counted from 0: a linear rise, then the schedule's fall to zero."""
    warm_up = max(1, round(recipe.steps * recipe.warm_up))
    if step < warm_up:
        return (step + 1) / warm_up
    return FALLS[recipe.schedule]((step - warm_up) / max(1, recipe.steps - warm_up))


FALLS: dict[Schedule, Callable[[float], float]] = {
    "cosine": lambda part: 0.5 * (1 + math.cos(math.pi * part)),
    "poly": lambda part: (1 - part) ** 0.9,  # Chen et al., arXiv:1706.05587, §4.1
}


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, keep: float) -> None:
    """Exponential moving average of parameters and batch-norm statistics."""
    for mean, now in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(now, 1 - keep)
        else:
            mean.copy_(now)
