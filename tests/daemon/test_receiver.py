"""C-STORE over real associations: what is answered when, and when a series has no sender left."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, build_context
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE

from daemon.configuration.config import Config, Dicom, Peer, Tls
from daemon.errors import LedgerUnavailable
from daemon.intake import Intake
from daemon.ledger.answers import is_incomplete
from daemon.ledger.desk import Desk
from daemon.ledger.store import Instance, Ledger
from daemon.receiver import MOST_PENDING, Receiver
from daemon.storage.spool import Spool
from dicom_io.errors import AssociationRefused
from dicom_io.files.uids import derive_uid
from dicom_io.network.scp import Refusal, Refused
from dicom_io.network.scu import Remote, store
from dicom_io.tls import Certificates
from tests.dicom_io.network.pdus import rejection

PATIENCE_S = 30
CANARY = "ZZPHI^CANARY"


class WatchedLedger:
    """A ledger that waits before it commits, or is away, when a test says so."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.asked_to_commit = threading.Event()
        self.may_commit = threading.Event()
        self.may_commit.set()
        self.error: Exception | None = None

    def record_instance(self, *args: Any, **kwargs: Any) -> bool:
        self.asked_to_commit.set()
        assert self.may_commit.wait(PATIENCE_S)
        if self.error:
            raise self.error
        return self._ledger.record_instance(*args, **kwargs)

    def release_series(self, *args: Any, **kwargs: Any) -> None:
        if self.error:
            raise self.error
        self._ledger.release_series(*args, **kwargs)

    def hold_series(self, *args: Any, **kwargs: Any) -> None:
        if self.error:
            raise self.error
        self._ledger.hold_series(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)


@dataclass
class Site:
    """A running receiver."""

    receiver: Receiver
    port: int
    ledger: Ledger
    watched: WatchedLedger
    spool: Spool
    engine: sa.Engine
    make_ct: Callable[..., bytes]

    def associate(self, calling: str = "MODALITY", called: str = "PORTA") -> Association:
        contexts = [build_context(CTImageStorage, ExplicitVRLittleEndian)]
        return AE(calling).associate("127.0.0.1", self.port, ae_title=called, contexts=contexts)

    def send(self, assoc: Association, series: int = 1, index: int = 1) -> int:
        return int(assoc.send_c_store(dcmread(BytesIO(self.make_ct(series, index)))).Status)

    def released_at(self, series: int) -> float | None:
        with self.engine.connect() as connection:
            query = sa.text("SELECT released_at FROM series WHERE series_instance_uid = :uid")
            found = connection.execute(query, {"uid": derive_uid("series", series)}).scalar_one()
        return None if found is None else float(found)

    def is_incomplete(self, series: int) -> bool:
        return is_incomplete(self.ledger.database, derive_uid("series", series))


@pytest.fixture
def site(
    make_config: Callable[..., Config],
    spool: Spool,
    ledger: Ledger,
    clock: Any,
    make_ct: Callable[..., bytes],
    read_log: Any,
    tmp_path: Path,
    assert_no_canary: Callable[[Path], None],
) -> Iterator[Site]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    watched = WatchedLedger(ledger)
    intake = Intake(spool, watched, clock)  # type: ignore[arg-type]
    receiver = Receiver(make_config(dicom=Dicom(port=port)), intake, watched, clock)  # type: ignore[arg-type]
    assert receiver.start() == port
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield Site(receiver, port, ledger, watched, spool, engine, make_ct)
    receiver.stop(PATIENCE_S)
    engine.dispose()
    assert read_log.events is not None
    assert_no_canary(tmp_path)


def send_raw(assoc: Association, instance_uid: str | None, data: bytes) -> int:
    """A C-STORE request that pynetdicom's own SCU would not send; its answer."""
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
    return int(response.Status)


def data_set(content: bytes) -> bytes:
    return content[content.index(b"\x08\x00\x16\x00UI") :]


