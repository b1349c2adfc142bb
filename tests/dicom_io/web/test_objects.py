"""STOW-RS and QIDO-RS against a service that answers as it is told; tests/daemon/delivery asks Orthanc."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dicom_io.errors import CertificateUnusable, PeerUnreachable, StoreRefused, WebRefused
from dicom_io.tls import Certificates
from dicom_io.web.objects import holds, store
from dicom_io.web.service import MOST_ANSWER, Secret, WebService

UIDS = {"study_instance_uid": "1.2", "series_instance_uid": "1.2.3", "sop_instance_uid": "1.2.3.4"}


@dataclass
class Script:
    """What a service answers, and what it was asked."""

    status: int = 200
    body: bytes = b"{}"
    port: int = 0
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    def service(self, **changes: Any) -> WebService:
        return WebService(**{"url": f"http://localhost:{self.port}/web/"} | changes)


@pytest.fixture
def start() -> Iterator[Callable[..., Script]]:
    servers = []

    def serve(context: ssl.SSLContext | None = None) -> Script:
        script = Script()

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                script.requests.append((self.command, self.path, dict(self.headers), body))
                self.send_response(script.status)
                self.send_header("Content-Length", str(len(script.body)))
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.end_headers()
                self.wfile.write(script.body)

            do_GET = do_POST = answer  # noqa: N815  names of the library

            def log_message(self, *arguments: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def get_request(self) -> Any:
                connection, address = super().get_request()
                return (context.wrap_socket(connection, server_side=True) if context else connection), address

            def handle_error(self, *arguments: Any) -> None:
                pass

        servers.append(Server(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        script.port = servers[-1].server_address[1]
        return script

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "seg.dcm"
    path.write_bytes(bytes(128) + b"DICM" + bytes(range(256)) * 3000)
    return path


def failed(reason: int) -> bytes:
    item = {"00081197": {"vr": "US", "Value": [reason]}}
    return json.dumps({"00081198": {"vr": "SQ", "Value": [item]}}).encode()


def test_a_file_is_sent_byte_for_byte(start: Callable[..., Script], file: Path):
    """One part of a multipart/related body, with its length said before."""
    script = start()
    assert store(script.service(), file, timeout_s=5) == 0x0000
    ((method, path, headers, body),) = script.requests
    assert (method, path) == ("POST", "/web/studies")
    kind, boundary = headers["Content-Type"].split("; boundary=")
    assert kind == 'multipart/related; type="application/dicom"'
    assert headers["Accept"] == "application/dicom+json"
    assert body.split(b"\r\n\r\n", 1)[1].removesuffix(f"\r\n--{boundary}--\r\n".encode()) == file.read_bytes()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b"{}", 0x0000),
        (200, b"<NativeDicomModel/>", 0x0000),
        (202, b"", 0xB000),
        (202, json.dumps({"00081199": {"vr": "SQ", "Value": [{"00081196": {"Value": [0xB006]}}]}}).encode(), 0xB006),
        (202, failed(0xA700), StoreRefused(0xA700)),
        (409, failed(0x0122), StoreRefused(0x0122)),
        (200, failed(0xC000), StoreRefused(0xC000)),
        (409, b"[]", WebRefused("localhost", 409)),
        (301, b"", WebRefused("localhost", 301)),
        (401, b"", WebRefused("localhost", 401)),
        (500, b"ZZPHI^CANARY", WebRefused("localhost", 500)),
        (200, b"[" * 100_000, 0x0000),
        (200, json.dumps({"00081198": [1], "00081199": {"Value": "x"}}).encode(), 0x0000),
        (200, b" " * (MOST_ANSWER + 1), PeerUnreachable("localhost answers without end")),
    ],
)
def test_what_is_answered_to_a_store(
    start: Callable[..., Script], file: Path, status: int, body: bytes, expected: int | Exception
):
    """A reason of DICOM's where there is one; nothing of an answer's text goes further."""
    script = start()
    script.status, script.body = status, body
    if isinstance(expected, int):
        assert store(script.service(), file, timeout_s=5) == expected
        return
    with pytest.raises(type(expected)) as caught:
        store(script.service(), file, timeout_s=5)
    assert str(caught.value) == str(expected)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, json.dumps([{"00080018": {"vr": "UI", "Value": ["1.2.3.4"]}}]).encode(), True),
        (200, json.dumps([{"00080018": {"vr": "UI", "Value": ["9.9"]}}, 7]).encode(), False),
        (200, b"[]", False),
        (200, b"nothing", False),
        (204, b"", False),
        (404, b"", False),
        (503, b"", WebRefused("localhost", 503)),
    ],
)
def test_what_is_answered_to_a_query(
    start: Callable[..., Script], status: int, body: bytes, expected: bool | Exception
):
    """What the service names is compared with what it was asked for."""
    script = start()
    script.status, script.body = status, body
    if isinstance(expected, bool):
        assert holds(script.service(), timeout_s=5, **UIDS) is expected
        ((method, path, _, _),) = script.requests
        assert (method, path) == ("GET", "/web/studies/1.2/series/1.2.3/instances?SOPInstanceUID=1.2.3.4")
        return
    with pytest.raises(WebRefused) as caught:
        holds(script.service(), timeout_s=5, **UIDS)
    assert caught.value.is_passing


def test_who_we_are(
    start: Callable[..., Script], issue: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """By password or token, from a file or the environment, and by a certificate; read at each request."""
    server, ours, other = issue("server"), issue("porta"), issue("stranger", by="nobody")
    script = start(Certificates(server.ca, server.certificate, server.key).for_server())
    script.body = b"[]"
    known: dict[str, Any] = {"url": f"https://localhost:{script.port}"}
    known["certificates"] = Certificates(ours.ca, ours.certificate, ours.key)
    secret = tmp_path / "secret"
    secret.write_text("first\n")
    holds(script.service(token=Secret(file=secret), **known), timeout_s=5, **UIDS)
    secret.write_text("second\n")
    holds(script.service(token=Secret(file=secret), **known), timeout_s=5, **UIDS)
    monkeypatch.setenv("PORTA_TEST_PASSWORD", "open")
    holds(script.service(user="porta", password=Secret(variable="PORTA_TEST_PASSWORD"), **known), timeout_s=5, **UIDS)
    assert [headers["Authorization"] for _, _, headers, _ in script.requests] == [
        "Bearer first",
        "Bearer second",
        "Basic cG9ydGE6b3Blbg==",
    ]
    for certificates in (Certificates(ours.ca), Certificates(ours.ca, other.certificate, other.key), Certificates()):
        with pytest.raises(PeerUnreachable):
            holds(script.service(**known | {"certificates": certificates}), timeout_s=5, **UIDS)
    assert len(script.requests) == 3
    with pytest.raises(CertificateUnusable):
        holds(script.service(**known | {"certificates": Certificates(tmp_path / "gone")}), timeout_s=5, **UIDS)
    with pytest.raises(CertificateUnusable):
        holds(
            script.service(**known | {"certificates": Certificates(None, ours.certificate, other.key)}),
            timeout_s=5,
            **UIDS,
        )
    for absent in (Secret(file=tmp_path / "gone"), Secret(variable="PORTA_NOT_SET")):
        with pytest.raises(PeerUnreachable):
            holds(script.service(token=absent, **known), timeout_s=5, **UIDS)


def test_a_proxy_is_asked(start: Callable[..., Script]):
    """By its key, whatever the environment says."""
    proxy = start()
    proxy.body = b"[]"
    service = WebService("http://archive.example/web", proxy=f"http://localhost:{proxy.port}")
    assert not holds(service, timeout_s=5, **UIDS)
    assert proxy.requests[0][1].startswith("http://archive.example/web/studies/1.2/")


def test_a_service_that_is_away(file: Path, free_port: Callable[[], int]):
    """Nobody listens."""
    with pytest.raises(PeerUnreachable, match="localhost: ConnectError"):
        store(WebService(f"http://localhost:{free_port()}"), file, timeout_s=2)


def test_what_is_sent_keeps_a_pace(start: Callable[..., Script], tmp_path: Path):
    """The file waits for its turn, piece by piece."""
    script, waited = start(), []
    (tmp_path / "object.dcm").write_bytes(bytes(300_000))
    store(script.service(), tmp_path / "object.dcm", timeout_s=5.0, pace=lambda count: waited.append(count) or 0.0)  # type: ignore[arg-type]
    assert sum(waited) == 300_000
    assert len(waited) > 1
