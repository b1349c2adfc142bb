"""torchvision's encoders: imported in this one place, with random weights, ImageNet's, or those of a file.

Beside a CPU-only torch the registry's torchvision (built for CUDA) cannot load its compiled ops, and importing it
stops at `operator torchvision::nms does not exist`. Nothing here uses those ops: declaring their schemas is enough.

Importing torchvision also imports torch's compiler, for one question about a layer that nothing here uses. It is not
imported before somebody compiles: it would take two seconds and 70 MiB of every process that has a network.

Weights of a backbone are never needed: they shorten a training where the machine can load them.
"""

import pickle
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from types import ModuleType
from typing import Literal, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from models.errors import ModelError, WeightsCorrupt

COMPILER = "torch._dynamo"


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Answer torchvision's question for torch's compiler, where that is not imported yet; afterwards it can be."""
    if COMPILER in sys.modules:
        yield
        return
    stand_ins = {name: ModuleType(name) for name in (COMPILER, f"{COMPILER}.utils")}
    stand_ins[f"{COMPILER}.utils"].__dict__["is_compile_supported"] = lambda device: False
    sys.modules |= stand_ins
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]


with _without_compiler():
    try:
        from torchvision import models as vision
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for op in ("nms", "qnms"):
            torch.library.define(f"torchvision::{op}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        from torchvision import models as vision

BackboneWeights = Literal["none", "imagenet"] | Path
"""Random, the ones that torchvision fetches, or a file: a torchvision state dict, .pth or .safetensors."""

_UNREADABLE = (OSError, RuntimeError, EOFError, HTTPException, pickle.UnpicklingError, SafetensorError)


class ResNetStages(NamedTuple):
    """A ResNet cut where a decoder takes its maps: stride 2, then 4 after `pool`, and the four layers."""

    stem: nn.Sequential  # (N, 64, row/2, column/2)
    pool: nn.Module  # (N, 64, row/4, column/4)
    layers: nn.ModuleList  # (N, 256, 512, 1024, 2048), the first at stride 4, the last at the output stride


def resnet(
    depth: Literal[50, 101], weights: BackboneWeights, *, output_stride: Literal[8, 16, 32] = 32
) -> ResNetStages:
    """A ResNet (He et al., CVPR 2016) without its classifier.

    Below an output stride of 32 the last layers are dilated instead of strided (Chen et al., arXiv:1706.05587, §3.1),
    which leaves their weights as they are. Raises what `_load` raises.
    """
    name = f"resnet{depth}"
    dilated = [False, output_stride < 16, output_stride < 32]
    network = vision.get_model(name, weights=None, replace_stride_with_dilation=dilated)
    network.fc = nn.Identity()
    _load(network, name, weights)
    return ResNetStages(
        nn.Sequential(network.conv1, network.bn1, network.relu),
        network.maxpool,
        nn.ModuleList([network.layer1, network.layer2, network.layer3, network.layer4]),
    )


def vgg16(weights: BackboneWeights) -> nn.ModuleList:
    """The five blocks of VGG-16 (configuration D of Simonyan & Zisserman, ICLR 2015) with batch norm.

    Channels 64, 128, 256, 512, 512. The 2x2 pooling between them is left to the caller, who takes maps before or
    after it. The classifier, 124 of 138 million parameters, is never made. Raises what `_load` raises.
    """
    layers = vision.vgg.make_layers(vision.vgg.cfgs["D"], batch_norm=True)
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.constant_(layer.get_parameter("bias"), 0)
    _load(nn.ModuleDict({"features": layers}), "vgg16_bn", weights)
    blocks: list[list[nn.Module]] = [[]]
    for layer in layers:
        if isinstance(layer, nn.MaxPool2d):
            blocks.append([])
        else:
            blocks[-1].append(layer)
    return nn.ModuleList(nn.Sequential(*block) for block in blocks if block)


def _load(network: nn.Module, name: str, weights: BackboneWeights) -> None:
    """Put `weights` into torchvision's network `name`, whose classifier was taken off.

    Raises ModelError when ImageNet's cannot be fetched, WeightsCorrupt when a file cannot be read or is of another
    network: the first layers that do not fit are named.
    """
    if weights == "none":
        return
    given, source = (_read(weights), weights.name) if isinstance(weights, Path) else (_fetch(name), "ImageNet")
    expected = network.state_dict()
    # Files from before torch 0.4.1 lack the count of batches, which nothing here reads.
    faults = [f"{key} is missing" for key in expected.keys() - given.keys() if not key.endswith("num_batches_tracked")]
    faults += [
        f"{key} is unknown" for key in given.keys() - expected.keys() if not key.startswith(("fc.", "classifier."))
    ]
    faults += [
        f"{key} is {tuple(given[key].shape)}, not {tuple(expected[key].shape)}"
        for key in given.keys() & expected.keys()
        if given[key].shape != expected[key].shape
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise WeightsCorrupt(f"{source}: not the layers of torchvision's {name}: {'; '.join(sorted(faults)[:3])}{more}")
    network.load_state_dict({key: given[key] for key in expected.keys() & given.keys()}, strict=False)


def _read(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a file. Reading them runs no code of the file."""
    try:
        given = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsCorrupt(f"{path.name}: No such file or directory") from error
    except _UNREADABLE as error:
        raise WeightsCorrupt(f"{path.name}: neither a state dict nor safetensors ({type(error).__name__})") from error
    if not isinstance(given, Mapping) or not all(
        isinstance(key, str) and isinstance(tensor, Tensor) for key, tensor in given.items()
    ):
        raise WeightsCorrupt(f"{path.name}: holds more than a state dict, or something else")
    return given


def _fetch(name: str) -> Mapping[str, Tensor]:
    """ImageNet's weights from torchvision's cache or its site.

    V1 is what torchvision's own segmentation networks begin with: V2's recipe buys accuracy on ImageNet with label
    smoothing and mixing, which transfers worse (Kornblith et al., NeurIPS 2021).
    """
    try:
        weights = vision.get_model_weights(name)["IMAGENET1K_V1"]
        state: Mapping[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except _UNREADABLE as error:
        raise ModelError(
            f"ImageNet weights of {name} could not be fetched ({type(error).__name__}): "
            "name a torchvision state dict instead, or train without"
        ) from error
    return state
