"""The pixels of a stack as one Volume: native ones read from their place in the file, others decoded, all in parallel.

Values are rescaled with the slope and intercept of their own slice: HU for CT. MONOCHROME1 says how to show values,
not what they are: nothing is inverted.

The decoders are imagecodecs': they let go of the interpreter's lock, and damaged data ends in an error. pydicom's
default order begins with gdcm, which ends the process instead (C++ exceptions on JPEG, a broken heap on JPEG 2000).
"""

import os
import struct
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from imagecodecs import jpeg2k_decode, jpeg8_decode, jpegls_decode, packbits_decode
from numpy.typing import NDArray
from pydicom import uid as uids
from scipy import ndimage

from dicom_io.errors import RejectReason, SeriesRejected
from dicom_io.files.dataset_reader import UNDEFINED_LENGTH, pixel_pieces, read_contents
from dicom_io.files.image_file import is_of_the_disk
from dicom_io.files.image_header import PixelFormat
from dicom_io.files.values import DAMAGED
from dicom_io.pixel_format import (
    BYTE_ORDER,
    JPEG,
    JPEG_2000,
    JPEG_LS,
    check_pixels,
    frame_index,
    pixel_format,
    rescale,
    stored_dtype,
    unreadable,
)
from dicom_io.progress import Progress, ignore_progress
from dicom_io.series.stacks import Slice, Stack
from dicom_io.volume import Volume

Integers: TypeAlias = NDArray[np.signedinteger[Any] | np.unsignedinteger[Any]]
Voxels: TypeAlias = NDArray[np.int16] | NDArray[np.float32]
Fragments: TypeAlias = tuple[tuple[int, int], ...]

DECODERS: Mapping[str, Callable[[bytes], Integers]] = {
    **dict.fromkeys(JPEG, jpeg8_decode),
    **dict.fromkeys(JPEG_LS, jpegls_decode),
    **dict.fromkeys(JPEG_2000, jpeg2k_decode),
}

PADDED_HU = -1024
"""What padding becomes that lies above it. Beyond the reconstructed circle there is nothing; scanners fill it with
something below air, but a filler of 0 with an intercept of 0 would be water around the patient."""

BODY_HU = (-200.0, 200.0)
"""From fat to enhanced vessels: no range of padding holds all of that."""

SAME_VALUE = 1e-3
"""By how much rescaled values differ that were stored in two ways."""

THREADS = min(16, os.cpu_count() or 1)

PIXEL_DATA = {"<": b"\xe0\x7f\x10\x00", ">": b"\x7f\xe0\x00\x10"}
END_OF_IMAGE = b"\xff\xd9"
RLE_HEADER = struct.Struct("<16L")


def read_volume(stack: Stack, progress: Progress = ignore_progress) -> Volume:
    """Read the pixels of a stack and rescale them, slice by slice. `progress` is told slices done, and of how many.

    Voxels are int16 where every value of every slice fits exactly, else float32; when that shows late, reading begins
    again. Raises SeriesRejected: UNREADABLE_PIXELS or UNSUPPORTED_SYNTAX; DUPLICATE_POSITIONS where images that were
    taken for the same slice are not. OSError when the disk failed.
    """
    check_pixels(stack)
    array: Voxels | None = None
    if all(float(number).is_integer() for item in stack.slices for number in rescale(item)):
        with suppress(_DoesNotFit):
            array = _filled(stack, np.empty(stack.geometry.shape, np.int16), progress)
    if array is None:
        array = _filled(stack, np.empty(stack.geometry.shape, np.float32), progress)
    _prove_twins(stack, array)
    return Volume(
        array=array,
        geometry=stack.geometry,
        modality=stack.modality,
        series_instance_uid=stack.series_instance_uid,
        sop_instance_uids=stack.sop_instance_uids,
        frame_numbers=stack.frame_numbers,
        warnings=stack.warnings,
    )


def _prove_twins(stack: Stack, array: Voxels) -> None:
    """Raise SeriesRejected(DUPLICATE_POSITIONS) where an image that came again has not the values of its slice."""
    for start in range(0, len(stack.again), THREADS):
        indices, twins = zip(*stack.again[start : start + THREADS], strict=True)
        batch = replace(stack, slices=twins)
        check_pixels(batch)
        values = np.empty((len(twins), *array.shape[1:]), np.float32)
        differing = np.abs(_filled(batch, values, ignore_progress) - array[list(indices)]).max(axis=(1, 2)) > SAME_VALUE
        if differing.any():
            raise SeriesRejected(RejectReason.DUPLICATE_POSITIONS, "Their pixels are not the same.")


class _DoesNotFit(Exception):
    """A rescaled value is beyond int16."""


