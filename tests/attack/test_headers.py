"""Each attribute of a series made absent, empty, text, several values, over-long, NaN: read right, or refused by name.

Through the functions of the worker's stages, from the spooled files to the objects, and the SR of what is refused.
Nothing else may be raised: `daemon.jobs.decide` would try it again, as if it were the worker's fault.

In CI each attribute is changed in three of six ways, and the objects are built of one; with PORTA_ATTACK=long in all
and more ways, in one image alone too, of CT and MR, and every object is built and shown to dciodvfy.
"""

import os
import shutil
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
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from daemon.configuration.config import Rule
from daemon.routing import Candidate, first_match
from daemon.worker import stages
from daemon.worker.requests import Engine, ReportRequest, Result, SegmentRequest, VerdictRequest
from daemon.worker.sources import open_spooled
from daemon.worker.stages import report_series, report_verdict, segment_series
from dicom_io.earlier_studies import Study
from dicom_io.errors import NotDicom, SeriesRejected
from dicom_io.files.image_file import read_dataset
from dicom_io.files.image_writer import write_ct_series, write_mr_series
from dicom_io.geometry import Geometry
from dicom_io.seg_reader import read_seg
from dicom_io.segmentation import Algorithm, Segmentation
from dicom_io.series.preference import suitability
from dicom_io.volume import Volume
from reports.identity import identity_of
from reports.objects.profile import Profile
from reports.source_headers import KEYS, left_out
from tests.conformance.made_files import Made, enhanced

LONG = os.environ.get("PORTA_ATTACK") == "long"

PARTS = 8 if LONG else 1
"""In how many tests the attributes are divided: 5000 changes take half an hour, and each test has a deadline."""

SLICES, ROWS, COLUMNS = 5, 24, 20
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

OTHER_VRS = ("UN", "LT", "FD", "US", "SQ", "ZZ")
"""Under which each value is stated, as it is; in the short form a few."""
OF_EACH = {
    int(Tag(keyword)) for keyword in ("SOPInstanceUID", "ImagePositionPatient", "SliceLocation", "InstanceNumber")
}
"""What is another value in each image."""

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

    def write(self, folder: Path, change: "Change | None" = None) -> list[Path]:
        """The series with one attribute changed, in some of its images."""
        folder.mkdir()
        paths = []
        for number, elements in enumerate(self.files):
            if change and number in change.images:
                elements = {tag: each for tag, each in elements.items() if tag != change.tag}
                if change.value is not None:
                    elements[change.tag] = change.vr, change.value
            paths.append(folder / f"{number}.dcm")
            paths[-1].write_bytes(encoded(elements, self.head))
        return paths


@dataclass(frozen=True)
class Change:
    """What is done to one attribute: it gets this VR and value (None: it is taken away), in these images.

    `is_built`: whether the objects are made of it, if it is read.
    """

    tag: int
    way: str
    vr: str
    value: bytes | None
    is_built: bool = True
    images: Sequence[int] = range(SLICES)

    def __str__(self) -> str:
        return f"{keyword_for_tag(self.tag)} {self.way}"


def patient() -> tuple[np.ndarray, Geometry]:
    """Air, fat, soft tissue and a liver, which no turn or mirror brings back to its place."""
    origins = np.c_[np.zeros(SLICES), np.zeros(SLICES), 12.0 * np.arange(SLICES)]
    geometry = Geometry(origins, np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), 2.0, 3.0, ROWS, COLUMNS, "1.2.3")
    array = np.full(geometry.shape, -1000)
    array[:, 2:22, 2:18], array[:, 4:20, 4:16] = -100, 40
    array[1:3, 6:14, 5:10] = LIVER_HU
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

    def segment(model: object, volume: Volume, progress: object = None) -> Segmentation:
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
        first_match([RULE], Candidate(header, "MODALITY", 0.0))
        Study.of(header)
        left_out(header)
        suitability(open_spooled(paths, MEMORY_MB), "portal")
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


def changes(example: Example, part: int) -> Iterator[Change]:
    ways = WAYS | MORE_WAYS if LONG else WAYS
    for number, tag in enumerate(example.attributes):
        if number % PARTS != part:
            continue
        vr, stated = example.files[0][tag]
        for place, (way, value) in enumerate(ways.items()):
            turn = (number + place) % len(ways)
            if LONG or turn % 2 == 0:
                # Other pixels are another patient, whose liver lies elsewhere
                is_built = (LONG or turn == 0) and keyword_for_tag(tag) != "PixelData"
                yield Change(tag, way, vr, value, is_built=is_built)
            if LONG:
                yield Change(tag, f"{way}, in one", vr, value, is_built=False, images=(3,))
        in_short = keyword_for_tag(tag) in ("Modality", "PatientName", "ProcedureCodeSequence")
        for other in OTHER_VRS if (LONG or in_short) and vr != "OW" and tag not in OF_EACH else ():
            yield Change(tag, f"as {other}", other, stated)


