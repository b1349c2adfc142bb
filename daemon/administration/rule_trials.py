"""`porta rules test`: which rule each series takes by the configuration as the file has it, and why not each other one.

Of files, of a job, or of the last jobs; nothing is sent, and nothing changed.
"""

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom import Dataset

from daemon.administration.opened import open_ledger
from daemon.administration.submission import SUBMIT
from daemon.completeness import candidate
from daemon.configuration.config import Config, Rule
from daemon.errors import BadRequest, FileDamaged
from daemon.jobs import Job
from daemon.ledger.desk import Desk
from daemon.ledger.searches import JobFilter
from daemon.routing import Candidate, mismatch
from daemon.storage.spool import Spool
from daemon.terminal import Say, say, warn
from dicom_io.archive import dicom_files
from dicom_io.errors import NotDicom
from dicom_io.files import values
from dicom_io.files.image_file import read_dataset


@dataclass(frozen=True)
class Trial:
    """The rule that a series takes (None: none does), and why each other one is not taken, by name.

    `job` is the job that it was, under the rule `before`; None of files.
    """

    series_instance_uid: str
    calling_ae_title: str
    rule: str | None
    others: dict[str, str]
    job: int | None = None
    before: str | None = None

    @property
    def changes(self) -> bool:
        """True where the job fell under another rule."""
        return self.job is not None and self.rule != self.before


def try_rules(rules: Sequence[Rule], series: Candidate, job: Job | None = None) -> Trial:
    """Match a series, as the service does."""
    taken: str | None = None
    others = {}
    for rule in rules:
        wrong = mismatch(rule, series)
        if wrong is not None:
            others[rule.name] = wrong
        elif taken is None:
            taken = rule.name
        else:
            others[rule.name] = f"it matches too, and {taken} stands before it"
    uid = job.series_instance_uid if job else next(iter(values.texts(series.header, "SeriesInstanceUID")), "")
    trial = Trial(uid, series.calling_ae_title, taken, others)
    return replace(trial, job=job.id, before=job.rule) if job else trial


def print_trials(
    config: Config,
    paths: Sequence[Path],
    *,
    job_id: int | None,
    last: int | None,
    calling_ae_title: str | None,
    as_json: bool,
) -> None:
    """Print a trial of each series of files, of a job, or of the last jobs; of these only what would change.

    Raises BadRequest unless it is one of the three and there is something to try, NotDicom, UnknownJob.
    """
    asked = bool(paths) + (job_id is not None) + (last is not None)
    if asked != 1:
        what = "what is to be tried? name" if not asked else "one thing is tried at a time:"
        raise BadRequest(f"{what} files or folders, or --job ID, or --last N")
    if calling_ae_title and not paths:
        raise BadRequest("--from is for files: a job has the sender that it came from")
    if paths:
        trials = list(trials_of_files(config, paths, calling_ae_title or SUBMIT))
        if not trials:
            raise BadRequest(f"{', '.join(map(str, paths))}: no DICOM image is there to be tried")
    else:
        desk = Desk(open_ledger(config))
        jobs = [desk.ledger.job(job_id)] if job_id is not None else desk.jobs(JobFilter(only_last=True), limit=last)
        trials = list(_of_jobs(config, desk, jobs))
    if as_json:
        print(json.dumps([_as_json(trial) for trial in trials], indent=2))
        return
    for trial in trials:
        if last is None or trial.changes:
            _print(trial)
    if last is not None:
        changed = [trial for trial in trials if trial.changes]
        none = sum(trial.rule is None for trial in changed)
        say(
            f"{len(trials)} series: {len(trials) - len(changed)} as before, {len(changed) - none} under another rule, "
            f"{none} under none any more"
        )


def trials_of_files(
    config: Config, paths: Sequence[Path], calling_ae_title: str, *, warn: Say = warn
) -> Iterator[Trial]:
    """Try each series of files, folders and zips, by the image that the service would look at. Raises NotDicom."""
    first: dict[str, tuple[str, Dataset]] = {}
    with tempfile.TemporaryDirectory(prefix="porta-rules-") as workdir:
        for path in paths:
            for file in dicom_files(path, Path(workdir)):
                try:
                    header = read_dataset(file)
                except (NotDicom, OSError) as error:
                    warn(f"porta: {error}")
                    continue
                series, sop = (
                    next(iter(values.texts(header, keyword)), "") for keyword in ("SeriesInstanceUID", "SOPInstanceUID")
                )
                if series not in first or sop < first[series][0]:
                    first[series] = sop, header
    for _, header in first.values():
        yield try_rules(config.rules, Candidate(header, calling_ae_title, time.time()))


def _of_jobs(config: Config, desk: Desk, jobs: Sequence[Job]) -> Iterator[Trial]:
    spool = Spool(config.storage.root)
    for job in jobs:
        series = None
        with suppress(FileDamaged, NotDicom, OSError):
            series = candidate(spool, desk.ledger, job)
        if series is None:
            warn(f"porta: job {job.id}: its images are gone or damaged")
            continue
        yield try_rules(config.rules, series, job)


def _print(trial: Trial) -> None:
    was = f", now {trial.before or 'none'}" if trial.changes else ""
    job = f" (job {trial.job}{was})" if trial.job is not None else ""
    say(f"series {trial.series_instance_uid}{job}: {trial.rule or 'no rule'}")
    for name, why in trial.others.items():
        say(f"  not {name}: {why}")


def _as_json(trial: Trial) -> dict[str, object]:
    return {
        "series_instance_uid": trial.series_instance_uid,
        "calling_ae_title": trial.calling_ae_title,
        "rule": trial.rule,
        "others": trial.others,
        "job": trial.job,
        "rule_before": trial.before,
    }
