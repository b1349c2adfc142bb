"""Results in the viewer that reads them: OHIF in Chromium, a real study, everything that a destination can ask for.

The driver is the `view_check` tool beside the shared data; OHIF's files come from npm (`make viewer`).
"""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from pydicom import dcmread
from scipy.ndimage import distance_transform_edt

from daemon.worker.predecessors import Predecessors
from daemon.worker.requests import Replaced, Result, SentSr
from daemon.worker.results import write_results
from dicom_io.nifti import read_labels
from dicom_io.pixels import read_volume
from dicom_io.segmentation import LIVER, Algorithm, Segmentation
from dicom_io.series.series import open_series
from reports.findings.measurements import Findings
from reports.identity import ResultIdentity
from reports.objects.case import measured_case
from reports.objects.kinds import KINDS
from reports.objects.profile import Profile
from tests.acceptance.conftest import comments, until

LABELMAP = Profile(("seg",), seg_type="labelmap")
EVERYTHING = Profile(("seg", "sr", "sr_bidirectional", "sr_combined", "key_images", "pdf"))


@dataclass(frozen=True)
class Read:
    """A study in an archive, as OHIF reads it: its address, UIDs, what was found, the objects that were stored."""

    url: str
    study_instance_uid: str
    findings: Findings
    results: tuple[Result, ...]
    afterwards: tuple[Result, ...]
    """Those of a later revision, in which no lesion is left."""


def series_of(results: Sequence[Result], kind: str) -> str:
    """The SeriesInstanceUID of the objects of a kind."""
    return next(result.series_instance_uid for result in results if result.form.name == kind)


