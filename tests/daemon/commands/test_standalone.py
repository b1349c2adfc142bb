"""`porta segment` on real files, with a network that is none: what it writes, where, and what it says."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import Dataset, dcmread
from pydicom.uid import JPEG2000Lossless, MRImageStorage

from daemon.commands import standalone
from daemon.commands.cli import main
from daemon.commands.standalone import segment_input
from dicom_io.errors import RejectReason, SeriesRejected
from dicom_io.files.image_writer import write_ct_series
from dicom_io.geometry import Geometry
from dicom_io.nifti import read_labels, read_nifti
from dicom_io.pixels import read_volume
from dicom_io.seg_reader import read_seg
from dicom_io.segmentation import Algorithm, Segmentation
from dicom_io.series.series import open_series
from dicom_io.volume import Volume

LIVER_HU = 100


@pytest.fixture(autouse=True)
def thresholds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network's place is taken: what is brighter than 50 is liver."""

    class Network:
        device = "cpu"

    def segment(model: Network, volume: Volume, progress: object) -> Segmentation:
        labels = (volume.array > LIVER_HU / 2).astype(np.uint8)
        return Segmentation(labels, volume.geometry, Algorithm("threshold", "1", "0" * 64), warnings=volume.warnings)

    monkeypatch.setattr(standalone, "model_on", lambda name, engine: Network())
    monkeypatch.setattr(standalone, "segment", segment)


def stack(z: np.ndarray | None = None, tilt: float = 0.0) -> Geometry:
    z = 5.0 * np.arange(14) if z is None else z
    origins = np.c_[np.zeros(len(z)), tilt * z, z]
    return Geometry(origins, np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), 1.0, 1.5, 24, 20, "1.2.3")


def write(
    folder: Path, seed: str = "a", geometry: Geometry | None = None, change: Callable[[Dataset], None] | None = None
) -> list[Path]:
    geometry = geometry or stack()
    array = np.full(geometry.shape, -500)
    array[4:9, 6:18, 5:15] = LIVER_HU
    paths = write_ct_series(array, geometry, folder, seed=seed)
    for path in paths if change else ():
        ds = dcmread(path)
        change(ds)  # type: ignore[misc]
        ds.save_as(path)
    return paths


def run(source: Path, out: Path, prefer: str = "portal", modality: str | None = None) -> None:
    segment_input(source, out, model="resnet50", device="cpu", threads=1, prefer=prefer, modality=modality)


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def remarks(err: str) -> list[str]:
    """What is said beside the phase of each series."""
    return [line for line in err.splitlines() if "Contrast phase: " not in line]


ALL = {"seg.dcm", "sr.dcm", "labels.nii.gz", "findings.json", "overlay-001.png"}


def to_mr(ds: Dataset) -> None:
    ds.Modality, ds.SOPClassUID = "MR", MRImageStorage


def volume_of_one_series(number: int, description: str = "Liver") -> Callable[[Dataset], None]:
    def change(ds: Dataset) -> None:
        ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.AcquisitionNumber = "1.2.4", "1.2.5", number
        ds.SeriesDescription = description

    return change


def spoil(ds: Dataset) -> None:
    ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
    ds.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0\x04\0\0\0none\xfe\xff\xdd\xe0\0\0\0\0"
    ds["PixelData"].is_undefined_length = True


