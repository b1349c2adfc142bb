"""Closing, stages and errors, with a ledger that is real, a time that is moved, and stages that are played."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from daemon.config import Config, Destination, Peer, Rule
from daemon.errors import LedgerUnavailable, StorageUnusable, WorkerCrashed
from daemon.executor import WorkerStopped
from daemon.intake import Intake
from daemon.jobs import HaltCode, State
from daemon.ledger import Ledger
from daemon.pipeline import Pipeline
from daemon.spool import Spool, write_durably
from daemon.stages import Engine, Reported, Result, load_models, report_series, segment_series
from dicom_io.errors import RejectReason, SeriesRejected
from dicom_io.uids import derive_uid
from models.errors import WeightsCorrupt
from reports.errors import GeometryNotProved
from reports.identity import ResultIdentity
from reports.measurements import Findings

CANARY = "ZZPHI^CANARY"
LEASE = "host/1"


@dataclass
class PlayedStages:
    """An executor that plays the two stages: each call takes the next act of the script, then goes well.

    An act is an error to raise, or a function to call in the middle of the stage.
    """

    acts: list[Exception | Callable[[], object]] = field(default_factory=list)
    calls: list[tuple[Any, tuple[Any, ...]]] = field(default_factory=list)
    seg: bool = True

    def run(self, deadline_s: float, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        assert deadline_s == 1800
        assert not kwargs
        self.calls.append((function, args))
        if function is segment_series:
            write_durably(args[3] / "labels.npz", b"labels")
        act = self.acts.pop(0) if self.acts else None
        if isinstance(act, Exception):
            raise act
        if act:
            act()
        if function is report_series:
            return self._reported(args[2])
        return ("NO_LESION",) if function is segment_series else None

    def _reported(self, outbox: Path) -> Reported:
        names = ("seg", "sr") if self.seg else ("sr",)
        results = []
        for name in names:
            path = outbox / f"{name}.dcm"
            if not path.exists():
                write_durably(path, f"{name} of call {len(self.calls)}".encode())
            results.append(Result(name, derive_uid(name), derive_uid(name, "series"), path))
        return Reported(tuple(results), Findings(0.0, None, (), None, ("SHORT",)))

    @property
    def stages(self) -> list[str]:
        return ["segment" if function is segment_series else "report" for function, _ in self.calls]


@dataclass
class Bench:
    """A pipeline with everything around it."""

    pipeline: Pipeline
    stages: PlayedStages
    intake: Intake
    ledger: Ledger
    spool: Spool
    clock: Any
    make_ct: Callable[..., bytes]

    def receive(self, *indexes: int, series: int = 1, change: Callable[[Any], None] | None = None) -> None:
        for index in indexes:
            self.intake.take(self.make_ct(series, index, change=change), calling_ae_title="MODALITY")

    def close(self) -> int:
        self.clock.pass_s(20)
        return self.pipeline.close_due()

    @property
    def job(self) -> Any:
        (job,) = self.ledger.all_jobs()
        return job


@pytest.fixture
def make_bench(
    spool: Spool,
    ledger: Ledger,
    clock: Any,
    make_ct: Callable[..., bytes],
    make_config: Callable[..., Config],
    read_log: Any,
    tmp_path: Path,
    assert_no_canary: Callable[[Path], None],
) -> Iterator[Callable[..., Bench]]:
    def make(*acts: Exception | Callable[[], object], config: Config | None = None, seg: bool = True) -> Bench:
        stages = PlayedStages(list(acts), seg=seg)
        pipeline = Pipeline(
            config or make_config(), spool, ledger, stages, LEASE, "1.2.3", clock=clock, jitter=lambda: 0.5
        )
        return Bench(pipeline, stages, Intake(spool, ledger, clock), ledger, spool, clock, make_ct)

    yield make
    assert read_log.events is not None
    assert_no_canary(tmp_path)


# --- closing


def test_a_quiet_series_is_closed_under_its_rule(make_bench: Callable[..., Bench], read_log: Any):
    """Not before its time; and then once."""
    bench = make_bench()
    bench.receive(1, 2, 3)
    assert bench.pipeline.close_due() == 0
    bench.clock.pass_s(19.9)
    assert bench.pipeline.close_due() == 0
    bench.clock.pass_s(0.1)
    assert bench.pipeline.close_due() == 1
    assert (bench.job.state, bench.job.rule, bench.job.instances) == (State.RECEIVED, "liver-ct", 3)
    assert bench.pipeline.close_due() == 0
    (line,) = read_log.named("series.closed")
    assert (line["job_id"], line["instances"], line["rule"]) == (bench.job.id, 3, "liver-ct")


def test_a_released_series_is_closed_sooner(make_bench: Callable[..., Bench]):
    """`released_quiet_s` of the configuration."""
    bench = make_bench()
    bench.receive(1)
    bench.ledger.release_series([bench.job.series_instance_uid], now=bench.clock())
    bench.clock.pass_s(5)
    assert bench.pipeline.close_due() == 1


def test_a_series_no_rule_matches_is_rejected(make_bench: Callable[..., Bench]):
    """Never silence: the job is there with its reason, and nothing is done with it."""
    bench = make_bench()
    bench.receive(1, change=lambda ds: setattr(ds, "Modality", "MR"))
    assert bench.close() == 1
    assert (bench.job.state, bench.job.reject_reason, bench.job.rule) == (State.REJECTED, RejectReason.NO_RULE, None)
    assert bench.pipeline.work_off() == 0
    assert bench.stages.calls == []


def test_the_rule_brings_its_priority(make_bench: Callable[..., Bench], make_config: Callable[..., Config]):
    """The more urgent series is worked on first, though it came last."""
    (usual,) = make_config().rules
    urgent = usual.model_copy(update={"name": "stat", "match": {"SeriesDescription": ("STAT*",)}, "priority": 9})
    bench = make_bench(config=make_config(rule=(urgent, usual)))
    bench.receive(1, series=1)
    bench.receive(1, series=2, change=lambda ds: setattr(ds, "SeriesDescription", "Stat abdomen"))
    assert bench.close() == 2
    assert bench.pipeline.work_off() == 4
    first = bench.stages.calls[0][1][0]
    assert derive_uid("series", 2) in str(first[0])


def test_a_file_that_is_gone_does_not_hold_up_the_others(make_bench: Callable[..., Bench]):
    """The rule is found by another file of the series; other series are closed whatever became of this one."""
    bench = make_bench()
    bench.receive(1, 2, series=1)
    bench.receive(1, series=2)
    bench.receive(1, series=3)
    one, _ = bench.ledger.instance_paths(derive_uid("series", 1))
    (only,) = bench.ledger.instance_paths(derive_uid("series", 2))
    for path in (one, only):
        (bench.spool.root / path).unlink()
    assert bench.close() == 3
    states = {job.series_instance_uid: (job.state, job.reject_reason) for job in bench.ledger.all_jobs()}
    assert states == {
        derive_uid("series", 1): (State.RECEIVED, None),
        derive_uid("series", 2): (State.REJECTED, RejectReason.NO_RULE),
        derive_uid("series", 3): (State.RECEIVED, None),
    }


# --- the way through


def test_from_received_to_the_outbox(make_bench: Callable[..., Bench], read_log: Any):
    """Both stages, what they are given, what they leave, and what is then to be delivered."""
    bench = make_bench()
    bench.receive(1, 2, 3)
    created = bench.clock()
    bench.close()
    assert bench.pipeline.work_off() == 2
    job = bench.job
    assert (job.state, job.lease, job.attempts) == (State.REPORTED, None, 0)
    assert job.warnings == ("NO_LESION", "SHORT")
    paths = [bench.spool.root / path for path in bench.ledger.instance_paths(job.series_instance_uid)]
    assert len(paths) == 3
    (segment, segment_args), (report, report_args) = bench.stages.calls
    assert segment is segment_series
    assert segment_args == (paths, "resnet50", Engine("auto", None), bench.spool.work(job.id))
    assert report is report_series
    assert report_args[:3] == (paths, bench.spool.work(job.id), bench.spool.outbox(job.id))
    identity = report_args[3]
    assert isinstance(identity, ResultIdentity)
    assert (identity.revision, identity.software_version) == (1, "1.2.3")
    assert identity.created.timestamp() == created
    seg, sr = bench.ledger.deliveries_of(job.id)
    assert (seg.destination, seg.object, seg.path) == ("archive", "seg", f"outbox/{job.id}/seg.dcm")
    assert (sr.destination, sr.object, sr.sop_instance_uid) == ("archive", "sr", derive_uid("sr"))
    assert not bench.spool.work(job.id).exists()
    assert [line["from_state"] for line in read_log.named("stage.finished")] == ["RECEIVED", "SEGMENTED"]
    assert {line["job_id"] for line in read_log.named("stage.finished")} == {job.id}


def test_each_destination_gets_what_it_wants(make_bench: Callable[..., Bench], make_config: Callable[..., Config]):
    """Two destinations of one rule, one of which takes only the SR and confirms it."""
    config = make_config(
        peer=tuple(Peer(name=name, ae_title=name.upper(), host="127.0.0.1", port=104) for name in ("archive", "ris")),
        destination=(Destination(peer="archive"), Destination(peer="ris", objects=("sr",), confirm="query")),
        rule=(Rule(name="all", match={}, model="resnet50", destinations=("archive", "ris")),),
    )
    bench = make_bench(config=config)
    bench.receive(1)
    bench.close()
    bench.pipeline.work_off()
    found = [(item.destination, item.object, item.confirm) for item in bench.ledger.deliveries_of(bench.job.id)]
    assert found == [("archive", "seg", "none"), ("archive", "sr", "none"), ("ris", "sr", "query")]


def test_nothing_to_deliver_is_an_end(make_bench: Callable[..., Bench], make_config: Callable[..., Config]):
    """No liver, no SEG, and a destination that takes nothing else: the job does not wait for ever."""
    bench = make_bench(config=make_config(destination=(Destination(peer="archive", objects=("seg",)),)), seg=False)
    bench.receive(1)
    bench.close()
    bench.pipeline.work_off()
    assert bench.ledger.deliveries_of(bench.job.id) == []
    assert bench.job.state == State.COMMITTED


def test_a_revision_is_said_in_the_identity(make_bench: Callable[..., Bench]):
    """A late slice after the results: all slices again, revision 2, an outbox of its own."""
    bench = make_bench()
    bench.receive(1, 2)
    bench.close()
    bench.pipeline.work_off()
    bench.receive(3)
    bench.close()
    assert bench.pipeline.work_off() == 2
    first, second = bench.ledger.all_jobs()
    assert (first.state, second.state, second.instances) == (State.REPORTED, State.REPORTED, 3)
    identities = [args[3] for function, args in bench.stages.calls if function is report_series]
    assert [identity.revision for identity in identities] == [1, 2]
    assert identities[0].seed == identities[1].seed
    assert bench.ledger.deliveries_of(first.id)[0].path != bench.ledger.deliveries_of(second.id)[0].path


def test_a_rule_that_is_no_longer_configured(make_bench: Callable[..., Bench], make_config: Callable[..., Config]):
    """The series was closed under it, and only a person knows what to do with it now: the job halts."""
    bench = make_bench()
    bench.receive(1)
    bench.close()
    rule = Rule(name="other", match={}, model="resnet50", destinations=("archive",))
    make_bench(config=make_config(rule=(rule,))).pipeline.work_off()
    assert (bench.job.state, bench.job.halt) == (State.RECEIVED, HaltCode.RULE_GONE)


# --- what errors do


def test_a_rejection_is_the_end_with_its_reason(make_bench: Callable[..., Bench], read_log: Any):
    """In the ledger and in the log, as a code."""
    bench = make_bench(SeriesRejected(RejectReason.TOO_FEW_SLICES, "1 of at least 5."))
    bench.receive(1)
    bench.close()
    assert bench.pipeline.work_off() == 1
    assert (bench.job.state, bench.job.reject_reason) == (State.REJECTED, "TOO_FEW_SLICES")
    assert bench.ledger.history(bench.job.id)[-1]["code"] == "TOO_FEW_SLICES"
    assert [line["reason"] for line in read_log.named("job.rejected")] == ["TOO_FEW_SLICES"]


def test_a_rejection_by_the_second_stage(make_bench: Callable[..., Bench]):
    """It reads the same files again, and finds what the first did not: a file that was damaged in between."""
    bench = make_bench(lambda: None, SeriesRejected(RejectReason.UNREADABLE_PIXELS))
    bench.receive(1)
    bench.close()
    assert bench.pipeline.work_off() == 2
    assert (bench.job.state, bench.job.reject_reason) == (State.REJECTED, "UNREADABLE_PIXELS")


def test_a_crash_is_tried_again_and_then_halts(make_bench: Callable[..., Bench], read_log: Any):
    """Ever more slowly, as often as configured; a retry begins anew, and the result is as if nothing had been."""
    bench = make_bench(*[WorkerCrashed("exit code 1")] * 3)
    bench.receive(1)
    bench.close()
    for attempts, wait_s in ((1, 2.0), (2, 4.0)):
        assert bench.pipeline.work_off() == 1
        job = bench.job
        assert (job.state, job.attempts, job.not_before) == (State.RECEIVED, attempts, bench.clock() + wait_s)
        bench.clock.pass_s(wait_s - 0.1)
        assert bench.pipeline.work_off() == 0
        bench.clock.pass_s(0.2)
    assert bench.pipeline.work_off() == 1
    assert (bench.job.state, bench.job.halt, bench.job.attempts) == (State.RECEIVED, HaltCode.WORKER_FAILED, 3)
    bench.clock.pass_s(100_000)
    assert bench.pipeline.work_off() == 0
    assert [line["attempts"] for line in read_log.named("job.postponed")] == [1, 2]
    assert [(line["halt"], line["level"]) for line in read_log.named("job.halted")] == [("WORKER_FAILED", "error")]
    bench.ledger.retry(bench.job.id, now=bench.clock())
    assert bench.pipeline.work_off() == 2
    assert (bench.job.state, bench.job.halt, bench.job.attempts) == (State.REPORTED, None, 0)


def test_attempts_are_counted_for_each_stage(make_bench: Callable[..., Bench]):
    """Two failures of the first do not leave the second with one try."""
    crash = WorkerCrashed("exit code 1")
    bench = make_bench(crash, crash, lambda: None, crash, crash)
    bench.receive(1)
    bench.close()
    for _ in range(5):
        bench.pipeline.work_off()
        bench.clock.pass_s(10)
    assert bench.job.state == State.REPORTED
    assert bench.stages.stages == ["segment"] * 3 + ["report"] * 3


def test_what_a_person_must_look_at_halts_at_once(make_bench: Callable[..., Bench]):
    """A SEG that is not where it belongs is not sent, and not tried again; the work is kept for the retry."""
    bench = make_bench(lambda: None, GeometryNotProved("centroid 12 mm off"))
    bench.receive(1)
    bench.close()
    assert bench.pipeline.work_off() == 2
    assert (bench.job.state, bench.job.halt) == (State.SEGMENTED, HaltCode.GEOMETRY_NOT_PROVED)
    assert bench.ledger.due_deliveries(now=bench.clock()) == []
    bench.ledger.retry(bench.job.id, now=bench.clock())
    assert bench.pipeline.work_off() == 1
    assert bench.stages.stages == ["segment", "report", "report"]


def test_a_full_disk_costs_no_attempt(make_bench: Callable[..., Bench], read_log: Any):
    """However long it lasts: the job waits, and goes on when there is room."""
    bench = make_bench(*[StorageUnusable("no room")] * 7)
    bench.receive(1)
    bench.close()
    for _ in range(7):
        assert bench.pipeline.work_off() == 1
        assert (bench.job.state, bench.job.attempts, bench.job.halt) == (State.RECEIVED, 0, None)
        assert bench.job.not_before == bench.clock() + 3
        bench.clock.pass_s(3)
    assert bench.pipeline.work_off() == 2
    assert bench.job.state == State.REPORTED
    assert {line["attempts"] for line in read_log.named("job.postponed")} == {0}


def test_a_stop_costs_no_attempt(make_bench: Callable[..., Bench]):
    """The service ends; whoever comes next takes the job at once, with all of its attempts."""
    bench = make_bench(WorkerStopped("the service is stopping"))
    bench.receive(1)
    bench.close()
    with pytest.raises(WorkerStopped):
        bench.pipeline.work_off()
    job = bench.job
    assert (job.state, job.attempts, job.lease, job.halt) == (State.RECEIVED, 0, None, None)
    assert bench.pipeline.work_off() == 2


def test_an_unexpected_error_is_tried_again_and_says_nothing(make_bench: Callable[..., Bench], read_log: Any):
    """Whatever a library quotes in its message stays out of the ledger and the log."""
    bench = make_bench(*[ValueError(CANARY)] * 3)
    bench.receive(1)
    bench.close()
    for _ in range(3):
        bench.pipeline.work_off()
        bench.clock.pass_s(10)
    assert bench.job.halt == HaltCode.UNEXPECTED
    codes = [row["code"] for row in bench.ledger.history(bench.job.id)]
    assert codes[-3:] == ["ValueError", "ValueError", "UNEXPECTED"]


class LedgerAwayOnce:
    """A ledger that is away at the moment when a stage is to be finished."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._away = True

    def finish_stage(self, *args: Any, **kwargs: Any) -> bool:
        if self._away:
            self._away = False
            raise LedgerUnavailable("OperationalError")
        return self._ledger.finish_stage(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)


