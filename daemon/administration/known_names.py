"""The names by which an administrator chooses jobs: one that nobody knows is misspelt, and stands for no jobs."""

from collections.abc import Callable, Collection

from daemon.configuration.config import Config
from daemon.configuration.faults import did_you_mean
from daemon.errors import BadRequest
from daemon.jobs import HaltCode
from daemon.ledger.desk import Desk
from dicom_io.errors import RejectReason


def check_names(
    config: Config, desk: Desk, *, rule: str | None = None, destination: str | None = None, reason: str | None = None
) -> None:
    """Refuse a name that neither the configuration nor the ledger has, nor ever had.

    Raises BadRequest, with the names that there are.
    """
    _check("--rule", "rule", rule, {item.name for item in config.rules}, desk.rules)
    _check("--destination", "destination", destination, {item.peer for item in config.destinations}, desk.destinations)
    _check("--reason", "reason", reason, {*RejectReason, *HaltCode}, desk.statuses)


def _check(
    option: str, what: str, given: str | None, known: Collection[str], earlier: Callable[[], Collection[str]]
) -> None:
    """The ledger, which may be large, is asked for `earlier` names only where the name is not known without it."""
    if given is None or given in known:
        return
    every = {str(name) for name in (*known, *earlier())}
    if given not in every:
        raise BadRequest(f"{option}: there is no {what} {given}{did_you_mean(given, every)}")
