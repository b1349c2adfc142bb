"""Whether the sending of a series broke off, and was not taken up again: half of a liver is not judged as a whole one."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("series", sa.Column("broken_off", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    op.drop_column("series", "broken_off")
