"""What `porta evaluate` measured of one model, as its evaluation.json says it: read, checked, and cut for charts.

    {"schema": 1, "model": {...}, "cases": [...], "roc": {...}, "summary": {...}, "worst": [...], ...}

Keys are always present, values null where they are undefined: the accessors here leave those out.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.errors import EvaluationUnreadable

SCHEMA = 1
EVALUATION = "evaluation.json"

STRUCTURES = ("liver", "tumour")
SIZE_CLASSES = ("<10", "10-20", "20-30", "30-50", "50-100", ">100")
"""Diameters in mm; as `reports.criteria` cuts them."""

_KEYS = ("model", "command", "split_part", "classes", "cases", "roc", "summary", "worst")
_CASE_KEYS = ("name", "patient", "collection", "tumours_drawn", "liver", "tumour", "confusion", "lesions")
_SUMMARY_KEYS = ("liver", "tumour", "global", "lesions")

Evaluation = Mapping[str, Any]
Evaluations = Mapping[str, Evaluation]
"""By the label that a chart gives the model; in the order in which they are drawn."""


@dataclass(frozen=True)
class Estimate:
    """A mean over cases with its 95 % confidence interval; the bounds None where too few cases give none."""

    mean: float
    low: float | None
    high: float | None


def read_evaluation(path: Path) -> dict[str, Any]:
    """The evaluation at `path`. Raises EvaluationUnreadable with one line that names the file and what is wrong."""
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise EvaluationUnreadable(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise EvaluationUnreadable(f"{path}: not JSON; run `porta evaluate` again") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise EvaluationUnreadable(f"{path}: not an evaluation of schema {SCHEMA}; run `porta evaluate` again")
    for key in _KEYS:
        if key not in content:
            raise EvaluationUnreadable(f"{path}: lacks the key {key!r}")
    for number, case in enumerate(content["cases"], start=1):
        for key in _CASE_KEYS:
            if key not in case:
                raise EvaluationUnreadable(f"{path}: case {number} lacks the key {key!r}")
    for key in _SUMMARY_KEYS:
        if key not in content["summary"]:
            raise EvaluationUnreadable(f"{path}: the summary lacks the key {key!r}")
    return content


def estimate(evaluation: Evaluation, structure: str, metric: str) -> Estimate | None:
    """The mean of a metric over cases, of the liver, the tumour or the lesions; None where it is undefined."""
    summary = evaluation["summary"][structure]
    value = None if summary is None else summary.get(metric)
    return as_estimate(value)


def as_estimate(value: Any) -> Estimate | None:
    """A value of a summary, a plain number or one with bounds; None where it is undefined."""
    if isinstance(value, Mapping):
        mean, low, high = (value.get(key) for key in ("mean", "low", "high"))
        return None if mean is None else Estimate(float(mean), _number(low), _number(high))
    return None if value is None else Estimate(float(value), None, None)


def counted(evaluation: Evaluation, structure: str, metric: str) -> int:
    """How many cases a metric is defined for."""
    return len(values(evaluation, structure, metric))


def values(evaluation: Evaluation, structure: str, metric: str) -> list[float]:
    """The metric of each case that has it, in the order of the cases."""
    figures = [case[structure] for case in evaluation["cases"]]
    return [float(figure[metric]) for figure in figures if figure is not None and figure.get(metric) is not None]


def patients(evaluation: Evaluation) -> int:
    """How many patients the cases are of."""
    return len({case["patient"] for case in evaluation["cases"]})


def size_class(diameter_mm: float) -> str:
    """The one of SIZE_CLASSES that a lesion belongs to; upper bounds belong to it, 10 mm is the smallest measurable."""
    rounded = round(diameter_mm, 1)
    if rounded < 10:
        return SIZE_CLASSES[0]
    return next((SIZE_CLASSES[place] for place, top in enumerate((20, 30, 50, 100), 1) if rounded <= top), ">100")


def counts(evaluation: Evaluation) -> str:
    """ "5 cases of 4 patients", for a chart's note."""
    return counted_words(len(evaluation["cases"]), patients(evaluation))


def counted_words(cases: int, of_patients: int) -> str:
    """Cases and patients in words."""
    return f"{cases} case{'s' * (cases != 1)} of {of_patients} patient{'s' * (of_patients != 1)}"


def common_counts(evaluations: Evaluations) -> str:
    """The counts that all evaluations share; each model's own where they differ."""
    said: dict[str, list[str]] = {}
    for label, evaluation in evaluations.items():
        said.setdefault(counts(evaluation), []).append(label)
    if len(said) == 1:
        return next(iter(said))
    return "; ".join(f"{', '.join(labels)}: {words}" for words, labels in said.items())


def confusion(evaluation: Evaluation) -> tuple[list[list[int]], int]:
    """The sum of the cases' confusion matrices (rows truth, columns found), and of how many cases."""
    matrices: Sequence[Any] = [case["confusion"] for case in evaluation["cases"] if case["confusion"] is not None]
    size = len(evaluation["classes"])
    total = [[sum(int(matrix[row][column]) for matrix in matrices) for column in range(size)] for row in range(size)]
    return total, len(matrices)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
