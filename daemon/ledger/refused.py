"""What was refused before any instance came: counted by peer and reason, the latest kept. Used by the ledger alone."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from daemon.ledger.rows import Refusal, RefusalKind
from daemon.ledger.schema import refusals

KEPT = 500
"""Strangers may make up as many titles as they like."""
KEY = ("kind", "reason", "calling_ae_title", "called_ae_title", "host")


def count_refusals(connection: sa.Connection, refused: Sequence[Refusal]) -> None:
    """Add refusals to those that are known, and forget the oldest beyond KEPT."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    for item in refused:
        given = insert(refusals).values(**vars(item))
        counted = {"count": refusals.c.count + item.count, "last_at": item.last_at}
        connection.execute(given.on_conflict_do_update(index_elements=list(KEY), set_=counted))
    latest = sa.select(refusals.c.id).order_by(refusals.c.last_at.desc(), refusals.c.id.desc()).limit(KEPT)
    connection.execute(sa.delete(refusals).where(refusals.c.id.not_in(latest)))


def select_refusals(*, since: float) -> "sa.Select[tuple[object, ...]]":
    """What was refused since then, the latest first."""
    columns = [refusals.c[field] for field in Refusal.__dataclass_fields__]
    return sa.select(*columns).where(refusals.c.last_at >= since).order_by(refusals.c.last_at.desc())


def refusal_of(row: "sa.Row[tuple[object, ...]]") -> Refusal:
    """A row of `select_refusals` as a value."""
    return Refusal(**dict(row._mapping) | {"kind": RefusalKind(row.kind)})
