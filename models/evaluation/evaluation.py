"""Measure a model on cases whose truth is known, one after another, and go on where a run was stopped.

    CaseSource -> Case -> segment_with_probabilities -> Measured -> OUT/cases/KEY.json, KEY.npz
                                    all of them -> models.evaluation.summary -> OUT/evaluation.json, *.csv

What was measured of a case is kept under a key of the weights, their preprocessing, the case's content and the
software: it is measured again when one of these changes, or when what was kept is damaged, and not otherwise. One case
is in memory at a time.
"""

import hashlib
import io
import json
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from dicom_io.files.whole_files import write_whole
from dicom_io.geometry import Geometry
from dicom_io.segmentation import LIVER, Segmentation
from models.datasets.cases import TUMOUR, Case, CaseSource
from models.errors import CaseUnreadable, RunMismatch, WrongModality
from models.evaluation.files import round_floats, write_tables
from models.evaluation.lesion_metrics import Lesions, match_lesions
from models.evaluation.metrics import (
    VOXEL_SCORES,
    Bool,
    Counts,
    binary,
    confusion,
    histogram,
    relative_volume_difference,
    roc,
    surface_distances,
    volume_ml,
    voxel_scores,
)
from models.evaluation.summary import Measured, summary_of
from models.inference import Model, segment_with_probabilities
from models.maps import Probabilities

SCHEMA = 1
EVALUATION = "evaluation.json"
CLASSES = ("background", "liver", "tumour")
MEASURES = 2
"""Counts up when a figure is worked out in another way, so that kept ones are measured again."""

LABELS_BY = ("consistency.py", "forward.py", "inference.py", "postprocessing.py", "preprocessing.py", "reslicing.py")
"""The modules that decide which labels are found: kept measurements hold for these modules as they were."""

DAMAGED = (OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, RuntimeError, BadZipFile, zlib.error)
"""Errors of reading a kept file that is not as it was written (RuntimeError: its zip says encrypted)."""

Report = Callable[[int, int, str], None]
"""Told how many cases are done, of how many, and a line on the last one."""


@dataclass(frozen=True)
class Asked:
    """The origin of an evaluation as evaluation.json states it: the software, the command, and the part of a split."""

    software: str
    command: str
    split_part: str | None = None


def evaluate(
    model: Model, sources: Sequence[CaseSource], out: Path, asked: Asked, report: Report = lambda done, of, line: None
) -> dict[str, Any]:
    """Measure `model` on every case, write evaluation.json, cases.csv and lesions.csv into `out`, and return the first.

    A case that cannot be read, or whose modality the model does not take, is named in "skipped" and left out. Raises
    CaseUnreadable when that leaves none, RunMismatch when `out` cannot be written.
    """
    try:
        (out / "cases").mkdir(parents=True, exist_ok=True)
        measured, skipped = _measure_all(model, sources, out, asked.software, report)
        if not measured:
            raise CaseUnreadable(skipped[0] if len(skipped) == 1 else f"none of {len(sources)} cases can be evaluated")
        used = [(source.collection, source.name, source.fingerprint) for source, _ in measured]
        records = [kept.record for _, kept in measured]
        content = {
            "schema": SCHEMA,
            "software": asked.software,
            "model": {name: getattr(model.card, name) for name in ("name", "version", "architecture", "sha256")}
            | {"calibrated": model.card.calibration is not None},
            "command": asked.command,
            "split_part": asked.split_part,
            "data_sha256": hashlib.sha256(json.dumps(sorted(used)).encode()).hexdigest(),
            "classes": list(CLASSES),
            "cases": records,
            **summary_of([kept for _, kept in measured]),
            "skipped": skipped,
        }
        write_tables(out, records)
        write_whole(out / EVALUATION, (json.dumps(content, indent=1) + "\n").encode())
    except OSError as error:
        raise RunMismatch(f"{error.filename or out}: {error.strerror}") from error
    return content


