"""What a peer can do for us: its port, C-ECHO, each object that it is to take, and whether it answers C-FIND."""

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.uid import UID, RLELossless
from pynetdicom import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelGet,
    Verification,
)

from dicom_io.errors import PeerUnreachable
from dicom_io.network.scu import FIND, NATIVE, Remote, associated, matches, sent_as, status_of

GET: UID = StudyRootQueryRetrieveInformationModelGet
"""What earlier studies are fetched by."""

NOBODY = "2.25.1"
"""The StudyInstanceUID that a peer is asked for to see whether it answers."""


@dataclass(frozen=True)
class Offer:
    """A SOP class, and the transfer syntaxes of which a peer must take one."""

    sop_class_uid: str
    syntaxes: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of the SOP class."""
        return str(UID(self.sop_class_uid).name)


def uncompressed(sop_class_uid: str) -> Offer:
    """Objects that can be encoded anew in whichever native syntax a peer takes."""
    return Offer(sop_class_uid, tuple(map(str, NATIVE)))


def compressed(sop_class_uid: str) -> Offer:
    """Objects in RLE, which are sent as they are or not at all."""
    return Offer(sop_class_uid, (str(RLELossless),))


@dataclass(frozen=True)
class Echoed:
    """An answered C-ECHO: how long it took, and for each offer the names of the syntaxes that were accepted."""

    seconds: float
    accepted: dict[Offer, tuple[str, ...]]


def connect(remote: Remote, *, timeout_s: float) -> None:
    """Open and close a TCP connection. Raises PeerUnreachable, which says why."""
    try:
        socket.create_connection((remote.host, remote.port), timeout=timeout_s).close()
    except OSError as error:
        raise PeerUnreachable(f"{remote.host}:{remote.port}: {error.strerror or 'no answer'}") from error


def examine(remote: Remote, offers: Sequence[Offer], *, calling_ae_title: str, timeout_s: float) -> Echoed:
    """C-ECHO a peer, and ask which of the offers it takes. Raises PeerUnreachable, AssociationRefused."""
    started = time.monotonic()
    wanted = dict.fromkeys((offer.sop_class_uid, syntax) for offer in offers for syntax in offer.syntaxes)
    # A context is answered with one transfer syntax, so each syntax is proposed in a separate context.
    contexts = [build_context(Verification), *(build_context(*pair) for pair in wanted)]
    with associated(remote, contexts, calling_ae_title, timeout_s) as assoc:
        if sent_as(assoc, Verification):
            status_of(assoc.send_c_echo(), remote)
        there = {uid: sent_as(assoc, uid) for uid, _ in wanted}
    accepted = {
        offer: tuple(syntax.name for syntax in there[offer.sop_class_uid] if syntax in offer.syntaxes)
        for offer in offers
    }
    return Echoed(time.monotonic() - started, accepted)


def ask(remote: Remote, *, calling_ae_title: str, timeout_s: float) -> None:
    """C-FIND a study that there is not: whoever answers can be asked.

    Raises PeerUnreachable, AssociationRefused, ContextNotAccepted, or PeerError when the query fails.
    """
    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    query.StudyInstanceUID = NOBODY
    with associated(remote, [build_context(FIND)], calling_ae_title, timeout_s) as assoc:
        matches(assoc, query, remote)
