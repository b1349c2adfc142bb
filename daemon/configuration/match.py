"""`match` of a rule: what it asks of a series, as text, numbers, phase, hours, and parts that are joined.

    match = { Modality = "CT", SliceThickness = "<= 3", any = [{ phase = "portal" }, { StationName = "CT4" }] }

Text is a glob (fnmatch), or after `re:` a regular expression that is searched for; both in any case of letters.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import time
from math import inf
from typing import Annotated, Any, Literal

import regex
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from daemon.configuration.faults import did_you_mean, show_value
from daemon.configuration.values import Section, at_least_one_each_once

RE = "re:"
"""Begins a regular expression."""

NUMBERS = (
    "SliceThickness",
    "SpacingBetweenSlices",
    "KVP",
    "MagneticFieldStrength",
    "RepetitionTime",
    "EchoTime",
    "Rows",
    "Columns",
)
"""The keywords of PS3.6 whose value is compared as a number."""

RULE_TAGS = (
    "Modality",
    "CallingAETitle",
    "StudyDescription",
    "SeriesDescription",
    "ProtocolName",
    "BodyPartExamined",
    "ImageType",
    "Manufacturer",
    "ManufacturerModelName",
    "StationName",
    "ConvolutionKernel",
    "ContrastBolusAgent",
    "SequenceName",
    *NUMBERS,
)
"""What a rule may match on: keywords of PS3.6 in the header of an image, and the sender's AE title."""

PARTS = ("phase", "hours", "answered", "any", "all", "not")
"""What else may stand in `match`."""

PHASES = ("native", "arterial", "portal", "delayed", "unknown")


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, these included unless they are open."""

    low: float = -inf
    high: float = inf
    low_is_open: bool = False
    high_is_open: bool = False

    def holds(self, number: float) -> bool:
        """True where the number lies in it."""
        above = number > self.low if self.low_is_open else number >= self.low
        return above and (number < self.high if self.high_is_open else number <= self.high)

    def within(self, other: "Range") -> bool:
        """True where the other range holds all of this one."""
        begins = self.low > other.low or (self.low == other.low and (self.low_is_open or not other.low_is_open))
        ends = self.high < other.high or (self.high == other.high and (self.high_is_open or not other.high_is_open))
        return begins and ends


NO_RANGE = 'must be a number or a range, as "<= 3", "> 1" or "1.5..3", not {}'
_NUMBER = r"\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*"


def parse_range(text: str) -> Range:
    """Return the range of `<= 3`, `> 1`, `1.5..3` or `3`. Raises ValueError for another text."""
    if found := re.fullmatch(rf"{_NUMBER}\.\.{_NUMBER}", text):
        low, high = float(found[1]), float(found[2])
        if low > high:
            raise ValueError(f"nothing lies from {low:g} to {high:g}; write the smaller number first")
        return Range(low, high)
    if found := re.fullmatch(rf"\s*(<=?|>=?|)\s*{_NUMBER}", text):
        sign, number = found[1], float(found[2])
        if not sign:
            return Range(number, number)
        if sign.startswith("<"):
            return Range(high=number, high_is_open=sign == "<")
        return Range(low=number, low_is_open=sign == ">")
    raise ValueError(NO_RANGE.format(show_value(text)))


def parse_hours(text: str) -> tuple[time, time]:
    """Return begin and end of `07:00-18:30`, which may lie on the next day. Raises ValueError for another text."""
    found = re.fullmatch(r"(\d\d:\d\d)\s*-\s*(\d\d:\d\d)", text.strip())
    try:
        begin, end = (time.fromisoformat(found[number]) for number in (1, 2)) if found else (None, None)
    except ValueError:
        begin = end = None
    if begin is None or end is None or begin == end:
        raise ValueError(f'must be hours of a day, as "07:00-18:30" or "22:00-06:00", not {show_value(text)}')
    return begin, end


def is_within(moment: time, hours: str) -> bool:
    """True where a time of the day lies within hours, the end excluded."""
    begin, end = parse_hours(hours)
    return begin <= moment < end if begin < end else moment >= begin or moment < end


def _tag(value: str) -> str:
    if value not in RULE_TAGS:
        raise ValueError(f"a rule cannot match on this{did_you_mean(value, (*RULE_TAGS, *PARTS))}")
    return value


def _pattern(value: str) -> str:
    if not value:
        raise ValueError('must not be empty; "*" matches everything')
    if value.startswith(RE):
        try:
            regex.compile(value.removeprefix(RE))
        except regex.error as error:
            raise ValueError(f"not a regular expression: {error.msg}; mend it, or take {RE} away for a glob") from None
    return value


def _parsed_by(parse: Callable[[str], object]) -> AfterValidator:
    """The check of a text that `parse` takes."""

    def check(value: str) -> str:
        parse(value)
        return value

    return AfterValidator(check)


def _one_or_more(value: object) -> object:
    return value if isinstance(value, list | tuple) else (value,)


def _number_text(value: object) -> object:
    """A number as the text of a range; a range as it stands."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:g}"
    if not isinstance(value, str):
        raise ValueError(NO_RANGE.format(show_value(value)))
    return value


