"""What is done goes when [retention] says so, and nothing else; a kill leaves nothing half; a resend is known."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from daemon.administration.interventions import rerun_jobs, send_job
from daemon.administration.removals import print_retention
from daemon.configuration.config import Config
from daemon.configuration.config import Ledger as LedgerSection
from daemon.configuration.config import Retention as Section
from daemon.errors import BadRequest, WrongState
from daemon.intake import Intake, Verdict
from daemon.jobs import DeliveryState, HaltCode, State
from daemon.ledger.corrections import Corrections
from daemon.ledger.desk import Desk
from daemon.ledger.removals import Outcome, forget, remains_of
from daemon.ledger.rows import Compared
from daemon.ledger.searches import JobFilter
from daemon.ledger.store import Instance, Ledger
from daemon.retention.removal import KEYS, LEAST_AGE_S, ROUND_S, Retention
from daemon.storage.spool import Spool
from daemon.upkeep.backup import back_up, restore
from dicom_io.files.uids import derive_uid
from tests.daemon.conftest import made_database
from tests.daemon.retention.conftest import EVERY, Root

UID = derive_uid("series", 1)


def test_what_a_person_corrected_stays(root: Root, make_instance: Callable[..., Instance]) -> None:
    """It is a case to train on; a correction that turned out to be none keeps nothing."""
    root.delivered(1)
    corrections = Corrections(root.ledger)
    assert corrections.record(make_instance("seg"), of_series=UID, now=root.clock())
    root.pass_days(2)
    assert root.retention(**EVERY).work_off() == 0
    corrections.settle(corrections.latest()[0], None, code="NOT_ON_IMAGES")
    assert root.retention(**EVERY).work_off() == 1


def test_what_was_delivered_goes_after_its_days(root: Root, tombstones: Callable[[], list[Path]], read_log: Any):
    """Images, sidecars, results and labels; the rows stay, and nothing is missing to anybody."""
    job = root.delivered(1)
    assert len(root.files()) == 2 * 2 + 2 + 1
    before = root.ledger.deliveries_of(job.id), root.ledger.jobs_of_series(UID)
    root.pass_days(29.9)
    assert root.retention(delivered_days=30).work_off() == 0
    assert len(root.files()) == 7
    root.pass_days(0.2)
    assert root.retention(delivered_days=30).work_off() == 1
    assert root.files() == []
    assert [path.name for path in tombstones()] == [f"{UID}.json.gz"]
    assert not (root.spool.root / "spool" / UID).exists()
    assert (root.ledger.deliveries_of(job.id), root.ledger.job(job.id).state) == (before[0], State.DELIVERED)
    assert root.ledger.job(job.id).removed_at == root.clock()
    done = root.verify()
    assert (done.findings, done.instances, done.objects, done.removed) == ([], 0, 0, 2)
    (line,) = read_log.named("series.removed")
    assert (line["reason"], line["result"], line["instances"]) == ("delivered_days", "DELIVERED", 2)
    assert root.retention(delivered_days=30).work_off() == 0


def halted(root: Root) -> None:
    job = root.report(root.close(1))
    (delivery,) = root.ledger.deliveries_of(job.id)
    root.ledger.halt_delivery(delivery, HaltCode.DELIVERY_FAILED, now=root.clock(), status="0xC000")


def stands_still(root: Root) -> None:
    root.close(1)
    job = root.ledger.jobs_of_series(UID)[0]
    with root.ledger.database.transaction() as connection:
        connection.execute(sa.text("UPDATE jobs SET halt = 'MODEL_UNUSABLE'"))
    assert root.ledger.job(job.id).halt == HaltCode.MODEL_UNUSABLE


def unconfirmed(root: Root) -> None:
    root.deliver(root.report(root.close(1), confirm="query"))


def other_series_comes(root: Root) -> None:
    root.deliver(root.report(root.close(1)))
    root.receive(2, 1, change=lambda ds: setattr(ds, "StudyInstanceUID", derive_uid("study", 1)))


def uncompared(root: Root) -> None:
    root.deliver(root.report(root.close(1), shadows=("vgg16",)))


NOT_DONE: dict[str, Callable[[Root], object]] = {
    "coming in": lambda root: None,
    "waiting": lambda root: root.close(1),
    "undelivered": lambda root: root.report(root.close(1)),
    "halted delivery": halted,
    "halted job": stands_still,
    "unconfirmed": unconfirmed,
    "another series of its study comes in": other_series_comes,
    "a shadow waits": uncompared,
}


@pytest.mark.parametrize("name", NOT_DONE)
def test_what_is_not_done_never_goes(root: Root, name: str):
    """Whatever its age, and however little room there is."""
    root.receive(1)
    NOT_DONE[name](root)
    before = root.files()
    root.pass_days(1000)
    retention = root.retention(**EVERY, total_mb=1, free_mb=10**9)
    assert retention.plan() == []
    assert (retention.work_off(), root.files()) == (0, before)


def outcome_of(root: Root, outcome: Outcome) -> None:
    root.receive(1)
    if outcome == Outcome.REJECTED:
        root.close(1, rule=None, reject_reason="NO_RULE")
    elif outcome == Outcome.CANCELLED:
        root.ledger.cancel(root.ledger.jobs_of_series(UID)[0].id, now=root.clock())
    else:
        job = root.report(root.close(1), is_kept=outcome == Outcome.KEPT)
        if outcome == Outcome.DELIVERED:
            root.deliver(job)


@pytest.mark.parametrize("outcome", Outcome)
def test_each_outcome_has_its_key(root: Root, outcome: Outcome):
    """What another key says is nothing to it; what is kept for a person does not go for want of room."""
    outcome_of(root, outcome)
    root.pass_days(2)
    others = {key: days for key, days in EVERY.items() if key != KEYS[outcome]}
    assert root.retention(**others).plan() == []
    (planned,) = root.retention(**{KEYS[outcome]: 1}).plan()
    assert (planned.done.outcome, planned.key) == (outcome, KEYS[outcome])
    assert len(root.retention(free_mb=10**9).plan()) == (outcome != Outcome.KEPT)


def test_the_oldest_make_room(root: Root, monkeypatch: pytest.MonkeyPatch):
    """As many as it takes, none that has just ended; where that is not enough, the log says so."""
    for series in (2, 1, 3):
        root.delivered(series)
        root.clock.pass_s(LEAST_AGE_S / 2)
    monkeypatch.setattr(Spool, "free_mb", lambda self: 1000)
    assert root.retention(free_mb=1000).plan() == []
    assert [item.done.series_instance_uid for item in root.retention(free_mb=1001).plan()] == [
        derive_uid("series", 2),
        UID,
    ]
    size = root.retention(free_mb=1001).plan()[0].bytes
    monkeypatch.setattr("daemon.retention.removal.MB", size)
    assert [item.key for item in root.retention(total_mb=2).plan()] == ["total_mb"]
    assert root.retention(total_mb=3).plan() == []
    assert root.retention(total_mb=2).carry_out() == 1
    assert root.retention(total_mb=2).plan() == []


def test_ages_are_looked_at_once_an_hour_and_room_each_time(root: Root, monkeypatch: pytest.MonkeyPatch):
    """A round costs next to nothing where there is room."""
    monotonic = iter([0.0, 0.0, 0.0, 1.0, 2.0, 2.0, 2.0, ROUND_S + 3, ROUND_S + 3, ROUND_S + 3]).__next__
    config = root.make_config(retention=Section(delivered_days=30, free_mb=1000))
    monkeypatch.setattr(Spool, "free_mb", lambda self: 1000)
    root.delivered(1)
    retention = Retention(config, root.spool, root.ledger, root.clock, monotonic)
    plans: list[int] = []
    monkeypatch.setattr(Retention, "carry_out", lambda self: plans.append(1) or 1)
    assert [retention.work_off(), retention.work_off()] == [1, 0]
    monkeypatch.setattr(Spool, "free_mb", lambda self: 999)
    assert retention.work_off() == 1


def test_a_clock_that_was_set_forward_removes_nothing(root: Root, read_log: Any):
    """What seems a year old may be of today: a person has to look."""
    root.delivered(1)
    retention = root.retention(**EVERY)
    root.pass_days(365)
    assert (retention.work_off(), len(root.files())) == (0, 7)
    assert read_log.named("retention.held")


def test_a_resend_is_known_and_comes_back(root: Root, tombstones: Callable[[], list[Path]]):
    """No job comes of it; it may be processed again, and goes again after its days."""
    job = root.delivered(1)
    root.pass_days(2)
    root.retention(**EVERY).carry_out()
    with pytest.raises(WrongState, match="REMOVED"):
        Desk(root.ledger).rerun(job.id, now=root.clock())
    assert root.receive(1, 1) == [Verdict.ALREADY_STORED]
    with pytest.raises(WrongState, match="REMOVED"):  # half of it is here
        Desk(root.ledger).rerun(job.id, now=root.clock())
    assert root.receive(1) == [Verdict.ALREADY_STORED] * 2
    assert [item.revision for item in root.ledger.jobs_of_series(UID)] == [1]
    assert root.verify().findings == []
    assert root.retention(**EVERY).plan() == []
    again = Desk(root.ledger).rerun(job.id, now=root.clock())
    assert again.revision == 2
    root.deliver(root.report(root.close(1)))
    root.pass_days(2)
    assert root.retention(**EVERY).carry_out() == 1
    assert (root.files(), len(tombstones())) == ([], 1)


def test_a_slice_that_is_late_waits_for_the_others(root: Root):
    """The next revision lacks what was removed, until that comes again; then it has all of it."""
    root.delivered(1)
    root.pass_days(2)
    root.retention(**EVERY).carry_out()
    assert root.receive(1, 3) == [Verdict.STORED]
    revised = root.ledger.jobs_of_series(UID)[-1]
    assert (revised.revision, revised.state, revised.instances) == (2, State.RECEIVING, 3)
    with root.ledger.database.transaction() as connection:
        connection.execute(sa.text(f"UPDATE jobs SET halt = 'SPOOL_UNREADABLE' WHERE id = {revised.id}"))
    root.clock.pass_s(100)
    assert root.receive(1) == [Verdict.ALREADY_STORED] * 2
    assert root.ledger.job(revised.id).halt is None
    quiet = {"quiet_s": 20, "released_quiet_s": 5}
    assert root.ledger.due_series(now=root.clock() + 19, **quiet) == []
    assert len(root.ledger.due_series(now=root.clock() + 20, **quiet)) == 1
    assert all((root.spool.root / path).exists() for path in root.ledger.instance_paths(UID))


def test_who_comes_again_waits_for_a_removal(root: Root, make_ct: Callable[..., bytes]):
    """What was acknowledged is not removed by a removal that had begun."""
    root.delivered(1)
    root.pass_days(2)
    retention = root.retention(**EVERY)
    (planned,) = retention.plan()
    intake = Intake(root.spool, root.ledger, root.clock)
    came = threading.Thread(target=lambda: intake.take(make_ct(1, 1), calling_ae_title="MODALITY"))
    with root.spool.removal():
        came.start()
        assert retention._remove(planned)
        assert came.is_alive()
    came.join(20)
    (path,) = [path for path in root.ledger.instance_paths(UID) if (root.spool.root / path).exists()]
    assert derive_uid("instance", 1, 1) in path
    assert root.verify().findings == []


def test_what_changed_meanwhile_stays(root: Root):
    """A job that a person had sent again after it was planned is not done any more."""
    job = root.delivered(1)
    root.pass_days(2)
    retention = root.retention(**EVERY)
    (planned,) = retention.plan()
    Desk(root.ledger).send(root.ledger.job(job.id), ["archive"], [], now=root.clock())
    assert not retention._remove(planned)
    assert (len(root.files()), root.ledger.job(job.id).removed_at) == (7, None)
    assert root.files("removing", "removed") == []


CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir")
"""The audit events of what a removal does to the disk."""


def kill_at(step: int, act: Callable[[], object]) -> bool:
    """Have another process do it, killed before its change number `step`; False where it came to its end."""

    def run() -> None:
        steps = count(1)

        def look(event: str, args: object) -> None:
            if event in CHANGES and next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(look)
        act()

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def test_a_kill_leaves_nothing_half(root: Root, tombstones: Callable[[], list[Path]]):
    """At whichever change to the disk: the next start finds all of it there, or removes the rest."""
    url = root.ledger.database._engine.url.render_as_string(hide_password=False)
    outcomes: list[int] = []
    for step in count(1):
        root.delivered(step)
        root.pass_days(2)
        before = len(root.files())

        def act() -> None:
            Retention(
                root.make_config(retention=Section(**EVERY)), root.spool, Ledger(url), root.clock, lambda: 0.0
            ).carry_out()

        was_killed = kill_at(step, act)
        root.retention().recover()
        outcomes.append(len(root.files()))
        assert outcomes[-1] in (0, before)
        job = root.ledger.jobs_of_series(derive_uid("series", step))[0]
        assert (job.removed_at is None) == (outcomes[-1] == before)
        assert root.verify().findings == []
        root.retention(**EVERY).carry_out()
        assert (root.files(), len(tombstones())) == ([], step)
        if not was_killed:
            break
    assert {0, 7} == set(outcomes)
    assert len(outcomes) > 8


def test_a_backup_knows_what_was_removed(
    root: Root, tmp_path: Path, request: pytest.FixtureRequest, tombstones: Callable[[], list[Path]]
):
    """Nothing is missing, and a resend is known after the restore as well."""
    root.delivered(1)
    root.pass_days(2)
    root.retention(**EVERY).carry_out()
    root.delivered(2)
    made = back_up(root.spool, root.ledger, tmp_path / "backup")
    assert (made.instances, made.objects, made.missing) == (2, 1, ())
    other = Spool(tmp_path / "elsewhere")
    if root.ledger.database.kind == "sqlite":
        restored(root, tmp_path, other, Ledger(f"sqlite:///{other.root / 'ledger.sqlite'}"))
        return
    with made_database(request.getfixturevalue("postgres")) as url:
        restored(root, tmp_path, other, Ledger(url))


def restored(root: Root, tmp_path: Path, other: Spool, ledger: Ledger) -> None:
    done = restore(tmp_path / "backup", other, ledger)
    assert (done.findings, done.instances, done.removed) == ([], 2, 2)
    elsewhere = Root(other, ledger, root.clock, root.make_ct, root.make_config)
    assert elsewhere.files("removed") == [f"{UID}.json.gz"]
    assert elsewhere.receive(1) == [Verdict.ALREADY_STORED] * 2
    ledger.close()


def test_history_is_forgotten_after_its_days(root: Root):
    """Of what was removed, and not before: events, comparisons, commitments."""
    root.receive(1)
    job = root.report(root.close(1), shadows=("vgg16",))
    root.deliver(job)
    (shadow,) = root.ledger.shadows_of(job.id)
    root.ledger.settle_shadow(shadow, now=root.clock(), compared=Compared("1", "0" * 64, ()))
    root.pass_days(2)
    root.retention(**EVERY, history_days=10).carry_out()
    assert (len(root.ledger.history(job.id)) > 5, len(root.ledger.shadows_of(job.id))) == (True, 1)
    root.pass_days(10.1)
    counted = forget(root.ledger.database, before=root.clock() - 10 * 86400, dry=True)
    assert (counted.events, counted.shadows) == (len(root.ledger.history(job.id)), 1)
    root.retention(**EVERY, history_days=10).carry_out()
    assert (root.ledger.history(job.id), root.ledger.shadows_of(job.id)) == ([], [])
    assert root.receive(1) == [Verdict.ALREADY_STORED] * 2


@pytest.fixture
def config(root: Root, ledger_url: str) -> Config:
    return root.make_config(retention=Section(**EVERY), ledger=LedgerSection(url=ledger_url))


def test_the_command_lists_what_and_why(root: Root, config: Config):
    """With --dry-run nothing changes; without it what was listed is gone."""
    job = root.delivered(1)
    root.pass_days(3)
    lines: list[str] = []
    for dry_run in (True, False):
        print_retention(config, dry_run=dry_run, clock=root.clock, say=lines.append)
        assert len(root.files()) == (7 if dry_run else 0)
    assert lines[0] == lines[2]
    assert lines[0].startswith(f"series {UID}: 2 images, the results of jobs {job.id}, 0.0 MB: DELIVERED, 3 days ago")
    assert lines[0].endswith("(delivered_days = 1)")
    assert "1 series" in lines[1]
    assert "would be removed" in lines[1]
    assert "were removed" in lines[3]


def test_what_cannot_be_done_any_more_is_said(root: Root, config: Config):
    """Sending and processing again need the files; remains are what the ledger says."""
    job = root.delivered(1)
    root.pass_days(3)
    root.retention(**EVERY).carry_out()
    with pytest.raises(BadRequest, match=f"were removed by retention on .* `porta rerun {job.id}`"):
        send_job(config, job.id, None)
    said: list[str] = []
    assert not rerun_jobs(config, JobFilter(ids=(job.id,)), say=said.append, warn=said.append)
    assert "removed by retention" in said[0]
    assert remains_of(root.ledger.database, UID).job_ids == (job.id,)
    assert root.ledger.deliveries_of(job.id)[0].state == DeliveryState.STORED
