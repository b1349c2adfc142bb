"""The files of deploy/, read as the programs that they are for read them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from daemon.configuration.config import Config, load


@pytest.fixture(scope="session")
def deploy() -> Path:
    """The folder."""
    return Path(__file__).resolve().parents[2] / "deploy"


@pytest.fixture(scope="session")
def config(deploy: Path) -> Config:
    """deploy/porta.toml."""
    return load(deploy / "porta.toml", known_models=("resnet50",))


@pytest.fixture(scope="session")
def compose(deploy: Path) -> dict[str, Any]:
    """deploy/compose.yaml."""
    return yaml.safe_load((deploy / "compose.yaml").read_text())


@pytest.fixture(scope="session")
def orthanc(deploy: Path) -> dict[str, Any]:
    """deploy/orthanc.json; Orthanc allows comments, and ours stand on lines of their own."""
    return json.loads(re.sub(r"^\s*//.*$", "", (deploy / "orthanc.json").read_text(), flags=re.MULTILINE))


@pytest.fixture(scope="session")
def dockerfile(deploy: Path) -> list[tuple[str, str]]:
    """deploy/Dockerfile as (instruction, rest) in order, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (deploy / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]
