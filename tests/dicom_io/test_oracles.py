"""The same voxels at the same places as two readers of other houses give: dcm2niix and SimpleITK (GDCM).

Both are asked about every real regular series and every made one whose volumes are regular. They order axes and name
volumes as they like, so that a volume is looked for among theirs by its content, and every voxel is compared at its
place in the patient. Where one of them is wrong or cannot read a series, EXCUSED says so; that our reading is right
there is shown by the voxels that were written (tests/conformance).
"""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom import dcmread

from dicom_io.pixels import read_volume
from dicom_io.series.series import group_by_series, open_series
from dicom_io.series.stacks import Stack
from dicom_io.volume import Volume
from tests.conformance.cases import expectations
from tests.conformance.made_series import WRITERS

REAL = (
    "chaos_ct3/ct_dicom",
    "ircadb_case17/ct_dicom",
    "lits_volume0/ct_dicom",
    "hcc_tace_seg_007/ct_precontrast_10mm_dicom",
    "hcc_tace_seg_007/ct_two_phases_in_one_series_dicom",
    "dcm_qa_mr/philips_sagittal_mprage_170_dicom",
    "dcm_qa_mr/philips_magnitude_and_phase_two_echoes_one_series_dicom",
    "dcm_qa_mr/philips_enhanced_mr_multiframe_dicom",
    "dcm_qa_mr/philips_enhanced_mr_plus_raw_data_same_series_dicom",
)

EXPECTED, _ = expectations()
MADE = [
    name
    for name in WRITERS
    if name in EXPECTED
    and EXPECTED[name][0].reading == "ACCEPTED"
    and all(volume["regular"] for volume in EXPECTED[name][0].volumes)
]

PLACE_MM = 0.01


@dataclass(frozen=True, eq=False)
class Read:
    """What an oracle read: `array` and the (4, 4) matrix from its indices, in the order of its axes, to LPS mm."""

    array: NDArray[np.float64]
    affine: NDArray[np.float64]


