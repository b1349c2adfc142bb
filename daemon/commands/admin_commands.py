"""The commands about jobs that are there: what an administrator asks of them, and has done with them."""

import time
from pathlib import Path
from typing import Annotated

import typer

from daemon import log
from daemon.administration.moments import moment
from daemon.commands.options import ConfigOption, JsonOption, RulesAction
from daemon.configuration.config import Config, load
from models.catalogue import Catalogue

IdsArgument = Annotated[list[int] | None, typer.Argument(metavar="[ID]…", show_default=False)]
SinceOption = Annotated[
    str | None, typer.Option(help="Opened since then: 2h or 7d ago, 2026-03-01, 2026-03-01T08:30.", metavar="WHEN")
]
StudyOption = Annotated[str | None, typer.Option(help="Its StudyInstanceUID.", metavar="UID")]
ReasonOption = Annotated[
    str | None, typer.Option(help="The code of why it is not processed, or stands still.", metavar="CODE")
]


def study(
    key: Annotated[
        str, typer.Argument(metavar="UID", help="Of a study or series; or an accession number or PatientID.")
    ],
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Say what has become of a study, and what to do. Archives are asked for what is no UID; it is not kept."""
    from daemon.administration.enquiry import print_study

    raise typer.Exit(0 if print_study(configured(config), key, as_json=as_json) else 1)


def jobs(
    since: SinceOption = None,
    until: Annotated[str | None, typer.Option(help="Opened before then.", metavar="WHEN")] = None,
    state: Annotated[
        list[str] | None, typer.Option(help="In this state, as `jobs` shows it; may be repeated.", metavar="STATE")
    ] = None,
    study_uid: Annotated[str | None, typer.Option("--study", help="Its StudyInstanceUID.", metavar="UID")] = None,
    rule: Annotated[str | None, typer.Option(help="Under this rule.", metavar="NAME")] = None,
    destination: Annotated[str | None, typer.Option(help="With an object for it.", metavar="NAME")] = None,
    limit: Annotated[
        int | None, typer.Option(min=0, help="As many; 0: all. Else 50, as JSON all.", show_default=False)
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Again every two seconds, until Ctrl-C.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List jobs, the newest first."""
    from daemon.commands.status import print_jobs, watch_jobs
    from daemon.ledger.searches import JobFilter, checked_states

    now = time.time()
    wanted = JobFilter(
        since=moment("--since", since, now=now),
        until=moment("--until", until, now=now),
        states=checked_states(state or ()),
        study_instance_uid=study_uid,
        rule=rule,
        destination=destination,
    )
    show = watch_jobs if watch and not as_json else print_jobs
    show(configured(config), wanted, limit=limit, as_json=as_json)


def rules(
    action: Annotated[RulesAction, typer.Argument()],
    paths: Annotated[list[Path] | None, typer.Argument(metavar="[PATH]…", show_default=False)] = None,
    job_id: Annotated[int | None, typer.Option("--job", help="The series of this job.", metavar="ID")] = None,
    last: Annotated[
        int | None, typer.Option(min=1, help="The last series; those that would change are shown.", metavar="N")
    ] = None,
    sender: Annotated[
        str | None, typer.Option("--from", help="The sender's AE title, of files; else SUBMIT.", metavar="AE")
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Say which rule each series takes, and why not each other one. Nothing is sent."""
    from daemon.administration.rule_trials import print_trials

    print_trials(configured(config), paths or (), job_id=job_id, last=last, calling_ae_title=sender, as_json=as_json)


def retry(
    job_ids: IdsArgument = None,
    every: Annotated[bool, typer.Option("--all", help="All jobs that stand still or wait.")] = False,
    destination: Annotated[
        str | None, typer.Option(help="Deliveries to this destination that stand still or wait.", metavar="NAME")
    ] = None,
    reason: ReasonOption = None,
    config: ConfigOption = None,
) -> None:
    """Have jobs and deliveries go on that stand still or wait."""
    from daemon.administration.interventions import Stalled, retry_jobs

    raise typer.Exit(
        0 if retry_jobs(configured(config), Stalled(tuple(job_ids or ()), every, destination, reason)) else 1
    )


def rerun(
    job_ids: IdsArgument = None,
    study: StudyOption = None,
    reason: ReasonOption = None,
    since: SinceOption = None,
    config: ConfigOption = None,
) -> None:
    """Match series again by today's rules and process them again; what was sent is superseded."""
    from daemon.administration.interventions import rerun_jobs
    from daemon.ledger.searches import JobFilter

    wanted = JobFilter(
        ids=tuple(job_ids or ()),
        study_instance_uid=study,
        reason=reason,
        since=moment("--since", since, now=time.time()),
    )
    raise typer.Exit(0 if rerun_jobs(configured(config), wanted) else 1)


def send(
    job_id: Annotated[int, typer.Argument(metavar="ID")],
    to: Annotated[str | None, typer.Option(help="To this destination alone.", metavar="DESTINATION")] = None,
    config: ConfigOption = None,
) -> None:
    """Send the finished results of a job again, as they are."""
    from daemon.administration.interventions import send_job

    send_job(configured(config), job_id, to)


def reload(config: ConfigOption = None) -> None:
    """Have the running service take up peers, destinations, rules, models, `series`, `retention`, AE title and port."""
    from daemon.administration.interventions import reload_service

    reload_service(configured(config))


def cancel(job_id: Annotated[int, typer.Argument(metavar="ID")], config: ConfigOption = None) -> None:
    """End a job."""
    from daemon.administration.interventions import cancel_job

    cancel_job(configured(config), job_id)


def configured(path: Path | None) -> Config:
    """Read the configuration of a command, and set up its log by it. Raises ConfigurationError."""
    log.configure()
    settings = read(path)
    log.configure(settings.log.level, settings.log.format)
    return settings


def read(path: Path | None) -> Config:
    """Read the configuration of a command. Raises ConfigurationError."""
    return load(path, known_models=lambda folder: Catalogue(folder).names)
