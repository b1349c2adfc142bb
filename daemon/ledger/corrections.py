"""SEGs that people drew on images that are here: recorded, scored, and told to who asks."""

import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from daemon.jobs import Correction, CorrectionState
from daemon.ledger.queries import is_to_be_worked_on
from daemon.ledger.rows import Instance, Scored
from daemon.ledger.schema import corrections, jobs, series
from daemon.ledger.store import Ledger


class Corrections:
    """The corrections of a ledger. Raises LedgerUnavailable as the ledger does."""

    def __init__(self, ledger: Ledger) -> None:
        self._reading, self._transaction = ledger.database.reading, ledger.database.transaction

    def has_images(self, series_instance_uid: str) -> bool:
        """True where images of this series came."""
        query = sa.select(sa.exists().where(series.c.series_instance_uid == series_instance_uid))
        with self._reading() as connection:
            return bool(connection.execute(query).scalar_one())

    def named(self, sop_instance_uid: str) -> Correction | None:
        """The correction of this UID; None where there is none."""
        with self._reading() as connection:
            query = sa.select(corrections).where(corrections.c.sop_instance_uid == sop_instance_uid)
            row = connection.execute(query).one_or_none()
        return None if row is None else _correction_of(row)

    def record(self, instance: Instance, *, of_series: str, now: float) -> bool:
        """Commit one that came, of the images of a series; False where its UID is known."""
        kept = ("sop_instance_uid", "study_instance_uid", "calling_ae_title", "path", "bytes", "sha256")
        values = {name: getattr(instance, name) for name in kept}
        state = CorrectionState.PENDING
        try:
            with self._transaction() as connection:
                connection.execute(
                    sa.insert(corrections).values(series_instance_uid=of_series, received_at=now, state=state, **values)
                )
        except IntegrityError:
            return False
        return True

    def latest(self, *, limit: int | None = None) -> list[Correction]:
        """The corrections, the newest first; `limit` of them at most."""
        with self._reading() as connection:
            query = sa.select(corrections).order_by(corrections.c.id.desc()).limit(limit)
            return [_correction_of(row) for row in connection.execute(query)]

    def due(self, *, now: float) -> list[Correction]:
        """Those that are to be scored now, the oldest first; none while a job is to be worked on."""
        query = (
            sa.select(corrections)
            .where(
                corrections.c.state == CorrectionState.PENDING,
                ~sa.exists().where(is_to_be_worked_on(jobs, now=now)),
                sa.or_(corrections.c.not_before.is_(None), corrections.c.not_before <= now),
            )
            .order_by(corrections.c.id)
        )
        with self._reading() as connection:
            return [_correction_of(row) for row in connection.execute(query)]

    def settle(self, correction: Correction, scored: Scored | None, *, code: str | None = None) -> None:
        """Record the outcome: the figures, or the code of why there are none."""
        values: dict[str, Any] = {"state": CorrectionState.FAILED, "code": code, "not_before": None}
        if scored:
            figures = {"volumes": json.dumps(scored.volumes), "model_sha256": scored.sha256}
            values |= {"state": CorrectionState.SCORED, **figures}
            values |= {name: getattr(scored, name) for name in ("job_id", "model", "version")}
        self._update(correction, values)

    def postpone(self, correction: Correction, *, until: float, code: str, counts: bool) -> None:
        """The next attempt is not before `until`; `counts` says whether there was one that failed."""
        self._update(correction, {"attempts": correction.attempts + counts, "not_before": until, "code": code})

    def _update(self, correction: Correction, values: dict[str, Any]) -> None:
        is_open = corrections.c.state == CorrectionState.PENDING
        with self._transaction() as connection:
            connection.execute(
                sa.update(corrections).where(corrections.c.id == correction.id, is_open).values(**values)
            )


def _correction_of(row: sa.Row[Any]) -> Correction:
    values = {field: row._mapping[field] for field in Correction.__dataclass_fields__}
    figures = tuple(json.loads(row.volumes or "[]"))
    return Correction(**values | {"state": CorrectionState(row.state), "volumes": figures})
