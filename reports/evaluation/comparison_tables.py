"""The tables of the comparison page: figures of several models beside one another, the best of a row marked.

A mean over the easier cases is no better: the best is marked only where all models have the figure, and have it of the
same cases. A figure that fewer cases define than there are says how many.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dicom_io.axes import SIZE_CLASSES
from reports.evaluation.evaluations import Estimate, Evaluation, Evaluations, as_estimate, case_names, estimate, values

UNDEFINED = "–"
MINUS = "\N{MINUS SIGN}"

Over = Mapping[str, frozenset[Any]]
"""By the label of a model, which cases (or lesions) define a figure of it."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table for one model: a figure, its interval, how many cases where not all, whether the best."""

    text: str
    beside: str = ""
    count: str = ""
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A line of a table: what is measured, in which unit or how it is meant, and a cell for each model."""

    name: str
    meaning: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Figure:
    """The way one figure is shown. `better`: "high", "low", or "" where none is better."""

    key: str
    name: str
    meaning: str
    better: str = "high"
    digits: int = 3


SCORES = (
    Figure("dice", "Dice", "2·common / (found + true)"),
    Figure("iou", "IoU", "common / either (Jaccard)"),
    Figure("voe", "VOE", "volumetric overlap error, 1 - IoU", "low"),
    Figure("rvd", "RVD", "relative volume difference, (found - true) / true; signs cancel out", ""),
    Figure("assd_mm", "ASSD", "average symmetric surface distance, mm", "low", 2),
    Figure("hd95_mm", "HD95", "95th percentile of surface distances, mm", "low", 2),
    Figure("precision", "Precision", "of the voxels found, those that are true"),
    Figure("recall", "Recall", "of the true voxels, those that were found (sensitivity)"),
    Figure("specificity", "Specificity", "of the other voxels, those that were left alone", digits=4),
    Figure("accuracy", "Accuracy", "of all voxels, those that are right", digits=4),
    Figure("f1", "F1", "of precision and recall; equal to Dice by voxels"),
    Figure("auc_roc", "AUC", "area under the ROC curve of the case's voxels", digits=4),
)
LESION_SCORES = (
    Figure("precision", "Precision", "of the lesions found, those that are true"),
    Figure("recall", "Recall", "of the true lesions, those that were found"),
    Figure("false_per_scan", "False lesions", "for a scan", "low", 2),
    Figure("diameter_error_mm", "Diameter error", "mm, mean absolute, of the lesions found", "low", 2),
    Figure("burden_error_percent", "Burden error", "percent points of the liver's volume, mean absolute", "low", 2),
)


def score_rows(evaluations: Evaluations, structure: str) -> list[Row]:
    """Return all scores of the liver or the tumour: means over cases with their intervals."""
    rows = []
    for figure in SCORES:
        over = {label: frozenset(values(found, structure, figure.key)) for label, found in evaluations.items()}
        rows.append(_row(evaluations, figure, structure, over))
    whole = Figure(f"{structure}_dice", "Global Dice", "of all cases' voxels as one volume")
    pooled = {label: _cases(found, drawn=structure == "tumour") for label, found in evaluations.items()}
    return [*rows, _row(evaluations, whole, "global", pooled)]


def lesion_rows(evaluations: Evaluations) -> list[Row]:
    """The scores of lesions, and their recall by size."""
    drawn = {label: _cases(evaluation, drawn=True) for label, evaluation in evaluations.items()}
    scans = len(frozenset().union(*drawn.values()))
    lesions = len(frozenset().union(*map(_lesions, evaluations.values())))
    own = {"diameter_error_mm": (_found_lesions, lesions), "burden_error_percent": (_with_burden, scans)}
    rows = []
    for figure in LESION_SCORES:
        of, whole = own.get(figure.key, (None, scans))
        over = drawn if of is None else {label: of(evaluation) for label, evaluation in evaluations.items()}
        rows.append(_row(evaluations, figure, "lesions", over, whole))
    strict = {
        label: (evaluation["summary"]["lesions"] or {}).get("strict") for label, evaluation in evaluations.items()
    }
    if all(strict.values()):
        least = max(found["least_iou"] for found in strict.values() if found)
        for key in ("precision", "recall"):
            estimates = {label: as_estimate(found[key]) for label, found in strict.items() if found}
            cells = _cells(estimates, "high", 3, drawn, scans)
            rows.append(Row(f"Strict {key}", f"with an IoU of at least {least:g}", cells))
    for name in SIZE_CLASSES:
        over = {label: _lesions(evaluation, name) for label, evaluation in evaluations.items()}
        if count := len(frozenset().union(*over.values())):
            estimates = {label: _recall(_by_size(evaluation, name)) for label, evaluation in evaluations.items()}
            rows.append(Row(f"Recall, {name} mm", f"{count} true lesions", _cells(estimates, "high", 2, over, count)))
    return rows


def collection_rows(evaluations: Evaluations, structure: str, key: str = "dice") -> list[Row]:
    """The mean of a metric over the cases of each collection: phantoms and patients are not the same question."""
    every = {name for evaluation in evaluations.values() for name in case_names(evaluation)}
    rows = []
    for collection in sorted({name[0] for name in every}):
        found = {
            label: {name: value for name, value in values(evaluation, structure, key).items() if name[0] == collection}
            for label, evaluation in evaluations.items()
        }
        if any(found.values()):
            means = {
                label: Estimate(sum(own.values()) / len(own), None, None) if own else None
                for label, own in found.items()
            }
            count = sum(name[0] == collection for name in every)
            over = {label: frozenset(own) for label, own in found.items()}
            cells = _cells(means, "high", 3, over, count)
            rows.append(Row(collection, f"{count} case{'s' * (count != 1)}", cells))
    return rows


def case_rows(evaluations: Evaluations, structure: str, key: str = "dice") -> list[Row]:
    """A metric of every case, as its first model has them in order."""
    found = {label: values(evaluation, structure, key) for label, evaluation in evaluations.items()}
    rows = []
    for name in dict.fromkeys(name for evaluation in evaluations.values() for name in case_names(evaluation)):
        own = {label: Estimate(known[name], None, None) if name in known else None for label, known in found.items()}
        if any(own.values()):
            rows.append(Row(name[1], name[0], _cells(own, "high", 3)))
    return rows


def plain_row(
    name: str, meaning: str, values: Sequence[float | None], digits: int, *, better: str = "low", scale: float = 1.0
) -> Row:
    """A row of figures without intervals, one for each model."""
    estimates = {
        str(place): None if value is None else Estimate(value * scale, None, None) for place, value in enumerate(values)
    }
    return Row(name, meaning, _cells(estimates, better, digits))


def number(value: float, digits: int) -> str:
    """Format a number with a minus as long as a plus."""
    text = f"{value:.{digits}f}"
    return text.replace("-", MINUS) if float(text) else text.replace("-", "")


def _row(evaluations: Evaluations, figure: Figure, structure: str, over: Over, whole: int | None = None) -> Row:
    found = {label: estimate(evaluation, structure, figure.key) for label, evaluation in evaluations.items()}
    if whole is None:
        whole = len(frozenset().union(*map(_cases, evaluations.values())))
    return Row(figure.name, figure.meaning, _cells(found, figure.better, figure.digits, over, whole))


def comparable(estimates: Mapping[str, Estimate | None], over: Over) -> bool:
    """True where there are two models or more, and all have the figure, for the same cases."""
    return len(estimates) > 1 and None not in estimates.values() and len(set(over.values())) <= 1


def _cells(
    estimates: Mapping[str, Estimate | None], better: str, digits: int, over: Over | None = None, whole: int = 0
) -> tuple[Cell, ...]:
    """`whole`: of how many cases or lesions the figure could be."""
    over = over or {}
    known = [found.mean for found in estimates.values() if found is not None]
    ways: dict[str, Callable[[float], float]] = {"high": lambda x: x, "low": lambda x: -x}
    best = max(map(ways[better], known)) if better and comparable(estimates, over) else None
    cells = []
    for label, found in estimates.items():
        if found is None:
            cells.append(Cell(UNDEFINED))
            continue
        beside = ""
        if found.low is not None and found.high is not None:
            beside = f"{number(found.low, digits)} to {number(found.high, digits)}"
        leads = best is not None and round(ways[better](found.mean), digits) == round(best, digits)
        count = f"n = {len(over[label])}" if label in over and len(over[label]) < whole else ""
        cells.append(Cell(number(found.mean, digits), beside, count, leads))
    return tuple(cells) if not all(cell.best for cell in cells) else tuple(replace(cell, best=False) for cell in cells)


def _cases(evaluation: Evaluation, *, drawn: bool = False) -> frozenset[Any]:
    """The names of all cases, or of those whose tumours are drawn."""
    named = zip(case_names(evaluation), evaluation["cases"], strict=True)
    return frozenset(name for name, case in named if case["tumours_drawn"] or not drawn)


def _with_burden(evaluation: Evaluation) -> frozenset[Any]:
    """The cases whose tumours are drawn and whose burden is known, true and found."""
    known = {
        name
        for name, case in zip(case_names(evaluation), evaluation["cases"], strict=True)
        if case["burden_percent"] is not None and case["true_burden_percent"] is not None
    }
    return _cases(evaluation, drawn=True) & known


def _lesions(evaluation: Evaluation, size_class: str | None = None, *, found: bool = False) -> frozenset[Any]:
    """The true lesions, each by its case and its place there: of a class, or those that were found."""
    return frozenset(
        (name, place)
        for name, case in zip(case_names(evaluation), evaluation["cases"], strict=True)
        for place, lesion in enumerate(case["lesions"])
        if case["tumours_drawn"] and size_class in (None, lesion["size_class"]) and (lesion["found"] or not found)
    )


def _found_lesions(evaluation: Evaluation) -> frozenset[Any]:
    return _lesions(evaluation, found=True)


def _by_size(evaluation: Evaluation, name: str) -> Mapping[str, Any]:
    lesions = evaluation["summary"]["lesions"] or {}
    return (lesions.get("recall_by_size") or {}).get(name) or {}


def _recall(entry: Mapping[str, Any]) -> Estimate | None:
    value = entry.get("recall")
    return None if value is None else Estimate(float(value), entry.get("low"), entry.get("high"))
