"""The service's process is light: what only the worker needs is never loaded in it."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daemon.administration.checkup import checks
from daemon.configuration.config import Config, Dicom, Peer, Tls
from daemon.service import warn_of_certificates

HEAVY = {
    *("torch", "torchvision", "safetensors", "highdicom", "matplotlib", "SimpleITK"),
    *("scipy", "skimage", "imagecodecs", "nibabel", "pandas"),
}

IMPORT = """
import sys
import daemon.service
print(*sys.modules)
"""


def test_the_service_loads_nothing_that_only_the_worker_needs() -> None:
    """Not by itself, and not by what it imports: neither ours, nor a library that brings another."""
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, timeout=120, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "pynetdicom" in loaded
    assert not loaded & {*HEAVY, "nibabel", "pandas"}


SIGNALS_TO_ANOTHER_THREAD = """
import signal, threading, time
from daemon.service import _listen_to_signals

def send():
    time.sleep(0.2)  # the main thread waits
    signal.pthread_kill(threading.get_ident(), signal.SIGHUP)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    time.sleep(30)

wait = _listen_to_signals()
threading.Thread(target=send, daemon=True).start()
assert [wait(), wait()] == [signal.SIGHUP, signal.SIGTERM]
"""


def test_a_signal_at_any_moment_stops_the_service() -> None:
    """It hung where SIGTERM came just before it waited for it, or in a thread of another's: no wait was ended by it."""
    subprocess.run([sys.executable, "-c", SIGNALS_TO_ANOTHER_THREAD], timeout=20, check=True)


def test_certificates_that_end_are_told_of(
    make_config: Callable[..., Config], issue: Callable[..., Any], read_log: Any, tmp_path: Path
):
    """30 days before, each day; and by `porta check`, with what to do."""
    soon, long, gone = issue("soon", days=20), issue("long", days=90), tmp_path / "gone.pem"
    peers = (
        Peer(name="modality", ae_title="MODALITY", accept=True, tls=True, certificate_file=long.certificate),
        Peer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=1, certificate_file=gone, key_file=gone),
    )
    config = make_config(peer=peers, dicom=Dicom(tls=Tls(certificate_file=soon.certificate, key_file=soon.key)))
    warn_of_certificates(config, time.time)
    (line,) = read_log.named("certificate.expires")
    assert (line["peer"], line["level"]) == ("dicom.tls", "warning")
    assert line["days"] in (19, 20)
    (line,) = read_log.named("certificate.unusable")
    assert (line["peer"], line["level"]) == ("archive", "error")
    said = {item.name: item for item in checks(config) if item.name.startswith("certificates of ")}
    results = {name.removeprefix("certificates of "): item.result for name, item in said.items()}
    assert results == {
        "dicom.tls": "WARNING",
        "modality": "FAILED",
        "archive": "FAILED",
    }  # its key does not stand in it
    assert said["certificates of dicom.tls"].remedy == "renew it; no restart is needed"
