"""A job that is refused and waits has a state for it, and its reason where every job has it."""

import sqlalchemy as sa
from alembic import op
from alembic.operations import BatchOperations

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

STATES = ("RECEIVING", "RECEIVED", "SEGMENTED", "REPORTED", "DELIVERED", "COMMITTED", "REJECTED", "CANCELLED")
BEFORE = {
    "state": f"state IN {STATES}",
    "reason": "(state = 'REJECTED') = (reject_reason IS NOT NULL)",
}
AFTER = {
    "state": f"state IN {(*STATES, 'REFUSED')}",
    "reason": "state NOT IN ('REFUSED', 'REJECTED') OR reject_reason IS NOT NULL",
    "no_reason": "state NOT IN ('RECEIVING', 'RECEIVED', 'SEGMENTED') OR reject_reason IS NULL",
}


def upgrade() -> None:
    with op.batch_alter_table("jobs", copy_from=_jobs(BEFORE, _refusal())) as batch:
        _drop(batch, BEFORE)
    op.execute("UPDATE jobs SET reject_reason = refusal WHERE refusal IS NOT NULL")
    op.execute("UPDATE jobs SET state = 'REFUSED' WHERE refusal IS NOT NULL AND state IN ('RECEIVED', 'SEGMENTED')")
    with op.batch_alter_table("jobs", copy_from=_jobs({}, _refusal())) as batch:
        batch.drop_column("refusal")
        _create(batch, AFTER)


def downgrade() -> None:
    with op.batch_alter_table("jobs", copy_from=_jobs(AFTER)) as batch:
        _drop(batch, AFTER)
        batch.add_column(_refusal())
    op.execute("UPDATE jobs SET refusal = reject_reason, reject_reason = NULL WHERE state <> 'REJECTED'")
    op.execute("UPDATE jobs SET state = 'RECEIVED' WHERE state = 'REFUSED'")
    with op.batch_alter_table("jobs", copy_from=_jobs({}, _refusal())) as batch:
        _create(batch, BEFORE)


def _drop(batch: BatchOperations, checks: dict[str, str]) -> None:
    for name in checks:
        batch.drop_constraint(op.f(f"ck_jobs_{name}"), type_="check")


def _create(batch: BatchOperations, checks: dict[str, str]) -> None:
    for name, condition in checks.items():
        batch.create_check_constraint(op.f(f"ck_jobs_{name}"), condition)


def _refusal() -> sa.Column[str]:
    return sa.Column("refusal", sa.String(length=64), nullable=True)


def _jobs(checks: dict[str, str], *more: sa.Column[str]) -> sa.Table:
    """The table as it is. SQLite makes it anew from this: how much of it Alembic would see by itself has changed."""
    return sa.Table(
        "jobs",
        sa.MetaData(),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("series_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("calling_ae_title", sa.String(length=16), nullable=False),
        sa.Column("rule", sa.String(length=64), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=64), nullable=False),
        sa.Column("reject_reason", sa.String(length=64), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Double(), nullable=True),
        sa.Column("lease", sa.String(length=128), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.Column("halt", sa.String(length=64), nullable=True),
        sa.Column("instances", sa.Integer(), nullable=False),
        sa.Column("warnings", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("chosen", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("replaces_series_instance_uid", sa.String(length=64), nullable=True),
        sa.Column("replaces_revision", sa.Integer(), nullable=True),
        *more,
        *(sa.CheckConstraint(condition, name=op.f(f"ck_jobs_{name}")) for name, condition in checks.items()),
        sa.ForeignKeyConstraint(
            ["series_instance_uid"], ["series.series_instance_uid"], name=op.f("fk_jobs_series_instance_uid")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("series_instance_uid", "revision", name=op.f("uq_jobs_series_instance_uid_revision")),
        sa.Index("ix_jobs_state_not_before", "state", "not_before"),
        sa.Index("ix_jobs_study_instance_uid", "study_instance_uid"),
    )
