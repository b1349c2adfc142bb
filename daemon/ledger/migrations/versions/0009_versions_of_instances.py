"""An instance belongs to its series and study, and may come again as another version, which takes its place.

A delivery names the study that its object is of, where that is not its job's; a job may be of the images as they were
before one of them was replaced.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

KEPT = "sop_instance_uid, sop_class_uid, transfer_syntax_uid, series_instance_uid, path, bytes, sha256, received_at"


def upgrade() -> None:
    op.execute("CREATE TABLE instances_before AS SELECT * FROM instances")
    op.drop_table("instances")
    op.create_table(
        "instances",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        _series(),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("replaced_by", sa.Integer(), nullable=True),
        *_described(),
        sa.ForeignKeyConstraint(["replaced_by"], ["instances.id"], name=op.f("fk_instances_replaced_by")),
        _reference(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instances")),
        sa.UniqueConstraint(
            "series_instance_uid",
            "sop_instance_uid",
            "version",
            name=op.f("uq_instances_series_instance_uid_sop_instance_uid_version"),
        ),
    )
    op.execute(
        f"INSERT INTO instances (study_instance_uid, {KEPT}) SELECT series.study_instance_uid,"
        f" {', '.join(f'instances_before.{column}' for column in KEPT.split(', '))}"
        " FROM instances_before JOIN series ON series.series_instance_uid = instances_before.series_instance_uid"
        " ORDER BY received_at, sop_instance_uid"
    )
    op.drop_table("instances_before")
    op.add_column("deliveries", sa.Column("study_instance_uid", sa.String(length=64), nullable=True))
    op.add_column("jobs", sa.Column("before_instance", sa.Integer(), nullable=True))


def downgrade() -> None:
    """The first version of each instance remains, and of those that several series share the first."""
    op.drop_column("jobs", "before_instance")
    op.drop_column("deliveries", "study_instance_uid")
    op.execute(
        f"CREATE TABLE instances_after AS SELECT {KEPT} FROM instances"
        " WHERE id IN (SELECT MIN(id) FROM instances GROUP BY sop_instance_uid)"
    )
    op.drop_table("instances")
    op.create_table(
        "instances",
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        *_described()[:2],
        _series(),
        *_described()[2:],
        _reference(),
        sa.PrimaryKeyConstraint("sop_instance_uid", name=op.f("pk_instances")),
    )
    op.create_index(op.f("ix_instances_series_instance_uid"), "instances", ["series_instance_uid"])
    op.execute(f"INSERT INTO instances ({KEPT}) SELECT {KEPT} FROM instances_after")
    op.drop_table("instances_after")


def _series() -> sa.Column[str]:
    return sa.Column("series_instance_uid", sa.String(length=64), nullable=False)


def _described() -> list[sa.Column[object]]:
    columns: list[sa.Column[object]] = [
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.Column("transfer_syntax_uid", sa.String(length=64), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("received_at", sa.Double(), nullable=False),
    ]
    return columns


def _reference() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["series_instance_uid"], ["series.series_instance_uid"], name=op.f("fk_instances_series_instance_uid")
    )
