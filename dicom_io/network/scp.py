"""The Storage and Verification SCP (PS3.4 annexes A and B). It admits, receives and answers; it stores nothing itself.

What to answer to an instance is said by the `store` it is given: the status of the C-STORE response is the return
value, and the instance is acknowledged only when that returned.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from socket import gaierror, getaddrinfo
from typing import cast
from uuid import uuid4

from pydicom.uid import UID
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import create_file_meta, encode_file_meta
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import ThreadedAssociationServer

from dicom_io.errors import InvalidUID
from dicom_io.network.acceptor import Acceptor, Listener, dismiss_unassociated
from dicom_io.network.endings import Ending, WatchedMachine
from dicom_io.network.storage_classes import negotiable, prepare
from dicom_io.uids import checked_uid

POLL_S = 0.1
"""How long a shutdown waits for the listener to notice."""

GARBAGE_COLLECTION_S = 30
"""pynetdicom collects its ended associations, which lie in cycles, every so many polls."""


@dataclass(frozen=True)
class Caller:
    """A peer that may associate with us: its AE title and, where given, the host (name or address) it calls from."""

    ae_title: str
    host: str | None = None


@dataclass(frozen=True)
class Received:
    """One instance of a C-STORE request; `data` is its data set as it came over the wire.

    The UIDs are those of the request, unchecked and possibly empty; the transfer syntax is the accepted
    presentation context's.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    calling_ae_title: str
    calling_host: str
    association_id: str
    data: bytes

    def part10(self) -> bytes:
        """The instance as a file (PS3.10 section 7.1): preamble, file meta information, and `data` untouched."""
        meta = create_file_meta(
            sop_class_uid=UID(self.sop_class_uid),
            sop_instance_uid=UID(self.sop_instance_uid),
            transfer_syntax=UID(self.transfer_syntax_uid),
        )
        meta.SourceApplicationEntityTitle = self.calling_ae_title
        return b"".join((bytes(128), b"DICM", encode_file_meta(meta), self.data))


class Refusal(StrEnum):
    """Why an association was rejected."""

    CALLING_AE_TITLE = "CALLING_AE_TITLE"
    CALLING_HOST = "CALLING_HOST"
    CALLED_AE_TITLE = "CALLED_AE_TITLE"
    LOCAL_LIMIT = "LOCAL_LIMIT"


REJECTIONS: dict[Refusal, tuple[int, int, int]] = {
    Refusal.CALLING_AE_TITLE: (1, 1, 3),
    Refusal.CALLING_HOST: (1, 1, 3),
    Refusal.CALLED_AE_TITLE: (1, 1, 7),
    Refusal.LOCAL_LIMIT: (2, 3, 2),
}
"""Result, source and reason of the A-ASSOCIATE-RJ (PS3.8 section 9.3.4)."""


@dataclass(frozen=True)
class Refused:
    """An association that was rejected, for the log."""

    reason: Refusal
    calling_ae_title: str
    called_ae_title: str
    calling_host: str


@dataclass(frozen=True)
class Ended:
    """An association that is over. `association_id` is that of its instances, None where it brought none.

    `broke_off` says that it ended within an instance or after some, and not by a release: more was to come.
    """

    ending: Ending
    calling_ae_title: str
    called_ae_title: str
    calling_host: str
    association_id: str | None = None
    broke_off: bool = False


@dataclass(frozen=True)
class ContextsRefused:
    """What a peer proposed and was not accepted: abstract syntaxes, "" for what is no UID."""

    calling_ae_title: str
    called_ae_title: str
    calling_host: str
    abstract_syntaxes: tuple[str, ...]


