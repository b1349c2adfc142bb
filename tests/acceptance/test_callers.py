"""Who gets in, what is refused and how, and what is not written anywhere."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from daemon.jobs import State
from tests.acceptance.conftest import Site, until

Series = Callable[[int], list[Path]]


def test_two_series_at_once_and_one_of_them_twice(site: Site, phantom_series: Series) -> None:
    """Two studies sent side by side end with a SEG and an SR each; sending one again changes nothing."""
    first, second = phantom_series(11), phantom_series(12)
    site.start()
    senders = [_send_in_background(site, paths) for paths in (first, second)]
    assert [sender.wait(60) for sender in senders] == [0, 0]
    until(lambda: site.states() == [State.COMMITTED] * 2, what="two sets of results")
    assert site.send(first).returncode == 0
    assert site.states() == [State.COMMITTED] * 2
    for paths in (first, second):
        seg, sr = site.results(str(dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID))
        assert (len(seg), len(sr)) == (1, 1)
        for result in seg:
            assert {str(item.SeriesInstanceUID) for item in dcmread(result).ReferencedSeriesSequence} == {
                str(dcmread(paths[0], stop_before_pixels=True).SeriesInstanceUID)
            }


@pytest.mark.parametrize(
    ("aet", "aec", "reason"),
    [
        ("STRANGER", "PORTA", "Calling AE Title Not Recognized"),
        ("MODALITY", "SOMEONE", "Called AE Title Not Recognized"),
    ],
)
def test_strangers_are_rejected(site: Site, phantom_series: Series, aet: str, aec: str, reason: str) -> None:
    """An unknown calling AE and a wrong called AE get an A-ASSOCIATE-RJ with the right reason, and leave no row."""
    site.start()
    sent = site.send(phantom_series(13)[:1], aet=aet, aec=aec)
    assert sent.returncode != 0
    assert reason in sent.stdout + sent.stderr
    assert site.jobs() == []
    until(lambda: "association.refused" in site.log, seconds=5, what="a line in the log")


def test_submit_takes_what_is_dicom_and_names_what_is_not(site: Site, phantom_series: Series, tmp_path: Path) -> None:
    """A text file and a truncated DICOM file are quarantined with a line each and exit code 2; the others go on."""
    paths = phantom_series(14)
    folder = tmp_path / "mixed"
    folder.mkdir()
    for path in paths[1:]:
        shutil.copy(path, folder)
    (folder / "notes.txt").write_text("not DICOM")
    (folder / "cut.dcm").write_bytes(paths[0].read_bytes()[:-5000])
    site.start()
    done = site.porta("submit", str(folder))
    assert done.returncode == 2
    assert "notes.txt: UNDECODABLE" in done.stderr
    assert "cut.dcm: UNDECODABLE" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 2
    assert len(list((site.root / "quarantine").glob("*.reason"))) == 2
    until(lambda: site.states() == [State.COMMITTED], what="results of the rest")
    (job,) = site.jobs()
    assert (job.calling_ae_title, job.instances) == ("SUBMIT", len(paths) - 1)


def test_a_rejected_series_leaves_its_reason(site: Site, phantom_series: Series) -> None:
    """Three slices are no volume: the job is REJECTED with the reason, and nothing is sent."""
    site.start()
    assert site.send(phantom_series(15)[:3]).returncode == 0
    until(lambda: site.states() == [State.REJECTED], what="the rejection")
    (job,) = site.jobs()
    assert job.reject_reason == "TOO_FEW_SLICES"


def test_a_storage_root_that_is_a_file(site: Site) -> None:
    """At start: exit code 2, one line, no traceback."""
    site.root.write_text("in the way")
    done = site.porta("run")
    assert done.returncode == 2
    assert "storage root" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of our own, which can be made read-only under a running service."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    root = tmp_path / "storage"
    root.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "porta-test", str(root)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine does not let root mount a tmpfs")
    yield root
    subprocess.run(["umount", "-l", str(root)], check=True)


def test_a_disk_that_turns_read_only(site: Site, small_disk: Path, phantom_series: Series) -> None:
    """At start on a read-only mount: exit 2. While running: 0xA700 to the sender, and all is well once it is back."""
    paths = phantom_series(16)
    site.start()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    refused = site.send(paths[:1])
    assert refused.returncode != 0
    assert "Refused: Out of Resources" in refused.stdout + refused.stderr or "a700" in (refused.stdout + refused.stderr).lower()
    site.stop()
    done = site.porta("run")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    site.start()
    assert site.send(paths).returncode == 0
    until(lambda: site.states() == [State.COMMITTED], what="the results")


def test_the_canary_is_seen_nowhere(site: Site, phantom_series: Series, tmp_path: Path) -> None:
    """A patient named ZZPHI^CANARY goes through success, rejection and quarantine, and is in no log, ledger or name."""
    paths = []
    for number, (path, study) in enumerate([(p, "1.2.3.1") for p in phantom_series(17)] + [(p, "1.2.3.2") for p in phantom_series(18)[:3]]):
        ds = dcmread(path)
        ds.PatientName, ds.PatientID = "ZZPHI^CANARY", "ZZPHI-CANARY-ID"
        ds.PatientComments = "ZZPHI CANARY"
        ds.StudyInstanceUID = study
        paths.append(tmp_path / f"{number}.dcm")
        ds.save_as(paths[-1])
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(paths[0].read_bytes()[:-3000])
    site.start()
    assert site.send(paths).returncode == 0
    assert site.porta("submit", str(cut)).returncode == 2
    until(lambda: sorted(site.states()) == [State.COMMITTED, State.REJECTED], what="success and rejection")
    seg, sr = site.results("1.2.3.1")
    assert {str(dcmread(path).PatientName) for path in (*seg, *sr)} == {"ZZPHI^CANARY"}
    site.stop()
    assert "CANARY" not in site.log
    for path in site.root.rglob("*"):
        assert "CANARY" not in path.name
        if path.is_file() and path.parent.name not in ("quarantine",) and path.suffix != ".dcm":
            assert b"CANARY" not in path.read_bytes(), path.name
    for reason in (site.root / "quarantine").glob("*.reason"):
        assert b"CANARY" not in reason.read_bytes()


def _send_in_background(site: Site, paths: list[Path]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [site.dcmsend, "-aet", "MODALITY", "-aec", "PORTA", "127.0.0.1", str(site.port), *map(str, paths)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
