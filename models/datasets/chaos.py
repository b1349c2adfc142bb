"""CHAOS: `N/DICOM_anon/*.dcm` with `N/Ground/*.png` (CT), and `N/SEQUENCE/{DICOM_anon,Ground}` (MR).

The masks say nothing of where they lie. The one that comes n-th by name belongs to the image file that comes n-th by
name, which in CT set 3 runs from the head down: its liver leaves out the first 7 images by name, and of its published
masks it is the first seven, not the last, that are alike. On every case the order is proven anew (`require_best_fit`).
The donors are healthy: no tumour is hidden. In MR masks the liver is grey, 55 to 70 (T1DUAL: `DICOM_anon/InPhase`).
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from imagecodecs import PngError, png_decode
from numpy.typing import NDArray

from dicom_io.pixels import read_volume
from models.datasets.cases import Case
from models.datasets.images import open_images
from models.datasets.layout import Claim, Folder
from models.datasets.patients import CHAOS_CT, CHAOS_MR
from models.datasets.sources import FileSource
from models.datasets.truth import Bool, require_best_fit
from models.errors import CaseUnreadable

IMAGES, TRUTH, IN_PHASE = "DICOM_anon", "Ground", "InPhase"
MR_SEQUENCES = ("T1DUAL", "T2SPIR")
MR_LIVER = (55, 70)


def claim(folder: Folder) -> Claim | None:
    """The case of a folder that has DICOM_anon; None where it has not."""
    images, truth = folder.child(IMAGES), folder.child(TRUTH)
    if images is None:
        return None
    claimed = frozenset(path for path in (images, truth) if path)
    if truth is None:
        return Claim((), (f"{folder.said(images)}: no {TRUTH} beside it",), claimed)
    path = folder.path.resolve()
    sequence = path.name if path.name.upper() in MR_SEQUENCES else ""
    number = path.parent.name if sequence else path.name
    collection = CHAOS_MR if sequence else CHAOS_CT
    in_phase = images / IN_PHASE
    source = FileSource(
        name="-".join(filter(None, ("chaos-mr" if sequence else "chaos-ct", number, sequence))),
        patient=f"{collection}/{number}",
        collection=collection,
        reader=read,
        images=(in_phase if in_phase.is_dir() else images,),
        truths=(truth,),
        modality="MR" if sequence else "CT",
    )
    return Claim((source,), (), claimed)


def read(source: FileSource) -> Case:
    """The series and its masks, matched by the order of file names."""
    (folder,), (truth,) = source.images, source.truths
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    stack = open_images(files, folder).stacks[0]
    names = sorted(item.path for item in stack.slices)
    pngs = sorted(path for path in truth.iterdir() if re.fullmatch(r"[^.].*\.png", path.name, re.IGNORECASE))
    if len(pngs) != stack.geometry.slices or len(set(names)) != len(names):
        raise CaseUnreadable(f"{truth}: {len(pngs)} masks for {stack.geometry.slices} images")
    liver = np.empty(stack.geometry.shape, bool)
    ordered = dict(zip(names, pngs, strict=True))
    for index, item in enumerate(stack.slices):
        liver[index] = _liver(ordered[item.path], stack.geometry.shape[1:], source.modality)
    volume = read_volume(stack)
    require_best_fit(volume, liver, truth, axes=(0,))
    return Case(source.name, source.patient, volume, liver.astype(np.uint8), None, source.tumours_drawn)


def _liver(path: Path, shape: Sequence[int], modality: str) -> Bool:
    try:
        grey: NDArray[np.uint8] = png_decode(path.read_bytes())
    except (PngError, ValueError) as error:
        raise CaseUnreadable(f"{path}: not a PNG image, or damaged") from error
    grey = grey[..., 0] if grey.ndim == 3 else grey
    if grey.shape != tuple(shape):
        raise CaseUnreadable(f"{path}: is {grey.shape[0]} x {grey.shape[1]}, its image {shape[0]} x {shape[1]}")
    return np.asarray(grey > 0 if modality == "CT" else (grey >= MR_LIVER[0]) & (grey <= MR_LIVER[1]))
