"""The networks: sizes in and out, gradients, the size of the file, and the import of torchvision."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from models.architectures.resnet50 import ResNet50Segmenter

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def network() -> ResNet50Segmenter:
    """A ResNet-50 with random weights."""
    torch.manual_seed(0)
    return ResNet50Segmenter()


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 40), (65, 127)])
def test_logits_lie_on_the_grid_of_the_input(network: ResNet50Segmenter, size: tuple[int, int]) -> None:
    """Whatever the rows and columns, from 32 on, there are three finite logits a pixel."""
    with torch.inference_mode():
        logits = network.eval()(torch.randn(2, 3, *size))
    assert logits.shape == (2, 3, *size)
    assert bool(torch.isfinite(logits).all())


def test_answer_depends_on_every_channel(network: ResNet50Segmenter) -> None:
    """The slices above and below reach the logits, not the middle one alone."""
    image = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        whole = network.eval()(image)
        for channel in range(3):
            without = image.clone()
            without[:, channel] = 0
            assert not torch.allclose(network(without), whole)


def test_gradients_reach_every_parameter(network: ResNet50Segmenter) -> None:
    """No layer is cut off from the loss."""
    network.train().zero_grad()
    logits = network(torch.randn(2, 3, 64, 64))
    F.cross_entropy(logits, torch.randint(0, 3, (2, 64, 64))).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert without == []


def test_weights_in_half_precision_stay_under_60_mb(network: ResNet50Segmenter) -> None:
    """Two bytes for each number leave the file smaller than what may be shipped."""
    numbers = sum(tensor.numel() for tensor in network.state_dict().values())
    assert 20e6 < 2 * numbers < 59e6


def run_python(code: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter with `paths` and the checkout to import from."""
    search = os.pathsep.join(map(str, [*paths, ROOT]))
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": search},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_torchvision_is_imported_in_a_fresh_interpreter() -> None:
    """Beside a CPU-only torch torchvision's own import stops; through the one place that imports it, it works."""
    done = run_python(
        "from models.architectures.backbones import resnet50; print(resnet50(weights=None).fc.in_features)"
    )
    assert done.stdout.strip() == "2048", done.stderr


def test_another_fault_of_torchvision_is_not_hidden(tmp_path: Path) -> None:
    """The way round the missing operators is taken for that error alone."""
    fake = tmp_path / "torchvision"
    fake.mkdir()
    (fake / "__init__.py").write_text("raise RuntimeError('the disk is on fire')")
    done = run_python("import models.architectures.backbones", tmp_path)
    assert done.returncode != 0
    assert done.stderr.strip().endswith("RuntimeError: the disk is on fire")
    assert "During handling" not in done.stderr  # it was not taken for the other, and tried again
