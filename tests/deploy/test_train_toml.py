"""deploy/train.toml shows every key with its default, and what it shows is true."""

import re
from pathlib import Path

import pytest

from daemon.configuration.toml_document import parse_document
from daemon.workbench.train_settings import TrainSettings, as_toml
from models.training.recipe import DEFAULT_PREPROCESSING, Recipe

LINE = re.compile(r"(?:#e\.g\. |#)?(?P<key>[a-z_]+) = (?!value)")


@pytest.fixture(scope="module")
def text(deploy: Path) -> str:
    """The file."""
    return (deploy / "train.toml").read_text()


def parse(text: str) -> TrainSettings:
    """What a file says."""
    return parse_document(text.encode(), TrainSettings, "train.toml")


def shown(text: str) -> dict[str, dict[str, str]]:
    """For each table and key the line that shows it."""
    lines: dict[str, dict[str, str]] = {}
    table = ""
    for line in text.splitlines():
        if header := re.fullmatch(r"\[([a-z]+)\]", line):
            table = header[1]
        elif (found := LINE.match(line)) and table:
            lines.setdefault(table, {})[found["key"]] = line
    return lines


def test_every_key_is_shown_and_no_other(text: str) -> None:
    """A key that the program knows is in the file, and the other way round."""
    assert {table: set(keys) for table, keys in shown(text).items()} == {
        table: set(keys) for table, keys in TrainSettings().model_dump().items()
    }


def test_the_commented_defaults_are_the_defaults(text: str) -> None:
    """Taking the # away from all of them changes nothing."""
    uncommented = re.sub(r"^#(?=[a-z_]+ = (?!value))", "", text, flags=re.MULTILINE)
    assert uncommented != text
    assert parse(uncommented) == parse(text)


def test_a_key_that_is_set_says_its_default(text: str) -> None:
    """Where the example differs from the default, the comment has it."""
    for table, keys in shown(text).items():
        for key, line in keys.items():
            if not line.startswith("#"):
                default = getattr(getattr(TrainSettings(), table), key)
                assert f"default {[] if default == () else default}" in line, f"{table}.{key}"


def test_every_example_loads(text: str) -> None:
    """One at a time, in its place."""
    lines = text.splitlines()
    examples = [place for place, line in enumerate(lines) if line.startswith("#e.g. ")]
    assert len(examples) >= 8
    for place in examples:
        parse("\n".join([*lines[:place], lines[place].removeprefix("#e.g. "), *lines[place + 1 :]]))


def test_what_a_run_keeps_is_read_as_it_was(text: str) -> None:
    """config.toml of a run makes the same run."""
    settings = parse(text)
    assert parse(as_toml(settings)) == settings


def test_defaults_are_the_recipes_own() -> None:
    """Those of the code and those of the file are not two."""
    assert TrainSettings().recipe == Recipe()
    assert TrainSettings().preprocessing == DEFAULT_PREPROCESSING
