"""Values of a data set, read leniently: the one reader of every value that is taken from a file.

What cannot be used counts as absent: a value that does not decode, text where a number belongs, NaN, several values
that differ where one belongs, text under the VR of a number. No reader raises, and none changes the data set: the
bytes of an element stay as they came.
"""

import re
import struct
import zlib
from typing import Any

from pydicom import DataElement, Dataset
from pydicom.charset import default_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as Items
from pydicom.tag import BaseTag, Tag

from dicom_io.errors import InvalidUID
from dicom_io.files.uids import checked_uid

DAMAGED = (
    *(InvalidDicomError, BytesLengthException, EOFError, ValueError, TypeError, LookupError, AttributeError),
    *(RuntimeError, ArithmeticError, AssertionError, struct.error, zlib.error),
)
"""What pydicom and its decoders raise on bytes that are no data set, or a damaged one (found by changing bytes of
files at random, 20 000 times). NotImplementedError is a RuntimeError; a decoder's own errors come as RuntimeError."""

PADDING = " \0"
"""What fills a value to an even length (PS3.5 section 6.2): a space, or NUL in UIDs and in what others write."""

DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
"""A decimal string (PS3.5 section 6.2, DS); Python's float takes more than that."""

DATE = re.compile(r"(\d{4})([-./]?)(\d\d)\2(\d\d)", re.ASCII)


def element(ds: Dataset, key: str | BaseTag) -> DataElement | None:
    """The element of a keyword or tag, decoded; None where it is absent or does not decode."""
    try:
        tag = Tag(tag_for_keyword(key) or key) if isinstance(key, str) else key
        found = ds.get_item(tag)
        if not isinstance(found, RawDataElement):
            return found
        encoding = default_encoding if tag == 0x00080005 else ds.original_character_set or ds._character_set
        decoded = convert_raw_data_element(found, encoding=encoding, ds=ds)
        if decoded.VR == "SQ" != standard_vr(tag) != "":
            return None
        if decoded.VR == "SQ" or "or" in decoded.VR:  # items, and the VRs that depend on them, are the data set's
            return ds[tag]
        return decoded
    except (*DAMAGED, OSError):  # pydicom's OSError, of a sequence that is cut short: nothing is read from the disk
        return None


def standard_vr(tag: BaseTag) -> str:
    """The VR that the standard gives an attribute; "" for one that it does not know."""
    try:
        return dictionary_VR(tag)
    except KeyError:
        return ""


def value(ds: Dataset, key: str | BaseTag) -> Any:
    """An attribute's value as pydicom has it; None where it is absent, empty or does not decode."""
    found = element(ds, key)
    return None if found is None or found.value == "" else found.value


def texts(ds: Dataset, keyword: str) -> tuple[str, ...]:
    """The values of an attribute as text, without padding: decimal strings as they stand in the file."""
    found = value(ds, keyword)
    if found is None or isinstance(found, Items):
        return ()
    return tuple(_text(item) for item in (found if isinstance(found, MultiValue | list | tuple) else [found]))


def text(ds: Dataset, keyword: str) -> str:
    """An attribute as text, several values with the backslash between them; "" where there is none."""
    return "\\".join(texts(ds, keyword))


def codes(ds: Dataset, keyword: str) -> tuple[str, ...]:
    """The values of a code string, in capitals as the standard has them (PS3.5 section 6.2, CS)."""
    found = value(ds, keyword)
    values = found if isinstance(found, MultiValue | list) else [found]
    return tuple(_text(item).upper() for item in values) if all(isinstance(item, str) for item in values) else ()


def code(ds: Dataset, keyword: str) -> str:
    """A code string of one value, in capitals; "" where there is none, or several that differ."""
    return _only(codes(ds, keyword))


def uid(ds: Dataset, keyword: str) -> str:
    """A UID; "" where there is none, or what stands there is none."""
    try:
        return checked_uid(_only(texts(ds, keyword)))
    except InvalidUID:
        return ""


def decimals(ds: Dataset, keyword: str) -> tuple[str, ...]:
    """The values of an attribute as decimal strings; () where one of them is no finite number."""
    found = texts(ds, keyword)
    return found if all(map(is_number, found)) else ()


def decimal(ds: Dataset, keyword: str) -> str:
    """A decimal string as it stands in the file; "" where there is none, or what stands there is no finite number."""
    found = decimals(ds, keyword)
    return found[0] if found and len({float(item) for item in found}) == 1 else ""


def number(ds: Dataset, keyword: str) -> float | None:
    """A finite number; None where there is none, or what stands there is none."""
    found = decimal(ds, keyword)
    return float(found) if found else None


def date(ds: Dataset, keyword: str) -> str:
    """A date as YYYYMMDD, also one as it was written before 1993 (YYYY.MM.DD); "" where what stands there is none."""
    found = DATE.fullmatch(text(ds, keyword).strip())
    return f"{found[1]}{found[3]}{found[4]}" if found else ""


def integer(ds: Dataset, keyword: str) -> int | None:
    """A whole number; None where there is none, or what stands there is none."""
    found = number(ds, keyword)
    return int(found) if found is not None and found.is_integer() else None


def stored_value(ds: Dataset, keyword: str) -> int | None:
    """A value of VR "US or SS": pydicom leaves bytes where Implicit VR does not say which of the two."""
    found = value(ds, keyword)
    if isinstance(found, bytes):
        return int.from_bytes(found[:2], "little", signed=integer(ds, "PixelRepresentation") == 1)
    return integer(ds, keyword)


def items(ds: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence."""
    found = value(ds, keyword)
    return list(found) if isinstance(found, Items | list) else []


def stored(ds: Dataset, tag: BaseTag) -> DataElement | RawDataElement | None:
    """The element as it lies in the data set, decoded or not; None where it is absent, or is neither."""
    try:
        return ds.get_item(tag)
    except DAMAGED:  # pydicom decodes an element without a value, under a VR that there is not
        return None


def put(ds: Dataset, keyword: str, written: object) -> None:
    """Set an attribute without a look at what stands there, which pydicom would decode first."""
    tag = Tag(keyword)
    ds[tag] = DataElement(tag, dictionary_VR(tag), written)


def is_stated(ds: Dataset, keyword: str) -> bool:
    """Whether anything but padding stands in an attribute, be it usable or not."""
    found = stored(ds, Tag(keyword))
    if isinstance(found, RawDataElement):
        return bool((found.value or b"").strip(b" \0"))
    return found is not None and found.value is not None and bool(str(found.value).strip(PADDING))


def _text(item: object) -> str:
    """`item` as text; "" for bytes, which are text under a VR that holds none."""
    return "" if isinstance(item, bytes) else str(item).strip(PADDING)


def _only(found: tuple[str, ...]) -> str:
    return found[0] if found and len(set(found)) == 1 else ""


def is_number(written: str) -> bool:
    """Whether a decimal string is a finite number."""
    return DECIMAL.fullmatch(written.strip()) is not None and abs(float(written)) < float("inf")
