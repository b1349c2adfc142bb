"""NIfTI in every orientation, and the truth masks on the series they belong to."""

import struct
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from dicom_io.errors import NotNifti
from dicom_io.geometry import Geometry
from dicom_io.nifti import (
    has_affine,
    read_labels,
    read_labels_like,
    read_nifti,
    write_fractions,
    write_image,
    write_labels,
)
from dicom_io.pixels import read_volume
from dicom_io.series.series import open_series


def save(path: Path, array: np.ndarray, affine: np.ndarray, sform: int = 1, qform: int = 0) -> Path:
    image = nib.Nifti1Image(array, np.eye(4))
    image.set_sform(affine, sform)
    image.set_qform(affine if qform else None, qform)
    nib.save(image, path)
    return path


def ras_of(geometry: Geometry, index: tuple[float, float, float]) -> np.ndarray:
    return geometry.index_to_lps(index) * [-1, -1, 1]


@pytest.mark.parametrize("axes", list(permutations(range(3))))
@pytest.mark.parametrize("signs", list(product([1, -1], repeat=3)))
def test_every_orientation(tmp_path: Path, axes: tuple[int, int, int], signs: tuple[int, int, int]) -> None:
    """All 48 ways to lay out an array: each voxel keeps its place in the patient."""
    array = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[world, axis] = sign * (0.5, 1.25, 3.0)[axis]
    affine[:3, 3] = (-30, 40, 7)
    volume = read_nifti(save(tmp_path / "image.nii.gz", array, affine))
    assert volume.array.dtype == np.int16
    for index in ((0, 0, 0), (3, 4, 5), (1, 2, 3)):
        place = affine[:3, :3] @ index + affine[:3, 3]
        ours = volume.geometry.lps_to_index(place * [-1, -1, 1])
        assert np.allclose(ours, np.rint(ours))
        assert volume.array[tuple(np.rint(ours).astype(int))] == array[index]
    assert abs(volume.geometry.normal[2]) == pytest.approx(1)


def test_oblique(tmp_path: Path) -> None:
    """A turned head stays a regular stack, and SimpleITK agrees about every corner."""
    a, b = np.radians(20), np.radians(-35)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.7, 0.8, 2.5])
    array = np.random.default_rng(0).normal(size=(7, 6, 5)).astype(np.float32)
    path = save(tmp_path / "oblique.nii", array, affine, sform=0, qform=1)
    volume = read_nifti(path)
    assert volume.array.dtype == np.float32
    image = sitk.ReadImage(str(path))
    for index in product((0, 6), (0, 5), (0, 4)):
        ours = volume.geometry.lps_to_index(image.TransformIndexToPhysicalPoint(index))
        assert np.allclose(ours, np.rint(ours), atol=1e-4)
        assert volume.array[tuple(np.rint(ours).astype(int))] == array[index]


def test_scaled_integers(tmp_path: Path) -> None:
    """scl_slope and scl_inter are applied; whole values come as int16."""
    path = save(tmp_path / "scaled.nii", np.full((3, 4, 5), 10, np.int16), np.eye(4))
    data = bytearray(path.read_bytes())
    data[112:120] = struct.pack("<2f", 2, -1024)
    path.write_bytes(data)
    array = read_nifti(path).array
    assert (array.dtype, array.min(), array.max()) == (np.int16, -1004, -1004)


def sheared() -> np.ndarray:
    affine = np.eye(4)
    affine[0, 1] = 0.2
    return affine


