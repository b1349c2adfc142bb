"""Folders of images beside folders of labels: the Medical Segmentation Decathlon, nnU-Net, and what is laid out so.

`images*/NAME.nii[.gz]` belongs to `labels*/NAME.nii[.gz]` where both folders' names end alike (imagesTr, labelsTr).
`dataset.json` says what the values mean and which modality it is; without it 1 is liver and 2 tumour, of a CT. Of its
labels, "liver" is liver, what is called a tumour, cancer, lesion or metastasis is tumour, and all others background.
Images without a folder of labels (imagesTs) are a challenge's test, and passed over.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.datasets import lits
from models.datasets.cases import LIVER, TUMOUR
from models.datasets.layout import Claim, Folder, dataset_description, is_nifti, stated_modality, stem
from models.datasets.patients import MSD_LIVER, lits_patient
from models.datasets.sources import LABEL_VALUES, FileSource

TASK03 = re.compile(r"Task0*3(_.*)?|Dataset0*3_Liver", re.IGNORECASE)
LITS_NAME = re.compile(r"liver_(\d+)")
CHANNEL = re.compile(r"_(\d{4})$")
TUMOUR_WORDS = re.compile(r"tumou?r|cancer|lesion|metasta|neoplas", re.IGNORECASE)


def claim(folder: Folder) -> Claim | None:
    """The pairs of a folder that has `images*`; None where it has not."""
    images = {path.name[len("images") :]: path for path in folder.folders if path.name.startswith("images")}
    labels = {path.name[len("labels") :]: path for path in folder.folders if path.name.startswith("labels")}
    if not images:
        return None
    description = dataset_description(folder.path)
    claimed = frozenset([*images.values(), *labels.values()])
    if not set(images) & set(labels):
        return Claim((), (f"{folder.said(folder.path)}: has {', '.join(sorted(p.name for p in images.values()))} "
                          "and no folder of labels to go with it",), claimed)  # fmt: skip
    values = _values(description.get("labels"))
    if values is None:
        return Claim((), (f"{folder.said(folder.path / 'dataset.json')}: none of its labels is a liver",), claimed)
    collection = str(description.get("name") or folder.name)
    like = FileSource(
        *("", "", MSD_LIVER if TASK03.fullmatch(folder.name) else collection),
        *(lits.read, (), ()),
        values=values,
        modality=stated_modality(description),
    )
    sources: list[FileSource] = []
    skipped: list[str] = []
    for ending in sorted(set(images) & set(labels)):
        _pair(folder, images[ending], labels[ending], like, sources, skipped)
    return Claim(tuple(sources), tuple(skipped), claimed)


def _pair(
    folder: Folder, images: Path, labels: Path, like: FileSource, sources: list[FileSource], skipped: list[str]
) -> None:
    truths = {stem(path): path for path in _niftis(labels)}
    channels: dict[str, list[Path]] = {}
    for path in _niftis(images):
        name = stem(path)
        channels.setdefault(name if name in truths else CHANNEL.sub("", name), []).append(path)
    for name, paths in channels.items():
        if name not in truths:
            skipped.append(f"{folder.said(paths[0])}: no {labels.name}/{name}.nii.gz to go with it")
        elif len(paths) > 1:
            skipped.append(f"{folder.said(paths[0])}: has {len(paths)} channels, of which one can be used")
        else:
            match = LITS_NAME.fullmatch(name) if like.collection == MSD_LIVER else None
            patient = lits_patient(int(match[1])) if match else f"{like.collection}/{name}"
            sources.append(replace(like, name=name, patient=patient, images=(paths[0],), truths=(truths[name],)))
    skipped += [
        f"{folder.said(path)}: no {images.name}/{name}.nii.gz to go with it"
        for name, path in truths.items()
        if name not in channels
    ]


def _niftis(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if is_nifti(path) and not path.name.startswith("."))


def _values(labels: Any) -> tuple[tuple[int, int], ...] | None:
    """What values mean: `{"1": "liver"}` as in the Decathlon, `{"liver": 1}` or `{"liver": [1, 2]}` as in nnU-Net."""
    if not isinstance(labels, Mapping) or not labels:
        return LABEL_VALUES
    named: list[tuple[str, list[int]]] = []
    for key, value in labels.items():
        word, numbers = (str(value), [key]) if str(key).isdigit() else (str(key), value)
        numbers = numbers if isinstance(numbers, list) else [numbers]
        if all(str(number).isdigit() and int(number) < 256 for number in numbers):
            named.append((word, [int(number) for number in numbers]))
    meaning: dict[int, int] = {number: 0 for _, numbers in named for number in numbers if number}
    livers = [numbers for word, numbers in named if word.casefold() == "liver"]
    tumours = [numbers for word, numbers in named if TUMOUR_WORDS.search(word)]
    for kind, groups in ((LIVER, livers), (TUMOUR, tumours)):
        meaning |= {number: kind for numbers in groups for number in numbers}
    return tuple(sorted(meaning.items())) if livers else None
