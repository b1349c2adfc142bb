"""What a network costs: parameters, operations, seconds a slice and memory, each as inference uses it.

Counted and measured for one slice of a typical box of the fine pass, FIELD_MM wide at the pixels of the card, where
nearly all of the time of a volume goes. Time and memory come from a separate process for each device, so that
nothing which ran before is in them.
"""

import platform
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from models.architectures.registry import ARCHITECTURES
from models.cards import Card, Preprocessing
from models.datasets.processes import Ended, alone
from models.errors import ModelError, UnknownModel
from models.forward import Model, batch_size, computes_bfloat16, load_model
from models.preprocessing import MIN_PIXELS

FIELD_MM = 250.0
"""The side of the box around a liver that the figures are for; as in `models.memory`."""
CHANNELS = 3
RUNS = 5
"""Batches whose median is taken, after one that warms everything up."""
MIB = 2**20


@dataclass(frozen=True)
class Speed:
    """The speed of a network on one device, in a process that does nothing else.

    `seconds_per_slice` is wall-clock, `cpu_seconds_per_slice` what all threads together worked, which other processes
    disturb less. `peak_memory_mb`: the most that the process held, torch and the weights with it; on CUDA what was
    allocated of the device's memory.
    """

    device: str
    threads: int
    precision: str
    batch: int
    seconds_per_slice: float
    cpu_seconds_per_slice: float
    peak_memory_mb: float


@dataclass(frozen=True)
class Complexity:
    """The cost of a network for one slice of (rows, columns).

    `flops` counts a multiplication and its addition as two, in convolutions and matrix products, which are all but a
    few parts in a thousand. `cuda` is None where there is none.
    """

    architecture: str
    parameters: int
    rows: int
    columns: int
    flops: int
    cpu: Speed
    cuda: Speed | None

    def to_json(self) -> dict[str, Any]:
        """Return all of it, as in complexity.json."""
        return asdict(self)


def complexity(card: Card, *, threads: int | None = None, runs: int = RUNS) -> Complexity:
    """Count and measure the network of a card, on the CPU and, where there is one, on CUDA.

    Raises WeightsCorrupt or UnknownModel for the card, ModelError where the measuring process was ended.
    """
    rows, columns = typical_size(card.preprocessing)
    parameters, flops = count(card.architecture, rows, columns)
    cpu = _in_own_process(card, "cpu", threads, runs)
    cuda = _in_own_process(card, "cuda", threads, runs) if torch.cuda.is_available() else None
    return Complexity(card.architecture, parameters, rows, columns, flops, cpu, cuda)


def conditions(threads: int | None) -> dict[str, Any]:
    """Under which conditions `complexity` would measure here: what was measured under others is another figure."""
    cuda = _device_name(torch.device("cuda")) if torch.cuda.is_available() else None
    return {"cpu": _device_name(torch.device("cpu")), "threads": threads, "cuda": cuda}


def typical_size(how: Preprocessing) -> tuple[int, int]:
    """Rows and columns of a fine slice whose box is FIELD_MM wide."""
    side = max(MIN_PIXELS, round(FIELD_MM / how.fine_spacing_mm))
    return side, side


def count(architecture: str, rows: int, columns: int) -> tuple[int, int]:
    """Parameters, and operations for one slice; nothing is computed for it. Raises UnknownModel."""
    if architecture not in ARCHITECTURES:
        raise UnknownModel(f"no architecture {architecture!r}: there are {', '.join(ARCHITECTURES)}")
    counter = FlopCounterMode(display=False)
    with torch.device("meta"), torch.inference_mode():
        network = ARCHITECTURES[architecture]().eval()
        with counter:
            network(torch.empty(1, CHANNELS, rows, columns))
    return sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops()


def measure(card: Card, device: str, threads: int | None, runs: int) -> Speed:
    """Measure the speed of a card's network on a device, in this process; `complexity` starts a separate one."""
    model = load_model(card, device=device, threads=threads)
    rows, columns = typical_size(card.preprocessing)
    batch = batch_size(rows, columns)
    images = torch.rand(batch, CHANNELS, rows, columns, generator=torch.Generator().manual_seed(0)) * 2 - 1
    timings = _timed(model, images)
    next(timings)
    taken = [next(timings) for _ in range(runs)]
    return Speed(
        device=_device_name(model.device),
        threads=torch.get_num_threads(),
        precision="bfloat16" if computes_bfloat16(model.device) else "float32",
        batch=batch,
        seconds_per_slice=median(wall for wall, _ in taken) / batch,
        cpu_seconds_per_slice=median(cpu for _, cpu in taken) / batch,
        peak_memory_mb=_peak_memory_mb(model.device),
    )


def _timed(model: Model, images: torch.Tensor) -> Iterator[tuple[float, float]]:
    """Seconds, and CPU seconds, of one batch after the other, as `models.inference` runs them."""
    fast = computes_bfloat16(model.device)
    with torch.inference_mode():
        while True:
            started, worked = time.perf_counter(), time.process_time()
            batch = images.to(model.device, memory_format=torch.channels_last)
            with torch.autocast(model.device.type, torch.bfloat16, enabled=fast):
                logits = model.network(batch)
            logits.float().softmax(dim=1).to("cpu", torch.float16)
            yield time.perf_counter() - started, time.process_time() - worked


def _in_own_process(card: Card, device: str, threads: int | None, runs: int) -> Speed:
    found = alone(_measured, (card, device, threads, runs))
    if isinstance(found, Ended):
        raise ModelError(f"measuring {card.name} on {device}: {found}; is there memory?")
    if isinstance(found, ModelError):
        raise found
    return found


def _measured(asked: tuple[Card, str, int | None, int]) -> Speed | ModelError:
    """Return what `measure` returns or raises, as an answer for a pipe."""
    try:
        return measure(*asked)
    except ModelError as error:
        return error


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MIB
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would also count what the parent held when it started this process (proc(5), getrusage(2))
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024 / MIB
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (MIB if sys.platform == "darwin" else 1024)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
