"""What is known of a set of weights: the JSON card beside each safetensors file. Imports no torch."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from models.calibration import Calibration
from models.errors import CardInvalid, UnknownModel

PRETRAINED = Path(__file__).parent / "pretrained"
PATIENTS = ".patients"
"""What the list of those bears in place of the weights' ending whom added weights have learned from."""
LONGEST_NAME = 64
"""Of a name or a version: both become LO of a SEG (PS3.5 §6.2), and codes of the ledger."""

LOWEST_MM = {
    "coarse_spacing_mm": 0.1,
    "fine_spacing_mm": 0.1,
    "coarse_step_mm": 0.1,
    "fine_step_mm": 0.1,
    "neighbour_mm": 0.0,
}
HIGHEST_MM = 50.0
"""Of each distance of the preprocessing: finer fits into no memory, and coarser is no picture of a liver."""
HIGHEST_HU = 32768
"""Either way: what 16 bits hold."""


@dataclass(frozen=True)
class Preprocessing:
    """The steps that turn a volume into the network's input, the same in training and inference.

    `coarse_spacing_mm`, `fine_spacing_mm`: in-plane pixel of the pass that finds the liver, and of the one
    that segments inside its box. `coarse_step_mm`, `fine_step_mm`: distance between predicted slices.
    `neighbour_mm`: how far above and below lie the slices of the first and third channel.
    `window_hu`: values of CT mapped to -1 and 1, clipped beyond. `window_percentiles`: the same for MR, whose values
    have no unit, as percentiles of the volume's own voxels; None for weights that know no MR.

    Raises ValueError, which begins with the key, for a distance that is none or beyond any use, for a window or
    percentiles that do not grow, and for values that no CT has or percentiles beyond 0 and 100.
    """

    coarse_spacing_mm: float
    fine_spacing_mm: float
    coarse_step_mm: float
    fine_step_mm: float
    neighbour_mm: float
    window_hu: tuple[float, float]
    window_percentiles: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name, lowest in LOWEST_MM.items():
            if not lowest <= getattr(self, name) <= HIGHEST_MM:
                raise ValueError(f"{name} must be from {lowest:g} to {HIGHEST_MM:g}")
        if not all(abs(hu) <= HIGHEST_HU for hu in self.window_hu):
            raise ValueError(f"window_hu must be from -{HIGHEST_HU} to {HIGHEST_HU}")
        if not self.window_hu[1] - self.window_hu[0] >= 1:
            raise ValueError("window_hu must be two growing values, at least 1 apart")
        if (
            self.window_percentiles is not None
            and not 0 <= self.window_percentiles[0] < self.window_percentiles[1] <= 100
        ):
            raise ValueError("window_percentiles must be two growing percentiles")


@dataclass(frozen=True)
class Card:
    """A model's name, what it was trained on, and how good it measured.

    `data_sha256`: of the prepared cases that it learned from. `begun_from`: name, version, sha256 and training data of
    the weights that training began from.
    `calibration`: how often its lesions are real; None where nobody has measured it (`porta calibrate`).
    """

    name: str
    version: str
    architecture: str
    modalities: tuple[str, ...]
    preprocessing: Preprocessing
    sha256: str
    weights: Path
    trained_on: str
    licence: str
    quality: Mapping[str, Any]
    research_use_only: bool
    data_sha256: str | None = None
    begun_from: Mapping[str, Any] | None = None
    calibration: Calibration | None = None

    @property
    def path(self) -> Path:
        """The card's own file."""
        return self.weights.with_suffix(".json")

    def takes(self, modality: str) -> bool:
        """True where the weights are for this modality; for MR the card must also say how values are normalised."""
        return modality in self.modalities and (modality == "CT" or self.preprocessing.window_percentiles is not None)


