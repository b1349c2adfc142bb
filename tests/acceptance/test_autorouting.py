"""What `porta init` prints for Orthanc, in a real Orthanc: each study is forwarded once it is stable, and once only."""

import json
import subprocess
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

from pydicom import dcmread, dcmwrite
from pydicom.uid import CTImageStorage

from daemon.administration.first_configuration import LUA, Answers, orthanc_modalities
from dicom_io.errors import PeerError
from dicom_io.network import scp, scu
from reports.objects.marked_object import marked_sr
from tests.acceptance.conftest import until


def test_a_stable_study_is_forwarded_once(
    tmp_path: Path,
    require_binary: Callable[[str], str],
    free_port: Callable[[], int],
    phantom_series: Callable[[int], list[Path]],
) -> None:
    """Not before it is stable; its results, which make it stable again, send neither it nor themselves."""
    require_binary("Orthanc")
    porta_port, port, pages = free_port(), free_port(), free_port()
    came: list[str] = []
    lock = threading.Lock()

    def store(received: scp.Received) -> int:
        with lock:
            came.append(received.sop_class_uid)
        return 0

    answers = Answers("PORTA", "127.0.0.1", porta_port, tmp_path, "ORTHANC", "127.0.0.1", port)
    (tmp_path / "porta.lua").write_text(LUA)
    settings = {
        "StorageDirectory": str(tmp_path / "db"),
        "IndexDirectory": str(tmp_path / "db"),
        "HttpPort": pages,
        "DicomAet": "ORTHANC",
        "DicomPort": port,
        "AuthenticationEnabled": False,
        "StableAge": 3,
        "LuaScripts": [str(tmp_path / "porta.lua")],
        **json.loads("{" + orthanc_modalities(answers) + "}"),
    }
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))
    porta = scp.start(ae_title="PORTA", host="127.0.0.1", port=porta_port, callers=[scp.Caller("ORTHANC")], store=store)
    with (tmp_path / "orthanc.log").open("wb") as output:
        orthanc = subprocess.Popen(["Orthanc", str(tmp_path / "orthanc.json")], stdout=output, stderr=output)
    remote = scu.Remote("ORTHANC", "127.0.0.1", port)

    def answers_echo() -> bool:
        try:
            scu.echo(remote, calling_ae_title="PORTA", timeout_s=5)
        except PeerError:
            return False
        return True

    def stable_studies() -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{pages}/changes?limit=1000", timeout=10) as answer:
            return sum(change["ChangeType"] == "StableStudy" for change in json.load(answer)["Changes"])

    try:
        until(answers_echo, what="Orthanc's answer")
        images = phantom_series(14)
        scu.store(remote, images[:-1], calling_ae_title="PORTA", timeout_s=60)
        assert came == []
        scu.store(remote, images[-1:], calling_ae_title="PORTA", timeout_s=60)
        until(lambda: len(came) >= len(images), what="the forwarded study")
        assert came == [CTImageStorage] * len(images)

        source = dcmread(images[0], stop_before_pixels=True)
        for times, sr_class in enumerate(("comprehensive_3d", "comprehensive"), start=2):
            result = marked_sr(sr_class)
            result.StudyInstanceUID, result.PatientID = source.StudyInstanceUID, source.PatientID
            dcmwrite(tmp_path / "result.dcm", result, enforce_file_format=True)
            scu.store(remote, [tmp_path / "result.dcm"], calling_ae_title="PORTA", timeout_s=60)
            until(lambda: stable_studies() >= times, what="a study that is stable again")  # noqa: B023  called at once
        assert came == [CTImageStorage] * len(images)
    finally:
        orthanc.terminate()
        orthanc.wait(15)
        porta.shutdown(5)
