"""Sizes from outside are not believed: whatever is sent, the service's memory stays small, and it goes on."""

import json
import os
import resource
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, generate_uid

from dicom_io.errors import PeerError
from dicom_io.network import scu
from tests.dicom_io.network.pdus import associate_rq, command, context, p_data, read_pdu

MIB = 1 << 20
MOST_RSS_MIB = 300
PIECE = 131_000
PATIENCE_S = 60

CONFIG = """\
[dicom]
port = {port}
maximum_instance_mb = {most}
[[peer]]
name = "modality"
ae_title = "MODALITY"
accept = true
[storage]
root = {root}
min_free_mb = 10
[series]
quiet_s = 1
released_quiet_s = 1
[log]
format = "json"
"""


@dataclass
class Node:
    """A service in its own process."""

    process: "subprocess.Popen[bytes]"
    port: int
    root: Path
    most: int
    """Bytes of an instance."""

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    @property
    def peak_mib(self) -> int:
        """Its largest resident set since it was asked to forget the one before."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) >> 10

    def incoming(self) -> list[Path]:
        return list((self.root / "incoming").iterdir())

    def connect(self, syntax: str = ExplicitVRLittleEndian) -> socket.socket:
        """An association of a known peer."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        connection.sendall(associate_rq(context(1, CTImageStorage, syntax)))
        assert read_pdu(connection)[0] == 2
        return connection

    def send(self, uid: str, data: Iterable[bytes], syntax: str = ExplicitVRLittleEndian) -> int:
        """The status that is answered to an instance."""
        with self.connect(syntax) as connection:
            connection.sendall(p_data(1, 3, command(uid=uid)))
            for piece in data:
                connection.sendall(p_data(1, 0, piece))
            connection.sendall(p_data(1, 2, b""))
            answer = read_pdu(connection)
        at = answer.index(struct.pack("<HHL", 0, 0x0900, 2))
        return int.from_bytes(answer[at + 8 : at + 10], "little")


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "not within its time"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int], sized: Callable[[int, int], int]
) -> Iterator[Node]:
    folder, port, most = tmp_path_factory.mktemp("sizes"), free_port(), sized(256, 2048)
    config = folder / "porta.toml"
    config.write_text(CONFIG.format(port=port, most=most, root=json.dumps(str(folder / "root"))))
    with (folder / "porta.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "daemon.commands.cli", "run", "-c", str(config)], stdout=log, stderr=log
        )
    try:

        def answers() -> bool:
            assert process.poll() is None, (folder / "porta.log").read_text()
            try:
                scu.echo(scu.Remote("PORTA", "127.0.0.1", port), calling_ae_title="MODALITY", timeout_s=5)
            except PeerError:
                return False
            return True

        until(answers)
        yield Node(process, port, folder / "root", most * MIB)
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def node(service: Node, figure: Callable[[str, object], None], make_ct: Callable[..., bytes]) -> Iterator[Node]:
    """The service, which has little memory and nothing half received after each attack, and takes a good image."""
    service.forget_peak()
    yield service
    until(lambda: not service.incoming())
    uid = generate_uid()
    content = make_ct(uid, change=lambda ds: setattr(ds, "SOPInstanceUID", uid))
    length = int.from_bytes(content[140:144], "little")
    assert service.send(uid, [content[144 + length :]]) == 0x0000
    figure("peak RSS MiB", service.peak_mib)
    assert service.peak_mib <= MOST_RSS_MIB