@pytest.mark.parametrize(
    ("array", "affine", "why"),
    [
        (np.zeros((3, 4, 5), np.int16), sheared(), "sheared"),
        (np.zeros((3, 4, 5, 2), np.int16), np.eye(4), "not a 3-D image, its shape is 3 x 4 x 5 x 2"),
        (np.zeros((3, 4, 5, 1, 2), np.int16), np.eye(4), "3-D"),
        (np.zeros((3, 4), np.int16), np.eye(4), "3-D"),
        (np.full((3, 4, 5), np.nan, np.float32), np.eye(4), "finite"),
        (np.zeros((3, 4, 5), np.complex64), np.eye(4), "plain numbers"),
        (np.zeros((3, 4, 5), np.int16), np.diag([1.0, 1, 0, 1]), "no volume"),
    ],
)
def test_refused(tmp_path: Path, array: np.ndarray, affine: np.ndarray, why: str) -> None:
    """One sentence that names the file."""
    path = save(tmp_path / "bad.nii.gz", array, affine)
    with pytest.raises(NotNifti, match=why) as caught:
        read_nifti(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_no_orientation(tmp_path: Path) -> None:
    """Without sform and qform nobody knows which side the liver is on."""
    with pytest.raises(NotNifti, match="left and right"):
        read_nifti(save(tmp_path / "image.nii", np.zeros((3, 4, 5), np.int16), np.eye(4), sform=0))


@pytest.mark.parametrize("content", [b"", b"hello", b"\x1f\x8b\x08 no gzip", bytes(400)])
@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "x.txt"])
def test_no_nifti(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(NotNifti):
        read_nifti(tmp_path / name)


@pytest.mark.parametrize("name", ["cut.nii", "cut.nii.gz"])
def test_cut_off(tmp_path: Path, name: str) -> None:
    array = np.random.default_rng(0).integers(0, 1000, (20, 20, 20), dtype=np.int16)
    path = save(tmp_path / name, array, np.eye(4))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(NotNifti):
        read_nifti(path)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(NotNifti):
        read_nifti(tmp_path / "missing.nii")


def test_labels_there_and_back(tmp_path: Path, make_stack: Callable[..., Geometry]) -> None:
    """What is written lies where it was, for our reader and for SimpleITK."""
    geometry = make_stack()
    labels = np.zeros(geometry.shape, np.uint8)
    labels[2, 3, 4], labels[11, 5, 7] = 1, 2
    path = tmp_path / "labels.nii.gz"
    write_labels(labels, geometry, path)
    assert np.array_equal(read_labels(path, geometry), labels)
    image = sitk.ReadImage(str(path))
    assert image.GetPixelID() == sitk.sitkUInt8
    for index in ((2, 3, 4), (11, 5, 7)):
        assert image[image.TransformPhysicalPointToIndex(geometry.index_to_lps(index))] == labels[index]
    written = nib.load(path)
    assert (int(written.header["sform_code"]), int(written.header["qform_code"])) == (1, 1)
    assert np.allclose(written.get_qform(), written.get_sform(), atol=1e-5)
    assert np.allclose(written.affine[:3, 3], ras_of(geometry, (0, 0, 0)))


def test_labels_on_the_wrong_grid(tmp_path: Path, make_stack: Callable[..., Geometry]) -> None:
    """A mask of another series is never laid over this one, even of the same shape."""
    geometry = make_stack()
    path = tmp_path / "labels.nii.gz"
    write_labels(np.zeros(geometry.shape, np.uint8), geometry, path)
    for other in (make_stack(step_mm=5.1), make_stack(slices=11), make_stack(row_spacing_mm=0.8)):
        with pytest.raises(NotNifti, match="grid"):
            read_labels(path, other)


def test_labels_that_are_none(tmp_path: Path) -> None:
    path = save(tmp_path / "image.nii", np.full((3, 4, 5), 300, np.int16), np.eye(4))
    with pytest.raises(NotNifti, match="no labels"):
        read_labels(path, read_nifti(path).geometry)


def test_one_time_point_is_a_volume(tmp_path: Path) -> None:
    """Tools write (x, y, z, 1), and labels so too."""
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    flat = read_nifti(save(tmp_path / "flat.nii", array, np.eye(4)))
    for shape in ((3, 4, 5, 1), (3, 4, 5, 1, 1)):
        path = save(tmp_path / "deep.nii.gz", array.reshape(shape), np.eye(4))
        deep = read_nifti(path)
        assert np.array_equal(deep.array, flat.array)
        assert np.array_equal(deep.geometry.origins_lps_mm, flat.geometry.origins_lps_mm)
        assert np.array_equal(read_labels(path, flat.geometry), flat.array)


def oblique_stack(drift_mm: tuple[float, float]) -> Geometry:
    """Turned about two axes, feet first; first pixels drift by (row, column) mm from slice to slice."""
    a, b = np.radians(25), np.radians(-12)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    )
    row, column = turn[:, 0], -turn[:, 1]
    step = 4.0 * np.cross(row, column) + drift_mm[0] * column + drift_mm[1] * row
    origins = np.array([-20.5, 10.25, 100.0]) + np.arange(12)[:, None] * step
    return Geometry(origins, row, column, 0.75, 0.5, 6, 8, "1.2.3")


