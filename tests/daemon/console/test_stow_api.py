"""STOW-RS into Porta: what is answered of each instance, and that success means what it means to a C-STORE."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.testclient import TestClient

from daemon.commands.demo_pacs import OrthancNode
from daemon.configuration.config import Config, Peer, Web
from daemon.console.app import create_app
from daemon.console.state import ConsoleState
from daemon.errors import LedgerUnavailable
from daemon.ledger.answers import is_incomplete
from daemon.ledger.store import Ledger
from daemon.storage.spool import Spool
from dicom_io.files.uids import derive_uid
from tests.daemon.console.conftest import ORIGIN

TOKEN = "a-token-of-the-modality"
CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture
def client(
    make_config: Callable[..., Config],
    ledger: Ledger,
    spool: Spool,
    clock: Any,
    monkeypatch: pytest.MonkeyPatch,
    read_log: Any,
) -> Iterator[TestClient]:
    monkeypatch.setenv("PORTA_TEST_TOKEN", TOKEN)
    monkeypatch.setenv("PORTA_OTHER_TOKEN", "another")
    peers = (
        Peer(name="modality", ae_title="MODALITY", accept=True, stow_token_env="PORTA_TEST_TOKEN"),
        Peer(name="echo", ae_title="ECHO", accept=True, store=False, stow_token_env="PORTA_OTHER_TOKEN"),
        Peer(name="gone", ae_title="GONE", accept=True, stow_token_env="PORTA_NOT_SET"),
        Peer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=1),
    )
    config = make_config(ledger={"url": str(ledger.database._engine.url)}, peer=peers, web=Web(stow=True, upload_mb=1))
    app = create_app(ConsoleState(config, ledger, clock=clock))
    yield TestClient(app, base_url=ORIGIN, raise_server_exceptions=False)
    assert read_log.events is not None


def post(client: TestClient, *instances: bytes, study: str = "", token: str = TOKEN, **headers: str) -> Any:
    parts = b"".join(b"--x\r\nContent-Type: application/dicom\r\n\r\n" + item + b"\r\n" for item in instances)
    said = {
        "content-type": 'multipart/related; type="application/dicom"; boundary=x',
        "authorization": f"Bearer {token}",
    }
    path = f"/dicom-web/studies/{study}" if study else "/dicom-web/studies"
    return client.post(path, content=parts + b"--x--\r\n", headers=said | headers)


def outcomes(answer: Any) -> tuple[list[str], list[tuple[str, int]]]:
    """The SOP Instance UIDs that were stored, and those that were not with the reason."""
    body = answer.json()
    stored = [item["00081155"]["Value"][0] for item in body.get("00081199", {}).get("Value", [])]
    failed = body.get("00081198", {}).get("Value", [])
    return stored, [(item["00081155"]["Value"][0], item["00081197"]["Value"][0]) for item in failed]


def test_instances_go_the_way_of_a_c_store(
    client: TestClient, ledger: Ledger, spool: Spool, make_ct: Callable[..., bytes], clock: Any
):
    """In the spool byte for byte, under the peer's AE title; the end of the request is a release. Twice is once."""
    images = [make_ct(1, index) for index in (1, 2)]
    for _ in range(2):
        answer = post(client, *images)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/dicom+json")
        assert outcomes(answer) == ([derive_uid("instance", 1, index) for index in (1, 2)], [])
        assert answer.json()["00081199"]["Value"][0]["00081150"]["Value"] == [CT]
    kept = [spool.root / path for path in ledger.instance_paths(derive_uid("series", 1))]
    assert sorted(path.read_bytes() for path in kept) == sorted(images)
    (job,) = ledger.all_jobs()
    assert (job.calling_ae_title, job.instances) == ("MODALITY", 2)
    assert ledger.due_series(now=clock() + 6, quiet_s=1000, released_quiet_s=5)
    assert list((spool.root / "incoming").iterdir()) == []


def test_what_is_not_taken_is_said_of_each(client: TestClient, ledger: Ledger, make_ct: Callable[..., bytes]):
    """By the status that a C-STORE would have been answered, and the others are stored all the same."""
    good, cut = make_ct(1, 1), make_ct(1, 2)[:-40]
    answer = post(client, cut, good)
    assert answer.status_code == 202
    assert outcomes(answer) == ([derive_uid("instance", 1, 1)], [(derive_uid("instance", 1, 2), 0xC000)])
    answer = post(client, b"nothing of DICOM")
    assert (answer.status_code, outcomes(answer)) == (409, ([], [("", 0xC000)]))
    other = post(client, make_ct(2, 1), study=derive_uid("study", 1))
    assert (other.status_code, outcomes(other)[1]) == (409, [(derive_uid("instance", 2, 1), 0xA900)])
    same = post(client, make_ct(1, 3), study=derive_uid("study", 1))
    assert same.status_code == 200
    assert sum(job.instances for job in ledger.all_jobs()) == 2


