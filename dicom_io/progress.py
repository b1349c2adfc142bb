"""How a long function tells how far it is."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Is called with the number done and the number there is: of slices, files, cases."""


def ignore_progress(done: int, of: int) -> None:
    """Do nothing: the Progress for a caller that shows none."""