def _filled(stack: Stack, array: Voxels, progress: Progress) -> Voxels:
    """`array` with the values of each slice, which threads write into it directly."""
    # The frames of one file mostly lie side by side, so that one file for each thread is enough to hold
    frames, inflated = lru_cache(maxsize=None)(_encapsulated), lru_cache(maxsize=THREADS)(_inflated)

    def fill(index: int) -> None:
        item, slot = stack.slices[index], array[index]
        pixels = pixel_format(item)
        try:
            if pixels.transfer_syntax_uid in DECODERS or pixels.transfer_syntax_uid == uids.RLELossless:
                stored = _decoded(item, _joined(item.path, frames(item.path, pixels)[frame_index(item)]))
            elif pixels.transfer_syntax_uid == uids.DeflatedExplicitVRLittleEndian:
                size = item.header.rows * item.header.columns * pixels.number_of_frames * pixels.bits_allocated // 8
                stored = _cut(item, inflated(item.path, size))
            else:
                stored = _native(item, slot)
            _rescale_into(slot, stored, item)
        except (*DAMAGED, OSError) as error:
            if is_of_the_disk(error):
                raise
            raise unreadable() from error

    with ThreadPoolExecutor(THREADS) as pool:
        for index, _ in enumerate(pool.map(fill, range(len(stack.slices)))):
            progress(index + 1, len(stack.slices))
    return array


# From the file to stored values.


