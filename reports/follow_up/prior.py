"""An earlier study as its SEG tells it: where the liver and its lesions lay, and what they measured then.

Pure but for the file. The lesions are measured anew from the voxels of the SEG, by the rules that measure today's: so
that both studies have one yardstick, whatever version of the program wrote the SEG.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from scipy.ndimage import find_objects

from dicom_io.axes import recist_axes
from dicom_io.errors import InvalidUID, SegmentationUnreadable
from dicom_io.files import values
from dicom_io.files.uids import checked_uid
from dicom_io.geometry import Float, Geometry
from dicom_io.seg_reader import SAME_PLANE_MM, SegmentMask, read_seg
from dicom_io.segmentation import LIVER
from reports import codes
from reports.findings import criteria
from reports.findings.course import PriorLesion
from reports.findings.names import highest_number, lesion_numbers
from reports.follow_up.matching import Laid
from reports.follow_up.registration import Organ

LIVER_TYPE = codes.LIVER.scheme_designator, codes.LIVER.value
LESION_TYPE = codes.MASS.scheme_designator, codes.MASS.value


@dataclass(frozen=True, eq=False)
class Prior:
    """Segment numbers (slice, row, column) uint8 on `geometry`: 0 background, 1 liver, 2... lesions.

    `geometry` has the planes that the liver lay on, no others. `study_date` is None where the object has none.
    `highest_number` is the highest that a lesion of the patient had been given until then.
    """

    labels: NDArray[np.uint8]
    geometry: Geometry
    lesions: tuple[PriorLesion, ...]
    study_date: date | None = None
    highest_number: int = 0

    @cached_property
    def laid(self) -> Laid:
        """The study in space, to be laid over another."""
        centroids = [lesion.centroid_lps_mm for lesion in self.lesions]
        return Laid(self.labels, self.geometry, self.lesions, centroids, Organ(self.labels > 0, self.geometry).surface)

    @property
    def targets(self) -> tuple[int, ...]:
        """The places of the lesions that RECIST 1.1 follows from this study on."""
        return criteria.target_indices([lesion.long_axis_mm for lesion in self.lesions])

    def slices_are_thick(self, further: Sequence[int] = ()) -> bool:
        """True where slices are too thick for RECIST 1.1: of its targets, or of the `further` lesions, by place."""
        return criteria.slices_are_thick(
            self.geometry, [self.lesions[index].key_slice for index in {*self.targets, *further}]
        )


def prior_of(
    labels: NDArray[np.uint8],
    geometry: Geometry,
    tracking_uids: Sequence[str],
    study_date: date | None = None,
    *,
    tracking_ids: Sequence[str] = (),
    highest: int = 0,
) -> Prior:
    """The lesions of `labels` (1 liver, 2... lesions, one tracking UID for each), measured. A label may be missing.

    `tracking_ids` have the lesions' numbers: without them they are numbered by label.
    """
    lesions = []
    numbers = lesion_numbers(tracking_ids or [""] * len(tracking_uids))
    for segment, (part, uid, number) in enumerate(
        zip(find_objects(labels, LIVER + len(tracking_uids))[LIVER:], tracking_uids, numbers, strict=True),
        start=LIVER + 1,
    ):
        if part is None:
            continue
        mask = labels[part] == segment
        corner = np.array([each.start for each in part], np.float64)
        axes = recist_axes(mask, geometry)
        key_slice = part[0].start + axes.plane
        counts = np.count_nonzero(mask, axis=(1, 2))
        volumes = counts * geometry.voxel_volumes_mm3[part[0]]
        indices = np.argwhere(mask)
        weights = geometry.voxel_volumes_mm3[part[0]][indices[:, 0]]
        x, y, z = weights @ geometry.index_to_lps(indices + corner) / weights.sum()
        lesions.append(
            PriorLesion(
                number=number,
                tracking_uid=uid,
                volume_ml=float(volumes.sum()) / 1000,
                long_axis_mm=axes.long_mm,
                short_axis_mm=axes.short_mm,
                centroid_lps_mm=(float(x), float(y), float(z)),
                key_slice=key_slice,
                segment=segment,
            )
        )
    return Prior(labels, geometry, tuple(lesions), study_date, max([highest, *numbers]))


def read_prior(source: Path | Dataset) -> Prior:
    """An earlier study from its SEG: one segment coded as liver, and those coded as masses in it.

    Raises SegmentationUnreadable when the object is no SEG, cannot be placed in space, or has no such liver.
    """
    try:
        ds = source if isinstance(source, Dataset) else dcmread(source)
    except (InvalidDicomError, EOFError, OSError, ValueError) as error:
        raise SegmentationUnreadable("The file is not a readable DICOM object.") from error
    segments = [segment for segment in read_seg(ds) if len(segment.masks)]
    livers = [segment for segment in segments if segment.property_type == LIVER_TYPE]
    lesions = [segment for segment in segments if segment.property_type == LESION_TYPE]
    if len(livers) != 1 or len(lesions) > 254:
        raise SegmentationUnreadable("The SEG does not have one liver and at most 254 lesions.")
    geometry = _geometry([*livers, *lesions])
    labels = np.zeros(geometry.shape, np.uint8)
    for label, segment in enumerate([*livers, *lesions], start=LIVER):
        planes = np.rint(geometry.lps_to_index(segment.origins_lps_mm)[:, 0]).astype(np.intp)
        labels[planes] = np.where(segment.masks, np.uint8(label), labels[planes])
    uids = _first_uses([checked_tracking_uid(segment.tracking_uid) for segment in lesions])
    return prior_of(
        labels,
        geometry,
        uids,
        read_date(values.date(ds, "StudyDate")),
        tracking_ids=[segment.tracking_id for segment in lesions],
        highest=highest_number(values.text(ds, "ContentDescription")),
    )


def _first_uses(uids: Sequence[str]) -> list[str]:
    """Replace a UID that was used before by "": no two lesions of today may have one tracking UID."""
    return [uid if uid not in uids[:index] else "" for index, uid in enumerate(uids)]


def _geometry(segments: Sequence[SegmentMask]) -> Geometry:
    """The planes of all segments as one stack."""
    first = segments[0]
    origins: Float = np.concatenate([segment.origins_lps_mm for segment in segments])
    origins = origins[np.argsort(origins @ first.normal, kind="stable")]
    positions = origins @ first.normal
    origins = origins[np.r_[True, np.diff(positions) > SAME_PLANE_MM]]
    try:
        return Geometry(
            origins_lps_mm=origins,
            row_cosines=first.row_cosines,
            column_cosines=first.column_cosines,
            row_spacing_mm=first.row_spacing_mm,
            column_spacing_mm=first.column_spacing_mm,
            rows=first.masks.shape[1],
            columns=first.masks.shape[2],
            frame_of_reference_uid=first.frame_of_reference_uid,
            slice_spacing_mm=float(first.slice_widths_mm[0]),
        )
    except ValueError as error:
        raise SegmentationUnreadable("The frames of the SEG make no stack of planes.") from error


def checked_tracking_uid(uid: str | None) -> str:
    """A tracking UID that a new object may bear; "" for none, or nonsense."""
    try:
        return checked_uid(uid or "")
    except InvalidUID:
        return ""


def read_date(value: object) -> date | None:
    """A DICOM date (PS3.5 section 6.2); None for none, or nonsense."""
    try:
        return datetime.strptime(str(value or ""), "%Y%m%d").date()
    except ValueError:
        return None
