"""The Storage and Verification SCP (PS3.4 annexes A and B). It admits, receives and answers; it stores nothing itself.

What to answer to an instance is said by the `store` it is given: the status of the C-STORE response is the return
value, and the instance is acknowledged only when that returned.
"""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from ipaddress import ip_address, ip_network
from socket import gaierror, getaddrinfo
from ssl import SSLContext
from typing import cast
from uuid import uuid4

from pydicom.uid import UID
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import create_file_meta, encode_file_meta
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dicom_io.errors import InvalidUID
from dicom_io.files import values
from dicom_io.files.uids import checked_uid
from dicom_io.network.acceptor import Acceptor, DataSet, Listener, Sink
from dicom_io.network.admission import REQUEST_S, Admission, Rejection
from dicom_io.network.commitment import SUCCESS, Report, answer
from dicom_io.network.endings import Ending, WatchedMachine
from dicom_io.network.storage_classes import negotiable, prepare
from dicom_io.pace import Pace

POLL_S = 0.1
"""How long a shutdown waits for the listener to notice."""

GARBAGE_COLLECTION_S = 30
"""pynetdicom collects its ended associations, which lie in cycles, every so many polls."""


@dataclass(frozen=True)
class Caller:
    """A peer that may associate with us: its AE title and, where given, the host (name or address) it calls from."""

    ae_title: str
    host: str | None = None
    maximum_associations: int | None = None
    """At once, of this caller; None: as many as there are of all."""
    may_store: bool = True
    may_report: bool = False
    """May say what has become of our requests for storage commitment."""
    networks: tuple[str, ...] = ()
    """Where it calls from, besides `host`; neither: anywhere."""
    maximum_instance: int | None = None
    """Bytes of a data set; None: as for all."""
    bandwidth_mbit: float | None = None
    """How fast it may send, all of its associations together."""


@dataclass(frozen=True)
class Received:
    """One instance of a C-STORE request; `data` is its data set as it came over the wire.

    The UIDs are those of the request, unchecked and possibly empty; the transfer syntax is the accepted
    presentation context's. Where there are sinks, `sink` holds the whole file, and `data` is empty.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    calling_ae_title: str
    calling_host: str
    association_id: str
    data: bytes
    sink: Sink | None = None

    def part10(self) -> bytes:
        """The instance as a file: its head, and `data` untouched."""
        return self.head() + self.data

    def head(self) -> bytes:
        """What stands before the data set in a file (PS3.10 section 7.1): preamble and file meta information."""
        meta = create_file_meta(
            sop_class_uid=UID(self.sop_class_uid),
            sop_instance_uid=UID(self.sop_instance_uid),
            transfer_syntax=UID(self.transfer_syntax_uid),
        )
        meta.SourceApplicationEntityTitle = self.calling_ae_title
        return b"".join((bytes(128), b"DICM", encode_file_meta(meta)))


class Refusal(StrEnum):
    """Why an association was rejected."""

    CALLING_AE_TITLE = "CALLING_AE_TITLE"
    CALLING_HOST = "CALLING_HOST"
    CALLED_AE_TITLE = "CALLED_AE_TITLE"
    LOCAL_LIMIT = "LOCAL_LIMIT"


REJECTIONS: dict[Refusal, Rejection] = {
    Refusal.CALLING_AE_TITLE: (1, 1, 3),
    Refusal.CALLING_HOST: (1, 1, 3),
    Refusal.CALLED_AE_TITLE: (1, 1, 7),
    Refusal.LOCAL_LIMIT: (2, 3, 2),
}
"""Result, source and reason of the A-ASSOCIATE-RJ (PS3.8 section 9.3.4), for a caller at its own host."""

TO_STRANGERS: Rejection = (1, 1, 3)
"""The one answer to whoever is not known by the host: another would tell which calling AE titles there are."""


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

    `broke_off` says that it ended within an instance or after some, and not by a release: more was to come. `error` is
    what reading it raised, where it could not be read.
    """

    ending: Ending
    calling_ae_title: str
    called_ae_title: str
    calling_host: str
    association_id: str | None = None
    broke_off: bool = False
    error: Exception | None = None


@dataclass(frozen=True)
class ContextsRefused:
    """What a peer proposed and was not accepted or could not be read: abstract syntaxes, "" for what is no UID."""

    calling_ae_title: str
    called_ae_title: str
    calling_host: str
    abstract_syntaxes: tuple[str, ...]


