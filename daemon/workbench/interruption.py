"""Ctrl-C and SIGTERM, alike, as what a long command ends by with a line and its exit code."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Interruption:
    """Ctrl-C or SIGTERM: during training a wish, which the loop grants after the step; a second one ends at once."""

    asked: bool = False
    training: bool = False

    def ask(self, number: int, frame: FrameType | None) -> None:
        """A signal handler."""
        if self.asked or not self.training:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Ctrl-C and SIGTERM as `Interruption` has them; what was there before comes back."""
    interruption = Interruption()
    before = {number: signal.signal(number, interruption.ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
