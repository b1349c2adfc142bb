"""An index for what the intake asks of each object that is no image: is its series one of ours?"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(op.f("ix_deliveries_series_instance_uid"), "deliveries", ["series_instance_uid"])


def downgrade() -> None:
    op.drop_index(op.f("ix_deliveries_series_instance_uid"), table_name="deliveries")
