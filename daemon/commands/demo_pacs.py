"""The PACS beside the demonstration: Orthanc where it is installed, else a small storage node of our own."""

import json
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from pydicom import dcmread

from daemon.errors import DaemonError
from daemon.storage.spool import write_durably
from dicom_io.errors import InvalidUID, PeerError
from dicom_io.files.uids import checked_uid
from dicom_io.network import scp, scu

Say = Callable[[str], object]


class Pacs(Protocol):
    """The functions of a PACS that the demonstration uses."""

    name: str
    ae_title: str
    port: int
    confirm: str

    def start(self, say: Say) -> None:
        """Start it and wait until it answers."""
        ...

    def fetch(self, study_instance_uid: str, modality: str, directory: Path) -> list[Path]:
        """Bring the study's objects of a modality back out of it."""
        ...

    def places(self, study_instance_uid: str) -> list[str]:
        """Where a person looks."""
        ...

    def stop(self) -> None:
        """End it."""
        ...


def free_port(usual: int, *, say: Say) -> int:
    """The usual port where it is free, else any other, and says so."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", usual))
            return usual
        except OSError:
            pass
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    say(f"Port {usual} is busy: {port} is taken instead")
    return port


class OrthancNode:
    """A throwaway Orthanc, its files in the demonstration's folder."""

    name = "Orthanc"
    ae_title = "ORTHANC"
    confirm = "query"

    def __init__(self, directory: Path, *, porta_port: int, ports: tuple[int, int] = (4242, 8042)) -> None:
        """`ports` are the usual ones for DICOM and for its pages."""
        self._directory = directory / "orthanc"
        self._porta_port = porta_port
        self._usual_ports = ports
        self._password = secrets.token_urlsafe(12)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = self._http_port = 0

    @staticmethod
    def available() -> bool:
        """True where Orthanc is installed."""
        return shutil.which("Orthanc") is not None

    def start(self, say: Say) -> None:
        """Start it and wait until it answers C-ECHO. Raises DaemonError."""
        if not self.port:  # a second start, on the same files, keeps the ports
            self.port, self._http_port = (free_port(usual, say=say) for usual in self._usual_ports)
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = self._directory / "orthanc.json"
        settings.write_text(json.dumps(self._settings(), indent=2))
        settings.chmod(0o600)
        with (self._directory / "orthanc.log").open("wb") as output:
            self._process = subprocess.Popen(
                ["Orthanc", str(settings)], stdout=output, stderr=output, start_new_session=True
            )
        say(
            "Orthanc listens on all interfaces (1.10 has no other way). Its pages answer this machine alone, with a "
            "password;\nits DICOM port answers the AE titles of this demonstration alone, from 127.0.0.1."
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                scu.echo(scu.Remote(self.ae_title, "127.0.0.1", self.port), calling_ae_title="PORTA", timeout_s=5)
                return
            except PeerError:
                time.sleep(0.2)
        self.stop()
        raise DaemonError(f"Orthanc did not start; see {self._directory / 'orthanc.log'}")

    def fetch(self, study_instance_uid: str, modality: str, directory: Path) -> list[Path]:
        """By C-GET, as any workstation would."""
        return scu.fetch(
            scu.Remote(self.ae_title, "127.0.0.1", self.port),
            study_instance_uid=study_instance_uid,
            modality=modality,
            directory=directory,
            calling_ae_title="PORTA",
            timeout_s=60,
        )

    def places(self, study_instance_uid: str) -> list[str]:
        """Where a person looks."""
        return [
            f"Orthanc:  http://127.0.0.1:{self._http_port}/app/explorer.html (user porta, password {self._password})",
            f"          AE title {self.ae_title}, 127.0.0.1:{self.port}",
            f"Study:    {study_instance_uid}",
        ]

    def stop(self) -> None:
        """End it."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def _settings(self) -> dict[str, object]:
        allowed = {f"Allow{verb}": True for verb in ("Echo", "Store", "Find", "Get")}
        return {
            "Name": "Porta's demonstration",
            "StorageDirectory": str(self._directory / "db"),
            "IndexDirectory": str(self._directory / "db"),
            "Plugins": ["/usr/share/orthanc/plugins"],
            "HttpPort": self._http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {"porta": self._password},
            "DicomAet": self.ae_title,
            "DicomPort": self.port,
            "DicomCheckCalledAet": True,
            "DicomAlwaysAllowEcho": False,
            "DicomAlwaysAllowStore": False,
            "DicomAlwaysAllowFind": False,
            "DicomAlwaysAllowGet": False,
            "DicomCheckModalityHost": True,
            "DicomModalities": {
                "porta": {"AET": "PORTA", "Host": "127.0.0.1", "Port": self._porta_port, **allowed},
                "modality": {"AET": "MODALITY", "Host": "127.0.0.1", "Port": self._porta_port, **allowed},
            },
        }


class OwnNode:
    """A storage node that keeps what it is sent in a folder; it answers no queries and shows nothing."""

    name = "our own storage node"
    ae_title = "NODE"
    confirm = "none"

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "node"
        self._server: scp.Server | None = None
        self.port = 0

    def start(self, say: Say) -> None:
        """Listen on loopback."""
        say("Orthanc is not installed: a small storage node of our own stands in, which only keeps files.")
        self.port = free_port(4242, say=say)
        self._server = scp.start(
            ae_title=self.ae_title,
            host="127.0.0.1",
            port=self.port,
            callers=[scp.Caller("PORTA"), scp.Caller("MODALITY")],
            store=self._keep,
        )

    def fetch(self, study_instance_uid: str, modality: str, directory: Path) -> list[Path]:
        """Copies of what was kept."""
        found = []
        for path in sorted(self._directory.glob("*.dcm")):
            ds = dcmread(path, stop_before_pixels=True)
            if ds.StudyInstanceUID == study_instance_uid and ds.Modality == modality:
                found.append(Path(shutil.copy(path, directory)))
        return found

    def places(self, study_instance_uid: str) -> list[str]:
        """Where a person looks."""
        return [f"Node:     files in {self._directory}", f"Study:    {study_instance_uid}"]

    def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown(5)

    def _keep(self, received: scp.Received) -> int:
        try:
            name = checked_uid(received.sop_instance_uid)
        except InvalidUID:
            return 0xC001
        write_durably(self._directory / f"{name}.dcm", received.part10())
        return 0x0000
