"""The door, the bytes, the answers, and that nothing stays behind."""

import logging
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO, StringIO
from pathlib import Path
from queue import Queue

import pytest
from pydicom import Dataset, dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import JPEG2000, CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dul import DULServiceProvider
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AssociationSocket

from dicom_io.errors import AssociationRefused, StoreRefused
from dicom_io.network.endings import Ending
from dicom_io.network.scp import (
    REJECTIONS,
    TO_STRANGERS,
    Caller,
    ContextsRefused,
    Ended,
    Received,
    Refusal,
    Refused,
    Server,
    start,
)
from dicom_io.network.scu import Remote, echo, store
from dicom_io.network.storage_classes import NAMED_STORAGE, transfer_syntaxes
from dicom_io.pace import Pace
from tests.dicom_io.network.pdus import (
    CT_REQUEST,
    ECHO,
    STORE,
    USER,
    VERIFICATION,
    associate_rq,
    command,
    context,
    item,
    p_data,
    read_pdu,
    rejection,
)

PATIENCE_S = 10


@dataclass
class Site:
    """A running server and what it was told."""

    server: Server
    received: list[Received] = field(default_factory=list)
    ended: "Queue[Ended]" = field(default_factory=Queue)
    refused: "Queue[Refused]" = field(default_factory=Queue)
    contexts_refused: "Queue[ContextsRefused]" = field(default_factory=Queue)

    @property
    def remote(self) -> Remote:
        return Remote("PORTA", "127.0.0.1", self.server.port)

    def associate(
        self, calling: str = "MODALITY", called: str = "PORTA", proposed: list[PresentationContext] | None = None
    ) -> Association:
        return AE(calling).associate(
            "127.0.0.1", self.server.port, ae_title=called, contexts=proposed or [build_context(VERIFICATION)]
        )

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.server.port), timeout=PATIENCE_S)


StartSite = Callable[..., Site]


@pytest.fixture
def start_site() -> Iterator[StartSite]:
    sites: list[Site] = []

    def run(answer: Callable[[Received], int] = lambda received: 0x0000, **options: object) -> Site:
        site = Site.__new__(Site)

        def keep(received: Received) -> int:
            site.received.append(received)
            return answer(received)

        ended: Queue[Ended] = Queue()
        refused: Queue[Refused] = Queue()
        contexts_refused: Queue[ContextsRefused] = Queue()
        values: dict[str, object] = {
            "ae_title": "PORTA",
            "host": "127.0.0.1",
            "port": 0,
            "callers": [Caller("MODALITY")],
            "store": keep,
            "ended": ended.put,
            "refused": refused.put,
            "contexts_refused": contexts_refused.put,
        }
        server = start(**(values | options))  # type: ignore[arg-type]
        site.__init__(server, [], ended, refused, contexts_refused)  # type: ignore[misc]
        sites.append(site)
        return site

    yield run
    for site in sites:
        site.server.shutdown(PATIENCE_S)


def image(instance_uid: str = "1.2.3.4", patient: str = "A^B") -> Dataset:
    ds = Dataset()
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = instance_uid
    ds.PatientName = patient
    ds.Rows = ds.Columns = 64
    ds.BitsAllocated = 16
    ds.PixelData = bytes(range(256)) * 32
    return ds


def encoded(ds: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, ds)
    return bytes(buffer.getvalue())


def send_raw(assoc: Association, instance_uid: str | None, data: bytes, sop_class: str = CTImageStorage) -> int | None:
    """A C-STORE request that pynetdicom's own SCU would not send; the status, None without an answer."""
    request = C_STORE()
    request.MessageID = 1
    request.Priority = 0
    request.AffectedSOPClassUID = sop_class
    request.AffectedSOPInstanceUID = instance_uid
    request.DataSet = BytesIO(data)
    assoc._reactor_checkpoint.clear()
    assoc.dimse.send_msg(request, 1)
    _, response = assoc.dimse.get_msg(block=True)
    assoc._reactor_checkpoint.set()
    return response.Status if response else None


CT = [build_context(CTImageStorage, ExplicitVRLittleEndian)]


# Who comes in.


def test_a_caller_is_let_in(start_site: StartSite) -> None:
    """And answered: C-ECHO says success."""
    networks = ("2001:db8::/32", "127.0.0.0/8")
    site = start_site(callers=[Caller("OTHER", "192.0.2.1", networks=networks), Caller("MODALITY", "127.0.0.1")])
    site.associate("OTHER").release()
    assoc = site.associate()
    assert assoc.is_established
    assert assoc.send_c_echo().Status == 0x0000
    assoc.release()
    assert site.refused.empty()


@pytest.mark.parametrize(
    ("callers", "calling", "called", "reason", "codes"),
    [
        ([Caller("MODALITY")], "STRANGER", "PORTA", Refusal.CALLING_AE_TITLE, (1, 1, 3)),
        ([Caller("MODALITY")], "modality", "PORTA", Refusal.CALLING_AE_TITLE, (1, 1, 3)),
        ([], "MODALITY", "PORTA", Refusal.CALLING_AE_TITLE, (1, 1, 3)),
        ([Caller("MODALITY", "192.0.2.1")], "MODALITY", "PORTA", Refusal.CALLING_HOST, (1, 1, 3)),
        ([Caller("MODALITY", networks=("192.0.2.0/24",))], "MODALITY", "PORTA", Refusal.CALLING_HOST, (1, 1, 3)),
        ([Caller("MODALITY", "no-such-host.invalid")], "MODALITY", "PORTA", Refusal.CALLING_HOST, (1, 1, 3)),
        ([Caller("MODALITY", "127.0.0.1")], "MODALITY", "ELSEWHERE", Refusal.CALLED_AE_TITLE, (1, 1, 7)),
        ([Caller("MODALITY")], "MODALITY", "ELSEWHERE", Refusal.CALLED_AE_TITLE, TO_STRANGERS),
        ([Caller("MODALITY")], "STRANGER", "ELSEWHERE", Refusal.CALLING_AE_TITLE, TO_STRANGERS),
    ],
)
def test_others_are_rejected(
    start_site: StartSite,
    callers: list[Caller],
    calling: str,
    called: str,
    reason: Refusal,
    codes: tuple[int, int, int],
) -> None:
    """With the right result, source and reason; an empty list lets in nobody. Strangers learn no title by guessing."""
    site = start_site(callers=callers)
    assert rejection(site.server.port, calling, called) == codes
    assert site.refused.get(timeout=PATIENCE_S) == Refused(reason, calling, called, "127.0.0.1")


