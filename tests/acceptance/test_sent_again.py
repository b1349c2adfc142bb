"""Whose images these are, with a real PACS: corrected and sent again, of two patients, or sharing their UIDs."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from daemon.jobs import State
from tests.acceptance.conftest import Site, comments, until

Change = Callable[[int, Dataset], None]


def changed(paths: list[Path], folder: Path, change: Change) -> list[Path]:
    """Copies of the images, each changed."""
    folder.mkdir()
    written = []
    for number, path in enumerate(paths):
        ds = dcmread(path)
        change(number, ds)
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.save_as(folder / path.name)
        written.append(folder / path.name)
    return written


def stored(site: Site, folder: str, modality: str, study_instance_uid: str) -> list[Dataset]:
    segs, srs = site.results(study_instance_uid, folder)
    return [dcmread(path) for path in (segs if modality == "SEG" else srs)]


def predecessors(sr: Dataset) -> set[str]:
    return {
        str(sop.ReferencedSOPInstanceUID)
        for study in sr.get("PredecessorDocumentsSequence", ())
        for series in study.ReferencedSeriesSequence
        for sop in series.ReferencedSOPSequence
    }


@pytest.mark.parametrize("keyword", ["PatientID", "StudyInstanceUID"])
def test_corrected_and_sent_again(
    site: Site,
    phantom_series: Callable[[int], list[Path]],
    tmp_path: Path,
    require_binary: Callable[[str], str],
    keyword: str,
) -> None:
    """The results are filed anew, where they belong, and where they were an SR takes them back.

    Under another StudyInstanceUID too: a series belongs to one study, so it was moved. A withdrawal that need not have
    been is seen by its reader; results that stay in a wrong record are seen by nobody (docs/architecture.md).
    """
    first = phantom_series(11)
    original = dcmread(first[0], stop_before_pixels=True)
    corrected = {"PatientID": "EX-222", "StudyInstanceUID": f"{original.StudyInstanceUID}.9"}[keyword]
    second = changed(first, tmp_path / "second", lambda _, ds: setattr(ds, keyword, corrected))
    site.start()
    assert site.send(first) == len(first)
    until(lambda: site.states() == [State.CONFIRMED], what="the first results")
    assert site.send(second) == len(second)
    until(lambda: site.states() == [State.CONFIRMED] * 3, what="the corrected results")
    assert site.send(second) == len(second)
    assert site.states() == [State.CONFIRMED] * 3
    studies = {str(original.StudyInstanceUID), str(dcmread(second[0]).StudyInstanceUID)}
    srs = [sr for number, uid in enumerate(sorted(studies)) for sr in stored(site, f"r{number}", "SR", uid)]
    segs = [seg for number, uid in enumerate(sorted(studies)) for seg in stored(site, f"r{number}", "SEG", uid)]
    here = [sr for sr in srs if sr[keyword].value == original[keyword].value]
    there = [sr for sr in srs if sr[keyword].value == corrected]
    assert (len(here), len(there)) == (2, 1)
    assert sorted(str(seg[keyword].value) for seg in segs) == sorted([str(original[keyword].value), corrected])
    (back,) = [sr for sr in here if predecessors(sr)]
    (before,) = [sr for sr in here if not predecessors(sr)]
    assert predecessors(back) == {before.SOPInstanceUID}
    assert "sent again as those of another patient or study" in comments(back)
    assert not predecessors(there[0])
    for path in site.directory.glob("r*/SR/*"):
        said = subprocess.run([require_binary("dciodvfy"), path], capture_output=True, text=True)
        assert "Error" not in said.stdout + said.stderr, path


@pytest.mark.parametrize("keyword", ["PatientID", "StudyInstanceUID"])
def test_two_in_one_series(
    site: Site, phantom_series: Callable[[int], list[Path]], tmp_path: Path, keyword: str
) -> None:
    """No result; an SR in each place, of the images that are filed there, confirmed there."""
    first = phantom_series(12)
    original = dcmread(first[0], stop_before_pixels=True)
    other = {"PatientID": "EX-222", "StudyInstanceUID": f"{original.StudyInstanceUID}.9"}[keyword]
    mixed = changed(first, tmp_path / "mixed", lambda number, ds: number >= 15 and setattr(ds, keyword, other))
    site.start()
    assert site.send(mixed) == len(mixed)
    until(lambda: site.states() == [State.CONFIRMED], what="the verdict")
    (job,) = site.jobs()
    assert job.reject_reason == "MIXED_IDENTITY"
    studies = {str(original.StudyInstanceUID), str(dcmread(mixed[-1]).StudyInstanceUID)}
    srs = [sr for number, uid in enumerate(sorted(studies)) for sr in stored(site, f"r{number}", "SR", uid)]
    assert sorted(str(sr[keyword].value) for sr in srs) == sorted([str(original[keyword].value), other])
    images = {str(sr[keyword].value): sr.CurrentRequestedProcedureEvidenceSequence[0] for sr in srs}
    counts = {who: len(study.ReferencedSeriesSequence[0].ReferencedSOPSequence) for who, study in images.items()}
    assert counts == {str(original[keyword].value): 15, other: 25}


def test_two_series_that_share_their_uids(
    site: Site, phantom_series: Callable[[int], list[Path]], tmp_path: Path
) -> None:
    """Two jobs, each on its own images."""
    first = phantom_series(11)
    series_instance_uid = f"{dcmread(first[0]).SeriesInstanceUID}.9"
    second = changed(first, tmp_path / "second", lambda _, ds: setattr(ds, "SeriesInstanceUID", series_instance_uid))
    site.start()
    assert site.send(first) == len(first)
    assert site.send(second) == len(second)
    until(lambda: sorted(site.states()) == [State.CONFIRMED, State.REJECTED], what="the answer")
    assert [job.instances for job in site.jobs()] == [40, 40]
    assert {job.reject_reason for job in site.jobs()} == {None, "SUPERSEDED_BY_BETTER"}
