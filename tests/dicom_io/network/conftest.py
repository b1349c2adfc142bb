"""Peers: one that answers as it is told, and an empty Orthanc."""

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pynetdicom import AE, build_context
from pynetdicom.events import Event

from dicom_io.network.scu import Remote

PATIENCE_S = 10

StartPeer = Callable[..., Remote]


@pytest.fixture
def start_peer() -> Iterator[StartPeer]:
    """A peer that takes the given contexts only, and answers as told."""
    servers = []

    def run(contexts: list[tuple[str, list[str]]], handlers: list[tuple[object, Callable[[Event], object]]]) -> Remote:
        ae = AE("PEER")
        proposed = [build_context(uid, syntaxes) for uid, syntaxes in contexts]
        for context in proposed:  # either role, where the other side asks for one
            context.scu_role = context.scp_role = True
        server = ae.start_server(
            ("127.0.0.1", 0),
            block=False,
            evt_handlers=handlers,  # type: ignore[arg-type]
            contexts=proposed,
        )
        servers.append(ae)
        return Remote("PEER", "127.0.0.1", server.server_address[1])

    yield run
    for ae in servers:
        ae.shutdown()


@pytest.fixture
def orthanc(require_binary: Callable[[str], str], free_port: Callable[[], int], tmp_path: Path) -> Iterator[Remote]:
    """An empty Orthanc that knows us."""
    binary, http_port, dicom_port = require_binary("Orthanc"), free_port(), free_port()
    (tmp_path / "orthanc").mkdir()
    configuration = {
        "Name": "test",
        "StorageDirectory": str(tmp_path / "orthanc"),
        "IndexDirectory": str(tmp_path / "orthanc"),
        "HttpPort": http_port,
        "DicomPort": dicom_port,
        "DicomAet": "ORTHANC",
        "DicomCheckCalledAet": True,
        "DicomCheckModalityHost": True,
        "DicomAlwaysAllowEcho": False,
        "DicomAlwaysAllowStore": False,
        "RemoteAccessAllowed": False,
        "Plugins": [],
        "DicomModalities": {"us": ["US", "127.0.0.1", free_port()]},
    }
    (tmp_path / "orthanc.json").write_text(json.dumps(configuration))
    process = subprocess.Popen(
        [binary, "--verbose", str(tmp_path / "orthanc.json")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "Orthanc has started" in line:
            break
    else:
        pytest.fail("Orthanc ended before it had started")
    threading.Thread(target=process.stderr.read, daemon=True).start()  # or its pipe fills up
    yield Remote("ORTHANC", "127.0.0.1", dicom_port)
    process.terminate()
    process.wait(PATIENCE_S)
