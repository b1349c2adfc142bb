"""Choice, stages and errors, with a ledger that is real, a time that is moved, and stages that are played."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydicom import dcmread

from daemon.choice import Suitability
from daemon.completeness import Closer
from daemon.configuration.config import Config, Destination, Dicom, Peer, Rule
from daemon.configuration.match import Match
from daemon.errors import LedgerUnavailable, RuleGone, StorageUnusable, WorkDamaged, WorkerCrashed, WorkerStopped
from daemon.intake import Intake
from daemon.jobs import DeliveryState, HaltCode, Job, State
from daemon.judgement import Judge
from daemon.ledger.store import Ledger
from daemon.pipeline import Pipeline
from daemon.storage.spool import Spool, write_durably
from daemon.worker.executor import Stage
from daemon.worker.requests import (
    REPORT,
    SEGMENT,
    VERDICT,
    WARM_UP,
    Archive,
    Engine,
    Replaced,
    Reported,
    ReportRequest,
    Result,
    SegmentRequest,
    SentSr,
    VerdictRequest,
    WarmUpRequest,
)
from daemon.worker.sources import open_spooled
from dicom_io.errors import NotDicom, RejectReason, SeriesRejected
from dicom_io.files.uids import derive_uid
from dicom_io.network.moving import Moving
from dicom_io.network.scu import Remote
from dicom_io.series.series import Series
from dicom_io.web.service import WebService
from models.errors import DeviceLost, DeviceUnavailable, UnknownModel, WeightsCorrupt
from reports.errors import GeometryNotProved, SourceUnusable
from reports.identity import ResultIdentity, identity_of
from reports.objects.kinds import FORMS
from reports.objects.profile import Profile

CANARY = "ZZPHI^CANARY"
LEASE = "host/1"
TAKEN_BY = {WARM_UP: WarmUpRequest, SEGMENT: SegmentRequest, REPORT: ReportRequest, VERDICT: VerdictRequest}

T = TypeVar("T")


@dataclass
class PlayedStages:
    """An executor that plays the two stages: each call takes the next act of the script, then goes well.

    An act is an error to raise, or a function to call in the middle of the stage.
    """

    acts: list[Exception | Callable[[], object]] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)
    seg: bool = True
    volumes: int = 1

    def run(self, deadline_s: float, stage: Stage[Any, Any], request: Any) -> Any:
        assert deadline_s == 1800
        assert isinstance(request, TAKEN_BY[stage])
        self.requests.append(request)
        if isinstance(request, SegmentRequest):
            write_durably(request.work / "0" / "labels.npz", b"labels")
        act = self.acts.pop(0) if self.acts else None
        if isinstance(act, Exception):
            raise act
        if act:
            act()
        match request:
            case ReportRequest():
                return self._reported(request.outbox)
            case VerdictRequest():
                return self._verdict(request.outbox, request.identity, request.code)
            case SegmentRequest():
                return ("NO_LESION",)
        return None

    def _reported(self, outbox: Path) -> Reported:
        results = []
        for volume in range(self.volumes):
            for name in ("seg", "sr") if self.seg else ("sr",):
                path = outbox / str(volume) / f"{name}.dcm"
                if not path.exists():
                    write_durably(path, f"{name} of call {len(self.requests)}".encode())
                uids = derive_uid(name, volume), derive_uid(name, volume, "series")
                results.append(Result(FORMS[name], *uids, path, volume))
        return Reported(tuple(results), ("SHORT",))

    def _verdict(self, outbox: Path, identity: ResultIdentity, code: str) -> Reported:
        path = outbox / "0" / "verdict.dcm"
        if not path.exists():
            write_durably(path, code.encode())
        uids = (identity.sop_instance_uid("verdict"), identity.series_instance_uid("verdict"))
        return Reported((Result(FORMS["verdict"], *uids, path),), ())

    @property
    def stages(self) -> list[str]:
        names = {SegmentRequest: "segment", ReportRequest: "report", VerdictRequest: "verdict"}
        return [names[type(request)] for request in self.requests]

    def asked(self, kind: type[T]) -> list[T]:
        """The requests of one kind."""
        return [request for request in self.requests if isinstance(request, kind)]

    @property
    def replaced(self) -> list[tuple[Replaced, ...]]:
        """For each report and verdict what it supersedes."""
        return [request.replaced for request in self.requests if isinstance(request, ReportRequest | VerdictRequest)]


@dataclass(frozen=True)
class PlayedJudge(Judge):
    """A judge that knows what to say of a series, by its number; one it was told nothing of suits."""

    sayings: dict[int, Suitability | Exception] = field(default_factory=dict)
    computed: set[int] = field(default_factory=set)

    def suitability(self, job: Job) -> Suitability | Exception:
        try:
            self.rule(job)
        except RuleGone as error:
            return error
        said = {derive_uid("series", number): saying for number, saying in self.sayings.items()}
        return said.get(job.series_instance_uid, (0,))

    def is_computed(self, job: Job) -> bool:
        return job.series_instance_uid in {derive_uid("series", number) for number in self.computed}


@dataclass
class Bench:
    """A pipeline with everything around it."""

    pipeline: Pipeline
    judge: PlayedJudge
    stages: PlayedStages
    intake: Intake
    ledger: Ledger
    spool: Spool
    clock: Any
    make_ct: Callable[..., bytes]

    def receive(
        self, *indexes: int, series: int = 1, study: int | None = None, change: Callable[[Any], None] | None = None
    ) -> None:
        def in_study(ds: Any) -> None:
            if study is not None:
                ds.StudyInstanceUID = derive_uid("study", study)
            if change:
                change(ds)

        for index in indexes:
            self.intake.take(self.make_ct(series, index, change=in_study), calling_ae_title="MODALITY")

    def close(self, after_s: float = 20) -> int:
        """Close what is quiet then, and choose; how many were chosen."""
        self.clock.pass_s(after_s)
        closer = Closer(self.pipeline.config, self.spool, self.ledger, self.judge, clock=self.clock)
        closer.close_due()
        return self.pipeline.choose_due()

    def retry(self) -> None:
        """What a person does, and the next tick."""
        for job in self.ledger.all_jobs():
            if job.halt:
                self.ledger.retry(job.id, now=self.clock())
        self.pipeline.choose_due()

    def states(self) -> dict[int, tuple[str, ...]]:
        """State of the latest job of each series, by its number, with the reason or the halt."""
        uids = {derive_uid("series", number): number for number in range(20)}
        return {
            uids[job.series_instance_uid]: tuple(str(item) for item in (job.state, job.reject_reason, job.halt) if item)
            for job in self.ledger.all_jobs()
        }

    @property
    def job(self) -> Any:
        (job,) = self.ledger.all_jobs()
        return job


def sent_by(replaced: Sequence[Replaced]) -> list[list[str]]:
    """The names of what each superseded job sent."""
    return [[sr.form.name for sr in item.srs] for item in replaced]


def no_series(paths: Sequence[Path], memory_mb: int | None) -> Series:
    """Nobody asks: what is judged is played."""
    raise AssertionError


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
    def make(*acts: Exception | Callable[[], object], config: Config | None = None, **played: Any) -> Bench:
        stages = PlayedStages(list(acts), **played)
        config = config or make_config()
        judge = PlayedJudge(config, spool, ledger, open_series=no_series)
        pipeline = Pipeline(config, spool, ledger, judge, stages, LEASE, "1.2.3", clock=clock, jitter=lambda: 0.5)
        return Bench(pipeline, judge, stages, Intake(spool, ledger, clock), ledger, spool, clock, make_ct)

    yield make
    assert read_log.events is not None
    assert_no_canary(tmp_path)


def test_the_rule_brings_its_priority(make_bench: Callable[..., Bench], make_config: Callable[..., Config]):
    """The more urgent series is worked on first, though it came last."""
    (usual,) = make_config().rules
    urgent = usual.model_copy(
        update={"name": "stat", "match": Match.model_validate({"SeriesDescription": ("STAT*",)}), "priority": 9}
    )
    bench = make_bench(config=make_config(rule=(urgent, usual)))
    bench.receive(1, series=1)
    bench.receive(1, series=2, change=lambda ds: setattr(ds, "SeriesDescription", "Stat abdomen"))
    assert bench.close() == 2
    assert bench.pipeline.work_off() == 4
    first = bench.stages.requests[0].paths
    assert derive_uid("series", 2) in str(first[0])


def test_a_rule_that_sends_nothing_keeps_its_results(
    make_bench: Callable[..., Bench], make_config: Callable[..., Config]
):
    """They are written and proved as others are; nothing is due, and the job is done."""
    (usual,) = make_config().rules
    bench = make_bench(config=make_config(rule=(usual.model_copy(update={"send": False}),)))
    bench.receive(1, series=1)
    assert bench.close() == 1
    assert bench.pipeline.work_off() == 2
    (job,) = bench.ledger.all_jobs()
    assert job.state == State.DELIVERED
    kept = bench.ledger.deliveries_of(job.id)
    assert {item.state for item in kept} == {DeliveryState.KEPT}
    assert bench.ledger.due_deliveries(now=bench.clock() + 1) == []


# --- what lies on the disk between the stages


def test_damaged_work_is_made_again(make_bench: Callable[..., Bench], read_log: Any):
    """What the first stage left is not what it wrote: the series is segmented once more, and its results are sent."""
    bench = make_bench(lambda: None, WorkDamaged("work/1/0/labels.npz"))
    bench.receive(1)
    bench.close()
    assert bench.pipeline.work_off() == 2
    assert bench.stages.stages == ["segment", "report", "segment", "report"]
    assert bench.job.state == State.REPORTED
    assert [line["level"] for line in read_log.named("work.damaged")] == ["warning"]


def test_work_that_is_damaged_again_halts(make_bench: Callable[..., Bench]):
    """A disk that keeps nothing is for a person."""
    damaged = WorkDamaged("work/1/0/labels.npz")
    bench = make_bench(lambda: None, damaged, lambda: None, damaged)
    bench.receive(1)
    bench.close()
    bench.pipeline.work_off()
    assert bench.states() == {1: ("SEGMENTED", "STORAGE_UNUSABLE")}


# --- the way through


def test_from_received_to_the_outbox(make_bench: Callable[..., Bench], read_log: Any):
    """Both stages, what they are given, what they leave, and what is then to be delivered."""
    bench = make_bench()
    bench.receive(1, 2, 3)
    bench.close()
    assert bench.pipeline.work_off() == 2
    job = bench.job
    # Not when the first slice came: when the results were made
    (created,) = [event["at"] for event in bench.ledger.history(job.id) if event["to_state"] == State.SEGMENTED]
    assert (job.state, job.lease, job.attempts) == (State.REPORTED, None, 0)
    assert job.warnings == ("NO_LESION", "SHORT")
    paths = tuple(bench.spool.root / path for path in bench.ledger.instance_paths(job.series_instance_uid))
    assert len(paths) == 3
    work, outbox = bench.spool.work(job.id), bench.spool.outbox(job.id)
    identity = identity_of(
        derive_uid("study", 1),
        derive_uid("series", 1),
        revision=1,
        created=datetime.fromtimestamp(created, UTC),
        software_version="1.2.3",
    )
    assert bench.stages.requests == [
        SegmentRequest(paths, "resnet50", Engine(), work, "portal", (Profile(),)),
        ReportRequest(paths, "resnet50", Engine(), work, outbox, identity, "portal", (Profile(),)),
    ]
    seg, sr = bench.ledger.deliveries_of(job.id)
    assert (seg.destination, seg.object, seg.path) == ("archive", "seg", f"outbox/{job.id}/0/seg.dcm")
    assert (sr.destination, sr.object, sr.sop_instance_uid) == ("archive", "sr", derive_uid("sr", 0))
    assert not bench.spool.work(job.id).exists()
    assert [line["from_state"] for line in read_log.named("stage.finished")] == ["RECEIVED", "SEGMENTED"]
    for event in ("series.closed", "job.chosen", "stage.finished"):
        named = [
            (line["job_id"], line["series_instance_uid"], line["study_instance_uid"]) for line in read_log.named(event)
        ]
        assert set(named) == {(job.id, derive_uid("series", 1), derive_uid("study", 1))}


def test_what_may_lack_slices_is_reported_as_that(make_bench: Callable[..., Bench]):
    """Its sending broke off, and nothing came for `quiet_s`; the rest makes another revision, which is whole again."""
    bench = make_bench()
    bench.receive(1, 2)
    bench.ledger.hold_series([derive_uid("series", 1)], calling_ae_title="MODALITY")
    bench.close()
    bench.pipeline.work_off()
    bench.receive(3)
    bench.ledger.release_series([derive_uid("series", 1)], now=bench.clock())
    bench.close()
    bench.pipeline.work_off()
    assert [request.is_incomplete for request in bench.stages.asked(ReportRequest)] == [True, False]


def test_shadows_are_noted_with_the_results_and_change_nothing_of_them(
    make_bench: Callable[..., Bench], make_config: Callable[..., Config]
):
    """Their rows come with the deliveries, which are the same. No stage hears of it.

    Only what they are compared with stays: no earlier study, with a patient's whole header, nor what else was kept.
    """
    (rule,) = make_config().rules
    config = make_config(rule=(rule.model_copy(update={"shadow": ("other", "third")}),))
    calls, sent = [], []
    for number, bench in enumerate((make_bench(), make_bench(config=config)), start=1):
        bench.receive(1, 2, series=number)
        bench.close()
        job = bench.ledger.all_jobs()[-1]
        bench.stages.acts = [keeping(bench.spool.work(job.id))]
        assert bench.pipeline.work_off() == 2
        calls.append([request.model for request in bench.stages.asked(SegmentRequest)])
        sent.append([(item.destination, item.object, item.confirm) for item in bench.ledger.deliveries_of(job.id)])
    assert calls[0] == calls[1]
    assert sent[0] == sent[1]
    found = [(shadow.model, shadow.state) for shadow in bench.ledger.shadows_of(job.id)]
    assert found == [("other", "PENDING"), ("third", "PENDING")]
    assert bench.ledger.shadows_of(job.id - 1) == []
    work = bench.spool.work(job.id)
    left = {str(path.relative_to(work)) for path in work.rglob("*") if path.is_file()}
    assert left == {"volumes.json", "0/labels.npz", "1/labels.npz"}
    assert {path.name for path in work.iterdir()} == {"volumes.json", "0", "1"}
    assert not bench.spool.work(job.id - 1).exists()


def keeping(work: Path) -> Callable[[], None]:
    """A first stage that leaves all that there may be."""
    names = ("volumes.json", "priors.json", "priors/0.dcm", "priors/1.dcm", "1/labels.npz")
    more = ("0/probabilities.npz", "0/explanations.npz", "0/.labels.npz.part")

    def keep() -> None:
        for name in (*names, *more):
            write_durably(work / name, b"kept")

    return keep


def test_what_tells_a_verdict_has_no_shadows(make_bench: Callable[..., Bench], make_config: Callable[..., Config]):
    """There is nothing to compare."""
    (rule,) = make_config().rules
    config = make_config(rule=(rule.model_copy(update={"shadow": ("other",)}),))
    bench = make_bench(SeriesRejected(RejectReason.UNREADABLE_PIXELS), config=config)
    bench.receive(1)
    bench.close()
    bench.pipeline.work_off()
    bench.pipeline.choose_due()
    bench.pipeline.work_off()
    assert (bench.job.state, bench.job.reject_reason) == (State.REPORTED, "UNREADABLE_PIXELS")
    assert bench.ledger.shadows_of(bench.job.id) == []
    assert not bench.spool.work(bench.job.id).exists()


def test_who_is_to_be_asked_for_priors_is(make_bench: Callable[..., Bench], make_config: Callable[..., Config]):
    """Of the rule's destinations those that say so, at their peer's address, in the node's own name."""
    config = make_config(
        peer=(
            *make_config().peers,
            Peer(name="pacs", ae_title="PACS", host="127.0.0.2", port=4242),
            Peer(name="web", url="https://pacs.example/web"),
        ),
        destination=(
            Destination(peer="archive"),
            Destination(peer="pacs", priors=True, prior_images=True, timeout_s=7.0),
            Destination(peer="web", priors=True),
        ),
        rule=(
            Rule(
                name="liver-ct",
                match={"Modality": ("CT",)},
                model="resnet50",
                destinations=("archive", "pacs", "web"),
            ),
        ),
        dicom=Dicom(move_ae_title="PORTA_MOVE", move_port=11200),
    )
    bench = make_bench(config=config)
    bench.receive(1, 2, 3)
    bench.close()
    assert bench.pipeline.work_off() == 2
    (request,) = bench.stages.asked(ReportRequest)
    moving = Moving("PORTA_MOVE", "127.0.0.1", 11200)
    assert request.archives == (
        Archive(Remote("PACS", "127.0.0.2", 4242), "PORTA", 7.0, images=True, moving=moving),
        Archive(WebService("https://pacs.example/web"), "PORTA", 30.0, moving=moving),
    )


