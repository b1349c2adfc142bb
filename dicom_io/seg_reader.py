"""SEG objects read with pydicom alone: every frame's mask, and where it lies in patient space.

Positions, orientation and spacing come from the object's own functional groups (PS3.3 section C.7.6.16), and
bits are unpacked here: this is the second path of the self-check, so it shares nothing with the library that
writes our SEG objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.uid import UID, ExplicitVRBigEndian

from dicom_io.errors import SegmentationUnreadable
from dicom_io.geometry import Float, is_orthonormal

SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP_SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"

SAME_PLANE_MM = 1e-3
"""Positions along the normal that differ by less are one plane."""

Bool = NDArray[np.bool_]
Stored = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class SegmentMask:
    """One segment: its masks and the planes they lie on, sorted along the normal. Empty frames are left out.

    `masks` (frames, rows, columns). `origins_lps_mm` (frames, 3): centre of each frame's first pixel.
    `spacing_between_slices_mm`: SpacingBetweenSlices, None where it is absent. `slice_widths_mm` (frames,): what each
    frame stands for along the normal: that spacing, or half-way to the neighbouring positions of the object.
    `source_sop_instance_uids`: for each frame the images it was derived from, and in `source_frame_numbers`, of the
    same shape, the frame of each (None: the whole image). An image with several frames stands there once for each.
    `property_type`: CodingSchemeDesignator and CodeValue of SegmentedPropertyTypeCodeSequence, "" where absent.
    `fractions`, from `read_fractions` alone: what is stored for each pixel, of `maximum_fractional_value`.
    """

    number: int
    label: str
    tracking_uid: str | None
    frame_of_reference_uid: str
    masks: Bool
    origins_lps_mm: Float
    row_cosines: Float
    column_cosines: Float
    row_spacing_mm: float
    column_spacing_mm: float
    spacing_between_slices_mm: float | None
    slice_widths_mm: Float
    source_sop_instance_uids: tuple[tuple[str, ...], ...]
    source_frame_numbers: tuple[tuple[int | None, ...], ...]
    property_type: tuple[str, str] = ("", "")
    fractions: Stored | None = None
    maximum_fractional_value: int | None = None
    tracking_id: str = ""

    @property
    def normal(self) -> Float:
        """Unit vector (3,) across the planes."""
        return np.asarray(np.cross(self.row_cosines, self.column_cosines))

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(frames,) voxels of each frame."""
        return np.array([np.count_nonzero(mask) for mask in self.masks], dtype=np.int64)

    @cached_property
    def volume_ml(self) -> float:
        """Volume by the object's own spacing."""
        area_mm2 = self.row_spacing_mm * self.column_spacing_mm
        return float(self.counts @ self.slice_widths_mm) * area_mm2 / 1000

    @cached_property
    def centres_lps_mm(self) -> Float:
        """(frames, 3) the middle of each frame's voxels."""
        # In the box that holds all frames' voxels: of a lesion, the rest of the plane is most of the work
        filled = np.asarray(self.masks.any(axis=0))
        first_row, last_row = _ends(np.asarray(filled.any(axis=1)))
        first_column, last_column = _ends(np.asarray(filled.any(axis=0)))
        masks = self.masks[:, first_row:last_row, first_column:last_column]
        rows = np.count_nonzero(masks, axis=2) @ np.arange(first_row, last_row) / self.counts
        columns = np.count_nonzero(masks, axis=1) @ np.arange(first_column, last_column) / self.counts
        return np.asarray(
            self.origins_lps_mm
            + rows[:, None] * self.column_cosines * self.row_spacing_mm
            + columns[:, None] * self.row_cosines * self.column_spacing_mm
        )

    @cached_property
    def centroid_lps_mm(self) -> Float | None:
        """(3,) centre of volume by the object's own spacing, None for a segment without voxels."""
        if not self.counts.sum():
            return None
        weights = self.counts * self.slice_widths_mm
        return np.asarray(weights @ self.centres_lps_mm / weights.sum())


