"""How an association ends, found where it does: in the state machine of the upper layer (PS3.8 section 9.2)."""

from collections.abc import Callable
from enum import StrEnum

from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import StateMachine


class Ending(StrEnum):
    """Why an association is over."""

    RELEASED = "RELEASED"
    REJECTED = "REJECTED"
    ABORTED = "ABORTED"
    """By the peer's A-ABORT."""
    CONNECTION_LOST = "CONNECTION_LOST"
    """The connection closed, or broke, without a release."""
    PROTOCOL_ERROR = "PROTOCOL_ERROR"
    """What came is no PDU, cannot be read, or was not to be expected."""
    UNASKED_RESPONSE = "UNASKED_RESPONSE"
    """A response to a request that we never sent."""
    TIMED_OUT = "TIMED_OUT"
    """The peer was silent, or slow, for too long."""
    TOO_LARGE = "TOO_LARGE"
    """A request, PDU or instance that is, or announces to be, larger than what was agreed or may be."""
    STOPPED = "STOPPED"
    """We ended it: the service stops."""


AWAITING_REQUEST, ESTABLISHED, IDLE = "Sta2", "Sta6", ("Sta1", "Sta13")
"""States of PS3.8 table 9-6: connected and nothing asked yet; not connected, or only waiting for the close."""

REQUESTED, RECEIVED, RELEASE, ABORT = "Evt6", "Evt10", "Evt12", "Evt15"
"""Events of PS3.8 table 9-5: the peer's request, data and release; an abort of our own."""
OUT_OF_PLACE = {"Evt3", "Evt4", "Evt13"}
"""PDUs that only an acceptor sends."""

ENDINGS = {
    "Evt8": Ending.REJECTED,
    RELEASE: Ending.RELEASED,
    ABORT: Ending.PROTOCOL_ERROR,
    "Evt16": Ending.ABORTED,
    "Evt17": Ending.CONNECTION_LOST,
    "Evt18": Ending.TIMED_OUT,
    "Evt19": Ending.PROTOCOL_ERROR,
}
"""By the event, where it comes in a state in which it may."""


class WatchedMachine(StateMachine):
    """The state machine of an accepted connection; `ended` is called once, in its thread, after its last instance.

    A connection that closed before it brought a byte was no association, and nothing is said of it.
    """

    def __init__(self, dul: DULServiceProvider, ended: Callable[[Ending], None]) -> None:
        super().__init__(dul)
        self._ended = ended
        self.is_stopping = False
        self.broken_off: Ending | None = None
        """Why we closed the connection ourselves."""
        self.has_received = False
        self.titles = "", ""
        """The called and the calling AE title, "" until they are known."""
        self.unreadable_contexts: tuple[str, ...] = ()
        """The abstract syntaxes of what was proposed and cannot be read."""
        self.ending: Ending | None = None
        self.error: Exception | None = None
        """What pynetdicom raised of what the peer sent."""

    def do_action(self, event: str) -> None:
        """Go on with an event, and tell when it is the end; so is one that pynetdicom cannot go on with."""
        before, ending = self.ending, self._ending_of(event)
        self.ending = before or ending
        try:
            super().do_action(event)
        except Exception as error:  # noqa: BLE001  whatever a peer sends, it ends its own association and no more
            self.error = error
            self.ending = ending = self.ending or self.broken_off or Ending.PROTOCOL_ERROR
            self.dul.kill_dul()
        if before is None and ending is not None:
            self._ended(ending)

    def close(self) -> None:
        """The thread of the association is over, be it by an error that nobody foresaw."""
        if self.ending is None and self.has_received:
            self.ending = self.broken_off or Ending.PROTOCOL_ERROR
            self._ended(self.ending)

    def _ending_of(self, event: str) -> Ending | None:
        state = self.current_state
        if state in IDLE or (event == "Evt17" and state == AWAITING_REQUEST and not self.has_received):
            return None
        misplaced = (
            event in OUT_OF_PLACE
            or (event == REQUESTED and state != AWAITING_REQUEST)
            or (event in (RECEIVED, RELEASE) and state != ESTABLISHED)
        )
        ending = Ending.PROTOCOL_ERROR if misplaced else ENDINGS.get(event)
        if self.broken_off and ending:
            return self.broken_off
        if self.is_stopping and ending not in (None, Ending.RELEASED):
            return Ending.STOPPED
        # pynetdicom aborts where a peer is idle, or speaks of a context that was not accepted
        return Ending.TIMED_OUT if event == ABORT and self.dul.idle_timer_expired() else ending