@pytest.mark.parametrize("asked", [(), ("hcc",)])
def test_the_criteria_of_a_tumour_are_those_that_the_rule_asks_for(
    make_bench: Callable[..., Bench], make_config: Callable[..., Config], asked: tuple[str, ...]
):
    """None, where it names no tumour."""
    (rule,) = make_config().rules
    bench = make_bench(config=make_config(rule=(rule.model_copy(update={"oncology": asked}),)))
    bench.receive(1)
    bench.close()
    bench.pipeline.work_off()
    (request,) = bench.stages.asked(ReportRequest)
    assert request.oncology == asked


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
    assert bench.job.state == State.DELIVERED


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
    identities = [request.identity for request in bench.stages.asked(ReportRequest)]
    assert [identity.revision for identity in identities] == [1, 2]
    assert identities[0].seed == identities[1].seed
    assert bench.ledger.deliveries_of(first.id)[0].path != bench.ledger.deliveries_of(second.id)[0].path


def renamed(make_config: Callable[..., Config], name: str = "other") -> Config:
    """The configuration with its one rule under another name."""
    (rule,) = make_config().rules
    return make_config(rule=(rule.model_copy(update={"name": name}),))


@pytest.mark.parametrize("when", ["closed", "chosen", "segmented"])
def test_a_waiting_job_whose_rule_is_gone_is_matched_again(
    make_bench: Callable[..., Bench], make_config: Callable[..., Config], read_log: Any, when: str
):
    """By the rules of today, wherever it waits; the results are those of a job that fell under it at once."""
    bench = make_bench(*([lambda: None, WorkerStopped("stopping")] if when == "segmented" else []))
    bench.receive(1, 2)
    if when == "closed":
        bench.clock.pass_s(20)
        Closer(bench.pipeline.config, bench.spool, bench.ledger, bench.judge, clock=bench.clock).close_due()
    else:
        bench.close()
    if when == "segmented":
        with pytest.raises(WorkerStopped):
            bench.pipeline.work_off()
    later = make_bench(config=renamed(make_config))
    later.pipeline.choose_due()
    later.pipeline.work_off()
    assert (bench.job.state, bench.job.rule, bench.job.halt) == (State.RECEIVING, None, None)
    assert [line["rule"] for line in read_log.named("job.rematched")] == ["liver-ct"]
    later.close()
    assert later.pipeline.work_off() == 2
    assert (later.job.state, later.job.rule, later.job.revision) == (State.REPORTED, "other", 1)


