"""For machines: is it alive, is it ready, and figures for Prometheus. Without signing in; no patient's data."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from daemon.console.visits import console_of
from daemon.errors import DaemonError

router = APIRouter(tags=["probes"])

DICE = {"liver_dice": "Mean Dice of the liver against these", "lesion_dice": "Mean Dice of the lesions against these"}


@router.get("/health")
def health() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/ready", responses={503: {"description": "The ledger does not answer"}})
def ready(request: Request, response: Response) -> dict[str, bool]:
    """The ledger answers; `service` says whether Porta itself runs."""
    console = console_of(request)
    try:
        request.app.state.live.latest()
    except DaemonError:
        response.status_code = 503
        return {"ledger": False, "service": False}
    return {"ledger": True, "service": console.spool.running() is not None}


@router.get("/metrics", response_class=Response, responses={503: {"description": "The ledger does not answer"}})
def metrics(request: Request) -> Response:
    """Figures in Prometheus' text format: counts, times, names of destinations and codes."""
    quality = request.app.state.quality.latest()
    return Response(generate_latest(gauges(request.app.state.live.latest(), quality)), media_type=CONTENT_TYPE_LATEST)


def gauges(now: dict[str, Any], quality: dict[str, Any]) -> CollectorRegistry:
    """The snapshots of `daemon.console.live` and `daemon.console.quality` as gauges."""
    registry = CollectorRegistry()

    def gauge(name: str, words: str, values: Mapping[tuple[str, ...], float | None], *labels: str) -> None:
        made = Gauge(f"porta_{name}", words, labels, registry=registry)
        for key, value in values.items():
            if value is not None:
                (made.labels(*key) if labels else made).set(value)

    def of_destinations(key: str) -> dict[tuple[str, ...], float | None]:
        return {(item["destination"],): float(item[key]) for item in now["destinations"]}

    queue, disk = now["queue"], now["disk"]
    gauge("up", "Whether the service runs (not the console)", {(): float(now["service"]["running"])})
    gauge("jobs", "Jobs by state", {(state,): count for state, count in now["states"].items()}, "state")
    halted: dict[tuple[str, ...], float | None] = {
        (item["halt"], item["destination"] or ""): float(item["jobs"]) for item in now["causes"]
    }
    gauge("jobs_halted", "Jobs that need a person, by cause", halted, "halt", "destination")
    gauge("queue_jobs", "Jobs that wait for a worker or have one", {(): queue["length"]})
    gauge("job_seconds", "Median time of the last jobs in the worker", {(): queue["seconds_a_job"]})
    gauge("deliveries_waiting", "Objects that wait for a destination", of_destinations("waiting"), "destination")
    gauge("deliveries_failed", "Objects that were given up", of_destinations("failed"), "destination")
    gauge("destination_unreachable", "Whether a destination is away", of_destinations("outage"), "destination")
    gauge("disk_free_bytes", "Free space at the storage root", {(): disk["free_mb"] * 2**20})
    gauge("disk_least_bytes", "Below this, images are refused (min_free_mb)", {(): disk["min_free_mb"] * 2**20})
    gauge("disk_days_left", "Days until then, at the latest rate", {(): disk["days_left"]})
    gauge("quarantine_entries", "Entries of the quarantine", {(): now["quarantine"]})
    models = [row for row in quality["groups"] if row["by"] == "model"]
    for key, words in (("corrections", "Results that people corrected, of the last 500"), *DICE.items()):
        gauge(f"correction_{key}" if key in DICE else key, words, {(row["name"],): row[key] for row in models}, "model")
    drift: dict[tuple[str, ...], float | None] = {
        (item["by"], item["name"], item["measure"]): item["lately"] for item in quality["drift"]
    }
    gauge("drift", "Measures that are worse lately, with their mean", drift, "by", "name", "measure")
    return registry