def test_a_ledger_that_was_away_when_a_stage_ended(make_bench: Callable[..., Bench]):
    """The same worker takes the job up again, though its heartbeat kept the lease all the time."""
    bench = make_bench()
    bench.receive(1)
    bench.close()
    pipeline = replace(bench.pipeline, ledger=LedgerAwayOnce(bench.ledger))  # type: ignore[arg-type]
    with pytest.raises(LedgerUnavailable):
        pipeline.work_off()
    for _ in range(10):
        bench.ledger.renew_lease(LEASE, now=bench.clock.pass_s(10))
    assert pipeline.work_off() == 2
    assert bench.job.state == State.REPORTED
    assert bench.stages.stages == ["segment", "segment", "report"]


# --- late slices


@pytest.mark.parametrize("stage", ["segment", "report"])
def test_a_result_of_fewer_slices_is_discarded(make_bench: Callable[..., Bench], read_log: Any, stage: str):
    """A late slice reopened the job while the stage ran: nothing of the old result is sent, and nothing of it kept."""
    late: list[Callable[[], object]] = [lambda: bench.receive(3)]
    bench = make_bench(*([] if stage == "segment" else [lambda: None]), *late)
    bench.receive(1, 2)
    bench.close()
    assert bench.pipeline.work_off() == (1 if stage == "segment" else 2)
    assert (bench.job.state, bench.job.instances, bench.job.lease) == (State.RECEIVING, 3, None)
    assert len(read_log.named("stage.discarded")) == 1
    assert bench.ledger.deliveries_of(bench.job.id) == []
    calls = len(bench.stages.calls)
    bench.close()
    assert bench.pipeline.work_off() == 2
    assert bench.job.state == State.REPORTED
    assert all(len(args[0]) == 3 for _, args in bench.stages.calls[calls:])
    seg = bench.spool.outbox(bench.job.id) / "seg.dcm"
    assert seg.read_text() == f"seg of call {len(bench.stages.calls)}"


