"""requirements.lock pins by hash whatever Porta needs to run, as pyproject.toml wants it, and names no place."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LEFT_OUT = {"torch", "torchvision"}
"""Which build of these is the site's choice."""


@pytest.fixture(scope="module")
def lock() -> dict[str, tuple[str, list[str]]]:
    """The version and the hashes of each package."""
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    pins = re.findall(r"^([\w.\[\]-]+)==(\S+) \\\n((?: +--hash=\S+(?: \\)?\n)+)", text, re.MULTILINE)
    lines = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(pins) == len(lines)
    return {
        canonicalize_name(name.partition("[")[0]): (version, re.findall(r"sha256:([0-9a-f]{64})(?!\w)", hashes))
        for name, version, hashes in pins
    }


def test_each_package_has_its_hashes(lock: dict[str, tuple[str, list[str]]]) -> None:
    """Without one, pip refuses the whole file."""
    assert len(lock) > 50
    assert all(hashes for _, hashes in lock.values())


def test_it_has_what_the_project_needs(lock: dict[str, tuple[str, list[str]]]) -> None:
    """Each dependency in a version within its range; so too where constraints.txt names one."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    wanted += [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        assert (name in lock) == (name not in LEFT_OUT), name
        if name in lock:
            assert requirement.specifier.contains(lock[name][0], prereleases=True), name
