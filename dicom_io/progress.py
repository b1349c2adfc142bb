"""How a long function tells how far it is."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Is called with what is done and of how much: slices, files, cases."""


def ignore_progress(done: int, of: int) -> None:
    """Do nothing: the Progress for a caller that shows none."""
