"""On which line of a TOML file each key stands; tomllib gives the values without their places.

A place is named as pydantic names it: `("rule", 0, "match", "Modality")`, whichever of TOML's spellings the file
uses (header, array of tables, dotted key, inline table). The text must be one that tomllib has accepted.
"""

import tomllib
from collections.abc import Mapping

import tree_sitter_toml
from tree_sitter import Language, Node, Parser

KeyPath = tuple[str | int, ...]

_KEYS = ("bare_key", "quoted_key", "dotted_key")
_NOT_VALUES = ("comment", ",", "[", "]", "{", "}")


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line, counted from 1, on which each key, table and list element of `text` is first named."""
    root = Parser(Language(tree_sitter_toml.language())).parse(text.encode()).root_node
    lines: dict[KeyPath, int] = {}
    tables_seen: dict[KeyPath, int] = {}
    for child in root.named_children:
        if child.type == "pair":
            _note_pair(child, (), lines)
        elif child.type in ("table", "table_array_element"):
            header = next(part for part in child.named_children if part.type in _KEYS)
            path = _note_header(_keys(header), _line(child), lines, tables_seen, array=child.type != "table")
            for part in child.named_children:
                if part.type == "pair":
                    _note_pair(part, path, lines)
    return lines


def line_of(path: KeyPath, lines: Mapping[KeyPath, int]) -> int:
    """The line of `path`, or where it is not in the file that of the nearest table around it (line 1 in the end)."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 1


def _note_header(
    keys: list[str], line: int, lines: dict[KeyPath, int], tables_seen: dict[KeyPath, int], *, array: bool
) -> KeyPath:
    path: KeyPath = ()
    for position, key in enumerate(keys):
        path += (key,)
        lines.setdefault(path, line)
        if array and position == len(keys) - 1:
            tables_seen[path] = tables_seen.get(path, 0) + 1
        if path in tables_seen:
            # [rule.match] after the second [[rule]] speaks of rule[1] (TOML 1.0, "Array of Tables").
            path += (tables_seen[path] - 1,)
            lines.setdefault(path, line)
    return path


def _note_pair(pair: Node, table: KeyPath, lines: dict[KeyPath, int]) -> None:
    key, value = [part for part in pair.named_children if part.type != "comment"]
    path = table
    for name in _keys(key):
        path += (name,)
        lines.setdefault(path, _line(pair))
    _note_value(value, path, lines)


def _note_value(value: Node, path: KeyPath, lines: dict[KeyPath, int]) -> None:
    if value.type == "inline_table":
        for part in value.named_children:
            if part.type == "pair":
                _note_pair(part, path, lines)
    elif value.type == "array":
        elements = [part for part in value.children if part.type not in _NOT_VALUES]
        for index, element in enumerate(elements):
            lines[(*path, index)] = _line(element)
            _note_value(element, (*path, index), lines)


def _keys(node: Node) -> list[str]:
    """The names in a key: one, or several for a dotted key."""
    if node.type == "dotted_key":
        return [name for part in node.named_children for name in _keys(part)]
    text = (node.text or b"").decode()
    # A quoted key may hold escapes, which tomllib already knows how to read.
    return [text] if node.type == "bare_key" else list(tomllib.loads(f"{text} = 0"))


def _line(node: Node) -> int:
    return node.start_point[0] + 1
