"""Who gets in, what is refused and how, and what is not written anywhere."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread

from daemon.jobs import State
from dicom_io.errors import StoreRefused
from dicom_io.network import scu
from tests.acceptance.conftest import Site, comments, until

Series = Callable[[int], list[Path]]


def test_two_series_at_once_and_one_of_them_twice(site: Site, phantom_series: Series) -> None:
    """Two studies sent side by side end with a SEG and an SR each; sending one again changes nothing."""
    first, second = phantom_series(11), phantom_series(12)
    site.start()
    senders = [_send_in_background(site, paths) for paths in (first, second)]
    assert [sender.wait(60) for sender in senders] == [0, 0]
    until(lambda: site.states() == [State.CONFIRMED] * 2, what="two sets of results")
    assert site.send(first) == len(first)
    assert site.states() == [State.CONFIRMED] * 2
    for paths in (first, second):
        seg, sr = site.results(str(dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID))
        assert (len(seg), len(sr)) == (1, 1)
        for result in seg:
            assert {str(item.SeriesInstanceUID) for item in dcmread(result).ReferencedSeriesSequence} == {
                str(dcmread(paths[0], stop_before_pixels=True).SeriesInstanceUID)
            }


def test_strangers_are_rejected(site: Site, require_binary: Callable[[str], str]) -> None:
    """An A-ASSOCIATE-RJ with the right reason; who is not known by the host is a stranger, whatever it calls."""
    echoscu = Path(require_binary("dcmsend")).with_name("echoscu")  # pynetdicom's, of the same name, may miss an answer
    site.start()
    callers = [
        ("STRANGER", "PORTA", "calling ae title not recogni"),
        ("ORTHANC", "SOMEONE", "called ae title not recogni"),
        ("MODALITY", "SOMEONE", "calling ae title not recogni"),
    ]
    for number, (aet, aec, reason) in enumerate(callers, start=1):
        answer = subprocess.run(
            [echoscu, "-v", "-aet", aet, "-aec", aec, "127.0.0.1", str(site.port)], capture_output=True, text=True
        )
        assert answer.returncode != 0
        assert reason in (answer.stdout + answer.stderr).lower()
        until(lambda: site.log.count("association.refused") == number, what="a line in the log")  # noqa: B023


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
    until(lambda: site.states() == [State.CONFIRMED], what="results of the rest")
    (job,) = site.jobs()
    assert (job.calling_ae_title, job.instances) == ("SUBMIT", len(paths) - 1)


def test_a_rejected_series_leaves_its_reason(site: Site, phantom_series: Series) -> None:
    """Three slices are no volume: the study gets one report that says so, and `porta jobs` has the reason."""
    site.start()
    paths = phantom_series(15)[:3]
    assert site.send(paths) == 3
    until(lambda: site.states() == [State.CONFIRMED], what="the verdict")
    (job,) = site.jobs()
    assert job.reject_reason == "TOO_FEW_SLICES"
    segs, srs = site.results(str(dcmread(paths[0]).StudyInstanceUID))
    assert (len(segs), len(srs)) == (0, 1)
    assert "NOT PROCESSED" in comments(dcmread(srs[0]))


def test_a_disk_that_turns_read_only(site: Site, phantom_series: Series) -> None:
    """While running: 0xA700 to the sender. At start: exit code 2. And all is well once it can be written again."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    paths = phantom_series(16)
    site.start()
    with read_only(site.root / "incoming"):
        with pytest.raises(StoreRefused) as refused:
            scu.store(site.remote, paths[:1], calling_ae_title="MODALITY", timeout_s=30)
        assert refused.value.status == 0xA700
        assert site.jobs() == []
        site.stop()
        done = site.porta("run")
        assert done.returncode == 2, done.stderr
        assert "Read-only file system" in done.stderr
        assert "Traceback" not in done.stderr
    site.start()
    assert site.send(paths) == len(paths)
    until(lambda: site.states() == [State.CONFIRMED], what="the results")


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A real read-only mount over a folder; root writes through mode 0500."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "porta-test", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine does not let root mount a tmpfs")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_the_canary_is_seen_nowhere(site: Site, phantom_series: Series, tmp_path: Path) -> None:
    """A patient named ZZPHI^CANARY goes through success, rejection and quarantine, and is in no log, ledger or name."""
    paths = []
    whole, short = phantom_series(17), phantom_series(18)[:3]
    for number, path in enumerate([*whole, *short]):
        study = "1.2.3.1" if number < len(whole) else "1.2.3.2"
        ds = dcmread(path)
        ds.PatientName, ds.PatientID = "ZZPHI^CANARY", "ZZPHI-CANARY-ID"
        ds.PatientComments = "ZZPHI CANARY"
        ds.StudyInstanceUID = study
        paths.append(tmp_path / f"{number}.dcm")
        ds.save_as(paths[-1])
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(paths[0].read_bytes()[:-3000])
    site.start()
    assert site.send(paths) == len(paths)
    assert site.porta("submit", str(cut)).returncode == 2
    until(lambda: site.states() == [State.CONFIRMED] * 2, what="success, and a verdict on the short one")
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
