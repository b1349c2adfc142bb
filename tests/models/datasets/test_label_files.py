"""A label volume beside its images: in a folder of their own, side by side, or with DICOM."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dicom_io.nifti import read_labels
from models.datasets.discovery import find_cases
from models.errors import CaseUnreadable


@pytest.mark.parametrize(("image", "truth"), [("image.nii.gz", "labels.nii.gz"), ("CT.nii", "Segmentation.nii")])
def test_a_folder_is_a_case(drawn, save_pair, image, truth, tmp_path: Path) -> None:
    """Named after its folder, its collection after the one above."""
    save_pair(tmp_path / "ward/seven" / image, tmp_path / "ward/seven" / truth)
    (source,) = find_cases(tmp_path / "ward").sources
    assert (source.name, source.patient, source.collection) == ("seven", "ward/seven", "ward")
    np.testing.assert_array_equal(source.read().labels, drawn.truth)


def test_side_by_side(drawn, save_pair, save_nifti, tmp_path: Path) -> None:
    """NAME and NAME_label; a label without an image, and images without a label, are a line."""
    save_pair(tmp_path / "a.nii.gz", tmp_path / "a_label.nii.gz")
    save_pair(tmp_path / "b-10.nii", tmp_path / "b-10-seg.nii")
    save_nifti(drawn.truth, drawn.geometry, tmp_path / "c_mask.nii.gz")
    save_nifti(drawn.truth, drawn.geometry, tmp_path / "d.nii.gz")
    found = find_cases(tmp_path)
    assert [source.name for source in found.sources] == ["a", "b-10"]
    assert found.skipped == (
        "c_mask.nii.gz: no c.nii.gz to go with it",
        f"{tmp_path.name}: no truth for its 1 image files",
    )
    for source in found.sources:
        np.testing.assert_array_equal(source.read().labels, drawn.truth)


@pytest.mark.parametrize("how", ["folder", "zip", "loose"])
def test_dicom_with_a_label_volume(drawn, save_series, save_nifti, how, tmp_path: Path) -> None:
    """What a phantom is written as, what ../shared/data has, and files beside the labels."""
    case = tmp_path / "case"
    files = save_series(drawn.volume, case / "dicom", name=lambda index: f"{index}.dcm")
    if how == "zip":
        with zipfile.ZipFile(case / "series.zip", "w") as archive:
            for path in files:
                archive.write(path, path.name)
    if how == "loose":
        for path in files:
            path.rename(case / path.name)
    if how != "folder":
        shutil.rmtree(case / "dicom")
    save_nifti(drawn.truth, drawn.geometry, case / "labels.nii.gz")
    save_nifti((drawn.truth > 1).astype(np.uint8) * 7, drawn.geometry, case / "tumour_instances.nii.gz")
    found = find_cases(tmp_path)
    assert found.skipped == ()
    (source,) = found.sources
    read = source.read()
    np.testing.assert_array_equal(read.labels, drawn.truth)
    assert read.instances is not None and set(np.unique(read.instances)) == {0, 7}
    np.testing.assert_allclose(read.volume.array, np.rint(drawn.volume.array), atol=1)


def test_labels_say_more_than_a_liver_label_beside_them(drawn, save_pair, save_nifti, tmp_path: Path) -> None:
    """Tumours that were drawn later lie beside the liver that was there before; a liver alone is the truth."""
    save_pair(tmp_path / "a/image.nii.gz", tmp_path / "a/labels.nii.gz")
    save_nifti((drawn.truth > 0).astype(np.uint8), drawn.geometry, tmp_path / "a/liver_label.nii.gz")
    save_pair(tmp_path / "b/image.nii.gz", tmp_path / "b/liver_label.nii.gz")
    found = find_cases(tmp_path)
    assert found.skipped == ()
    assert [source.truths[0].name for source in found.sources] == ["labels.nii.gz", "liver_label.nii.gz"]
    assert find_cases(tmp_path / "a").sources[0].read().labels.max() == 2


def test_an_image_called_mr_is_one_and_a_number_is_no_name(save_pair, tmp_path: Path) -> None:
    """As CHAOS's MR lie in NIfTI: `chaos_mr_t2spir/03/mr.nii.gz`."""
    save_pair(tmp_path / "chaos_mr_t2spir/03/mr.nii.gz", tmp_path / "chaos_mr_t2spir/03/liver_label.nii.gz")
    (source,) = find_cases(tmp_path).sources
    assert (source.name, source.patient, source.collection) == ("chaos_mr_t2spir-03", "CHAOS MR/03", "CHAOS MR")
    assert source.modality == "MR" and source.read().volume.modality == "MR"


