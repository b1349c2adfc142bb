"""Requests and what follows them with bytes changed, cut, doubled and mixed: each association has one end, with a name.

What ends otherwise than by a release leaves one line with the host, the AE titles if they are known, and the reason.
The bytes are drawn by a seed: the number of a stream gives it again. With PORTA_ATTACK=long twenty times as many.
"""

import os
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from daemon.configuration.config import Config, Dicom
from daemon.intake import Intake
from daemon.ledger.store import Ledger
from daemon.receiver import Receiver
from daemon.storage.spool import Spool
from dicom_io.network.endings import Ending
from dicom_io.network.scp import Refusal
from tests.dicom_io.network.test_scp import ECHO, USER, associate_rq, context, item, p_data

STREAMS = 6000 if os.environ.get("PORTA_ATTACK") == "long" else 300
PATIENCE_S = 20

REQUEST = associate_rq(
    contexts=ECHO + context(3, CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian),
    user=USER + item(0x54, struct.pack(">H", 5) + b"1.2.3\1\1") + item(0x53, bytes([0, 1, 0, 1])),
)
RELEASE = b"\x05\x00" + struct.pack(">L", 4) + bytes(4)
ABORT = b"\x07\x00" + struct.pack(">L", 4) + bytes(4)
ANSWER_TO_RELEASE = b"\x06\x00" + struct.pack(">L", 4)


def echo() -> bytes:
    """A C-ECHO request in Implicit VR Little Endian (PS3.7 table 9.3-12)."""
    elements = [(0x0002, b"1.2.840.10008.1.1\0"), (0x0100, b"\x30\0"), (0x0110, b"\1\0"), (0x0800, b"\1\1")]
    body = b"".join(struct.pack("<HHL", 0, tag, len(value)) + value for tag, value in elements)
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


AFTER = (
    b"",
    RELEASE,
    ABORT,
    p_data(1, 3, echo()),
    p_data(1, 3, echo()) + RELEASE,
    p_data(3, 3, b"no command"),
    REQUEST,
)


def changed(content: bytes, draw: random.Random) -> bytes:
    """`content` with one to three changes."""
    found = bytearray(content)
    for _ in range(draw.randint(1, 3)):
        at, until = sorted(draw.randrange(len(found) + 1) for _ in range(2))
        few = slice(at, min(until, at + draw.randint(1, 8)))
        match draw.randrange(5):
            case 0:
                found[few] = draw.randbytes(len(found[few]))
            case 1:
                del found[few]
            case 2:
                found[at:at] = draw.randbytes(draw.randint(1, 8))
            case 3:
                found[at:at] = found[few]
            case _:
                del found[at:]
    return bytes(found)


def streams() -> Iterator[tuple[int, bytes, bool]]:
    """The number and the bytes of each stream, and whether its request is whole."""
    for number in range(STREAMS):
        draw = random.Random(number)
        after = draw.choice(AFTER)
        match number % 3:
            case 0:
                yield number, changed(REQUEST, draw) + after, False
            case 1:
                yield number, REQUEST + (changed(after, draw) if after else b""), True
            case _:
                yield number, changed(REQUEST + after, draw), False


@pytest.fixture
def port(
    make_config: Callable[..., Config],
    spool: Spool,
    ledger: Ledger,
    clock: Any,
    read_log: Any,
    free_port: Callable[[], int],
) -> Iterator[int]:
    config = make_config(dicom=Dicom(port=free_port(), network_timeout_s=PATIENCE_S))
    receiver = Receiver(config, Intake(spool, ledger, clock), ledger, clock)
    yield receiver.start()
    receiver.stop(PATIENCE_S)


def answered(port: int, stream: bytes) -> bytes:
    """What comes back to a stream whose sender then sends nothing more."""
    found = b""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        try:
            connection.sendall(stream)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                found += part
        except OSError:  # it was closed before all was read
            pass
    return found


@pytest.mark.timeout(1800)
def test_no_association_ends_without_a_name(port: int, read_log: Any, until: Callable[[Callable[[], object]], None]):
    """One line for each that was not released, of this host; with both titles where the request came whole."""
    threads = threading.active_count()
    ends = ("association.ended", "association.refused")

    def lines() -> int:
        return sum(read_log.stream.getvalue().count(f'"{event}"') for event in ends)

    due, whole = 0, []
    for number, stream, is_whole in streams():
        if not stream:
            continue
        if ANSWER_TO_RELEASE in answered(port, stream):
            continue
        due += 1
        until(lambda: lines() >= due)  # noqa: B023  asked at once
        assert lines() == due, number
        whole += [due - 1] if is_whole else []
    told = [line for line in read_log.events if line["event"] in ends]
    names = {*map(str, Ending), *map(str, Refusal)} - {Ending.RELEASED}
    assert len(told) == due > STREAMS / 2
    assert {line["host"] for line in told} == {"127.0.0.1"}
    assert {line["reason"] for line in told} <= names
    assert {(told[at]["calling_ae_title"], told[at]["called_ae_title"]) for at in whole} == {("MODALITY", "PORTA")}
    others = {line["event"] for line in read_log.events if line["level"] in ("warning", "error")}
    assert others <= {*ends, "contexts.refused", "library.warned"}
    until(lambda: threading.active_count() <= threads)
