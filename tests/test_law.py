"""The law of imports holds for modules that nobody has written yet."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("daemon", "dicom_io", "models", "reports")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the four folders' Python and of the contracts."""
    copy = tmp_path_factory.mktemp("house")
    for folder in FOLDERS:
        only_code = shutil.ignore_patterns("__pycache__", "pretrained", "templates")
        shutil.copytree(ROOT / folder, copy / folder, ignore=only_code)
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


@pytest.fixture
def broken_by(house: Path) -> Callable[[str, str], str]:
    """`broken_by(module, source)` is what lint-imports says of the house with that at the end of the module."""

    def judge(module: str, source: str) -> str:
        path = house / module
        before = path.read_text() if path.exists() else None
        path.write_text((before or "") + source)
        try:
            command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
            done = subprocess.run(command, cwd=house, capture_output=True, text=True, timeout=120, check=False)
        finally:
            path.unlink() if before is None else path.write_text(before)
        return "" if done.returncode == 0 else done.stdout

    return judge


@pytest.mark.parametrize(
    ("module", "source", "contract"),
    [
        ("daemon/outlaw.py", "", "Inside daemon"),
        ("reports/outlaw.py", "", "Inside reports"),
        ("daemon/commands/outlaw.py", "import apscheduler\n", "APScheduler in the scheduler alone"),
        ("dicom_io/outlaw.py", "import pynetdicom\n", "pynetdicom in dicom_io.network alone"),
        ("reports/pages/outlaw.py", "import sqlalchemy\n", "SQLAlchemy in the ledger alone"),
        ("daemon/worker/outlaw.py", "import sqlalchemy\nimport pynetdicom\n", "SQLAlchemy in the ledger alone"),
        ("daemon/worker/outlaw.py", "import sqlalchemy\nimport pynetdicom\n", "pynetdicom in dicom_io.network alone"),
        ("daemon/worker/outlaw.py", "import daemon.workbench.trainer\n", "A wall round the workbench"),
        ("daemon/ledger/outlaw.py", "import torch\n", "torch in models alone"),
        ("models/training/outlaw.py", "import highdicom\n", "highdicom in reports alone"),
        ("models/training/outlaw.py", "import pydicom\n", "Models know arrays, no DICOM"),
        ("dicom_io/network/outlaw.py", "import daemon.jobs\n", "Data moves one way through the house"),
        ("daemon/storage/spool.py", "\n\ndef late() -> None:\n    import models.inference\n", "A light service"),
        ("daemon/receiver.py", "import reports.codes\n", "A light service"),
        ("daemon/ledger/store.py", "import daemon.worker.stages\n", "A light service"),
    ],
)
def test_an_outlaw_is_found(broken_by: Callable[[str, str], str], module: str, source: str, contract: str) -> None:
    """A module in the wrong room, on no line of a ladder, or that loads too much breaks the contract that is named."""
    said = " ".join(broken_by(module, source).split())
    assert contract in said.partition("Broken contracts")[2]


def test_the_house_itself_keeps_the_law(broken_by: Callable[[str, str], str]) -> None:
    """A module that imports nothing, in a room, breaks nothing: the copy is judged as the original is."""
    assert broken_by("daemon/worker/outlaw.py", "") == ""


def test_commands_write_for_people_in_one_way():
    """What a value from outside holds reaches a terminal as text: nobody prints past `daemon/terminal.py` but JSON."""
    past = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        if path.name not in ("terminal.py", "progress.py")
        for line in path.read_text().splitlines()
        if re.search(r"(?<!\.)\bprint\((?!json\.|$)|\bConsole\(|from_markup|markup=True", line)
    ]
    assert past == []
