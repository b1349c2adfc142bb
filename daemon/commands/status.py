"""The commands that show a service's jobs, peers and models: tables for people, JSON for scripts."""

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from daemon.commands.opened import open_ledger
from daemon.configuration.config import Config, Peer
from daemon.delivery import ADVICE, FIND_NOT_ACCEPTED
from daemon.jobs import WORKABLE, Delivery, Job, Shadow
from daemon.quarantine import Quarantine
from daemon.spool import Spool
from daemon.terminal import Terminal
from dicom_io.errors import PeerError
from dicom_io.network import scu

console = Terminal(width=None if sys.stdout.isatty() else 200)


def job_json(job: Job, deliveries: list[Delivery], shadows: list[Shadow]) -> dict[str, Any]:
    """A job in the format that scripts rely on; keys are only ever added."""
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
        "not_before": _iso(job.not_before),
        "halt": job.halt or _halt_of(deliveries),
        "instances": job.instances,
        "warnings": list(job.warnings),
        "deliveries": [
            {
                "destination": delivery.destination,
                "object": delivery.object,
                "sop_instance_uid": delivery.sop_instance_uid,
                "state": delivery.state,
                "attempts": delivery.attempts,
                "not_before": _iso(delivery.not_before),
                "last_status": delivery.last_status,
                "halt": delivery.halt,
                "advice": ADVICE.get(delivery.last_status or ""),
            }
            for delivery in deliveries
        ],
        "shadows": [
            {
                "model": shadow.model,
                "state": shadow.state,
                "attempts": shadow.attempts,
                "not_before": _iso(shadow.not_before),
                "code": shadow.code,
                "version": shadow.version,
                "sha256": shadow.sha256,
                "volumes": list(shadow.volumes),
            }
            for shadow in shadows
        ],
    }


def print_jobs(config: Config, *, as_json: bool) -> None:
    """Print all jobs, the oldest first."""
    ledger = open_ledger(config)
    rows = [(job, ledger.deliveries_of(job.id)) for job in ledger.all_jobs()]
    if as_json:
        content = [job_json(job, deliveries, ledger.shadows_of(job.id)) for job, deliveries in rows]
        print(json.dumps(content, indent=2))
        return
    table = Table("ID", "Series", "Rev", "From", "Rule", "Images", "State", "Why", "Deliveries")
    for job, deliveries in rows:
        sent = ", ".join(f"{d.object}→{d.destination} {d.state}{_tries(d)}" for d in deliveries)
        waits = job.state in WORKABLE and not job.chosen
        again = f"again at {_iso(job.not_before)}" if job.not_before else "waits for its study" if waits else ""
        halt = job.halt or _halt_of(deliveries)
        why = halt or job.reject_reason or again
        state = f"{job.state} (halted)" if halt else str(job.state)
        table.add_row(
            str(job.id),
            _short(job.series_instance_uid),
            str(job.revision),
            job.calling_ae_title,
            job.rule or "–",
            str(job.instances),
            state,
            why,
            sent,
        )
    console.print(table)


def print_quarantine(config: Config, *, as_json: bool) -> None:
    """Print what was not taken in, the latest last."""
    spool = Spool(config.storage.root)
    entries = Quarantine(spool).entries()
    if as_json:
        times = ("first_at", "last_at")
        print(
            json.dumps(
                [asdict(entry) | {key: _iso(getattr(entry, key)) for key in times} for entry in entries], indent=2
            )
        )
        return
    table = Table("Reason", "SOPInstanceUID", "From", "Times", "kB", "Last", "File")
    for entry in entries:
        last = _iso(entry.last_at) or ""
        size = f"{entry.bytes / 1000:.0f}"
        uid = entry.sop_instance_uid or "–"
        table.add_row(entry.reason, uid, entry.source, str(entry.count), size, last, f"quarantine/{entry.id}.dcm")
    console.print(table)


def print_job(config: Config, job_id: int) -> None:
    """Print one job with its deliveries, its shadows and its history, as JSON. Raises UnknownJob."""
    ledger = open_ledger(config)
    content = job_json(ledger.job(job_id), ledger.deliveries_of(job_id), ledger.shadows_of(job_id))
    content["events"] = [
        {key: row[key] for key in ("event", "from_state", "to_state", "code")} | {"at": _iso(row["at"])}
        for row in ledger.history(job_id)
    ]
    print(json.dumps(content, indent=2))


def check_peers(config: Config) -> bool:
    """C-ECHO every peer that listens, and show what it accepts; False when one fails."""
    answers = [_check_peer(config, peer) for peer in config.peers]
    console.print("The configuration is valid.")
    if not config.accepting_peers:
        console.print("No peer has accept = true: every association is refused.")
    return all(answers)


def _check_peer(config: Config, peer: Peer) -> bool:
    if peer.host is None or peer.port is None:
        console.print(f"{peer.name}: only sends, not checked")
        return True
    remote = scu.Remote(peer.ae_title, peer.host, peer.port)
    try:
        report = scu.echo(remote, calling_ae_title=config.dicom.ae_title, timeout_s=config.dicom.acse_timeout_s)
    except PeerError as error:
        console.print(f"{peer.name}: FAILED: {error}", highlight=False)
        return False
    console.print(f"{peer.name}: {remote} answered C-ECHO in {report.seconds * 1000:.0f} ms", highlight=False)
    for sop_class, syntaxes in report.accepted.items():
        console.print(f"    {sop_class}: {', '.join(syntaxes) or 'NOT ACCEPTED'}", highlight=False)
    confirmed = any(item.confirm == "query" for item in config.destinations if item.peer == peer.name)
    if confirmed and not report.accepted[scu.FIND.name]:
        console.print(f"    {ADVICE[FIND_NOT_ACCEPTED]}", highlight=False)
    return True


def _halt_of(deliveries: list[Delivery]) -> str | None:
    """Return the halt of the first delivery that has one: it needs a person, whatever else goes on."""
    return next((delivery.halt for delivery in deliveries if delivery.halt), None)


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _short(uid: str) -> str:
    return uid if len(uid) <= 20 else f"…{uid[-19:]}"


def _tries(delivery: Delivery) -> str:
    if delivery.attempts:
        return f" ({delivery.attempts} tries, {delivery.last_status})"
    return f" (waits, {delivery.last_status})" if delivery.waited_s else ""
