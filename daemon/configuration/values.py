"""The kinds of value that the configuration has: AE titles, ports, names, tables; each says what is wrong with it.

A refusal is a ValueError whose text is the sentence of a fault (see `daemon.configuration.faults`).
"""

import re
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict

from daemon.configuration.faults import show_value
from reports.objects.kinds import CHOICES


class Section(BaseModel):
    """The base of all tables of the file: frozen, no unknown keys, no silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def checked_ae_title(value: str) -> str:
    """VR AE, PS3.5 section 6.2: at most 16 characters of ISO-IR 6, no backslash, no control characters."""
    if not value.strip():
        raise ValueError("an AE title must not be empty; enter it")
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


def checked_host(value: str) -> str:
    """A host name or an IP address, without a port."""
    wanted = f"must be a host name or an IP address, not {show_value(value)}"
    if re.fullmatch(r"[^:]*:\d+", value):
        raise ValueError(f"{wanted}; give the port by its key")
    if ":" in value or re.fullmatch(r"[\d.]+", value):
        try:
            ip_address(value)
        except ValueError:
            raise ValueError(wanted) from None
    elif not re.fullmatch(r"[\w.-]+", value):
        raise ValueError(wanted)
    return value


def checked_port(value: int) -> int:
    """A TCP port."""
    if not 1 <= value <= 65535:
        raise ValueError(f"must be a port from 1 to 65535, not {value}")
    return value


def _url(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value):
        raise ValueError("must be a URL that begins with https:// or http://, without user and password")
    return value


def _hours(value: str) -> str:
    time = r"([01]\d|2[0-3]):[0-5]\d"
    if not re.fullmatch(rf"{time}-{time}", value) or value[:5] == value[6:]:
        raise ValueError(f'must be two times of the day, as "18:00-07:00", not {show_value(value)}')
    return value


def _network(value: str) -> str:
    try:
        return str(ip_network(value))
    except ValueError:
        raise ValueError(f'must be a network, as "10.1.0.0/16", not {show_value(value)}') from None


def checked_path(value: Path) -> Path:
    """A path that does not depend on where a command is called."""
    if not value.is_absolute():
        raise ValueError(f"must be an absolute path, not {show_value(str(value))}")
    return value


def _object_kind(value: str) -> str:
    if value not in CHOICES:
        *others, last = map(show_value, CHOICES)
        raise ValueError(f"must be {', '.join(others)} or {last}, not {show_value(value)}")
    return value


def at_least_one_each_once(values: tuple[str, ...]) -> tuple[str, ...]:
    """The check of a list that must not be empty and names nothing twice."""
    if not values:
        raise ValueError("must name at least one; add it")
    return each_once(values)


def each_once(values: tuple[str, ...]) -> tuple[str, ...]:
    """The check of a list that names nothing twice."""
    if len(set(values)) < len(values):
        raise ValueError("names one twice; take one away")
    return values


AETitle = Annotated[str, AfterValidator(checked_ae_title)]
Name = Annotated[str, AfterValidator(checked_name)]
Host = Annotated[str, AfterValidator(checked_host)]
Port = Annotated[int, AfterValidator(checked_port)]
Hours = Annotated[str, AfterValidator(_hours)]
Network = Annotated[str, AfterValidator(_network)]
Url = Annotated[str, AfterValidator(_url)]
AbsolutePath = Annotated[Path, Strict(False), AfterValidator(checked_path)]
ObjectKind = Annotated[str, AfterValidator(_object_kind)]
Mbit = Annotated[float | None, Field(ge=1, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
