"""Shadows: compared once, after the results, whatever fails; the job, its results and its deliveries never know."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from daemon.choice import Choice, Chosen
from daemon.configuration.config import Config, Rule
from daemon.errors import LedgerUnavailable, WorkerCrashed, WorkerStopped, WorkerTimedOut
from daemon.jobs import Event, HaltCode, Shadow, ShadowState, State
from daemon.ledger.rows import Compared
from daemon.ledger.store import Instance, Ledger, Outgoing
from daemon.shadows import Shadows
from daemon.storage.spool import Spool, write_durably
from daemon.worker.executor import LocalExecutor, Setup, Stage
from daemon.worker.requests import SHADOW, Engine, ShadowRequest
from dicom_io.errors import NotDicom, RejectReason, SeriesRejected
from dicom_io.files.uids import derive_uid
from models.errors import WeightsCorrupt
from reports.objects.kinds import FORMS

LEASE = "host/1"
VOLUME = {"volume_index": 0, "liver_dice": 0.91, "lesion_dice": None, "liver_rvd": -0.04, "lesions": 2}


@dataclass
class PlayedWorker:
    """Each call takes the next act of the script (an error, or something to do meanwhile), then goes well."""

    acts: list[Exception | Callable[[], object]] = field(default_factory=list)
    requests: list[ShadowRequest] = field(default_factory=list)
    rests: int = 0

    def run(self, deadline_s: float, stage: Stage[Any, Any], request: Any) -> Any:
        assert (deadline_s, stage) == (1800, SHADOW)
        self.requests.append(request)
        act = self.acts.pop(0) if self.acts else None
        if isinstance(act, Exception):
            raise act
        if act:
            act()
        return Compared("2.0", "ab" * 32, (VOLUME,))

    def rest(self) -> None:
        self.rests += 1


@dataclass
class Bench:
    """Jobs that are reported, with the labels that they left, and the shadows that are to come."""

    shadows: Shadows
    worker: PlayedWorker
    ledger: Ledger
    spool: Spool
    clock: Any
    make_instance: Callable[..., Instance]

    def report(self, series: int = 1, models: tuple[str, ...] = ("other",), items: tuple[Outgoing, ...] = ()) -> int:
        """A job that was reported with these shadows; its id."""
        now = self.clock()
        instance = self.make_instance(series)
        self.ledger.record_instance(instance, now=now)
        due = self.ledger.due_series(now=now + 100, quiet_s=20, released_quiet_s=5)
        (item,) = [item for item in due if item.series_instance_uid == instance.series_instance_uid]
        self.ledger.close_series(item, now=now + 100, rule="liver-ct")
        job = self.ledger.job(item.job_id)
        self.ledger.choose(Choice(chosen=(Chosen(job),)), [job], now=now)
        for event in (Event.SEGMENTED, Event.REPORTED):
            claimed = self.ledger.claim_job(LEASE, now=now)
            assert claimed is not None
            more = {"outgoing": items, "shadow_models": models} if event == Event.REPORTED else {}
            assert self.ledger.finish_stage(claimed, event, now=now, **more)
        write_durably(self.spool.work(job.id) / "0" / "labels.npz", b"labels")
        return job.id

    def found(self, job_id: int = 1) -> list[tuple[str, str, str | None, int]]:
        return [(item.model, str(item.state), item.code, item.attempts) for item in self.ledger.shadows_of(job_id)]

    def kept(self, job_id: int = 1) -> bool:
        return self.spool.work(job_id).exists()


@pytest.fixture
def make_bench(
    spool: Spool,
    ledger: Ledger,
    clock: Any,
    make_instance: Callable[..., Instance],
    make_config: Callable[..., Config],
    read_log: Any,
) -> Callable[..., Bench]:
    def make(*acts: Exception | Callable[[], object]) -> Bench:
        worker = PlayedWorker(list(acts))
        config = make_config().with_cards({"other": Path("/srv/other.json")})
        shadows = Shadows(config, spool, ledger, worker, clock=clock, jitter=lambda: 0.5)
        return Bench(shadows, worker, ledger, spool, clock, make_instance)

    return make


def test_a_shadow_is_run_compared_and_written_down(make_bench: Callable[..., Bench], read_log: Any) -> None:
    """With the card that its name means; then the labels are not needed any more, and the worker rests."""
    bench = make_bench()
    job_id = bench.report()
    assert bench.shadows.compare_due() == 1
    paths = tuple(bench.spool.root / path for path in bench.ledger.instance_paths(derive_uid("series", 1)))
    request = ShadowRequest(paths, "/srv/other.json", Engine("auto", None), bench.spool.work(job_id))
    assert bench.worker.requests == [request]
    (shadow,) = bench.ledger.shadows_of(job_id)
    assert (shadow.state, shadow.code, shadow.attempts) == (ShadowState.COMPARED, None, 0)
    assert (shadow.version, shadow.sha256, shadow.volumes) == ("2.0", "ab" * 32, (VOLUME,))
    assert not bench.kept()
    assert bench.worker.rests == 1
    assert bench.shadows.compare_due() == 0
    assert bench.worker.rests == 1
    (line,) = read_log.named("shadow.compared")
    assert (line["model"], line["job_id"]) == ("other", job_id)
    assert bench.ledger.history(job_id)[-1]["event"] == "SHADOW_COMPARED"


def test_two_shadows_share_the_labels(make_bench: Callable[..., Bench]) -> None:
    """They stay until the last one is settled."""
    seen: list[bool] = []
    bench = make_bench(lambda: seen.append(bench.kept()), lambda: seen.append(bench.kept()))
    bench.report(models=("other", "third"))
    assert bench.shadows.compare_due() == 2
    assert seen == [True, True]
    assert [request.model for request in bench.worker.requests] == ["/srv/other.json", "third"]
    assert not bench.kept()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SeriesRejected(RejectReason.NO_MODEL), "NO_MODEL"),
        (WeightsCorrupt("ZZPHI^CANARY"), "MODEL_UNUSABLE"),
        (NotDicom("ZZPHI^CANARY", "gone"), "SPOOL_UNREADABLE"),
        (FileNotFoundError("ZZPHI^CANARY"), "SPOOL_UNREADABLE"),
    ],
)
def test_what_cannot_pass_gives_the_shadow_up(
    make_bench: Callable[..., Bench], read_log: Any, error: Exception, code: str
) -> None:
    """Once, with its code, and no word of the error's in the log; the job goes on as it was."""
    bench = make_bench(error)
    job_id = bench.report(items=(outgoing(),))
    before = bench.ledger.job(job_id), bench.ledger.deliveries_of(job_id)
    assert bench.shadows.compare_due() == 1
    assert bench.found() == [("other", "FAILED", code, 1)]
    assert (bench.ledger.job(job_id), bench.ledger.deliveries_of(job_id)) == before
    assert not bench.kept()
    assert [line["code"] for line in read_log.named("shadow.failed")] == [code]


