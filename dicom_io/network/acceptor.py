"""How an accepted connection is read: pynetdicom's acceptor without its polling sleeps and its open-ended waits.

pynetdicom hands a received C-STORE from the thread that reads the socket (the DUL) to the association's thread,
which looks for it once a millisecond, and the DUL itself sleeps between looks at the socket. Here the DUL waits
in `select`, and a C-STORE is served in the thread that read it: it is answered before the next one is read
anyway (no asynchronous operations are negotiated, PS3.7 section D.3.3.3).

Everything else, from the state machine to the messages, is pynetdicom's own.
"""

import math
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from queue import Empty, Queue
from typing import Any, NoReturn, Protocol, cast

from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from dicom_io.network.admission import HEADER, Admission, abort_pdu
from dicom_io.network.association_request import ASSOCIATE_RQ, readable, titles, unreadable_contexts
from dicom_io.network.endings import Ending, WatchedMachine
from dicom_io.network.sockets import MAX_READ, acknowledge_at_once, has_come, send_at_once
from dicom_io.pace import Pace

WAIT_S = 0.01
"""How long the DUL waits for bytes before it looks whether another thread has something to send (the answer to an
association, a release or a C-ECHO; that to a C-STORE never waits)."""

LEAST_RATE = 16384
"""Bytes a second below which a PDU or an instance counts as stalled, once the network timeout is over. In total:
a byte now and then would keep an idle timer from ever expiring."""

MAXIMUM_COMMAND = 1 << 16
"""Bytes of a command set: a few UIDs and titles (PS3.7 section 9.3)."""


class Sink(Protocol):
    """Takes a file (PS3.10) piece by piece, as its data set comes in; whatever it cannot do, it says later."""

    def write(self, piece: bytes) -> object:
        """Append."""

    def discard(self) -> object:
        """Forget what came, for no more will."""


class Listener(ThreadedAssociationServer):
    """Accepts connections, and makes associations of those that `admission` lets in.

    `ended` is told how each association came to its end.
    """

    admission: Admission
    ended: Callable[[Association, Ending], None]
    begin: Callable[[Association, DIMSEMessage], Sink | None]
    """Returns where the data set of a C-STORE request goes that begins to come; None: it is kept in memory."""
    limits_of: Callable[[Association], tuple[int, Pace | None]]
    """Returns the bytes of a data set at most, and how fast they may come."""
    requests: dict[socket.socket, bytes]
    """The A-ASSOCIATE-RQ of each connection that was let in, until its association reads it."""

    # Beyond it a burst of connections waits for the peers' next SYN: a second and more. The system may allow fewer.
    request_queue_size = 4096

    def process_request(self, request: Any, client_address: Any) -> None:
        """Let a new connection wait until its request is here."""
        self.admission.take(request, client_address)

    def enter(self, connection: socket.socket, address: Any, request: bytes) -> None:
        """Make the association of a connection that was let in."""
        self.requests[connection] = request
        super().process_request(connection, address)


class Acceptor(RequestHandler):
    """Makes the association of one incoming connection."""

    def _create_association(self) -> Association:
        # An accepted socket has no timeout: a peer that stalls within a PDU would hold the thread for ever.
        connection: socket.socket = self.request
        connection.settimeout(self.ae.network_timeout)
        send_at_once(connection)
        assoc = super()._create_association()
        listener = cast(Listener, self.server)
        assoc.dul.socket = _Socket(assoc, client_socket=connection)
        assoc.dul.socket.read_ahead = bytearray(listener.requests.pop(connection))
        assoc.dul.event_queue.get_nowait()  # each AssociationSocket announces the connection (Evt5): once is enough
        assoc.dimse.msg_queue = inbox = _Inbox(assoc)
        _bound_messages(assoc, listener, inbox)

        def end(ending: Ending) -> None:
            _forget_unfinished(assoc)
            listener.ended(assoc, ending)

        assoc.dul.state_machine = machine = WatchedMachine(assoc.dul, end)
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
        if not any(machine.titles):  # a second request, which is an error, is none of another peer
            machine.titles = titles(bytes(pdu))
            machine.unreadable_contexts = unreadable_contexts(bytes(pdu))
        return decode(bytearray(readable(bytes(pdu))))

    def run_and_close() -> None:
        try:
            run()
        finally:
            if isinstance(dul.socket, _Socket) and dul.socket.socket is not None:
                dul.socket.close()
            machine.close()
            dul.to_user_queue.put(None)  # who waits for a request, which will not come, need not wait until the timeout

    dul._decode_pdu = decode_readable
    dul.run = run_and_close


