"""Training: it learns, a stopped run goes on as if it had not been, and the schedule rises and falls."""

from pathlib import Path

import pytest
import torch

from models.cards import Preprocessing
from models.dataset import Case
from models.training import Recipe, schedule, train


class Stopped(Exception):
    """Stands for the power cut."""


def test_loss_falls_on_an_easy_case(image_equal_to_label: Case, how: Preprocessing, tmp_path: Path) -> None:
    """A liver that stands out: a dozen steps on small samples are enough to see it."""
    losses: list[float] = []
    left: list[float] = []

    def report(step: int, loss: float, seconds_left: float) -> None:
        assert step == len(losses) + 1
        losses.append(loss)
        left.append(seconds_left)

    recipe = Recipe(steps=12, batch=4, pixels=32, learning_rate=2e-3)
    network = train([image_equal_to_label], [], how, recipe, checkpoint=tmp_path / "checkpoint.pt", report=report)
    assert len(losses) == 12
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])
    assert not network.training
    assert left[-1] == 0 < left[0]


def test_stopped_run_goes_on_as_if_it_had_not_been(tiny_case: Case, how: Preprocessing, tmp_path: Path) -> None:
    """Killed between two checkpoints and started again, it ends with exactly the weights of an unbroken run."""
    recipe = Recipe(steps=4, batch=2, pixels=32, checkpoint_steps=2)
    seen: list[int] = []

    def stop_at_3(step: int, loss: float, seconds_left: float) -> None:
        if step == 3:
            raise Stopped

    def note(step: int, loss: float, seconds_left: float) -> None:
        seen.append(step)

    whole = train([tiny_case], [], how, recipe, checkpoint=tmp_path / "whole.pt", report=note)
    with pytest.raises(Stopped):
        train([tiny_case], [], how, recipe, checkpoint=tmp_path / "broken.pt", report=stop_at_3)
    assert torch.load(tmp_path / "broken.pt", weights_only=True)["step"] == 2
    resumed = train([tiny_case], [], how, recipe, checkpoint=tmp_path / "broken.pt", report=note)
    assert seen == [1, 2, 3, 4, 3, 4]
    for (name, tensor), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(tensor, other), name
    assert not list(tmp_path.glob("*.part"))


def test_finished_run_is_not_run_again(tiny_case: Case, how: Preprocessing, tmp_path: Path) -> None:
    """From its last checkpoint come the same weights without a step."""
    recipe = Recipe(steps=1, batch=2, pixels=32)
    path = tmp_path / "checkpoint.pt"
    steps: list[int] = []
    first = train([tiny_case], [], how, recipe, checkpoint=path, report=lambda step, loss, left: steps.append(step))
    again = train([tiny_case], [], how, recipe, checkpoint=path, report=lambda step, loss, left: steps.append(step))
    assert steps == [1]
    assert torch.equal(first.state_dict()["decoder.head.weight"], again.state_dict()["decoder.head.weight"])


def test_rate_rises_and_falls_to_nothing() -> None:
    """Warm-up over a twentieth of the steps, then a cosine."""
    rates = [schedule(step, 200) for step in range(200)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == max(rates) == 1
    assert all(later <= earlier for earlier, later in zip(rates[10:], rates[11:], strict=False))
    assert rates[105] == pytest.approx(0.5)
    assert 0 <= rates[-1] < 0.001
