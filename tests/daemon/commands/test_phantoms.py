"""`porta phantom`: what it writes is read back by others, and what it cannot write is said in one line."""

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from daemon.commands.cli import main
from daemon.commands.phantoms import (
    PhantomFormat,
    PhantomOrder,
    contrast_of,
    lesion_volumes_ml,
    liver_volume_ml,
    write_phantom,
    write_phantoms,
)
from daemon.errors import BadRequest
from dicom_io.errors import NotDicom
from dicom_io.nifti import read_labels, read_nifti
from dicom_io.pixels import read_volume
from dicom_io.series.series import open_series
from models.datasets.discovery import find_cases
from models.datasets.phantoms import PhantomSource
from models.phantom import Phase, Weighting

SMALL = PhantomOrder(shape=(24, 72, 80), spacing_mm=(6.0, 5.0, 5.0), lesions=2, lesion_axes_mm=(12.0, 16.0))


def test_a_series_with_its_truth(tmp_path: Path) -> None:
    """Every slice is there, on the same grid as its labels; the figures say what the labels show."""
    written = write_phantom(tmp_path / "out", SMALL, seed=1_000_021)
    volume = read_volume(open_series(sorted((tmp_path / "out" / "dicom").iterdir())).stacks[0])
    np.testing.assert_array_equal(volume.array, written.phantom.volume.array)
    labels = read_labels(tmp_path / "out" / "labels.nii.gz", volume.geometry)
    np.testing.assert_array_equal(labels, written.phantom.truth)
    instances = read_labels(tmp_path / "out" / "tumour_instances.nii.gz", volume.geometry)
    np.testing.assert_array_equal(instances > 0, labels == 2)
    truth = json.loads((tmp_path / "out" / "truth.json").read_text())
    assert truth["seed"] == 1_000_021
    assert truth["liver_volume_ml"] == pytest.approx(np.count_nonzero(labels) * 0.15)
    assert [lesion["volume_ml"] for lesion in truth["lesions"]] == pytest.approx(lesion_volumes_ml(written.phantom))
    assert truth["lesion_volume_ml"] == pytest.approx(np.count_nonzero(labels == 2) * 0.15)
    assert liver_volume_ml(written.phantom) == pytest.approx(truth["liver_volume_ml"])


