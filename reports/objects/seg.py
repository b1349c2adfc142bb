"""The segmentation as a DICOM SEG on the source's own grid: liver first, then one segment per lesion.

BINARY, which every viewer reads, or LABELMAP for archives that are set up for it: a tenth of the size. Frames keep the
source's rows, columns, orientation and position strings, name the image they lie on, and are left out where they are
empty (PS3.3 section A.51).
"""

import highdicom as hd
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless
from pydicom.valuerep import DS

from dicom_io.geometry import Geometry
from dicom_io.segmentation import LIVER, Segmentation
from reports import codes
from reports.envelope import (
    algorithm_identification,
    contributing_equipment,
    seal,
    series_description,
    software_versions,
)
from reports.errors import SourceUnusable
from reports.findings.measurements import Findings
from reports.findings.names import content_description, lesion_tracking_id
from reports.identity import MANUFACTURER_MODEL_NAME, ResultIdentity
from reports.objects.case import Case
from reports.objects.kinds import KINDS
from reports.objects.slice_grid import spacing_between_slices_mm
from reports.source_frames import as_single_frames, name_true_sources
from reports.source_headers import UNICODE, quietly

KIND = KINDS["seg"]


def build_seg(case: Case) -> list[Dataset]:
    """The SEG of every segment, in its own series of the source's study.

    No image but those of the case is referred to. The same case gives the same bytes. Raises SourceUnusable when a
    header cannot be used, and ValueError when nothing was segmented: a SEG needs a frame.
    """
    segmentation, findings, identity, form = case.segmentation, case.findings, case.identity, case.form_of(KIND)
    if not segmentation.labels.any():
        raise ValueError("an empty segmentation has no SEG")
    images, meant = as_single_frames(case.source.usable, case.source.frames)
    equipment = contributing_equipment(segmentation.algorithm, identity)
    with quietly():
        try:
            seg = hd.seg.Segmentation(
                source_images=images,
                pixel_array=segmentation.labels,
                segmentation_type=hd.seg.SegmentationTypeValues(str(form.seg_type).upper()),
                segment_descriptions=_segment_descriptions(segmentation, findings, identity),
                series_instance_uid=identity.series_instance_uid(form.name),
                series_number=identity.series_number_of(KIND.series_offset),
                sop_instance_uid=identity.sop_instance_uid(form.name),
                instance_number=1,
                manufacturer=identity.manufacturer,
                manufacturer_model_name=MANUFACTURER_MODEL_NAME,
                software_versions=software_versions(segmentation.algorithm, identity),  # type: ignore[arg-type]
                device_serial_number=identity.device_observer_uid,
                content_label="LIVER_LESIONS",
                content_description=content_description(
                    [lesion.number for lesion in findings.lesions],
                    highest=findings.follow_up.highest_number if findings.follow_up else 0,
                    revision=identity.revision,
                ),
                transfer_syntax_uid=ExplicitVRLittleEndian,
                omit_empty_frames=True,
                contributing_equipment=[equipment],
                series_description=series_description(KIND.description, identity),
                specific_character_set=UNICODE,
            )
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            # highdicom's own message may quote a value of the header
            raise SourceUnusable(f"highdicom refuses the source headers ({type(error).__name__}).") from error
        name_true_sources(seg, meant)
        set_spacing_between_slices(seg, segmentation.geometry)
        set_dimension_organization_uid(seg, identity.dimension_organization_uid(form.name))
        if form.seg_type == "labelmap":
            put_background_last(seg)
            # RLE, for dcmqi ends with an error on JPEG-LS; by pydicom's own encoder, for GDCM's, which highdicom would
            # be given where it is installed, ends the whole process on frames of an odd size (both tried)
            seg.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
        seal(seg, case.source.headers[0], identity)
    return [seg]


def lesion_label(number: int, long_axis_mm: float) -> str:
    """SegmentLabel of a lesion, for the list in a viewer."""
    return f"Lesion {number} ({long_axis_mm:.0f} mm)"


LIVER_TRACKING_ID = "Liver"


def _segment_descriptions(
    segmentation: Segmentation, findings: Findings, identity: ResultIdentity
) -> list[hd.seg.SegmentDescription]:
    algorithm = algorithm_identification(segmentation.algorithm, identity)
    liver = hd.seg.SegmentDescription(
        segment_number=LIVER,
        segment_label="Liver",
        segmented_property_category=codes.ANATOMICAL_STRUCTURE,
        segmented_property_type=codes.LIVER,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        tracking_id=LIVER_TRACKING_ID,
        tracking_uid=identity.liver_tracking_uid,
        display_color=codes.LIVER_COLOUR,
    )
    lesions = [
        hd.seg.SegmentDescription(
            segment_number=lesion.segment,
            segment_label=lesion_label(lesion.number, lesion.size.long_axis_mm),
            segmented_property_category=codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
            segmented_property_type=codes.MASS,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            tracking_id=lesion_tracking_id(lesion.number),
            tracking_uid=lesion.tracking_uid,
            anatomic_regions=[codes.LIVER],
            display_color=codes.lesion_colour(lesion.number),
        )
        for lesion in findings.lesions
    ]
    return [liver, *lesions]


def put_background_last(seg: Dataset) -> None:
    """Let the item of segment 0 follow the others: the order of the items means nothing (PS3.3 section C.8.20.2).

    OHIF counts the items instead of reading their numbers: with the background first, the colours, and where a click
    on a segment leads to, are those of the next one.
    """
    seg.SegmentSequence = sorted(seg.SegmentSequence, key=lambda item: (item.SegmentNumber == 0, item.SegmentNumber))


def set_spacing_between_slices(seg: Dataset, geometry: Geometry) -> None:
    """SpacingBetweenSlices of the source's grid; none where there is no grid."""
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    step = spacing_between_slices_mm(geometry)
    if step is not None:
        measures.SpacingBetweenSlices = DS(step, auto_format=True)
    else:
        measures.pop("SpacingBetweenSlices", None)


def set_dimension_organization_uid(seg: Dataset, uid: str) -> None:
    """highdicom draws this one by lot."""
    seg.DimensionOrganizationSequence[0].DimensionOrganizationUID = uid
    for index in seg.DimensionIndexSequence:
        index.DimensionOrganizationUID = uid
