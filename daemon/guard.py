"""The guard of one item in a round: an error of one series, job, delivery or file never ends the round."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from daemon.errors import LedgerUnavailable, WorkerStopped
from daemon.log import get_logger

log = get_logger()


@contextmanager
def guarded(failed: Callable[[Exception], object]) -> Iterator[None]:
    """Handle one item: pass an error of it to `failed`, which records it for that item alone.

    Errors that say nothing about the item go through: LedgerUnavailable, and WorkerStopped when the service ends. An
    error of `failed` itself becomes a line in the log. Rounds catch `Exception` here alone; see CONTRIBUTING.md.
    """
    try:
        yield
    except (LedgerUnavailable, WorkerStopped):
        raise
    except Exception as error:  # noqa: BLE001  whatever an item holds, the items after it have their turn
        _tell(failed, error)


def _tell(failed: Callable[[Exception], object], error: Exception) -> None:
    try:
        failed(error)
    except (LedgerUnavailable, WorkerStopped):
        raise
    except Exception as second:  # noqa: BLE001  the same: not even a failure that cannot be written down ends the round
        log.error("item.failed", error=second)
