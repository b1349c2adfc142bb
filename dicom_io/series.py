"""The files of one series, put in order: the volumes they hold, or the RejectReason why they hold none.

What is read right: any orientation, direction and spacing, also uneven and tilted stacks; several volumes in one
series; single-frame and Enhanced images. What is left out is counted, what a reader must know is a warning.
"""

import filecmp
from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset

from dicom_io import values
from dicom_io.dataset_reader import pixel_pieces, read_contents
from dicom_io.errors import NotDicom, RejectReason, SeriesRejected, SeriesWarning
from dicom_io.geometry import SAME_GRID_MM, Float, Geometry, is_orthonormal, lie_apart
from dicom_io.hounsfield import refuse_other_units
from dicom_io.identity import disagreement
from dicom_io.image_file import MODALITY_OF, ImageFile, read_dataset, read_image_file
from dicom_io.image_header import ImageHeader, Plane
from dicom_io.partition import Part, Placed, clusters, each_once, ranges, volumes_of
from dicom_io.sizes import FARTHEST_MM, MAX_FIELD_MM, MAX_STEP_MM, check_size
from dicom_io.uids import derive_uid
from dicom_io.values import DAMAGED

MIN_SLICES = 5
MIN_EXTENT_MM = 50.0
"""A stack shorter than this along its normal cannot hold a liver worth measuring."""
MAX_GAP_MM = 20.0
"""The widest distance between neighbouring slices that is read: a wider hole could hide a lesion of 2 cm."""
MAX_MISSING_SHARE = 0.1
"""How many slices may be missing from a regular grid, of those that belong to it."""
THICK_MM = 5.0
"""RECIST 1.1 asks for slices of at most 5 mm."""
THICK_QUANTILE = 0.75
"""Slices count as thick when a quarter of them are: a part of the stack that may hold the liver."""

MODALITIES = ("CT", "MR")

FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "NumberOfFrames")


@dataclass(frozen=True)
class Slice:
    """One plane of a volume: the file that holds its pixels, and its header."""

    path: Path
    header: ImageHeader
    plane: Plane


@dataclass(frozen=True, eq=False)
class Stack:
    """The slices of one volume, in order along `geometry.normal`.

    `index` counts the volumes of the series from 0, `label` says what tells this one from the others ("" for an only
    one) and holds no patient's data. `warnings` are SeriesWarning codes for the report.
    """

    slices: tuple[Slice, ...]
    geometry: Geometry
    index: int = 0
    label: str = ""
    warnings: tuple[str, ...] = ()
    is_range: bool = False
    """Whether it is one of several ranges along the patient, and so is of interest where it holds a liver."""

    @property
    def modality(self) -> str:
        """Modality: CT or MR."""
        return self.slices[0].header.modality

    @property
    def series_instance_uid(self) -> str:
        """SeriesInstanceUID of all its images."""
        return self.slices[0].header.series_instance_uid

    @property
    def study_instance_uid(self) -> str:
        """StudyInstanceUID of all its images."""
        return self.slices[0].header.study_instance_uid

    @property
    def sop_instance_uids(self) -> tuple[str, ...]:
        """SOPInstanceUID for each slice; the frames of one file share theirs."""
        return tuple(item.header.sop_instance_uid for item in self.slices)

    @property
    def frame_numbers(self) -> tuple[int | None, ...]:
        """The frame of each slice, from 1; None for a single-frame image."""
        return tuple(item.plane.frame_number for item in self.slices)


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
        _placed(Slice(file.path, file.header, plane))
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
    parts = [each_once(part, _content) for part in _by_grid(_in_the_only_frame(placed))]
    twins = len(placed) - sum(map(len, parts))
    stacks, note = _stacks(parts)
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
        }
        for keyword, value in stated.items():
            if value not in ("", []):
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