@pytest.mark.parametrize("drift_mm", [(1.3, 0.0), (0.0, -0.8), (-2.0, 1.0)])
def test_labels_of_a_tilted_stack(tmp_path: Path, drift_mm: tuple[float, float]) -> None:
    """A sheared sform and no qform: nibabel places every voxel where the Geometry has it, 7.5 mm drift and more."""
    geometry = oblique_stack(drift_mm)
    assert geometry.is_tilted
    assert not geometry.is_regular
    labels = np.random.default_rng(0).integers(0, 3, geometry.shape).astype(np.uint8)
    write_labels(labels, geometry, tmp_path / "labels.nii.gz")
    written = nib.load(tmp_path / "labels.nii.gz")
    assert (int(written.header["sform_code"]), int(written.header["qform_code"])) == (1, 0)
    places = np.array(list(np.ndindex(*geometry.shape)))
    ras = nib.affines.apply_affine(written.affine, places[:, ::-1])
    assert np.abs(ras - geometry.index_to_lps(places) * [-1, -1, 1]).max() < 1e-4
    assert np.array_equal(np.asarray(written.dataobj).transpose(2, 1, 0), labels)
    with pytest.raises(NotNifti, match="sheared"):
        read_nifti(tmp_path / "labels.nii.gz")


def test_write_refuses_what_has_no_affine(tmp_path: Path) -> None:
    """Uneven gaps, or a table that was moved once in an even stack; a geometry that the labels do not fill."""
    even = oblique_stack((0.0, 0.0))
    wider, moved = np.zeros((12, 1)), np.zeros((12, 1))
    wider[7:], moved[7:] = 3.0, 5.0
    uneven = replace(even, origins_lps_mm=even.origins_lps_mm + wider * even.normal)
    shifted = replace(even, origins_lps_mm=even.origins_lps_mm + moved * even.row_cosines)
    assert shifted.is_even
    for geometry in (uneven, shifted):
        assert not has_affine(geometry)
        with pytest.raises(ValueError, match="no affine"):
            write_labels(np.zeros(geometry.shape, np.uint8), geometry, tmp_path / "x.nii.gz")
    assert has_affine(even)
    with pytest.raises(ValueError, match="labels are"):
        write_labels(np.zeros((1, 2, 3), np.uint8), even, tmp_path / "x.nii.gz")
    assert not (tmp_path / "x.nii.gz").exists()


@pytest.mark.parametrize(
    ("folder", "file", "liver", "tumour", "mean_hu"),
    [
        ("ircadb_case17", "labels.nii.gz", 2_106_497, 185_990, 99.4),
        ("chaos_ct3", "liver_label.nii.gz", 1_342_595, 0, 141.0),
        ("lits_volume0", "liver_label.nii.gz", 552_627, 0, 120.6),
    ],
)
def test_truth_lies_on_the_liver(
    shared_data: Path,
    unpacked: Callable[[str], list[Path]],
    folder: str,
    file: str,
    liver: int,
    tumour: int,
    mean_hu: float,
) -> None:
    """The masks' affines may be trusted: read by them, the voxels are as many as MANIFEST.md says and as bright as an
    enhanced liver; upside down they are not. (LiTS 0's series and mask count their slices in opposite directions.)"""
    volume = read_volume(open_series(unpacked(f"{folder}/ct_dicom")).stacks[0])
    labels = read_labels(shared_data / folder / file, volume.geometry)
    assert (np.count_nonzero(labels), np.count_nonzero(labels == 2)) == (liver, tumour)
    inside = volume.array[labels > 0]
    assert inside.mean() == pytest.approx(mean_hu, abs=0.1)
    assert inside.std() < 40
    assert volume.array[labels[::-1] > 0].std() > 100


def test_labels_of_another_reader(shared_data: Path) -> None:
    """TotalSegmentator's example: image and segmentation share a grid (R, A, S)."""
    folder = shared_data / "totalsegmentator_example"
    volume = read_nifti(folder / "example_ct_sm.nii.gz")
    assert np.count_nonzero(read_labels(folder / "example_seg.nii.gz", volume.geometry) == 5) == 38_634


