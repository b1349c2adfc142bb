"""A folder as a reader sees it, and what the reader makes of it."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.datasets.sources import FileSource

NIFTI = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Folder:
    """The entries of a folder that no reader has claimed yet, without hidden ones (macOS leaves `._NAME` behind)."""

    path: Path
    root: Path
    files: tuple[Path, ...]
    folders: tuple[Path, ...]

    @property
    def name(self) -> str:
        """The name under which it was found, also for `.`; a link has its own name."""
        return Path(os.path.abspath(self.path)).name

    def said(self, path: Path) -> str:
        """Name a file as messages do: from the folder that was asked for."""
        return path.relative_to(self.root.parent if path == self.root else self.root).as_posix()

    def labelled(self, *names: str, among: Sequence[str] = NIFTI) -> list[Path]:
        """The files with one of these names, in small letters, and one of these endings."""
        wanted = {name + ending for name in names for ending in among}
        return [path for path in self.files if path.name.casefold() in wanted]

    def child(self, name: str) -> Path | None:
        """Return the folder or zip of this name, whatever its letters' case; the folder if both are there."""
        for paths, wanted in ((self.folders, name), (self.files, f"{name}.zip")):
            for path in paths:
                if path.name.casefold() == wanted.casefold():
                    return path
        return None


@dataclass(frozen=True)
class Claim:
    """Cases, a line for each that cannot be used, and the files and folders that no other reader need look at."""

    sources: tuple[FileSource, ...] = ()
    skipped: tuple[str, ...] = ()
    claimed: frozenset[Path] = field(default_factory=frozenset)


def is_nifti(path: Path) -> bool:
    """True where the name is that of a NIfTI file."""
    return path.name.casefold().endswith(NIFTI)


def stem(path: Path) -> str:
    """The name of a NIfTI file without .nii or .nii.gz."""
    name = path.name
    for ending in (".gz", ".nii"):
        if name.casefold().endswith(ending):
            name = name[: -len(ending)]
    return name


def dataset_description(folder: Path) -> dict[str, Any]:
    """Return the content of dataset.json; empty where there is none, or it is no JSON object."""
    try:
        content = json.loads((folder / "dataset.json").read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def stated_modality(description: Mapping[str, Any]) -> str:
    """Modality of the first channel of a dataset.json: MR where it is said to be, else CT."""
    channels = description.get("modality") or description.get("channel_names") or {}
    first = str(channels.get("0", "")) if isinstance(channels, Mapping) else ""
    return "MR" if re.match(r"MR|T1|T2|DWI|FLAIR", first, re.IGNORECASE) else "CT"
