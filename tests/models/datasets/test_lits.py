"""LiTS as it is downloaded, and its masks without an affine."""

from pathlib import Path

import numpy as np
import pytest

from models.datasets.discovery import find_cases
from models.errors import CaseUnreadable


def test_two_batches_and_a_folder_of_masks(drawn, save_pair, save_nifti, tmp_path: Path) -> None:
    """Wherever the masks lie: beside the volume first, else the only one of its number."""
    save_pair(tmp_path / "Training Batch 1/volume-2.nii", tmp_path / "Training Batch 1/segmentation-2.nii")
    save_pair(tmp_path / "Training Batch 2/volume-44.nii", tmp_path / "masks/segmentation-44.nii.gz")
    save_pair(tmp_path / "volume-10.nii.gz", tmp_path / "segmentation-10.nii.gz")
    save_nifti(drawn.truth, drawn.geometry, tmp_path / "masks/segmentation-2.nii")
    save_nifti(drawn.truth, drawn.geometry, tmp_path / "test-volume-3.nii")
    (tmp_path / "._volume-5.nii").write_bytes(b"left behind by a Mac")
    found = find_cases(tmp_path)
    assert [source.name for source in found.sources] == ["volume-2", "volume-10", "volume-44"]
    assert [source.patient for source in found.sources] == ["LiTS/2", "LiTS/10", "3D-IRCADb-01/17"]
    assert {source.collection for source in found.sources} == {"LiTS"}
    assert found.skipped == ()
    for source in found.sources:
        case = source.read()
        np.testing.assert_array_equal(case.labels, drawn.truth)
        np.testing.assert_array_equal(case.volume.array, drawn.volume.array)
        assert case.tumours_drawn and case.instances is None


def test_every_ircadb_patient_has_its_lits_volume(tmp_path: Path) -> None:
    """28 is patient 1, 47 is patient 20; the neighbours are LiTS's own."""
    for number in (27, 28, 47, 48):
        (tmp_path / f"volume-{number}.nii").touch()
        (tmp_path / f"segmentation-{number}.nii").touch()
    patients = [source.patient for source in find_cases(tmp_path).sources]
    assert patients == ["LiTS/27", "3D-IRCADb-01/1", "3D-IRCADb-01/20", "LiTS/48"]