EXCUSED = {
    "dcm2niix": {
        "It makes one volume of both breath-holds, and evens it": ("interleaved_breath_holds",),
        "It makes one volume of all slices, the one that was taken again too": ("a_slice_taken_again",),
        "It makes one volume of ranges apart, and evens it": ("hole_of_25_mm", "two_ranges", "two_ranges_one_short"),
        "It takes the two images of each place for two volumes, by halves of the numbers": (
            *("every_slice_twice", "every_slice_twice_in_two_syntaxes"),
        ),
        "It makes one volume of all slices, the one that came twice too": (
            *("a_slice_twice_nearby", "a_slice_twice_with_another_sign"),
        ),
        "It makes one volume of two coordinate systems": ("mixed_frames_of_reference",),
        "It makes one volume of phases that cover different positions": ("phases_of_different_coverage",),
        "It makes the screenshots the NIfTI and not the slices": ("secondary_captures_inside",),
        "Of two files with one UID it takes the other": ("duplicate_with_other_bytes",),
        "It takes the distance of the first two slices for all, and is 0.06 mm off at the end": (
            "positions_of_two_decimals",
        ),
        "One rescale for the whole volume (PS3.3 section C.7.6.16.2.9 and C.11.1 have one each)": (
            *("slope_per_slice", "enhanced_ct", "enhanced_ct_in_rle", "enhanced_ct_in_two_files"),
            *("legacy_converted_ct", "enhanced_mr_over_time", "enhanced_all_per_frame", "enhanced_two_stacks"),
            *("raw_data_beside_enhanced_mr", "enhanced_ct_twice_in_two_syntaxes"),
        ),
        "It believes the header": (
            *("explicit_under_implicit", "big_endian_under_little", "little_endian_under_big"),
            *("explicit_under_deflated", "compressed_under_native", "another_compression"),
        ),
        "It cannot inflate": (
            *("deflated", "two_phases_by_time_deflated", "deflated_under_explicit", "deflated_with_a_zlib_header"),
        ),
        "It takes 8 bits for unsigned whatever PixelRepresentation says": ("eight_bits_signed",),
        "It takes no notice of HighBit": ("twelve_bits_at_the_top",),
        "It has no notion of padding, which is air to us": ("padding_like_water", "padding_range"),
    },
    "SimpleITK": {
        "GDCM takes the frames of an Enhanced image in the order of the file, for one stack and with one rescale": (
            *("dcm_qa_mr/philips_enhanced_mr_multiframe_dicom", "enhanced_ct", "enhanced_ct_in_rle"),
            *("enhanced_ct_in_two_files", "legacy_converted_ct", "enhanced_mr_over_time", "enhanced_all_per_frame"),
            *("enhanced_two_stacks", "raw_data_beside_enhanced_mr", "enhanced_ct_twice_in_two_syntaxes"),
        ),
        "GDCM believes the header": (
            *("explicit_under_implicit", "big_endian_under_little", "deflated_under_explicit"),
            *("explicit_under_deflated", "compressed_under_native", "another_compression"),
        ),
        "GDCM inflates nothing that zlib wrapped": ("deflated_with_a_zlib_header",),
        "GDCM reads no native pixels without a length": ("native_of_undefined_length",),
        "GDCM reads no file with bytes after its pixels": ("bytes_after_the_pixels", "bytes_after_compressed_pixels"),
        "It cuts the slices of a series to the number type of the first": ("slope_per_slice",),
        "It inverts MONOCHROME1, which is a matter of display (PS3.3 section C.7.6.3.1.2)": ("monochrome1",),
        "GDCM takes no notice of a HighBit beyond BitsStored - 1": ("twelve_bits_at_the_top",),
        "It has no notion of padding, which is air to us": ("padding_like_water", "padding_range"),
    },
}
"""What an oracle reads wrong or not at all, by the reason."""


