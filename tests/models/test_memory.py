"""The estimate of memory: above what was measured, and had without torch."""

import subprocess
import sys

import pytest

from models.memory import required_memory_mb


@pytest.mark.parametrize(
    ("slices", "measured_mb"), [(100, 1164), (300, 1697), (300, 2312), (1000, 3582), (1000, 6240), (2000, 6481)]
)
def test_estimate_is_above_what_was_measured_and_not_twice_as_much(slices: int, measured_mb: int) -> None:
    """Peaks of a worker that read, segmented and reported slices of 512 x 512."""
    assert measured_mb < required_memory_mb((slices, 512, 512)) < 2 * measured_mb


def test_larger_volumes_need_more() -> None:
    """In every direction."""
    shapes = [(1, 1, 1), (100, 256, 256), (100, 512, 256), (100, 512, 512), (400, 512, 512), (4000, 512, 512)]
    needed = [required_memory_mb(shape) for shape in shapes]
    assert needed == sorted(set(needed))


def test_estimate_imports_no_torch() -> None:
    """The service, which asks for it, stays small."""
    asked = "import sys, models.memory, models.cards; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0


def test_a_wide_field_needs_more() -> None:
    """The network's grid is of millimetres: few pixels of many millimetres are no small volume to it."""
    assert required_memory_mb((300, 64, 64), (1000, 1000)) > required_memory_mb((300, 64, 64)) + 250
