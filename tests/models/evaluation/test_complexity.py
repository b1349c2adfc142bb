"""What a network costs: counted as by hand, measured in a process that knows nothing of this one."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from models.architectures.registry import ARCHITECTURES
from models.cards import Preprocessing, find
from models.errors import UnknownModel, WeightsCorrupt
from models.evaluation.complexity import complexity, count, typical_size


def by_hand(network: nn.Module, rows: int, columns: int) -> int:
    """Twice the multiplications of every convolution, from the size of what it gives."""
    total = 0

    def add(layer: nn.Module, _: object, given: torch.Tensor) -> None:
        nonlocal total
        assert isinstance(layer, nn.Conv2d)
        kernel = layer.kernel_size[0] * layer.kernel_size[1]
        total += 2 * given.numel() * kernel * layer.in_channels // layer.groups

    for layer in network.modules():
        assert not isinstance(layer, nn.Linear | nn.ConvTranspose2d), "not counted here"
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(add)
    with torch.inference_mode():
        network.eval()(torch.zeros(1, 3, rows, columns))
    return total


@pytest.mark.parametrize("name", ["resnet50", "deeplabv3plus_resnet101", "fcn_vgg16"])
def test_operations_are_those_of_the_convolutions(name: str) -> None:
    """Dilated, depthwise and strided ones; torch's counter against a count of our own."""
    parameters, flops = count(name, 64, 80)
    network = ARCHITECTURES[name]()
    assert parameters == sum(parameter.numel() for parameter in network.parameters())
    assert flops == pytest.approx(by_hand(network, 64, 80), rel=1e-3)


def test_operations_grow_with_the_pixels() -> None:
    """Four times the pixels, four times the operations, where all convolutions are padded alike."""
    _, small = count("vgg16", 64, 64)
    _, large = count("vgg16", 128, 128)
    assert large == pytest.approx(4 * small, rel=1e-6)


def test_an_unknown_architecture_is_named() -> None:
    """With those that there are."""
    with pytest.raises(UnknownModel, match="'alexnet': there are resnet50, "):
        count("alexnet", 64, 64)


def test_the_typical_size_is_250_mm(how: Preprocessing) -> None:
    """At the pixels of the card, and never less than the network takes."""
    assert typical_size(how) == (167, 167)
    assert typical_size(replace(how, fine_spacing_mm=1.0)) == (250, 250)
    assert typical_size(replace(how, fine_spacing_mm=50.0)) == (32, 32)


def test_speed_and_memory_are_measured_elsewhere() -> None:
    """What this process holds is not in the figure: it grows by half a GiB first."""
    ballast = torch.ones(2**27)
    found = complexity(find("resnet50"), threads=1, runs=1)
    assert (found.parameters, found.rows, found.cpu.threads, found.cpu.batch) == (25_458_755, 167, 1, 9)
    assert 0 < found.cpu.seconds_per_slice < 10
    assert 0 < found.cpu.cpu_seconds_per_slice < 10
    assert 300 < found.cpu.peak_memory_mb < 1300
    assert (found.cuda is not None) == torch.cuda.is_available()
    assert json.loads(json.dumps(found.to_json()))["cpu"]["precision"] in ("bfloat16", "float32")
    assert ballast.numel() == 2**27


def test_an_error_of_the_weights_comes_through(tmp_path: Path) -> None:
    """From the other process, as the error that it is."""
    missing = replace(find("resnet50"), weights=tmp_path / "missing.safetensors")
    with pytest.raises(WeightsCorrupt, match="No such file"):
        complexity(missing, threads=1, runs=1)
