"""How long a phantom for training takes: the CPU time of `training_phantom` for each slice that training gets of it.

A phantom is drawn on a coarse grid; preparation makes slices of it that lie as far apart as the weights'
card says (2 mm). Beside it a stack of the size of a CT, as `porta phantom` draws it.

    .venv/bin/python bench/phantom.py [--phantoms 12] [--model resnet50]
"""

import argparse
import os
import time
from statistics import median

from stopwatch import peak_rss_mib, print_table, spread

from models.cards import find
from models.phantom import Phantom, grid, make_phantom, training_phantom
from models.preprocessing import slice_positions, to_canonical

CORES = 2
SLICES_A_SECOND = 100


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--phantoms", type=int, default=12)
    options.add_argument("--rows", type=int, default=512, help="and columns, of the large one")
    options.add_argument("--model", default="resnet50", help="whose card says how far apart slices are prepared")
    chosen = options.parse_args()
    step_mm = find(chosen.model).preprocessing.fine_step_mm
    table = []
    figures: dict[str, list[float]] = {}
    for modality in ("CT", "MR"):
        figures[modality] = []
        made: list[int] = []
        for seed in range(chosen.phantoms):
            phantom, seconds = _timed_training(seed, modality)
            made.append(len(slice_positions(to_canonical(phantom.volume), step_mm)))
            figures[modality].append(1000 * seconds / made[-1])
        table.append((f"training, {modality}", spread(figures[modality], 1), f"{median(made):.0f}"))
    pixel_mm = 384 / chosen.rows
    geometry = grid(slices=100, rows=chosen.rows, columns=chosen.rows, spacing_mm=(2.5, pixel_mm, pixel_mm), seed=0)
    started = _cpu_s()
    make_phantom(geometry, seed=0)
    large = f"{1000 * (_cpu_s() - started) / geometry.slices:.0f}"
    table.append((f"{chosen.rows} rows and columns", large, str(geometry.slices)))
    print_table(f"{chosen.phantoms} phantoms each", ("", "ms of CPU a slice", "slices"), table)
    print(f"peak memory: {peak_rss_mib():.0f} MiB")
    worst = max(median(values) for values in figures.values())
    print(
        f"ratio {CORES * 1000 / worst / SLICES_A_SECOND:.2f}  (slices a second on {CORES} cores to {SLICES_A_SECOND})"
    )


def _timed_training(seed: int, modality: str) -> tuple[Phantom, float]:
    started = _cpu_s()
    return training_phantom(seed, modality=modality), _cpu_s() - started


def _cpu_s() -> float:
    """Seconds that all threads of this process have used, more trustworthy than a clock on a busy machine."""
    spent = os.times()
    return spent.user + spent.system


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"{time.monotonic() - started:.0f} s by the clock")
