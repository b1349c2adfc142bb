"""Weights from and to safetensors, checked against their card. Loading runs no code of the file."""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file
from torch import nn

from models.architectures.registry import ARCHITECTURES
from models.cards import Card
from models.errors import UnknownModel, WeightsCorrupt

__all__ = ["ARCHITECTURES", "load_network", "save_network"]


def load_network(card: Card) -> nn.Module:
    """The network of a card, in float32 and evaluation mode, on the CPU.

    Raises WeightsCorrupt when the file's sha256 is not the card's or its layers do not fit, UnknownModel when
    the card names an architecture that is not here.
    """
    if card.architecture not in ARCHITECTURES:
        raise UnknownModel(f"model {card.name!r} names an unknown architecture {card.architecture!r}")
    try:
        content = card.weights.read_bytes()
    except OSError as error:
        raise WeightsCorrupt(f"{card.weights.name}: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != card.sha256:
        raise WeightsCorrupt(f"{card.weights.name} does not have the sha256 of its card")
    network = ARCHITECTURES[card.architecture]()
    try:
        network.load_state_dict({name: _widened(tensor) for name, tensor in load_tensors(content).items()})
    except (RuntimeError, SafetensorError) as error:
        raise WeightsCorrupt(f"{card.weights.name} does not hold the layers of {card.architecture}") from error
    return network.eval()


def save_network(network: nn.Module, path: Path) -> str:
    """Write the weights in half precision and return the file's sha256."""
    halved = {
        name: tensor.detach().to(torch.float16 if tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in network.state_dict().items()
    }
    save_file(halved, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