def test_a_job_that_has_sent_something_and_lost_its_rule_halts(
    make_bench: Callable[..., Bench], make_config: Callable[..., Config]
):
    """Its study was told that the SEG was held back: only a person knows who is to be told what."""
    bench = make_bench(lambda: None, GeometryNotProved("2 mm"))
    bench.receive(1)
    bench.close()
    bench.pipeline.work_off()
    bench.ledger.retry(bench.job.id, now=bench.clock())
    later = make_bench(config=renamed(make_config))
    later.pipeline.choose_due()
    assert later.states() == {1: ("SEGMENTED", "RULE_GONE")}


# --- what errors do


def test_a_rejection_is_the_end_with_its_reason(make_bench: Callable[..., Bench], read_log: Any):
    """In the ledger and in the log, as a code."""
    bench = make_bench(SeriesRejected(RejectReason.NOT_IMAGES))
    bench.receive(1)
    bench.close()
    assert bench.pipeline.work_off() == 1
    assert (bench.job.state, bench.job.reject_reason) == (State.REFUSED, "NOT_IMAGES")
    assert bench.pipeline.choose_due() == 0
    assert (bench.job.state, bench.job.reject_reason) == (State.REJECTED, "NOT_IMAGES")
    assert bench.ledger.history(bench.job.id)[-1]["code"] == "NOT_IMAGES"
    assert [line["reason"] for line in read_log.named("job.refused")] == ["NOT_IMAGES"]
    assert [line["reason"] for line in read_log.named("job.rejected")] == ["NOT_IMAGES"]


def test_a_rejection_by_the_second_stage(make_bench: Callable[..., Bench]):
    """It reads the same files again, and finds what the first did not: a file that was damaged in between."""
    bench = make_bench(lambda: None, SeriesRejected(RejectReason.UNREADABLE_PIXELS))
    bench.receive(1)
    bench.close()
    assert bench.pipeline.work_off() == 2
    assert (bench.job.state, bench.job.reject_reason) == (State.REFUSED, "UNREADABLE_PIXELS")
    assert bench.pipeline.choose_due() == 1
    assert bench.pipeline.work_off() == 1
    assert (bench.job.state, bench.job.reject_reason) == (State.REPORTED, "UNREADABLE_PIXELS")
    assert [item.object for item in bench.ledger.deliveries_of(bench.job.id)] == ["verdict"]
    left = [path.name for path in bench.spool.outbox(bench.job.id).rglob("*.dcm")]
    assert left == ["verdict.dcm"]


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
    bench.retry()
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
    assert [item.object for item in bench.ledger.due_deliveries(now=bench.clock())] == ["verdict"]
    bench.retry()
    assert bench.pipeline.work_off() == 1
    assert bench.stages.stages == ["segment", "report", "verdict", "report"]
    assert sent_by(bench.stages.replaced[-1]) == [["verdict"]]


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
    codes = [row["code"] for row in bench.ledger.history(bench.job.id) if row["event"] != "STARTED"]
    assert codes[-3:] == ["ValueError", "ValueError", "UNEXPECTED"]


def test_a_job_waits_for_a_gpu_and_loses_nothing(make_bench: Callable[..., Bench]):
    """It fails at work, which is an attempt, and is not there for the next worker, which is none however often."""
    away = [DeviceLost("the GPU failed"), *[DeviceUnavailable("CUDA was asked for and is not available")] * 4]
    bench = make_bench(*away)
    bench.receive(1)
    bench.close()
    for _ in away:
        assert bench.pipeline.work_off() == 1
        assert (bench.job.state, bench.job.halt, bench.job.attempts) == (State.RECEIVED, None, 1)
        assert bench.pipeline.work_off() == 0  # it waits
        bench.clock.pass_s(60)
    bench.pipeline.work_off()
    assert bench.job.state == State.REPORTED


def test_a_series_that_the_gpu_fails_at_each_time_halts(make_bench: Callable[..., Bench]):
    """It would be tried for ever otherwise, and with it every worker that it ends."""
    bench = make_bench(*[DeviceLost("the GPU failed")] * 3)
    bench.receive(1)
    bench.close()
    for _ in range(3):
        assert bench.job.halt is None
        bench.pipeline.work_off()
        bench.clock.pass_s(60)
    assert (bench.job.state, bench.job.halt) == (State.RECEIVED, HaltCode.WORKER_FAILED)


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
    calls = len(bench.stages.requests)
    bench.close()
    assert bench.pipeline.work_off() == 2
    assert bench.job.state == State.REPORTED
    assert all(len(request.paths) == 3 for request in bench.stages.requests[calls:])
    seg = bench.spool.outbox(bench.job.id) / "0" / "seg.dcm"
    assert seg.read_text() == f"seg of call {len(bench.stages.requests)}"


