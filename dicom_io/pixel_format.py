"""The pixel format of a stack by its headers, and whether it can be read. Loads no decoder and opens no file."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydicom import uid as uids
from pydicom.config import IGNORE

from dicom_io.errors import RejectReason, SeriesRejected
from dicom_io.files.image_header import PixelFormat
from dicom_io.series.stacks import Slice, Stack

BYTE_ORDER: Mapping[str, str] = {
    uids.ImplicitVRLittleEndian: "<",
    uids.ExplicitVRLittleEndian: "<",
    uids.DeflatedExplicitVRLittleEndian: "<",
    uids.ExplicitVRBigEndian: ">",
}
JPEG = frozenset(f"1.2.840.10008.1.2.4.{process}" for process in (50, 51, 53, 55, 57, 70))
"""The processes with Huffman coding; 8, 12 and, where lossless, 2 to 16 bits."""
JPEG_LS = frozenset((uids.JPEGLSLossless, uids.JPEGLSNearLossless))
JPEG_2000 = frozenset((uids.JPEG2000Lossless, uids.JPEG2000, uids.HTJ2KLossless, uids.HTJ2KLosslessRPCL, uids.HTJ2K))
COMPRESSED = JPEG | JPEG_LS | JPEG_2000
SUPPORTED_SYNTAXES = frozenset(map(str, (*BYTE_ORDER, *COMPRESSED, uids.RLELossless)))
"""The transfer syntaxes whose pixels are read. Not: video, JPIP, JPEG XL, JPEG with arithmetic coding."""

GREY = ("MONOCHROME1", "MONOCHROME2", "")
COLOUR = re.compile("PALETTE|RGB|HSV|ARGB|CMYK|YBR|XYB")

LARGEST = 1e30
"""What a rescale value must be less than, for float32 to hold the product."""


def check_pixels(stack: Stack) -> None:
    """Raise the SeriesRejected that the headers foretell; no file is opened."""
    for item in stack.slices:
        pixels = item.header.pixels
        if pixels is None or (item.header.rows, item.header.columns) != stack.geometry.shape[1:]:
            raise unreadable("The pixels do not fill the image.")
        syntax = pixels.transfer_syntax_uid
        if syntax not in SUPPORTED_SYNTAXES:
            raise SeriesRejected(RejectReason.UNSUPPORTED_SYNTAX, f"{name}." if (name := _name(syntax)) else "")
        if pixels.samples_per_pixel != 1 or COLOUR.match(pixels.photometric_interpretation):
            raise unreadable("A colour image.")
        if pixels.photometric_interpretation not in GREY:
            raise unreadable("PhotometricInterpretation is none of the standard's.")
        if syntax not in COMPRESSED and pixels.bits_allocated not in (8, 16, 32):
            raise unreadable(f"{pixels.bits_allocated} bits for a pixel.")
        if syntax == uids.ExplicitVRBigEndian and pixels.bits_allocated == 32:
            # OW is a string of 16-bit words: gdcm swaps the bytes of each, pydicom those of the whole number
            raise unreadable("32 bits for a pixel, in a byte order that is read in two ways.")
        if pixels.pixel_representation is None:
            raise unreadable("Nothing says whether the values have a sign.")
        if not 1 <= pixels.bits_stored <= pixels.bits_allocated:
            raise unreadable(f"{pixels.bits_stored} bits of {pixels.bits_allocated}.")
        if frame_index(item) >= pixels.number_of_frames:
            raise unreadable("There are fewer frames than the image says.")
        slope, intercept = rescale(item)
        if not (0 < abs(slope) < LARGEST and abs(intercept) < LARGEST):
            raise unreadable("The rescale values are no numbers to rescale with.")


def pixel_format(item: Slice) -> PixelFormat:
    """Return the format of the pixels of a slice. Raises SeriesRejected where it has none."""
    if item.header.pixels is None:
        raise unreadable("There are no pixel data.")
    return item.header.pixels


def frame_index(item: Slice) -> int:
    """Return the frame of a slice in its file, from 0."""
    return (item.plane.frame_number or 1) - 1


def rescale(item: Slice) -> tuple[float, float]:
    """Return RescaleSlope and RescaleIntercept; the identity where the file is silent, as MR mostly is."""
    slope, intercept = item.plane.rescale_slope, item.plane.rescale_intercept
    return 1.0 if slope is None else slope, 0.0 if intercept is None else intercept


def stored_dtype(pixels: PixelFormat) -> np.dtype[Any]:
    """Return the type of the stored values, in the machine's own byte order."""
    return np.dtype(f"{'ui'[pixels.pixel_representation == 1]}{pixels.bits_allocated // 8}")


def _name(syntax: str) -> str:
    """The name of a transfer syntax, "" for one that the standard does not know (a file may hold anything there)."""
    name = uids.UID(syntax, validation_mode=IGNORE).name
    return "" if name == syntax else name


def unreadable(detail: str = "") -> SeriesRejected:
    """Return the error of pixels that cannot be read."""
    return SeriesRejected(RejectReason.UNREADABLE_PIXELS, detail)