class _Socket(AssociationSocket):
    """Waits for bytes instead of looking for them, and reads as much as there is, in bounded time and size."""

    read_ahead: bytearray
    """What was read before the association was made."""

    @property
    def ready(self) -> bool:
        """Whether there is something to read; waits up to WAIT_S, unless something is to be sent."""
        if self.socket is None or not self._is_connected:
            return False
        waiting_to_be_sent = not self.assoc.dul.to_provider_queue.empty()
        try:
            return has_come(self.socket, 0.0 if waiting_to_be_sent else WAIT_S, self.read_ahead)
        except (OSError, ValueError):
            self.event_queue.put("Evt17")  # transport connection closed
            return False

    def recv(self, nr_bytes: int) -> bytearray:
        """`nr_bytes` from the peer, or fewer when it closed the connection. Raises OSError."""
        if self.socket is None:
            raise OSError("the connection is closed")
        received, self.read_ahead = self.read_ahead[:nr_bytes], self.read_ahead[nr_bytes:]
        machine = cast(WatchedMachine, self.assoc.dul.state_machine)
        machine.has_received = True
        agreed = self.assoc.acceptor.maximum_length or nr_bytes
        if not received and nr_bytes > max(agreed, HEADER):
            self.break_off(Ending.TOO_LARGE)
        deadline = time.monotonic() + (self.assoc.network_timeout or math.inf) + nr_bytes / LEAST_RATE
        while len(received) < nr_bytes:
            part = self.socket.recv(min(nr_bytes - len(received), MAX_READ))
            if not part:
                break
            received += part
            if time.monotonic() > deadline:
                self.break_off(Ending.TIMED_OUT)
        acknowledge_at_once(self.socket)
        return received

    def break_off(self, ending: Ending) -> NoReturn:
        """Abort, for what the peer does takes too much room or time. Raises OSError."""
        machine = cast(WatchedMachine, self.assoc.dul.state_machine)
        machine.broken_off = ending
        if self.socket is not None:
            with suppress(OSError):
                self.socket.send(abort_pdu(6))
        raise OSError(str(ending))


def _bound_messages(assoc: Association, listener: Listener, inbox: "_Inbox") -> None:
    """Have each message of a peer end in bounded size and time, and its data set go where `listener.begin` says."""
    receive = assoc.dimse.receive_primitive
    limits: list[tuple[int, Pace | None]] = []

    def receive_bounded(primitive: P_DATA) -> None:
        if assoc.dimse.message is None:
            assoc.dimse.message = inbox.message = message = DIMSEMessage()
            message.encoded_command_set = _Bounded(assoc, MAXIMUM_COMMAND)
            if not limits:  # it is known now who calls
                limits.append(listener.limits_of(assoc))
            message.data_set = DataSet(assoc, listener, message, limits[0])
        receive(primitive)

    assoc.dimse.receive_primitive = receive_bounded  # type: ignore[method-assign]


def _forget_unfinished(assoc: Association) -> None:
    """Give up the data set of which no more comes."""
    message = assoc.dimse.message
    if message is not None and isinstance(message.data_set, DataSet):
        message.data_set.discard()


