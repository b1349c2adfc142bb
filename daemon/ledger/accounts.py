"""Who may use the console: users, their sessions, and what each has done. Hashes only: no password, no token."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from daemon.errors import BadRequest
from daemon.ledger.schema import audit, sessions, users
from daemon.ledger.store import Ledger

KEPT = 100_000
"""Lines of the audit; the oldest beyond go."""


class Role(StrEnum):
    """What a user may do; each may do what those before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, other: "Role") -> bool:
        """True where this role may do what the other may."""
        return list(Role).index(self) >= list(Role).index(other)


@dataclass(frozen=True)
class User:
    """A user; `password_hash` is None for one whom the site's identity provider signs in."""

    name: str
    role: Role
    password_hash: str | None
    created_at: float
    failures: int = 0
    locked_until: float | None = None


@dataclass(frozen=True)
class Entry:
    """A line of the audit: who did what, to which job or study, from where, and how it ended."""

    at: float
    user: str
    action: str
    host: str
    code: str | None = None
    job_id: int | None = None
    study_instance_uid: str | None = None


class Accounts:
    """The tables of the console. Raises LedgerUnavailable as the ledger does."""

    def __init__(self, ledger: Ledger) -> None:
        self._reading, self._transaction = ledger.database.reading, ledger.database.transaction

    def users(self) -> list[User]:
        """All users, by name."""
        with self._reading() as connection:
            return [_user_of(row) for row in connection.execute(sa.select(users).order_by(users.c.name))]

    def user(self, name: str) -> User | None:
        """The user of this name; None where there is none."""
        with self._reading() as connection:
            row = connection.execute(sa.select(users).where(users.c.name == name)).one_or_none()
        return None if row is None else _user_of(row)

    def put(self, name: str, role: Role, password_hash: str | None, *, now: float) -> None:
        """Add a user, or give one another role and password; who is signed in under the name is signed out."""
        values = {"role": role, "password_hash": password_hash, "failures": 0, "locked_until": None}
        with self._transaction() as connection:
            changed = connection.execute(sa.update(users).where(users.c.name == name).values(**values))
            if not changed.rowcount:
                connection.execute(sa.insert(users).values(name=name, created_at=now, **values))
            connection.execute(sa.delete(sessions).where(sessions.c.user == name))

    def remove(self, name: str) -> None:
        """Remove a user, and sign them out. Raises BadRequest where there is none."""
        with self._transaction() as connection:
            connection.execute(sa.delete(sessions).where(sessions.c.user == name))
            if not connection.execute(sa.delete(users).where(users.c.name == name)).rowcount:
                raise BadRequest(f"there is no user {name}")

    def count_failure(self, name: str, *, most: int, locked_until: float) -> None:
        """Count a wrong password of a user; from `most` on nobody signs in under the name until then."""
        failures = users.c.failures + 1
        locked = sa.case((failures >= most, locked_until), else_=users.c.locked_until)
        with self._transaction() as connection:
            counted = {"failures": failures, "locked_until": locked}
            connection.execute(sa.update(users).where(users.c.name == name).values(**counted))

    def open_session(self, digest: str, name: str, *, now: float) -> None:
        """Sign a user in under the digest of a token, and forget earlier failures."""
        with self._transaction() as connection:
            connection.execute(sa.insert(sessions).values(digest=digest, user=name, opened_at=now, seen_at=now))
            forgiven = {"failures": 0, "locked_until": None}
            connection.execute(sa.update(users).where(users.c.name == name).values(**forgiven))

    def session(self, digest: str, *, opened_since: float, seen_since: float) -> tuple[User, float] | None:
        """The user of a session that is neither too old nor idle, and when it was last seen; None without one."""
        alive = sa.and_(sessions.c.opened_at >= opened_since, sessions.c.seen_at >= seen_since)
        query = sa.select(users, sessions.c.seen_at).join_from(sessions, users, sessions.c.user == users.c.name)
        with self._reading() as connection:
            row = connection.execute(query.where(sessions.c.digest == digest, alive)).one_or_none()
        return None if row is None else (_user_of(row), row.seen_at)

    def see(self, digest: str, *, now: float) -> None:
        """The user of a session did something."""
        with self._transaction() as connection:
            connection.execute(sa.update(sessions).where(sessions.c.digest == digest).values(seen_at=now))

    def close_sessions(self, digest: str, *, seen_before: float) -> None:
        """Sign a session out, and remove those that were not seen since then."""
        with self._transaction() as connection:
            over = sa.or_(sessions.c.digest == digest, sessions.c.seen_at < seen_before)
            connection.execute(sa.delete(sessions).where(over))

    def note(self, entry: Entry) -> None:
        """Add a line to the audit."""
        with self._transaction() as connection:
            number = connection.execute(sa.insert(audit).values(**vars(entry))).inserted_primary_key
            if number is not None and number[0] % 100 == 0:
                connection.execute(sa.delete(audit).where(audit.c.id <= number[0] - KEPT))

    def entries(self, *, most: int, before: float | None = None) -> Sequence[Entry]:
        """The lines of the audit, the latest first."""
        query = sa.select(*(audit.c[name] for name in Entry.__dataclass_fields__)).order_by(audit.c.id.desc())
        if before is not None:
            query = query.where(audit.c.at < before)
        with self._reading() as connection:
            return [Entry(**row._mapping) for row in connection.execute(query.limit(most))]


def _user_of(row: "sa.Row[tuple[object, ...]]") -> User:
    values = {field: row._mapping[field] for field in User.__dataclass_fields__}
    return User(**values | {"role": Role(row.role)})
