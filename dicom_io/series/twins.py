"""Images that came twice under other UIDs: the same slice, at the same place, with the same pixels.

Native pixels are compared as they lie in the files. Of others that are not equal byte for byte nobody can say whether
their pixels are: no decoder is loaded here. One of them is used then, where nothing else tells the images apart, and
`pixels.read_volume` compares the rest with it.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256

import numpy as np
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicom_io.errors import SeriesRejected
from dicom_io.files.dataset_reader import pixel_pieces, read_contents
from dicom_io.files.image_header import PixelFormat
from dicom_io.files.values import DAMAGED
from dicom_io.series.partition import Placed, each_once, volumes_of
from dicom_io.series.stacks import MIN_SLICES, Slice

LITTLE_ENDIAN = frozenset((ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian))
NATIVE = ""
"""Stands for all transfer syntaxes whose pixels are words that can be compared."""

Form = tuple[PixelFormat, float | None, float | None]
"""How stored pixels are read, and rescaled."""


def without_twins(images: Sequence[Placed[Slice]]) -> list[Placed[Slice]]:
    """Parallel images on one grid without those that came again; those that are yet to be compared are in `again`."""
    known: dict[int, tuple[Form, bytes] | None] = {}

    def content(item: Slice) -> tuple[Form, bytes] | None:
        if id(item) not in known:
            known[id(item)] = _content(item)
        return known[id(item)]

    def are_same(one: Slice, other: Slice) -> bool:
        return content(one) is not None and content(one) == content(other)

    def may_be_same(one: Slice, other: Slice) -> bool:
        found, again = content(one), content(other)
        if found is None or again is None or found[0] != again[0]:
            return True
        return found[0][0].transfer_syntax_uid != NATIVE or found[1] == again[1]

    kept = [replace(image, again=()) for image in each_once(images, are_same)]
    try:
        volumes_of(kept, MIN_SLICES)
    except SeriesRejected:  # several at one position
        native_first = sorted(kept, key=lambda image: _offset(image.slice) is None)
        return each_once(native_first, may_be_same)
    return kept


def _offset(item: Slice) -> int | None:
    return item.header.pixels.offset if item.header.pixels else None


def _content(item: Slice) -> tuple[Form, bytes] | None:
    """The form and the digest of stored pixels, words in little-endian order; None where they have to be decoded.

    Of a compressed single-frame image the digest is that of its codestream.
    """
    pixels, plane = item.header.pixels, item.plane
    if pixels is None or (pixels.offset is None and plane.frame_number is not None):
        return None
    is_swapped = pixels.transfer_syntax_uid == ExplicitVRBigEndian and pixels.bits_allocated == 16
    syntax = NATIVE if pixels.transfer_syntax_uid in LITTLE_ENDIAN or is_swapped else pixels.transfer_syntax_uid
    digest = sha256()
    with suppress(*DAMAGED, OSError), item.path.open("rb") as file:
        if pixels.offset is None:
            for piece in pixel_pieces(file, read_contents(file)):
                digest.update(piece)
        else:
            size = item.header.rows * item.header.columns * pixels.bits_allocated // 8
            file.seek(pixels.offset + size * ((plane.frame_number or 1) - 1))
            words = file.read(size)
            digest.update(np.frombuffer(words, "<u2").byteswap().tobytes() if is_swapped else words)
        if digest.digest() != sha256().digest():
            form = replace(pixels, transfer_syntax_uid=syntax, offset=None)
            return (form, plane.rescale_slope, plane.rescale_intercept), digest.digest()
    return None
