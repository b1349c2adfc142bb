"""Streams that were valid until some bytes changed: no thread dies of one, and a good sender is served beside them."""

import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from pynetdicom import build_context, evt
from pynetdicom.sop_class import CTImageStorage

from dicom_io.errors import PeerError
from dicom_io.network.scu import Remote, associated, store

ODD = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
SENDERS = 8


def recorded(porta: Remote, images: list[Path]) -> list[bytes]:
    """The PDUs of a sender that stores images and releases."""
    sent: list[bytes] = []
    contexts = [build_context(CTImageStorage, "1.2.840.10008.1.2.1")]
    with associated(
        porta, contexts, "MODALITY", 10, handlers=[(evt.EVT_DATA_SENT, lambda e: sent.append(e.data))]
    ) as a:
        for number, path in enumerate(images, start=1):
            a.send_c_store(path, msg_id=number)
    stream, pdus = b"".join(sent), []
    while stream:
        size = 6 + struct.unpack(">I", stream[2:6])[0]
        pdus.append(stream[:size])
        stream = stream[size:]
    return pdus


def spoilt(pdus: list[bytes], chance: random.Random) -> bytes:
    """The stream with bytes changed, taken out, put in, doubled or cut; heads and the request more often."""
    stream = bytearray(b"".join(pdus))
    starts = [sum(map(len, pdus[:number])) for number in range(len(pdus))]
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        place = chance.choice(
            (
                chance.choice(starts) + chance.randrange(14),
                chance.randrange(len(pdus[0])),
                chance.randrange(len(stream)),
            )
        )
        place = min(place, len(stream) - 1)
        size = chance.choice((1, 2, 4, 16, 100))
        match chance.randrange(6):
            case 0:
                stream[place] = chance.randrange(256)
            case 1:
                width = chance.choice((1, 2, 4))
                value = chance.choice(ODD) % (1 << 8 * width)
                stream[place : place + width] = value.to_bytes(width, chance.choice(("big", "little")))
            case 2:
                del stream[place : place + size]
            case 3:
                stream[place:place] = chance.randbytes(size)
            case 4:
                stream[place:place] = chance.choice(pdus)
            case 5:
                del stream[max(1, place) :]
        if not stream:
            return b"\0"
    return bytes(stream)


def send(porta: Remote, request: bytes, stream: bytes, chance: random.Random) -> str:
    """Send a stream, most often behind a request that is accepted; what was answered first."""
    answer = b""
    with suppress(OSError), socket.create_connection((porta.host, porta.port), 5) as connection:
        connection.settimeout(1)
        if chance.random() < 0.75:
            connection.sendall(request)
            connection.recv(4096)
            stream = stream[len(request) :]
        connection.settimeout(0.2)
        connection.sendall(stream)
        answer = connection.recv(4096)
        if chance.random() < 0.5:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return f"0x{answer[0]:02X}" if answer else "none"


def test_spoilt_streams(
    porta: Remote,
    images: list[Path],
    read_log: Any,
    sized: Callable[[Any, Any], Any],
    figure: Callable[[str, object], None],
):
    """Whatever came, the log names the peer, nothing is an error of ours, and the next good sender is served."""
    pdus, streams = recorded(porta, images), sized(300, 20_000)

    def attack(number: int) -> Counter[str]:
        chance = random.Random(number)
        return Counter(send(porta, pdus[0], spoilt(pdus, chance), chance) for _ in range(streams // SENDERS))

    with ThreadPoolExecutor(SENDERS) as pool:
        running = [pool.submit(attack, number) for number in range(SENDERS)]
        served, lost = 0, []
        while not all(each.done() for each in running):
            began = time.monotonic()
            try:
                assert store(porta, images, calling_ae_title="MODALITY", timeout_s=30) == (0, 0)
                served += 1
            except PeerError as error:
                lost.append(f"{type(error).__name__} after {time.monotonic() - began:.1f} s")
    answers = sum((each.result() for each in running), Counter())
    figure("streams", streams)
    figure("good associations meanwhile", served)
    figure("good associations lost", lost)
    figure("answers", dict(answers))
    assert lost == []
    assert not read_log.named("thread.died")
    assert not read_log.named("library.failed")
    unreadable = [line for line in read_log.named("association.ended") if "error" in line]
    assert unreadable
    assert all(line["host"] == "127.0.0.1" and line["level"] == "warning" for line in unreadable)
