"""Which series of a study are reported: the best `per_study` of those that fall under one rule. Pure.

What is chosen is a function of the study as it stands; it is made anew whenever a series has closed, and nobody
remembers a ranking. A series takes part with its latest job as one of these (`standing_of`):

- NEWCOMER: closed, and not chosen: never yet, or no longer since a late slice or a retry;
- INCUMBENT: chosen, its results not out yet (RECEIVED, SEGMENTED);
- ANSWER: chosen, its results out (REPORTED and later);
- SUPERSEDED: REJECTED(SUPERSEDED_BY_BETTER), which a round may reopen when what was better has gone;
- REFUSED: not to be processed, with its reason, and not told so yet;
- VERDICT: it has told so (or the SEG that was held back has: GEOMETRY_NOT_PROVED). It answers nothing.

A job that was rejected for another reason, that stands still (`halt`) or was cancelled takes no part, and neither
does one that is still RECEIVING: while there is any of these last in the study, no choice is made.

The invariants:

1. The best `per_study` are chosen; of equals the one that is chosen already, then the older.
2. Every other newcomer and incumbent ends SUPERSEDED_BY_BETTER. An answer stays: it has been sent.
3. Revisions of one series are one candidate: a late slice competes with other series, never with its own past.
4. What takes the place of another series' answer names it (`replaces`), and each answer is replaced once: one that
   another answer replaced takes no part any more. Of several replaced at once the best is named by the best, first of
   all by those that have no revision before them, which they would supersede anyway.
5. A newcomer that cannot be judged is rejected or halted before it comes here. An incumbent or an answer that
   cannot be judged any more (its files are gone, a late slice spoiled it) gives way to whatever can.
6. One verdict a study, and none where a series is or will be answered. It is that of the refused series with the
   most images that has a reason to be told (`candidates_for_verdict`); a later answer supersedes it. A late slice
   that changes the reason has it told anew. A verdict is no candidate, and takes no place among `per_study`.
7. What concerns whose images these are is told in any case, whatever else the study is told: that those of a series do
   not agree on it (MIXED_IDENTITY), and that they came again as another patient's or study's (REASSIGNED). The latter
   takes back all that the series' earlier jobs said; neither it nor they take part any more.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from daemon.jobs import OUT, WORKABLE, HaltCode, Job, State
from dicom_io.errors import RejectReason

Suitability = tuple[float | int | str | bool, ...]
"""How well a series suits, the larger the better (`dicom_io.series.preference.suitability`)."""

TOLD = frozenset(reason for reason in RejectReason if reason.is_told)
TAKING_BACK = (RejectReason.MIXED_IDENTITY, RejectReason.REASSIGNED)
"""Reasons that are told in any case, and that take back the findings of the series' earlier revisions."""


class Standing(StrEnum):
    """The part that a job takes in the choice."""

    NEWCOMER = "NEWCOMER"
    INCUMBENT = "INCUMBENT"
    ANSWER = "ANSWER"
    SUPERSEDED = "SUPERSEDED"
    REFUSED = "REFUSED"
    VERDICT = "VERDICT"


def standing_of(job: Job) -> Standing | None:
    """The part that a job takes; None where it takes none."""
    if job.halt == HaltCode.GEOMETRY_NOT_PROVED or (job.state in OUT and job.reject_reason is not None):
        return Standing.VERDICT
    if job.halt is not None:
        return None
    if job.state == State.REFUSED:
        return Standing.REFUSED
    if job.state in WORKABLE:
        return Standing.INCUMBENT if job.chosen else Standing.NEWCOMER
    if job.state in OUT:
        return Standing.ANSWER
    if job.state == State.REJECTED and job.reject_reason == RejectReason.SUPERSEDED_BY_BETTER:
        return Standing.SUPERSEDED
    return None


@dataclass(frozen=True)
class Chosen:
    """A job that is to be reported, and the job of another series whose results it supersedes."""

    job: Job
    replaces: Job | None = None


