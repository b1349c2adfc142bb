"""C-MOVE (PS3.4 section C.4.2): an archive sends a series to a port of ours, which is listened on meanwhile."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom.association import Association
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove  # type: ignore[attr-defined]

from dicom_io.errors import PeerError
from dicom_io.network.scp import Caller, Received, start
from dicom_io.network.scu import PENDING, Remote, require, status_of, while_open

MOVE: UID = StudyRootQueryRetrieveInformationModelMove
STOP_S = 5.0
PORT_S, LOOK_S = 10.0, 0.2
"""For how long, and how often, it is looked whether another worker of this machine has let go of the port."""


@dataclass(frozen=True)
class Moving:
    """The destination of a C-MOVE as the archive knows it: its AE title, and where that listens."""

    ae_title: str
    host: str
    port: int


@contextmanager
def listening(moving: Moving, remote: Remote, store: Callable[[Received], int]) -> Iterator[None]:
    """Listen for what an archive sends, and for nobody else. Raises PeerError where the port is not to be had."""
    callers, until = [Caller(remote.ae_title, remote.host)], time.monotonic() + PORT_S
    while True:
        try:
            server = start(ae_title=moving.ae_title, host=moving.host, port=moving.port, callers=callers, store=store)
            break
        except OSError as error:
            if time.monotonic() > until:
                raise PeerError(
                    f"cannot listen on {moving.host}:{moving.port} for a C-MOVE: {error.strerror}"
                ) from error
            threading.Event().wait(LOOK_S)
    try:
        yield
    finally:
        server.shutdown(STOP_S)


def move_series(
    assoc: Association, ae_title: str, study_instance_uid: str, series_instance_uid: str, remote: Remote
) -> None:
    """Have the peer send a series to the AE of this title. Raises PeerUnreachable, ContextNotAccepted, PeerError."""
    wanted = Dataset()
    wanted.QueryRetrieveLevel = "SERIES"
    wanted.StudyInstanceUID = study_instance_uid
    wanted.SeriesInstanceUID = series_instance_uid
    require(assoc, MOVE, remote)
    for response, _ in while_open(assoc, remote).send_c_move(wanted, ae_title, MOVE):
        status = status_of(response, remote)
        if status not in PENDING and status != 0x0000:
            raise PeerError(f"{remote} ended a C-MOVE with status 0x{status:04X}")
