"""What keeps two peers from waiting for each other: small messages that are sent, and acknowledged, at once.

A DICOM message goes out in two writes or more: command and data set, or head and body of a PDU. Whoever leaves Nagle's
delay on (DCMTK, and so Orthanc, unless TCP_NODELAY=1 is in the environment) holds the second until the first is
acknowledged, which the other side's system puts off by 40 ms: for each instance, in either direction.
"""

import socket


def send_at_once(connection: socket.socket) -> None:
    """Hold nothing back until what went before is acknowledged."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def acknowledge_at_once(connection: socket.socket) -> None:
    """Acknowledge what comes next without delay (Linux). It lasts until something is sent, or a while: say it again."""
    if hasattr(socket, "TCP_QUICKACK"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
