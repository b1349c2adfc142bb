"""Several processes that train one network, one a GPU, as `torchrun` starts them; or one that is alone.

Every process draws its part of each batch, and the loss is that of the whole batch: logits are gathered, so that the
soft Dice is not the mean of Dices of parts. Its gradient by a process's own logits, times the number of processes, is
what DistributedDataParallel's mean over them makes the gradient of the whole.

Batch norm sees a process's own part of a batch on the CPU, and the whole batch on CUDA (SyncBatchNorm, which PyTorch
has for CUDA alone): a network with batch norm learns a little differently in two processes on the CPU than in one.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from models.errors import DeviceUnavailable

PATIENCE = timedelta(hours=12)
"""How long the others wait while the first one prepares cases."""


@dataclass(frozen=True)
class Rank:
    """The number of this process, from 0, among `world` ones; the first one writes all files."""

    number: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """True for the process that writes."""
        return self.number == 0

    def wait(self) -> None:
        """Wait until all processes have come to this call."""
        if self.world > 1:
            dist.barrier()

    def told(self, names: Sequence[str]) -> Sequence[str]:
        """Return what the first process passes; what the others pass is ignored."""
        if self.world == 1:
            return names
        said = [list(names)]
        dist.broadcast_object_list(said, src=0)
        return said[0]

    def any(self, flag: bool) -> bool:  # noqa: FBT001  the flag is what it is about
        """True where any of the processes passes True."""
        if self.world == 1:
            return flag
        flags = torch.tensor([int(flag)], device=self.device)
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags.item())

    def spread(self, network: nn.Module) -> nn.Module:
        """Wrap the network for training: gradients are the mean over all processes."""
        if self.world == 1:
            return network
        if self.device.type == "cuda":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
            return DistributedDataParallel(network, device_ids=[self.device])
        return DistributedDataParallel(network)

    def gather(self, part: Tensor) -> Tensor:
        """The parts of all processes one after another; a gradient flows into this one's alone."""
        if self.world == 1:
            return part
        sent = part.detach().contiguous()
        parts = [torch.empty_like(sent) for _ in range(self.world)]
        dist.all_gather(parts, sent)
        parts[self.number] = part
        return torch.cat(parts)


@contextmanager
def join_ranks(device: str, threads: int | None = None) -> Iterator[Rank]:
    """This process's rank on `device` ("auto", "cpu", "cuda"), as the variables of `torchrun` say.

    `threads`: of the CPU, for each process; where it is None one alone has as many as torch gives it, and several
    share the cores. Raises DeviceUnavailable.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    number, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if threads is None and world > 1:  # torchrun sets OMP_NUM_THREADS to 1 where nobody did
        threads = max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if threads:
        torch.set_num_threads(threads)
    if device == "cuda":
        if not torch.cuda.is_available():
            raise DeviceUnavailable("CUDA was asked for and is not available")
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise DeviceUnavailable(f"{local + 1} processes for {torch.cuda.device_count()} GPUs: start one for each")
        chosen = torch.device(f"cuda:{local}")
        torch.cuda.set_device(chosen)
    else:
        chosen = torch.device(device)
    if world == 1:
        yield Rank(0, 1, chosen)
        return
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Rank(number, world, chosen)
    finally:
        dist.destroy_process_group()
