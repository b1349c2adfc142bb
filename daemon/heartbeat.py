"""The heartbeat: renews the leases of this service's worker, and says when the ledger has gone from under it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from daemon.errors import LedgerLost
from daemon.jobs import LONGEST_RETRY_S
from daemon.ledger.store import Ledger
from daemon.ledger.times import bound_times
from daemon.log import get_logger

LEDGER_LOST = ("stop-porta-run", "put-the-ledger-back-or-porta-ledger-rebuild", "start-porta-run")
"""What a person does when the ledger has gone: until then nothing is taken in."""

log = get_logger()


@dataclass
class Heartbeat:
    """Beats every few seconds, whatever else the service does."""

    ledger: Ledger
    lease: str
    root: str
    clock: Callable[[], float]
    longest_s: float = LONGEST_RETRY_S
    """How far ahead anything may come due."""
    _is_lost: bool = field(default=False, init=False)

    def beat(self) -> None:
        """Renew the leases, and take back times that lie too far ahead.

        Raises LedgerUnavailable; a loss of the ledger, and its end, are each a line in the log.
        """
        try:
            self.ledger.renew_lease(self.lease, now=self.clock())
            if bounded := bound_times(self.ledger.database, now=self.clock(), longest_s=self.longest_s):
                log.warning("times.bounded", count=bounded)
        except LedgerLost:
            if not self._is_lost:
                log.error("ledger.lost", root=self.root, advice=LEDGER_LOST)
            self._is_lost = True
            raise
        if self._is_lost:
            log.info("ledger.returned", root=self.root)
        self._is_lost = False