@dataclass(frozen=True)
class Choice:
    """The changes to the jobs of one study under one rule. Jobs that it does not name stay as they are."""

    chosen: tuple[Chosen, ...] = ()
    superseded: tuple[Job, ...] = ()
    refused: tuple[Job, ...] = ()
    """Jobs that are not to be processed, which end in silence."""
    verdicts: tuple[Job, ...] = ()
    """The refused jobs that report their reason."""

    @property
    def is_empty(self) -> bool:
        """True where nothing changes."""
        return not (self.chosen or self.superseded or self.refused or self.verdicts)


def awaits_choice(job: Job) -> bool:
    """True for a job that the next round decides about."""
    return job.state in WORKABLE and not job.chosen and job.halt is None


def not_taken_back(jobs: Iterable[Job]) -> list[Job]:
    """Those of `jobs` that a job for REASSIGNED has not taken back, and that are none themselves."""
    jobs = list(jobs)
    taken_back: dict[str, int] = {}
    for job in jobs:
        if job.before_instance is not None:
            taken_back[job.series_instance_uid] = max(job.revision, taken_back.get(job.series_instance_uid, 0))
    return [job for job in jobs if job.revision > taken_back.get(job.series_instance_uid, 0)]


def taking_part(jobs: Iterable[Job]) -> list[Job]:
    """Return the job of each series that competes, the oldest series first; `jobs` are those of one study and rule."""
    return [candidate.job for candidate in _candidates(jobs)]


def choose(jobs: Iterable[Job], suitabilities: Mapping[str, Suitability | None], *, per_study: int) -> Choice:
    """Choose among `jobs`, all those of one study under one rule, by the suitability of each series.

    A series without an entry takes no part; with None it is one that cannot be judged any more. All REFUSED are in
    `refused`: `with_verdict` finds the one that is told.
    """
    jobs = list(jobs)
    candidates = [item for item in _candidates(jobs) if item.job.series_instance_uid in suitabilities]

    def rank(item: _Candidate) -> tuple[bool, Suitability, bool, int]:
        suitability = suitabilities[item.job.series_instance_uid]
        holds = item.standing in (Standing.INCUMBENT, Standing.ANSWER)
        return suitability is not None, suitability or (), holds, -item.since

    candidates.sort(key=rank, reverse=True)
    best, rest = candidates[:per_study], candidates[per_study:]
    new = [item for item in best if item.standing in (Standing.NEWCOMER, Standing.SUPERSEDED)]
    spoken_for = {_replaced_by(item.job) for item in best if item.standing == Standing.INCUMBENT}
    left = [answer for item in rest if (answer := item.answer) and _key(answer) not in spoken_for]
    ours = {item.job.series_instance_uid for item in best}
    verdicts = [job for job in _standing_verdicts(jobs) if job.series_instance_uid not in ours]
    left += [job for job in verdicts if _key(job) not in spoken_for]
    successors = sorted(new, key=lambda item: item.answer is not None)  # stable: the best first among each
    replaced = {item.job.id: answer for item, answer in zip(successors, left, strict=False)}
    return Choice(
        chosen=tuple(Chosen(item.job, replaced.get(item.job.id)) for item in new),
        superseded=tuple(item.job for item in rest if item.standing in (Standing.NEWCOMER, Standing.INCUMBENT)),
        refused=tuple(job for job in jobs if standing_of(job) == Standing.REFUSED),
    )


def candidates_for_verdict(jobs: Iterable[Job], choice: Choice) -> list[Job]:
    """Return the jobs of which one may tell its reason, the best first; [] where the study has its answer.

    Best is one that is about to tell already, then that of the most images, of equals the older.
    """
    jobs = list(jobs)
    superseded = {job.id for job in choice.superseded}
    if choice.chosen or is_answered(job for job in jobs if job.id not in superseded):
        return []
    latest = {job.series_instance_uid: job for job in sorted(jobs, key=lambda job: job.revision)}.values()
    refused = [
        job
        for job in latest
        if job.halt is None
        and job.reject_reason in TOLD
        and job.state in (State.REFUSED, State.REJECTED)
        and not has_verdict(jobs, job, str(job.reject_reason))
    ]
    return sorted(refused, key=lambda job: (not job.chosen, -job.instances, job.id))


