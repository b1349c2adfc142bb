"""The door, the bytes, the answers, and that nothing stays behind."""

import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterator
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
from pynetdicom.presentation import PresentationContext

from dicom_io.errors import StoreRefused
from dicom_io.network.scp import (
    REJECTIONS,
    Caller,
    Received,
    Refusal,
    Refused,
    Server,
    contexts,
    start,
    transfer_syntaxes,
)
from dicom_io.network.scu import Remote, store

VERIFICATION = "1.2.840.10008.1.1"
PATIENCE_S = 10


@dataclass
class Site:
    """A running server and what it was told."""

    server: Server
    received: list[Received] = field(default_factory=list)
    released: "Queue[str]" = field(default_factory=Queue)
    refused: "Queue[Refused]" = field(default_factory=Queue)

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

        released: Queue[str] = Queue()
        refused: Queue[Refused] = Queue()
        values: dict[str, object] = {
            "ae_title": "PORTA",
            "host": "127.0.0.1",
            "port": 0,
            "callers": [Caller("MODALITY")],
            "store": keep,
            "released": released.put,
            "refused": refused.put,
        }
        server = start(**(values | options))  # type: ignore[arg-type]
        site.__init__(server, [], released, refused)  # type: ignore[misc]
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


def send_raw(assoc: Association, instance_uid: str | None, data: bytes) -> int | None:
    """A C-STORE request that pynetdicom's own SCU would not send; the status, None without an answer."""
    request = C_STORE()
    request.MessageID = 1
    request.Priority = 0
    request.AffectedSOPClassUID = CTImageStorage
    request.AffectedSOPInstanceUID = instance_uid
    request.DataSet = BytesIO(data)
    assoc._reactor_checkpoint.clear()
    assoc.dimse.send_msg(request, 1)
    _, response = assoc.dimse.get_msg(block=True)
    assoc._reactor_checkpoint.set()
    return response.Status if response else None


def reject(assoc: Association) -> tuple[int, int, int]:
    assert assoc.is_rejected
    answer = assoc.acceptor.primitive
    return answer.result, answer.result_source, answer.diagnostic


CT = [build_context(CTImageStorage, ExplicitVRLittleEndian)]


# Who comes in.


def test_a_caller_is_let_in(start_site: StartSite) -> None:
    """And answered: C-ECHO says success."""
    site = start_site(callers=[Caller("OTHER", "192.0.2.1"), Caller("MODALITY", "127.0.0.1")])
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
        ([Caller("MODALITY", "no-such-host.invalid")], "MODALITY", "PORTA", Refusal.CALLING_HOST, (1, 1, 3)),
        ([Caller("MODALITY")], "MODALITY", "ELSEWHERE", Refusal.CALLED_AE_TITLE, (1, 1, 7)),
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
    """With the right result, source and reason; an empty list lets in nobody."""
    site = start_site(callers=callers)
    assert reject(site.associate(calling, called)) == codes == REJECTIONS[reason]
    assert site.refused.get(timeout=PATIENCE_S) == Refused(reason, calling, called, "127.0.0.1")


def test_one_too_many(start_site: StartSite) -> None:
    """The limit is a transient rejection: the peer tries again later."""
    site = start_site(maximum_associations=1)
    first = site.associate()
    assert reject(site.associate()) == (2, 3, 2)
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
    """pynetdicom swallows what its handlers raise, and would go on to accept."""

    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("dicom_io.network.scp._Door.refusal", fail)
    assert not start_site().associate().is_established


# What is accepted.


def test_every_storage_class_and_syntax(start_site: StartSite) -> None:
    """In more associations than one, as a proposal holds 128 contexts."""
    site = start_site()
    storage = contexts()[1:]
    assert len(storage) > 128
    for begin in range(0, len(storage), 128):
        proposed = [build_context(context.abstract_syntax, JPEG2000) for context in storage[begin : begin + 128]]
        assoc = site.associate(proposed=proposed)
        assert len(assoc.accepted_contexts) == len(proposed)
        assoc.release()
    assoc = site.associate(proposed=[build_context(CTImageStorage, uid) for uid in transfer_syntaxes()])
    assert [context.transfer_syntax[0] for context in assoc.accepted_contexts] == transfer_syntaxes()
    assoc.release()


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
    site.released.get(timeout=PATIENCE_S)
    out, err = capfd.readouterr()
    assert "ZZPHI" not in everything_logged.getvalue() + out + err
    assert len(site.received) == 2


# How it ends.


@pytest.mark.parametrize("end", ["release", "abort", "break"])
def test_the_end_is_told(start_site: StartSite, end: str) -> None:
    """Once, with the id that the instances came under, however the association ended."""
    site = start_site()
    assoc = site.associate(proposed=CT)
    send_raw(assoc, "1.2.3.4", encoded(image()))
    send_raw(assoc, "1.2.3.5", encoded(image()))
    assert site.released.empty()
    if end == "break":
        assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)
    else:
        getattr(assoc, end)()
    assert site.released.get(timeout=PATIENCE_S) == site.received[0].association_id
    site.server.shutdown(PATIENCE_S)
    assert site.released.empty()


def test_an_association_without_instances_is_not_told(start_site: StartSite) -> None:
    site = start_site()
    assoc = site.associate()
    assoc.send_c_echo()
    assoc.release()
    site.server.shutdown(PATIENCE_S)
    assert site.released.empty()


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
    assert site.released.get(timeout=PATIENCE_S) == site.received[0].association_id


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
    assert site.released.get(timeout=PATIENCE_S) == site.received[0].association_id
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
