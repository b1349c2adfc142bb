"""What the service says about itself: events with allow-listed keys, as JSON or, on a terminal, for people.

    log = get_logger()
    log.info("series.closed", instances=312, quiet_s=20)

An event is a name, `noun.past_verb`, never a sentence. Patient data must not get out whatever a caller, a library or
an exception hands in, so the chain lets pass what it knows and nothing else:

- a key that is not in `ALLOWED` is dropped, and the line says how many were (`dropped`);
- a value is a number, a time, a code or a list of them, else only its type is written;
- an exception is its type and the places it passed, never its message (pydicom's quote values);
- a library's log record or warning is `library.warned` with its logger and place, never its text.
"""

import logging
import re
import sys
import threading
import traceback
import warnings
from collections.abc import MutableMapping
from contextlib import AbstractContextManager
from datetime import datetime
from numbers import Integral
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from daemon.repetition import Repetition
from daemon.terminal import plain

_KEYS = """
    timestamp level event job_id
    series_instance_uid study_instance_uid sop_instance_uid sop_class_uid transfer_syntax_uid
    revision state from_state to_state stage verb reason code halt rule model priority attempts not_before lease
    calling_ae_title called_ae_title peer destination object objects status result
    instances slices lesions series jobs deliveries associations contexts bytes count missing warnings
    days quiet_s released_quiet_s duration_s delay_s deadline_s jump_s free_mb min_free_mb resume_free_mb memory_mb
    host port root version sha256 device threads pid exit_code signal
    logger place error frames dropped advice attributes
"""

ALLOWED = frozenset(_KEYS.split())
"""Every key that may be written: UIDs, AE titles, counts, codes, times and our own names. A new one is added here
after asking whether a sender, a file or an exception could put a patient's name into it."""

WITH_SPACES = frozenset({"root", "device", "calling_ae_title", "called_ae_title"})
"""The keys whose texts need not be codes. In all others a text with a space, a quote or a ^ is withheld: it is a
sentence, and likely some library's about some value."""

Level = Literal["debug", "info", "warning", "error"]
Form = Literal["auto", "json", "console"]

_EVENT = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)+")
_CODE = re.compile(r"[\w.:+\-/<>%]*", re.ASCII)
_MODEL = re.compile(rf"{_CODE.pattern}(@[\w.\-]+)?", re.ASCII)
"""NAME@VERSION, in `model` alone, which is a name that the configuration has: an address of mail has an @ too."""
_LONGEST_TEXT = 200
_MOST_FRAMES = 12
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def get_logger() -> FilteringBoundLogger:
    """Return the logger of this process. Before `configure` it has the allow-list already and writes JSON to stderr."""
    if not structlog.is_configured():
        _set_chain("info", structlog.processors.JSONRenderer(), stream=None)
    return cast(FilteringBoundLogger, structlog.get_logger())


def bound_job(
    job_id: int | str, *, study_instance_uid: str | None = None, series_instance_uid: str | None = None
) -> AbstractContextManager[None]:
    """Add a job's id, and its study and series as far as they are known, to this thread's events while it lasts."""
    uids = {"study_instance_uid": study_instance_uid, "series_instance_uid": series_instance_uid}
    known = {key: uid for key, uid in uids.items() if uid}
    return structlog.contextvars.bound_contextvars(job_id=job_id, **known)


def configure(level: Level = "info", form: Form = "auto", stream: TextIO | None = None) -> None:
    """Set up this process's log; every process calls it once at its start, the worker too.

    Takes over what else could write to stderr: the root logger of `logging` and its complaints, Python's warnings,
    and the tracebacks of uncaught exceptions in any thread. `stream` is stderr where it is not given.
    """
    terminal = (stream or sys.stderr).isatty()
    console = form == "console" or (form == "auto" and terminal)
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=terminal) if console else structlog.processors.JSONRenderer()
    )
    _set_chain(level, renderer, stream=stream)
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, LibraryHandler)]:
        root.removeHandler(handler)
    root.addHandler(LibraryHandler())
    root.setLevel(logging.WARNING)
    # Where a record cannot be formatted, `logging` prints its arguments to stderr.
    logging.raiseExceptions = False
    warnings.showwarning = _python_warned
    sys.excepthook = _process_died
    threading.excepthook = _thread_died
    sys.unraisablehook = _cleanup_failed


