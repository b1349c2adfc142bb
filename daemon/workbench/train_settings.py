"""The configuration of a training: one TOML file, checked whole, over which the command's options go.

Every key and default is shown and explained in `deploy/train.toml`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, Strict, ValidationError, field_validator, model_validator

from daemon.configuration.config import Section
from daemon.configuration.faults import did_you_mean, key_text, shape_fault, shown
from daemon.configuration.toml_document import checked
from daemon.configuration.values import Name
from daemon.errors import ConfigurationError
from models.architectures.names import ARCHITECTURE_NAMES
from models.cards import Preprocessing
from models.phantom import TRAINING_SEEDS
from models.training.recipe import DEFAULT_PREPROCESSING, Balance, Chances, Recipe, Schedule

FilePath = Annotated[Path, Strict(False)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Window = tuple[float, float]

_RECIPE, _BALANCE, _CHANCES, _HOW = Recipe(), Balance(), Chances(), DEFAULT_PREPROCESSING


class Data(Section):
    """Where cases lie, and on which side of the split they are."""

    folders: tuple[FilePath, ...] = ()
    phantoms: int = Field(default=0, ge=0, le=len(TRAINING_SEEDS))
    phantoms_mr: int = Field(default=0, ge=0, le=len(TRAINING_SEEDS))
    tumours_not_drawn: tuple[str, ...] = ()
    cache: FilePath | None = None
    split: FilePath | None = None
    fold: str | None = None
    leave_out: tuple[str, ...] = ()
    validation: Share = 0.1
    test: Share = 0.1

    @field_validator("fold")
    @classmethod
    def _one_of_several(cls, fold: str | None) -> str | None:
        if fold is not None:
            found = re.fullmatch(r"(\d+)/(\d+)", fold)
            if not found or not 1 <= int(found[1]) <= int(found[2]) or int(found[2]) < 2:
                raise ValueError(f'must be one of several, as "1/5", not {shown(fold)}')
        return fold

    @model_validator(mode="after")
    def _one_split(self) -> "Data":
        given = [name for name in ("split", "fold", "leave_out") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} say two things about the same; give one of them")
        return self


class Network(Section):
    """What is trained, and what it begins from."""

    model: str = _RECIPE.architecture
    backbone_weights: str = "none"
    initial: FilePath | None = None

    @field_validator("model")
    @classmethod
    def _known(cls, model: str) -> str:
        if model not in ARCHITECTURE_NAMES:
            raise ValueError(f"no architecture {shown(model)}{did_you_mean(model, ARCHITECTURE_NAMES)}")
        return model


class Training(Section):
    """The loop."""

    steps: int = Field(default=_RECIPE.steps, ge=1)
    batch: int = Field(default=_RECIPE.batch, ge=1)
    pixels: int = Field(default=_RECIPE.pixels, ge=32, le=1024)
    learning_rate: Positive = _RECIPE.learning_rate
    weight_decay: float = Field(default=_RECIPE.weight_decay, ge=0)
    schedule: Schedule = _RECIPE.schedule
    warm_up: Share = _RECIPE.warm_up
    average: float = Field(default=_RECIPE.average, ge=0, lt=1)
    epoch: int = Field(default=_RECIPE.epoch, ge=1)
    validation_slices: int = Field(default=_RECIPE.validation_slices, ge=1)
    checkpoint: int = Field(default=_RECIPE.checkpoint, ge=1)
    seed: int = Field(default=_RECIPE.seed, ge=0)
    freeze_encoder: bool = _RECIPE.freeze_encoder


class BalanceOfSamples(Section):
    """How often what is drawn."""

    real: Share = _BALANCE.real
    fine: Share = _BALANCE.fine
    beyond: Share = _BALANCE.beyond
    tumour: Share = _BALANCE.tumour
    liver: Share = _BALANCE.liver


class Augmentation(Section):
    """How often what is changed."""

    shape: Share = _CHANCES.shape
    phase: Share = _CHANCES.phase
    enhancement: Share = _CHANCES.enhancement
    effusion: Share = _CHANCES.effusion
    lesion: Share = _CHANCES.lesion
    remap: Share = _CHANCES.remap
    contrast: Share = _CHANCES.contrast
    gamma: Share = _CHANCES.gamma
    noise: Share = _CHANCES.noise
    sharpness: Share = _CHANCES.sharpness
    low_resolution: Share = _CHANCES.low_resolution
    field_of_view: Share = _CHANCES.field_of_view


class Resolution(Section):
    """How volumes become the network's input; the card keeps it for inference."""

    coarse_spacing_mm: Positive = _HOW.coarse_spacing_mm
    fine_spacing_mm: Positive = _HOW.fine_spacing_mm
    coarse_step_mm: Positive = _HOW.coarse_step_mm
    fine_step_mm: Positive = _HOW.fine_step_mm
    neighbour_mm: Positive = _HOW.neighbour_mm
    window_hu: Window = _HOW.window_hu
    window_percentiles: Window | None = _HOW.window_percentiles

    @model_validator(mode="after")
    def _makes_sense(self) -> "Resolution":
        if self.window_hu[0] >= self.window_hu[1]:
            raise ValueError("window_hu must be two growing values")
        Preprocessing(**self.model_dump())
        return self


