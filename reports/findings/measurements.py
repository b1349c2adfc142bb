"""What a segmentation measures: the liver and every lesion of it, on the voxel values that it was drawn on.

Pure. Each part of a lesion has its module, and its conventions there: `sizes`, `texture` (values), `surfaces` (shape)
and `places`, with `regions` and `field_of_view`; lengths are in `dicom_io.axes`, what oncology counts in `criteria`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from dicom_io.axes import Bool, recist_axes
from dicom_io.errors import SeriesWarning
from dicom_io.files.uids import derive_uid
from dicom_io.segmentation import LIVER, Segmentation
from dicom_io.volume import Volume
from reports.findings import criteria
from reports.findings.caveats import (
    DOUBTFUL_EDGE_MM,
    ENHANCED_FROM_HU,
    LIVER_UNCERTAIN,
    LOW_CONFIDENCE_BELOW,
    PARTIAL_LIVER_MM2,
    FindingsWarning,
)
from reports.findings.caveats import NOT_JUDGED as UNFIT
from reports.findings.field_of_view import cut_off_mm2, distance_to_edge_mm
from reports.findings.findings import Findings, Lesion
from reports.findings.places import Place, centroid_of, slice_position
from reports.findings.regions import Regions, regions_of
from reports.findings.severity import (
    MOST_LIVER_ML,
    NO_LESION,
    NOT_ALL_CAME,
    NOT_CERTAIN,
    NOT_JUDGED,
    NOT_KNOWN,
    NOT_SO_LARGE,
    NOT_WHOLE,
    Severity,
    severity_of,
)
from reports.findings.sizes import size_of, volume_ml
from reports.findings.surfaces import Capsule, capsule_of, shape_of
from reports.findings.texture import parenchyma_mean_and_sd, values_of

__all__ = ["NO_LIVER", "UNEVEN_VOLUME_ERROR", "Findings", "Lesion", "measure"]

NO_LIVER = FindingsWarning.NO_LIVER

UNEVEN_VOLUME_ERROR = 0.375
"""The volume of an ellipsoid on uneven slices is off by at most this times (widest gap / semi-axis across the
slices) squared, for gaps up to that semi-axis. The worst case has wide gaps at both ends and narrow ones between:
each end adds up to half of it, and the slices between take away up to 0.25. With gaps of up to
8 mm that is 1.5 % at 40 mm, 6 % at 20 mm, 24 % at 10 mm. Gaps of 1 to 8 mm drawn at random are kinder: 0 on average, at
40 mm a standard deviation of 0.3 % (more than 1 % in 4 of 60 000 draws), at 20 mm of 1.1 %, at 10 mm of 4.3 %."""

Box = tuple[slice, slice, slice]
Index = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class _Liver:
    """The liver that lesions are measured against: its values, its surface and its parts."""

    mean_and_sd: tuple[float, float] | None
    capsule: Capsule
    regions: Regions


def measure(volume: Volume, segmentation: Segmentation, *, tracking_seed: str) -> Findings:
    """Measure the liver and every lesion of `segmentation` on the voxel values of `volume`.

    A voxel's volume is its pixel's area times the width that its slice stands for, half-way to its neighbours: what
    is between slices, missing ones too, is measured from both sides. That holds on tilted stacks, for widths are
    taken along the normal. On uneven ones it is right on average, and for an ellipsoid never wrong by more than
    UNEVEN_VOLUME_ERROR says.

    Tracking UIDs derive from `tracking_seed` and the lesion's number. Raises ValueError when the two do not
    share a grid.
    """
    geometry = segmentation.geometry
    if volume.geometry.shape != geometry.shape or not np.allclose(
        volume.geometry.origins_lps_mm, geometry.origins_lps_mm, atol=1e-3
    ):
        raise ValueError("volume and segmentation must share their grid")
    # Everything is measured in the liver's own box, with one voxel around it where the field has one
    box = _filled_box(segmentation.labels)
    if box is None:
        warnings = (*volume.warnings, *segmentation.warnings, NO_LIVER)
        return Findings(0.0, None, (), None, tuple(dict.fromkeys(warnings)), geometry.plane_name, severity=NOT_KNOWN)
    first = box[0].start, box[1].start, box[2].start
    labels = segmentation.labels[box]
    organ: Bool = labels > 0
    liver = _Liver(
        mean_and_sd=parenchyma_mean_and_sd(volume, labels == LIVER, first) if volume.modality == "CT" else None,
        capsule=capsule_of(organ, geometry, np.array(first, np.float64)),
        regions=regions_of(organ, geometry, first),
    )
    parts: list[Box | None] = find_objects(labels)
    lesions = tuple(
        _lesion(volume, segmentation, liver, _moved(part, first), number, tracking_seed)
        for number, part in enumerate(parts[LIVER:], start=1)
        if part is not None
    )
    if LIVER_UNCERTAIN in segmentation.warnings:
        lesions = tuple(replace(lesion, certain=not _is_at_the_edge(lesion)) for lesion in lesions)
    certain = tuple(lesion for lesion in lesions if lesion.certain)
    liver_volume_ml = volume_ml(organ, geometry, first[0])
    is_judged = not UNFIT & set(segmentation.warnings)
    cut_mm2 = cut_off_mm2(organ, geometry, first)
    long_axes_mm = [lesion.size.long_axis_mm for lesion in lesions]
    certain_axes_mm = [lesion.size.long_axis_mm for lesion in certain]
    targets = [certain[index] for index in criteria.target_indices(certain_axes_mm)]
    ranks = {lesion.number: rank for rank, lesion in enumerate(targets, start=1)}
    lesions = tuple(replace(lesion, target=ranks.get(lesion.number)) for lesion in lesions)
    is_thick = criteria.slices_are_thick(geometry, [lesion.place.key_slice for lesion in targets])
    own_warnings = _warnings(lesions, liver, cut_mm2, is_thick=is_thick and bool(lesions))
    severity = _severity(lesions, certain, liver_volume_ml) if is_judged else NOT_JUDGED
    if SeriesWarning.INCOMPLETE in segmentation.warnings:
        severity = NOT_ALL_CAME
    elif SeriesWarning.SEPARATE_RANGES in volume.warnings and FindingsWarning.PARTIAL_LIVER in own_warnings:
        severity = NOT_WHOLE
    elif is_judged and liver_volume_ml > MOST_LIVER_ML:
        severity = NOT_SO_LARGE
    return Findings(
        liver_volume_ml=liver_volume_ml,
        liver_centroid_lps_mm=centroid_of(organ, geometry, np.array(first, np.float64)),
        lesions=lesions,
        burden_percent=_burden_percent(lesions, liver_volume_ml) if is_judged else None,
        warnings=tuple(dict.fromkeys([*volume.warnings, *segmentation.warnings, *own_warnings])),
        plane=geometry.plane_name,
        liver_hu_mean=liver.mean_and_sd[0] if liver.mean_and_sd else None,
        liver_hu_sd=liver.mean_and_sd[1] if liver.mean_and_sd else None,
        liver_cut_off_mm2=cut_mm2,
        targets=tuple(lesion.number for lesion in targets),
        target_diameter_sum_mm=None if is_thick else float(sum(lesion.size.long_axis_mm for lesion in targets)),
        spread=criteria.spread_of(len(lesions)),
        lobes=criteria.lobes_of([lesion.place.half for lesion in lesions]),
        size_category=criteria.size_category_of(long_axes_mm),
        milan=criteria.milan_of(certain_axes_mm),
        up_to_seven=criteria.up_to_seven_of(certain_axes_mm),
        severity=severity,
        is_calibrated=segmentation.calibrated,
        expected_dice=segmentation.expected_dice,
    )


def _is_at_the_edge(lesion: Lesion) -> bool:
    return lesion.place.distance_to_capsule_mm is not None and lesion.place.distance_to_capsule_mm < DOUBTFUL_EDGE_MM


def _burden_percent(lesions: Sequence[Lesion], liver_volume_ml: float) -> float:
    return 100 * sum(lesion.size.volume_ml for lesion in lesions) / liver_volume_ml


def _severity(lesions: Sequence[Lesion], certain: Sequence[Lesion], liver_volume_ml: float) -> Severity:
    if not certain:
        return NOT_CERTAIN if lesions else NO_LESION
    return severity_of(
        largest_mm=max(lesion.size.long_axis_mm for lesion in certain),
        lesion_count=len(certain),
        burden_percent=_burden_percent(certain, liver_volume_ml),
        halves=len({lesion.place.half for lesion in certain}),
    )


def _warnings(lesions: Sequence[Lesion], liver: _Liver, cut_mm2: float, *, is_thick: bool) -> list[str]:
    confidences = [lesion.confidence for lesion in lesions if lesion.confidence is not None]
    said = {
        SeriesWarning.THICK_SLICES: is_thick,
        FindingsWarning.PARTIAL_LIVER: cut_mm2 > PARTIAL_LIVER_MM2,
        FindingsWarning.LESION_CUT_OFF: any(lesion.place.touches_border for lesion in lesions),
        FindingsWarning.LOW_CONFIDENCE: min(confidences, default=1.0) < LOW_CONFIDENCE_BELOW,
        FindingsWarning.LESION_NOT_CERTAIN: not all(lesion.certain for lesion in lesions),
        FindingsWarning.CONTRAST_DOUBTFUL: liver.mean_and_sd is not None and liver.mean_and_sd[0] < ENHANCED_FROM_HU,
    }
    return [str(code) for code, holds in said.items() if holds]


def _lesion(
    volume: Volume, segmentation: Segmentation, liver: _Liver, box: Box, number: int, tracking_seed: str
) -> Lesion:
    geometry = segmentation.geometry
    segment = number + LIVER
    mask: Bool = segmentation.labels[box] == segment
    first = box[0].start, box[1].start, box[2].start
    corner = np.array(first, dtype=np.float64)
    axes = recist_axes(mask, geometry)
    key_slice = first[0] + axes.plane
    centroid = centroid_of(mask, geometry, corner)
    key_axis, key_position_mm = slice_position(geometry, key_slice)
    return Lesion(
        number=number,
        segment=segment,
        tracking_uid=derive_uid("lesion", tracking_seed, number),
        size=size_of(mask, geometry, corner, axes),
        values=values_of(
            volume.array[box][mask],
            is_hu=volume.modality == "CT",
            liver_hu_mean=liver.mean_and_sd[0] if liver.mean_and_sd else None,
        ),
        shape=shape_of(mask, geometry, corner),
        place=Place(
            key_slice=key_slice,
            key_sop_instance_uid=volume.sop_instance_uids[key_slice] if volume.sop_instance_uids else None,
            key_frame_number=volume.frame_numbers[key_slice] if volume.frame_numbers else None,
            centroid_lps_mm=centroid,
            distance_to_capsule_mm=liver.capsule.distance_mm(mask, geometry, corner),
            distance_to_edge_mm=distance_to_edge_mm(geometry, first, (box[0].stop, box[1].stop, box[2].stop)),
            half=liver.regions.half(centroid),
            third=liver.regions.third(centroid),
            key_axis=key_axis,
            key_position_mm=key_position_mm,
        ),
        confidence=float(segmentation.confidences[number - 1]) if segmentation.confidences else None,
    )


def _filled_box(labels: NDArray[np.uint8]) -> Box | None:
    """Return the box of all labels, and one voxel more on each side within the grid; None without labels."""
    by_row = labels.max(axis=2) > 0
    planes, rows = np.flatnonzero(by_row.any(axis=1)), np.flatnonzero(by_row.any(axis=0))
    if len(planes) == 0:
        return None
    slab = labels[planes[0] : planes[-1] + 1, rows[0] : rows[-1] + 1]
    columns = np.flatnonzero(slab.max(axis=(0, 1)))
    ranges = [
        slice(max(0, int(filled[0]) - 1), min(size, int(filled[-1]) + 2))
        for filled, size in zip((planes, rows, columns), labels.shape, strict=True)
    ]
    return ranges[0], ranges[1], ranges[2]


def _moved(box: Box, first: Index) -> Box:
    planes, rows, columns = (
        slice(part.start + start, part.stop + start) for part, start in zip(box, first, strict=True)
    )
    return planes, rows, columns
