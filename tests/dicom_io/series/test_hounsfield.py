"""Whether the values of a CT are Hounsfield units."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from dicom_io.errors import RejectReason, SeriesRejected
from dicom_io.nifti import read_nifti
from dicom_io.pixels import read_volume
from dicom_io.series.hounsfield import empty_slices, refuse_other_values, why_not_hounsfield, why_not_one_scale
from dicom_io.series.series import open_series
from dicom_io.volume import Volume

Make = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def body() -> np.ndarray:
    """Air, fat, muscle, liver, vessels and bone, with noise, as a slim patient in a wide field of view has them."""
    rng = np.random.default_rng(3)
    hu = np.full((12, 96, 96), -1000.0)
    hu[:, 20:76, 16:80] = -105  # fat
    hu[:, 24:72, 20:76] = 55  # muscle
    hu[2:10, 30:60, 24:50] = 110  # liver
    hu[:, 50:56, 55:60] = 220  # a vessel
    hu[:, 60:68, 44:52] = 700  # a vertebra
    return np.rint(hu + rng.normal(0, 12, hu.shape))


def filled(hu: np.ndarray, value: int) -> np.ndarray:
    corners = hu.copy()
    corners[:, :12], corners[:, -12:] = value, value
    return corners


def with_metal(hu: np.ndarray) -> np.ndarray:
    metal = hu.copy()
    metal[4:8, 60:72, 60:72] = 30710
    return metal


def rim(hu: np.ndarray, width: int) -> np.ndarray:
    """What lies so near to the air around the body."""
    outside = ndimage.binary_dilation(hu < -500, iterations=width)
    return np.asarray(outside & (hu > -500))


def around_0(hu: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A map with a sign, of which 0 means nothing, as around the patient."""
    return np.where(hu < -500, 0, values)


