"""Storage commitment with a PACS that does as it is told, and with a real Orthanc."""

import json
import subprocess
import threading
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage, SegmentationStorage
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel

from daemon.commands.demo_pacs import OrthancNode
from daemon.configuration.config import Config, Destination, Dicom, Peer, Tls
from daemon.delivery.archives import remote_of
from daemon.delivery.statuses import ADVICE
from daemon.intake import Intake
from daemon.jobs import HaltCode, State
from daemon.receiver import Receiver
from dicom_io.errors import PeerError
from dicom_io.files.uids import derive_uid
from dicom_io.network import scu
from tests.daemon.delivery.conftest import Office

WELL_KNOWN = "1.2.840.10008.1.20.1.1"


@dataclass
class Archive:
    """A PACS that stores everything, and reports on storage commitment as a test says."""

    ae: AE
    port: int = 0
    porta_port: int = 0
    way: str = "new association"
    answer: int = 0x0000
    failing: dict[str, int] = field(default_factory=dict)
    """Failure Reasons by SOP Instance UID; each is said once."""
    stored: list[str] = field(default_factory=list)
    requests: list[Dataset] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    """What we were answered to reports."""

    def store(self, event: evt.Event) -> int:
        self.stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    def act(self, event: evt.Event) -> tuple[int, None]:
        request = event.action_information
        assert event.request.RequestedSOPInstanceUID == WELL_KNOWN
        self.requests.append(request)
        if self.way == "before the answer":
            self._send(event.assoc, request)
        elif self.way == "same association":
            threading.Thread(target=self._send_later, args=(event.assoc, request), daemon=True).start()
        elif self.way == "new association":
            threading.Thread(target=self.report, args=(request,), daemon=True).start()
        return self.answer, None

    def _send_later(self, assoc: Any, request: Dataset) -> None:
        threading.Event().wait(0.05)
        self._send(assoc, request)

    def report(self, request: Dataset, *, calling: str = "ARCHIVE", with_role: bool = True) -> None:
        """Report on an association of its own."""
        roles = [build_role(StorageCommitmentPushModel, scp_role=True)] if with_role else []
        contexts = [build_context(StorageCommitmentPushModel)]
        assoc = AE(calling).associate(
            "127.0.0.1", self.porta_port, ae_title="PORTA", contexts=contexts, ext_neg=list(roles)
        )
        assert assoc.is_established
        assert [context.abstract_syntax for context in assoc.accepted_contexts] == [StorageCommitmentPushModel]
        self._send(assoc, request)
        assoc.release()

    def _send(self, assoc: Any, request: Dataset) -> None:
        said = Dataset()
        said.TransactionUID = request.TransactionUID
        good, bad = [], []
        for item in request.ReferencedSOPSequence:
            reason = self.failing.pop(str(item.ReferencedSOPInstanceUID), None)
            if reason:
                item.FailureReason = reason
            (bad if reason else good).append(item)
        said.ReferencedSOPSequence = good
        if bad:
            said.FailedSOPSequence = bad
        status, _ = assoc.send_n_event_report(said, 2 if bad else 1, StorageCommitmentPushModel, WELL_KNOWN)
        self.answers.append(int(status.Status))


@pytest.fixture
def archive() -> Iterator[Archive]:
    ae = AE("ARCHIVE")
    archive = Archive(ae)
    ae.add_supported_context(CTImageStorage)
    ae.add_supported_context(StorageCommitmentPushModel)
    server = ae.start_server(
        ("127.0.0.1", 0),
        block=False,
        evt_handlers=[(evt.EVT_C_STORE, archive.store), (evt.EVT_N_ACTION, archive.act)],
    )
    assert server is not None
    archive.port = int(server.server_address[1])
    yield archive
    ae.shutdown()