class Server:
    """A listening SCP. Made by `start`."""

    def __init__(self, listener: ThreadedAssociationServer) -> None:
        self._listener = listener
        self._thread = threading.Thread(target=listener.serve_forever, args=(POLL_S,), name="storage-scp", daemon=True)
        self._thread.start()
        self._is_open = True

    @property
    def port(self) -> int:
        """The port that is listened on, also when any free one was asked for."""
        return int(self._listener.server_address[1])

    def shutdown(self, timeout_s: float) -> None:
        """Stop listening, abort what is open, and wait for it to end, at most `timeout_s`.

        An instance that is being stored is stored to its end, but may go unanswered: its sender sends it again.
        """
        deadline = time.monotonic() + timeout_s
        if self._is_open:
            self._is_open = False
            self._listener.shutdown()
        open_associations = self._listener.active_associations
        for assoc in open_associations:
            _machine(assoc).is_stopping = True
            # An abort returns when the association has ended, however long its `store` takes.
            threading.Thread(target=assoc.abort, daemon=True).start()
        for thread in (self._thread, *open_associations):
            thread.join(max(0.0, deadline - time.monotonic()))


def start(
    *,
    ae_title: str,
    host: str,
    port: int,
    callers: Sequence[Caller],
    store: Callable[[Received], int],
    ended: Callable[[Ended], None] = lambda ended: None,
    refused: Callable[[Refused], None] = lambda refused: None,
    contexts_refused: Callable[[ContextsRefused], None] = lambda refused: None,
    maximum_associations: int = 25,
    maximum_pdu: int = 131072,
    network_timeout_s: float = 60.0,
    acse_timeout_s: float = 30.0,
) -> Server:
    """Listen on `host`:`port` (0: any free port) as `ae_title`, and admit `callers`; an empty list admits nobody.

    `store` is called in the thread of the association, one instance of it at a time, and returns the status to
    answer (PS3.4 table B.2-1); should it raise, the answer is 0xC211. `ended` is called for each association that
    was let in, or could not be read, when it is over; `refused` for each that was rejected; `contexts_refused` for
    each of which a context was. `maximum_pdu` is in bytes, 0 for no limit.

    Raises OSError when the address cannot be listened on.
    """
    ae = AE(ae_title)
    ae.maximum_associations = maximum_associations
    ae.maximum_pdu_size = maximum_pdu
    ae.network_timeout = network_timeout_s
    ae.acse_timeout = acse_timeout_s
    prepare()
    reception = _Reception(_Door(ae_title.strip(), callers), store, ended, refused, contexts_refused)
    server = ae.make_server(
        (host, port),
        contexts=[build_context(Verification)],  # of no account: `_admit` says what is offered
        evt_handlers=reception.handlers(),
        server_class=Listener,
        request_handler=Acceptor,
    )
    cast(Listener, server).ended = reception.end
    ae._servers.append(server)  # where its shutdown() takes it out again
    server._gc = [0, round(GARBAGE_COLLECTION_S / POLL_S)]
    return Server(server)


class _Door:
    """Who comes in."""

    def __init__(self, ae_title: str, callers: Sequence[Caller]) -> None:
        self._ae_title = ae_title
        self._callers = [Caller(caller.ae_title.strip(), caller.host) for caller in callers]
        self._addresses = {caller.host: _addresses(caller.host) for caller in callers if caller.host}

    def refusal(self, calling_ae_title: str, called_ae_title: str, address: str) -> Refusal | None:
        """Why the caller is not let in; None when it is."""
        known = [caller for caller in self._callers if caller.ae_title == calling_ae_title.strip()]
        if not known:
            return Refusal.CALLING_AE_TITLE
        if not any(caller.host is None or self._is_at(caller.host, address) for caller in known):
            return Refusal.CALLING_HOST
        if called_ae_title.strip() != self._ae_title:
            return Refusal.CALLED_AE_TITLE
        return None

    def _is_at(self, host: str, address: str) -> bool:
        if not self._addresses[host]:  # the name service may not have been up when we started
            self._addresses[host] = _addresses(host)
        return _canonical(address) in self._addresses[host]


