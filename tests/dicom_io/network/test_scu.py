"""What we ask of peers: our own server, a socket that says nothing, and a real Orthanc."""

import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    SegmentationStorage,
)
from pynetdicom import evt
from pynetdicom.events import Event

from dicom_io.errors import AssociationRefused, ContextNotAccepted, NotDicom, PeerError, PeerUnreachable, StoreRefused
from dicom_io.files.image_writer import write_ct_series
from dicom_io.geometry import Geometry
from dicom_io.network.scp import Caller, Received, start
from dicom_io.network.scu import Remote, echo, fetch, holds, series_sizes, store
from dicom_io.pace import Pace

MakeSeries = Callable[..., list[Path]]
StartPeer = Callable[..., Remote]
PATIENCE_S = 10


def data_of(path: Path) -> bytes:
    """The bytes of a file behind its meta information."""
    meta = read_file_meta_info(path)
    return path.read_bytes()[144 + meta.FileMetaInformationGroupLength :]


@pytest.fixture
def ours() -> Iterator[tuple[Remote, list[Received]]]:
    """Our own server, which takes everything."""
    received: list[Received] = []

    def keep(instance: Received) -> int:
        received.append(instance)
        return 0x0000

    server = start(ae_title="PORTA", host="127.0.0.1", port=0, callers=[Caller("US", "127.0.0.1")], store=keep)
    yield Remote("PORTA", "127.0.0.1", server.port), received
    server.shutdown(PATIENCE_S)


def test_echo_tells_what_is_accepted(ours: tuple[Remote, list[Received]]) -> None:
    report = echo(ours[0], calling_ae_title="US", timeout_s=PATIENCE_S)
    assert list(report.accepted) == [
        "CT Image Storage",
        "Segmentation Storage",
        "Comprehensive 3D SR Storage",
        "Study Root Query/Retrieve Information Model - FIND",
    ]
    assert report.accepted["CT Image Storage"][:2] == ("Explicit VR Little Endian", "Implicit VR Little Endian")
    assert 0 < report.seconds < PATIENCE_S


def test_echo_of_a_peer_that_takes_little(start_peer: StartPeer) -> None:
    peer = start_peer([(SegmentationStorage, [ImplicitVRLittleEndian])], [])
    assert echo(peer, calling_ae_title="US", timeout_s=PATIENCE_S).accepted == {
        "CT Image Storage": (),
        "Segmentation Storage": ("Implicit VR Little Endian",),
        "Comprehensive 3D SR Storage": (),
        "Study Root Query/Retrieve Information Model - FIND": (),
    }


def test_nobody_there(free_port: Callable[[], int], make_series: MakeSeries) -> None:
    """A closed port and a name that does not exist are both out of reach; the message names the peer."""
    for remote in (Remote("GONE", "127.0.0.1", free_port()), Remote("GONE", "no-such-host.invalid", 104)):
        with pytest.raises(PeerUnreachable, match="GONE at"):
            echo(remote, calling_ae_title="US", timeout_s=PATIENCE_S)
        with pytest.raises(PeerUnreachable):
            store(remote, make_series()[:1], calling_ae_title="US", timeout_s=PATIENCE_S)


