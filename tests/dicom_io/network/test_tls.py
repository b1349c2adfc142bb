"""DICOM over TLS in both directions, with DCMTK, and what a stranger can do at the door."""

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dicom_io.errors import CertificateUnusable, PeerUnreachable
from dicom_io.expiry import days_left
from dicom_io.network import scp, scu
from dicom_io.tls import Certificates, LiveContext

PATIENCE_S = 20.0


@dataclass
class Door:
    """A port that speaks TLS, and what came through."""

    server: scp.Server
    certificates: Certificates
    received: list[scp.Received] = field(default_factory=list)
    failed: list[Exception] = field(default_factory=list)

    def remote(self, certificates: Certificates) -> scu.Remote:
        return scu.Remote("PORTA", "localhost", self.server.port, certificates)


@pytest.fixture
def open_door(issue: Callable[..., Any]) -> Iterator[Callable[..., Door]]:
    """`open_door(mutual=True)`: callers need a certificate of the authority that issued ours."""
    doors: list[Door] = []

    def make(*, mutual: bool = True, certificates: Certificates | None = None, request_s: float = 30.0) -> Door:
        ours = issue("porta")
        used = certificates or Certificates(ours.ca if mutual else None, ours.certificate, ours.key)
        door: Door

        def store(received: scp.Received) -> int:
            door.received.append(received)
            return 0x0000

        failed: list[Exception] = []
        server = scp.start(
            ae_title="PORTA",
            host="127.0.0.1",
            port=0,
            callers=[scp.Caller("MODALITY")],
            store=store,
            acse_timeout_s=request_s,
            secure=LiveContext(used, failed.append),
        )
        door = Door(server, used, failed=failed)
        doors.append(door)
        return door

    yield make
    for door in doors:
        door.server.shutdown(10)


@pytest.fixture
def modality(issue: Callable[..., Any]) -> Certificates:
    issued = issue("modality")
    return Certificates(issued.ca, issued.certificate, issued.key)


@pytest.fixture
def slices(shared_data: Path) -> list[Path]:
    return sorted((shared_data / "ct_transfer_syntaxes").glob("CTImage.dcm_*L.dcm"))[:1] or sorted(
        (shared_data / "pydicom_small").glob("CT_small.dcm")
    )


@pytest.fixture
def dcmtk(missing: Callable[[str], None]) -> Callable[[str], str]:
    """The path of a DCMTK program; pynetdicom brings others of the same names beside this Python."""

    def find(name: str) -> str:
        path = shutil.which(name, path="/usr/bin:/usr/local/bin")
        if path is None:
            missing(f"DCMTK's {name} is not installed")
        return str(path)

    return find


def send(door: Door, certificates: Certificates, paths: list[Path]) -> tuple[int, ...]:
    return scu.store(door.remote(certificates), paths, calling_ae_title="MODALITY", timeout_s=10)


def test_instances_come_whole(open_door: Callable[..., Door], modality: Certificates, slices: list[Path]):
    """Several over one association, byte for byte, and C-ECHO as well."""
    door = open_door()
    assert send(door, modality, slices * 3) == (0x0000,) * 3 * len(slices)
    content = slices[0].read_bytes()
    assert all(content.endswith(item.data) and len(item.data) > 1000 for item in door.received[:: len(slices)])
    assert scu.echo(door.remote(modality), calling_ae_title="MODALITY", timeout_s=10).accepted


