"""Forward passes: a network on its device, in batches that fit its memory, and what is done where they do not.

A batch that finds no memory is halved, down to a single slice; a slice that finds none on a GPU is computed on the CPU,
and so is the rest of that pass. A device that fails altogether is `DeviceLost`: its process cannot use it any more.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor, nn

from dicom_io.progress import Progress, ignore_progress
from dicom_io.segmentation import Algorithm
from models.cards import Card
from models.errors import CompilationFailed, DeviceLost, DeviceUnavailable
from models.weights import load_network

CHANNELS, CLASSES = 3, 3
"""Neighbouring slices that go in; background, liver, tumour that come out."""
ABDOMEN_MM, STRIDE = 384.0, 32
"""The side of a usual field of view, and the number that rows and columns of an encoder's images are multiples of."""
BATCH_PIXELS = 16 * 128 * 128
"""Pixels of a batch: bounds memory whatever the image size."""
WARMED_SHAPES = ((2, 3, 160, 128), (3, 3, 128, 160), (1, 3, 160, 128))
"""What a compiled network is shown when it is loaded: two shapes, lest the first be taken for the only one.

And a single slice, for which torch.compile makes other code.
"""
CGROUPS, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""Where the groups of cgroup v2 are, and which of them is this process's: each may have a quota of the processors."""


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
        """The entry of a Segmentation that says which model made it."""
        card = self.card
        return Algorithm(card.name, card.version, card.sha256, card.modalities, card.trained_on)


def load_model(
    card: Card,
    *,
    device: str = "auto",
    threads: int | None = None,
    sharers: int = 1,
    compiled: bool = False,
    notice: Callable[[Shortage], None] = _untold,
) -> Model:
    """The network of a card, ready on `device` ("auto", "cpu", "cuda"), its batch norms folded into its convolutions.

    `threads` of the CPU: where none is given those of torch, and no more than this process may use, divided by the
    `sharers`, processes like this one. `compiled`: by torch.compile, which takes minutes, and is done here; not where
    the network finds no memory for it. Raises DeviceUnavailable, DeviceLost, CompilationFailed, and what `load_network`
    raises.
    """
    torch.set_num_threads(threads or max(1, min(torch.get_num_threads(), usable_cores() // sharers)))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    place = named_device(device)
    network = without_batch_norms(load_network(card)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model = Model(network, card, place, notice=notice)
    if device_of(model) != place or not compiled:
        return model
    forward = _compiled(network, place)
    if forward is None:
        notice(Shortage(place.type, 0))
    return replace(model, forward=forward)


def usable_cores(groups: Path = CGROUPS, own: Path = OWN_CGROUP) -> int:
    """Return how many processors this process may use: by its affinity and the quotas of its cgroup and its parents.

    A container has one, and so has a unit of systemd with CPUQuota.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    path = PurePosixPath(".")
    with suppress(OSError):
        lines = own.read_text().splitlines()
        path = PurePosixPath(next((line[3:].lstrip("/") for line in lines if line.startswith("0::")), "."))
    for group in (path, *path.parents):
        with suppress(OSError, ValueError):  # no such file, or "max": no limit
            allowed, period = (groups / group / "cpu.max").read_text().split()
            cores = max(1, min(cores, ceil(int(allowed) / int(period))))
    return cores


def named_device(name: str) -> torch.device:
    """The device of that name, if it is on this machine. Raises DeviceUnavailable."""
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
    """Fold each batch norm into the convolution before it; `network` itself is changed.

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


def _compiled(network: nn.Module, device: torch.device) -> Callable[[Tensor], Tensor] | None:
    """The network by torch.compile, for batches of any shape; None where memory does not suffice.

    Raises CompilationFailed, DeviceLost.
    """
    forward: Callable[[Tensor], Tensor] = torch.compile(network, dynamic=True, options={"freezing": True})
    try:
        for shape in WARMED_SHAPES:
            _logits(forward, torch.zeros(shape), device)
    except (RuntimeError, OSError, MemoryError) as error:  # its compilers' errors are of these kinds, and quote others
        if _is_short(error):
            return None
        if _is_lost(error):
            raise DeviceLost("the GPU failed") from error
        raise CompilationFailed(f"torch.compile does not work here ({type(error).__name__})") from error
    return forward


def computes_bfloat16(device: torch.device) -> bool:
    """True where bfloat16 is faster than float32: on CUDA, and on processors with instructions for it."""
    if device.type != "cpu":
        return True
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch we allow
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def batch_size(rows: int, columns: int) -> int:
    """Return how many slices of this size are shown to the network at a time."""
    return max(1, BATCH_PIXELS // (rows * columns))


def device_of(model: Model) -> torch.device:
    """Return where the network is now: on its device, or on the CPU while the GPU has no room for its weights."""
    try:
        model.network.to(model.device)
        return model.device
    except RuntimeError as error:
        _raise_unless_short(error)
    model.notice(Shortage(model.device.type, 0))
    model.network.to("cpu")
    return torch.device("cpu")


def warm_up(model: Model) -> None:
    """Show the network an empty abdomen, coarse and fine: the first pass prepares what later ones of its size use.

    Raises MemoryError, DeviceLost.
    """
    how = model.card.preprocessing
    for spacing_mm in (how.coarse_spacing_mm, how.fine_spacing_mm):
        pixels = round(ABDOMEN_MM / spacing_mm / STRIDE) * STRIDE
        images = torch.zeros(batch_size(pixels, pixels), CHANNELS, pixels, pixels)
        predict(model, images.__getitem__, (len(images), pixels, pixels), ignore_progress)


def predict(model: Model, shown: Callable[[slice], Tensor], shape: tuple[int, int, int], progress: Progress) -> Tensor:
    """(slice, class, row, column) float16 on the CPU: the probabilities for `shape` (slices, rows, columns).

    `shown` gives the images (N, 3, row, column) of some of the slices. Raises MemoryError where a single slice finds no
    memory on the CPU, DeviceLost.
    """
    slices, rows, columns = shape
    results = torch.empty(slices, CLASSES, rows, columns, dtype=torch.float16)
    size, device, start = batch_size(rows, columns), device_of(model), 0
    with torch.inference_mode():
        while start < slices:
            at = slice(start, min(start + size, slices))
            try:
                # What torch.compile gives has no truth of its own
                forward = model.network if model.forward is None or device != model.device else model.forward
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


@contextmanager
def translate_torch_errors() -> Iterator[None]:
    """Raise MemoryError where memory does not suffice and DeviceLost where the GPU fails, for what torch raises."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        _raise_unless_short(error)
        raise MemoryError("a network finds no memory") from error


def _raise_unless_short(error: Exception) -> None:
    """Return where an error says that memory did not suffice; else raise it, or DeviceLost where it says that."""
    if _is_short(error):
        return
    if _is_lost(error):
        raise DeviceLost("the GPU failed") from error
    raise error


def _is_short(error: Exception) -> bool:
    said = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in said for words in SHORT_OF_MEMORY)


def _is_lost(error: Exception) -> bool:
    said = str(error).lower()
    return isinstance(error, torch.AcceleratorError) or "cuda error" in said or "cudnn error" in said


SHORT_OF_MEMORY = ("out of memory", "can't allocate memory", "bad_alloc", "alloc_failed", "could not create a")
"""How torch's CPU allocator, C++, cuBLAS and oneDNN say it: the last has no other word for a buffer that it lacks."""
