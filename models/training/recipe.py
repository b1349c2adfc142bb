"""How a network is trained: values alone, with the defaults that `deploy/train.toml` shows. Imports no torch.

Fields with `_key` are keys of that file, and some are options of commands: their bounds and help stand here alone.
"""

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from models.cards import Preprocessing

Schedule = Literal["cosine", "poly"]

DEFAULT_PREPROCESSING = Preprocessing(
    coarse_spacing_mm=3.0,
    fine_spacing_mm=1.5,
    coarse_step_mm=4.0,
    fine_step_mm=2.0,
    neighbour_mm=4.0,
    window_hu=(-160.0, 240.0),
)


def _key(default: Any, description: str, **bounds: float) -> Any:
    """A field whose values lie within `bounds` (ge, gt, le, lt), under the names that pydantic has for them."""
    return field(default=default, metadata={"description": description, **bounds})


def _share(default: float, description: str) -> Any:
    return _key(default, description, ge=0, le=1)


@dataclass(frozen=True)
class Balance:
    """The shares of samples that are drawn by kind; the rest is drawn evenly from all there is."""

    real: float = _share(0.6, "Samples of real cases, where there are phantoms too.")
    fine: float = _share(0.45, "Samples at the resolution of the fine pass, about the liver but for `beyond`.")
    beyond: float = _share(0.0, "Of the fine samples: anywhere in the body.")
    tumour: float = _share(0.35, "Slices with a tumour, where the case has any.")
    liver: float = _share(0.75, "Slices with liver, of the coarse samples.")

    def __post_init__(self) -> None:
        _check_bounds(self)


@dataclass(frozen=True)
class Chances:
    """The chance of each change in `models.training.augmentation`; 0 switches it off."""

    shape: float = _share(1.0, "Turned, scaled, sheared, bent.")
    phase: float = _share(0.0, "A portal phase made arterial, native or of equilibrium.")
    enhancement: float = _share(0.7, "Another contrast phase: liver, vessels and soft tissue apart.")
    effusion: float = _share(0.0, "Fluid and collapsed lung where there is lung.")
    lesion: float = _share(0.35, "Lesions put into the liver.")
    remap: float = _share(0.0, "HU through a random curve, as if of MR.")
    gain: float = _share(0.0, "Brightness of an MR, up to twice or half, about the window's lower end.")
    contrast: float = _share(0.7, "Gain about soft tissue; and, apart from it, a shift of all HU.")
    gamma: float = _share(0.2, "Brightness through a random power.")
    noise: float = _share(0.35, "Coarse grain, and again fine grain.")
    sharpness: float = _share(0.45, "Softer or sharper, as another kernel.")
    low_resolution: float = _share(0.15, "Fewer pixels, enlarged again.")
    field_of_view: float = _share(0.15, "Air outside a circle.")

    def __post_init__(self) -> None:
        _check_bounds(self)


@dataclass(frozen=True)
class Recipe:
    """All values that decide which weights come out, apart from the data and the preprocessing."""

    architecture: str = "resnet50"
    steps: int = _key(1000, "Steps of the training.", ge=1)
    batch: int = _key(12, "Samples a step, of all processes together.", ge=1)
    pixels: int = _key(128, "Rows and columns of a sample.", ge=32, le=1024)
    learning_rate: float = _key(6e-4, "AdamW's, at its peak.", gt=0)
    weight_decay: float = _key(1e-2, "AdamW's.", ge=0)
    schedule: Schedule = _key("cosine", "cosine or poly: how the rate falls to nothing after the warm-up.")
    warm_up: float = _share(0.05, "Share of the steps in which the rate rises.")
    average: float = _key(0.99, "Share that the moving average of the weights keeps at each step.", ge=0, lt=1)
    epoch: int = _key(100, "Steps from one validation to the next.", ge=1)
    validation_slices: int = _key(12, "Samples of each validation case.", ge=1)
    checkpoint: int = _key(50, "Steps from one checkpoint to the next.", ge=1)
    seed: int = _key(0, "Of weights, samples and splits.", ge=0)
    freeze_encoder: bool = _key(False, "The backbone stays as it is, its batch-norm statistics too.")
    balance: Balance = field(default_factory=Balance)
    chances: Chances = field(default_factory=Chances)

    def __post_init__(self) -> None:
        _check_bounds(self)


def _check_bounds(recipe: Balance | Chances | Recipe) -> None:
    """Raise ValueError for a value beyond its field's bounds."""
    for key in fields(recipe):
        value, bounds = getattr(recipe, key.name), key.metadata
        if not (
            ("ge" not in bounds or value >= bounds["ge"])
            and ("gt" not in bounds or value > bounds["gt"])
            and ("le" not in bounds or value <= bounds["le"])
            and ("lt" not in bounds or value < bounds["lt"])
        ):
            wanted = ", ".join(f"{name} {bounds[name]}" for name in ("ge", "gt", "le", "lt") if name in bounds)
            raise ValueError(f"{key.name} must be {wanted}, not {value}")
