"""Earlier studies out of archives that offer no C-GET: by C-MOVE from DCMTK's, by WADO-RS from Orthanc's DICOMweb."""

import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from pydicom import dcmread

from daemon.commands.demo_pacs import OrthancNode
from dicom_io.errors import ContextNotAccepted, PeerError, PeerUnreachable
from dicom_io.network.earlier import asking
from dicom_io.network.earlier_images import SLICES, earlier_series
from dicom_io.network.moving import Moving
from dicom_io.network.scu import Remote, echo, store
from dicom_io.web.service import Secret, WebService
from tests.dicom_io.network.conftest import PATIENCE_S
from tests.dicom_io.network.test_earlier_images import OURS, series

HOW = {"calling_ae_title": "US", "timeout_s": PATIENCE_S, "limit_s": 60.0, "most": 4}


@pytest.fixture
def archive(
    require_binary: Callable[[str], str], free_port: Callable[[], int], tmp_path: Path
) -> Iterator[tuple[Remote, Moving]]:
    """DCMTK's archive without C-GET, which knows where C-MOVE may send to."""
    binary, port, moving = require_binary("dcmqrscp"), free_port(), Moving("PORTA_MOVE", "127.0.0.1", free_port())
    (tmp_path / "kept").mkdir()
    (tmp_path / "dcmqrscp.cfg").write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        f"HostTable BEGIN\nmove = (PORTA_MOVE, 127.0.0.1, {moving.port})\nHostTable END\n"
        f"AETable BEGIN\nARCHIVE {tmp_path / 'kept'} RW (200, 1024mb) ANY\nAETable END\n"
    )
    process = subprocess.Popen(
        [binary, "--disable-get", "--config", str(tmp_path / "dcmqrscp.cfg")], stdout=subprocess.DEVNULL
    )
    remote = Remote("ARCHIVE", "127.0.0.1", port)
    for _ in range(100):
        try:
            echo(remote, calling_ae_title="US", timeout_s=PATIENCE_S)
            break
        except PeerUnreachable:
            assert process.poll() is None
    yield remote, moving
    process.kill()
    process.wait(10)


def filled(remote: Remote, folder: Path) -> tuple[list[Path], tuple[str, str]]:
    """Store an earlier study and one of another patient; return the former's files and UIDs."""
    sent, other = series(folder, "0101", datetime(2024, 1, 1, 9)), series(folder, "other", OTHER, patient_id="ZZPHI-8")
    store(remote, [*sent, *other], calling_ae_title="US", timeout_s=PATIENCE_S)
    ds = dcmread(sent[0])
    return sent, (str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID))


OTHER = datetime(2024, 2, 1, 9)


def test_what_is_moved_comes_to_a_port_of_ours(archive: tuple[Remote, Moving], tmp_path: Path) -> None:
    """Byte for byte in its pixels; without such a port it cannot be had."""
    remote, moving = archive
    sent, uids = filled(remote, tmp_path)
    with asking(remote, OURS, SLICES, directory=tmp_path / "fetched", moving=moving, **HOW) as session:
        ((named,),) = earlier_series(session, "CT")
        assert (named.study.study_instance_uid, named.series_instance_uid) == uids
        paths = session.bring(*uids)
    given = {dcmread(path).SOPInstanceUID: dcmread(path).PixelData for path in sent}
    assert {dcmread(path).SOPInstanceUID: dcmread(path).PixelData for path in paths} == given
    nowhere = tmp_path / "none"
    with asking(remote, OURS, SLICES, directory=nowhere, **HOW) as session, pytest.raises(ContextNotAccepted):
        session.bring(*uids)
    nobody = Moving("NOBODY", "127.0.0.1", moving.port)
    refused = pytest.raises(PeerError, match="C-MOVE with status")
    with asking(remote, OURS, SLICES, directory=nowhere, moving=nobody, **HOW) as session, refused:
        session.bring(*uids)
    assert list(nowhere.iterdir()) == []


def test_by_dicomweb(
    require_binary: Callable[[str], str], free_port: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same patient's alone, in files of their UIDs; what is not there, and a time that is up."""
    require_binary("Orthanc")
    (tmp_path / "pacs").mkdir()
    node = OrthancNode(tmp_path / "pacs", porta_port=free_port(), ports=(free_port(), free_port()))
    node.start(lambda text: None)
    try:
        monkeypatch.setenv("PACS_PASSWORD", node._password)
        url = f"http://127.0.0.1:{node._http_port}/dicom-web"
        service = WebService(url, "porta", Secret(variable="PACS_PASSWORD"))
        remote = Remote(node.ae_title, "127.0.0.1", node.port)
        sent = series(tmp_path, "0101", datetime(2024, 1, 1, 9))
        other = series(tmp_path, "other", OTHER, patient_id="ZZPHI-8")
        store(remote, [*sent, *other], calling_ae_title="PORTA", timeout_s=PATIENCE_S)
        ds, stranger = dcmread(sent[0]), dcmread(other[0])
        with asking(service, OURS, SLICES, directory=tmp_path / "fetched", **HOW) as session:
            ((named,),) = earlier_series(session, "CT")
            assert (named.series_instance_uid, named.images) == (ds.SeriesInstanceUID, 4)
            assert earlier_series(session, "MR") == []
            paths = session.bring(ds.StudyInstanceUID, ds.SeriesInstanceUID)
            assert session.bring(stranger.StudyInstanceUID, stranger.SeriesInstanceUID) == []
            with pytest.raises(PeerError):
                session.bring("1.2.3", "1.2.3.4")
        assert sorted(path.stem for path in paths) == sorted(str(dcmread(path).SOPInstanceUID) for path in sent)
        given = {dcmread(path).SOPInstanceUID: dcmread(path).PixelData for path in sent}
        assert {dcmread(path).SOPInstanceUID: dcmread(path).PixelData for path in paths} == given
        assert len(list((tmp_path / "fetched").iterdir())) == 4
        late, up = HOW | {"limit_s": 0.0}, pytest.raises(PeerUnreachable, match="in time")
        with asking(service, OURS, SLICES, directory=tmp_path / "late", **late) as session, up:
            session.studies(["CT"])
    finally:
        node.stop()
