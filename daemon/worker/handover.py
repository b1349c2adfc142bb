"""What the first stage leaves for the second: the labels of each volume, and which volumes those are.

work/volumes.json                    which volumes were segmented, what is to be said of that, and the hashes of the
                                     other files; written last, with its own hash in its first line
work/<volume>/labels.npz             their labels
work/<volume>/probabilities.npz      what the network thought of each voxel, where a destination takes it
work/<volume>/explanations.npz       what it looked at to draw each of the largest lesions, likewise
"""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.errors import FileDamaged, WorkDamaged
from daemon.storage.integrity import check_file, file_sha256
from daemon.storage.spool import write_durably
from dicom_io.geometry import Geometry
from dicom_io.segmentation import Algorithm, Segmentation
from models.maps import Heat, Probabilities

LABELS, PROBABILITIES, EXPLANATIONS, VOLUMES = "labels.npz", "probabilities.npz", "explanations.npz", "volumes.json"


@dataclass(frozen=True)
class Segmented:
    """The indices of the volumes of a series that were segmented, a sentence for the reports, and warning codes."""

    volumes: tuple[int, ...]
    note: str
    warnings: tuple[str, ...]


def save_segmentation(segmentation: Segmentation, work: Path) -> None:
    """Keep the labels between two stages, durably."""
    buffer = BytesIO()
    about = {
        "algorithm": asdict(segmentation.algorithm),
        "confidences": segmentation.confidences,
        "warnings": segmentation.warnings,
        "calibrated": segmentation.calibrated,
        "expected_dice": segmentation.expected_dice,
    }
    np.savez_compressed(buffer, labels=segmentation.labels, about=np.array(json.dumps(about)))
    write_durably(work / LABELS, buffer.getvalue())


def load_segmentation(work: Path, geometry: Geometry) -> Segmentation:
    """The labels that `save_segmentation` kept, on the geometry of their volume."""
    with np.load(work / LABELS, allow_pickle=False) as stored:
        labels, about = stored["labels"], json.loads(str(stored["about"]))
    algorithm = about["algorithm"] | {"modalities": tuple(about["algorithm"]["modalities"])}
    return Segmentation(
        labels=labels,
        geometry=geometry,
        algorithm=Algorithm(**algorithm),
        confidences=tuple(about["confidences"]),
        warnings=tuple(about["warnings"]),
        calibrated=about.get("calibrated", False),  # not in what an earlier version left
        expected_dice=about.get("expected_dice"),
    )


def load_labels(work: Path) -> NDArray[np.uint8]:
    """The labels alone."""
    with np.load(work / LABELS, allow_pickle=False) as stored:
        labels: NDArray[np.uint8] = stored["labels"]
    return labels


def keep_labels(work: Path) -> None:
    """Remove from the work of a reported job all that no shadow is compared with: earlier studies, probabilities, maps.

    A shadow may run, and end, meanwhile: what is gone already is no fault.
    """
    for folder, _, names in os.walk(work, topdown=False):
        for name in names:
            if name not in (LABELS, VOLUMES):
                (Path(folder) / name).unlink(missing_ok=True)
        with suppress(OSError):  # it holds labels, or is gone
            os.rmdir(folder)


def save_probabilities(probabilities: Probabilities, work: Path) -> None:
    """Keep the probabilities between two stages, durably."""
    buffer = BytesIO()
    np.savez_compressed(buffer, liver=probabilities.liver, tumour=probabilities.tumour)
    write_durably(work / PROBABILITIES, buffer.getvalue())


def load_probabilities(work: Path) -> Probabilities | None:
    """Load what `save_probabilities` kept; None where no destination had asked for it at that time."""
    path = work / PROBABILITIES
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as stored:
        return Probabilities(stored["liver"], stored["tumour"])


def save_explanations(heats: Mapping[int, Heat], work: Path) -> None:
    """Keep the maps of lesions, by their numbers, between two stages, durably; in 1/255, which a picture can show."""
    arrays: dict[str, Any] = {}
    for number, heat in heats.items():
        arrays[f"first_{number}"] = np.array(heat.first)
        arrays[f"values_{number}"] = np.rint(heat.values * 255).astype(np.uint8)
    buffer = BytesIO()
    np.savez_compressed(buffer, numbers=np.array(list(heats), np.int64), **arrays)
    write_durably(work / EXPLANATIONS, buffer.getvalue())


def load_explanations(work: Path) -> dict[int, Heat]:
    """Load what `save_explanations` kept; empty where no destination had asked for it at that time."""
    path = work / EXPLANATIONS
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as stored:
        return {
            number: Heat(int(stored[f"first_{number}"]), stored[f"values_{number}"] / np.float32(255))
            for number in stored["numbers"].tolist()
        }


def save_segmented(segmented: Segmented, work: Path) -> None:
    """Say which volumes have labels in `work`, durably, and what the files of this stage hold."""
    files = [path for index in segmented.volumes for path in sorted((work / str(index)).iterdir())]
    sums = {str(path.relative_to(work)): file_sha256(path) for path in files}
    text = json.dumps(asdict(segmented) | {"sha256": sums})
    write_durably(work / VOLUMES, f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}".encode())


def load_segmented(work: Path, *, labels_only: bool = False) -> Segmented:
    """Which volumes have labels in `work`: those that the first stage wrote down.

    Raises WorkDamaged where that, or a file that it left, is gone or holds something else; after `keep_labels` there
    are `labels_only`.
    """
    path = work / VOLUMES
    try:
        first, _, text = path.read_text(errors="replace").partition("\n")
        if hashlib.sha256(text.encode()).hexdigest() != first:
            raise FileDamaged(path)
        kept = json.loads(text)
        for name, sha256 in kept["sha256"].items():
            path = work / name
            if path.name == LABELS or not labels_only:
                check_file(path, sha256)
    except (FileDamaged, FileNotFoundError) as error:
        raise WorkDamaged(path) from error
    return Segmented(tuple(kept["volumes"]), kept["note"], tuple(kept["warnings"]))