@pytest.fixture(scope="module")
def orthanc(
    tmp_path_factory: pytest.TempPathFactory, require_binary: Callable[[str], str], free_port: Callable[[], int]
) -> Iterator[str]:
    """An Orthanc with DICOMweb that answers this machine alone; its address."""
    program, folder, port = require_binary("Orthanc"), tmp_path_factory.mktemp("orthanc"), free_port()
    plugins = sorted(Path("/usr").rglob("libOrthancDicomWeb.so"))
    settings = {
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [str(plugins[0])],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "StudiesMetadata": "Full", "SeriesMetadata": "Full"},
    }
    (folder / "db").mkdir()
    (folder / "orthanc.json").write_text(json.dumps(settings))
    url = f"http://127.0.0.1:{port}"
    with (folder / "orthanc.log").open("wb") as output:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=output, stderr=output)
    try:
        until(lambda: _answers(f"{url}/system"), seconds=60, what="Orthanc's answer")
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module")
def read(
    orthanc: str,
    unpacked: Callable[[str], list[Path]],
    shared_data: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Read:
    """Forty slices of CHAOS 3 with its own liver, two lesions drawn into it, all objects of it in the archive.

    And what a later revision sends that has no lesion: an SR takes the place of the earlier diameters.
    """
    everything = open_series(unpacked("chaos_ct3/ct_dicom")).stacks[0]
    liver = read_labels(shared_data / "chaos_ct3" / "liver_label.nii.gz", everything.geometry)
    middle = int(liver.sum(axis=(1, 2)).argmax())
    near = slice(middle - 20, middle + 20)
    stack = open_series([image.path for image in everything.slices[near]]).stacks[0]
    numbered = np.minimum(liver[near], LIVER).astype(np.uint8)
    depth = distance_transform_edt(numbered, sampling=(2.0, 0.73, 0.73))
    for number, radius_mm in ((LIVER + 1, 16.0), (LIVER + 2, 8.0)):
        centre = np.unravel_index(depth.argmax(), depth.shape)
        away = (np.indices(depth.shape).T - centre).T * np.array([2.0, 0.73, 0.73])[:, None, None, None]
        numbered[((away**2).sum(axis=0) < radius_mm**2) & (numbered == LIVER)] = number
        depth[(away**2).sum(axis=0) < (radius_mm + 20) ** 2] = 0
    volume = read_volume(stack)
    segmentation = Segmentation(numbered, volume.geometry, Algorithm("truth", "1", "0" * 64))
    identity = ResultIdentity(
        seed="viewer", revision=1, created=datetime(2026, 1, 2, 3, 4, tzinfo=UTC), software_version="0.2.0"
    )
    outbox = tmp_path_factory.mktemp("outbox")
    case = measured_case(stack, volume, segmentation, identity=identity)
    results = write_results(case, outbox, profiles=(EVERYTHING, LABELMAP))
    assert case.findings.lesion_count == 2
    healthy = replace(segmentation, labels=np.minimum(numbered, LIVER))
    sent = [
        SentSr(result.form, 0, result.series_instance_uid, result.sop_instance_uid)
        for result in results
        if KINDS[result.form.kind].is_sr
    ]
    uid = str(dcmread(results[0].path).StudyInstanceUID)
    afterwards = write_results(
        measured_case(stack, volume, healthy, identity=replace(identity, revision=2)),
        outbox / "later",
        profiles=(Profile(("seg", "sr_bidirectional")),),
        predecessors=Predecessors(uid, replaced=(Replaced(tuple(sent)),)),
    )
    for path in [*(image.path for image in stack.slices), *(result.path for result in (*results, *afterwards))]:
        request = urllib.request.Request(f"{orthanc}/instances", data=path.read_bytes(), method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 200
    return Read(orthanc, uid, case.findings, results, afterwards)


@pytest.fixture(scope="module")
def opened(
    read: Read, shared_data: Path, require_binary: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., dict[str, object]]:
    """`opened("sr")`: what OHIF made of the SEG and of the SR of a kind, of these or other results."""
    driver = shared_data.parent / "tools" / "view_check" / "view_check.py"
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "porta-hepatis" / "ohif-3.12.10"
    ohif = Path(os.environ.get("PORTA_OHIF", cache)) / "dist"
    pictures = Path(os.environ.get("PORTA_SCREENSHOTS", tmp_path_factory.mktemp("screenshots")))
    for needed, how in ((driver, "the shared tools are not here"), (ohif, "OHIF is not here: make viewer")):
        if not needed.exists():
            require_binary(f"{needed.name} ({how})")

    def look(kind: str, results: Sequence[Result] = read.results, seg: str = "seg") -> dict[str, object]:
        command = [sys.executable, str(driver), "--orthanc", read.url, "--study", read.study_instance_uid]
        command += ["--seg-series", series_of(results, seg), "--sr-series", series_of(results, kind)]
        command += ["--ohif", str(ohif), "--chromium", require_binary("chromium")]
        picture = pictures / f"ohif-{seg}-{kind}-{len(results)}.png"
        command += ["--out", str(picture)]
        started = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, timeout=280)
        assert done.stdout.strip(), done.stderr[-2000:]
        seen: dict[str, object] = json.loads(done.stdout.strip().splitlines()[-1])
        seen["picture"] = str(picture)
        print(f"{kind}: {time.monotonic() - started:.0f} s", json.dumps(seen, indent=1))
        return seen

    return look


@pytest.mark.timeout(600)
def test_the_overlay_lies_on_the_right_pixels_and_the_report_is_readable(read: Read, opened) -> None:
    """SEG: every segment listed by its label, the coloured pixels where its mask is. SR: the text tree."""
    seen = opened("sr")
    assert seen["passed"], seen
    assert seen["overlay_dice"] >= 0.95
    labels = [f"Lesion {lesion.number} ({lesion.size.long_axis_mm:.0f} mm)" for lesion in read.findings.lesions]
    assert seen["segment_labels"][: 1 + len(labels)] == ["Liver", *labels]
    assert seen["jump_missed"] == [] and all(seen["segments_seen"].values())
    assert seen["sr_listed"] and "Oncology Measurement Report" in seen["sr_view_text"]
    # Words first: the summary, then a sentence for each lesion
    assert "2 liver lesions were found." in seen["sr_view_text"]
    assert "1.1.\u00a0Summary" in seen["sr_view_text"] and "1.2.\u00a0Finding" in seen["sr_view_text"]
    assert seen["console_errors"] == []


@pytest.mark.timeout(600)
def test_a_label_map_has_its_own_colours_and_places(read: Read, opened) -> None:
    """LABELMAP: liver green, lesions red and blue, a click leads to the lesion: all were those of the next item."""
    seen = opened("sr", seg="seg_labelmap")
    labels = [f"Lesion {lesion.number} ({lesion.size.long_axis_mm:.0f} mm)" for lesion in read.findings.lesions]
    assert seen["passed"] and seen["overlay_dice"] >= 0.95
    assert seen["segment_labels"] == ["Background", "Liver", *labels]
    assert seen["jump_missed"] == [] and all(seen["segments_seen"].values())
    red, green, blue = np.moveaxis(imread(str(seen["picture"]))[..., :3].astype(float), -1, 0)
    is_green = (green > 1.2 * red) & (green > 1.2 * blue)
    assert np.count_nonzero(is_green) > 0.6 * seen["expected_pixels"], "the liver is not green"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["sr_bidirectional", "sr_combined"])
def test_the_diameters_become_measurements(read: Read, opened, kind: str) -> None:
    """SR (b), and the one SR that has both: each lesion is an entry of the measurement panel with both axes."""
    seen = opened(kind)
    assert seen["sr_hydrated"], seen
    assert len(seen["sr_measurements"]) == len(read.findings.lesions)
    assert seen["sr_measurements"] == [f"Bidirectional: Lesion {lesion.name}" for lesion in read.findings.lesions]
    first = read.findings.lesions[0]
    assert f"L: {first.size.long_axis_mm:.1f} mm" in seen["sr_view_text"]
    assert f"W: {first.size.short_axis_mm:.1f} mm" in seen["sr_view_text"]


@pytest.mark.timeout(600)
def test_no_lesion_left_is_told_as_text(read: Read, opened) -> None:
    """The SR that takes the place of earlier diameters: listed, readable, and no measurement is left over from it."""
    assert [result.form.name for result in read.afterwards] == ["seg", "sr_bidirectional"]
    seen = opened("sr_bidirectional", read.afterwards)
    assert seen["segment_labels"][:1] == ["Liver"] and seen["overlay_dice"] >= 0.95
    assert "No liver lesion was found." in comments(dcmread(read.afterwards[1].path))  # the driver cuts what it read
    assert seen["sr_listed"] and "This report replaces 3 earlier reports" in seen["sr_view_text"]
    assert not seen["sr_measurements"]
    assert seen["console_errors"] == []