def element(group: int, number: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """An element of Explicit VR; with another length than its value has, if so wanted."""
    size = len(value) if length is None else length
    if vr in (b"OB", b"OW", b"SQ", b"UN"):
        return struct.pack("<HH2sHL", group, number, vr, 0, size) + value
    return struct.pack("<HH2sH", group, number, vr, size) + value


def head(uid: str, side: int = 64) -> bytes:
    """The elements of an image before those that an attack is made of."""

    def padded(text: str) -> bytes:
        return text.encode() + b"\0" * (len(text) % 2)

    return b"".join(
        [
            element(0x0008, 0x0016, b"UI", padded(CTImageStorage)),
            element(0x0008, 0x0018, b"UI", padded(uid)),
            element(0x0008, 0x0060, b"CS", b"CT"),
            element(0x0020, 0x000D, b"UI", padded(f"{uid[:50]}.1")),
            element(0x0020, 0x000E, b"UI", padded(f"{uid[:50]}.2")),
            element(0x0028, 0x0010, b"US", struct.pack("<H", side)),
            element(0x0028, 0x0011, b"US", struct.pack("<H", side)),
            element(0x0028, 0x0100, b"US", struct.pack("<H", 16)),
            element(0x0028, 0x0101, b"US", struct.pack("<H", 16)),
            element(0x0028, 0x0103, b"US", struct.pack("<H", 1)),
        ]
    )


def pieces(size: int, fill: bytes = b"x") -> Iterator[bytes]:
    piece = fill * PIECE
    for _ in range(size // PIECE):
        yield piece
    yield fill * (size % PIECE)


def cut(data: Iterable[bytes]) -> Iterator[bytes]:
    yield from (part[at : at + PIECE] for part in data for at in range(0, len(part), PIECE))


def deflated(data: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    yield from cut(map(packer.compress, data))
    yield from cut([packer.flush()])


def test_instances_that_do_not_end(node: Node):
    """They lie on the disk as long as they come, and are gone with their associations."""
    connections = [node.connect() for _ in range(4)]
    for connection in connections:
        connection.sendall(p_data(1, 3, command()))
    for piece in pieces(node.most // 4 - PIECE):
        for connection in connections:
            connection.sendall(p_data(1, 0, piece))
    until(lambda: sum(path.stat().st_size for path in node.incoming()) > node.most - 8 * MIB)
    for connection in connections:
        connection.close()


def test_an_instance_that_is_too_large(node: Node):
    """It is cut off where it exceeds maximum_instance_mb."""
    with node.connect() as connection, pytest.raises(OSError):
        connection.sendall(p_data(1, 3, command()))
        for piece in repeat(b"x" * PIECE, 2 * node.most // PIECE):
            connection.sendall(p_data(1, 0, piece))


def test_a_command_that_does_not_end(node: Node):
    with node.connect() as connection, pytest.raises(OSError):
        for piece in repeat(b"x" * PIECE, 1000):
            connection.sendall(p_data(1, 1, piece))


def test_a_megabyte_that_inflates_to_gigabytes(node: Node, sized: Callable[[int, int], int]):
    """Inflating ends where no image goes on."""
    size, uid = sized(1024, 3600) * MIB, generate_uid()
    data = chain([head(uid), element(0x7FE0, 0x0010, b"OW", b"", size)], pieces(size, b"\0"))
    assert node.send(uid, deflated(data), DeflatedExplicitVRLittleEndian) == 0xC000


def test_an_inflated_value_before_the_pixels(node: Node):
    """Of what is not inflated to more than a hundred times its size nothing is kept either."""
    uid, size = generate_uid(), node.most // 4
    noise = [os.urandom(PIECE // 50) + bytes(PIECE - PIECE // 50)] * (size // PIECE)
    data = [head(uid), element(0x0029, 0x1010, b"OB", b"", len(noise) * PIECE), *noise]
    data.append(element(0x7FE0, 0x0010, b"OW", bytes(64 * 64 * 2)))
    assert node.send(uid, deflated(data), DeflatedExplicitVRLittleEndian) == 0x0000


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_large_pixel_data_twice(node: Node, syntax: str):
    """Pixel data are compared in pieces."""
    uid, size = generate_uid(), node.most // 2
    noise = (os.urandom(PIECE // 50) + bytes(PIECE - PIECE // 50)) * 8
    for last in (b"\0", b"\1"):
        value = chain(repeat(noise, size // len(noise)), [last * 2])
        length = size // len(noise) * len(noise) + 2
        data: Iterable[bytes] = chain([head(uid, 16384), element(0x7FE0, 0x0010, b"OW", b"", length)], value)
        sent = (deflated if syntax == DeflatedExplicitVRLittleEndian else cut)(data)
        assert node.send(uid, sent, syntax) == 0x0000


def empty_items(size: int) -> Iterator[bytes]:
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0)
    return pieces(size // len(item), item)


UNDEFINED = 0xFFFFFFFF
END_OF_SEQUENCE = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
NESTED = element(0x0040, 0xA730, b"SQ", b"", UNDEFINED) + struct.pack("<HHL", 0xFFFE, 0xE000, UNDEFINED)


HEADERS: dict[str, tuple[int, Callable[[int], Iterable[bytes]]]] = {
    "a long value": (0x0000, lambda size: [element(0x0029, 0x1010, b"OB", b"", size), *pieces(size)]),
    "many long values": (
        0x0000,
        lambda size: (
            element(0x0029, 0x1000 + number, b"OB", b"x" * (MIB - 12)) for number in range(min(size // MIB, 0xFFF))
        ),
    ),
    "many elements": (0xC000, lambda size: pieces(size // 8, element(0x0029, 0x1010, b"CS", b""))),
    "many frames": (
        0x0000,
        lambda size: [element(0x5200, 0x9230, b"SQ", b"", UNDEFINED), *empty_items(7 * MIB), END_OF_SEQUENCE],
    ),
    "many items of a known length": (
        0x0000,
        lambda size: [element(0x5200, 0x9230, b"SQ", b"", size // 8 * 8), *empty_items(size)],
    ),
    "items without end": (
        0xC000,
        lambda size: [element(0x5200, 0x9230, b"SQ", b"", UNDEFINED), *empty_items(size), END_OF_SEQUENCE],
    ),
    "items within items": (0xC000, lambda size: pieces(size // len(NESTED), NESTED)),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_of_any_size(node: Node, name: str):
    """What is long is passed over; what is too much is not read to its end."""
    uid = generate_uid()
    status, made = HEADERS[name]
    pixels = element(0x7FE0, 0x0010, b"OW", bytes(64 * 64 * 2))
    assert node.send(uid, cut(chain([head(uid)], made(node.most // 4), [pixels]))) == status


def test_silent_connections(node: Node, sized: Callable[[int, int], int], figure: Callable[[str, object], None]):
    """As many as this process may hold wait at no thread each, and keep nobody out."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    tasks = Path(f"/proc/{node.process.pid}/task")
    before = len(list(tasks.iterdir()))
    connections: list[socket.socket] = []
    try:
        wanted = min(sized(600, 5000), (hard if hard != resource.RLIM_INFINITY else 1 << 20) - 200)
        for number in range(wanted):
            connection = socket.socket()
            connections.append(connection)
            connection.bind((f"127.0.0.{2 + number % 5}", 0))  # five hosts: each may have a thousand waiting
            connection.connect(("127.0.0.1", node.port))
        descriptors = Path(f"/proc/{node.process.pid}/fd")
        until(lambda: len(list(descriptors.iterdir())) > wanted)
        figure("silent connections held", wanted)
        assert len(list(tasks.iterdir())) <= before + 1
        node.connect().close()
    finally:
        for connection in connections:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_was_attacked_is_looked_at(node: Node):
    """Routing and closing read the headers of all of it too: every series that was taken has its verdict."""
    rows: Any = None

    def closed() -> bool:
        nonlocal rows
        done = subprocess.run(
            [sys.executable, "-m", "daemon.commands.cli", "jobs", "--json", "-c", str(node.root.parent / "porta.toml")],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=True,
        )
        rows = json.loads(done.stdout)
        return all(row["state"] != "RECEIVING" for row in rows)

    until(closed)
    assert rows
