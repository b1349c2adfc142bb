"""An archive that refuses a newer form gets the older one, from the first result on, and the history says so."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, SegmentationStorage
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, evt
from pynetdicom.sop_class import Verification

from daemon.configuration.config import Config, Destination, Peer
from daemon.delivery.acceptance import HOLDS_S, LABELMAP, UNKNOWN_S, Acceptance
from daemon.delivery.deliverer import Deliverer
from daemon.upkeep.verification import verify_storage
from reports.objects.kinds import FORMS
from reports.objects.profile import Profile
from tests.daemon.delivery.conftest import closed_port
from tests.daemon.upkeep.test_history import Node, node, threshold  # noqa: F401

NEWER = Destination(peer="archive", seg_type="labelmap", timeout_s=5.0)
EVERY = (LABELMAP, SegmentationStorage, Comprehensive3DSRStorage, ComprehensiveSRStorage)


class Archive:
    """A storage node that takes these classes alone, and counts who comes."""

    def __init__(self, *classes: str) -> None:
        self.associations, self.received = 0, list[Dataset]()
        ae = AE("ARCHIVE")
        for uid in (Verification, *classes):
            ae.add_supported_context(uid, ALL_TRANSFER_SYNTAXES)
        handlers: list[Any] = [(evt.EVT_ACCEPTED, self._count), (evt.EVT_C_STORE, self._keep)]
        self.server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = int(self.server.server_address[1])

    def _count(self, event: evt.Event) -> None:
        self.associations += 1

    def _keep(self, event: evt.Event) -> int:
        self.received.append(event.dataset)
        return 0x0000


@pytest.fixture
def start() -> Iterator[Callable[..., Archive]]:
    archives: list[Archive] = []

    def run(*classes: str) -> Archive:
        archives.append(Archive(*classes))
        return archives[-1]

    yield run
    for archive in archives:
        archive.server.shutdown()


@pytest.mark.parametrize(
    ("classes", "forms"),
    [
        (EVERY, ("labelmap", "comprehensive_3d")),
        ((SegmentationStorage, Comprehensive3DSRStorage), ("binary", "comprehensive_3d")),
        ((LABELMAP, ComprehensiveSRStorage), ("labelmap", "comprehensive")),
        ((SegmentationStorage, ComprehensiveSRStorage), ("binary", "comprehensive")),
        ((), ("labelmap", "comprehensive_3d")),
    ],
)
def test_what_is_taken(
    start: Callable[..., Archive], make_config: Callable[..., Config], classes: tuple[str, ...], forms: tuple[str, str]
):
    """Each form by itself; where neither is taken, the delivery says so. It is asked once."""
    archive = start(*classes)
    acceptance = Acceptance(make_config(archive.port, destination=(NEWER,)))
    assert acceptance.profile_of(NEWER) == Profile(NEWER.objects, *forms)
    assert acceptance.profile_of(NEWER) == Profile(NEWER.objects, *forms)
    assert archive.associations == 1


def test_an_answer_holds_for_a_while(start: Callable[..., Archive], make_config: Callable[..., Config]):
    """One that does not answer is asked again soon, one that did later: it may have learned a class."""
    now, port = [0.0], closed_port()
    assert Acceptance(make_config(port, destination=(NEWER,))).profile_of(NEWER) == NEWER.profile
    archive = start(SegmentationStorage, ComprehensiveSRStorage)
    acceptance = Acceptance(make_config(archive.port, destination=(NEWER,)), lambda: now[0])
    acceptance._known["archive"] = UNKNOWN_S, NEWER.profile
    assert acceptance.profile_of(NEWER) == NEWER.profile
    for now[0], asked in ((UNKNOWN_S, 1), (UNKNOWN_S + HOLDS_S - 1, 1), (UNKNOWN_S + HOLDS_S, 2)):
        assert acceptance.profile_of(NEWER).seg_type == "binary"
        assert archive.associations == asked


def test_what_needs_no_question(make_config: Callable[..., Config]):
    """The oldest forms, and a DICOMweb service, which negotiates nothing."""
    oldest = Destination(peer="archive", sr_class="comprehensive")
    web = make_config(peer=(Peer(name="archive", url="https://pacs.example/web"),), destination=(NEWER,))
    assert Acceptance(make_config(closed_port(), destination=(oldest,)))._known == {}
    for config, destination in ((make_config(closed_port(), destination=(oldest,)), oldest), (web, NEWER)):
        acceptance = Acceptance(config)
        assert acceptance.profile_of(destination) == destination.profile
        assert acceptance._known == {}


def test_of_a_result_what_was_made_counts():
    """Whoever sends it again, or makes a lost ledger anew, takes the forms that lie there."""
    wanted = NEWER.profile
    assert wanted.as_made([FORMS["seg_labelmap"], FORMS["sr_labelmap"]]) == wanted
    assert wanted.as_made([FORMS["seg"], FORMS["sr_comprehensive"]]) == Profile(
        ("seg", "sr"), "binary", "comprehensive"
    )
    assert wanted.as_made([]) == wanted


def test_an_older_archive_gets_all_of_it(
    node: Node,  # noqa: F811
    start: Callable[..., Archive],
    make_config: Callable[..., Config],
    read_log: Any,
):
    """SEG and SR in the forms that it takes, from the first try; a lost ledger sends the same."""
    archive = start(SegmentationStorage, ComprehensiveSRStorage)
    node.config = make_config(archive.port, destination=(NEWER,), ledger=node.config.ledger)
    node.receive(node.images(1))
    node.work()
    (job,) = node.ledger.all_jobs()
    assert [item.object for item in node.ledger.deliveries_of(job.id)] == ["seg", "sr_comprehensive"]
    told = [(event["event"], event["code"]) for event in node.ledger.history(job.id)]
    assert told.count(("SEG_TYPE_FELL_BACK", "archive")) == told.count(("SR_CLASS_FELL_BACK", "archive")) == 1
    lines = [(line["object"], line["result"]) for line in read_log.named("form.fell_back")]
    assert lines == [("labelmap", "binary"), ("comprehensive_3d", "comprehensive")]
    sent = node.sent()
    node.lose_ledger()
    node.rebuild()
    assert node.sent() == sent
    deliverer = Deliverer(node.config, node.spool, node.ledger, node.clock, lambda: 0.5)
    assert deliverer.deliver_to(NEWER) == 2
    assert [ds.SOPClassUID for ds in archive.received] == [SegmentationStorage, ComprehensiveSRStorage]
    seg, sr = archive.received
    assert sr.CurrentRequestedProcedureEvidenceSequence
    assert seg.SOPInstanceUID in str(sr)
    assert verify_storage(node.spool, node.ledger).findings == []
