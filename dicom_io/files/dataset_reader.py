"""The one reader of files: all elements before the pixel data, and where these lie, in bounded memory.

Neither pixel data nor long values are read. What the file meta information says of the encoding is believed only as far
as the data set bears it out: whether it has VRs is seen from its first element. A data set without pixel data ends
where its last element does; what follows complete pixel data, and is no element, are trailing bytes.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from typing import BinaryIO, Literal

from pydicom import Dataset, FileDataset
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement, empty_value_for_VR
from pydicom.dataset import FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_sequence_item
from pydicom.tag import BaseTag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from dicom_io.files.byte_streams import Inflated, Plain, Stream
from dicom_io.files.encodings import inflation, is_swapped, is_vr, syntax_of

LONGEST = 1 << 25
"""Bytes of a value that is read: the functional groups of ten thousand frames have half of it."""
MOST_KEPT = 2
"""How many values of the longest kind are kept of a file; then only short ones are, as much again as one long one."""
SHORT = 4096
MOST_ITEMS = 1 << 15
LONGEST_ITEM = 1 << 18
"""Of a sequence that is read item by item: frames, and bytes of one."""
MOST_ELEMENTS = 1 << 20
"""Of a file, those in items of undefined length too."""
DEEPEST = 32
"""Items within items."""
PIECE = 1 << 20

PREFIX = b"DICM"
UNDEFINED_LENGTH = 0xFFFFFFFF
PIXEL_DATA = 0x7FE00010
ANY_PIXEL_DATA = (0x7FE00008, 0x7FE00009, PIXEL_DATA)
TRANSFER_SYNTAX_UID = 0x00020010
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
LAST_TAG = 0xFFFCFFFC
"""Data Set Trailing Padding (PS3.10 section 7.2)."""
DELIMITER_BYTES = 8
SEQUENCE_DELIMITER = {"<": b"\xfe\xff\xdd\xe0\0\0\0\0", ">": b"\xff\xfe\xe0\xdd\0\0\0\0"}
PEEKED = 4096
"""Bytes of a data set, or of a fragment, that tell how it is encoded."""
LONG_FORM = frozenset(vr.encode() for vr in EXPLICIT_VR_LENGTH_32)

ByteOrder = Literal["<", ">"]


@dataclass(frozen=True)
class PixelPlace:
    """Where the value of an element with pixel data lies: in the file, or in what a deflated data set inflates to.

    `size` is in bytes, without the delimiter of encapsulated ones. `is_long_form`: its length has four bytes.
    """

    tag: int
    start: int
    size: int
    is_encapsulated: bool
    is_long_form: bool


@dataclass(frozen=True)
class Contents:
    """What a file holds. `left_out` are tags of values that are too long, `trailing` counts bytes after the pixel data.

    `ds.original_encoding` and `transfer_syntax_uid` are how the data set is encoded, whatever the file meta information
    says; `wbits` is how it is to be inflated, if it is. `ds.preamble` is
    None where the file has neither preamble nor prefix. `is_cut`: the file ends before its data set does; of a deflated
    one only what precedes the pixel data was looked at.
    """

    ds: FileDataset
    pixels: PixelPlace | None
    dataset_at: int
    wbits: int | None
    is_cut: bool
    left_out: tuple[int, ...]
    trailing: int
    transfer_syntax_uid: str

    @property
    def is_deflated(self) -> bool:
        """True where the data set has to be inflated."""
        return self.wbits is not None

    @property
    def native_offset(self) -> int | None:
        """Where in the file the value of native PixelData begins; None where there is none, or it must be decoded."""
        place = self.pixels
        if self.is_deflated or place is None or place.tag != PIXEL_DATA or place.is_encapsulated:
            return None
        return place.start if place.is_long_form else None


def read_contents(file: BinaryIO, *, longest: int = LONGEST) -> Contents:
    """Read a file (PS3.10), or a bare data set, from where it stands. Values of more than `longest` bytes are left out.

    Raises one of `dicom_io.files.values.DAMAGED` where that makes no sense; OSError where the disk failed.
    """
    preamble = file.read(132)
    if preamble[128:] != PREFIX:
        file.seek(-len(preamble), 1)
    plain = Plain(file)
    meta = _meta_elements(_Walk(plain, "<"))
    if plain.peek(132)[128:] == PREFIX:  # a sender's data set was a whole file
        plain.skip(132)
        meta |= _meta_elements(_Walk(plain, "<"))
    dataset_at = plain.position
    syntax = _text(meta.get(BaseTag(TRANSFER_SYNTAX_UID)))
    wbits = inflation(plain.peek(PEEKED), syntax)
    stream: Stream = plain if wbits is None else Inflated(file, wbits)
    first = stream.peek(6)
    implicit = not is_vr(first[4:6])
    big = is_swapped(first)
    walk = _Walk(stream, ">" if big else "<")
    elements = _Elements(longest)
    place, trailing, is_cut = None, 0, False
    try:
        place = elements.read(walk, implicit=implicit)
        if place and wbits is None:
            place = walk.measure(place)
            trailing = _trailing(walk, plain, place.tag, implicit=implicit)
    except EOFError:
        is_cut = True
        if place and place.is_encapsulated:
            place = replace(place, size=plain.size - place.start)
    little = walk.order == "<"
    ds = FileDataset(
        file,
        elements.found,
        preamble[:128] if preamble[128:] == PREFIX else None,
        FileMetaDataset(meta),
        implicit,
        little,
    )
    ds.set_original_encoding(implicit, little, ds._character_set)
    syntax = syntax_of(
        syntax,
        implicit=implicit,
        big=big,
        is_deflated=wbits is not None,
        encapsulated=_first_fragment(file, place) if place and place.is_encapsulated and wbits is None else None,
    )
    return Contents(ds, place, dataset_at, wbits, is_cut, tuple(elements.left_out), trailing, syntax)


def check_inflated(file: BinaryIO, contents: Contents) -> None:
    """Inflate a deflated data set to its end. Raises EOFError where it is cut short, zlib.error where it is damaged."""
    file.seek(contents.dataset_at)
    Inflated(file, contents.wbits).skip_all()


def pixel_pieces(file: BinaryIO, contents: Contents, count: int | None = None) -> Iterator[bytes]:
    """Give the value of the pixel data in pieces: all of it, or its first `count` bytes.

    Raises EOFError where the file ends before, zlib.error where it is deflated and damaged.
    """
    if contents.pixels is None:
        return
    file.seek(contents.dataset_at if contents.is_deflated else 0)
    stream: Stream = Inflated(file, contents.wbits) if contents.is_deflated else Plain(file)
    stream.skip(contents.pixels.start)
    left = contents.pixels.size if count is None else min(count, contents.pixels.size)
    while left:
        piece = stream.read(min(left, PIECE))
        left -= len(piece)
        yield piece


def sequence_items(ds: Dataset, tag: int) -> Iterator[Dataset]:
    """Give the items of a sequence, each decoded by itself. Raises one of `dicom_io.files.values.DAMAGED`.

    Those of ten thousand frames, decoded at once, would have fifty times their bytes.
    """
    element = ds.get_item(BaseTag(tag))
    if not isinstance(element, RawDataElement):
        yield from element.value if element is not None else ()
        return
    value, little = element.value or b"", element.is_little_endian
    stream = Plain(BytesIO(value))
    walk = _Walk(stream, "<" if little else ">")
    for _ in range(MOST_ITEMS):
        start = stream.position
        if not stream.peek(1) or not walk.pass_item(implicit=element.is_implicit_VR):
            return
        if stream.position - start > LONGEST_ITEM:
            raise InvalidDicomError("an item that is too long")
        piece = BytesIO(value[start : stream.position])
        item = read_sequence_item(piece, element.is_implicit_VR, little, ds._character_set)
        if item is not None:
            yield item
    raise InvalidDicomError("too many items")


class _Elements:
    """The elements of a data set up to its pixel data."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._kept = 0
        self.found: dict[BaseTag, DataElement | RawDataElement] = {}
        self.left_out: list[int] = []

    def read(self, walk: "_Walk", *, implicit: bool) -> PixelPlace | None:
        """Return where the pixel data are; None without. Raises EOFError where the data set is cut short."""
        stream = walk.stream
        while not walk.is_at_end():
            tag, vr, length = walk.head(implicit=implicit)
            at = stream.position
            if tag in ANY_PIXEL_DATA:
                is_long_form = vr is None or vr.encode() in LONG_FORM
                is_encapsulated = length == UNDEFINED_LENGTH and walk.is_at_item()
                return PixelPlace(tag, at, length, is_encapsulated, is_long_form)
            value: bytes | None = None
            is_implicit = implicit or vr is None
            longest = max(SHORT, min(self._longest, MOST_KEPT * self._longest - self._kept))
            if length == UNDEFINED_LENGTH:
                is_implicit = is_implicit or vr == "UN"  # PS3.5 section 6.2.2, note 2
                vr = "SQ" if _is_sequence(tag, vr) else vr
                value = walk.record(longest, implicit=is_implicit)
            elif length <= longest:
                value = stream.read(length)
            else:
                stream.skip(length)
            if value is None:
                self.left_out.append(tag)
                continue
            self._kept += len(value)
            if self._kept > (MOST_KEPT + 1) * max(SHORT, self._longest):
                raise InvalidDicomError("too much before the pixel data")
            self.found[BaseTag(tag)] = RawDataElement(
                BaseTag(tag),
                vr,
                len(value),
                value or empty_value_for_VR(vr, raw=True),  # type: ignore[arg-type]
                at,
                is_implicit,
                walk.order == "<",
            )
        return None