def _native(item: Slice, slot: Voxels) -> Integers:
    """The stored values of a native frame, in the memory of `slot` where they have room and shape for it."""
    pixels = pixel_format(item)
    if pixels.offset is None:
        raise unreadable("There are no pixel data.")
    dtype, order = stored_dtype(pixels), BYTE_ORDER[pixels.transfer_syntax_uid]
    raw: Integers = slot.view(dtype) if slot.dtype == np.int16 and dtype.itemsize == 2 else np.empty(slot.shape, dtype)
    start = frame_index(item) * raw.nbytes
    with item.path.open("rb", buffering=0) as file:
        head = os.pread(file.fileno(), 12, pixels.offset - 12)
        if PIXEL_DATA[order] not in (head[:4], head[4:8]):
            raise unreadable("The file is not the one that its header was read from.")
        (length,) = struct.unpack(f"{order}L", head[8:])
        if length < start + raw.nbytes:  # one that is not stated is the longest
            raise unreadable("The pixels do not fill the image.")
        excess = length - pixels.number_of_frames * raw.nbytes
        if excess > 0 and length != UNDEFINED_LENGTH and 0 in (excess % (side * dtype.itemsize) for side in slot.shape):
            raise unreadable("There are more pixels than the image has: its size is wrong.")
        if order == ">" and dtype.itemsize == 1 and head[4:6] == b"OW":
            # Words of two pixels, the second first (PS3.5 section 8.2 and annex D); a frame may begin in a word's midst
            odd = start % 2
            words = np.empty((odd + raw.size + 1) // 2, np.uint16)
            _read_into(file.fileno(), words, pixels.offset + start - odd)
            raw = words.byteswap().view(dtype)[odd : odd + raw.size].reshape(raw.shape)
        else:
            _read_into(file.fileno(), raw, pixels.offset + start)
    if order == ">" and dtype.itemsize > 1:
        raw.byteswap(inplace=True)
    return _significant(raw, pixels)


def _read_into(file: int, array: NDArray[Any], offset: int) -> None:
    """Fill `array` from a file. Raises SeriesRejected when the file ends before."""
    rest = array.data.cast("B")
    while rest:
        count = os.preadv(file, [rest], offset)
        if not count:
            raise unreadable("The file is truncated.")
        rest, offset = rest[count:], offset + count


def _inflated(path: Path, count: int) -> bytes:
    """The first `count` bytes of PixelData of a deflated file, in which nothing has a place."""
    with path.open("rb") as file:
        return b"".join(pixel_pieces(file, read_contents(file), count))


def _cut(item: Slice, value: bytes) -> Integers:
    """The stored values of one frame out of a value that holds them all."""
    pixels, size = pixel_format(item), item.header.rows * item.header.columns
    dtype = stored_dtype(pixels)
    raw = np.frombuffer(value, dtype, count=size, offset=frame_index(item) * size * dtype.itemsize)
    return _significant(raw.reshape(item.header.rows, item.header.columns).copy(), pixels)


def _encapsulated(path: Path, pixels: PixelFormat) -> tuple[Fragments, ...]:
    """List where the fragments of each frame lie in the file, (offset, length) each (PS3.5 section A.4)."""
    with path.open("rb") as file:
        contents = read_contents(file)
        if contents.pixels is None or not contents.pixels.is_encapsulated:
            raise unreadable("There are no encapsulated pixel data.")
        file.seek(contents.pixels.start)
        size, items = os.fstat(file.fileno()).st_size, list[tuple[int, int]]()
        while (tag := file.read(8))[:4] == b"\xfe\xff\x00\xe0":
            offset, length = file.tell(), int.from_bytes(tag[4:], "little")
            if offset + length > size:
                raise unreadable("The file is truncated.")
            items.append((offset, length))
            file.seek(length, os.SEEK_CUR)
        if tag[:4] not in (b"", b"\xfe\xff\xdd\xe0"):
            raise unreadable("The fragments are damaged.")
        (table, table_length), *fragments = items
        if pixels.number_of_frames == 1:
            return (tuple(fragments),)
        if len(fragments) == pixels.number_of_frames:
            return tuple((fragment,) for fragment in fragments)
        offsets, width = contents.ds.get("ExtendedOffsetTable") or b"", "Q"
        if not offsets:
            file.seek(table)
            offsets, width = file.read(table_length), "L"
        if offsets:
            firsts = set(struct.unpack(f"<{len(offsets) // struct.calcsize('<' + width)}{width}", offsets))
            begins = [offset - 8 - (fragments[0][0] - 8) in firsts for offset, _ in fragments]
        else:
            ends = [END_OF_IMAGE in os.pread(file.fileno(), min(10, n), at + n - min(10, n)) for at, n in fragments]
            begins = [True, *ends[:-1]]
    frames = list[list[tuple[int, int]]]()
    for fragment, is_first in zip(fragments, begins, strict=True):
        if is_first:
            frames.append([])
        frames[-1].append(fragment)
    if len(frames) != pixels.number_of_frames:
        raise unreadable("The fragments do not make the frames.")
    return tuple(map(tuple, frames))


def _joined(path: Path, fragments: Fragments) -> bytes:
    with path.open("rb", buffering=0) as file:
        return b"".join(os.pread(file.fileno(), length, offset) for offset, length in fragments)


def _decoded(item: Slice, data: bytes) -> Integers:
    """The stored values of one compressed frame."""
    pixels, shape = pixel_format(item), (item.header.rows, item.header.columns)
    if pixels.transfer_syntax_uid == uids.RLELossless:
        return _significant(_unpacked(data, shape, stored_dtype(pixels)), pixels)
    decode = DECODERS[pixels.transfer_syntax_uid]
    precision, signed, *size = _j2k_format(data) if decode is jpeg2k_decode else _jpeg_format(data)
    if size[2] != 1:
        raise unreadable("A colour image.")
    if (size[0], size[1]) != shape:
        raise unreadable("The pixels do not fill the image.")
    if decode is not jpeg2k_decode and END_OF_IMAGE not in data[-64:]:
        # JPEG's decoder would make up the rest, JPEG-LS's (CharLS 2.4) may count to 2**32 before it gives up
        raise unreadable("The pixel data end too early.")
    values = decode(data)
    if values.shape != shape:
        raise unreadable("The pixels do not fill the image.")
    if signed == pixels.pixel_representation:
        return values
    # JPEG and JPEG-LS know no sign; a JPEG 2000 codestream may say another than the header. The header is right:
    # encoders were fed two's complement numbers as if they had no sign, or were told so later.
    values = values.view(np.dtype(f"{'ui'[pixels.pixel_representation == 1]}{values.dtype.itemsize}"))
    return _shifted(values, min(precision, pixels.bits_stored), 0)


def _unpacked(data: bytes, shape: tuple[int, int], dtype: np.dtype[Any]) -> Integers:
    """An RLE frame: a segment for each byte of a pixel, the most significant first (PS3.5 annex G)."""
    count, *offsets = RLE_HEADER.unpack_from(data)
    if count != dtype.itemsize:
        raise unreadable("The segments do not make the pixels.")
    planes = np.empty((*shape, count), np.uint8)
    for index, (start, end) in enumerate(zip(offsets[:count], [*offsets[1:count], len(data)], strict=True)):
        segment = packbits_decode(data[start:end], out=shape[0] * shape[1])
        planes[..., count - 1 - index] = np.frombuffer(segment, np.uint8, shape[0] * shape[1]).reshape(shape)
    return planes.view(dtype)[..., 0]


def _jpeg_format(data: bytes) -> tuple[int, int, int, int, int]:
    """Precision, sign (never), rows, columns and components, of JPEG and JPEG-LS (ITU-T T.81 section B.2.2, T.87)."""
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            precision, rows, columns, components = struct.unpack_from(">BHHB", data, at + 4)
            return precision, 0, rows, columns, components
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise ValueError("no frame header")


def _j2k_format(data: bytes) -> tuple[int, int, int, int, int]:
    """Precision, sign, rows, columns and components, from the SIZ segment (ITU-T T.800 section A.5.1).

    A JP2 file may surround the codestream, though it should not (PS3.5 section A.4.4).
    """
    at = data.index(b"\xff\x4f\xff\x51")
    right, bottom, left, top = struct.unpack_from(">4L", data, at + 8)
    components, depth = struct.unpack_from(">HB", data, at + 40)
    return (depth & 0x7F) + 1, depth >> 7, bottom - top, right - left, components


def _significant(raw: Integers, pixels: PixelFormat) -> Integers:
    """`raw` (changed in place) without what else its words hold: overlays, or nothing in particular (PS3.5 8.1.1)."""
    above = pixels.bits_allocated - 1 - pixels.high_bit
    if not 0 <= above <= pixels.bits_allocated - pixels.bits_stored:
        above = pixels.bits_allocated - pixels.bits_stored  # a HighBit that cannot be: the usual one
    return _shifted(raw, pixels.bits_stored, pixels.bits_allocated - pixels.bits_stored - above)


def _shifted(values: Integers, bits: int, lowest: int) -> Integers:
    """The number of `bits` bits that begins at bit `lowest` of each word, with its sign where the type has one."""
    width = 8 * values.dtype.itemsize
    if bits >= width:
        return values
    if lowest + bits < width:
        np.left_shift(values, width - bits - lowest, out=values)
    np.right_shift(values, width - bits, out=values)
    return values


# From stored values to voxels.


def _rescale_into(slot: Voxels, stored: Integers, item: Slice) -> None:
    """Rescale `stored`, which may lie in the memory of `slot`, into it. Raises _DoesNotFit."""
    slope, intercept = rescale(item)
    padded = _padding(stored, item)
    if slot.dtype == np.float32:
        slot[...] = stored * np.float64(slope) + intercept
    else:
        kept = stored if padded is None else stored[~padded]
        limits = np.iinfo(kept.dtype)
        for possible, actual in (limits.min, kept.min), (limits.max, kept.max):
            if kept.size and not (_fits(possible, slope, intercept) or _fits(int(actual()), slope, intercept)):
                raise _DoesNotFit
        # Words that overflow on the way come back: the result is known to fit
        if not np.may_share_memory(slot, stored):
            np.copyto(slot, stored, casting="unsafe")
        if slope != 1:
            slot *= _wrapped(slope)
        if intercept != 0:
            slot += _wrapped(intercept)
    if padded is not None:
        slot[padded] = PADDED_HU


def _fits(stored: int, slope: float, intercept: float) -> bool:
    return -0x8000 <= stored * int(slope) + int(intercept) <= 0x7FFF


def _wrapped(number: float) -> np.int16:
    return np.int16((int(number) + 0x8000) % 0x10000 - 0x8000)


def _padding(stored: Integers, item: Slice) -> NDArray[np.bool_] | None:
    """Mark where a CT image is padded with a value that would be more than PADDED_HU; None where it is not.

    Padding (PS3.3 section C.7.5.1.1.2) begins at the border. Elsewhere its value counts as a measured one: files exist
    that state a padding of 0 and use none.
    """
    pixels, (slope, intercept) = pixel_format(item), rescale(item)
    if item.header.modality != "CT" or pixels.pixel_padding_value is None:
        return None
    limit = pixels.pixel_padding_range_limit
    ends = [_as_stored(end, pixels) for end in (pixels.pixel_padding_value, limit) if end is not None]
    range_hu = sorted(end * slope + intercept for end in ends)
    if range_hu[0] < BODY_HU[0] and BODY_HU[1] < range_hu[-1]:
        ends = ends[:1]  # a limit that makes padding of the whole body is a wrong one
    low, high = min(ends), max(ends)
    if max(low * slope, high * slope) + intercept <= PADDED_HU:
        return None
    padded = (stored >= low) & (stored <= high)
    if low != high:
        padded &= stored * np.float64(slope) + intercept > PADDED_HU
    if not padded.any():
        return None
    parts, _ = ndimage.label(padded)
    outer = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    at_border: NDArray[np.bool_] = np.isin(parts, outer[outer > 0])
    return at_border if at_border.any() else None


def _as_stored(value: int, pixels: PixelFormat) -> int:
    """A padding value with the sign that PixelRepresentation gives it; files write it with either VR, US or SS."""
    width = max(16, pixels.bits_allocated)
    value %= 1 << width
    return value - (1 << width) if pixels.pixel_representation and value >> (width - 1) else value