class Server:
    """A listening SCP. Made by `start`."""

    def __init__(self, listener: Listener, door: "_Door") -> None:
        self._listener = listener
        self._door = door
        self._thread = threading.Thread(target=listener.serve_forever, args=(POLL_S,), name="storage-scp", daemon=True)
        self._thread.start()
        self._is_listening = self._admits = True

    def admit(self, callers: Sequence[Caller], *, ae_title: str) -> None:
        """Admit these callers, and no others, under this title from now on; associations that are open go on."""
        self._door.admit(callers, ae_title=ae_title)

    def retire(self) -> None:
        """Stop listening; associations that are open go on, and so do requests that are coming in."""
        if self._is_listening:
            self._is_listening = False
            self._listener.shutdown()

    @property
    def port(self) -> int:
        """The port that is listened on, also when any free one was asked for."""
        return int(self._listener.server_address[1])

    def shutdown(self, timeout_s: float) -> None:
        """Stop listening, abort what is open, and wait for it to end, at most `timeout_s`.

        An instance that is being stored is stored to its end, but may go unanswered: its sender sends it again.
        """
        deadline = time.monotonic() + timeout_s
        self.retire()
        if self._admits:
            self._admits = False
            self._listener.admission.close(timeout_s)
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
    sinks: Callable[[], Sink] | None = None,
    reported: Callable[[str, Report], int] = lambda calling_ae_title, report: SUCCESS,
    maximum_associations: int = 25,
    maximum_pdu: int = 131072,
    maximum_instance: int = 1 << 31,
    network_timeout_s: float = 60.0,
    acse_timeout_s: float = 30.0,
    secure: Callable[[], SSLContext] | None = None,
) -> Server:
    """Listen on `host`:`port` (0: any free port) as `ae_title`, and admit `callers`; an empty list admits nobody.

    `store` is called in the thread of the association, one instance of it at a time, and returns the status to
    answer (PS3.4 table B.2-1); should it raise, the answer is 0xC211. `ended` is called for each association that
    was let in, or could not be read, when it is over; `refused` for each that was rejected; `contexts_refused` for
    each of which a context was. `sinks` gives a sink for each data set, which takes the whole file as it comes; `store`
    has to discard it, which is done here where the data set does not come to its end; without `sinks` data sets are
    kept in memory. `reported` is given the calling AE title and its report of a storage commitment, and returns the
    status to answer. `maximum_associations` counts those of callers that were let in, at once; a caller that
    has none open is let in all the same. `maximum_pdu` and `maximum_instance` (a data set) are in bytes, 0 for no
    limit of PDUs; who sends more is aborted. `secure` gives the context of a new connection where the port speaks TLS.

    Raises OSError when the address cannot be listened on.
    """
    ae = AE(ae_title)
    ae.maximum_associations = sys.maxsize  # pynetdicom counts threads; the door counts callers
    ae.maximum_pdu_size = maximum_pdu
    ae.network_timeout = network_timeout_s
    ae.acse_timeout = acse_timeout_s
    prepare()
    door = _Door(ae_title, callers, maximum_associations)
    reception = _Reception(
        door=door,
        store=store,
        sinks=sinks,
        reported=reported,
        ended=ended,
        refused=refused,
        contexts_refused=contexts_refused,
    )
    server = ae.make_server(
        (host, port),
        contexts=[build_context(Verification)],  # of no account: `_admit` says what is offered
        evt_handlers=reception.handlers(),
        server_class=Listener,
        request_handler=Acceptor,
    )
    listener = cast(Listener, server)
    listener.ended = reception.end
    listener.begin = reception.begin
    listener.limits_of = partial(reception.limits_of, maximum_instance)
    listener.requests = {}
    listener.admission = Admission(
        judge=reception.judge,
        enter=listener.enter,
        ended=lambda ending, *caller: ended(Ended(ending, *caller)),
        request_s=min(REQUEST_S, acse_timeout_s),
        secure=secure,
    )
    ae._servers.append(server)  # where its shutdown() takes it out again
    server._gc = [0, round(GARBAGE_COLLECTION_S / POLL_S)]
    return Server(listener, door)


def judge(
    callers: Sequence[Caller], ae_title: str, calling_ae_title: str, called_ae_title: str, address: str
) -> Refusal | None:
    """Return why somebody would not be let in who calls `ae_title`, with nobody inside; None: would be."""
    refusal = _Door(ae_title, callers, 1).enter(calling_ae_title, called_ae_title, address)
    return refusal and refusal[0]


