"""The pages: what a study's says and does, what needs a person, and that no text of a file becomes markup."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from daemon.jobs import HaltCode, State
from daemon.ledger.store import Ledger
from daemon.storage.spool import Spool, progress_file
from dicom_io.files.uids import derive_uid
from tests.daemon.conftest import CANARY
from tests.daemon.console.conftest import Site

Receive = Callable[..., int]


def halt(ledger: Ledger, clock: Any, job_id: int) -> None:
    """Have a job stand still."""
    job = ledger.job(job_id)
    with ledger.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE jobs SET chosen = 1 WHERE id = ?", (job_id,))
    claimed = ledger.claim_job("host/1", now=clock() + 200)
    assert claimed is not None and claimed.id == job.id
    ledger.halt(claimed, HaltCode.WORKER_FAILED, now=clock() + 200)


def test_a_study_has_a_page(site: Site, receive: Receive) -> None:
    """Found by its UID; patient, sentence and bar are on it, and the patient is in no address."""
    receive(1)
    uid = derive_uid("study", 1)
    viewer = site.browser("viewer")
    found = viewer.post("/find", data={"value": uid, "csrf": viewer.headers["x-csrf-token"]})
    assert found.headers["location"] == f"/studies/{uid}"
    page = viewer.get(f"/studies/{uid}").text
    assert CANARY in page and 'class="bar"' in page and "Retry" not in page
    assert viewer.get(f"/api/v1/studies/{uid}").json()["series"][0]["job"]["id"] == 1
    assert viewer.get(f"/api/v1/studies/{uid}/patient").json()["patient_id"] == CANARY


def test_a_study_that_is_not_here(site: Site) -> None:
    """404, and what may be said of it."""
    answer = site.browser("viewer").get("/studies/1.2.3")
    assert answer.status_code == 404 and "Nothing of it came" in answer.text


def test_names_are_text(site: Site, receive: Receive) -> None:
    """Whatever a header holds is shown, and nothing of it is markup."""

    def change(ds: Any) -> None:
        ds.PatientName = "<script>alert(1)</script>"
        ds.StudyDescription = '"><img src=x onerror=alert(1)>{{ 7*7 }}'

    receive(2, change=change)
    page = site.browser("viewer").get(f"/studies/{derive_uid('study', 2)}").text
    assert "<script>alert" not in page and "<img" not in page and "&lt;script&gt;alert(1)" in page
    assert "{{ 7*7 }}" in page


def test_buttons_do_what_the_commands_do(site: Site, receive: Receive, ledger: Ledger, clock: Any) -> None:
    """Cancel, rerun: the job moves, the next page says so once, and the audit names who did it."""
    job_id = receive(1)
    operator = site.browser("operator")
    csrf = {"csrf": operator.headers.pop("x-csrf-token")}
    answer = operator.post(f"/jobs/{job_id}/cancel", data=csrf)
    assert answer.headers["location"] == f"/studies/{derive_uid('study', 1)}"
    assert ledger.job(job_id).state == State.CANCELLED
    assert "job 1 is cancelled" in operator.get(answer.headers["location"]).text
    assert "job 1 is cancelled" not in operator.get(answer.headers["location"]).text
    operator.post(f"/jobs/{job_id}/rerun", data=csrf)
    assert ledger.job(job_id).state == State.RECEIVING
    assert operator.post(f"/jobs/{job_id}/explode", data=csrf).status_code == 404
    operator.post(f"/jobs/{job_id}/retry", data=csrf)
    assert "cannot retry it" in operator.get(answer.headers["location"]).text
    noted = [(entry.user, entry.action, entry.code, entry.job_id) for entry in site.console.accounts.entries(most=3)]
    assert noted == [
        ("operator", "RETRY", "REFUSED", 1),
        ("operator", "RERUN", "DONE", 1),
        ("operator", "CANCEL", "DONE", 1),
    ]


def test_what_stands_still_goes_on(site: Site, receive: Receive, ledger: Ledger, clock: Any) -> None:
    """By cause, all of them at once, from the page and by the API."""
    for series in (1, 2):
        halt(ledger, clock, receive(series))
    operator = site.browser("operator")
    assert "WORKER_FAILED: 2 jobs" in operator.get("/needs").text
    (cause,) = operator.get("/api/v1/needs").json()
    assert (cause["halt"], cause["jobs"], cause["destination"]) == ("WORKER_FAILED", 2, None)
    operator.post("/needs/retry", data={"reason": "WORKER_FAILED", "csrf": operator.headers["x-csrf-token"]})
    assert "2 jobs (1, 2) go on" in operator.get("/needs").text
    assert operator.get("/api/v1/needs").json() == []


def test_every_page_is_there(site: Site, receive: Receive) -> None:
    """With a job, and for each role."""
    receive(1)
    for role in ("viewer", "operator", "admin"):
        browser = site.browser(role)
        for path in ("/", "/?before=1", "/?state=HALTED", "/needs", "/now", "/quality", "/upload", "/rules"):
            assert browser.get(path).status_code == 200, (role, path)


def test_who_was_refused_may_be_added(site: Site, ledger: Ledger, clock: Any) -> None:
    """The text for the configuration stands on the page, and is valid."""
    import tomllib

    from daemon.console.pages import stanza
    from daemon.ledger.rows import Refusal, RefusalKind

    refusal = Refusal(RefusalKind.ASSOCIATION, "CALLING_AE_TITLE", 'CT "1"', "PORTA", "10.0.0.9", 3, clock(), clock())
    ledger.count_refusals([refusal])
    assert "CT &#34;1&#34;" in site.browser("viewer").get("/rules").text
    text = stanza(refusal)
    assert text is not None
    assert tomllib.loads(text)["peer"][0] == {"name": "ct--1", "ae_title": 'CT "1"', "host": "10.0.0.9", "accept": True}


def test_metrics_and_probes(site: Site, receive: Receive) -> None:
    """Figures without names; ready says whether the service runs."""
    receive(1)
    nobody = site.browser()
    text = nobody.get("/metrics").text
    assert 'porta_jobs{state="RECEIVED"} 1.0' in text and "porta_up 0.0" in text and CANARY not in text
    assert nobody.get("/ready").json() == {"ledger": True, "service": False}


def test_a_patient_is_shown_and_kept_nowhere(site: Site, receive: Receive, ledger: Ledger, tmp_path: Path) -> None:
    """After each page was seen, and a name was typed: no address, header or figure has it, nor has the ledger."""
    job_id = receive(1)
    operator = site.browser("operator")
    seen = [operator.get(path) for path in ("/", f"/studies/{derive_uid('study', 1)}", "/needs", "/now", "/metrics")]
    seen += [operator.post("/find", data={"value": "ZZPHI123"}), operator.post(f"/jobs/{job_id}/cancel")]
    seen += [
        operator.post("/api/v1/studies/search", json={"value": "ZZPHI123"}),
        operator.get("/api/v1/jobs?rule=ZZPHI"),
    ]
    assert CANARY in seen[1].text
    assert all("ZZPHI" not in answer.text for answer in (*seen[:1], *seen[2:5]))
    assert all("ZZPHI" not in str(answer.headers) for answer in seen)
    ledger.close()
    assert not [file for file in tmp_path.glob("ledger.sqlite*") if b"ZZPHI" in file.read_bytes()]


def test_the_running_stage_is_shown(site: Site, receive: Receive, ledger: Ledger, spool: Spool, clock: Any) -> None:
    """With how much of it is done, as the worker says it."""
    job_id = receive(1)
    with ledger.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE jobs SET chosen = 1 WHERE id = ?", (job_id,))
    assert ledger.claim_job("host/1", now=clock()) is not None
    spool.work(job_id).mkdir()
    progress_file(spool.work(job_id)).write_text("40")
    (item,) = site.browser("viewer").get("/api/v1/now").json()["working"]
    assert (item["job"], item["stage"], item["progress"]) == (job_id, "segmenting", 0.4)
