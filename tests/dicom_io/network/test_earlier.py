"""Earlier SEGs of the same patient and of nobody else, from a real Orthanc and from peers that answer amiss."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SegmentationStorage
from pynetdicom import evt
from pynetdicom.events import Event
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

from dicom_io.earlier_studies import Study
from dicom_io.errors import PeerUnreachable
from dicom_io.network.earlier_results import fetch_earlier
from dicom_io.network.scu import Remote, store
from tests.dicom_io.network.conftest import PATIENCE_S, StartPeer

FIND, GET = StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelGet
OURS = Study("1.2.9.1", "ZZPHI-7", "", "19600102", "F", "20240501", "101500")
COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
numbers = itertools.count(1)


def header(**changes: str) -> Dataset:
    """What stands in a SEG of the patient of OURS, half a year earlier."""
    ds = Dataset()
    ds.SOPClassUID, ds.Modality, ds.SeriesDescription = SegmentationStorage, "SEG", "Porta: liver + lesions"
    ds.PatientName, ds.PatientID = "ZZPHI^Canary", "ZZPHI-7"
    ds.PatientBirthDate, ds.PatientSex = "19600102", "F"
    ds.StudyDate, ds.StudyTime, ds.StudyID = "20231101", "080000", "1"
    number = next(numbers)
    ds.StudyInstanceUID = f"1.2.8.{number}"
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    ds.SeriesInstanceUID, ds.SOPInstanceUID = f"{ds.StudyInstanceUID}.{number}", f"{ds.StudyInstanceUID}.{number}.1"
    return ds


def written(ds: Dataset, folder: Path) -> Path:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = folder / f"{ds.SOPInstanceUID}.dcm"
    ds.save_as(path, enforce_file_format=True)
    return path


def fetched(remote: Remote, folder: Path, study: Study = OURS, limit_s: float = 60.0) -> list[Path]:
    return sorted(fetching(remote, folder, study, limit_s))


Lacking = list[tuple[str, str]]


def fetching(
    remote: Remote, folder: Path, study: Study = OURS, limit_s: float = 60.0, lacking: Lacking | None = None
) -> Iterator[Path]:
    """`lacking` gets each series that is named and not given, with the error."""
    missed: Lacking = [] if lacking is None else lacking
    return fetch_earlier(
        remote,
        study,
        seg_description="Porta: liver",
        sr_description="Porta: findings",
        directory=folder / "fetched",
        calling_ae_title="US",
        timeout_s=PATIENCE_S,
        limit_s=limit_s,
        lacking=lambda uid, error: missed.append((uid, str(error))),
    )


def report(**changes: str) -> Dataset:
    """What stands in an SR of the same."""
    return header(
        **({"SOPClassUID": COMPREHENSIVE_3D_SR, "Modality": "SR", "SeriesDescription": "Porta: findings"} | changes)
    )


def test_orthanc_gives_the_patient_s_earlier_results_and_no_other(orthanc: Remote, tmp_path: Path) -> None:
    """Not today's, later ones, those of others, other kinds; of seven earlier studies the first and the latest four.

    SRs come of a study that has no SEG, and of no other.
    """
    wanted = [header(StudyDate=date) for date in ("20200101", "20231102", "20240430")]
    wanted.append(header(StudyInstanceUID=wanted[0].StudyInstanceUID, StudyDate="20200101"))  # a second revision
    wanted[2].PatientBirthDate = wanted[2].PatientSex = ""  # unknown is no contradiction
    wanted += [report(StudyDate="20231103"), header(StudyDate="20231101")]
    others = [
        header(StudyInstanceUID=OURS.study_instance_uid, StudyDate="20240501"),
        header(StudyDate="20240502"),
        header(StudyDate="20240501", StudyTime="110000"),
        header(StudyDate=""),
        header(StudyDate="20200102"),
        header(StudyDate="20231031"),
        report(StudyInstanceUID=wanted[1].StudyInstanceUID, StudyDate="20231102"),
        report(SeriesDescription="Porta: not processed"),
        report(PatientBirthDate="19600103"),
        header(PatientID="ZZPHI-77"),
        header(PatientID="zzphi-7"),
        header(PatientBirthDate="19600103"),
        header(PatientSex="M"),
        header(SeriesDescription="Spleen"),
        header(SOPClassUID=CTImageStorage, Modality="CT"),
    ]
    everything = [written(ds, tmp_path) for ds in (*wanted, *others)]
    store(orthanc, everything, calling_ae_title="US", timeout_s=PATIENCE_S)
    found = fetched(orthanc, tmp_path)
    assert {path.stem for path in found} == {str(ds.SOPInstanceUID) for ds in wanted}
    assert dcmread(found[0]).PatientID == "ZZPHI-7"
    assert "ZZPHI" not in "".join(map(str, found))
    assert sorted((tmp_path / "fetched").iterdir()) == found

    nobody = Study("1.2.9.1", "ZZPHI-8", "", "", "", "20240501", "")
    assert fetched(orthanc, tmp_path / "nobody", nobody) == []


@pytest.mark.parametrize("patient_id", ["", "*", "ZZPHI?7", "ZZPHI-7\\ZZPHI-8"])
def test_who_cannot_be_asked_for_alone_is_not_asked_for(tmp_path: Path, patient_id: str) -> None:
    """An empty key and wildcards match other patients: nobody is called."""
    nowhere = Remote("PEER", "127.0.0.1", 9)
    assert fetched(nowhere, tmp_path, Study("1.2.9.1", patient_id, date="20240501")) == []
    assert fetched(nowhere, tmp_path, Study("1.2.9.1", "ZZPHI-7")) == []


def test_a_study_does_not_show_its_patient() -> None:
    """Not in a log, not in a traceback."""
    assert "ZZPHI" not in repr(OURS)
    assert "1960" not in repr(OURS)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"PatientBirthDate": "", "PatientSex": ""}, True),
        ({"PatientSex": "f"}, True),
        ({"PatientID": " ZZPHI-7 "}, True),
        ({"PatientID": ""}, False),
        ({"PatientID": "ZZPHI-77"}, False),
        ({"PatientBirthDate": "19610102"}, False),
        ({"PatientSex": "M"}, False),
        ({"StudyInstanceUID": "1.2.9.1"}, False),
        ({"StudyDate": "20240501", "StudyTime": "101459"}, True),
        ({"StudyDate": "20240501", "StudyTime": "101500"}, False),
        ({"StudyDate": "20240501", "StudyTime": ""}, False),
        ({"StudyDate": ""}, False),
        ({"StudyDate": "long ago"}, False),
    ],
)
def test_what_is_an_earlier_study_of_the_patient(changes: dict[str, str], expected: bool) -> None:
    """The same PatientID, nothing that contradicts, and a day or time before."""
    ds = header()
    for keyword, value in changes.items():
        ds[keyword]._value = value
    assert OURS.is_earlier(Study.of(ds)) is expected


def test_issuers_of_the_same_number_are_told_apart() -> None:
    """Two hospitals may have a patient 7."""
    here = Study("1.2.9.1", "7", issuer="A", date="20240501")
    assert here.is_earlier(Study("1.2.9.2", "7", issuer="A", date="20230101"))
    assert here.is_earlier(Study("1.2.9.2", "7", date="20230101"))
    assert not here.is_earlier(Study("1.2.9.2", "7", issuer="B", date="20230101"))


@pytest.fixture
def careless(start_peer: StartPeer) -> Callable[..., Remote]:
    """`careless(studies, objects)` answers each query with all `studies`, and each C-GET with all `objects`."""

    def start(studies: list[Dataset], objects: list[Dataset], final: int = 0x0000) -> Remote:
        def find(event: Event) -> Iterator[tuple[int, Dataset | None]]:
            for ds in studies:
                answer = Dataset()
                answer.update(ds)
                answer.QueryRetrieveLevel = event.identifier.QueryRetrieveLevel
                yield 0xFF00, answer

        def get(event: Event) -> Iterator[object]:
            yield len(objects)
            for ds in [] if final else objects:
                ds.file_meta = FileMetaDataset()
                ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
                yield 0xFF00, ds
            if final:
                yield final, None

        syntaxes = [str(ExplicitVRLittleEndian)]
        contexts = [(FIND, syntaxes), (GET, syntaxes), (SegmentationStorage, syntaxes)]
        return start_peer(contexts, [(evt.EVT_C_FIND, find), (evt.EVT_C_GET, get)])

    return start


def test_a_peer_that_confuses_patients(careless: Callable[..., Remote], tmp_path: Path) -> None:
    """Whoever it says they are, objects of others are removed at once."""
    right, wrong = header(), header(PatientID="ZZPHI-8")
    wrong.StudyInstanceUID = right.StudyInstanceUID
    remote = careless([right, wrong], [right, wrong])
    (path,) = fetched(remote, tmp_path)
    assert path.stem == right.SOPInstanceUID
    assert list((tmp_path / "fetched").iterdir()) == [path]


def test_a_peer_that_fails_to_give(careless: Callable[..., Remote], tmp_path: Path) -> None:
    """Lacks what it named, by its status, and without the patient: another archive may have it."""
    ds, lacking = header(), Lacking()
    remote = careless([ds], [header()], final=0xA702)
    assert list(fetching(remote, tmp_path, lacking=lacking)) == []
    ((uid, said),) = lacking
    assert uid == ds.SeriesInstanceUID and "0xA702" in said and "ZZPHI" not in said


def test_an_archive_without_c_get_lacks_all_that_it_names(start_peer: StartPeer, tmp_path: Path) -> None:
    """It is asked on, as it may give what comes next; what it takes no context for it cannot give."""
    studies = [header(StudyDate=date) for date in ("20230101", "20240101")]

    def find(event: Event) -> Iterator[tuple[int, Dataset | None]]:
        for ds in studies:
            if event.identifier.get("StudyInstanceUID") in ("", None, ds.StudyInstanceUID):
                answer = Dataset()
                answer.update(ds)
                answer.QueryRetrieveLevel = event.identifier.QueryRetrieveLevel
                yield 0xFF00, answer

    remote, lacking = start_peer([(FIND, [str(ExplicitVRLittleEndian)])], [(evt.EVT_C_FIND, find)]), Lacking()
    assert list(fetching(remote, tmp_path, lacking=lacking)) == []
    assert [uid for uid, _ in lacking] == [ds.SeriesInstanceUID for ds in reversed(studies)]


def test_what_came_before_a_failure_stays(start_peer: StartPeer, tmp_path: Path) -> None:
    """The latest study is given, the first one is not: whoever asks has the one, and is told of the other."""
    studies = [header(StudyDate=date) for date in ("20230101", "20240101")]
    asked: list[str] = []

    def find(event: Event) -> Iterator[tuple[int, Dataset | None]]:
        for ds in studies:
            if event.identifier.get("StudyInstanceUID") in ("", None, ds.StudyInstanceUID):
                answer = Dataset()
                answer.update(ds)
                answer.QueryRetrieveLevel = event.identifier.QueryRetrieveLevel
                yield 0xFF00, answer

    def get(event: Event) -> Iterator[object]:
        asked.append(event.identifier.StudyInstanceUID)
        yield 1
        if len(asked) > 1:
            yield 0xA702, None
            return
        studies[-1].file_meta = FileMetaDataset()
        studies[-1].file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        yield 0xFF00, studies[-1]

    syntaxes = [str(ExplicitVRLittleEndian)]
    contexts = [(FIND, syntaxes), (GET, syntaxes), (SegmentationStorage, syntaxes)]
    remote = start_peer(contexts, [(evt.EVT_C_FIND, find), (evt.EVT_C_GET, get)])
    lacking = Lacking()
    came = list(fetching(remote, tmp_path, lacking=lacking))
    assert [uid for uid, _ in lacking] == [studies[0].SeriesInstanceUID]
    assert [path.stem for path in came] == [studies[-1].SOPInstanceUID]
    assert asked == [ds.StudyInstanceUID for ds in reversed(studies)]


def test_the_latest_then_the_first_then_the_others(start_peer: StartPeer, tmp_path: Path) -> None:
    """Of those that have results; what is said to have neither SEG nor SR is asked for no series at all."""
    dates = ("20200101", "20210101", "20220101", "20230101", "20240101", "20240201")
    studies = [header(StudyDate=date) for date in dates]
    for ds, modalities in zip(studies, (["CT"], None, "CT", ["CT", "SEG"], "SR", ["CT", "MR"]), strict=True):
        ds.ModalitiesInStudy = modalities
    queried: list[str] = []
    asked: list[str] = []

    def find(event: Event) -> Iterator[tuple[int, Dataset | None]]:
        assert "ModalitiesInStudy" in event.identifier or event.identifier.QueryRetrieveLevel == "SERIES"
        study = event.identifier.get("StudyInstanceUID") or ""
        if study and study not in queried:
            queried.append(study)
        for ds in studies:
            if study in ("", ds.StudyInstanceUID):
                answer = Dataset()
                answer.update(ds)
                answer.QueryRetrieveLevel = event.identifier.QueryRetrieveLevel
                yield 0xFF00, answer

    def get(event: Event) -> Iterator[object]:
        asked.append(event.identifier.StudyInstanceUID)
        (ds,) = [ds for ds in studies if asked[-1] == ds.StudyInstanceUID]
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        yield 1
        yield 0xFF00, ds

    syntaxes = [str(ExplicitVRLittleEndian)]
    contexts = [(FIND, syntaxes), (GET, syntaxes), (SegmentationStorage, syntaxes)]
    remote = start_peer(contexts, [(evt.EVT_C_FIND, find), (evt.EVT_C_GET, get)])
    came = [path.stem for path in fetching(remote, tmp_path)]
    assert came == [studies[index].SOPInstanceUID for index in (4, 1, 3)]
    assert asked == queried == [studies[index].StudyInstanceUID for index in (4, 1, 3)]


def test_a_peer_that_never_ends(start_peer: StartPeer, tmp_path: Path) -> None:
    """Answer after answer, each in time: it is left when the time for all is up."""

    def endless(event: Event) -> Iterator[tuple[int, Dataset | None]]:
        while not event.is_cancelled and event.assoc.is_established:
            yield 0xFF00, header()

    syntaxes = [str(ExplicitVRLittleEndian)]
    remote = start_peer([(FIND, syntaxes), (GET, syntaxes)], [(evt.EVT_C_FIND, endless)])
    with pytest.raises(PeerUnreachable):
        fetched(remote, tmp_path, limit_s=0.5)


def test_nobody_there(free_port: Callable[[], int], tmp_path: Path) -> None:
    with pytest.raises(PeerUnreachable):
        fetched(Remote("PEER", "127.0.0.1", free_port()), tmp_path)
