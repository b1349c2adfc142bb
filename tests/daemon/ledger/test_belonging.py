"""A ledger is that of one root: a second root is refused before it touches a row, whoever comes first."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from daemon.configuration.config import Config, Storage
from daemon.configuration.config import Ledger as LedgerSection
from daemon.errors import StorageUnusable
from daemon.intake import open_storage
from daemon.ledger import belonging
from daemon.ledger.store import Ledger
from daemon.storage.spool import IDENTITY


def belong(ledger: Ledger, identity: str, place: str = "host:/root") -> None:
    belonging.belong(ledger.database, identity=identity, place=place)


def test_another_root_is_refused_and_said_where_the_first_one_is(any_ledger: Ledger):
    """In one sentence; the first root may move."""
    belong(any_ledger, "first", "old:/srv/porta")
    belong(any_ledger, "first", "new:/srv/porta")
    with pytest.raises(StorageUnusable) as caught:
        belong(any_ledger, "second", "other:/var/lib/porta")
    assert str(caught.value) == (
        "storage root /var/lib/porta: [ledger] url names the ledger of another root (new:/srv/porta): "
        "each root has its own ledger"
    )
    belong(any_ledger, "first", "new:/srv/porta")


def test_of_two_that_begin_at_once_one_is_refused(any_ledger: Ledger):
    """On an empty ledger, which nobody has opened before."""
    start, refused = threading.Barrier(4), []

    def begin(identity: str) -> None:
        start.wait()
        try:
            belong(any_ledger, identity)
        except StorageUnusable:
            refused.append(identity)

    threads = [threading.Thread(target=begin, args=[str(number // 2)]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 2
    assert len(set(refused)) == 1


def test_a_second_service_on_the_same_ledger(ledger_url: str, make_config: Callable[..., Config], tmp_path: Path):
    """As `porta run` and `porta submit` open both: with another root none does; with the first one again both do."""
    section = LedgerSection(url=ledger_url.replace("+psycopg", ""))
    first = make_config(ledger=section)
    second = make_config(ledger=section, storage=Storage(root=tmp_path / "second", min_free_mb=0))
    open_storage(first)[1].close()
    identity = (first.storage.root / IDENTITY).read_text()
    ledger = Ledger(ledger_url)
    with ledger.database.transaction() as connection:  # as an older Porta left it
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0014'"))
    for _ in range(2):
        with pytest.raises(StorageUnusable, match="the ledger of another root"):
            open_storage(second)
    assert ledger.database.versions()[0] == "0014"  # nothing of it was changed
    with ledger.database.transaction() as connection:
        connection.execute(sa.text(f"UPDATE alembic_version SET version_num = '{ledger.database.head}'"))
    ledger.close()
    open_storage(first)[1].close()
    assert (first.storage.root / IDENTITY).read_text() == identity != (second.storage.root / IDENTITY).read_text()
