"""Which cases are trained on, validated on and tested on: by patient, the same for the same seed, kept in a file.

Patients are in an order that a seed and their keys decide, each collection spread evenly over it: every part has
its share of every collection that is large enough, and a patient more or less moves few of the others.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from dicom_io.files.whole_files import write_whole
from models.datasets.cases import CaseSource
from models.errors import SplitInvalid

PARTS = ("training", "validation", "test")

Source = TypeVar("Source", bound=CaseSource)


@dataclass(frozen=True)
class Split:
    """Names of cases, none of them twice."""

    training: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


def make_split(sources: Sequence[CaseSource], validation: float = 0.1, test: float = 0.1, seed: int = 0) -> Split:
    """Shares of the patients for validation and test, the others for training.

    A share above 0 is one patient at least. Raises SplitInvalid where no patient is left to train on.
    """
    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise SplitInvalid(f"validation {validation:g} and test {test:g}: shares from 0, together below 1")
    patients = _ordered(sources, seed)
    tested = _share(test, len(patients))
    return _split(sources, patients, set(patients[:tested]), validation)


def fold(sources: Sequence[CaseSource], k: int, of: int, seed: int = 0, validation: float = 0.1) -> Split:
    """The k-th (from 1) of `of` folds for the test: every patient is tested in exactly one.

    Raises SplitInvalid where there is no such fold, or there are fewer patients than folds.
    """
    patients = _ordered(sources, seed)
    if of < 2 or not 1 <= k <= of:
        raise SplitInvalid(f"fold {k}/{of}: the first of five folds is 1/5, the last 5/5")
    if len(patients) < of:
        raise SplitInvalid(f"fold {k}/{of}: there are only {len(patients)} patients")
    return _split(sources, patients, set(patients[k - 1 :: of]), validation)


def leave_out(sources: Sequence[CaseSource], names: Collection[str], validation: float = 0.1, seed: int = 0) -> Split:
    """The named cases, and all others of their patients, for the test. Raises SplitInvalid for an unknown name."""
    known = {source.name: source.patient for source in sources}
    if unknown := sorted(set(names) - set(known)):
        raise SplitInvalid(f"{', '.join(unknown)}: no case of this name")
    return _split(sources, _ordered(sources, seed), {known[name] for name in names}, validation)


def check(split: Split, sources: Iterable[CaseSource]) -> None:
    """Raise SplitInvalid where the split has a name twice, one that no source has, or a patient on two sides."""
    patients = {source.name: source.patient for source in sources}
    side: dict[str, str] = {}
    seen: dict[str, str] = {}
    for part in PARTS:
        for name in getattr(split, part):
            if name not in patients:
                raise SplitInvalid(f"{part}: there is no case {name}")
            if name in seen:
                raise SplitInvalid(f"{name} stands twice, in {seen[name]} and in {part}")
            seen[name] = part
            other = side.setdefault(patients[name], part)
            if other != part:
                raise SplitInvalid(f"{name} is in {part}, another case of its patient {patients[name]} in {other}")


def part(sources: Iterable[Source], names: Collection[str]) -> tuple[Source, ...]:
    """The sources with these names, in their own order."""
    return tuple(source for source in sources if source.name in names)


def read_split(path: Path) -> Split:
    """The split of a file. Raises SplitInvalid, which names the file and the key."""
    try:
        raw = json.loads(path.read_text())
    except OSError as error:
        raise SplitInvalid(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise SplitInvalid(f"{path}: not JSON") from error
    if not isinstance(raw, dict) or set(raw) != set(PARTS):
        raise SplitInvalid(f"{path}: must have the keys {', '.join(PARTS)} and no others")
    for key in PARTS:
        if not isinstance(raw[key], list) or not all(isinstance(name, str) for name in raw[key]):
            raise SplitInvalid(f"{path}: {key} must be a list of names of cases")
    return Split(*(tuple(raw[key]) for key in PARTS))


def as_json(split: Split) -> str:
    """The text of a file that `read_split` reads."""
    return json.dumps(asdict(split), indent=2) + "\n"


def write_split(split: Split, path: Path) -> None:
    """Write a split where `read_split` finds it, whole or not at all."""
    write_whole(path, as_json(split).encode())


def _split(sources: Sequence[CaseSource], patients: Sequence[str], tested: set[str], validation: float) -> Split:
    """Split with the patients of the test given: those for validation are the next in order."""
    rest = [patient for patient in patients if patient not in tested]
    validated = set(rest[: _share(validation, len(rest))])
    split = Split(
        training=tuple(source.name for source in sources if source.patient not in tested | validated),
        validation=tuple(source.name for source in sources if source.patient in validated),
        test=tuple(source.name for source in sources if source.patient in tested),
    )
    if not split.training:
        raise SplitInvalid(f"{len(patients)} patients are too few: none is left to train on")
    return split


def _share(share: float, count: int) -> int:
    return max(1, round(share * count)) if share > 0 else 0


def _ordered(sources: Sequence[CaseSource], seed: int) -> list[str]:
    """Patients, by chance within their collection, and the collections spread evenly over the whole."""
    home: dict[str, str] = {}
    for source in sources:
        home[source.patient] = min(home.get(source.patient, source.collection), source.collection)
    members: dict[str, list[str]] = {}
    for patient in sorted(home, key=lambda patient: sha256(f"{seed}/{patient}".encode()).digest()):
        members.setdefault(home[patient], []).append(patient)
    places = {
        patient: ((rank + 0.5) / len(patients), collection)
        for collection, patients in members.items()
        for rank, patient in enumerate(patients)
    }
    return sorted(places, key=lambda patient: places[patient])
