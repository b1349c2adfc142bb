"""Training: it learns, a stopped run goes on as if it had not been, the best is kept, the schedule rises and falls."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.architectures.registry import ARCHITECTURES, ENCODERS
from models.cards import Preprocessing
from models.errors import UnknownModel, WeightsCorrupt
from models.training.loop import Trained, Watch, fraction, make_network, train
from models.training.prepared import PreparedCase
from models.training.ranks import Rank
from models.training.recipe import Balance, Recipe
from models.training.runs import BEST, CHECKPOINT, DICES, LAST, LOSSES, Quality, RunFolder

CPU = Rank(0, 1, torch.device("cpu"))


class Stopped(Exception):
    """Stands for the power cut."""


class Small(nn.Module):
    """A network of two layers, with batch norm and dropout: all that the loop of training touches."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Conv2d(8, 3, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, row, column) to logits of the same shape."""
        logits: Tensor = self.layers(x)
        return logits


RECIPE = Recipe("small", steps=7, batch=2, pixels=32, epoch=3, checkpoint=2, validation_slices=4)


@pytest.fixture
def run(how: Preprocessing, tmp_path: Path) -> Callable[..., Trained]:
    """`run(cases, recipe, "name")` trains Small in the folder of that name."""

    def run(
        cases: list[PreparedCase], recipe: Recipe, name: str, *, validates: bool = True, workers: int = 0, **watch: Any
    ) -> Trained:
        torch.manual_seed(3)
        folder = RunFolder(tmp_path / name, {"architecture": "small"})
        folder.path.mkdir(exist_ok=True)
        return train(
            cases,
            cases if validates else [],
            how,
            recipe,
            network=Small(),
            folder=folder,
            rank=CPU,
            watch=Watch(**watch),
            workers=workers,
        )

    return run


def losses(path: Path) -> list[float]:
    """The losses of a run."""
    return [float(row.split(",")[1]) for row in (path / LOSSES).read_text().splitlines()[1:]]


def test_loss_falls_on_an_easy_case(
    image_equal_to_label: PreparedCase, run: Callable[..., Trained], tmp_path: Path
) -> None:
    """A liver that stands out by its values is learned in a few steps; the time left ends at none."""
    left: list[float] = []
    recipe = replace(RECIPE, steps=30, batch=4, learning_rate=2e-2, balance=Balance(fine=1.0))
    trained = run([image_equal_to_label], recipe, "run", step=lambda step, loss, seconds: left.append(seconds))
    values = losses(tmp_path / "run")
    assert len(values) == 30
    assert sum(values[-4:]) < 0.8 * sum(values[:4])
    assert left[-1] == 0 < left[0]
    assert trained.best is not None
    assert trained.best.liver_dice > 0.8
    assert trained.best.tumour_dice is None


