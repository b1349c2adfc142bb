"""What is written into the history of a job besides its moves."""

from daemon.ledger.database import Database
from daemon.ledger.moves import note

SEG_TYPE_FELL_BACK, SR_CLASS_FELL_BACK = "SEG_TYPE_FELL_BACK", "SR_CLASS_FELL_BACK"
"""A destination, which the event's code names, refuses the form that the configuration says, and gets an older one."""


def tell(database: Database, job_id: int, event: str, *, code: str, now: float) -> None:
    """Append an event to the history of a job. Raises LedgerUnavailable."""
    with database.transaction() as connection:
        note(connection, job_id, event, now=now, code=code)
