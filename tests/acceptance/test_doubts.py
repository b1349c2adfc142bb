"""What no model should be shown, shown to the shipped weights: the findings say of all of it that it is doubtful."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from daemon.worker.sources import find_series
from dicom_io.nifti import read_nifti
from dicom_io.pixels import read_volume
from dicom_io.series.series import arrange
from dicom_io.volume import Volume
from models.cards import find
from models.inference import Model, load_model, segment
from reports.findings.measurements import measure

Unpacked = Callable[[str], list[Path]]


@cache
def shipped() -> Model:
    return load_model(find("resnet50"), device="cpu")


def warnings_of(volume: Volume) -> set[str]:
    return set(measure(volume, segment(shipped(), volume), tracking_seed="1.2.3").warnings)


def only_volume(files: list[Path]) -> Volume:
    (members,) = find_series(files).groups.values()
    (stack,) = arrange(members).stacks
    return read_volume(stack)


def test_a_head(unpacked: Unpacked) -> None:
    """Another part of the body, tilted and uneven: no liver, or one that is doubtful."""
    head = only_volume(unpacked("dcm_qa_ct/ge_tilt18_variable_gap_dicom"))
    assert warnings_of(head) & {"NO_LIVER", "NOT_LIKE_LIVER", "LIVER_UNCERTAIN"}


def test_a_liver_without_contrast_medium(unpacked: Unpacked) -> None:
    """A native phase, slices of 10 mm."""
    assert "CONTRAST_DOUBTFUL" in warnings_of(only_volume(unpacked("hcc_tace_seg_007/ct_precontrast_10mm_dicom")))


@pytest.mark.parametrize(("name", "code"), [("example_ct_sm", "PARTIAL_LIVER"), ("example_mr_sm", "VALUES_DOUBTFUL")])
def test_a_liver_that_is_cut_off_and_mr_that_is_taken_for_ct(shared_data: Path, name: str, code: str) -> None:
    """NIfTI says nothing of its modality; the slab ends within the liver. Lesions are reported of none of the MR."""
    volume = read_nifti(shared_data / "totalsegmentator_example" / f"{name}.nii.gz")
    found = measure(volume, segment(shipped(), volume), tracking_seed="1.2.3")
    assert code in found.warnings
    if code == "VALUES_DOUBTFUL":
        assert found.lesions == () and found.severity.level is None
