"""An A-ASSOCIATE-RQ as peers send it, made readable for pynetdicom, which aborts at the first odd byte.

What a negotiation does not need must not end it: AE titles padded with NUL, an over-long implementation version name,
items that no edition of the standard names, or items that cannot be read. What is needed and odd is put right, the
rest is left out (PS3.8 section 9.3.1: items that are not recognised are ignored).
"""

import struct
from collections.abc import Iterator
from typing import Any

from pynetdicom.pdu_items import PDU_ITEM_TYPES, PresentationContextItemRQ

ASSOCIATE_RQ = 0x01
TITLES = (slice(10, 26), slice(26, 42))
"""Where the called and the calling AE title lie (PS3.8 table 9-11)."""
ITEMS = 74

APPLICATION_CONTEXT, PRESENTATION_CONTEXT, USER_INFORMATION = 0x10, 0x20, 0x50
CONTEXT_ID = 4
"""Bytes before the sub-items of a presentation context (PS3.8 table 9-13)."""
SYNTAXES = (0x30, 0x40)
"""Its sub-items: the abstract syntax, and transfer syntaxes."""
MAXIMUM_LENGTH, IMPLEMENTATION_CLASS, IMPLEMENTATION_VERSION = 0x51, 0x52, 0x55
USER_ITEMS = frozenset({MAXIMUM_LENGTH, IMPLEMENTATION_CLASS, 0x53, 0x54, IMPLEMENTATION_VERSION, 0x56, 0x57, 0x58})
"""The sub-items of a requestor's user information (PS3.7 annex D, PS3.8 annex D)."""

NO_TITLE = "?"
"""Stands for an AE title without a character: it is nobody's, and can be refused by name."""
USUAL_MAXIMUM_LENGTH = 16384

UNREADABLE = (ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, struct.error)
"""What pynetdicom raises at an item that breaks its form."""


def readable(pdu: bytes) -> bytes:
    """The A-ASSOCIATE-RQ with what pynetdicom can read of it; other PDUs, and one cut short, as they are."""
    if len(pdu) < ITEMS or pdu[0] != ASSOCIATE_RQ:
        return pdu
    head = bytearray(pdu[:ITEMS])
    for place in TITLES:
        head[place] = _text(pdu[place]).ljust(16).encode()
    mended = ((kind, _mended(kind, value)) for kind, value in _items(pdu[ITEMS:]))
    items = b"".join(_item(kind, value) for kind, value in mended if _reads(kind, value))
    return bytes(head[:2]) + struct.pack(">L", len(head) - 6 + len(items)) + bytes(head[6:]) + items


def unreadable_contexts(pdu: bytes) -> tuple[str, ...]:
    """The abstract syntaxes of the presentation contexts that `readable` leaves out, "" for one that says none."""
    if len(pdu) < ITEMS or pdu[0] != ASSOCIATE_RQ:
        return ()
    left_out = []
    for kind, value in _items(pdu[ITEMS:], cut=True):
        if kind == PRESENTATION_CONTEXT and not _is_decoded(kind, _mended(kind, value)):
            syntaxes = [syntax for sub_kind, syntax in _items(value[CONTEXT_ID:]) if sub_kind == SYNTAXES[0]]
            left_out.append(syntaxes[0].decode("ascii", "replace").strip("\0 ") if syntaxes else "")
    return tuple(left_out)


def titles(pdu: bytes) -> tuple[str, str]:
    """The called and the calling AE title of an A-ASSOCIATE-RQ, "" where it is too short to hold them."""
    called, calling = (_text(pdu[place]) if len(pdu) >= place.stop else "" for place in TITLES)
    return called, calling


def _text(value: bytes) -> str:
    """An AE title or version name up to its first NUL, what may not stand in one as question marks."""
    text = value.partition(b"\0")[0].decode("ascii", "replace").strip()
    return "".join(char if " " <= char <= "~" and char != "\\" else "?" for char in text) or NO_TITLE


def _items(content: bytes, *, cut: bool = False) -> Iterator[tuple[int, bytes]]:
    """Type and value of each whole item; with `cut` also of one that the end of the request cuts short."""
    while len(content) >= 4:
        kind, _, length = struct.unpack(">BBH", content[:4])
        value, content = content[4 : 4 + length], content[4 + length :]
        if len(value) == length or cut:
            yield kind, value


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(value)) + value


def _reads(kind: int, value: bytes) -> bool:
    """Whether an item is one of a request, and can be read once it is mended."""
    if kind not in (APPLICATION_CONTEXT, PRESENTATION_CONTEXT, USER_INFORMATION):
        return False
    return kind == USER_INFORMATION or _is_decoded(kind, value)


def _mended(kind: int, value: bytes) -> bytes:
    if kind == PRESENTATION_CONTEXT:
        syntaxes = (_item(sub_kind, syntax) for sub_kind, syntax in _items(value[CONTEXT_ID:]) if sub_kind in SYNTAXES)
        return value[:CONTEXT_ID] + b"".join(syntaxes)
    if kind != USER_INFORMATION:
        return value
    items: dict[tuple[int, bytes], bytes] = {}
    for sub_kind, sub_value in _items(value):
        if sub_kind == IMPLEMENTATION_VERSION:
            sub_value = _text(sub_value)[:16].encode()
        if sub_kind in USER_ITEMS and _is_decoded(sub_kind, sub_value):
            items.setdefault((sub_kind, sub_value), _item(sub_kind, sub_value))
    if not any(sub_kind == MAXIMUM_LENGTH for sub_kind, _ in items):
        items[MAXIMUM_LENGTH, b""] = _item(MAXIMUM_LENGTH, struct.pack(">L", USUAL_MAXIMUM_LENGTH))
    return b"".join(items.values())


def _is_decoded(kind: int, value: bytes) -> bool:
    """Whether pynetdicom reads an item; a presentation context needs an abstract and a transfer syntax."""
    item: Any = PDU_ITEM_TYPES[kind]()
    try:
        item.decode(_item(kind, value))
        if isinstance(item, PresentationContextItemRQ):
            context = item.to_primitive()
            return bool(context.abstract_syntax and context.transfer_syntax)
        if kind != APPLICATION_CONTEXT:
            item.to_primitive()
    except UNREADABLE:
        return False
    return True
