"""The network's probability of each voxel, as a FRACTIONAL SEG on the source's grid: liver, and tumour.

Probabilities before any threshold and any rule on components (PS3.3 section C.8.20.2, PROBABILITY): what a reader
wants who asks how near a miss was. 255 stands for 1, as in the arrays, so nothing is rounded. Placed and referenced as
`reports.objects.seg` places its frames; RLE, for 400 frames of 512 x 512 bytes are 100 MB and mostly zeros and 255s.
"""

from collections.abc import Mapping
from struct import pack

import highdicom as hd
import numpy as np
from imagecodecs import packbits_encode
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from dicom_io.geometry import Geometry
from dicom_io.segmentation import Algorithm
from reports import codes
from reports.envelope import (
    algorithm_identification,
    contributing_equipment,
    seal,
    series_description,
    software_versions,
)
from reports.errors import SourceUnusable
from reports.identity import MANUFACTURER_MODEL_NAME, ResultIdentity
from reports.objects.case import Case
from reports.objects.kinds import KINDS
from reports.objects.seg import LIVER_TRACKING_ID, set_dimension_organization_uid, set_spacing_between_slices
from reports.source_frames import as_single_frames, name_true_sources
from reports.source_headers import UNICODE, quietly

KIND = KINDS["probability"]

MOST = 255
"""MaximumFractionalValue."""

LIVER, TUMOUR = 1, 2
"""Segment numbers."""


def build_fractional_seg(case: Case) -> list[Dataset]:
    """The FRACTIONAL SEG of both segments, in its own series of the source's study.

    The case's probabilities are those of LIVER (tumours included) and TUMOUR. The same case gives the same bytes.
    Raises SourceUnusable when a header cannot be used, and ValueError when everything is 0.
    """
    probabilities, geometry, identity = case.probabilities, case.volume.geometry, case.identity
    algorithm, name = case.segmentation.algorithm, case.form_of(KIND).name
    if not any(values.any() for values in probabilities.values()):
        raise ValueError("a SEG needs a frame, and every probability is 0")
    images, meant = as_single_frames(case.source.usable, case.source.frames)
    with quietly():
        try:
            seg = hd.seg.Segmentation(
                source_images=images,
                pixel_array=_placeholder(geometry, probabilities),
                segmentation_type=hd.seg.SegmentationTypeValues.FRACTIONAL,
                fractional_type=hd.seg.SegmentationFractionalTypeValues.PROBABILITY,
                max_fractional_value=MOST,
                segment_descriptions=_segment_descriptions(algorithm, identity),
                series_instance_uid=identity.series_instance_uid(name),
                series_number=identity.series_number_of(KIND.series_offset),
                sop_instance_uid=identity.sop_instance_uid(name),
                instance_number=1,
                manufacturer=identity.manufacturer,
                manufacturer_model_name=MANUFACTURER_MODEL_NAME,
                software_versions=software_versions(algorithm, identity),  # type: ignore[arg-type]
                device_serial_number=identity.device_observer_uid,
                content_label="PROBABILITY",
                content_description=_content_description(identity),
                transfer_syntax_uid=ExplicitVRLittleEndian,
                omit_empty_frames=True,
                contributing_equipment=[contributing_equipment(algorithm, identity)],
                series_description=series_description(KIND.description, identity),
                specific_character_set=UNICODE,
            )
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            # highdicom's own message may quote a value of the header
            raise SourceUnusable(f"highdicom refuses the source headers ({type(error).__name__}).") from error
        _set_frames(seg, probabilities, {str(image.SOPInstanceUID): plane for plane, image in enumerate(images)})
        name_true_sources(seg, meant)
        set_spacing_between_slices(seg, geometry)
        set_dimension_organization_uid(seg, identity.dimension_organization_uid(name))
        seg.SegmentsOverlap = "YES"
        seal(seg, case.source.headers[0], identity)
    return [seg]


def _placeholder(geometry: Geometry, probabilities: Mapping[int, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return labels from which highdicom makes the wanted frames: one pixel of each segment on each of its slices.

    Of the probabilities themselves it would sort every voxel, as floats of four bytes.
    """
    labels = np.zeros(geometry.shape, np.uint8)
    for segment, values in probabilities.items():
        labels[values.any(axis=(1, 2)), 0, segment - 1] = segment
    return labels


def _set_frames(seg: Dataset, probabilities: Mapping[int, NDArray[np.uint8]], planes: Mapping[str, int]) -> None:
    """The probabilities in place of the labels: each frame's by its segment and the source image that it names."""
    frames = []
    for groups in seg.PerFrameFunctionalGroupsSequence:
        segment = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        image = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        frames.append(_rle(probabilities[segment][planes[str(image)]]))
    seg.PixelData = encapsulate(frames)
    seg["PixelData"].VR = "OB"
    seg["PixelData"].is_undefined_length = True
    seg.file_meta.TransferSyntaxUID = RLELossless


def _rle(plane: NDArray[np.uint8]) -> bytes:
    """A frame of one byte a pixel in RLE (PS3.5 annex G): row by row, 100 times as fast as pydicom's own encoder."""
    packed = bytes(packbits_encode(np.ascontiguousarray(plane), axis=-1))
    return pack("<16L", 1, 64, *[0] * 14) + packed + b"\0" * (len(packed) % 2)


def _segment_descriptions(algorithm: Algorithm, identity: ResultIdentity) -> list[hd.seg.SegmentDescription]:
    identification = algorithm_identification(algorithm, identity)
    return [
        hd.seg.SegmentDescription(
            segment_number=LIVER,
            segment_label="Probability of liver or lesion",
            segmented_property_category=codes.ANATOMICAL_STRUCTURE,
            segmented_property_type=codes.LIVER,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=identification,
            tracking_id=LIVER_TRACKING_ID,
            tracking_uid=identity.liver_tracking_uid,
            display_color=codes.LIVER_COLOUR,
        ),
        hd.seg.SegmentDescription(
            segment_number=TUMOUR,
            segment_label="Probability of lesion",
            segmented_property_category=codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
            segmented_property_type=codes.MASS,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=identification,
            anatomic_regions=[codes.LIVER],
            display_color=codes.LESION_COLOUR,
        ),
    ]


def _content_description(identity: ResultIdentity) -> str:
    revision = f", revision {identity.revision}" if identity.revision > 1 else ""
    return f"Uncalibrated probabilities of liver and lesion{revision}"
