"""How an accepted connection is read: pynetdicom's acceptor without its polling sleeps and its open-ended waits.

pynetdicom hands a received C-STORE from the thread that reads the socket (the DUL) to the association's thread,
which looks for it once a millisecond, and the DUL itself sleeps between looks at the socket. Here the DUL waits
in `select`, and a C-STORE is served in the thread that read it: it is answered before the next one is read
anyway (no asynchronous operations are negotiated, PS3.7 section D.3.3.3).

Everything else, from the state machine to the messages, is pynetdicom's own.
"""

import select
import socket
from collections.abc import Callable
from queue import Empty, Queue
from typing import Any, cast

from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from dicom_io.network.association_request import ASSOCIATE_RQ, readable, titles
from dicom_io.network.endings import Ending, WatchedMachine
from dicom_io.network.sockets import acknowledge_at_once, send_at_once

WAIT_S = 0.01
"""How long the DUL waits for bytes before it looks whether another thread has something to send (the answer to an
association, a release or a C-ECHO; that to a C-STORE never waits)."""

MAX_ASSOCIATE_PDU = 1 << 20
"""No A-ASSOCIATE-RQ is longer (128 contexts with every transfer syntax are 250 kB); a stranger may announce 4 GB."""

MAX_READ = 1 << 18


class Listener(ThreadedAssociationServer):
    """Accepts connections; `ended` is told how each association of theirs came to its end."""

    ended: Callable[[Association, Ending], None]

    # With the 5 of socketserver, a burst of connections waits for the peers' next SYN: a second and more.
    request_queue_size = 128


class Acceptor(RequestHandler):
    """Makes the association of one incoming connection."""

    def _create_association(self) -> Association:
        # An accepted socket has no timeout of its own: a peer that stalls within a PDU would hold the thread for ever.
        connection: socket.socket = self.request
        connection.settimeout(self.ae.network_timeout)
        send_at_once(connection)
        assoc = super()._create_association()
        assoc.dul.socket = _Socket(assoc, client_socket=connection)
        assoc.dul.event_queue.get_nowait()  # each AssociationSocket announces the connection (Evt5): once is enough
        assoc.dimse.msg_queue = _Inbox(assoc)
        listener = cast(Listener, self.server)
        assoc.dul.state_machine = machine = WatchedMachine(assoc.dul, lambda ending: listener.ended(assoc, ending))
        _read_leniently(assoc.dul, machine)
        # An open association must not keep the process from ending.
        assoc.dul.daemon = True
        return assoc


def _read_leniently(dul: Any, machine: WatchedMachine) -> None:
    """Have the DUL read odd requests too, and close what it leaves open where an error ends its thread."""
    decode, run = dul._decode_pdu, dul.run

    def decode_readable(pdu: bytearray) -> Any:
        if pdu[0] != ASSOCIATE_RQ:
            return decode(pdu)
        machine.titles = titles(bytes(pdu))
        return decode(bytearray(readable(bytes(pdu))))

    def run_and_close() -> None:
        try:
            run()
        finally:
            if isinstance(dul.socket, _Socket) and dul.socket.socket is not None:
                dul.socket.close()
            machine.close()

    dul._decode_pdu = decode_readable
    dul.run = run_and_close


def dismiss_unassociated(event: Event) -> None:
    """End the thread of a connection that closed before it asked for an association (load balancers' probes).

    To be bound to EVT_CONN_CLOSE. pynetdicom would let the thread wait for the ACSE timeout, and count it as
    an association meanwhile (pynetdicom#669).
    """
    if event.assoc.requestor.primitive is None:
        event.assoc.dul.to_user_queue.put(None)  # type: ignore[arg-type]  # what a timeout yields


class _Socket(AssociationSocket):
    """Waits for bytes instead of looking for them, and reads as much as there is."""

    @property
    def ready(self) -> bool:
        """Whether there is something to read; waits up to WAIT_S, unless something is to be sent."""
        waiting_to_be_sent = not self.assoc.dul.to_provider_queue.empty()
        if self.socket is None or not self._is_connected or waiting_to_be_sent:
            return super().ready
        try:
            readable, _, _ = select.select([self.socket], [], [], WAIT_S)
        except (OSError, ValueError):
            self.event_queue.put("Evt17")  # transport connection closed
            return False
        return bool(readable)

    def recv(self, nr_bytes: int) -> bytearray:
        """`nr_bytes` from the peer, or fewer when it closed the connection. Raises OSError."""
        if nr_bytes > MAX_ASSOCIATE_PDU and self.assoc.dul.state_machine.current_state == "Sta2":
            raise OSError("the association request is too long")
        if self.socket is None:
            raise OSError("the connection is closed")
        received = bytearray()
        while len(received) < nr_bytes:
            part = self.socket.recv(min(nr_bytes - len(received), MAX_READ))
            if not part:
                break
            received += part
        if received:
            cast(WatchedMachine, self.assoc.dul.state_machine).has_received = True
        acknowledge_at_once(self.socket)
        return received


class _Inbox(Queue[Any]):
    """The messages for the association's thread, but for C-STORE requests, which are served at once.

    A request without Affected SOP Instance UID is served too; pynetdicom would leave it unanswered.
    """

    def __init__(self, assoc: Association) -> None:
        super().__init__()
        self._assoc = assoc

    def put(self, item: tuple[int | None, Any], block: bool = True, timeout: float | None = None) -> None:
        context_id, message = item
        # Established may still be being said by the other thread: then the message waits for that thread.
        if not (self._assoc.is_established and self._serve(context_id, message)):
            super().put(item, block, timeout)

    def get(self, block: bool = True, timeout: float | None = None) -> tuple[int | None, Any]:
        """The next message. A C-STORE that had to wait is served here: pynetdicom knows no private class."""
        context_id, message = super().get(block, timeout)
        if self._serve(context_id, message):
            raise Empty
        return context_id, message

    def _serve(self, context_id: int | None, message: Any) -> bool:
        """Answer a C-STORE request on an accepted context; False where the message is none."""
        context = self._assoc._accepted_cx.get(context_id) if context_id is not None else None
        if not isinstance(message, C_STORE) or context is None:
            return False
        StorageServiceClass(self._assoc).SCP(message, context)
        return True
