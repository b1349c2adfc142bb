"""The log lets out what it knows and nothing else, whoever speaks: the canary must never be heard."""

import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import structlog
from pydicom.dataset import Dataset
from pydicom.uid import UID

from daemon.log import ALLOWED, bound_job, configure, get_logger

CANARY = "ZZPHI^CANARY"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """A configured JSON log that is read back, and everything `configure` takes over, given back afterwards."""
    root = logging.getLogger()
    handlers, level, raises = list(root.handlers), root.level, logging.raiseExceptions
    hooks = warnings.showwarning, sys.excepthook, threading.excepthook, sys.unraisablehook
    get_logger()  # Sets up the chain that other modules' loggers have, if none of them is imported yet.
    chain = structlog.get_config()
    stream = io.StringIO()
    configure("debug", "json", stream)
    yield stream
    root.handlers[:], logging.raiseExceptions = handlers, raises
    root.setLevel(level)
    warnings.showwarning, sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    structlog.configure(**chain)


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    assert "ZZPHI" not in stream.getvalue()
    assert "CANARY" not in stream.getvalue()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def raised() -> Exception:
    """An exception with a cause and a context, each with the canary in its message."""
    try:
        try:
            raise KeyError(CANARY)
        except KeyError as error:
            raise ValueError(f"Invalid value for VR UI: '{CANARY}'") from error
    except ValueError as error:
        return error


def test_an_event_has_a_utc_time_a_level_a_name_and_its_keys(stream: io.StringIO):
    """The form that a log collector reads."""
    get_logger().info("series.closed", instances=312, quiet_s=20.5)
    (event,) = events(stream)
    when = datetime.fromisoformat(event.pop("timestamp"))
    assert when.utcoffset() == UTC.utcoffset(None)
    assert event == {"level": "info", "event": "series.closed", "instances": 312, "quiet_s": 20.5}


def test_keys_that_are_not_allowed_are_dropped_and_counted(stream: io.StringIO):
    """The writer of the event sees that something is missing, without seeing what."""
    get_logger().info("series.closed", instances=1, PatientName=CANARY, detail=CANARY)
    (event,) = events(stream)
    assert event["dropped"] == 2
    assert "PatientName" not in event


@pytest.mark.parametrize("key", sorted(ALLOWED - {"calling_ae_title", "called_ae_title", "root", "device"}))
def test_an_allowed_key_lets_no_sentence_out(stream: io.StringIO, key: str):
    """A careless `reason=str(error)` is withheld; only AE titles, the storage root and a GPU's name have spaces."""
    get_logger().info(*([CANARY] if key == "event" else ["stage.failed"]), **({} if key == "event" else {key: CANARY}))
    events(stream)


def test_values_that_could_hold_a_data_set_are_only_named_by_type(stream: io.StringIO):
    """Data sets, elements, names, bytes and dictionaries do not get through an allowed key."""
    dataset = Dataset()
    dataset.PatientName = CANARY
    values = (dataset, dataset["PatientName"], dataset.PatientName, CANARY.encode(), {"a": CANARY}, [CANARY, [dataset]])
    for value in values:
        get_logger().info("stage.failed", reason=value)
    assert events(stream)[0]["reason"] == "<pydicom.dataset.Dataset>"


def test_plain_values_keep_their_form(stream: io.StringIO):
    """Codes, UIDs, times, paths and lists of them are what a line is made of."""

    class State(StrEnum):
        RECEIVED = "RECEIVED"

    get_logger().info(
        "job.moved",
        state=State.RECEIVED,
        series_instance_uid=UID("1.2.840.10008"),
        not_before=datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC),
        root=Path("/srv/porta data"),
        calling_ae_title="CT SCANNER",
        objects=("seg", "sr"),
        halt=None,
        status="0xA700",
    )
    (event,) = events(stream)
    assert event["state"] == "RECEIVED"
    assert event["series_instance_uid"] == "1.2.840.10008"
    assert event["not_before"] == "2024-01-02T03:04:05+00:00"
    assert event["root"] == "/srv/porta data"
    assert event["calling_ae_title"] == "CT SCANNER"
    assert event["objects"] == ["seg", "sr"]
    assert event["halt"] is None
    assert event["status"] == "0xA700"


def test_a_model_may_be_named_with_its_version(stream: io.StringIO):
    """In `model` alone, and once: what looks like an address of mail is withheld elsewhere, as is a sentence."""
    for key, value in (("model", "ours@0-1.2"), ("reason", "jane@example.org"), ("model", "a@b@c"), ("model", "a@b c")):
        get_logger().info("shadow.compared", **{key: value})
    found = events(stream)
    assert [event.get("model", event.get("reason")) for event in found] == ["ours@0-1.2", "<text>", "<text>", "<text>"]


