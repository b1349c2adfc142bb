"""From the figures of each case to those of a model: means with intervals, pooled curves, lesions, the worst cases."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dicom_io.axes import SIZE_CLASSES
from models.evaluation.files import round_floats
from models.evaluation.lesion_metrics import STRICT_IOU
from models.evaluation.metrics import CLASSES, LEVELS, Counts, binary, interval, roc, voxel_scores

STRUCTURES = ("liver", "tumour")
WORST = 5
CURVE_DECIMALS = 9
"""A rate of one voxel in the billion that a few hundred cases have."""

Record = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Measured:
    """The figures of a case: its `record` in evaluation.json, and counts that are pooled over cases.

    `confusion` (3, 3) also where the record has none, because nobody drew the tumours: the liver's is right there too.
    `histograms` by structure, "tumour" only where tumours were drawn.
    """

    record: Record
    confusion: Counts
    histograms: dict[str, Counts]

    def to_json(self) -> str:
        """Write it as JSON for `from_json`."""
        counts = {name: counted.tolist() for name, counted in self.histograms.items()}
        return json.dumps({"case": self.record, "confusion": self.confusion.tolist(), "histograms": counts})

    @staticmethod
    def from_json(text: str) -> "Measured":
        """Raises ValueError, KeyError, TypeError or AttributeError for what `to_json` did not write."""
        raw = json.loads(text)
        histograms = {
            name: np.array(counted, np.int64).reshape(2, LEVELS) for name, counted in raw["histograms"].items()
        }
        return Measured(dict(raw["case"]), np.array(raw["confusion"], np.int64).reshape(CLASSES, CLASSES), histograms)


def summary_of(measured: Sequence[Measured]) -> dict[str, Any]:
    """The keys "roc", "summary" and "worst" of evaluation.json."""
    records = [kept.record for kept in measured]
    return {
        "roc": {structure: _pooled_curve(measured, structure) for structure in STRUCTURES},
        "summary": round_floats(
            {structure: _means(records, structure) for structure in STRUCTURES}
            | {"global": _global_dice(measured), "lesions": _lesions(records)}
        ),
        "worst": [record["name"] for record in sorted(records, key=_liver_dice)[:WORST]],
    }


def _liver_dice(record: Record) -> float:
    dice = record["liver"]["dice"]
    return -1.0 if dice is None else float(dice)


def _pooled_curve(measured: Sequence[Measured], structure: str) -> dict[str, Any] | None:
    """The curve of all voxels of all cases; None where no case has both kinds."""
    histograms = [kept.histograms[structure] for kept in measured if structure in kept.histograms]
    curve = roc(np.sum(histograms, axis=0)) if histograms else None
    return None if curve is None else dict(round_floats(asdict(curve), CURVE_DECIMALS))


def _means(records: Sequence[Record], structure: str) -> dict[str, Any]:
    """Return the mean of each figure over the cases that have it, every case counted alike."""
    means = {}
    for name in records[0][structure]:
        known = [record for record in records if record[structure][name] is not None]
        values = [record[structure][name] for record in known]
        means[name] = asdict(interval(values, [1] * len(known), [record["patient"] for record in known]))
    return means


def _global_dice(measured: Sequence[Measured]) -> dict[str, float | None]:
    """Dice of all voxels of all cases as if they were one volume ("Dice global" of LiTS); large livers count more."""
    drawn = [kept.confusion for kept in measured if kept.record["tumours_drawn"]]
    pooled = {
        "liver": binary(np.sum([kept.confusion for kept in measured], axis=0), 1),
        "tumour": binary(np.sum([np.zeros((3, 3), np.int64), *drawn], axis=0), 2),
    }
    return {
        f"{structure}_dice": voxel_scores(counts)["dice"] if counts[1].any() else None
        for structure, counts in pooled.items()
    }


def _lesions(records: Sequence[Record]) -> dict[str, Any]:
    """Over the cases whose tumours were drawn: ratios of all their lesions, bounds by patients.

    "diameter_error_mm" and "burden_error_percent" are mean absolute errors, the latter in percent points; their "bias"
    is the mean of found - true.
    """
    drawn = [record for record in records if record["tumours_drawn"]]

    def ratio(part: Callable[[Record], float], whole: Callable[[Record], float]) -> dict[str, Any]:
        sums, counts = [part(record) for record in drawn], [whole(record) for record in drawn]
        return asdict(interval(sums, counts, [record["patient"] for record in drawn]))

    def judged(least_iou: float) -> dict[str, Any]:
        def hits(record: Record) -> int:
            return sum(1 for lesion in record["lesions"] if lesion["found"] and lesion["iou"] >= least_iou)

        return {"precision": ratio(hits, _drawn_found), "recall": ratio(hits, lambda record: len(record["lesions"]))}

    return judged(0.0) | {
        "recall_by_size": {name: _recall_of(drawn, name) for name in SIZE_CLASSES},
        "false_per_scan": ratio(lambda record: len(record["false_lesions"]), lambda record: 1),
        "diameter_error_mm": _error(drawn, _diameter_errors),
        "burden_error_percent": _error(drawn, _burden_errors),
        "strict": judged(STRICT_IOU) | {"least_iou": STRICT_IOU},
        "count": sum(len(record["lesions"]) for record in drawn),
        "scans": len(drawn),
    }


def _drawn_found(record: Record) -> int:
    """Return how many lesions the model drew."""
    return sum(1 for lesion in record["lesions"] if lesion["found"]) + len(record["false_lesions"])


def _recall_of(records: Sequence[Record], size_class: str) -> dict[str, Any]:
    lesions = [[lesion for lesion in record["lesions"] if lesion["size_class"] == size_class] for record in records]
    found = [sum(lesion["found"] for lesion in group) for group in lesions]
    recall = interval(found, [len(group) for group in lesions], [record["patient"] for record in records])
    return {"recall": recall.mean, "low": recall.low, "high": recall.high, "count": sum(map(len, lesions))}


def _diameter_errors(record: Record) -> list[float]:
    return [lesion["diameter_mm"] - lesion["true_diameter_mm"] for lesion in record["lesions"] if lesion["found"]]


def _burden_errors(record: Record) -> list[float]:
    found, true = record["burden_percent"], record["true_burden_percent"]
    return [] if found is None or true is None else [found - true]


def _error(records: Sequence[Record], errors_of: Callable[[Record], list[float]]) -> dict[str, Any]:
    errors = [errors_of(record) for record in records]
    counts, patients = [len(each) for each in errors], [record["patient"] for record in records]
    absolute = interval([sum(map(abs, each)) for each in errors], counts, patients)
    return asdict(absolute) | {"bias": interval([sum(each) for each in errors], counts, patients).mean}