def told_in_any_case(jobs: Iterable[Job]) -> list[Job]:
    """The jobs that tell whose images those of a series are, unless an earlier one of the series said the same."""
    jobs = list(jobs)
    told = {(job.series_instance_uid, job.reject_reason) for job in _standing_verdicts(not_taken_back(jobs))}
    return [
        job
        for job in jobs
        if standing_of(job) == Standing.REFUSED
        and job.reject_reason in TAKING_BACK
        and (job.series_instance_uid, job.reject_reason) not in told
    ]


def with_verdicts(choice: Choice, verdicts: Iterable[Job]) -> Choice:
    """The choice in which these jobs tell their reason; one that was chosen for that before goes on undisturbed."""
    told = {job.id: job for job in verdicts}
    refused = tuple(job for job in choice.refused if job.id not in told)
    return replace(choice, refused=refused, verdicts=tuple(job for job in told.values() if not job.chosen))


def is_answered(jobs: Iterable[Job]) -> bool:
    """True where any of these jobs has sent its results, or is being worked on for some."""
    return any(
        standing_of(job) == Standing.INCUMBENT or (job.state in OUT and job.reject_reason is None) for job in jobs
    )


def has_verdict(jobs: Iterable[Job], job: Job, reason: str) -> bool:
    """True where the reason of `job` has been told: by another series, or by an earlier revision of this one."""
    return any(
        told.series_instance_uid != job.series_instance_uid or reason in (told.reject_reason, told.halt)
        for told in _standing_verdicts(jobs)
        if told.id != job.id
    )


def _standing_verdicts(jobs: Iterable[Job]) -> list[Job]:
    """Return the verdicts of a study that no answer has superseded, the oldest first."""
    jobs = sorted(jobs, key=lambda job: job.id)
    replaced = {_replaced_by(job) for job in jobs if standing_of(job) == Standing.ANSWER}
    latest = {job.series_instance_uid: job for job in jobs if standing_of(job) == Standing.VERDICT}
    return [job for job in latest.values() if _key(job) not in replaced]


COMPETING = (Standing.NEWCOMER, Standing.INCUMBENT, Standing.SUPERSEDED)
"""Who competes for a place beside the answers."""


@dataclass(frozen=True)
class _Candidate:
    """A series that takes part: its job and standing, and the job that answered for it, this one or an earlier one."""

    job: Job
    standing: Standing
    answer: Job | None
    since: int
    """The id of the series' first job: the smaller, the older."""


def _candidates(jobs: Iterable[Job]) -> list[_Candidate]:
    by_series: dict[str, list[Job]] = {}
    for job in sorted(jobs, key=lambda job: job.id):
        by_series.setdefault(job.series_instance_uid, []).append(job)
    everyone = [job for revisions in by_series.values() for job in revisions]
    replaced = {_replaced_by(job) for job in everyone if standing_of(job) == Standing.ANSWER}
    candidates = []
    for revisions in by_series.values():
        answers = [job for job in revisions if standing_of(job) == Standing.ANSWER]
        answer = answers[-1] if answers and _key(answers[-1]) not in replaced else None
        others = [job for job in revisions if standing_of(job) in COMPETING]
        current = others[-1] if others else answer
        if current and (standing := standing_of(current)):
            candidates.append(_Candidate(current, standing, answer, revisions[0].id))
    return candidates


def _key(job: Job) -> tuple[str | None, int | None]:
    return job.series_instance_uid, job.revision


def _replaced_by(job: Job) -> tuple[str | None, int | None]:
    return job.replaces_series_instance_uid, job.replaces_revision