@pytest.mark.parametrize("name", ["example_ct_sm.nii.gz", "example_ct.nii.gz", "example_mr_sm.nii.gz"])
def test_real_images_lie_where_simpleitk_has_them(shared_data: Path, name: str) -> None:
    """Every corner, and the values at random voxels."""
    path = shared_data / "totalsegmentator_example" / name
    volume, image = read_nifti(path), sitk.ReadImage(str(path))
    rng = np.random.default_rng(0)
    corners = [
        tuple(end * (n - 1) for end, n in zip(ends, image.GetSize(), strict=True)) for ends in product((0, 1), repeat=3)
    ]
    inside = [tuple(int(rng.integers(n)) for n in image.GetSize()) for _ in range(200)]
    for index in corners + inside:
        ours = volume.geometry.lps_to_index(image.TransformIndexToPhysicalPoint(index))
        assert np.allclose(ours, np.rint(ours), atol=1e-3)
        assert volume.array[tuple(np.rint(ours).astype(int))] == pytest.approx(image[index], abs=1e-3)


@pytest.mark.parametrize("signs", list(product([1, -1], repeat=3)))
def test_labels_in_the_order_of_another_file(tmp_path: Path, signs: tuple[int, int, int]) -> None:
    """Whatever their own affine says: each label keeps the voxel of the image that it was drawn on."""
    array = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    affine = np.diag([1.0, 1.0, 2.0, 1.0]) @ np.diag([*signs, 1.0])[:, [1, 2, 0, 3]]
    image = save(tmp_path / "image.nii", array, affine)
    labels = save(tmp_path / "labels.nii", (array % 3).astype(np.uint8), np.eye(4), sform=0)
    read = read_labels_like(labels, image)
    np.testing.assert_array_equal(read, read_nifti(image).array % 3)


def test_labels_of_another_shape_have_no_order(tmp_path: Path) -> None:
    image = save(tmp_path / "image.nii", np.zeros((4, 5, 6), np.int16), np.eye(4))
    labels = save(tmp_path / "labels.nii", np.zeros((4, 5, 5), np.uint8), np.eye(4))
    with pytest.raises(NotNifti, match="labels.nii: is 4 x 5 x 5 voxels, its image 4 x 5 x 6"):
        read_labels_like(labels, image)


def test_an_image_is_read_back_where_it_lies(tmp_path: Path, make_stack: Callable[..., Geometry]) -> None:
    """By us and by SimpleITK; an image of another shape is refused."""
    geometry = make_stack()
    array = np.random.default_rng(0).integers(-1024, 3072, geometry.shape, dtype=np.int16)
    write_image(array, geometry, tmp_path / "image.nii.gz")
    volume = read_nifti(tmp_path / "image.nii.gz")
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.geometry.affine, geometry.affine, atol=1e-4)
    image = sitk.ReadImage(str(tmp_path / "image.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), array)
    np.testing.assert_allclose(image.GetOrigin(), geometry.origins_lps_mm[0], atol=1e-3)
    with pytest.raises(ValueError, match="geometry"):
        write_image(array[1:], geometry, tmp_path / "other.nii.gz")


def test_fractions_come_back_where_they_lie(tmp_path: Path) -> None:
    """0 to 1 within 1/65535, the slices beyond them 0, read by SimpleITK too; what reaches beyond is refused."""
    geometry = Geometry(
        np.c_[np.zeros(6), np.zeros(6), 3.0 * np.arange(6)],
        np.array([1.0, 0, 0]),
        np.array([0, 1.0, 0]),
        2.0,
        1.5,
        5,
        4,
        "1",
    )
    values = np.random.default_rng(1).random((2, 5, 4)).astype(np.float32)
    write_fractions(values, 3, geometry, tmp_path / "map.nii.gz")
    read = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "map.nii.gz")))
    np.testing.assert_allclose(read[3:5], values, atol=1e-5)
    assert not read[:3].any() and not read[5:].any()
    np.testing.assert_allclose(nib.load(tmp_path / "map.nii.gz").get_fdata().T, read, atol=1e-5)
    with pytest.raises(ValueError, match="from slice 5"):
        write_fractions(values, 5, geometry, tmp_path / "map.nii.gz")
