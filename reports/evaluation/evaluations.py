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

_KEYS = ("model", "command", "split_part", "classes", "cases", "roc", "summary", "worst")
_CASE_KEYS = ("name", "patient", "collection", "tumours_drawn", "liver", "tumour", "confusion", "lesions")
_SUMMARY_KEYS = ("liver", "tumour", "global", "lesions")

Evaluation = Mapping[str, Any]
CaseName = tuple[str, str]
"""Collection and name: a name is unique in its collection."""
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
    _check(content, _KEYS, f"{path}:")
    try:
        for number, case in enumerate(content["cases"], start=1):
            _check(case, _CASE_KEYS, f"{path}: case {number}")
        _check(content["summary"], _SUMMARY_KEYS, f"{path}: the summary")
    except TypeError as error:
        raise EvaluationUnreadable(f"{path}: damaged; run `porta evaluate` again") from error
    return content


def _check(content: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    for key in keys:
        if key not in content:
            raise EvaluationUnreadable(f"{where} lacks the key {key!r}")


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


def case_names(evaluation: Evaluation) -> list[CaseName]:
    """Collection and name of each case, in their order."""
    return [(case["collection"], case["name"]) for case in evaluation["cases"]]


def values(evaluation: Evaluation, structure: str, metric: str) -> dict[CaseName, float]:
    """The metric of each case that has it, in the order of the cases."""
    figures = [(case[structure] or {}).get(metric) for case in evaluation["cases"]]
    named = zip(case_names(evaluation), figures, strict=True)
    return {name: float(value) for name, value in named if value is not None}


def patients(evaluation: Evaluation) -> int:
    """The number of patients of the cases."""
    return len({case["patient"] for case in evaluation["cases"]})


def counts(evaluation: Evaluation) -> str:
    """ "5 cases of 4 patients", for a chart's note."""
    return counted_words(len(evaluation["cases"]), patients(evaluation))


def counted_words(cases: int, of_patients: int) -> str:
    """Cases and patients in words."""
    return f"{cases} case{'s' * (cases != 1)} of {of_patients} patient{'s' * (of_patients != 1)}"


def common_counts(evaluations: Evaluations) -> str:
    """The counts that all evaluations share; each model's own where they differ."""
    return state_shared({label: counts(evaluation) for label, evaluation in evaluations.items()})


def state_shared(said: Mapping[str, str]) -> str:
    """Return what all labels have in common; where they differ, each with its own: "a, b: 4 cases; c: 1 case"."""
    labels: dict[str, list[str]] = {}
    for label, words in said.items():
        labels.setdefault(words, []).append(label)
    if len(labels) == 1:
        return next(iter(labels))
    return "; ".join(f"{', '.join(whose)}: {words}" for words, whose in labels.items())


def counted_drawn(evaluations: Evaluations) -> str:
    """ "5 cases", those whose voxels stand in a confusion matrix: whose tumours are drawn."""
    used = {label: confusion(evaluation)[1] for label, evaluation in evaluations.items()}
    return state_shared({label: f"{count} case{'s' * (count != 1)}" for label, count in used.items()})


def confusion(evaluation: Evaluation) -> tuple[list[list[int]], int]:
    """The sum of the cases' confusion matrices (rows truth, columns found), and of how many cases."""
    matrices: Sequence[Any] = [case["confusion"] for case in evaluation["cases"] if case["confusion"] is not None]
    size = len(evaluation["classes"])
    total = [[sum(int(matrix[row][column]) for matrix in matrices) for column in range(size)] for row in range(size)]
    return total, len(matrices)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