@pytest.fixture
def start_porta(make_office: Callable[[Config], Office], make_config: Callable[..., Config]) -> Iterator[Any]:
    """`start_porta(port)`: a deliverer to the archive at that port, and the port where Porta hears reports."""
    receivers = []

    def start(port: int, **changes: Any) -> tuple[Office, int]:
        destination = Destination(
            peer="archive", confirm="commitment", commitment_s=60, attempts=2, first_retry_s=10, timeout_s=5
        )
        config = make_config(
            port,
            **{"destination": (destination,), "dicom": Dicom(port=changes.pop("listen", 11112))} | changes,
        )
        office = make_office(config)
        receiver = Receiver(config, Intake(office.spool, office.ledger, office.clock), office.ledger, office.clock)
        receivers.append(receiver)
        return office, receiver.start()

    yield start
    for receiver in receivers:
        receiver.stop(10)


@pytest.fixture
def site(archive: Archive, start_porta: Any, free_port: Callable[[], int]) -> tuple[Office, Archive]:
    office, archive.porta_port = start_porta(archive.port, listen=free_port())
    return office, archive


@pytest.mark.parametrize("way", ["before the answer", "same association", "new association"])
def test_a_report_confirms_wherever_it_comes(
    site: tuple[Office, Archive], until: Callable[[Callable[[], object]], None], way: str
):
    """One request for all objects of the destination; the job is at its end when all of them are kept."""
    office, archive = site
    archive.way = way
    job_id = office.report(confirm="commitment")
    assert office.deliver() == 2
    assert office.look(job_id) == [("STORED", 0, "0x0000")] * 2
    assert office.ledger.job(job_id).state == State.DELIVERED
    office.deliver()
    until(lambda: archive.answers)
    office.deliver()
    assert office.look(job_id) == [("CONFIRMED", 0, "COMMITTED")] * 2
    assert office.ledger.job(job_id).state == State.CONFIRMED
    assert archive.answers == [0x0000]
    (request,) = archive.requests
    assert [str(item.ReferencedSOPClassUID) for item in request.ReferencedSOPSequence] == [CTImageStorage] * 2
    assert [str(item.ReferencedSOPInstanceUID) for item in request.ReferencedSOPSequence] == archive.stored


def test_only_what_is_not_kept_is_sent_again(
    site: tuple[Office, Archive], until: Callable[[Callable[[], object]], None], read_log: Any
):
    """The other is confirmed meanwhile, and the next request is of the one object, under a new Transaction UID."""
    office, archive = site
    job_id = office.report(confirm="commitment")
    office.deliver()
    archive.failing[archive.stored[1]] = 0x0112
    office.deliver()
    until(lambda: archive.answers)
    office.deliver()
    assert office.look(job_id) == [("CONFIRMED", 0, "COMMITTED"), ("PENDING", 0, "NOT_COMMITTED")]
    assert [(line["status"], line["code"]) for line in read_log.named("delivery.postponed")] == [
        ("NOT_COMMITTED", "0x0112")
    ]
    office.clock.pass_s(11)
    for _ in range(3):
        office.deliver()
    until(lambda: len(archive.answers) == 2)
    office.deliver()
    assert archive.stored == [archive.stored[0], archive.stored[1], archive.stored[1]]
    first, second = archive.requests
    assert len(second.ReferencedSOPSequence) == 1
    assert first.TransactionUID != second.TransactionUID
    assert office.ledger.job(job_id).state == State.CONFIRMED


def test_what_is_never_kept_halts(site: tuple[Office, Archive], until: Callable[[Callable[[], object]], None]):
    """However often it is stored with success in between; a person is told what to do, and retry begins anew."""
    office, archive = site
    job_id = office.report(confirm="commitment")
    for count in (1, 2):
        office.deliver()
        archive.failing[archive.stored[1]] = 0x0110
        office.deliver()
        until(lambda count=count: len(archive.answers) == count)
        office.deliver()
        office.clock.pass_s(11)
    assert office.look(job_id) == [("CONFIRMED", 0, "COMMITTED"), ("FAILED", 2, "NOT_COMMITTED")]
    assert office.halts(job_id) == [None, HaltCode.DELIVERY_FAILED]
    assert "NOT_COMMITTED" in ADVICE
    office.ledger.retry(job_id, now=office.clock())
    for _ in range(2):
        office.deliver()
    until(lambda: len(archive.answers) == 3)
    office.deliver()
    assert office.ledger.job(job_id).state == State.CONFIRMED