def _ends(filled: Bool) -> tuple[int, int]:
    """The first index that is filled, and the one after the last; (0, 0) where none is."""
    indices = np.flatnonzero(filled)
    return (int(indices[0]), int(indices[-1]) + 1) if len(indices) else (0, 0)


def read_seg(source: Path | Dataset) -> list[SegmentMask]:
    """Read every segment of a SEG, by number; segments without a voxel have no frames.

    BINARY, FRACTIONAL (half of the maximum and more counts as inside) and LABELMAP objects, little and big
    endian. Raises SegmentationUnreadable when the object is no SEG or cannot be placed in patient space.
    """
    return _read(source, is_fractional=False)


def read_fractions(source: Path | Dataset) -> list[SegmentMask]:
    """Read every segment of a FRACTIONAL SEG, by number, with its fractions; its masks are where these are above 0.

    Raises SegmentationUnreadable when the object is none, or cannot be placed in patient space.
    """
    return _read(source, is_fractional=True)


def _read(source: Path | Dataset, *, is_fractional: bool) -> list[SegmentMask]:
    try:
        ds = source if isinstance(source, Dataset) else dcmread(source)
    except (InvalidDicomError, EOFError, OSError, ValueError) as error:
        raise SegmentationUnreadable("The file is not a readable DICOM object.") from error
    if ds.get("SOPClassUID") not in (SEGMENTATION_STORAGE, LABEL_MAP_SEGMENTATION_STORAGE):
        raise SegmentationUnreadable("The object is not a SEG.")
    if is_fractional and ds.get("SegmentationType") != "FRACTIONAL":
        raise SegmentationUnreadable("The SEG is not fractional.")
    try:
        frames = [_Frame.read(ds, index) for index in range(int(ds.get("NumberOfFrames") or 1))]
        pixels = _stored_pixels(ds, len(frames))
        descriptions = {int(item.SegmentNumber): item for item in ds.SegmentSequence}
        frame_of_reference_uid = str(ds.FrameOfReferenceUID)
        spacing_mm = _spacing_between_slices_mm(_pixel_measures(ds))
    except SegmentationUnreadable:
        raise
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise SegmentationUnreadable("The SEG lacks segments, frames, positions or a frame of reference.") from error
    if not frames:
        raise SegmentationUnreadable("The SEG holds no frames.")
    _require_one_grid(frames)
    widths = _slice_widths_mm(ds, frames, spacing_mm)
    return [
        _segment(
            ds,
            number,
            item,
            frames,
            spacing_mm=spacing_mm,
            widths=widths,
            pixels=pixels,
            frame_of_reference_uid=frame_of_reference_uid,
            is_fractional=is_fractional,
        )
        for number, item in sorted(descriptions.items())
        if number > 0  # segment 0 of a label map is its background
    ]


@dataclass(frozen=True, eq=False)
class _Frame:
    """The place of one frame, and the images that it was derived from. `segment` is None in a label map."""

    segment: int | None
    origin: Float
    orientation: Float
    spacing: tuple[float, float]
    sources: tuple[tuple[str, int | None], ...]

    @classmethod
    def read(cls, ds: Dataset, index: int) -> "_Frame":
        groups = ds.PerFrameFunctionalGroupsSequence[index]
        shared = ds.SharedFunctionalGroupsSequence[0]

        def macro(keyword: str) -> Dataset:
            # A macro stands in the shared or in the per-frame groups, never in both (PS3.3 C.7.6.16.1.1)
            items: Sequence[Dataset] = groups.get(keyword) or shared[keyword].value
            return items[0]

        identification = groups.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
        derivations = groups.get("DerivationImageSequence") or shared.get("DerivationImageSequence") or []
        row_spacing, column_spacing = macro("PixelMeasuresSequence").PixelSpacing
        return cls(
            segment=int(identification[0].ReferencedSegmentNumber) if identification else None,
            origin=_floats(macro("PlanePositionSequence").ImagePositionPatient, 3),
            orientation=_floats(macro("PlaneOrientationSequence").ImageOrientationPatient, 6),
            spacing=(float(row_spacing), float(column_spacing)),
            sources=tuple(
                (str(image.ReferencedSOPInstanceUID), number)
                for derivation in derivations
                for image in derivation.get("SourceImageSequence") or []
                for number in _frame_numbers(image)
            ),
        )