def test_success_is_said_of_what_is_committed(
    client: TestClient, ledger: Ledger, spool: Spool, make_ct: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
):
    """A ledger that does not commit: out of resources, try again."""

    def refuse(*arguments: Any, **more: Any) -> bool:
        raise LedgerUnavailable("no answer")

    monkeypatch.setattr(ledger, "record_instance", refuse)
    answer = post(client, make_ct())
    assert (answer.status_code, outcomes(answer)) == (503, ([], [(derive_uid("instance", 1, 1), 0xA700)]))
    assert list((spool.root / "incoming").iterdir()) == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Bearer another"}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"authorization": "Basic !"}, 401),
        ({"authorization": "Basic bW9kYWxpdHk6YS10b2tlbi1vZi10aGUtbW9kYWxpdHk="}, 200),
        ({"content-type": "application/dicom"}, 415),
        ({"content-type": 'multipart/related; type="application/dicom+json"; boundary=x'}, 415),
        ({"content-type": 'multipart/related; type="application/dicom"; boundary=other'}, 400),
        ({"host": "elsewhere.example"}, 421),
    ],
)
def test_who_may_and_how(
    client: TestClient,
    ledger: Ledger,
    make_ct: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
    headers: dict[str, str],
    status: int,
):
    """A token of a peer that may store; nothing is kept of what is refused."""
    monkeypatch.setattr("daemon.console.stow_api.GUESS_S", 0.0)
    assert post(client, make_ct(), **headers).status_code == status
    assert len(ledger.all_jobs()) == (status == 200)


def test_what_stops_coming_is_forgotten(
    client: TestClient, ledger: Ledger, spool: Spool, make_ct: Callable[..., bytes]
):
    """The parts before it were taken, and nothing is left of it; a body beyond [web] upload_mb is refused."""
    head = b"--x\r\nContent-Type: application/dicom\r\n\r\n"
    said = {"content-type": "multipart/related; boundary=x", "authorization": f"Bearer {TOKEN}"}
    content = head + make_ct(1, 1) + b"\r\n" + head + make_ct(1, 2)
    assert client.post("/dicom-web/studies", content=content, headers=said).status_code == 400
    assert list((spool.root / "incoming").iterdir()) == []
    assert sum(job.instances for job in ledger.all_jobs()) == 1
    assert is_incomplete(ledger.database, derive_uid("series", 1))
    assert post(client, make_ct(1, 2)).status_code == 200
    assert not is_incomplete(ledger.database, derive_uid("series", 1))
    assert post(client, make_ct(1, 3), b"no DICOM").status_code == 202
    assert is_incomplete(ledger.database, derive_uid("series", 1))
    assert post(client, bytes(2 << 20)).status_code == 413


def test_it_is_off_by_default(site: Any, make_ct: Callable[..., bytes]):
    """Nothing is there."""
    assert post(site.browser(), make_ct()).status_code == 404


class StowingOrthanc(OrthancNode):
    """An Orthanc that knows Porta as a DICOMweb server."""

    def _settings(self) -> dict[str, object]:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        server = {"Url": f"http://127.0.0.1:{self._porta_port}/dicom-web/", "HttpHeaders": headers}
        return super()._settings() | {"DicomWeb": {"Enable": True, "Servers": {"porta": server}}}


def test_orthanc_stores_in_porta(
    tmp_path_factory: pytest.TempPathFactory,
    require_binary: Callable[[str], str],
    free_port: Callable[[], int],
    make_config: Callable[..., Config],
    ledger: Ledger,
    spool: Spool,
    clock: Any,
    make_ct: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
):
    """By its DICOMweb plugin, over a real connection, in chunks without a length."""
    require_binary("Orthanc")
    monkeypatch.setenv("PORTA_TEST_TOKEN", TOKEN)
    port = free_port()
    peers = (
        Peer(name="modality", ae_title="MODALITY", accept=True, stow_token_env="PORTA_TEST_TOKEN"),
        Peer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=1),
    )
    config = make_config(ledger={"url": str(ledger.database._engine.url)}, peer=peers, web=Web(stow=True, port=port))
    app = create_app(ConsoleState(config, ledger, clock=clock))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    node = StowingOrthanc(tmp_path_factory.mktemp("orthanc"), porta_port=port, ports=(free_port(), free_port()))
    node.start(say=lambda text: None)
    try:
        pages = httpx.Client(base_url=f"http://127.0.0.1:{node._http_port}", auth=("porta", node._password), timeout=30)
        ids = [pages.post("/instances", content=make_ct(1, index)).json()["ID"] for index in range(1, 6)]
        said = pages.post("/dicom-web/servers/porta/stow", json={"Resources": ids, "Synchronous": True})
        assert said.status_code == 200, said.text
        (job,) = ledger.all_jobs()
        assert (job.instances, job.calling_ae_title) == (5, "MODALITY")
    finally:
        node.stop()
        server.should_exit = True
        thread.join(10)
