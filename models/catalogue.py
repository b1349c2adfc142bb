"""The models that a rule may name: those that ship, those that a site added to its folder, those it gave names to.

An added model lies in the folder as NAME@VERSION.json with NAME@VERSION.safetensors beside it: what there is, its names
tell, so that a damaged file that nobody asks for is nobody's trouble. NAME@VERSION.patients, for its owner alone, lists
the patients that it learned from, where they are known: nobody is to measure it on them. Imports no torch.
"""

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dicom_io.files.whole_files import open_whole
from models.cards import PATIENTS, PRETRAINED, Card, read_card, read_cards, sha256_of
from models.errors import CardInvalid, UnknownModel, WeightsCorrupt

AT = "@"
PLAIN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
"""What a name or a version must be to become that of a file."""
ADDED = re.compile(rf"({PLAIN}){AT}({PLAIN})\.json")


@dataclass(frozen=True)
class Catalogue:
    """All models by the names that a rule may use.

    `folder`: where added ones lie; there may be none yet. `given`: the cards that the configuration gave names to.
    A name alone means the model that ships, else the only added version of that name; NAME@VERSION means that one.
    """

    folder: Path | None = None
    given: Mapping[str, Path] = field(default_factory=dict)
    pretrained: Path = PRETRAINED

    @property
    def names(self) -> frozenset[str]:
        """All names that `card` takes, without paths. Raises CardInvalid for a folder that cannot be read."""
        own = read_cards(self.pretrained).values()
        known = {card.name for card in own} | {f"{card.name}{AT}{card.version}" for card in own}
        for name, versions in find_added(self.folder).items():
            known |= {name, *(f"{name}{AT}{version}" for version in versions)}
        return frozenset(known | set(self.given))

    def card(self, name: str) -> Card:
        """The card that a rule means. Raises UnknownModel, also for several versions of one name, and CardInvalid."""
        if name in self.given:
            return read_card(self.given[name])
        own = read_cards(self.pretrained).values()
        for card in own:
            if name in (card.name, f"{card.name}{AT}{card.version}"):
                return card
        plain, _, version = name.partition(AT)
        versions = find_added(self.folder).get(plain, {})
        if not version and len(versions) > 1:
            choice = " or ".join(f'"{plain}{AT}{known}"' for known in sorted(versions))
            raise UnknownModel(f'"{name}" has several versions; write {choice}')
        path = versions.get(version) if version else next(iter(versions.values()), None)
        if path is None:
            raise UnknownModel(f'there is no model "{name}"')
        return _as_named(path)

    def paths(self) -> list[Path]:
        """The card of every model: those that ship, added ones, given ones. Raises CardInvalid as `names` does."""
        own = [card.path for card in read_cards(self.pretrained).values()]
        kept = [path for _, versions in sorted(find_added(self.folder).items()) for _, path in sorted(versions.items())]
        return list(dict.fromkeys([*own, *kept, *self.given.values()]))


def find_added(folder: Path | None) -> dict[str, dict[str, Path]]:
    """The cards of a site's folder by name and version, as their files are called. Raises CardInvalid."""
    found: dict[str, dict[str, Path]] = {}
    try:
        listed = sorted(os.listdir(folder)) if folder is not None else []
    except (FileNotFoundError, NotADirectoryError):
        listed = []
    except OSError as error:
        raise CardInvalid(f"{folder}: {error.strerror}") from error
    for name in listed:
        if folder is not None and (called := ADDED.fullmatch(name)):
            found.setdefault(called[1], {})[called[2]] = folder / name
    return found


def add(card: Card, catalogue: Catalogue, patients: Collection[str] = ()) -> Path | None:
    """Copy a card and its weights into the folder, durably, the card last; None where the same is there already.

    `patients`: whom the weights have learned from.
    The weights are those that were verified: what is copied is hashed once more. Raises CardInvalid for a name or
    version that cannot be a file's, or that another content has, WeightsCorrupt where the disk does not do it.
    """
    folder = catalogue.folder
    if folder is None:
        raise ValueError("the catalogue has no folder")
    for key in ("name", "version"):
        if not re.fullmatch(PLAIN, getattr(card, key)):
            raise CardInvalid(f"{card.path}: {key}: must be 1 to 64 letters, digits, dots, dashes or underscores")
    target = folder / f"{card.name}{AT}{card.version}.json"
    try:
        text = card.path.read_bytes()
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # the storage root, which will hold images
        folder.mkdir(exist_ok=True)
        with _alone(folder):
            known = [path for path in catalogue.paths() if _is_of(path, card)]
            for path in known:
                if path.read_bytes() != text:
                    raise CardInvalid(
                        f"{card.path}: version: {card.name} {card.version} is here already with another content"
                        f" ({path}); give it another version"
                    )
                if path.parent != folder or _holds(path.with_suffix(".safetensors"), card.sha256):
                    return None
            if _copy(card.weights, target.with_suffix(".safetensors")) != card.sha256:
                raise WeightsCorrupt(f"{card.weights}: has changed while it was copied")
            if patients:
                content = json.dumps({"patients": sorted(patients)}).encode()
                _keep([content], target.with_suffix(PATIENTS), mode=0o600)
            _keep([text], target)
    except OSError as error:
        raise WeightsCorrupt(f"{error.filename or folder}: {error.strerror}") from error
    return target


def _as_named(path: Path) -> Card:
    """A card of the folder, which must be of the model that its file is called after."""
    card = read_card(path)
    if path.stem != f"{card.name}{AT}{card.version}":
        raise CardInvalid(f"{path}: name: is that of {card.name}{AT}{card.version}, and the file's is another")
    return card


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else adds to the folder meanwhile."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _is_of(path: Path, card: Card) -> bool:
    """True where a card that is here bears the name and version of another; for a damaged one its file name decides."""
    try:
        there = read_card(path)
    except CardInvalid:
        return path.stem == f"{card.name}{AT}{card.version}"
    return (there.name, there.version) == (card.name, card.version)


def _holds(weights: Path, sha256: str) -> bool:
    try:
        return sha256_of(weights) == sha256
    except OSError:
        return False


def _copy(source: Path, target: Path) -> str:
    """Copy a file as `_keep` does; return its sha256."""
    digest = hashlib.sha256()
    with source.open("rb") as given:

        def chunks() -> Iterator[bytes]:
            while chunk := given.read(2**20):
                digest.update(chunk)
                yield chunk

        _keep(chunks(), target)
    return digest.hexdigest()


def _keep(chunks: Iterable[bytes], target: Path, mode: int = 0o644) -> None:
    """Write a file in full or not at all, durably. By default others may read it: so the service may."""
    with open_whole(target, mode=mode) as kept:
        os.fchmod(kept.fileno(), mode)  # whatever the umask
        kept.writelines(chunks)
