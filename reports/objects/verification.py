"""The proof, before anything is sent, that a SEG on disk says what the findings say.

The bytes are read back by `dicom_io.seg_reader`, which shares nothing with the library that wrote them, and
compared in patient space with the labels and the findings. TotalSegmentator wrote mirrored SEGs for months;
a check like this one found it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from dicom_io.errors import SegmentationUnreadable
from dicom_io.geometry import Float, Geometry
from dicom_io.seg_reader import SegmentMask, read_fractions, read_seg
from dicom_io.segmentation import LIVER, Segmentation
from reports.errors import GeometryNotProved
from reports.findings.sizes import Point
from reports.objects.case import Case
from reports.objects.slice_grid import spacing_between_slices_mm

HELD_BACK = (
    "The segmentation did not pass the check that it lies where it was found, and was held back. "
    "The site's Porta needs a person's attention."
)
"""The sentence that a radiologist reads for GeometryNotProved."""

CENTROID_TOLERANCE_MM = 0.1
VOLUME_TOLERANCE = 0.005
MOST_FRACTION = 255
PIXEL_TOLERANCE = 0.05
"""How far, in pixels and slices, a frame's corners may lie from those of the source image they belong to."""


def verify_seg(path: Path, case: Case) -> None:
    """Read the SEG at `path` back and compare it with what should be in it. Raises GeometryNotProved.

    Checked are: the frame of reference; the segments' numbers; each frame's corners against a source plane, and its
    named source image and frame against that plane; every voxel; the stated spacing of a regular grid; each segment's
    volume and centroid against the findings.
    """
    findings, volume_geometry, images = case.findings, case.volume.geometry, _images(case)
    try:
        segments = read_seg(path)
    except SegmentationUnreadable as error:
        raise GeometryNotProved(f"The SEG cannot be read back: {error}") from error
    expected = list(range(LIVER, LIVER + 1 + findings.lesion_count))
    if [segment.number for segment in segments] != expected:
        raise GeometryNotProved(f"The SEG holds {len(segments)} segments, the findings {len(expected)}.")
    planes = {segment.number: _proved_planes(segment, volume_geometry, images) for segment in segments}
    _prove_spacing(segments, volume_geometry)
    _prove_voxels(segments, planes, case.segmentation)
    for lesion, segment in zip(findings.lesions, segments[1:], strict=True):
        _prove_measures([segment], planes, volume_geometry, lesion.size.volume_ml, lesion.place.centroid_lps_mm)
    # The masks are disjoint, the liver's volume is not: it includes the lesions
    if findings.liver_centroid_lps_mm is None:
        raise GeometryNotProved("There is a SEG, but the findings have no liver.")
    _prove_measures(segments, planes, volume_geometry, findings.liver_volume_ml, findings.liver_centroid_lps_mm)


def verify_fractions(path: Path, case: Case) -> None:
    """Read the FRACTIONAL SEG at `path` back and compare every voxel with what should be in it, on its own slice.

    Raises GeometryNotProved.
    """
    probabilities, volume_geometry, images = case.probabilities, case.volume.geometry, _images(case)
    try:
        segments = read_fractions(path)
    except SegmentationUnreadable as error:
        raise GeometryNotProved(f"The SEG cannot be read back: {error}") from error
    if [segment.number for segment in segments] != sorted(probabilities):
        raise GeometryNotProved(f"The SEG holds {len(segments)} segments, not {len(probabilities)}.")
    _prove_spacing(segments, volume_geometry)
    for segment in segments:
        planes, expected = _proved_planes(segment, volume_geometry, images), probabilities[segment.number]
        if segment.fractions is None or segment.maximum_fractional_value != MOST_FRACTION:
            raise GeometryNotProved("The SEG does not count to 255.")
        for plane, fractions in zip(planes, segment.fractions, strict=True):
            if wrong := np.count_nonzero(fractions != expected[plane]):
                raise GeometryNotProved(f"Segment {segment.number} differs in {wrong} voxels of a slice.")
        left_out = set(np.flatnonzero(expected.any(axis=(1, 2))).tolist()) - set(planes)
        if left_out:
            raise GeometryNotProved(f"Segment {segment.number} lacks {len(left_out)} slices.")


def _images(case: Case) -> list[tuple[str, int | None]]:
    """Return SOPInstanceUID and frame number of each slice, as the volume was read, not as the SEG was made."""
    uids = case.volume.sop_instance_uids
    return list(zip(uids, case.volume.frame_numbers or [None] * len(uids), strict=True))


