"""Which series of a study are reported: every standing beside every newcomer, better or not, and the invariants."""

from dataclasses import replace
from itertools import permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.choice import (
    Choice,
    Standing,
    candidates_for_verdict,
    choose,
    has_verdict,
    is_answered,
    standing_of,
    taking_part,
    with_verdicts,
)
from daemon.jobs import OUT, WORKABLE, HaltCode, Job, State
from dicom_io.errors import RejectReason


def job(number: int, series: str, state: State = State.RECEIVED, *, chosen: bool = False, **changes: object) -> Job:
    plain = Job(
        id=number,
        series_instance_uid=series,
        study_instance_uid="1.2",
        revision=1,
        calling_ae_title="MODALITY",
        rule="liver-ct",
        priority=0,
        state=state,
        reject_reason=None,
        attempts=0,
        not_before=None,
        halt=None,
        instances=12,
        warnings=(),
        created_at=0.0,
        chosen=chosen,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def told(choice: Choice) -> tuple[dict[int, tuple[str, int] | None], set[int]]:
    """The ids that are chosen with what they replace, and the ids that are superseded."""
    chosen = {
        item.job.id: (item.replaces.series_instance_uid, item.replaces.revision) if item.replaces else None
        for item in choice.chosen
    }
    return chosen, {job.id for job in choice.superseded}


def named(state: State, *, chosen: bool, halt: bool, reason: RejectReason | None) -> Job:
    return job(1, "A", state, chosen=chosen, halt=HaltCode.WORKER_FAILED if halt else None, reject_reason=reason)


@pytest.mark.parametrize(("state", "chosen", "halt"), list(product(State, (False, True), (False, True))))
def test_the_standing_of_every_job(state: State, chosen: bool, halt: bool):
    """What takes part as what: the table of the module, written down a second time."""
    expected: Standing | None = None
    if not halt and state in ("RECEIVED", "SEGMENTED"):
        expected = Standing.INCUMBENT if chosen else Standing.NEWCOMER
    if not halt and state in ("REPORTED", "DELIVERED", "CONFIRMED"):
        expected = Standing.ANSWER
    if not halt and state == "REFUSED":
        expected = Standing.REFUSED
    for reason in RejectReason if state == State.REJECTED else (None,):
        superseded = reason == RejectReason.SUPERSEDED_BY_BETTER and not halt
        standing = standing_of(named(state, chosen=chosen, halt=halt, reason=reason))
        assert standing == (Standing.SUPERSEDED if superseded else expected)


@pytest.mark.parametrize(
    ("state", "chosen", "halt"),
    list(product((State.REFUSED, *OUT, State.REJECTED, State.CANCELLED), (False, True), (False, True))),
)
def test_the_standing_of_every_job_with_a_reason(state: State, chosen: bool, halt: bool):
    """Refused as long as nobody was told; a verdict once it is out, whatever holds up its delivery."""
    standing = standing_of(named(state, chosen=chosen, halt=halt, reason=RejectReason.TOO_SHORT))
    if state in OUT:
        assert standing == Standing.VERDICT
    else:
        assert standing == (Standing.REFUSED if state == State.REFUSED and not halt else None)


def other(state: State, *, chosen: bool = True, halt: str | None = None, reason: RejectReason | None = None) -> Job:
    """Series A, which came first, in every state that there is."""
    return job(1, "A", state, chosen=chosen, halt=halt, reject_reason=reason)


NO_RIVAL = ({2: None}, set[int]())
"""B is chosen, as if there were nothing else."""

ANSWERED: list[tuple[Job, tuple[object, object], tuple[object, object]]] = [
    # series A; what becomes of the newcomer B (2) and of A (1) where B is better; and where it is not
    (other(State.RECEIVED, chosen=False), ({2: None}, {1}), ({1: None}, {2})),
    (other(State.SEGMENTED, chosen=False), ({2: None}, {1}), ({1: None}, {2})),
    (other(State.RECEIVED), ({2: None}, {1}), ({}, {2})),
    (other(State.SEGMENTED), ({2: None}, {1}), ({}, {2})),
    (other(State.REPORTED), ({2: ("A", 1)}, set()), ({}, {2})),
    (other(State.DELIVERED), ({2: ("A", 1)}, set()), ({}, {2})),
    (other(State.CONFIRMED), ({2: ("A", 1)}, set()), ({}, {2})),
    (other(State.REJECTED, reason=RejectReason.SUPERSEDED_BY_BETTER), NO_RIVAL, ({1: None}, {2})),
    (other(State.REJECTED, reason=RejectReason.UNREADABLE_PIXELS), NO_RIVAL, NO_RIVAL),
    (other(State.CANCELLED), NO_RIVAL, NO_RIVAL),
    (other(State.REFUSED, reason=RejectReason.UNREADABLE_PIXELS), NO_RIVAL, NO_RIVAL),
    (other(State.RECEIVING), NO_RIVAL, NO_RIVAL),
    *(
        (other(state, halt=HaltCode.WORKER_FAILED), NO_RIVAL, NO_RIVAL)
        for state in State
        if state not in (State.REJECTED, State.CANCELLED)
    ),
]


@pytest.mark.parametrize(
    ("rival", "if_better", "if_not"),
    ANSWERED,
    ids=[f"{rival.state}{'' if rival.chosen else ' waiting'}{' ' + (rival.halt or '')}" for rival, _, _ in ANSWERED],
)
@pytest.mark.parametrize("suits", [1, 2, 3])
def test_a_newcomer_beside_every_state(rival: Job, if_better: object, if_not: object, suits: int):
    """Better, equal (which is not better) and worse."""
    newcomer = job(2, "B")
    choice = choose([rival, newcomer], {"A": (2,), "B": (suits,)}, per_study=1)
    assert told(choice) == (if_better if suits == 3 else if_not)


def test_all_states_are_in_the_table():
    """Each, and the halted ones too."""
    assert {rival.state for rival, _, _ in ANSWERED} == set(State)


@pytest.mark.parametrize("state", [State.RECEIVED, State.SEGMENTED, *OUT])
def test_an_equal_that_came_earlier_does_not_displace(state: State):
    """The incumbent's series is the younger one: the other was closed late, and is no better."""
    incumbent = job(2, "B", state, chosen=True)
    assert told(choose([job(1, "A"), incumbent], {"A": (1,), "B": (1,)}, per_study=1)) == ({}, {1})


def test_of_equal_newcomers_the_older_wins():
    """By the first job of the series, whatever the order in which they are given."""
    for jobs in permutations([job(1, "C"), job(2, "A"), job(3, "B")]):
        assert told(choose(jobs, {uid: (1,) for uid in "ABC"}, per_study=1)) == ({1: None}, {2, 3})


# --- revisions


@pytest.mark.parametrize("state", OUT)
def test_a_revision_is_not_held_up_by_its_own_past(state: State):
    """A late slice after the results: one candidate; it replaces what its revision replaces, and nothing else."""
    jobs = [job(1, "A", state, chosen=True), job(2, "A", revision=2)]
    assert taking_part(jobs) == [jobs[1]]
    assert told(choose(jobs, {"A": (1,)}, per_study=1)) == ({2: None}, set())


def test_a_revision_that_suits_less_than_the_answer_of_another_series():
    """B has replaced A; a late slice of A changes nothing as long as B is the better one."""
    replaced = {"replaces_series_instance_uid": "A", "replaces_revision": 1}
    jobs = [
        job(1, "A", State.CONFIRMED, chosen=True),
        job(2, "B", State.CONFIRMED, chosen=True, **replaced),
        job(3, "A", revision=2),
    ]
    assert told(choose(jobs, {"A": (1,), "B": (2,)}, per_study=1)) == ({}, {3})
    assert told(choose(jobs, {"A": (3,), "B": (2,)}, per_study=1)) == ({3: ("B", 1)}, set())


def test_the_latest_revision_is_the_one_that_is_replaced():
    """Its first was superseded by its second long ago."""
    jobs = [
        job(1, "A", State.CONFIRMED, chosen=True),
        job(2, "A", State.REPORTED, chosen=True, revision=2),
        job(3, "B"),
    ]
    assert told(choose(jobs, {"A": (1,), "B": (2,)}, per_study=1)) == ({3: ("A", 2)}, set())


def test_a_revision_and_a_better_newcomer_at_once():
    """B is reported and replaces what is out of A; the second revision of A never is."""
    jobs = [job(1, "A", State.REPORTED, chosen=True), job(2, "B"), job(3, "A", revision=2)]
    assert told(choose(jobs, {"A": (1,), "B": (2,)}, per_study=1)) == ({2: ("A", 1)}, {3})
    assert told(choose(jobs, {"A": (2,), "B": (1,)}, per_study=1)) == ({3: None}, {2})


# --- one after another


def test_each_answer_is_replaced_once():
    """C names B, which named A: a chain, not a fan."""
    jobs = [
        job(1, "A", State.CONFIRMED, chosen=True),
        job(2, "B", State.CONFIRMED, chosen=True, replaces_series_instance_uid="A", replaces_revision=1),
        job(3, "C"),
    ]
    assert told(choose(jobs, {"A": (1,), "B": (2,), "C": (3,)}, per_study=1)) == ({3: ("B", 1)}, set())


def test_who_displaces_a_successor_that_is_not_out_takes_its_place():
    """B was to replace A and is superseded before it could: C names A."""
    jobs = [
        job(1, "A", State.CONFIRMED, chosen=True),
        job(2, "B", State.SEGMENTED, chosen=True, replaces_series_instance_uid="A", replaces_revision=1),
        job(3, "C"),
    ]
    assert told(choose(jobs, {"A": (1,), "B": (2,), "C": (3,)}, per_study=1)) == ({3: ("A", 1)}, {2})
    assert told(choose(jobs, {"A": (1,), "B": (3,), "C": (2,)}, per_study=1)) == ({}, {3})


@pytest.mark.parametrize("gone", ["halted", "cancelled", "rejected"])
def test_when_a_successor_has_gone_the_answer_stands_again(gone: str):
    """And what comes next has to be better than it, and names it."""
    how: dict[str, dict[str, object]] = {
        "halted": {"state": State.RECEIVED, "halt": HaltCode.WORKER_FAILED},
        "cancelled": {"state": State.CANCELLED},
        "rejected": {"state": State.REJECTED, "reject_reason": RejectReason.UNREADABLE_PIXELS},
    }
    successor = job(2, "B", chosen=True, replaces_series_instance_uid="A", replaces_revision=1)
    jobs = [job(1, "A", State.CONFIRMED, chosen=True), replace(successor, **how[gone]), job(3, "C")]  # type: ignore
    assert told(choose(jobs, {"A": (1,), "B": (3,), "C": (2,)}, per_study=1)) == ({3: ("A", 1)}, set())
    assert told(choose(jobs, {"A": (2,), "B": (3,), "C": (1,)}, per_study=1)) == ({}, {3})


def test_what_was_superseded_comes_back_when_the_better_one_has_gone():
    """The chosen one was rejected by the worker: of the others the best is taken, and reopened."""
    superseded = {"state": State.REJECTED, "reject_reason": RejectReason.SUPERSEDED_BY_BETTER}
    jobs = [
        job(1, "A", State.REJECTED, reject_reason=RejectReason.UNREADABLE_PIXELS),
        job(2, "B", **superseded),  # type: ignore[arg-type]
        job(3, "C", **superseded),  # type: ignore[arg-type]
        job(4, "D"),
    ]
    assert told(choose(jobs, {"B": (2,), "C": (3,), "D": (1,)}, per_study=1)) == ({3: None}, {4})


def test_one_that_cannot_be_judged_any_more_gives_way():
    """Its files are gone, or a late slice spoiled it. What is out is named; what waits alone stays."""
    for state in OUT:
        jobs = [job(1, "A", state, chosen=True), job(2, "B")]
        assert told(choose(jobs, {"A": None, "B": (-5,)}, per_study=1)) == ({2: ("A", 1)}, set())
    incumbent = job(1, "A", State.SEGMENTED, chosen=True)
    assert told(choose([incumbent, job(2, "B")], {"A": None, "B": (-5,)}, per_study=1)) == ({2: None}, {1})
    assert choose([incumbent], {"A": None}, per_study=1).is_empty


def test_a_series_that_nothing_is_said_of_takes_no_part():
    """A superseded one whose files are gone."""
    gone = job(1, "A", State.REJECTED, reject_reason=RejectReason.SUPERSEDED_BY_BETTER)
    assert told(choose([gone, job(2, "B")], {"B": (0,)}, per_study=1)) == ({2: None}, set())


# --- more than one a study


def test_the_best_two():
    """Room for two: nothing is displaced while there is room, and then the worst answer."""
    a, b, c, d = job(1, "A", State.CONFIRMED, chosen=True), job(2, "B"), job(3, "C"), job(4, "D")
    suits = {"A": (1,), "B": (2,), "C": (3,), "D": (0,)}
    assert told(choose([a, b], suits, per_study=2)) == ({2: None}, set())
    assert told(choose([a, b, c], suits, per_study=2)) == ({2: None, 3: ("A", 1)}, set())
    assert told(choose([a, b, c, d], suits, per_study=2)) == ({2: None, 3: ("A", 1)}, {4})
    out = replace(b, state=State.REPORTED, chosen=True)
    assert told(choose([a, out, c, d], suits, per_study=2)) == ({3: ("A", 1)}, {4})


def test_a_new_series_names_an_answer_before_a_revision_does():
    """A second revision supersedes its first anyway."""
    jobs = [
        job(1, "A", State.CONFIRMED, chosen=True),
        job(2, "B", State.CONFIRMED, chosen=True),
        job(3, "A", revision=2),
        job(4, "C"),
    ]
    assert told(choose(jobs, {"A": (3,), "B": (1,), "C": (2,)}, per_study=2)) == ({3: None, 4: ("B", 1)}, set())


def test_an_answer_that_an_incumbent_is_to_replace_is_not_named_twice():
    """B, still being worked on, names A; C, which displaces D, names D."""
    jobs = [
        job(1, "A", State.CONFIRMED, chosen=True),
        job(2, "D", State.CONFIRMED, chosen=True),
        job(3, "B", chosen=True, replaces_series_instance_uid="A", replaces_revision=1),
        job(4, "C"),
    ]
    assert told(choose(jobs, {"A": (2,), "D": (1,), "B": (4,), "C": (3,)}, per_study=2)) == ({4: ("D", 1)}, set())


# --- who says why there is no answer


TOO_SHORT, UNREADABLE, SCOUT = RejectReason.TOO_SHORT, RejectReason.UNREADABLE_PIXELS, RejectReason.LOCALIZER_ONLY


def verdict_of(jobs: list[Job], suits: dict[str, tuple[int]] | None = None) -> tuple[int | None, set[int]]:
    """The id of the job that is to tell its reason now, and the ids of those that end in silence."""
    choice = settled(jobs, suits or {}, 1)
    return choice.verdicts[0].id if choice.verdicts else None, {job.id for job in choice.refused}


def test_of_several_refused_that_of_the_most_images_is_told():
    """Of equals the older; a silent reason never, be it the largest."""
    jobs = [
        job(1, "A", State.REFUSED, reject_reason=TOO_SHORT),
        job(2, "B", State.REFUSED, reject_reason=UNREADABLE, instances=99),
        job(3, "C", State.REFUSED, reject_reason=TOO_SHORT, instances=99),
        job(4, "D", State.REFUSED, reject_reason=SCOUT, instances=500),
    ]
    assert verdict_of(jobs) == (2, {1, 3, 4})
    assert verdict_of(list(reversed(jobs))) == (2, {1, 3, 4})
    assert verdict_of(jobs[3:]) == (None, {4})


def test_one_that_was_silent_is_told_when_the_answer_has_gone():
    """B was rejected while A was worked on; the worker cannot read A, and of the two B is the larger."""
    jobs = [
        job(1, "A", State.REFUSED, reject_reason=UNREADABLE),
        job(2, "B", State.REJECTED, reject_reason=TOO_SHORT, instances=99),
    ]
    assert verdict_of(jobs) == (2, {1})


def test_one_that_is_about_to_be_told_is_left_at_it():
    """Whatever else is refused meanwhile; but an answer calls it off."""
    pending = job(1, "A", State.REFUSED, reject_reason=TOO_SHORT, chosen=True)
    assert verdict_of([pending, job(2, "B", State.REFUSED, reject_reason=UNREADABLE, instances=99)]) == (None, {2})
    assert verdict_of([pending, job(2, "B")], {"B": (0,)}) == (None, {1})


@pytest.mark.parametrize("state", OUT)
def test_one_verdict_a_study(state: State):
    """What is refused later stays silent, unless it is the same series for another reason."""
    told_ = job(1, "A", state, chosen=True, reject_reason=TOO_SHORT)
    for halt in (None, HaltCode.DELIVERY_FAILED):
        told_ = replace(told_, halt=halt)
        assert verdict_of([told_, job(2, "B", State.REFUSED, reject_reason=UNREADABLE)]) == (None, {2})
        assert verdict_of([told_, job(2, "A", State.REFUSED, revision=2, reject_reason=TOO_SHORT)]) == (None, {2})
        assert verdict_of([told_, job(2, "A", State.REFUSED, revision=2, reject_reason=UNREADABLE)]) == (2, set())


@pytest.mark.parametrize("per_study", [1, 2])
@pytest.mark.parametrize(
    "verdict",
    [
        job(1, "A", State.CONFIRMED, chosen=True, reject_reason=TOO_SHORT),
        job(1, "A", State.SEGMENTED, chosen=True, halt=HaltCode.GEOMETRY_NOT_PROVED),
    ],
    ids=["refused", "held back"],
)
def test_an_answer_supersedes_the_verdict(verdict: Job, per_study: int):
    """Whatever the headers of the other said, and though there is room for two; the same series' does it anyway."""
    later = job(2, "B")
    suits = {"A": (9,), "B": (0,), "C": (-1,)}
    assert told(choose([verdict, later], suits, per_study=per_study)) == ({2: ("A", 1)}, set())
    revision = job(2, "A", revision=2)
    assert told(choose([verdict, revision], suits, per_study=per_study)) == ({2: None}, set())
    answer = job(2, "B", State.REPORTED, chosen=True, replaces_series_instance_uid="A", replaces_revision=1)
    third = job(3, "C")
    assert told(choose([verdict, answer, third], suits, per_study=2)) == ({3: None}, set())


@pytest.mark.parametrize("state", [*OUT, State.RECEIVED, State.SEGMENTED])
def test_who_answers_silences_the_others(state: State):
    """What is out, and what is worked on; one that stands still or is cancelled does not."""
    answer, refused = job(1, "A", state, chosen=True), job(2, "B", State.REFUSED, reject_reason=TOO_SHORT)
    assert is_answered([answer])
    assert verdict_of([answer, refused], {"A": (1,)}) == (None, {2})
    halted = replace(answer, halt=HaltCode.WORKER_FAILED)
    assert verdict_of([halted, refused]) == ((None, {2}) if state in OUT else (2, set()))
    assert verdict_of([replace(answer, state=State.CANCELLED), refused]) == (2, set())


def test_what_was_told_of_another_series_is_enough():
    """Of an earlier revision only what was said for the same reason."""
    jobs = [job(1, "A", State.CONFIRMED, chosen=True, reject_reason=TOO_SHORT)]
    assert has_verdict(jobs, job(2, "B"), UNREADABLE)
    assert has_verdict(jobs, job(2, "A", revision=2), TOO_SHORT)
    assert not has_verdict(jobs, job(2, "A", revision=2), UNREADABLE)
    assert not has_verdict([], job(2, "B"), UNREADABLE)


# --- whatever the study


STATES = [
    {"state": State.RECEIVED},
    {"state": State.SEGMENTED},
    {"state": State.RECEIVED, "chosen": True},
    {"state": State.SEGMENTED, "chosen": True},
    {"state": State.REPORTED, "chosen": True},
    {"state": State.CONFIRMED, "chosen": True},
    {"state": State.REJECTED, "reject_reason": RejectReason.SUPERSEDED_BY_BETTER},
    {"state": State.REJECTED, "reject_reason": RejectReason.TOO_SHORT},
    {"state": State.CANCELLED},
    {"state": State.RECEIVED, "chosen": True, "halt": HaltCode.WORKER_FAILED},
    {"state": State.REFUSED, "reject_reason": RejectReason.TOO_SHORT},
    {"state": State.REFUSED, "chosen": True, "reject_reason": RejectReason.TOO_SHORT},
    {"state": State.REFUSED, "reject_reason": RejectReason.LOCALIZER_ONLY},
    {"state": State.REPORTED, "chosen": True, "reject_reason": RejectReason.TOO_SHORT},
    {"state": State.SEGMENTED, "chosen": True, "halt": HaltCode.GEOMETRY_NOT_PROVED},
]


@st.composite
def studies(draw: st.DrawFn) -> tuple[list[Job], dict[str, tuple[int]], int]:
    """Up to five series, some with an answer of an earlier revision, and how well they suit."""
    jobs: list[Job] = []
    suits: dict[str, tuple[int]] = {}
    for uid in "ABCDE"[: draw(st.integers(1, 5))]:
        suits[uid] = (draw(st.integers(0, 3)),)
        revision = 1
        if draw(st.booleans()):
            jobs.append(job(len(jobs) + 1, uid, State.CONFIRMED, chosen=True))
            revision = 2
        jobs.append(job(len(jobs) + 1, uid, revision=revision, **draw(st.sampled_from(STATES))))  # type: ignore
    return jobs, suits, draw(st.integers(1, 3))


def settled(jobs: list[Job], suits: dict[str, tuple[int]], per_study: int) -> Choice:
    """The choice, and the verdict where there is nothing to choose."""
    choice = choose(jobs, suits, per_study=per_study)
    return with_verdicts(choice, candidates_for_verdict(jobs, choice)[:1])


@given(studies())
def test_a_choice_settles_everything_and_is_the_same_again(study: tuple[list[Job], dict[str, tuple[int]], int]):
    """Afterwards nothing waits, at most `per_study` are worked on, the best are there, and a second round is empty."""
    jobs, suits, per_study = study
    choice = settled(jobs, suits, per_study)
    other = settled(list(reversed(jobs)), suits, per_study)
    assert replace(choice, refused=()) == replace(other, refused=())
    assert set(choice.refused) == set(other.refused)
    chosen = {item.job.id: item.replaces for item in choice.chosen}
    ended = {job.id for job in choice.superseded}
    assert not chosen.keys() & ended
    after = []
    for before in jobs:
        if before.id in chosen:
            replaced = chosen[before.id]
            before = replace(
                before,
                state=State.RECEIVED if before.state == State.REJECTED else before.state,
                reject_reason=None,
                chosen=True,
                replaces_series_instance_uid=replaced.series_instance_uid if replaced else None,
                replaces_revision=replaced.revision if replaced else None,
            )
        elif before.id in ended:
            before = replace(
                before, state=State.REJECTED, reject_reason=RejectReason.SUPERSEDED_BY_BETTER, chosen=False
            )
        elif before in choice.verdicts:
            before = replace(before, state=State.REFUSED, chosen=True)
        elif before in choice.refused:
            before = replace(before, state=State.REJECTED, chosen=False)
        after.append(before)
    standings = [standing_of(item) for item in after]
    assert Standing.NEWCOMER not in standings
    assert standings.count(Standing.INCUMBENT) <= per_study
    assert settled(after, suits, per_study).is_empty
    answered = [item for item in after if item.reject_reason is None and item.state in (*OUT, *WORKABLE)]
    told = [item for item in after if item.state == State.REFUSED]
    assert len(told) <= (0 if any(item.halt is None or item.state in OUT for item in answered) else 1)
    replaced_once = [item for item in chosen.values() if item is not None]
    assert len({(item.series_instance_uid, item.revision) for item in replaced_once}) == len(replaced_once)
    assert all(standing_of(item) in (Standing.ANSWER, Standing.VERDICT) for item in replaced_once)
    assert not {item.id for item in replaced_once} & ended
    worked_on = [item for item in after if standing_of(item) == Standing.INCUMBENT]
    passed_over = [item for item in choice.superseded]
    for better, worse in product(worked_on, passed_over):
        assert suits[better.series_instance_uid] >= suits[worse.series_instance_uid]
