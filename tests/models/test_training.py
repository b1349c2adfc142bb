"""Training: it learns, a stopped run goes on as if it had not been, and the schedule rises and falls."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.cards import Preprocessing
from models.dataset import Case
from models.training import Recipe, schedule, train
from models.weights import ARCHITECTURES


class Stopped(Exception):
    """Stands for the power cut."""


class Small(nn.Module):
    """A network of two layers, with batch norm: all that the loop of training touches, without the waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, row, column) to logits of the same shape."""
        logits: Tensor = self.layers(x)
        return logits


@pytest.fixture(autouse=True)
def _small_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes here name the architecture "small"."""
    monkeypatch.setitem(ARCHITECTURES, "small", Small)


def test_loss_falls_on_an_easy_case(image_equal_to_label: Case, how: Preprocessing, tmp_path: Path) -> None:
    """A liver that stands out by its values is learned in a few steps."""
    losses: list[float] = []
    left: list[float] = []

    def report(step: int, loss: float, seconds_left: float) -> None:
        assert step == len(losses) + 1
        losses.append(loss)
        left.append(seconds_left)

    recipe = Recipe("small", steps=30, batch=4, pixels=32, learning_rate=2e-2)
    network = train([image_equal_to_label], [], how, recipe, checkpoint=tmp_path / "checkpoint.pt", report=report)
    assert len(losses) == 30
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])
    assert not network.training
    assert left[-1] == 0 < left[0]


def test_stopped_run_goes_on_as_if_it_had_not_been(tiny_case: Case, how: Preprocessing, tmp_path: Path) -> None:
    """Killed between two checkpoints and started again, it ends with exactly the weights of an unbroken run."""
    recipe = Recipe("small", steps=7, batch=2, pixels=32, checkpoint_steps=3)
    seen: list[int] = []

    def stop_at_5(step: int, loss: float, seconds_left: float) -> None:
        if step == 5:
            raise Stopped

    def note(step: int, loss: float, seconds_left: float) -> None:
        seen.append(step)

    whole = train([tiny_case], [], how, recipe, checkpoint=tmp_path / "whole.pt", report=note)
    with pytest.raises(Stopped):
        train([tiny_case], [], how, recipe, checkpoint=tmp_path / "broken.pt", report=stop_at_5)
    assert torch.load(tmp_path / "broken.pt", weights_only=True)["step"] == 3
    resumed = train([tiny_case], [], how, recipe, checkpoint=tmp_path / "broken.pt", report=note)
    assert seen == [*range(1, 8), *range(4, 8)]
    for (name, tensor), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(tensor, other), name
    assert not list(tmp_path.glob("*.part"))


def test_finished_run_is_not_run_again(tiny_case: Case, how: Preprocessing, tmp_path: Path) -> None:
    """From its last checkpoint come the same weights without a step."""
    recipe = Recipe("small", steps=1, batch=2, pixels=32)
    path = tmp_path / "checkpoint.pt"
    steps: list[int] = []
    first = train([tiny_case], [], how, recipe, checkpoint=path, report=lambda step, loss, left: steps.append(step))
    again = train([tiny_case], [], how, recipe, checkpoint=path, report=lambda step, loss, left: steps.append(step))
    assert steps == [1]
    assert all(torch.equal(one, two) for one, two in zip(first.parameters(), again.parameters(), strict=True))


def test_rate_rises_and_falls_to_nothing() -> None:
    """Warm-up over a twentieth of the steps, then a cosine."""
    rates = [schedule(step, 200) for step in range(200)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == max(rates) == 1
    assert all(later <= earlier for earlier, later in zip(rates[10:], rates[11:], strict=False))
    assert rates[105] == pytest.approx(0.5)
    assert 0 <= rates[-1] < 0.001
