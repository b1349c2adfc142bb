"""A ledger that was lost is made anew from spool and outbox: what was answered stays so, and nothing is doubled."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from daemon.administration.submission import submit_paths
from daemon.commands.rebuilding import rebuild_ledger
from daemon.completeness import Closer
from daemon.configuration.config import Config
from daemon.configuration.config import Ledger as LedgerSection
from daemon.configuration.config import Retention as RetentionSection
from daemon.configuration.match import Match
from daemon.errors import StorageUnusable
from daemon.intake import Intake, Verdict
from daemon.jobs import DeliveryState, State
from daemon.judgement import Judge
from daemon.ledger.desk import Desk
from daemon.ledger.store import Ledger
from daemon.pipeline import Pipeline
from daemon.retention.removal import DAY_S, Retention
from daemon.storage.spool import Spool
from daemon.upkeep.history import refuse_lost_ledger
from daemon.upkeep.verification import verify_storage
from daemon.worker import stages
from daemon.worker.sources import open_spooled
from dicom_io.errors import RejectReason
from dicom_io.files.image_writer import write_ct_series
from dicom_io.geometry import Geometry
from dicom_io.segmentation import Algorithm, Segmentation
from dicom_io.volume import Volume
from tests.daemon.conftest import keep

LIVER_HU = 100


class InThisProcess:
    """Runs the stages themselves, without a process of their own."""

    def run(self, deadline_s: float, stage: Any, request: Any) -> Any:
        return stage.load()(request)


@pytest.fixture(autouse=True)
def threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network's place is taken: what is bright is liver."""

    def segment(model: object, volume: Volume, progress: object = None) -> Segmentation:
        algorithm = Algorithm("threshold", "1", "0" * 64, ("CT", "MR"))
        return Segmentation((volume.array > LIVER_HU / 2).astype(np.uint8), volume.geometry, algorithm)

    monkeypatch.setattr(stages, "model_on", lambda name, engine: None)
    monkeypatch.setattr(stages, "segment", segment)


Change = Callable[[Dataset], None]


@dataclass
class Node:
    """A storage root with its ledger, and all of the service that decides, in this process."""

    config: Config
    clock: Any
    folder: Path
    ledger: Ledger

    @property
    def spool(self) -> Spool:
        return Spool(self.config.storage.root)

    def images(self, number: int, *, slices: int = 12, study: int | None = None) -> list[Path]:
        """Write a series of a patient's own, of so many slices that show a liver."""
        origins = np.c_[np.full(slices, -128.0), np.full(slices, -128.0), 5.0 * np.arange(slices)]
        geometry = Geometry(origins, np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), 4.0, 4.0, 64, 64, "1.2.3")
        array = np.full(geometry.shape, -500, np.int16)
        array[2:-2, 16:40, 16:40] = LIVER_HU
        folder = self.folder / f"series-{number}-{slices}"
        return write_ct_series(array, geometry, folder, seed=number, study_seed=study or number)

    def receive(self, paths: list[Path], change: Change = lambda ds: None) -> list[Verdict]:
        intake, verdicts = Intake(self.spool, self.ledger, self.clock), []
        for path in paths:
            ds = dcmread(path)
            ds.file_meta.SourceApplicationEntityTitle = "MODALITY"
            change(ds)
            ds.save_as(self.folder / "sent.dcm")
            content = (self.folder / "sent.dcm").read_bytes()
            verdicts.append(intake.take(content, calling_ae_title="MODALITY").verdict)
        return verdicts

    def work(self) -> None:
        """Close, choose, and work off all that is there."""
        self.clock.pass_s(1000)
        judge = Judge(self.config, self.spool, self.ledger, open_spooled)
        Closer(self.config, self.spool, self.ledger, judge, clock=self.clock).close_due()
        executor = InThisProcess()
        pipeline = Pipeline(
            self.config, self.spool, self.ledger, judge, executor, "host/1", "1.2.3", self.clock, lambda: 0.5
        )
        while pipeline.choose_due() + pipeline.work_off():
            pass

    def lose_ledger(self) -> None:
        """Remove the ledger with all that belongs to it; an empty one is there when this returns."""
        self.ledger.close()
        for path in self.folder.glob("ledger.sqlite*"):
            path.unlink()
        self.ledger = Ledger(self.config.ledger_url)
        self.ledger.migrate()

    def rebuild(self) -> list[str]:
        return rebuild_ledger(self.config)

    def sent(self) -> set[tuple[Any, ...]]:
        """All that goes to any destination: each object with its form, its bytes and the study that it is filed in."""
        return {
            (item.destination, item.form, item.sop_instance_uid, item.path, item.sha256, item.study_instance_uid)
            for job in self.ledger.all_jobs()
            for item in self.ledger.deliveries_of(job.id)
        }

    def decisions(self) -> list[tuple[Any, ...]]:
        """What became of each series, by revision."""
        keys = ("series_instance_uid", "revision", "state", "reject_reason", "rule", "calling_ae_title", "instances")
        keys += ("study_instance_uid", "replaces_series_instance_uid", "replaces_revision")
        return sorted(tuple(str(getattr(job, key)) for key in keys) for job in self.ledger.all_jobs())


