"""What the tests of delivery share: storage nodes that do as they are told, and a deliverer with results to send."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from daemon.choice import Choice, Chosen
from daemon.configuration.config import Config
from daemon.delivery.deliverer import Deliverer
from daemon.jobs import Event
from daemon.ledger.store import Instance, Ledger, Outgoing
from daemon.storage.integrity import file_sha256
from daemon.storage.spool import Spool, write_durably
from dicom_io.files.uids import derive_uid
from dicom_io.network import scp
from reports.objects.kinds import FORMS

LEASE = "host/1"


@dataclass
class Node:
    """A storage node that says what it is told to say, and keeps what it is sent."""

    server: scp.Server
    received: list[scp.Received] = field(default_factory=list)
    status: int = 0x0000
    silent_at: str = ""
    """The SOP Instance UID that it does not answer to."""
    leave: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def start_node() -> Iterator[Callable[..., Node]]:
    nodes: list[Node] = []

    def start(ae_title: str = "ARCHIVE", *, calling: str = "PORTA", port: int = 0) -> Node:
        node: Node

        def store(received: scp.Received) -> int:
            node.received.append(received)
            if received.sop_instance_uid == node.silent_at:
                node.leave.wait(60)
            return node.status

        callers = [scp.Caller(calling)]
        node = Node(scp.start(ae_title=ae_title, host="127.0.0.1", port=port, callers=callers, store=store))
        nodes.append(node)
        return node

    yield start
    for node in nodes:
        node.leave.set()
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
                        form=FORMS[name],
                        sop_instance_uid=derive_uid("instance", f"result {job.id}", name == "sr"),
                        series_instance_uid=derive_uid("series", f"result {job.id}"),
                        study_instance_uid=derive_uid("study", f"result {job.id}"),
                        path=f"outbox/{job.id}/{name}.dcm",
                        confirm=confirm,
                        sha256=file_sha256(self.path(job.id, name)),
                    )
                    for destination in destinations
                    for name in ("seg", "sr")
                ]
            assert self.ledger.finish_stage(job, event, now=self.clock(), outgoing=outgoing)
        return job.id

    def deliver(self) -> int:
        """One round of each destination, as its own thread has it; how many deliveries moved on."""
        self.deliverer.halt_orphans()
        return sum(map(self.deliverer.deliver_to, self.deliverer.config.destinations))

    def path(self, job_id: int, name: str) -> Path:
        return self.spool.outbox(job_id) / f"{name}.dcm"

    def halts(self, job_id: int) -> list[str | None]:
        return [item.halt for item in self.ledger.deliveries_of(job_id)]

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
        deliverer = Deliverer(config, spool, ledger, clock=clock, jitter=lambda: 0.5, report_s=0.5)
        return Office(deliverer, ledger, spool, clock, make_ct, make_instance)

    yield make
    assert read_log.events is not None
    assert_no_canary(tmp_path)
