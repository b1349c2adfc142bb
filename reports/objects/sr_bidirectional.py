"""The lesions' diameters as a TID 1500 SR that OHIF turns into entries of its measurement panel.

Each lesion is a TID 1501 group with a long and a short axis, each inferred from a line on the key slice. OHIF decides
by spelling: the report must be titled 126000, the tracking identifier be that of OHIF's tool, the axes be called as
it calls them (DICOM_NOTES). Under that title every group must have coordinates, so nothing else is in here; what was
found as a whole, and that nothing was found, the other SR says (`reports.objects.sr`).

But where no lesion is left and diameters were sent before, an SR of this kind takes their place, so that nobody reads
them as those of today: it has the one group that says so, and a title under which OHIF opens it as text.
"""

from collections.abc import Sequence

import numpy as np
from highdicom.sr import (
    CoordinatesForMeasurement,
    FindingSite,
    GraphicTypeValues,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    SourceImageForRegion,
    TrackingIdentifier,
)
from pydicom import Dataset
from pydicom.sr.coding import Code

from dicom_io.geometry import Float, Geometry
from dicom_io.segmentation import Algorithm
from reports import codes
from reports.envelope import RESEARCH_USE
from reports.findings.measurements import Lesion
from reports.findings.sizes import Point
from reports.identity import ResultIdentity
from reports.objects.case import Case
from reports.objects.kinds import KINDS
from reports.objects.sr import notes_of, summary_group
from reports.objects.sr_document import Group, add_comments, algorithm_id, case_document, measurement
from reports.source_frames import SourceFrame

KIND = KINDS["sr_bidirectional"]
TRACKING_ID = "Cornerstone3DTools@^0.1.0:Bidirectional"

PIXEL_CENTRE = 0.5
"""Spatial coordinates count from the corner of the first pixel, indices from its centre (PS3.3 table C.18.6-1)."""


def build_bidirectional_sr(case: Case) -> list[Dataset]:
    """The SR of one result's diameters, in its own series of the source's study; its tracking UIDs are the SEG's.

    Raises SourceUnusable, and ValueError when there is neither a lesion nor a predecessor.
    """
    if not case.findings.lesions and not case.predecessors:
        raise ValueError("no lesion, no diameters")
    groups: list[Group] = [*diameters_groups(case)]
    if groups:
        title, notes = codes.IMAGING_MEASUREMENT_REPORT, [(codes.SUMMARY, [RESEARCH_USE])]
        return [case_document(case, groups, kind=KIND, title=title, notes=notes)]
    groups, title = [summary_group(case)], codes.ONCOLOGY_MEASUREMENT_REPORT
    return [case_document(case, groups, kind=KIND, title=title, notes=notes_of(case))]


def diameters_groups(case: Case) -> list[MeasurementsAndQualitativeEvaluations]:
    """The group of each lesion's diameters."""
    return [
        diameters_group(
            lesion,
            case.volume.geometry,
            case.source.frames[lesion.place.key_slice],
            case.segmentation.algorithm,
            case.identity,
        )
        for lesion in case.findings.lesions
    ]


def diameters_group(
    lesion: Lesion, geometry: Geometry, frame: SourceFrame, algorithm: Algorithm, identity: ResultIdentity
) -> MeasurementsAndQualitativeEvaluations:
    """TID 1501 of a lesion's two axes, each inferred from a line on its image `frame`.

    Its comment is the label of the row in OHIF's panel: without one each row is "Mass - Liver".
    """
    long_ends, short_ends = lesion.size.axis_end_points_lps_mm
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(lesion.tracking_uid, TRACKING_ID),
        finding_category=codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
        finding_type=codes.MASS,
        finding_sites=[FindingSite(codes.LIVER)],
        algorithm_id=algorithm_id(algorithm, identity),
        measurements=[
            _axis(codes.OHIF_LONG_AXIS, lesion.size.long_axis_mm, long_ends, geometry, frame),
            _axis(codes.OHIF_SHORT_AXIS, lesion.size.short_axis_mm, short_ends, geometry, frame),
        ],
    )
    add_comments(group, [f"Lesion {lesion.name}"])
    return group


def _axis(
    name: Code, length_mm: float, ends_lps_mm: tuple[Point, Point], geometry: Geometry, frame: SourceFrame
) -> Measurement:
    numbers = None if frame.frame_number is None else [frame.frame_number]
    line = CoordinatesForMeasurement(
        graphic_type=GraphicTypeValues.POLYLINE,
        graphic_data=image_coordinates(geometry, ends_lps_mm),
        source_image=SourceImageForRegion(frame.sop_class_uid, frame.sop_instance_uid, numbers),
    )
    return measurement(name, length_mm, codes.MILLIMETER, coordinates=[line])


def image_coordinates(geometry: Geometry, points_lps_mm: Sequence[Point]) -> Float:
    """(n, 2) column and row of points in the plane of a slice, as SCOORD counts them: from the first pixel's corner."""
    coordinates = geometry.lps_to_index(points_lps_mm)[:, [2, 1]] + PIXEL_CENTRE
    # A lesion may touch the image's border, and rounding must not take it beyond: the table sets these limits
    return np.asarray(np.clip(coordinates, 0, (geometry.columns, geometry.rows)))
