"""Which rule a series falls under: the first that is enabled and of which all holds; of each other one why not."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

import regex
from pydicom import Dataset

from daemon.configuration.config import Rule
from daemon.configuration.match import RE, Match, is_within, parse_range
from daemon.log import get_logger
from dicom_io.files import values
from dicom_io.files.image_file import marks_of, modality
from dicom_io.series.preference import stated_phase

LONGEST, LONGEST_S = 1024, 0.1
"""Characters of a value that a regular expression is searched for in, and seconds for it: some take ever longer, and
anyone may send a value."""

log = get_logger()


@dataclass(frozen=True)
class Candidate:
    """A series that is to fall under a rule: the header of its first image, its sender, when that image came.

    `is_answered` says whether results of another series of its study were sent already; it is asked where a rule asks.
    """

    header: Dataset
    calling_ae_title: str
    began_at: float
    is_answered: Callable[[], bool] = lambda: False


def first_match(rules: Iterable[Rule], candidate: Candidate) -> Rule | None:
    """Return the first rule that matches a series; None where none does."""
    return next((rule for rule in rules if mismatch(rule, candidate) is None), None)


def mismatch(rule: Rule, candidate: Candidate) -> str | None:
    """Return why a rule does not match: the first that does not hold; None where it matches.

    The sentence quotes the header: it is for the person who asked, and for no log.
    """
    if not rule.enabled:
        return "it is switched off (enabled = false)"
    return _unmet(rule.match, candidate)


def _unmet(match: Match, candidate: Candidate) -> str | None:
    """The first of what is asked that does not hold; None where all does."""
    for keyword, patterns in match.texts.items():
        found = _texts(candidate, keyword)
        if not any(fits(value, pattern) for value in found for pattern in patterns):
            return f"{keyword} is {_listed(found)}, not {_either(patterns)}"
    for keyword, ranges in match.numbers.items():
        numbers = _numbers(candidate.header, keyword)
        if not any(parse_range(one).holds(number) for number in numbers for one in ranges):
            return f"{keyword} is {_listed(f'{number:g}' for number in numbers) or 'absent'}, not {_either(ranges)}"
    return _unmet_of_series(match, candidate) or _unmet_of_parts(match, candidate)


def _unmet_of_series(match: Match, candidate: Candidate) -> str | None:
    if match.phase is not None:
        phase = stated_phase(marks_of(candidate.header)) or "unknown"
        if phase not in match.phase:
            return f"phase is {phase}, not {' or '.join(match.phase)}"
    if match.hours is not None:
        came = datetime.fromtimestamp(candidate.began_at)
        if not any(is_within(came.time(), hours) for hours in match.hours):
            return f"its first image came at {came:%H:%M}, not within {' or '.join(match.hours)}"
    if match.answered is not None and candidate.is_answered() != match.answered:
        return "its study has results already" if match.answered is False else "its study has no results yet"
    return None


def _unmet_of_parts(match: Match, candidate: Candidate) -> str | None:
    for part in match.all_of or ():
        if why := _unmet(part, candidate):
            return why
    if match.any_of:
        whys = [_unmet(part, candidate) for part in match.any_of]
        if None not in whys:
            return f"nothing of any holds: {'; '.join(filter(None, whys))}"
    excluded = next((part for part in match.none_of or () if _unmet(part, candidate) is None), None)
    return f"not excludes it: {excluded}" if excluded else None


def fits(value: str, pattern: str) -> bool:
    """True where a glob matches a value, or its regular expression is found in it; case does not count.

    A search that takes longer than LONGEST_S finds nothing: the value is a sender's, and the service waits for it.
    """
    if pattern.startswith(RE):
        try:
            found = regex.search(pattern.removeprefix(RE), value[:LONGEST], regex.IGNORECASE, timeout=LONGEST_S)
        except TimeoutError:
            log.warning("rule.pattern_too_slow")
            return False
        return found is not None
    return fnmatchcase(value.casefold(), pattern.casefold())


def _texts(candidate: Candidate, keyword: str) -> list[str]:
    if keyword == "CallingAETitle":
        return [candidate.calling_ae_title]
    if keyword == "Modality":
        return [modality(candidate.header)]
    return list(values.texts(candidate.header, keyword)) or [""]


def _numbers(header: Dataset, keyword: str) -> list[float]:
    """The numbers of an attribute; of an Enhanced image also those of its first frame's pixel measures."""
    groups = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
    measures = (
        item
        for group in groups
        for first in values.items(header, group)[:1]
        for item in values.items(first, "PixelMeasuresSequence")[:1]
    )
    for ds in (header, *measures):
        if found := values.decimals(ds, keyword):
            return [float(one) for one in found]
    return []


def _listed(found: Iterable[str]) -> str:
    return ", ".join(f'"{value}"' for value in found)


def _either(asked: Iterable[str]) -> str:
    return " or ".join(f'"{one}"' for one in asked)
