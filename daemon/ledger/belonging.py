"""The storage root that a ledger belongs to: whose files its rows name. Used by whoever opens both for work."""

from contextlib import suppress

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from daemon.errors import StorageUnusable
from daemon.ledger.database import Database
from daemon.ledger.schema import root


def refuse_other_root(database: Database, *, identity: str, place: str) -> None:
    """Raise StorageUnusable where a ledger belongs to another root; one of no root, or without tables, is no fault.

    Asked before the tables are brought up to date: a newer Porta with a wrong URL leaves the ledger as it is.
    """
    with database.reading() as connection:
        if not sa.inspect(connection).has_table(root.name):
            return
        found = connection.execute(sa.select(root)).one_or_none()
    if found is not None and found.identity != identity:
        raise StorageUnusable(
            f"storage root {place.partition(':')[2]}: [ledger] url names the ledger of another root ({found.place}): "
            "each root has its own ledger"
        )


def belong(database: Database, *, identity: str, place: str) -> None:
    """Have a ledger that belongs to no root belong to this one. Raises StorageUnusable where it belongs to another.

    `place` is the host and path of the root: it says where the other one is, and may change.
    """
    with suppress(IntegrityError), database.transaction() as connection:  # of two at once, one finds the other's row
        found = connection.execute(sa.select(root)).one_or_none()
        if found is None:
            connection.execute(sa.insert(root).values(id=1, identity=identity, place=place))
        elif found.identity == identity and found.place != place:
            connection.execute(sa.update(root).values(place=place))
    refuse_other_root(database, identity=identity, place=place)