class _Reception:
    """Turns the events of associations into the calls that `start` was given."""

    def __init__(
        self,
        door: _Door,
        store: Callable[[Received], int],
        ended: Callable[[Ended], None],
        refused: Callable[[Refused], None],
        contexts_refused: Callable[[ContextsRefused], None],
    ) -> None:
        self._door = door
        self._store = store
        self._ended = ended
        self._refused = refused
        self._contexts_refused = contexts_refused
        self._lock = threading.Lock()
        self._ids: dict[Association, str] = {}
        """The associations that have brought an instance."""

    def handlers(self) -> list[EventHandlerType]:
        return [
            (evt.EVT_REQUESTED, self._admit),
            (evt.EVT_REJECTED, self._over_limit),
            (evt.EVT_ACCEPTED, self._tell_refused_contexts),
            (evt.EVT_C_ECHO, lambda event: 0x0000),
            (evt.EVT_C_STORE, self._receive),
            (evt.EVT_CONN_CLOSE, dismiss_unassociated),
        ]

    def _admit(self, event: Event) -> None:
        """Reject who may not come in. pynetdicom negotiates with those that this leaves alone."""
        assoc = event.assoc
        # pynetdicom swallows what a handler raises: until the door has answered, nobody is let in.
        assoc.is_rejected = True
        caller = _caller(assoc)
        reason = self._door.refusal(*caller)
        if reason is None:
            request = cast(A_ASSOCIATE, assoc.requestor.primitive)
            assoc.acceptor.supported_contexts = negotiable(request.presentation_context_definition_list)
            assoc.is_rejected = False
            return
        assoc.acse.send_reject(*REJECTIONS[reason])
        assoc.kill()
        self._refused(Refused(reason, *caller))

    def _over_limit(self, event: Event) -> None:
        """pynetdicom itself rejects for one reason only, as no AE titles are required of it."""
        self._refused(Refused(Refusal.LOCAL_LIMIT, *_caller(event.assoc)))

    def _receive(self, event: Event) -> int:
        request, assoc = cast(C_STORE, event.request), event.assoc
        with self._lock:
            association_id = self._ids.setdefault(assoc, str(uuid4()))
        calling_ae_title, _, address = _caller(assoc)
        return self._store(
            Received(
                sop_class_uid=str(request.AffectedSOPClassUID or event.context.abstract_syntax),
                sop_instance_uid=str(request.AffectedSOPInstanceUID or ""),
                transfer_syntax_uid=str(event.context.transfer_syntax),
                calling_ae_title=calling_ae_title,
                calling_host=address,
                association_id=association_id,
                data=request.DataSet.getvalue() if request.DataSet else b"",
            )
        )

    def _tell_refused_contexts(self, event: Event) -> None:
        if refused := event.assoc.rejected_contexts:
            uids = dict.fromkeys(_uid_or_nothing(context.abstract_syntax) for context in refused)
            self._contexts_refused(ContextsRefused(*_caller(event.assoc), tuple(uids)))

    def end(self, assoc: Association, ending: Ending) -> None:
        """No instance of an association comes any more."""
        with self._lock:
            association_id = self._ids.pop(assoc, None)
        if ending != Ending.REJECTED:
            within = association_id is not None or assoc.dimse.message is not None
            self._ended(Ended(ending, *_caller(assoc), association_id, within and ending != Ending.RELEASED))


def _machine(assoc: Association) -> WatchedMachine:
    return cast(WatchedMachine, assoc.dul.state_machine)


def _caller(assoc: Association) -> tuple[str, str, str]:
    """Calling and called AE title of the A-ASSOCIATE-RQ, "" where it did not come, and the peer's address."""
    called, calling = _machine(assoc).titles
    return calling, called, assoc.requestor.address


def _uid_or_nothing(value: object) -> str:
    try:
        return checked_uid(str(value))
    except InvalidUID:
        return ""


def _addresses(host: str) -> frozenset[str]:
    """What a host name or address stands for; empty when it cannot be resolved."""
    try:
        return frozenset(_canonical(str(entry[4][0])) for entry in getaddrinfo(host, None))
    except (gaierror, UnicodeError):
        return frozenset()


def _canonical(address: str) -> str:
    """One spelling for an address: IPv4 out of IPv6, no zone, and one name for this machine itself."""
    ip = ip_address(address.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return "loopback" if ip.is_loopback else str(ip)