class Check:
    """Changes a series that was read, and gathers what is neither right nor refused by name."""

    def __init__(self, whole: list[Path], folder: Path, program: str) -> None:
        self.folder, self.program = folder, program
        self.faults: list[str] = []
        self.changed = self.refused = 0
        found = outcome(whole, folder / "0", is_built=True)
        assert isinstance(found, tuple)
        self.expected = placed(found)
        assert [complaints(program, result.path) for result in found] == [[], []]
        shutil.rmtree(folder / "0")

    def __call__(self, name: str, write: Callable[[Path], list[Path]], *, is_built: bool) -> None:
        """Write a series and have it read."""
        self.changed += 1
        series, folder = self.folder / f"series-{self.changed}", self.folder / str(self.changed)
        try:
            self._look(write(series), folder, is_built=is_built)
        except Exception as error:
            self.faults.append(f"{name}: {type(error).__name__}: {error}"[:400])
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(series)

    def _look(self, paths: list[Path], folder: Path, *, is_built: bool) -> None:
        found = outcome(paths, folder, is_built=is_built)
        if isinstance(found, Exception):
            self.refused += 1
            if not isinstance(found, SeriesRejected) or not found.reason.is_told:
                return
            found = verdict(paths, folder, found)
            assert found, "the study is not told"
        elif is_built:
            assert placed(found) == self.expected, "the liver lies elsewhere"
        stated = [keys(read_dataset(path)) for path in (paths[0], paths[-2 if paths[1:] else 0])]
        for result in found:
            assert keys(dcmread(result.path)) in stated, "another patient"
            if LONG:
                of_keys = (*KEYS, "SpecificCharacterSet")
                lines = complaints(self.program, result.path)
                assert [line for line in lines if not any(keyword in line for keyword in of_keys)] == []


@pytest.mark.timeout(1500 if LONG else 300)
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("modality", ["CT", "MR"] if LONG else ["CT"])
def test_every_attribute_in_every_way(
    examples: dict[str, Example],
    modality: str,
    part: int,
    tmp_path: Path,
    require_binary: Callable[[str], str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The same voxels at the same places under the same keys, or a refusal by name that the study can be told."""
    example, program = examples[modality], require_binary("dciodvfy")
    check = Check(example.write(tmp_path / "whole"), tmp_path, program)
    for change in changes(example, part):
        check(str(change), lambda folder: example.write(folder, change), is_built=change.is_built)  # noqa: B023  at once
    assert not check.faults, "\n".join(check.faults)
    assert check.changed >= 230 and 0 < check.refused < check.changed / 2
    assert "certainly" not in "".join(capfd.readouterr())


Route = tuple[int, ...]


def leaves(ds: Dataset, above: Route = ()) -> Iterator[Route]:
    """The places of all attributes in functional groups, and of the sequences above them; items share theirs."""
    found: dict[Route, None] = {}
    for element in ds:
        place = (*above, int(element.tag))
        if element.VR == "SQ":
            found[place] = None
            found |= dict.fromkeys(path for item in element.value for path in leaves(item, place))
        elif above or element.keyword == "NumberOfFrames":
            found[place] = None
    yield from found


def state(ds: Dataset, place: Route, value: bytes | None) -> None:
    """Put bytes into each attribute at a place; None takes it away."""
    tag = Tag(place[0])
    if len(place) > 1:
        for item in ds[tag].value if tag in ds else ():
            state(item, place[1:], value)
    elif tag in ds:
        vr = ds[tag].VR
        del ds[tag]
        if value is not None:
            ds[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)


@pytest.mark.timeout(1500 if LONG else 300)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_attribute_of_functional_groups(tmp_path: Path, require_binary: Callable[[str], str]) -> None:
    """Of an Enhanced image: those that place its frames and rescale them, in the groups that frames share and have."""
    array, geometry = patient()
    made = Made(array, geometry, (0, 0, 0))
    enhanced(tmp_path / "shared", [made])
    enhanced(tmp_path / "of-each", [made], shared=False)
    for name in ("shared", "of-each") if LONG else ("shared",):
        (path,) = (tmp_path / name).iterdir()
        check = Check([path], tmp_path, require_binary("dciodvfy"))
        for number, place in enumerate(leaves(dcmread(path))):
            for turn, (way, value) in enumerate((WAYS | MORE_WAYS if LONG else WAYS).items(), start=number):

                def write(folder: Path) -> list[Path]:
                    ds = dcmread(path)  # noqa: B023  at once
                    state(ds, place, value)  # noqa: B023  at once
                    folder.mkdir()
                    ds.save_as(folder / "enhanced.dcm")
                    return [folder / "enhanced.dcm"]

                if LONG or turn % 3 == 0:
                    check(f"{keyword_for_tag(place[-1])} {way}", write, is_built=LONG)
        assert not check.faults, "\n".join(check.faults)
        assert 0 < check.refused < check.changed