class _Walk:
    """Goes through the elements of a stream."""

    def __init__(self, stream: Stream, order: ByteOrder) -> None:
        self.stream = stream
        self.order = order
        self._tag, self._long, self._short = (struct.Struct(f"{order}{form}").unpack for form in ("HH", "L", "H"))
        self._heads = 0

    def head(self, *, implicit: bool) -> tuple[int, str | None, int]:
        """Read tag, VR and length of an element; an element without VR among others that have one is let pass."""
        self._heads += 1
        if self._heads > MOST_ELEMENTS:
            raise InvalidDicomError("too many elements")
        raw = self.stream.read(8)
        group, element = self._tag(raw[:4])
        tag, vr = group << 16 | element, raw[4:6]
        if implicit or group == 0xFFFE or not is_vr(vr):
            return tag, None, self._long(raw[4:])[0]
        length = self._long(self.stream.read(4)) if vr in LONG_FORM else self._short(raw[6:])
        return tag, vr.decode("ascii"), length[0]

    def is_at_end(self) -> bool:
        """Whether nothing follows, or nothing but zeros, which are read. Raises InvalidDicomError for other zeros."""
        if self.stream.peek(8).strip(b"\0"):
            return False
        while zeros := self.stream.peek(PIECE):
            if zeros.strip(b"\0"):
                raise InvalidDicomError("zeros where an element should be")
            self.stream.skip(len(zeros))
        return True

    def measure(self, place: PixelPlace) -> PixelPlace:
        """Go to the end of the pixel data, and return their place with its size. Raises EOFError."""
        if place.size == UNDEFINED_LENGTH and not place.is_encapsulated:
            return replace(place, size=self.pass_rest())
        if not place.is_encapsulated:
            self.stream.skip(place.size)
            return place
        self.pass_items(implicit=False)
        size = self.stream.position - DELIMITER_BYTES - place.start
        return replace(place, size=size)

    def is_at_item(self) -> bool:
        """Whether an item begins, or its sequence ends, or the file does."""
        head = self.stream.peek(4)
        return len(head) < 4 or self._tag(head) in ((0xFFFE, 0xE000), (0xFFFE, 0xE0DD))

    def pass_rest(self) -> int:
        """Go to the end of native pixel data that state no length; return how many bytes precede their delimiter."""
        count, last = 0, b""
        while piece := self.stream.peek(PIECE):
            self.stream.skip(len(piece))
            count, last = count + len(piece), (last + piece)[-DELIMITER_BYTES:]
        return count - DELIMITER_BYTES * (last == SEQUENCE_DELIMITER[self.order])

    def record(self, longest: int, *, implicit: bool) -> bytes | None:
        """Read the items of a value of undefined length, without its delimiter; None where they are too long."""
        recorder = self.stream = _Recorder(self.stream, longest + DELIMITER_BYTES)
        try:
            self.pass_items(implicit=implicit)
        finally:
            self.stream = recorder.stream
        if recorder.kept is None:
            return None
        del recorder.kept[-DELIMITER_BYTES:]
        return bytes(recorder.kept)

    def pass_items(self, *, implicit: bool, depth: int = 0) -> None:
        """Go beyond the delimiter of a value of undefined length (PS3.5 section 7.5.2)."""
        if depth > DEEPEST:
            raise InvalidDicomError("items within items without end")
        while self.pass_item(implicit=implicit, depth=depth):
            pass

    def pass_item(self, *, implicit: bool, depth: int = 0) -> bool:
        """Go beyond an item; False where it was the delimiter behind the last one."""
        tag, _, length = self.head(implicit=True)
        if tag not in (ITEM, SEQUENCE_END):
            raise InvalidDicomError("no item where one should be")
        if tag == ITEM and length == UNDEFINED_LENGTH:
            self._pass_elements(implicit=implicit, depth=depth)
        elif tag == ITEM:
            self.stream.skip(length)
        return tag == ITEM

    def _pass_elements(self, *, implicit: bool, depth: int) -> None:
        # Items may be without VRs though their data set has them, never the other way
        implicit = implicit or not is_vr(self.stream.peek(6)[4:6])
        while (head := self.head(implicit=implicit))[0] != ITEM_END:
            _, vr, length = head
            if length == UNDEFINED_LENGTH:
                self.pass_items(implicit=implicit or vr in (None, "UN"), depth=depth + 1)
            else:
                self.stream.skip(length)


