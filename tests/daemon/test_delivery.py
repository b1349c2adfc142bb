"""From the outbox to a real storage node: what arrives, what is written down, and how often it is tried."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import CTImageStorage, JPEG2000Lossless, MRImageStorage
from pynetdicom import AE, build_context
from pynetdicom.presentation import PresentationContext

from daemon.choice import Choice, Chosen
from daemon.configuration.config import Config, Destination, Peer, Rule
from daemon.delivery import ADVICE, Deliverer
from daemon.jobs import DeliveryState, Event, HaltCode, State
from daemon.ledger.store import Instance, Ledger, Outgoing
from daemon.spool import Spool, write_durably
from dicom_io.network import scp
from dicom_io.uids import derive_uid

LEASE = "host/1"


@dataclass
class Node:
    """A storage node that says what it is told to say, and keeps what it is sent."""

    server: scp.Server
    received: list[scp.Received] = field(default_factory=list)
    status: int = 0x0000


@pytest.fixture
def start_node() -> Iterator[Callable[..., Node]]:
    nodes: list[Node] = []

    def start(ae_title: str = "ARCHIVE", *, calling: str = "PORTA", port: int = 0) -> Node:
        node: Node

        def store(received: scp.Received) -> int:
            node.received.append(received)
            return node.status

        callers = [scp.Caller(calling)]
        node = Node(scp.start(ae_title=ae_title, host="127.0.0.1", port=port, callers=callers, store=store))
        nodes.append(node)
        return node

    yield start
    for node in nodes:
        node.server.shutdown(10)


@contextmanager
def silent_port() -> Iterator[int]:
    """A port where connections are taken and nothing is ever said."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Office:
    """A deliverer with everything around it."""

    deliverer: Deliverer
    ledger: Ledger
    spool: Spool
    clock: Any
    make_ct: Callable[..., bytes]
    make_instance: Callable[..., Instance]

    def report(self, number: int = 1, *, destinations: tuple[str, ...] = ("archive",), confirm: str = "none") -> int:
        """A job in REPORTED with SEG and SR in its outbox; its id."""
        self.ledger.record_instance(self.make_instance(number), now=self.clock() - 1000)
        (due,) = self.ledger.due_series(now=self.clock(), quiet_s=20, released_quiet_s=5)
        self.ledger.close_series(due, now=self.clock(), rule="liver-ct")
        closed = self.ledger.job(due.job_id)
        self.ledger.choose(Choice(chosen=(Chosen(closed),)), [closed], now=self.clock())
        for event in (Event.SEGMENTED, Event.REPORTED):
            job = self.ledger.claim_job(LEASE, now=self.clock())
            assert job is not None
            outgoing = []
            if event == Event.REPORTED:
                for name in ("seg", "sr"):
                    write_durably(self.path(job.id, name), self.make_ct(f"result {job.id}", name == "sr"))
                outgoing = [
                    Outgoing(
                        destination=destination,
                        object=name,
                        sop_instance_uid=derive_uid("instance", f"result {job.id}", name == "sr"),
                        series_instance_uid=derive_uid("series", f"result {job.id}"),
                        path=f"outbox/{job.id}/{name}.dcm",
                        confirm=confirm,
                    )
                    for destination in destinations
                    for name in ("seg", "sr")
                ]
            assert self.ledger.finish_stage(job, event, now=self.clock(), outgoing=outgoing)
        return job.id

    def path(self, job_id: int, name: str) -> Path:
        return self.spool.outbox(job_id) / f"{name}.dcm"

    def look(self, job_id: int) -> list[tuple[str, int, str | None]]:
        return [(item.state, item.attempts, item.last_status) for item in self.ledger.deliveries_of(job_id)]


