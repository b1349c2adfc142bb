"""What operators do from a page: by the functions of the commands, with a line in the audit for each."""

from collections.abc import Callable
from dataclasses import dataclass

from daemon.administration.fates import HALT_ADVICE
from daemon.administration.interventions import Stalled, cancel_job, rerun_jobs, retry_jobs, send_job
from daemon.console.state import ConsoleState
from daemon.console.visits import Visit
from daemon.errors import BadRequest, UnknownJob, WrongState
from daemon.ledger.accounts import Entry
from daemon.ledger.searches import JobFilter

REFUSED = (BadRequest, UnknownJob, WrongState)
"""What the person who asked can mend."""

ADVICE = {str(code): sentence for code, sentence in HALT_ADVICE.items()}
"""What a person does about each halt, before it is retried."""


@dataclass(frozen=True)
class Done:
    """What came of it, in the words that the command would print."""

    done: bool
    lines: tuple[str, ...]


def retry(console: ConsoleState, visit: Visit, wanted: Stalled) -> Done:
    """As `porta retry`."""
    return _act(
        console,
        visit,
        "RETRY",
        lambda say: retry_jobs(console.config, wanted, say=say, warn=say),
        job_id=wanted.ids[0] if len(wanted.ids) == 1 else None,
    )


def rerun(console: ConsoleState, visit: Visit, wanted: JobFilter) -> Done:
    """As `porta rerun`."""
    return _act(
        console,
        visit,
        "RERUN",
        lambda say: rerun_jobs(console.config, wanted, say=say, warn=say),
        job_id=wanted.ids[0] if len(wanted.ids) == 1 else None,
        study=wanted.study_instance_uid,
    )


def send(console: ConsoleState, visit: Visit, job_id: int, destination: str | None) -> Done:
    """As `porta send`."""

    def run(say: Callable[[str], None]) -> bool:
        send_job(console.config, job_id, destination, say=say)
        return True

    return _act(console, visit, "SEND", run, job_id=job_id)


def cancel(console: ConsoleState, visit: Visit, job_id: int) -> Done:
    """As `porta cancel`."""

    def run(say: Callable[[str], None]) -> bool:
        cancel_job(console.config, job_id, say=say)
        return True

    return _act(console, visit, "CANCEL", run, job_id=job_id)


def _act(
    console: ConsoleState,
    visit: Visit,
    action: str,
    run: Callable[[Callable[[str], None]], bool],
    *,
    job_id: int | None = None,
    study: str | None = None,
) -> Done:
    """Do it, and note who did and how it ended. Raises LedgerUnavailable, StorageUnusable."""
    lines: list[str] = []
    code = "FAILED"
    try:
        done = run(lines.append)
        code = "DONE" if done else "NOTHING"
    except REFUSED as error:
        lines, code = [*lines, *str(error).splitlines()], "REFUSED"
    finally:
        console.accounts.note(
            Entry(console.clock(), visit.user.name, action, visit.host, code, job_id, study and study[:64])
        )
    return Done(code == "DONE", tuple(line.removeprefix("porta: ") for line in lines))