def test_an_error_about_fewer_slices_is_discarded(make_bench: Callable[..., Bench], read_log: Any):
    """The late slice may be the one whose absence the stage complains of."""
    bench: Bench

    def late_then_rejected() -> None:
        bench.receive(2)
        raise SeriesRejected(RejectReason.UNEVEN_SPACING)

    bench = make_bench(late_then_rejected)
    bench.receive(1, 3)
    bench.close()
    assert bench.pipeline.work_off() == 1
    assert (bench.job.state, bench.job.reject_reason) == (State.RECEIVING, None)
    assert read_log.named("job.rejected") == []
    bench.close()
    assert bench.pipeline.work_off() == 2
    assert bench.job.state == State.REPORTED


def test_walking_an_edge_twice_keeps_what_was_written(make_bench: Callable[..., Bench]):
    """The report was written and the service killed before the ledger knew: the same bytes are sent, never others."""
    bench = make_bench(lambda: None, WorkerCrashed("exit code 1"))
    bench.receive(1)
    bench.close()
    assert bench.pipeline.work_off() == 2
    seg = bench.spool.outbox(bench.job.id) / "seg.dcm"
    write_durably(seg, b"written before the kill")
    bench.clock.pass_s(10)
    assert bench.pipeline.work_off() == 1
    assert bench.job.state == State.REPORTED
    assert seg.read_bytes() == b"written before the kill"


