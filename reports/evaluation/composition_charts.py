"""Pies: what became of the voxels of liver and tumour, how severe the cases are, how large their lesions."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.patches import Patch

from dicom_io.axes import SIZE_CLASSES, size_class_of
from reports.evaluation.chart_style import INK, SOFT, TEXT_SIZE, grid_size, legend_below, name_panel, new_chart
from reports.evaluation.evaluations import Evaluation, Evaluations, confusion, counted_drawn
from reports.findings.severity import Level, severity_of

LEAST_LABEL = 0.03
"""Slices below this part carry no figure; the legend names them all the same."""

INSIDE_FROM = 0.12
"""Slices below this part carry their figure outside the pie."""

FATES = {
    "liver, found": "#029e73",
    "tumour, found": "#0173b2",
    "tumour, taken for liver": "#56b4e9",
    "tumour, missed": "#10355a",
    "liver, taken for tumour": "#cc78bc",
    "liver, missed": "#d55e00",
    "background, taken for liver or tumour": "#ece133",
}
"""Of the voxels that are liver or tumour, or were taken for it; background that was left alone is no part of it."""

NO_LIVER = "no liver found"
"""Of a case in which none was found nothing is known, not even that it has no lesions."""

LEVELS = {
    str(Level.NONE): "#d7dce1",
    str(Level.LOW): "#56b4e9",
    str(Level.MODERATE): "#de8f05",
    str(Level.HIGH): "#a33f00",
    NO_LIVER: "#1c2530",
}
SIZES = dict(zip(SIZE_CLASSES, ("#c6e2f5", "#8cc4ea", "#4a9fd6", "#0173b2", "#014f7c", "#04263d"), strict=True))

TRUTH = "truth"


def draw_composition(evaluations: Evaluations, path: Path) -> Path:
    """A pie for each model: how much of liver and tumour was found, missed or taken for the other."""
    note = (
        "voxels that are liver or tumour, or were taken for it, of the cases whose tumours are drawn "
        f"({counted_drawn(evaluations)}); percent of these voxels"
    )
    pies = {label: _fates(evaluation) for label, evaluation in evaluations.items()}
    return _pies("What became of liver and tumour", note, pies, FATES, path, unit="voxels")


def draw_severity(evaluations: Evaluations, path: Path) -> Path:
    """Cases by severity (docs/severity.md), in truth and as each model found them."""
    pies = _truths({label: _levels(evaluation, true=True) for label, evaluation in evaluations.items()})
    pies |= {label: _levels(evaluation, true=False) for label, evaluation in evaluations.items()}
    note = (
        "the cases whose tumours are drawn; by largest diameter, number of lesions and burden "
        "(docs/severity.md; not by spread over the halves)"
    )
    return _pies("Severity of the cases", note, pies, LEVELS, path)


def draw_lesion_sizes(evaluations: Evaluations, path: Path) -> Path:
    """Lesions by size class, in truth and as each model found them (false ones too)."""
    pies = _truths({label: _sizes(evaluation, true=True) for label, evaluation in evaluations.items()})
    pies |= {label: _sizes(evaluation, true=False) for label, evaluation in evaluations.items()}
    note = "diameter in mm; a model's pie has its false lesions too, and lacks what it missed"
    return _pies("Lesions by size", note, pies, SIZES, path)


def severity_levels(evaluation: Evaluation, *, true: bool) -> list[str]:
    """The severity (a key of LEVELS) of each case whose tumours are drawn, from the truth or from what was found.

    By largest diameter, number and burden. The schema does not say on which side of the liver a lesion lies.
    """
    levels = []
    for case in evaluation["cases"]:
        if not case["tumours_drawn"]:
            continue
        if not (case["liver"] or {}).get("true_volume_ml" if true else "volume_ml"):
            levels.append(NO_LIVER)
            continue
        diameters = lesion_diameters(case, true=true)
        if not diameters:
            levels.append(str(Level.NONE))
            continue
        burden = case["true_burden_percent" if true else "burden_percent"] or 0.0
        severity = severity_of(largest_mm=max(diameters), lesion_count=len(diameters), burden_percent=burden, halves=1)
        levels.append(str(severity.level or Level.NONE))
    return levels


def lesion_diameters(case: Mapping[str, Any], *, true: bool) -> list[float]:
    """Diameters in mm of a case's true lesions, or of all that were found, false ones too."""
    if true:
        return [float(lesion["true_diameter_mm"]) for lesion in case["lesions"]]
    found = [lesion for lesion in case["lesions"] if lesion["found"]] + list(case["false_lesions"] or ())
    return [float(lesion["diameter_mm"]) for lesion in found if lesion["diameter_mm"] is not None]


