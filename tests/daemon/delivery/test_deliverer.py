"""From the outbox to a real storage node: what arrives, what is written down, and how often it is tried."""

import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import CTImageStorage, JPEG2000Lossless, MRImageStorage
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, build_context, evt
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from daemon.configuration.config import Config, Destination, Peer, Rule
from daemon.delivery.statuses import ADVICE, advice_on
from daemon.jobs import HaltCode, State
from dicom_io.files.uids import derive_uid
from dicom_io.network import scp
from tests.daemon.delivery.conftest import Node, Office, closed_port, silent_port

MakeOffice = Callable[[Config], Office]
MakeConfig = Callable[..., Config]
StartNode = Callable[..., Node]


def test_objects_arrive_as_they_lie_in_the_outbox(
    make_office: MakeOffice, make_config: MakeConfig, start_node: StartNode, read_log: Any
):
    """SEG before SR, the data set byte for byte, under our AE title; then the job is at its end."""
    node = start_node()
    office = make_office(make_config(node.server.port))
    job_id = office.report()
    assert office.deliver() == 2
    assert [item.calling_ae_title for item in node.received] == ["PORTA", "PORTA"]
    for item, name in zip(node.received, ("seg", "sr"), strict=True):
        content = office.path(job_id, name).read_bytes()
        assert len(item.data) > 500
        assert content.endswith(item.data)
        # Nothing of the data set is missing in front: what precedes it is the file meta information.
        assert b"\x08\x00\x16\x00UI" not in content[: -len(item.data)]
        assert item.sop_instance_uid == derive_uid("instance", f"result {job_id}", name == "sr")
    assert office.look(job_id) == [("STORED", 0, "0x0000")] * 2
    assert office.ledger.job(job_id).state == State.DELIVERED
    assert office.deliver() == 0
    assert len(node.received) == 2
    lines = read_log.named("object.stored")
    assert [(line["object"], line["job_id"], line["status"]) for line in lines] == [
        ("seg", job_id, "0x0000"),
        ("sr", job_id, "0x0000"),
    ]


def test_stored_with_a_warning_is_stored(make_office: MakeOffice, make_config: MakeConfig, start_node: StartNode):
    """PS3.4 table B.2-1: 0xB000 says that elements were coerced, and that it is kept."""
    node = start_node()
    node.status = 0xB000
    office = make_office(make_config(node.server.port))
    job_id = office.report()
    assert office.deliver() == 2
    assert office.look(job_id) == [("STORED", 0, "0xB000")] * 2


TAKEN = {
    "class not taken": build_context(MRImageStorage),
    "syntax not taken": build_context(CTImageStorage, JPEG2000Lossless),
}
"""What an archive accepts that was not set up for what it is sent."""


@pytest.fixture
def start_archive() -> Iterator[Callable[[PresentationContext], int]]:
    """The port of an archive that accepts one presentation context."""
    archives = []

    def start(context: PresentationContext) -> int:
        archives.append(AE("ARCHIVE"))
        server = archives[-1].start_server(("127.0.0.1", 0), block=False, contexts=[context])
        assert server is not None
        return int(server.server_address[1])

    yield start
    for archive in archives:
        archive.shutdown()


@pytest.fixture
def make_refusal(
    start_node: StartNode, start_archive: Callable[[PresentationContext], int]
) -> Iterator[Callable[[str], int]]:
    """A port where the delivery fails in this way."""
    with silent_port() as silent:

        def port(way: str) -> int:
            if way == "nobody listens":
                return closed_port()
            if way == "no answer":
                return silent
            if way in TAKEN:
                return start_archive(TAKEN[way])
            node = start_node(calling="SOMEBODY" if way == "not let in" else "PORTA")
            node.status = 0xA700
            return node.server.port

        yield port


@pytest.mark.parametrize(
    ("way", "status"),
    [
        ("nobody listens", "UNREACHABLE"),
        ("no answer", "UNREACHABLE"),
        ("not let in", "ASSOCIATION_REFUSED"),
        ("out of resources", "0xA700"),
    ],
)
def test_an_outage_is_waited_for(
    make_office: MakeOffice,
    make_config: MakeConfig,
    make_refusal: Callable[[str], int],
    read_log: Any,
    way: str,
    status: str,
):
    """It costs no object an attempt, is written down with its code, and is one line for all that wait there."""
    destination = Destination(peer="archive", attempts=3, first_retry_s=10, timeout_s=0.5)
    office = make_office(make_config(make_refusal(way), destination=(destination,)))
    job_id = office.report()
    assert office.deliver() == 0
    assert office.look(job_id) == [("PENDING", 0, status)] * 2
    assert {item.not_before for item in office.ledger.deliveries_of(job_id)} == {office.clock() + 10}
    assert office.ledger.job(job_id).state == State.REPORTED
    (line,) = read_log.named("destination.awaited")
    assert (line["destination"], line["status"], line["deliveries"], line["delay_s"]) == ("archive", status, 2, 10.0)
    assert advice_on(status)
    office.clock.pass_s(9.9)
    assert office.ledger.due_deliveries(now=office.clock()) == []


