"""A first configuration that loads as it is, and what a PACS is told of Porta."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from daemon.administration.first_configuration import (
    Answers,
    FoundOrthanc,
    Kind,
    configuration_text,
    find_orthanc,
    orthanc_modalities,
    pacs_side,
)
from daemon.administration.rule_checks import doubts
from daemon.configuration.config import parse
from daemon.errors import ConfigurationError
from dicom_io.network import scp

ANSWERS = Answers("LIVER", "192.0.2.7", 11113, Path("/srv/porta"), "PACS1", "192.0.2.5", 104)


def test_the_file_is_whole_and_leaves_no_doubt():
    """It loads, says what was answered, and `check` has nothing to remark."""
    config = parse(configuration_text(ANSWERS).encode(), known_models=["resnet50"])
    assert (config.dicom.ae_title, config.dicom.host, config.dicom.port) == ("LIVER", "0.0.0.0", 11113)
    peer = config.peer("pacs")
    assert (peer.ae_title, peer.host, peer.port, peer.accept, peer.query) == ("PACS1", "192.0.2.5", 104, True, True)
    assert config.destination("pacs").confirm == "query"
    assert config.storage.root == Path("/srv/porta")
    assert list(doubts(config)) == []


def test_beside_its_pacs_porta_listens_to_this_machine_alone():
    """No address of the network is opened where none is needed."""
    here = Answers("PORTA", "127.0.0.1", 11112, Path("/srv/porta"), "ORTHANC", "127.0.0.1", 4242)
    assert parse(configuration_text(here).encode(), known_models=None).dicom.host == "127.0.0.1"


def test_an_answer_that_is_no_value_is_a_fault():
    """It is not written; the fault names the key."""
    wrong = Answers("A_TITLE_TOO_LONG_", "h", 0, Path("porta"), "PACS", "h", 104)
    with pytest.raises(ConfigurationError) as caught:
        configuration_text(wrong)
    assert [fault.split(": ")[1] for fault in caught.value.faults] == ["dicom.ae_title", "dicom.port", "storage.root"]


@pytest.mark.parametrize("kind", Kind)
def test_each_pacs_is_told_title_address_and_port(kind: Kind):
    """Nothing else can be routed to."""
    text = pacs_side(Answers(**{**vars(ANSWERS), "kind": kind}))
    assert all(word in text for word in ("LIVER", "192.0.2.7", "11113"))
    assert "{" not in text or kind is Kind.ORTHANC
    assert kind is Kind.ORTHANC or "PACS1" in text


def test_dcm4chee_is_told_what_its_documentation_asks_for():
    """Of an Exporter its id, URI, queue and local AE title; of an Export Rule entity, exporter, condition and delay."""
    text = " ".join(pacs_side(replace(ANSWERS, kind=Kind.DCM4CHEE)).split())
    assert "Exporter ID porta, URI dicom:LIVER, Queue Name Export1, AE title PACS1" in text
    assert "Export Entity Study, Exporter ID porta, Conditions Modality=CT|MR, Export Delay PT2M" in text


def test_orthancs_entry_is_json():
    """It may be taken as it stands; Porta may echo, store and query."""
    (entry,) = json.loads("{" + orthanc_modalities(ANSWERS) + "}")["DicomModalities"].values()
    assert (entry["AET"], entry["Host"], entry["Port"]) == ("LIVER", "192.0.2.7", 11113)
    assert [name for name, value in entry.items() if value is True] == ["AllowEcho", "AllowStore", "AllowFind"]


class _Pages(BaseHTTPRequestHandler):
    """Answers as the page of an Orthanc, or of something else."""

    said = b""

    def do_GET(self) -> None:  # noqa: N802  the name that http.server calls
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.said)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def pages() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/system"
    server.shutdown()
    server.server_close()


def test_an_orthanc_of_this_machine_is_found(pages: str, free_port: Callable[[], int]):
    """By its page, which tells title and port; where that says nothing, by C-ECHO at the usual port; or not at all."""
    port = free_port()
    _Pages.said = b'{"DicomAet": "MYORTHANC", "DicomPort": 4243}'
    assert find_orthanc(pages, port) == FoundOrthanc("MYORTHANC", 4243)
    _Pages.said = b"<html>"
    assert find_orthanc(pages, port) is None
    caller = scp.Caller("PORTA")
    server = scp.start(ae_title="ORTHANC", host="127.0.0.1", port=port, callers=[caller], store=lambda received: 0)
    try:
        assert find_orthanc(pages, port) == FoundOrthanc("ORTHANC", port)
    finally:
        server.shutdown(5)
