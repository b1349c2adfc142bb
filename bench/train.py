"""Whether the data pipeline starves training: the command's own loop against the bare one on tensors that are ready.

Both do the same steps (forward, loss, backward, clipped AdamW) on batches of the same shape. Ours also draws, turns and
changes its samples out of mapped arrays in worker processes, averages the weights and notes the losses.

On a CPU the workers share the network's cores, and a machine that does something else makes the clock's figures
useless: there the second ratio says the same of processor time, that of the workers counted in.

    .venv/bin/python bench/train.py [--model resnet50] [--batch 12] [--pixels 128] [--steps 6] [--runs 3]
        [--device auto] [--threads N] [--workers 1]
"""

import argparse
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from stopwatch import in_turn, print_ratio, print_table, spread
from torch import nn

from models.architectures.names import ARCHITECTURE_NAMES
from models.datasets.phantoms import phantom_sources
from models.training.loop import (
    GRADIENT_NORM,
    Watch,
    autocast_dtype,
    batch_loss,
    batches,
    make_network,
    make_optimiser,
    train,
)
from models.training.prepared import Prepared, prepare
from models.training.ranks import Rank, join_ranks
from models.training.recipe import DEFAULT_PREPROCESSING, Recipe
from models.training.runs import RunFolder
from models.training.sampling import Batch

WARM_UP = 2
"""Steps that are not counted: the first ones choose kernels, and wait for the first worker."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="resnet50", choices=ARCHITECTURE_NAMES)
    options.add_argument("--batch", type=int, default=12)
    options.add_argument("--pixels", type=int, default=128)
    options.add_argument("--steps", type=int, default=6, help="counted, a run")
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--phantoms", type=int, default=2)
    options.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    options.add_argument("--threads", type=int, help="CPU threads of the network; else as many as there are cores")
    options.add_argument("--workers", type=int, default=1)
    chosen = options.parse_args()
    steps = chosen.steps + WARM_UP
    recipe = Recipe(
        chosen.model, steps=steps, batch=chosen.batch, pixels=chosen.pixels, epoch=steps + 1, checkpoint=steps + 1
    )
    with TemporaryDirectory(prefix="porta-bench-") as scratch, join_ranks(chosen.device, chosen.threads) as rank:
        prepared = prepare(phantom_sources(chosen.phantoms), DEFAULT_PREPROCESSING, Path(scratch) / "cache")
        batch = next(iter(batches(prepared.cases, DEFAULT_PREPROCESSING, recipe, 0, rank=rank, workers=0)))
        network = make_network(recipe, "none", None)

        def whole(run: int) -> Cost:
            return ours(prepared, recipe, network, RunFolder(Path(scratch) / str(run), {}), rank, chosen.workers)

        alone, full = "bare loop", "porta train"
        costs: dict[str, list[Cost]] = {alone: [], full: []}

        def noted(name: str, cost: Cost) -> float:
            costs[name].append(cost)
            return cost.wall_s

        figures = in_turn(
            chosen.runs,
            {
                alone: lambda run: noted(alone, bare(batch, recipe, network, rank)),
                full: lambda run: noted(full, whole(run)),
            },
        )
        sample_ms = cost_of_a_sample(prepared, recipe, rank)
        threads = torch.get_num_threads()
    what = f"{recipe.architecture}, {recipe.batch} samples of {recipe.pixels}x{recipe.pixels}"
    title = f"{what}, {rank.device}, {threads} threads, {chosen.workers} workers, {chosen.runs} runs of {chosen.steps}"
    made_s = recipe.batch * sample_ms / 1000
    cpu = {alone: [cost.cpu_s for cost in costs[alone]], full: [cost.cpu_s + made_s for cost in costs[full]]}
    rows = [(label, spread(values, 3), spread(cpu[label], 3)) for label, values in figures.items()]
    print_table(title, ("", "s a step", "CPU-s a step"), rows)
    print(f"a sample takes {sample_ms:.1f} ms of one core, a batch {made_s:.3f} s")
    print_ratio("step rate of porta train to the bare loop's: larger is better, 1 is the most", *figures.values())
    print_ratio("the same by processor time", *cpu.values())


@dataclass(frozen=True)
class Cost:
    """Of a step: seconds by the clock, and of this process's cores."""

    wall_s: float
    cpu_s: float


def bare(batch: Batch, recipe: Recipe, network: nn.Module, rank: Rank) -> Cost:
    """A step where nothing has to be waited for."""
    network.to(rank.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.train()
    optimiser = make_optimiser(network, recipe)
    ready = Batch(*(tensor.to(rank.device) for tensor in (batch.image, batch.labels, batch.merged)))
    ends = [Cost(time.monotonic(), time.process_time())]
    for _ in range(recipe.steps):
        loss = batch_loss(network, ready, DEFAULT_PREPROCESSING, dtype=autocast_dtype(rank.device), rank=rank)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM)
        optimiser.step()
        finish(rank)
        ends.append(Cost(time.monotonic(), time.process_time()))
    return counted(ends)


def ours(prepared: Prepared, recipe: Recipe, network: nn.Module, folder: RunFolder, rank: Rank, workers: int) -> Cost:
    """A step of a training as the command does it."""
    folder.path.mkdir()
    ends = [Cost(time.monotonic(), time.process_time())]

    def note(step: int, loss: float, seconds_left: float) -> None:
        ends.append(Cost(time.monotonic(), time.process_time()))

    folder = RunFolder(folder.path, {"architecture": recipe.architecture})
    watch = Watch(step=note)
    cases, how = prepared.cases, DEFAULT_PREPROCESSING
    train(cases, [], how, recipe, network=network, folder=folder, rank=rank, watch=watch, workers=workers)
    return counted(ends)


def counted(ends: list[Cost]) -> Cost:
    """What a step takes, the median of those after the warm-up."""
    steps = list(pairwise(ends))[WARM_UP:]
    return Cost(
        median(after.wall_s - before.wall_s for before, after in steps),
        median(after.cpu_s - before.cpu_s for before, after in steps),
    )


def finish(rank: Rank) -> None:
    """Wait for the GPU, where there is one."""
    if rank.device.type == "cuda":
        torch.cuda.synchronize()


def cost_of_a_sample(prepared: Prepared, recipe: Recipe, rank: Rank) -> float:
    """Milliseconds of one core for a sample, from mapped arrays to a tensor; the median of some batches."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    steps = batches(prepared.cases, DEFAULT_PREPROCESSING, recipe, 0, rank=rank, workers=0).dataset
    costs = []
    for index in range(min(4, recipe.steps)):
        started = time.process_time()
        steps[index]
        costs.append(time.process_time() - started)
    torch.set_num_threads(threads)
    return float(np.float64(median(costs)) * 1000 / recipe.batch)


if __name__ == "__main__":
    main()