def test_a_part_of_a_known_patient_is_that_patient(save_pair, tmp_path: Path) -> None:
    """LiTS 117 as a cube about its liver is LiTS 117."""
    save_pair(tmp_path / "lits_volume117_crop/ct.nii.gz", tmp_path / "lits_volume117_crop/labels.nii.gz")
    (source,) = find_cases(tmp_path).sources
    assert (source.name, source.patient, source.collection) == ("lits_volume117_crop", "LiTS/117", "LiTS")


def test_which_images_is_never_guessed(save_pair, save_nifti, drawn, tmp_path: Path) -> None:
    """Two images, two truths, or none beside a truth."""
    save_pair(tmp_path / "a/image.nii.gz", tmp_path / "a/labels.nii.gz")
    save_pair(tmp_path / "a/ct.nii.gz", tmp_path / "b/labels.nii.gz")
    save_pair(tmp_path / "c/labels.nii.gz", tmp_path / "c/truth.nii.gz")
    for name in ("one.zip", "two.zip"):
        (tmp_path / "d" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "d" / name).touch()
    save_nifti(drawn.truth, drawn.geometry, tmp_path / "d/labels.nii.gz")
    found = find_cases(tmp_path)
    assert found.sources == ()
    assert found.skipped == (
        "a/labels.nii.gz: several images beside it: ct.nii.gz, image.nii.gz",
        "b/labels.nii.gz: no images beside it",
        "c: labels.nii.gz and truth.nii.gz: which of them is the truth?",
        "d/labels.nii.gz: several images beside it: one.zip, two.zip",
    )


