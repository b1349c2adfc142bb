"""How long a volume takes against the naive way, at what loss, and what all around the network costs.

Naive: every slice with its two neighbours at its own size, one after another, in eager float32, the class of the
highest logit. It is timed on some of the slices, evenly spread, in the same run, and counted for all of them; the Dice
of the liver is compared on those. Beside it the network alone: the same number of forward passes on batches of the
shapes that `models.inference.segment` makes, with numbers drawn beforehand.

    .venv/bin/python bench/segment.py [--slices 300] [--rows 512] [--runs 3] [--device auto] [--threads N]
        [--extent 450 384] [--naive 20] [--compile]

CPU seconds are those of all threads: other processes disturb them less than the clock.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from stopwatch import MIB, in_turn, peak_rss_mib, print_ratio, print_table, spread
from studies import enlarged_phantom
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models.architectures.registry import ARCHITECTURES
from models.cards import find
from models.forward import Model, computes_bfloat16, load_model
from models.inference import segment
from models.phantom import DEMO_SEED, Phantom
from models.preprocessing import channels, shrunk_stack, to_canonical
from models.weights import load_network

NAIVE, BARE, WHOLE = "naive, all slices", "network alone", "Porta, whole"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--slices", type=int, default=300)
    options.add_argument("--rows", type=int, default=512, help="and columns; an even number")
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--extent", type=float, nargs=2, default=(450.0, 384.0), help="along and across, mm")
    options.add_argument("--naive", type=int, default=20, help="how many slices the naive way is timed on")
    options.add_argument("--model", default="resnet50")
    options.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    options.add_argument("--threads", type=int, help="CPU threads; else as many as there are cores")
    options.add_argument(
        "--compile", action="store_true", help="the network by torch.compile, which takes minutes first"
    )
    chosen = options.parse_args()
    phantom = enlarged_phantom(slices=chosen.slices, rows=chosen.rows, extent_mm=tuple(chosen.extent), seed=DEMO_SEED)
    # A separate process: drawing the phantom needs more memory than segmenting it.
    process = multiprocessing.get_context("spawn").Process(target=measure, args=(phantom, chosen))
    process.start()
    process.join()
    raise SystemExit(process.exitcode)


def measure(phantom: Phantom, chosen: argparse.Namespace) -> None:
    """Print seconds, memory, operations, Dice, and the ratios."""
    volume, truth, runs = phantom.volume, phantom.truth > 0, chosen.runs
    before = peak_rss_mib()
    model = load_model(find(chosen.model), device=chosen.device, threads=chosen.threads, compiled=chosen.compile)
    shapes, labels = warmed(model, phantom)
    after = peak_rss_mib()
    slices, rows, columns = volume.geometry.shape
    count = min(chosen.naive, slices)
    some = ((np.arange(count) + 0.5) * slices / count).astype(int)  # one has the liver, too
    naive = Naive(model, phantom, some)
    worked: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[], object], times: float = 1.0) -> Callable[[int], float]:
        def once(_: int) -> float:
            started, cpu = time.monotonic(), time.process_time()
            work()
            worked.setdefault(name, []).append(times * (time.process_time() - cpu))
            return times * (time.monotonic() - started)

        return once

    figures = in_turn(
        runs,
        {
            NAIVE: timed(NAIVE, naive.run, slices / len(some)),
            BARE: timed(BARE, lambda: forward(model, shapes)),
            WHOLE: timed(WHOLE, lambda: segment(model, volume)),
        },
    )
    operations = {NAIVE: slices * flops(model, (1, 3, rows, columns)), WHOLE: sum(flops(model, s) for s in shapes)}
    operations[BARE] = operations[WHOLE]
    table = [
        (
            *(label, spread(values, 2), f"{median(values) / slices:.4f}", spread(worked[label], 2)),
            *(f"{operations[label] / 1e12:.2f}", f"{operations[label] / 1e9 / median(worked[label]):.1f}"),
        )
        for label, values in figures.items()
    ]
    where = f"{model.device.type}, {torch.get_num_threads()} threads"
    title = f"{slices} slices of {rows}x{columns}, {model.card.name} {model.card.version}, {where}, {runs} runs"
    print_table(title, ("", "s", "s a slice", "CPU s", "TFLOP", "GFLOP a CPU s"), table)
    pixels = sum(shape[0] * shape[2] * shape[3] for shape in shapes)
    print(f"{len(shapes)} forward passes over {pixels / 1e6:.2f} megapixels; naive: timed on {len(some)} slices")
    print(f"peak memory: {after:.0f} MiB, of it {before:.0f} MiB before the model was loaded")
    if model.device.type == "cuda":
        print(f"peak memory of the GPU: {torch.cuda.max_memory_allocated() / MIB:.0f} MiB")
    print(
        f"liver Dice: whole volume {dice(labels, truth):.4f}; on the naive way's slices "
        f"{dice(labels[some], truth[some]):.4f}, naive {dice(naive.found, truth[some]):.4f}"
    )
    print_ratio(f"{NAIVE} to {WHOLE}, seconds: larger is better", figures[NAIVE], figures[WHOLE])
    print_ratio(f"{NAIVE} to {WHOLE}, CPU seconds: larger is better", worked[NAIVE], worked[WHOLE])
    print_ratio(f"{WHOLE} to {BARE}, CPU seconds: smaller is better, 1 is the least", worked[WHOLE], worked[BARE])


class Naive:
    """The naive way on `some` slices of a phantom: the network as it was trained, each slice as it is."""

    def __init__(self, model: Model, phantom: Phantom, some: NDArray[np.int64]) -> None:
        self.network: nn.Module = load_network(model.card).to(model.device)
        self.canonical, self.how = to_canonical(phantom.volume), model.card.preprocessing
        self.device, self.centres_mm = model.device, to_canonical(phantom.volume).positions_mm[some]
        self.found = np.zeros((len(some), *phantom.volume.geometry.shape[1:]), bool)
        with torch.inference_mode():  # nothing shall be cold
            self.network(torch.zeros(1, 3, *self.found.shape[1:], device=self.device))

    def run(self) -> None:
        """Fill in `found`."""
        finest = min(self.canonical.spacing_mm)
        with torch.inference_mode():
            for index, centre in enumerate(self.centres_mm):
                at = np.array([centre])
                stack = shrunk_stack(self.canonical, at, self.how, target_mm=finest)
                image = channels(stack.planes, stack.positions_mm, at, self.how).to(self.device)
                self.found[index] = (self.network(image)[0].argmax(dim=0) > 0).cpu().numpy()


def warmed(model: Model, phantom: Phantom) -> tuple[list[tuple[int, ...]], NDArray[np.bool_]]:
    """The shapes of the batches that the network is given for a volume, and the liver found. Nothing is cold then."""
    shapes: list[tuple[int, ...]] = []
    hook = model.network.register_forward_pre_hook(lambda _, given: shapes.append(tuple(given[0].shape)))
    eager = Model(model.network, model.card, model.device)  # a compiled network knows no hook
    labels = segment(eager, phantom.volume).labels > 0
    hook.remove()
    if model.forward:
        segment(model, phantom.volume)
    return shapes, labels


def flops(model: Model, shape: tuple[int, ...]) -> int:
    """Operations of a forward pass, a multiplication and its addition being two; nothing is computed for it."""
    counter = FlopCounterMode(display=False)
    with torch.device("meta"), torch.inference_mode():
        network = ARCHITECTURES[model.card.architecture]().eval()
        with counter:
            network(torch.empty(shape))
    return counter.get_total_flops()


def forward(model: Model, shapes: list[tuple[int, ...]]) -> None:
    """The network alone on batches of these shapes, on its device."""
    drawn = {shape: torch.randn(shape).to(model.device, memory_format=torch.channels_last) for shape in set(shapes)}
    network = model.forward or model.network
    fast = computes_bfloat16(model.device)
    with torch.inference_mode(), torch.autocast(model.device.type, torch.bfloat16, enabled=fast):
        for shape in shapes:
            network(drawn[shape])
        if model.device.type == "cuda":
            torch.cuda.synchronize()


def dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Twice what is common over the sum of both."""
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


if __name__ == "__main__":
    main()
