"""What is brought: DICOM, archives and NIfTI go the way of C-STORE; whatever else comes is refused."""

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from daemon.jobs import State
from daemon.ledger.answers import is_incomplete
from daemon.ledger.store import Ledger
from dicom_io.files.uids import derive_uid
from tests.daemon.console.conftest import Site

MakeCt = Callable[..., bytes]


def archive(members: dict[str, bytes]) -> bytes:
    """A zip of these."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return target.getvalue()


def nifti(shape: tuple[int, ...] = (16, 16, 4)) -> bytes:
    """An image of one value, packed."""
    import nibabel

    image = nibabel.Nifti1Image(np.full(shape, 40, np.int16), np.diag([2.0, 2.0, 5.0, 1.0]))
    return gzip.compress(image.to_bytes())


@pytest.fixture
def operator(site: Site) -> TestClient:
    return site.browser("operator")


def left(site: Site) -> list[Path]:
    """What lies where files come in."""
    return [path for path in (site.config.storage.root / "incoming").iterdir() if path.is_file()]


def test_images_come_in(site: Site, operator: TestClient, ledger: Ledger, make_ct: MakeCt, clock: Any) -> None:
    """Each is stored, as the PACS's would be; when all has been sent the series are released, and the studies named."""
    for index in (1, 2):
        answer = operator.post("/api/v1/uploads/file", content=make_ct(1, index))
        assert answer.json() == {"kind": "dicom", "verdicts": {"STORED": 1}, "series": [derive_uid("series", 1)]}
        assert is_incomplete(ledger.database, derive_uid("series", 1))  # as long as the page may be closed
    assert operator.post("/api/v1/uploads/file", content=make_ct(1, 2)).json()["verdicts"] == {"ALREADY_STORED": 1}
    (finished,) = operator.post("/api/v1/uploads/finished").json()
    assert finished["study_instance_uid"] == derive_uid("study", 1)
    assert not is_incomplete(ledger.database, derive_uid("series", 1))
    assert operator.post("/api/v1/uploads/finished").json() == []
    (job,) = ledger.all_jobs()
    assert (job.state, job.calling_ae_title, job.instances) == (State.RECEIVING, "SUBMIT", 2)
    assert ledger.due_series(now=clock() + 6, quiet_s=20, released_quiet_s=5)
    assert [entry.action for entry in site.console.accounts.entries(most=5)].count("UPLOAD") == 1


def test_an_archive(site: Site, operator: TestClient, ledger: Ledger, make_ct: MakeCt) -> None:
    """Its images come in; members that lead out of it, or are no images, do not, and nothing lies outside."""
    members = {"a/1": make_ct(1, 1), "a/2": make_ct(1, 2), "../../evil.dcm": make_ct(2, 1), "/tmp/evil": make_ct(3, 1)}
    answer = operator.post("/api/v1/uploads/file", content=archive({**members, "readme.txt": b"no image"})).json()
    assert answer["kind"] == "archive" and answer["verdicts"] == {"STORED": 2, "UNDECODABLE": 1}
    assert ledger.all_series() == [derive_uid("series", 1)]
    assert not list(site.config.storage.root.rglob("*evil*")) and left(site) == []


def test_a_nifti_becomes_a_study(operator: TestClient, ledger: Ledger, site: Site) -> None:
    """Of a patient named after its bytes; the same image again is the same study."""
    for verdict in ("STORED", "ALREADY_STORED"):
        answer = operator.post("/api/v1/uploads/file", content=nifti()).json()
        assert (answer["kind"], answer["verdicts"]) == ("nifti", {verdict: 4})
    mr = operator.post("/api/v1/uploads/file?modality=MR", content=nifti((16, 16, 5))).json()
    assert mr["verdicts"] == {"STORED": 5} and len(ledger.all_series()) == 2
    (job, _) = ledger.all_jobs()
    patient = operator.get(f"/api/v1/studies/{job.study_instance_uid}/patient").json()
    assert patient["name"] == "UPLOAD" and patient["patient_id"].startswith("UPLOAD-")


def bomb() -> bytes:
    """An archive of 1 kB that says to hold 8 MB."""
    return archive({"zeros": bytes(8 << 20)})


REFUSED = {
    "nothing": b"",
    "text": b"PatientName=ZZPHI^CANARY",
    "an archive that is cut": archive({"a": bytes(3000)})[:-30],
    "PK and no archive": b"PK\3\4" + bytes(400),
    "gzip and no image": gzip.compress(b"nothing of an image" * 100),
    "gzip that is cut": gzip.compress(bytes(range(256)) * 200)[:100],
    "NIfTI's name and nothing else": bytes(344) + b"n+1\0" + bytes(40),
    "a zip bomb": bomb(),
    "a gzip bomb": gzip.compress(bytes(8 << 20)),
    "an image of four axes": nifti((4, 4, 4, 3)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_image_is_refused(
    name: str, make_config: Any, site: Site, operator: TestClient, ledger: Ledger
) -> None:
    """400, a sentence without a path or a value, no row, no file."""
    site.app.state.uploads._most_bytes = 4 << 20  # 4 GB by default
    answer = operator.post("/api/v1/uploads/file", content=REFUSED[name])
    assert answer.status_code == 400, answer.text
    detail = answer.json()["detail"]
    assert detail and "/" not in detail.replace("[web]", "") and "CANARY" not in detail
    assert ledger.all_series() == [] and left(site) == []


def test_an_image_larger_than_may_be_sent(site: Site, operator: TestClient) -> None:
    """Whether it says how large it is, or just keeps coming."""
    site.app._upload_bytes = 1 << 20
    assert operator.post("/api/v1/uploads/file", content=bytes(2 << 20)).status_code == 413
    assert operator.post("/api/v1/uploads/file", content=iter([bytes(1 << 19)] * 4)).status_code == 413
    assert left(site) == []


def test_rules_are_tried(site: Site, operator: TestClient, ledger: Ledger, make_ct: MakeCt) -> None:
    """Which one a series takes, and why not each other one; nothing is kept."""
    for content in (make_ct(1, 1), archive({"a": make_ct(1, 1), "b": make_ct(1, 2)})):
        (trial,) = operator.post("/api/v1/rules/test", content=content).json()["trials"]
        assert (trial["rule"], trial["calling_ae_title"]) == ("liver-ct", "SUBMIT")
    answer = operator.post("/api/v1/rules/test", content=b"no image").json()
    assert answer == {"trials": [], "unreadable": 1}
    assert ledger.all_series() == []


def test_check_is_a_page(operator: TestClient) -> None:
    """As `porta check` says it."""
    said = {item["name"]: item for item in operator.post("/api/v1/check").json()}
    assert said["storage"]["result"] == "OK" and "can be written" in said["storage"]["said"]
    assert said["peer archive"]["result"] == "FAILED" and said["peer archive"]["remedy"]
