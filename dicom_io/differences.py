"""The change between two versions of one SOP instance, as far as it matters for the results."""

from dataclasses import replace
from enum import StrEnum

import numpy as np
from pydicom import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_io.identity import changed_module
from dicom_io.image_file import PIXEL_DATA, image_header
from dicom_io.image_header import ImageHeader, PixelFormat

NATIVE = frozenset(
    (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
)
LOSSLESS = frozenset(
    (HTJ2KLossless, HTJ2KLosslessRPCL, JPEG2000Lossless, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless)
)


class Difference(StrEnum):
    """The first of these that is not the same in a later version of an instance."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"
    """Its place, size, rescale, or what tells the volumes of a series apart."""
    PIXELS = "PIXELS"


def difference(before: Dataset, after: Dataset) -> Difference | None:
    """Return what has changed; None where all that results are made of is the same.

    In another lossless transfer syntax an instance is the same by definition (PS3.5 section A.4): what is lossy has a
    UID, and differs.
    """
    old, new = image_header(before, None), image_header(after, None)
    if module := changed_module(old.identity, new.identity):
        return Difference(module)
    if _description(old) != _description(new):
        return Difference.IMAGE
    native = _is_native(before) and _is_native(after)
    if not native and _syntax(before) != _syntax(after):
        return None if _is_lossless(before) and _is_lossless(after) else Difference.PIXELS
    if _without_syntax(old.pixels) != _without_syntax(new.pixels):
        return Difference.IMAGE
    return None if _pixels(before, old) == _pixels(after, new) else Difference.PIXELS


def _description(header: ImageHeader) -> tuple[object, ...]:
    whose = header.sop_class_uid, header.frame_of_reference_uid, header.modality
    return *whose, header.rows, header.columns, header.planes


def _without_syntax(pixels: PixelFormat | None) -> PixelFormat | None:
    return pixels and replace(pixels, transfer_syntax_uid="")


def _pixels(ds: Dataset, header: ImageHeader) -> bytes:
    """The value of PixelData; where it is native, without padding, 16-bit words in little-endian order."""
    element = ds.get_item(PIXEL_DATA)
    value = bytes(element.value or b"") if element is not None else b""
    if header.pixels is None or not _is_native(ds):
        return value
    pixels, frames = header.pixels, header.pixels.number_of_frames
    bits = header.rows * header.columns * frames * pixels.samples_per_pixel * pixels.bits_allocated
    value = value[: (bits + 7) // 8]
    if _syntax(ds) == ExplicitVRBigEndian and pixels.bits_allocated == 16:
        value = np.frombuffer(value[: len(value) // 2 * 2], ">u2").astype("<u2").tobytes()
    return value


def _syntax(ds: Dataset) -> str:
    return str(ds.file_meta.get("TransferSyntaxUID", ""))


def _is_native(ds: Dataset) -> bool:
    return _syntax(ds) in NATIVE


def _is_lossless(ds: Dataset) -> bool:
    return _syntax(ds) in LOSSLESS | NATIVE
