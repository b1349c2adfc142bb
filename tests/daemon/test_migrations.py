"""The migrations lead to the tables that the code speaks of, and back, on both databases."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import daemon.migrations
from daemon.errors import LedgerUnavailable
from daemon.ledger import Ledger
from daemon.migrations.schema import metadata

FOLDER = str(Path(daemon.migrations.__file__).parent)


@contextmanager
def alembic_on(database: str) -> Iterator[tuple[AlembicConfig, sa.Connection]]:
    engine = sa.create_engine(database)
    settings = AlembicConfig()
    settings.set_main_option("script_location", FOLDER)
    with engine.begin() as connection:
        settings.attributes["connection"] = connection
        yield settings, connection
    engine.dispose()


def tables(connection: sa.Connection) -> set[str]:
    return set(sa.inspect(connection).get_table_names())


def constraints(connection: sa.Connection) -> dict[str, list[str]]:
    """What compare_metadata does not look at: checks, uniqueness, references, by table."""
    inspector = sa.inspect(connection)
    return {
        table: sorted(
            str(item["name"])
            for found in (
                inspector.get_check_constraints(table),
                inspector.get_unique_constraints(table),
                inspector.get_foreign_keys(table),
                [inspector.get_pk_constraint(table)],
            )
            for item in found
        )
        for table in sorted(metadata.tables)
    }


def test_from_nothing_to_the_tables_of_the_code(database: str):
    """Types, nullability, indexes and defaults are those of the schema."""
    ledger = Ledger(database)
    ledger.migrate()
    ledger.close()
    with alembic_on(database) as (_, connection):
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_constraints_are_those_of_the_schema(database: str, tmp_path: Path):
    """Checks, uniqueness and references too, which the comparison above does not see."""
    ledger = Ledger(database)
    ledger.migrate()
    ledger.close()
    with alembic_on(database) as (_, connection):
        migrated = constraints(connection)
        for table in ("alembic_version", *[table.name for table in reversed(metadata.sorted_tables)]):
            connection.execute(sa.text(f"DROP TABLE {table}"))
        metadata.create_all(connection)
        assert migrated == constraints(connection)
    assert sum(map(len, migrated.values())) >= 5 + 4 + 3 + 2  # primary keys, references, checks, uniqueness


def test_migrating_again_changes_nothing(database: str):
    """Every start does it."""
    for _ in range(2):
        ledger = Ledger(database)
        ledger.migrate()
        ledger.close()
    with alembic_on(database) as (settings, connection):
        heads = ScriptDirectory.from_config(settings).get_heads()
        assert len(heads) == 1
        assert MigrationContext.configure(connection).get_current_heads() == tuple(heads)


def test_there_and_back(database: str):
    """The way down leaves nothing, and the way up works again from there."""
    for _ in range(2):
        with alembic_on(database) as (settings, connection):
            command.upgrade(settings, "head")
            assert tables(connection) == set(metadata.tables) | {"alembic_version"}
        with alembic_on(database) as (settings, connection):
            command.downgrade(settings, "base")
            assert tables(connection) == {"alembic_version"}


def test_several_processes_start_on_an_empty_database(database: str):
    """A service and a `porta submit` at the same moment: both find the tables, neither an error."""
    start = threading.Barrier(4)
    errors: list[BaseException] = []

    def migrate() -> None:
        ledger = Ledger(database)
        start.wait()
        try:
            ledger.migrate()
            ledger.all_jobs()
        except BaseException as error:
            errors.append(error)
        ledger.close()

    threads = [threading.Thread(target=migrate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_database_of_a_later_version_is_refused(database: str):
    """Whoever goes back to an older Porta must not have it write into tables that it does not know."""
    ledger = Ledger(database)
    ledger.migrate()
    with ledger._transaction() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(LedgerUnavailable):
        ledger.migrate()
    ledger.close()
