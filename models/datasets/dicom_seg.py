"""DICOM SEG objects and the series that they refer to, wherever below a folder their files lie.

A segment is liver or tumour by its property type (SNOMED CT, or SRT as older objects have it) or else by its label;
others count as background. All SEG objects of a series are read together, but only one of them may hold a liver. A
patient is told by StudyInstanceUID, the least of those that have the same PatientID, of which nothing is written.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from dicom_io.errors import NotDicom, SegmentationUnreadable, SeriesRejected
from dicom_io.files.image_file import ImageFile, read_dataset, read_image_file
from dicom_io.pixels import read_volume
from dicom_io.seg_labels import place_mask, segment_class
from dicom_io.seg_reader import LABEL_MAP_SEGMENTATION_STORAGE, SEGMENTATION_STORAGE, SegmentMask, read_seg
from dicom_io.series.series import arrange
from models.datasets.cases import LIVER, TUMOUR, Case
from models.datasets.images import image_files
from models.datasets.layout import Claim, Folder
from models.datasets.sources import FileSource
from models.datasets.truth import merge_masks
from models.errors import CaseUnreadable

COLLECTION = "DICOM SEG"
SEG_CLASSES = (SEGMENTATION_STORAGE, LABEL_MAP_SEGMENTATION_STORAGE)


def claim(root: Folder) -> Claim:
    """The SEG objects among all files that are left below a folder, and their series."""
    segs, series, study = [], defaultdict[str, list[ImageFile]](list), dict[str, str]()
    for path in root.files:
        if not _is_dicom(path):
            continue
        try:
            file = read_image_file(path)
        except NotDicom:
            continue
        if file.header.sop_class_uid in SEG_CLASSES:
            segs.append(file)
        elif file.header.pixels is not None:
            series[file.header.series_instance_uid].append(file)
            study[file.header.sop_instance_uid] = file.header.series_instance_uid
    claimed = {file.path for file in segs}
    skipped = []
    of_series: dict[str, list[tuple[Path, list[int]]]] = defaultdict(list)
    for seg in segs:
        try:
            masks = read_seg(seg.path)
        except SegmentationUnreadable as error:
            skipped.append(f"{root.said(seg.path)}: {error}")
            continue
        if not any(segment_class(mask) for mask in masks):
            skipped.append(f"{root.said(seg.path)}: none of its segments is a liver or a tumour")
            continue
        uid = _series_of(seg, masks, series, study)
        if uid is None:
            skipped.append(f"{root.said(seg.path)}: the series that it refers to is not here")
            continue
        of_series[uid].append((seg.path, [segment_class(mask) for mask in masks]))
    sources = []
    for uid, objects in of_series.items():
        images = tuple(file.path for file in series[uid])
        claimed.update(images)
        named = ", ".join(root.said(path) for path, _ in objects)
        livers = sum(LIVER in kinds for _, kinds in objects)
        if livers != 1:
            skipped.append(f"{named}: {livers or 'no'} SEG objects with a liver for one series, which needs one")
            continue
        try:
            arrange(series[uid])
        except SeriesRejected as error:
            skipped.append(f"{named}: its series cannot be used, {error}")
            continue
        sources.append(_source(root, uid, images, [path for path, _ in objects]))
    return Claim(tuple(sources), tuple(skipped), frozenset(claimed))


def read(source: FileSource) -> Case:
    """The volume that the frames of the SEG objects lie on, with liver and tumours."""
    livers, tumours = list[SegmentMask](), list[SegmentMask]()
    for path in source.truths:
        kinds = [(segment_class(mask), mask) for mask in read_seg(path)]
        livers += [mask for kind, mask in kinds if kind == LIVER]
        tumours += [mask for kind, mask in kinds if kind == TUMOUR]
    if not livers:
        raise CaseUnreadable(f"{source.truths[0]}: no segment is a liver any more")
    for stack in arrange(image_files(source.images, source.images[0].parent)).stacks:
        placed = [place_mask(mask, stack.geometry) for mask in (*livers, *tumours)]
        drawn = [mask for mask in placed if mask is not None]
        if len(drawn) == len(placed):
            liver = np.logical_or.reduce(drawn[: len(livers)])
            labels, instances = merge_masks(liver, drawn[len(livers) :], apart=[len(tumours) > 1] * len(tumours))
            return Case(source.name, source.patient, read_volume(stack), labels, instances, source.tumours_drawn)
    raise CaseUnreadable(f"{source.truths[0]}: its frames do not lie on the images of the series")


def _source(root: Folder, uid: str, images: Sequence[Path], segs: Sequence[Path]) -> FileSource:
    digest = sha256(uid.encode()).hexdigest()[:8]
    below = segs[0].relative_to(root.path).parts
    folder = below[0] if len(below) > 1 else root.path.resolve().name
    ds = read_dataset(images[0])
    patient = f"{COLLECTION}/{ds.get('StudyInstanceUID') or uid}"
    person = str(ds.get("PatientID") or "").strip()
    return FileSource(*(f"{folder}-{digest}", patient, COLLECTION, read, tuple(images), tuple(segs)), person=person)


def _series_of(
    seg: ImageFile, masks: Iterable[SegmentMask], series: dict[str, list[ImageFile]], of_image: dict[str, str]
) -> str | None:
    """SeriesInstanceUID of the images: those of the frames, else ReferencedSeriesSequence, else the only one near."""
    for mask in masks:
        for uid in (uid for uids in mask.source_sop_instance_uids for uid in uids):
            if uid in of_image:
                return of_image[uid]
    for item in read_dataset(seg.path).get("ReferencedSeriesSequence") or []:
        if (uid := str(item.get("SeriesInstanceUID"))) in series:
            return uid
    frame = seg.header.frame_of_reference_uid
    near = [uid for uid, files in series.items() if frame and files[0].header.frame_of_reference_uid == frame]
    return near[0] if len(near) == 1 else None


def _is_dicom(path: Path) -> bool:
    """True for a file with the mark behind the preamble (PS3.10 section 7.1); others are not looked at."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