@pytest.mark.parametrize("workers", [0, 2])
def test_run_that_was_cut_off_goes_on_as_if_it_had_not_been(
    tiny_case: PreparedCase, run: Callable[..., Trained], tmp_path: Path, workers: int
) -> None:
    """Cut off between two checkpoints and started again: the same curves to the byte, the same weights."""

    def cut_off(step: int, loss: float, seconds_left: float) -> None:
        if step == 5:
            raise Stopped

    run([tiny_case], RECIPE, "whole")
    with pytest.raises(Stopped):
        run([tiny_case], RECIPE, "broken", workers=workers, step=cut_off)
    assert torch.load(tmp_path / "broken" / CHECKPOINT, weights_only=True)["step"] == 4
    seen: list[int] = []
    run([tiny_case], RECIPE, "broken", workers=workers, step=lambda step, loss, left: seen.append(step))
    assert seen == [5, 6, 7]
    for name in (LOSSES, DICES, "small.safetensors", "small-last.safetensors"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert not list(tmp_path.rglob("*.part"))


def test_asked_to_stop_it_keeps_the_best_and_goes_on_later(
    tiny_case: PreparedCase, run: Callable[..., Trained], tmp_path: Path
) -> None:
    """After the step that is being made; nothing of it is lost."""
    steps: list[int] = []
    trained = run(
        [tiny_case], RECIPE, "run", step=lambda step, loss, left: steps.append(step), stop=lambda: len(steps) == 5
    )
    assert (trained.step, trained.stopped) == (5, True)
    assert trained.best is not None
    assert trained.best.step == 3
    for which in (BEST, LAST):
        assert (tmp_path / "run" / f"small{which}.safetensors").exists()
    trained = run([tiny_case], RECIPE, "run", step=lambda step, loss, left: steps.append(step))
    assert steps == [1, 2, 3, 4, 5, 6, 7]
    assert (trained.step, trained.stopped) == (7, False)
    run([tiny_case], RECIPE, "whole")
    assert (tmp_path / "run" / LOSSES).read_bytes() == (tmp_path / "whole" / LOSSES).read_bytes()


def test_finished_run_is_not_run_again(tiny_case: PreparedCase, run: Callable[..., Trained], tmp_path: Path) -> None:
    """From its last checkpoint come the same weights without a step."""
    steps: list[int] = []
    recipe = replace(RECIPE, steps=2)
    first = run([tiny_case], recipe, "run", step=lambda step, loss, left: steps.append(step))
    weights = (tmp_path / "run" / "small-last.safetensors").read_bytes()
    again = run([tiny_case], recipe, "run", step=lambda step, loss, left: steps.append(step))
    assert steps == [1, 2]
    assert again == first
    assert (tmp_path / "run" / "small-last.safetensors").read_bytes() == weights


def test_best_is_that_of_the_highest_dice(
    image_equal_to_label: PreparedCase, run: Callable[..., Trained], tmp_path: Path
) -> None:
    """Not the last, where the last is worse."""
    seen: list[Quality] = []
    recipe = replace(RECIPE, steps=12, learning_rate=5e-2, epoch=1)
    trained = run([image_equal_to_label], recipe, "run", epoch=seen.append)
    assert len(seen) == 12
    assert trained.best is not None
    assert trained.best.liver_dice == max(quality.liver_dice for quality in seen)


def test_without_validation_the_last_weights_are_the_best(
    tiny_case: PreparedCase, run: Callable[..., Trained], tmp_path: Path
) -> None:
    """There is nothing to choose by."""
    assert run([tiny_case], replace(RECIPE, steps=1), "run", validates=False).best is None
    best, last = (tmp_path / "run" / f"small{which}.safetensors" for which in (BEST, LAST))
    assert best.read_bytes() == last.read_bytes()


def test_hidden_tumours_are_not_validated(tiny_case: PreparedCase, run: Callable[..., Trained]) -> None:
    """Of a case whose tumours were not drawn nobody knows which are right."""
    trained = run([replace(tiny_case, tumours_drawn=False)], replace(RECIPE, steps=1), "run")
    assert trained.best is not None
    assert trained.best.tumour_dice is None


@pytest.mark.parametrize("schedule", ["cosine", "poly"])
def test_rate_rises_and_falls_to_nothing(schedule: Any) -> None:
    """Warm-up over a twentieth of the steps, then a cosine or a power."""
    recipe = Recipe(steps=200, schedule=schedule)
    rates = [fraction(step, recipe) for step in range(200)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == max(rates) == 1
    assert all(later <= earlier for earlier, later in zip(rates[10:], rates[11:], strict=False))
    assert rates[105] == pytest.approx(0.5 if schedule == "cosine" else 0.5**0.9)
    assert 0 <= rates[-1] < 0.01


def test_network_is_the_same_for_the_same_seed() -> None:
    """And another for another."""
    one, two, other = (make_network(Recipe("fcn_vgg16", seed=seed), "none", None) for seed in (1, 1, 2))
    first, second, third = (next(network.parameters()) for network in (one, two, other))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_weights_to_begin_from_are_checked(tmp_path: Path) -> None:
    """A backbone's file that is not there; a card of another architecture."""
    from models.cards import find

    with pytest.raises(WeightsCorrupt, match="nowhere"):
        make_network(Recipe("fcn_vgg16"), str(tmp_path / "nowhere.pth"), None)
    with pytest.raises(UnknownModel, match="resnet50, not a vgg16"):
        make_network(Recipe("vgg16"), "none", find("resnet50"))


def test_encoders_are_parts_of_their_networks() -> None:
    """The backbone of each, and never all of it."""
    assert ENCODERS.keys() == ARCHITECTURES.keys()
    for name, modules in ENCODERS.items():
        with torch.device("meta"):
            network = ARCHITECTURES[name]()
        inside = sum(
            parameter.numel() for module in modules for parameter in network.get_submodule(module).parameters()
        )
        assert 0.4 < inside / sum(parameter.numel() for parameter in network.parameters()) < 1, name


def test_frozen_encoder_stays_as_it_is(tiny_case: PreparedCase, how: Preprocessing, tmp_path: Path) -> None:
    """Weights and batch-norm statistics, in the network and in its average; the rest learns."""
    recipe = Recipe("fcn_vgg16", steps=2, batch=2, pixels=64, freeze_encoder=True)
    for freeze in (True, False):
        network = make_network(recipe, "none", None)
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        folder = RunFolder(tmp_path / str(freeze), {"architecture": "fcn_vgg16"})
        folder.path.mkdir()
        train(
            [tiny_case],
            [],
            how,
            replace(recipe, freeze_encoder=freeze),
            network=network,
            folder=folder,
            rank=CPU,
            workers=0,
        )
        state = folder.read_checkpoint()
        assert state is not None
        for kept in (state["network"], state["average"]):
            changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], kept[name])}
            assert changed == ({"head", "score_16", "score_8"} | (set() if freeze else {"blocks"}))
