"""Sizes in millimetres that a patient can have."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom import Dataset

from dicom_io.errors import RejectReason, SeriesRejected
from dicom_io.nifti import read_nifti
from dicom_io.series.series import open_series

MakeSeries = Callable[..., list[Path]]


def sized(spacing: object = "0.78", pixels: int = 512, step_mm: float = 5.0) -> Callable[[Dataset, int], None]:
    def change(ds: Dataset, index: int) -> None:
        ds.Rows = ds.Columns = pixels
        ds.PixelSpacing = [spacing, spacing]
        ds.ImagePositionPatient = [0, 0, f"{100 + index * step_mm:.10g}"]

    return change


IMPOSSIBLE = [
    sized("300"),
    sized("1e30"),
    sized("1e300"),
    sized("2"),
    sized("0.05"),
    sized("1e-30"),
    sized("0.0007", pixels=8),
    sized(step_mm=0.05),
    sized(step_mm=300),
    sized(step_mm=51),
    sized(step_mm=1e29),
]


def coronal(ds: Dataset, index: int) -> None:
    """A whole body from head to feet, 1100 mm."""
    sized("2.15")(ds, index)
    ds.PixelSpacing, ds.ImageOrientationPatient = ["2.15", "1.9"], [1, 0, 0, 0, 0, -1]
    ds.ImagePositionPatient = [0, f"{index * 5}", 0]


POSSIBLE = [coronal, sized("1.9"), sized("0.1"), sized("3", pixels=256), sized("0.75", pixels=8)]


@pytest.mark.parametrize("change", IMPOSSIBLE)
def test_a_size_that_no_patient_has_is_refused_by_name(
    make_series: MakeSeries, change: Callable[[Dataset, int], None]
) -> None:
    """Before a pixel is read: on the network's grid it would take any time and memory."""
    with pytest.raises(SeriesRejected) as caught:
        open_series(make_series(change))
    assert caught.value.reason is RejectReason.IMPOSSIBLE_SIZE


@pytest.mark.parametrize("change", POSSIBLE)
def test_any_size_that_a_patient_has_is_read(make_series: MakeSeries, change: Callable[[Dataset, int], None]) -> None:
    assert open_series(make_series(change)).stacks


def test_a_length_that_no_patient_has(make_series: MakeSeries, make_stack: Callable[..., object]) -> None:
    paths = make_series(geometry=make_stack(slices=170, step_mm=18.0))
    with pytest.raises(SeriesRejected, match="3060 mm from the first"):
        open_series(paths)


@pytest.mark.parametrize(
    "scale", [(300, 300, 5), (0.0007, 0.0007, 0.005), (0.7, 0.7, 0.01), (0.7, 0.7, 400), (1e30,) * 3]
)
def test_nifti_of_a_size_that_no_patient_has(tmp_path: Path, scale: tuple[float, float, float]) -> None:
    """Its affine may be in metres, or anything."""
    image = nib.Nifti1Image(np.zeros((80, 80, 20), np.int16), np.diag([*scale, 1.0]))
    image.set_sform(image.affine, code=1)
    nib.save(image, tmp_path / "image.nii")
    with pytest.raises(SeriesRejected) as caught:
        read_nifti(tmp_path / "image.nii")
    assert caught.value.reason is RejectReason.IMPOSSIBLE_SIZE