def test_an_error_about_fewer_slices_is_discarded(make_bench: Callable[..., Bench], read_log: Any):
    """The late slice may be the one whose absence the stage complains of."""
    bench: Bench

    def late_then_rejected() -> None:
        bench.receive(2)
        raise SeriesRejected(RejectReason.MISSING_SLICES)

    bench = make_bench(late_then_rejected)
    bench.receive(1, 3)
    bench.close()
    assert bench.pipeline.work_off() == 1
    assert (bench.job.state, bench.job.reject_reason) == (State.RECEIVING, None)
    assert read_log.named("job.refused") == []
    bench.close()
    assert bench.pipeline.work_off() == 2
    assert bench.job.state == State.REPORTED


def test_walking_an_edge_twice_keeps_what_was_written(make_bench: Callable[..., Bench]):
    """The report was written and the service killed before the ledger knew: the same bytes are sent, never others."""
    bench = make_bench(lambda: None, WorkerCrashed("exit code 1"))
    bench.receive(1)
    bench.close()
    assert bench.pipeline.work_off() == 2
    seg = bench.spool.outbox(bench.job.id) / "0" / "seg.dcm"
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
    assert bench.stages.requests == [WarmUpRequest(("a", "b"), Engine())]


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


# --- one study, one answer


def test_of_the_series_of_a_study_the_best_is_reported(make_bench: Callable[..., Bench], read_log: Any):
    """One is worked on; the others end in silence, with the reason."""
    bench = make_bench()
    bench.judge.sayings.update({1: (1, 5), 2: (3, 1), 3: (3, 0)})
    for series in (1, 2, 3):
        bench.receive(1, series=series, study=1)
    assert bench.close() == 1
    assert bench.states() == {
        1: ("REJECTED", "SUPERSEDED_BY_BETTER"),
        2: ("RECEIVED",),
        3: ("REJECTED", "SUPERSEDED_BY_BETTER"),
    }
    assert bench.pipeline.work_off() == 2
    assert bench.states()[2] == ("REPORTED",)
    assert len(bench.stages.requests) == 2
    assert [line["job_id"] for line in read_log.named("job.chosen")] == [2]
    assert [line["reason"] for line in read_log.named("job.rejected")] == ["SUPERSEDED_BY_BETTER"] * 2
    assert [row["event"] for row in bench.ledger.history(2)][:3] == ["OPENED", "CLOSED", "CHOSEN"]


def test_studies_do_not_compete(make_bench: Callable[..., Bench]):
    """Nor do series under different rules."""
    bench = make_bench()
    for series in (1, 2):
        bench.receive(1, series=series, study=series)
    assert bench.close() == 2


def test_series_under_different_rules_do_not_compete(
    make_bench: Callable[..., Bench], make_config: Callable[..., Config]
):
    """Each rule has an answer of its own."""
    (usual,) = make_config().rules
    stat = usual.model_copy(update={"name": "stat", "match": Match.model_validate({"SeriesDescription": ("STAT*",)})})
    bench = make_bench(config=make_config(rule=(stat, usual)))
    bench.receive(1, series=1, study=1)
    bench.receive(1, series=2, study=1, change=lambda ds: setattr(ds, "SeriesDescription", "Stat"))
    assert bench.close() == 2


def test_as_many_as_the_rule_says(make_bench: Callable[..., Bench], make_config: Callable[..., Config]):
    """`per_study = 2`, and what is preferred is told to the stage."""
    (usual,) = make_config().rules
    rule = usual.model_copy(update={"per_study": 2, "prefer": "arterial"})
    bench = make_bench(config=make_config(rule=(rule,)))
    bench.judge.sayings.update({1: (1,), 2: (2,), 3: (3,)})
    for series in (1, 2, 3):
        bench.receive(1, series=series, study=1)
    assert bench.close() == 2
    assert bench.pipeline.work_off() == 4
    assert [state for state, *_ in bench.states().values()] == ["REJECTED", "REPORTED", "REPORTED"]
    assert {request.prefer for request in bench.stages.asked(SegmentRequest)} == {"arterial"}


def test_nothing_is_chosen_while_a_series_of_the_study_is_coming_in(make_bench: Callable[..., Bench]):
    """Other studies do not wait; a cancelled series holds up nothing."""
    bench = make_bench()
    bench.judge.sayings.update({1: (1,), 2: (2,)})
    bench.receive(1, series=1, study=1)
    bench.receive(1, series=3, study=3)
    bench.clock.pass_s(15)
    bench.receive(1, series=2, study=1)
    bench.receive(1, series=4, study=1)
    assert bench.close(5) == 1
    assert bench.states() == {1: ("RECEIVED",), 2: ("RECEIVING",), 3: ("RECEIVED",), 4: ("RECEIVING",)}
    assert bench.pipeline.work_off() == 2
    bench.clock.pass_s(10)
    bench.receive(2, series=4, study=1)
    assert bench.close(5) == 0
    assert bench.states() == {1: ("RECEIVED",), 2: ("RECEIVED",), 3: ("REPORTED",), 4: ("RECEIVING",)}
    bench.ledger.cancel(4, now=bench.clock())
    assert bench.pipeline.choose_due() == 1
    assert bench.states()[2] == ("RECEIVED",)
    assert bench.states()[1] == ("REJECTED", "SUPERSEDED_BY_BETTER")


@pytest.mark.parametrize("reason", [RejectReason.NO_MODEL, RejectReason.TOO_LARGE, RejectReason.LOCALIZER_ONLY])
def test_what_cannot_be_processed_is_rejected_before_the_choice(make_bench: Callable[..., Bench], reason: RejectReason):
    """By its headers, in the service: no worker sees it, and a scout is no rival."""
    bench = make_bench()
    bench.judge.sayings.update({1: SeriesRejected(reason), 2: (1,)})
    bench.receive(1, series=1, study=1)
    bench.receive(1, series=2, study=1)
    assert bench.close() == 1
    assert bench.states() == {1: ("REJECTED", reason), 2: ("RECEIVED",)}
    assert bench.ledger.history(1)[-1]["code"] == reason


def test_a_study_of_which_nothing_can_be_processed(make_bench: Callable[..., Bench]):
    """Every series has its reason, and the study is done with."""
    bench = make_bench()
    bench.judge.sayings.update({1: SeriesRejected(RejectReason.TOO_SHORT)})
    bench.receive(1)
    assert bench.close() == 1
    assert bench.states() == {1: ("REFUSED", "TOO_SHORT")}
    assert bench.ledger.studies_to_choose(now=bench.clock() + 1000) == []
    assert bench.pipeline.work_off() == 1
    assert bench.states() == {1: ("REPORTED", "TOO_SHORT")}
    assert bench.stages.stages == ["verdict"]


@pytest.mark.parametrize(
    ("error", "halt"),
    [
        (NotDicom("spool/1"), HaltCode.SPOOL_UNREADABLE),
        (FileNotFoundError(2, "gone"), HaltCode.SPOOL_UNREADABLE),
        (UnknownModel("no model"), HaltCode.MODEL_UNUSABLE),
    ],
    ids=["no DICOM", "no file", "no card"],
)
def test_a_series_that_cannot_be_judged_halts_and_holds_up_nothing(
    make_bench: Callable[..., Bench], error: Exception, halt: HaltCode
):
    """The others are chosen from; when a person has helped, it is judged again."""
    bench = make_bench()
    bench.judge.sayings.update({1: error, 2: (1,)})
    bench.receive(1, series=1, study=1)
    bench.receive(1, series=2, study=1)
    assert bench.close() == 1
    assert bench.states() == {1: ("RECEIVED", halt), 2: ("RECEIVED",)}
    assert bench.pipeline.work_off() == 2
    bench.judge.sayings[1] = (0,)
    bench.retry()
    assert bench.states() == {1: ("REJECTED", "SUPERSEDED_BY_BETTER"), 2: ("REPORTED",)}