def _abort(assoc: Association, ending: Ending) -> None:
    """End an association by an abort and a closed connection."""
    connection = cast(_Socket, assoc.dul.socket)
    with suppress(OSError):
        connection.break_off(ending)
    connection.close()


class _Bounded(BytesIO):
    """The received part of a command or data set; its association is aborted when it grows too large or too slowly."""

    def __init__(self, assoc: Association, limit: int) -> None:
        super().__init__()
        self._assoc, self._limit = assoc, limit
        self._size = 0
        self._begun = time.monotonic()

    def write(self, fragment: Any) -> int:
        """Append a fragment, or abort and forget it."""
        self._size += len(fragment)
        longest = (self._assoc.network_timeout or math.inf) + self._size / LEAST_RATE
        if self._size > self._limit:
            self._abort(Ending.TOO_LARGE)
        elif time.monotonic() - self._begun > longest:
            self._abort(Ending.TIMED_OUT)
        else:
            self._append(fragment)
        return len(fragment)

    def _append(self, fragment: Any) -> None:
        super().write(fragment)

    def _abort(self, ending: Ending) -> None:
        _abort(self._assoc, ending)


class DataSet(_Bounded):
    """The data set of one message; that of a C-STORE goes to a sink as it comes, where there are sinks."""

    def __init__(
        self, assoc: Association, listener: Listener, message: DIMSEMessage, limits: tuple[int, Pace | None]
    ) -> None:
        limit, self._pace = limits
        super().__init__(assoc, limit)
        self._begin, self._message = listener.begin, message
        self.sink: Sink | None = None

    def discard(self) -> None:
        """Forget what came."""
        if self.sink is not None:
            self.sink.discard()

    def _append(self, fragment: Any) -> None:
        if self._pace is not None:  # what waits is the peer, whose bytes are not read meanwhile
            self._begun += self._pace(len(fragment))
        if self.sink is not None:
            self.sink.write(fragment)
        elif not isinstance(self._message, C_STORE_RQ):
            # No other message that is served has one; and none comes before its command
            if type(self._message) is DIMSEMessage:
                self._abort(Ending.PROTOCOL_ERROR)
            elif self._size > MAXIMUM_COMMAND:
                self._abort(Ending.TOO_LARGE)
            else:
                super()._append(fragment)
        elif self._message.context_id not in self._assoc._accepted_cx:
            self._abort(Ending.PROTOCOL_ERROR)
        else:
            self.sink = self._begin(self._assoc, self._message)
            super()._append(fragment) if self.sink is None else self.sink.write(fragment)

    def _abort(self, ending: Ending) -> None:
        self.discard()
        super()._abort(ending)


class _Inbox(Queue[Any]):
    """The messages for the association's thread, but for C-STORE requests, which are served at once.

    A request without Affected SOP Instance UID is served too; pynetdicom would leave it unanswered.
    """

    def __init__(self, assoc: Association) -> None:
        super().__init__()
        self._assoc = assoc
        self.message: DIMSEMessage | None = None
        """That which comes, or came last."""

    def put(self, item: tuple[int | None, Any], block: bool = True, timeout: float | None = None) -> None:
        context_id, message = item
        if message is not None and type(self.message).__name__.endswith("_RSP"):
            _abort(self._assoc, Ending.UNASKED_RESPONSE)
            return
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
        """Answer a C-STORE request on an accepted context; False where the message is none.

        Meanwhile the association's thread waits: it would look a hundred times a second whether there is something to
        do, and end the association as idle where it is we who take long.
        """
        context = self._assoc._accepted_cx.get(context_id) if context_id is not None else None
        if not isinstance(message, C_STORE) or context is None:
            return False
        self._assoc._reactor_checkpoint.clear()
        try:
            StorageServiceClass(self._assoc).SCP(message, context)
        finally:
            self._assoc.dul._idle_timer.restart()
            self._assoc._reactor_checkpoint.set()
        return True
