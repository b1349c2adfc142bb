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
