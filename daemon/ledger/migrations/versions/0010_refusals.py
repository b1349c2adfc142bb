"""What was refused before any instance came, and indexes for what administrators ask."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

KEY = ("kind", "reason", "calling_ae_title", "called_ae_title", "host")


def upgrade() -> None:
    op.create_table(
        "refusals",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("calling_ae_title", sa.String(length=16), nullable=False),
        sa.Column("called_ae_title", sa.String(length=16), nullable=False),
        sa.Column("host", sa.String(length=64), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("first_at", sa.Double(), nullable=False),
        sa.Column("last_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refusals")),
        sa.UniqueConstraint(*KEY, name=op.f("uq_refusals_kind_reason_calling_ae_title_called_ae_title_host")),
    )
    op.create_index(op.f("ix_jobs_created_at"), "jobs", ["created_at"])
    op.create_index(op.f("ix_series_study_instance_uid"), "series", ["study_instance_uid"])


def downgrade() -> None:
    op.drop_index(op.f("ix_series_study_instance_uid"), table_name="series")
    op.drop_index(op.f("ix_jobs_created_at"), table_name="jobs")
    op.drop_table("refusals")
