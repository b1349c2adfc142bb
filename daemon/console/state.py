"""What all pages work with: the configuration as the file has it now, the ledger, and the users."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from daemon.allowance import Allowance
from daemon.configuration.config import Config
from daemon.errors import ConfigurationError
from daemon.ledger.accounts import Accounts
from daemon.ledger.desk import Desk
from daemon.ledger.store import Ledger
from daemon.log import get_logger
from daemon.storage.quarantine import Quarantine
from daemon.storage.spool import Spool

log = get_logger()


@dataclass
class ConsoleState:
    """One console. `read_again` gives the configuration of a file that has changed; rules and peers follow it.

    What is fixed while it runs (address, storage, ledger) stays as it was at the start, as it does for the service.
    """

    first: Config
    ledger: Ledger
    file: Path | None = None
    read_again: Callable[[], Config] | None = None
    clock: Callable[[], float] = time.time
    _seen: float = field(default=0.0, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        self._current = self.first
        self._seen = self._changed_at()
        self.desk, self.accounts = Desk(self.ledger), Accounts(self.ledger)
        storage = self.first.storage
        self.spool = Spool(storage.root, *storage.watermarks_mb)
        self.allowance = Allowance(self.first, self.ledger, self.clock)
        self.quarantine = Quarantine(self.spool, storage.quarantine_mb, storage.quarantine_days)

    @property
    def config(self) -> Config:
        """The configuration with the rules, peers and destinations that the file has now, as long as it is valid."""
        with self._lock:
            changed = self._changed_at()
            if self.read_again is not None and changed != self._seen:
                self._seen = changed
                try:
                    new = self.read_again()
                except ConfigurationError as error:
                    log.warning("configuration.refused", count=len(error.faults))
                else:
                    if not self._current.fixed_changes(new):
                        self._current = self.allowance.config = new
            return self._current

    def _changed_at(self) -> float:
        try:
            return self.file.stat().st_mtime if self.file else 0.0
        except OSError:
            return 0.0
