"""A label volume beside the images of its case.

    FOLDER/labels.nii[.gz] with FOLDER/image.nii[.gz]                    one case, named after its folder
    FOLDER/labels.nii[.gz] with a folder or one .zip of DICOM, or *.dcm  the same
    NAME.nii[.gz] with NAME_label.nii[.gz]                               any number of cases in a folder

For `labels` may also stand label, liver_label(s), segmentation, seg, mask, truth; for `image` ct, mr (which says that
it is one), volume, img; the endings of the third kind are _label(s), _segmentation, _seg, _mask, _truth, with - or .
for _. 1 is liver, 2 tumour. A liver_label beside other labels is passed over: it says less. A case whose folder's name
is a number alone bears the name of the folder above too.
`tumour_instances.nii[.gz]` or `instances.nii[.gz]` has the tumours one by one. A `dataset.json` beside them, or beside
the folder, may say by its `name` which collection it is, and by its `modality`, as the Decathlon's, that NIfTI are MR.
A phantom as `porta phantom` writes it (a `truth.json` with its seed) is the patient that training draws of this seed.
"""

import json
import re
from dataclasses import replace
from pathlib import Path

from dicom_io.errors import NotNifti
from dicom_io.pixels import read_volume
from models.datasets.cases import Case
from models.datasets.images import nifti_image, open_images, unpack
from models.datasets.layout import Claim, Folder, dataset_description, is_nifti, stated_modality, stem
from models.datasets.patients import known_collection, known_patient
from models.datasets.phantoms import COLLECTION, PHANTOM_TRUTH, phantom_patient
from models.datasets.sources import FileSource
from models.datasets.truth import label_volume, labels_on
from models.errors import CaseUnreadable

LABELS = ("labels", "label", "liver_label", "liver_labels", "segmentation", "seg", "mask", "truth")
LIVER_ALONE = ("liver_label", "liver_labels")
IMAGES = ("image", "ct", "mr", "volume", "img")
INSTANCES = ("tumour_instances", "instances")
DICOM_FOLDERS = ("dicom", "ct_dicom", "patient_dicom", "series")
SUFFIXED = re.compile(r"(.+)[-_.](?:labels?|segmentation|seg|mask|truth)", re.IGNORECASE)


def claim(folder: Folder) -> Claim | None:
    """The cases of a folder; None where it has no label volume."""
    labels = folder.labelled(*LABELS)
    if not labels:
        return _suffixed(folder)
    livers = folder.labelled(*LIVER_ALONE)
    labels = [path for path in labels if path not in livers] or livers
    truth = labels[0]
    name = folder.path.resolve().name
    if len(labels) > 1:
        others = " and ".join(path.name for path in labels)
        return Claim((), (f"{folder.said(folder.path)}: {others}: which of them is the truth?",), frozenset(labels))
    images = folder.labelled(*IMAGES)
    dicom = _dicom(folder)
    instances = folder.labelled(*INSTANCES)
    claimed = frozenset([truth, *livers, *instances, *(images or dicom)])
    if not images and not dicom:
        return Claim((), (f"{folder.said(truth)}: no images beside it",), claimed)
    if len(images) > 1 or any(is_archive(path) for path in dicom[1:]):
        several = ", ".join(path.name for path in images or dicom)
        return Claim((), (f"{folder.said(truth)}: several images beside it: {several}",), claimed)
    above = folder.path.resolve().parent
    description = dataset_description(folder.path) or dataset_description(above)
    collection = str(description.get("name") or known_collection(above.name) or above.name)
    known = _phantom(folder) or known_patient(name) or (collection, f"{collection}/{name}")
    modality = "MR" if [stem(path).casefold() for path in images] == ["mr"] else stated_modality(description)
    source = FileSource(
        name=f"{above.name}-{name}" if name.isdecimal() else name,
        patient=known[1],
        collection=known[0],
        reader=read_nifti_pair if images else read_with_dicom,
        images=tuple(images or dicom),
        truths=(truth,),
        instances=instances[0] if instances else None,
        modality=modality if images else "CT",  # DICOM says it itself
    )
    return Claim((source,), (), claimed)


def read_nifti_pair(source: FileSource) -> Case:
    """An image and a label volume, each placed by its own affine."""
    (image,), (truth,) = source.images, source.truths
    volume = nifti_image(image, source.modality)
    labels = labels_on(truth, volume.geometry, source.values)
    instances = label_volume(source.instances, volume.geometry) if source.instances else None
    return Case(source.name, source.patient, volume, labels, instances, source.tumours_drawn)


def read_with_dicom(source: FileSource) -> Case:
    """A DICOM series and a label volume on the grid of one of its volumes."""
    (truth,) = source.truths
    first = source.images[0]
    with unpack(first) as files:
        paths = [path for _, path in files] if len(source.images) == 1 else list(source.images)
        fault: NotNifti | CaseUnreadable | None = None
        for stack in open_images(paths, first).stacks:
            try:
                labels = labels_on(truth, stack.geometry, source.values)
            except (NotNifti, CaseUnreadable) as error:
                fault = fault or error
                continue
            instances = label_volume(source.instances, stack.geometry) if source.instances else None
            volume = read_volume(stack)
            return Case(source.name, source.patient, volume, labels, instances, source.tumours_drawn)
    raise fault or CaseUnreadable(f"{first}: holds no volume")


def _phantom(folder: Folder) -> tuple[str, str] | None:
    """Return collection and patient of a phantom that Porta wrote; None for anything else."""
    try:
        seed = json.loads((folder.path / PHANTOM_TRUTH).read_text())["seed"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (COLLECTION, phantom_patient(seed)) if isinstance(seed, int) else None


def is_archive(path: Path) -> bool:
    """True where the name is that of an archive."""
    return path.suffix.casefold() == ".zip"


def _dicom(folder: Folder) -> list[Path]:
    """The DICOM images of a folder that has a label volume: a folder, archives, or loose files."""
    for name in DICOM_FOLDERS:
        if child := folder.child(name):
            return [child]
    if archives := [path for path in folder.files if is_archive(path)]:
        return archives
    if loose := [path for path in folder.files if path.suffix.casefold() in (".dcm", ".ima")]:
        return loose
    return list(folder.folders) if len(folder.folders) == 1 else []


def _suffixed(folder: Folder) -> Claim | None:
    """Pairs of NAME and NAME_label in one folder."""
    images = {stem(path): path for path in folder.files if is_nifti(path)}
    truths = {match[1]: path for name, path in images.items() if (match := SUFFIXED.fullmatch(name))}
    description = dataset_description(folder.path)
    collection = str(description.get("name") or folder.path.resolve().name)
    sources, skipped, claimed = [], [], set[Path]()
    for name, truth in truths.items():
        claimed.add(truth)
        if name not in images:
            skipped.append(f"{folder.said(truth)}: no {name}{truth.name[len(stem(truth)) :]} to go with it")
            continue
        claimed.add(images[name])
        of, patient = known_patient(name) or (collection, f"{collection}/{name}")
        pair = FileSource(*(name, patient, of, read_nifti_pair), (images[name],), (truth,))
        sources.append(replace(pair, modality=stated_modality(description)))
    return Claim(tuple(sources), tuple(skipped), frozenset(claimed)) if truths else None