class _Door:
    """Who comes in, and how many at once. It never waits, not for a name service either."""

    def __init__(self, ae_title: str, callers: Sequence[Caller], maximum_associations: int) -> None:
        self._addresses: dict[str, frozenset[str]] = {}
        self.admit(callers, ae_title=ae_title)
        self._resolving: set[str] = set()
        self._maximum = maximum_associations
        self._lock = threading.Lock()
        self._paces: dict[tuple[str, float], Pace] = {}
        self._inside: Counter[str] = Counter()
        """Associations by their calling AE title."""

    def admit(self, callers: Sequence[Caller], *, ae_title: str) -> None:
        """Let these in from now on, under this called AE title; who is inside stays."""
        # Whoever is judged at this moment may still be looked for at a host that these do not have
        self._addresses = self._addresses | {caller.host: _addresses(caller.host) for caller in callers if caller.host}
        self._callers = [replace(caller, ae_title=caller.ae_title.strip()) for caller in callers]
        self._ae_title = ae_title.strip()

    def enter(self, calling_ae_title: str, called_ae_title: str, address: str) -> tuple[Refusal, Rejection] | None:
        """Give the caller a place; or why it gets none, and what it is told."""
        title = calling_ae_title.strip()
        if not any(caller.ae_title == title for caller in self._callers):
            return Refusal.CALLING_AE_TITLE, TO_STRANGERS
        here = self.known(title, address)
        if not here:
            return Refusal.CALLING_HOST, TO_STRANGERS
        if called_ae_title.strip() != self._ae_title:
            is_at_home = any(caller.host or caller.networks for caller in here)
            return Refusal.CALLED_AE_TITLE, REJECTIONS[Refusal.CALLED_AE_TITLE] if is_at_home else TO_STRANGERS
        own = max(caller.maximum_associations or self._maximum for caller in here)
        with self._lock:
            count = self._inside[title]
            if count >= own or (count and self._inside.total() >= self._maximum):
                return Refusal.LOCAL_LIMIT, REJECTIONS[Refusal.LOCAL_LIMIT]
            self._inside[title] += 1
        return None

    def known(self, calling_ae_title: str, address: str) -> list[Caller]:
        """Return the callers that this may be."""
        title = calling_ae_title.strip()
        known = [caller for caller in self._callers if caller.ae_title == title]
        return [caller for caller in known if self._calls_from(caller, address)]

    def pace_of(self, callers: Sequence[Caller]) -> Pace | None:
        """Return the pace that these share with all who call themselves so; None where one of them has none."""
        rates = [caller.bandwidth_mbit for caller in callers]
        if not rates or None in rates:
            return None
        key = callers[0].ae_title, max(filter(None, rates))
        with self._lock:
            return self._paces.setdefault(key, Pace(key[1]))

    def _calls_from(self, caller: Caller, address: str) -> bool:
        if caller.host is None and not caller.networks:
            return True
        within = any(_is_within(address, network) for network in caller.networks)
        return within or (caller.host is not None and self._is_at(caller.host, address))

    def leave(self, calling_ae_title: str) -> None:
        """Give the place back."""
        with self._lock:
            self._inside[calling_ae_title.strip()] -= 1

    def _is_at(self, host: str, address: str) -> bool:
        if not self._addresses[host] and host not in self._resolving:
            # The name service may not have been up when we started: who comes again is known then.
            self._resolving.add(host)
            threading.Thread(target=self._resolve, args=(host,), name="resolve", daemon=True).start()
        return _canonical(address) in self._addresses[host]

    def _resolve(self, host: str) -> None:
        try:
            self._addresses[host] = _addresses(host)
        finally:
            self._resolving.discard(host)