def _fates(evaluation: Evaluation) -> dict[str, int]:
    (_, *false), (missed, liver, called), (lost, merged, tumour) = confusion(evaluation)[0]
    parts = (liver, tumour, merged, lost, called, missed, sum(false))
    return dict(zip(FATES, parts, strict=True))


def _levels(evaluation: Evaluation, *, true: bool) -> dict[str, int]:
    found = Counter(severity_levels(evaluation, true=true))
    return {level: found[level] for level in LEVELS}


def _truths(found: Mapping[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """Return one pie of the truth, or one for each group of models that were measured on the same truth."""
    labels: dict[tuple[int, ...], list[str]] = {}
    for label, parts in found.items():
        labels.setdefault(tuple(parts.values()), []).append(label)
    if len(labels) == 1:
        return {TRUTH: next(iter(found.values()))}
    return {f"{TRUTH} of {', '.join(whose)}": found[whose[0]] for whose in labels.values()}


def _sizes(evaluation: Evaluation, *, true: bool) -> dict[str, int]:
    cases = [case for case in evaluation["cases"] if case["tumours_drawn"]]
    found = Counter(size_class_of(mm) for case in cases for mm in lesion_diameters(case, true=true))
    return {name: found[name] for name in SIZE_CLASSES}


def _pies(
    title: str,
    note: str,
    pies: Mapping[str, Mapping[str, int]],
    colours: Mapping[str, str],
    path: Path,
    *,
    unit: str = "",
) -> Path:
    rows, columns = grid_size(len(pies))
    size = (max(8.2, 0.5 + 3.2 * columns), 1.45 + 2.75 * rows)
    chart = new_chart(title, note, size=size, rows=rows, columns=columns, panels=len(pies))
    for axes, (label, parts) in zip(chart.axes, pies.items(), strict=True):
        name_panel(axes, label, place="center")
        total = f"n = {_counted(sum(parts.values()))} {unit}".strip()
        axes.text(0.5, -0.02, total, transform=axes.transAxes, ha="center", va="top", size=TEXT_SIZE, color=SOFT)
        _pie(axes, parts, colours, counts=not unit)
    shown = [name for name in colours if any(parts[name] for parts in pies.values())]
    handles = [Patch(facecolor=colours[name], edgecolor=SOFT, linewidth=0.4) for name in shown]
    names = [f"{name} mm" if name in SIZES else name for name in shown]
    legend_below(chart, handles, names, widest=4 if max(map(len, [*shown, ""])) < 25 else 3)
    return chart.save(path)


def _pie(axes: Any, parts: Mapping[str, int], colours: Mapping[str, str], *, counts: bool) -> None:
    total = sum(parts.values())
    axes.set_axis_off()
    if not total:
        axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", va="center", color=SOFT, size=TEXT_SIZE)
        return
    shown = {name: value for name, value in parts.items() if value}
    wedges, _ = axes.pie(
        list(shown.values()),
        colors=[colours[name] for name in shown],
        startangle=90,
        counterclock=False,
        wedgeprops={"edgecolor": "white", "linewidth": 1.0 if len(shown) > 1 else 0.0},
    )
    for wedge, (name, value) in zip(wedges, shown.items(), strict=True):
        share = value / total
        if share < LEAST_LABEL:
            continue
        inside = share >= INSIDE_FROM
        words = f"{value}{chr(10) if inside else ', '}{100 * share:.0f} %" if counts else f"{100 * share:.1f} %"
        angle = np.deg2rad((wedge.theta1 + wedge.theta2) / 2)
        out = 0.0 if share > 0.999 else 0.64 if inside else 1.16
        axes.text(
            out * np.cos(angle),
            out * np.sin(angle),
            words,
            ha="center",
            va="center",
            size=TEXT_SIZE,
            color=_ink_on(colours[name]) if inside else INK,
        )


def _ink_on(colour: str) -> str:
    """Black or white, whichever is read more easily on a colour (relative luminance, WCAG 2)."""
    parts = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return "white" if float(linear @ np.array([0.2126, 0.7152, 0.0722])) < 0.3 else INK


def _counted(count: int) -> str:
    if count >= 10_000:
        return f"{count / 1e6:.3g} M" if count >= 1_000_000 else f"{count / 1e3:.3g} k"
    return str(count)