def test_simpleitk_reads_the_series_on_the_grid_of_its_labels(tmp_path: Path) -> None:
    """An independent reader sees the same HU, and places labels and image alike."""
    written = write_phantom(tmp_path, SMALL, seed=1_000_022)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "dicom"))
    image, labels = sitk.ReadImage(names), sitk.ReadImage(str(tmp_path / "labels.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), written.phantom.volume.array)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(labels), written.phantom.truth)
    for one, two in ((image.GetOrigin(), labels.GetOrigin()), (image.GetSpacing(), labels.GetSpacing())):
        np.testing.assert_allclose(one, two, atol=1e-4)


@pytest.mark.parametrize(("contrast", "said"), [(Phase.ARTERIAL, "CTImage"), (Weighting.T2, "MRImage")])
def test_series_are_valid(
    tmp_path: Path, require_binary: Callable[[str], str], contrast: Phase | Weighting, said: str
) -> None:
    """dciodvfy names the IOD and has nothing to add."""
    order = PhantomOrder(shape=(5, 64, 64), spacing_mm=(6.0, 6.0, 6.0), contrast=contrast, thickness_mm=4.0)
    written = write_phantom(tmp_path, order, seed=1_000_023)
    done = subprocess.run([require_binary("dciodvfy"), written.paths[2]], capture_output=True, text=True, check=True)
    assert (done.stdout + done.stderr).splitlines() == [said]


def test_pairs_are_laid_out_as_lits(tmp_path: Path) -> None:
    """Volume and segmentation of each seed, on one grid, labels 0, 1 and 2; readers know whom they show."""
    lesions = write_phantoms(tmp_path, SMALL, seed=1_000_030, count=2, how=PhantomFormat.NIFTI)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "dataset.json",
        "segmentation-1000030.nii.gz",
        "segmentation-1000031.nii.gz",
        "volume-1000030.nii.gz",
        "volume-1000031.nii.gz",
    ]
    volume = read_nifti(tmp_path / "volume-1000031.nii.gz")
    labels = read_labels(tmp_path / "segmentation-1000031.nii.gz", volume.geometry)
    assert set(np.unique(labels)) == {0, 1, 2}
    assert lesions == 4
    assert volume.array.dtype == np.int16
    assert 40 < np.median(volume.array[labels == 1]) < 160
    sources = find_cases(tmp_path).sources
    assert [source.patient for source in sources] == [PhantomSource(seed).patient for seed in (1_000_030, 1_000_031)]
    assert {(source.collection, source.modality) for source in sources} == {("phantoms", "CT")}


def test_pairs_of_mr_are_read_as_mr(tmp_path: Path) -> None:
    """NIfTI does not say it."""
    write_phantoms(tmp_path, replace(SMALL, contrast=Weighting.T1), seed=7, count=1, how=PhantomFormat.NIFTI)
    (source,) = find_cases(tmp_path).sources
    assert source.read().volume.modality == "MR"


def test_series_are_different_where_anything_is(tmp_path: Path) -> None:
    """Each field of an order is in the UIDs."""
    uids = set()
    for number, order in enumerate((SMALL, replace(SMALL, lesion_variety=0.0), replace(SMALL, lesion_kinds=()))):
        written = write_phantom(tmp_path / str(number), replace(order, lesions=0), seed=7)
        uids.add(open_series(written.paths).series_instance_uid)
    assert len(uids) == 3


def test_several_series_lie_in_folders_of_their_own(tmp_path: Path) -> None:
    """Named after their seeds, of different patients."""
    write_phantoms(tmp_path, SMALL, seed=1_000_030, count=2, how=PhantomFormat.DICOM)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["phantom-1000030", "phantom-1000031"]
    folders = sorted(tmp_path.iterdir())
    one, two = (open_series(sorted((folder / "dicom").iterdir())) for folder in folders)
    assert one.series_instance_uid != two.series_instance_uid
    sources = find_cases(tmp_path).sources
    assert [source.name for source in sources] == ["phantom-1000030", "phantom-1000031"]
    assert [source.patient for source in sources] == [PhantomSource(seed).patient for seed in (1_000_030, 1_000_031)]
    assert {source.collection for source in sources} == {"phantoms"}


def test_used_folders_are_left_alone(tmp_path: Path) -> None:
    """Neither in a folder with files nor in place of a file is anything written."""
    (tmp_path / "thesis.txt").write_text("precious")
    for place in (tmp_path, tmp_path / "thesis.txt"):
        for how in PhantomFormat:
            with pytest.raises(NotDicom, match="not an empty folder"):
                write_phantoms(place, SMALL, seed=1, count=1, how=how)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_contrast_fits_the_modality() -> None:
    """A CT has a phase, an MR a weighting; small letters are good enough."""
    assert contrast_of("CT", None, None) is Phase.PORTAL
    assert contrast_of("ct", "Native", None) is Phase.NATIVE
    assert contrast_of("MR", None, "t2") is Weighting.T2
    for given, fault in (
        (("CT", None, "T1"), "--weighting is for --modality MR"),
        (("MR", "portal", None), "--phase is for --modality CT"),
        (("PT", None, None), "--modality must be one of CT, MR"),
    ):
        with pytest.raises(BadRequest, match=re.escape(fault)):
            contrast_of(*given)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (("--slices", "2"), "--slices must be from 5 to 2000"),
        (("--rows", "4000"), "--rows must be from 64 to 1024"),
        (("--columns", "0"), "--columns must be from 64 to 1024"),
        (("--slices", "2000", "--rows", "1024", "--columns", "1024"), "too large a volume"),
        (("--spacing", "2", "0", "1"), "--spacing must be from 0.1 to 20 mm"),
        (("--spacing", "2", "nan", "1"), "--spacing must be from 0.1 to 20 mm"),
        (("--lesions", "-1"), "--lesions must be from 0 to 100"),
        (("--lesion-size", "50", "8"), "--lesion-size must be two numbers"),
        (("--noise", "-1"), "--noise must be from 0 to 200"),
        (("--thickness", "0"), "--thickness must be from 0.1 to 20 mm"),
        (("--count", "0"), "--count must be from 1 to 10000"),
        (("--seed", "-1"), "--seed must be from 0 to"),
        (("--format", "png"), "--format must be one of dicom, nifti"),
        (("--phase", "late"), "--phase must be one of native, arterial, portal, delayed"),
        (("--kernel", "round"), "--kernel must be one of soft, standard, sharp"),
        (("--lesion-place", "lung"), "--lesion-place must be one of apart, capsule, merged"),
    ],
)
def test_bad_values_are_named_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    fault: str,
) -> None:
    """Exit code 2, the option and its range, and nothing is written."""
    monkeypatch.setattr("sys.argv", ["porta", "phantom", str(tmp_path / "out"), *options])
    with pytest.raises(SystemExit) as end:
        main()
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 2
    assert line.startswith("porta: ")
    assert fault in line
    assert not (tmp_path / "out").exists()


def test_the_command_writes_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the command line to the files."""
    size = ("--slices", "6", "--rows", "64", "--columns", "64", "--spacing", "12", "6", "6", "--lesions", "0")
    monkeypatch.setattr("sys.argv", ["porta", "phantom", str(tmp_path / "out"), "--format", "nifti", *size])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert capsys.readouterr().out == f"1 phantom of 6 slices with 0 lesions in {tmp_path / 'out'}\n"
    assert len(list((tmp_path / "out").iterdir())) == 3