@pytest.mark.parametrize(
    ("status", "word"),
    [
        ("0x0122", "class"),
        ("0x0124", "right"),
        ("0x0110", "log"),
        ("0xA700", "room"),
        ("0xA7FF", "room"),
        ("0xA900", "match"),
        ("0xC000", "understand"),
        ("0xC123", "understand"),
        ("0xD123", "log"),
        ("NOT_HELD", "log"),
    ],
)
def test_each_failure_has_its_advice(status: str, word: str):
    """Whatever an archive answers, a person reads what to do."""
    assert word in str(advice_on(status))


@pytest.mark.parametrize("status", [None, "0x0000", "0xB000", "0xB007"])
def test_a_success_needs_no_advice(status: str | None):
    assert advice_on(status) is None


@pytest.mark.parametrize(
    ("way", "status"), [("class not taken", "CLASS_NOT_ACCEPTED"), ("syntax not taken", "SYNTAX_NOT_ACCEPTED")]
)
def test_what_is_refused_for_good_halts_at_once(
    make_office: MakeOffice,
    make_config: MakeConfig,
    make_refusal: Callable[[str], int],
    read_log: Any,
    way: str,
    status: str,
):
    """No further attempt would have another answer; the log names the class, and a person can do something."""
    office = make_office(make_config(make_refusal(way)))
    job_id = office.report()
    assert office.deliver() == 0
    assert office.look(job_id) == [("FAILED", 1, status)] * 2
    assert office.halts(job_id) == [HaltCode.DELIVERY_REFUSED] * 2
    assert office.ledger.job(job_id).halt is None
    lines = read_log.named("delivery.halted")
    assert {(line["level"], line["sop_class_uid"], line["job_id"]) for line in lines} == {
        ("error", CTImageStorage, job_id)
    }
    assert status in ADVICE


@pytest.mark.parametrize("status", [0x0122, 0x0124, 0xA900, 0xC000])
def test_an_object_that_is_refused_for_good_stops_no_other(
    make_office: MakeOffice, make_config: MakeConfig, start_node: StartNode, status: int
):
    """The archive takes the others of the same round."""
    node = start_node()
    office = make_office(make_config(node.server.port))
    first = office.report(1)
    node.status = status
    assert office.deliver() == 0
    node.status = 0x0000
    second = office.report(2)
    assert office.deliver() == 2
    assert office.halts(first) == [HaltCode.DELIVERY_REFUSED] * 2
    assert office.ledger.job(second).state == State.DELIVERED


def test_an_error_is_tried_as_often_as_configured(
    make_office: MakeOffice, make_config: MakeConfig, start_node: StartNode, read_log: Any
):
    """0x0110, processing failure, may pass: the waits double, to the longest; then that object halts."""
    node = start_node()
    node.status = 0x0110
    destination = Destination(peer="archive", attempts=5, first_retry_s=10, longest_retry_s=35)
    office = make_office(make_config(node.server.port, destination=(destination,)))
    job_id = office.report()
    for wait_s in (10, 20, 35, 35):
        office.deliver()
        assert office.ledger.deliveries_of(job_id)[0].not_before == office.clock() + wait_s
        office.clock.pass_s(wait_s)
    office.deliver()
    assert office.look(job_id)[0] == ("FAILED", 5, "0x0110")
    assert office.halts(job_id)[0] == HaltCode.DELIVERY_FAILED
    office.clock.pass_s(100_000)
    assert office.ledger.due_deliveries(now=office.clock()) == []
    line = read_log.named("delivery.halted")[0]
    assert (line["level"], line["destination"], line["status"]) == ("error", "archive", "0x0110")


