"""The manual page, made of the commands' own help: `porta man | man -l -`."""

from collections.abc import Iterator
from typing import Any

import typer
import typer.core

EXIT_CODES = {
    "0": "done",
    "1": "failed, as a peer that does not answer",
    "2": "the input or the configuration is wrong; one line for each fault on stderr",
}
FILES = {
    "--config FILE, $PORTA_CONFIG, ./porta.toml, /etc/porta/porta.toml": "the configuration, looked for in this order",
    "/var/lib/porta": "the storage root, unless [storage] root says otherwise: images, results, ledger",
}


def manual_page(app: typer.Typer, version: str) -> str:
    """Return the manual page of all commands, in roff."""
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="porta")
    lines = [
        f'.TH PORTA 1 "" "Porta Hepatis {version}"',
        ".SH NAME",
        "porta \\- a DICOM node that segments liver and tumours",
        ".SH SYNOPSIS",
        ".B porta\nCOMMAND [OPTION]... [ARGUMENT]...",
        ".SH DESCRIPTION",
        _plain(command.help or ""),
        ".SH COMMANDS",
        *_commands(command, context, ()),
        ".SH EXIT STATUS",
        *_items(EXIT_CODES),
        ".SH FILES",
        *_items(FILES),
    ]
    return "\n".join(lines) + "\n"


def _commands(command: Any, context: typer.Context, path: tuple[str, ...]) -> Iterator[str]:
    if not isinstance(command, typer.core.TyperGroup):
        yield f".SS porta {' '.join(path)}"
        yield _plain(command.help or "")
        for parameter in command.get_params(context):
            if (record := parameter.get_help_record(context)) is not None and "--help" not in record[0]:
                yield from _items({record[0]: record[1]})
        return
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        if found is not None and not found.hidden:
            yield from _commands(found, typer.Context(found, info_name=name, parent=context), (*path, name))


def _items(about: dict[str, str]) -> Iterator[str]:
    for name, text in about.items():
        yield from (".TP", f".B {_plain(name)}", _plain(text))


def _plain(text: str) -> str:
    """Text that roff takes as it is: no line of it begins a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    escaped = "".join(one if one.isascii() else f"\\[u{ord(one):04X}]" for one in escaped)
    return "\n".join(f"\\&{line.strip()}" for line in escaped.splitlines() if line.strip())
