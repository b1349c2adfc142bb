"""Whatever a value holds, a terminal gets text."""

import io

import pytest
from rich.table import Table

from daemon.terminal import Terminal, plain, say, styled, warn

HOSTILE = "[red]a[/nothing] :bomb: \x1b[2J\x9b31m\u202eb\udcff"
SHOWN = r"[red]a[/nothing] :bomb: \x1b[2J\x9b31m\u202eb\udcff"


def test_what_is_not_printable_is_written_out():
    """A line end too: it would begin a line that nobody wrote."""
    assert plain(HOSTILE) == SHOWN
    assert plain("a\nb\tc") == r"a\nb\tc"
    assert plain("Ärztin 5 µm → 3") == "Ärztin 5 µm → 3"


@pytest.mark.parametrize("is_terminal", [False, True])
def test_no_markup_in_lines_and_tables(is_terminal: bool):
    """Neither in what is printed, nor in a cell, a heading or a title; a style is given by us alone."""
    stream = io.StringIO()
    console = Terminal(file=stream, width=400, force_terminal=is_terminal, color_system=None, highlight=False)
    table = Table(HOSTILE, title=HOSTILE)
    table.add_row(HOSTILE)
    table.add_row(styled(HOSTILE, "red"))
    console.print(HOSTILE)
    console.print(table)
    assert stream.getvalue().count(SHOWN) == 5
    assert "\x1b[2J" not in stream.getvalue()
    assert not set("\x9b\u202e\udcff") & set(stream.getvalue())


def test_lines_on_stdout_and_stderr(capsys: pytest.CaptureFixture[str]):
    """One line each."""
    say(HOSTILE)
    warn(f"{HOSTILE}\n")
    out, err = capsys.readouterr()
    assert out == f"{SHOWN}\n"
    assert err == f"{SHOWN}\\n\n"
