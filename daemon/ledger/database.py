"""The ledger's database: connections, transactions, and the form of its tables."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.exc import DatabaseError, DataError, DBAPIError, IntegrityError

from daemon.errors import LedgerRefused, LedgerUnavailable
from daemon.ledger import postgres_session, sqlite_session

MIGRATION_LOCK = 0x706F727461  # "porta"


class Database:
    """One database by its URL. Raises LedgerUnavailable when it does not answer or commit.

    Raises LedgerLost from when a file that it has open was deleted or replaced.
    """

    def __init__(self, url: str) -> None:
        is_server = not url.startswith("sqlite")
        arguments = postgres_session.CONNECT if is_server else {}
        self._engine = sa.create_engine(url, pool_pre_ping=is_server, hide_parameters=True, connect_args=arguments)
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", sqlite_session.prepare)
            sa.event.listen(self._engine, "begin", sqlite_session.begin)
        self._file: sqlite_session.LedgerFile | None = None
        if self._engine.dialect.name == "sqlite" and self._engine.url.database:
            self._file = sqlite_session.LedgerFile(Path(self._engine.url.database))
            sa.event.listen(self._engine, "connect", self._file.note)

    @property
    def kind(self) -> str:
        """Return "sqlite" or "postgresql"."""
        return self._engine.dialect.name

    @property
    def path(self) -> Path | None:
        """Return the file of an SQLite database."""
        return Path(self._engine.url.database) if self.kind == "sqlite" and self._engine.url.database else None

    @property
    def address(self) -> str:
        """Return the URI by which PostgreSQL's own programs find it, without the password."""
        return self._engine.url.set(drivername="postgresql")._replace(password=None).render_as_string()

    @property
    def password(self) -> str | None:
        """Return the password of the URL."""
        return self._engine.url.password

    def migrate(self) -> None:
        """Bring the tables to this version's form, one process at a time.

        Raises LedgerUnavailable, also when they are of a later version.
        """
        settings = AlembicConfig()
        settings.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self.transaction(around=sqlite_session.rebuilding) as connection:
            if connection.dialect.name == "postgresql":  # SQLite has taken its one lock already
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            settings.attributes["connection"] = connection
            try:
                command.upgrade(settings, "head")
            except CommandError as error:
                raise LedgerUnavailable("its tables are of a later version of Porta") from error

    def versions(self) -> tuple[str | None, str]:
        """The version that the tables are of (None: there are none), and that of this program."""
        with self.reading() as connection:
            there = MigrationContext.configure(connection).get_current_revision()
        return there, self.head

    @property
    def head(self) -> str:
        """Return the version of the tables of this program."""
        settings = AlembicConfig()
        settings.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        return str(ScriptDirectory.from_config(settings).get_current_head())

    def is_whole(self) -> bool:
        """Return whether the file of an SQLite database is sound; a PostgreSQL server looks after its files."""
        if not self._file:
            return True
        try:
            with self.reading() as connection:
                return bool(connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one() == "ok")
        except LedgerUnavailable as error:
            # "Malformed"; one that is locked, or cannot be opened, is another kind of error
            if type(error.__context__) is DatabaseError:
                return False
            raise

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """One consistent view; on SQLite it does not wait for a writer, nor make one wait."""
        with self.transaction(begin="BEGIN") as connection:
            yield connection

    @contextmanager
    def transaction(
        self,
        *,
        begin: str = "BEGIN IMMEDIATE",
        around: Callable[[sa.Connection], AbstractContextManager[object]] = nullcontext,
    ) -> Iterator[sa.Connection]:
        """A change that is committed at the end. Raises LedgerRefused for a value that no column can hold.

        Raises LedgerLost, also after the commit, where that went into a file that is not the ledger any more.
        """
        self._refuse_lost_file()
        try:
            with (
                self._engine.connect().execution_options(begin=begin) as connection,
                around(connection),
                connection.begin(),
            ):
                yield connection
        except IntegrityError:
            raise
        except (DataError, OverflowError) as error:  # sqlite3 says OverflowError
            raise LedgerRefused(type(error).__name__) from None
        except (DBAPIError, sa.exc.TimeoutError) as error:
            raise LedgerUnavailable(self._reason(error)) from None
        self._refuse_lost_file()

    def _reason(self, error: Exception) -> str:
        """Return what a person can look for: the driver's own message may quote statements."""
        if self.kind == "sqlite":
            return type(error).__name__
        return f"{postgres_session.place_of(self._engine.url)}: {postgres_session.reason_of(error)}"

    def _refuse_lost_file(self) -> None:
        if self._file:
            self._file.check()