class _Reception:
    """Turns the events of associations into the calls that `start` was given."""

    def __init__(
        self,
        *,
        door: _Door,
        store: Callable[[Received], int],
        sinks: Callable[[], Sink] | None,
        reported: Callable[[str, Report], int],
        ended: Callable[[Ended], None],
        refused: Callable[[Refused], None],
        contexts_refused: Callable[[ContextsRefused], None],
    ) -> None:
        self._door = door
        self._store = store
        self._sinks = sinks
        self._reported = reported
        self._ended = ended
        self._refused = refused
        self._contexts_refused = contexts_refused
        self._lock = threading.Lock()
        self._ids: dict[Association, str] = {}
        """The associations that have brought an instance."""

    def handlers(self) -> list[EventHandlerType]:
        return [
            (evt.EVT_REQUESTED, self._offer),
            (evt.EVT_ACCEPTED, self._tell_refused_contexts),
            (evt.EVT_C_ECHO, lambda event: 0x0000),
            (evt.EVT_C_STORE, self._receive),
            (evt.EVT_N_EVENT_REPORT, self._take_report),
        ]

    def judge(self, calling_ae_title: str, called_ae_title: str, address: str) -> Rejection | None:
        """Let a caller in, or tell of its refusal and say what it is answered."""
        refusal = self._door.enter(calling_ae_title, called_ae_title, address)
        if refusal is None:
            return None
        reason, rejection = refusal
        self._refused(Refused(reason, calling_ae_title, called_ae_title, address))
        return rejection

    def _offer(self, event: Event) -> None:
        """Say which contexts pynetdicom may accept."""
        request = cast(A_ASSOCIATE, event.assoc.requestor.primitive)
        calling_ae_title, _, address = _caller(event.assoc)
        callers = self._door.known(calling_ae_title, address)
        event.assoc.acceptor.supported_contexts = negotiable(
            request.presentation_context_definition_list,
            may_store=any(caller.may_store for caller in callers),
            may_report=any(caller.may_report for caller in callers),
        )

    def limits_of(self, maximum_instance: int, assoc: Association) -> tuple[int, Pace | None]:
        """How large a data set of a caller may be, and how fast it may send."""
        calling_ae_title, _, address = _caller(assoc)
        callers = self._door.known(calling_ae_title, address)
        sizes = [caller.maximum_instance or maximum_instance for caller in callers]
        return max(sizes, default=maximum_instance), self._door.pace_of(callers)

    def _take_report(self, event: Event) -> tuple[int, None]:
        calling_ae_title, _, _ = _caller(event.assoc)
        return answer(event, partial(self._reported, calling_ae_title.strip())), None

    def begin(self, assoc: Association, message: DIMSEMessage) -> Sink | None:
        """Give a sink to a data set that begins to come, with what stands before it in a file."""
        if self._sinks is None:
            return None
        uids = [values.text(message.command_set, f"AffectedSOP{what}UID") for what in ("Class", "Instance")]
        return self._begun(self._request(assoc, cast(int, message.context_id), *uids))

    def _begun(self, received: Received) -> Sink | None:
        if self._sinks is None:
            return None
        sink = self._sinks()
        sink.write(received.head())
        return sink

    def _request(self, assoc: Association, context_id: int, sop_class_uid: str, sop_instance_uid: str) -> Received:
        context = assoc._accepted_cx[context_id]
        with self._lock:
            association_id = self._ids.setdefault(assoc, str(uuid4()))
        calling_ae_title, _, address = _caller(assoc)
        return Received(
            sop_class_uid=sop_class_uid or str(context.abstract_syntax),
            sop_instance_uid=sop_instance_uid,
            transfer_syntax_uid=str(context.transfer_syntax[0]),
            calling_ae_title=calling_ae_title,
            calling_host=address,
            association_id=association_id,
            data=b"",
        )

    def _receive(self, event: Event) -> int:
        request = cast(C_STORE, event.request)
        uids = str(request.AffectedSOPClassUID or ""), str(request.AffectedSOPInstanceUID or "")
        received = self._request(event.assoc, event.context.context_id, *uids)
        data_set = request.DataSet
        sink = data_set.sink if isinstance(data_set, DataSet) else None
        if sink is None and self._sinks is None:
            return self._store(replace(received, data=data_set.getvalue() if data_set else b""))
        return self._store(replace(received, sink=sink or self._begun(received)))

    def _tell_refused_contexts(self, event: Event) -> None:
        refused = [str(context.abstract_syntax) for context in event.assoc.rejected_contexts]
        refused += _machine(event.assoc).unreadable_contexts
        if refused:
            uids = dict.fromkeys(map(_uid_or_nothing, refused))
            self._contexts_refused(ContextsRefused(*_caller(event.assoc), tuple(uids)))

    def end(self, assoc: Association, ending: Ending) -> None:
        """No instance of an association comes any more."""
        with self._lock:
            association_id = self._ids.pop(assoc, None)
        self._door.leave(_caller(assoc)[0])
        if ending != Ending.REJECTED:
            within = association_id is not None or assoc.dimse.message is not None
            broke_off = within and ending != Ending.RELEASED
            self._ended(Ended(ending, *_caller(assoc), association_id, broke_off, _machine(assoc).error))


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


def _is_within(address: str, network: str) -> bool:
    ip = ip_address(address.partition("%")[0])
    return (getattr(ip, "ipv4_mapped", None) or ip) in ip_network(network)


def _canonical(address: str) -> str:
    """One spelling for an address: IPv4 out of IPv6, no zone, and one name for this machine itself."""
    ip = ip_address(address.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return "loopback" if ip.is_loopback else str(ip)
