"""The commands that show a service's jobs, peers and models: tables for people, JSON for scripts."""

import json
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime

from rich.table import Table

from daemon.administration.conditions import halt_of, progress_of, stage_of
from daemon.administration.known_names import check_names
from daemon.administration.moments import for_so_long
from daemon.administration.opened import open_ledger
from daemon.administration.records import iso, job_json
from daemon.configuration.config import Config
from daemon.jobs import Delivery, DeliveryState, Job, State
from daemon.ledger.desk import Desk
from daemon.ledger.searches import JobFilter
from daemon.storage.quarantine import Quarantine
from daemon.storage.spool import Spool
from daemon.terminal import Terminal, say

console = Terminal(width=None if sys.stdout.isatty() else 200)

WATCH_S = 2.0
SHOWN = 50
"""Jobs on a screen, where nobody says how many."""
WIDTHS = (6, 11, 7, 8, 4, 8)
"""Columns of the table of jobs; the state has the rest."""


def print_jobs(config: Config, wanted: JobFilter, *, limit: int | None, as_json: bool) -> None:
    """Print the jobs that are meant, the newest first: `limit` of them, by default a screen of them or all as JSON.

    Raises BadRequest for a rule or destination that nobody knows.
    """
    desk = Desk(open_ledger(config))
    check_names(config, desk, rule=wanted.rule, destination=wanted.destination)
    if limit is None and not as_json:
        limit = SHOWN
    jobs, spool = desk.jobs(wanted, limit=limit or None), Spool(config.storage.root)
    deliveries, histories = desk.deliveries(jobs), desk.histories(jobs)
    if as_json:
        shadows = desk.shadows(jobs)
        print(
            json.dumps(
                [
                    job_json(
                        job,
                        deliveries[job.id],
                        shadows[job.id],
                        histories[job.id],
                        progress_percent=progress_of(spool, job),
                    )
                    for job in jobs
                ],
                indent=2,
            )
        )
        return
    now, width = time.time(), shutil.get_terminal_size((80, 24)).columns
    say(_row("job", "opened", "changed", "from", "imgs", "rule", "state", width=width))
    for job in jobs:
        changed = max((item.at for item in histories[job.id]), default=job.created_at)
        say(
            _row(
                str(job.id),
                datetime.fromtimestamp(job.created_at).strftime("%m-%d %H:%M"),
                for_so_long(max(0.0, now - changed)).replace("days", "d"),
                job.calling_ae_title,
                str(job.instances),
                job.rule or "-",
                _state(job, deliveries[job.id], progress_of(spool, job), now=now),
                width=width,
            )
        )
    if not jobs:
        say("no job is as asked for" if wanted != JobFilter() else "no job yet")
    total = len(jobs) if limit is None or len(jobs) < limit else desk.count(wanted)
    if total > len(jobs):
        say(f"{len(jobs)} of {total} jobs; --limit 0 shows all")


def watch_jobs(config: Config, wanted: JobFilter, *, limit: int | None, as_json: bool) -> None:
    """Print the jobs every WATCH_S seconds, each time on an empty screen, until Ctrl-C."""
    with suppress(KeyboardInterrupt):
        while True:
            console.clear()
            print_jobs(config, wanted, limit=limit, as_json=as_json)
            time.sleep(WATCH_S)


def _row(*cells: str, width: int) -> str:
    """A line of the table, in so many columns; what is too long ends in an ellipsis."""
    widths = (*WIDTHS, max(20, width - sum(WIDTHS) - len(WIDTHS)))
    cut = [cell if len(cell) <= most else f"{cell[: most - 1]}…" for cell, most in zip(cells, widths, strict=True)]
    right = (0, 2, 4)
    return " ".join(
        cell.rjust(most) if place in right else cell.ljust(most)
        for place, (cell, most) in enumerate(zip(cut, widths, strict=True))
    ).rstrip()


def _state(job: Job, deliveries: Sequence[Delivery], percent: int | None, *, now: float) -> str:
    """The state of a job, and what it waits for; of one that is to be worked on the stage, and how much is done."""
    if halt := halt_of(job, deliveries):
        return f"HALTED {halt}"
    if stage := stage_of(job):
        if job.not_before is not None and job.not_before > now:
            return f"{stage} not before {datetime.fromtimestamp(job.not_before):%H:%M}"
        if stage == "WAITING":
            return "WAITING for its study"
        return stage if percent is None else f"{stage} {percent} %"
    if deliveries and all(item.state == DeliveryState.KEPT for item in deliveries):
        return "KEPT here: its rule sends nothing"
    waits_for = next((item for item in deliveries if item.last_status and item.state == DeliveryState.PENDING), None)
    if waits_for and job.state == State.REPORTED:
        return f"{job.state} {waits_for.destination} {waits_for.last_status}"
    return f"{job.state} {job.reject_reason}" if job.reject_reason else str(job.state)


def print_quarantine(config: Config, *, as_json: bool) -> None:
    """Print what was not taken in, the latest last."""
    spool = Spool(config.storage.root)
    entries = Quarantine(spool).entries()
    if as_json:
        times = ("first_at", "last_at")
        print(
            json.dumps(
                [asdict(entry) | {key: iso(getattr(entry, key)) for key in times} for entry in entries], indent=2
            )
        )
        return
    table = Table("Reason", "SOPInstanceUID", "From", "Times", "kB", "Last", "File")
    for entry in entries:
        last = iso(entry.last_at) or ""
        size = f"{entry.bytes / 1000:.0f}"
        uid = entry.sop_instance_uid or "–"
        table.add_row(entry.reason, uid, entry.source, str(entry.count), size, last, f"quarantine/{entry.id}.dcm")
    console.print(table)


def print_job(config: Config, job_id: int) -> None:
    """Print one job with its deliveries, its shadows and its history, as JSON. Raises UnknownJob."""
    desk = Desk(open_ledger(config))
    jobs = [desk.ledger.job(job_id)]
    history = desk.histories(jobs)[job_id]
    percent = progress_of(Spool(config.storage.root), jobs[0])
    content = job_json(
        jobs[0], desk.deliveries(jobs)[job_id], desk.shadows(jobs)[job_id], history, progress_percent=percent
    )
    content["events"] = [
        {key: getattr(item, key) for key in ("event", "from_state", "to_state", "code")} | {"at": iso(item.at)}
        for item in history
    ]
    print(json.dumps(content, indent=2))
