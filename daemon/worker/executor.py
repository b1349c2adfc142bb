"""The local worker: one supervised process that runs the heavy stages, one after another.

A crash, a hang, a lack of memory or a lost GPU in it is a failed attempt, never a dead service. It is started afresh
after each of these, and dies with its parent: by PR_SET_PDEATHSIG, and by the end of its pipe where that is not to be
had.
"""

import ctypes
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, Protocol, TypeVar

from daemon.errors import WorkerCrashed, WorkerFailed, WorkerOutOfMemory, WorkerStopped, WorkerTimedOut
from daemon.log import Form, Level, configure, get_logger
from daemon.process import KILLED_EARLY, KILLED_FIRST, tell_oom_score
from models.errors import DeviceLost, DeviceUnavailable

PR_SET_PDEATHSIG = 1
LOW_PRIORITY = 10
"""A nice value: beside a busy worker of the usual one it gets a tenth of a core, and so it does get on."""

SPOILS_ITS_PROCESS = (WorkerOutOfMemory, DeviceLost, DeviceUnavailable)
"""The errors after which a process is not used again. CUDA that once found no GPU in it may never find one."""

Request = TypeVar("Request")
Answer = TypeVar("Answer")

log = get_logger()


@dataclass(frozen=True)
class Stage(Generic[Request, Answer]):
    """A function of one argument by its place, so that the process that calls it need not import it."""

    module: str
    name: str

    def load(self) -> Callable[[Request], Answer]:
        """Import the function."""
        function: Callable[[Request], Answer] = getattr(import_module(self.module), self.name)
        return function


class Executor(Protocol):
    """Runs stages: in a local worker process, or on a cluster."""

    def run(self, deadline_s: float, stage: Stage[Request, Answer], request: Request) -> Answer:
        """Return what the stage answers. Raises what it raised, or WorkerFailed."""
        ...


@dataclass(frozen=True)
class Setup:
    """The settings that a new worker process is given."""

    log_level: Level = "info"
    log_form: Form = "auto"
    memory_mb: int | None = None
    background: bool = False
    """Of low priority for the processor, and the first to be killed where memory runs out."""


class LocalExecutor:
    """Runs stages in a worker process. One call at a time; further callers wait."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._context = multiprocessing.get_context("spawn")
        self._turn = threading.Lock()
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._stopped = threading.Event()
        # The kernel ends a worker with the thread that started it, and those that call come and go
        self._starter = ThreadPoolExecutor(1, "worker-starter")

    def run(self, deadline_s: float, stage: Stage[Request, Answer], request: Request) -> Answer:
        """Return what the stage answers, or raise the error that it raised if that can travel.

        Raises WorkerCrashed, WorkerTimedOut, WorkerOutOfMemory, or WorkerFailed for an error that cannot.
        """
        with self._turn:
            if self._stopped.is_set():
                raise WorkerStopped("the service is stopping")
            pipe = self._started()
            if self._stopped.is_set():  # `stop` may have come before there was a process that it could kill
                self._end()
                raise WorkerStopped("the service is stopping")
            try:
                pipe.send((stage, request))
                if not pipe.poll(deadline_s):
                    self._end()
                    raise WorkerTimedOut(f"no result after {deadline_s:g} s")
                outcome = pipe.recv()
            except (EOFError, OSError) as error:
                exit_code = self._end()
                if self._stopped.is_set():
                    raise WorkerStopped("the service is stopping") from error
                if exit_code == -signal.SIGKILL:
                    raise WorkerCrashed("killed, by the kernel for lack of memory or by a person") from error
                raise WorkerCrashed(f"exit code {exit_code}") from error
            # Before the next caller has its turn: what it sends to this process would die with it
            if isinstance(outcome, _Raised) and isinstance(outcome.error, SPOILS_ITS_PROCESS):
                self._end()
        if isinstance(outcome, _Raised):
            raise outcome.error
        answer: Answer = outcome
        return answer

    @property
    def pid(self) -> int | None:
        """The worker's process id, while there is one."""
        return self._process.pid if self._process else None

    def stop(self) -> None:
        """End the worker at once, whatever it does; what it worked on costs no attempt."""
        self._stopped.set()
        process = self._process
        if process is not None and process.is_alive():
            process.kill()
            process.join(5)

    def rest(self) -> None:
        """End the worker, and give its memory back; the next call starts one."""
        with self._turn:
            if self._process is not None and not self._stopped.is_set():
                log.info("worker.rested", exit_code=self._close(patience_s=10))

    def _started(self) -> Connection:
        if self._process is not None and self._pipe is not None and self._process.is_alive():
            return self._pipe
        self._end()
        self._pipe, theirs = self._context.Pipe()
        self._process = self._context.Process(
            target=_serve, args=(theirs, os.getpid(), self._setup), name="porta-worker", daemon=True
        )
        self._starter.submit(self._process.start).result()
        theirs.close()
        log.info("worker.started", pid=self._process.pid)
        return self._pipe

    def _end(self) -> int | None:
        """Make sure that the process is gone; its exit code."""
        if self._process is None:
            return None
        exit_code = self._close()
        log.warning("worker.ended", exit_code=exit_code)
        return exit_code

    def _close(self, patience_s: float = 1) -> int | None:
        if self._process is None:
            return None
        if self._pipe is not None:
            self._pipe.close()
        # A crash is noticed by the end of the pipe, a moment before the process is gone.
        self._process.join(patience_s)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(5)
        exit_code = self._process.exitcode
        self._process = self._pipe = None
        return exit_code


@dataclass(frozen=True)
class _Raised:
    error: Exception


def _serve(pipe: Connection, parent: int, setup: Setup) -> None:
    """The worker's main loop."""
    _die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    configure(setup.log_level, setup.log_form)
    tell_oom_score(KILLED_FIRST if setup.background else KILLED_EARLY)
    if setup.background:
        os.nice(LOW_PRIORITY)
    if setup.memory_mb:
        limit = setup.memory_mb * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    while True:
        try:
            stage, request = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(_outcome(stage, request))


def _outcome(stage: Stage[Any, Any], request: object) -> object:
    try:
        return stage.load()(request)
    except MemoryError as error:
        return _Raised(WorkerOutOfMemory(_place(error)))
    except Exception as error:  # noqa: BLE001  the stage runner: whatever a stage raises becomes data
        if "out of memory" in str(error).lower() or "can't allocate memory" in str(error).lower():
            return _Raised(WorkerOutOfMemory(_place(error)))
        if type(error).__module__.partition(".")[0] in ("dicom_io", "models", "reports", "daemon"):
            return _Raised(error.with_traceback(None))
        if isinstance(error, OSError) and error.errno:
            return _Raised(OSError(error.errno, os.strerror(error.errno)))
        log.error("stage.failed", error=error)
        return _Raised(WorkerFailed(_place(error)))


def _place(error: BaseException) -> str:
    """The error's type: its message may quote the data set."""
    return type(error).__name__


def _die_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