def test_an_outage_ends_by_itself(
    make_office: MakeOffice, make_config: MakeConfig, start_node: StartNode, read_log: Any
):
    """A night without the archive: probed at the longest wait; when it answers all goes, and nobody says retry."""
    port = closed_port()
    destination = Destination(peer="archive", attempts=3, first_retry_s=10, longest_retry_s=600, timeout_s=1)
    office = make_office(make_config(port, destination=(destination,)))
    jobs = [office.report(number) for number in (1, 2, 3)]
    probes, ends = 0, office.clock() + 10 * 3600
    while office.clock() < ends:
        office.deliver()
        probes = len(read_log.named("destination.awaited"))
        office.clock.pass_s(60)
    assert probes == pytest.approx(10 * 6, abs=8)
    assert [office.look(job_id)[0] for job_id in jobs] == [("PENDING", 0, "UNREACHABLE")] * 3
    late = office.report(4)
    node = start_node(port=port)
    assert office.deliver() == 2  # the new object is the probe
    assert [line["deliveries"] for line in read_log.named("destination.resumed")] == [6]
    assert office.deliver() == 6
    assert len(node.received) == 8
    assert {office.ledger.job(job_id).state for job_id in (*jobs, late)} == {State.DELIVERED}


def test_an_outage_is_given_up_in_the_end(make_office: MakeOffice, make_config: MakeConfig, read_log: Any):
    """After `give_up_after_s`, in which it was asked again and again, each object halts; `porta retry` begins anew."""
    destination = Destination(peer="archive", first_retry_s=10, longest_retry_s=600, give_up_after_s=3600, timeout_s=1)
    office = make_office(make_config(closed_port(), destination=(destination,)))
    job_id = office.report()
    began = office.clock()
    while not office.halts(job_id)[0]:
        office.deliver()
        office.clock.pass_s(10)
    assert office.clock() - began == pytest.approx(3600, abs=700)
    assert office.halts(job_id) == [HaltCode.DESTINATION_UNREACHABLE] * 2
    assert {line["job_id"] for line in read_log.named("delivery.halted")} == {job_id}
    office.ledger.retry(job_id, now=office.clock())
    office.deliver()
    assert office.look(job_id) == [("PENDING", 0, "UNREACHABLE")] * 2


def test_a_retry_delivers_what_halted(make_office: MakeOffice, make_config: MakeConfig, start_node: StartNode):
    """After a person said `porta retry`: exactly the objects that were missing."""
    node = start_node()
    node.status = 0xC000
    office = make_office(make_config(node.server.port))
    job_id = office.report()
    office.deliver()
    assert office.halts(job_id) == [HaltCode.DELIVERY_REFUSED] * 2
    node.status, tried = 0x0000, len(node.received)
    office.ledger.retry(job_id, now=office.clock())
    assert office.deliver() == 2
    assert office.halts(job_id) == [None, None]
    assert office.ledger.job(job_id).state == State.DELIVERED
    assert len(node.received) == tried + 2


def test_an_object_that_is_never_answered_stops_no_other(
    make_office: MakeOffice, make_config: MakeConfig, start_node: StartNode
):
    """The archive hangs at it, and takes all others: it costs this one its attempts, and the destination nothing."""
    node = start_node()
    destination = Destination(peer="archive", attempts=3, first_retry_s=10, timeout_s=1)
    office = make_office(make_config(node.server.port, destination=(destination,)))
    poison = office.report(1)
    node.silent_at = derive_uid("instance", f"result {poison}", False)
    for number in range(2, 6):
        good = office.report(number)
        assert office.deliver() >= 2
        assert office.ledger.job(good).state == State.DELIVERED
        office.clock.pass_s(100)
    assert office.look(poison) == [("FAILED", 3, "ANSWER_LOST"), ("STORED", 0, "0x0000")]
    assert office.halts(poison) == [HaltCode.DELIVERY_FAILED, None]


def test_an_unreachable_peer_does_not_hold_up_another(
    make_office: MakeOffice, make_config: MakeConfig, start_node: StartNode
):
    """The objects for the other destination go out in the same round, and are confirmed there."""
    node = start_node("VIEWER")
    config = make_config(
        peer=(
            Peer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=closed_port()),
            Peer(name="viewer", ae_title="VIEWER", host="127.0.0.1", port=node.server.port),
        ),
        destination=(Destination(peer="archive", timeout_s=1), Destination(peer="viewer")),
        rule=(Rule(name="liver-ct", match={}, model="resnet50", destinations=("archive", "viewer")),),
    )
    office = make_office(config)
    job_id = office.report(destinations=("archive", "viewer"))
    assert office.deliver() == 2
    assert [state for state, _, _ in office.look(job_id)] == ["PENDING", "PENDING", "STORED", "STORED"]
    assert office.ledger.job(job_id).state == State.REPORTED