def test_a_late_report_counts(site: tuple[Office, Archive], read_log: Any):
    """Of the first request, when the second is being waited for, and even after it was given up."""
    office, archive = site
    archive.way = "never"
    job_id = office.report(confirm="commitment")
    office.deliver()
    office.deliver()
    assert office.look(job_id) == [("STORED", 1, "COMMITMENT_ASKED")] * 2
    assert office.deliver() == 0
    office.clock.pass_s(61)
    office.deliver()
    assert office.look(job_id) == [("STORED", 2, "COMMITMENT_ASKED")] * 2
    first, second = archive.requests
    archive.failing[archive.stored[1]] = 0x0112
    archive.report(first)
    office.deliver()
    # That it was not kept then says nothing of now: the second request is still being waited for
    assert office.look(job_id) == [("CONFIRMED", 0, "COMMITTED"), ("STORED", 2, "COMMITMENT_ASKED")]
    office.clock.pass_s(61)
    office.deliver()
    assert office.look(job_id)[1] == ("FAILED", 3, "NOT_REPORTED")
    assert office.halts(job_id)[1] == HaltCode.DELIVERY_FAILED
    assert "NOT_REPORTED" in ADVICE
    archive.report(second, with_role=False)
    office.deliver()
    assert office.look(job_id) == [("CONFIRMED", 0, "COMMITTED")] * 2
    assert office.halts(job_id) == [None, None]
    assert office.ledger.job(job_id).state == State.CONFIRMED
    archive.report(second)  # once more: nothing waits for it
    assert archive.answers == [0x0000] * 3
    assert len(archive.stored) == 2


def test_a_report_outlives_the_process(site: tuple[Office, Archive]):
    """It is answered when the ledger has it; whoever delivers later acts on it."""
    office, archive = site
    archive.way = "never"
    job_id = office.report(confirm="commitment")
    office.deliver()
    office.deliver()
    archive.report(archive.requests[0])
    assert office.look(job_id) == [("STORED", 1, "COMMITMENT_ASKED")] * 2
    office.deliver()
    assert office.ledger.job(job_id).state == State.CONFIRMED


def test_nobody_confirms_for_another(archive: Archive, start_porta: Any, free_port: Callable[[], int]):
    """A peer that may associate, and that learnt a Transaction UID, says nothing about another's objects."""
    peers = (
        Peer(name="modality", ae_title="MODALITY", accept=True),
        Peer(name="other", ae_title="OTHER", host="127.0.0.1", port=104),
        Peer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=archive.port),
    )
    destinations = tuple(
        Destination(peer=name, confirm="commitment", attempts=2, timeout_s=5) for name in ("archive", "other")
    )
    office, archive.porta_port = start_porta(archive.port, listen=free_port(), peer=peers, destination=destinations)
    archive.way = "never"
    job_id = office.report(confirm="commitment")
    office.deliver()
    office.deliver()
    archive.report(archive.requests[0], calling="OTHER")
    office.deliver()
    assert [state for state, _, _ in office.look(job_id)] == ["STORED"] * 2
    # A modality may store, and is not asked for commitment: it is not offered the class at all
    assoc = AE("MODALITY").associate(
        "127.0.0.1", archive.porta_port, ae_title="PORTA", contexts=[build_context(StorageCommitmentPushModel)]
    )
    assert not assoc.accepted_contexts
    # And a destination that only reports may not store
    assoc = AE("OTHER").associate(
        "127.0.0.1", archive.porta_port, ae_title="PORTA", contexts=[build_context(CTImageStorage)]
    )
    assert not assoc.accepted_contexts