def test_what_has_no_counterpart_is_named(tmp_path: Path) -> None:
    """Also two candidates for one volume, and two volumes of one number."""
    for name in (
        "volume-1.nii",
        "segmentation-2.nii",
        "a/volume-3.nii",
        "b/segmentation-3.nii",
        "c/segmentation-3.nii",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for name in ("a/volume-4.nii", "a/segmentation-4.nii", "b/volume-4.nii"):
        (tmp_path / name).touch()
    found = find_cases(tmp_path)
    assert [source.name for source in found.sources] == ["volume-4"]
    assert found.skipped == (
        "volume-1.nii: no file segmentation-1.nii to go with it",
        "segmentation-2.nii: no volume-2.nii to go with it",
        "a/volume-3.nii: several files segmentation-3.nii to go with it",
        "b/volume-4.nii: a/volume-4.nii is used, which has the same number",
    )


def test_what_is_laid_out_like_lits_may_say_what_it_is(save_pair, tmp_path: Path) -> None:
    """Phantoms written as LiTS are not LiTS, and volume 44 of them is no patient of 3D-IRCADb-01."""
    save_pair(tmp_path / "volume-44.nii.gz", tmp_path / "segmentation-44.nii.gz")
    (tmp_path / "dataset.json").write_text('{"name": "phantoms", "modality": {"0": "MR"}}')
    (source,) = find_cases(tmp_path).sources
    assert source.read().volume.modality == "MR"
    assert (source.name, source.patient, source.collection) == ("phantoms-44", "phantoms/44", "phantoms")


@pytest.mark.parametrize("axes", [(2, 1, 0), (2, 0, 1)])
def test_a_mask_that_lost_its_affine_is_taken_in_its_volumes_order(drawn, save_nifti, axes, tmp_path: Path) -> None:
    """As LiTS 48 to 52 have it: an identity with an offset of 1."""
    lost = np.eye(4)
    lost[:3, 3] = 1
    placed = np.diag([-1.0, -1.0, 1.0, 1.0]) @ drawn.geometry.affine[:, [2, 1, 0, 3]]
    placed[:, 0] *= -1
    placed[:3, 3] -= placed[:3, 0] * (drawn.geometry.columns - 1)
    mirrored = drawn.volume.array[:, :, ::-1], drawn.truth[:, :, ::-1]  # columns run to the right, as the affine says
    save_nifti(mirrored[0], drawn.geometry, tmp_path / "volume-0.nii", placed)
    save_nifti(mirrored[1], drawn.geometry, tmp_path / "segmentation-0.nii", lost)
    (source,) = find_cases(tmp_path).sources
    case = source.read()
    volume = case.volume
    liver = volume.geometry.index_to_lps(np.argwhere(case.labels > 0)).mean(axis=0)
    expected = drawn.geometry.index_to_lps(np.argwhere(drawn.truth > 0)).mean(axis=0)
    np.testing.assert_allclose(liver, expected, atol=0.1)
    assert volume.array[case.labels == 1].std() == pytest.approx(drawn.volume.array[drawn.truth == 1].std(), rel=1e-3)


@pytest.mark.parametrize(("axis", "along"), [(0, "slices"), (1, "rows"), (2, "columns")])
def test_a_mask_without_an_affine_that_is_turned_is_refused(drawn, save_nifti, axis, along, tmp_path: Path) -> None:
    """The order is not believed: the organ under the mask must be more even than under it turned round."""
    save_nifti(np.asarray(drawn.volume.array), drawn.geometry, tmp_path / "volume-0.nii")
    save_nifti(np.flip(drawn.truth, axis), drawn.geometry, tmp_path / "segmentation-0.nii", np.eye(4))
    (source,) = find_cases(tmp_path).sources
    with pytest.raises(CaseUnreadable, match=f"segmentation-0.nii: fits the images better with its {along} in reverse"):
        source.read()


def test_damage_is_one_line_that_names_the_file(drawn, save_pair, save_nifti, tmp_path: Path) -> None:
    """A volume that is no NIfTI, one that is cut off, a mask of another shape, labels beyond 2, a file that went."""
    for number in range(1, 6):
        save_pair(tmp_path / f"volume-{number}.nii.gz", tmp_path / f"segmentation-{number}.nii.gz")
    (tmp_path / "volume-1.nii.gz").write_bytes(b"nothing of the kind")
    whole = (tmp_path / "volume-2.nii.gz").read_bytes()
    (tmp_path / "volume-2.nii.gz").write_bytes(whole[: len(whole) // 2])
    save_nifti(drawn.truth[:-1], drawn.geometry, tmp_path / "segmentation-3.nii.gz")
    save_nifti(drawn.truth * np.uint8(2), drawn.geometry, tmp_path / "segmentation-4.nii.gz")
    sources = find_cases(tmp_path).sources
    (tmp_path / "segmentation-5.nii.gz").unlink()
    expected = (
        "volume-1: .*volume-1.nii.gz: not a NIfTI image",
        "volume-2: .*volume-2.nii.gz: the voxels cannot be read",
        "volume-3: .*segmentation-3.nii.gz: is 64 x 60 x 23 voxels, its image 64 x 60 x 24",
        "segmentation-4.nii.gz: holds label 4; known are 0 background, 1 liver, 2 tumour",
        "segmentation-5.nii.gz: no such file",
    )
    for source, line in zip(sources, expected, strict=True):
        with pytest.raises(CaseUnreadable, match=line) as caught:
            source.read()
        assert "\n" not in str(caught.value)
