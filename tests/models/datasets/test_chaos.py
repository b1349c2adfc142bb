"""CHAOS as it is downloaded, and the proof of which mask belongs to which image."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from dicom_io.nifti import read_labels
from dicom_io.series.series import open_series
from models.datasets.discovery import find_cases
from models.errors import CaseUnreadable


@pytest.fixture
def lay_out(drawn, save_series, save_pngs):
    """A case whose files count from the head down, as in CT set 3."""

    def make(folder: Path, *, order: int = -1, white: int = 255, images: str = "DICOM_anon") -> Path:
        slices = drawn.geometry.slices
        save_series(drawn.volume, folder / images, name=lambda index: f"i{slices - 1 - index:04d},0000b.dcm")
        save_pngs((drawn.truth > 0)[::order], folder / "Ground", white)
        return folder

    return make


def test_ct(drawn, lay_out, tmp_path: Path) -> None:
    """Masks follow the order of the image files; the donor is healthy."""
    lay_out(tmp_path / "Train_Sets/CT/3")
    found = find_cases(tmp_path)
    assert found.skipped == ()
    (source,) = found.sources
    assert (source.name, source.patient, source.collection) == ("chaos-ct-3", "CHAOS CT/3", "CHAOS CT")
    case = source.read()
    np.testing.assert_array_equal(case.labels, drawn.truth > 0)
    assert case.tumours_drawn and case.instances is None


def test_mr(drawn, lay_out, tmp_path: Path) -> None:
    """One case for each sequence of a patient; of T1DUAL the images in phase; the liver is grey."""
    lay_out(tmp_path / "MR/7/T2SPIR", white=63)
    lay_out(tmp_path / "MR/7/T1DUAL", white=63, images="DICOM_anon/InPhase")
    found = find_cases(tmp_path)
    assert [source.name for source in found.sources] == ["chaos-mr-7-T1DUAL", "chaos-mr-7-T2SPIR"]
    assert {source.patient for source in found.sources} == {"CHAOS MR/7"}
    for source in found.sources:
        np.testing.assert_array_equal(source.read().labels, drawn.truth > 0)
    lay_out(tmp_path / "MR/8/T2SPIR", white=252)  # the grey of another organ
    assert not find_cases(tmp_path / "MR/8").sources[0].read().labels.any()


def test_the_wrong_order_is_refused(lay_out, tmp_path: Path) -> None:
    """Masks that count from the feet up lie on uneven tissue: nobody trains on them."""
    lay_out(tmp_path / "3", order=1)
    with pytest.raises(CaseUnreadable, match="Ground: fits the images better with its slices in reverse order"):
        find_cases(tmp_path).sources[0].read()


def test_masks_that_do_not_belong(drawn, lay_out, save_pngs, tmp_path: Path) -> None:
    """No Ground, a mask short, one of another size, one that is no PNG."""
    shutil.rmtree(lay_out(tmp_path / "1") / "Ground")
    (lay_out(tmp_path / "2") / "Ground/liver_GT_005.png").unlink()
    shutil.rmtree(lay_out(tmp_path / "3") / "Ground")
    save_pngs((drawn.truth > 0)[:, 1:], tmp_path / "3/Ground")
    (lay_out(tmp_path / "4") / "Ground/liver_GT_005.png").write_bytes(b"\x89PNG, but not really")
    found = find_cases(tmp_path)
    assert found.skipped == ("1/DICOM_anon: no Ground beside it",)
    expected = {
        "chaos-ct-2": "Ground: 23 masks for 24 images",
        "chaos-ct-3": r"liver_GT_\d+.png: is 59 x 64, its image 60 x 64",
        "chaos-ct-4": "liver_GT_005.png: not a PNG image, or damaged",
    }
    for source in found.sources:
        with pytest.raises(CaseUnreadable, match=expected.pop(source.name)):
            source.read()
    assert not expected


@pytest.mark.parametrize("order", [-1, 1])
def test_the_order_of_set_3(unpacked, shared_data: Path, save_pngs, order: int, tmp_path: Path) -> None:
    """Its real images: Ground PNGs in the files' order give its label back, in the other order they are refused.

    The files run from the head down, and the published masks 000 to 006 are the empty ones, as the 7 uppermost slices
    of the label volume are.
    """
    files = unpacked("chaos_ct3/ct_dicom")
    stack = open_series(files).stacks[0]
    truth = read_labels(shared_data / "chaos_ct3/liver_label.nii.gz", stack.geometry)
    descending = sorted(stack.slices, key=lambda item: item.path.name)
    assert [item.path for item in descending] == [item.path for item in stack.slices[::-1]]
    assert not truth[-7:].any() and truth[-8].any() and truth[0].any()
    (tmp_path / "3").mkdir()
    (tmp_path / "3/DICOM_anon").symlink_to(files[0].parent)
    save_pngs((truth > 0)[::order], tmp_path / "3/Ground")
    (source,) = find_cases(tmp_path).sources
    if order == 1:
        with pytest.raises(CaseUnreadable, match="in reverse order"):
            source.read()
    else:
        np.testing.assert_array_equal(source.read().labels, truth)