def test_a_peer_that_says_nothing() -> None:
    """A port that takes connections and never answers ends with the timeout."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        remote = Remote("SILENT", "127.0.0.1", silent.getsockname()[1])
        with pytest.raises(PeerUnreachable):
            echo(remote, calling_ae_title="US", timeout_s=0.3)


def test_a_rejection_says_why(ours: tuple[Remote, list[Received]]) -> None:
    with pytest.raises(AssociationRefused, match="calling AE title not recognised"):
        echo(ours[0], calling_ae_title="STRANGER", timeout_s=PATIENCE_S)
    with pytest.raises(AssociationRefused, match="called AE title not recognised"):
        echo(Remote("OTHER", ours[0].host, ours[0].port), calling_ae_title="US", timeout_s=PATIENCE_S)


def test_files_go_out_as_they_are(ours: tuple[Remote, list[Received]], make_series: MakeSeries) -> None:
    remote, received = ours
    paths = make_series()
    assert store(remote, paths, calling_ae_title="US", timeout_s=PATIENCE_S) == (0x0000,) * 12
    assert [instance.data for instance in received] == [data_of(path) for path in paths]


def test_compressed_files_go_out_as_they_are(ours: tuple[Remote, list[Received]], make_series: MakeSeries) -> None:
    """Side by side with others of the same SOP class, each in its own transfer syntax."""
    remote, received = ours
    paths = make_series()[:2]
    ds = dcmread(paths[0])
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.save_as(paths[0])
    store(remote, paths, calling_ae_title="US", timeout_s=PATIENCE_S)
    assert [instance.transfer_syntax_uid for instance in received] == [RLELossless, ExplicitVRLittleEndian]
    assert [instance.data for instance in received] == [data_of(path) for path in paths]


def test_an_old_peer_gets_implicit(start_peer: StartPeer, make_series: MakeSeries) -> None:
    """Implicit VR Little Endian is all that a peer must take (PS3.5 section 10.1): the same values, encoded anew."""
    received: list[Event] = []

    def keep(event: Event) -> int:
        received.append(event)
        return 0x0000

    peer = start_peer([(CTImageStorage, [ImplicitVRLittleEndian])], [(evt.EVT_C_STORE, keep)])
    path = make_series()[0]
    name = b"\xff\\PHANT\xe4OM"  # bytes that do not decode
    content = path.read_bytes()
    path.write_bytes(content.replace(b"PHANTOM^LIVER ", name.ljust(14)))
    assert store(peer, [path], calling_ae_title="US", timeout_s=PATIENCE_S) == (0x0000,)
    assert received[0].dataset.get_item("PatientName").value.rstrip() == name
    assert received[0].dataset == dcmread(path)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, ExplicitVRBigEndian])
def test_what_cannot_be_sent_is_said(start_peer: StartPeer, make_series: MakeSeries, syntax: str) -> None:
    """Compressed pixels are not touched, and nothing is sent in a syntax that it is not in."""
    peer = start_peer([(CTImageStorage, [ImplicitVRLittleEndian])], [])
    path = make_series()[0]
    path.write_bytes(Received(CTImageStorage, "1.2.3", syntax, "US", "", "", data_of(path)).part10())
    with pytest.raises(ContextNotAccepted, match="CT Image Storage .* in the transfer syntax") as caught:
        store(peer, [path], calling_ae_title="US", timeout_s=PATIENCE_S)
    assert caught.value.only_syntax


def test_a_class_that_is_not_accepted_is_said(start_peer: StartPeer, make_series: MakeSeries) -> None:
    """The association was not refused: the only thing that was proposed in it was."""
    peer = start_peer([(SegmentationStorage, [ImplicitVRLittleEndian])], [])
    with pytest.raises(ContextNotAccepted, match="CT Image Storage") as caught:
        store(peer, make_series()[:1], calling_ae_title="US", timeout_s=PATIENCE_S)
    assert (caught.value.abstract_syntax, caught.value.only_syntax) == (CTImageStorage, False)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.abstract_syntax) == (str(caught.value), CTImageStorage)


def test_one_of_two_classes_is_refused(start_peer: StartPeer, make_series: MakeSeries) -> None:
    """The association stands, but not for this file."""
    peer = start_peer([(CTImageStorage, [ExplicitVRLittleEndian])], [(evt.EVT_C_STORE, lambda event: 0x0000)])
    paths = make_series()[:2]
    instance = Received(SegmentationStorage, "1.2", ExplicitVRLittleEndian, "US", "", "", data_of(paths[1]))
    paths[1].write_bytes(instance.part10())
    with pytest.raises(ContextNotAccepted, match="Segmentation Storage"):
        store(peer, paths, calling_ae_title="US", timeout_s=PATIENCE_S)


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007, 0x0107, 0x0116])
def test_warnings_count_as_stored(start_peer: StartPeer, make_series: MakeSeries, status: int) -> None:
    peer = start_peer([(CTImageStorage, [ExplicitVRLittleEndian])], [(evt.EVT_C_STORE, lambda event: status)])
    assert store(peer, make_series()[:1], calling_ae_title="US", timeout_s=PATIENCE_S) == (status,)


@pytest.mark.parametrize("status", [0xA700, 0xA900, 0xC000, 0x0110, 0x0122, 0x0124])
def test_failures_are_raised_with_their_status(start_peer: StartPeer, make_series: MakeSeries, status: int) -> None:
    """At the first one: nothing is sent after it."""
    asked: list[Event] = []

    def answer(event: Event) -> int:
        asked.append(event)
        return status

    peer = start_peer([(CTImageStorage, [ExplicitVRLittleEndian])], [(evt.EVT_C_STORE, answer)])
    with pytest.raises(StoreRefused) as caught:
        store(peer, make_series()[:3], calling_ae_title="US", timeout_s=PATIENCE_S)
    assert (caught.value.status, len(asked)) == (status, 1)


def test_a_peer_that_hangs_up(start_peer: StartPeer, make_series: MakeSeries) -> None:
    """In the middle of a store."""

    def hang_up(event: Event) -> int:
        event.assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)
        return 0x0000

    peer = start_peer([(CTImageStorage, [ExplicitVRLittleEndian])], [(evt.EVT_C_STORE, hang_up)])
    with pytest.raises(PeerUnreachable):
        store(peer, make_series()[:2], calling_ae_title="US", timeout_s=PATIENCE_S)


def test_a_peer_that_never_answers(start_peer: StartPeer, make_series: MakeSeries) -> None:
    leave = threading.Event()

    def wait(event: Event) -> int:
        leave.wait(PATIENCE_S)
        return 0x0000

    peer = start_peer([(CTImageStorage, [ExplicitVRLittleEndian])], [(evt.EVT_C_STORE, wait)])
    with pytest.raises(PeerUnreachable):
        store(peer, make_series()[:1], calling_ae_title="US", timeout_s=0.5)
    leave.set()


@pytest.mark.parametrize("content", [b"", b"hello", bytes(128) + b"DICM"])
def test_no_dicom_is_not_sent(ours: tuple[Remote, list[Received]], tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text"
    path.write_bytes(content)
    with pytest.raises(NotDicom):
        store(ours[0], [path], calling_ae_title="US", timeout_s=PATIENCE_S)


def test_a_query_that_fails(start_peer: StartPeer) -> None:
    """Is no answer: neither that the peer holds it, nor that it does not."""
    find = "1.2.840.10008.5.1.4.1.2.2.1"

    def refuse(event: Event) -> Iterator[tuple[int, None]]:
        yield 0xA700, None

    peer = start_peer([(find, [ImplicitVRLittleEndian])], [(evt.EVT_C_FIND, refuse)])
    with pytest.raises(PeerError, match="0xA700"):
        holds(
            peer,
            study_instance_uid="1.2",
            series_instance_uid="1.2.3",
            sop_instance_uid="1.2.3.4",
            calling_ae_title="US",
            timeout_s=PATIENCE_S,
        )


FIND = "1.2.840.10008.5.1.4.1.2.2.1"


def answering(*answers: dict[str, object]) -> Callable[[Event], Iterator[tuple[int, Dataset | None]]]:
    """A C-FIND that gives these answers to whatever it is asked."""

    def answer(event: Event) -> Iterator[tuple[int, Dataset | None]]:
        for values in answers:
            ds = Dataset()
            ds.QueryRetrieveLevel = "SERIES"
            for keyword, value in values.items():
                setattr(ds, keyword, value)
            yield 0xFF00, ds

    return answer


@pytest.mark.parametrize(
    ("answers", "sizes"),
    [
        ([], {}),
        ([{"SeriesInstanceUID": "1.2.3", "NumberOfSeriesRelatedInstances": 40}], {"1.2.3": 40}),
        ([{"SeriesInstanceUID": "1.2.3", "NumberOfSeriesRelatedInstances": 0}], {}),
        ([{"SeriesInstanceUID": "1.2.3", "NumberOfSeriesRelatedInstances": None}], {}),
        ([{"SeriesInstanceUID": "1.2.3", "NumberOfSeriesRelatedInstances": [3, 4]}], {}),
        ([{"SeriesInstanceUID": "1.2.3"}], {}),
        ([{"NumberOfSeriesRelatedInstances": 40}], {}),
        # a peer that ignores the key, and one that pads
        (
            [
                {"SeriesInstanceUID": "1.2.9", "NumberOfSeriesRelatedInstances": 7},
                {"SeriesInstanceUID": "1.2.3", "NumberOfSeriesRelatedInstances": " 40 "},
            ],
            {"1.2.3": 40},
        ),
    ],
    ids=str,
)
def test_what_peers_say_of_the_size_of_a_series(
    start_peer: StartPeer, answers: list[dict[str, object]], sizes: dict[str, int]
) -> None:
    """Only of what was asked, and only a number that is one: the key is optional for a peer."""
    peer = start_peer([(FIND, [ImplicitVRLittleEndian])], [(evt.EVT_C_FIND, answering(*answers))])
    assert series_sizes(peer, {"1.2": {"1.2.3"}}, calling_ae_title="US", timeout_s=PATIENCE_S) == sizes


def test_one_association_asks_about_several_studies(start_peer: StartPeer) -> None:
    """A query each: for an only series by its UID, for several by their study."""
    asked: list[Dataset] = []

    def answer(event: Event) -> Iterator[tuple[int, Dataset | None]]:
        asked.append(event.identifier)
        for uid in ("1.1", "1.2", "1.3") if event.identifier.StudyInstanceUID == "1" else ("2.1",):
            ds = Dataset()
            ds.SeriesInstanceUID, ds.NumberOfSeriesRelatedInstances = uid, 10 * int(uid[-1])
            yield 0xFF00, ds

    peer = start_peer([(FIND, [ImplicitVRLittleEndian])], [(evt.EVT_C_FIND, answer)])
    wanted = {"1": {"1.1", "1.3"}, "2": {"2.1"}}
    assert series_sizes(peer, wanted, calling_ae_title="US", timeout_s=PATIENCE_S) == {"1.1": 10, "1.3": 30, "2.1": 10}
    assert [(ds.StudyInstanceUID, ds.SeriesInstanceUID) for ds in asked] == [("1", ""), ("2", "2.1")]
    assert {ds.QueryRetrieveLevel for ds in asked} == {"SERIES"}


def test_a_size_that_is_not_said(start_peer: StartPeer, ours: tuple[Remote, list[Received]]) -> None:
    """A query that fails, and a peer that takes none, are errors of the peer: nothing was learned."""

    def refuse(event: Event) -> Iterator[tuple[int, None]]:
        yield 0xC001, None

    peer = start_peer([(FIND, [ImplicitVRLittleEndian])], [(evt.EVT_C_FIND, refuse)])
    with pytest.raises(PeerError, match="0xC001"):
        series_sizes(peer, {"1.2": {"1.2.3"}}, calling_ae_title="US", timeout_s=PATIENCE_S)
    with pytest.raises(ContextNotAccepted, match="FIND"):
        series_sizes(ours[0], {"1.2": {"1.2.3"}}, calling_ae_title="US", timeout_s=PATIENCE_S)


def test_a_peer_that_has_no_c_get(start_peer: StartPeer, tmp_path: Path) -> None:
    """Finds, and gives nothing back: said, and not a crash of ours."""

    def answer(event: Event) -> Iterator[tuple[int, Dataset]]:
        found = Dataset()
        found.Modality, found.SeriesInstanceUID = "CT", "1.2.3"
        yield 0xFF00, found

    peer = start_peer([(FIND, [ImplicitVRLittleEndian])], [(evt.EVT_C_FIND, answer)])
    with pytest.raises(ContextNotAccepted, match="GET"):
        fetch(
            peer,
            study_instance_uid="1.2",
            modality="CT",
            directory=tmp_path,
            calling_ae_title="US",
            timeout_s=PATIENCE_S,
        )


# A real archive.


def test_orthanc_takes_and_gives_back(orthanc: Remote, tmp_path: Path, make_stack: Callable[..., Geometry]) -> None:
    """Echo, store, query and fetch, as the delivery and the demo do it."""
    report = echo(orthanc, calling_ae_title="US", timeout_s=PATIENCE_S)
    assert "Explicit VR Little Endian" in report.accepted["Segmentation Storage"]
    assert "Explicit VR Little Endian" in report.accepted["Comprehensive 3D SR Storage"]

    geometry = make_stack()
    paths = write_ct_series(np.zeros(geometry.shape, np.int16), geometry, tmp_path / "ct", seed="orthanc")
    first = dcmread(paths[0])

    def is_held(sop_instance_uid: str) -> bool:
        return holds(
            orthanc,
            study_instance_uid=first.StudyInstanceUID,
            series_instance_uid=first.SeriesInstanceUID,
            sop_instance_uid=sop_instance_uid,
            calling_ae_title="US",
            timeout_s=PATIENCE_S,
        )

    def fetched(modality: str) -> list[Path]:
        (tmp_path / modality).mkdir()
        return fetch(
            orthanc,
            study_instance_uid=first.StudyInstanceUID,
            modality=modality,
            directory=tmp_path / modality,
            calling_ae_title="US",
            timeout_s=PATIENCE_S,
        )

    assert not is_held(first.SOPInstanceUID)
    assert store(orthanc, paths, calling_ae_title="US", timeout_s=PATIENCE_S) == (0x0000,) * 12
    assert store(orthanc, paths[:1], calling_ae_title="US", timeout_s=PATIENCE_S) == (0x0000,)
    assert is_held(first.SOPInstanceUID)
    assert not is_held("1.2.3.4")
    for others in ((), ("1.2.3.4",)):
        wanted = {first.StudyInstanceUID: {first.SeriesInstanceUID, *others}, "1.2.3": {"1.2.3.4"}}
        sizes = series_sizes(orthanc, wanted, calling_ae_title="US", timeout_s=PATIENCE_S)
        assert sizes == {first.SeriesInstanceUID: 12}
    back = fetched("CT")
    assert {path.stem for path in back} == {str(dcmread(path).SOPInstanceUID) for path in paths}
    assert sorted(dcmread(path).ImagePositionPatient[2] for path in back) == [100 + 5 * index for index in range(12)]
    assert dcmread(tmp_path / "CT" / f"{first.SOPInstanceUID}.dcm") == first
    assert fetched("SEG") == []


def test_orthanc_rejects_strangers(orthanc: Remote) -> None:
    with pytest.raises(AssociationRefused):
        echo(orthanc, calling_ae_title="STRANGER", timeout_s=PATIENCE_S)
    with pytest.raises(AssociationRefused, match="called AE title"):
        echo(Remote("OTHER", orthanc.host, orthanc.port), calling_ae_title="US", timeout_s=PATIENCE_S)


def test_what_is_sent_keeps_a_pace(ours: tuple[Remote, list[Received]], make_series: MakeSeries) -> None:
    """Each piece of data waits for its turn before it goes; commands and data are all of it."""
    remote, received = ours
    waited: list[int] = []
    paths = make_series()[:1]
    pace = Pace(0.001, sleep=lambda seconds: None)
    store(remote, paths, calling_ae_title="US", timeout_s=10.0, pace=lambda count: waited.append(count) or 0.0)  # type: ignore[arg-type]
    assert len(received) == 1
    assert sum(waited) > len(received[0].data) > 500
    store(remote, paths, calling_ae_title="US", timeout_s=10.0, pace=pace)
    assert pace(0) > 0
