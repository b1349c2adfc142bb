"""`porta retry`, `rerun`, `send`, `cancel`: what an administrator has the service do with jobs that it has.

What was done is told to `say`, what could not be to `warn`: on the terminal, or on a page of the console.
"""

import os
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from daemon.administration.known_names import check_names
from daemon.administration.moments import in_zone
from daemon.administration.opened import owned_desk, running_service
from daemon.completeness import candidate
from daemon.configuration.config import Config, Rule
from daemon.errors import BadRequest, ConfigurationError, FileDamaged, WrongState
from daemon.jobs import OUT, Delivery, Job, State
from daemon.ledger.by_hand import REMOVED
from daemon.ledger.desk import Desk
from daemon.ledger.rows import Outgoing
from daemon.ledger.searches import JobFilter
from daemon.routing import first_match
from daemon.storage.note import Note
from daemon.storage.spool import Spool
from daemon.terminal import Say, say, warn
from dicom_io.errors import NotDicom, RejectReason
from reports.objects.kinds import Form

RECEIVED = "it is being received"

RELOAD_S = 300.0
"""The models of the rules are looked at anew, whose files are large; a reason for a refusal comes before that."""


@dataclass(frozen=True)
class Stalled:
    """Which jobs `porta retry` takes up: these, or all that stand still or wait, for a destination or reason."""

    ids: tuple[int, ...] = ()
    every: bool = False
    destination: str | None = None
    reason: str | None = None


def retry_jobs(config: Config, wanted: Stalled, *, say: Say = say, warn: Say = warn) -> bool:
    """Have what stands still or waits go on; False where a job would only stand still again, and was left.

    Raises BadRequest, UnknownJob, WrongState.
    """
    desk, now = owned_desk(config), time.time()
    meant = {"destination": wanted.destination, "reason": wanted.reason}
    if not (wanted.ids or wanted.every or any(meant.values())):
        raise BadRequest("which jobs? name their ids, or --all, --destination or --reason")
    check_names(config, desk, **meant)
    if wanted.reason in set(RejectReason):
        raise BadRequest(
            f"--reason: {wanted.reason} ends a job: `porta rerun --reason {wanted.reason}` matches such again"
        )
    found = [desk.ledger.job(job_id) for job_id in wanted.ids] or desk.stalled(now=now, **meant)
    deliveries = desk.deliveries(found)
    left = []
    resumed = []
    for job in found:
        if gone := _only_for_gone(config, wanted, job, deliveries[job.id]):
            warn(
                f"porta: job {job.id}: the configuration has no destination {gone} any more: enter it again and "
                f"`porta reload`, or `porta send {job.id} --to` another one"
            )
            left.append(job)
            continue
        try:
            desk.retry(job, now=now, **meant)
        except WrongState:  # it has moved on meanwhile, or a later revision has all of it
            if wanted.ids:
                raise
            continue
        resumed.append(job)
        if wanted.ids:
            say(f"job {job.id} goes on")
    if not wanted.ids and (resumed or not left):
        say(f"{_jobs(resumed)} on" if resumed else "nothing stands still or waits")
    return not left


def _only_for_gone(config: Config, wanted: Stalled, job: Job, deliveries: Sequence[Delivery]) -> str | None:
    """The destination, without which the configuration is now, for which alone a job stands still."""
    known = {item.peer for item in config.destinations}
    waiting = [
        item.destination
        for item in deliveries
        if (item.halt or item.not_before) and wanted.destination in (None, item.destination)
    ]
    if not waiting or known & set(waiting) or (job.halt and not wanted.destination):
        return None
    return waiting[0]


def rerun_jobs(config: Config, wanted: JobFilter, *, say: Say = say, warn: Say = warn) -> bool:
    """Have series matched by today's rules and processed again; a line for each. False where none could be.

    Raises BadRequest, UnknownJob.
    """
    if wanted == JobFilter():
        raise BadRequest("which jobs? name their ids, or --study, --reason or --since")
    desk, now, spool = owned_desk(config), time.time(), Spool(config.storage.root)
    check_names(config, desk, reason=wanted.reason)
    running = running_service(config)
    if running is not None and running.routing != config.routing_digest:
        raise BadRequest(
            "the service runs with other peers, destinations or rules than the file has now: `porta reload`, then rerun"
        )
    again = 0
    for job in reversed(_last_of_each_series(desk, wanted)):
        try:
            again += _rerun(config, desk, spool, job, now=now, say=say, warn=warn)
        except WrongState as error:
            is_removed = error.state == REMOVED
            why = "not all of its images are here: have it sent again, then rerun" if is_removed else RECEIVED
            warn(f"porta: {error}: {why}")
    if not again:
        say("nothing is processed again")
    elif running is None:
        say("the service does not run: it goes on once it is started")
    return again > 0


