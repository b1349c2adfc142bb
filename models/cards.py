"""What is known of a set of weights: the JSON card beside each safetensors file. Imports no torch."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.calibration import Calibration
from models.errors import UnknownModel

PRETRAINED = Path(__file__).parent / "pretrained"


@dataclass(frozen=True)
class Preprocessing:
    """How a volume becomes the network's input, the same in training and inference.

    `coarse_spacing_mm`, `fine_spacing_mm`: in-plane pixel of the pass that finds the liver, and of the one
    that segments inside its box. `coarse_step_mm`, `fine_step_mm`: distance between predicted slices.
    `neighbour_mm`: how far above and below lie the slices of the first and third channel.
    `window_hu`: values of CT mapped to -1 and 1, clipped beyond. `window_percentiles`: the same for MR, whose values
    have no unit, as percentiles of the volume's own voxels; None for weights that know no MR.

    Raises ValueError for percentiles that are no range within 0 and 100.
    """

    coarse_spacing_mm: float
    fine_spacing_mm: float
    coarse_step_mm: float
    fine_step_mm: float
    neighbour_mm: float
    window_hu: tuple[float, float]
    window_percentiles: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if (
            self.window_percentiles is not None
            and not 0 <= self.window_percentiles[0] < self.window_percentiles[1] <= 100
        ):
            raise ValueError("window_percentiles must be two growing percentiles")


@dataclass(frozen=True)
class Card:
    """A model's name, what it was trained on, and how good it measured.

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
    calibration: Calibration | None = None

    def takes(self, modality: str) -> bool:
        """Whether the weights are for this modality; for MR the card must also say how values are normalised."""
        return modality in self.modalities and (modality == "CT" or self.preprocessing.window_percentiles is not None)


def read_card(path: Path) -> Card:
    """The card at `path`; its weights lie beside it under the same stem."""
    raw = json.loads(path.read_text())
    preprocessing = raw["preprocessing"] | {
        name: tuple(raw["preprocessing"][name])
        for name in ("window_hu", "window_percentiles")
        if raw["preprocessing"].get(name) is not None
    }
    return Card(
        name=raw["name"],
        version=raw["version"],
        architecture=raw["architecture"],
        modalities=tuple(raw["modalities"]),
        preprocessing=Preprocessing(**preprocessing),
        sha256=raw["sha256"],
        weights=path.with_suffix(".safetensors"),
        trained_on=raw["trained_on"],
        licence=raw["licence"],
        quality=raw["quality"],
        research_use_only=raw["research_use_only"],
        calibration=Calibration(**raw["calibration"]) if raw.get("calibration") else None,
    )


def shipped(directory: Path = PRETRAINED) -> dict[str, Card]:
    """All cards of a folder by model name."""
    return {card.name: card for card in map(read_card, sorted(directory.glob("*.json")))}


def find(name: str, directory: Path = PRETRAINED) -> Card:
    """The card of a model: by its name in `directory`, or one's own by the path of its .json. Raises UnknownModel."""
    if name.endswith(".json"):
        path = Path(name)
        try:
            return read_card(path)
        except OSError as error:
            raise UnknownModel(f"{path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UnknownModel(f"{path}: not a card of weights") from error
    cards = shipped(directory)
    if name not in cards:
        raise UnknownModel(f"no model {name!r} in {directory}")
    return cards[name]


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
    """What a card says of the licence of weights that learned from these collections.

    `begun_from`: the name and licence of the weights that training began from.
    """
    known = [
        f"{name} {LICENCES.get(name, 'by its own terms, which nobody stated here')}" for name in sorted(collections)
    ]
    if set(collections) == {"phantoms"} and not begun_from:
        return "Apache-2.0: trained on phantoms alone; research use only"
    begun = f"; and of what it was begun from: {begun_from}" if begun_from else ""
    return f"research use only, by the licences of the training data: {'; '.join(known)}{begun}"
