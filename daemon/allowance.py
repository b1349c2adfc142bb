"""How much a peer may store in a day (`maximum_mb_a_day`): counted by its AE title, from this machine's midnight on."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from daemon.configuration.config import Config
from daemon.ledger.answers import received_since
from daemon.ledger.store import Ledger
from daemon.log import get_logger

COUNTED_S = 600.0
"""How long a count of the ledger holds; what this process takes meanwhile is added."""

log = get_logger()


@dataclass
class _Count:
    """What a peer has stored since `midnight`, as the ledger said at a time, and what came since."""

    midnight: float
    at: float
    bytes: int
    is_told: bool = False


@dataclass
class Allowance:
    """What peers may still store today. Safe to use from many threads at once."""

    config: Config
    ledger: Ledger
    clock: Callable[[], float] = time.time
    _counts: dict[str, _Count] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def takes(self, calling_ae_title: str, count: int) -> bool:
        """Whether so many bytes more of a peer are within its limit; then they count. Raises LedgerUnavailable."""
        limits = [peer.maximum_mb_a_day for peer in self.config.peers if peer.ae_title == calling_ae_title]
        if not limits or None in limits:
            return True
        most = max(filter(None, limits)) << 20
        with self._lock:
            known = self._counted(calling_ae_title)
            if known.bytes + count <= most:
                known.bytes += count
                return True
            if not known.is_told:
                known.is_told = True
                log.warning("peer.exhausted", calling_ae_title=calling_ae_title, bytes=known.bytes)
            return False

    def _counted(self, calling_ae_title: str) -> _Count:
        now = self.clock()
        midnight = datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
        known = self._counts.get(calling_ae_title)
        if known is None or known.midnight != midnight or not 0 <= now - known.at < COUNTED_S:
            came = received_since(self.ledger.database, calling_ae_title, midnight)
            is_told = known is not None and known.midnight == midnight and known.is_told
            known = self._counts[calling_ae_title] = _Count(midnight, now, came, is_told)
        return known
