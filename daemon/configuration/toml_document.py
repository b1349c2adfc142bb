"""A TOML file as one frozen value, or all that is wrong with it, each fault with its key and line."""

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from daemon.configuration.faults import Fault, key_text, shape_fault
from daemon.configuration.syntax_faults import key_of_line, syntax_fault
from daemon.configuration.toml_lines import KeyPath, key_lines, line_of
from daemon.errors import ConfigurationError

Document = TypeVar("Document", bound=BaseModel)


def parse_document(
    content: bytes,
    model: type[Document],
    source: str,
    more_faults: Callable[[dict[str, Any]], Iterable[Fault]] = lambda document: (),
) -> Document:
    """Parse the bytes of a TOML file as `model`; faults call the file `source`.

    `more_faults` are those that `model` does not see. Raises ConfigurationError with all faults, in the order of their
    lines.
    """
    try:
        return _parsed(content, model, source, more_faults)
    except RecursionError:
        sentence = "what stands in brackets is nested too deeply; a rule needs a few levels of any, all and not"
        raise ConfigurationError([f"{source}: {sentence}"]) from None


def _parsed(
    content: bytes,
    model: type[Document],
    source: str,
    more_faults: Callable[[dict[str, Any]], Iterable[Fault]],
) -> Document:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigurationError([f"{source}:{line}: the file is not UTF-8; save it as UTF-8"]) from error
    if unseen := re.search("\0|\r(?!\n)", text):
        what = "a NUL" if unseen[0] == "\0" else "a carriage return without a line feed"
        line = text.count("\n", 0, unseen.start()) + 1
        raise ConfigurationError([f"{source}:{line}: the file holds {what}; save it as UTF-8 text"])
    try:
        document = _with_tuples(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        line, sentence = syntax_fault(error, text)
        key = key_of_line(text.split("\n")[line - 1])
        raise ConfigurationError([": ".join(filter(None, (f"{source}:{line}", key, sentence)))]) from error
    faults = list(more_faults(document))
    value = None
    try:
        value = model.model_validate(document)
    except ValidationError as error:
        found = (shape_fault(detail, model) for detail in error.errors(include_url=False))
        faults += [Fault(_as_written(fault.key, document), fault.sentence) for fault in found]
    blamed = {fault.key for fault in faults}
    faults += [fault for fault in _with_nul(document) if fault.key not in blamed]
    if value is None or faults:
        raise ConfigurationError(_lines_of(faults, text, source))
    return value


def _with_tuples(value: Any) -> Any:
    """`value` with tuples for TOML's lists: strict pydantic takes no list for a tuple, and a frozen value has none."""
    if isinstance(value, dict):
        return {key: _with_tuples(item) for key, item in value.items()}
    return tuple(_with_tuples(item) for item in value) if isinstance(value, list) else value


def _with_nul(value: Any, key: KeyPath = ()) -> Iterator[Fault]:
    """The texts that hold a NUL, which no file system, database or peer takes."""
    if isinstance(value, str) and "\0" in value:
        yield Fault(key, "must not hold a NUL")
    for part, item in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, tuple) else ()
    ):
        yield from _with_nul(item, (*key, part))


def _as_written(key: KeyPath, document: Any) -> KeyPath:
    """The key without the place in a list where the file has one value alone, which is taken for a list."""
    place, value = 0, document
    for place, part in enumerate(key):
        if isinstance(part, int) and not isinstance(value, tuple):
            return key[:place] + key[place + 1 :]
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            break
    return key


def _lines_of(faults: list[Fault], text: str, source: str) -> list[str]:
    lines = key_lines(text)
    placed = sorted((line_of(fault.key, lines), key_text(fault.key), fault.sentence) for fault in faults)
    return [f"{source}:{line}: {key}: {sentence}" for line, key, sentence in placed]
