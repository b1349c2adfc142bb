"""How long `porta jobs` and `porta study` take to answer from a ledger of many jobs, against one of few.

    .venv/bin/python bench/jobs.py [--jobs 100000] [--runs 5]

Each job has two deliveries and seven events, as one that was confirmed. Measured is what the command does after Python
has started: the ledger is opened, asked, and the answer printed. The peer is the same on a ledger of 100 jobs.
"""

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import sqlalchemy as sa
from stopwatch import in_turn, print_ratio, print_table, spread

from daemon.administration.enquiry import print_study
from daemon.commands.status import print_jobs
from daemon.configuration.config import Config, Destination, Peer, Rule, Storage
from daemon.ledger.schema import deliveries, events, instances, jobs, series
from daemon.ledger.searches import JobFilter
from daemon.ledger.store import Ledger
from daemon.storage.spool import Spool
from reports.objects.kinds import FORMS

FEW = 100
EVENTS = ("OPENED", "CLOSED", "CHOSEN", "STARTED", "SEGMENTED", "REPORTED", "CONFIRMED")
ROWS = 5000


def fill(config: Config, count: int) -> None:
    """Write so many jobs, of a hundred studies a day, one in fifty halted or rejected."""
    Spool(config.storage.root).prepare()
    ledger = Ledger(config.ledger_url)
    ledger.migrate()
    for start in range(1, count + 1, ROWS):
        numbers = range(start, min(count + 1, start + ROWS))
        with ledger.database.transaction() as connection:
            for table, rows in (
                (series, [_series(n) for n in numbers]),
                (instances, [_instance(n) for n in numbers]),
                (jobs, [_job(n) for n in numbers]),
                (deliveries, [_delivery(n, name) for n in numbers for name in ("seg", "sr")]),
                (
                    events,
                    [{"job_id": n, "at": n * 10.0 + i, "event": e} for n in numbers for i, e in enumerate(EVENTS)],
                ),
            ):
                connection.execute(sa.insert(table), rows)
    ledger.close()


def _series(n: int) -> dict[str, object]:
    uids = {"series_instance_uid": f"1.2.{n}.1", "study_instance_uid": f"1.2.{n}"}
    return uids | {"calling_ae_title": "CT1", "instances": 300, "last_received_at": n * 10.0, "longest_pause_s": 0}


def _instance(n: int) -> dict[str, object]:
    uids = {"series_instance_uid": f"1.2.{n}.1", "study_instance_uid": f"1.2.{n}", "sop_instance_uid": f"1.2.{n}.1.1"}
    file = {"path": f"spool/{n}.dcm", "bytes": 1, "sha256": "0" * 64, "received_at": n * 10.0, "version": 1}
    return uids | file | {"sop_class_uid": "1.2", "transfer_syntax_uid": "1.2"}


def _job(n: int) -> dict[str, object]:
    rejected, halted = n % 50 == 0, n % 50 == 1
    return {
        "id": n,
        "series_instance_uid": f"1.2.{n}.1",
        "study_instance_uid": f"1.2.{n}",
        "revision": 1,
        "calling_ae_title": "CT1",
        "rule": None if rejected else "liver-ct",
        "priority": 0,
        "state": "REJECTED" if rejected else "SEGMENTED" if halted else "CONFIRMED",
        "reject_reason": "NO_RULE" if rejected else None,
        "attempts": 0,
        "halt": "MODEL_UNUSABLE" if halted else None,
        "instances": 300,
        "warnings": "[]",
        "created_at": n * 10.0,
        "chosen": True,
    }


def _delivery(n: int, name: str) -> dict[str, object]:
    uids = {"sop_instance_uid": f"1.3.{n}.{name == 'sr':d}", "series_instance_uid": f"1.3.{n}"}
    return uids | {
        "job_id": n,
        "destination": "archive",
        **asdict(FORMS[name]),
        "path": f"outbox/{n}/{name}.dcm",
        "confirm": "query",
        "state": "CONFIRMED",
        "attempts": 0,
        "last_status": "FOUND",
        "waited_s": 0,
        "volume_index": 0,
    }


def questions(config: Config, count: int) -> dict[str, Callable[[], object]]:
    """What is asked, by its command."""

    def listed(*, as_json: bool = False, **wanted: object) -> Callable[[], object]:
        return lambda: print_jobs(config, JobFilter(**wanted), limit=50, as_json=as_json)  # type: ignore[arg-type]

    return {
        "jobs": listed(),
        "jobs --limit 50 --json": listed(as_json=True),
        "jobs --since": listed(since=count * 5.0),
        "jobs --state HALTED": listed(states=("HALTED",)),
        "jobs --state RECEIVED (none)": listed(states=("RECEIVED",)),
        "jobs --state SEGMENTING (none)": listed(states=("SEGMENTING",)),
        "jobs --state KEPT (none)": listed(states=("KEPT",)),
        "jobs --rule (the ledger's)": listed(rule="liver-ct"),
        "jobs --study": listed(study_instance_uid=f"1.2.{count // 2}"),
        "jobs --rule (none)": listed(rule="liver-mr"),
        "jobs --destination (none)": listed(destination="ris"),
        "study": lambda: print_study(config, f"1.2.{count // 2}", as_json=False),
    }


def timed(question: Callable[[], object]) -> Callable[[int], float]:
    """Seconds that an answer takes, which is not shown."""

    def ask(_: int) -> float:
        started = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            question()
        return time.perf_counter() - started

    return ask


def main() -> None:
    """Fill two ledgers, ask both the same in turn, print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="porta-bench-") as folder:
        measures: dict[str, Callable[[int], float]] = {}
        for which, count in (("many", options.jobs), ("few", FEW)):
            peer = Peer(name="ris", ae_title="RIS", host="127.0.0.1", port=104)
            rule = Rule(name="liver-mr", match={"Modality": ("MR",)}, model="resnet50", destinations=("ris",))
            storage = Storage(root=Path(folder) / which)
            config = Config(storage=storage, peer=(peer,), destination=(Destination(peer="ris"),), rule=(rule,))
            fill(config, count)
            measures |= {f"{which} {name}": timed(ask) for name, ask in questions(config, count).items()}
        figures = in_turn(options.runs, measures)
    names = [name.removeprefix("few ") for name in figures if name.startswith("few ")]
    rows = [(f"porta {name}", spread(figures[f"many {name}"], 3), spread(figures[f"few {name}"], 3)) for name in names]
    print_table("Seconds until the answer", ("command", f"{options.jobs} jobs", f"{FEW} jobs"), rows)
    print_ratio(f"porta jobs: {options.jobs} jobs / {FEW} jobs", figures["many jobs"], figures["few jobs"])


if __name__ == "__main__":
    main()
