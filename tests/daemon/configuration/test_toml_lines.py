"""The line of every key, whichever way TOML lets it be written."""

import tomllib

import pytest

from daemon.configuration.toml_lines import key_lines, line_of

SPELLINGS = """\
top = 1
dotted.key = 2
[table]
# a comment
"quoted \\"key\\"" = 3
inline = { a = 1, b = { c = 2 } }
[[rule]]
name = "first"
[rule.match]
Modality = "CT"
[[rule]]
name = "second"
list = [
  1,  # one
  { x = 2 },
]
[rule.match]
Modality = "MR"
[[rule.step]]
n = 1
[[rule.step]]
n = 2
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 1),
        (("dotted", "key"), 2),
        (("table",), 3),
        (("table", 'quoted "key"'), 5),
        (("table", "inline", "b", "c"), 6),
        (("rule",), 7),
        (("rule", 0, "name"), 8),
        (("rule", 0, "match", "Modality"), 10),
        (("rule", 1), 11),
        (("rule", 1, "name"), 12),
        (("rule", 1, "list", 0), 14),
        (("rule", 1, "list", 1, "x"), 15),
        (("rule", 1, "match", "Modality"), 18),
        (("rule", 1, "step", 0, "n"), 20),
        (("rule", 1, "step", 1, "n"), 22),
    ],
)
def test_each_key_is_found_on_its_line(path: tuple[str | int, ...], line: int):
    """Headers, arrays of tables, dotted and quoted keys, inline tables, lists over several lines."""
    assert key_lines(SPELLINGS)[path] == line


def test_the_paths_are_those_of_the_values():
    """Every path leads to a value of the document that tomllib reads."""
    document = tomllib.loads(SPELLINGS)
    for path in key_lines(SPELLINGS):
        value = document
        for part in path:
            value = value[part]


def test_a_key_that_is_missing_is_on_the_line_of_its_table():
    """What is not written can only be missing from somewhere."""
    lines = key_lines(SPELLINGS)
    assert line_of(("rule", 1, "model"), lines) == 11
    assert line_of(("nowhere", "at", "all"), lines) == 1
