"""A ledger of each version of the tables, as that version left it, is brought to this one with every row.

released/ holds them as SQL, with a job in every state and deliveries. None is ever made anew: each release adds one.
"""

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext

from daemon.errors import LedgerUnavailable, StorageUnusable
from daemon.ledger.store import Ledger
from daemon.storage.spool import Spool
from daemon.upkeep.upgrade import try_upgrade

RELEASED = sorted((Path(__file__).parent / "released").glob("*.sql"))
VERSIONS = [path.stem for path in RELEASED]
STATES = ("RECEIVING", "RECEIVED", "SEGMENTED", "REPORTED", "DELIVERED", "DELIVERED", "REJECTED", "CANCELLED")
"""Those of its jobs afterwards; the second one DELIVERED was COMMITTED before 0015, and nothing of it was confirmed."""


def released(version: str, folder: Path) -> Ledger:
    """The ledger of a version, as a file."""
    path = folder / "ledger.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript((Path(__file__).parent / "released" / f"{version}.sql").read_text())
    connection.close()
    return Ledger(f"sqlite:///{path}")


def columns(ledger: Ledger) -> dict[str, list[str]]:
    with ledger.database.reading() as connection:
        inspector = sa.inspect(connection)
        return {name: [item["name"] for item in inspector.get_columns(name)] for name in inspector.get_table_names()}


def test_no_version_is_left_out(ledger: Ledger):
    """The last may be older than the tables of today: until those are released."""
    assert VERSIONS == [f"{number:04}" for number in range(1, len(VERSIONS) + 1)]
    assert VERSIONS[-1] <= ledger.database.head


@pytest.mark.parametrize("version", VERSIONS)
def test_it_is_brought_to_this_version(version: str, tmp_path: Path, ledger: Ledger):
    """Jobs, deliveries, instances and events are all there, in tables as a new ledger has them."""
    (tmp_path / "old").mkdir()
    old = released(version, tmp_path / "old")
    old.migrate()
    with old.database.reading() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == ledger.database.head
    assert columns(old) == columns(ledger)
    assert [str(job.state) for job in old.all_jobs()] == list(STATES)
    assert [(item.object, item.destination) for item in old.deliveries_of(4)] == [
        ("seg", "archive"),
        ("sr", "archive"),
        ("sr", "ris"),
    ]
    assert [instance.bytes for instance in old.versions("1.2.3")] == [5_000_000_000]
    assert len(old.history(4)) == 1
    assert old.database.is_whole()
    old.close()


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]])
def test_an_upgrade_is_tried_on_a_copy(version: str, spool: Spool):
    """The ledger itself is as before, and nothing of the copy is left."""
    old = released(version, spool.root)
    trial = try_upgrade(spool, old)
    assert (trial.there, trial.ours, trial.is_needed) == (version, old.database.head, version != old.database.head)
    assert (trial.jobs, trial.seconds is None) == ((8, False) if trial.is_needed else (0, True))
    assert old.database.versions()[0] == version
    assert list((spool.root / "work").iterdir()) == []
    old.close()


def test_what_cannot_be_upgraded_is_said(spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """No tables, tables of a later version, no room."""
    empty = Ledger(f"sqlite:///{tmp_path / 'empty.sqlite'}")
    with pytest.raises(LedgerUnavailable, match="no tables"):
        try_upgrade(spool, empty)
    empty.close()
    old = released(VERSIONS[0], spool.root)
    monkeypatch.setattr(Spool, "free_mb", lambda self: -1)
    with pytest.raises(StorageUnusable, match="the upgrade needs"):
        try_upgrade(spool, old)
    with old.database.transaction() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(LedgerUnavailable, match="later version"):
        try_upgrade(spool, old)
    old.close()
