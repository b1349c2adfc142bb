"""`porta upgrade`: the step of the ledger to this version, or what it would be."""

from daemon.administration.opened import owned_ledger
from daemon.configuration.config import Config
from daemon.intake import open_storage
from daemon.storage.spool import Spool
from daemon.terminal import say
from daemon.upkeep.upgrade import try_upgrade
from reports.identity import software_version


def check_upgrade(config: Config) -> None:
    """Print what the upgrade would do. Raises LedgerUnavailable, StorageUnusable where it cannot be done."""
    ledger = owned_ledger(config)
    trial = try_upgrade(Spool(config.storage.root), ledger)
    ledger.close()
    if not trial.is_needed:
        say(f"nothing to do: the tables are of version {trial.there}, which Porta {software_version()} reads")
        return
    step = f"the tables are brought from version {trial.there} to {trial.ours}"
    if trial.seconds is None:
        say(f"{step}, in one transaction; `porta backup DIR` first. A PostgreSQL ledger is not tried on a copy")
    else:
        say(f"{step}: tried on a copy, in {trial.seconds:.1f} s, with all {trial.jobs} jobs; `porta backup DIR` first")
    say("then stop the service, install this version, and start it. An earlier one does not read the ledger afterwards")


def upgrade_ledger(config: Config) -> None:
    """Bring the tables to this version. Raises LedgerUnavailable, StorageUnusable where the service is running."""
    owned_ledger(config).close()  # there must be one
    with Spool(config.storage.root).lock():
        spool, ledger = open_storage(config)
        version, _ = ledger.database.versions()
        ledger.close()
    say(f"the ledger of {spool.root} is of version {version}")
