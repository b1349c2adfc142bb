"""The guard of one item in a round: an error of one series, job, delivery or file never ends the round."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from daemon.errors import LedgerUnavailable, WorkerStopped
from daemon.log import get_logger

log = get_logger()


@contextmanager
def guarded(failed: Callable[[Exception], object]) -> Iterator[None]:
    """Handle one item: any error of it goes to `failed`, which writes down what it means for that item alone.

    What says nothing about the item goes through: LedgerUnavailable, and WorkerStopped at the service's end. An error
    of `failed` itself is a line in the log. This is where rounds catch `Exception`; see CONTRIBUTING.md.
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
