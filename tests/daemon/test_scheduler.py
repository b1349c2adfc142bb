"""The scheduler calls what it was given: now, again and again, once, sooner when woken, and never twice at once."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, tzinfo
from typing import Any

import apscheduler.schedulers.base
import pytest

from daemon import scheduler as scheduler_module
from daemon.scheduler import Scheduler

PATIENCE_S = 20
NEVER_S = 3600.0

Until = Callable[[Callable[[], object]], None]


@pytest.fixture
def running() -> Iterator[Scheduler]:
    scheduler = Scheduler()
    yield scheduler
    scheduler.stop()


class Counter:
    """A function that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1


def test_it_calls_at_once_and_at_its_interval(running: Scheduler, until: Until):
    """Nothing before the start; from then on each function in its own time."""
    often, seldom, once = Counter(), Counter(), Counter()
    running.every(0.02, "often", often)
    running.every(NEVER_S, "seldom", seldom)
    running.once("once", once)
    assert (often.calls, seldom.calls, once.calls) == (0, 0, 0)
    running.start()
    until(lambda: often.calls >= 5 and seldom.calls and once.calls)
    assert (seldom.calls, once.calls) == (1, 1)


def test_waking_is_sooner(running: Scheduler, until: Until):
    """Not at its interval, which is an hour from now."""
    seldom = Counter()
    running.every(NEVER_S, "seldom", seldom)
    running.start()
    until(lambda: seldom.calls == 1)
    running.wake("seldom")
    until(lambda: seldom.calls == 2)


def test_waking_what_is_running(running: Scheduler, until: Until):
    """It is called once more when it has ended: what it was woken for may have come too late for this call."""
    entered, leave, calls = threading.Event(), threading.Event(), Counter()

    def long() -> None:
        calls()
        entered.set()
        leave.wait(PATIENCE_S)

    running.every(NEVER_S, "long", long)
    running.start()
    assert entered.wait(PATIENCE_S)
    running.wake("long")
    leave.set()
    until(lambda: calls.calls == 2)


def test_waking_what_is_not_there(running: Scheduler):
    """Is no error: it may have been called once and be done."""
    running.start()
    running.wake("nothing")


def test_never_twice_at_once(running: Scheduler, until: Until, read_log: Any):
    """A stage of minutes under a tick of half a second: no second call, no line in the log, and then it goes on."""
    entered, leave = threading.Event(), threading.Event()
    others = Counter()
    inside: list[int] = []
    most: list[int] = []

    def long() -> None:
        inside.append(1)
        most.append(len(inside))
        entered.set()
        leave.wait(PATIENCE_S)
        inside.pop()

    running.every(0.02, "long", long)
    running.every(0.02, "others", others)
    running.start()
    assert entered.wait(PATIENCE_S)
    running.wake("long")
    before = others.calls
    until(lambda: others.calls >= before + 10)
    assert len(most) == 1
    leave.set()
    until(lambda: len(most) >= 3)
    assert set(most) == {1}
    assert read_log.events == []


def test_each_has_a_thread(until: Until):
    """Ten may wait, as for peers that do not answer; the eleventh is still called."""
    scheduler = Scheduler()
    leave = threading.Event()
    inside: list[int] = []

    def wait() -> None:
        inside.append(1)
        leave.wait(PATIENCE_S)

    others = Counter()
    for number in range(10):
        scheduler.every(NEVER_S, f"wait-{number}", wait)
    scheduler.every(0.02, "others", others)
    scheduler.start()
    until(lambda: len(inside) == 10)
    before = others.calls
    until(lambda: others.calls >= before + 3)
    leave.set()
    scheduler.stop()


def test_a_function_that_raises_is_called_again(running: Scheduler, until: Until, read_log: Any):
    """The log has its type; the others do not notice."""
    others, failing = Counter(), Counter()

    def fail() -> None:
        failing()
        raise ValueError("ZZPHI^CANARY")

    running.every(0.02, "failing", fail)
    running.every(0.02, "others", others)
    running.start()
    until(lambda: failing.calls >= 3 and others.calls >= 3)
    lines = read_log.named("round.failed")
    assert lines
    assert {tuple(line["error"]) for line in lines} == {("ValueError",)}


def test_stop_calls_nothing_any_more(until: Until):
    """And does not wait for what is running."""
    scheduler = Scheduler()
    entered, leave = threading.Event(), threading.Event()
    counter = Counter()

    def long() -> None:
        entered.set()
        leave.wait(PATIENCE_S)

    scheduler.every(0.02, "long", long)
    scheduler.every(0.02, "counted", counter)
    scheduler.start()
    assert entered.wait(PATIENCE_S)
    until(lambda: counter.calls > 2)
    scheduler.stop()
    assert not leave.is_set()
    scheduler.wake("counted")
    calls = counter.calls
    assert not leave.wait(0.2)
    assert counter.calls <= calls + 1
    leave.set()


def test_a_clock_that_was_set_back_delays_nothing(monkeypatch: pytest.MonkeyPatch, until: Until):
    """APScheduler reads a wall clock an hour behind: what was due in 20 ms would wait for that hour."""
    behind = timedelta(0)

    class WallClock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) - behind

    for module in (scheduler_module, apscheduler.schedulers.base):
        monkeypatch.setattr(module, "datetime", WallClock)
    monkeypatch.setattr(scheduler_module, "time", lambda: time.time() - behind.total_seconds())
    scheduler, often = Scheduler(), Counter()
    scheduler.every(0.02, "often", often)
    scheduler.start()
    until(lambda: often.calls >= 3)
    behind = timedelta(hours=1)
    before = often.calls
    until(lambda: often.calls >= before + 10)
    scheduler.stop()
