"""Why PostgreSQL cannot be used is said in one line with its host; what only looks wrong works."""

import socket
from pathlib import Path

import psycopg
import pytest

from daemon.errors import LedgerUnavailable
from daemon.ledger.store import Ledger


def reason(url: str) -> str:
    ledger = Ledger(url)
    with pytest.raises(LedgerUnavailable) as caught:
        ledger.all_series()
    ledger.close()
    said = str(caught.value)
    assert "secret" not in said
    assert "SELECT" not in said
    return said.removeprefix("the ledger cannot be used: ")


def test_each_reason_has_its_host(postgres: str, tmp_path: Path):
    """Nothing listens, no such host, user or database; a server that takes the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
    user = "postgresql+psycopg://porta:secret"
    where = f"PostgreSQL at 127.0.0.1:{port}"
    assert reason(f"{user}@127.0.0.1:{port}/porta").startswith(f"{where}: connection refused: is it running")
    assert reason(f"{user}@db.invalid/porta") == "PostgreSQL at db.invalid: no such host"
    assert reason(f"{user}@/porta?host={tmp_path}") == (
        f"PostgreSQL at {tmp_path}: nothing listens on this socket: is it running"
    )
    folder = postgres.rpartition("host=")[2]
    assert reason(postgres.format("absent")) == f"PostgreSQL at {folder}: it does not have this database"
    stranger = postgres.format("postgres").replace("porta@", "stranger:secret@")
    assert reason(stranger) == f"PostgreSQL at {folder}: it does not know this user"


def test_a_connection_that_is_cut_off_is_made_anew(postgres_database: str):
    """As by a restart of the server: what follows works, and nothing is lost."""
    ledger = Ledger(postgres_database)
    ledger.migrate()
    with psycopg.connect(postgres_database.replace("+psycopg", ""), autocommit=True) as other:
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = %s"
        name = other.info.dbname
        with pytest.raises(LedgerUnavailable, match="the connection was lost"), ledger.database.reading() as connection:
            assert other.execute(ended, [name]).fetchall()
            connection.exec_driver_sql("SELECT 1")
    assert ledger.all_series() == []
    ledger.close()


def test_a_database_in_sql_ascii_works(postgres: str, make_instance):
    """UIDs and codes are ASCII, and come as texts."""
    with psycopg.connect(postgres.format("postgres").replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
        ledger = Ledger(postgres.format("ascii"))
        try:
            ledger.migrate()
            instance = make_instance()
            assert ledger.record_instance(instance, now=1.0)
            assert ledger.all_series() == [instance.series_instance_uid]
        finally:
            ledger.close()
            connection.execute("DROP DATABASE ascii WITH (FORCE)")
