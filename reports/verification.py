"""The proof, before anything is sent, that a SEG on disk says what the findings say.

The bytes are read back by `dicom_io.seg_reader`, which shares nothing with the library that wrote them, and
compared in patient space with the labels and the findings. TotalSegmentator wrote mirrored SEGs for months;
a check like this one found it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dicom_io.errors import SegmentationUnreadable
from dicom_io.geometry import Float, Geometry
from dicom_io.seg_reader import SegmentMask, read_seg
from dicom_io.segmentation import LIVER, Segmentation
from reports.errors import GeometryNotProved
from reports.measurements import Findings, Point

CENTROID_TOLERANCE_MM = 0.1
VOLUME_TOLERANCE = 0.005
PIXEL_TOLERANCE = 0.05
"""How far, in pixels and slices, a frame's corners may lie from those of the source image they belong to."""


def verify_seg(
    path: Path,
    volume_geometry: Geometry,
    segmentation: Segmentation,
    findings: Findings,
    sop_instance_uids: Sequence[str],
) -> None:
    """Read the SEG at `path` back and compare it with what should be in it. Raises GeometryNotProved.

    `volume_geometry` and `sop_instance_uids` are the source's, in slice order. Checked are: the frame of
    reference; the segments' numbers; each frame's corners against a source plane, and its named source image
    against that plane; every voxel; each segment's volume and centroid against the findings.
    """
    try:
        segments = read_seg(path)
    except SegmentationUnreadable as error:
        raise GeometryNotProved(f"The SEG cannot be read back: {error}") from error
    expected = list(range(LIVER, LIVER + 1 + findings.lesion_count))
    if [segment.number for segment in segments] != expected:
        raise GeometryNotProved(f"The SEG holds {len(segments)} segments, the findings {len(expected)}.")
    planes = {segment.number: _proved_planes(segment, volume_geometry, sop_instance_uids) for segment in segments}
    for segment in segments:
        _prove_voxels(segment, planes[segment.number], segmentation)
    for lesion, segment in zip(findings.lesions, segments[1:], strict=True):
        _prove_measures([segment], planes, volume_geometry, lesion.volume_ml, lesion.centroid_lps_mm)
    # The masks are disjoint, the liver's volume is not: it includes the lesions
    if findings.liver_centroid_lps_mm is None:
        raise GeometryNotProved("There is a SEG, but the findings have no liver.")
    _prove_measures(segments, planes, volume_geometry, findings.liver_volume_ml, findings.liver_centroid_lps_mm)


def _proved_planes(segment: SegmentMask, geometry: Geometry, sop_instance_uids: Sequence[str]) -> list[int]:
    """The source slice of each frame, if its corners lie on that slice's and it names that slice's image."""
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
    for origin, sources in zip(segment.origins_lps_mm, segment.source_sop_instance_uids, strict=True):
        indices = geometry.lps_to_index(origin + in_plane)
        plane = int(np.rint(indices[0, 0]))
        error = np.abs(indices - np.column_stack([np.full(4, plane), corners])).max()
        if not 0 <= plane < geometry.slices or error > PIXEL_TOLERANCE:
            raise GeometryNotProved(f"A frame of segment {segment.number} lies {error:.2f} pixels off the source.")
        if sources != (sop_instance_uids[plane],):
            raise GeometryNotProved(f"A frame of segment {segment.number} names an image that lies elsewhere.")
        planes.append(plane)
    if len(set(planes)) != len(planes):
        raise GeometryNotProved(f"Two frames of segment {segment.number} lie on one slice.")
    return planes


def _prove_voxels(segment: SegmentMask, planes: Sequence[int], segmentation: Segmentation) -> None:
    """Every voxel, on the slice where it was proved to lie: flips of symmetric shapes show up only here."""
    for plane, mask in zip(planes, segment.masks, strict=True):
        wrong = np.count_nonzero(mask != (segmentation.labels[plane] == segment.number))
        if wrong:
            raise GeometryNotProved(f"Segment {segment.number} differs from the labels in {wrong} voxels of a slice.")
    found, labelled = int(segment.counts.sum()), int(np.count_nonzero(segmentation.labels == segment.number))
    if found != labelled:
        raise GeometryNotProved(f"Segment {segment.number} holds {found} voxels of {labelled}.")


def _prove_measures(
    segments: Sequence[SegmentMask],
    planes: dict[int, list[int]],
    geometry: Geometry,
    volume_ml: float,
    centroid_lps_mm: Point,
) -> None:
    """Volume and centroid of the segments together, from the object's own spacing where the stack is even."""
    volumes, centres = [], []
    for segment in segments:
        centroid = segment.centroid_lps_mm
        if centroid is None:
            continue
        if geometry.is_even:
            volumes.append(segment.volume_ml)
            centres.append(centroid)
        else:
            # An uneven stack's frames stand for what lies between the slices of the source, not of the object
            volume, centre = _by_source_widths(segment, planes[segment.number], geometry)
            volumes.append(volume)
            centres.append(centre)
    number = segments[0].number
    total = sum(volumes)
    if not volumes or abs(total - volume_ml) > VOLUME_TOLERANCE * volume_ml:
        raise GeometryNotProved(f"From segment {number} on: {total:.3f} mL in the SEG, {volume_ml:.3f} mL found.")
    offset = float(np.linalg.norm(np.array(volumes) @ np.array(centres) / total - np.array(centroid_lps_mm)))
    if offset > CENTROID_TOLERANCE_MM:
        raise GeometryNotProved(f"From segment {number} on: the centre lies {offset:.2f} mm from where it was found.")


def _by_source_widths(segment: SegmentMask, planes: Sequence[int], geometry: Geometry) -> tuple[float, Float]:
    weights = segment.counts * geometry.voxel_volumes_mm3[list(planes)]
    frames, rows, columns = np.nonzero(segment.masks)
    points = (
        segment.origins_lps_mm[frames]
        + rows[:, None] * segment.column_cosines * segment.row_spacing_mm
        + columns[:, None] * segment.row_cosines * segment.column_spacing_mm
    )
    each = geometry.voxel_volumes_mm3[np.array(planes)[frames]]
    return float(weights.sum()) / 1000, np.asarray(each @ points / each.sum())
