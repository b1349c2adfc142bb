"""A halt belongs to a delivery: how long each was waited for, why it was given up, and the sha256 of what is sent."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("deliveries", sa.Column("waited_s", sa.Double(), nullable=False, server_default="0"))
    op.add_column("deliveries", sa.Column("halt", sa.String(length=64), nullable=True))
    op.add_column("deliveries", sa.Column("sha256", sa.String(length=64), nullable=True))
    op.execute("UPDATE deliveries SET halt = 'DELIVERY_FAILED' WHERE state = 'FAILED'")
    # What else such a job has to send goes on by itself.
    op.execute("UPDATE jobs SET halt = NULL WHERE halt = 'DELIVERY_FAILED'")


def downgrade() -> None:
    op.execute(
        "UPDATE jobs SET halt = 'DELIVERY_FAILED' WHERE halt IS NULL AND state IN ('REPORTED', 'DELIVERED')"
        " AND EXISTS (SELECT 1 FROM deliveries WHERE job_id = jobs.id AND deliveries.state = 'FAILED')"
    )
    for column in ("sha256", "halt", "waited_s"):
        op.drop_column("deliveries", column)