@pytest.mark.parametrize(
    ("answer", "status", "halt"),
    [(0x0110, "COMMITMENT_REFUSED", HaltCode.DELIVERY_FAILED), (None, "COMMITMENT_NOT_ACCEPTED", "DELIVERY_REFUSED")],
)
def test_a_request_that_is_not_taken(site: tuple[Office, Archive], answer: int | None, status: str, halt: str):
    """It counts as an attempt, or halts at once where the class is not offered; nothing is stored again."""
    office, archive = site
    if answer is None:
        archive.ae.remove_supported_context(StorageCommitmentPushModel)
        for server in archive.ae._servers:
            server.contexts = [context for context in server.contexts if context.abstract_syntax == CTImageStorage]
    archive.way, archive.answer = "never", answer or 0
    job_id = office.report(confirm="commitment")
    for _ in range(3):
        office.deliver()
        office.clock.pass_s(30)
    assert {(state, last) for state, _, last in office.look(job_id)} == {("FAILED", status)}
    assert office.halts(job_id) == [halt] * 2
    assert status in ADVICE
    assert len(archive.stored) == 2


@pytest.fixture
def orthanc(
    tmp_path_factory: pytest.TempPathFactory, require_binary: Callable[[str], str], free_port: Callable[[], int]
) -> Iterator[tuple[OrthancNode, int]]:
    """A running Orthanc, and the port at which it looks for Porta."""
    require_binary("Orthanc")
    port = free_port()
    node = OrthancNode(tmp_path_factory.mktemp("orthanc"), porta_port=port, ports=(free_port(), free_port()))
    node.start(say=lambda text: None)
    yield node, port
    node.stop()


def post(node: OrthancNode, path: str, body: object) -> Any:
    request = urllib.request.Request(f"http://127.0.0.1:{node._http_port}{path}", json.dumps(body).encode())
    request.add_header("Authorization", "Basic " + b64encode(f"porta:{node._password}".encode()).decode())
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.loads(response.read())


def test_orthanc_commits_itself(
    orthanc: tuple[OrthancNode, int],
    start_porta: Any,
    until: Callable[[Callable[[], object]], None],
    make_ct: Callable[..., bytes],
    tmp_path: Path,
):
    """Its report comes on an association that it opens; what was deleted meanwhile is sent again, alone.

    Then it sends a result back, as a PACS does that routes everything: no job comes of it.
    """
    node, port = orthanc
    peers = (
        Peer(name="modality", ae_title="MODALITY", accept=True),
        Peer(name="archive", ae_title="ORTHANC", host="127.0.0.1", port=node.port, accept=True),
    )
    office, _ = start_porta(node.port, listen=port, peer=peers)
    job_id = office.report(confirm="commitment")
    assert office.deliver() == 2
    (gone,) = [item for item in office.ledger.deliveries_of(job_id) if item.object == "sr"]
    (found,) = look_up(node, gone.sop_instance_uid)
    delete(node, f"/instances/{found}")

    def look() -> list[str]:
        office.deliver()
        return [state for state, _, _ in office.look(job_id)]

    until(lambda: look() == ["CONFIRMED", "PENDING"])
    assert office.look(job_id)[1][2] == "NOT_COMMITTED"
    office.clock.pass_s(11)
    until(lambda: look() == ["CONFIRMED", "CONFIRMED"])
    assert office.ledger.job(job_id).state == State.CONFIRMED
    result = tmp_path / "result.dcm"
    result.write_bytes(make_ct("result", change=made_by_porta))
    remote = scu.Remote("ORTHANC", "127.0.0.1", node.port)
    scu.store(remote, [result], calling_ae_title="PORTA", timeout_s=10)
    answered = post(node, "/modalities/porta/store", look_up(node, derive_uid("series", "result")))
    assert (answered["InstancesCount"], answered["FailedInstancesCount"]) == (1, 0)
    assert len(office.ledger.all_jobs()) == 1


def made_by_porta(ds: Dataset) -> None:
    ds.SOPClassUID, ds.Manufacturer, ds.ManufacturerModelName = SegmentationStorage, "Porta Hepatis", "Porta"


