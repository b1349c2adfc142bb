"""Corrections: SEGs that people drew on images that are here, and how far they are from what was sent."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "corrections",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sop_instance_uid", sa.String(64), nullable=False),
        sa.Column("series_instance_uid", sa.String(64), nullable=False),
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("calling_ae_title", sa.String(16), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.Column("state", sa.String(64), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("not_before", sa.Double(), nullable=True),
        sa.Column("code", sa.String(64), nullable=True),
        sa.Column("job_id", sa.Integer(), nullable=True),
        sa.Column("model", sa.String(160), nullable=True),
        sa.Column("version", sa.String(160), nullable=True),
        sa.Column("model_sha256", sa.String(64), nullable=True),
        sa.Column("volumes", sa.Text(), nullable=True),
        sa.CheckConstraint("state IN ('PENDING', 'SCORED', 'FAILED')", name=op.f("ck_corrections_state")),
        sa.ForeignKeyConstraint(
            ["series_instance_uid"], ["series.series_instance_uid"], name=op.f("fk_corrections_series_instance_uid")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_corrections_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_corrections")),
        sa.UniqueConstraint("sop_instance_uid", name=op.f("uq_corrections_sop_instance_uid")),
    )
    for name in ("series_instance_uid", "state"):
        op.create_index(f"ix_corrections_{name}", "corrections", [name])


def downgrade() -> None:
    op.drop_table("corrections")