class _Recorder:
    """Keeps what is read of a stream, up to a size; beyond it nothing."""

    def __init__(self, stream: Stream, longest: int) -> None:
        self.stream, self._longest = stream, longest
        self.kept: bytearray | None = bytearray()
        self.peek = stream.peek

    @property
    def position(self) -> int:
        """Where the stream stands."""
        return self.stream.position

    def read(self, count: int) -> bytes:
        """Read, and keep it."""
        found = self.stream.read(count)
        self._keep(found)
        return found

    def skip(self, count: int) -> None:
        """Read and keep what there is room for, and pass over the rest."""
        if self.kept is not None and len(self.kept) + count <= self._longest:
            self.read(count)
        else:
            self.kept = None
            self.stream.skip(count)

    def _keep(self, found: bytes) -> None:
        if self.kept is not None and len(self.kept) + len(found) <= self._longest:
            self.kept += found
        else:
            self.kept = None


def _meta_elements(walk: _Walk) -> dict[BaseTag, DataElement | RawDataElement]:
    """Read the file meta information, and pass over a command set behind it, which has no place in a file."""
    stream, found = walk.stream, dict[BaseTag, DataElement | RawDataElement]()
    while (first := stream.peek(8))[:2] == b"\2\0":
        implicit = not is_vr(first[4:6])
        tag, vr, length = walk.head(implicit=implicit)
        at = stream.position
        if length > PIECE:
            stream.skip(length)
            continue
        value = stream.read(length) or empty_value_for_VR(vr, raw=True)
        found[BaseTag(tag)] = RawDataElement(BaseTag(tag), vr, length, value, at, implicit, True)  # type: ignore[arg-type]
    while (first := stream.peek(8))[:2] == b"\0\0" and first.strip(b"\0"):
        stream.skip(walk.head(implicit=True)[2])
    return found