def test_success_is_said_after_the_commit(site: Site):
    """While the row is not committed the sender has no answer; when it has one, file and row are there."""
    site.watched.may_commit.clear()
    answered = threading.Event()
    statuses: list[int] = []
    assoc = site.associate()

    def send() -> None:
        statuses.append(site.send(assoc))
        answered.set()

    thread = threading.Thread(target=send)
    thread.start()
    assert site.watched.asked_to_commit.wait(PATIENCE_S)
    (path,) = (site.spool.root / "spool").rglob("*.dcm")
    assert not answered.wait(0.3)
    assert site.ledger.all_jobs() == []
    site.watched.may_commit.set()
    assert answered.wait(PATIENCE_S)
    thread.join()
    assert statuses == [0x0000]
    instance = site.ledger.versions(derive_uid("series", 1), derive_uid("instance", 1, 1))[-1]
    assert instance is not None
    assert site.spool.root / instance.path == path
    assert data_set(path.read_bytes()) == data_set(site.make_ct(1, 1))
    assert instance.calling_ae_title == "MODALITY"
    assoc.release()


def test_every_instance_is_answered_and_counted(site: Site):
    """Two series over one association, one of them sent twice."""
    assoc = site.associate()
    assert [site.send(assoc, series, index) for series in (1, 2, 1) for index in range(4)] == [0x0000] * 12
    assoc.release()
    assert [job.instances for job in site.ledger.all_jobs()] == [4, 4]


@pytest.mark.parametrize(
    ("instance_uid", "data", "status", "reason"),
    [
        (derive_uid("instance", 1, 1), f"{CANARY} is no data set".encode(), 0xC000, "UNDECODABLE"),
        ("1.2.3.4", None, 0xA900, "MISMATCH"),
        ("../../etc/passwd", None, 0xA900, "MISMATCH"),
    ],
)
def test_what_is_not_taken_is_answered_and_kept_aside(
    site: Site, read_log: Any, instance_uid: str, data: bytes | None, status: int, reason: str
):
    """With the status of PS3.4 table B.2-1; the association goes on."""
    assoc = site.associate()
    content = data_set(site.make_ct()) if data is None else data
    assert send_raw(assoc, instance_uid, content) == status
    assert site.ledger.all_jobs() == []
    (kept,) = (site.spool.root / "quarantine").glob("*.dcm")
    assert kept.read_bytes().endswith(content)
    assert f'"{reason}"' in kept.with_suffix(".reason").read_text()
    (line,) = read_log.named("instance.quarantined")
    assert (line["code"], line["level"]) == (reason, "error")
    assert site.send(assoc) == 0x0000
    assoc.release()


def test_a_ledger_that_is_away_is_out_of_resources(site: Site):
    """0xA700: the sender keeps the image and sends it again; then it is stored."""
    assoc = site.associate()
    site.watched.error = LedgerUnavailable("OperationalError")
    assert site.send(assoc) == 0xA700
    assert site.ledger.all_jobs() == []
    site.watched.error = None
    assert site.send(assoc) == 0x0000
    assoc.release()


def test_a_ledger_that_was_deleted_is_out_of_resources(site: Site, tmp_path: Path):
    """Until it is back; nothing that came meanwhile is acknowledged."""
    assoc = site.associate()
    assert site.send(assoc, index=1) == 0x0000
    (tmp_path / "ledger.sqlite").rename(tmp_path / "away.sqlite")
    assert site.send(assoc, index=2) == 0xA700
    (tmp_path / "away.sqlite").rename(tmp_path / "ledger.sqlite")
    assert site.send(assoc, index=2) == 0x0000
    assoc.release()


def test_an_error_nobody_thought_of_is_answered(site: Site, read_log: Any):
    """The sender gets a failure, the log a line with the type, and the next instance its chance."""
    assoc = site.associate()
    site.watched.error = ZeroDivisionError(CANARY)
    assert site.send(assoc) == 0xC002
    (line,) = read_log.named("instance.failed")
    assert line["error"] == ["ZeroDivisionError"]
    site.watched.error = None
    assert site.send(assoc) == 0x0000
    assoc.release()


def test_a_release_is_written_down(site: Site, clock: Any, until: Callable[[Callable[[], object]], None]):
    """For each series that the association brought."""
    assoc = site.associate()
    for series in (1, 2):
        site.send(assoc, series)
    clock.pass_s(3)
    assert site.released_at(1) is None
    assoc.release()
    until(lambda: site.released_at(1) is not None)
    assert site.released_at(1) == site.released_at(2) == clock()
    due = site.ledger.due_series(now=clock() + 5, quiet_s=20, released_quiet_s=5)
    assert len(due) == 2


