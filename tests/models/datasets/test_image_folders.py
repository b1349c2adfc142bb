"""The Decathlon's Task03_Liver, nnU-Net's folders, and what is laid out like them."""

import json
from pathlib import Path

import numpy as np
import pytest

from models.datasets.discovery import find_cases
from models.errors import CaseUnreadable

DECATHLON = {
    "name": "LIVER",
    "modality": {"0": "CT"},
    "labels": {"0": "background", "1": "liver", "2": "cancer"},
}


def test_task03_liver(drawn, save_pair, save_nifti, monkeypatch, tmp_path: Path) -> None:
    """liver_N is LiTS volume N, so that the patients are the same; imagesTs has no truth and is passed over.

    However the folder is named: as `.`, or by a link.
    """
    task = tmp_path / "Task03_Liver"
    for number in (0, 44):
        save_pair(task / f"imagesTr/liver_{number}.nii.gz", task / f"labelsTr/liver_{number}.nii.gz")
    save_nifti(np.asarray(drawn.volume.array), drawn.geometry, task / "imagesTs/liver_7.nii.gz")
    (task / "imagesTr/._liver_0.nii.gz").write_bytes(b"left behind by a Mac")
    (task / "dataset.json").write_text(json.dumps(DECATHLON))
    for folder in (tmp_path, task):
        found = find_cases(folder)
        assert [source.name for source in found.sources] == ["liver_0", "liver_44"]
        assert [source.patient for source in found.sources] == ["LiTS/0", "3D-IRCADb-01/17"]
        assert {source.collection for source in found.sources} == {"MSD Task03_Liver"}
        assert found.skipped == ()
    np.testing.assert_array_equal(found.sources[0].read().labels, drawn.truth)
    monkeypatch.chdir(task)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/Task03_Liver").symlink_to(task)
    for folder in (Path(), tmp_path / "elsewhere"):
        assert [source.patient for source in find_cases(folder).sources] == ["LiTS/0", "3D-IRCADb-01/17"]


def test_pairs_that_are_none(save_pair, tmp_path: Path) -> None:
    """A mask without its image, an image without its mask, one of two channels."""
    save_pair(tmp_path / "imagesTr/a.nii.gz", tmp_path / "labelsTr/b.nii.gz")
    save_pair(tmp_path / "imagesTr/c_0000.nii.gz", tmp_path / "labelsTr/c.nii.gz")
    save_pair(tmp_path / "imagesTr/c_0001.nii.gz", tmp_path / "labelsTr/d.nii.gz")
    save_pair(tmp_path / "imagesTr/d_0000.nii.gz", tmp_path / "labelsTr/d.nii.gz")
    found = find_cases(tmp_path)
    assert [source.name for source in found.sources] == ["d"]
    assert found.skipped == (
        "imagesTr/a.nii.gz: no labelsTr/a.nii.gz to go with it",
        "imagesTr/c_0000.nii.gz: has 2 channels, of which one can be used",
        "labelsTr/b.nii.gz: no imagesTr/b.nii.gz to go with it",
    )


@pytest.mark.parametrize(
    "labels",
    [
        {"0": "background", "5": "liver", "6": "liver tumor", "7": "spleen"},
        {"background": 0, "liver": 5, "hepatic_lesion": 6, "spleen": 7},
        {"background": 0, "liver": [5, 6], "tumour": [6], "spleen": 7},
    ],
)
def test_dataset_json_says_what_the_values_mean(drawn, save_nifti, labels, tmp_path: Path) -> None:
    """As the Decathlon, nnU-Net, and nnU-Net with regions write it; other organs are background."""
    values = np.array([7, 5, 6], np.uint8)[drawn.truth]
    values[0, :2] = 0
    save_nifti(np.asarray(drawn.volume.array), drawn.geometry, tmp_path / "imagesTr/x_0000.nii.gz")
    save_nifti(values, drawn.geometry, tmp_path / "labelsTr/x.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels, "channel_names": {"0": "MRI"}}))
    (source,) = find_cases(tmp_path).sources
    case = source.read()
    np.testing.assert_array_equal(case.labels, drawn.truth)
    assert case.volume.modality == "MR"


def test_labels_that_dataset_json_does_not_know(save_pair, tmp_path: Path) -> None:
    """A value without a meaning is an error of the case; labels without a liver one of the collection."""
    save_pair(tmp_path / "imagesTr/x.nii.gz", tmp_path / "labelsTr/x.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "liver"}}))
    (source,) = find_cases(tmp_path).sources
    with pytest.raises(CaseUnreadable, match="x.nii.gz: holds label 2; known are 0 background, 1 liver"):
        source.read()
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "spleen"}}))
    found = find_cases(tmp_path)
    assert (found.sources, found.skipped) == ((), ("dataset.json: none of its labels is a liver",))


def test_images_without_any_labels(save_pair, tmp_path: Path) -> None:
    save_pair(tmp_path / "task/imagesTr/x.nii.gz", tmp_path / "elsewhere/x.nii.gz")
    assert "task: has imagesTr and no folder of labels to go with it" in find_cases(tmp_path).skipped