def _frame_numbers(image: Dataset) -> list[int | None]:
    """ReferencedFrameNumber, one or several; None where the whole image is meant."""
    value = image.get("ReferencedFrameNumber")
    if value is None or value == "":
        return [None]
    return [int(number) for number in (value if isinstance(value, MultiValue) else [value])]


def _floats(values: Any, count: int) -> Float:
    array = np.array([float(value) for value in values])
    if array.shape != (count,) or not np.isfinite(array).all():
        raise SegmentationUnreadable("A position or orientation of the SEG is no vector.")
    return array


def _require_one_grid(frames: list[_Frame]) -> None:
    first = frames[0]
    if not is_orthonormal(first.orientation[:3], first.orientation[3:]) or min(first.spacing) <= 0:
        raise SegmentationUnreadable("The orientation or spacing of the SEG is unusable.")
    for frame in frames[1:]:
        if np.abs(frame.orientation - first.orientation).max() > 1e-4 or frame.spacing != first.spacing:
            raise SegmentationUnreadable("The frames of the SEG do not share orientation and spacing.")


def _pixel_measures(ds: Dataset) -> Dataset:
    shared: Sequence[Dataset] | None = ds.SharedFunctionalGroupsSequence[0].get("PixelMeasuresSequence")
    measures: Sequence[Dataset] = shared or ds.PerFrameFunctionalGroupsSequence[0].PixelMeasuresSequence
    return measures[0]


def _spacing_between_slices_mm(measures: Dataset) -> float | None:
    spacing = measures.get("SpacingBetweenSlices")
    return float(spacing) if spacing and float(spacing) > 0 else None


def _slice_widths_mm(ds: Dataset, frames: list[_Frame], spacing_mm: float | None) -> Float:
    """(frames,) the extent along the normal that each frame stands for."""
    if spacing_mm is not None:
        return np.full(len(frames), spacing_mm)
    normal = np.cross(frames[0].orientation[:3], frames[0].orientation[3:])
    positions = np.array([frame.origin for frame in frames]) @ normal
    ordered = np.sort(positions)
    distinct = ordered[np.r_[True, np.diff(ordered) > SAME_PLANE_MM]]
    if len(distinct) == 1:
        thickness = _pixel_measures(ds).get("SliceThickness")
        if not thickness or not float(thickness) > 0:
            raise SegmentationUnreadable("The SEG has one plane and no thickness: its volume is unknown.")
        return np.full(len(frames), float(thickness))
    gaps = np.diff(distinct)
    widths = (np.r_[gaps[0], gaps] + np.r_[gaps, gaps[-1]]) / 2
    nearest = np.clip(np.searchsorted(distinct, positions - SAME_PLANE_MM), 0, len(distinct) - 1)
    return np.asarray(widths[nearest])