def test_what_one_destination_refuses_the_other_gets(
    make_office: MakeOffice, make_config: MakeConfig, start_node: StartNode
):
    """A job is done for each destination by itself: one halts, and the other has its objects and confirms them."""
    refusing, viewer = start_node(), start_node("VIEWER")
    refusing.status = 0xC000
    config = make_config(
        peer=(
            Peer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=refusing.server.port),
            Peer(name="viewer", ae_title="VIEWER", host="127.0.0.1", port=viewer.server.port),
        ),
        destination=(Destination(peer="archive"), Destination(peer="viewer")),
        rule=(Rule(name="liver-ct", match={}, model="resnet50", destinations=("archive", "viewer")),),
    )
    office = make_office(config)
    job_id = office.report(destinations=("archive", "viewer"))
    office.deliverer.deliver_to(config.destination("archive"))
    assert office.deliverer.deliver_to(config.destination("viewer")) == 2
    assert office.halts(job_id) == [HaltCode.DELIVERY_REFUSED] * 2 + [None] * 2
    assert len(viewer.received) == 2


def test_a_peer_that_answers_no_queries(make_office: MakeOffice, make_config: MakeConfig, start_node: StartNode):
    """Stored it is, confirmed never: a person is asked at once."""
    node = start_node()
    destination = Destination(peer="archive", confirm="query", attempts=2, first_retry_s=10, timeout_s=2)
    office = make_office(make_config(node.server.port, destination=(destination,)))
    job_id = office.report(confirm="query")
    assert office.deliver() == 2
    assert office.ledger.job(job_id).state == State.DELIVERED
    assert office.deliver() == 0
    assert office.look(job_id) == [("FAILED", 1, "FIND_NOT_ACCEPTED")] * 2
    assert office.halts(job_id) == [HaltCode.DELIVERY_REFUSED] * 2
    assert len(node.received) == 2