@pytest.fixture
def make_office(
    spool: Spool,
    ledger: Ledger,
    clock: Any,
    make_ct: Callable[..., bytes],
    make_instance: Callable[..., Instance],
    read_log: Any,
    tmp_path: Path,
    assert_no_canary: Callable[[Path], None],
) -> Iterator[Callable[[Config], Office]]:
    def make(config: Config) -> Office:
        deliverer = Deliverer(config, spool, ledger, clock=clock, jitter=lambda: 0.5)
        return Office(deliverer, ledger, spool, clock, make_ct, make_instance)

    yield make
    assert read_log.events is not None
    assert_no_canary(tmp_path)


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
    assert office.deliverer.deliver_due() == 2
    assert [item.calling_ae_title for item in node.received] == ["PORTA", "PORTA"]
    for item, name in zip(node.received, ("seg", "sr"), strict=True):
        content = office.path(job_id, name).read_bytes()
        assert len(item.data) > 500
        assert content.endswith(item.data)
        # Nothing of the data set is missing in front: what precedes it is the file meta information.
        assert b"\x08\x00\x16\x00UI" not in content[: -len(item.data)]
        assert item.sop_instance_uid == derive_uid("instance", f"result {job_id}", name == "sr")
    assert office.look(job_id) == [("STORED", 0, "0x0000")] * 2
    assert office.ledger.job(job_id).state == State.COMMITTED
    assert office.deliverer.deliver_due() == 0
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
    assert office.deliverer.deliver_due() == 2
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
    ("way", "status", "counted"),
    [
        ("nobody listens", "UNREACHABLE", [1, 0]),
        ("no answer", "UNREACHABLE", [1, 0]),
        ("not let in", "ASSOCIATION_REFUSED", [1, 1]),
        ("class not taken", "CLASS_NOT_ACCEPTED", [1, 1]),
        ("syntax not taken", "SYNTAX_NOT_ACCEPTED", [1, 1]),
        ("out of resources", "0xA700", [1, 1]),
    ],
)
def test_a_failure_is_written_down_and_tried_again_later(
    make_office: MakeOffice,
    make_config: MakeConfig,
    make_refusal: Callable[[str], int],
    read_log: Any,
    way: str,
    status: str,
    counted: list[int],
):
    """With its code, not before its time; where nobody answers, one try speaks for all that wait there."""
    destination = Destination(peer="archive", attempts=3, first_retry_s=10, timeout_s=0.5)
    office = make_office(make_config(make_refusal(way), destination=(destination,)))
    job_id = office.report()
    assert office.deliverer.deliver_due() == 0
    assert office.look(job_id) == [("PENDING", attempts, status) for attempts in counted]
    assert {item.not_before for item in office.ledger.deliveries_of(job_id)} == {office.clock() + 10}
    assert office.ledger.job(job_id).state == State.REPORTED
    assert office.ledger.job(job_id).halt is None
    assert {(line["status"], line["delay_s"]) for line in read_log.named("delivery.postponed")} == {(status, 10.0)}
    named = [line.get("sop_class_uid") for line in read_log.named("delivery.postponed")]
    assert set(named) == ({CTImageStorage} if way in TAKEN else {None})
    assert (status in ADVICE) == (not status.startswith("0x"))
    office.clock.pass_s(9.9)
    assert office.ledger.due_deliveries(now=office.clock()) == []


def test_the_waits_double_and_then_it_is_given_up(make_office: MakeOffice, make_config: MakeConfig, read_log: Any):
    """As often as configured, never longer than configured; then the job halts and nothing is tried any more."""
    destination = Destination(peer="archive", attempts=5, first_retry_s=10, longest_retry_s=35, timeout_s=1)
    office = make_office(make_config(closed_port(), destination=(destination,)))
    job_id = office.report()
    for wait_s in (10, 20, 35, 35):
        office.deliverer.deliver_due()
        assert office.ledger.deliveries_of(job_id)[0].not_before == office.clock() + wait_s
        office.clock.pass_s(wait_s)
    office.deliverer.deliver_due()
    assert office.look(job_id)[0] == ("FAILED", 5, "UNREACHABLE")
    job = office.ledger.job(job_id)
    assert (job.state, job.halt) == (State.REPORTED, HaltCode.DELIVERY_FAILED)
    office.clock.pass_s(100_000)
    assert office.ledger.due_deliveries(now=office.clock()) == []
    (line,) = read_log.named("delivery.failed")
    assert (line["level"], line["destination"], line["status"]) == ("error", "archive", "UNREACHABLE")


def test_a_retry_delivers_when_the_peer_is_back(
    make_office: MakeOffice, make_config: MakeConfig, start_node: StartNode
):
    """After a person said `porta retry`: exactly the objects that were missing."""
    node = start_node()
    node.status = 0xA700
    office = make_office(make_config(node.server.port))
    job_id = office.report()
    for _ in range(3):
        office.deliverer.deliver_due()
        office.clock.pass_s(10_000)
    assert office.ledger.job(job_id).halt == HaltCode.DELIVERY_FAILED
    node.status, tried = 0x0000, len(node.received)
    office.ledger.retry(job_id, now=office.clock())
    assert office.deliverer.deliver_due() == 2
    assert office.ledger.job(job_id).state == State.COMMITTED
    assert len(node.received) == tried + 2