def _last_of_each_series(desk: Desk, wanted: JobFilter) -> list[Job]:
    """The jobs that are meant; of an id the last job of its series."""
    if not wanted.ids:
        return desk.jobs(JobFilter(**{**vars(wanted), "only_last": True}))
    series = dict.fromkeys(desk.ledger.job(job_id).series_instance_uid for job_id in reversed(wanted.ids))
    found = [desk.jobs(JobFilter(series_instance_uid=uid, only_last=True)) for uid in series]
    return [job for jobs in found for job in jobs]


def _rerun(config: Config, desk: Desk, spool: Spool, job: Job, *, now: float, say: Say, warn: Say) -> bool:
    try:
        rule = rule_of_today(config, desk, spool, job)
    except (FileDamaged, NotDicom, OSError):
        removed = [item.removed_at for item in desk.ledger.versions(job.series_instance_uid) if item.removed_at]
        why = f"were removed by retention on {in_zone(max(removed))}" if removed else "are gone or damaged"
        warn(f"porta: job {job.id}: its images {why}: have them sent again")
        return False
    if rule is None:
        warn(f"porta: job {job.id}: no rule matches it today either: `porta study {job.series_instance_uid}` says why")
        return False
    opened = desk.rerun(job.id, now=now)
    what = (
        f"job {job.id} is processed again"
        if opened.id == job.id
        else (f"job {opened.id} is revision {opened.revision} of the series of job {job.id}")
    )
    say(f"{what}, under rule {rule.name}")
    return True


def rule_of_today(config: Config, desk: Desk, spool: Spool, job: Job) -> Rule | None:
    """Return the rule that the series of a job falls under now. Raises FileDamaged, NotDicom, OSError."""
    found = candidate(spool, desk.ledger, job)
    return None if found is None else first_match(config.rules, found)


def send_job(config: Config, job_id: int, destination: str | None, *, say: Say = say) -> None:
    """Have finished results sent again: where they went, or to one destination, also one that never had them.

    Raises UnknownJob; BadRequest where there is nothing to send, its files are gone, or a later revision of the series
    has results; WrongState where it is just moving on.
    """
    desk = owned_desk(config)
    job = desk.ledger.job(job_id)
    if job.state not in OUT:
        raise BadRequest(f"job {job_id} is {job.state}: {_why_unsent(job)}")
    others = desk.ledger.jobs_of_series(job.series_instance_uid)
    if job.removed_at is not None:
        raise BadRequest(
            f"the results of job {job_id} were removed by retention on {in_zone(job.removed_at)}: "
            f"have its images sent again, then `porta rerun {job_id}`"
        )
    if later := [one.id for one in others if one.revision > job.revision and one.state in OUT]:
        raise BadRequest(
            f"the results of job {job_id} were superseded by those of job {later[-1]}: `porta send {later[-1]}`"
        )
    sent = desk.ledger.deliveries_of(job_id)
    known = [item.peer for item in config.destinations]
    if destination is not None and destination not in known:
        raise BadRequest(f"--to: there is no destination {destination}; there are: {', '.join(known) or 'none'}")
    targets = [destination] if destination else [name for name in known if name in {item.destination for item in sent}]
    outgoing = [item for name in targets for item in _not_yet_there(config, sent, name)]
    going = [item.path for item in sent if item.destination in targets] + [item.path for item in outgoing]
    if not going:
        raise BadRequest(f"job {job_id} has nothing that {destination or 'a destination of today'} takes")
    if gone := [path for path in going if not (config.storage.root / path).is_file()]:
        raise BadRequest(f"{gone[0]} is not there any more: `porta rerun {job_id}` makes the results anew")
    count = desk.send(job, targets, outgoing, now=time.time())
    say(f"job {job_id}: {_objects(count)} to {', '.join(targets)}")
    for name in targets:
        made = {item.form for item in sent}
        if missing := [form.name for form in _wanted_forms(config, name, made) if form not in made]:
            say(f"not made for this job, and not sent to {name}: {', '.join(missing)} (`porta rerun {job_id}`)")
    if running_service(config) is None:
        say("the service does not run: it sends once it is started")


