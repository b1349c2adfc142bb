"""Connections before they are associations: held without a thread until the whole request is here, and judged then.

Whoever can reach the port may open connections and say nothing. Until its A-ASSOCIATE-RQ is complete and admitted, a
connection costs a file descriptor and what it has sent of the request, for REQUEST_S at most; strangers are rejected
and forgotten here, so that they take no place of a peer.
"""

import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from typing import Any, cast

from dicom_io.network.association_request import ASSOCIATE_RQ, ITEMS, titles
from dicom_io.network.endings import Ending

REQUEST_S = 10.0
"""In all, from the connection to the last byte of the request."""
LINGER_S = 1.0
"""How long who was rejected may take to read it before the connection is closed."""

MAXIMUM_CONNECTIONS = 5000
MAXIMUM_OF_HOST = 1000
"""Connections that wait; one more costs the oldest from the same host its place, or from the host that has the most."""

MAXIMUM_REQUEST = 1 << 20
"""Bytes of an A-ASSOCIATE-RQ (128 contexts with every transfer syntax are 250 kB); a stranger may announce 4 GB."""

HEADER = 6
"""Bytes of type and length before each PDU (PS3.8 section 9.3.1)."""

Rejection = tuple[int, int, int]
"""Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 section 9.3.4)."""


def abort_pdu(reason: int) -> bytes:
    """A-ABORT by the service provider (PS3.8 section 9.3.8): 1 an unknown PDU, 2 an unexpected one, 6 a bad value."""
    return struct.pack(">BxL2xBB", 0x07, 4, 2, reason)


def reject_pdu(rejection: Rejection) -> bytes:
    """A-ASSOCIATE-RJ (PS3.8 section 9.3.4)."""
    return struct.pack(">BxLxBBB", 0x03, 4, *rejection)


@dataclass(eq=False)
class _Pending:
    """One connection; `address` as `accept` gave it."""

    connection: socket.socket
    address: Any
    deadline: float
    shakes_hands: bool = False
    """TLS, whose handshake is not over."""
    received: bytearray = field(default_factory=bytearray)

    @property
    def host(self) -> str:
        return str(self.address[0])

    @property
    def missing(self) -> int:
        """Bytes that the request lacks, or its header; 0 for a whole request."""
        if len(self.received) < HEADER:
            return HEADER - len(self.received)
        return HEADER + self.length - len(self.received)

    @property
    def length(self) -> int:
        """What the header announces, in bytes."""
        return int.from_bytes(self.received[2:HEADER], "big")


