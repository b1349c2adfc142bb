"""3D-IRCADb-01 as it is downloaded, with its names for tumours and its cysts."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from dicom_io.nifti import read_labels
from dicom_io.pixels import read_volume
from dicom_io.series.series import open_series
from models.datasets.discovery import find_cases
from models.errors import CaseUnreadable


@pytest.fixture
def lay_out(drawn, save_series, save_masks):
    """Write a case with a folder of masks for each structure; files are numbered against the slices' order."""

    def make(folder: Path, structures: dict[str, np.ndarray], *, placed: bool = True) -> Path:
        slices = drawn.geometry.slices
        save_series(drawn.volume, folder / "PATIENT_DICOM", name=lambda index: f"image_{slices - 1 - index}")
        for name, mask in structures.items():
            numbers = range(slices - 1, -1, -1)
            save_masks(mask, drawn.geometry, folder / "MASKS_DICOM" / name, numbers, placed)
        (folder / "LABELLED_DICOM").mkdir()
        return folder

    return make


@pytest.fixture
def tumours(drawn) -> list[np.ndarray]:
    """Each of the phantom's tumours by itself."""
    parts, count = ndimage.label(drawn.truth == 2, np.ones((3, 3, 3)))
    assert count > 1
    return [parts == number for number in range(1, count + 1)]


@pytest.mark.parametrize("placed", [True, False])
@pytest.mark.parametrize("zipped", [False, True])
def test_masks_find_their_images(drawn, lay_out, tumours, placed, zipped, tmp_path: Path) -> None:
    """By position or, without one, by the number in the file's name; unpacked or as downloaded."""
    structures = {"liver": drawn.truth > 0, "bone": drawn.truth < 1}
    structures |= {f"livertumor{number:02d}": mask for number, mask in enumerate(tumours, 1)}
    folder = lay_out(tmp_path / "3Dircadb1" / "3Dircadb1.17", structures, placed=placed)
    if zipped:
        for name in ("PATIENT_DICOM", "MASKS_DICOM"):
            shutil.make_archive(str(folder / name), "zip", folder, name)
            shutil.rmtree(folder / name)
    found = find_cases(tmp_path)
    assert found.skipped == ()
    (source,) = found.sources
    assert (source.name, source.patient, source.collection) == ("3Dircadb1.17", "3D-IRCADb-01/17", "3D-IRCADb-01")
    case = source.read()
    np.testing.assert_array_equal(case.labels, drawn.truth)
    for number, mask in enumerate(tumours, 1):
        np.testing.assert_array_equal(case.instances == number, mask)


def test_a_plural_is_several_tumours(drawn, lay_out, tumours, tmp_path: Path) -> None:
    """Its components are instances; those of a folder in the singular are one."""
    lay_out(tmp_path / "3Dircadb1.4", {"Liver": drawn.truth > 0, "livertumors": drawn.truth > 1})
    lay_out(tmp_path / "3Dircadb1.5", {"liver": drawn.truth > 0, "livertumor": drawn.truth > 1})
    several, one = (source.read() for source in find_cases(tmp_path).sources)
    assert several.instances is not None and several.instances.max() == len(tumours)
    np.testing.assert_array_equal(one.instances, drawn.truth > 1)
    np.testing.assert_array_equal(several.labels, one.labels)


def test_cysts_and_others_stay_liver(drawn, lay_out, tmp_path: Path) -> None:
    """liverkyst, livercyst and what no name says is a tumour of the liver."""
    lesions = drawn.truth > 1
    others = {"liverkyst": lesions, "livercyst": lesions, "tumor": lesions, "leftsurretumor": lesions}
    lay_out(tmp_path / "3Dircadb1.1", {"liver": drawn.truth > 0, **others})
    (source,) = find_cases(tmp_path).sources
    case = source.read()
    np.testing.assert_array_equal(case.labels, drawn.truth > 0)
    assert case.instances is None


def test_masks_that_do_not_belong(drawn, lay_out, tmp_path: Path) -> None:
    """None at all, no liver, one file short, another size, numbers that are none of the images'."""
    liver = drawn.truth > 0
    shutil.rmtree(lay_out(tmp_path / "p.1", {"liver": liver}) / "MASKS_DICOM")
    lay_out(tmp_path / "p.2", {"livertumor": liver})
    (lay_out(tmp_path / "p.3", {"liver": liver}) / "MASKS_DICOM/liver/image_3").unlink()
    lay_out(tmp_path / "p.4", {"liver": liver[:, 1:]})
    folder = lay_out(tmp_path / "p.5", {"liver": liver}, placed=False) / "MASKS_DICOM/liver"
    (folder / "image_3").rename(folder / "image_333")
    found = find_cases(tmp_path)
    assert found.skipped == ("p.1/PATIENT_DICOM: no MASKS_DICOM beside it",)
    expected = {
        "p.2": "MASKS_DICOM: no mask called liver",
        "p.3": "MASKS_DICOM/liver: 23 masks for 24 images",
        "p.4": "MASKS_DICOM/liver: its masks are of another size than the images",
        "p.5": "MASKS_DICOM/liver: neither position nor file number says",
    }
    for source in found.sources:
        with pytest.raises(CaseUnreadable, match=expected.pop(source.name)):
            source.read()
    assert not expected


def test_case_17_from_its_own_images(unpacked, shared_data: Path, save_masks, tmp_path: Path) -> None:
    """The real case, its masks laid out as they were published: file numbers, positions, two tumours."""
    files = unpacked("ircadb_case17/ct_dicom")
    folder = tmp_path / "3Dircadb1.17"
    (folder / "PATIENT_DICOM").mkdir(parents=True)
    for path in files:
        (folder / "PATIENT_DICOM" / path.name).symlink_to(path)
    stack = open_series(files).stacks[0]
    truth = read_labels(shared_data / "ircadb_case17/labels.nii.gz", stack.geometry)
    instances = read_labels(shared_data / "ircadb_case17/tumour_instances.nii.gz", stack.geometry)
    numbers = [int(item.path.name.partition("_")[2]) for item in stack.slices]
    masks = {"liver": truth > 0, "livertumor1": instances == 1, "livertumor2": instances == 2}
    for name, mask in masks.items():
        save_masks(mask, stack.geometry, folder / "MASKS_DICOM" / name, numbers, placed=name != "livertumor2")
    shutil.copytree(folder / "PATIENT_DICOM", tmp_path / "real", symlinks=False)
    shutil.rmtree(folder / "PATIENT_DICOM")
    (tmp_path / "real").rename(folder / "PATIENT_DICOM")
    (source,) = find_cases(folder).sources
    assert source.patient == "3D-IRCADb-01/17"
    case = source.read()
    np.testing.assert_array_equal(case.labels, truth)
    np.testing.assert_array_equal(case.instances, instances)
    np.testing.assert_array_equal(case.volume.array, read_volume(stack).array)
