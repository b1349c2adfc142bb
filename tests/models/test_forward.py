"""Batches that find no memory, devices that fail, folded batch norms: what comes out is what would have come anyway."""

import multiprocessing
import os
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from dicom_io.volume import Volume
from models.architectures.registry import ARCHITECTURES, EXPLAINED_LAYERS
from models.cards import find
from models.errors import CompilationFailed, DeviceLost
from models.forward import Model, Shortage, device_of, load_model, predict, usable_cores, warm_up, without_batch_norms
from models.inference import segment

SIZE = {"rows": 60, "columns": 52, "spacing_mm": (3.0, 3.5), "positions_mm": np.arange(40) * 5.0}
MIB = 2**20


class Scarce(nn.Module):
    """A network that takes no more than `most` slices at a time, as a full GPU would say it."""

    def __init__(self, network: nn.Module, most: int) -> None:
        super().__init__()
        self.network, self.most = network, most
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        """What the network says of no more slices than there may be."""
        self.sizes.append(len(x))
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        logits: Tensor = self.network(x)
        return logits


@pytest.mark.parametrize("most", [1, 3])
def test_smaller_batches_give_the_same_labels(
    stand_in: Model, axial: Callable[..., Any], lopsided: Callable[..., Any], most: int
) -> None:
    """Bit for bit; and whoever asked is told of every batch that did not fit."""
    volume, _ = lopsided(axial(**SIZE))
    expected = segment(stand_in, volume)
    told: list[Shortage] = []
    scarce = Scarce(stand_in.network, most)
    found = segment(replace(stand_in, network=scarce, notice=told.append), volume)
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert found.confidences == expected.confidences
    assert told
    assert {shortage.device for shortage in told} == {"cpu"}
    assert [shortage.batch for shortage in told] == [size for size in scarce.sizes if size > most]


def test_a_slice_that_fits_nowhere_is_an_error(stand_in: Model) -> None:
    """The worker takes it for what it is, lack of memory, and is started afresh."""
    with pytest.raises(MemoryError):
        predict(replace(stand_in, network=Scarce(stand_in.network, 0)), drawn, (5, 40, 40), ignored)


