"""The processes that the benches start: Porta's service, DCMTK's storescp, and the senders. Loopback only."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom_io.errors import PeerError
from dicom_io.network import scu

HOST = "127.0.0.1"
SENDER = "MODALITY"
START_S, STOP_S, SEND_S = 90.0, 15.0, 300.0
DCMTK_ENVIRONMENT = {"TCP_NODELAY": "1"} | os.environ
"""DCMTK leaves Nagle's delay on unless it is told, and then waits 40 ms a C-STORE for an ACK of storescp's: as it comes
it is measured with TCP_NODELAY=0 in the environment."""
DCMTK_ENVIRONMENT["PATH"] = os.pathsep.join(
    folder for folder in os.get_exec_path() if Path(folder) != Path(sys.executable).parent
)  # an activated virtual environment has a storescu of pynetdicom's
LARGEST_PDU = "131072"


@dataclass(frozen=True)
class Porta:
    """A running service, its storage root and its log."""

    pid: int
    port: int
    root: Path
    log: Path

    @property
    def remote(self) -> scu.Remote:
        """As a peer sees it."""
        return scu.Remote("PORTA", HOST, self.port)

    def events(self) -> list[dict[str, Any]]:
        """What the service has logged so far; other lines on stderr are passed over."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def porta(
    directory: Path, more: str = "", *, port: int | None = None, program: Sequence[str] = ("-m", "daemon.commands.cli")
) -> Iterator[Porta]:
    """`porta run` on an empty root in `directory`; `more` is appended to its configuration."""
    port = port or free_port()
    directory.mkdir(parents=True, exist_ok=True)
    config, log = directory / "porta.toml", directory / "porta.log"
    root = json.dumps(str(directory / "storage"))
    config.write_text(_CONFIG.format(port=port, sender=SENDER, root=root) + more)
    with log.open("wb") as output:
        command = [sys.executable, *program, "run", "--config", str(config)]
        process = subprocess.Popen(command, stdout=output, stderr=output)
    with _ended(process):
        node = Porta(process.pid, port, directory / "storage", log)
        _wait_for(node.remote, process, log)
        yield node


@contextmanager
def storescp(directory: Path) -> Iterator[int]:
    """DCMTK's storage SCP, keeping what comes in `directory`; its port."""
    directory.mkdir(parents=True)
    port = free_port()
    with (directory.parent / "storescp.log").open("wb") as output:
        command = ["storescp", "-aet", "STORESCP", "-pdu", LARGEST_PDU, "-od", str(directory), str(port)]
        process = subprocess.Popen(command, env=DCMTK_ENVIRONMENT, stdout=output, stderr=output)
    with _ended(process):
        _wait_for(scu.Remote("STORESCP", HOST, port), process, directory.parent / "storescp.log")
        yield port


def dcmsend(folder: Path, remote: scu.Remote) -> float:
    """Seconds from association request to release for all files of a folder, sent by DCMTK over one association.

    What dcmsend does before, it does without a peer too: that time, taken with nobody listening, is subtracted. Raises
    SystemExit where that alone took longer: on a busy machine a few files are too few to measure.
    """
    alone_s, _ = run_dcmsend(folder, scu.Remote(remote.ae_title, HOST, free_port()))
    seconds, sent = run_dcmsend(folder, remote)
    if sent.returncode:
        raise SystemExit(f"dcmsend to {remote} failed:\n{sent.stderr}")
    if seconds <= alone_s:
        raise SystemExit(f"sending took no longer than starting dcmsend ({alone_s:.2f} s): give it more slices")
    return seconds - alone_s


def storescu(paths: Sequence[Path], remote: scu.Remote) -> float:
    """Seconds for a few files sent by DCMTK's storescu, from start to end of the process."""
    command = ["storescu", "-aet", SENDER, "-aec", remote.ae_title, "-pdu", LARGEST_PDU, "-R"]
    started = time.monotonic()
    sent = subprocess.run(
        [*command, HOST, str(remote.port), *map(str, paths)],
        env=DCMTK_ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=SEND_S,
        check=False,
    )
    if sent.returncode:
        raise SystemExit(f"storescu to {remote} failed:\n{sent.stderr}")
    return time.monotonic() - started


def run_dcmsend(folder: Path, remote: scu.Remote) -> "tuple[float, subprocess.CompletedProcess[str]]":
    """Seconds that dcmsend took for all files of a folder, its start included, and how it ended."""
    command = ["dcmsend", "-aet", SENDER, "-aec", remote.ae_title, "--max-pdu", LARGEST_PDU, "--scan-directories"]
    started = time.monotonic()
    sent = subprocess.run(
        [*command, HOST, str(remote.port), str(folder)],
        env=DCMTK_ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=SEND_S,
        check=False,
    )
    return time.monotonic() - started, sent


def _wait_for(remote: scu.Remote, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            scu.echo(remote, calling_ae_title=SENDER, timeout_s=5)
            return
        except PeerError:
            time.sleep(0.1)
    raise SystemExit(f"{remote} does not answer:\n{log.read_text()}")


@contextmanager
def _ended(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    with ExitStack() as stack:
        stack.callback(process.wait, STOP_S)
        stack.callback(process.kill)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                print("a process did not end on SIGTERM and is killed", file=sys.stderr)


_CONFIG = """\
[dicom]
port = {port}
[[peer]]
name = "sender"
ae_title = "{sender}"
accept = true
[storage]
root = {root}
min_free_mb = 100
[log]
format = "json"
"""
