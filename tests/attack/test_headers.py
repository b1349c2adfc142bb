"""Each attribute of a series made absent, empty, text, several values, over-long, NaN: read right, or refused by name.

Through the functions of the worker's stages, from the spooled files to the objects, and the SR of what is refused.
Nothing else may be raised: `daemon.jobs.decide` would try it again, as if it were the worker's fault.

In CI each attribute is changed in three of six ways, and the objects are built of one; with PORTA_ATTACK=long in all
and more ways, in one image alone too, of CT and MR, and every object is built and shown to dciodvfy.
"""

import os
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.tag import Tag

from daemon.configuration.config import Rule
from daemon.routing import first_match
from daemon.worker import stages
from daemon.worker.requests import Engine, ReportRequest, Result, SegmentRequest, VerdictRequest
from daemon.worker.sources import open_spooled
from daemon.worker.stages import report_series, report_verdict, segment_series
from dicom_io.errors import NotDicom, SeriesRejected
from dicom_io.geometry import Geometry
from dicom_io.image_file import read_dataset
from dicom_io.image_writer import write_ct_series, write_mr_series
from dicom_io.network.earlier import Study
from dicom_io.seg_reader import read_seg
from dicom_io.segmentation import Algorithm, Segmentation
from dicom_io.volume import Volume
from reports.identity import identity_of
from reports.objects.profile import Profile
from reports.source_headers import KEYS, left_out

LONG = os.environ.get("PORTA_ATTACK") == "long"

SLICES, ROWS, COLUMNS = 7, 24, 20
LIVER_HU = 110
MEMORY_MB = 4096

WAYS: dict[str, bytes | None] = {
    "absent": None,
    "empty": b"",
    "text": b"certainly not ",
    "several": b"7\\8 ",
    "over-long": b"9" * 80,
    "NaN": b"NaN ",
}
MORE_WAYS: dict[str, bytes | None] = {
    "beyond any float": b"1e999 ",
    "no characters": b"\xff\xfe\xfd\x1b\\\x80",
    "NUL": bytes(4),
    "spaces": b"    ",
    "backslashes": b"\\\\\\ ",
    "a wildcard": b"*?",
    "longer than VRs are": b"A" * 65534,
    "negative": b"-1",
    "a codec of Python": b"utf-16",
}

MORE_ATTRIBUTES = {
    **dict.fromkeys(KEYS, b"A1"),
    "PatientName": b"Example^Case",
    "OtherPatientNames": b"Example^Other",
    "ReferringPhysicianName": b"Ref^Doc ",
    "NameOfPhysiciansReadingStudy": b"Reader^One",
    "PatientBirthDate": b"19610309",
    "PatientBirthTime": b"101112",
    "PatientSex": b"F ",
    "PatientAge": b"064Y",
    "PatientSize": b"1.7 ",
    "PatientWeight": b"80",
    "PregnancyStatus": b"\4\0",
    "Occupation": b"Miner ",
    "PatientComments": b"none",
    "TimezoneOffsetFromUTC": b"+0100 ",
    "PatientIdentityRemoved": b"NO",
    "LossyImageCompression": b"00",
    "BurnedInAnnotation": b"NO",
    "PixelPaddingValue": b"\x30\xf8",
    "PixelPaddingRangeLimit": b"\x31\xf8",
    "ContrastBolusAgent": b"Agent ",
    "EchoTime": b"80",
    "FlipAngle": b"90",
    "AcquisitionDateTime": b"20000101120000",
    "TriggerTime": b"0 ",
    "InstanceCreationDate": b"20000101",
    "InstitutionName": b"Clinic",
    "DeviceSerialNumber": b"17",
    "ProcedureCodeSequence": b"",
    "NumberOfFrames": b"1 ",
    "PlanarConfiguration": b"\0\0",
    "AdmissionID": b"17",
}

LONG_FORM = ("OB", "OW", "SQ", "UN", "UT")

Elements = dict[int, tuple[str, bytes]]
"""The elements of a data set by their tags: VR and value."""


def elements_of(path: Path) -> Elements:
    ds = dcmread(path)
    elements = {int(each.tag): (str(each.VR), each.value or b"") for each in ds.elements() if each.is_raw}
    elements[0x00080005] = "CS", b"ISO_IR 192"
    for keyword, content in MORE_ATTRIBUTES.items():
        vr, tag = dictionary_VR(keyword), int(Tag(keyword))
        if not elements.get(tag, ("", b""))[1]:
            elements[tag] = ("SS" if " or " in vr else vr, content + b" " * (len(content) % 2))
    return elements