@pytest.fixture
def node(
    tmp_path: Path, make_config: Callable[..., Config], clock: Any, read_log: Any, empty_ledger: Path
) -> Iterator[Node]:
    url = f"sqlite:///{shutil.copy(empty_ledger, tmp_path / 'ledger.sqlite')}"
    config = make_config(ledger=LedgerSection(url=url))
    Spool(config.storage.root).prepare()
    clock.now = 4e9  # later than any file
    node = Node(config, clock, tmp_path, Ledger(url))
    yield node
    node.ledger.close()


def history(node: Node) -> None:
    """Two revisions of a series, one that it superseded, a refusal that is told, and one that nobody told."""
    first, late = node.images(1)[:-1], node.images(1)[-1:]
    node.receive(first)
    node.receive(node.images(2, slices=10, study=1))
    node.work()
    node.receive(late)
    node.work()
    node.receive(node.images(3, slices=3))
    node.work()
    assert sorted(job.state for job in node.ledger.all_jobs()) == [State.REJECTED, *[State.REPORTED] * 3]
    assert {job.reject_reason for job in node.ledger.all_jobs()} >= {None, RejectReason.SUPERSEDED_BY_BETTER}


def test_what_was_reported_is_sent_again_unchanged_and_the_rest_is_decided_again(node: Node):
    """The same objects, byte for byte, under the same UIDs; series that sent nothing end as they had ended."""
    history(node)
    sent, decisions = node.sent(), node.decisions()
    assert len(sent) == 5  # SEG and SR of two revisions, and why the third series was refused
    node.receive(node.images(4)[:6])

    node.lose_ledger()
    assert node.rebuild() == []
    assert node.sent() == sent
    node.receive(node.images(4)[6:])
    node.work()
    assert sent < node.sent()
    assert [decision for decision in node.decisions() if decision in decisions] == decisions
    assert len(node.decisions()) == len(decisions) + 1
    new = {path for _, _, _, path, _, _ in node.sent() - sent}
    assert {Path(path).parts[1] for path in new}.isdisjoint({Path(path).parts[1] for _, _, _, path, _, _ in sent})
    assert verify_storage(node.spool, node.ledger).findings == []


def test_a_ledger_that_is_lost_again_is_made_again(node: Node):
    """Also where the ids of jobs are others than the folders of their results say."""
    history(node)
    sent, decisions = node.sent(), node.decisions()
    for _ in range(2):
        node.lose_ledger()
        node.rebuild()
        node.work()
    assert (node.sent(), node.decisions()) == (sent, decisions)


def test_an_image_that_came_after_the_results_opens_the_next_revision(node: Node):
    """One that they name did not, though its file was restored and is younger than they are."""
    paths = node.images(1)
    node.receive(paths[:-1])
    node.work()
    for path in node.spool.root.glob("spool/*/*.dcm"):
        os.utime(path, (9e9, 9e9))
    node.lose_ledger()
    node.rebuild()
    assert [job.revision for job in node.ledger.all_jobs()] == [1]
    node.receive(paths[-1:])
    for path in node.spool.root.glob("spool/*/*.dcm"):
        os.utime(path, (9e9, 9e9))
    node.lose_ledger()
    node.rebuild()
    assert [(job.revision, job.state) for job in node.ledger.all_jobs()] == [(1, "REPORTED"), (2, "RECEIVING")]
    node.work()
    assert {job.state for job in node.ledger.all_jobs()} == {State.REPORTED}


def test_a_series_that_was_processed_again_by_hand(node: Node):
    """Its second revision is of the same images; a late one opens the third."""
    paths = node.images(1)
    node.receive(paths[:-1])
    node.work()
    (job,) = node.ledger.all_jobs()
    Desk(node.ledger).rerun(job.id, now=node.clock.now)
    node.work()
    sent, decisions = node.sent(), node.decisions()
    assert [decision[1:3] for decision in decisions] == [("1", "REPORTED"), ("2", "REPORTED")]
    node.lose_ledger()
    node.rebuild()
    assert (node.sent(), node.decisions()) == (sent, decisions)
    node.receive(paths[-1:])
    node.work()
    assert sent < node.sent()
    assert [job.revision for job in node.ledger.all_jobs()] == [1, 2, 3]


