"""Real CT by dcmsend through Porta into a real Orthanc, and what the field's own tools say of the results."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pytest
from pydicom import dcmread

from daemon.commands.demo import labels_on
from daemon.jobs import State
from dicom_io.nifti import read_labels
from dicom_io.pixels import read_volume
from dicom_io.seg_reader import read_seg
from dicom_io.series.series import open_series
from dicom_io.sr_reader import read_measurement_groups
from tests.acceptance.conftest import Site, until

CASES = {
    "ircadb_case17": "labels.nii.gz",
    "chaos_ct3": "liver_label.nii.gz",
    "lits_volume0": "liver_label.nii.gz",
}
LEAST_DICE = 0.90
"""The shipped weights have seen these cases in training: this is a test of the line, not of the model."""


@pytest.fixture
def tools(require_binary: Callable[[str], str]) -> dict[str, str]:
    return {name: require_binary(name) for name in ("dciodvfy", "segimage2itkimage", "tid1500reader", "dsrdump")}


@pytest.mark.parametrize("case", CASES)
def test_one_seg_and_one_sr_in_the_study(
    case: str,
    site: Site,
    tools: dict[str, str],
    unpacked: Callable[[str], list[Path]],
    shared_data: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """One SEG and one SR in the source's study, clean, readable by all, and the mask lies on the liver."""
    paths = unpacked(f"{case}/ct_dicom")
    source = open_series(paths).stacks[0]
    site.start()
    assert site.send(paths) == len(paths)
    until(lambda: site.states() == [State.CONFIRMED], seconds=280, what="CONFIRMED")

    header = dcmread(paths[0], stop_before_pixels=True)
    seg_paths, sr_paths = site.results(str(header.StudyInstanceUID))
    assert (len(seg_paths), len(sr_paths)) == (1, 1)
    seg, sr = dcmread(seg_paths[0]), dcmread(sr_paths[0])
    for result in (seg, sr):
        assert result.StudyInstanceUID == header.StudyInstanceUID
        assert result.get("PatientID", "") == header.get("PatientID", "")
        assert str(result.get("PatientName", "")) == str(header.get("PatientName", ""))
        assert result.SeriesInstanceUID != header.SeriesInstanceUID
    for path in (*seg_paths, *sr_paths):
        assert not _errors(tools["dciodvfy"], path)

    labels = labels_on(source.geometry, read_seg(seg_paths[0]))
    truth = read_labels(shared_data / case / CASES[case], source.geometry)
    dice = 2 * np.count_nonzero((labels > 0) & (truth > 0)) / (np.count_nonzero(labels) + np.count_nonzero(truth))
    record_property("liver_dice", round(float(dice), 4))
    assert dice >= LEAST_DICE
    inside = read_volume(source).array[labels > 0]
    assert 40 < np.median(inside) < 200, "the mask does not lie on enhanced liver"

    opened = highdicom.seg.segread(seg_paths[0])
    assert opened.number_of_segments == labels.max()
    assert _voxels_by_dcmqi(tools["segimage2itkimage"], seg_paths[0], site.directory / "itk") == [
        np.count_nonzero(labels == number) for number in range(1, labels.max() + 1)
    ]
    report = site.directory / "sr.json"
    subprocess.run(
        [tools["tid1500reader"], "--inputDICOM", str(sr_paths[0]), "--outputMetadata", str(report)],
        check=True,
        capture_output=True,
    )
    measured = json.loads(report.read_text())["Measurements"]
    groups = read_measurement_groups(sr_paths[0])
    assert [group["TrackingUniqueIdentifier"] for group in measured] == [group.tracking_uid for group in groups]
    subprocess.run([tools["dsrdump"], str(sr_paths[0])], check=True, capture_output=True)
    assert "ZZ" not in site.log
    name = str(header.get("PatientName", ""))
    assert not name or name not in site.log


def _errors(dciodvfy: str, path: Path) -> list[str]:
    done = subprocess.run([dciodvfy, str(path)], capture_output=True, text=True)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


def _voxels_by_dcmqi(segimage2itkimage: str, path: Path, folder: Path) -> list[int]:
    """Voxels of each segment as dcmqi counts them."""
    folder.mkdir()
    subprocess.run(
        [segimage2itkimage, "--inputDICOM", str(path), "--outputDirectory", str(folder), "-t", "nii"],
        check=True,
        capture_output=True,
    )
    files = sorted(folder.glob("*.nii.gz"), key=lambda file: int(file.name.split(".")[0].split("_")[-1]))
    return [int(np.count_nonzero(np.asarray(nibabel.load(file).dataobj))) for file in files]
