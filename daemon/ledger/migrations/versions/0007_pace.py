"""When a sender was asked for its count, and how long it paused between instances: both say how long to wait."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("series", sa.Column("expected_at", sa.Double(), nullable=True))
    op.add_column("series", sa.Column("longest_pause_s", sa.Double(), nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("series", "longest_pause_s")
    op.drop_column("series", "expected_at")
