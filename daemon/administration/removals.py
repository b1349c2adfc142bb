"""`porta retention`: what is removed of what is done, and why; removed at once, or only listed."""

import time
from collections.abc import Callable

from daemon.administration.moments import for_so_long
from daemon.administration.opened import owned_ledger
from daemon.configuration.config import Config
from daemon.ledger.removals import Outcome, forget
from daemon.retention.removal import DAY_S, Planned, Retention
from daemon.storage.quarantine import Quarantine
from daemon.storage.spool import Spool
from daemon.terminal import Say, say


def print_retention(config: Config, *, dry_run: bool, clock: Callable[[], float] = time.time, say: Say = say) -> None:
    """Remove what [retention] says, or with `dry_run` list it; a line for each series, and one for all.

    Raises StorageUnusable, LedgerUnavailable.
    """
    spool, ledger, now = Spool(config.storage.root), owned_ledger(config), clock()
    storage, days = config.storage, config.retention.history_days
    spool.make_folders()
    retention = Retention(config, spool, ledger, clock)
    quarantine = Quarantine(spool, storage.quarantine_mb, storage.quarantine_days, clock)
    planned = retention.plan()
    for item in planned:
        say(_line(config, item, now=now))
    history = None if days is None else forget(ledger.database, before=now - days * DAY_S, dry=True)
    entries = quarantine.excess() if dry_run else quarantine.trim()
    count = len(planned) if dry_run else retention.carry_out()
    rows = "" if history is None else f", {sum(vars(history).values())} rows of history (history_days = {days})"
    size, were = sum(item.bytes for item in planned) / 1e6, "would be" if dry_run else "were"
    say(
        f"{count} series, {size:.1f} MB{rows}, {entries} entries of the quarantine {were} removed; "
        f"{spool.free_mb()} MB are free"
    )
    ledger.close()


def _line(config: Config, item: Planned, *, now: float) -> str:
    done = item.done
    has_results = done.job_ids and done.outcome in (Outcome.DELIVERED, Outcome.KEPT)
    results = f", the results of jobs {', '.join(map(str, done.job_ids))}" if has_results else ""
    ago = for_so_long(max(0.0, now - done.ended_at))
    why = f"{item.key} = {getattr(config.retention, item.key)}"
    return (
        f"series {done.series_instance_uid}: {done.instances} images{results}, {item.bytes / 1e6:.1f} MB: "
        f"{done.outcome}, {ago} ago ({why})"
    )
