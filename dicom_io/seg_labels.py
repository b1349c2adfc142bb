"""What the segments of a SEG are, liver or tumour, and their masks on the grid of the images that they were drawn on.

Of any SEG: our own, another program's, one that a person corrected in a viewer.
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dicom_io.geometry import Geometry
from dicom_io.seg_reader import SegmentMask
from dicom_io.segmentation import LIVER
from dicom_io.series.stacks import Stack

TUMOUR = LIVER + 1
LIVER_CODES = frozenset({"10200004", "T-62000"})
TUMOUR_CODES = frozenset(
    (
        *("108369006", "86049000", "14799000", "4147007", "52988006", "126851005", "93870000", "94381002", "25370001"),
        *("M-80000", "M-80003", "M-80006", "M-03000", "M-01100", "M-81703"),
    )
)
"""Neoplasm, its primary and secondary kinds, mass, lesion, neoplasm of liver, malignant, secondary; carcinoma."""
LIVER_LABEL = re.compile(r"(?:whole )?liver|hepar|leber|foie", re.IGNORECASE)
TUMOUR_LABEL = re.compile(r"tumou?r|lesion|neoplas|metasta|carcinoma|\bhcc\b|\bmass\b|cancer", re.IGNORECASE)
BESIDE = re.compile(
    r"\b(?:with(?:out)?|(?:in|ex)cl(?:uding|\.)?|except|minus|plus|and|no|non|not|ohne|mit|und|sans|avec|et)\b|[+&]"
    r"|tumou?r[-\s]?free",
    re.IGNORECASE,
)
"""Where the words end that say what a segment is: "Liver without tumor" and "Liver and tumors" are the liver."""
GRID_TOLERANCE = 0.1
"""How far, in voxels, a frame's first pixel may lie from that of its image."""
COSINE_TOLERANCE = 1e-3

Bool = NDArray[np.bool_]


def segment_class(mask: SegmentMask) -> int:
    """LIVER, TUMOUR, or 0 for what is neither. What has the code of the liver and is called a tumour is a tumour."""
    _, code = mask.property_type
    label = BESIDE.split(mask.label)[0].strip(" -_,;:(")
    if code in LIVER_CODES and not TUMOUR_LABEL.search(label):
        return LIVER
    if code in TUMOUR_CODES or TUMOUR_LABEL.search(label):
        return TUMOUR
    return LIVER if LIVER_LABEL.fullmatch(label) else 0


def place_mask(mask: SegmentMask, geometry: Geometry) -> Bool | None:
    """The mask on the grid of images, None where a frame lies elsewhere."""
    placed = np.zeros(geometry.shape, bool)
    if not len(mask.masks):
        return placed
    cosines = np.r_[mask.row_cosines - geometry.row_cosines, mask.column_cosines - geometry.column_cosines]
    spacing = np.array([mask.row_spacing_mm, mask.column_spacing_mm])
    same = np.allclose(spacing, [geometry.row_spacing_mm, geometry.column_spacing_mm], rtol=1e-3)
    if mask.masks.shape[1:] != geometry.shape[1:] or np.abs(cosines).max() > COSINE_TOLERANCE or not same:
        return None
    index = geometry.lps_to_index(mask.origins_lps_mm)
    slices = np.rint(index[:, 0]).astype(int)
    off = np.abs(index - np.stack([slices, np.zeros_like(slices), np.zeros_like(slices)], axis=-1)).max()
    if off > GRID_TOLERANCE or slices.min() < 0 or slices.max() >= geometry.slices:
        return None
    for number, frame in zip(slices, mask.masks, strict=True):
        placed[number] |= frame
    return placed


def labels_on(stack: Stack, masks: Sequence[SegmentMask]) -> NDArray[np.uint8]:
    """Return the segments' numbers (slice, row, column), each frame on the slice that it names as its source."""
    labels = np.zeros(stack.geometry.shape, np.uint8)
    places = {
        (uid, frame): index
        for index, (uid, frame) in enumerate(zip(stack.sop_instance_uids, stack.frame_numbers, strict=True))
    }
    for mask in masks:
        for pixels, uids, frames in zip(
            mask.masks, mask.source_sop_instance_uids, mask.source_frame_numbers, strict=True
        ):
            for uid, frame in zip(uids, frames, strict=True):
                index = places.get((uid, frame))
                if index is not None and pixels.shape == labels.shape[1:]:
                    labels[index][pixels] = min(mask.number, 255)
    return labels
