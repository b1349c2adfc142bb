"""A patient comes again and again: lesions are followed through the whole process, out of a real Orthanc."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from scipy.ndimage import affine_transform

from daemon.commands.demo_pacs import OrthancNode
from daemon.jobs import State
from dicom_io.files.image_writer import write_ct_series
from dicom_io.geometry import Geometry
from dicom_io.network import scu
from dicom_io.pixels import read_volume
from dicom_io.seg_reader import read_seg
from dicom_io.segmentation import Algorithm, Segmentation
from dicom_io.series.series import open_series
from dicom_io.sr_reader import MeasurementGroup, read_measurement_groups
from models.phantom import Phase, Tissue, grid
from models.phantom.acquisition import Acquisition
from models.phantom.contrast import ct_contrast
from models.phantom.lesions import Wish
from models.phantom.patient import draw_lesions, draw_patient, image, stream
from reports import codes
from reports.identity import ResultIdentity
from reports.objects.case import measured_case
from reports.objects.seg import build_seg
from tests.acceptance.conftest import Site, comments, until

SEED = 1_000_124
GRID = grid(slices=44, rows=112, columns=128, spacing_mm=(5.0, 3.0, 3.0), seed=SEED, centre_lps_mm=(0.0, 14.0, 0.0))
BASELINE = datetime(2024, 1, 10, 9)
NAME, NUMBER, BORN = "ZZPHI^CANARY", "ZZPHI-7", "19600102"

Radii = tuple[float, float, float]


def phantom(radii_mm: Radii, degrees: float = 0.0) -> NDArray[np.int16]:
    """HU on GRID of one patient, whose lesions are balls at three places; 0 for none. Turned about the body's axis."""
    wish = Wish(3, (11.0, 12.0), kinds=(Tissue.METASTASIS,), variety=0.0)
    patient, places = draw_lesions(draw_patient(SEED), wish)
    balls = tuple(
        replace(lesion, axes=(radius, radius, radius))
        for lesion, radius in zip(places, radii_mm, strict=True)
        if radius
    )
    looks = ct_contrast(stream(SEED, "contrast"), Phase.PORTAL)
    array = image(patient, balls, GRID, contrast=looks, how=Acquisition(noise=8.0)).volume.array
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn, middle = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]), (np.array(array.shape) - 1) / 2
    turned = affine_transform(array.astype(np.float32), turn, middle - turn @ middle, order=1, cval=-1000)
    return np.asarray(np.rint(turned), np.int16)


def shifted(x_mm: float, y_mm: float, z_mm: float) -> Geometry:
    """GRID with the patient lying elsewhere."""
    return replace(
        GRID, origins_lps_mm=GRID.origins_lps_mm + np.array([x_mm, y_mm, z_mm]), frame_of_reference_uid="1.2.3.4"
    )


def study(folder: Path, array: NDArray[np.int16], geometry: Geometry, days: int) -> list[Path]:
    """The CT of a study so many days after the baseline."""
    when = BASELINE + timedelta(days=days)
    paths = write_ct_series(
        array, geometry, folder, seed=f"{SEED}-{days}", patient_name=NAME, patient_id=NUMBER, acquired=when
    )
    for path in paths:
        ds = dcmread(path)
        ds.PatientBirthDate = BORN
        ds.save_as(path)
    return paths


def reported(site: Site, paths: list[Path], jobs: int) -> tuple[list[str], list[MeasurementGroup], str]:
    """Send a study, wait for its results in Orthanc: tracking UIDs of the lesions in the SEG, the SR, its text."""
    assert site.send(paths) == len(paths)
    until(lambda: site.states() == [State.CONFIRMED] * jobs, seconds=280, what="results")
    uid = str(dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID)
    (seg,), (sr,) = site.results(uid, f"results-{jobs}")
    tracked = [str(segment.tracking_uid) for segment in read_seg(seg)[1:]]
    groups = read_measurement_groups(sr)
    assert [group.tracking_uid for group in groups[1:-1]] == tracked, "SEG and SR name other lesions"
    return tracked, groups[1:-1], comments(dcmread(sr))


def another_patient_s(seg: Path, folder: Path) -> Path:
    """The same SEG as that of a later study of somebody who bears the same number and another birth date."""
    ds = dcmread(seg)
    ds.PatientBirthDate, ds.PatientName = "19910909", "OTHER^PATIENT"
    ds.StudyDate, ds.StudyInstanceUID = f"{BASELINE + timedelta(days=170):%Y%m%d}", "1.2.3.5"
    ds.SeriesInstanceUID, ds.SOPInstanceUID = "1.2.3.5.1", "1.2.3.5.1.1"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    for segment in ds.SegmentSequence:
        segment.TrackingUID = f"1.2.3.5.9.{segment.SegmentNumber}"
    path = folder / "other.dcm"
    ds.save_as(path)
    return path


