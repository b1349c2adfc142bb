"""`porta backup` and `porta restore`, as a terminal shows them."""

from pathlib import Path

from daemon.administration.opened import owned_ledger
from daemon.configuration.config import Config
from daemon.ledger.store import Ledger
from daemon.process import make_files_private
from daemon.progress import progress_bar
from daemon.storage.spool import Spool
from daemon.terminal import say
from daemon.upkeep.backup import back_up, restore


def make_backup(config: Config, target: Path) -> bool:
    """Back up, and print what is there and what is missing; return True where nothing is.

    Raises BadRequest, StorageUnusable, LedgerUnavailable.
    """
    make_files_private()
    ledger = owned_ledger(config)
    with progress_bar("instances") as progress:
        made = back_up(Spool(config.storage.root), ledger, target, progress=progress)
    ledger.close()
    for path in made.missing:
        say(f"MISSING {path}: the ledger names it; `porta verify` says what heals it")
    say(f"{made.instances} instances and {made.objects} results in {target}; {len(made.missing)} missing")
    return not made.missing


def restore_backup(config: Config, source: Path) -> bool:
    """Restore, and print what is there and what is damaged; return True where nothing is.

    Raises BadRequest, StorageUnusable, LedgerUnavailable.
    """
    make_files_private()
    spool, ledger = Spool(config.storage.root), Ledger(config.ledger_url)
    with progress_bar("series") as progress:
        done = restore(source, spool, ledger, progress=progress)
    ledger.close()
    for finding in done.findings:
        say(f"{finding.fault} {finding.path}: {finding.remedy}")
    say(
        f"{done.instances} instances and {done.objects} results in {spool.root}, {done.bytes / 1e6:.1f} MB whole; "
        f"{len(done.findings)} findings. Start the service: it goes on from there"
    )
    return not done.findings
