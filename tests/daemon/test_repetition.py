"""A flood of the same line is two lines a minute, and says how many it was."""

import io
import json
from typing import Any

import structlog

from daemon.repetition import MOST_LINES, VARIANTS, WINDOW_S, Repetition


class Log:
    """Lines through a repetition, on a clock that is moved."""

    def __init__(self) -> None:
        self.now, self.stream = 0.0, io.StringIO()
        self.repetition = Repetition(structlog.processors.JSONRenderer(), lambda: self.now)

    def say(self, level: str = "warning", event: str = "association.ended", **keys: Any) -> None:
        try:
            line = self.repetition(None, level, {"timestamp": str(self.now), "level": level, "event": event} | keys)
        except structlog.DropEvent:
            return
        self.stream.write(f"{line}\n")

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


def test_the_same_line_is_written_once_and_counted():
    """The count comes with the next line of any kind once the minute is over; then the line is news again."""
    log = Log()
    for number in range(1000):
        log.now = number * 0.05
        log.say(reason="TIMED_OUT", host="10.0.0.1", frames=[str(number)])
    assert len(log.lines) == 1
    log.now = WINDOW_S
    log.say("info", "series.closed")
    first, count, news = log.lines
    assert count == first | {"timestamp": count["timestamp"], "repeated": 999}
    assert news["event"] == "series.closed"
    log.say(reason="TIMED_OUT", host="10.0.0.1", frames=["1000"])
    assert len(log.lines) == 4


def test_what_differs_is_written():
    """Another job, another status, another peer; and what changed state, as often as it does."""
    log = Log()
    for job in range(100):
        log.say("error", "job.halted", job_id=job)
        log.say("info", "instance.set_aside", code="DUPLICATE")
    assert len(log.lines) == 200


def test_a_host_that_says_something_else_each_time():
    """Its lines are bounded all the same; those of another host are not concerned."""
    log = Log()
    for number in range(1000):
        log.say(
            "warning", "association.refused", reason="CALLING_AE_TITLE", host="10.0.0.1", calling_ae_title=str(number)
        )
    log.say("warning", "association.refused", reason="CALLING_AE_TITLE", host="10.0.0.2", calling_ae_title="1")
    assert len(log.lines) == VARIANTS + 2
    assert "calling_ae_title" in log.lines[-1]
    counted = [json.loads(line) for line in log.repetition.due(at_once=True)]
    assert [(line["host"], line["repeated"]) for line in counted] == [("10.0.0.1", 1000 - VARIANTS - 1)]
    assert "calling_ae_title" not in counted[0]


def test_what_is_remembered_is_bounded():
    """A flood that differs in everything is counted by its event, and forgotten after the minute."""
    log = Log()
    for number in range(2 * MOST_LINES):
        log.say("error", "job.halted", job_id=number)
    assert len(log.lines) == MOST_LINES + 1
    assert len(log.repetition._lines) == MOST_LINES + 1
    log.now = WINDOW_S
    (count,) = [json.loads(line) for line in log.repetition.due()]
    assert (count["event"], count["repeated"]) == ("job.halted", MOST_LINES - 1)
    assert not log.repetition._lines
    assert not log.repetition._variants


def test_a_count_is_told_once():
    """Also where nothing else is said: the service asks for it."""
    log = Log()
    log.say("error")
    log.say("error")
    assert log.repetition.due() == []
    log.now = WINDOW_S
    assert len(log.repetition.due()) == 1
    assert log.repetition.due(at_once=True) == []