def _measure_all(
    model: Model, sources: Sequence[CaseSource], out: Path, software: str, report: Report
) -> tuple[list[tuple[CaseSource, Measured]], list[str]]:
    """Yield what each case measured, now or before, and a line on each that could not be measured."""
    measured: list[tuple[CaseSource, Measured]] = []
    skipped: list[str] = []
    by_key = {_key(model, source, software): source for source in sources}  # the same case twice is one witness
    for number, (key, source) in enumerate(by_key.items(), start=1):
        kept = _read_kept(out / "cases" / f"{key}.json")
        try:
            line = "kept from before"
            if kept is None:
                kept, labels = measure_case(model, source.read(), source.collection)
                line = f"{kept.record['seconds']:.1f} s"
                _keep(out / "cases", key, kept, labels)
        except (CaseUnreadable, WrongModality) as error:
            skipped.append(str(error) if source.name in str(error) else f"{source.name}: {error}")
            report(number, len(by_key), f"left out: {skipped[-1]}")
            continue
        measured.append((source, kept))
        report(number, len(by_key), f"{source.name}: {_dices(kept.record)}, {line}")
    return measured, skipped


def measure_case(model: Model, case: Case, collection: str) -> tuple[Measured, NDArray[np.uint8]]:
    """Segment one case and measure it; also the labels found: 0, 1, and 2 for every lesion.

    Raises WrongModality.
    """
    started = time.perf_counter()
    segmentation, probabilities = segment_with_probabilities(model, case.volume)
    seconds = time.perf_counter() - started
    measured = compare(case, segmentation, probabilities, collection=collection, seconds=seconds)
    return measured, np.minimum(segmentation.labels, TUMOUR)


def compare(
    case: Case, segmentation: Segmentation, probabilities: Probabilities, *, collection: str, seconds: float
) -> Measured:
    """Return every figure of a case. Those of tumours are None where the truth has none, or they were not drawn."""
    geometry, drawn = case.volume.geometry, case.tumours_drawn
    counts = confusion(case.labels, segmentation.labels)
    histograms: dict[str, Counts] = {"liver": histogram(case.labels > 0, probabilities.liver)}
    if drawn:
        histograms["tumour"] = histogram(case.labels == TUMOUR, probabilities.tumour)
    liver = _figures(
        case.labels > 0, segmentation.labels > 0, geometry, counts=binary(counts, 1), histogram=histograms["liver"]
    )
    if drawn:
        tumour = _figures(
            case.labels == TUMOUR,
            segmentation.labels > LIVER,
            geometry,
            counts=binary(counts, 2),
            histogram=histograms["tumour"],
        )
    else:
        tumour = dict.fromkeys(liver) | {"volume_ml": volume_ml(segmentation.labels > LIVER, geometry)}
    lesions = match_lesions(case, segmentation) if drawn else Lesions((), ())
    record = {
        "name": case.name,
        "patient": case.patient,
        "collection": collection,
        "tumours_drawn": drawn,
        "seconds": seconds,
        "slices": geometry.slices,
        "expected_dice": segmentation.expected_dice,
        "liver": liver,
        "tumour": tumour,
        "confusion": counts.tolist() if drawn else None,
        "lesions": _true_lesions(lesions),
        "false_lesions": [
            {
                "volume_ml": lesion.size.volume_ml,
                "diameter_mm": lesion.size.diameter_mm,
                "confidence": lesion.confidence,
            }
            for lesion in lesions.false
        ],
        "burden_percent": _percent(tumour["volume_ml"], liver["volume_ml"]),
        "true_burden_percent": _percent(tumour["true_volume_ml"], liver["true_volume_ml"]),
    }
    return Measured(round_floats(record), counts, histograms)


def _figures(
    truth: Bool, found: Bool, geometry: Geometry, *, counts: Counts, histogram: Counts
) -> dict[str, float | None]:
    """The scores of liver or tumour, and both volumes; the scores None where the truth is empty."""
    found_ml, true_ml = volume_ml(found, geometry), volume_ml(truth, geometry)
    scores: dict[str, float | None] = voxel_scores(counts) if true_ml else dict.fromkeys(VOXEL_SCORES)
    distances = surface_distances(found, truth, geometry)
    curve = roc(histogram)
    return {
        "dice": scores["dice"],
        "iou": scores["iou"],
        "voe": scores["voe"],
        "rvd": relative_volume_difference(found_ml, true_ml),
        "assd_mm": distances.assd_mm if distances else None,
        "hd95_mm": distances.hd95_mm if distances else None,
        "accuracy": scores["accuracy"],
        "precision": scores["precision"],
        "recall": scores["recall"],
        "specificity": scores["specificity"],
        "f1": scores["f1"],
        "auc_roc": curve.auc if curve else None,
        "volume_ml": found_ml,
        "true_volume_ml": true_ml,
    }


