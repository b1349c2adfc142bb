"""Which series of a study are reported: the best `per_study` of those that fall under one rule. Pure.

What is chosen is a function of the study as it stands; it is made anew whenever a series has closed, and nobody
remembers a ranking. A series takes part with its latest job as one of these (`standing_of`):

- NEWCOMER: closed, and not chosen: never yet, or no longer since a late slice or a retry;
- INCUMBENT: chosen, its results not out yet (RECEIVED, SEGMENTED);
- ANSWER: chosen, its results out (REPORTED and later);
- SUPERSEDED: REJECTED(SUPERSEDED_BY_BETTER), which a round may reopen when what was better has gone.

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
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from daemon.jobs import OUT, WORKABLE, Job, State
from dicom_io.errors import RejectReason

Suitability = tuple[float | int | str | bool, ...]
"""How well a series suits, the larger the better (`dicom_io.preference.suitability`)."""


class Standing(StrEnum):
    """As what a job takes part in the choice."""

    NEWCOMER = "NEWCOMER"
    INCUMBENT = "INCUMBENT"
    ANSWER = "ANSWER"
    SUPERSEDED = "SUPERSEDED"


def standing_of(job: Job) -> Standing | None:
    """As what a job takes part; None where it takes none."""
    if job.halt is not None:
        return None
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
    """What becomes of the jobs of one study under one rule. Jobs that it does not name stay as they are."""

    chosen: tuple[Chosen, ...] = ()
    superseded: tuple[Job, ...] = ()
    rejected: tuple[tuple[Job, RejectReason], ...] = ()
    """Newcomers that are not to be processed."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing changes."""
        return not (self.chosen or self.superseded or self.rejected)


def taking_part(jobs: Iterable[Job]) -> list[Job]:
    """The job that each series takes part with, the oldest series first; `jobs` are those of one study and rule."""
    return [candidate.job for candidate in _candidates(jobs)]


def choose(jobs: Iterable[Job], suitabilities: Mapping[str, Suitability | None], *, per_study: int) -> Choice:
    """The choice among `jobs`, all those of one study under one rule, by the suitability of each series.

    A series without an entry takes no part; with None it is one that cannot be judged any more.
    """
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
    successors = sorted(new, key=lambda item: item.answer is not None)  # stable: the best first among each
    replaced = {item.job.id: answer for item, answer in zip(successors, left, strict=False)}
    return Choice(
        chosen=tuple(Chosen(item.job, replaced.get(item.job.id)) for item in new),
        superseded=tuple(item.job for item in rest if item.standing in (Standing.NEWCOMER, Standing.INCUMBENT)),
    )


@dataclass(frozen=True)
class _Candidate:
    """A series as it takes part: its job and standing, and its answer, be it that job or an earlier revision."""

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
        others = [job for job in revisions if standing_of(job) not in (None, Standing.ANSWER)]
        current = others[-1] if others else answer
        if current and (standing := standing_of(current)):
            candidates.append(_Candidate(current, standing, answer, revisions[0].id))
    return candidates


def _key(job: Job) -> tuple[str | None, int | None]:
    return job.series_instance_uid, job.revision


def _replaced_by(job: Job) -> tuple[str | None, int | None]:
    return job.replaces_series_instance_uid, job.replaces_revision
