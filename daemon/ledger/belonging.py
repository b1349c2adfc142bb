"""The storage root that a ledger belongs to: whose files its rows name. Used by whoever opens both for work."""

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from daemon.errors import StorageUnusable
from daemon.ledger.database import Database
from daemon.ledger.schema import root


def refuse_other_root(database: Database, *, identity: str, place: str) -> None:
    """Have a ledger that belongs to no root belong to this one. Raises StorageUnusable where it belongs to another.

    `place` is the host and path of the root: it says where the other one is, and may change.
    """
    for _ in range(2):  # of two that begin at once, one finds the row of the other
        try:
            with database.transaction() as connection:
                found = connection.execute(sa.select(root)).one_or_none()
                if found is None:
                    connection.execute(sa.insert(root).values(id=1, identity=identity, place=place))
                elif found.identity == identity and found.place != place:
                    connection.execute(sa.update(root).values(place=place))
        except IntegrityError:
            continue
        break
    with database.reading() as connection:
        found = connection.execute(sa.select(root)).one()
    if found.identity != identity:
        raise StorageUnusable(
            f"storage root {place.partition(':')[2]}: [ledger] url names the ledger of another root ({found.place}): "
            "each root has its own ledger"
        )
