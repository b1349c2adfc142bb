"""When the files of an instance, and of the results of a job, were removed by retention."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

TABLES = ("instances", "jobs")


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("removed_at", sa.Double(), nullable=True))


def downgrade() -> None:
    for table in TABLES:
        op.drop_column(table, "removed_at")
