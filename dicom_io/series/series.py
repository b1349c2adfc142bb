"""The files of one series, put in order: the volumes they hold, or the RejectReason why they hold none.

What is read right: any orientation, direction and spacing, also uneven and tilted stacks; several volumes in one
series; single-frame and Enhanced images. What is left out is counted, what a reader must know is a warning.
"""

import filecmp
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydicom import Dataset

from dicom_io.errors import NotDicom, RejectReason, SeriesRejected, SeriesWarning
from dicom_io.files import values
from dicom_io.files.identity import disagreement
from dicom_io.files.image_file import MODALITY_OF, ImageFile, read_dataset, read_image_file
from dicom_io.files.image_header import Plane
from dicom_io.geometry import lie_apart
from dicom_io.series.arrangement import stacks_of
from dicom_io.series.grids import by_grid, in_the_only_frame, place
from dicom_io.series.stacks import Slice, Stack
from dicom_io.series.twins import without_twins

MODALITIES = ("CT", "MR")

FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "NumberOfFrames")


@dataclass(frozen=True, eq=False)
class Series:
    """The volumes of a series, and how many of its objects belong to none."""

    stacks: tuple[Stack, ...]
    left_out: int = 0
    warnings: tuple[str, ...] = ()
    note: str = ""
    """The sentences of a report about volumes and ranges that were left out."""

    @property
    def series_instance_uid(self) -> str:
        """SeriesInstanceUID of all its images."""
        return self.stacks[0].series_instance_uid

    @property
    def study_instance_uid(self) -> str:
        """StudyInstanceUID of all its images."""
        return self.stacks[0].study_instance_uid

    @property
    def modality(self) -> str:
        """Modality: CT or MR."""
        return self.stacks[0].modality


def open_series(paths: Sequence[Path]) -> Series:
    """Read the headers of one series' files and arrange them. Raises NotDicom, or SeriesRejected."""
    with ThreadPoolExecutor(2) as pool:
        return arrange(list(pool.map(read_image_file, paths)))


def group_by_series(paths: Iterable[Path]) -> tuple[dict[str, list[ImageFile]], list[NotDicom]]:
    """Files by SeriesInstanceUID ("" where it is blank), and what could not be read."""
    groups: dict[str, list[ImageFile]] = {}
    unreadable: list[NotDicom] = []
    for path in paths:
        try:
            file = read_image_file(path)
        except NotDicom as error:
            unreadable.append(error)
            continue
        groups.setdefault(file.header.series_instance_uid, []).append(file)
    return groups, unreadable


def arrange(files: Sequence[ImageFile]) -> Series:
    """Sort the images of one series into stacks. Raises SeriesRejected with the reason.

    Slices are sorted by the projection of ImagePositionPatient on the normal (PS3.3 section C.7.6.2.1.1), never by
    InstanceNumber or file name. Volumes are in the order of what tells them apart.
    """
    identity = disagreement(file.header.identity for file in files if file.header.planes)
    files, conflicting = _each_once(files)
    images = _images(files)
    placed = [
        place(Slice(file.path, file.header, plane))
        for file in images
        for plane in file.header.planes
        if not _is_localizer(plane)
    ]
    if not placed:
        raise SeriesRejected(RejectReason.LOCALIZER_ONLY)
    if identity.differing:
        raise SeriesRejected(RejectReason.MIXED_IDENTITY, f"They differ in {', '.join(identity.differing)}.")
    if any(
        np.isnan([p.slice.plane.rescale_slope or 0.0, p.slice.plane.rescale_intercept or 0.0]).any() for p in placed
    ):
        raise SeriesRejected(RejectReason.UNREADABLE_PIXELS, "The rescale values are no numbers.")
    placed.sort(key=lambda item: item.slice.header.sop_instance_uid)  # which of two is used hangs on no order
    parts = [without_twins(part) for part in by_grid(in_the_only_frame(placed))]
    twins = len(placed) - sum(map(len, parts))
    stacks, note = stacks_of(parts)
    used = {uid for stack in stacks for uid in stack.sop_instance_uids}
    left_out = sum(file.header.sop_instance_uid not in used for file in files)
    found = [SeriesWarning.DUPLICATE_DIFFERENT] if conflicting else []
    found += [SeriesWarning.DUPLICATE_SLICES] if twins else []
    found += [SeriesWarning.LEFT_OUT] if left_out > twins else []
    found += [SeriesWarning.SEPARATE_RANGES] if note or lie_apart([stack.geometry for stack in stacks]) else []
    found += [SeriesWarning.SEVERAL_VOLUMES] if len(stacks) > 1 else []
    found += [SeriesWarning.UNUSABLE_VALUES] if any(file.header.unusable for file in images) else []
    found += [SeriesWarning.TRAILING_BYTES] if any(file.header.trailing for file in images) else []
    found += [SeriesWarning.IDENTITY_SPELLING] if identity.spelled else []
    codes = tuple(map(str, found))
    stacks = [replace(stack, index=index, warnings=codes + stack.warnings) for index, stack in enumerate(stacks)]
    return Series(tuple(stacks), left_out, codes, note)


