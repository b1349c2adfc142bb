"""Pixels decoded in a separate process: a broken image that kills a decoder in C++ kills nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from daemon.errors import WorkerFailed, WorkerOutOfMemory
from daemon.worker.executor import LocalExecutor, Setup, Stage
from dicom_io.errors import RejectReason, SeriesRejected
from dicom_io.pixels import read_volume
from dicom_io.progress import Progress, ignore_progress
from dicom_io.series.hounsfield import refuse_other_values
from dicom_io.series.stacks import Stack
from dicom_io.volume import Volume

DEADLINE_S = 600.0
"""For one volume; a decoder that takes longer than that hangs."""

T = TypeVar("T")


@dataclass(frozen=True)
class Decoder:
    """Reads volumes, with a child process for those whose pixels have to be decoded."""

    _executor: LocalExecutor

    def read(self, stack: Stack, progress: Progress = ignore_progress) -> Volume:
        """Read the volume. `progress` is told of the slices where no child process is needed.

        Raises SeriesRejected: a decoder that crashes or hangs is UNREADABLE_PIXELS too.
        """
        if all(item.header.pixels and item.header.pixels.offset is not None for item in stack.slices):
            return read_volume(stack, progress)
        return self._apart(READ, stack)

    def prove(self, stack: Stack) -> None:
        """Decode all of it and keep nothing. Raises SeriesRejected as `read` does."""
        self._apart(PROVE, stack)

    def _apart(self, stage: Stage[Stack, T], stack: Stack) -> T:
        try:
            return self._executor.run(DEADLINE_S, stage, stack)
        except WorkerOutOfMemory as error:
            raise SeriesRejected(RejectReason.TOO_LARGE, "It could not be held while it was decoded.") from error
        except WorkerFailed as error:
            raise SeriesRejected(RejectReason.UNREADABLE_PIXELS, f"The decoder failed: {error}.") from error


@contextmanager
def decoder() -> Iterator[Decoder]:
    """A Decoder, whose process starts when it is needed and ends with this context."""
    executor = LocalExecutor(Setup(log_level="error"))
    try:
        yield Decoder(executor)
    finally:
        executor.stop()


def decode(stack: Stack) -> None:
    """Read all pixels and keep none. Raises SeriesRejected."""
    refuse_other_values(read_volume(stack))


READ: Stage[Stack, Volume] = Stage(read_volume.__module__, read_volume.__name__)
PROVE: Stage[Stack, None] = Stage(__name__, decode.__name__)