def _placed(item: Slice) -> Placed[Slice]:
    """Return the place of an image. Raises SeriesRejected(NO_POSITION) where it is not usable."""
    plane = item.plane
    try:
        origin = np.array([float(value) for value in plane.image_position_patient])
        orientation = np.array([float(value) for value in plane.image_orientation_patient])
        spacing = tuple(float(value) for value in plane.pixel_spacing)
    except ValueError as error:
        raise SeriesRejected(RejectReason.NO_POSITION) from error
    usable = (
        origin.shape == (3,)
        and np.isfinite(origin).all()
        and orientation.shape == (6,)
        and is_orthonormal(orientation[:3], orientation[3:])
        and len(spacing) == 2
        and all(0 < value < np.inf for value in spacing)
    )
    if not usable:
        raise SeriesRejected(RejectReason.NO_POSITION)
    if max(spacing) > MAX_FIELD_MM or np.abs(origin).max() > FARTHEST_MM:
        raise SeriesRejected(RejectReason.IMPOSSIBLE_SIZE)
    return Placed(item, origin, orientation, plane.marks)


def _in_the_only_frame(placed: Sequence[Placed[Slice]]) -> Sequence[Placed[Slice]]:
    """Give images without a frame of reference that of the others, where all of those state one and the same."""
    stated = {item.slice.header.frame_of_reference_uid for item in placed} - {""}
    return (
        [_as_if(item, frame_of_reference_uid=uid) for item in placed for uid in stated] if len(stated) == 1 else placed
    )


def _as_if(item: Placed[Slice], **stated: Any) -> Placed[Slice]:
    """The image as if its header said this."""
    return replace(item, slice=replace(item.slice, header=replace(item.slice.header, **stated)))


def _by_grid(placed: Sequence[Placed[Slice]]) -> list[list[Placed[Slice]]]:
    """Images that share plane direction, size, spacing and frame of reference; the largest group first."""
    alike: dict[tuple[object, ...], list[Placed[Slice]]] = {}
    for item in placed:
        header = item.slice.header
        alike.setdefault((header.rows, header.columns, header.frame_of_reference_uid), []).append(item)
    parts = [
        [members[index] for index in group]
        for members in alike.values()
        for group in clusters(np.array([_ends_mm(item) for item in members]), SAME_GRID_MM)
    ]
    return sorted(parts, key=len, reverse=True)


def _ends_mm(item: Placed[Slice]) -> Float:
    """(2, 3) where the ends of the first row and column lie, seen from the first pixel."""
    header = item.slice.header
    row_spacing, column_spacing = (float(value) for value in item.slice.plane.pixel_spacing)
    along = item.orientation[:3] * column_spacing * (header.columns - 1)
    down = item.orientation[3:] * row_spacing * (header.rows - 1)
    return np.stack([along, down])


def _content(item: Slice) -> Hashable:
    """What two slices share whose pixels are the same: all of PixelData, and how it is read.

    Each frame of a compressed image counts as different, and so does one that has no bytes to compare.
    """
    pixels, plane = item.header.pixels, item.plane
    alone = item.header.sop_instance_uid, plane.frame_number
    if pixels is None or (pixels.offset is None and plane.frame_number is not None):
        return alone
    digest = sha256()
    with suppress(*DAMAGED), item.path.open("rb") as file:
        if pixels.offset is None:
            for piece in pixel_pieces(file, read_contents(file)):
                digest.update(piece)
        else:
            size = item.header.rows * item.header.columns * pixels.bits_allocated // 8
            file.seek(pixels.offset + size * ((plane.frame_number or 1) - 1))
            digest.update(file.read(size))
        if digest.digest() != sha256().digest():
            return replace(pixels, offset=None), plane.rescale_slope, plane.rescale_intercept, digest.digest()
    return alone


def _stacks(parts: Sequence[Sequence[Placed[Slice]]]) -> tuple[list[Stack], str]:
    """Return the volumes of a series, from its images by direction and grid, and the remarks on their ranges.

    Raises SeriesRejected when there are none.
    """
    stacks: list[Stack] = []
    notes: list[str] = []
    refusals: list[tuple[bool, int, SeriesRejected]] = []
    for part in parts:
        try:
            volumes = volumes_of(part, MIN_SLICES)
        except SeriesRejected as error:
            refusals.append((not _is_derived([item.slice for item in part]), len(part), error))
            continue
        for volume in volumes:
            try:
                found, note = _ranges(volume)
                stacks += found
                notes += [note] if note else []
            except SeriesRejected as error:
                original = not _is_derived([item.slice for item in volume.placed])
                refusals.append((original, len(volume.placed), error))
    read = max(((not _is_derived(stack.slices), stack.geometry.slices) for stack in stacks), default=(False, 0))
    original, count, refusal = max(refusals, key=lambda item: item[:2], default=(False, 0, None))
    if refusal is not None and (original, count) > read:
        raise SeriesRejected(_to_blame(refusal.reason, parts), refusal.detail)
    return _without_reformats(stacks), " ".join(dict.fromkeys(notes))