def _stored_pixels(ds: Dataset, frames: int) -> Stored:
    """(frames, rows, columns) as stored; single bits as 0 and 1."""
    shape = (frames, int(ds.Rows), int(ds.Columns))
    size = int(np.prod(shape))
    syntax = UID(ds.file_meta.TransferSyntaxUID) if "TransferSyntaxUID" in getattr(ds, "file_meta", {}) else UID("")
    if syntax.is_transfer_syntax and syntax.is_encapsulated:
        try:
            return np.asarray(ds.pixel_array).reshape(shape)
        except Exception as error:  # decoders raise whatever they like; the message may quote the data set
            raise SegmentationUnreadable("The pixel data of the SEG cannot be decoded.") from error
    element = ds["PixelData"]
    stored = np.frombuffer(element.value, dtype=np.uint8)
    big_endian = syntax == ExplicitVRBigEndian
    if big_endian and element.VR == "OW" and int(ds.BitsAllocated) <= 8:
        # OW is a string of 16-bit words: in big endian, the byte that comes first in a word is the later one
        stored = stored.view(">u2").astype("<u2").view(np.uint8)
    if int(ds.BitsAllocated) == 1:
        # The first pixel is the least significant bit, and frames are not padded to whole bytes (PS3.5 section 8.1.1)
        unpacked = np.unpackbits(stored, bitorder="little", count=size) if stored.size * 8 >= size else stored
    elif int(ds.BitsAllocated) == 16:
        unpacked = stored.view(">u2" if big_endian else "<u2")[:size].astype(np.uint16)
    else:
        unpacked = stored[:size]
    if unpacked.size != size:
        raise SegmentationUnreadable("The pixel data of the SEG is shorter than its frames.")
    return np.asarray(unpacked.reshape(shape))


def _segment(
    ds: Dataset,
    number: int,
    description: Dataset,
    frames: list[_Frame],
    *,
    spacing_mm: float | None,
    widths: Float,
    pixels: Stored,
    frame_of_reference_uid: str,
    is_fractional: bool,
) -> SegmentMask:
    is_label_map = ds.get("SegmentationType") == "LABELMAP" or ds.SOPClassUID == LABEL_MAP_SEGMENTATION_STORAGE
    if is_label_map:
        masks = pixels == number
        chosen = np.flatnonzero(masks.any(axis=(1, 2)))
        masks = masks[chosen]
    else:
        threshold = 1
        if ds.get("SegmentationType") == "FRACTIONAL" and not is_fractional:
            threshold = (int(ds.MaximumFractionalValue) + 1) // 2
        of_segment = [index for index, frame in enumerate(frames) if frame.segment == number]
        chosen = np.array([index for index in of_segment if pixels[index].max() >= threshold], dtype=np.intp)
        masks = pixels[chosen] >= threshold
    orientation, spacing = frames[0].orientation, frames[0].spacing
    origins = np.array([frames[index].origin for index in chosen]).reshape(-1, 3)
    order = np.argsort(origins @ np.cross(orientation[:3], orientation[3:]), kind="stable")
    is_sorted = bool((np.diff(order) > 0).all())
    return SegmentMask(
        number=number,
        label=str(description.get("SegmentLabel") or ""),
        tracking_uid=str(description.TrackingUID) if description.get("TrackingUID") else None,
        frame_of_reference_uid=frame_of_reference_uid,
        masks=masks if is_sorted else masks[order],
        origins_lps_mm=origins[order],
        row_cosines=orientation[:3],
        column_cosines=orientation[3:],
        row_spacing_mm=spacing[0],
        column_spacing_mm=spacing[1],
        spacing_between_slices_mm=spacing_mm,
        slice_widths_mm=widths[chosen][order],
        source_sop_instance_uids=tuple(tuple(uid for uid, _ in frames[chosen[index]].sources) for index in order),
        source_frame_numbers=tuple(tuple(number for _, number in frames[chosen[index]].sources) for index in order),
        property_type=_property_type(description),
        fractions=pixels[chosen][order] if is_fractional else None,
        maximum_fractional_value=int(ds.MaximumFractionalValue) if is_fractional else None,
        tracking_id=str(description.get("TrackingID") or ""),
    )


def _property_type(description: Dataset) -> tuple[str, str]:
    codes: Sequence[Dataset] = description.get("SegmentedPropertyTypeCodeSequence") or [Dataset()]
    return str(codes[0].get("CodingSchemeDesignator") or ""), str(codes[0].get("CodeValue") or "")
