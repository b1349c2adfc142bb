"""Forward passes: a network on its device, in batches that fit its memory, and what is done where they do not.

A batch that finds no memory is halved, down to a single slice; a slice that finds none on a GPU is computed on the CPU,
and so is the rest of that pass. A device that fails altogether is `DeviceLost`: its process cannot use it any more.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

import torch
from torch import Tensor, nn

from dicom_io.segmentation import Algorithm
from models.cards import Card
from models.errors import CompilationFailed, DeviceLost, DeviceUnavailable
from models.weights import load_network

CLASSES = 3
"""Background, liver, tumour."""
BATCH_PIXELS = 16 * 128 * 128
"""Pixels of a batch: bounds memory whatever the image size."""
WARMED_SHAPES = ((2, 3, 160, 128), (3, 3, 128, 160))
"""What a compiled network is shown when it is loaded: two shapes, lest the first be taken for the only one."""
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""What a container may use of the processors (cgroup v2): microseconds, or "max", and of how many."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Shortage:
    """A batch of `batch` slices found no memory on `device` ("cpu", "cuda"): fewer are tried, or another device."""

    device: str
    batch: int


def _untold(shortage: Shortage) -> None:
    """Nobody asked."""


@dataclass(frozen=True, eq=False)
class Model:
    """A network for its device, with its card. `forward`: the network, compiled where that was asked for.

    `notice` is told each time that memory does not suffice.
    """

    network: nn.Module
    card: Card
    device: torch.device
    forward: Callable[[Tensor], Tensor] | None = None
    notice: Callable[[Shortage], None] = field(default=_untold)

    @property
    def algorithm(self) -> Algorithm:
        """What a Segmentation says of who made it."""
        card = self.card
        return Algorithm(card.name, card.version, card.sha256, card.modalities, card.trained_on)


def load_model(
    card: Card,
    *,
    device: str = "auto",
    threads: int | None = None,
    compiled: bool = False,
    notice: Callable[[Shortage], None] = _untold,
) -> Model:
    """The network of a card, ready on `device` ("auto", "cpu", "cuda"), its batch norms folded into its convolutions.

    `threads` of the CPU: as many as this process may use where none is given. `compiled`: by torch.compile, which takes
    minutes, and is done here. Raises DeviceUnavailable, CompilationFailed, and what `load_network` raises.
    """
    torch.set_num_threads(threads or usable_cores())
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    place = _device(device)
    network = without_batch_norms(load_network(card))
    network = network.to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Model(network, card, place, _compiled(network, place) if compiled else None, notice)


def usable_cores(quota: Path = CPU_QUOTA) -> int:
    """How many processors this process may use: by its affinity, and by the share that its container has of them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        allowed, period = quota.read_text().split()
        return max(1, min(cores, ceil(int(allowed) / int(period))))
    except (OSError, ValueError):  # no such group, or "max": no limit
        return cores


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceUnavailable(f"no device {name!r}: auto, cpu or cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise DeviceUnavailable(f"no device {name!r}: auto, cpu or cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DeviceUnavailable("CUDA was asked for and is not available")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceUnavailable(f"no device {name!r}: there are {torch.cuda.device_count()} of CUDA")
    return device


def without_batch_norms(network: nn.Module) -> nn.Module:
    """The same function with each batch norm folded into the convolution before it; `network` itself is changed.

    They follow one another in the order of their module, in every architecture here. In evaluation mode a batch norm
    is a factor and a summand for each channel: nothing is lost but the reading and writing of every map.
    """
    before = ""
    for name, child in network.named_children():
        convolution = getattr(network, before) if before else None
        if isinstance(child, nn.BatchNorm2d) and isinstance(convolution, nn.Conv2d):
            setattr(network, before, nn.utils.fusion.fuse_conv_bn_eval(convolution, child))
            setattr(network, name, nn.Identity())
        else:
            without_batch_norms(child)
        before = name
    return network


def _compiled(network: nn.Module, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The network by torch.compile, for batches of any shape. Raises CompilationFailed."""
    forward: Callable[[Tensor], Tensor] = torch.compile(network, dynamic=True, options={"freezing": True})
    try:
        for shape in WARMED_SHAPES:
            _logits(forward, torch.zeros(shape), device)
    except (RuntimeError, OSError) as error:  # of these kinds are the errors of its compilers, and of a missing one
        raise CompilationFailed(f"torch.compile does not work here ({type(error).__name__})") from error
    return forward


def computes_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is quicker than float32 there: on CUDA, and on processors with instructions for it."""
    if device.type != "cpu":
        return True
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch we allow
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def batch_size(rows: int, columns: int) -> int:
    """How many slices of this size are shown to the network at a time."""
    return max(1, BATCH_PIXELS // (rows * columns))


def placed(model: Model) -> torch.device:
    """Where the network is now: on its device, or on the CPU while its weights find no room there."""
    try:
        model.network.to(model.device)
        return model.device
    except RuntimeError as error:
        _raise_unless_short(error)
    model.notice(Shortage(model.device.type, 0))
    model.network.to("cpu")
    return torch.device("cpu")


def predict(model: Model, shown: Callable[[slice], Tensor], shape: tuple[int, int, int], progress: Progress) -> Tensor:
    """(slice, class, row, column) float16 on the CPU: the probabilities for `shape` (slices, rows, columns).

    `shown` gives the images (N, 3, row, column) of some of the slices. Raises MemoryError where a single slice finds no
    memory on the CPU, DeviceLost.
    """
    slices, rows, columns = shape
    results = torch.empty(slices, CLASSES, rows, columns, dtype=torch.float16)
    size, device, start = batch_size(rows, columns), placed(model), 0
    with torch.inference_mode():
        while start < slices:
            at = slice(start, min(start + size, slices))
            try:
                forward = model.forward if model.forward and device == model.device else model.network
                results[at] = _logits(forward, shown(at), device).softmax(dim=1).to("cpu", torch.float16)
            except (RuntimeError, MemoryError) as error:
                _raise_unless_short(error)
                short = Shortage(device.type, at.stop - at.start)
            else:
                start = at.stop
                progress(start, slices)
                continue
            # Out of the handler, whose traceback holds what the batch had got already
            model.notice(short)
            if device.type == "cuda":
                torch.cuda.empty_cache()
            if short.batch > 1:
                size = short.batch // 2
            elif device.type != "cpu":
                model.network.to("cpu")
                size, device = batch_size(rows, columns), torch.device("cpu")
            else:
                raise MemoryError("a single slice finds no memory")
    return results


def _logits(forward: Callable[[Tensor], Tensor], images: Tensor, device: torch.device) -> Tensor:
    """float32 on the device."""
    if device.type == "cuda":
        images = images.pin_memory()
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=computes_bfloat16(device)):
        batch = images.to(device, memory_format=torch.channels_last, non_blocking=True)
        return forward(batch).float()


def _raise_unless_short(error: Exception) -> None:
    """Return where an error says that memory did not suffice; else raise it, or DeviceLost where it says that."""
    said = str(error).lower()
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in said for words in SHORT_OF_MEMORY):
        return
    if isinstance(error, torch.AcceleratorError) or "cuda error" in said or "cudnn error" in said:
        raise DeviceLost("the GPU failed") from error
    raise error


SHORT_OF_MEMORY = ("out of memory", "can't allocate memory", "bad_alloc", "alloc_failed", "could not create a")
"""How torch's CPU allocator, C++, cuBLAS and oneDNN say it: the last has no other word for a buffer that it lacks."""
