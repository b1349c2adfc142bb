"""`porta verify`: what of the kept files is damaged, missing or of no row, and what heals it."""

import json
from dataclasses import asdict

from daemon.administration.opened import open_ledger
from daemon.configuration.config import Config
from daemon.progress import progress_bar
from daemon.storage.spool import Spool
from daemon.terminal import say
from daemon.upkeep.verification import verify_storage


def print_verification(config: Config, *, as_json: bool) -> bool:
    """Print every finding with what heals it, and the counts; return True where there is none.

    Raises LedgerUnavailable, StorageUnusable.
    """
    with progress_bar("series") as progress:
        done = verify_storage(Spool(config.storage.root), open_ledger(config), progress=progress)
    if as_json:
        print(json.dumps(asdict(done), indent=2))
        return not done.findings
    for finding in done.findings:
        say(f"{finding.fault} {finding.path}: {finding.remedy}")
    say(
        f"{done.instances} instances and {done.objects} results looked at, {done.bytes / 1e6:.1f} MB whole; "
        f"{done.quarantined} in quarantine, {done.quarantined_bytes / 1e6:.1f} MB; "
        f"{done.removed} removed by retention; {len(done.findings)} findings"
    )
    return not done.findings
