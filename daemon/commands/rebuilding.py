"""`porta ledger rebuild`: a ledger that was lost, made anew from what lies in spool and outbox."""

from daemon.configuration.config import Config
from daemon.errors import StorageUnusable
from daemon.intake import open_storage
from daemon.progress import progress_bar
from daemon.upkeep.history import Past


def rebuild_ledger(config: Config) -> list[str]:
    """Fill the empty ledger of a configuration; return a line for each file that was left out.

    Raises StorageUnusable where the service is running, the ledger is not empty, or the disk fails.
    """
    spool, ledger = open_storage(config)
    with spool.lock(), progress_bar("series") as progress:
        past = Past(config, spool, progress)
        try:
            first = past.first_job_id
            reported = ledger.rebuild(past.events(), first_job_id=first)
        except OSError as error:
            raise StorageUnusable(f"storage root {spool.root}: {error.strerror}") from error
        for job_id in range(first):
            spool.clear_work(job_id)
    print(
        f"{past.instances} instances of {len(ledger.all_series())} series; {len(ledger.all_jobs())} jobs, of which "
        f"{reported} are reported; {len(past.left_out)} files left out"
    )
    ledger.close()
    return past.left_out
