"""A series that is done, with its results, on each kind of ledger; and its retention, at a time that a test sets."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from daemon.choice import Choice, Chosen
from daemon.configuration.config import Config
from daemon.configuration.config import Retention as Section
from daemon.intake import Intake, Verdict
from daemon.jobs import DeliveryState, Event, Job
from daemon.ledger.store import Ledger, Outgoing
from daemon.retention.removal import DAY_S, Retention
from daemon.storage.integrity import SUMS, file_sha256, list_sums
from daemon.storage.spool import Spool, write_durably
from daemon.upkeep.verification import Verification, verify_storage
from dicom_io.files.uids import derive_uid
from reports.objects.kinds import FORMS

MakeCT = Callable[..., bytes]
EVERY = dict.fromkeys(("delivered_days", "kept_days", "rejected_days", "cancelled_days"), 1)


@dataclass
class Root:
    """A storage root with its ledger; series are numbers, each with two images, of a study of the same number."""

    spool: Spool
    ledger: Ledger
    clock: Any
    make_ct: MakeCT
    make_config: Callable[..., Config]

    def receive(self, series: int, *indices: int, **options: Any) -> list[Verdict]:
        intake = Intake(self.spool, self.ledger, self.clock)
        contents = [self.make_ct(series, index, **options) for index in indices or (1, 2)]
        return [intake.take(content, calling_ae_title="MODALITY").verdict for content in contents]

    def close(self, series: int, **values: Any) -> Job:
        """End the receiving of a series, under a rule or with a reason."""
        due = next(
            item
            for item in self.ledger.due_series(now=self.clock() + 1e6, quiet_s=20, released_quiet_s=5)
            if item.series_instance_uid == derive_uid("series", series)
        )
        self.ledger.close_series(due, now=self.clock(), **{"rule": "liver-ct"} | values)
        return self.ledger.job(due.job_id)

    def report(self, job: Job, *, confirm: str = "none", is_kept: bool = False, shadows: tuple[str, ...] = ()) -> Job:
        """Have the results of a closed job written, as its stages leave them."""
        of_study = self.ledger.jobs_of_study(job.study_instance_uid)
        assert self.ledger.choose(Choice(chosen=(Chosen(job),)), of_study, now=self.clock())
        folder = self.spool.outbox(job.id) / "0"
        write_durably(folder / "seg.dcm", b"seg" * 50)
        write_durably(folder / SUMS, list_sums(folder).encode())
        write_durably(self.spool.work(job.id) / "0" / "labels.npz", b"labels")
        sent = Outgoing(
            "archive",
            FORMS["seg"],
            derive_uid("seg", job.id),
            derive_uid("seg", "series", job.id),
            str((folder / "seg.dcm").relative_to(self.spool.root)),
            confirm,
            sha256=file_sha256(folder / "seg.dcm"),
            is_kept=is_kept,
        )
        for event in (Event.SEGMENTED, Event.REPORTED):
            claimed = self.ledger.claim_job("host/1", now=self.clock())
            assert claimed is not None
            outgoing = (sent,) if event == Event.REPORTED else ()
            self.ledger.finish_stage(
                claimed, event, now=self.clock(), outgoing=outgoing, shadow_models=shadows if outgoing else ()
            )
        return self.ledger.job(job.id)

    def deliver(self, job: Job, state: DeliveryState = DeliveryState.STORED) -> None:
        for item in self.ledger.deliveries_of(job.id):
            self.ledger.advance_delivery(item, state, now=self.clock(), status="0x0000")

    def delivered(self, series: int) -> Job:
        """A series that is done, with results that were sent."""
        self.receive(series)
        job = self.report(self.close(series))
        self.deliver(job)
        return self.ledger.job(job.id)

    def retention(self, **keys: Any) -> Retention:
        config = self.make_config(retention=Section(**keys))
        return Retention(config, self.spool, self.ledger, self.clock, lambda: 0.0)

    def files(self, *folders: str) -> list[str]:
        """The names of all files below folders, by default of those that hold images, results and labels."""
        return sorted(
            path.name
            for folder in folders or ("spool", "outbox", "work")
            for path in (self.spool.root / folder).rglob("*")
            if path.is_file() and not path.name.startswith(".")
        )

    def verify(self) -> Verification:
        return verify_storage(self.spool, self.ledger, clock=lambda: 9e10)

    def pass_days(self, days: float) -> None:
        self.clock.pass_s(days * DAY_S)


@pytest.fixture
def ledger(any_ledger: Ledger) -> Ledger:
    """On each kind of database."""
    return any_ledger


@pytest.fixture
def root(
    spool: Spool, ledger: Ledger, clock: Any, make_ct: MakeCT, make_config: Callable[..., Config], read_log: Any
) -> Root:
    clock.now = 4e9  # later than any file
    return Root(spool, ledger, clock, make_ct, make_config)


@pytest.fixture
def tombstones(spool: Spool) -> Callable[[], list[Path]]:
    """The tombstones that are final; none is pending."""

    def found() -> list[Path]:
        assert list((spool.root / "removing").glob("[!.]*")) == []
        return sorted((spool.root / "removed").iterdir())

    return found