def _why_unsent(job: Job) -> str:
    """Why nothing can be sent of a job whose results are not on their way, and what to do."""
    if job.state == State.CANCELLED:
        return f"what was cancelled is not sent; `porta rerun {job.id}` makes its results and sends them"
    if job.state == State.REJECTED:
        return f"it has no results ({job.reject_reason}); `porta study {job.series_instance_uid}` says why"
    return f"it has no results yet; `porta study {job.series_instance_uid}` says what it waits for"


def _wanted_forms(config: Config, destination: str, made: Iterable[Form]) -> list[Form]:
    """The forms that a destination takes of such a job: either results, or a verdict."""
    is_verdict = all(form.kind == "verdict" for form in made)
    made = list(made)
    forms = config.destination(destination).profile.as_made(made).forms
    return sorted((form for form in forms if (form.kind == "verdict") == is_verdict), key=lambda form: form.name)


def _not_yet_there(config: Config, sent: Sequence[Delivery], destination: str) -> list[Outgoing]:
    """What was made for other destinations, is taken by this one, and has no delivery to it."""
    taken = config.destination(destination)
    forms = taken.profile.as_made([item.form for item in sent]).forms
    there = {item.sop_instance_uid for item in sent if item.destination == destination}
    others = {item.sop_instance_uid: item for item in sent if item.form in forms and item.sop_instance_uid not in there}
    return [
        Outgoing(
            destination=destination,
            form=item.form,
            sop_instance_uid=item.sop_instance_uid,
            series_instance_uid=item.series_instance_uid,
            path=item.path,
            confirm=taken.confirm,
            volume_index=item.volume_index,
            sha256=item.sha256,
            study_instance_uid=item.study_instance_uid,
        )
        for item in others.values()
    ]


def reload_service(config: Config, *, say: Say = say) -> None:
    """Have the running service read its configuration, and wait until it has taken it up.

    Raises BadRequest where none runs; ConfigurationError, with its reasons, where it refuses.
    """
    running = running_service(config)
    if running is None:
        raise BadRequest("the service does not run, or is just starting; it reads the file when it starts")
    if (running.routing, running.fixed) == (config.routing_digest, config.fixed_digest):
        say("the service has this configuration already")
        return
    try:
        os.kill(running.pid, signal.SIGHUP)
    except OSError as error:
        raise BadRequest(f"process {running.pid} cannot be told: {error.strerror}; run this as its user") from error
    deadline = time.monotonic() + RELOAD_S
    while time.monotonic() < deadline:
        time.sleep(0.1)  # another process, which has no event to wait for
        if (text := Spool(config.storage.root).running()) is None:
            raise BadRequest("the service has ended meanwhile: its log says why")
        now = Note.parse(text)
        if now is None or (now.pid, now.answers) == (running.pid, running.answers):
            continue
        if now.refused:
            raise ConfigurationError(now.refused)
        if now.routing == config.routing_digest:
            say("the service has taken it up; what was running goes on")
            return
        raise BadRequest(f"the service has taken up {now.file}, which is not as {config.file} was read here")
    raise BadRequest(f"the service has not answered within {RELOAD_S:.0f} s: its log says why")


def cancel_job(config: Config, job_id: int, *, say: Say = say) -> None:
    """End a job. Raises UnknownJob, WrongState."""
    owned_desk(config).ledger.cancel(job_id, now=time.time())
    say(f"job {job_id} is cancelled")


def _objects(count: int) -> str:
    return "1 object" if count == 1 else f"{count} objects"


def _jobs(jobs: Sequence[Job]) -> str:
    """The number of jobs, with the ids of the first, and the verb's number: `2 jobs (1, 4) go`."""
    ids = ", ".join(str(job.id) for job in jobs[:20]) + (", …" if len(jobs) > 20 else "")
    return f"job {ids} goes" if len(jobs) == 1 else f"{len(jobs)} jobs ({ids}) go"
