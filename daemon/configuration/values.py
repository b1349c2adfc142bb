"""The kinds of value that the configuration has: AE titles, ports, names, patterns; each says what is wrong with it.

A refusal is a ValueError whose text is the sentence of a fault (see `daemon.configuration.faults`).
"""

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from daemon.configuration.faults import did_you_mean, show_value
from reports.objects.kinds import CHOICES

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
)
"""What a rule may match on: keywords of PS3.6 in the header of an image, and the sender's AE title."""


def _ae_title(value: str) -> str:
    """VR AE, PS3.5 section 6.2: at most 16 characters of ISO-IR 6, no backslash, no control characters."""
    if not value.strip():
        raise ValueError("an AE title must not be empty")
    if value != value.strip(" "):
        raise ValueError("an AE title must not begin or end with a space")
    if len(value) > 16:
        raise ValueError(f"an AE title has at most 16 characters, this one has {len(value)}")
    if "\\" in value:
        raise ValueError("an AE title must not hold a backslash")
    if not (value.isascii() and value.isprintable()):
        raise ValueError("an AE title holds printable ASCII characters only")
    return value


def checked_name(value: str) -> str:
    """A name that stands in the ledger, in logs and on the command line, so it needs no quoting anywhere."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
        raise ValueError(f"a name is 1 to 64 letters, digits, dots, dashes or underscores, not {show_value(value)}")
    return value


def _host(value: str) -> str:
    if not value or any(character.isspace() or character in "/\\" for character in value):
        raise ValueError(f"must be a host name or an IP address, not {show_value(value)}")
    return value


def _port(value: int) -> int:
    if not 1 <= value <= 65535:
        raise ValueError(f"must be a port from 1 to 65535, not {value}")
    return value


def _rule_tag(value: str) -> str:
    if value not in RULE_TAGS:
        raise ValueError(f"a rule cannot match on this{did_you_mean(value, RULE_TAGS)}")
    return value


def _object_kind(value: str) -> str:
    if value not in CHOICES:
        *others, last = map(show_value, CHOICES)
        raise ValueError(f"must be {', '.join(others)} or {last}, not {show_value(value)}")
    return value


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _pattern(value: str) -> str:
    if not value:
        raise ValueError('must not be empty; "*" matches everything')
    return value


def at_least_one_each_once(values: tuple[str, ...]) -> tuple[str, ...]:
    """The check of a list that must not be empty and names nothing twice."""
    if not values:
        raise ValueError("must name at least one")
    return each_once(values)


def each_once(values: tuple[str, ...]) -> tuple[str, ...]:
    """The check of a list that names nothing twice."""
    if len(set(values)) < len(values):
        raise ValueError("names one twice")
    return values


AETitle = Annotated[str, AfterValidator(_ae_title)]
Name = Annotated[str, AfterValidator(checked_name)]
Host = Annotated[str, AfterValidator(_host)]
Port = Annotated[int, AfterValidator(_port)]
RuleTag = Annotated[str, AfterValidator(_rule_tag)]
ObjectKind = Annotated[str, AfterValidator(_object_kind)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Patterns = Annotated[
    tuple[Annotated[str, AfterValidator(_pattern)], ...],
    BeforeValidator(_one_or_more),
    AfterValidator(at_least_one_each_once),
]
