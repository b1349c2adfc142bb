"""LiTS: `volume-N.nii[.gz]` and `segmentation-N.nii[.gz]`, wherever below a folder ("Training Batch 1", "2") they lie.

Masks of LiTS are voxel by voxel those of their volumes, but some have lost their affine (an identity stands there).
Such a mask is taken in its volume's order, once it is proven that it lies worse on the organ with any axis turned.
"""

import re
from collections import defaultdict
from pathlib import Path

from dicom_io.errors import NotNifti
from dicom_io.nifti import read_labels, read_labels_like
from models.datasets.cases import LIVER, Case
from models.datasets.images import nifti_image
from models.datasets.layout import Claim, Folder, dataset_description, is_nifti, stated_modality, stem
from models.datasets.patients import LITS, lits_patient
from models.datasets.sources import FileSource
from models.datasets.truth import classes, require_best_fit
from models.errors import CaseUnreadable

KINDS = re.compile(r"(test-volume|volume|segmentation)-(\d+)", re.IGNORECASE)


def claim(root: Folder) -> Claim:
    """Pairs among all files that are left below a folder; a mask may lie in another one than its volume.

    A `dataset.json` beside the volumes may say by its `name` that they are not LiTS but laid out like it, and by its
    `modality`, as the Decathlon's, that they are MR.
    """
    kinds: dict[str, dict[int, list[Path]]] = {kind: defaultdict(list) for kind in ("volume", "segmentation")}
    claimed = set()
    for path in root.files:
        match = KINDS.fullmatch(stem(path)) if is_nifti(path) else None
        if match:
            claimed.add(path)
            kinds.get(match[1].casefold(), defaultdict(list))[int(match[2])].append(path)  # tests have no truth
    sources, skipped = [], []
    for number in sorted({*kinds["volume"], *kinds["segmentation"]}):
        volumes, masks = kinds["volume"][number], kinds["segmentation"][number]
        if not volumes:
            skipped += [f"{root.said(mask)}: no volume-{number}.nii to go with it" for mask in masks]
            continue
        volume, *others = volumes
        skipped += [f"{root.said(other)}: {root.said(volume)} is used, which has the same number" for other in others]
        beside = [mask for mask in masks if mask.parent == volume.parent] or masks
        if len(beside) != 1:
            why = "several files" if beside else "no file"
            skipped.append(f"{root.said(volume)}: {why} segmentation-{number}.nii to go with it")
            continue
        description = dataset_description(volume.parent)
        collection = str(description.get("name") or LITS)
        genuine = collection == LITS
        sources.append(
            FileSource(
                name=f"volume-{number}" if genuine else f"{collection}-{number}",
                patient=lits_patient(number) if genuine else f"{collection}/{number}",
                collection=collection,
                reader=read,
                images=(volume,),
                truths=(beside[0],),
                modality=stated_modality(description),
            )
        )
    return Claim(tuple(sources), tuple(skipped), frozenset(claimed))


def read(source: FileSource) -> Case:
    """A pair of NIfTI files whose masks may have lost their affine."""
    (image,), (truth,) = source.images, source.truths
    volume = nifti_image(image, source.modality)
    if not truth.is_file():
        raise CaseUnreadable(f"{truth}: no such file")
    try:
        labels = classes(read_labels(truth, volume.geometry), source.values, truth)
    except NotNifti:
        labels = classes(read_labels_like(truth, image), source.values, truth)
        require_best_fit(volume, labels >= LIVER, truth, axes=(0, 1, 2))
    return Case(source.name, source.patient, volume, labels, tumours_drawn=source.tumours_drawn)
