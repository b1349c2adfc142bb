"""Loss and validation Dice of several training runs in one chart, from the CSV files of their folders."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports.evaluation.chart_style import SOFT, legend_below, looks, name_panel, new_chart
from reports.evaluation.curves import read_columns

SMOOTHED_OVER = 0.02
"""The line of a loss is its mean over this part of the run, the single steps lie faintly behind it."""


@dataclass(frozen=True, eq=False)
class Learning:
    """The course of a run. `losses` (step, loss) of its steps; `dices` (step, liver Dice, tumour Dice), NaN unknown."""

    losses: NDArray[np.float64]
    dices: NDArray[np.float64]


def read_learning(folder: Path) -> Learning:
    """The curves in a run's folder: loss.csv and, where validation was reached, dice.csv.

    Raises EvaluationUnreadable with one line that names the file and the row.
    """
    losses = np.column_stack(list(read_columns(folder / "loss.csv", ("step", "loss")).values()))
    dices = folder / "dice.csv"
    if not dices.exists():
        return Learning(losses, np.empty((0, 3)))
    columns = read_columns(dices, ("step", "liver_dice", "tumour_dice"))
    return Learning(losses, np.column_stack(list(columns.values())))


def step_seconds(log: str) -> float | None:
    """Return the seconds a step, by a run's train.log: the median over the times from one validation to the next.

    A stop and what came before the next start is no part of it. None where the log shows no two such times.
    """
    seen: list[tuple[int, datetime] | None] = []
    for line in log.splitlines():
        time, _, event = line.partition(" ")
        if event.startswith("step ") and ":" in event:
            seen.append((int(event[5:].partition(":")[0]), datetime.fromisoformat(time)))
        elif event.startswith(("started", "stopped")):
            seen.append(None)
    rates = [
        (later[1] - earlier[1]).total_seconds() / (later[0] - earlier[0])
        for earlier, later in pairwise(seen)
        if earlier is not None and later is not None and later[0] > earlier[0]
    ]
    return median(rates) if rates else None


def draw_learning(runs: Mapping[str, Learning], path: Path) -> Path:
    """Loss, liver Dice and tumour Dice over the steps, a line for each run."""
    steps = [int(run.losses[-1, 0]) for run in runs.values() if len(run.losses)]
    spans = sorted(set(steps))
    note = (
        f"{len(runs)} run{'s' * (len(runs) != 1)} of {' or '.join(f'{count:,}'.replace(',', ' ') for count in spans)} "
        "steps; loss: Dice + cross-entropy of the training batches, smoothed; Dice: of the validation slices"
    )
    chart = new_chart("How the models learned", note, size=(13.0, 4.7), columns=3)
    by_look = looks(list(runs))
    for label, run in runs.items():
        look = by_look[label]
        loss, liver, tumour = chart.axes
        if len(run.losses):
            loss.plot(run.losses[:, 0], run.losses[:, 1], color=look.colour, linewidth=0.5, alpha=0.13, zorder=1)
            mean = _smoothed(run.losses[:, 1])
            loss.plot(run.losses[:, 0], mean, color=look.colour, linestyle=look.dash, linewidth=1.7)
        for axes, column in ((liver, 1), (tumour, 2)):
            known = run.dices[~np.isnan(run.dices[:, column])] if len(run.dices) else run.dices
            axes.plot(
                known[:, 0],
                known[:, column] if len(known) else [],
                color=look.colour,
                linestyle=look.dash,
                linewidth=1.5,
                marker=look.marker,
                markersize=4.5,
                markeredgecolor="white",
                markeredgewidth=0.5,
            )
    means = np.concatenate([_smoothed(run.losses[:, 1]) for run in runs.values() if len(run.losses)] or [np.ones(1)])
    chart.axes[0].set_ylim(0, 1.08 * float(means.max()))
    titles = ("Training loss", "Liver Dice, validation", "Tumour Dice, validation")
    for place, (axes, title) in enumerate(zip(chart.axes, titles, strict=True)):
        name_panel(axes, title)
        axes.set_xlabel("step")
        axes.set_xlim(0, max([1, *spans]))
        axes.locator_params(axis="x", integer=True)
        if place:
            axes.set_ylim(0, 1.02)
            if all(np.isnan(run.dices[:, place]).all() for run in runs.values()):
                axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=SOFT)
    handles: list[Any] = [
        chart.axes[0].plot([], [], color=look.colour, linestyle=look.dash, marker=look.marker, markersize=5)[0]
        for look in by_look.values()
    ]
    legend_below(chart, handles, list(by_look))
    return chart.save(path)


def _smoothed(loss: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a centred mean over SMOOTHED_OVER of the run, shorter at the ends."""
    width = max(1, round(SMOOTHED_OVER * len(loss)))
    ones = np.ones(width)
    return np.asarray(np.convolve(loss, ones, "same") / np.convolve(np.ones(len(loss)), ones, "same"))
