"""orthanc.json and porta.toml name each other rightly, and a real Orthanc accepts the file."""

import base64
import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daemon.configuration.config import Config


def test_each_knows_the_others_ae_title_and_port(config: Config, orthanc: dict[str, Any]):
    """What one calls the other is what the other answers to."""
    porta, peer = orthanc["DicomModalities"]["porta"], config.peer("orthanc")
    assert (porta["AET"], porta["Port"]) == (config.dicom.ae_title, config.dicom.port)
    assert (peer.ae_title, peer.port) == (orthanc["DicomAet"], orthanc["DicomPort"])
    assert peer.accept


def test_porta_may_do_what_its_configuration_asks_for(config: Config, orthanc: dict[str, Any]):
    """Echo and store; find, because results are confirmed by query."""
    porta = orthanc["DicomModalities"]["porta"]
    assert porta["AllowEcho"]
    assert porta["AllowStore"]
    assert porta["AllowFind"] == (config.destination("orthanc").confirm == "query")


def test_strangers_may_do_nothing(orthanc: dict[str, Any]):
    """Neither by DICOM nor on the page, and the password is in no file."""
    assert not any(value for key, value in orthanc.items() if key.startswith("DicomAlwaysAllow"))
    assert orthanc["DicomCheckCalledAet"]
    assert orthanc["AuthenticationEnabled"]
    assert orthanc["RegisteredUsers"] == {"porta": "${ORTHANC_PASSWORD}"}


def test_the_address_is_not_checked_while_porta_has_a_name(orthanc: dict[str, Any]):
    """Orthanc compares Host with the numeric address as text: a name and the check together would refuse Porta."""
    assert orthanc["DicomModalities"]["porta"]["Host"] == "porta"
    assert orthanc["DicomCheckModalityHost"] is False


def test_a_real_orthanc_runs_with_it(
    deploy: Path,
    orthanc: dict[str, Any],
    tmp_path: Path,
    require_binary: Callable[[str], str],
    free_port: Callable[[], int],
):
    """With other ports and folders: it reads the comments, takes the password, knows Porta and speaks DICOMweb."""
    program = require_binary("Orthanc")
    http, text = free_port(), (deploy / "orthanc.json").read_text()
    for key, value in {"HttpPort": http, "DicomPort": free_port(), "StorageDirectory": tmp_path.name}.items():
        assert f'"{key}": {json.dumps(orthanc[key])}' in text
        text = text.replace(f'"{key}": {json.dumps(orthanc[key])}', f'"{key}": {json.dumps(value)}')
    text = text.replace(f'"IndexDirectory": "{orthanc["IndexDirectory"]}"', f'"IndexDirectory": "{tmp_path.name}"')
    (tmp_path / "orthanc.json").write_text(text)

    def get(path: str, password: str) -> Any:
        token = base64.b64encode(f"porta:{password}".encode()).decode()
        request = urllib.request.Request(f"http://127.0.0.1:{http}{path}", headers={"Authorization": f"Basic {token}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    process = subprocess.Popen(
        [program, "orthanc.json"],
        cwd=tmp_path,
        env=os.environ | {"ORTHANC_PASSWORD": "right"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if "Orthanc has started" in line:
                break
        else:
            pytest.fail(said)
        assert get("/modalities", "right") == ["porta"]
        if "dicom-web" not in get("/plugins", "right"):
            pytest.skip("Orthanc's DICOMweb is not installed (Debian package orthanc-dicomweb)")
        assert get("/dicom-web/studies", "right") == []
        with pytest.raises(urllib.error.HTTPError, match="401"):
            get("/modalities", "wrong")
    finally:
        process.kill()
        process.communicate()
