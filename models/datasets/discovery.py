"""All cases below a folder, whatever collections it holds, and a line for what looks like a case and cannot be used."""

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from models.datasets import chaos, dicom_seg, image_folders, ircadb, label_files, lits
from models.datasets.layout import Claim, Folder, is_nifti
from models.datasets.sources import FileSource
from models.errors import CaseUnreadable

CLAIMS = (ircadb.claim, chaos.claim, image_folders.claim, label_files.claim)
"""Readers that know a folder of theirs when they see it, the surest first."""
CLAIMS_OF_REST = (lits.claim, dicom_seg.claim)
"""Readers whose files may lie anywhere."""
IMAGES = (".dcm", ".ima", ".zip")


@dataclass(frozen=True)
class Found:
    """Cases in the order of their names, and what was passed over, a line each."""

    sources: tuple[FileSource, ...]
    skipped: tuple[str, ...]


def find_cases(folder: Path, tumours_not_drawn: Collection[str] = ()) -> Found:
    """The cases below one folder. `tumours_not_drawn`: names of cases or collections whose liver may hide tumours.

    No volume is read: of DICOM images the headers, SEG objects whole. Raises CaseUnreadable where there is no such
    folder. What a reader does not know is named by its folder; a folder in which nothing is a case is a line too.
    """
    if not folder.is_dir():
        raise CaseUnreadable(f"{folder}: no such folder")
    claims, rest = list[Claim](), list[Path]()
    try:
        _visit(folder, folder, claims, rest, set())
        for claim in CLAIMS_OF_REST:
            made = claim(Folder(folder, folder, tuple(rest), ()))
            claims.append(made)
            rest = [path for path in rest if path not in made.claimed]
    except OSError as error:
        raise CaseUnreadable(f"{error.filename or folder}: {error.strerror}") from error
    sources = [source for made in claims for source in made.sources]
    skipped = [line for made in claims for line in made.skipped] + _without_truth(folder, rest)
    if not sources and not skipped:
        skipped.append(f"{folder}: holds no images")
    hidden = [
        replace(source, tumours_drawn=False) if {source.name, source.collection} & set(tumours_not_drawn) else source
        for source in sources
    ]
    ordered = sorted(hidden, key=lambda source: _natural(source.name))
    return Found(tuple(_one_key_each(ordered)), tuple(skipped))


def find_all(folders: Sequence[Path], tumours_not_drawn: Collection[str] = ()) -> Found:
    """Find the cases below several folders, each name once.

    Raises CaseUnreadable where there is no such folder, no case in any of them, or none that a name of
    `tumours_not_drawn` is of.
    """
    sources: dict[str, FileSource] = {}
    skipped = list[str]()
    for folder in folders:
        found = find_cases(folder, tumours_not_drawn)
        skipped += found.skipped
        for source in found.sources:
            if source.name in sources:
                skipped.append(f"{source.name} in {folder}: another case has this name")
            sources.setdefault(source.name, source)
    if not sources:
        why = f"; {skipped[0]}" if skipped else ""
        raise CaseUnreadable(f"{', '.join(map(str, folders))}: no case to read{why}")
    names = {name for source in sources.values() for name in (source.name, source.collection)}
    if unknown := sorted(set(tumours_not_drawn) - names):
        raise CaseUnreadable(f"{', '.join(unknown)}: no case and no collection of this name")
    return Found(tuple(_one_key_each(sources.values())), tuple(skipped))


def _one_key_each(sources: Iterable[FileSource]) -> list[FileSource]:
    """The examinations of one person under one patient's key, the least of theirs."""
    keys: dict[str, str] = {}
    listed = list(sources)
    for source in listed:
        keys[source.person] = min(keys.get(source.person, source.patient), source.patient)
    return [replace(source, patient=keys[source.person]) if source.person else source for source in listed]


def _visit(path: Path, root: Path, claims: list[Claim], rest: list[Path], seen: set[tuple[int, int]]) -> None:
    """Offer a folder to each reader, then those below it that none has claimed. Links are followed, once."""
    state = path.stat()
    if (state.st_dev, state.st_ino) in seen:
        return
    seen.add((state.st_dev, state.st_ino))
    with os.scandir(path) as entries:
        inside = sorted((path / entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
    folder = Folder(
        path,
        root,
        files=tuple(entry for entry, is_folder in inside if not is_folder and entry.is_file()),
        folders=tuple(entry for entry, is_folder in inside if is_folder),
    )
    for claim in CLAIMS:
        made = claim(folder)
        if made is not None:
            claims.append(made)
            folder = replace(
                folder,
                files=tuple(file for file in folder.files if file not in made.claimed),
                folders=tuple(child for child in folder.folders if child not in made.claimed),
            )
    rest += folder.files
    for child in folder.folders:
        _visit(child, root, claims, rest, seen)


def _without_truth(root: Path, rest: Sequence[Path]) -> list[str]:
    """A line for each folder with images that belong to no case."""
    counts: dict[Path, int] = {}
    for path in rest:
        if is_nifti(path) or path.suffix.casefold() in IMAGES:
            counts[path.parent] = counts.get(path.parent, 0) + 1
    whole = Folder(root, root, (), ())
    return [f"{whole.said(path)}: no truth for its {count} image files" for path, count in sorted(counts.items())]


def _natural(name: str) -> tuple[tuple[str, int], ...]:
    """volume-2 before volume-10."""
    parts, number, word = list[tuple[str, int]](), "", ""
    for letter in f"{name}\0":
        if letter.isdecimal():
            number += letter
            continue
        if number:
            parts.append((word, int(number)))
            number, word = "", ""
        word += letter
    return (*parts, (word, -1))
