"""What keeps two peers from waiting for each other: small messages that are sent, and acknowledged, at once.

A DICOM message goes out in two writes or more: command and data set, or head and body of a PDU. Whoever leaves Nagle's
delay on (DCMTK, and so Orthanc, unless TCP_NODELAY=1 is in the environment) holds the second until the first is
acknowledged, which the other side's system puts off by 40 ms: for each instance, in either direction.
"""

import select
import socket
import ssl


def send_at_once(connection: socket.socket) -> None:
    """Hold nothing back until what went before is acknowledged."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def acknowledge_at_once(connection: socket.socket) -> None:
    """Acknowledge what comes next without delay (Linux). It lasts until something is sent, or a while: say it again."""
    if hasattr(socket, "TCP_QUICKACK"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def wait_readable(connection: socket.socket, seconds: float) -> bool:
    """Whether there is something to read within the time. `poll`, for `select` knows no descriptor beyond 1023.

    Raises OSError, ValueError for a closed socket.
    """
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


MAX_READ = 1 << 18


def has_come(connection: socket.socket, seconds: float, read_ahead: bytearray) -> bool:
    """Whether bytes of a PDU, or the end of the connection, are there within the time.

    What comes over TLS may be none of the peer's bytes (a session ticket), and a read that blocks would wait for more:
    it is read into `read_ahead` without blocking. Raises OSError, ValueError for a closed socket.
    """
    if read_ahead:
        return True
    if not isinstance(connection, ssl.SSLSocket):
        return wait_readable(connection, seconds)
    if not connection.pending() and not wait_readable(connection, seconds):
        return False
    timeout = connection.gettimeout()
    connection.setblocking(False)
    try:
        read_ahead += connection.recv(MAX_READ)
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return False
    finally:
        connection.settimeout(timeout)
    return True
