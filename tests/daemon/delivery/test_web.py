"""A destination that is reached by DICOMweb: a real Orthanc with its plugin, behind TLS."""

import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from daemon.administration.checkup import checks
from daemon.administration.storing import store_test_object
from daemon.commands.demo_pacs import OrthancNode
from daemon.configuration.config import Config, Destination, Peer
from daemon.delivery.statuses import ADVICE
from daemon.jobs import State
from dicom_io.tls import Certificates
from tests.daemon.delivery.conftest import Office


class Relay(socketserver.ThreadingTCPServer):
    """TLS before a port of this machine, as a site has it before a PACS."""

    daemon_threads = allow_reuse_address = True

    def __init__(self, context: ssl.SSLContext, behind: int) -> None:
        self.context, self.behind = context, behind
        super().__init__(("127.0.0.1", 0), _Relayed)

    def get_request(self) -> Any:
        connection, address = super().get_request()
        return self.context.wrap_socket(connection, server_side=True), address


class _Relayed(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.behind)) as inner:
            back = threading.Thread(target=_pass_on, args=(inner, self.request), daemon=True)
            back.start()
            _pass_on(self.request, inner)
            back.join(10)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(1 << 16):
            target.sendall(part)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def orthanc(
    tmp_path_factory: pytest.TempPathFactory,
    require_binary: Callable[[str], str],
    free_port: Callable[[], int],
    issue: Callable[..., Any],
) -> Iterator[tuple[OrthancNode, int]]:
    """A running Orthanc, and the port of the TLS before its pages."""
    require_binary("Orthanc")
    issued = issue("server")
    node = OrthancNode(tmp_path_factory.mktemp("orthanc"), porta_port=free_port(), ports=(free_port(), free_port()))
    node.start(say=lambda text: None)
    relay = Relay(Certificates(None, issued.certificate, issued.key).for_server(), node._http_port)
    threading.Thread(target=relay.serve_forever, daemon=True).start()
    yield node, int(relay.server_address[1])
    relay.shutdown()
    relay.server_close()
    node.stop()


def test_orthanc_is_reached_by_dicomweb(
    orthanc: tuple[OrthancNode, int],
    make_office: Callable[[Config], Office],
    make_config: Callable[..., Config],
    issue: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):
    """A wrong password is waited for; then results arrive as they are, and QIDO-RS confirms them."""
    node, port = orthanc
    peers = (
        Peer(name="modality", ae_title="MODALITY", accept=True),
        Peer(
            name="archive",
            url=f"https://localhost:{port}/dicom-web",
            user="porta",
            password_env="PORTA_TEST_PASSWORD",
            ca_file=issue("server").ca,
        ),
    )
    destination = Destination(peer="archive", confirm="query", attempts=2, first_retry_s=10, timeout_s=10)
    config = make_config(peer=peers, destination=(destination,))
    office = make_office(config)
    job_id = office.report(confirm="query")
    monkeypatch.setenv("PORTA_TEST_PASSWORD", "wrong")
    assert office.deliver() == 0
    assert office.look(job_id) == [("PENDING", 0, "HTTP_401")] * 2
    assert "HTTP_401" in ADVICE
    (said,) = [item for item in checks(config) if item.name == "peer archive"]
    assert (said.result, said.remedy) == ("FAILED", ADVICE["HTTP_401"])
    monkeypatch.setenv("PORTA_TEST_PASSWORD", node._password)
    office.clock.pass_s(11)
    assert office.deliver() == 2, office.look(job_id)
    assert office.look(job_id) == [("STORED", 0, "0x0000")] * 2
    assert office.deliver() == 2, office.look(job_id)
    assert office.look(job_id) == [("CONFIRMED", 0, "FOUND")] * 2
    assert office.ledger.job(job_id).state == State.CONFIRMED
    folder = tmp_path / "back"
    folder.mkdir()
    study = str(dcmread(office.path(job_id, "seg")).StudyInstanceUID)
    back = {path.read_bytes()[-200:] for path in node.fetch(study, "CT", folder)}
    assert back == {office.path(job_id, name).read_bytes()[-200:] for name in ("seg", "sr")}
    said = [item for item in checks(config, storing=store_test_object) if "archive" in item.name]
    assert {item.result for item in said} == {"OK"}
    assert said[-1].said == "has it, as it answered to QIDO-RS"
