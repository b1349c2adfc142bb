"""A copy of the ledger as it was at one moment, made while it is in use, and a ledger made of such a copy.

SQLite copies itself by its backup API: a copied file lacks what still stands in its log. PostgreSQL is copied by
pg_dump, on the snapshot in which the paths of the files are read.
"""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from daemon.errors import LedgerUnavailable, StorageUnusable
from daemon.jobs import OUT
from daemon.ledger.database import Database
from daemon.ledger.schema import deliveries, instances, jobs

PIECE = 1000
"""How many rows are held at a time."""


@dataclass(frozen=True)
class Named:
    """What the copy names: files, relative to the storage root. Its rows are read while the context lasts."""

    _connection: sa.Connection

    @property
    def instance_count(self) -> int:
        """The number of `instances`."""
        query = sa.select(sa.func.count()).select_from(instances).where(instances.c.removed_at.is_(None))
        return int(self._connection.execute(query).scalar_one())

    @property
    def job_count(self) -> int:
        """The number of all jobs."""
        return int(self._connection.execute(sa.select(sa.func.count()).select_from(jobs)).scalar_one())

    def instances(self) -> Iterator[str]:
        """Give the path of every instance that is kept, each version too, in the order in which they came."""
        kept = instances.c.removed_at.is_(None)
        yield from self._texts(sa.select(instances.c.path).where(kept).order_by(instances.c.id))

    def objects(self) -> Iterator[str]:
        """Give the path of every object that some destination gets or got, and that is kept."""
        kept = sa.select(deliveries.c.path).join(jobs).where(jobs.c.removed_at.is_(None))
        yield from self._texts(kept.distinct())

    def job_ids(self) -> list[int]:
        """List the jobs whose results are written: they are reported, or something of them is to be delivered."""
        has_sent = sa.exists().where(deliveries.c.job_id == jobs.c.id)
        written = sa.and_(sa.or_(jobs.c.state.in_(OUT), has_sent), jobs.c.removed_at.is_(None))
        query = sa.select(jobs.c.id).where(written).order_by(jobs.c.id)
        return list(self._connection.execute(query).scalars())

    def _texts(self, query: sa.Select[Any]) -> Iterator[str]:
        yield from self._connection.execution_options(yield_per=PIECE).execute(query).scalars()


@contextmanager
def copied(database: Database, target: Path) -> Iterator[Named]:
    """Copy the ledger into a new file, and give what it names. Raises LedgerUnavailable, StorageUnusable."""
    if database.kind == "sqlite":
        with database.reading() as connection, _sqlite_errors(target), closing(sqlite3.connect(target)) as copy:
            source = connection.connection.driver_connection
            assert isinstance(source, sqlite3.Connection)
            source.backup(copy)
        opened = Database(f"sqlite:///{target}")
        try:
            if not opened.is_whole():
                raise LedgerUnavailable("it is damaged: `porta verify` says what heals it")
            with opened.reading() as connection:
                yield Named(connection)
        finally:
            opened.close()
        return
    with database.transaction() as connection:
        connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        snapshot = connection.execute(sa.text("SELECT pg_export_snapshot()")).scalar_one()
        _run_client(database, "pg_dump", "--format=custom", f"--snapshot={snapshot}", f"--file={target}")
        yield Named(connection)


def refuse_full(database: Database) -> None:
    """Raise StorageUnusable where there are tables already: a copy is not put over what is there."""
    if database.kind == "sqlite":
        if database.path and database.path.exists():
            raise StorageUnusable(f"{database.path} is there already: move it away first")
        return
    with database.reading() as connection:
        if sa.inspect(connection).get_table_names():
            raise StorageUnusable("the database of [ledger] url is not empty: name a new one")


def put_back(database: Database, source: Path) -> None:
    """Make the ledger of a copy; there is none yet. Raises LedgerUnavailable, OSError."""
    if database.kind == "sqlite":
        assert database.path is not None
        shutil.copyfile(source, database.path)
        database.path.chmod(0o600)
        return
    _run_client(database, "pg_restore", "--single-transaction", "--exit-on-error", source=source)


@contextmanager
def _sqlite_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:  # the disk of the copy is full, or the ledger cannot be read
        raise StorageUnusable(f"{target}: cannot be written: {type(error).__name__}") from None


def _run_client(database: Database, program: str, *options: str, source: Path | None = None) -> None:
    """Run a program of PostgreSQL on the database; its password is in no argument, which others may see."""
    if (found := shutil.which(program)) is None:
        raise LedgerUnavailable(f"{program} is not installed (Debian package postgresql-client)")
    password = {"PGPASSWORD": database.password} if database.password else {}
    done = subprocess.run(
        [found, "--no-owner", "--no-privileges", *options, f"--dbname={database.address}", *filter(None, [source])],
        env=os.environ | password,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        said = (done.stderr.splitlines() or [f"exit code {done.returncode}"])[0]
        raise LedgerUnavailable(said.removeprefix(f"{program}: ").removeprefix("error: "))