# --- warming up


def test_the_models_of_all_rules_are_loaded_ahead(make_bench: Callable[..., Bench], make_config: Callable[..., Config]):
    """Each once, in the worker, on the device that is configured."""
    (usual,) = make_config().rules
    rules = [usual.model_copy(update={"name": f"rule-{n}", "model": model}) for n, model in enumerate("bab")]
    bench = make_bench(config=make_config(rule=tuple(rules)))
    bench.pipeline.warm_up()
    assert bench.stages.calls == [(load_models, (["a", "b"], Engine("auto", None)))]


@pytest.mark.parametrize("error", [WeightsCorrupt("sha256"), WorkerCrashed("exit code 1")])
def test_models_that_cannot_be_loaded_do_not_end_the_service(
    make_bench: Callable[..., Bench], read_log: Any, error: Exception
):
    """It says so, and goes on receiving; the first job will halt with the reason."""
    make_bench(error).pipeline.warm_up()
    (line,) = read_log.named("models.failed")
    assert line["level"] == "error"


def test_a_stop_while_warming_up(make_bench: Callable[..., Bench]):
    """Is no failure of the models."""
    with pytest.raises(WorkerStopped):
        make_bench(WorkerStopped("stopping")).pipeline.warm_up()


# --- after a time without ears


def test_silence_counts_while_somebody_listens(make_bench: Callable[..., Bench]):
    """A service that was down for an hour in the middle of a series waits for the rest of it."""
    bench = make_bench()
    bench.receive(1)
    bench.clock.pass_s(3600)
    again = replace(bench.pipeline, listening_since=bench.clock())
    assert again.close_due() == 0
    bench.clock.pass_s(19.9)
    assert again.close_due() == 0
    bench.clock.pass_s(0.1)
    assert again.close_due() == 1