def test_one_too_many(start_site: StartSite) -> None:
    """The limit is a transient rejection: the peer tries again later."""
    site = start_site(maximum_associations=1)
    first = site.associate()
    assert rejection(site.server.port) == (2, 3, 2)
    assert site.refused.get(timeout=PATIENCE_S).reason is Refusal.LOCAL_LIMIT
    assert first.is_established
    first.release()


def test_probes_do_not_use_up_the_limit(start_site: StartSite) -> None:
    """Connections that closed without a request are no associations."""
    site = start_site(maximum_associations=1)
    for _ in range(3):
        with site.connect() as probe:
            probe.shutdown(socket.SHUT_WR)
            assert probe.recv(1) == b""
    assoc = site.associate()
    assert assoc.is_established
    assoc.release()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", None])
def test_this_machine_has_many_names(start_site: StartSite, name: str | None) -> None:
    assoc = start_site(callers=[Caller("MODALITY", name)]).associate()
    assert assoc.is_established
    assoc.release()


def test_ipv6(start_site: StartSite) -> None:
    try:
        site = start_site(host="::1", callers=[Caller("MODALITY", "localhost")])
    except OSError:
        pytest.skip("this machine has no IPv6")
    assoc = AE("MODALITY").associate("::1", site.server.port, ae_title="PORTA", contexts=[build_context(VERIFICATION)])
    assert assoc.is_established
    assoc.release()