class CardWords(Section):
    """What the weights' card says."""

    name: Name | None = None
    version: Name | None = None
    licence: str | None = None


class Machine(Section):
    """What may differ from run to run, and does not change which weights come out but for rounding."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(default=None, ge=1)
    workers: int = Field(default=1, ge=0)
    processes: int | None = Field(default=None, ge=1)


class TrainSettings(Section):
    """The whole file."""

    data: Data = Data()
    network: Network = Network()
    training: Training = Training()
    balance: BalanceOfSamples = BalanceOfSamples()
    augmentation: Augmentation = Augmentation()
    preprocessing: Resolution = Resolution()
    card: CardWords = CardWords()
    machine: Machine = Machine()

    @property
    def recipe(self) -> Recipe:
        """As `models.training.loop` takes it."""
        return Recipe(
            architecture=self.network.model,
            **self.training.model_dump(),
            balance=Balance(**self.balance.model_dump()),
            chances=Chances(**self.augmentation.model_dump()),
        )

    @property
    def how(self) -> Preprocessing:
        """As `models.preprocessing` takes it."""
        return Preprocessing(**self.preprocessing.model_dump())

    @property
    def identity(self) -> dict[str, Any]:
        """What decides which weights come out, but for the data, which is told by its hash; JSON values."""
        kept = self.model_dump(mode="json", exclude={"machine": True, "data": True})
        return {f"{table}.{key}": value for table, keys in kept.items() for key, value in keys.items()}


Overrides = Mapping[tuple[str, str], Any]
"""Values by table and key; None and empty tuples are options that were not given."""


def load_settings(path: Path | None, overrides: Overrides = {}) -> TrainSettings:  # noqa: B006
    """The defaults, over them the file at `path`, over it `overrides`. Raises ConfigurationError with all faults."""
    settings = TrainSettings()
    if path is not None:
        try:
            settings = checked(path.read_bytes(), TrainSettings, str(path))
        except OSError as error:
            raise ConfigurationError([f"{path}: cannot be read: {error.strerror}"]) from error
    document = settings.model_dump()
    given = {place: value for place, value in overrides.items() if value is not None and value != ()}
    if any(key in ("split", "fold", "leave_out") for _, key in given):  # an option takes the place of the file's split
        document["data"] |= {"split": None, "fold": None, "leave_out": ()}
    for (table, key), value in given.items():
        document[table][key] = value
    try:
        return TrainSettings.model_validate(document)
    except ValidationError as error:
        faults = [shape_fault(detail, TrainSettings) for detail in error.errors(include_url=False)]
        raise ConfigurationError([f"{key_text(fault.key)}: {fault.sentence}" for fault in faults]) from error


def as_toml(settings: TrainSettings) -> str:
    """The settings as a file that `load_settings` reads, every value written out; what is None is left out."""
    lines = []
    for table, keys in settings.model_dump(mode="json").items():
        lines += [f"[{table}]", *(f"{key} = {_toml(value)}" for key, value in keys.items() if value is not None), ""]
    return "\n".join(lines)


def _toml(value: int | float | str | Sequence[Any]) -> str:
    """JSON's numbers, texts and lists are TOML's too."""
    return json.dumps(value, ensure_ascii=False)