def due(site: Site, now: float) -> list[int]:
    """The series that count as complete, by their number."""
    found = site.ledger.due_series(now=now, quiet_s=20, released_quiet_s=5)
    numbers = {derive_uid("series", number): number for number in (1, 2, 3)}
    return sorted(numbers[item.series_instance_uid] for item in found)


@pytest.mark.parametrize("end", ["abort", "break"])
def test_what_broke_off_waits_for_quiet(
    site: Site, clock: Any, read_log: Any, until: Callable[[Callable[[], object]], None], end: str
):
    """16 of 30 images, then an abort or a lost line: the rest may come yet."""
    assoc = site.associate()
    for index in range(1, 17):
        site.send(assoc, 1, index)
    if end == "break":
        assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)
    else:
        assoc.abort()
    until(lambda: read_log.named("association.ended"))
    site.receiver.stop(PATIENCE_S)
    assert (due(site, clock() + 19), due(site, clock() + 20)) == ([], [1])


def test_no_release_tells_that_the_rest_has_come(
    site: Site, clock: Any, read_log: Any, until: Callable[[Callable[[], object]], None]
):
    """Neither one beside the abort, nor one after it, which brings the rest, a part of it or what was here already."""
    first, second = site.associate(), site.associate()
    site.send(first, 1, 1)
    site.send(second, 1, 2)
    first.abort()
    until(lambda: read_log.named("association.ended"))
    site.send(second, 3, 1)
    second.release()
    until(lambda: site.released_at(3) is not None)
    assert due(site, clock() + 6) == [3]
    later = site.associate()
    site.send(later, 1, 2)
    site.send(later, 1, 3)
    site.send(later, 2, 1)
    later.release()
    until(lambda: site.released_at(2) is not None)
    assert due(site, clock() + 19) == [2, 3]
    assert due(site, clock() + 20) == [1, 2, 3]


def test_an_abort_within_an_image_holds_what_its_sender_sends(
    site: Site, clock: Any, read_log: Any, until: Callable[[Callable[[], object]], None]
):
    """An association for each image, and the last breaks off in the middle: which series lacks it nobody knows."""
    assoc = site.associate()
    site.send(assoc)
    assoc.release()
    until(lambda: site.released_at(1) is not None)
    break_within_an_image(site.associate())
    until(lambda: read_log.named("association.ended"))
    until(lambda: site.released_at(1) is None)
    assert (due(site, clock() + 19), due(site, clock() + 20)) == ([], [1])


def break_within_an_image(assoc: Association) -> None:
    pdv = struct.pack(">LBB", 102, 1, 1) + bytes(100)  # of a command; more is to come
    assoc.dul.socket.socket.sendall(b"\x04\x00" + struct.pack(">L", len(pdv)) + pdv)
    assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(("again", "is_whole"), [((1, 2), False), ((1, 2, 3), True), ((3,), True), ((1, 2, 4), True)])
def test_what_broke_off_is_incomplete_until_its_sender_goes_on(
    site: Site, until: Callable[[Callable[[], object]], None], again: tuple[int, ...], is_whole: bool
):
    """One that began beside the abort says nothing of the rest, nor does one that brings a part of what was here."""
    first, beside = site.associate(), site.associate()
    site.send(first, 1, 1)
    site.send(beside, 1, 2)
    assert not site.is_incomplete(1)
    first.abort()
    until(lambda: site.is_incomplete(1))
    site.send(beside, 1, 4)
    site.send(beside, 2, 1)
    beside.release()
    until(lambda: site.released_at(2) is not None)
    later = site.associate()
    for index in again:
        site.send(later, 1, index)
    site.send(later, 3, 1)
    assert site.is_incomplete(1) and not site.is_incomplete(2)
    later.release()
    until(lambda: site.released_at(3) is not None)
    site.receiver.stop(PATIENCE_S)
    assert site.is_incomplete(1) is not is_whole