def look_up(node: OrthancNode, uid: str) -> list[str]:
    """The ids that Orthanc has for what bears a UID."""
    request = urllib.request.Request(f"http://127.0.0.1:{node._http_port}/tools/lookup", uid.encode())
    request.add_header("Authorization", "Basic " + b64encode(f"porta:{node._password}".encode()).decode())
    with urllib.request.urlopen(request, timeout=30) as response:
        return [item["ID"] for item in json.loads(response.read())]


def delete(node: OrthancNode, path: str) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{node._http_port}{path}", method="DELETE")
    request.add_header("Authorization", "Basic " + b64encode(f"porta:{node._password}".encode()).decode())
    urllib.request.urlopen(request, timeout=30).close()


class SecureOrthanc(OrthancNode):
    """An Orthanc that speaks DICOM over TLS, and that with Porta alone."""

    def __init__(self, directory: Path, issued: Any, **settings: Any) -> None:
        super().__init__(directory, **settings)
        self.issued = issued

    def start(self, say: Any) -> None:
        self.port, self._http_port = self._usual_ports
        self._directory.mkdir(mode=0o700)
        path = self._directory / "orthanc.json"
        settings = self._settings() | {
            "DicomTlsEnabled": True,
            "DicomTlsCertificate": str(self.issued.certificate),
            "DicomTlsPrivateKey": str(self.issued.key),
            "DicomTlsTrustedCertificates": str(self.issued.ca),
            "DicomTlsRemoteCertificateRequired": True,
            "DicomModalities": {
                "porta": {"AET": "PORTA", "Host": "127.0.0.1", "Port": self._porta_port, "UseDicomTls": True}
            },
        }
        path.write_text(json.dumps(settings))
        with (self._directory / "orthanc.log").open("wb") as output:
            self._process = subprocess.Popen(["Orthanc", str(path)], stdout=output, stderr=output)


def test_orthanc_commits_itself_over_tls(
    tmp_path_factory: pytest.TempPathFactory,
    require_binary: Callable[[str], str],
    start_porta: Any,
    issue: Callable[..., Any],
    free_port: Callable[[], int],
    until: Callable[[Callable[[], object]], None],
):
    """Results go out and the report comes in over TLS, with certificates of both sides; nothing goes in the clear."""
    require_binary("Orthanc")
    ours, port = issue("porta"), free_port()
    node = SecureOrthanc(
        tmp_path_factory.mktemp("orthanc"), issue("server"), porta_port=port, ports=(free_port(), free_port())
    )
    peers = (
        Peer(name="modality", ae_title="MODALITY", accept=True),
        Peer(name="archive", ae_title="ORTHANC", host="localhost", port=node._usual_ports[0], tls=True),
    )
    tls = Tls(port=port, certificate_file=ours.certificate, key_file=ours.key, ca_file=ours.ca)
    node.start(None)
    try:
        plain = free_port()
        office, _ = start_porta(node.port, peer=peers, dicom=Dicom(port=plain, tls=tls))
        remote = remote_of(office.deliverer.config, office.deliverer.config.destinations[0])

        def answers() -> bool:
            with suppress(PeerError):
                return bool(scu.echo(remote, calling_ae_title="PORTA", timeout_s=5).accepted)
            return False

        until(answers)
        job_id = office.report(confirm="commitment")
        assert office.deliver() == 2

        def is_committed() -> bool:
            office.deliver()
            return office.ledger.job(job_id).state == State.CONFIRMED

        until(is_committed)
        with pytest.raises(PeerError):
            scu.echo(scu.Remote("ORTHANC", "127.0.0.1", node.port), calling_ae_title="PORTA", timeout_s=2)
        with pytest.raises(PeerError):  # a peer with tls is let in over TLS alone
            scu.echo(scu.Remote("PORTA", "127.0.0.1", plain), calling_ae_title="ORTHANC", timeout_s=5)
    finally:
        node.stop()
