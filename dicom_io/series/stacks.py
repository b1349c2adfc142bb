"""The slices of one volume in order along their normal, on one Geometry, and what a reader must know of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dicom_io.errors import RejectReason, SeriesRejected, SeriesWarning
from dicom_io.files.image_header import ImageHeader, Plane
from dicom_io.files.uids import derive_uid
from dicom_io.geometry import Float, Geometry
from dicom_io.series.hounsfield import refuse_other_units
from dicom_io.series.partition import Placed
from dicom_io.sizes import check_size

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
    again: tuple[tuple[int, Slice], ...] = ()
    """What is taken for one of the slices (its index) that came again, and has to be proved the same by its pixels."""

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


def build_stack(placed: Sequence[Placed[Slice]], label: str) -> Stack:
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
    again = tuple((index, twin) for index, item in enumerate(ordered) for twin in item.again)
    return Stack(items, geometry, label=label, warnings=tuple(map(str, found)), again=again)


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


def is_derived(slices: Sequence[Slice]) -> bool:
    """True where most of the images are DERIVED or SECONDARY (PS3.3 section C.7.6.1.1.2)."""
    return 2 * sum(bool({"DERIVED", "SECONDARY"} & set(item.plane.image_type[:2])) for item in slices) > len(slices)
