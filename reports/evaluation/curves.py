"""How a training went: loss, learning rate and validation Dice over the steps, drawn from its CSV files."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dicom_io.files.whole_files import open_whole
from reports.errors import EvaluationUnreadable

LOSS_COLOUR, LIVER_COLOUR, TUMOUR_COLOUR = "#0072B2", "#009E73", "#D55E00"  # Okabe & Ito: told apart by everybody
WINDOW_PARTS = 40
"""The smoothed loss is the mean over this fraction of the run, but over 5 steps at least."""


def draw_curves(losses: Path, dices: Path, out: Path, *, title: str) -> None:
    """A PNG of the loss (columns step, loss, learning_rate) and, below, Dice (step, liver_dice, tumour_dice).

    It takes the place of an earlier one whole. Raises OSError, and EvaluationUnreadable for a file of other columns.
    """
    loss = read_columns(losses, ("step", "loss", "learning_rate"))
    dice = read_columns(dices, ("step", "liver_dice", "tumour_dice"))
    figure = Figure(figsize=(8, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    figure.suptitle(title)
    _draw_loss(upper, loss)
    _draw_dice(lower, dice)
    with open_whole(out, durable=False) as file:
        figure.savefig(file, format="png", dpi=110)


def read_columns(path: Path, names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """These columns of a CSV file, by the names of its header; an empty field is NaN.

    Raises EvaluationUnreadable with one line that names the file and the row.
    """
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in names if name not in (reader.fieldnames or ())]
            if missing:
                raise EvaluationUnreadable(f"{path}: has no column {missing[0]!r}")
            rows = []
            for number, row in enumerate(reader, start=2):
                try:
                    rows.append([np.nan if row[name] == "" else float(row[name]) for name in names])
                except (ValueError, TypeError) as error:
                    raise EvaluationUnreadable(f"{path}: line {number} is not numbers") from error
    except OSError as error:
        raise EvaluationUnreadable(f"{path}: {error.strerror}") from error
    values = np.array(rows, dtype=np.float64).reshape(-1, len(names))
    return {name: values[:, index] for index, name in enumerate(names)}


def _draw_loss(axes: Axes, loss: dict[str, NDArray[np.float64]]) -> None:
    steps, values = loss["step"], loss["loss"]
    axes.plot(steps, values, color=LOSS_COLOUR, alpha=0.3, linewidth=0.8, label="each step")
    width = max(5, len(values) // WINDOW_PARTS)
    if len(values) > width:
        mean = np.convolve(values, np.ones(width) / width, mode="valid")
        axes.plot(steps[width - 1 :], mean, color=LOSS_COLOUR, linewidth=1.8, label=f"mean of {width} steps")
    axes.set_ylabel("loss (cross-entropy + Dice)")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    rate = axes.twinx()
    rate.plot(steps, loss["learning_rate"], color="0.55", linestyle=":", linewidth=1.2, label="learning rate")
    rate.set_ylabel("learning rate")
    rate.set_ylim(bottom=0)
    lines = [*axes.get_lines(), *rate.get_lines()]
    axes.legend(lines, [str(line.get_label()) for line in lines], loc="upper right")


def _draw_dice(axes: Axes, dice: dict[str, NDArray[np.float64]]) -> None:
    for name, colour, marker in (("liver", LIVER_COLOUR, "o"), ("tumour", TUMOUR_COLOUR, "s")):
        values = dice[f"{name}_dice"]
        if np.isfinite(values).any():
            axes.plot(dice["step"], values, color=colour, marker=marker, markersize=4, label=name)
    axes.set_xlabel("step")
    axes.set_ylabel("validation Dice")
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.25)
    if axes.get_lines():
        axes.legend(loc="lower right")
    else:
        axes.text(0.5, 0.5, "nothing validated", transform=axes.transAxes, ha="center", va="center", color="0.4")
