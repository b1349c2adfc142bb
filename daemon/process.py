"""This process in the operating system: private files, no core dumps, many sockets, killed last; what systemd hears."""

import os
import resource
import socket
from contextlib import suppress
from pathlib import Path

DESCRIPTORS = 16384
"""Files and sockets at once; thousands of connections may wait at the door (`dicom_io.network.admission`)."""

OOM_SCORE = Path("/proc/self/oom_score_adj")
KILLED_LAST, KILLED_EARLY, KILLED_FIRST = "-900", "500", "1000"
"""For the service, the worker and a background worker: where memory runs out, the kernel ends the highest first."""


def make_files_private() -> None:
    """Make all files that this process writes from now on readable by its user alone (0600, folders 0700)."""
    os.umask(0o077)


def limit_service() -> None:
    """Set the limits of the service; its children inherit them.

    No core dump, which would hold images; as many descriptors as the hard limit allows. The kernel takes a score below
    the present one from a privileged process only: deploy/porta.service sets it for others.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    tell_oom_score(KILLED_LAST)


def tell_oom_score(score: str) -> None:
    """Tell the kernel when to end this process where memory runs out; do nothing on systems that cannot be told."""
    with suppress(OSError):
        OOM_SCORE.write_text(score)


def tell_systemd(*states: str) -> None:
    """Tell the service manager how the service is (sd_notify(3)); do nothing where none asks, by $NOTIFY_SOCKET."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.sendto("\n".join(states).encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)


def refuse_taken_port(host: str, port: int) -> None:
    """Raise OSError where a port cannot be listened on."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
