"""What a connection to SQLite needs so that a commit is durable and writers wait for each other."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from daemon.errors import LedgerLost


class LedgerFile:
    """The file that the first connection of this process opened: is it still what its name means?

    A connection outlives the file that it has open. What is committed to one that was deleted is gone with it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: tuple[int, int] | None = None

    def note(self, *_: object) -> None:
        """Remember the file that a connection has just opened, unless there was one before."""
        if self._opened is None:
            self._opened = self._found()

    def check(self) -> None:
        """Raise LedgerLost where the name means another file now, or none."""
        if self._opened is not None and self._found() != self._opened:
            raise LedgerLost(self._path)

    def _found(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_dev, status.st_ino


def prepare(connection: Any, _: object) -> None:
    """Set up a new connection: WAL, every commit fsynced, foreign keys, patience with other writers."""
    # sqlite3's own transactions are turned off: `begin` says when one begins.
    connection.isolation_level = None
    for pragma in ("busy_timeout=20000", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
    # A new file becomes WAL once, and while another process makes it so, SQLite says "locked" without waiting.
    deadline = time.monotonic() + 20
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@contextmanager
def rebuilding(connection: sa.Connection) -> Iterator[None]:
    """Make tables anew meanwhile, on a connection in no transaction: references to one that goes are not looked at.

    On another database than SQLite, which alters its tables, nothing changes.
    """
    if connection.dialect.name != "sqlite":
        yield
        return
    session: Any = connection.connection.driver_connection
    session.execute("PRAGMA foreign_keys=OFF")
    try:
        yield
    finally:
        session.execute("PRAGMA foreign_keys=ON")


def begin(connection: sa.Connection) -> None:
    """A writer takes the lock at once: a transaction that reads first could not take it later in WAL mode."""
    connection.exec_driver_sql(connection.get_execution_options()["begin"])
