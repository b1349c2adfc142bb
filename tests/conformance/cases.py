"""The cases, what is expected of them, and what `porta series` says."""

import json
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from daemon.commands.cli import app
from dicom_io.errors import NotDicom
from tests.conformance.made_series import WRITERS

EXPECTED = Path(__file__).with_name("expected.toml")

ONE_VOLUME = {"shape": [14, 32, 40], "spacing_mm": [5.0, 0.9, 0.7]}
"""What most made series hold."""

FOLDERS = ("dcmqi_reference/ct-3slice",)
"""Of the shared data; all other cases are files."""


@dataclass(frozen=True)
class Expected:
    """What a series is expected to be; see expected.toml."""

    uid: str
    verdict: str
    reading: str
    warnings: tuple[str, ...]
    left_out: int
    volumes: tuple[dict[str, Any], ...]
    prefer: dict[str, list[int]]


def expectations() -> tuple[dict[str, list[Expected]], set[str]]:
    """The series of each case, and the cases in which nothing is DICOM."""
    content = tomllib.loads(EXPECTED.read_text())
    no_dicom = set(content.pop("no_dicom"))
    return {name: [_expected(name, entry) for entry in entries] for name, entries in content.items()}, no_dicom


def _expected(name: str, entry: dict[str, Any]) -> Expected:
    entry = dict(entry)
    verdict = entry.pop("verdict", "ACCEPTED")
    volumes = entry.pop("volumes", [ONE_VOLUME] if name in WRITERS and verdict == "ACCEPTED" else [])
    return Expected(
        uid=entry.pop("uid", ""),
        verdict=verdict,
        reading=entry.pop("reading", verdict),
        warnings=tuple(entry.pop("warnings", ())),
        left_out=entry.pop("left_out", 0),
        volumes=tuple({"regular": True, "plane": "axial", "tilt_degrees": 0.0} | volume for volume in volumes),
        prefer=entry.pop("prefer", {}),
    )


def shared_cases(folder: Path) -> list[str]:
    """All that the shared data has for a DICOM reader: its zips and files, and the folders that are a series."""
    files = {path.relative_to(folder).as_posix() for kind in ("*.zip", "*.dcm") for path in folder.rglob(kind)}
    return sorted({name for name in files if not name.startswith(FOLDERS)} | set(FOLDERS))


@cache
def porta_series(path: Path, *options: str) -> list[dict[str, Any]]:
    """What `porta series --json` prints, asked once. Raises NotDicom where it ends with that."""
    result = CliRunner().invoke(app, ["series", "--json", *options, str(path)])
    if isinstance(result.exception, NotDicom):
        raise result.exception
    assert result.exit_code == 0, result.exception
    said: list[dict[str, Any]] = json.loads(result.stdout)
    return said
