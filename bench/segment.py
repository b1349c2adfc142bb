"""How long the shipped model takes for a slice, and what all around the network costs.

`models.inference.segment` on a phantom against the network alone: the same number of forward passes on batches of the
same shapes, with numbers drawn beforehand. The ratio is what preprocessing, postprocessing and the way back cost.

    .venv/bin/python bench/segment.py [--slices 100] [--rows 512] [--runs 3] [--device auto] [--threads N]
        [--extent 250 384]
"""

import argparse
import multiprocessing
import time

import torch
from stopwatch import MIB, in_turn, peak_rss_mib, print_ratio, print_table, spread
from studies import enlarged_phantom

from dicom_io.volume import Volume
from models.cards import find
from models.inference import Model, load_model, segment
from models.phantom import DEMO_SEED


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--slices", type=int, default=100)
    options.add_argument("--rows", type=int, default=512, help="and columns; an even number")
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--extent", type=float, nargs=2, default=(250.0, 384.0), help="along and across, mm")
    options.add_argument("--model", default="resnet50")
    options.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    options.add_argument("--threads", type=int, help="CPU threads; else as many as there are cores")
    chosen = options.parse_args()
    phantom = enlarged_phantom(slices=chosen.slices, rows=chosen.rows, extent_mm=tuple(chosen.extent), seed=DEMO_SEED)
    # A process of its own: drawing the phantom needs more memory than segmenting it.
    process = multiprocessing.get_context("spawn").Process(
        target=measure, args=(phantom.volume, chosen.model, chosen.device, chosen.threads, chosen.runs)
    )
    process.start()
    process.join()
    raise SystemExit(process.exitcode)


def measure(volume: Volume, name: str, device: str, threads: int | None, runs: int) -> None:
    """Print seconds, seconds a slice, memory, and the ratio."""
    before = peak_rss_mib()
    model = load_model(find(name), device=device, threads=threads)
    shapes = batches(model, volume)
    after = peak_rss_mib()

    def ours(_: int) -> float:
        started = time.monotonic()
        segment(model, volume)
        return time.monotonic() - started

    bare, whole = "network alone", "Porta, whole"
    figures = in_turn(runs, {bare: lambda run: forward(model, shapes), whole: ours})
    slices, rows, columns = volume.geometry.shape
    table = [
        (label, spread(values, 2), f"{sorted(values)[len(values) // 2] / slices:.4f}")
        for label, values in figures.items()
    ]
    where = f"{model.device.type}, {torch.get_num_threads()} threads"
    title = f"{slices} slices of {rows}x{columns}, {model.card.name} {model.card.version}, {where}, {runs} runs"
    print_table(title, ("", "s", "s a slice"), table)
    pixels = sum(shape[0] * shape[2] * shape[3] for shape in shapes)
    print(f"{len(shapes)} forward passes over {pixels / 1e6:.2f} megapixels")
    print(f"peak memory: {after:.0f} MiB, of it {before:.0f} MiB before the model was loaded")
    if model.device.type == "cuda":
        print(f"peak memory of the GPU: {torch.cuda.max_memory_allocated() / MIB:.0f} MiB")
    print_ratio(f"{whole} to {bare}, seconds: smaller is better, 1 is the least", figures[whole], figures[bare])


def batches(model: Model, volume: Volume) -> list[tuple[int, ...]]:
    """The shapes of the batches that the network is given for this volume; it also warms everything up."""
    shapes: list[tuple[int, ...]] = []
    hook = model.network.register_forward_pre_hook(lambda _, given: shapes.append(tuple(given[0].shape)))
    segment(model, volume)
    hook.remove()
    return shapes


def forward(model: Model, shapes: list[tuple[int, ...]]) -> float:
    """Seconds for the network alone on batches of these shapes, on its device."""
    drawn = {shape: torch.randn(shape).to(model.device, memory_format=torch.channels_last) for shape in set(shapes)}
    with torch.inference_mode(), torch.autocast(model.device.type, torch.bfloat16):
        started = time.monotonic()
        for shape in shapes:
            model.network(drawn[shape])
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        return time.monotonic() - started


if __name__ == "__main__":
    main()
