"""PDUs written by hand (PS3.8 section 9.3), for peers that pynetdicom's own would not be."""

import socket
import struct

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

VERIFICATION = "1.2.840.10008.1.1"


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(value)) + value


def context(number: int, abstract_syntax: str, *transfer_syntaxes: str) -> bytes:
    syntaxes = b"".join(item(0x40, uid.encode()) for uid in transfer_syntaxes)
    return item(0x20, bytes([number, 0, 0, 0]) + item(0x30, abstract_syntax.encode()) + syntaxes)


USER = item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3.4.5") + item(0x55, b"ACME_1")
ECHO = context(1, VERIFICATION, ImplicitVRLittleEndian)


def associate_rq(
    contexts: bytes = ECHO,
    user: bytes = USER,
    called: bytes = b"PORTA",
    calling: bytes = b"MODALITY",
    more: bytes = b"",
) -> bytes:
    content = struct.pack(">HH", 1, 0) + called.ljust(16) + calling.ljust(16) + bytes(32)
    content += item(0x10, b"1.2.840.10008.3.1.1.1") + contexts + item(0x50, user) + more
    return b"\x01\x00" + struct.pack(">L", len(content)) + content


def p_data(context_id: int, control: int, value: bytes) -> bytes:
    pdv = struct.pack(">LBB", len(value) + 2, context_id, control) + value
    return b"\x04\x00" + struct.pack(">L", len(pdv)) + pdv


def command(field: int = 0x0001, uid: str = "1.2.3.4", *, has_data: bool = True) -> bytes:
    """A command set: of a C-STORE request for an instance, or with another command field."""
    padded = uid.encode() + b"\0" * (len(uid) % 2)
    elements: dict[int, int | bytes] = {0x0002: CTImageStorage.encode() + b"\0", 0x0100: field, 0x0110: 1, 0x0700: 0}
    elements |= {0x0800: 0x0102 if has_data else 0x0101, 0x1000: padded}
    if field & 0x8000:
        elements |= {0x0120: 1, 0x0800: 0x0101, 0x0900: 0}
    value = b""
    for element, content in sorted(elements.items()):
        raw = struct.pack("<H", content) if isinstance(content, int) else content
        value += struct.pack("<HHL", 0, element, len(raw)) + raw
    return struct.pack("<HHLL", 0, 0, 4, len(value)) + value


STORE = p_data(1, 3, command())
CT_REQUEST = associate_rq(context(1, CTImageStorage, ExplicitVRLittleEndian))


def rejection(port: int, calling: str = "MODALITY", called: str = "PORTA") -> tuple[int, ...]:
    """Result, source and reason of an A-ASSOCIATE-RJ; pynetdicom's requestor may miss one that comes at once."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(associate_rq(calling=calling.encode(), called=called.encode()))
        answer = read_pdu(connection)
    assert answer[:1] == b"\x03"
    return tuple(answer[7:10])


def read_pdu(connection: socket.socket) -> bytes:
    """One PDU, b"" where the connection was closed."""
    content = b""
    while len(content) < 6 or len(content) < 6 + struct.unpack(">L", content[2:6])[0]:
        part = connection.recv(65536)
        if not part:
            return b""
        content += part
    return content