def test_any_other_fault_of_the_network_is_raised(stand_in: Model) -> None:
    """A batch that cannot be computed is not tried again in parts."""
    network = Raising(RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        predict(replace(stand_in, network=network), drawn, (5, 40, 40), ignored)
    assert network.calls == 1


class Raising(nn.Module):
    """A network that fails."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error, self.calls = error, 0

    def forward(self, x: Tensor) -> Tensor:
        """Nothing."""
        self.calls += 1
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: unspecified launch failure"),
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    ],
)
def test_a_gpu_that_fails_is_lost(stand_in: Model, error: Exception) -> None:
    """It is not asked again: no later call to it would be answered in this process."""
    network = Raising(error)
    with pytest.raises(DeviceLost):
        predict(replace(stand_in, network=network), drawn, (5, 40, 40), ignored)
    assert network.calls == 1


class FullGpu(nn.Module):
    """A network whose weights fit a GPU, and not one slice beside them. It counts where it is asked."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.at = network, "cpu"

    def to(self, *args: Any, **kwargs: Any) -> "FullGpu":
        """Note where it is."""
        self.at = torch.device(args[0]).type
        return self

    def forward(self, x: Tensor) -> Tensor:
        """On the CPU alone."""
        if self.at == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        logits: Tensor = self.network(x)
        return logits


class Unmoved(Tensor):
    """Images that say they are on the GPU: this machine may have none."""

    def pin_memory(self, *args: Any) -> "Unmoved":
        """Themselves."""
        return self

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        """Themselves, as they are."""
        return self.as_subclass(Tensor)


def test_a_gpu_without_memory_hands_over_to_the_cpu(stand_in: Model) -> None:
    """The batch is halved down to one slice, then the rest of the pass is computed on the CPU, to the same numbers."""
    told: list[Shortage] = []
    full = FullGpu(stand_in.network)
    model = replace(stand_in, network=full, device=torch.device("cuda"), notice=told.append)
    expected = predict(stand_in, drawn, (20, 128, 128), ignored)
    found = predict(model, lambda at: drawn(at).as_subclass(Unmoved), (20, 128, 128), ignored)
    assert torch.equal(found, expected)
    assert [(shortage.device, shortage.batch) for shortage in told] == [("cuda", size) for size in (16, 8, 4, 2, 1)]
    assert full.at == "cpu"
    assert device_of(model).type == "cuda"  # the next pass tries again
    assert full.at == "cuda"


def drawn(at: slice) -> Tensor:
    """Images of these slices, always the same, 128 pixels wide at most."""
    draw = torch.Generator().manual_seed(3)
    return (torch.rand(20, 3, 128, 128, generator=draw) * 2 - 1)[at]


def ignored(done: int, of: int) -> None:
    """No progress is shown."""


class Hungry(nn.Module):
    """A network that needs 32 MiB more for each slice."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """What the network says, once there was room."""
        room = torch.empty(len(x) * 32 * MIB, dtype=torch.uint8)
        logits: Tensor = self.network(x)
        return logits + room.numel() * 0.0


def segment_within(model: Model, volume: Volume, mib: int | None, answer: Any) -> None:
    """Segment with a hungry network, in a process that may grow by `mib` from there on."""
    segment(model, volume)  # what torch keeps for good is there before the limit is
    told: list[Shortage] = []
    if mib:
        size = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData:"))  # noqa: SIM115
        limit = size * 1024 + mib * MIB
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    found = segment(replace(model, network=Hungry(model.network), notice=told.append), volume)
    answer.send((found.labels, [shortage.batch for shortage in told]))


def test_memory_that_the_system_refuses(
    stand_in: Model, axial: Callable[..., Any], lopsided: Callable[..., Any]
) -> None:
    """A real limit of a real process, on the CPU: torch's own error is understood, and the labels are the same."""
    volume, _ = lopsided(axial(**SIZE))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=segment_within, args=(stand_in, volume, 200, theirs))
    process.start()
    theirs.close()
    labels, halved = ours.recv()
    process.join()
    np.testing.assert_array_equal(labels, segment(stand_in, volume).labels)
    assert halved
    assert min(halved) > 1


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_folded_batch_norms_say_the_same(architecture: str) -> None:
    """With statistics as training leaves them, and none is left; the layers that are explained have their names."""
    torch.manual_seed(0)
    network = ARCHITECTURES[architecture]().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    image = torch.randn(1, 3, 48, 64)
    with torch.inference_mode():
        expected = network(image)
        found = without_batch_norms(network)(image)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    for layer in EXPLAINED_LAYERS[architecture]:
        network.get_submodule(layer)


@pytest.mark.parametrize(
    ("content", "cores"), [("100000 100000\n", 1), ("1000 100000\n", 1), ("max 100000\n", None), ("odd", None)]
)
@pytest.mark.parametrize("group", ["", "system.slice", "system.slice/porta.service"])
def test_a_groups_quota_bounds_the_threads(tmp_path: Path, group: str, content: str, cores: int | None) -> None:
    """A container's, or that of a unit or of a slice that it is in: more threads would wait for one another."""
    own = tmp_path / "self"
    own.write_text("1:cpu:/elsewhere\n0::/system.slice/porta.service\n")
    everything = usable_cores(tmp_path, own)  # there is no quota
    (tmp_path / group).mkdir(parents=True, exist_ok=True)
    (tmp_path / group / "cpu.max").write_text(content)
    assert usable_cores(tmp_path, own) == (cores or everything)


def test_a_system_without_groups_bounds_nothing(tmp_path: Path) -> None:
    """But by how many there are."""
    assert usable_cores(tmp_path, tmp_path / "self") == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("threads", [None, 1])