def tell_repeated(*, at_once: bool = False) -> None:
    """Write how often lines came again whose minute is over, or of all, where no event does it meanwhile."""
    settings = structlog.get_config()
    renderer = settings["processors"][-1]
    if isinstance(renderer, Repetition):
        for line in renderer.due(at_once=at_once):
            settings["logger_factory"]().msg(line)


class LibraryHandler(logging.Handler):
    """Reduces a line of a library (pynetdicom, SQLAlchemy, APScheduler, …) to the fact that it was written."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Write `library.warned` or `library.failed`, without looking at the message or its arguments."""
        log = get_logger().bind(logger=record.name, place=f"{_short(record.pathname)}:{record.lineno}")
        if record.exc_info and record.exc_info[1]:
            log = log.bind(exc_info=record.exc_info[1])
        if record.levelno >= logging.ERROR:
            log.error("library.failed")
        else:
            log.warning("library.warned")


def _set_chain(level: Level, renderer: Processor, *, stream: TextIO | None) -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            exceptions_to_places,
            allowed_only,
            Repetition(renderer),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        # Looked up at each event, so that a stderr that was replaced later is the one written to.
        logger_factory=lambda *_: structlog.WriteLogger(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )


def exceptions_to_places(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Put the types of `exc_info`, or of an exception given as `error`, and of its causes into `error`.

    The places that they passed go into `frames`, in the order of a traceback.
    """
    given = event.pop("exc_info", None) or event.get("error")
    error = sys.exc_info()[1] if given is True else given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        event["error"] = [_type_name(link) for link in _chain(error)]
        frames = [frame for link in reversed(_chain(error)) for frame in traceback.extract_tb(link.__traceback__)]
        event["frames"] = [f"{_short(frame.filename)}:{frame.lineno}" for frame in frames[-_MOST_FRAMES:]]
    return event


def allowed_only(_: WrappedLogger, __: str, event: EventDict) -> MutableMapping[str, Any]:
    """Keep the allowed keys alone, time, level and event first, and only values that cannot hold a data set."""
    name = event.get("event")
    event["event"] = name if isinstance(name, str) and _EVENT.fullmatch(name) else "event.unnamed"
    order = [key for key in ("timestamp", "level", "event") if key in event]
    order += [key for key in event if key in ALLOWED and key not in order]
    kept = {key: _plain(event[key], _form_of(key)) for key in order}
    if dropped := len(event) - len(kept):
        kept["dropped"] = dropped
    return kept


def _form_of(key: str) -> re.Pattern[str] | None:
    """Return the form that a text under this key must have; None: any short text."""
    if key in WITH_SPACES:
        return None
    return _MODEL if key == "model" else _CODE


def _plain(value: object, form: re.Pattern[str] | None) -> object:
    """Return `value` if it is a number, a time, a short text of this form, or a list of those; else its type."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, datetime):
        return value.isoformat()
    # StrEnum and pydicom's UID are texts as they are; a subclass that prints itself differently is not trusted.
    if isinstance(value, Path) or type(value).__str__ is str.__str__:
        text = str(value)
        return plain(text) if len(text) <= _LONGEST_TEXT and (form is None or form.fullmatch(text)) else "<text>"
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, form) for item in value]
    return f"<{_type_name(value)}>"


def _chain(error: BaseException) -> list[BaseException]:
    """List an error, its cause, the cause of that, and so on."""
    chain = [error]
    while len(chain) < _MOST_FRAMES:
        last = chain[-1]
        before = last.__cause__ or (None if last.__suppress_context__ else last.__context__)
        if before is None or before in chain:
            break
        chain.append(before)
    return chain


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _short(path: str) -> str:
    """Name a source file by its last two parts: `pydicom/valuerep.py`."""
    return "/".join(Path(path).parts[-2:])


def _python_warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    place = f"{_short(filename)}:{lineno}"
    get_logger().warning("library.warned", logger="py.warnings", error=category.__qualname__, place=place)


def _process_died(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    # Ctrl-C is how a person ends a command, and no news.
    if not issubclass(kind, KeyboardInterrupt):
        get_logger().error("process.died", exc_info=error)


def _thread_died(hooked: threading.ExceptHookArgs) -> None:
    if hooked.exc_value is not None and not isinstance(hooked.exc_value, SystemExit):
        get_logger().error("thread.died", exc_info=hooked.exc_value)


def _cleanup_failed(hooked: Any) -> None:
    get_logger().error("cleanup.failed", exc_info=hooked.exc_value)
