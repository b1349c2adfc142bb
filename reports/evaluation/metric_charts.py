"""Scores of several models beside one another: bars with confidence intervals, lesions by size, what a model costs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom_io.axes import SIZE_CLASSES
from reports.evaluation.chart_style import (
    INK,
    SMALL_SIZE,
    SOFT,
    Look,
    grid_size,
    halo,
    hatches,
    legend_below,
    looks,
    name_panel,
    new_chart,
)
from reports.evaluation.evaluations import (
    STRUCTURES,
    Estimate,
    Evaluations,
    common_counts,
    estimate,
    state_shared,
    values,
)


@dataclass(frozen=True)
class Metric:
    """A key of an evaluation, and how an axis names it; `best` is a perfect answer's value, `top` the axis's end."""

    key: str
    name: str
    best: float
    top: float | None = None
    digits: int = 3


DICE = Metric("dice", "Dice", 1.0, 1.0)
METRICS = (
    DICE,
    Metric("iou", "IoU (Jaccard)", 1.0, 1.0),
    Metric("precision", "Precision", 1.0, 1.0),
    Metric("recall", "Recall (sensitivity)", 1.0, 1.0),
    Metric("auc_roc", "AUC of ROC", 1.0, 1.0),
    Metric("rvd", "Relative volume difference", 0.0),
    Metric("assd_mm", "ASSD, mm", 0.0, digits=2),
    Metric("hd95_mm", "95 % Hausdorff distance, mm", 0.0, digits=2),
)
INTERVAL = "mean over cases; line: 95 % confidence interval (bootstrap over patients)"

_BAR, _WIDEST = 0.72, 0.34


def draw_dice(evaluations: Evaluations, path: Path) -> Path:
    """Dice of liver and tumour, a bar for each model."""
    note = f"{common_counts(evaluations)}; {INTERVAL}"
    height = 1.55 + 0.36 * len(evaluations)
    chart = new_chart("Dice by model", note, size=(9.0, height), columns=2)
    for place, (axes, structure) in enumerate(zip(chart.axes, STRUCTURES, strict=True)):
        _bars(axes, evaluations, structure, DICE, named=place == 0)
        name_panel(axes, f"{structure.capitalize()} ({_defined(evaluations, structure, DICE)})")
    return chart.save(path)


def draw_metrics(evaluations: Evaluations, structure: str, path: Path) -> Path:
    """Draw all METRICS of the liver or the tumour, a panel each and a bar for each model."""
    note = f"{common_counts(evaluations)}; {INTERVAL}; n: the cases that have the figure"
    height = 1.6 + 2 * (0.82 + 0.27 * len(evaluations))
    title = f"{structure.capitalize()}: overlap, classification of voxels and surface distance"
    chart = new_chart(title, note, size=(13.0, height), rows=2, columns=4)
    for place, (axes, metric) in enumerate(zip(chart.axes, METRICS, strict=True)):
        _bars(axes, evaluations, structure, metric, named=place % 4 == 0)
        name_panel(axes, metric.name)
        axes.set_xlabel(_defined(evaluations, structure, metric), fontsize=SMALL_SIZE, color=SOFT)
    return chart.save(path)


def draw_size_recall(evaluations: Evaluations, path: Path) -> Path:
    """The part of the true lesions that each model found, by their diameter."""
    by_label = {label: evaluation["summary"]["lesions"] for label, evaluation in evaluations.items()}
    sizes = {label: (lesions or {}).get("recall_by_size") or {} for label, lesions in by_label.items()}
    shown = [name for name in SIZE_CLASSES if any((found.get(name) or {}).get("count") for found in sizes.values())]
    totals = {label: sum((found.get(name) or {}).get("count", 0) for name in shown) for label, found in sizes.items()}
    total = state_shared({label: f"{count} true lesions" for label, count in totals.items()})
    note = f"{total} in {common_counts(evaluations)}; by the lesion's true diameter"
    chart = new_chart("Lesions found, by size", note, size=(9.0, 4.4))
    (axes,) = chart.axes
    width = min(_WIDEST, _BAR / max(1, len(evaluations)))
    handles = []
    for place, (label, look) in enumerate(looks(list(evaluations)).items()):
        offset = (place - (len(evaluations) - 1) / 2) * width
        found = [(slot, sizes[label][name]) for slot, name in enumerate(shown) if sizes[label].get(name)]
        at = [(slot + offset, entry["recall"]) for slot, entry in found if entry["recall"] is not None]
        bars = axes.bar(
            [x for x, _ in at],
            [y for _, y in at],
            width * 0.92,
            color=look.colour,
            edgecolor="white",
            linewidth=0.6,
            hatch=hatches(len(evaluations))[place],
        )
        handles.append(bars)
        for x, y in at:
            text = f"{y:.2f}".removeprefix("0").replace("1.00", "1") if len(evaluations) > 2 else f"{y:.2f}"
            axes.annotate(text, (x, y), (0, 2), textcoords="offset points", ha="center", size=SMALL_SIZE, color=INK)
    counts = [_or(found.get(name, {}).get("count", 0) for found in sizes.values()) for name in shown]
    ticks = [f"{_readable(name)}\nn = {count}" for name, count in zip(shown, counts, strict=True)]
    axes.set_xticks(range(len(shown)), ticks)
    axes.set_xlabel("diameter, mm")
    axes.set_ylabel("part of the lesions that was found")
    axes.set_ylim(0, 1.08)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1.0])
    axes.grid(visible=False, axis="x")
    if not shown:
        _nothing(axes, "no true lesion in these cases")
    legend_below(chart, handles, list(evaluations))
    return chart.save(path)


@dataclass(frozen=True)
class Cost:
    """A panel of `draw_costs`: a figure of each model, and its unit in the title."""

    name: str
    values: Mapping[str, float | None]
    digits: int


def draw_costs(costs: Sequence[Cost], note: str, path: Path) -> Path:
    """Draw the costs of each model, a panel for each kind of cost; shorter is cheaper."""
    labels = list(costs[0].values)
    rows, columns = grid_size(len(costs), widest=4)
    size = (min(13.0, 3.3 * columns + 1.6), 1.1 + rows * (0.7 + 0.27 * len(labels)))
    chart = new_chart("What each model costs", note, size=size, rows=rows, columns=columns, panels=len(costs))
    for place, (axes, cost) in enumerate(zip(chart.axes, costs, strict=True)):
        estimates = {
            label: None if value is None else Estimate(value, None, None) for label, value in cost.values.items()
        }
        _draw_bars(axes, estimates, digits=cost.digits, named=place % columns == 0, unknown="not measured")
        axes.set_xlim(0, 1.28 * max([1e-9, *(value for value in cost.values.values() if value is not None)]))
        name_panel(axes, cost.name)
    return chart.save(path)


def _bars(axes: Any, evaluations: Evaluations, structure: str, metric: Metric, *, named: bool) -> None:
    estimates = {label: estimate(evaluation, structure, metric.key) for label, evaluation in evaluations.items()}
    _draw_bars(axes, estimates, digits=metric.digits, named=named)
    ends = [
        bound for e in estimates.values() if e is not None for bound in (e.mean, e.low, e.high) if bound is not None
    ]
    lowest, highest = min([0.0, *ends]), max([0.0, *ends])
    if metric.top is not None:
        axes.set_xlim(min(0.0, lowest), metric.top * 1.26)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0", ".25", ".5", ".75", "1"])
    else:
        axes.locator_params(axis="x", nbins=4)
        reach = max(highest - lowest, 1e-6)
        axes.set_xlim(lowest - (0.34 * reach if lowest < 0 else 0), highest + 0.34 * reach)
    axes.axvline(metric.best, color=SOFT, linewidth=1.0, linestyle=(0, (2, 2)), zorder=0.6)


def _draw_bars(
    axes: Any, estimates: Mapping[str, Estimate | None], *, digits: int, named: bool, unknown: str = "undefined"
) -> None:
    """Horizontal bars, the first on top, each with its interval and its figure beyond both."""
    for place, (label, look) in enumerate(looks(list(estimates)).items()):
        found = estimates[label]
        if found is None:
            axes.text(
                0.02, place, unknown, transform=axes.get_yaxis_transform(), va="center", size=SMALL_SIZE, color=SOFT
            )
            continue
        _bar(axes, place, found, look, digits)
    axes.set_yticks(range(len(estimates)), list(estimates) if named else [""] * len(estimates))
    axes.set_ylim(len(estimates) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.axvline(0, color=SOFT, linewidth=0.8)


def _bar(axes: Any, place: int, found: Estimate, look: Look, digits: int) -> None:
    axes.barh(place, found.mean, _BAR, color=look.colour, zorder=2)
    beyond = found.mean
    if found.low is not None and found.high is not None:
        axes.plot([found.low, found.high], [place, place], color=INK, linewidth=1.3, solid_capstyle="butt", zorder=3)
        for end in (found.low, found.high):
            axes.plot([end, end], [place - 0.14, place + 0.14], color=INK, linewidth=1.3, zorder=3)
        beyond = min(found.low, found.mean) if found.mean < 0 else max(found.high, found.mean)
    left = found.mean < 0
    axes.annotate(
        f"{found.mean:.{digits}f}".replace("-", "\N{MINUS SIGN}"),
        (beyond, place),
        (-4 if left else 4, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        va="center",
        size=SMALL_SIZE + 0.5,
        color=INK,
        path_effects=halo(),
        zorder=4,
    )


def _defined(evaluations: Evaluations, structure: str, metric: Metric) -> str:
    return f"n = {_or(len(values(evaluation, structure, metric.key)) for evaluation in evaluations.values())}"


def _or(numbers: Iterable[int]) -> str:
    """ "6", or "4 or 6" where models differ."""
    return " or ".join(map(str, sorted(set(numbers))))


def _readable(name: str) -> str:
    return name.replace("<", "< ").replace(">", "> ").replace("-", "–")


def _nothing(axes: Any, why: str) -> None:
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center", color=SOFT)