def _at_least_one(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if not value:
        raise ValueError("must hold at least one { … }")
    return value


Patterns = Annotated[
    tuple[Annotated[str, AfterValidator(_pattern)], ...],
    BeforeValidator(_one_or_more),
    AfterValidator(at_least_one_each_once),
]
Ranges = Annotated[
    tuple[Annotated[str, BeforeValidator(_number_text), _parsed_by(parse_range)], ...],
    BeforeValidator(_one_or_more),
    AfterValidator(at_least_one_each_once),
]
Hours = Annotated[
    tuple[Annotated[str, _parsed_by(parse_hours)], ...],
    BeforeValidator(_one_or_more),
    AfterValidator(at_least_one_each_once),
]
Phases = Annotated[
    tuple[Literal["native", "arterial", "portal", "delayed", "unknown"], ...],
    BeforeValidator(_one_or_more),
    AfterValidator(at_least_one_each_once),
]
Joined = Annotated[tuple["Match", ...], AfterValidator(_at_least_one)]


class Match(Section):
    """What is asked of a series; it matches when all of it holds, and what is left out is not asked.

    Of a list one suffices. `phase` is that of the contrast, as the header says it, or `unknown`; `hours` are those of
    this machine in which its first image came; `answered` says whether results of another series of its study were sent
    already. Of `any` one part must match, of `all` each, of `not` none.
    """

    texts: Mapping[Annotated[str, AfterValidator(_tag)], Patterns] = Field(default_factory=dict)
    numbers: Mapping[str, Ranges] = Field(default_factory=dict)
    phase: Phases | None = None
    hours: Hours | None = None
    answered: bool | None = None
    any_of: Joined | None = Field(default=None, alias="any")
    all_of: Joined | None = Field(default=None, alias="all")
    none_of: Annotated[Joined | None, BeforeValidator(_one_or_more)] = Field(default=None, alias="not")

    @model_validator(mode="before")
    @classmethod
    def _sort(cls, table: Any) -> Any:
        """Put keywords of text and of numbers apart: the file has all in one table."""
        if not isinstance(table, Mapping):
            return table
        texts = {key: value for key, value in table.items() if key not in (*NUMBERS, *PARTS)}
        numbers = {key: value for key, value in table.items() if key in NUMBERS}
        return {"texts": texts, "numbers": numbers} | {key: table[key] for key in PARTS if key in table}

    def __str__(self) -> str:
        """It in words, for the person who wrote it."""
        asked = [f"{key} = {_one_of(values)}" for key, values in {**self.texts, **self.numbers}.items()]
        asked += [f"phase = {_one_of(self.phase)}"] if self.phase else []
        asked += [f"hours = {_one_of(self.hours)}"] if self.hours else []
        asked += [] if self.answered is None else [f"answered = {str(self.answered).lower()}"]
        asked += [f"any of ({'; '.join(map(str, self.any_of))})"] if self.any_of else []
        asked += [f"all of ({'; '.join(map(str, self.all_of))})"] if self.all_of else []
        asked += [f"not ({'; '.join(map(str, self.none_of))})"] if self.none_of else []
        return " and ".join(asked) or "everything"


def _one_of(values: tuple[str, ...]) -> str:
    return " or ".join(f'"{value}"' for value in values)