def test_a_disk_that_fails_while_a_series_is_judged(make_bench: Callable[..., Bench]):
    """The study waits until it is tried again, as often as a stage is."""
    bench = make_bench()
    bench.judge.sayings.update({1: OSError(5, "broken"), 2: (1,)})
    bench.receive(1, series=1, study=1)
    bench.receive(1, series=2, study=1)
    assert bench.close() == 0
    assert bench.ledger.job(1).attempts == 1
    bench.clock.pass_s(1)
    assert bench.pipeline.choose_due() == 0
    assert bench.ledger.job(1).attempts == 1
    bench.judge.sayings[1] = (3,)
    bench.clock.pass_s(2)
    assert bench.pipeline.choose_due() == 1
    assert bench.states() == {1: ("RECEIVED",), 2: ("REJECTED", "SUPERSEDED_BY_BETTER")}
    assert bench.ledger.job(1).attempts == 0


# --- a better one comes later


def test_a_better_series_displaces_one_that_is_not_out(make_bench: Callable[..., Bench]):
    """Even one that a worker is at: its result is discarded, and never sent."""
    late: list[Callable[[], object]] = [lambda: bench.receive(1, series=2, study=1) or bench.close()]
    bench = make_bench(*late)
    bench.judge.sayings.update({1: (1,), 2: (2,)})
    bench.receive(1, series=1, study=1)
    bench.close()
    assert bench.pipeline.work_off() == 3
    assert bench.states() == {1: ("REJECTED", "SUPERSEDED_BY_BETTER"), 2: ("REPORTED",)}
    assert bench.ledger.deliveries_of(1) == []
    assert bench.stages.requests[-1].replaced == ()


def test_a_better_series_supersedes_the_answer(make_bench: Callable[..., Bench]):
    """What is out stays; the new report names it, with the volumes that it has reports of, and so it does again."""
    bench = make_bench(volumes=2)
    bench.judge.sayings.update({1: (1,), 2: (2,), 3: (0,)})
    bench.receive(1, series=1, study=1)
    bench.close()
    bench.pipeline.work_off()
    bench.receive(1, series=3, study=1)
    assert bench.close() == 0
    assert bench.states()[3] == ("REJECTED", "SUPERSEDED_BY_BETTER")
    bench.receive(1, series=2, study=1)
    assert bench.close() == 1
    bench.stages.acts += [lambda: None, WorkerCrashed("exit code 1")]
    bench.pipeline.work_off()
    # Meanwhile the answer that is replaced gets another revision, of no consequence.
    bench.receive(2, series=1, study=1)
    bench.close()
    bench.pipeline.work_off()
    assert bench.states() == {
        1: ("REJECTED", "SUPERSEDED_BY_BETTER"),
        2: ("REPORTED",),
        3: ("REJECTED", "SUPERSEDED_BY_BETTER"),
    }
    assert bench.ledger.job(1).state == State.REPORTED
    sent = [
        SentSr(FORMS["sr"], volume, derive_uid("sr", volume, "series"), derive_uid("sr", volume)) for volume in (0, 1)
    ]
    assert bench.stages.replaced == [(), *[(Replaced(tuple(sent)),)] * 2]


def test_an_answer_that_no_destination_took_is_not_named(
    make_bench: Callable[..., Bench], make_config: Callable[..., Config]
):
    """Where only the SEG is sent, nobody knows an SR that could be superseded."""
    bench = make_bench(config=make_config(destination=(Destination(peer="archive", objects=("seg",)),)))
    bench.judge.sayings.update({1: (1,), 2: (2,)})
    for series in (1, 2):
        bench.receive(1, series=series, study=1)
        bench.close()
        bench.pipeline.work_off()
    assert bench.ledger.job(2).replaces_revision == 1
    assert bench.stages.replaced == [(), ()]


def test_a_late_slice_is_judged_anew(make_bench: Callable[..., Bench]):
    """It may make the series the worse one, or none at all: then what was superseded is taken up again."""
    bench = make_bench()
    bench.judge.sayings.update({1: (2,), 2: (1,)})
    for series in (1, 2):
        bench.receive(1, series=series, study=1)
    bench.close()
    assert bench.states() == {1: ("RECEIVED",), 2: ("REJECTED", "SUPERSEDED_BY_BETTER")}
    bench.receive(2, series=1, study=1)
    assert bench.pipeline.work_off() == 0
    bench.judge.sayings[1] = SeriesRejected(RejectReason.DUPLICATE_POSITIONS)
    assert bench.close() == 1
    assert bench.states() == {1: ("REJECTED", "DUPLICATE_POSITIONS"), 2: ("RECEIVED",)}
    assert [row["event"] for row in bench.ledger.history(2)][-2:] == ["REOPENED", "CHOSEN"]


def test_a_late_slice_that_cannot_be_judged_lets_another_series_answer(make_bench: Callable[..., Bench]):
    """The chosen one stands still until a person looks at it; what was superseded is taken up again."""
    bench = make_bench()
    bench.judge.sayings.update({1: (2,), 2: (1,)})
    for series in (1, 2):
        bench.receive(1, series=series, study=1)
    bench.close()
    bench.receive(2, series=1, study=1)
    bench.judge.sayings[1] = FileNotFoundError(2, "gone")
    assert bench.close() == 1
    assert bench.states() == {1: ("RECEIVED", "SPOOL_UNREADABLE"), 2: ("RECEIVED",)}


@pytest.mark.parametrize("stage", ["segment", "report"])
def test_when_the_chosen_one_is_rejected_the_next_best_is_reported(make_bench: Callable[..., Bench], stage: str):
    """Its pixels cannot be read, as the worker finds: the study still gets an answer."""
    unreadable = SeriesRejected(RejectReason.UNREADABLE_PIXELS)
    bench = make_bench(*([] if stage == "segment" else [lambda: None]), unreadable)
    bench.judge.sayings.update({1: (1,), 2: (3,), 3: (2,)})
    for series in (1, 2, 3):
        bench.receive(1, series=series, study=1)
    bench.close()
    bench.pipeline.work_off()
    superseded = ("REJECTED", "SUPERSEDED_BY_BETTER")
    assert bench.states() == {1: superseded, 2: ("REFUSED", "UNREADABLE_PIXELS"), 3: superseded}
    assert bench.pipeline.choose_due() == 1
    bench.pipeline.work_off()
    assert bench.states() == {
        1: ("REJECTED", "SUPERSEDED_BY_BETTER"),
        2: ("REJECTED", "UNREADABLE_PIXELS"),
        3: ("REPORTED",),
    }


def test_a_halted_series_is_no_incumbent_and_its_retry_competes_again(make_bench: Callable[..., Bench]):
    """What came meanwhile is reported; one answer is enough, unless the retried one is better."""
    bench = make_bench(UnknownModel("gone"))
    bench.judge.sayings.update({1: (1,), 2: (0,), 3: (2,)})
    bench.receive(1, series=1, study=1)
    bench.close()
    bench.pipeline.work_off()
    assert bench.states() == {1: ("RECEIVED", "MODEL_UNUSABLE")}
    bench.receive(1, series=2, study=1)
    assert bench.close() == 1
    bench.pipeline.work_off()
    bench.retry()
    bench.pipeline.work_off()
    assert bench.states() == {1: ("REPORTED",), 2: ("REPORTED",)}
    _, last = bench.stages.replaced
    assert sent_by(last) == [["sr"]]


# --- several volumes


def test_every_volume_is_delivered(make_bench: Callable[..., Bench]):
    """Two objects of each volume, told apart by their UIDs and their volume."""
    bench = make_bench(volumes=3)
    bench.receive(1)
    bench.close()
    bench.pipeline.work_off()
    found = [(item.object, item.volume_index, item.path) for item in bench.ledger.deliveries_of(bench.job.id)]
    assert found == [
        (name, volume, f"outbox/{bench.job.id}/{volume}/{name}.dcm") for volume in range(3) for name in ("seg", "sr")
    ]


