"""The newcomer's first command."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def test_the_demo_is_right(tmp_path: Path, require_binary: Callable[[str], str]) -> None:
    """`porta demo --once` ends with exit code 0: Dice, count and volumes are right, with the shipped weights."""
    require_binary("Orthanc")
    done = _demo(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The results are right." in done.stdout
    assert list((tmp_path / "demo" / "results").glob("overlay-*.png"))


def test_the_demo_does_not_empty_a_folder_of_somebody_else(tmp_path: Path) -> None:
    """A folder with files that no demonstration made is left alone: one line, exit code 2."""
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "thesis.txt").write_text("precious")
    done = _demo(tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert (tmp_path / "demo" / "thesis.txt").read_text() == "precious"


def _demo(folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "daemon.commands.cli", "demo", "--once", "--dir", str(folder / "demo")],
        capture_output=True,
        text=True,
        timeout=280,
    )
