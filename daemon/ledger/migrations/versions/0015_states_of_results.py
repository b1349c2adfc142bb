"""CONFIRMED is what a destination was asked for and has; what it only acknowledged stays DELIVERED. Results may be kept."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

STATES = ("RECEIVING", "RECEIVED", "SEGMENTED", "REFUSED", "REPORTED", "DELIVERED", "REJECTED", "CANCELLED")
OF_DELIVERIES = ("PENDING", "STORED", "CONFIRMED", "FAILED")
IS_CONFIRMED = "EXISTS (SELECT 1 FROM deliveries WHERE job_id = jobs.id AND deliveries.state = 'CONFIRMED')"


def upgrade() -> None:
    _check("jobs", (*STATES, "COMMITTED", "CONFIRMED"))
    op.execute(f"UPDATE jobs SET state = 'CONFIRMED' WHERE state = 'COMMITTED' AND {IS_CONFIRMED}")
    op.execute("UPDATE jobs SET state = 'DELIVERED' WHERE state = 'COMMITTED'")
    _rename_events("COMMITTED", "CONFIRMED")
    _check("jobs", (*STATES, "CONFIRMED"))
    op.execute("UPDATE deliveries SET last_status = 'FOUND' WHERE last_status = 'HELD'")
    _check("deliveries", (*OF_DELIVERIES, "KEPT"))


def downgrade() -> None:
    op.execute("UPDATE deliveries SET state = 'FAILED' WHERE state = 'KEPT'")  # no older Porta sends it by itself
    _check("deliveries", OF_DELIVERIES)
    op.execute("UPDATE deliveries SET last_status = 'HELD' WHERE last_status = 'FOUND'")
    _check("jobs", (*STATES, "COMMITTED", "CONFIRMED"))
    op.execute("UPDATE jobs SET state = 'COMMITTED' WHERE state = 'CONFIRMED'")
    _rename_events("CONFIRMED", "COMMITTED")
    _check("jobs", (*STATES, "COMMITTED"))


def _rename_events(before: str, after: str) -> None:
    for column in ("event", "from_state", "to_state"):
        op.execute(f"UPDATE events SET {column} = '{after}' WHERE {column} = '{before}'")


def _check(table: str, states: tuple[str, ...]) -> None:
    """Allow these states. SQLite makes the table anew, with all else that it has."""
    name = op.f(f"ck_{table}_state")
    with op.batch_alter_table(table) as batch:
        batch.drop_constraint(name, type_="check")
        batch.create_check_constraint(name, sa.column("state").in_(states))