def _ranges(volume: Part[Slice]) -> tuple[list[Stack], str]:
    """Return the stack of a volume, or of each of its ranges that is long enough, and the remarks on them.

    Ranges are more than MAX_GAP_MM apart: chest and pelvis in one series, or an abdomen that was scanned in two parts.
    Raises SeriesRejected where no range can be read.
    """
    parts = ranges(volume.placed, MAX_GAP_MM)
    if len(parts) == 1 or len(volume.placed) < MIN_SLICES:
        return [_stack(volume.placed, volume.label)], ""
    normal = np.cross(volume.placed[0].orientation[:3], volume.placed[0].orientation[3:])
    spans = [(min(part), max(part)) for part in ([float(item.origin @ normal) for item in part] for part in parts)]
    gap_mm = max(after[0] - before[1] for before, after in pairwise(spans))
    stacks: list[Stack] = []
    incomplete: list[tuple[int, SeriesRejected]] = []
    for number, part in enumerate(parts, start=1):
        label = ", ".join(filter(None, (volume.label, f"range {number} of {len(parts)}")))
        try:
            stacks.append(replace(_stack(part, label), is_range=True))
        except SeriesRejected as error:
            is_short = error.reason in (RejectReason.TOO_SHORT, RejectReason.TOO_FEW_SLICES)
            incomplete += [] if is_short else [(len(part), error)]
    longest, refusal = max(incomplete, key=lambda item: item[0], default=(0, None))
    if refusal and longest > max((stack.geometry.slices for stack in stacks), default=0):
        raise refusal
    if len(parts) == len(volume.placed) and gap_mm > MAX_STEP_MM:
        raise SeriesRejected(RejectReason.IMPOSSIBLE_SIZE, f"Slices {gap_mm:.3g} mm apart.")
    if not stacks:
        raise SeriesRejected(RejectReason.MISSING_SLICES, f"A gap of {gap_mm:.1f} mm.")
    left_out = len(volume.placed) - sum(stack.geometry.slices for stack in stacks)
    said = f"The slices lie in {len(parts)} ranges, up to {gap_mm:.0f} mm apart."
    said += f" {left_out} slices in ranges too short or incomplete to be read were left out." if left_out else ""
    return stacks, said


def _to_blame(reason: RejectReason, parts: Sequence[Sequence[Placed[Slice]]]) -> RejectReason:
    """Return the property that splits the images into too small groups: without it they would make a volume."""
    if reason not in (RejectReason.TOO_FEW_SLICES, RejectReason.TOO_SHORT, RejectReason.MISSING_SLICES):
        return reason
    in_one_frame = [_as_if(item, frame_of_reference_uid="") for part in parts for item in part]
    on_one_grid = [_on_any_grid(item) for item in in_one_frame]
    apart = len(parts)
    for mixed, images in (
        (RejectReason.MIXED_FRAMES_OF_REFERENCE, in_one_frame),
        (RejectReason.MIXED_GRIDS, on_one_grid),
    ):
        largest, *others = _by_grid(images)
        if len(others) + 1 < apart and _holds_a_volume(largest):
            return mixed
        apart = len(others) + 1
    return RejectReason.MIXED_ORIENTATION if reason == RejectReason.TOO_FEW_SLICES and others else reason


def _on_any_grid(item: Placed[Slice]) -> Placed[Slice]:
    plane = replace(item.slice.plane, pixel_spacing=("1", "1"))
    return _as_if(replace(item, slice=replace(item.slice, plane=plane)), rows=512, columns=512)


def _holds_a_volume(placed: Sequence[Placed[Slice]]) -> bool:
    try:
        for volume in volumes_of(placed, MIN_SLICES):
            _stack(volume.placed, volume.label)
    except SeriesRejected:
        return False
    return True