def _true_lesions(lesions: Lesions) -> list[dict[str, Any]]:
    return [
        {
            "true_volume_ml": lesion.size.volume_ml,
            "true_diameter_mm": lesion.size.diameter_mm,
            "size_class": lesion.size.size_class,
            "found": lesion.found is not None,
            "volume_ml": lesion.found.volume_ml if lesion.found else None,
            "diameter_mm": lesion.found.diameter_mm if lesion.found else None,
            "dice": lesion.dice,
            "iou": lesion.iou,
            "confidence": lesion.confidence,
        }
        for lesion in lesions.true
    ]


def _percent(part: float | None, whole: float | None) -> float | None:
    return 100 * part / whole if part is not None and whole else None


def found_labels(model: Model, source: CaseSource, out: Path, software: str) -> NDArray[np.uint8]:
    """Read the labels (0, 1, 2) that an evaluation in `out` by `software` found in a case and kept.

    Raises RunMismatch where it did not.
    """
    path = out / "cases" / f"{_key(model, source, software)}.npz"
    try:
        return _read_labels(path)
    except DAMAGED as error:
        raise RunMismatch(f"{path}: holds no labels of {source.name}; evaluate again") from error


def _key(model: Model, source: CaseSource, software: str) -> str:
    """Names what was kept: by the content of weights and case, and by how the one is shown the other."""
    card = model.card
    case = [source.collection, source.name, source.fingerprint]
    parts: list[object] = [MEASURES, card.sha256, card.architecture, asdict(card.preprocessing), card.modalities, case]
    parts += [asdict(card.calibration)] if card.calibration else []
    return hashlib.sha256(json.dumps([*parts, software, code_sha256()]).encode()).hexdigest()[:24]


@cache
def code_sha256(folder: Path = Path(__file__).parents[1]) -> str:
    """Return the sha256 of the modules in `folder` that decide which labels are found."""
    return hashlib.sha256(b"\0".join((folder / name).read_bytes() for name in LABELS_BY)).hexdigest()


def _keep(folder: Path, key: str, measured: Measured, labels: NDArray[np.uint8]) -> None:
    """Write the labels, in their own box, and then the figures, which say that both are there."""
    filled = [np.flatnonzero(labels.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    first = [int(places[0]) if len(places) else 0 for places in filled]
    stop = [int(places[-1]) + 1 if len(places) else 0 for places in filled]
    part = labels[tuple(slice(*ends) for ends in zip(first, stop, strict=True))]
    content = io.BytesIO()
    np.savez_compressed(content, labels=part, first=np.array(first), shape=np.array(labels.shape))
    write_whole(folder / f"{key}.npz", content.getvalue())
    write_whole(folder / f"{key}.json", measured.to_json().encode())


def _read_kept(path: Path) -> Measured | None:
    """Read a case that was measured before, if its files are complete."""
    try:
        _read_labels(path.with_suffix(".npz"))
        return Measured.from_json(path.read_text())
    except DAMAGED:
        return None  # never there, or not of our making: it is measured, and written anew


def _read_labels(path: Path) -> NDArray[np.uint8]:
    """Raises one of DAMAGED."""
    with np.load(path) as content:
        labels = np.zeros(content["shape"], np.uint8)
        first, part = content["first"], content["labels"]
    labels[tuple(slice(start, start + size) for start, size in zip(first, part.shape, strict=True))] = part
    return labels


def _dices(record: dict[str, Any]) -> str:
    """ "liver Dice 0.953, tumour 0.712" for the progress."""
    values = {name: record[name]["dice"] for name in ("liver", "tumour")}
    known = [f"{name} {value:.3f}" for name, value in values.items() if value is not None]
    return "Dice of " + ", ".join(known) if known else "nothing in its truth"