def test_a_peer_whose_queries_fail(make_office: MakeOffice, make_config: MakeConfig):
    """Stored it is, and the error of the C-FIND is not taken for one of the C-STORE."""
    ae = AE("ARCHIVE")
    ae.add_supported_context(CTImageStorage, ALL_TRANSFER_SYNTAXES)
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)

    def fail(event: evt.Event) -> Iterator[tuple[int, None]]:
        yield 0xC000, None

    handlers: list[Any] = [(evt.EVT_C_STORE, lambda event: 0x0000), (evt.EVT_C_FIND, fail)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    destination = Destination(peer="archive", confirm="query", attempts=1, first_retry_s=10, timeout_s=5)
    office = make_office(make_config(server.server_address[1], destination=(destination,)))
    job_id = office.report(confirm="query")
    assert office.deliver() == 2
    office.deliver()
    server.shutdown()
    assert {status for _, _, status in office.look(job_id)} == {"FIND_FAILED"}
    assert "C-FIND with an error" in ADVICE["FIND_FAILED"]


def invert(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 0xFF
    path.write_bytes(content)


TAMPERED: dict[str, tuple[Callable[[Path], object], str]] = {
    "gone": (Path.unlink, "OUTBOX_UNREADABLE"),
    "no DICOM": (lambda path: path.write_bytes(b"ZZPHI^CANARY is no DICOM" * 50), "OUTBOX_DAMAGED"),
    "a byte inverted": (invert, "OUTBOX_DAMAGED"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:300]), "OUTBOX_DAMAGED"),
    "empty": (lambda path: path.write_bytes(b""), "OUTBOX_DAMAGED"),
    "another object": (lambda path: path.write_bytes(path.with_name("sr.dcm").read_bytes()), "OUTBOX_DAMAGED"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_an_outbox_that_was_tampered_with(
    make_office: MakeOffice, make_config: MakeConfig, start_node: StartNode, what: str
):
    """The object is named, nothing of it is sent, and the other one goes out."""
    node = start_node()
    office = make_office(make_config(node.server.port))
    job_id = office.report()
    tamper, status = TAMPERED[what]
    tamper(office.path(job_id, "seg"))
    assert office.deliver() == 1
    assert office.look(job_id) == [("FAILED", 1, status), ("STORED", 0, "0x0000")]
    assert office.halts(job_id) == [HaltCode.OUTBOX_UNREADABLE, None]
    assert len(node.received) == 1
    assert status in ADVICE


@pytest.mark.parametrize("what", ["no destination", "no port"])
def test_a_destination_that_is_no_longer_configured(make_office: MakeOffice, make_config: MakeConfig, what: str):
    """The ledger remembers a name that the file does not have any more: a person must say what now."""
    peer = Peer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=None)
    config = make_config(destination=()) if what == "no destination" else make_config(peer=(peer,))
    office = make_office(config)
    job_id = office.report()
    office.deliver()
    assert office.look(job_id) == [("FAILED", 1, "NO_DESTINATION")] * 2
    assert office.halts(job_id) == [HaltCode.DESTINATION_GONE] * 2


def test_what_arrived_without_an_answer_is_not_sent_again(
    make_office: MakeOffice, make_config: MakeConfig, read_log: Any
):
    """The association broke before the answer: the archive is asked, has the one and not the other."""
    kept: list[str] = []
    stores: list[str] = []

    def store(event: evt.Event) -> int:
        stores.append(str(event.request.AffectedSOPInstanceUID))
        if len(stores) <= 2:
            if len(stores) == 1:
                kept.append(stores[0])
            event.assoc.abort()
        else:
            kept.append(stores[-1])
        return 0x0000

    def find(event: evt.Event) -> Iterator[tuple[int, Any]]:
        if event.identifier.SOPInstanceUID in kept:
            yield 0xFF00, event.identifier
        yield 0x0000, None

    archive = AE("ARCHIVE")
    archive.add_supported_context(CTImageStorage)
    archive.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    handlers = [(evt.EVT_C_STORE, store), (evt.EVT_C_FIND, find)]
    server = archive.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    try:
        office = make_office(make_config(int(server.server_address[1])))
        job_id = office.report()
        assert office.deliver() == 0
        assert office.look(job_id) == [("PENDING", 0, "ANSWER_LOST")] * 2
        assert "ANSWER_LOST" in ADVICE
        office.clock.pass_s(100)
        assert office.deliver() == 2
        assert office.look(job_id) == [("STORED", 0, "FOUND"), ("STORED", 0, "0x0000")]
        assert stores == [stores[0], stores[1], stores[1]]
    finally:
        archive.shutdown()


def test_hours_are_kept(make_office: MakeOffice, make_config: MakeConfig, start_node: StartNode):
    """Nothing is tried outside of them, and nothing counts as waited for."""
    node = start_node()
    at = datetime(2026, 3, 1, 12, 0)
    destination = Destination(peer="archive", hours=("18:00-07:00", "12:30-13:00"), timeout_s=5)
    office = make_office(make_config(node.server.port, destination=(destination,)))
    office.clock.now = at.timestamp()
    job_id = office.report()
    assert office.deliver() == 0
    assert [item.waited_s for item in office.ledger.deliveries_of(job_id)] == [0.0, 0.0]
    is_open = {hour: destination.is_open(at.replace(hour=hour, minute=30).timestamp()) for hour in (6, 7, 12, 13, 18)}
    assert is_open == {6: True, 7: False, 12: True, 13: False, 18: True}
    office.clock.pass_s(7 * 3600)
    assert office.deliver() == 2


def test_several_at_a_time(make_office: MakeOffice, make_config: MakeConfig, read_log: Any):
    """The first alone, as it may find nobody there; then as many as the destination takes at once, and no more."""
    together, inside, most = threading.Barrier(3), [0], [0]
    lock = threading.Lock()

    def keep(received: scp.Received) -> int:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        if received.sop_instance_uid != derive_uid("instance", "result 1", False):
            together.wait(20)
        with lock:
            inside[0] -= 1
        return 0x0000

    server = scp.start(ae_title="ARCHIVE", host="127.0.0.1", port=0, callers=[scp.Caller("PORTA")], store=keep)
    try:
        destination = Destination(peer="archive", attempts=3, timeout_s=30.0, associations=3)
        office = make_office(make_config(server.port, destination=(destination,)))
        jobs = [office.report(number) for number in (1, 2)]
        assert office.deliver() == 4
    finally:
        together.abort()
        server.shutdown(10)
    assert most == [3]
    assert [office.look(job) for job in jobs] == [[("STORED", 0, "0x0000")] * 2] * 2


def test_a_destination_has_one_pace(make_office: MakeOffice, make_config: MakeConfig, start_node: StartNode):
    """All that goes there keeps it together, and nothing that goes elsewhere."""
    node = start_node()
    destination = Destination(peer="archive", bandwidth_mbit=1000.0)
    office = make_office(make_config(node.server.port, destination=(destination,)))
    waited: list[int] = []
    assert list(office.deliverer._paces) == ["archive"]
    office.deliverer._paces["archive"] = lambda count: waited.append(count) or 0.0  # type: ignore[assignment]
    office.report()
    assert office.deliver() == 2
    assert sum(waited) > sum(len(item.data) for item in node.received)
