"""Whether a series can match a rule and none of others: by cases, of which one that may be suffices. Pure.

A formula is what rules ask for, as atoms that are joined. An atom of text is a pattern; one of numbers, hours, phase or
answer is a set of cells, between which no rule of the question distinguishes. What cannot be decided counts as
possible, so that "impossible" is certain. A series is taken to have one value of each attribute whose VM is 1 (PS3.6).
"""

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import time
from functools import partial
from typing import Literal

from daemon.configuration.match import PHASES, RE, Match, is_within, parse_hours, parse_range
from daemon.routing import fits

MOST_CASES = 1000
"""As many are looked at; where they do not suffice, the question is not decided."""

MULTIPLE = ("ImageType", "ConvolutionKernel")
"""The attributes that a rule may match on and whose VM is more than 1."""

ABSENT = "absent"


@dataclass(frozen=True)
class Atom:
    """A pattern that the text of an attribute fits, or the cells of a domain in which its value lies."""

    name: str
    asked: str | frozenset[object]


@dataclass(frozen=True)
class Joined:
    """Formulas of which all hold, any holds, or none does."""

    how: Literal["all", "any", "none"]
    parts: tuple["Formula", ...]


Formula = Atom | Joined


@dataclass(frozen=True)
class Case:
    """What is assumed of a series: the cells that are left of each domain, and patterns that it fits or does not."""

    cells: Mapping[str, frozenset[object]]
    texts: tuple[tuple[str, str, bool], ...] = ()

    def decide(self, atom: Atom) -> bool | None:
        """Whether an atom holds; None where that is open."""
        if isinstance(atom.asked, frozenset):
            left = self.cells[atom.name]
            return True if left <= atom.asked else None if left & atom.asked else False
        if not atom.asked.strip("*"):
            return True
        for name, pattern, holds in self.texts:
            if name == atom.name and holds and is_within_pattern(pattern, atom.asked):
                return True
            if name == atom.name and holds and name not in MULTIPLE and are_apart(pattern, atom.asked):
                return False
            if name == atom.name and not holds and is_within_pattern(atom.asked, pattern):
                return False
        return None

    def assume(self, atom: Atom, *, holds: bool) -> "Case":
        """Return the case in which an atom that is open holds, or does not."""
        if isinstance(atom.asked, frozenset):
            left = self.cells[atom.name]
            return replace(self, cells={**self.cells, atom.name: left & atom.asked if holds else left - atom.asked})
        return replace(self, texts=(*self.texts, (atom.name, atom.asked, holds)))


def can_match(match: Match, others: Sequence[Match] = ()) -> bool:
    """True where a series may match, and none of the others; False where that is certain not to be."""
    domains = _domains([match, *others])
    asked = Joined("all", (_formula(match, domains), Joined("none", tuple(_formula(one, domains) for one in others))))
    every = {name: frozenset(cells) for name, cells in domains.items()}
    open_cases, looked_at = [Case(every)], 0
    while open_cases:
        case = open_cases.pop()
        holds, atom = _evaluate(asked, case)
        looked_at += 1
        if holds or looked_at >= MOST_CASES:
            return True
        if atom is not None:
            open_cases += [case.assume(atom, holds=True), case.assume(atom, holds=False)]
    return False


def _evaluate(formula: Formula, case: Case) -> tuple[bool | None, Atom | None]:
    """Whether a formula holds; where that is open (None), an atom on which it hangs."""
    if isinstance(formula, Atom):
        holds = case.decide(formula)
        return holds, formula if holds is None else None
    ends = formula.how != "all"  # the value of a part that decides it
    hangs_on = None
    for part in formula.parts:
        holds, atom = _evaluate(part, case)
        if holds is ends:
            return formula.how == "any", None
        hangs_on = hangs_on or atom
    return (None, hangs_on) if hangs_on else (formula.how != "any", None)


def _formula(match: Match, domains: Mapping[str, Mapping[object, object]]) -> Formula:
    """What a match asks for."""
    parts: list[Formula] = [
        Joined("any", tuple(Atom(keyword, pattern) for pattern in patterns))
        for keyword, patterns in match.texts.items()
    ]
    parts += [
        Atom(name, frozenset(cell for cell, value in domains[name].items() if any(map(partial(_holds, value), asked))))
        for name, asked in _finite(match)
    ]
    of = partial(_formulas, domains=domains)
    parts += of(match.all_of)
    parts += [Joined("any", of(match.any_of))] if match.any_of else []
    parts += [Joined("none", of(match.none_of))] if match.none_of else []
    return Joined("all", tuple(parts))


