"""How a data set is encoded, as its bytes tell: what the file meta information or the network said may be wrong.

Routers write one header over the data of another: VRs, byte order, compression and codestreams are seen, not believed.
"""

import zlib
from collections.abc import Mapping

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

NATIVE = frozenset(
    (ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian)
)
FIRST_GROUP = b"\x08\0"
"""Of every data set, in little-endian order."""
LEAST_SWAPPED = 0x0400
"""No data set begins with a group from here on, read in its own byte order."""

RAW, ZLIB, GZIP = -zlib.MAX_WBITS, zlib.MAX_WBITS, zlib.MAX_WBITS + 16
"""What deflated data may be wrapped in; the first is what the standard asks for (PS3.5 section A.5)."""

SOI, JPEG_LS_FRAME = b"\xff\xd8", 0xF7
J2K_CODESTREAM, JP2_FILE = b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  "
RLE_HEADER_BYTES = 64
MOST_SEGMENTS = 15

FAMILIES: Mapping[str, tuple[str, ...]] = {
    JPEGBaseline8Bit: tuple(f"1.2.840.10008.1.2.4.{digit}" for digit in (5, 6, 7)),
    JPEGLSLossless: ("1.2.840.10008.1.2.4.8",),
    JPEG2000Lossless: ("1.2.840.10008.1.2.4.9", "1.2.840.10008.1.2.4.20"),
    RLELossless: (RLELossless,),
}
"""A transfer syntax for each kind of codestream, and how the UIDs of those begin that have it."""


def is_vr(letters: bytes) -> bool:
    """True where these two bytes may be a VR."""
    return len(letters) == 2 and all(0x40 < letter < 0x5B for letter in letters)


def is_swapped(first: bytes) -> bool:
    """True where the first bytes of a data set are in big-endian order."""
    return int.from_bytes(first[:2], "little") >= LEAST_SWAPPED > int.from_bytes(first[:2], "big")


def inflation(first: bytes, stated: str) -> int | None:
    """Return how to inflate a data set that begins with `first`, as zlib's `wbits`; None where it is not deflated."""
    is_stated = stated == DeflatedExplicitVRLittleEndian
    is_plain = first[:2] in (FIRST_GROUP, FIRST_GROUP[::-1])
    if is_plain and not is_stated:
        return None
    for wbits in (RAW, ZLIB, GZIP):
        try:
            begun = zlib.decompressobj(wbits).decompress(first, 8)
        except zlib.error:
            continue
        if begun[:2] == FIRST_GROUP and is_vr(begun[4:6]):
            return wbits
    return RAW if is_stated and not is_plain else None


def syntax_of(stated: str, *, implicit: bool, big: bool, is_deflated: bool, encapsulated: bytes | None) -> str:
    """Return the transfer syntax of a data set by what was seen of it.

    `encapsulated` are the first bytes of the first fragment of its pixel data; None where these are native. What is
    stated holds where such a codestream is of it, for it says more; and of native ones where it says compressed: they
    may be a codestream without fragments.
    """
    if encapsulated is not None:
        seen = _codestream(encapsulated)
        return stated if not seen or stated.startswith(FAMILIES[seen]) else seen
    if stated and stated not in NATIVE:
        return stated
    if is_deflated:
        return DeflatedExplicitVRLittleEndian
    return ExplicitVRBigEndian if big else ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian


def _codestream(data: bytes) -> str:
    """Return a transfer syntax whose codestreams begin like this; "" for none that is known."""
    if data.startswith((J2K_CODESTREAM, JP2_FILE)):
        return JPEG2000Lossless
    if data.startswith(SOI):
        return _jpeg(data)
    segments, offsets = int.from_bytes(data[:4], "little"), data[4:RLE_HEADER_BYTES]
    unused = offsets[4 * segments :]
    if 1 <= segments <= MOST_SEGMENTS and offsets[:4] == b"\x40\0\0\0" and not unused.strip(b"\0"):
        return RLELossless
    return ""


def _jpeg(data: bytes) -> str:
    """Tell JPEG and JPEG-LS apart by the frame header (ITU-T T.81 table B.1, T.87)."""
    at = len(SOI)
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == JPEG_LS_FRAME:
            return JPEGLSLossless
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return JPEGBaseline8Bit
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return ""
