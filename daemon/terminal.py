"""What commands write for people: values from outside are text, without markup and without control characters.

A card, a header, a file name, the configuration or a peer may hold anything, an escape sequence of the terminal too.
Modules that write for people do it by `say`, `warn` and `Terminal` alone; JSON escapes by itself.
"""

import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.text import Text

Say = Callable[[str], None]
"""Takes a line for people: `say`, `warn`, or what shows it elsewhere."""


def plain(text: str) -> str:
    r"""Write what is not printable as Python does (`\x1b`, `\u202e`, `\udcff`), line ends too."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def styled(text: str, style: str) -> Text:
    """Return a text in a style of Rich's."""
    return Text(plain(text), style=style)


def say(line: str) -> None:
    """Print a line."""
    print(plain(line), flush=True)


def warn(line: str) -> None:
    """Print a line on stderr."""
    print(plain(line), file=sys.stderr, flush=True)


class Terminal(Console):
    """A console to which each string is text; lines within it are kept."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return the string as a text, whatever looks like markup in it."""
        lines = "\n".join(plain(line) for line in text.split("\n"))
        return super().render_str(lines, **(options | {"markup": False, "emoji": False}))
