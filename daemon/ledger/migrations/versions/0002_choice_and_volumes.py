"""One answer a study (which job is chosen, what it replaces), proof of completeness, several volumes a series."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

OF_OBJECT = ["job_id", "destination", "object"]
OF_INSTANCE = ["job_id", "destination", "sop_instance_uid"]


def upgrade() -> None:
    op.add_column("series", sa.Column("expected", sa.Integer(), nullable=True))
    op.add_column("jobs", sa.Column("chosen", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("jobs", sa.Column("replaces_series_instance_uid", sa.String(length=64), nullable=True))
    op.add_column("jobs", sa.Column("replaces_revision", sa.Integer(), nullable=True))
    # What has been worked on before there was a choice was chosen; what only waits goes through the choice.
    op.execute("UPDATE jobs SET chosen = true WHERE state IN ('SEGMENTED', 'REPORTED', 'DELIVERED', 'COMMITTED')")
    with op.batch_alter_table("deliveries", copy_from=_deliveries(OF_OBJECT)) as batch:
        batch.add_column(_volume_index())
        batch.drop_constraint(op.f(_name(OF_OBJECT)), type_="unique")
        batch.create_unique_constraint(op.f(_name(OF_INSTANCE)), OF_INSTANCE)


def downgrade() -> None:
    with op.batch_alter_table("deliveries", copy_from=_deliveries(OF_INSTANCE, _volume_index())) as batch:
        batch.drop_constraint(op.f(_name(OF_INSTANCE)), type_="unique")
        batch.drop_column("volume_index")
        batch.create_unique_constraint(op.f(_name(OF_OBJECT)), OF_OBJECT)
    for column in ("replaces_revision", "replaces_series_instance_uid", "chosen"):
        op.drop_column("jobs", column)
    op.drop_column("series", "expected")


def _volume_index() -> sa.Column[int]:
    return sa.Column("volume_index", sa.Integer(), nullable=False, server_default="0")


def _deliveries(unique: list[str], *more: sa.Column[int]) -> sa.Table:
    """The table as it is. SQLite makes it anew from this: how much of it Alembic would see by itself has changed."""
    return sa.Table(
        "deliveries",
        sa.MetaData(),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("object", sa.String(length=64), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("series_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("confirm", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=64), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Double(), nullable=True),
        sa.Column("last_status", sa.String(length=64), nullable=True),
        *more,
        sa.CheckConstraint("state IN ('PENDING', 'STORED', 'CONFIRMED', 'FAILED')", name=op.f("ck_deliveries_state")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_deliveries_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint(*unique, name=op.f(_name(unique))),
        sa.Index("ix_deliveries_state_not_before", "state", "not_before"),
    )


def _name(columns: list[str]) -> str:
    return "_".join(["uq_deliveries", *columns])