def outgoing() -> Outgoing:
    return Outgoing("archive", FORMS["seg"], derive_uid("seg"), derive_uid("seg", "series"), "outbox/1/seg.dcm", "none")


def test_a_worker_that_fails_is_tried_again_until_its_attempts_are_used_up(make_bench: Callable[..., Bench]) -> None:
    """Ever more slowly, as a stage is; then the shadow has failed. The labels stay meanwhile, the job knows nothing."""
    bench = make_bench(WorkerCrashed("exit code 1"), WorkerTimedOut("1800 s"), WorkerCrashed("killed"))
    job_id = bench.report(items=(outgoing(),))
    before = bench.ledger.job(job_id)
    assert bench.shadows.compare_due() == 1
    assert bench.found() == [("other", "PENDING", "WorkerCrashed", 1)]
    assert bench.kept()
    assert bench.shadows.compare_due() == 0
    bench.clock.pass_s(3)
    assert bench.shadows.compare_due() == 1
    assert bench.found() == [("other", "PENDING", "WorkerTimedOut", 2)]
    bench.clock.pass_s(6)
    assert bench.shadows.compare_due() == 1
    assert bench.found() == [("other", "FAILED", "WORKER_FAILED", 3)]
    assert not bench.kept()
    assert bench.ledger.job(job_id) == before
    assert bench.ledger.job(job_id).state == State.REPORTED


def test_one_that_waits_holds_up_no_other(make_bench: Callable[..., Bench]) -> None:
    """Of two jobs the first one's shadow failed for now."""
    bench = make_bench(WorkerCrashed("exit code 1"))
    first, second = bench.report(1), bench.report(2)
    assert bench.shadows.compare_due() == 2
    assert [bench.found(job)[0][1] for job in (first, second)] == ["PENDING", "COMPARED"]
    assert (bench.kept(first), bench.kept(second)) == (True, False)


