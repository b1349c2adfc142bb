"""A wall clock that jumps ends no wait early and makes none longer: each is as long as it was, by the other clock."""

from collections.abc import Callable
from typing import Any

import pytest

from daemon.choice import Choice, Chosen
from daemon.clock import ServiceClock
from daemon.completeness import Closer
from daemon.configuration.config import Config
from daemon.errors import LedgerUnavailable
from daemon.heartbeat import Heartbeat
from daemon.intake import Intake
from daemon.jobs import Event, HaltCode, State
from daemon.judgement import Judge
from daemon.ledger.store import Instance, Ledger, Outgoing
from daemon.ledger.times import bound_times, move_times
from daemon.service import follow_clock
from daemon.storage.spool import Spool
from dicom_io.files.uids import derive_uid
from reports.objects.kinds import FORMS

HOUR_S, DAY_S = 3600.0, 86_400.0
JUMPS = [HOUR_S, -HOUR_S, DAY_S, -DAY_S]
NOW = 1_800_000_000.0


class Clocks:
    """A wall clock and a monotonic one: time passes on both, and a jump moves the first alone."""

    def __init__(self) -> None:
        self.wall, self.monotonic = NOW, 1000.0
        self.service = ServiceClock(lambda: self.wall, lambda: self.monotonic)

    def pass_s(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds

    def jump(self, seconds: float) -> None:
        self.wall += seconds


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_jump_is_followed_when_times_were_moved(clocks: Clocks, jump_s: float):
    """Until then it is not seen at all; afterwards this clock is the wall clock again."""
    clocks.pass_s(5)
    assert clocks.service() == NOW + 5
    clocks.jump(jump_s)
    clocks.pass_s(1)
    assert clocks.service() == NOW + 6
    moves: list[float] = []

    def fail(seconds: float) -> None:
        raise LedgerUnavailable("no answer")

    with pytest.raises(LedgerUnavailable):
        clocks.service.follow(fail)
    assert clocks.service() == NOW + 6
    assert clocks.service.follow(moves.append) == jump_s
    assert (moves, clocks.service()) == ([jump_s], clocks.wall)
    assert clocks.service.follow(moves.append) == 0.0
    assert moves == [jump_s]


def test_small_steps_are_no_jump_until_they_add_up(clocks: Clocks):
    """NTP may set the clock by some milliseconds again and again."""
    moves: list[float] = []
    for _ in range(4):
        clocks.jump(0.3)
        clocks.service.follow(moves.append)
    assert moves == [pytest.approx(1.2)]


class Node:
    """What closes series and keeps leases, on a ledger, by the clocks."""

    def __init__(self, config: Config, spool: Spool, ledger: Ledger, clocks: Clocks) -> None:
        self.ledger, self.clocks = ledger, clocks
        clock = clocks.service
        self.intake = Intake(spool, ledger, clock)
        judge = Judge(config, spool, ledger, lambda paths, memory_mb: pytest.fail("not looked at"))
        self.closer = Closer(config, spool, ledger, judge, listening_since=clock(), clock=clock, jitter=lambda: 0.5)
        self.quiet_s = config.series.quiet_s

    def round(self) -> int:
        follow_clock(self.clocks.service, self.closer, ())
        return self.closer.close_due()


@pytest.fixture
def node(make_config: Callable[..., Config], spool: Spool, ledger: Ledger, clocks: Clocks, read_log: Any) -> Node:
    return Node(make_config(), spool, ledger, clocks)


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_series_is_closed_when_it_was_quiet_for_long_enough(
    node: Node, clocks: Clocks, make_ct: Callable[..., bytes], read_log: Any, jump_s: float
):
    """Not when the wall clock says so, and no later than `quiet_s` after the jump."""
    clocks.pass_s(1000)
    node.intake.take(make_ct(1, 1), calling_ae_title="MODALITY")
    clocks.pass_s(1)
    clocks.jump(jump_s)
    assert node.round() == 0
    node.intake.take(make_ct(1, 2), calling_ae_title="MODALITY")
    clocks.pass_s(node.quiet_s - 1)
    assert node.round() == 0
    clocks.pass_s(2)
    assert node.round() == 1
    (line,) = read_log.named("clock.jumped")
    assert line["jump_s"] == jump_s


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_series_that_comes_as_the_clock_jumps(
    node: Node, clocks: Clocks, make_ct: Callable[..., bytes], jump_s: float
):
    """An instance between the jump and the round that notices it is as young as it is."""
    clocks.pass_s(1000)
    node.round()
    clocks.jump(jump_s)
    node.intake.take(make_ct(1, 1), calling_ae_title="MODALITY")
    assert node.round() == 0
    clocks.pass_s(node.quiet_s - 1)
    assert node.round() == 0
    clocks.pass_s(2)
    assert node.round() == 1


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_retry_comes_when_it_was_to_come(
    node: Node, clocks: Clocks, make_instance: Callable[..., Instance], jump_s: float
):
    """And a lease lasts as long as it was to last."""
    ledger, clock = node.ledger, clocks.service
    for number in (1, 2):
        ledger.record_instance(make_instance(number), now=clock())
    clocks.pass_s(node.quiet_s + 1)
    postponed, leased = ledger.due_series(now=clock(), quiet_s=node.quiet_s, released_quiet_s=5)
    ledger.postpone(ledger.job(postponed.job_id), now=clock(), until=clock() + 60, code="OSError", counts=True)
    ledger.close_series(leased, now=clock(), rule="liver-ct")
    closed = ledger.job(leased.job_id)
    ledger.choose(Choice(chosen=(Chosen(closed),)), [closed], now=clock())
    clocks.pass_s(30)
    assert ledger.claim_job("host/1", now=clock())
    clocks.jump(jump_s)
    follow_clock(clock, node.closer, ())

    def due() -> list[int]:
        found = ledger.due_series(now=clock(), quiet_s=node.quiet_s, released_quiet_s=5)
        return [item.job_id for item in found]

    clocks.pass_s(29)
    assert due() == []
    assert ledger.claim_job("other/1", now=clock()) is None
    clocks.pass_s(2)
    assert due() == [postponed.job_id]
    assert ledger.claim_job("other/1", now=clock())


@pytest.mark.parametrize("jump_s", JUMPS)
def test_deliveries_and_shadows_wait_as_long_as_they_were_to_wait(
    any_ledger: Ledger, make_instance: Callable[..., Instance], jump_s: float
):
    """On either database; what a destination has been waited for counts on from what it was."""
    ledger = any_ledger
    ledger.record_instance(make_instance(), now=NOW - 100)
    (due,) = ledger.due_series(now=NOW, quiet_s=20, released_quiet_s=5)
    ledger.close_series(due, now=NOW, rule="liver-ct")
    closed = ledger.job(due.job_id)
    ledger.choose(Choice(chosen=(Chosen(closed),)), [closed], now=NOW)
    uids = derive_uid("seg"), derive_uid("seg", "series")
    outgoing = [Outgoing(name, FORMS["seg"], *uids, "outbox/1/0/seg.dcm", "none") for name in ("away", "busy")]
    for event in (Event.SEGMENTED, Event.REPORTED):
        job = ledger.claim_job("host/1", now=NOW)
        assert job is not None
        is_last = event == Event.REPORTED
        ledger.finish_stage(job, event, now=NOW, outgoing=outgoing * is_last, shadow_models=["other"] * is_last)
    _, busy = ledger.deliveries_of(due.job_id)
    (shadow,) = ledger.shadows_of(due.job_id)
    ledger.wait_for_destination("away", now=NOW, until=NOW + 50, status="UNREACHABLE")
    ledger.postpone_delivery(busy, until=NOW + 50, status="PEER_ERROR", counts=True)
    ledger.postpone_shadow(shadow, until=NOW + 50, code="WorkerCrashed", counts=True)

    move_times(ledger.database, jump_s)
    for passed_s, count in ((49, 0), (51, 1)):
        now = NOW + jump_s + passed_s
        assert [len(ledger.due_deliveries(now=now, to=name)) for name in ("away", "busy")] == [count, count]
        assert len(ledger.due_shadows(now=now)) == count
    assert [item.waited_s for item in ledger.deliveries_of(due.job_id)] == [50, 0]


@pytest.mark.parametrize("back_s", [HOUR_S, DAY_S])
def test_a_clock_that_was_set_back_while_the_service_was_down(
    any_ledger: Ledger, make_instance: Callable[..., Instance], back_s: float, read_log: Any
):
    """What lies further ahead than anything is waited for is taken back by the first heartbeat; the rest stays."""
    for number in (1, 2):
        any_ledger.record_instance(make_instance(number), now=NOW + back_s)
    first, second = any_ledger.all_jobs()
    any_ledger.postpone(first, now=NOW + back_s, until=NOW + back_s + 300, code="OSError", counts=True)
    any_ledger.postpone(second, now=NOW, until=NOW + 200, code="OSError", counts=True)
    heartbeat = Heartbeat(any_ledger, "host/1", "root", lambda: NOW, 375)
    heartbeat.beat()
    assert [job.not_before for job in any_ledger.all_jobs()] == [NOW + 375, NOW + 200]
    assert {item.last_received_at for item in any_ledger.incoming("MODALITY")} == {NOW}
    assert len(read_log.named("times.bounded")) == 1
    heartbeat.beat()
    assert len(read_log.named("times.bounded")) == 1


def test_what_is_done_is_not_moved(any_ledger: Ledger, make_instance: Callable[..., Instance]):
    """A job that waits for a person, or has ended, keeps its times, and so does what a closed series was."""
    for number in (1, 2):
        any_ledger.record_instance(make_instance(number), now=NOW)
    first, second = any_ledger.due_series(now=NOW + 100, quiet_s=20, released_quiet_s=5)
    any_ledger.close_series(first, now=NOW, rule=None, reject_reason="NO_RULE")
    any_ledger.halt(any_ledger.job(second.job_id), HaltCode.UNEXPECTED, now=NOW)
    move_times(any_ledger.database, HOUR_S)
    assert bound_times(any_ledger.database, now=NOW + HOUR_S, longest_s=1) == 0
    assert any_ledger.job(first.job_id).state == State.REJECTED
    assert [event["at"] for event in any_ledger.history(first.job_id)] == [NOW, NOW]
