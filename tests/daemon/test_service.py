"""The service's process is light: what only the worker needs is never loaded in it."""

import subprocess
import sys

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


SIGNAL_WITHIN_THE_WAIT = """
import signal, sys
from daemon.service import _listen_to_signals

def raise_in_wait(frame, event, argument):
    if frame.f_code.co_name == "wait":
        signal.raise_signal(signal.SIGTERM)
    return raise_in_wait

wait = _listen_to_signals()
signal.raise_signal(signal.SIGTERM)
sys.settrace(raise_in_wait)
wait()
"""


def test_a_signal_at_any_moment_stops_the_service() -> None:
    """It hung where SIGTERM came just as it began to wait for it: the handler needed the lock of an Event's `wait`."""
    subprocess.run([sys.executable, "-c", SIGNAL_WITHIN_THE_WAIT], timeout=60, check=True)
