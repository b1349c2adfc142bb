"""How a network is trained: values alone, with the defaults that `deploy/train.toml` shows. Imports no torch."""

from dataclasses import dataclass, field
from typing import Literal

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


@dataclass(frozen=True)
class Balance:
    """How often what is drawn; the rest of each share is drawn evenly from all there is.

    `real`: samples of real cases, where there are phantoms too. `fine`: samples at the resolution of the fine pass, all
    of them about the liver but for `beyond`, which lie anywhere in the body. `tumour`: slices with a tumour, where a
    case has any. `liver`: slices with liver, of the coarse ones.
    """

    real: float = 0.6
    fine: float = 0.45
    beyond: float = 0.0
    tumour: float = 0.35
    liver: float = 0.75

    def __post_init__(self) -> None:
        _check_shares(vars(self))


@dataclass(frozen=True)
class Chances:
    """How often each change of `models.training.augmentation` is made; 0 switches it off."""

    shape: float = 1.0
    phase: float = 0.0
    enhancement: float = 0.7
    effusion: float = 0.0
    lesion: float = 0.35
    remap: float = 0.0
    contrast: float = 0.7
    gamma: float = 0.2
    noise: float = 0.35
    sharpness: float = 0.45
    low_resolution: float = 0.15
    field_of_view: float = 0.15

    def __post_init__(self) -> None:
        _check_shares(vars(self))


@dataclass(frozen=True)
class Recipe:
    """All that decides which weights come out, beside the data and the preprocessing.

    `batch`: samples a step, of all processes together. `pixels`: rows and columns of a sample. `warm_up`: the share of
    the steps in which the learning rate rises to `learning_rate`; then it falls by `schedule` to nothing. `average`:
    what the moving average of the weights keeps at each step. `epoch`: steps between two validations, each of
    `validation_slices` samples a case. `checkpoint`: steps between two checkpoints. `freeze_encoder`: the backbone
    stays as it is, its batch-norm statistics too.
    """

    architecture: str = "resnet50"
    steps: int = 1000
    batch: int = 12
    pixels: int = 128
    learning_rate: float = 6e-4
    weight_decay: float = 1e-2
    schedule: Schedule = "cosine"
    warm_up: float = 0.05
    average: float = 0.99
    epoch: int = 100
    validation_slices: int = 12
    checkpoint: int = 50
    seed: int = 0
    freeze_encoder: bool = False
    balance: Balance = field(default_factory=Balance)
    chances: Chances = field(default_factory=Chances)

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.epoch, self.validation_slices, self.checkpoint) < 1:
            raise ValueError("steps, batch, epoch, validation_slices and checkpoint are at least 1")


def _check_shares(shares: dict[str, float]) -> None:
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"{name} lies between 0 and 1")