def test_a_door_that_fails_stays_shut(start_site: StartSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is let in because of an error, and the next one is answered all the same."""

    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("dicom_io.network.scp._Door.enter", fail)
    assert not start_site().associate().is_established


# What is accepted.


def test_every_storage_class_and_syntax(start_site: StartSite) -> None:
    """In more associations than one, as a proposal holds 128 contexts."""
    site = start_site()
    storage = sorted(NAMED_STORAGE)
    assert len(storage) > 128
    for begin in range(0, len(storage), 128):
        proposed = [build_context(uid, JPEG2000) for uid in storage[begin : begin + 128]]
        assoc = site.associate(proposed=proposed)
        assert len(assoc.accepted_contexts) == len(proposed)
        assoc.release()
    assoc = site.associate(proposed=[build_context(CTImageStorage, uid) for uid in transfer_syntaxes()])
    assert [context.transfer_syntax[0] for context in assoc.accepted_contexts] == transfer_syntaxes()
    assoc.release()


PRIVATE = "1.3.12.2.1107.5.9.1"
"""Siemens CSA Non-Image Storage."""


@pytest.mark.parametrize(
    "sop_class",
    [
        PRIVATE,
        "1.2.840.113619.4.30",  # GE private
        "1.3.46.670589.11.0.0.12.1",  # Philips private
        "1.2.840.10008.5.1.4.1.1.6",  # Ultrasound Image Storage, retired
        "1.2.840.10008.5.1.4.1.1.9.1",  # Waveform Storage - Trial
        "1.2.840.10008.5.1.4.1.1.999.1",  # of an edition to come
        "1.2.840.10008.5.1.4.39.1",  # Color Palette Storage: of no patient
    ],
)
def test_whatever_may_be_stored_is_taken(start_site: StartSite, sop_class: str) -> None:
    """And its bytes arrive, whether or not anybody here knows the class."""
    site = start_site()
    assoc = site.associate(proposed=[build_context(sop_class, ImplicitVRLittleEndian)])
    assert send_raw(assoc, "1.2.3.4", b"anything", sop_class) == 0x0000
    assoc.release()
    assert (site.received[0].sop_class_uid, site.received[0].data) == (sop_class, b"anything")
    assert site.contexts_refused.empty()


def test_a_private_class_may_come_in_a_private_syntax(start_site: StartSite) -> None:
    """Nothing of it is read. An image in one is refused: its sender then sends it in one that can be decoded."""
    site = start_site()
    private = "1.2.840.113619.5.2"
    proposed = [
        build_context(PRIVATE, private),
        build_context(CTImageStorage, private),
        build_context(CTImageStorage, [private, ImplicitVRLittleEndian]),
    ]
    assoc = site.associate(proposed=proposed)
    accepted = [(context.abstract_syntax, context.transfer_syntax[0]) for context in assoc.accepted_contexts]
    assert accepted == [(PRIVATE, private), (CTImageStorage, ImplicitVRLittleEndian)]
    assoc.release()


def test_refused_contexts_are_told_once(start_site: StartSite) -> None:
    """All of an association together, with the peer; each class once."""
    site = start_site()
    find, commitment = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.1.20.1"
    proposed = [build_context(VERIFICATION), *(build_context(uid) for uid in (find, commitment, find))]
    site.associate(proposed=proposed).release()
    told = site.contexts_refused.get(timeout=PATIENCE_S)
    assert told == ContextsRefused("MODALITY", "PORTA", "127.0.0.1", (find, commitment))
    assert site.contexts_refused.empty()


def test_the_order_is_ours(start_site: StartSite) -> None:
    """Of several transfer syntaxes in one context: Explicit VR Little Endian, then Implicit, then what comes."""
    site = start_site()
    proposals = ([JPEG2000, ImplicitVRLittleEndian, ExplicitVRLittleEndian], [JPEG2000, ImplicitVRLittleEndian])
    for proposal, expected in zip(proposals, (ExplicitVRLittleEndian, ImplicitVRLittleEndian), strict=True):
        assoc = site.associate(proposed=[build_context(CTImageStorage, list(proposal))])
        assert assoc.accepted_contexts[0].transfer_syntax == [expected]
        assoc.release()


# What is received.


def test_bytes_are_kept_as_received(start_site: StartSite, tmp_path: Path) -> None:
    """In every transfer syntax, whatever they are: undecoded, a private or a damaged data set arrives as well."""
    site = start_site()
    sent = encoded(image()) + b"\x09\x00\x10\x00LO\x04\x00odd "
    path = tmp_path / "image.dcm"
    for syntax in transfer_syntaxes():
        path.write_bytes(Received(CTImageStorage, "1.2.3.4", syntax, "ME", "", "", sent).part10())
        assert store(site.remote, [path], calling_ae_title="MODALITY", timeout_s=PATIENCE_S) == (0x0000,)
        received = site.received.pop()
        assert (received.data, received.transfer_syntax_uid) == (sent, syntax)
        assert (received.sop_class_uid, received.sop_instance_uid) == (CTImageStorage, "1.2.3.4")
        assert (received.calling_ae_title, received.calling_host) == ("MODALITY", "127.0.0.1")


@pytest.mark.parametrize("maximum_pdu", [0, 4096, 131072])
def test_large_instances(start_site: StartSite, tmp_path: Path, maximum_pdu: int) -> None:
    """Over many PDUs, or one without limit; several over one association."""
    site = start_site(maximum_pdu=maximum_pdu)
    ds = image()
    ds.PixelData = bytes(3_000_001) + b"\x01"
    sent = encoded(ds)
    path = tmp_path / "image.dcm"
    path.write_bytes(Received(CTImageStorage, "1.2.3.4", ExplicitVRLittleEndian, "ME", "", "", sent).part10())
    store(site.remote, [path, path, path], calling_ae_title="MODALITY", timeout_s=PATIENCE_S)
    assert [received.data == sent for received in site.received] == [True] * 3
    assert len({received.association_id for received in site.received}) == 1


def test_a_received_instance_makes_a_file(start_site: StartSite, tmp_path: Path) -> None:
    site = start_site()
    assoc = site.associate(proposed=CT)
    assert send_raw(assoc, "1.2.3.4", encoded(image())) == 0x0000
    assoc.release()
    path = tmp_path / "received.dcm"
    path.write_bytes(site.received[0].part10())
    ds = dcmread(path)
    assert ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert ds.file_meta.SourceApplicationEntityTitle == "MODALITY"
    assert ds.PixelData == image().PixelData


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI", "ignore:The value length")
def test_an_odd_uid_reaches_the_store(start_site: StartSite) -> None:
    """Who stores decides, and the sender is answered."""
    site = start_site(answer=lambda received: 0xC000)
    assoc = site.associate(proposed=CT)
    odd = [None, "..", "../../etc/passwd", "1." * 60 + "1", "1.2.x"]
    for uid in odd:
        assert send_raw(assoc, uid, encoded(image())) == 0xC000
    assoc.release()
    assert [received.sop_instance_uid for received in site.received] == [uid or "" for uid in odd]


def test_the_status_is_the_stores(start_site: StartSite) -> None:
    answers = [0x0000, 0xA700, 0xA900, 0xB000, 0xC123]
    site = start_site(answer=lambda received: answers[len(site.received) - 1])
    assoc = site.associate(proposed=CT)
    assert [send_raw(assoc, "1.2.3.4", encoded(image())) for _ in answers] == answers
    assoc.release()


def test_a_store_that_raises_is_a_failure(start_site: StartSite, tmp_path: Path) -> None:
    """Never a success; the association goes on."""

    def fail(received: Received) -> int:
        raise RuntimeError("ZZPHI^CANARY")

    site = start_site(answer=fail)
    assoc = site.associate(proposed=CT)
    assert send_raw(assoc, "1.2.3.4", encoded(image())) == 0xC211
    assert send_raw(assoc, "1.2.3.5", encoded(image())) == 0xC211
    assoc.release()


def test_associations_do_not_wait_for_each_other(start_site: StartSite) -> None:
    """Four at once are in `store` at the same time."""
    together = threading.Barrier(4, timeout=PATIENCE_S)

    def meet(received: Received) -> int:
        together.wait()
        return 0x0000

    site = start_site(answer=meet)
    statuses: Queue[int | None] = Queue()

    def send() -> None:
        assoc = site.associate(proposed=CT)
        statuses.put(send_raw(assoc, "1.2.3.4", encoded(image())))
        assoc.release()

    senders = [threading.Thread(target=send) for _ in range(4)]
    for sender in senders:
        sender.start()
    assert [statuses.get(timeout=PATIENCE_S) for _ in senders] == [0x0000] * 4
    for sender in senders:
        sender.join(PATIENCE_S)


@pytest.fixture
def everything_logged() -> Iterator[StringIO]:
    """What reaches the process's log. (caplog also hears loggers that were cut off.)"""
    stream, root = StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(stream), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    logging.getLogger("pynetdicom").setLevel(logging.DEBUG)
    yield stream
    logging.getLogger("pynetdicom").setLevel(logging.NOTSET)
    root.setLevel(level)
    root.removeHandler(handler)


def test_nothing_of_a_patient_is_logged(
    start_site: StartSite, everything_logged: StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not on success, not on failure, not at the most talkative level."""

    def fail(received: Received) -> int:
        if received.sop_instance_uid == "1.2":
            raise RuntimeError("ZZPHI^CANARY")
        return 0xC000

    site = start_site(answer=fail)
    assoc = site.associate(proposed=CT)
    for uid in ("1.1", "1.2"):
        send_raw(assoc, uid, encoded(image(patient="ZZPHI^CANARY")))
    assoc.abort()
    site.ended.get(timeout=PATIENCE_S)
    out, err = capfd.readouterr()
    assert "ZZPHI" not in everything_logged.getvalue() + out + err
    assert len(site.received) == 2


# How it ends.


@pytest.mark.parametrize(
    ("end", "ending"),
    [("release", Ending.RELEASED), ("abort", Ending.ABORTED), ("break", Ending.CONNECTION_LOST)],
)
def test_the_end_is_told(start_site: StartSite, end: str, ending: Ending) -> None:
    """Once, with the id that the instances came under, and how it came."""
    site = start_site()
    assoc = site.associate(proposed=CT)
    send_raw(assoc, "1.2.3.4", encoded(image()))
    send_raw(assoc, "1.2.3.5", encoded(image()))
    assert site.ended.empty()
    if end == "break":
        assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)
    else:
        getattr(assoc, end)()
    expected = Ended(
        ending, "MODALITY", "PORTA", "127.0.0.1", site.received[0].association_id, broke_off=end != "release"
    )
    assert site.ended.get(timeout=PATIENCE_S) == expected
    site.server.shutdown(PATIENCE_S)
    assert site.ended.empty()


def test_an_association_without_instances_broke_nothing_off(start_site: StartSite) -> None:
    """Who only asks for an echo, and then aborts, is named, and was not sending anything."""
    site = start_site()
    assoc = site.associate()
    assoc.send_c_echo()
    assoc.abort()
    assert site.ended.get(timeout=PATIENCE_S) == Ended(Ending.ABORTED, "MODALITY", "PORTA", "127.0.0.1")


def test_an_abort_within_the_first_instance_breaks_off(start_site: StartSite) -> None:
    """The half of an image that came says that more was on its way."""
    site = start_site()
    with site.connect() as connection:
        connection.sendall(CT_REQUEST)
        assert read_pdu(connection)[0] == 2
        connection.sendall(STORE + p_data(1, 0, bytes(1000)))
        connection.sendall(b"\x07\x00" + struct.pack(">L", 4) + bytes(4))
        ended = site.ended.get(timeout=PATIENCE_S)
    assert (ended.ending, ended.association_id, ended.broke_off) == (Ending.ABORTED, None, True)


def test_a_shutdown_is_no_error_of_the_peer(start_site: StartSite) -> None:
    site = start_site()
    site.associate()
    site.server.shutdown(PATIENCE_S)
    assert site.ended.get(timeout=PATIENCE_S).ending == Ending.STOPPED


# What is read, odd as it is: A-ASSOCIATE-RQ by hand.


ODD = {
    "AE titles padded with NUL": {"called": b"PORTA".ljust(16, b"\0"), "calling": b"MODALITY".ljust(16, b"\0")},
    "something after the NUL": {"called": b"PORTA\0XY\xff", "calling": b"MODALITY\0\x01"},
    "spaces before": {"called": b"  PORTA", "calling": b" MODALITY"},
    "version of 33 characters": {"user": USER[:-10] + item(0x55, b"ACME_ROUTER_VERSION_11.22.33_BETA")},
    "empty version": {"user": USER[:-10] + item(0x55, b"")},
    "version in Latin 1": {"user": USER[:-10] + item(0x55, b"ACM\xc9\\1\0")},
    "unknown user item": {"user": USER + item(0x5F, b"\1\2\3\4")},
    "unknown item": {"more": item(0x7A, b"\1\2")},
    "bytes after the last item": {"more": b"\0\0\0"},
    "no user information": {"user": b""},
    "maximum length of 2 bytes": {"user": item(0x51, b"\1\2") + item(0x52, b"1.2.3")},
    "unlimited length": {"user": item(0x51, bytes(4)) + item(0x52, b"1.2.3")},
    "user identity of no type": {"user": USER + item(0x58, b"\x09\x01\x00\x04user\0\0")},
    "user identity cut short": {"user": USER + item(0x58, b"\x01\x01\x00\x40user")},
    "asynchronous operations": {"user": USER + item(0x53, struct.pack(">HH", 8, 8))},
    "role of an unknown class": {"user": USER + item(0x54, struct.pack(">H", 5) + b"1.2.3\1\1")},
    "twice the same": {"user": USER + USER},
    "an even context": {"contexts": context(2, VERIFICATION, ImplicitVRLittleEndian) + ECHO},
    "a context without syntax": {"contexts": context(3, VERIFICATION) + ECHO},
    "a context without class": {"contexts": item(0x20, bytes([5, 0, 0, 0])) + ECHO},
    "an unknown item in a context": {
        "contexts": item(0x20, bytes([1, 0, 0, 0]) + ECHO[8:] + item(0x41, b"\1\2")),
    },
    "UIDs padded with NUL": {"contexts": context(1, VERIFICATION + "\0", ImplicitVRLittleEndian + "\0")},
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
def test_an_odd_request_is_read(start_site: StartSite, odd: dict[str, bytes]) -> None:
    """What negotiation does not need does not end it: the association is made, and released."""
    site = start_site()
    with site.connect() as connection:
        connection.sendall(associate_rq(**odd))
        answer = read_pdu(connection)
        assert answer[:1] == b"\x02"
        assert item(0x21, bytes([1, 0, 0, 0]) + item(0x40, ImplicitVRLittleEndian.encode())) in answer
        connection.sendall(b"\x05\x00" + struct.pack(">L", 4) + bytes(4))
        assert read_pdu(connection)[:1] == b"\x06"
    ended = site.ended.get(timeout=PATIENCE_S)
    assert (ended.ending, ended.calling_ae_title, ended.called_ae_title) == (Ending.RELEASED, "MODALITY", "PORTA")


UNREADABLE = {
    "an even context": (VERIFICATION,),
    "a context without syntax": (VERIFICATION,),
    "a context without class": ("",),
}


@pytest.mark.parametrize("odd", [*UNREADABLE, "UIDs padded with NUL", "unknown item"])
def test_a_context_that_cannot_be_read_is_told(start_site: StartSite, odd: str) -> None:
    """With the peer, as one that is refused: what is sent in it will fail."""
    site = start_site()
    with site.connect() as connection:
        connection.sendall(associate_rq(**ODD[odd]))
        assert read_pdu(connection)[:1] == b"\x02"
        told = site.contexts_refused.get(timeout=PATIENCE_S) if odd in UNREADABLE else None
    if told is None:
        assert site.contexts_refused.empty()
    else:
        assert (told.abstract_syntaxes, told.calling_ae_title) == (UNREADABLE[odd], "MODALITY")


def test_a_request_whose_only_context_cannot_be_read(start_site: StartSite) -> None:
    """One line of it too, whatever becomes of the association."""
    site = start_site()
    with site.connect() as connection:
        connection.sendall(associate_rq(contexts=context(3, VERIFICATION)))
        read_pdu(connection)
        connection.shutdown(socket.SHUT_WR)
        ended = site.ended.get(timeout=PATIENCE_S)
    assert site.contexts_refused.get(timeout=PATIENCE_S).abstract_syntaxes == (VERIFICATION,)
    assert ended.calling_ae_title == "MODALITY"


@pytest.mark.parametrize("title", [b"", bytes(16), b"\xff\xfe", b"MOD\\ALITY", b"MOD\nALITY"])
def test_a_title_that_is_none_is_refused_by_name(start_site: StartSite, title: bytes) -> None:
    site = start_site()
    with site.connect() as connection:
        connection.sendall(associate_rq(calling=title))
        assert read_pdu(connection)[:1] == b"\x03"
    assert site.refused.get(timeout=PATIENCE_S).reason is Refusal.CALLING_AE_TITLE


BROKEN = {
    "HTTP": (b"GET / HTTP/1.1\r\n\r\n", Ending.PROTOCOL_ERROR),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Ending.PROTOCOL_ERROR),
    "data first": (p_data(1, 3, b"1"), Ending.PROTOCOL_ERROR),
    "release first": (b"\x05\x00" + struct.pack(">L", 4) + bytes(4), Ending.PROTOCOL_ERROR),
    "a request that is too short": (b"\x01\x00" + struct.pack(">L", 10) + bytes(10), Ending.PROTOCOL_ERROR),
    "4 GB announced": (b"\x01\x00" + struct.pack(">L", 0xFFFFFFFF), Ending.TOO_LARGE),
    "two requests": (associate_rq() * 2, Ending.PROTOCOL_ERROR),
    "a second request in another's name": (associate_rq() + associate_rq(calling=b"OTHER"), Ending.PROTOCOL_ERROR),
    "an unknown PDU": (associate_rq() + b"\x42\x00" + struct.pack(">L", 0), Ending.PROTOCOL_ERROR),
    "rubbish as data": (associate_rq() + p_data(1, 3, b"rubbish"), Ending.PROTOCOL_ERROR),
    "a context of nobody's": (associate_rq() + p_data(77, 3, b""), Ending.PROTOCOL_ERROR),
    "an answer": (associate_rq() + b"\x06\x00" + struct.pack(">L", 4) + bytes(4), Ending.PROTOCOL_ERROR),
    "half a PDU, then gone": (associate_rq() + b"\x04\x00" + struct.pack(">L", 99), Ending.CONNECTION_LOST),
    "an abort": (associate_rq() + b"\x07\x00" + struct.pack(">L", 4) + bytes(4), Ending.ABORTED),
    "gone": (associate_rq(), Ending.CONNECTION_LOST),
}


@pytest.mark.parametrize(("sent", "ending"), BROKEN.values(), ids=BROKEN.keys())
def test_every_other_end_has_a_name(start_site: StartSite, sent: bytes, ending: Ending) -> None:
    """One, with the host, and the AE titles where a request came."""
    site = start_site(network_timeout_s=2)
    with site.connect() as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        ended = site.ended.get(timeout=PATIENCE_S)
    titles = ("MODALITY", "PORTA") if sent[:1] == b"\x01" and len(sent) > 50 else ("", "")
    assert (ended.ending, ended.calling_host) == (ending, "127.0.0.1")
    assert (ended.calling_ae_title, ended.called_ae_title) == titles
    site.server.shutdown(PATIENCE_S)
    assert site.ended.empty()


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_no_request_is_without_an_end(start_site: StartSite) -> None:
    """Each byte of a request changed, and the request cut at each: accepted, refused by name, or ended by name."""
    site = start_site(network_timeout_s=PATIENCE_S)
    whole = associate_rq(user=USER + item(0x54, struct.pack(">H", 5) + b"1.2.3\1\1") + item(0x53, bytes([0, 1, 0, 1])))
    odd = [whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :] for at in range(len(whole)) if not 2 <= at < 6]
    odd += [b"\x01\x00" + struct.pack(">L", at) + whole[6 : 6 + at] for at in range(len(whole) - 6)]
    for number, request in enumerate(odd):
        with site.connect() as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1000):
                pass
        ends = site.ended if site.refused.empty() else site.refused
        assert ends.get(timeout=PATIENCE_S), number  # type: ignore[attr-defined]


def test_a_peer_at_its_limit_costs_no_other_its_place(start_site: StartSite) -> None:
    """One may have a limit of its own; one that has nothing open is let in even when the others fill the rest."""
    site = start_site(callers=[Caller("GREEDY", maximum_associations=2), Caller("MODALITY")], maximum_associations=3)
    greedy = [site.associate("GREEDY") for _ in range(2)]
    assert rejection(site.server.port, "GREEDY") == REJECTIONS[Refusal.LOCAL_LIMIT]
    modality = site.associate()
    assert rejection(site.server.port) == REJECTIONS[Refusal.LOCAL_LIMIT]
    greedy.pop().release()
    assert site.ended.get(timeout=PATIENCE_S).ending == Ending.RELEASED
    greedy.append(site.associate("GREEDY"))
    assert all(assoc.is_established for assoc in (*greedy, modality))

    full = start_site(callers=[Caller("GREEDY"), Caller("MODALITY")], maximum_associations=2)
    assert all(full.associate("GREEDY").is_established for _ in range(2))
    assert full.associate().is_established


def test_strangers_take_no_place_and_no_thread(start_site: StartSite) -> None:
    """Connections that are silent, or stop within the request, are held without a thread; a peer comes in meanwhile."""
    site = start_site(maximum_associations=1)
    before = set(threading.enumerate())
    strangers = [site.connect() for _ in range(200)]
    for stranger in strangers[::2]:
        stranger.sendall(associate_rq()[:3])
    assoc = site.associate()
    assert assoc.is_established
    assert assoc.send_c_echo().Status == 0x0000
    assoc.release()
    assert new_threads(before) == []
    for stranger in strangers:
        stranger.close()


def test_a_crowd_from_one_host_costs_another_host_nothing(
    start_site: StartSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where too many wait, the oldest of the fullest host goes."""
    monkeypatch.setattr("dicom_io.network.admission.MAXIMUM_CONNECTIONS", 6)
    monkeypatch.setattr("dicom_io.network.admission.MAXIMUM_OF_HOST", 4)
    site = start_site()

    def connect(host: str) -> socket.socket:
        return socket.create_connection(("127.0.0.1", site.server.port), PATIENCE_S, source_address=(host, 0))

    waiting = [connect("127.0.0.2"), *(connect("127.0.0.3") for _ in range(5))]
    assert waiting[1].recv(1) == b""  # one too many of this host
    waiting += [connect("127.0.0.4"), connect("127.0.0.4")]
    assert waiting[2].recv(1) == b""  # one too many of all
    waiting[0].sendall(associate_rq())
    assert read_pdu(waiting[0])[0] == 2
    for connection in waiting:
        connection.close()


def test_who_was_rejected_is_gone(start_site: StartSite) -> None:
    """A stranger that asks and stays connected has no thread, and is cut off."""
    site = start_site()
    before = set(threading.enumerate())
    with site.connect() as connection:
        connection.sendall(associate_rq(calling=b"STRANGER".ljust(16)))
        assert read_pdu(connection)[:1] == b"\x03"
        assert new_threads(before) == []
        assert connection.recv(1) == b""


def test_a_request_has_one_deadline(start_site: StartSite) -> None:
    """However often a byte of it comes."""
    site = start_site(acse_timeout_s=0.5)
    with site.connect() as connection:
        trickle(connection, (bytes([byte]) for byte in associate_rq()))
        assert site.ended.get(timeout=PATIENCE_S).ending == Ending.TIMED_OUT


def test_what_is_larger_than_agreed_is_cut_off(start_site: StartSite) -> None:
    """A PDU that announces more than the agreed maximum, and an instance that does not end."""
    site = start_site(maximum_pdu=4096, maximum_instance=10_000)
    for sent in (
        b"\x04\x00" + struct.pack(">L", 0xFFFFFFF0),
        b"\x04\x00" + struct.pack(">L", 4097),
        STORE + p_data(1, 0, bytes(4000)) * 3,
    ):
        with site.connect() as connection:
            connection.sendall(CT_REQUEST)
            assert read_pdu(connection)[0] == 2
            connection.sendall(sent)
            assert read_pdu(connection)[0] == 7
        ended = site.ended.get(timeout=PATIENCE_S)
        assert (ended.ending, ended.calling_ae_title) == (Ending.TOO_LARGE, "MODALITY")
    assert site.received == []


def test_a_caller_may_have_a_size_of_its_own(start_site: StartSite) -> None:
    """Smaller or larger than that of the others."""
    callers = [Caller("MODALITY", maximum_instance=10_000), Caller("OTHER")]
    site = start_site(callers=callers, maximum_instance=10)
    with site.connect() as connection:
        connection.sendall(CT_REQUEST)
        assert read_pdu(connection)[0] == 2
        connection.sendall(STORE + p_data(1, 2, bytes(9_999)))
        assert read_pdu(connection)[0] == 4
        connection.sendall(STORE + p_data(1, 0, bytes(10_001)))
        assert read_pdu(connection)[0] == 7
    assert site.ended.get(timeout=PATIENCE_S).ending == Ending.TOO_LARGE
    assert len(site.received) == 1


def test_a_caller_is_read_no_faster_than_its_pace(start_site: StartSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of its data waits for its turn; what it waits is not held against it."""
    waited: list[int] = []

    def wait(pace: Pace, count: int) -> float:
        waited.append(count)
        return 1000.0

    monkeypatch.setattr(Pace, "__call__", wait)
    site = start_site(callers=[Caller("MODALITY", bandwidth_mbit=1.0)], network_timeout_s=5.0)
    with site.connect() as connection:
        connection.sendall(CT_REQUEST)
        assert read_pdu(connection)[0] == 2
        connection.sendall(STORE + p_data(1, 0, bytes(500)) + p_data(1, 2, bytes(500)))
        assert read_pdu(connection)[0] == 4
    assert waited == [500, 500]
    assert len(site.received) == 1


def test_an_instance_has_a_deadline_by_its_size(start_site: StartSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that trickles in is cut off, although no pause is as long as the network timeout."""
    monkeypatch.setattr("dicom_io.network.acceptor.LEAST_RATE", 1e6)
    site = start_site(network_timeout_s=0.3)
    with site.connect() as connection:
        connection.sendall(CT_REQUEST)
        assert read_pdu(connection)[0] == 2
        trickle(connection, [STORE, *[p_data(1, 0, b"1")] * 200])
        assert site.ended.get(timeout=PATIENCE_S).ending == Ending.TIMED_OUT


def trickle(connection: socket.socket, parts: Iterable[bytes]) -> None:
    """Send a part every 50 ms until the other side has had enough."""
    with suppress(OSError):
        for part in parts:
            connection.sendall(part)
            if select.select([connection], [], [], 0.05)[0]:
                return


def test_probes_are_not_told(start_site: StartSite) -> None:
    """A load balancer's connection without a byte was no association: the next line is that of the next caller."""
    site = start_site()
    with site.connect() as probe:
        probe.shutdown(socket.SHUT_WR)
        assert probe.recv(1) == b""
    site.associate().release()
    assert site.ended.get(timeout=PATIENCE_S).ending == Ending.RELEASED
    assert site.ended.empty()


def new_threads(before: set[threading.Thread]) -> list[threading.Thread]:
    """Threads that were started since and do not end."""
    started = [thread for thread in threading.enumerate() if thread not in before]
    for thread in started:
        thread.join(PATIENCE_S)
    return [thread for thread in started if thread.is_alive()]


def test_probes_leave_no_thread(start_site: StartSite) -> None:
    """A load balancer opens and closes connections all day (pynetdicom#669)."""
    site = start_site()
    before = set(threading.enumerate())
    probes = [site.connect() for _ in range(50)]
    for probe in probes:
        probe.shutdown(socket.SHUT_WR)
        assert probe.recv(1) == b""
        probe.close()
    assert new_threads(before) == []


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\x01\x00\x00",
        b"\x01\x00" + struct.pack(">I", 1000) + bytes(10),
        b"\x01\x00" + struct.pack(">I", 0xFFFFFFFF),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x04\x00" + struct.pack(">I", 6) + bytes(6),
    ],
    ids=["silent", "part of a header", "part of a request", "4 GB announced", "HTTP", "data first"],
)
def test_connections_that_never_associate_are_closed(start_site: StartSite, sent: bytes) -> None:
    """Silence, stalls and rubbish end with the timeouts, and leave no thread."""
    site = start_site(network_timeout_s=0.3, acse_timeout_s=0.3)
    before = set(threading.enumerate())
    with site.connect() as connection:
        connection.sendall(sent)
        received = b""
        try:
            while part := connection.recv(1000):
                received += part
        except ConnectionResetError:
            pass
    assert received in (b"", b"\x07\x00\x00\x00\x00\x04\x00\x00" + received[8:])  # nothing, or A-ABORT
    assert new_threads(before) == []


def test_an_idle_association_is_aborted(start_site: StartSite) -> None:
    site = start_site(network_timeout_s=0.3)
    assoc = site.associate(proposed=CT)
    send_raw(assoc, "1.2.3.4", encoded(image()))
    ended = site.ended.get(timeout=PATIENCE_S)
    assert (ended.ending, ended.association_id) == (Ending.TIMED_OUT, site.received[0].association_id)


def test_a_store_that_takes_long_is_not_idle(start_site: StartSite) -> None:
    """Who waits for our answer is not silent: neither meanwhile nor when it has come."""
    site = start_site(network_timeout_s=0.3, answer=lambda received: time.sleep(0.7) or 0x0000)
    assoc = site.associate(proposed=CT)
    assert [send_raw(assoc, f"1.2.3.{number}", encoded(image())) for number in range(2)] == [0x0000] * 2
    assoc.release()
    assert site.ended.get(timeout=PATIENCE_S).ending == Ending.RELEASED


def test_an_end_waits_for_the_store_without_looking(start_site: StartSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread whose peer is gone sleeps until its instance is stored: a thousand that look for it stop all others."""
    inside, leave = threading.Event(), threading.Event()
    looks: list[float] = []
    stop = DULServiceProvider.stop_dul
    monkeypatch.setattr(
        DULServiceProvider,
        "stop_dul",
        lambda dul: (dul.assoc.is_acceptor and looks.append(time.monotonic())) or stop(dul),
    )

    def hang(received: Received) -> int:
        inside.set()
        leave.wait(PATIENCE_S)
        return 0x0000

    site = start_site(answer=hang, network_timeout_s=0.2)
    assoc = site.associate(proposed=CT)
    threading.Thread(target=send_raw, args=(assoc, "1.2.3.4", encoded(image())), daemon=True).start()
    assert inside.wait(PATIENCE_S)
    assoc.abort()
    time.sleep(0.5)
    assert len(looks) <= 1
    leave.set()
    assert site.ended.get(timeout=PATIENCE_S).ending == Ending.ABORTED


def test_a_busy_port_is_said(start_site: StartSite) -> None:
    site = start_site()
    with pytest.raises(OSError):
        start_site(port=site.server.port)


def test_shutdown_ends_everything(start_site: StartSite) -> None:
    """What is open is aborted; no thread stays, and the port is free."""
    before = set(threading.enumerate())
    site = start_site()
    assoc = site.associate(proposed=CT)
    send_raw(assoc, "1.2.3.4", encoded(image()))
    site.server.shutdown(PATIENCE_S)
    assert site.ended.get(timeout=PATIENCE_S).association_id == site.received[0].association_id
    assoc.join(PATIENCE_S)
    assert assoc.is_aborted
    assert new_threads(before) == []
    with pytest.raises(ConnectionRefusedError):
        site.connect()
    start_site(port=site.server.port)


def test_shutdown_does_not_wait_for_ever(start_site: StartSite) -> None:
    """A `store` that hangs does not hold the process."""
    inside, leave = threading.Event(), threading.Event()

    def hang(received: Received) -> int:
        inside.set()
        leave.wait(PATIENCE_S)
        return 0x0000

    site = start_site(answer=hang)
    assoc = site.associate(proposed=CT)
    sender = threading.Thread(target=send_raw, args=(assoc, "1.2.3.4", encoded(image())))
    sender.start()
    assert inside.wait(PATIENCE_S)
    site.server.shutdown(0.2)
    leave.set()
    sender.join(PATIENCE_S)


def test_a_refused_store_is_an_error_of_the_scu(start_site: StartSite, tmp_path: Path) -> None:
    """Our two ends understand each other."""
    site = start_site(answer=lambda received: 0xA700)
    path = tmp_path / "image.dcm"
    path.write_bytes(Received(CTImageStorage, "1.2", ExplicitVRLittleEndian, "ME", "", "", encoded(image())).part10())
    with pytest.raises(StoreRefused) as caught:
        store(site.remote, [path], calling_ae_title="MODALITY", timeout_s=PATIENCE_S)
    assert caught.value.status == 0xA700


@dataclass
class Kept:
    """A sink that remembers."""

    pieces: list[bytes] = field(default_factory=list)
    discarded: threading.Event = field(default_factory=threading.Event)

    def write(self, piece: bytes) -> None:
        self.pieces.append(bytes(piece))

    def discard(self) -> None:
        self.discarded.set()


def test_a_data_set_goes_to_a_sink_as_it_comes(start_site: StartSite, tmp_path: Path) -> None:
    """A whole file, of which no part waits for the next; without a data set it is the head of one."""
    sinks: list[Kept] = []
    site = start_site(sinks=lambda: sinks.append(Kept()) or sinks[-1])
    sent = encoded(image())
    with site.connect() as connection:
        connection.sendall(CT_REQUEST)
        assert read_pdu(connection)[0] == 2
        connection.sendall(STORE + p_data(1, 0, sent[:1000]) + p_data(1, 2, sent[1000:]))
        assert read_pdu(connection)[0] == 4
        connection.sendall(p_data(1, 3, command(has_data=False)))
        assert read_pdu(connection)[0] == 4
    (first, second) = sinks
    head = Received(CTImageStorage, "1.2.3.4", ExplicitVRLittleEndian, "MODALITY", "", "", b"").head()
    assert first.pieces == [head, sent[:1000], sent[1000:]]
    assert second.pieces == [head]
    assert [(received.sink, received.data) for received in site.received] == [(first, b""), (second, b"")]
    assert not first.discarded.is_set()  # that is for `store` to do


@pytest.mark.parametrize("end", ["abort", "close", "too large"])
def test_a_data_set_that_does_not_end_is_forgotten(start_site: StartSite, end: str) -> None:
    sink = Kept()
    site = start_site(sinks=lambda: sink, maximum_instance=10_000)
    with site.connect() as connection:
        connection.sendall(CT_REQUEST)
        assert read_pdu(connection)[0] == 2
        connection.sendall(STORE + p_data(1, 0, bytes(9000)))
        if end != "close":
            connection.sendall(b"\x07\0\0\0\0\4" + bytes(4) if end == "abort" else p_data(1, 0, bytes(1001)))
        else:
            connection.shutdown(socket.SHUT_RDWR)
        assert sink.discarded.wait(PATIENCE_S)
    ended = site.ended.get(timeout=PATIENCE_S)
    assert (ended.ending == Ending.TOO_LARGE, ended.broke_off) == (end == "too large", True)
    assert site.received == []


@pytest.mark.parametrize("answered", [0x8001, 0x8020, 0x8030, 0x8100, 0x8110], ids=hex)
def test_an_answer_to_nothing_is_named(start_site: StartSite, answered: int) -> None:
    """A C-STORE response was taken for a request. Whoever answers what was not asked is out of step."""
    site = start_site()
    with site.connect() as connection:
        connection.sendall(CT_REQUEST)
        assert read_pdu(connection)[0] == 2
        connection.sendall(p_data(1, 3, command(answered)))
        assert read_pdu(connection)[0] == 7
    assert site.ended.get(timeout=PATIENCE_S).ending == Ending.UNASKED_RESPONSE
    assert site.received == []


@pytest.mark.parametrize(
    ("sent", "ending"),
    [
        (p_data(1, 0, bytes(1000)), Ending.PROTOCOL_ERROR),
        (p_data(1, 3, command(0x0020)) + p_data(1, 0, bytes(100_000)), Ending.TOO_LARGE),
        (p_data(1, 1, bytes(100_000)), Ending.TOO_LARGE),
        (p_data(3, 3, command()) + p_data(3, 0, bytes(1000)), Ending.PROTOCOL_ERROR),
    ],
    ids=["before its command", "of a query", "a command", "on no context"],
)
def test_what_is_no_instance_has_no_room(start_site: StartSite, sent: bytes, ending: Ending) -> None:
    """A data set without an instance is cut off before it grows, and no sink is opened for it."""
    sinks: list[Kept] = []
    site = start_site(sinks=lambda: sinks.append(Kept()) or sinks[-1])
    with site.connect() as connection:
        connection.sendall(CT_REQUEST)
        assert read_pdu(connection)[0] == 2
        connection.sendall(sent)
        assert read_pdu(connection)[:1] in (b"\x07", b"")
    assert site.ended.get(timeout=PATIENCE_S).ending == ending
    assert sinks == []


def test_a_refusal_that_came_early_is_heard(start_site: StartSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """It closes the connection, maybe before the requestor's thread has begun to wait: that is no peer that is away."""

    class Late(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            done = super().wait(timeout)
            time.sleep(0.3)
            return done

    init = AssociationSocket.__init__

    def begin(self: AssociationSocket, *args: object, **options: object) -> None:
        init(self, *args, **options)  # type: ignore[arg-type]
        self._ready = Late()

    site = start_site()
    monkeypatch.setattr(AssociationSocket, "__init__", begin)
    with pytest.raises(AssociationRefused, match="rejected the association"):
        echo(site.remote, calling_ae_title="NOBODY", timeout_s=PATIENCE_S)