# --- why there is no answer


@pytest.mark.parametrize("by", ["headers", "worker"])
@pytest.mark.parametrize(
    "company", ["alone", "computed", "beside a refused one", "beside a better", "beside an answer"]
)
@pytest.mark.parametrize("reason", [reason for reason in RejectReason if reason != RejectReason.REASSIGNED])
def test_every_reason_in_every_company(make_bench: Callable[..., Bench], reason: RejectReason, company: str, by: str):
    """Who is told and who is not: one verdict where nothing answers, silence where something does."""
    bench = make_bench()
    refusal = SeriesRejected(reason, "3 of 5.")
    if company == "beside an answer":
        bench.receive(1, series=2, study=1)
        bench.close()
        bench.pipeline.work_off()
    if company in ("beside a better", "beside a refused one"):
        bench.receive(1, series=2, study=1)
    bench.judge.sayings[2] = (1,) if company.startswith("beside a") else (0,)
    if company == "beside a refused one":
        bench.judge.sayings[2] = SeriesRejected(RejectReason.LOCALIZER_ONLY)
    bench.receive(1, series=1, study=1)
    if company == "computed":
        bench.judge.computed.add(1)
    if by == "headers":
        bench.judge.sayings[1] = refusal
    else:
        bench.judge.sayings[1] = (2,)
        bench.stages.acts.append(refusal)
    bench.close()
    for _ in range(4):
        bench.pipeline.work_off()
        bench.pipeline.choose_due()
    verdicts = [item for job in bench.ledger.all_jobs() for item in bench.ledger.deliveries_of(job.id)]
    verdicts = [item for item in verdicts if item.object == "verdict"]
    told = reason.is_told and company in ("alone", "beside a refused one")
    told = told or (reason == RejectReason.MIXED_IDENTITY and company != "computed")
    assert bench.states()[1] == ("REPORTED" if told else "REJECTED", reason)
    assert len(verdicts) == told
    if company in ("beside a better", "beside an answer"):
        assert bench.states()[2] == ("REPORTED",)
    assert bench.ledger.studies_to_choose(now=bench.clock() + 1000) == []


def test_a_verdict_is_the_sr_alone(make_bench: Callable[..., Bench], read_log: Any):
    """What the stage is given; no model runs; the reason stays with the job, and is in no log but as a code."""
    bench = make_bench()
    bench.judge.sayings[1] = SeriesRejected(RejectReason.MISSING_SLICES, "A gap of 25.0 mm.")
    bench.receive(1, 2)
    assert bench.close() == 1
    assert bench.pipeline.work_off() == 1
    job = bench.job
    assert (job.state, job.reject_reason, job.lease, job.attempts) == (State.REPORTED, "MISSING_SLICES", None, 0)
    (request,) = bench.stages.requests
    paths = tuple(bench.spool.root / path for path in bench.ledger.instance_paths(job.series_instance_uid))
    outbox, identity = bench.spool.outbox(job.id), request.identity
    assert request == VerdictRequest(paths, "resnet50", outbox, identity, "MISSING_SLICES", (Profile(),))
    (delivery,) = bench.ledger.deliveries_of(job.id)
    assert (delivery.object, delivery.path) == ("verdict", f"outbox/{job.id}/0/verdict.dcm")
    assert [row["event"] for row in bench.ledger.history(job.id)] == [
        "OPENED",
        "CLOSED",
        "REFUSED",
        "CHOSEN",
        "STARTED",
        "REPORTED",
    ]
    assert [line["reason"] for line in read_log.named("verdict.chosen")] == ["MISSING_SLICES"]


@pytest.mark.parametrize(
    ("objects", "sr_class", "sent"),
    [
        (("seg",), "comprehensive_3d", []),
        (("key_images",), "comprehensive_3d", []),
        (("sr",), "comprehensive_3d", ["verdict"]),
        (("sr_bidirectional",), "comprehensive_3d", ["verdict"]),
        (("seg", "sr"), "comprehensive", []),
    ],
)
def test_a_verdict_goes_to_whoever_takes_an_sr(
    make_bench: Callable[..., Bench],
    make_config: Callable[..., Config],
    objects: tuple[Any, ...],
    sr_class: Any,
    sent: list[str],
):
    """In the class that it asks for (the played stage writes the usual one alone); to nobody, and it is an end."""
    destination = Destination(peer="archive", objects=objects, sr_class=sr_class)
    bench = make_bench(config=make_config(destination=(destination,)))
    bench.judge.sayings[1] = SeriesRejected(RejectReason.TOO_SHORT)
    bench.receive(1)
    bench.close()
    bench.pipeline.work_off()
    assert [item.object for item in bench.ledger.deliveries_of(bench.job.id)] == sent
    assert bench.states() == {1: ("REPORTED" if sent else "DELIVERED", "TOO_SHORT")}


def test_one_verdict_for_many_refused_series(make_bench: Callable[..., Bench]):
    """That of the most images; what is refused later stays silent."""
    bench = make_bench()
    bench.judge.sayings.update({number: SeriesRejected(RejectReason.TOO_SHORT) for number in (1, 2, 3)})
    bench.receive(1, series=1, study=1)
    bench.receive(1, 2, series=2, study=1)
    bench.close()
    bench.receive(1, 2, 3, series=3, study=1)
    bench.close()
    bench.pipeline.work_off()
    bench.pipeline.choose_due()
    silent = ("REJECTED", "TOO_SHORT")
    assert bench.states() == {1: silent, 2: ("REPORTED", "TOO_SHORT"), 3: silent}


def test_a_later_answer_supersedes_the_verdict(make_bench: Callable[..., Bench]):
    """Of another series of the study, and only the first of them: its SR names the verdict."""
    bench = make_bench()
    bench.judge.sayings[1] = SeriesRejected(RejectReason.UNREADABLE_PIXELS)
    bench.receive(1, series=1, study=1)
    bench.close()
    bench.pipeline.work_off()
    bench.receive(1, series=2, study=1)
    assert bench.close() == 1
    assert bench.ledger.job(2).replaces_series_instance_uid == derive_uid("series", 1)
    bench.pipeline.work_off()
    assert bench.states() == {1: ("REPORTED", "UNREADABLE_PIXELS"), 2: ("REPORTED",)}
    (verdict,) = bench.ledger.deliveries_of(1)
    ((named,),) = bench.stages.replaced[-1:]
    assert named.srs == (SentSr(FORMS["verdict"], 0, verdict.series_instance_uid, verdict.sop_instance_uid),)


def test_what_the_worker_could_not_read_is_no_rival_of_what_comes(make_bench: Callable[..., Bench]):
    """By its headers the refused one were the better; it has told that it is not processed, and gives way."""
    bench = make_bench(SeriesRejected(RejectReason.UNREADABLE_PIXELS))
    bench.judge.sayings.update({1: (9,), 2: (0,)})
    bench.receive(1, series=1, study=1)
    bench.close()
    bench.pipeline.work_off()
    bench.pipeline.choose_due()
    bench.pipeline.work_off()
    bench.receive(1, series=2, study=1)
    assert bench.close() == 1
    bench.pipeline.work_off()
    assert bench.states() == {1: ("REPORTED", "UNREADABLE_PIXELS"), 2: ("REPORTED",)}


def test_a_late_slice_after_the_verdict(make_bench: Callable[..., Bench]):
    """The next revision: results that supersede the verdict, a verdict for another reason, or silence for the same."""
    bench = make_bench()
    bench.judge.sayings[1] = SeriesRejected(RejectReason.TOO_FEW_SLICES)
    for index, reason in ((1, "TOO_FEW_SLICES"), (2, "TOO_FEW_SLICES"), (3, "TOO_SHORT"), (4, None)):
        bench.judge.sayings[1] = SeriesRejected(RejectReason(reason)) if reason else (0,)
        bench.receive(index)
        bench.close()
        bench.pipeline.work_off()
    found = [(job.revision, str(job.state), job.reject_reason) for job in bench.ledger.all_jobs()]
    assert found == [(1, "REPORTED", "TOO_FEW_SLICES"), (2, "REPORTED", "TOO_SHORT"), (3, "REPORTED", None)]
    assert [sent_by(replaced) for replaced in bench.stages.replaced] == [[], [["verdict"]], [["verdict"]]]
    uids = {item.sop_instance_uid for job in (1, 2) for item in bench.ledger.deliveries_of(job)}
    assert len(uids) == 2