def stack_headers(stack: Stack) -> tuple[Dataset, ...]:
    """Read a data set without pixels for each slice: the first with all of its file, the others with their plane.

    Decimal strings are those of the files. The frames of an Enhanced image look like single images that share
    its SOPInstanceUID. Raises NotDicom.
    """
    first = read_dataset(stack.slices[0].path)
    for keyword in FUNCTIONAL_GROUPS:
        first.pop(keyword, None)
    headers = [first, *(Dataset() for _ in stack.slices[1:])]
    for ds, item in zip(headers, stack.slices, strict=True):
        header, plane = item.header, item.plane
        stated = {
            "SOPClassUID": header.sop_class_uid,
            "SOPInstanceUID": header.sop_instance_uid,
            "StudyInstanceUID": header.study_instance_uid,
            "SeriesInstanceUID": header.series_instance_uid,
            "Modality": header.modality,
            "Rows": header.rows,
            "Columns": header.columns,
            "FrameOfReferenceUID": header.frame_of_reference_uid,
            "ImagePositionPatient": list(plane.image_position_patient),
            "ImageOrientationPatient": list(plane.image_orientation_patient),
            "PixelSpacing": list(plane.pixel_spacing),
            "SliceThickness": plane.slice_thickness,
            "InstanceNumber": header.instance_number,
        }
        for keyword, value in stated.items():
            if value not in ("", [], None):
                values.put(ds, keyword, value)
    return tuple(headers)


def _each_once(files: Sequence[ImageFile]) -> tuple[list[ImageFile], int]:
    """Return each SOP instance once, the first of its files, and how many came again with other bytes."""
    first: dict[str, ImageFile] = {}
    conflicting = 0
    for file in files:
        header = file.header
        if not (header.sop_instance_uid and header.sop_class_uid and header.series_instance_uid):
            raise SeriesRejected(RejectReason.NO_UID)
        if not header.study_instance_uid:
            raise SeriesRejected(RejectReason.NO_UID)
        known = first.setdefault(header.sop_instance_uid, file)
        if known is not file and known.path != file.path and not filecmp.cmp(known.path, file.path, shallow=False):
            conflicting += 1
    return list(first.values()), conflicting


def _images(files: Sequence[ImageFile]) -> list[ImageFile]:
    """The grey-scale CT or MR images among the objects of a series."""
    if not any(file.header.modality in MODALITIES for file in files):
        raise SeriesRejected(RejectReason.NOT_CT_OR_MR)
    images = [
        file
        for file in files
        if file.header.sop_class_uid in MODALITY_OF  # others in a series are secondary captures, raw data …
        and file.header.pixels is not None
        and file.header.pixels.samples_per_pixel == 1
    ]
    if not images:
        raise SeriesRejected(RejectReason.NOT_IMAGES)
    if len({file.header.modality for file in images}) > 1 or images[0].header.modality not in MODALITIES:
        raise SeriesRejected(RejectReason.NOT_CT_OR_MR)
    return images


def _is_localizer(plane: Plane) -> bool:
    return "LOCALIZER" in plane.image_type
