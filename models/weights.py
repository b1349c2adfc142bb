"""Weights from and to safetensors, checked against their card. Loading runs no code of the file."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file
from torch import nn

from models.architectures.registry import ARCHITECTURES
from models.cards import Card, sha256_of
from models.errors import UnknownModel, WeightsCorrupt

__all__ = ["ARCHITECTURES", "load_network", "save_network", "verify"]

SHOWN_LAYERS = 2
"""So many of the layers that do not fit are named."""


def load_network(card: Card) -> nn.Module:
    """The network of a card, in float32 and evaluation mode, on the CPU.

    Raises WeightsCorrupt when the file's sha256 is not the card's or its layers do not fit, UnknownModel when
    the card names an architecture that is not here.
    """
    make = _architecture(card)
    try:
        content = card.weights.read_bytes()
    except OSError as error:
        raise WeightsCorrupt(f"{card.weights}: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != card.sha256:
        raise WeightsCorrupt(f"{card.weights}: does not have the sha256 of its card")
    network = make()
    try:
        network.load_state_dict({name: _widened(tensor) for name, tensor in load_tensors(content).items()})
    except (RuntimeError, SafetensorError) as error:
        raise WeightsCorrupt(f"{card.weights}: does not hold the layers of {card.architecture}") from error
    return network.eval()


def verify(card: Card) -> None:
    """Raise what `load_network` would, without making the network or holding its weights in memory.

    The message names the file and what of it is wrong.
    """
    make = _architecture(card)
    with _openable(card):
        sha256 = sha256_of(card.weights)
    found: dict[str, list[int]] = {}
    try:
        with _openable(card), safe_open(card.weights, framework="pt") as file:
            found = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise WeightsCorrupt(f"{card.weights}: is no safetensors file, or is cut short") from error
    if sha256 != card.sha256:
        raise WeightsCorrupt(f"{card.weights}: does not have the sha256 of its card {card.path.name}")
    with torch.device("meta"):  # shapes alone: nothing is drawn
        wanted = {name: list(tensor.shape) for name, tensor in make().state_dict().items()}
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if wrong:
        more = f" and {len(wrong) - SHOWN_LAYERS} more" if len(wrong) > SHOWN_LAYERS else ""
        layers = ", ".join(wrong[:SHOWN_LAYERS]) + more
        raise WeightsCorrupt(f"{card.weights}: does not hold the layers of {card.architecture}: {layers}")


def _architecture(card: Card) -> type[nn.Module]:
    if card.architecture not in ARCHITECTURES:
        there = ", ".join(ARCHITECTURES)
        raise UnknownModel(f"{card.path}: architecture: no {card.architecture!r}; there are {there}")
    return ARCHITECTURES[card.architecture]


@contextmanager
def _openable(card: Card) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WeightsCorrupt(f"{card.weights}: {error.strerror or 'cannot be read'}") from error


def save_network(network: nn.Module, path: Path) -> str:
    """Write the weights in half precision and return the file's sha256."""
    halved = {
        name: tensor.detach().to(torch.float16 if tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in network.state_dict().items()
    }
    save_file(halved, path)
    return sha256_of(path)


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