def test_an_image_of_which_a_part_came_makes_all_that_its_sender_sends_incomplete(
    site: Site, until: Callable[[Callable[[], object]], None]
):
    """An association for each image: of which series the last one was nobody knows, but it was the same sender's."""
    for series in (1, 2):
        assoc = site.associate()
        site.send(assoc, series)
        assoc.release()
    until(lambda: site.released_at(2) is not None)
    break_within_an_image(site.associate())
    until(lambda: site.is_incomplete(1) and site.is_incomplete(2))


@pytest.mark.parametrize("comes_again", [False, True])
def test_a_release_after_a_failure_closes_nothing(
    site: Site, clock: Any, until: Callable[[Callable[[], object]], None], comes_again: bool
):
    """The sender was told that an image was not stored, and released: unless it sent that again, one is missing."""
    assoc = site.associate()
    site.send(assoc, 1, 1)
    site.watched.error = LedgerUnavailable("OperationalError")
    assert site.send(assoc, 1, 2) == 0xA700
    site.watched.error = None
    if comes_again:
        assert site.send(assoc, 1, 2) == 0x0000
    assoc.release()
    until(lambda: site.released_at(1) is not None if comes_again else site.is_incomplete(1))
    assert site.is_incomplete(1) is not comes_again
    assert due(site, clock() + 19) == ([1] if comes_again else [])


def test_a_break_while_the_ledger_is_away(site: Site, read_log: Any, until: Callable[[Callable[[], object]], None]):
    """It is told when it is back."""
    assoc = site.associate()
    site.send(assoc)
    site.watched.error = LedgerUnavailable("OperationalError")
    assoc.abort()
    until(lambda: read_log.named("release.lost"))
    assert not site.is_incomplete(1)
    site.watched.error = None
    site.receiver.tell_refusals()
    assert site.is_incomplete(1)


def test_a_series_that_two_associations_bring(site: Site, clock: Any, until: Callable[[Callable[[], object]], None]):
    """Is released with the second of them."""
    first, second = site.associate(), site.associate()
    site.send(first, 1, 1)
    site.send(second, 1, 2)
    site.send(first, 2, 1)
    first.release()
    # Series 2 was the first's alone: when that is written down, all that the first's end means is.
    until(lambda: site.released_at(2) is not None)
    assert site.released_at(1) is None
    clock.pass_s(7)
    second.release()
    until(lambda: site.released_at(1) is not None)
    assert site.released_at(1) == clock()


def test_an_instance_that_was_there_already_counts_as_brought(
    site: Site, until: Callable[[Callable[[], object]], None]
):
    """Who sends a series a second time will not send it a third: it need not wait for quiet."""
    first, second = site.associate(), site.associate()
    site.send(first, 1)
    site.send(second, 1)
    first.release()
    second.release()
    until(lambda: site.released_at(1) is not None)


def test_a_release_while_the_ledger_is_away(site: Site, read_log: Any, until: Callable[[Callable[[], object]], None]):
    """Is lost, said, and made good by `quiet_s`; the receiver goes on."""
    assoc = site.associate()
    site.send(assoc)
    site.watched.error = LedgerUnavailable("OperationalError")
    assoc.release()
    until(lambda: read_log.named("release.lost"))
    (line,) = read_log.named("release.lost")
    assert (line["level"], line["series"]) == ("warning", 1)
    site.watched.error = None
    assoc = site.associate()
    assert site.send(assoc, 2) == 0x0000
    assoc.release()
    until(lambda: site.released_at(2) is not None)
    assert site.released_at(1) is None


def test_strangers_are_refused_and_named(site: Site, read_log: Any, until: Callable[[Callable[[], object]], None]):
    """Only peers with `accept` may associate, and only with our AE title; the archive has none."""
    for calling, called in (("STRANGER", "PORTA"), ("ARCHIVE", "PORTA"), ("MODALITY", "ELSEWHERE")):
        assert rejection(site.port, calling, called)
    until(lambda: len(read_log.named("association.refused")) == 3)
    assert [(line["reason"], line["calling_ae_title"]) for line in read_log.named("association.refused")] == [
        ("CALLING_AE_TITLE", "STRANGER"),
        ("CALLING_AE_TITLE", "ARCHIVE"),
        ("CALLED_AE_TITLE", "MODALITY"),
    ]