def test_none_begins_while_a_job_waits_or_is_worked_on(make_bench: Callable[..., Bench]) -> None:
    """They share a device: the shadows of one job wait until the next one is reported, also between two of them."""
    bench = make_bench()
    bench.report(1, models=("other", "third"))
    bench.ledger.record_instance(bench.make_instance(2), now=bench.clock())
    (due,) = bench.ledger.due_series(now=bench.clock() + 100, quiet_s=20, released_quiet_s=5)

    def closed() -> None:
        bench.ledger.close_series(due, now=bench.clock(), rule="liver-ct")
        job = bench.ledger.job(due.job_id)
        bench.ledger.choose(Choice(chosen=(Chosen(job),)), [job], now=bench.clock())

    bench.worker.acts.append(closed)
    assert bench.shadows.compare_due() == 1
    assert [state for _, state, _, _ in bench.found()] == ["COMPARED", "PENDING"]
    assert bench.worker.rests == 1
    for event in (Event.SEGMENTED, Event.REPORTED):
        assert bench.shadows.compare_due() == 0
        claimed = bench.ledger.claim_job(LEASE, now=bench.clock())
        assert claimed is not None
        assert bench.shadows.compare_due() == 0
        assert bench.ledger.finish_stage(claimed, event, now=bench.clock())
    assert len(bench.worker.requests) == 1
    assert bench.shadows.compare_due() == 1
    assert [state for _, state, _, _ in bench.found()] == ["COMPARED", "COMPARED"]


def test_a_job_that_stands_still_holds_up_no_shadow(make_bench: Callable[..., Bench]) -> None:
    """One that is halted may stand so for weeks, and one that is to be tried again later needs nothing now."""
    for halted in (True, False):
        bench = make_bench()
        bench.report(1 if halted else 2)
        number = 3 if halted else 4
        bench.ledger.record_instance(bench.make_instance(number), now=bench.clock())
        (due,) = bench.ledger.due_series(now=bench.clock() + 100, quiet_s=20, released_quiet_s=5)
        bench.ledger.close_series(due, now=bench.clock(), rule="liver-ct")
        job = bench.ledger.job(due.job_id)
        bench.ledger.choose(Choice(chosen=(Chosen(job),)), [job], now=bench.clock())
        claimed = bench.ledger.claim_job(LEASE, now=bench.clock())
        assert claimed is not None
        if halted:
            bench.ledger.halt(claimed, HaltCode.MODEL_UNUSABLE, now=bench.clock())
        else:
            bench.ledger.postpone(claimed, now=bench.clock(), until=bench.clock() + 60, code="X", counts=True)
        assert bench.shadows.compare_due() == 1


@pytest.mark.parametrize("error", [WorkerStopped("stopping"), LedgerUnavailable("away")])
def test_what_is_broken_off_costs_nothing(make_bench: Callable[..., Bench], error: Exception) -> None:
    """The service is stopping, or the ledger is away: it is due again, with its labels."""
    bench = make_bench(error)
    bench.report()
    with pytest.raises(type(error)):
        bench.shadows.compare_due()
    assert bench.found() == [("other", "PENDING", None, 0)]
    assert bench.kept()
    assert bench.shadows.compare_due() == 1
    assert bench.found() == [("other", "COMPARED", None, 0)]


