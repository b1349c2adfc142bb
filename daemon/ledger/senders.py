"""How the senders of series end, within a transaction: released, or broken off. Used by the ledger alone."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from daemon.jobs import State
from daemon.ledger.schema import jobs, series


def release(connection: sa.Connection, series_instance_uids: Sequence[str], *, now: float) -> None:
    """Note that no association is open, or broke off, that brought any of these series."""
    _set(connection, _named(series_instance_uids), released_at=now, broken_off=False)


def go_on(connection: sa.Connection, instances_of: Mapping[str, int | None]) -> None:
    """Note that the sender has sent more of what had broken off, or all of it again, and released that.

    A number is that of instances which were here already. Quiet alone closes the series.
    """
    for uid, count in sorted(instances_of.items()):
        is_all = sa.true() if count is None else series.c.instances <= count
        _set(connection, sa.and_(_named([uid]), is_all), broken_off=False)


def break_off(connection: sa.Connection, series_instance_uids: Sequence[str], *, calling_ae_title: str | None) -> None:
    """Note that an association broke off which brought these series.

    No earlier release closes them, nor others that the peer is sending: of which series that was which it had begun to
    send is not known. It is taken to be of these, where there are any.
    """
    named = _named(series_instance_uids)
    theirs = sa.and_(series.c.calling_ae_title == calling_ae_title, _is_receiving())
    _set(connection, sa.or_(named, theirs), released_at=None)
    _set(connection, named if series_instance_uids else theirs, broken_off=True)


def break_off_unreleased(connection: sa.Connection) -> int:
    """Note that every association is over that nobody saw end; return how many series lack its release."""
    is_open = sa.or_(series.c.released_at.is_(None), series.c.released_at < series.c.last_received_at)
    return _set(connection, sa.and_(is_open, _is_receiving()), broken_off=True)


def _set(connection: sa.Connection, where: sa.ColumnElement[bool], **values: float | bool | None) -> int:
    return int(connection.execute(sa.update(series).where(where).values(values)).rowcount)


def _named(series_instance_uids: Sequence[str]) -> sa.ColumnElement[bool]:
    return series.c.series_instance_uid.in_(series_instance_uids)


def _is_receiving() -> sa.ColumnElement[bool]:
    return sa.exists().where(
        jobs.c.series_instance_uid == series.c.series_instance_uid, jobs.c.state == State.RECEIVING
    )
