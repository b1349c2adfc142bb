"""How far found and true agree: ROC curves, confusion matrices, Bland-Altman plots of the liver's volume."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import seaborn as sns

from reports.evaluation.chart_style import (
    INK,
    SMALL_SIZE,
    SOFT,
    TEXT_SIZE,
    grid_size,
    halo,
    legend_below,
    looks,
    name_panel,
    new_chart,
    signed,
)
from reports.evaluation.evaluations import STRUCTURES, Evaluation, Evaluations, common_counts, confusion, counted_drawn

ZOOMS, ZOOM_FROM = (0.02, 0.05, 0.2), 0.8
"""The inset of a ROC chart ends at the first of these false positive rates at which all models are above ZOOM_FROM:
voxels outside the liver outnumber all others, and the curve lies in the corner. Where none is, there is no inset."""

AGREEMENT_SD = 1.96
"""Bland and Altman 1986 (Lancet 327:307): 95 % of differences lie within these standard deviations of their mean."""

LABEL_APART = 0.07
"""The least distance of the figures beside the lines, of the axis."""

LIMITS_FROM = 3
"""From how many cases on the limits of agreement are drawn: two points have a spread, and it says nothing."""


def draw_roc(evaluations: Evaluations, path: Path) -> Path:
    """The ROC curve of every model, for liver and for tumour, with its upper left corner enlarged."""
    note = (
        f"voxels of {common_counts(evaluations)}, pooled; of those whose tumours are drawn for the tumour "
        f"({counted_drawn(evaluations)}); threshold over the probability of the class"
    )
    chart = new_chart("ROC by voxel", note, size=(10.0, 5.6), columns=2)
    by_look = looks(list(evaluations))
    for axes, structure in zip(chart.axes, STRUCTURES, strict=True):
        curves = {label: evaluation["roc"].get(structure) for label, evaluation in evaluations.items()}
        known = {label: curve for label, curve in curves.items() if curve is not None and curve["auc"] is not None}
        table = 0.06 + 0.037 * (1 + len(evaluations))
        inset = _corner(axes, known, table)
        for label, curve in known.items():
            for each in (axes, inset) if inset is not None else (axes,):
                look = by_look[label]
                each.plot(curve["fpr"], curve["tpr"], color=look.colour, linestyle=look.dash, linewidth=1.7)
        axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.9, linestyle=(0, (2, 2)))
        axes.set(xlim=(-0.01, 1.0), ylim=(0, 1.01), xlabel="false positive rate (1 - specificity)")
        axes.set_ylabel("true positive rate (sensitivity)")
        name_panel(axes, structure.capitalize())
        rows = [f"{label}: {known[label]['auc']:.4f}" if label in known else f"{label}: undefined" for label in curves]
        words = "\n".join(["AUC", *rows])
        axes.text(0.985, 0.02, words, transform=axes.transAxes, size=SMALL_SIZE, ha="right", path_effects=halo())
    handles = [
        chart.axes[0].plot([], [], color=look.colour, linestyle=look.dash, linewidth=2)[0] for look in by_look.values()
    ]
    legend_below(chart, handles, list(by_look))
    return chart.save(path)


def _corner(axes: Any, curves: Mapping[str, Any], table: float) -> Any:
    """Empty axes in the chart, for the corner enlarged; None where no corner tells more than the whole."""

    def lowest(rate: float) -> float:
        return min(float(np.interp(rate, curve["fpr"], curve["tpr"])) for curve in curves.values())

    end = next((rate for rate in ZOOMS if lowest(rate) >= ZOOM_FROM), None) if curves else None
    if end is None:
        return None
    inset = axes.inset_axes((0.36, table + 0.1, 0.6, 0.78 - table))
    inset.set(xlim=(0, end), ylim=(min(0.9, np.floor(lowest(end / 8) * 10) / 10), 1.002))
    inset.tick_params(labelsize=SMALL_SIZE)
    inset.spines[["right", "top"]].set_visible(True)
    inset.set_facecolor("#fbfcfd")
    axes.text(0.36, 0.9, "the corner, enlarged", transform=axes.transAxes, size=SMALL_SIZE, color=SOFT)
    return inset


def draw_confusion(evaluations: Evaluations, path: Path) -> Path:
    """A confusion matrix of voxels for each model, in percent of the true class."""
    names = next(iter(evaluations.values()))["classes"]
    rows, columns = grid_size(len(evaluations))
    note = (
        f"voxels of the cases whose tumours are drawn ({counted_drawn(evaluations)}); "
        "percent of the row (true class), below it the number of voxels"
    )
    size = (max(7.2, 0.5 + 3.7 * columns), 0.75 + 3.0 * rows)
    chart = new_chart("Confusion of classes", note, size=size, rows=rows, columns=columns, panels=len(evaluations))
    for place, (axes, (label, evaluation)) in enumerate(zip(chart.axes, evaluations.items(), strict=True)):
        total, _ = confusion(evaluation)
        matrix = np.array(total, dtype=np.float64)
        truth = matrix.sum(axis=1, keepdims=True)
        part = np.divide(matrix, truth, out=np.full_like(matrix, np.nan), where=truth > 0)
        words = [
            [_cell(share, count) for share, count in zip(shares, row, strict=True)]
            for shares, row in zip(part, total, strict=True)
        ]
        sns.heatmap(
            part,
            ax=axes,
            annot=np.array(words),
            fmt="",
            cmap="Blues",
            vmin=0,
            vmax=1,
            cbar=False,
            square=True,
            linewidths=1.5,
            linecolor="white",
            annot_kws={"size": TEXT_SIZE},
            xticklabels=names,
            yticklabels=names,
        )
        axes.tick_params(rotation=0, length=0)
        name_panel(axes, label)
        axes.set_xlabel("found")
        axes.set_ylabel("true" if place % columns == 0 else "")
    return chart.save(path)


def draw_bland_altman(evaluations: Evaluations, path: Path) -> Path:
    """Differences of the liver's volume (found less true) over their mean, a panel for each model."""
    rows, columns = grid_size(len(evaluations))
    note = (
        f"{common_counts(evaluations)}; liver with its tumours, mL; line: mean difference, "
        f"dashed: ± {AGREEMENT_SD} SD (limits of agreement)"
    )
    size = (max(8.6, 0.6 + 4.1 * columns), 1.3 + 2.9 * rows)
    title = "Bland–Altman: volume of the liver"
    chart = new_chart(title, note, size=size, rows=rows, columns=columns, panels=len(evaluations))
    collections = sorted({case["collection"] for evaluation in evaluations.values() for case in evaluation["cases"]})
    by_look = looks(collections)
    every = [pair for evaluation in evaluations.values() for pair in _volumes(evaluation)]
    reach = 1.15 * max([10.0, *(abs(found - true) for found, true, _ in every), *map(_limit, evaluations.values())])
    middles = [(found + true) / 2 for found, true, _ in every]
    across = (min(middles) - 60, max(middles) + 60) if middles else (0.0, 1.0)
    for place, (axes, (label, evaluation)) in enumerate(zip(chart.axes, evaluations.items(), strict=True)):
        pairs = _volumes(evaluation)
        for collection, look in by_look.items():
            own = [(found, true) for found, true, name in pairs if name == collection]
            x, y = [(found + true) / 2 for found, true in own], [found - true for found, true in own]
            axes.scatter(x, y, s=34, color=look.colour, marker=look.marker, edgecolor="white", linewidth=0.6, zorder=3)
        axes.axhline(0, color=SOFT, linewidth=0.9)
        axes.set(xlim=across, ylim=(-reach, reach), title="")
        _agreement(axes, np.array([found - true for found, true, _ in pairs]))
        name_panel(axes, label)
        axes.set_xlabel("mean of found and true, mL" if place >= len(evaluations) - columns else "")
        axes.set_ylabel("found - true, mL" if place % columns == 0 else "")
    handles = [
        chart.axes[0].scatter([], [], s=40, color=look.colour, marker=look.marker, edgecolor="white")
        for look in by_look.values()
    ]
    legend_below(chart, handles, collections, widest=4)
    return chart.save(path)