def _proved_planes(segment: SegmentMask, geometry: Geometry, images: Sequence[tuple[str, int | None]]) -> list[int]:
    """The source slice of each frame, if its corners lie on that slice's and it names that slice's image.

    `images` are SOPInstanceUID and frame number of each slice.
    """
    if segment.frame_of_reference_uid != geometry.frame_of_reference_uid:
        raise GeometryNotProved("The SEG lies in another frame of reference.")
    if segment.masks.shape[1:] != (geometry.rows, geometry.columns):
        raise GeometryNotProved(f"Segment {segment.number} has another number of rows or columns.")
    last = np.array([geometry.rows - 1, geometry.columns - 1])
    corners = np.array([(0, 0), (0, 1), (1, 0), (1, 1)]) * last
    in_plane = (
        corners[:, :1] * segment.column_cosines * segment.row_spacing_mm
        + corners[:, 1:] * segment.row_cosines * segment.column_spacing_mm
    )
    planes = []
    named = zip(segment.source_sop_instance_uids, segment.source_frame_numbers, strict=True)
    for origin, (uids, numbers) in zip(segment.origins_lps_mm, named, strict=True):
        indices = geometry.lps_to_index(origin + in_plane)
        plane = int(np.rint(indices[0, 0]))
        error = np.abs(indices - np.column_stack([np.full(4, plane), corners])).max()
        if not 0 <= plane < geometry.slices or error > PIXEL_TOLERANCE:
            raise GeometryNotProved(f"A frame of segment {segment.number} lies {error:.2f} pixels off the source.")
        if list(zip(uids, numbers, strict=True)) != [images[plane]]:
            raise GeometryNotProved(f"A frame of segment {segment.number} names an image that lies elsewhere.")
        planes.append(plane)
    if len(set(planes)) != len(planes):
        raise GeometryNotProved(f"Two frames of segment {segment.number} lie on one slice.")
    return planes


def _prove_spacing(segments: Sequence[SegmentMask], geometry: Geometry) -> None:
    """Prove SpacingBetweenSlices, by which readers rebuild a volume: the grid's, or absent without a grid."""
    step = spacing_between_slices_mm(geometry) or 0.0
    for segment in segments:
        if abs((segment.spacing_between_slices_mm or 0.0) - step) > VOLUME_TOLERANCE * step:
            raise GeometryNotProved(f"Segment {segment.number} states another spacing between slices.")


def _prove_voxels(
    segments: Sequence[SegmentMask], planes: Mapping[int, Sequence[int]], segmentation: Segmentation
) -> None:
    """Prove every voxel, on the slice where it was proved to lie: flips of symmetric shapes show up only here.

    Where each frame is its slice's, and there are as many voxels as labels, no slice is left out.
    """
    found = 0
    for segment in segments:
        for plane, mask in zip(planes[segment.number], segment.masks, strict=True):
            wrong = np.count_nonzero(mask != (segmentation.labels[plane] == segment.number))
            if wrong:
                raise GeometryNotProved(f"Segment {segment.number} differs in {wrong} voxels of a slice.")
        found += int(segment.counts.sum())
    labelled = np.count_nonzero(segmentation.labels)
    if found != labelled:
        raise GeometryNotProved(f"The SEG holds {found} voxels of {labelled}.")


def _prove_measures(
    segments: Sequence[SegmentMask],
    planes: Mapping[int, list[int]],
    geometry: Geometry,
    volume_ml: float,
    centroid_lps_mm: Point,
) -> None:
    """Volume and centroid of the segments together, from the object's voxels and the widths of the source's slices.

    What a frame stands for is not the object's to say: of an uneven or tilted stack it states no spacing, and its
    empty frames are left out.
    """
    volumes_mm3: list[float] = []
    centres: list[Float] = []
    for segment in segments:
        area_mm2 = segment.row_spacing_mm * segment.column_spacing_mm
        volumes_mm3 += list(segment.counts * geometry.slice_widths_mm[planes[segment.number]] * area_mm2)
        centres += list(segment.centres_lps_mm)
    number = segments[0].number
    total_ml = sum(volumes_mm3) / 1000
    if not volumes_mm3 or abs(total_ml - volume_ml) > VOLUME_TOLERANCE * volume_ml:
        raise GeometryNotProved(f"From segment {number} on: {total_ml:.3f} mL in the SEG, {volume_ml:.3f} mL found.")
    centre = np.average(np.array(centres), axis=0, weights=np.array(volumes_mm3))
    offset = float(np.linalg.norm(centre - np.array(centroid_lps_mm)))
    if offset > CENTROID_TOLERANCE_MM:
        raise GeometryNotProved(f"From segment {number} on: the centre lies {offset:.2f} mm from where it was found.")