@pytest.fixture(scope="session")
def files_of(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[[str], Sequence[Path]]:
    """The files of a real or made series."""
    root = tmp_path_factory.mktemp("oracles")

    @cache
    def files(name: str) -> Sequence[Path]:
        if name not in WRITERS:
            return tuple(request.getfixturevalue("unpacked")(name))
        WRITERS[name](root / name)
        return tuple(sorted((root / name).iterdir()))

    return files


@pytest.fixture(scope="session")
def stacks_of(files_of: Callable[[str], Sequence[Path]]) -> Callable[[str], list[tuple[Stack, Volume]]]:
    """The volumes of a series as we read them."""

    @cache
    def stacks(name: str) -> list[tuple[Stack, Volume]]:
        (members,) = group_by_series(files_of(name))[0].values()
        return [(stack, read_volume(stack)) for stack in open_series([file.path for file in members]).stacks]

    return stacks


def _cases(oracle: str) -> list[str]:
    excused = {name for names in EXCUSED[oracle].values() for name in names}
    return [name for name in (*REAL, *MADE) if name not in excused]


def test_no_excuse_is_for_a_case_that_is_gone() -> None:
    names = {name for reasons in EXCUSED.values() for names in reasons.values() for name in names}
    assert names <= {*REAL, *MADE}


@pytest.mark.parametrize("name", _cases("dcm2niix"))
def test_dcm2niix_reads_the_same(
    name: str,
    files_of: Callable[[str], Sequence[Path]],
    stacks_of: Callable[[str], list[tuple[Stack, Volume]]],
    require_binary: Callable[[str], str],
    tmp_path: Path,
) -> None:
    """-p n: values as rescaled, not Philips' "precise" ones.

    It tells volumes apart by the order of InstanceNumber, which means nothing in the made series: where they hold
    several volumes, it gets them numbered one after the other.
    """
    source = tmp_path / "in"
    source.mkdir()
    if name in WRITERS and len(stacks_of(name)) > 1:
        _number([item.path for stack, _ in stacks_of(name) for item in stack.slices], source)
    else:
        for number, path in enumerate(files_of(name)):
            (source / f"{number:06d}").symlink_to(path)
    out = tmp_path / "out"
    out.mkdir()
    command = [require_binary("dcm2niix"), "-p", "n", "-b", "n", "-z", "n", "-o", str(out), str(source)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    theirs = [read for path in sorted(out.glob("*.nii")) for read in _from_nifti(path)]
    assert theirs, done.stdout + done.stderr
    for _, volume in stacks_of(name):
        _assert_one_agrees(volume, theirs)


@pytest.mark.parametrize("name", _cases("SimpleITK"))
def test_simpleitk_reads_the_same(name: str, stacks_of: Callable[[str], list[tuple[Stack, Volume]]]) -> None:
    """It is told the files of each volume; where they lie it finds for itself."""
    for stack, volume in stacks_of(name):
        paths = list(dict.fromkeys(str(item.path) for item in stack.slices))
        image = sitk.ReadImage(paths if len(paths) > 1 else paths[0])
        matrix = np.eye(4)
        direction = np.array(image.GetDirection()).reshape(3, 3)
        matrix[:3, :3] = direction * np.array(image.GetSpacing())
        matrix[:3, 3] = image.GetOrigin()
        array = sitk.GetArrayFromImage(image).astype(np.float64).transpose(2, 1, 0)
        _assert_one_agrees(volume, [Read(array, matrix)])


def _number(paths: Sequence[Path], folder: Path) -> None:
    """Copies with InstanceNumber as the files come."""
    for number, path in enumerate(paths, start=1):
        ds = dcmread(path)
        ds.InstanceNumber = number
        ds.save_as(folder / f"{number:06d}")


def _from_nifti(path: Path) -> Iterator[Read]:
    """The volumes of a NIfTI file; it counts its millimetres to the right and to the front (RAS)."""
    image = nibabel.load(path)
    to_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    array = np.asarray(image.dataobj, dtype=np.float64)
    for volume in np.moveaxis(array, 3, 0) if array.ndim == 4 else [array]:
        yield Read(volume, to_lps)


def _assert_one_agrees(volume: Volume, theirs: Sequence[Read]) -> None:
    faults = [_fault(volume, read) for read in theirs]
    assert faults.count("") == 1, faults


def _fault(volume: Volume, read: Read) -> str:
    """What is not the same, "" if all is."""
    step = np.linalg.solve(read.affine, volume.geometry.affine)
    axes = np.rint(step[:3, :3]).astype(int)
    if not (np.abs(axes).sum(axis=0) == 1).all() or not (np.abs(axes).sum(axis=1) == 1).all():
        return f"another grid: {step.round(3).tolist()}"
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in volume.array.shape])).reshape(3, -1).T
    ours = volume.geometry.index_to_lps(corners)
    indices = np.rint(np.linalg.solve(read.affine, np.c_[ours, np.ones(len(ours))].T)[:3]).astype(int)
    places = (read.affine @ np.r_[indices, np.ones((1, len(ours)))])[:3].T
    if (error := np.abs(places - ours).max()) > PLACE_MM:
        return f"{error:.3f} mm apart"
    order = np.abs(axes).argmax(axis=0)  # their axis along each of ours
    array = read.array.transpose(order)
    backwards = [slice(None, None, -1) if axes[axis, own] < 0 else slice(None) for own, axis in enumerate(order)]
    array = array[tuple(backwards)]
    if array.shape != volume.array.shape:
        return f"{array.shape} voxels, not {volume.array.shape}"
    difference = np.abs(array - volume.array)
    tolerance = 1e-5 * np.abs(volume.array).max() if volume.array.dtype == np.float32 else 0
    return "" if difference.max() <= tolerance else f"values differ by up to {difference.max():g}"
