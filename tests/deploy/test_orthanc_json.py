"""orthanc.json and porta.toml name each other rightly, and a real Orthanc accepts the file."""

import base64
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ComprehensiveSRStorage, CTImageStorage, ExplicitVRLittleEndian

from daemon.administration.first_configuration import LUA, Answers, Kind, pacs_side
from daemon.configuration.config import Config
from dicom_io.network import scp


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
    text = text.replace('"/etc/orthanc/autoroute.lua"', json.dumps(str(deploy / "autoroute.lua")))
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


def test_porta_init_prints_the_same_script(deploy: Path):
    """With the AE title that Porta has there."""
    assert (deploy / "autoroute.lua").read_text() == LUA
    said = pacs_side(Answers("LIVER", "192.0.2.7", 104, Path("/p"), "ORTHANC", "127.0.0.1", 4242, Kind.ORTHANC))
    assert "== 'LIVER' then" in said
    assert "'PORTA'" not in said


def test_a_study_goes_to_porta_once_it_is_stable(
    deploy: Path,
    orthanc: dict[str, Any],
    tmp_path: Path,
    require_binary: Callable[[str], str],
    free_port: Callable[[], int],
):
    """Its CT and no SR of it, once; after an outage of Porta too; and again when the series has grown."""
    program, port, http = require_binary("Orthanc"), free_port(), free_port()
    assert orthanc["LuaScripts"] == ["/etc/orthanc/autoroute.lua"]
    changed = {
        "HttpPort": http,
        "DicomPort": free_port(),
        "StorageDirectory": "db",
        "IndexDirectory": "db",
        "AuthenticationEnabled": False,
        "RegisteredUsers": {},
        "Plugins": [],
        "LuaScripts": [str(deploy / "autoroute.lua")],
        "StableAge": 1,
        "ExecuteLuaEnabled": True,
        "DicomModalities": {"porta": orthanc["DicomModalities"]["porta"] | {"Host": "127.0.0.1", "Port": port}},
    }
    (tmp_path / "orthanc.json").write_text(json.dumps(orthanc | changed))
    here = f"http://127.0.0.1:{http}"

    def ask(path: str, data: bytes | None = None) -> Any:
        with urllib.request.urlopen(urllib.request.Request(here + path, data=data), timeout=10) as answer:
            return json.load(answer)

    def until(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, (
                came,
                [(job["State"], job["ErrorCode"]) for job in ask("/jobs?expand")],
            )
            time.sleep(0.1)

    def beat() -> None:
        """As Orthanc from 1.11 does every LuaHeartBeatPeriod seconds; Debian 12 has 1.10."""
        urllib.request.urlopen(f"{here}/tools/execute-script", data=b"OnHeartBeat()", timeout=10).close()

    def answers() -> bool:
        try:
            return bool(ask("/system"))
        except OSError:
            return False

    def ct(index: int, sop_class: str = str(CTImageStorage), modality: str = "CT") -> bytes:
        ds = Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID = sop_class, f"1.2.3.{index}"
        ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", f"1.2.3.{modality == 'CT':d}.0"
        ds.PatientID, ds.Modality = "1", modality
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        buffer = BytesIO()
        dcmwrite(buffer, ds, enforce_file_format=True)
        return buffer.getvalue()

    came: list[str] = []

    def store(received: scp.Received) -> int:
        came.append(received.sop_instance_uid)
        return 0x0000

    process = subprocess.Popen(
        [program, "orthanc.json"], cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        until(answers)
        for content in (ct(1), ct(2), ct(9, str(ComprehensiveSRStorage), "SR")):
            ask("/instances", content)
        until(lambda: any(job["State"] == "Failure" for job in ask("/jobs?expand")))
        server = scp.start(ae_title="PORTA", host="127.0.0.1", port=port, callers=[scp.Caller("ORTHANC")], store=store)
        try:
            beat()
            until(lambda: sorted(came) == ["1.2.3.1", "1.2.3.2"])
            beat()
            ask("/instances", ct(8, str(ComprehensiveSRStorage), "SR"))  # as a result of Porta's
            ask("/instances", ct(3))
            until(lambda: "1.2.3.3" in came)
            assert sorted(came) == ["1.2.3.1", "1.2.3.1", "1.2.3.2", "1.2.3.2", "1.2.3.3"]
        finally:
            server.shutdown(5)
    finally:
        process.kill()
        process.communicate()
