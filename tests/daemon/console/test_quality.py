"""The page of quality: a corrected SEG on it with its figures, and what is told of drift; nothing of the patient."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from daemon.configuration.config import Config
from daemon.console.chart import line_of
from daemon.console.quality import Quality, Sample, _drifts
from daemon.feedback import Feedback
from daemon.intake import Intake
from daemon.ledger.store import Ledger
from daemon.storage.spool import Spool
from tests.daemon.console.conftest import Site
from tests.daemon.corrected import Here, answer, drawn, truth


def test_a_corrected_seg_is_on_the_page(
    site: Site, spool: Spool, ledger: Ledger, clock: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By model, scanner and rule, with volumes, in the API and in /metrics; and one that is still to be scored."""
    found = answer(spool, ledger, clock, tmp_path, monkeypatch, patient_name="ZZPHI^CANARY", patient_id="ZZPHI")
    intake = Intake(spool, ledger, clock)
    intake.take(drawn(found.images, truth()), calling_ae_title="VIEWER")
    Feedback(site.config, spool, ledger, Here(), clock).score_due()
    intake.take(drawn(found.images, truth()), calling_ae_title="LATER")
    viewer = site.browser("viewer")
    told = viewer.get("/api/v1/quality").json()
    made_by = str(dcmread(found.images[0], stop_before_pixels=True).Manufacturer)
    assert [(row["by"], row["corrections"], row["results"]) for row in told["groups"]] == [
        ("model", 1, 1),
        ("scanner", 1, 1),
        ("rule", 1, 1),
    ]
    assert [row["name"] for row in told["groups"]][::2] == ["threshold 1", "liver-ct"]
    assert told["groups"][1]["name"].startswith(made_by.split()[0])
    assert (told["groups"][0]["confidence"], told["groups"][2]["refused_percent"]) == (0.75, 0.0)
    later, scored = told["latest"]
    assert (later["state"], later["volumes"], scored["volumes"][0]["liver_iou"]) == ("PENDING", [], 0.9091)
    ours, theirs = (scored["volumes"][0][key] for key in ("liver_ml", "corrected_liver_ml"))
    assert (ours, theirs) == (pytest.approx(5 * 12 * 10 * 0.36, abs=0.1), pytest.approx(5 * 12 * 11 * 0.36, abs=0.1))
    (week,) = told["weeks"]["threshold 1"]
    assert (week["week"], week["corrections"]) == ("1970-01-12", 1)
    page = viewer.get("/quality").text
    assert "0.952, " in page and "1 taken away, 1 added" in page and "threshold 1" in page and "PENDING" in page
    metrics = viewer.get("/metrics").text
    assert 'porta_corrections{model="threshold 1"} 1.0' in metrics
    assert 'porta_correction_liver_dice{model="threshold 1"} 0.9524' in metrics
    assert "ZZPHI" not in page + metrics + str(told)


def test_refusals_count_by_rule(site: Site, receive: Callable[..., int], ledger: Ledger, clock: Any) -> None:
    """Of what a rule took; a series of no rule was not meant."""
    receive(1, None)
    quality = Quality(site.console)
    assert quality.latest()["groups"] == []
    assert site.browser("viewer").get("/quality").status_code == 200


def test_drift_of_a_group() -> None:
    """Each group by itself; refusals by rule alone."""
    samples = [
        Sample(float(at), {"model": "m 1", "scanner": "A" if at % 2 else "B", "rule": "r"}, {"liver_dice": dice})
        for at, dice in enumerate([0.95, 0.94, 0.95, 0.94] * 15 + [0.7, 0.71] * 10)
    ]
    assert {(drift.by, drift.name) for drift in _drifts(samples)} == {
        ("model", "m 1"),
        ("scanner", "A"),
        ("scanner", "B"),
        ("rule", "r"),
    }
    refused = [Sample(float(at), {"model": "m 1", "rule": "r"}, {"refused": float(at >= 60)}) for at in range(90)]
    assert [(drift.by, drift.measure) for drift in _drifts(refused)] == [("rule", "refused")]


def test_a_line_has_a_mark_for_each_week() -> None:
    """A week without lesions has none of theirs."""
    weeks = [
        {"week": "2026-03-02", "corrections": 2, "liver_dice": 1.0, "lesion_dice": None},
        {"week": "2026-03-09", "corrections": 1, "liver_dice": 0.5, "lesion_dice": 0.25},
    ]
    liver, lesions = line_of(weeks)
    assert (liver.points, lesions.points) == ("0.0,0.0 600.0,60.0", "600.0,90.0")
    assert liver.marks[0][2] == "Liver, week of 2026-03-02: 1.000 of 2 corrections"


@pytest.mark.parametrize("text", ["", "{}", '{"model": 1}', "[]"])
def test_damaged_findings_are_left_out(
    site: Site,
    spool: Spool,
    ledger: Ledger,
    clock: Any,
    make_config: Callable[..., Config],
    receive: Callable[..., int],
    text: str,
) -> None:
    """The page is there all the same."""
    job = ledger.job(receive(1))
    path = spool.outbox(job.id) / "0" / "findings.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert "refused" in Quality(site.console)._of_result(job).measures