def read_card(path: Path) -> Card:
    """The card at `path`; its weights lie beside it under the same stem. Says nothing of the weights themselves.

    Raises CardInvalid, with the file and the key, for a key that is missing, unknown or of a value that cannot be.
    """
    try:
        raw = json.loads(path.read_bytes())
        texts = list(_texts(raw))
    except OSError as error:
        raise CardInvalid(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CardInvalid(f"{path}: not a card of weights: no JSON") from error
    values = _values(raw, Card, path, but="weights")
    for key in ("name", "version"):
        if not (len(values[key]) <= LONGEST_NAME and values[key].isprintable() and "\\" not in values[key]):
            raise CardInvalid(f"{path}: {key}: must be 1 to {LONGEST_NAME} printable characters, and no backslash")
    for key, text in texts:  # commands print them, and a SEG states some
        if not text.isprintable():
            raise CardInvalid(f"{path}: {key}: must have no control characters and no line ends")
    if not re.fullmatch(r"[0-9a-f]{64}", values["sha256"]):
        raise CardInvalid(f"{path}: sha256: must be 64 digits of 0-9 and a-f")
    if not values["modalities"]:
        raise CardInvalid(f"{path}: modalities: must name at least one")
    how = _values(values["preprocessing"], Preprocessing, path, within="preprocessing.")
    try:
        values["preprocessing"] = Preprocessing(**how)
    except ValueError as error:
        key, _, sentence = str(error).partition(" ")
        raise CardInvalid(f"{path}: preprocessing.{key}: {sentence}") from error
    if (measured := values.get("calibration")) is not None:
        values["calibration"] = Calibration(**_values(measured, Calibration, path, within="calibration."))
    return Card(**values, weights=path.with_suffix(".safetensors"))


def _texts(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield each text of a JSON value with the key where it stands, and each key with the one above it."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield key, name
            yield from _texts(item, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, key)


def _values(raw: object, kind: type, file: Path, *, within: str = "", but: str = "") -> dict[str, Any]:
    """Return the values of a JSON object for the fields of a dataclass, lists as tuples. Raises CardInvalid."""
    if not isinstance(raw, dict):
        raise CardInvalid(f"{file}: not a card of weights: no JSON object")
    known = {field.name: field for field in fields(kind) if field.name != but}
    hints = get_type_hints(kind)
    for name in raw:
        if name not in known:
            raise CardInvalid(f"{file}: {within}{name}: unknown key; known: {', '.join(known)}")
    values = {}
    for name, field in known.items():
        if name in raw:
            values[name] = _fitting(raw[name], hints[name], f"{file}: {within}{name}")
        elif field.default is MISSING:
            raise CardInvalid(f"{file}: {within}{name}: missing")
    return values


def _fitting(value: object, hint: Any, place: str) -> Any:
    """A JSON value as the type of a field has it. Raises CardInvalid."""
    parts, origin = get_args(hint), get_origin(hint)
    if NoneType in parts:
        return None if value is None else _fitting(value, parts[0], place)
    if origin is tuple:
        several = parts[-1] is Ellipsis
        if not isinstance(value, list) or not (several or len(value) == len(parts)):
            raise CardInvalid(f"{place}: must be a list" + ("" if several else f" of {len(parts)}"))
        return tuple(_fitting(item, parts[0], place) for item in value)
    if hint in (int, float):
        numbers = int if hint is int else int | float
        if isinstance(value, bool) or not isinstance(value, numbers) or not -1e9 < value < 1e9:
            raise CardInvalid(f"{place}: must be a {'whole ' * (hint is int)}number")
        return value
    wanted, words = _KINDS.get(hint, (dict, "an object"))
    if not isinstance(value, wanted) or value == "":
        raise CardInvalid(f"{place}: must be {words}")
    return value


_KINDS: dict[Any, tuple[type, str]] = {str: (str, "text"), bool: (bool, "true or false")}
"""How JSON has a type, and in words; all others are objects."""


def sha256_of(weights: Path) -> str:
    """Return the sha256 of a file of weights, as a card states it. Raises OSError."""
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_cards(directory: Path = PRETRAINED) -> dict[str, Card]:
    """Return all cards of a folder by model name."""
    return {card.name: card for card in map(read_card, sorted(directory.glob("*.json")))}


def find(name: str, directory: Path = PRETRAINED) -> Card:
    """The card of a model: by its name in `directory`, or one's own by the path of its .json.

    Raises UnknownModel, CardInvalid.
    """
    if name.endswith(".json"):
        return read_card(Path(name))
    cards = read_cards(directory)
    if name not in cards:
        raise UnknownModel(f"no model {name!r} in {directory}")
    return cards[name]


def fitting(name: str, modality: str) -> str:
    """Return the name, or the path of the card of its sister's weights where those take the modality and it does not.

    A sister lies in the same folder, and bears the same name with the modality behind it: `resnet50-mr` is that of
    `resnet50`, and `own-mr@2.json` that of `own@2.json`. Raises UnknownModel, CardInvalid.
    """
    card = find(name)
    called, at, version = card.path.stem.partition("@")
    sister = card.path.with_name(f"{called}-{modality.lower()}{at}{version}.json")
    if not card.takes(modality) and sister.exists() and read_card(sister).takes(modality):
        return str(sister)
    return name


LICENCES = {
    "3D-IRCADb-01": "CC BY-NC-ND",
    "CHAOS CT": "CC BY-SA 4.0",
    "CHAOS MR": "CC BY-SA 4.0",
    "LiTS": "CC BY-NC-ND 4.0",
    "MSD Task03_Liver": "CC BY-SA 4.0",
    "phantoms": "Apache-2.0",
}
"""Of the public collections, as their publishers state them."""


def licences_of(collections: Iterable[str], begun_from: str = "") -> str:
    """Return the licence for a card of weights that learned from these collections.

    `begun_from`: the name and licence of the weights that training began from.
    """
    known = [
        f"{name} {LICENCES.get(name, 'by its own terms, which nobody stated here')}" for name in sorted(collections)
    ]
    if set(collections) == {"phantoms"} and not begun_from:
        return "Apache-2.0: trained on phantoms alone; research use only"
    begun = f"; and of what it was begun from: {begun_from}" if begun_from else ""
    return f"research use only, by the licences of the training data: {'; '.join(known)}{begun}"
