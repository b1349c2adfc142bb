"""The worker on a SEG that a person drew: how far it is from the one that was sent. Files in, figures out."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from scipy.ndimage import label as components

from daemon.ledger.rows import Scored
from daemon.storage.integrity import check_file, check_spooled, read_sums
from daemon.worker.requests import ScoreRequest, Unusable
from daemon.worker.sources import spooled_series
from dicom_io.errors import SegmentationUnreadable
from dicom_io.files.identity import identity_of, place
from dicom_io.files.image_file import read_dataset
from dicom_io.geometry import Geometry
from dicom_io.seg_labels import TUMOUR, labels_on, place_mask, segment_class
from dicom_io.seg_reader import SegmentMask, read_seg
from dicom_io.segmentation import LIVER, MAX_LESIONS, Algorithm, Segmentation
from models.disagreement import disagreement

LIVER_FIGURES = ("liver_dice", "liver_rvd")


def score_correction(request: ScoreRequest) -> Scored | Unusable:
    """Compare a SEG that a person drew with the results of a job, volume by volume.

    Raises FileDamaged, FileNotFoundError, NotDicom, SeriesRejected.
    """
    check_spooled(request.correction, request.sha256)
    series = spooled_series(request.paths)
    if place(identity_of(read_dataset(request.correction))) != place(series.stacks[0].slices[0].header.identity):
        return Unusable.OTHER_PATIENT
    try:
        drawn = read_seg(request.correction)
    except SegmentationUnreadable:
        return Unusable.UNREADABLE
    if not any(segment_class(mask) for mask in drawn):
        return Unusable.NO_LIVER_OR_LESION
    stacks = {stack.index: stack for stack in series.stacks}
    volumes: list[dict[str, int | float | None]] = []
    model: dict[str, Any] = {}
    for index, findings, sent in _results(request.outbox):
        stack = stacks[index]
        theirs = drawn_labels(stack.geometry, drawn)
        if theirs is None:
            continue
        if _is_of_another_program(request.correction, sent):
            return Unusable.OTHER_ALGORITHM
        model = findings["model"]
        ours = labels_on(stack, read_seg(sent))
        volumes.append({"volume_index": index, **_figures(ours, theirs, stack.geometry, drawn)})
    if not volumes:
        return Unusable.NOT_ON_IMAGES
    return Scored(request.job_id, model["name"], model["version"], model["sha256"], tuple(volumes))


def _results(outbox: Path) -> Iterator[tuple[int, dict[str, Any], Path]]:
    """Give the volumes of a job that have a SEG: index, findings and SEG, each as it was written."""
    for folder in sorted(path.parent for path in outbox.glob("*/findings.json")):
        seg = next((folder / name for name in ("seg.dcm", "seg_labelmap.dcm") if (folder / name).is_file()), None)
        if seg is not None:
            sums = read_sums(folder)
            for path in (folder / "findings.json", seg):
                check_file(path, sums.get(path.name))
            yield int(folder.name), json.loads((folder / "findings.json").read_text()), seg


def _is_of_another_program(correction: Path, sent: Path) -> bool:
    """True where all segments are AUTOMATIC and none is by the algorithm of what was sent: nobody has corrected it."""

    def segments(path: Path) -> list[tuple[str, str]]:
        found: Sequence[Dataset] = read_dataset(path).get("SegmentSequence") or []
        return [(str(item.get("SegmentAlgorithmType")), str(item.get("SegmentAlgorithmName"))) for item in found]

    ours = {name for _, name in segments(sent)}
    return all(kind == "AUTOMATIC" and name not in ours for kind, name in segments(correction))


def _figures(
    ours: NDArray[np.uint8], theirs: NDArray[np.uint8], geometry: Geometry, drawn: Sequence[SegmentMask]
) -> dict[str, int | float | None]:
    nobody = Algorithm("", "", "")
    found = asdict(disagreement(Segmentation(ours, geometry, nobody), Segmentation(theirs, geometry, nobody)))
    if all(segment_class(mask) != LIVER for mask in drawn):
        found |= dict.fromkeys(LIVER_FIGURES)  # they stored the lesions alone
    return found


def drawn_labels(geometry: Geometry, masks: Sequence[SegmentMask]) -> NDArray[np.uint8] | None:
    """Return what a person drew as labels (slice, row, column): 0, LIVER, and each lesion's number from TUMOUR on.

    Of several tumour segments each is a lesion, of a single one every component. A lesion counts where it was drawn,
    also where the liver's mask leaves it out; beyond MAX_LESIONS the rest share the last number. None where a frame
    does not lie on the images.
    """
    placed = [(segment_class(mask), place_mask(mask, geometry)) for mask in masks if segment_class(mask)]
    if any(mask is None for _, mask in placed):
        return None
    labels = np.zeros(geometry.shape, np.uint8)
    lesions = np.zeros(geometry.shape, np.int32)
    tumours = [mask for kind, mask in placed if kind == TUMOUR and mask is not None]
    for kind, mask in placed:
        if kind == LIVER and mask is not None:
            labels[mask] = LIVER
    if len(tumours) == 1:
        lesions, _ = components(tumours[0], np.ones((3, 3, 3)))
    for number, mask in enumerate(tumours if len(tumours) > 1 else (), start=1):
        lesions[mask] = number
    numbers = np.unique(lesions)  # of two that were drawn at one place, the first may be gone
    numbered = np.searchsorted(numbers[numbers > 0], lesions) + TUMOUR
    labels[lesions > 0] = np.minimum(numbered, LIVER + MAX_LESIONS)[lesions > 0]
    return labels
