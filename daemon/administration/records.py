"""A job as scripts read it: JSON with keys that are only ever added to, times in ISO 8601 UTC."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from daemon.administration.conditions import halt_of, stage_of
from daemon.administration.fates import stages_of
from daemon.delivery.statuses import advice_on
from daemon.jobs import Delivery, Job, Shadow
from daemon.ledger.rows import Happened


def job_json(
    job: Job,
    deliveries: Sequence[Delivery],
    shadows: Sequence[Shadow],
    history: Sequence[Happened],
    *,
    progress_percent: int | None = None,
) -> dict[str, Any]:
    """A job in the format that scripts rely on; keys are only ever added.

    `stage` is what a worker does with it, or is to do (`conditions.stage_of`); `progress_percent` how much of the
    segmentation is done, None where it does not run.
    """
    return {
        "id": job.id,
        "series_instance_uid": job.series_instance_uid,
        "study_instance_uid": job.study_instance_uid,
        "revision": job.revision,
        "calling_ae_title": job.calling_ae_title,
        "rule": job.rule,
        "state": job.state,
        "reject_reason": job.reject_reason,
        "attempts": job.attempts,
        "not_before": iso(job.not_before),
        "halt": halt_of(job, deliveries),
        "instances": job.instances,
        "warnings": list(job.warnings),
        "deliveries": [
            {
                "destination": delivery.destination,
                "object": delivery.object,
                "sop_instance_uid": delivery.sop_instance_uid,
                "state": delivery.state,
                "attempts": delivery.attempts,
                "not_before": iso(delivery.not_before),
                "last_status": delivery.last_status,
                "halt": delivery.halt,
                "advice": advice_on(delivery.last_status),
            }
            for delivery in deliveries
        ],
        "shadows": [
            {
                "model": shadow.model,
                "state": shadow.state,
                "attempts": shadow.attempts,
                "not_before": iso(shadow.not_before),
                "code": shadow.code,
                "version": shadow.version,
                "sha256": shadow.sha256,
                "volumes": list(shadow.volumes),
            }
            for shadow in shadows
        ],
        "created_at": iso(job.created_at),
        "updated_at": iso(max((item.at for item in history), default=job.created_at)),
        "stages": [
            {"stage": name, "ended_at": iso(ended_at), "seconds": round(seconds, 1)}
            for name, ended_at, seconds in stages_of(history)
        ],
        "stage": stage_of(job),
        "progress_percent": progress_percent,
        "removed_at": iso(job.removed_at),
    }


def iso(seconds: float | None) -> str | None:
    """Return a time as scripts read it: ISO 8601, UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