def test_a_better_series_calls_off_a_verdict_that_is_not_out(make_bench: Callable[..., Bench]):
    """Even one that a worker is at."""
    late: list[Callable[[], object]] = [lambda: bench.receive(1, series=2, study=1) or bench.close()]
    bench = make_bench(*late)
    bench.judge.sayings[1] = SeriesRejected(RejectReason.TOO_SHORT)
    bench.receive(1, series=1, study=1)
    bench.close()
    bench.pipeline.work_off()
    assert bench.states() == {1: ("REJECTED", "TOO_SHORT"), 2: ("REPORTED",)}
    assert bench.ledger.deliveries_of(1) == []
    assert bench.stages.stages == ["verdict", "segment", "report"]
    assert bench.stages.replaced[-1] == ()


@pytest.mark.parametrize("killed", ["before the choice", "before the file", "after the file"])
def test_a_kill_on_the_way_to_a_verdict_leaves_exactly_one(make_bench: Callable[..., Bench], killed: str):
    """Whatever was not committed is walked again; the bytes that are sent are those of one object."""

    def kill() -> None:
        raise WorkerStopped("killed")

    acts: dict[str, list[Any]] = {"before the file": [kill], "after the file": [lambda: None]}
    bench = make_bench(SeriesRejected(RejectReason.UNREADABLE_PIXELS), *acts.get(killed, []))
    bench.receive(1)
    bench.close()
    bench.pipeline.work_off()
    if killed == "before the choice":
        bench.ledger.free_leases("host")
    bench.pipeline.choose_due()
    if killed == "before the file":
        with pytest.raises(WorkerStopped):
            bench.pipeline.work_off()
    if killed == "after the file":
        pipeline = replace(bench.pipeline, ledger=LedgerAwayOnce(bench.ledger))  # type: ignore[arg-type]
        with pytest.raises(LedgerUnavailable):
            pipeline.work_off()
    bench.ledger.free_leases("host")
    for _ in range(3):
        bench.pipeline.choose_due()
        bench.pipeline.work_off()
    assert bench.states() == {1: ("REPORTED", "UNREADABLE_PIXELS")}
    assert [item.object for item in bench.ledger.deliveries_of(bench.job.id)] == ["verdict"]


def test_a_verdict_that_cannot_be_built_halts(make_bench: Callable[..., Bench]):
    """And is told after a retry."""
    bench = make_bench(SourceUnusable("no UIDs"))
    bench.judge.sayings[1] = SeriesRejected(RejectReason.TOO_SHORT)
    bench.receive(1)
    bench.close()
    bench.pipeline.work_off()
    assert bench.states() == {1: ("REFUSED", "TOO_SHORT", "REPORT_FAILED")}
    bench.retry()
    bench.pipeline.work_off()
    assert bench.states() == {1: ("REPORTED", "TOO_SHORT")}


def test_a_refusal_whose_rule_has_gone_is_matched_again(
    make_bench: Callable[..., Bench], make_config: Callable[..., Config]
):
    """Another rule may tell the study, or have a model for it."""
    bench = make_bench(SeriesRejected(RejectReason.UNREADABLE_PIXELS))
    bench.receive(1)
    bench.close()
    bench.pipeline.work_off()
    later = make_bench(config=renamed(make_config))
    later.pipeline.choose_due()
    assert later.states() == {1: ("RECEIVING",)}


class HereAndNow:
    """An executor without a process of its own."""

    def run(self, deadline_s: float, stage: Stage[Any, Any], request: Any) -> Any:
        return stage.load()(request)


@pytest.mark.parametrize("computed", [False, True])
def test_three_slices_are_told_of(make_bench: Callable[..., Bench], computed: bool):
    """Nothing is played: the headers are judged, the verdict is a file, and a reformat's is none."""

    def reformatted(ds: Any) -> None:
        ds.ImageType = ["DERIVED", "SECONDARY", "REFORMATTED"] if computed else ["ORIGINAL", "PRIMARY", "AXIAL"]

    bench = make_bench()
    judge = Judge(bench.pipeline.config, bench.spool, bench.ledger, open_spooled)
    bench.pipeline = replace(bench.pipeline, judge=judge, executor=HereAndNow())
    bench.judge = judge  # type: ignore[assignment]
    bench.receive(1, 2, 3, change=reformatted)
    bench.close()
    bench.pipeline.work_off()
    if computed:
        assert bench.states() == {1: ("REJECTED", "TOO_FEW_SLICES")}
        assert bench.ledger.deliveries_of(bench.job.id) == []
        return
    assert bench.states() == {1: ("REPORTED", "TOO_FEW_SLICES")}
    (delivery,) = bench.ledger.deliveries_of(bench.job.id)
    ds = dcmread(bench.spool.root / delivery.path)
    assert ds.SOPInstanceUID == delivery.sop_instance_uid
    assert ds.StudyInstanceUID == derive_uid("study", 1)
    assert str(ds.PatientName) == CANARY
    assert "3 of at least 5." in str(ds.to_json_dict())


# --- a SEG that was held back


@pytest.mark.parametrize("company", ["alone", "beside an answer", "beside a verdict"])
def test_who_is_told_that_a_seg_was_held_back(make_bench: Callable[..., Bench], company: str):
    """The job halts in any case; the radiologist hears of it where the study has no answer and no verdict."""
    bench = make_bench()
    if company != "alone":
        bench.judge.sayings[2] = (0,) if company == "beside an answer" else SeriesRejected(RejectReason.TOO_SHORT)
        bench.receive(1, series=2, study=1)
        bench.close()
        bench.pipeline.work_off()
    bench.judge.sayings[1] = (5,)
    bench.receive(1, series=1, study=1)
    bench.close()
    bench.stages.acts += [lambda: None, GeometryNotProved("12 mm")]
    bench.pipeline.work_off()
    assert bench.states()[1] == ("SEGMENTED", "GEOMETRY_NOT_PROVED")
    (job,) = [job for job in bench.ledger.all_jobs() if job.halt]
    sent = [item.object for item in bench.ledger.deliveries_of(job.id)]
    assert sent == (["verdict"] if company == "alone" else [])


def test_a_word_that_fails_does_not_hide_the_halt(make_bench: Callable[..., Bench], read_log: Any):
    """A person sees it in any case."""
    bench = make_bench(lambda: None, GeometryNotProved("12 mm"), SourceUnusable("no UIDs"))
    bench.receive(1)
    bench.close()
    bench.pipeline.work_off()
    assert bench.states() == {1: ("SEGMENTED", "GEOMETRY_NOT_PROVED")}
    assert len(read_log.named("verdict.failed")) == 1


def test_another_series_supersedes_what_was_held_back(make_bench: Callable[..., Bench]):
    """And when the held back one, retried, is better, its SR names both."""
    bench = make_bench(lambda: None, GeometryNotProved("12 mm"))
    bench.judge.sayings.update({1: (5,), 2: (0,)})
    bench.receive(1, series=1, study=1)
    bench.close()
    bench.pipeline.work_off()
    bench.receive(1, series=2, study=1)
    assert bench.close() == 1
    bench.pipeline.work_off()
    assert sent_by(bench.stages.replaced[-1]) == [["verdict"]]
    bench.retry()
    bench.pipeline.work_off()
    assert bench.states() == {1: ("REPORTED",), 2: ("REPORTED",)}
    assert sent_by(bench.stages.replaced[-1]) == [["sr"], ["verdict"]]