def _without_reformats(stacks: list[Stack]) -> list[Stack]:
    """Return the stacks without those that were computed from another one of the series, each with its label."""
    kept = [stack for stack in stacks if not _is_derived(stack.slices)] or stacks
    labels = [stack.label for stack in kept]
    if len({stack.geometry.plane_name for stack in kept}) > 1:
        labels = [", ".join(filter(None, (stack.geometry.plane_name, stack.label))) for stack in kept]
    if len(set(labels)) < len(labels):
        labels = [", ".join(filter(None, (label, f"part {n} of {len(kept)}"))) for n, label in enumerate(labels, 1)]
    return [replace(stack, label=label if len(kept) > 1 else "") for stack, label in zip(kept, labels, strict=True)]


def _is_derived(slices: Sequence[Slice]) -> bool:
    """True where most of the images are DERIVED or SECONDARY (PS3.3 section C.7.6.1.1.2)."""
    return 2 * sum(bool({"DERIVED", "SECONDARY"} & set(item.plane.image_type[:2])) for item in slices) > len(slices)


def _stack(placed: Sequence[Placed[Slice]], label: str) -> Stack:
    """Return one volume in slice order, with its warnings. Raises SeriesRejected."""
    if len(placed) < MIN_SLICES:
        raise SeriesRejected(RejectReason.TOO_FEW_SLICES, f"{len(placed)} of at least {MIN_SLICES}.")
    ordered = placed
    for _ in range(2):  # orientations differ a little: that of the first slice is the one of them all
        first = ordered[0]
        normal = np.cross(first.orientation[:3], first.orientation[3:])
        ordered = sorted(placed, key=lambda item: float(item.origin @ normal))
    items = tuple(item.slice for item in ordered)
    header, plane = items[0].header, items[0].plane
    frame_of_reference_uid = header.frame_of_reference_uid
    geometry = Geometry(
        origins_lps_mm=np.array([item.origin for item in ordered]),
        row_cosines=first.orientation[:3],
        column_cosines=first.orientation[3:],
        row_spacing_mm=float(plane.pixel_spacing[0]),
        column_spacing_mm=float(plane.pixel_spacing[1]),
        rows=header.rows,
        columns=header.columns,
        frame_of_reference_uid=frame_of_reference_uid or derive_uid("frame-of-reference", header.series_instance_uid),
    )
    check_size(geometry)
    if header.modality == "CT":
        refuse_other_units([item.plane for item in items])
    extent_mm = float(geometry.slice_widths_mm.sum())
    if extent_mm < MIN_EXTENT_MM:
        raise SeriesRejected(RejectReason.TOO_SHORT, f"{extent_mm:.0f} mm.")
    found = _spacing_warnings(geometry)
    if geometry.is_tilted:
        found.append(SeriesWarning.TILT)
    if np.quantile(geometry.slice_widths_mm, THICK_QUANTILE) > THICK_MM + 0.01:
        found.append(SeriesWarning.THICK_SLICES)
    if not frame_of_reference_uid:
        found.append(SeriesWarning.NO_FRAME_OF_REFERENCE)
    if header.modality == "CT" and any(item.plane.rescale_intercept is None for item in items):
        found.append(SeriesWarning.NO_RESCALE)
    return Stack(items, geometry, label=label, warnings=tuple(map(str, found)))


def _spacing_warnings(geometry: Geometry) -> list[SeriesWarning]:
    """Return warnings about the distances between slices. Raises SeriesRejected(MISSING_SLICES) beyond the limits."""
    if geometry.is_even:
        return []
    gaps: Float = np.diff(geometry.positions_mm)
    if gaps.max() > MAX_GAP_MM:
        raise SeriesRejected(RejectReason.MISSING_SLICES, f"A gap of {gaps.max():.1f} mm.")
    missing = geometry.missing_slices
    if not missing:
        return [SeriesWarning.UNEVEN_SPACING]
    if missing > max(1.0, MAX_MISSING_SHARE * (geometry.slices + missing)):
        raise SeriesRejected(RejectReason.MISSING_SLICES, f"{missing} of {geometry.slices + missing}.")
    return [SeriesWarning.MISSING_SLICES]