@pytest.mark.timeout(600)
def test_lesions_are_followed_over_three_studies(site: Site, tmp_path: Path) -> None:
    """Two lesions shrink and grow again, a third one comes; the patient lies elsewhere each time, at last turned.

    A CT of before the first study is in the archive alone: it is segmented, for there is nothing else to compare with.
    A later SEG of another patient, with the same PatientID and another birth date, is in the archive and is not used.
    """
    site.changes = {'objects = ["seg", "sr"]': 'objects = ["seg", "sr"]\npriors = true\nprior_images = true'}
    site.start()
    archive = scu.Remote("ORTHANC", "127.0.0.1", site.orthanc.port)
    before = study(tmp_path / "-60", phantom((10, 9, 0)), shifted(8.0, 5.0, -90.0), -60)
    scu.store(archive, before, calling_ae_title="MODALITY", timeout_s=30)
    first, groups, said = reported(site, study(tmp_path / "0", phantom((14, 13, 0)), GRID, 0), 1)
    assert len(first) == 2
    assert all(group.numbers[codes.VOLUME_CHANGE.value] > 60 for group in groups)
    assert "Lesions against a study of 60 days earlier" in said
    assert "PRIOR_FROM_IMAGES. The earlier study had no results" in said
    nothing = site.results(str(dcmread(before[0]).StudyInstanceUID), "before")
    assert [*map(list, nothing)] == [[], []], "something was sent to the earlier study"

    (seg,) = (tmp_path / "results-1" / "SEG").iterdir()
    scu.store(archive, [another_patient_s(seg, tmp_path)], calling_ae_title="MODALITY", timeout_s=30)

    second, groups, said = reported(
        site, study(tmp_path / "90", phantom((10, 9, 0)), shifted(25.5, -11.0, 340.0), 90), 2
    )
    assert sorted(second) == sorted(first)
    assert all(-85 < group.numbers[codes.VOLUME_CHANGE.value] < -40 for group in groups)
    assert all(-14 < group.numbers[codes.DIAMETER_CHANGE.value] < -3 for group in groups)
    assert "Lesions against a study of 90 days earlier" in said

    third, groups, said = reported(
        site, study(tmp_path / "180", phantom((14, 13, 11), degrees=10), shifted(-60.0, 20.0, -800.0), 180), 3
    )
    assert len(third) == 3
    assert set(first) < set(third)
    for group in groups:
        if group.tracking_uid in first:
            assert group.numbers[codes.VOLUME_CHANGE.value] > 60
            assert 0 < group.numbers[codes.DOUBLING_TIME.value] < 130
        else:
            assert codes.VOLUME_CHANGE.value not in group.numbers
    assert "Lesions against a study of 90 days earlier: 1 new" in said
    assert "Earlier studies: 180 days earlier (baseline): 2 lesions" in said
    assert "90 days earlier (nadir): 2 lesions" in said
    assert "progressive disease (PD;" in said
    site.stop()
    assert "ZZPHI" not in site.log and BORN not in site.log


class Refusing(OrthancNode):
    """An Orthanc that does not answer one kind of request of Porta's."""

    def __init__(self, site: Site, verb: str) -> None:
        super().__init__(site.directory, porta_port=site.port)
        self.port, self._http_port = site.orthanc.port, site.orthanc._http_port
        self._verb = verb

    def _settings(self) -> dict[str, object]:
        settings = super()._settings()
        settings["DicomModalities"]["porta"][f"Allow{self._verb}"] = False  # type: ignore[index]
        return settings


def seg_of(paths: list[Path]) -> Path:
    """Porta's SEG of a series, with a liver of a few voxels."""
    stack = open_series(paths).stacks[0]
    labels = np.zeros(stack.geometry.shape, np.uint8)
    labels[4:8, 40:60, 40:60] = 1
    segmentation = Segmentation(labels, stack.geometry, Algorithm("resnet50", "1", "0" * 64))
    identity = ResultIdentity("earlier", 1, datetime(2024, 1, 10, tzinfo=UTC), "1.2.3")
    path = paths[0].with_name("seg.dcm")
    (seg,) = build_seg(measured_case(stack, read_volume(stack), segmentation, identity=identity))
    seg.save_as(path)
    return path


@pytest.mark.parametrize("verb", ["Find", "Get"])
def test_an_archive_that_refuses_to_be_asked(site: Site, tmp_path: Path, verb: str) -> None:
    """Results come all the same, and say that earlier ones could not be fetched."""
    part, few = phantom((14, 13, 0))[14:26], replace(GRID, origins_lps_mm=GRID.origins_lps_mm[14:26])
    archive = scu.Remote("ORTHANC", "127.0.0.1", site.orthanc.port)
    earlier = seg_of(study(tmp_path / "0", part, few, 0))
    scu.store(archive, [earlier], calling_ae_title="MODALITY", timeout_s=30)
    site.orthanc.stop()
    site.orthanc = Refusing(site, verb)
    site.orthanc.start(say=lambda text: None)
    site.changes = {'objects = ["seg", "sr"]\nconfirm = "query"': 'priors = true\nconfirm = "none"'}
    site.start()
    paths = study(tmp_path / "90", part, few, 90)
    assert site.send(paths) == len(paths)
    until(lambda: site.states() == [State.DELIVERED], seconds=280, what="results")
    (job,) = site.jobs()
    assert "PRIORS_NOT_FETCHED" in job.warnings
    found = [
        scu.fetch(
            archive,
            study_instance_uid=job.study_instance_uid,
            modality=modality,
            directory=tmp_path,
            calling_ae_title="MODALITY",
            timeout_s=30,
        )
        for modality in ("SEG", "SR")
    ]
    assert [len(paths) for paths in found] == [1, 1]
    assert "could not be fetched from an archive" in comments(dcmread(found[1][0]))
