"""Ways to do the same thing, timed in turn in one run: what the machine does meanwhile hits them all alike."""

from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

MIB = 2**20


def in_turn(runs: int, measures: Mapping[str, Callable[[int], float]]) -> dict[str, list[float]]:
    """Each measure once a run, one after the other; a measure is given the number of the run and returns its figure."""
    figures: dict[str, list[float]] = {name: [] for name in measures}
    for run in range(runs):
        for name, measure in measures.items():
            figures[name].append(measure(run))
    return figures


def print_table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """A Markdown table under its title, its columns aligned for the terminal."""
    widths = [max(len(row[index]) for row in (columns, *rows)) for index in range(len(columns))]
    print(f"{title}\n")
    for row in (columns, tuple("-" * width for width in widths), *rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
    print()


def spread(figures: list[float], digits: int) -> str:
    """The median, and from where to where the runs went."""
    text = f"{median(figures):.{digits}f}"
    return text if len(figures) == 1 else f"{text} ({min(figures):.{digits}f} to {max(figures):.{digits}f})"


def print_ratio(what: str, ours: list[float], peer: list[float]) -> float:
    """The ratio of the medians, the figure that a bench is about."""
    ratio = median(ours) / median(peer)
    print(f"ratio {ratio:.2f}  ({what})")
    return ratio


def peak_rss_mib(pid: int | str = "self") -> float:
    """The most memory that a living process has held so far (VmHWM, proc(5)), in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / MIB
    raise ValueError(f"process {pid} has no memory")