def test_one_series(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """All that DESIGN.md section 7 lists, and a line on stdout."""
    write(tmp_path / "in")
    run(tmp_path / "in", tmp_path / "out")
    assert names(tmp_path / "out") == ALL
    said = capsys.readouterr()
    assert said.out == f"{tmp_path / 'out'}: liver 4 mL, 0 lesions\n"
    assert (remarks(said.err), len(said.err.splitlines())) == ([], 1)


def test_several_series(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Folders 2, 3; each with a line that says which series it is; a refused one has a line on stderr."""
    for seed in "abc":
        write(tmp_path / "in" / seed, seed)
    for path in write(tmp_path / "in" / "short", "short")[3:]:
        path.unlink()
    run(tmp_path / "in", tmp_path / "out")
    assert names(tmp_path / "out") == ALL | {f"{n}/{name}" for n in (2, 3) for name in ALL}
    said = capsys.readouterr()
    uids = sorted(str(dcmread(tmp_path / "in" / seed / "0001.dcm").SeriesInstanceUID) for seed in "abc")
    assert [line.strip() for line in said.out.splitlines()[1::2]] == [f"series {uid}" for uid in uids]
    (line,) = remarks(said.err)
    assert line.startswith("porta: series ")
    assert "TOO_FEW_SLICES" in line


def test_several_volumes_of_one_series(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """All of them where it is not certain which is meant, each named; with a preference that one alone."""
    for number, phase in ((1, "arterial phase"), (2, "portal phase")):
        write(tmp_path / "unsure" / str(number), str(number), change=volume_of_one_series(number))
        write(tmp_path / "sure" / str(number), str(number), change=volume_of_one_series(number, phase))
    run(tmp_path / "unsure", tmp_path / "both")
    assert names(tmp_path / "both") == ALL | {f"2/{name}" for name in ALL}
    said = capsys.readouterr()
    assert "2 of them were segmented each for itself" in said.err
    assert "  series 1.2.4, AcquisitionNumber 2" in said.out.splitlines()
    assert "AcquisitionNumber 2" in dcmread(tmp_path / "both" / "2" / "seg.dcm").SeriesDescription
    for prefer, number in (("portal", 2), ("arterial", 1)):
        run(tmp_path / "sure", tmp_path / prefer, prefer)
        assert names(tmp_path / prefer) == ALL
        assert f"AcquisitionNumber {number}" in dcmread(tmp_path / prefer / "seg.dcm").SeriesDescription


def test_of_two_ranges_the_one_with_the_liver_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """It lies in the folder itself, though the other range comes first; what was left out is said everywhere."""
    lower = stack(np.arange(11) * 5.0 - 150)
    write(tmp_path / "in" / "1", "1", geometry=lower, change=volume_of_one_series(1))
    for path in (tmp_path / "in" / "1").iterdir():
        ds = dcmread(path)
        ds.PixelData = np.full((24, 20), 40 - int(ds.RescaleIntercept), np.uint16).tobytes()
        ds.save_as(path)
    write(tmp_path / "in" / "2", "2", change=volume_of_one_series(2))
    run(tmp_path / "in", tmp_path / "out")
    assert names(tmp_path / "out") == ALL
    assert len(read_seg(tmp_path / "out" / "seg.dcm")) == 1
    said = "There is no liver in range 1 of 2 (11 slices, 55 mm): left out."
    assert said in capsys.readouterr().err
    assert said in json.dumps(dcmread(tmp_path / "out" / "sr.dcm").to_json_dict())
    assert "LEFT_OUT" in json.loads((tmp_path / "out" / "findings.json").read_text())["warnings"]


def test_a_series_for_which_there_is_no_model(tmp_path: Path):
    """MR with weights for CT: one clear reason; beside a CT it is a line, and the CT goes on."""
    write(tmp_path / "in" / "mr", "mr", change=to_mr)
    with pytest.raises(SeriesRejected, match="made for CT, and the series is MR") as caught:
        run(tmp_path / "in", tmp_path / "out")
    assert caught.value.reason == RejectReason.NO_MODEL
    write(tmp_path / "in" / "ct", "ct")
    run(tmp_path / "in", tmp_path / "out")
    assert names(tmp_path / "out") == ALL


def test_as_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], read_log):
    """Exit 2 and one line for what nothing can be made of; `--prefer` knows its words."""
    write(tmp_path / "mr", "mr", change=to_mr)
    write(tmp_path / "two" / "mr", "mr", change=to_mr)
    write(tmp_path / "two" / "other", "other", change=to_mr)
    (tmp_path / "empty").mkdir()
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 2), np.int16), np.eye(4)), tmp_path / "4d.nii.gz")
    for source, lines in (
        ("mr", ["NO_MODEL"]),
        ("two", ["NO_MODEL", "NO_MODEL", "nothing in it can be segmented"]),
        ("empty", ["holds no DICOM files"]),
        ("nowhere", ["no such file or folder"]),
        ("4d.nii.gz", ["not a 3-D image, its shape is 4 x 4 x 4 x 2"]),
    ):
        monkeypatch.setattr("sys.argv", ["porta", "segment", str(tmp_path / source), "-o", str(tmp_path / "out")])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert ended.value.code == 2
        assert len(said.err.splitlines()) == len(lines), said.err
        for line, word in zip(said.err.splitlines(), lines, strict=True):
            assert line.startswith("porta: ")
            assert word in line
    monkeypatch.setattr("sys.argv", ["porta", "segment", "x", "-o", "y", "--prefer", "venous"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert not (tmp_path / "out").exists()


# --- what is left of an earlier run


def test_results_of_an_earlier_run_do_not_stay(tmp_path: Path):
    """Two series, then one: nothing of the second is left, but what the user keeps there is."""
    for seed in "ab":
        write(tmp_path / "two" / seed, seed)
    write(tmp_path / "one", "a", change=lambda ds: setattr(ds, "PixelData", bytes(len(ds.PixelData))))
    out = tmp_path / "out"
    run(tmp_path / "two", out)
    (out / "2" / "notes.txt").write_text("the user's own")
    (out / "2024").mkdir()
    (out / "overlay-009.png").write_bytes(b"")
    run(tmp_path / "one", out)
    assert names(out) == (ALL - {"seg.dcm"}) | {"2/notes.txt"}  # no liver: no SEG


def test_what_cannot_be_segmented_costs_nothing(tmp_path: Path):
    """A mistyped input does not remove results."""
    write(tmp_path / "in")
    write(tmp_path / "mr", "mr", change=to_mr)
    out = tmp_path / "out"
    run(tmp_path / "in", out)
    with pytest.raises(SeriesRejected):
        run(tmp_path / "mr", out)
    assert names(out) == ALL


def test_the_input_is_never_removed(tmp_path: Path):
    """A NIfTI that lies where the labels go is refused."""
    write(tmp_path / "in")
    run(tmp_path / "in", tmp_path / "out")
    labels = tmp_path / "out" / "labels.nii.gz"
    with pytest.raises(Exception, match="choose another folder"):
        run(labels, tmp_path / "out")
    assert labels.exists()


# --- geometry and pixels


def test_a_tilted_stack(tmp_path: Path):
    """Its labels have a sheared sform, by which the block lies where the SEG has it."""
    geometry = stack(tilt=0.3)
    write(tmp_path / "in", geometry=geometry)
    run(tmp_path / "in", tmp_path / "out")
    image = nib.load(tmp_path / "out" / "labels.nii.gz")
    voxels = np.argwhere(np.asarray(image.dataobj) == 1)
    lps = nib.affines.apply_affine(image.affine, voxels) * [-1, -1, 1]
    (liver,) = read_seg(tmp_path / "out" / "seg.dcm")
    first = lps[lps[:, 2] == lps[:, 2].min()].min(axis=0)
    assert np.allclose(first, liver.origins_lps_mm[0] + [5 * 1.5, 6 * 1.0, 0], atol=1e-4)


def test_an_uneven_stack(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """No labels, and it is said; all else is there."""
    write(tmp_path / "in", geometry=stack(np.cumsum([0, 4, 7, 1.5, 6, 4, 7, 1.5, 6, 4, 7, 1.5, 6, 4])))
    run(tmp_path / "in", tmp_path / "out")
    assert names(tmp_path / "out") == ALL - {"labels.nii.gz"}
    (line,) = remarks(capsys.readouterr().err)
    assert line.startswith(f"porta: {tmp_path / 'out' / 'labels.nii.gz'}: not written")
    assert "UNEVEN_SPACING" in json.loads((tmp_path / "out" / "findings.json").read_text())["warnings"]


def test_pixels_that_cannot_be_decoded(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The other series goes on; alone it is the reason."""
    write(tmp_path / "in" / "bad", "bad", change=spoil)
    with pytest.raises(SeriesRejected) as caught:
        run(tmp_path / "in", tmp_path / "out")
    assert caught.value.reason == RejectReason.UNREADABLE_PIXELS
    write(tmp_path / "in" / "good", "good")
    run(tmp_path / "in", tmp_path / "out")
    assert names(tmp_path / "out") == ALL
    assert "UNREADABLE_PIXELS" in capsys.readouterr().err


def test_a_compressed_series(unpacked: Callable[[str], list[Path]], tmp_path: Path, require_binary):
    """Decoded in a process of its own, to the same labels as the native one."""
    dcmcjpls = require_binary("dcmcjpls")
    write(tmp_path / "native")
    (tmp_path / "packed").mkdir()
    for path in sorted((tmp_path / "native").iterdir()):
        subprocess.run([dcmcjpls, str(path), str(tmp_path / "packed" / path.name)], check=True)
    for name in ("native", "packed"):
        run(tmp_path / name, tmp_path / f"{name}-out")
    native, packed = (nib.load(tmp_path / f"{name}-out" / "labels.nii.gz") for name in ("native", "packed"))
    assert np.array_equal(np.asarray(native.dataobj), np.asarray(packed.dataobj))
    assert np.asarray(native.dataobj).sum() == 5 * 12 * 10


def test_a_nifti_gives_the_labels_of_its_dicom(unpacked: Callable[[str], list[Path]], tmp_path: Path):
    """CHAOS 3, converted by SimpleITK: every voxel and its place are those of the DICOM series, and so the labels."""
    paths = unpacked("chaos_ct3/ct_dicom")
    source = read_volume(open_series(paths).stacks[0])
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(paths[0].parent)))
    sitk.WriteImage(reader.Execute(), str(tmp_path / "chaos.nii.gz"))
    volume = read_nifti(tmp_path / "chaos.nii.gz")
    assert volume.geometry.shape == source.geometry.shape
    assert np.allclose(volume.geometry.origins_lps_mm, source.geometry.origins_lps_mm, atol=1e-3)
    assert np.array_equal(volume.array, source.array)
    run(tmp_path / "chaos.nii.gz", tmp_path / "nifti")
    run(paths[0].parent, tmp_path / "dicom")
    ours = read_labels(tmp_path / "nifti" / "labels.nii.gz", source.geometry)
    assert np.array_equal(ours, read_labels(tmp_path / "dicom" / "labels.nii.gz", source.geometry))
    assert ours.any()


@pytest.mark.parametrize(("modality", "has_hu"), [("MR", False), ("CT", True), (None, True)])
def test_a_nifti_is_what_it_is_said_to_be(tmp_path: Path, modality: str | None, has_hu: bool):
    """NIfTI has no modality: as MR its values are no HU. CT where nothing is said."""
    array = np.full((20, 24, 14), -500, np.int16)
    array[5:15, 6:18, 4:9] = LIVER_HU
    nib.save(nib.Nifti1Image(array, np.diag([-1.5, -1.0, 5.0, 1.0])), tmp_path / "image.nii.gz")
    run(tmp_path / "image.nii.gz", tmp_path / "out", modality=modality)
    findings = json.loads((tmp_path / "out" / "findings.json").read_text())
    assert (findings["liver"]["hu_mean"] is not None) is has_hu


def test_dicom_says_its_modality(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], read_log
):
    """A second opinion is refused before anything is read."""
    write(tmp_path / "series")
    asked = ["porta", "segment", str(tmp_path / "series"), "-o", str(tmp_path / "out"), "--modality", "MR"]
    monkeypatch.setattr("sys.argv", asked)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "porta: --modality is for NIfTI: DICOM images say theirs\n"
    assert not (tmp_path / "out").exists()
