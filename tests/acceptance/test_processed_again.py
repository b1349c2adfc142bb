"""A rule that was wrong and is mended, with a real PACS: what it refused, or reported, is processed again."""

from collections.abc import Callable
from pathlib import Path

from pydicom import dcmread

from daemon.jobs import State
from tests.acceptance.conftest import Site, until
from tests.acceptance.test_sent_again import predecessors, stored

RIGHT, WRONG = 'Modality = "CT"', 'Modality = "MR"'


def test_a_mended_rule_and_rerun_bring_the_results(
    site: Site, phantom_series: Callable[[int], list[Path]], tmp_path: Path
) -> None:
    """First those that were missing, then new ones in their place, of which the SR supersedes the first one."""
    images = phantom_series(13)
    study = str(dcmread(images[0], stop_before_pixels=True).StudyInstanceUID)
    site.changes = {RIGHT: WRONG}
    site.start()
    assert site.send(images) == len(images)
    until(lambda: site.states() == [State.REJECTED], what="the refusal")
    again = site.porta("submit", str(images[0].parent))
    assert again.stdout == "all here already; job 1 is REJECTED (NO_RULE): `porta rerun 1`\n"
    refused = site.porta("rerun", "1")
    assert (refused.returncode, refused.stdout) == (1, "nothing is processed again\n")
    assert "job 1: no rule matches it today either" in refused.stderr

    site.changes = {}
    early = site.porta("rerun", "1")
    assert early.returncode == 2
    assert "the service runs with other peers, destinations or rules than the file has now" in early.stderr
    assert site.porta("reload").returncode == 0
    done = site.porta("rerun", "--reason", "NO_RULE")
    assert (done.returncode, done.stdout) == (0, "job 1 is processed again, under rule liver-ct\n")
    until(lambda: site.states() == [State.CONFIRMED], what="the results")
    (first,) = stored(site, "first", "SR", study)

    assert site.porta("rerun", "--study", study).stdout == (
        "job 2 is revision 2 of the series of job 1, under rule liver-ct\n"
    )
    until(lambda: site.states() == [State.CONFIRMED] * 2, what="the next revision")
    srs = stored(site, "both", "SR", study)
    (second,) = [sr for sr in srs if sr.SOPInstanceUID != first.SOPInstanceUID]
    assert predecessors(second) == {first.SOPInstanceUID}
    assert len(stored(site, "both", "SEG", study)) == 2

    checked = site.porta("check", "--store")
    assert "storing at orthanc: has it, as it answered to C-FIND" in checked.stdout
    assert (checked.returncode, " of " in checked.stdout.splitlines()[-1]) == (0, True), checked.stdout
    assert "peer orthanc: takes seg (Segmentation Storage; " in checked.stdout
    assert "peer orthanc: answers C-FIND, for confirm" in checked.stdout
    assert f"port: 127.0.0.1:{site.port} is Porta's, which runs" in checked.stdout
    patient = str(second.PatientID)
    asked = site.porta("study", patient)
    assert asked.stdout.splitlines()[-1] == "orthanc has its results, as it answered to C-FIND: nothing to do."
    assert f"study {study}" in asked.stdout
    assert patient not in site.log
    assert patient.encode() not in (site.root / "ledger.sqlite").read_bytes()

    before = {path: path.read_bytes() for path in (site.root / "outbox").rglob("*.dcm")}
    assert site.porta("send", "2").stdout == "job 2: 2 objects to orthanc\n"
    until(
        lambda: "RESENT" in site.porta("job", "2").stdout and site.states() == [State.CONFIRMED] * 2, what="the sending"
    )
    assert {path: path.read_bytes() for path in before} == before
    assert len(stored(site, "last", "SR", study)) == 2