def test_other_peers_are_let_in_from_a_reload_on(site: Site, make_config: Callable[..., Config]):
    """Who is inside stays, and can go on sending."""
    inside = site.associate()
    peers = (Peer(name="ct7", ae_title="CT7", host="127.0.0.1", accept=True),)
    site.receiver.reload(make_config(peer=peers, dicom=Dicom(port=site.port)))
    assert site.send(inside) == 0x0000
    assert rejection(site.port)
    other = site.associate("CT7")
    assert other.is_established
    for assoc in (inside, other):
        assoc.release()


def test_the_ledger_is_told_what_was_refused(site: Site, until: Callable[[Callable[[], object]], None]):
    """Counted by peer and reason, when the clock says so; and no more is remembered than strangers may make up."""
    for calling in ("STRANGER", "STRANGER", "OTHER"):
        assert rejection(site.port, calling)
    proposed = [build_context(CTImageStorage), build_context("1.2.840.10008.5.1.4.1.2.2.1")]
    AE("MODALITY").associate("127.0.0.1", site.port, ae_title="PORTA", contexts=proposed).release()
    assoc = site.associate()
    site.send(assoc)
    assoc.abort()
    desk, told = Desk(site.ledger), dict[tuple[str, ...], int]()

    def tell() -> bool:
        site.receiver.tell_refusals()
        told.update({item.key: item.count for item in desk.refusals(since=0)})
        return len(told) == 4

    until(tell)
    assert told == {
        ("ASSOCIATION", "CALLING_AE_TITLE", "STRANGER", "PORTA", "127.0.0.1"): 2,
        ("ASSOCIATION", "CALLING_AE_TITLE", "OTHER", "PORTA", "127.0.0.1"): 1,
        ("CONTEXT", "1.2.840.10008.5.1.4.1.2.2.1", "MODALITY", "PORTA", "127.0.0.1"): 1,
        ("BROKEN_OFF", "ABORTED", "MODALITY", "PORTA", "127.0.0.1"): 1,
    }
    for number in range(MOST_PENDING + 50):
        site.receiver._association_refused(Refused(Refusal.CALLING_AE_TITLE, f"X{number}\n", "PORTA", "192.0.2.1"))
    site.receiver.tell_refusals()
    found = [item for item in desk.refusals(since=0) if item.host == "192.0.2.1"]
    assert len(found) == MOST_PENDING
    assert {item.calling_ae_title[-1] for item in found} == {"?"}


