"""Shadows: models that run beside a job's own, and how far they disagree with it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "shadows",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(length=160), nullable=False),
        sa.Column("state", sa.String(length=64), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Double(), nullable=True),
        sa.Column("code", sa.String(length=64), nullable=True),
        sa.Column("version", sa.String(length=160), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("volumes", sa.Text(), nullable=True),
        sa.CheckConstraint("state IN ('PENDING', 'COMPARED', 'FAILED')", name=op.f("ck_shadows_state")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_shadows_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shadows")),
        sa.UniqueConstraint("job_id", "model", name=op.f("uq_shadows_job_id_model")),
    )
    op.create_index("ix_shadows_state_not_before", "shadows", ["state", "not_before"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_shadows_state_not_before", table_name="shadows")
    op.drop_table("shadows")
