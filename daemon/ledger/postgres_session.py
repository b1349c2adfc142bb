"""What a connection to PostgreSQL needs, and why there is none, in words that quote no statement."""

from typing import Any

import sqlalchemy as sa

CONNECT: dict[str, Any] = {"client_encoding": "utf8", "connect_timeout": 10}
"""Texts come as texts also from a database in SQL_ASCII; a server that does not answer is not waited for longer."""

PHRASES = {
    "refused": "connection refused: is it running, and are host and port right",
    "No such file or directory": "nothing listens on this socket: is it running",
    "translate host name": "no such host",
    "resolve host": "no such host",
    "Name or service not known": "no such host",
    "timeout expired": "no answer within the time limit",
    "password authentication failed": "it refuses the user or the password",
    "no password supplied": "it asks for a password, and the URL has none",
    "pg_hba.conf": "its pg_hba.conf does not let this host, user and database in",
    "starting up": "it is starting",
    "shutting down": "it is being stopped",
    "recovery": "it is recovering",
    "read-only": "it is read-only: a standby",
    "too many": "it has no connection left",
    "closed": "the connection was lost",
    "terminat": "the connection was lost",
    'role "': "it does not know this user",
    'database "': "it does not have this database",
}
"""What PostgreSQL and its client say, and the reason in a sentence; the first that is found counts."""


def place_of(url: sa.URL) -> str:
    """Return host and port of a URL, or the folder of its socket; never user or password."""
    host = url.host or url.query.get("host") or "the local socket"
    return f"PostgreSQL at {host if isinstance(host, str) else ', '.join(host)}" + (f":{url.port}" if url.port else "")


def reason_of(error: Exception) -> str:
    """Return why the database did not do what was asked; the kind of error where the words are not known."""
    said = str(getattr(error, "orig", error))
    return next((reason for phrase, reason in PHRASES.items() if phrase in said), type(error).__name__)
