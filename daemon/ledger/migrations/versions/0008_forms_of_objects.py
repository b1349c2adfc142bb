"""What an object is stands in columns: its kind, and the SEG type and SR class that its form has."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

LABELMAP, COMPREHENSIVE = "_labelmap", "_comprehensive"
OF_SEG, OF_SR = "('seg', 'sr', 'sr_combined')", "('sr', 'sr_combined', 'sr_bidirectional', 'verdict')"
"""The kinds whose form has a SEG type, and those whose form has an SR class."""


def upgrade() -> None:
    op.execute("ALTER TABLE deliveries RENAME COLUMN object TO kind")
    op.add_column("deliveries", sa.Column("seg_type", sa.String(length=64), nullable=True))
    op.add_column("deliveries", sa.Column("sr_class", sa.String(length=64), nullable=True))
    _cut("sr_class", "comprehensive", COMPREHENSIVE)
    _cut("seg_type", "labelmap", LABELMAP)
    op.execute(f"UPDATE deliveries SET seg_type = 'binary' WHERE seg_type IS NULL AND kind IN {OF_SEG}")
    op.execute(f"UPDATE deliveries SET sr_class = 'comprehensive_3d' WHERE sr_class IS NULL AND kind IN {OF_SR}")


def downgrade() -> None:
    op.execute(f"UPDATE deliveries SET kind = kind || '{LABELMAP}' WHERE seg_type = 'labelmap'")
    op.execute(f"UPDATE deliveries SET kind = kind || '{COMPREHENSIVE}' WHERE sr_class = 'comprehensive'")
    for column in ("sr_class", "seg_type"):
        op.drop_column("deliveries", column)
    op.execute("ALTER TABLE deliveries RENAME COLUMN kind TO object")


def _cut(column: str, value: str, suffix: str) -> None:
    """Move what a suffix says into its column."""
    length = len(suffix)
    op.execute(
        f"UPDATE deliveries SET {column} = '{value}', kind = substr(kind, 1, length(kind) - {length})"
        f" WHERE length(kind) > {length} AND substr(kind, length(kind) - {length - 1}) = '{suffix}'"
    )
