"""The heartbeat keeps what the worker holds, and says once that the ledger has gone, and that it is back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daemon.choice import Choice, Chosen
from daemon.errors import LedgerLost
from daemon.heartbeat import Heartbeat
from daemon.ledger.store import LEASE_S, Instance, Ledger


def test_a_lease_is_kept_by_its_heartbeat(ledger: Ledger, make_instance: Callable[..., Instance], clock: Any):
    """While it beats nobody else gets the job; after it has stopped for longer than a lease somebody does."""
    ledger.record_instance(make_instance(), now=clock.now - 100)
    (due,) = ledger.due_series(now=clock.now, quiet_s=20, released_quiet_s=5)
    ledger.close_series(due, now=clock.now, rule="liver-ct")
    closed = ledger.job(due.job_id)
    ledger.choose(Choice(chosen=(Chosen(closed),)), [closed], now=clock.now)
    assert ledger.claim_job("host/1", now=clock.now)
    heartbeat = Heartbeat(ledger, "host/1", "root", clock)
    for _ in range(5):
        clock.pass_s(LEASE_S / 2)
        heartbeat.beat()
        assert ledger.claim_job("other/1", now=clock.now) is None
    assert ledger.claim_job("other/1", now=clock.pass_s(LEASE_S + 1))


def test_a_ledger_that_goes_is_a_line_and_so_is_its_return(ledger: Ledger, tmp_path: Path, clock: Any, read_log: Any):
    """Each once, however often it beats meanwhile; the line says what to do."""
    heartbeat = Heartbeat(ledger, "host/1", str(tmp_path), clock)
    heartbeat.beat()
    (tmp_path / "ledger.sqlite").rename(tmp_path / "away.sqlite")
    for _ in range(3):
        with pytest.raises(LedgerLost):
            heartbeat.beat()
    (line,) = read_log.named("ledger.lost")
    assert line["level"] == "error"
    assert line["advice"] == ["stop-porta-run", "put-the-ledger-back-or-porta-ledger-rebuild", "start-porta-run"]
    assert read_log.named("ledger.returned") == []
    (tmp_path / "away.sqlite").rename(tmp_path / "ledger.sqlite")
    heartbeat.beat()
    heartbeat.beat()
    assert len(read_log.named("ledger.returned")) == 1