def _formulas(parts: Iterable[Match] | None, *, domains: Mapping[str, Mapping[object, object]]) -> tuple[Formula, ...]:
    return tuple(_formula(part, domains) for part in parts or ())


def _finite(match: Match) -> Iterator[tuple[str, tuple[object, ...]]]:
    """What a match asks for by a list of which one suffices, but of text: name and list."""
    for keyword, ranges in match.numbers.items():
        yield keyword, tuple(map(parse_range, ranges))
    if match.phase is not None:
        yield "phase", match.phase
    if match.hours is not None:
        yield "hours", tuple(partial(is_within, hours=one) for one in match.hours)
    if match.answered is not None:
        yield "answered", (match.answered,)


def _holds(value: object, asked: object) -> bool:
    """Whether a value is what is asked for: a range, hours, or a value."""
    if value == ABSENT:
        return False
    if isinstance(asked, partial):
        return bool(asked(value))
    holds = getattr(asked, "holds", None)
    return bool(holds(value)) if holds else value == asked


def _domains(matches: Sequence[Match]) -> dict[str, dict[object, object]]:
    """The cells of all that is asked for, but of text, each with a value in it."""
    every = [one for match in matches for one in _all_parts(match)]
    domains: dict[str, dict[object, object]] = {
        "phase": {phase: phase for phase in PHASES},
        "answered": {True: True, False: False},
    }
    hours = {edge for match in every for one in match.hours or () for edge in parse_hours(one)} | {time(0)}
    domains["hours"] = {edge: edge for edge in hours}  # an end is excluded: all until the next edge is alike
    for keyword in {keyword for match in every for keyword in match.numbers}:
        ranges = [parse_range(one) for match in every for one in match.numbers.get(keyword, ())]
        edges = sorted({edge for one in ranges for edge in (one.low, one.high) if abs(edge) != float("inf")})
        between = [(low + high) / 2 for low, high in zip(edges, edges[1:], strict=False)]
        outside = [edges[0] - 1, edges[-1] + 1]
        domains[keyword] = {value: value for value in (*edges, *between, *outside, ABSENT)}
    return domains


def _all_parts(match: Match) -> Iterator[Match]:
    """The match and its parts, and theirs."""
    yield match
    for part in (*(match.any_of or ()), *(match.all_of or ()), *(match.none_of or ())):
        yield from _all_parts(part)


WILD = re.compile(r"\*|\?|\[!?+\]?+[^\]]*\]")
SOME, ONE = "\ue000", "\ue001"
"""Stand for `*`, and for `?` or a list of characters, where a glob is looked at as a text."""


def is_within_pattern(pattern: str, other: str) -> bool:
    """True where all that fits a pattern fits the other one too; False where that is not certain."""
    pattern, other = pattern.casefold(), other.casefold()
    if pattern == other or not other.strip("*"):
        return True
    if pattern.startswith(RE):
        return False
    if other.startswith(RE):
        return _is_literal(pattern) and fits(pattern, other)
    text = WILD.sub(lambda wild: SOME if wild[0] == "*" else ONE, pattern)
    return re.fullmatch(_over_globs(other), text, re.DOTALL) is not None


def are_apart(pattern: str, other: str) -> bool:
    """True where no text fits both patterns; False where that is not certain."""
    if _is_literal(pattern) or _is_literal(other):
        literal, wide = (pattern, other) if _is_literal(pattern) else (other, pattern)
        return not fits(literal, wide)
    if RE in (pattern[: len(RE)], other[: len(RE)]):
        return False
    ends = [(WILD.split(one.casefold())[0], WILD.split(one.casefold())[-1]) for one in (pattern, other)]
    (head, tail), (head_too, tail_too) = ends
    begin_alike = head.startswith(head_too) or head_too.startswith(head)
    return not (begin_alike and (tail.endswith(tail_too) or tail_too.endswith(tail)))


def _is_literal(pattern: str) -> bool:
    return not pattern.startswith(RE) and not WILD.search(pattern)


def _over_globs(glob: str) -> str:
    """A regular expression for the globs within a glob, written with SOME and ONE."""
    expression, place = "", 0
    for wild in WILD.finditer(glob):
        expression += re.escape(glob[place : wild.start()])
        expression += {"*": ".*", "?": f"[^{SOME}]"}.get(wild[0], f"(?![{SOME}{ONE}]){_one_character(wild[0])}")
        place = wild.end()
    return expression + re.escape(glob[place:])


def _one_character(wild: str) -> str:
    """A list of characters of a glob, as fnmatch reads it."""
    return fnmatch.translate(wild).removeprefix("(?s:")[: -len(")\\Z")]