def test_an_end_that_is_no_release_is_named(site: Site, read_log: Any, until: Callable[[Callable[[], object]], None]):
    """One line each, with the host, the AE titles as far as they are known, and the reason."""
    site.associate().release()
    site.associate().abort()
    with socket.create_connection(("127.0.0.1", site.port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        until(lambda: len(read_log.named("association.ended")) == 2)
    lines = read_log.named("association.ended")
    assert [(line["reason"], line["calling_ae_title"], line["called_ae_title"], line["host"]) for line in lines] == [
        ("ABORTED", "MODALITY", "PORTA", "127.0.0.1"),
        ("PROTOCOL_ERROR", "", "", "127.0.0.1"),
    ]


def test_refused_contexts_are_named(site: Site, read_log: Any, until: Callable[[Callable[[], object]], None]):
    """The classes that were not accepted, with the peer that proposed them: what it sends in them will fail."""
    proposed = [build_context(CTImageStorage), build_context("1.2.840.10008.5.1.4.1.2.2.1")]
    AE("MODALITY").associate("127.0.0.1", site.port, ae_title="PORTA", contexts=proposed).release()
    until(lambda: read_log.named("contexts.refused"))
    (line,) = read_log.named("contexts.refused")
    assert (line["calling_ae_title"], line["contexts"]) == ("MODALITY", ["1.2.840.10008.5.1.4.1.2.2.1"])


def test_stop_gives_the_port_back(site: Site):
    """Nobody is let in any more, and another service may listen there."""
    assoc = site.associate()
    assert site.send(assoc) == 0x0000
    site.receiver.stop(PATIENCE_S)
    assert not site.associate().is_established
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", site.port))


def test_another_title_and_port(
    site: Site,
    make_config: Callable[..., Config],
    free_port: Callable[[], int],
    until: Callable[[Callable[[], object]], None],
):
    """What is open goes on; who comes is let in at the new port and under the new title alone; a taken port is none."""
    assoc = site.associate()
    assert site.send(assoc) == 0x0000
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="in use"):
        site.receiver.reload(make_config(dicom=Dicom(ae_title="LIVER", port=other.getsockname()[1])))
    site.associate().release()

    old, site.port = site.port, free_port()
    site.receiver.reload(make_config(dicom=Dicom(ae_title="LIVER", port=site.port)))
    assert site.send(assoc, index=2) == 0x0000
    assert not site.associate().is_established
    newer = site.associate(called="LIVER")
    assert site.send(newer, index=3) == 0x0000
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", old))
    site.receiver.reload(make_config(dicom=Dicom(ae_title="PORTA", port=site.port)))
    assert site.send(newer, index=4) == 0x0000
    site.associate().release()
    site.receiver.stop(PATIENCE_S)
    until(lambda: not (assoc.is_established or newer.is_established))


def test_a_port_that_is_taken(site: Site, make_config: Callable[..., Config]):
    """OSError at the start, before anything is accepted."""
    with pytest.raises(OSError, match="in use"):
        Receiver(make_config(dicom=Dicom(port=site.port)), None, site.ledger).start()  # type: ignore[arg-type]


def test_a_second_port_speaks_tls(
    make_config: Callable[..., Config],
    issue: Callable[..., Any],
    free_port: Callable[[], int],
    spool: Spool,
    ledger: Ledger,
    make_ct: Callable[..., bytes],
    tmp_path: Path,
):
    """Beside the plain one; a peer with `tls` is let in over TLS alone, and any other by both."""
    ours, theirs = issue("porta"), issue("modality")
    ports = free_port(), free_port()
    tls = Tls(port=ports[1], certificate_file=ours.certificate, key_file=ours.key, ca_file=ours.ca)
    peers = (
        Peer(name="modality", ae_title="MODALITY", accept=True),
        Peer(name="remote", ae_title="REMOTE", accept=True, tls=True),
        Peer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=1),
    )
    config = make_config(peer=peers, dicom=Dicom(port=ports[0], tls=tls))
    receiver = Receiver(config, Intake(spool, ledger), ledger)
    receiver.start()
    path = tmp_path / "image.dcm"
    path.write_bytes(make_ct())
    certificates = Certificates(theirs.ca, theirs.certificate, theirs.key)
    plain, secure = Remote("PORTA", "localhost", ports[0]), Remote("PORTA", "localhost", ports[1], certificates)
    try:
        for remote, title in ((plain, "MODALITY"), (secure, "MODALITY"), (secure, "REMOTE")):
            assert store(remote, [path], calling_ae_title=title, timeout_s=10) == (0x0000,)
        with pytest.raises(AssociationRefused):
            store(plain, [path], calling_ae_title="REMOTE", timeout_s=10)
    finally:
        receiver.stop(10)


def test_what_is_more_than_a_peer_may_store_in_a_day(
    site: Site, make_config: Callable[..., Config], make_instance: Callable[..., Instance], clock: Any, read_log: Any
):
    """Refused for the moment, so that it is sent again; what the ledger has counts, and at midnight all is new."""
    peers = (Peer(name="modality", ae_title="MODALITY", accept=True, maximum_mb_a_day=1),)
    site.receiver.reload(make_config(dicom=Dicom(port=site.port), peer=peers, destination=(), rule=()))
    site.ledger.record_instance(make_instance(5, bytes=(1 << 20) - 1500), now=clock())
    assoc = site.associate()
    assert [site.send(assoc, index=index) for index in (1, 2, 3)] == [0x0000, 0xA700, 0xA700]
    clock.pass_s(86_400)
    assert site.send(assoc, index=2) == 0x0000
    assoc.release()
    (line,) = read_log.named("peer.exhausted")
    assert line["calling_ae_title"] == "MODALITY"
    assert list((site.spool.root / "incoming").iterdir()) == []
