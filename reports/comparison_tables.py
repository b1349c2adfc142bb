"""The tables of the comparison page: figures of several models beside one another, the best of a row marked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.evaluations import SIZE_CLASSES, Estimate, Evaluation, Evaluations, as_estimate, estimate

UNDEFINED = "–"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Cell:
    """What stands in a table for one model: a figure, its interval beside it, and whether it is the best."""

    text: str
    beside: str = ""
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A line of a table: what is measured, in which unit or how it is meant, and a cell for each model."""

    name: str
    meaning: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Figure:
    """How one figure is shown. `better`: "high", "low", "zero" (nearer to it), or "" where none is better."""

    key: str
    name: str
    meaning: str
    better: str = "high"
    digits: int = 3


SCORES = (
    Figure("dice", "Dice", "2·common / (found + true)"),
    Figure("iou", "IoU", "common / either (Jaccard)"),
    Figure("voe", "VOE", "volumetric overlap error, 1 - IoU", "low"),
    Figure("rvd", "RVD", "relative volume difference, (found - true) / true", "zero"),
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
    """All scores of the liver or the tumour: means over cases with their intervals."""
    rows = [_row(evaluations, figure, structure) for figure in SCORES]
    whole = Figure(f"{structure}_dice", "Global Dice", "of all cases' voxels as one volume")
    return [*rows, _row(evaluations, whole, "global")]


def lesion_rows(evaluations: Evaluations) -> list[Row]:
    """The scores of lesions, and their recall by size."""
    rows = [_row(evaluations, figure, "lesions") for figure in LESION_SCORES]
    strict = {
        label: (evaluation["summary"]["lesions"] or {}).get("strict") for label, evaluation in evaluations.items()
    }
    if all(strict.values()):
        least = max(found["least_iou"] for found in strict.values() if found)
        for key in ("precision", "recall"):
            estimates = {label: as_estimate(found[key]) for label, found in strict.items() if found}
            rows.append(Row(f"Strict {key}", f"with an IoU of at least {least:g}", _cells(estimates, "high", 3)))
    for name in SIZE_CLASSES:
        found = {label: _by_size(evaluation, name) for label, evaluation in evaluations.items()}
        count = max((entry.get("count") or 0 for entry in found.values()), default=0)
        if count:
            estimates = {label: _recall(entry) for label, entry in found.items()}
            rows.append(Row(f"Recall, {name} mm", f"{count} true lesions", _cells(estimates, "high", 2)))
    return rows


def collection_rows(evaluations: Evaluations, structure: str, key: str = "dice") -> list[Row]:
    """The mean of a metric over the cases of each collection: phantoms and patients are not the same question."""
    names = sorted({case["collection"] for evaluation in evaluations.values() for case in evaluation["cases"]})
    rows = []
    for name in names:
        values = {label: _values(evaluation, name, structure, key) for label, evaluation in evaluations.items()}
        most = max(map(len, values.values()))
        if most:
            means = {
                label: Estimate(sum(found) / len(found), None, None) if found else None
                for label, found in values.items()
            }
            rows.append(Row(name, f"{most} case{'s' * (most != 1)}", _cells(means, "high", 3)))
    return rows


def case_rows(evaluations: Evaluations, structure: str, key: str = "dice") -> list[Row]:
    """A metric of every case, as its first model has them in order."""
    meanings: dict[str, str] = {}
    values: dict[str, dict[str, Estimate | None]] = {}
    for label, evaluation in evaluations.items():
        for case in evaluation["cases"]:
            meanings.setdefault(case["name"], case["collection"])
            value = (case[structure] or {}).get(key)
            found = None if value is None else Estimate(float(value), None, None)
            values.setdefault(case["name"], dict.fromkeys(evaluations))[label] = found
    return [
        Row(name, meanings[name], _cells(found, "high", 3)) for name, found in values.items() if any(found.values())
    ]


def plain_row(
    name: str, meaning: str, values: Sequence[float | None], digits: int, *, better: str = "low", scale: float = 1.0
) -> Row:
    """A row of figures without intervals, one for each model."""
    estimates = {
        str(place): None if value is None else Estimate(value * scale, None, None) for place, value in enumerate(values)
    }
    return Row(name, meaning, _cells(estimates, better, digits))


def number(value: float, digits: int) -> str:
    """With a minus as long as a plus."""
    text = f"{value:.{digits}f}"
    return text.replace("-", MINUS) if float(text) else text.replace("-", "")


def _row(evaluations: Evaluations, figure: Figure, structure: str) -> Row:
    found = {label: estimate(evaluation, structure, figure.key) for label, evaluation in evaluations.items()}
    return Row(figure.name, figure.meaning, _cells(found, figure.better, figure.digits))


def _cells(estimates: Mapping[str, Estimate | None], better: str, digits: int) -> tuple[Cell, ...]:
    known = [found.mean for found in estimates.values() if found is not None]
    ways: dict[str, Callable[[float], float]] = {"high": lambda x: x, "low": lambda x: -x, "zero": lambda x: -abs(x)}
    best = max(map(ways[better], known)) if better and len(known) > 1 else None
    cells = []
    for found in estimates.values():
        if found is None:
            cells.append(Cell(UNDEFINED))
            continue
        beside = ""
        if found.low is not None and found.high is not None:
            beside = f"{number(found.low, digits)} to {number(found.high, digits)}"
        leads = best is not None and round(ways[better](found.mean), digits) == round(best, digits)
        cells.append(Cell(number(found.mean, digits), beside, leads))
    return tuple(cells) if not all(cell.best for cell in cells) else tuple(Cell(c.text, c.beside) for c in cells)


def _by_size(evaluation: Evaluation, name: str) -> Mapping[str, Any]:
    lesions = evaluation["summary"]["lesions"] or {}
    return (lesions.get("recall_by_size") or {}).get(name) or {}


def _recall(entry: Mapping[str, Any]) -> Estimate | None:
    value = entry.get("recall")
    return None if value is None else Estimate(float(value), entry.get("low"), entry.get("high"))


def _values(evaluation: Evaluation, collection: str, structure: str, key: str) -> list[float]:
    cases = [case[structure] for case in evaluation["cases"] if case["collection"] == collection]
    return [float(found[key]) for found in cases if found is not None and found.get(key) is not None]
