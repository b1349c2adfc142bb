"""An archive as the sender: a real Orthanc forwards a study by C-STORE, with all that the field puts into one."""

import base64
import json
import urllib.request
from collections.abc import Callable
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, generate_uid

from daemon.jobs import State
from tests.acceptance.conftest import Site, until

CSA_NON_IMAGE = "1.3.12.2.1107.5.9.1"
"""A private storage class of Siemens."""


def ask(site: Site, path: str, body: bytes) -> dict[str, object]:
    """POST to Orthanc's own interface."""
    orthanc = site.orthanc
    request = urllib.request.Request(f"http://127.0.0.1:{orthanc._http_port}{path}", data=body)
    request.add_header("Authorization", "Basic " + base64.b64encode(f"porta:{orthanc._password}".encode()).decode())
    with urllib.request.urlopen(request, timeout=120) as answer:
        said: dict[str, object] = json.loads(answer.read())
        return said


def forward(site: Site, paths: list[Path]) -> int:
    """Upload files, and have Orthanc send them to Porta in one association; returns how many were not taken."""
    uploaded = [ask(site, "/instances", path.read_bytes())["ID"] for path in paths]
    body = json.dumps({"Resources": uploaded, "Synchronous": True}).encode()
    return int(str(ask(site, "/modalities/porta/store", body)["FailedInstancesCount"]))


def write(ds: Dataset, path: Path) -> Path:
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    ds.save_as(path, enforce_file_format=True)
    return path


def private_object(image: Dataset, path: Path) -> Path:
    ds = Dataset()
    ds.file_meta = image.file_meta
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = CSA_NON_IMAGE, generate_uid(), generate_uid()
    for keyword in ("StudyInstanceUID", "PatientName", "PatientID", "StudyDate", "StudyTime", "Modality"):
        setattr(ds, keyword, image[keyword].value)
    ds.add_new(0x00290010, "LO", "SIEMENS CSA NON-IMAGE")
    ds.add_new(0x00291010, "OB", bytes(64))
    return write(ds, path)


def oddly_written(path: Path, target: Path) -> Path:
    """The image with Modality in small letters, a code padded with NUL, and a SliceThickness that is no number."""
    file = path.read_bytes()
    for usual, odd in {
        b"\x08\0\x60\0CS\2\0CT": b"\x08\0\x60\0CS\2\0ct",
        b"MONOCHROME2 ": b"MONOCHROME2\0",
        b"\x18\0\x50\0DS\2\x005 ": b"\x18\0\x50\0DS\4\x005 mm",
    }.items():
        assert file.count(usual) == 1
        file = file.replace(usual, odd)
    target.write_bytes(file)
    return target


def test_a_study_with_all_that_the_field_sends(
    site: Site, phantom_series: Callable[[int], list[Path]], tmp_path: Path
) -> None:
    """Each object is taken; the slice that came again as JPEG-LS is used once, and nothing of it costs the results.

    Among the images is an object of a private class; another series shares the images' SOP Instance UIDs. Some of their
    attributes are written as no standard allows.
    """
    images = [
        oddly_written(path, tmp_path / f"image-{number:02}.dcm") for number, path in enumerate(phantom_series(11))
    ]
    twin = dcmread(images[20])
    twin.SOPInstanceUID = generate_uid()
    twin.compress(JPEGLSLossless, generate_instance_uid=False)
    private = private_object(dcmread(images[0], stop_before_pixels=True), tmp_path / "private.dcm")
    shared = []
    for number, path in enumerate(images[:20]):
        ds = dcmread(path)
        ds.SeriesInstanceUID, ds.SeriesNumber = f"{ds.SeriesInstanceUID}.9", 9
        shared.append(write(ds, tmp_path / f"shared-{number}.dcm"))
    study = str(dcmread(images[0], stop_before_pixels=True).StudyInstanceUID)
    site.start()
    assert forward(site, [*images[:10], private, *images[10:], write(twin, tmp_path / "twin.dcm"), *shared]) == 0
    until(lambda: sorted(site.states()) == [State.CONFIRMED, State.REJECTED, State.REJECTED], what="the results")
    reported, other, vendors = sorted(site.jobs(), key=lambda job: job.instances, reverse=True)
    assert (reported.instances, reported.reject_reason) == (41, None)
    assert {"DUPLICATE_SLICES", "UNUSABLE_VALUES"} <= set(reported.warnings)
    assert (other.instances, other.reject_reason) == (20, "SUPERSEDED_BY_BETTER")
    assert (vendors.instances, vendors.reject_reason) == (1, "NOT_IMAGES")
    segs, srs = site.results(study)
    assert (len(segs), len(srs)) == (1, 1)