def encoded(elements: Elements, head: bytes) -> bytes:
    """The file: what stands before the data set, and the elements in Explicit VR Little Endian."""
    parts = [head]
    for tag, (vr, value) in sorted(elements.items()):
        length = struct.pack("<HL", 0, len(value)) if vr in LONG_FORM else struct.pack("<H", len(value))
        parts += [struct.pack("<HH", tag >> 16, tag & 0xFFFF), vr.encode(), length, value]
    return b"".join(parts)


@dataclass(frozen=True)
class Example:
    """A series as it is before anything is changed: the elements of each file, and what is before them."""

    files: tuple[Elements, ...]
    head: bytes

    @property
    def attributes(self) -> list[int]:
        return sorted(self.files[0])

    def write(self, folder: Path, tag: int, value: bytes | None, images: Sequence[int]) -> list[Path]:
        """The series with one attribute changed, in some of its images."""
        folder.mkdir()
        paths = []
        for number, elements in enumerate(self.files):
            changed = dict(elements)
            if number in images and value is None:
                del changed[tag]
            elif number in images:
                changed[tag] = (elements[tag][0], value or b"")
            paths.append(folder / f"{number}.dcm")
            paths[-1].write_bytes(encoded(changed, self.head))
        return paths


def patient() -> tuple[np.ndarray, Geometry]:
    """Air, fat, soft tissue and a liver, which no turn or mirror brings back to its place."""
    origins = np.c_[np.zeros(SLICES), np.zeros(SLICES), 9.0 * np.arange(SLICES)]
    geometry = Geometry(origins, np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), 2.0, 3.0, ROWS, COLUMNS, "1.2.3")
    array = np.full(geometry.shape, -1000)
    array[:, 2:22, 2:18], array[:, 4:20, 4:16] = -100, 40
    array[2:5, 6:14, 5:10] = LIVER_HU
    return array, geometry


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Example]:
    array, geometry = patient()
    made = {}
    for modality, write in {"CT": write_ct_series, "MR": write_mr_series}.items():
        paths = write(array, geometry, tmp_path_factory.mktemp(modality), seed=7)
        content = paths[0].read_bytes()
        head = content[: content.index(b"\x08\x00\x05\x00CS")]
        made[modality] = Example(tuple(map(elements_of, paths)), head)
    return made