def test_threads_that_are_asked_for(stand_in: Model, threads: int | None) -> None:
    """They are those of torch from then on; OMP_NUM_THREADS, and what a training has set, count as asked for."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if threads else 1)
        load_model(find("resnet50"), device="cpu", threads=threads)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """A machine that says that it has a GPU, on which no weights can be put for this reason."""

    def say(error: Exception) -> None:
        move = nn.Module.to

        def to(self: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
            if args and torch.device(args[0]).type == "cuda":
                raise error
            return move(self, *args, **kwargs)

        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(nn.Module, "to", to)

    return say


@pytest.mark.parametrize("compiled", [False, True])
def test_a_gpu_that_is_full_when_a_model_is_loaded(cuda: Callable[[Exception], None], compiled: bool) -> None:
    """The model is there, and computes on the CPU until there is room; nothing is compiled for that."""
    cuda(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 90.00 MiB"))
    told: list[Shortage] = []
    model = load_model(find("resnet50"), notice=told.append, compiled=compiled)
    assert (model.device.type, model.forward) == ("cuda", None)
    assert told == [Shortage("cuda", 0)]
    assert device_of(model).type == "cpu"


def test_a_gpu_that_fails_when_a_model_is_loaded(cuda: Callable[[Exception], None]) -> None:
    """Its process ends, as it does at work."""
    cuda(torch.AcceleratorError("CUDA error: CUDA-capable device(s) is/are busy or unavailable"))
    with pytest.raises(DeviceLost):
        load_model(find("resnet50"))


def compiled_as(monkeypatch: pytest.MonkeyPatch, network: Callable[[Tensor], Tensor]) -> None:
    """What torch.compile gives from now on."""
    monkeypatch.setattr(torch, "compile", lambda *args, **kwargs: network)


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (RuntimeError("backend='inductor' raised: CUDA error: unspecified launch failure"), DeviceLost),
        (
            RuntimeError("backend='inductor' raised: InvalidCxxCompiler: No working C++ compiler found"),
            CompilationFailed,
        ),
    ],
)
def test_what_keeps_a_network_from_being_compiled(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, told: type[Exception]
) -> None:
    """A device that failed halts nothing at once; a compiler that is not there does."""
    compiled_as(monkeypatch, Raising(raised))
    with pytest.raises(told):
        load_model(find("resnet50"), device="cpu", compiled=True)


def test_a_network_without_memory_for_its_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs as it is, and whoever asked is told."""
    told: list[Shortage] = []
    compiled_as(monkeypatch, Raising(RuntimeError("backend='inductor' raised: OutOfMemoryError: CUDA out of memory.")))
    model = load_model(find("resnet50"), device="cpu", compiled=True, notice=told.append)
    assert model.forward is None
    assert told == [Shortage("cpu", 0)]


def test_a_compiled_network_is_never_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for a batch of another size, a single slice, or images of another: minutes in the middle of a series."""
    counter, compile_it = CompileCounter(), torch.compile
    monkeypatch.setattr(torch, "compile", lambda network, **_: compile_it(network, dynamic=True, backend=counter))
    torch.compiler.reset()
    model = load_model(find("resnet50"), device="cpu", compiled=True)
    assert model.forward is not None
    at_load = counter.frame_count
    assert at_load
    for slices, rows, columns in ((17, 128, 128), (3, 64, 96), (1, 96, 64), (1, 64, 64)):
        predict(model, lambda at, size=(rows, columns): torch.zeros(17, 3, *size)[at], (slices, rows, columns), ignored)  # type: ignore[misc]
    assert counter.frame_count == at_load


def test_warming_up_shows_both_passes_an_abdomen(stand_in: Model) -> None:
    """One batch at each spacing of the card."""
    counted = Scarce(stand_in.network, 1000)
    warm_up(replace(stand_in, network=counted))
    assert len(counted.sizes) == 2
    assert min(counted.sizes) >= 1
