"""A bar on a person's terminal; nothing where nobody looks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

StepsBar = Callable[[int, str, float], None]


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Shows `what` on stderr while the context lasts; gives a function that takes what is done, and of how much."""
    console = Console(stderr=True)
    with Progress(transient=True, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, of: progress.update(task, completed=done, total=of)


@contextmanager
def steps_bar(what: str, steps: int, *, shown: bool = True) -> Iterator[StepsBar | None]:
    """For a long loop: gives a function that takes the steps done, some words and the seconds left.

    None where nobody looks, or it is not to be `shown`. The bar stays when the loop has ended.
    """
    console = Console(stderr=True)
    if not (shown and console.is_terminal):
        yield None
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[words]}"))
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(what, total=steps, words="")
        yield lambda done, words, left: progress.update(task, completed=done, words=f"{words}, {_time(left)} left")


def _time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
