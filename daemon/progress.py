"""A bar on a person's terminal; nothing where nobody looks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from daemon.terminal import plain
from dicom_io.progress import Progress

StepsBar = Callable[[int, str, float], None]


@contextmanager
def progress_bar(what: str) -> Iterator[Progress]:
    """Show `what` on stderr while the context lasts."""
    console = Console(stderr=True)
    with Bar(transient=True, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(escape(plain(what)), total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


@contextmanager
def steps_bar(what: str, steps: int, *, shown: bool = True) -> Iterator[StepsBar | None]:
    """Show a bar for a long loop: a function that takes the steps done, some words and the seconds left.

    None where stderr is no terminal, or where the bar is not to be `shown`. The bar stays when the loop has ended.
    """
    console = Console(stderr=True)
    if not (shown and console.is_terminal):
        yield None
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[words]}"))
    with Bar(*columns, console=console) as bar:
        task = bar.add_task(what, total=steps, words="")
        yield lambda done, words, left: bar.update(task, completed=done, words=f"{words}, {_time(left)} left")


def _time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