def test_damaged_archives_and_strange_grids(drawn, save_series, save_nifti, tmp_path: Path) -> None:
    """A zip that is cut off, one of notes alone, a mask on another grid."""
    files = save_series(drawn.volume, tmp_path / "files")
    for name in ("cut", "notes", "moved"):
        (tmp_path / "in" / name).mkdir(parents=True)
        with zipfile.ZipFile(tmp_path / "in" / name / "ct_dicom.zip", "w") as archive:
            for path in files:
                archive.write(path, path.name)
        save_nifti(drawn.truth, drawn.geometry, tmp_path / "in" / name / "labels.nii.gz")
    whole = (tmp_path / "in/cut/ct_dicom.zip").read_bytes()
    (tmp_path / "in/cut/ct_dicom.zip").write_bytes(whole[: len(whole) // 2])
    with zipfile.ZipFile(tmp_path / "in/notes/ct_dicom.zip", "w") as archive:
        archive.writestr("read me", "no images here")
    moved = np.diag([-6.0, -6.0, 10.0, 1.0])
    save_nifti(drawn.truth, drawn.geometry, tmp_path / "in/moved/labels.nii.gz", moved)
    expected = {
        "cut": "cut/ct_dicom.zip: not a zip archive, or one that is cut off",
        "notes": "notes/ct_dicom.zip: holds no DICOM images",
        "moved": "moved/labels.nii.gz: does not lie on the grid of the series",
    }
    for source in find_cases(tmp_path / "in").sources:
        with pytest.raises(CaseUnreadable, match=expected.pop(source.name)):
            source.read()
    assert not expected


@pytest.mark.parametrize(
    ("name", "patient", "collection", "tumours"),
    [
        ("ircadb_case17", "3D-IRCADb-01/17", "3D-IRCADb-01", 2),
        ("chaos_ct3", "CHAOS CT/3", "CHAOS CT", None),
        ("ircadb_case19", "3D-IRCADb-01/19", "3D-IRCADb-01", None),
        ("lits_volume0", "LiTS/0", "LiTS", None),
        ("lits_volume117_crop", "LiTS/117", "LiTS", None),
    ],
)
def test_shared_data(shared_data: Path, name: str, patient: str, collection: str, tumours: int | None) -> None:
    """The layout of ../shared/data: series, voxels and instances are those that its manifest states."""
    found = find_cases(shared_data / name)
    assert found.skipped == ()
    (source,) = found.sources
    assert (source.name, source.patient, source.collection) == (name, patient, collection)
    case = source.read()
    voxels = {
        "ircadb_case17": (2_106_497, 185_990),
        "chaos_ct3": (1_342_595, 0),
        "lits_volume0": (552_627, 2_591),
        "lits_volume117_crop": (615_351, 130_083),
    }
    if name in voxels:
        assert (np.count_nonzero(case.labels), np.count_nonzero(case.labels == 2)) == voxels[name]
    assert (None if case.instances is None else int(case.instances.max())) == tumours
    assert 60 < case.volume.array[case.labels == 1].mean() < 160
    (truth,) = source.truths
    np.testing.assert_array_equal(case.labels, read_labels(truth, case.volume.geometry))


def test_names_side_by_side_tell_known_patients(save_pair, tmp_path: Path) -> None:
    """As those of folders do: LiTS 44 is a patient of 3D-IRCADb-01 in any layout."""
    save_pair(tmp_path / "lits_44.nii.gz", tmp_path / "lits_44_label.nii.gz")
    save_pair(tmp_path / "mine.nii.gz", tmp_path / "mine_label.nii.gz")
    known, mine = find_cases(tmp_path).sources
    assert (known.patient, known.collection) == ("3D-IRCADb-01/17", "LiTS")
    assert mine.patient == f"{tmp_path.name}/mine"


@pytest.mark.parametrize("image", ["a/image.nii.gz", "a.nii.gz"])
def test_dataset_json_says_that_images_are_mr(save_pair, image: str, tmp_path: Path) -> None:
    """Beside the pairs, or beside the folders of the cases."""
    save_pair(tmp_path / image, tmp_path / image.replace("image", "labels").replace("a.nii", "a_label.nii"))
    (tmp_path / "dataset.json").write_text('{"name": "ward 7", "modality": {"0": "MRI"}}')
    (source,) = find_cases(tmp_path).sources
    assert (source.patient, source.collection) == ("ward 7/a", "ward 7")
    assert source.read().volume.modality == "MR"


def test_linked_files_are_read_as_they_are_found(drawn, save_series, save_nifti, tmp_path: Path) -> None:
    """A store of files with links to them, as git-annex leaves it; a link in a circle ends."""
    files = save_series(drawn.volume, tmp_path / "store")
    case = tmp_path / "data/case"
    (case / "dicom/more").mkdir(parents=True)
    for path in files:
        (case / "dicom/more" / path.name).symlink_to(path)
    (case / "dicom/more/circle").symlink_to(case / "dicom")
    save_nifti(drawn.truth, drawn.geometry, case / "labels.nii.gz")
    (source,) = find_cases(tmp_path / "data").sources
    np.testing.assert_array_equal(source.read().labels, drawn.truth)
    before = source.fingerprint
    files[0].write_bytes(files[0].read_bytes() + b"\0\0")
    (again,) = find_cases(tmp_path / "data").sources
    assert again.fingerprint != before