class KilledWorker(PlayedWorker):
    """SIGKILL to the service while a shadow runs."""

    def run(self, deadline_s: float, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


class KilledSpool(Spool):
    """SIGKILL to the service between what is written down and its tidying."""

    def clear_work(self, job_id: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("moment", ["running", "written down"])
def test_killed_at_any_moment_it_is_compared_once(
    make_bench: Callable[..., Bench], tmp_path: Path, moment: str
) -> None:
    """A process of its own is killed: row and labels say what is to do, and a service that begins does it."""
    bench = make_bench()
    bench.report()
    pid = os.fork()
    if pid == 0:
        killed = Shadows(
            bench.shadows.config,
            KilledSpool(bench.spool.root) if moment == "written down" else bench.spool,
            Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}"),
            KilledWorker() if moment == "running" else bench.worker,
            clock=bench.clock,
        )
        killed.compare_due()
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert bench.found() == [("other", "PENDING" if moment == "running" else "COMPARED", None, 0)]
    assert bench.kept()
    bench.shadows.sweep()
    assert bench.kept() == (moment == "running")
    assert bench.shadows.compare_due() == (1 if moment == "running" else 0)
    assert bench.found() == [("other", "COMPARED", None, 0)]
    assert [row["event"] for row in bench.ledger.history(1)].count("SHADOW_COMPARED") == 1
    assert not bench.kept()


def test_a_series_that_has_grown_is_not_compared(make_bench: Callable[..., Bench]) -> None:
    """A late slice: the labels are of fewer; the next revision has a shadow of its own."""
    bench = make_bench()
    job_id = bench.report()
    bench.ledger.record_instance(bench.make_instance(1, 2), now=bench.clock())
    assert bench.shadows.compare_due() == 1
    assert bench.found(job_id) == [("other", "FAILED", "LATE_INSTANCE", 0)]
    assert bench.worker.requests == []
    assert not bench.kept()


def test_a_cancelled_job_s_shadow_is_left(make_bench: Callable[..., Bench]) -> None:
    """And its labels go."""
    bench = make_bench()
    job_id = bench.report(items=(outgoing(),))
    bench.ledger.cancel(job_id, now=bench.clock())
    assert bench.shadows.compare_due() == 1
    assert bench.found() == [("other", "FAILED", "CANCELLED", 0)]
    assert bench.worker.requests == []
    assert not bench.kept()


def test_it_is_settled_once(make_bench: Callable[..., Bench]) -> None:
    """What was written down stays."""
    bench = make_bench()
    job_id = bench.report()
    (shadow,) = bench.ledger.shadows_of(job_id)
    assert isinstance(shadow, Shadow)
    bench.shadows.compare_due()
    bench.ledger.settle_shadow(shadow, now=bench.clock(), code="CANCELLED")
    assert bench.found() == [("other", "COMPARED", None, 0)]
    assert [row["event"] for row in bench.ledger.history(job_id)].count("SHADOW_COMPARED") == 1


def test_work_that_nobody_needs_is_swept(make_bench: Callable[..., Bench]) -> None:
    """What a kill left between a move and its tidying; not that of a job that is worked on, nor of one unknown."""
    bench = make_bench()
    done, pending = bench.report(1, models=()), bench.report(2)
    bench.ledger.record_instance(bench.make_instance(3), now=bench.clock())
    for job_id in (3, 99):
        write_durably(bench.spool.work(job_id) / "0" / "labels.npz", b"labels")
    for job_id in (pending, 3):
        write_durably(bench.spool.work(job_id) / "priors" / "0.dcm", b"an earlier study")
    assert bench.ledger.job(3).state == State.RECEIVING
    bench.shadows.sweep()
    assert [bench.kept(job_id) for job_id in (done, pending, 3, 99)] == [False, True, True, True]
    earlier = [(bench.spool.work(job_id) / "priors").exists() for job_id in (pending, 3)]
    assert earlier == [False, True]  # a job that is worked on compares with them yet
    assert (bench.spool.work(pending) / "0" / "labels.npz").exists()


def test_a_rule_that_is_gone_does_not_stop_what_was_asked_for(
    make_bench: Callable[..., Bench], make_config: Callable[..., Config]
) -> None:
    """The ledger knows the model's name, and nothing else is needed."""
    bench = make_bench()
    bench.report()
    rule = Rule(name="new", match={}, model="resnet50", destinations=("archive",))
    after = Shadows(make_config(rule=(rule,)), bench.spool, bench.ledger, bench.worker, clock=bench.clock)
    assert after.compare_due() == 1
    assert bench.found() == [("other", "COMPARED", None, 0)]


def test_both_databases_keep_the_figures(any_ledger: Ledger, make_bench: Callable[..., Bench]) -> None:
    """As they were found, nothing else."""
    bench = make_bench()
    bench.ledger = any_ledger
    job_id = bench.report(items=(outgoing(),), models=("other", "name@" + "v" * 64))
    first, second = any_ledger.due_shadows(now=bench.clock())
    assert (first.job_state, first.instances, first.series_instance_uid) == ("REPORTED", 1, derive_uid("series", 1))
    any_ledger.settle_shadow(first, now=1.0, compared=Compared("v" * 64, "ab" * 32, (VOLUME, {"volume_index": 1})))
    any_ledger.postpone_shadow(second, until=bench.clock() + 5, code="WorkerCrashed", counts=True)
    assert any_ledger.due_shadows(now=bench.clock()) == []
    (again,) = any_ledger.due_shadows(now=bench.clock() + 5)
    assert (again.model, again.attempts, again.code) == (second.model, 1, "WorkerCrashed")
    kept = any_ledger.shadows_of(job_id)[0]
    assert json.loads(json.dumps(kept.volumes)) == [VOLUME, {"volume_index": 1}]


def test_its_worker_is_the_last_to_run_and_the_first_to_go(read_log: Any) -> None:
    """Low priority for the processor; where memory runs out the kernel takes it; it ends when it rests."""
    executor = LocalExecutor(Setup(log_level="error", log_form="json", background=True))
    try:
        nice: Stage[int, int] = Stage("os", "nice")
        shell: Stage[str, str] = Stage("subprocess", "getoutput")
        assert executor.run(200.0, nice, 0) == os.nice(0) + 10
        assert executor.run(200.0, shell, "cat /proc/self/oom_score_adj") == "1000"
        first = executor.pid
        executor.rest()
        assert executor.pid is None
        assert executor.run(200.0, nice, 0) == os.nice(0) + 10
        assert executor.pid != first
    finally:
        executor.stop()
    assert [line["exit_code"] for line in read_log.named("worker.rested")] == [0]
