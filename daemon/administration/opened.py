"""The ledger of a configuration, opened by a command: to read, or to change something in it."""

from pathlib import Path

from daemon.configuration.config import Config
from daemon.errors import StorageUnusable
from daemon.ledger.desk import Desk
from daemon.ledger.store import Ledger
from daemon.storage.note import Note
from daemon.storage.spool import Spool


def open_ledger(config: Config) -> Ledger:
    """Open the ledger for reading alone: no folder is made, no table changed. Raises StorageUnusable without one."""
    path = Path(config.ledger_url.removeprefix("sqlite:///"))
    if config.ledger_url.startswith("sqlite:///") and not path.exists():
        raise StorageUnusable(f"{path}: no ledger here; the service has not run with this configuration")
    return Ledger(config.ledger_url)


def owned_ledger(config: Config) -> Ledger:
    """Open the ledger for a change. Raises StorageUnusable also for another user than the service's."""
    ledger = open_ledger(config)
    try:
        Spool(config.storage.root).refuse_other_user()
    except OSError as error:
        raise StorageUnusable(f"storage root {config.storage.root}: {error.strerror}") from error
    return ledger


def owned_desk(config: Config) -> Desk:
    """The same, for an administrator."""
    return Desk(owned_ledger(config))


def running_service(config: Config) -> Note | None:
    """Return the note of the service that runs on the storage root; None where none does, or it is just starting."""
    return Note.parse(Spool(config.storage.root).running() or "")
