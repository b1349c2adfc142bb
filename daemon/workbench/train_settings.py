"""The configuration of a training: one TOML file, checked whole, over which the command's options go.

Every key and default is shown and explained in `deploy/train.toml`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

from pydantic import (
    Field,
    GetCoreSchemaHandler,
    Strict,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from daemon.configuration.faults import did_you_mean, key_text, shape_fault, show_value
from daemon.configuration.toml_document import parse_document
from daemon.configuration.values import Name, Section
from daemon.errors import ConfigurationError
from models.architectures.names import ARCHITECTURE_NAMES
from models.cards import Preprocessing
from models.training.recipe import DEFAULT_PREPROCESSING, Balance, Chances, Recipe

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FilePath = Annotated[Path, Strict(False)]
Share = Annotated[float, Field(ge=0, le=1)]

MOST_PHANTOMS = 1_000_000
"""As many as there are seeds for training (`models.phantom.TRAINING_SEEDS`, which takes long to import)."""


class Table:
    """Marks a dataclass as a table of the file: its fields, `but` some, are keys, within the bounds of their metadata.

    `defaults` holds the values of keys that are left out.
    """

    def __init__(self, defaults: "DataclassInstance", *, but: Sequence[str] = ()) -> None:
        hints = get_type_hints(type(defaults))
        self.names = [field.name for field in fields(defaults) if field.name not in but]
        keys: dict[str, Any] = {
            field.name: (hints[field.name], Field(default=getattr(defaults, field.name), **field.metadata))
            for field in fields(defaults)
            if field.name in self.names
        }
        self.section = create_model(type(defaults).__name__, __base__=Section, **keys)

    def __get_pydantic_core_schema__(self, source: type[Any], handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read a table as the section, then make an instance of the dataclass, whose own checks come last."""
        return core_schema.no_info_after_validator_function(
            lambda section: source(**dict(section)),
            handler.generate_schema(self.section),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: {name: getattr(value, name) for name in self.names}
            ),
        )


class Data(Section):
    """The folders of the cases, and their split."""

    folders: tuple[FilePath, ...] = Field((), description="A folder of cases with their truth; may be repeated.")
    phantoms: int = Field(0, ge=0, le=MOST_PHANTOMS, description="Number of phantoms to learn from as well.")
    phantoms_mr: int = Field(0, ge=0, le=MOST_PHANTOMS)
    tumours_not_drawn: tuple[str, ...] = Field(
        (), description="A case or collection whose liver label hides tumours; may be repeated."
    )
    cache: FilePath | None = Field(None, description="Folder of prepared cases; else `cache` beside the run's.")
    split: FilePath | None = Field(None, description="A split.json that says which case is for what.")
    fold: str | None = Field(None, description="K/N: the K-th of N folds is held out, as 1/5.")
    leave_out: tuple[str, ...] = Field(
        (), description="A case to measure on and not to train on, with its patient's others; may be repeated."
    )
    validation: Share = 0.1
    test: Share = 0.1

    @field_validator("fold")
    @classmethod
    def _one_of_several(cls, fold: str | None) -> str | None:
        if fold is not None:
            found = re.fullmatch(r"(\d+)/(\d+)", fold)
            if not found or not 1 <= int(found[1]) <= int(found[2]) or int(found[2]) < 2:
                raise ValueError(f'must be one of several, as "1/5", not {show_value(fold)}')
        return fold

    @model_validator(mode="after")
    def _one_split(self) -> "Data":
        given = [name for name in ("split", "fold", "leave_out") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} say two things about the same; give one of them")
        return self


class Network(Section):
    """The architecture that is trained, and its first weights."""

    model: str = Field(Recipe.architecture, description=f"One of {', '.join(ARCHITECTURE_NAMES)}.")
    backbone_weights: str = Field("none", description="none, imagenet, or a torchvision state dict.")
    initial: FilePath | None = Field(
        None, description="Go on from the weights of one of `porta models`, or of a card (.json)."
    )

    @field_validator("model")
    @classmethod
    def _known(cls, model: str) -> str:
        if model not in ARCHITECTURE_NAMES:
            raise ValueError(f"no architecture {show_value(model)}{did_you_mean(model, ARCHITECTURE_NAMES)}")
        return model


class CardWords(Section):
    """The texts of the weights' card."""

    name: Name | None = Field(None, description="Of the new weights, in their card.")
    version: Name | None = None
    licence: str | None = None


class Machine(Section):
    """Settings that may differ from run to run: they change the weights by rounding at most."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto, cpu or cuda.")
    threads: int | None = Field(None, ge=1, description="CPU threads of the network.")
    workers: int = Field(1, ge=0, description="Processes that make samples.")
    processes: int | None = Field(None, ge=1, description="Processes that prepare cases.")


class TrainSettings(Section):
    """The whole file."""

    data: Data = Data()
    network: Network = Network()
    training: Annotated[Recipe, Table(Recipe(), but=("architecture", "balance", "chances"))] = Recipe()
    balance: Annotated[Balance, Table(Balance())] = Balance()
    augmentation: Annotated[Chances, Table(Chances())] = Chances()
    preprocessing: Annotated[Preprocessing, Table(DEFAULT_PREPROCESSING)] = DEFAULT_PREPROCESSING
    card: CardWords = CardWords()
    machine: Machine = Machine()

    @property
    def recipe(self) -> Recipe:
        """The recipe for `models.training.loop`."""
        return replace(self.training, architecture=self.network.model, balance=self.balance, chances=self.augmentation)

    @property
    def identity(self) -> dict[str, Any]:
        """All values that decide which weights come out, without the data, which its hash identifies; JSON values."""
        kept = self.model_dump(mode="json", exclude={"machine": True, "data": True})
        return {f"{table}.{key}": value for table, keys in kept.items() for key, value in keys.items()}


FINETUNING = TrainSettings().model_copy(update={"training": Recipe(steps=200, learning_rate=1e-4)})
"""The defaults of `porta finetune`."""

Overrides = Mapping[tuple[str, str], Any]
"""Values by table and key; None and empty tuples are options that were not given."""


def key_field(table: str, key: str) -> FieldInfo:
    """Return the type, bounds and description of a key."""
    field = TrainSettings.model_fields[table]
    section: Any = next((mark.section for mark in field.metadata if isinstance(mark, Table)), field.annotation)
    found: FieldInfo = section.model_fields[key]
    return found


def load_settings(
    path: Path | None,
    overrides: Overrides = {},  # noqa: B006
    defaults: TrainSettings = TrainSettings(),  # noqa: B008
) -> TrainSettings:
    """The defaults, over them the file at `path`, over it `overrides`. Raises ConfigurationError with all faults."""
    settings = defaults
    if path is not None:
        try:
            settings = parse_document(path.read_bytes(), TrainSettings, str(path))
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