class Admission:
    """Reads requests in one thread and hands on those that are let in.

    `judge` is given the calling and the called AE title and the address, and returns why not, None to let in. `enter`
    is given the connection, its address and the request, whole and as it came. `ended` is told of connections that
    brought something and came to nothing: why, the titles where they are known, and the address. With `secure`, which
    gives the context of a connection, the request comes over TLS; its handshake has no more time than the request.
    """

    def __init__(
        self,
        *,
        judge: Callable[[str, str, str], Rejection | None],
        enter: Callable[[socket.socket, Any, bytes], None],
        ended: Callable[[Ending, str, str, str], None],
        request_s: float = REQUEST_S,
        secure: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self._judge, self._enter, self._ended = judge, enter, ended
        self._request_s = request_s
        self._secure = secure
        self._new: SimpleQueue[_Pending | None] = SimpleQueue()
        self._wake, self._woken = socket.socketpair()
        self._selector = DefaultSelector()
        self._selector.register(self._woken, EVENT_READ)
        self._reading: dict[socket.socket, _Pending] = {}  # oldest first, as dictionaries are: the order of deadlines
        self._lingering: dict[socket.socket, _Pending] = {}
        self._of_host: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, name="admission", daemon=True)
        self._thread.start()

    def take(self, connection: socket.socket, address: Any) -> None:
        """Hold a new connection until its request is here."""
        connection.setblocking(False)
        if self._secure is not None:
            connection = self._secure().wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        deadline = time.monotonic() + self._request_s
        self._new.put(_Pending(connection, address, deadline, self._secure is not None))
        self._wake.send(b"\0")

    def close(self, timeout_s: float) -> None:
        """Close what waits, and end the thread."""
        self._new.put(None)
        self._wake.send(b"\0")
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select(self._until_next_deadline()):
                if key.fileobj is self._woken:
                    self._woken.recv(4096)
                elif (pending := self._reading.get(key.fileobj)) is not None:  # type: ignore[call-overload]
                    self._read(pending)
                else:
                    self._read_to_the_end(self._lingering[key.fileobj])  # type: ignore[index]
            if not self._take_new():
                break
            self._expire()
        for pending in [*self._reading.values(), *self._lingering.values()]:
            self._drop(pending)
        self._selector.close()
        self._wake.close()
        self._woken.close()

    def _take_new(self) -> bool:
        """Watch what was handed in since; False when it is time to end."""
        with suppress(Empty):
            while (pending := self._new.get_nowait()) is not None:
                self._make_room(pending.host)
                self._reading[pending.connection] = pending
                self._of_host[pending.host] += 1
                self._selector.register(pending.connection, EVENT_READ)
            return False
        return True

    def _make_room(self, host: str) -> None:
        full = len(self._reading) + len(self._lingering) >= MAXIMUM_CONNECTIONS
        if full or self._of_host[host] >= MAXIMUM_OF_HOST:
            crowd = host if self._of_host[host] >= MAXIMUM_OF_HOST else self._of_host.most_common(1)[0][0]
            waiting = (*self._lingering.values(), *self._reading.values())
            self._drop(next(pending for pending in waiting if pending.host == crowd))

    def _until_next_deadline(self) -> float | None:
        first = [next(iter(waiting.values())).deadline for waiting in (self._reading, self._lingering) if waiting]
        return max(0.0, min(first) - time.monotonic()) if first else None

    def _expire(self) -> None:
        now = time.monotonic()
        for waiting in (self._reading, self._lingering):
            for pending in list(waiting.values()):
                if pending.deadline > now:
                    break
                if waiting is self._reading and pending.received:
                    self._tell(Ending.TIMED_OUT, pending)
                self._drop(pending)

    def _read(self, pending: _Pending) -> None:
        """Take what came, and go on with the request once it is whole."""
        try:
            if pending.shakes_hands:
                self._shake_hands(pending)
            part = pending.connection.recv(pending.missing)
        except ssl.SSLWantWriteError:
            self._selector.modify(pending.connection, EVENT_READ | EVENT_WRITE)
            return
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError):
            return
        except (OSError, ValueError):
            part = b""
        pending.received += part
        if not part:
            if pending.received:
                self._tell(Ending.CONNECTION_LOST, pending)
            self._drop(pending)
        elif pending.received[0] != ASSOCIATE_RQ:
            self._break_off(pending, Ending.PROTOCOL_ERROR, reason=2)
        elif len(pending.received) >= HEADER and pending.length > MAXIMUM_REQUEST:
            self._break_off(pending, Ending.TOO_LARGE, reason=6)
        elif len(pending.received) >= HEADER and pending.length < ITEMS - HEADER:
            self._break_off(pending, Ending.PROTOCOL_ERROR, reason=6)
        elif not pending.missing:
            self._go_on(pending)
        elif isinstance(pending.connection, ssl.SSLSocket) and pending.connection.pending():
            self._read(pending)  # what TLS has read already wakes nobody; each call takes the header, or the rest

    def _shake_hands(self, pending: _Pending) -> None:
        """Go on with a TLS handshake. Raises SSLWantReadError, SSLWantWriteError, OSError."""
        cast(ssl.SSLSocket, pending.connection).do_handshake()
        pending.shakes_hands = False
        self._selector.modify(pending.connection, EVENT_READ)

    def _go_on(self, pending: _Pending) -> None:
        """Reject a whole request, or hand it on."""
        request = bytes(pending.received)
        called, calling = titles(request)
        try:
            rejection = self._judge(calling, called, pending.host)
        except Exception:  # noqa: BLE001  # a door that fails stays shut, and the next one is asked all the same
            self._break_off(pending, Ending.PROTOCOL_ERROR, reason=0)
            return
        if rejection is not None:
            self._farewell(pending, reject_pdu(rejection))
            return
        self._forget(pending)
        pending.connection.setblocking(True)
        self._enter(pending.connection, pending.address, request)

    def _break_off(self, pending: _Pending, ending: Ending, *, reason: int) -> None:
        self._tell(ending, pending)
        self._farewell(pending, abort_pdu(reason))

    def _farewell(self, pending: _Pending, pdu: bytes) -> None:
        """Send the last PDU. The peer closes the connection (PS3.8 section 9.2, state 13), or we do after LINGER_S."""
        del self._reading[pending.connection]
        self._lingering[pending.connection] = pending
        pending.deadline = time.monotonic() + LINGER_S
        with suppress(OSError):
            pending.connection.send(pdu)

    def _read_to_the_end(self, pending: _Pending) -> None:
        try:
            if pending.connection.recv(1 << 16):
                return
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            pass
        self._drop(pending)

    def _tell(self, ending: Ending, pending: _Pending) -> None:
        called, calling = titles(bytes(pending.received))
        self._ended(ending, calling, called, pending.host)

    def _forget(self, pending: _Pending) -> None:
        self._selector.unregister(pending.connection)
        self._reading.pop(pending.connection, None)
        self._lingering.pop(pending.connection, None)
        self._of_host[pending.host] -= 1
        if not self._of_host[pending.host]:
            del self._of_host[pending.host]

    def _drop(self, pending: _Pending) -> None:
        self._forget(pending)
        pending.connection.close()
