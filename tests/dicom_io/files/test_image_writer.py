"""The CT series we make: valid, repeatable, and read back as it was."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread

from dicom_io.files.image_writer import decimal_string, write_ct_series, write_mr_series
from dicom_io.geometry import Geometry
from dicom_io.pixels import read_volume
from dicom_io.series.series import open_series


def test_there_and_back(tmp_path: Path, make_stack: Callable[..., Geometry]) -> None:
    """Values, places and identity."""
    geometry = make_stack()
    array = np.random.default_rng(0).integers(-1024, 3072, geometry.shape, dtype=np.int16)
    paths = write_ct_series(array, geometry, tmp_path / "a" / "b", seed=7, patient_name="A^B", patient_id="4711")
    volume = read_volume(open_series(paths).stacks[0])
    assert np.array_equal(volume.array, array)
    assert np.allclose(volume.geometry.affine, geometry.affine)
    assert volume.geometry.frame_of_reference_uid == geometry.frame_of_reference_uid
    assert (str(dcmread(paths[0]).PatientName), dcmread(paths[0]).PatientID) == ("A^B", "4711")


def test_out_of_range_values_are_cut(tmp_path: Path, make_stack: Callable[..., Geometry]) -> None:
    """What a scanner cannot store does not wrap round; fractions are rounded."""
    geometry = make_stack()
    array = np.zeros(geometry.shape, np.float32)
    array[0, 0, :4] = (-5000, 40000, 12.6, -0.4)
    volume = read_volume(open_series(write_ct_series(array, geometry, tmp_path, seed=1)).stacks[0])
    assert volume.array[0, 0, :4].tolist() == [-1024, 3071, 13, 0]


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, make_stack: Callable[..., Geometry]) -> None:
    geometry = make_stack()
    array = np.zeros(geometry.shape, np.int16)
    one, two, three = (
        [path.read_bytes() for path in write_ct_series(array, geometry, tmp_path / str(number), seed=seed)]
        for number, seed in enumerate(("x", "x", "y"))
    )
    assert one == two
    assert not set(one) & set(three)


def test_series_may_share_a_study(tmp_path: Path, make_stack: Callable[..., Geometry]) -> None:
    geometry = make_stack()
    array = np.zeros(geometry.shape, np.int16)
    one, two = (
        dcmread(write_ct_series(array, geometry, tmp_path / seed, seed=seed, study_seed="s")[0]) for seed in "ab"
    )
    assert one.StudyInstanceUID == two.StudyInstanceUID
    assert one.SeriesInstanceUID != two.SeriesInstanceUID


def test_wrong_shape(tmp_path: Path, make_stack: Callable[..., Geometry]) -> None:
    with pytest.raises(ValueError, match="array is"):
        write_ct_series(np.zeros((1, 2, 3), np.int16), make_stack(), tmp_path, seed=1)


@given(st.floats(-1e6, 1e6))
def test_decimal_strings_fit(value: float) -> None:
    """At most 16 characters, and as near as those allow."""
    text = decimal_string(value)
    assert len(text) <= 16
    assert float(text) == pytest.approx(value, rel=1e-8, abs=1e-12)


def test_dciodvfy_is_content(
    tmp_path: Path, make_stack: Callable[..., Geometry], require_binary: Callable[[str], str]
) -> None:
    """No error and no warning from the validator of the IODs, oblique or not."""
    dciodvfy = require_binary("dciodvfy")
    turned = np.radians(10)
    plain = make_stack(slices=6)
    oblique = Geometry(
        plain.origins_lps_mm,
        np.array([1.0, 0, 0]),
        np.array([0, np.cos(turned), np.sin(turned)]),
        1 / 3,
        2 / 3,
        6,
        8,
        "1.2.3",
    )
    for name, geometry in (("plain", plain), ("oblique", oblique)):
        paths = write_ct_series(np.zeros(geometry.shape, np.int16), geometry, tmp_path / name, seed=name)
        said = subprocess.run([dciodvfy, paths[3]], capture_output=True, text=True, check=True)
        assert (said.stdout + said.stderr).splitlines() == ["CTImage"]


def test_an_mr_there_and_back(
    tmp_path: Path, make_stack: Callable[..., Geometry], require_binary: Callable[[str], str]
) -> None:
    """Signal, places and thickness; cut to 0...4095; the validator has nothing to say."""
    geometry = make_stack()
    array = np.random.default_rng(0).integers(0, 4096, geometry.shape, dtype=np.int16)
    array[0, 0, :2] = (-7, 5000)
    paths = write_mr_series(array, geometry, tmp_path, seed=7, slice_thickness_mm=1.5)
    volume = read_volume(open_series(paths).stacks[0])
    assert volume.modality == "MR"
    assert np.array_equal(volume.array, np.clip(array, 0, 4095))
    assert np.allclose(volume.geometry.affine, geometry.affine)
    assert dcmread(paths[0]).SliceThickness == 1.5
    dciodvfy = require_binary("dciodvfy")
    said = subprocess.run([dciodvfy, paths[3]], capture_output=True, text=True, check=True)
    assert (said.stdout + said.stderr).splitlines() == ["MRImage"]


def test_an_array_of_another_shape_is_refused(tmp_path: Path, make_stack: Callable[..., Geometry]) -> None:
    """Before a file is written."""
    geometry = make_stack()
    for write in (write_ct_series, write_mr_series):
        with pytest.raises(ValueError, match="geometry"):
            write(np.zeros((2, 3, 4), np.int16), geometry, tmp_path, seed=1)
    assert not any(tmp_path.iterdir())