def masked(hu: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A map that is -1024 around the patient."""
    return np.where(hu < -500, -1024, values)


READ: dict[str, Make] = {
    "as it is": lambda hu: hu,
    "filled with -3024": lambda hu: filled(hu, -3024),
    "filled with -2000": lambda hu: filled(hu, -2000),
    "air at -1024": lambda hu: np.where(hu < -900, -1024, hu),
    "an intercept of -1000": lambda hu: np.maximum(hu, -1000),
    "metal on an extended scale": with_metal,
    "full of contrast": lambda hu: np.where(hu > 30, hu + 250, hu),
    "a crop without air": lambda hu: hu[:, 24:72, 20:76],
    "a crop within the liver": lambda hu: hu[2:10, 32:58, 26:48],
    "a liver full of fat": lambda hu: np.where((hu > 70) & (hu < 150), hu - 110, hu),
    "without contrast": lambda hu: np.where((hu > 70) & (hu < 300), hu * 0.2 + 35, hu),
    "at a low dose": lambda hu: hu + np.random.default_rng(5).normal(0, 70, hu.shape),
    "a thin child": lambda hu: np.where(rim(hu, 2), hu, np.where((hu > -200) & (hu < -40), hu + 160, hu)),
    "a crop within the liver, and a little fat": lambda hu: hu[2:10, 31:58, 19:48],
    "a crop without air, at a low dose": lambda hu: (
        hu[:, 24:72, 16:80] + np.random.default_rng(5).normal(0, 50, hu[:, 24:72, 16:80].shape)
    ),
    "a crop without air or contrast": lambda hu: np.where((hu > 70) & (hu < 300), hu * 0.2 + 35, hu)[:, 20:76, 16:80],
    "0 around the patient": lambda hu: np.where(hu < -500, 0, hu),
    "at 40 keV": lambda hu: np.where(hu < -500, hu, np.where(hu < 0, hu * 1.7, hu * 2.5)),
    "air at -995": lambda hu: np.random.default_rng(4).normal(-995, 8, hu.shape),
    "air alone": lambda hu: np.random.default_rng(4).normal(-1000, 12, hu.shape),
    "a field of view of air": lambda hu: np.pad(hu, ((0, 0), (60, 60), (60, 60)), constant_values=-1000),
}


def noise(hu: np.ndarray, spread: float) -> np.ndarray:
    return np.random.default_rng(6).normal(0, spread, hu.shape)


REFUSED: dict[str, Make] = {
    "atomic numbers": lambda hu: np.where(hu < -500, 0, 7.4 + hu * 0.004),
    "iodine in mg/ml": lambda hu: np.clip((hu - 40) / 25, 0, None),
    "electron density in %": lambda hu: np.clip(1000 + hu, 0, None) / 10,
    "density in mg/cm3": lambda hu: np.clip(1000 + hu, 0, None),
    "read without its sign": lambda hu: hu % 65536,
    "read without its intercept": lambda hu: np.clip(1024 + hu, 0, None),
    "its intercept twice": lambda hu: hu - 1024,
    "a window burnt in": lambda hu: np.clip((hu + 100) / 300 * 255, 0, 255).round(),
    "nothing": lambda hu: np.zeros_like(hu),
    "nothing but fill": lambda hu: np.full_like(hu, -3024),
    "atomic numbers and air at -1024": lambda hu: np.where(hu < -500, -1024, 740 + hu * 0.4),
    "iodine in mg/ml and air at -1024": lambda hu: masked(hu, np.clip((hu - 40) / 25, 0, None)),
    "iodine in 0.1 mg/ml and air at -1024": lambda hu: masked(hu, np.clip((hu - 40) / 2.5, 0, None)),
    "iodine that is not cut off at 0": lambda hu: masked(hu, (hu - 40) / 25 + noise(hu, 1)),
    "iodine as enhancement": lambda hu: masked(hu, np.clip(hu - 50, 0, 300) + noise(hu, 12)),
    "iodine, smoothed and reformatted": lambda hu: ndimage.gaussian_filter(
        masked(hu, np.clip((hu - 40) / 25, 0, None)).astype(float), 0.7
    ),
    "the difference of two phases": lambda hu: around_0(hu, hu - 50) + noise(hu, 12),
    "the difference of two phases, without noise": lambda hu: around_0(hu, hu - 60),
    "the difference of two phases, cropped": lambda hu: (hu - 60)[:, 20:76, 16:80],
    "iodine with a sign": lambda hu: around_0(hu, (hu - 40) * 0.5) + noise(hu, 8),
    "a map of noise about 0": lambda hu: around_0(hu, hu * 0.1) + noise(hu, 25),
    "water less 1000": lambda hu: around_0(hu, np.clip(hu, -300, 100) * 2 - 50) + noise(hu, 5),
    "iodine less 1024": lambda hu: np.clip((hu - 40) / 25, 0, None) - 1024,
    "atomic numbers, one for one, and air at -1024": lambda hu: masked(hu, 7.4 + hu * 0.004),
    "atomic numbers in tenths and air at -1024": lambda hu: masked(hu, 74 + hu * 0.04),
    "atomic numbers less 1024": lambda hu: np.where(hu < -500, 0, 7.4 + hu * 0.004) - 1024,
    "electron density in % and air at -1024": lambda hu: masked(hu, 100 + hu * 0.09),
    "electron density to 1 and air at -1024": lambda hu: masked(hu, 1 + hu * 0.0009),
    "a fat fraction in % and air at -1024": lambda hu: masked(hu, np.clip(50 - hu / 3, 0, 100)),
    "a window burnt in, and an intercept": lambda hu: np.clip((hu + 100) / 300 * 255, 0, 255).round() - 1024,
    **{
        f"slope {slope}": lambda hu, slope=slope: np.maximum((hu + 1024) * slope - 1024, -1024)  # type: ignore[misc]
        for slope in (0.1, 0.5, 2, 8, 16)
    },
}


def emptied(hu: np.ndarray, slices: slice, rows: slice = slice(None), value: float = -1024) -> np.ndarray:
    spoilt = hu.copy()
    spoilt[slices, rows] = value
    return spoilt


EMPTY: dict[str, tuple[Make, int]] = {
    "none": (lambda hu: hu, 0),
    "one": (lambda hu: emptied(hu, slice(5, 6)), 1),
    "one of water": (lambda hu: emptied(hu, slice(5, 6), value=0), 1),
    "three in a row": (lambda hu: emptied(hu, slice(4, 7)), 3),
    "the lower half of one": (lambda hu: emptied(hu, slice(5, 6), slice(48, None)), 1),
    "a bowel full of gas": (lambda hu: emptied(hu, slice(5, 6), slice(50, 58)), 0),
    "both ends": (lambda hu: emptied(emptied(hu, slice(2)), slice(-2, None)), 0),
    "a lung that ends": (lambda hu: np.where(np.arange(12)[:, None, None] < 6, np.minimum(hu, -850), hu), 0),
}


@pytest.mark.parametrize("name", READ)
def test_what_is_read(name: str, body: np.ndarray) -> None:
    """Nothing that a scanner or a crop makes of Hounsfield units is refused."""
    assert why_not_hounsfield(READ[name](body).astype(np.float32)) == ""


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str, body: np.ndarray) -> None:
    """Values of another unit, whatever their header says."""
    assert why_not_hounsfield(REFUSED[name](body).astype(np.float32)) != ""


@pytest.mark.parametrize("name", EMPTY)
def test_empty_slices_between_others(name: str, body: np.ndarray) -> None:
    """They would cut the liver in two, of which the larger part is reported."""
    make, count = EMPTY[name]
    assert empty_slices(make(body).astype(np.int16)) == count


@pytest.mark.parametrize("slices", [slice(5, 6), slice(6, None), slice(0, None, 3)])
@pytest.mark.parametrize("offset", [1024, -1024])
def test_slices_of_another_scale(slices: slice, offset: int, body: np.ndarray) -> None:
    """One image, half of them, each third: with another intercept than those beside them."""
    assert why_not_one_scale(body.astype(np.float32)) == ""
    body = body.copy()
    body[slices] += offset
    assert "beside them" in why_not_one_scale(body.astype(np.float32))


def test_only_ct_is_judged(make_stack: Callable[..., object], body: np.ndarray) -> None:
    """MR has values of any kind."""
    array = np.abs(body[:, :6, :8]).astype(np.float32)
    geometry = make_stack()
    refuse_other_values(Volume(array, geometry, "MR", "1.2"))  # type: ignore[arg-type]
    with pytest.raises(SeriesRejected) as caught:
        refuse_other_values(Volume(array, geometry, "CT", "1.2"))  # type: ignore[arg-type]
    assert caught.value.reason is RejectReason.NOT_HOUNSFIELD


def test_real_scans_are_read(unpacked: Callable[[str], list[Path]], shared_data: Path) -> None:
    """With -1000, -1024 and -3024 around the patient, with contrast and without, a head, and crops."""
    for name in (
        *("chaos_ct3/ct_dicom", "ircadb_case17/ct_dicom", "lits_volume0/ct_dicom"),
        *("hcc_tace_seg_007/ct_precontrast_10mm_dicom", "dcm_qa_ct/ge_tilt18_variable_gap_dicom"),
    ):
        (stack,) = open_series(unpacked(name)).stacks
        refuse_other_values(read_volume(stack))
    for name in ("lits_volume117_crop/ct", "totalsegmentator_example/example_ct_sm"):
        refuse_other_values(read_nifti(shared_data / f"{name}.nii.gz"))
