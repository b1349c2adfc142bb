"""What is asked of a series: when it began to come, whether it has all come, whether its study has results already."""

import sqlalchemy as sa

from daemon.jobs import OUT, DeliveryState
from daemon.ledger.database import Database
from daemon.ledger.queries import is_proved
from daemon.ledger.schema import deliveries, instances, jobs, series


def first_received_at(database: Database, series_instance_uid: str) -> float:
    """When the first instance of a series came; 0 of one of which none did."""
    query = sa.select(sa.func.min(instances.c.received_at)).where(
        instances.c.series_instance_uid == series_instance_uid
    )
    with database.reading() as connection:
        return float(connection.execute(query).scalar_one() or 0.0)


def is_incomplete(database: Database, series_instance_uid: str) -> bool:
    """True where its sending broke off, and neither its sender went on nor its count proves that all is here.

    So too where the sender has said that it has more.
    """
    lacking = sa.or_(
        series.c.broken_off & ~sa.func.coalesce(is_proved(), sa.false()), series.c.expected > series.c.instances
    )
    query = sa.select(sa.exists().where(series.c.series_instance_uid == series_instance_uid, lacking))
    with database.reading() as connection:
        return bool(connection.execute(query).scalar_one())


def received_since(database: Database, calling_ae_title: str, since: float) -> int:
    """Return how many bytes have come since then in series whose first instance this peer sent."""
    query = (
        sa.select(sa.func.sum(instances.c.bytes))
        .join(series)
        .where(series.c.calling_ae_title == calling_ae_title, instances.c.received_at >= since)
    )
    with database.reading() as connection:
        return int(connection.execute(query).scalar_one() or 0)


def is_answered(database: Database, *, study_instance_uid: str, series_instance_uid: str) -> bool:
    """True where results of another series of the study were sent, or are on their way; a verdict is none."""
    sent = sa.exists().where(deliveries.c.job_id == jobs.c.id, deliveries.c.state != DeliveryState.KEPT)
    answered = sa.exists().where(
        jobs.c.study_instance_uid == study_instance_uid,
        jobs.c.series_instance_uid != series_instance_uid,
        jobs.c.state.in_(OUT),
        jobs.c.reject_reason.is_(None),
        sent,
    )
    with database.reading() as connection:
        return bool(connection.execute(sa.select(answered)).scalar_one())
