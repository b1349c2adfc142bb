"""Where the reactor of an association of ours waits while a call is being answered.

pynetdicom runs a reactor beside each association. It takes messages and aborts from the queues that a call such as
`send_c_store` waits for, so each call clears an Event, at which the reactor is to stop, and waits until `_is_paused`.
That is said before the reactor stops, and still while it goes on: it may have passed the Event, or not yet have woken
from it, and takes the answer, which is lost (docs/upstream/pynetdicom-lost-answers.md).
"""

import threading

from pynetdicom.association import Association

LOOK_S = 0.01
"""How often a call that waits for the reactor looks whether it has ended."""


class Checkpoint(threading.Event):
    """The Event of an association's reactor: once `clear` returns, the reactor is held in `wait` until `set`."""

    def __init__(self, assoc: Association) -> None:
        super().__init__()
        self._assoc = assoc
        self._door = threading.Condition()
        self._is_held = False
        super().set()

    def wait(self, timeout: float | None = None) -> bool:
        """Hold the reactor until the Event is set, however often it is set and cleared meanwhile."""
        with self._door:
            self._is_held = self._assoc._is_paused = True
            self._door.notify_all()
            self._door.wait_for(self.is_set, timeout)
            self._is_held = False
            return self.is_set()

    def say_held(self) -> None:
        """Say of the association that its reactor is held, where it is: pynetdicom's own thread may have said no."""
        with self._door:
            if self._is_held:
                self._assoc._is_paused = True

    def set(self) -> None:
        """Let the reactor go on."""
        with self._door:
            super().set()
            self._door.notify_all()

    def clear(self) -> None:
        """Return when the reactor is held, or has ended."""
        with self._door:
            super().clear()
            while not self._is_held and self._assoc.is_alive() and threading.current_thread() is not self._assoc:
                self._door.wait(LOOK_S)
