"""The reason of a job that is refused and not (yet) REJECTED: it may be reported in place of results."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("refusal", sa.String(length=64), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "refusal")