def _agreement(axes: Any, differences: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    """The mean difference and, from LIMITS_FROM cases on, the limits of agreement, with their figures."""
    if not len(differences):
        return
    mean, (left, right) = float(differences.mean()), axes.get_xlim()
    lines: list[tuple[float, Any, str]] = [(mean, "-", "mean")]
    if len(differences) >= LIMITS_FROM:
        spread = AGREEMENT_SD * float(differences.std(ddof=1))
        dashed = (0, (4, 3))
        lines = [(mean - spread, dashed, f"-{AGREEMENT_SD} SD"), *lines, (mean + spread, dashed, f"+{AGREEMENT_SD} SD")]
    axes.set_xlim(left, right + 0.42 * (right - left))  # room for the figures
    low, high = axes.get_ylim()
    apart, last = LABEL_APART * (high - low), low - (high - low)
    heights = [last := max(last + apart, value) for value, _, _ in lines]
    for (value, dash, name), height in zip(lines, heights, strict=True):
        axes.axhline(value, color=INK, linewidth=1.1, linestyle=dash, zorder=2)
        axes.annotate(
            f"{name} {signed(value)}".replace("-", "\N{MINUS SIGN}"),
            (1.0, height - (heights[len(lines) // 2] - mean)),
            (0, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            va="center",
            size=SMALL_SIZE,
            color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
            zorder=4,
        )


def _volumes(evaluation: Evaluation) -> list[tuple[float, float, str]]:
    """(found mL, true mL, collection) of each case that has both."""
    found = [(case["liver"], case["collection"]) for case in evaluation["cases"] if case["liver"] is not None]
    return [
        (liver["volume_ml"], liver["true_volume_ml"], collection)
        for liver, collection in found
        if liver["volume_ml"] is not None and liver["true_volume_ml"] is not None
    ]


def _limit(evaluation: Evaluation) -> float:
    """The outer limit of agreement, from zero."""
    differences = np.array([found - true for found, true, _ in _volumes(evaluation)])
    if len(differences) < LIMITS_FROM:
        return 0.0
    return float(abs(differences.mean()) + AGREEMENT_SD * differences.std(ddof=1))


def _cell(share: float, count: int) -> str:
    if np.isnan(share):
        return "–"
    percent = f"{100 * share:.1f}" if 0.0005 <= share < 0.9995 or share in (0.0, 1.0) else f"{100 * share:.2f}"
    return f"{percent} %\n{_short(count)}"


def _short(count: int) -> str:
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return str(count)