@pytest.fixture(autouse=True)
def thresholds(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the network's place, which takes MR too: what has the liver's value is liver."""

    def segment(model: object, volume: Volume) -> Segmentation:
        labels = (volume.array == LIVER_HU).astype(np.uint8)
        return Segmentation(labels, volume.geometry, Algorithm("t", "1", "0" * 64), warnings=volume.warnings)

    monkeypatch.setattr(stages, "model_on", lambda name, engine: None)
    monkeypatch.setattr(stages, "segment", segment)
    monkeypatch.setattr(stages, "refuse_without_model", lambda series, model: None)


MATCHED = ("Modality", "SeriesDescription", "ImageType", "ContrastBolusAgent", "StudyDescription", "Manufacturer")
RULE = Rule(name="any", match=dict.fromkeys(MATCHED, ("*",)), model="resnet50", destinations=("archive",))
IDENTITY = identity_of("1.2.3.1", "1.2.3.2", revision=1, created=datetime(2026, 1, 1, tzinfo=UTC), software_version="1")


def outcome(paths: list[Path], folder: Path, *, is_built: bool) -> SeriesRejected | NotDicom | tuple[Result, ...]:
    """The results of the stages, or the refusal that has a name. Raises whatever else they raise."""
    model, profile = "resnet50", Profile()
    try:
        header = read_dataset(paths[0])
        first_match([RULE], header, calling_ae_title="MODALITY")
        Study.of(header)
        left_out(header)
        open_spooled(paths, MEMORY_MB)
        segment_series(SegmentRequest(tuple(paths), model, Engine(), folder / "work", "portal", (profile,)))
        if not is_built:
            return ()
        request = ReportRequest(
            tuple(paths), model, Engine(), folder / "work", folder / "outbox", IDENTITY, "portal", (profile,)
        )
        return report_series(request).results
    except (SeriesRejected, NotDicom) as error:
        return error


def verdict(paths: list[Path], folder: Path, refused: SeriesRejected) -> tuple[Result, ...]:
    """The SR with the reason."""
    request = VerdictRequest(
        tuple(paths), "resnet50", folder / "outbox", IDENTITY, str(refused.reason), profiles=(Profile(),)
    )
    return report_verdict(request).results


Place = list[tuple[bytes, bytes]]


def placed(results: Sequence[Result]) -> Place:
    """The segments of the SEG, voxel by voxel, and where they lie."""
    (seg,) = [result.path for result in results if result.form.kind == "seg"]
    return [(segment.masks.tobytes(), segment.origins_lps_mm.tobytes()) for segment in read_seg(seg)]


def keys(ds: Dataset) -> dict[str, bytes]:
    """By what an archive matches, without what fills it up."""
    found = {keyword: ds.get_item(Tag(keyword)) for keyword in KEYS}
    return {keyword: value for keyword, each in found.items() if each and (value := each.value.rstrip(b" \0"))}


def complaints(program: str, path: Path) -> list[str]:
    done = subprocess.run([program, "-new", str(path)], capture_output=True, check=False)
    lines = (done.stderr + done.stdout).decode("utf-8", "replace").splitlines()
    excused = ("needed to build DICOMDIR", "Retired Person Name form", "Unrecognized defined term = <99PORTA>")
    marked = [line for line in lines if line.startswith(("Error", "Warning")) or " - " in line]
    return [line for line in marked if not any(phrase in line for phrase in excused)]


def changes(example: Example) -> Iterator[tuple[int, str, bytes | None, bool, Sequence[int]]]:
    """Attribute, way, value, whether its objects are built, and the images that it is changed in."""
    ways = WAYS | MORE_WAYS if LONG else WAYS
    for number, tag in enumerate(example.attributes):
        for place, (way, value) in enumerate(ways.items()):
            turn = (number + place) % len(ways)
            if LONG or turn % 2 == 0:
                yield tag, way, value, LONG or turn == 0, range(SLICES)
            if LONG:
                yield tag, f"{way}, in one", value, False, (3,)


@pytest.mark.timeout(3600 if LONG else 300)
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("modality", ["CT", "MR"] if LONG else ["CT"])
def test_every_attribute_in_every_way(
    examples: dict[str, Example],
    modality: str,
    tmp_path: Path,
    require_binary: Callable[[str], str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The same voxels at the same places under the same keys, or a refusal by name that the study can be told."""
    example = examples[modality]
    tag = example.attributes[0]
    whole = outcome(example.write(tmp_path / "whole", tag, b"ISO_IR 192", []), tmp_path / "0", is_built=True)
    assert isinstance(whole, tuple)
    expected, before = placed(whole), {r.form.kind: complaints(require_binary("dciodvfy"), r.path) for r in whole}
    assert before == {"seg": [], "sr": []}
    faults, changed, refused = [], 0, 0
    for tag, way, value, is_built, images in changes(example):
        changed += 1
        name = f"{keyword_for_tag(tag)} {way}"
        folder = tmp_path / str(changed)
        paths = example.write(tmp_path / f"series-{changed}", tag, value, images)
        try:
            found = outcome(paths, folder, is_built=is_built)
            if isinstance(found, SeriesRejected) and found.reason.is_told:
                found, _ = verdict(paths, folder, found), found
                assert found, "the study is not told"
                refused += 1
            elif isinstance(found, Exception):
                refused += 1
                continue
            elif is_built:
                assert placed(found) == expected, "the liver lies elsewhere"
            stated = [keys(read_dataset(path)) for path in (paths[0], paths[3])]
            for result in found:
                assert keys(dcmread(result.path)) in stated, "another patient"
                if LONG:
                    of_others = [
                        line
                        for line in complaints(require_binary("dciodvfy"), result.path)
                        if not any(keyword in line for keyword in (*KEYS, "SpecificCharacterSet"))
                    ]
                    assert of_others == []
        except Exception as error:
            faults.append(f"{name}: {type(error).__name__}: {error}"[:300])
    assert not faults, "\n".join(faults)
    assert changed >= 230 and 0 < refused < changed / 2
    assert "certainly" not in "".join(capfd.readouterr())