def test_a_late_slice_after_a_seg_was_held_back(make_bench: Callable[..., Bench]):
    """What was said is out: the next revision, whose SR names it."""
    bench = make_bench(lambda: None, GeometryNotProved("12 mm"))
    bench.receive(1)
    bench.close()
    bench.pipeline.work_off()
    bench.receive(2)
    bench.close()
    bench.pipeline.work_off()
    assert [(job.revision, str(job.state)) for job in bench.ledger.all_jobs()] == [(1, "SEGMENTED"), (2, "REPORTED")]
    assert sent_by(bench.stages.replaced[-1]) == [["verdict"]]


# --- images that come again as another patient's or study's


def another_patient(ds: Any) -> None:
    ds.PatientID = "EX-222"


def another_study(ds: Any) -> None:
    ds.StudyInstanceUID = derive_uid("study", 9)


@pytest.mark.parametrize("change", [another_patient, another_study])
def test_a_corrected_patient_or_study_gets_the_results_and_the_old_one_is_told(
    make_bench: Callable[..., Bench], change: Callable[[Any], None], read_log: Any
):
    """Of the images as they were a note, which supersedes what was sent; of the corrected ones new results."""
    bench = make_bench()
    bench.receive(1, 2, 3)
    bench.close()
    bench.pipeline.work_off()
    before = bench.stages.requests[0].paths
    bench.receive(1, 2, change=change)
    bench.receive(3, 3, change=change)
    first, note, second = bench.ledger.all_jobs()
    assert [(job.revision, str(job.state)) for job in (first, note, second)] == [
        (1, "REPORTED"),
        (2, "REFUSED"),
        (3, "RECEIVING"),
    ]
    assert (note.reject_reason, note.rule) == ("REASSIGNED", "liver-ct")
    assert note.study_instance_uid == first.study_instance_uid
    assert (second.instances, second.chosen) == (3, False)
    assert (second.study_instance_uid == first.study_instance_uid) == (change is another_patient)
    bench.close()
    bench.pipeline.work_off()
    assert [str(job.state) for job in bench.ledger.all_jobs()] == ["REPORTED"] * 3
    (verdict,) = bench.stages.asked(VerdictRequest)
    segmented = bench.stages.asked(SegmentRequest)[1]
    assert (verdict.code, verdict.paths, verdict.current) == ("REASSIGNED", before, segmented.paths)
    assert set(before).isdisjoint(segmented.paths)
    assert sent_by(verdict.replaced) == [["sr"]]
    assert sent_by(bench.stages.asked(ReportRequest)[1].replaced) == [["verdict", "sr"]]
    assert [sr.revision for sr in bench.stages.asked(ReportRequest)[1].replaced[0].srs] == [2, 1]
    assert {line["reason"] for line in read_log.named("verdict.chosen")} == {"REASSIGNED"}
    # Sent a third time it changes nothing
    bench.receive(1, 2, 3, change=change)
    assert len(bench.ledger.all_jobs()) == 3


def test_what_is_taken_back_is_told_once_all_images_have_come_again(make_bench: Callable[..., Bench]):
    """Until then some are still filed where they were, and nobody knows whether they stay."""
    bench = make_bench()
    bench.receive(1, 2)
    bench.close()
    bench.pipeline.work_off()
    before = bench.stages.requests[0].paths
    bench.receive(1, change=another_study)
    assert bench.pipeline.choose_due() == 0
    bench.receive(2, change=another_study)
    assert bench.close() == 2
    bench.pipeline.work_off()
    (verdict,) = bench.stages.asked(VerdictRequest)
    assert verdict.paths == before
    assert set(before).isdisjoint(verdict.current)


def test_a_correction_before_the_results_opens_no_revision(make_bench: Callable[..., Bench]):
    """Nothing was told, so that there is nothing to take back: the job goes over to the other study."""
    bench = make_bench()
    bench.receive(1, 2)
    bench.close()
    bench.receive(1, 2, change=another_study)
    assert (bench.job.state, bench.job.revision) == (State.RECEIVING, 1)
    assert bench.job.study_instance_uid == derive_uid("study", 9)
    bench.close()
    bench.pipeline.work_off()
    assert len(bench.stages.asked(SegmentRequest)[0].paths) == 2
    assert not bench.stages.asked(VerdictRequest)


def test_a_correction_while_a_late_slice_is_awaited(make_bench: Callable[..., Bench]):
    """What the first revision told is taken back before the second tells anything: its number is a later one."""
    bench = make_bench()
    bench.receive(1, 2)
    bench.close()
    bench.pipeline.work_off()
    bench.receive(3)
    bench.receive(1, 2, 3, change=another_patient)
    assert [(job.id, job.revision, str(job.state)) for job in bench.ledger.all_jobs()] == [
        (1, 1, "REPORTED"),
        (2, 4, "RECEIVING"),
        (3, 3, "REFUSED"),
    ]
    bench.close()
    bench.pipeline.work_off()
    assert [str(job.state) for job in bench.ledger.all_jobs()] == ["REPORTED"] * 3


def test_other_pixels_are_a_revision_like_a_late_slice(make_bench: Callable[..., Bench]):
    """In the same place: the new SR supersedes the old one, and no note is needed."""
    bench = make_bench()
    bench.receive(1, 2)
    bench.close()
    bench.pipeline.work_off()
    bench.receive(2, change=lambda ds: setattr(ds, "PixelData", bytes(128)))
    assert [(job.revision, job.instances) for job in bench.ledger.all_jobs()] == [(1, 2), (2, 2)]
    bench.close()
    bench.pipeline.work_off()
    assert [sent_by(replaced) for replaced in bench.stages.replaced] == [[], [["sr"]]]


def test_a_series_that_has_left_gives_its_place_to_another(make_bench: Callable[..., Bench]):
    """It was the best of its study; the next best answers there now."""
    bench = make_bench()
    bench.judge.sayings.update({1: (2,), 2: (1,)})
    bench.receive(1, series=1, study=1)
    bench.receive(1, series=2, study=1)
    bench.close()
    bench.pipeline.work_off()
    assert bench.states() == {1: ("REPORTED",), 2: ("REJECTED", "SUPERSEDED_BY_BETTER")}
    bench.receive(1, series=1, study=1, change=another_study)
    bench.close()
    bench.pipeline.work_off()
    assert bench.states()[2] == ("REPORTED",)
    assert [(job.revision, str(job.state)) for job in bench.ledger.jobs_of_series(derive_uid("series", 1))] == [
        (1, "REPORTED"),
        (2, "REPORTED"),
        (3, "REPORTED"),
    ]


def test_a_cancelled_job_that_has_told_something_is_taken_back(make_bench: Callable[..., Bench]):
    """What a person ended before it told anything stays ended."""
    for number, told in ((1, True), (2, False)):
        bench = make_bench()
        bench.receive(1, series=number)
        bench.close()
        if told:
            bench.pipeline.work_off()
        (job,) = bench.ledger.jobs_of_series(derive_uid("series", number))
        bench.ledger.cancel(job.id, now=bench.clock())
        bench.receive(1, series=number, change=another_study)
        states = [str(job.state) for job in bench.ledger.jobs_of_series(derive_uid("series", number))]
        assert states == (["CANCELLED", "REFUSED", "RECEIVING"] if told else ["CANCELLED"])


def test_images_that_disagree_are_told_of_whatever_else_is_answered(make_bench: Callable[..., Bench]):
    """Once for a series; another that is refused beside an answer stays silent."""
    bench = make_bench()
    bench.judge.sayings.update(
        {2: SeriesRejected(RejectReason.MIXED_IDENTITY), 3: SeriesRejected(RejectReason.TOO_SHORT)}
    )
    for series in (1, 2, 3):
        bench.receive(1, series=series, study=1)
    bench.close()
    bench.pipeline.work_off()
    assert bench.states() == {
        1: ("REPORTED",),
        2: ("REPORTED", "MIXED_IDENTITY"),
        3: ("REJECTED", "TOO_SHORT"),
    }
    assert [request.code for request in bench.stages.asked(VerdictRequest)] == ["MIXED_IDENTITY"]
    bench.receive(2, series=2, study=1)
    bench.close()
    bench.pipeline.work_off()
    assert bench.states()[2] == ("REJECTED", "MIXED_IDENTITY")