def test_those_behind_an_unreachable_peer_keep_their_attempts(
    make_office: MakeOffice, make_config: MakeConfig, start_node: StartNode
):
    """A night without the archive: the first of three jobs halts, the others have all of their attempts left."""
    port = closed_port()
    destination = Destination(peer="archive", attempts=3, first_retry_s=10, timeout_s=1)
    office = make_office(make_config(port, destination=(destination,)))
    jobs = [office.report(number) for number in (1, 2, 3)]
    # Every half second, as the service does, until the first has been tried three times.
    for _ in range(100):
        office.deliverer.deliver_due()
        office.clock.pass_s(0.5)
        if office.ledger.job(jobs[0]).halt:
            break
    assert [office.look(job_id)[0][:2] for job_id in jobs] == [("FAILED", 3), ("PENDING", 0), ("PENDING", 0)]
    node = start_node(port=port)
    office.clock.pass_s(10)
    assert office.deliverer.deliver_due() == 4
    assert len(node.received) == 4


def test_an_unreachable_peer_does_not_hold_up_another(
    make_office: MakeOffice, make_config: MakeConfig, start_node: StartNode
):
    """The objects for the other destination go out in the same round."""
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
    assert office.deliverer.deliver_due() == 2
    assert [state for state, _, _ in office.look(job_id)] == ["PENDING", "PENDING", "STORED", "STORED"]
    assert office.ledger.job(job_id).state == State.REPORTED


def test_a_confirmation_that_fails_is_tried_again(
    make_office: MakeOffice, make_config: MakeConfig, start_node: StartNode
):
    """A peer that stores and answers no queries: stored it is, confirmed never, and in the end a person is asked."""
    node = start_node()
    destination = Destination(peer="archive", confirm="query", attempts=2, first_retry_s=10, timeout_s=2)
    office = make_office(make_config(node.server.port, destination=(destination,)))
    job_id = office.report(confirm="query")
    assert office.deliverer.deliver_due() == 2
    assert office.ledger.job(job_id).state == State.DELIVERED
    assert office.deliverer.deliver_due() == 0
    assert office.look(job_id) == [("STORED", 1, "FIND_NOT_ACCEPTED")] * 2
    office.clock.pass_s(10)
    office.deliverer.deliver_due()
    assert {state for state, _, _ in office.look(job_id)} == {DeliveryState.FAILED}
    assert office.ledger.job(job_id).halt == HaltCode.DELIVERY_FAILED
    assert len(node.received) == 2


@pytest.mark.parametrize("what", ["gone", "no DICOM"])
def test_an_outbox_that_was_tampered_with(
    make_office: MakeOffice, make_config: MakeConfig, start_node: StartNode, what: str
):
    """The object is named and the other one goes out."""
    node = start_node()
    office = make_office(make_config(node.server.port))
    job_id = office.report()
    office.path(job_id, "seg").unlink()
    if what == "no DICOM":
        office.path(job_id, "seg").write_bytes(b"ZZPHI^CANARY is no DICOM" * 50)
    assert office.deliverer.deliver_due() == 1
    assert office.look(job_id) == [("PENDING", 1, "OUTBOX_UNREADABLE"), ("STORED", 0, "0x0000")]


@pytest.mark.parametrize("what", ["no destination", "no port"])
def test_a_destination_that_is_no_longer_configured(make_office: MakeOffice, make_config: MakeConfig, what: str):
    """The ledger remembers a name that the file does not have any more: a person must say what now."""
    peer = Peer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=None)
    config = make_config(destination=()) if what == "no destination" else make_config(peer=(peer,))
    office = make_office(config)
    job_id = office.report()
    for _ in range(3):
        office.deliverer.deliver_due()
        office.clock.pass_s(10_000)
    assert office.look(job_id)[0][0] == "FAILED"
    assert office.look(job_id)[0][2] == "NO_DESTINATION"
    assert office.ledger.job(job_id).halt == HaltCode.DELIVERY_FAILED