def test_results_that_were_not_whole_are_made_again_under_the_same_uids(node: Node):
    """Those of a damaged object, and of a walk that had not come to its end."""
    node.receive(node.images(1))
    node.work()
    uids = {item[2] for item in node.sent()}
    (seg,) = node.spool.root.glob("outbox/*/0/seg.dcm")
    seg.write_bytes(b"damaged")
    node.lose_ledger()
    node.rebuild()
    assert node.sent() == set()
    node.work()
    assert {item[2] for item in node.sent()} == uids
    (sums,) = node.spool.root.glob("outbox/2/0/SHA256SUMS")
    sums.unlink()
    node.lose_ledger()
    node.rebuild()
    node.work()
    assert {item[2] for item in node.sent()} == uids


def test_the_versions_of_an_instance(node: Node):
    """The later counts again, and the first is there for a withdrawal; what it changed opened a revision."""

    def moved(ds: Dataset) -> None:
        ds.PixelData = bytes(len(ds.PixelData))

    paths = node.images(1)
    node.receive(paths)
    node.work()
    assert node.receive(paths[:1], moved) == [Verdict.REPLACED]
    node.work()
    paths_now = node.ledger.instance_paths(node.ledger.all_series()[0])
    sent, decisions = node.sent(), node.decisions()
    assert [decision[1] for decision in decisions] == ["1", "2"]
    node.lose_ledger()
    node.rebuild()
    node.work()
    assert (node.sent(), node.decisions()) == (sent, decisions)
    assert node.ledger.instance_paths(node.ledger.all_series()[0]) == paths_now


def test_results_that_were_taken_back(node: Node):
    """Images that came again as another patient's: the withdrawal stands, and is not said twice."""

    def of_another(ds: Dataset) -> None:
        ds.PatientID, ds.StudyInstanceUID = "ANOTHER", "1.2.3.4.5"

    paths = node.images(1)
    node.receive(paths)
    node.work()
    assert set(node.receive(paths, of_another)) == {Verdict.REPLACED}
    node.work()
    sent, decisions = node.sent(), node.decisions()
    assert RejectReason.REASSIGNED in {decision[3] for decision in decisions}
    node.lose_ledger()
    node.rebuild()
    node.work()
    assert (node.sent(), node.decisions()) == (sent, decisions)
    took_back = [job.before_instance is not None for job in node.ledger.all_jobs()]
    assert sum(took_back) == 1