def test_dcmtk_sends(
    open_door: Callable[..., Door], modality: Certificates, slices: list[Path], dcmtk: Callable[[str], str]
):
    """storescu with the profile that it has by default (BCP 195)."""
    door = open_door()
    command = [dcmtk("storescu"), "-aet", "MODALITY", "-aec", "PORTA"]
    keys = ["+tls", str(modality.key_file), str(modality.certificate_file), "+cf", str(modality.ca_file)]
    sent = subprocess.run(
        [*command, *keys, "localhost", str(door.server.port), *map(str, slices)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert len(door.received) == len(slices)
    plain = [*command, "localhost", str(door.server.port), str(slices[0])]
    assert subprocess.run(plain, capture_output=True, timeout=60).returncode != 0


def test_dcmtk_receives(
    issue: Callable[..., Any],
    modality: Certificates,
    slices: list[Path],
    dcmtk: Callable[[str], str],
    free_port: Callable[[], int],
    tmp_path: Path,
):
    """storescp over TLS takes our objects, of a caller with a certificate alone."""
    server, port = issue("server"), free_port()
    keys = ["+tls", str(server.key), str(server.certificate), "+cf", str(server.ca)]
    node = subprocess.Popen([dcmtk("storescp"), *keys, "-od", str(tmp_path), str(port)])
    try:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        remote = scu.Remote("ANY", "localhost", port, modality)
        assert scu.store(remote, slices, calling_ae_title="PORTA", timeout_s=10) == (0x0000,) * len(slices)
        assert len(list(tmp_path.iterdir())) == 1
        for certificates in (None, Certificates(modality.ca_file), Certificates()):
            stranger = scu.Remote("ANY", "localhost", port, certificates)
            with pytest.raises(PeerUnreachable):
                scu.store(stranger, slices, calling_ae_title="PORTA", timeout_s=5)
    finally:
        node.kill()
        node.wait()


def test_strangers_stay_outside(open_door: Callable[..., Door], issue: Callable[..., Any], slices: list[Path]):
    """Without a certificate, with another authority's, and without TLS; TLS 1.1 is not spoken."""
    door, other = open_door(), issue("stranger", by="nobody")
    ca = door.certificates.ca_file
    for certificates in (Certificates(ca), Certificates(ca, other.certificate, other.key), None):
        with pytest.raises(PeerUnreachable):
            scu.store(
                scu.Remote("PORTA", "localhost", door.server.port, certificates),
                slices,
                calling_ae_title="MODALITY",
                timeout_s=5,
            )
    assert not door.received
    assert door.certificates.for_server().minimum_version == ssl.TLSVersion.TLSv1_2
    for cipher in door.certificates.for_server().get_ciphers():
        assert cipher["aead"] and cipher["kea"] in ("kx-any", "kx-ecdhe"), cipher["name"]


def test_half_a_handshake_costs_nobody_a_place(
    open_door: Callable[..., Door], modality: Certificates, slices: list[Path]
):
    """Many of them wait without a thread, the next caller is served, and all are gone after the time of a request."""
    door = open_door(request_s=1.5)
    send(door, modality, slices)
    before = threading.active_count()
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40)
    waiting = [socket.create_connection(("127.0.0.1", door.server.port), timeout=10) for _ in range(60)]
    for number, connection in enumerate(waiting):
        connection.sendall(hello[: number % len(hello)])
    started = time.monotonic()
    assert send(door, modality, slices) == (0x0000,) * len(slices)
    assert threading.active_count() <= before + 2
    for connection in waiting:
        connection.settimeout(PATIENCE_S)
        with suppress(ConnectionError):
            assert connection.recv(100)[:1] in (b"", b"\x15")  # closed, or an alert of TLS before
        connection.close()
    assert time.monotonic() - started < PATIENCE_S


def test_certificates_are_renewed_while_it_runs(
    open_door: Callable[..., Door],
    issue: Callable[..., Any],
    modality: Certificates,
    slices: list[Path],
    tmp_path: Path,
):
    """The next connection gets the new one; files that cannot be used leave the old one, and are told of once."""

    def put(issued: Any) -> None:
        shutil.copy(issued.key, tmp_path / "key.pem")
        shutil.copy(issued.certificate, tmp_path / "porta.pem")

    put(issue("porta"))
    door = open_door(certificates=Certificates(None, tmp_path / "porta.pem", tmp_path / "key.pem"))
    send(door, modality, slices)
    put(issue("other", by="nobody"))
    with pytest.raises(PeerUnreachable):
        send(door, modality, slices)
    (tmp_path / "porta.pem").write_text("nothing")
    for _ in range(2):
        with pytest.raises(PeerUnreachable):
            send(door, modality, slices)
    assert [type(error) for error in door.failed] == [CertificateUnusable]
    put(issue("porta"))
    assert send(door, modality, slices) == (0x0000,) * len(slices)


def test_when_a_certificate_ends(issue: Callable[..., Any], tmp_path: Path):
    """In whole days, below 0 afterwards."""
    issued = issue("porta", days=20)
    certificates = Certificates(None, issued.certificate, issued.key)
    now = time.time()
    assert days_left(certificates, now) in (19, 20)
    assert days_left(certificates, now + 21 * 86400) == -2 or days_left(certificates, now + 21 * 86400) == -1
    assert days_left(Certificates(), now) is None
    with pytest.raises(CertificateUnusable):
        days_left(Certificates(None, tmp_path / "gone.pem"), now)