def test_a_sentence_is_no_event(stream: io.StringIO):
    """An f-string in place of a name is not written."""
    get_logger().info(f"received study of {CANARY}")
    assert events(stream)[0]["event"] == "event.unnamed"


def test_an_exception_is_its_types_and_places(stream: io.StringIO):
    """Three ways to hand one over; the messages of it and its causes are never written."""
    error = raised()
    get_logger().error("stage.failed", exc_info=error)
    get_logger().warning("stage.failed", error=error)
    try:
        raise error
    except ValueError:
        get_logger().exception("stage.failed")
    for event in events(stream):
        assert event["error"] == ["ValueError", "KeyError"]
        assert event["frames"]
        assert all(frame.startswith("daemon/test_log.py:") for frame in event["frames"])


@pytest.mark.parametrize("name", ["alembic.runtime", "sqlalchemy.engine", "matplotlib.font_manager", "highdicom.seg"])
def test_a_library_is_heard_but_not_quoted(stream: io.StringIO, name: str):
    """WARNING and above: that it spoke, and where. Below: nothing."""
    logger = logging.getLogger(name)
    logger.setLevel(logging.INFO)  # the reports, where they ran before in this process, have quietened theirs
    logger.info("received %s", CANARY)
    logger.warning("Unknown value %s", CANARY, extra={"patient": CANARY})
    logger.error("cannot encode", exc_info=raised())
    logger.error("%d", CANARY)
    warned, failed, unformattable = events(stream)
    assert warned["event"] == "library.warned"
    assert warned["logger"] == name
    assert warned["place"].startswith("daemon/test_log.py:")
    assert failed["event"] == unformattable["event"] == "library.failed"
    assert failed["error"] == ["ValueError", "KeyError"]


def test_a_python_warning_is_heard_but_not_quoted(stream: io.StringIO, capfd: pytest.CaptureFixture[str]):
    """pydicom warns with the value that it does not like."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        # pytest puts its own recorder in place of what the fixture had configured.
        configure("debug", "json", stream)
        warnings.warn(f"Invalid value for VR PN: {CANARY}", UserWarning, stacklevel=1)
    (event,) = events(stream)
    assert event["event"] == "library.warned"
    assert event["error"] == "UserWarning"
    assert "ZZPHI" not in "".join(capfd.readouterr())


def test_what_nobody_catches_is_logged_and_not_printed(stream: io.StringIO, capfd: pytest.CaptureFixture[str]):
    """Python would print the message to stderr: of a thread and of the main thread."""

    def fail() -> None:
        raise raised()

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    error = raised()
    sys.excepthook(type(error), error, error.__traceback__)
    assert [event["event"] for event in events(stream)] == ["thread.died", "process.died"]
    assert "ZZPHI" not in "".join(capfd.readouterr())


def test_the_job_is_bound_once_for_every_event_within(stream: io.StringIO):
    """The stage need not pass the id on, and the next job does not inherit it."""
    with bound_job(17):
        get_logger().info("stage.started")
    get_logger().info("stage.ended")
    inside, outside = events(stream)
    assert inside["job_id"] == 17
    assert "job_id" not in outside


def test_events_below_the_level_are_not_written(stream: io.StringIO):
    """And the level can be changed by configuring again, without doubling what libraries say."""
    configure("warning", "json", stream)
    get_logger().info("series.closed")
    logging.getLogger("sqlalchemy").warning("once")
    assert [event["event"] for event in events(stream)] == ["library.warned"]


def test_the_console_form_has_the_same_allow_list(stream: io.StringIO):
    """A person's terminal is no place for patient data either."""
    configure("info", "console", stream)
    get_logger().error("stage.failed", patient=CANARY, instances=3, exc_info=raised())
    text = stream.getvalue()
    assert "stage.failed" in text
    assert "instances=3" in text
    assert "ZZPHI" not in text
    assert "{" not in text


def test_a_peer_does_not_write_on_the_terminal(stream: io.StringIO):
    """An AE title may hold what it likes: control characters are written out."""
    configure("info", "console", stream)
    get_logger().warning("association.refused", calling_ae_title="A\x1b[2J\x9bB")
    assert r"A\x1b[2J\x9bB" in stream.getvalue()
    assert not set("\x1b\x9b") & set(stream.getvalue())


def test_an_unconfigured_process_has_the_allow_list_too(stream: io.StringIO, capsys: pytest.CaptureFixture[str]):
    """A worker that forgets to configure its log must not be a leak."""
    structlog.reset_defaults()
    get_logger().info("series.closed", instances=1, patient=CANARY)
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["dropped"] == 1
    assert "ZZPHI" not in err
