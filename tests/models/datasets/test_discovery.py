"""What is found below a folder, and what is said of the rest."""

from dataclasses import replace
from pathlib import Path

import pytest

from models.datasets.cases import Case
from models.datasets.discovery import find_all, find_cases
from models.datasets.sources import FileSource
from models.errors import CaseUnreadable


def test_the_shared_data(shared_data: Path) -> None:
    """Five CTs and sixteen MRs; folders without a truth are a line each, and no case."""
    found = find_cases(shared_data, tumours_not_drawn=("ircadb_case19",))
    assert [(source.name, source.tumours_drawn) for source in found.sources if source.modality == "CT"] == [
        ("chaos_ct3", True),
        ("ircadb_case17", True),
        ("ircadb_case19", False),
        ("lits_volume0", True),
        ("lits_volume117_crop", True),
    ]
    assert len([source for source in found.sources if source.collection == "CHAOS MR"]) == 16
    assert "hcc_tace_seg_007: no truth for its 2 image files" in found.skipped
    assert all("\n" not in line and str(shared_data) not in line for line in found.skipped)


def test_several_collections_below_one_folder(drawn, save_pair, save_series, save_pngs, tmp_path: Path) -> None:
    """Each by its own reader, in the order of names; a collection's tumours may be said not to be drawn."""
    save_pair(tmp_path / "lits/volume-44.nii", tmp_path / "lits/segmentation-44.nii")
    save_pair(tmp_path / "Task03_Liver/imagesTr/liver_44.nii.gz", tmp_path / "Task03_Liver/labelsTr/liver_44.nii.gz")
    save_pair(tmp_path / "mine/a/ct.nii.gz", tmp_path / "mine/a/labels.nii.gz")
    save_series(drawn.volume, tmp_path / "CT/5/DICOM_anon")
    save_pngs(drawn.truth > 0, tmp_path / "CT/5/Ground")
    found = find_cases(tmp_path, tumours_not_drawn=["LiTS", "a"])
    assert [source.name for source in found.sources] == ["a", "chaos-ct-5", "liver_44", "volume-44"]
    assert [source.tumours_drawn for source in found.sources] == [False, True, True, False]
    assert found.sources[2].patient == found.sources[3].patient


def test_a_fingerprint_tells_that_something_changed(save_pair, tmp_path: Path) -> None:
    """Of files, and of what is said of them; a copy under another roof is the same."""
    save_pair(tmp_path / "volume-1.nii", tmp_path / "segmentation-1.nii")
    (source,) = find_cases(tmp_path).sources
    (again,) = find_cases(tmp_path).sources
    (hidden,) = find_cases(tmp_path, tumours_not_drawn=["LiTS"]).sources
    assert source.fingerprint == again.fingerprint != hidden.fingerprint
    with (tmp_path / "segmentation-1.nii").open("ab") as file:
        file.write(b"\0")
    (changed,) = find_cases(tmp_path).sources
    assert changed.fingerprint != source.fingerprint


def test_folders_of_nothing(tmp_path: Path) -> None:
    """None, an empty one, one of notes alone, a file."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/read me").touch()
    for name in ("empty", "notes"):
        found = find_cases(tmp_path / name)
        assert (found.sources, found.skipped) == ((), (f"{tmp_path / name}: holds no images",))
        with pytest.raises(CaseUnreadable, match=f"{name}: no case to read; .*{name}: holds no images"):
            find_all([tmp_path / name])
    for path in (tmp_path / "none", tmp_path / "notes/read me"):
        with pytest.raises(CaseUnreadable, match=f"{path}: no such folder"):
            find_all([path])


def test_several_folders(save_pair, tmp_path: Path) -> None:
    """A name that comes twice is used once and said; a name of nothing is an error."""
    for batch in ("one", "two"):
        save_pair(tmp_path / batch / "volume-1.nii", tmp_path / batch / "segmentation-1.nii")
    save_pair(tmp_path / "two/volume-2.nii", tmp_path / "two/segmentation-2.nii")
    found = find_all([tmp_path / "one", tmp_path / "two"], tumours_not_drawn=["volume-2"])
    assert [source.name for source in found.sources] == ["volume-1", "volume-2"]
    assert found.skipped == (f"volume-1 in {tmp_path / 'two'}: another case has this name",)
    with pytest.raises(CaseUnreadable, match="volume-3: no case and no collection of this name"):
        find_all([tmp_path / "one"], tumours_not_drawn=["volume-1", "volume-3"])


def test_links_are_followed_once(save_pair, tmp_path: Path) -> None:
    """A data set may be linked into place; a link back to where it started ends."""
    save_pair(tmp_path / "far/volume-1.nii", tmp_path / "far/segmentation-1.nii")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/lits").symlink_to(tmp_path / "far")
    (tmp_path / "far/loop").symlink_to(tmp_path / "far")
    assert [source.name for source in find_cases(tmp_path / "data").sources] == ["volume-1"]


def test_what_nobody_thought_of_is_a_fault_of_one_case(save_pair, tmp_path: Path) -> None:
    """A reader's own error names the case; what cannot even be looked at has a fingerprint, and is named when read."""
    save_pair(tmp_path / "volume-1.nii", tmp_path / "segmentation-1.nii")
    (source,) = find_cases(tmp_path).sources
    broken = replace(source, reader=_fails)
    with pytest.raises(CaseUnreadable, match=r"volume-1: .*volume-1.nii: cannot be read, KeyError"):
        broken.read()
    strange = replace(source, images=(tmp_path / ("x" * 300),))
    assert strange.fingerprint != source.fingerprint
    with pytest.raises(CaseUnreadable, match="volume-1: .*File name too long"):
        strange.read()


def _fails(source: FileSource) -> Case:
    raise KeyError("PatientName of somebody")