def _first_fragment(file: BinaryIO, place: PixelPlace) -> bytes:
    """Return the beginning of the first fragment of encapsulated pixel data, behind the offset table."""
    file.seek(place.start + 4)
    table_length = int.from_bytes(file.read(4), "little")
    file.seek(table_length + 4, 1)
    return file.read(min(int.from_bytes(file.read(4), "little"), PEEKED))


def _trailing(walk: _Walk, plain: Plain, last: int, *, implicit: bool) -> int:
    """Return how many bytes after the pixel data are neither elements nor zeros."""
    end = plain.position
    try:
        while not walk.is_at_end():
            tag, vr, length = walk.head(implicit=implicit)
            if not last < tag <= LAST_TAG or (vr is None and not implicit):
                return plain.size - end
            if length == UNDEFINED_LENGTH:
                walk.pass_items(implicit=implicit or vr == "UN")
            else:
                plain.skip(length)
            end, last = plain.position, tag
    except (EOFError, InvalidDicomError):
        return plain.size - end
    return 0


def _is_sequence(tag: int, vr: str | None) -> bool:
    """Whether a value of undefined length is a sequence; what has no VR, and nobody knows, is one too."""
    if vr not in (None, "UN"):
        return vr == "SQ"
    try:
        return dictionary_VR(tag) in ("SQ", "UN")
    except KeyError:
        return True


def _text(element: DataElement | RawDataElement | None) -> str:
    return "" if element is None else (element.value or b"").decode("ascii", "replace").strip("\0 ")
