"""`porta calibrate`: what evaluations found goes into the card of the weights, as how often such lesions are real."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dicom_io.files.whole_files import write_whole
from models.calibration import Calibration, Judged, fit
from models.cards import Card, find
from models.errors import NotCalibrated

Content = dict[str, Any]


def calibrate(weights: str, evaluations: Sequence[Path]) -> tuple[Path, Calibration]:
    """Fit the probabilities from each evaluation.json and write them into the card; return the card's path.

    Raises NotCalibrated for evaluations that cannot be read, are of other weights or of weights that are calibrated
    already, and for too few lesions; UnknownModel.
    """
    card = find(weights)
    path = card.weights.with_suffix(".json")
    contents = [_read(evaluation, card) for evaluation in evaluations]
    calibration = fit([lesion for content in contents for lesion in _judged(content)])
    try:
        raw = json.loads(path.read_text())
        write_whole(path, (json.dumps(raw | {"calibration": asdict(calibration)}, indent=2) + "\n").encode())
    except OSError as error:
        raise NotCalibrated(f"{path}: {error.strerror}") from error
    return path, calibration


def _read(path: Path, card: Card) -> Content:
    try:
        content: Content = json.loads(path.read_text())
        sha256, calibrated = content["model"]["sha256"], content["model"].get("calibrated")
        _judged(content)
    except OSError as error:
        raise NotCalibrated(f"{path}: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise NotCalibrated(f"{path}: is no evaluation with confidences; evaluate again") from error
    if sha256 != card.sha256:
        raise NotCalibrated(f"{path}: is of other weights than {card.name}")
    if calibrated:
        raise NotCalibrated(
            f"{path}: its confidences are calibrated; take `calibration` out of the card, evaluate again"
        )
    return content


def _judged(content: Content) -> list[Judged]:
    """The lesions found in cases whose tumours were drawn; one that lies in a true lesion is real."""
    judged = []
    for case in content["cases"]:
        if not case["tumours_drawn"]:
            continue
        name = f"{case['collection']}/{case['patient']}"
        judged += [Judged(float(lesion["confidence"]), True, name) for lesion in case["lesions"] if lesion["found"]]
        judged += [Judged(float(lesion["confidence"]), False, name) for lesion in case["false_lesions"]]
    return judged