def test_a_damaged_image_is_left_out_until_it_comes_again(node: Node):
    """It has a line; the sender's resend is taken in, and verify finds nothing then."""
    paths = node.images(1)
    node.receive(paths)
    damaged = sorted(node.spool.root.glob("spool/*/*.dcm"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\xff")
    node.lose_ledger()
    (line,) = node.rebuild()
    assert line.startswith(str(damaged.relative_to(node.spool.root)))
    (job,) = node.ledger.all_jobs()
    assert job.instances == len(paths) - 1
    assert sorted(node.receive(paths)) == [*[Verdict.ALREADY_STORED] * (len(paths) - 1), Verdict.STORED]
    assert verify_storage(node.spool, node.ledger).findings == []


def test_todays_rules_decide(node: Node, make_config: Callable[..., Config]):
    """Results go where today's rule for their series sends them, and nowhere where there is none."""
    node.receive(node.images(1))
    node.work()
    (rule,) = node.config.rules
    ledger = node.config.ledger
    for match, states in (({"Modality": ("MR",)}, ["DELIVERED"]), ({"CallingAETitle": ("MODALITY",)}, ["REPORTED"])):
        node.config = make_config(ledger=ledger, rule=(replace_match(rule, match),))
        node.lose_ledger()
        node.rebuild()
        assert [job.state for job in node.ledger.all_jobs()] == states
        assert bool(node.sent()) == (states == ["REPORTED"])


def replace_match(rule: Any, match: dict[str, tuple[str, ...]]) -> Any:
    return rule.model_copy(update={"match": Match.model_validate(match)})


def test_an_empty_ledger_beside_a_full_spool_is_refused(node: Node):
    """By the service and by submit, with what to do; a kill at the very first instance is no loss."""
    content = node.images(1)
    path = node.spool.instance_path("1.2.3", "1.2.3.4", "0" * 16)
    keep(node.spool, path, content[0].read_bytes())
    refuse_lost_ledger(node.spool, node.ledger)

    node.receive(content)
    refuse_lost_ledger(node.spool, node.ledger)
    node.lose_ledger()
    with pytest.raises(StorageUnusable, match="porta ledger rebuild"):
        refuse_lost_ledger(node.spool, node.ledger)
    with pytest.raises(StorageUnusable, match="porta ledger rebuild"):
        submit_paths(node.config, content)


def test_a_rebuild_that_is_refused(node: Node):
    """While the service runs, and where the ledger holds anything: it changes nothing."""
    node.receive(node.images(1))
    with pytest.raises(StorageUnusable, match="not empty"):
        node.rebuild()
    node.lose_ledger()
    with node.spool.lock(), pytest.raises(StorageUnusable, match="another porta run"):
        node.rebuild()
    assert node.ledger.all_jobs() == []


def test_a_rebuild_that_is_broken_off_leaves_the_ledger_empty(node: Node, monkeypatch: pytest.MonkeyPatch):
    """It is one transaction: the next one begins anew."""
    node.receive(node.images(1))
    node.receive(node.images(2))
    node.lose_ledger()
    monkeypatch.setattr("daemon.upkeep.history._first_time", lambda folder: (0.0, folder.name))
    given = Path.glob

    def fail_at_second(path: Path, pattern: str, **options: Any) -> Any:
        if path.parent.name == "spool" and path.name == node_series[1]:
            raise OSError(5, "Input/output error")
        return given(path, pattern, **options)

    node_series = sorted(path.name for path in node.spool.root.glob("spool/*"))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "glob", fail_at_second)
        with pytest.raises(StorageUnusable, match="Input/output error"):
            node.rebuild()
    assert node.ledger.all_series() == []
    node.rebuild()
    assert len(node.ledger.all_series()) == 2


def removed(node: Node) -> None:
    """Have everything that is reported delivered, and all files removed, ten days later."""
    for job in node.ledger.all_jobs():
        for item in node.ledger.deliveries_of(job.id):
            if item.state == "PENDING":
                node.ledger.advance_delivery(item, DeliveryState.STORED, now=node.clock(), status="0x0000")
    node.clock.pass_s(10 * DAY_S)
    keys = dict.fromkeys(("delivered_days", "rejected_days"), 1)
    config = node.config.model_copy(update={"retention": RetentionSection(**keys)})
    assert Retention(config, node.spool, node.ledger, node.clock, lambda: 0.0).carry_out()
    assert list(node.spool.root.glob("spool/*")) == list(node.spool.root.glob("outbox/*")) == []


def test_what_was_removed_is_remembered(node: Node):
    """Decisions, ids and what was sent are as before; a resend opens nothing, a late slice the next revision."""
    history(node)
    removed(node)
    sent, decisions, jobs = node.sent(), node.decisions(), node.ledger.all_jobs()
    node.lose_ledger()
    with pytest.raises(StorageUnusable, match="porta ledger rebuild"):
        refuse_lost_ledger(node.spool, node.ledger)
    assert node.rebuild() == []
    assert (node.sent(), node.decisions(), node.ledger.all_jobs()) == (sent, decisions, jobs)
    assert verify_storage(node.spool, node.ledger).findings == []
    paths = node.images(1)
    assert node.receive(paths[:-2]) == [Verdict.ALREADY_STORED] * (len(paths) - 2)
    node.lose_ledger()
    node.rebuild()
    here = [item for item in node.ledger.versions(jobs[0].series_instance_uid) if item.removed_at is None]
    assert len(here) == len(paths) - 2
    assert node.receive(paths) == [Verdict.ALREADY_STORED] * len(paths)
    job_id = Desk(node.ledger).rerun(jobs[0].id, now=node.clock()).id
    assert job_id > max(job.id for job in jobs)
    node.work()
    again, known = node.sent(), node.decisions()
    assert sent < again
    node.lose_ledger()
    node.rebuild()
    assert (node.sent(), node.decisions()) == (again, known)


def test_a_damaged_tombstone_is_left_out(node: Node):
    """It has a line; what the others say is there."""
    history(node)
    removed(node)
    first, *others = sorted((node.spool.root / "removed").iterdir())
    first.write_bytes(first.read_bytes()[:-20])
    node.lose_ledger()
    assert node.rebuild() == [f"removed/{first.name}: damaged, left out"]
    assert len(node.ledger.all_series()) == len(others)


def test_on_postgresql(node: Node, postgres_database: str):
    """The same emptiness is refused, and the same rows come of it; ids go on behind those of the folders."""
    history(node)
    sent, decisions = node.sent(), node.decisions()
    node.config = node.config.model_copy(update={"ledger": LedgerSection(url=postgres_database)})
    node.lose_ledger()
    with pytest.raises(StorageUnusable, match="porta ledger rebuild"):
        refuse_lost_ledger(node.spool, node.ledger)
    node.rebuild()
    node.work()
    assert (node.sent(), node.decisions()) == (sent, decisions)
    assert min(job.id for job in node.ledger.all_jobs()) > max(int(p.name) for p in node.spool.root.glob("outbox/*"))
