"""deploy/porta.toml shows every key with its default, and what it shows is true."""

import json
import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from daemon.configuration.config import Config, Tls, parse
from daemon.configuration.match import RULE_TAGS

LINE = re.compile(r"(?P<mark>#e\.g\. |#)?(?P<key>[a-z_]+) = (?P<rest>.*)")
MODELS = ("resnet50",)


def sections() -> dict[str, type[BaseModel]]:
    """The model of each table of the file, by the table's name."""
    found = {}
    for name, field in Config.model_fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        found[field.alias or name] = next(
            kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)
        )
    return found | {"dicom.tls": Tls}


def keys_of(table: str, model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The keys of a table, without the tables in it."""
    return {name: field for name, field in model.model_fields.items() if f"{table}.{name}" not in sections()}


@pytest.fixture(scope="module")
def text(deploy: Path) -> str:
    """The file."""
    return (deploy / "porta.toml").read_text()


def shown_lines(text: str) -> dict[str, dict[str, list[str]]]:
    """For each table and key the lines that show it, commented or not."""
    shown: dict[str, dict[str, list[str]]] = {}
    table = ""
    for line in text.splitlines():
        if header := re.match(r"(?:#e\.g\. )?\[+([a-z.]+)\]+", line):
            table = header[1]
            shown.setdefault(table, {})
        elif found := LINE.match(line):
            shown.setdefault(table, {}).setdefault(found["key"], []).append(line)
    shown.pop("", None)  # The explanation at the top.
    return shown


def test_every_key_is_shown_and_no_other(text: str):
    """A key that the program knows is in the file, and the other way round."""
    documented = {table: set(keys) for table, keys in shown_lines(text).items()}
    assert documented == {
        table: {field.alias or name for name, field in keys_of(table, model).items()}
        for table, model in sections().items()
    }


def test_the_commented_defaults_are_the_defaults(text: str, config: Config):
    """Taking the # away from all of them changes nothing."""
    uncommented = re.sub(r"^#(?=[a-z_]+ = (?!value))", "", text, flags=re.MULTILINE)
    assert uncommented != text
    assert parse(uncommented.encode(), known_models=MODELS).model_dump() == config.model_dump()


def test_a_key_that_is_set_says_its_default(text: str):
    """Where the installation differs from the default, the comment has it."""
    for table, model in sections().items():
        for name, field in keys_of(table, model).items():
            lines = shown_lines(text)[table][name]
            if field.is_required() or field.default is None or any(re.match(r"#[a-z]", line) for line in lines):
                continue
            assert any(f"default {json.dumps(field.default)}" in line for line in lines), f"{table}.{name}"


def test_every_example_loads(text: str):
    """An #e.g. line may be taken as it is, in place of the key on the line above; a table with all its lines."""
    lines = text.splitlines()
    examples = [number for number, line in enumerate(lines) if line.startswith("#e.g. ") and "= value" not in line]
    assert len(examples) >= 4
    within: dict[int, int] = {}
    for number in examples:
        if lines[number].startswith("#e.g. ["):
            within[number] = number
        elif number - 1 in within:
            within[number] = within[number - 1]
    assert len(set(within.values())) >= 5
    for number in examples:
        block = [other for other in examples if within.get(other, other) == within.get(number, number)]
        taken = [line.removeprefix("#e.g. ") if place in block else line for place, line in enumerate(lines)]
        if number not in within and lines[number - 1].split(" =")[0] == taken[number].split(" =")[0]:
            del taken[number - 1]
        parse("\n".join(taken).encode(), known_models=MODELS)


def test_the_keywords_of_a_rule_are_listed(text: str):
    """The comment above [[rule]] is the list that the program has."""
    assert all(tag in text for tag in RULE_TAGS)
