"""The change between two versions of one SOP instance, as far as it matters for the results."""

from dataclasses import replace
from enum import StrEnum
from hashlib import sha256
from typing import BinaryIO

import numpy as np
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

from dicom_io.files.dataset_reader import Contents, pixel_pieces
from dicom_io.files.identity import changed_module
from dicom_io.files.image_file import image_header
from dicom_io.files.image_header import ImageHeader, PixelFormat

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


Opened = tuple[BinaryIO, Contents]
"""A file, and what it holds."""


def difference(before: Opened, after: Opened) -> Difference | None:
    """Return what has changed; None where all that results are made of is the same.

    In another lossless transfer syntax an instance is the same by definition (PS3.5 section A.4): what is lossy has a
    UID, and differs.
    """
    old, new = image_header(before[1]), image_header(after[1])
    if module := changed_module(old.identity, new.identity):
        return Difference(module)
    if _description(old) != _description(new):
        return Difference.IMAGE
    native = _is_native(before) and _is_native(after)
    if not native and _syntax(before) != _syntax(after):
        return None if _is_lossless(before) and _is_lossless(after) else Difference.PIXELS
    if _without_place(old.pixels) != _without_place(new.pixels):
        return Difference.IMAGE
    return None if _pixels(before, old) == _pixels(after, new) else Difference.PIXELS


def _description(header: ImageHeader) -> tuple[object, ...]:
    whose = header.sop_class_uid, header.frame_of_reference_uid, header.modality
    return *whose, header.rows, header.columns, header.planes


def _without_place(pixels: PixelFormat | None) -> PixelFormat | None:
    return pixels and replace(pixels, transfer_syntax_uid="", offset=None)


def _pixels(opened: Opened, header: ImageHeader) -> bytes:
    """A hash of PixelData; where it is native, of it without padding, 16-bit words in little-endian order."""
    count, swapped = None, False
    if header.pixels is not None and _is_native(opened):
        pixels, frames = header.pixels, header.pixels.number_of_frames
        count = (header.rows * header.columns * frames * pixels.samples_per_pixel * pixels.bits_allocated + 7) // 8
        swapped = _syntax(opened) == ExplicitVRBigEndian and pixels.bits_allocated == 16
    digest = sha256()
    for piece in pixel_pieces(*opened, count):
        # All pieces but the last are of even length
        digest.update(np.frombuffer(piece[: len(piece) // 2 * 2], "<u2").byteswap().tobytes() if swapped else piece)
    return digest.digest()


def _syntax(opened: Opened) -> str:
    return opened[1].transfer_syntax_uid


def _is_native(opened: Opened) -> bool:
    return _syntax(opened) in NATIVE


def _is_lossless(opened: Opened) -> bool:
    return _syntax(opened) in LOSSLESS | NATIVE
