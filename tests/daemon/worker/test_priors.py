"""A patient comes again: the second report follows the lesions of the first, out of a real Orthanc.

Where the first was never reported, its images are segmented.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind  # type: ignore[attr-defined]

from daemon.commands.demo_pacs import OrthancNode
from daemon.storage.spool import write_durably
from daemon.worker import stages
from daemon.worker.prior_images import likeliest
from daemon.worker.priors import PRIORS
from daemon.worker.requests import Archive, Engine, Reported, ReportRequest, SegmentRequest
from daemon.worker.stages import report_series, segment_series
from dicom_io.earlier_studies import Study
from dicom_io.files.image_writer import write_ct_series
from dicom_io.geometry import Geometry
from dicom_io.network import scu
from dicom_io.network.earlier_images import EarlierSeries
from dicom_io.seg_reader import read_seg
from dicom_io.segmentation import Algorithm, Segmentation
from dicom_io.volume import Volume
from models.phantom import grid, make_phantom
from reports.identity import identity_of
from reports.objects.profile import Profile

THEN, NOW = datetime(2024, 1, 10, 9), datetime(2024, 4, 9, 9)
GRID = grid(slices=62, rows=100, columns=120, spacing_mm=(4.8, 3.0, 3.0), seed=1, centre_lps_mm=(0.0, 14.0, 0.0))
LIVER_HU, LESION_HU = 100, 200
PATIENT = {"patient_name": "ZZPHI^CANARY", "patient_id": "ZZPHI-7"}


@pytest.fixture(autouse=True)
def thresholds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network's place is taken: what is brighter than 50 is liver; lesion n, by size, has 200 + n."""

    def segment(model: object, volume: Volume, progress: object = None) -> Segmentation:
        labels = (volume.array > LIVER_HU / 2).astype(np.uint8)
        lesions = volume.array > LESION_HU
        labels[lesions] = volume.array[lesions] - LESION_HU + 1
        return Segmentation(labels, volume.geometry, Algorithm("threshold", "1", "0" * 64), warnings=volume.warnings)

    monkeypatch.setattr(stages, "model_on", lambda name, engine: None)
    monkeypatch.setattr(stages, "segment", segment)


@pytest.fixture(scope="module")
def liver() -> NDArray[np.bool_]:
    """The liver of a phantom on GRID."""
    return make_phantom(GRID, seed=1_000_020, lesions=0, noise_hu=0.0).truth > 0


@pytest.fixture
def orthanc(require_binary: Callable[[str], str], free_port: Callable[[], int], tmp_path: Path) -> Iterator[Archive]:
    """An empty Orthanc that lets us store, ask and fetch."""
    require_binary("Orthanc")
    node = OrthancNode(tmp_path, porta_port=free_port(), ports=(free_port(), free_port()))
    node.start(lambda text: None)
    yield Archive(scu.Remote(node.ae_title, "127.0.0.1", node.port), "PORTA", 10.0)
    node.stop()


Make = Callable[..., list[Path]]


@pytest.fixture
def make(liver: NDArray[np.bool_], tmp_path: Path) -> Make:
    """`make(seed, when, radii)` writes a CT with balls of these radii (mm) in the liver, each at its place."""
    points = GRID.index_to_lps(np.argwhere(liver))
    middle = points.mean(axis=0)
    places = [middle + offset for offset in ((-20, 0, 0), (-70, 0, 10), (-45, 25, -30))]

    def write(seed: str, when: datetime, radii: list[float], geometry: Geometry = GRID, **about: str) -> list[Path]:
        array = np.full(GRID.shape, -500)
        array[liver] = LIVER_HU
        order = sorted(range(len(radii)), key=lambda index: -radii[index])
        for number, index in enumerate([index for index in order if radii[index]], start=1):
            values = array[liver]
            values[np.linalg.norm(points - places[index], axis=1) < radii[index]] = LESION_HU + number
            array[liver] = values
        return write_ct_series(array, geometry, tmp_path / seed, seed=seed, acquired=when, **(PATIENT | about))

    return write


def moved() -> Geometry:
    """GRID with the patient turned by 10 degrees and lying elsewhere."""
    cos, sin = np.cos(np.radians(10)), np.sin(np.radians(10))
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])
    return Geometry(
        origins_lps_mm=GRID.origins_lps_mm @ turn.T + np.array([30.0, -10.0, 200.0]),
        row_cosines=turn @ GRID.row_cosines,
        column_cosines=turn @ GRID.column_cosines,
        row_spacing_mm=GRID.row_spacing_mm,
        column_spacing_mm=GRID.column_spacing_mm,
        rows=GRID.rows,
        columns=GRID.columns,
        frame_of_reference_uid="1.2.3",
    )


def walk(paths: list[Path], folder: Path, *archives: Archive, **options: Any) -> Reported:
    segment_series(SegmentRequest(tuple(paths), "resnet50", Engine(), folder / "work", "portal"))
    return report(paths, folder, *archives, **options)


def report(paths: list[Path], folder: Path, *archives: Archive, objects: tuple[str, ...] = ("seg", "sr")) -> Reported:
    first = dcmread(paths[0])
    identity = identity_of(
        first.StudyInstanceUID,
        first.SeriesInstanceUID,
        revision=1,
        created=datetime(2026, 1, 1, tzinfo=UTC),
        software_version="1.2.3",
    )
    return report_series(
        ReportRequest(
            paths=tuple(paths),
            model="resnet50",
            engine=Engine(),
            work=folder / "work",
            outbox=folder / "outbox",
            identity=identity,
            prefer="portal",
            profiles=(Profile(objects),),
            archives=archives,
        )
    )


def found(folder: Path) -> dict[str, Any]:
    text = (folder / "outbox" / "0" / "findings.json").read_text()
    assert "ZZPHI" not in text and "2024" not in text
    return json.loads(text)


def sent(archive: Archive, reported: Reported) -> Reported:
    paths = [result.path for result in reported.results]
    scu.store(archive.remote, paths, calling_ae_title="PORTA", timeout_s=10)
    return reported


def without_seg(reported: Reported) -> Reported:
    return replace(reported, results=tuple(result for result in reported.results if result.form.name == "sr"))


def test_a_patient_comes_again(make: Make, orthanc: Archive, tmp_path: Path) -> None:
    """One lesion grown, one gone, one new: the same in findings, SEG and SR, and again when the archive is gone."""
    before = sent(orthanc, walk(make("before", THEN, [10, 9, 0]), tmp_path / "a", orthanc))
    assert before.warnings == ()
    first = found(tmp_path / "a")
    assert first["prior"] is None
    assert {lesion["status"] for lesion in first["lesions"]} == {None}

    paths = make("now", NOW, [14, 0, 8], moved())
    reported = walk(paths, tmp_path / "b", orthanc)
    second = found(tmp_path / "b")
    assert reported.warnings == ()
    grown, new = second["lesions"]
    assert (grown["number"], new["number"]) == (1, 3)  # 2 is gone
    assert (grown["status"], new["status"]) == ("grown", "new")
    known = first["lesions"][0]
    assert grown["tracking_uid"] == known["tracking_uid"] != new["tracking_uid"]
    assert grown["growth_percent"] == pytest.approx(100 * (grown["volume_ml"] / known["volume_ml"] - 1), abs=0.1)
    assert grown["growth_mm"] == pytest.approx(grown["long_axis_mm"] - known["long_axis_mm"], abs=0.01)
    assert grown["doubling_days"] == pytest.approx(90 * np.log(2) / np.log(1 + grown["growth_percent"] / 100), abs=0.01)
    assert new["growth_percent"] is None
    prior = second["prior"]
    assert (prior["days"], prior["disappeared"], prior["response"]["category"]) == (90, [2], "PD")
    segments = read_seg(next(result.path for result in reported.results if result.form.name == "seg"))
    assert [segment.tracking_uid for segment in segments[1:]] == [grown["tracking_uid"], new["tracking_uid"]]
    assert [segment.tracking_id for segment in segments] == ["Liver", "Lesion 1", "Lesion 3"]

    kept = {result.path: result.path.read_bytes() for result in reported.results}
    nobody = Archive(scu.Remote("NOBODY", "127.0.0.1", 9), "PORTA", 1.0)
    assert report(paths, tmp_path / "b", nobody) == reported
    assert found(tmp_path / "b") == second
    assert {path: path.read_bytes() for path in kept} == kept


def test_an_archive_that_does_not_answer_is_a_warning(
    make: Make, orthanc: Archive, free_port: Callable[[], int], tmp_path: Path
) -> None:
    """The report is complete but for its priors, and says so; what another archive has is used all the same."""
    nobody = Archive(scu.Remote("NOBODY", "127.0.0.1", free_port()), "PORTA", 1.0)
    paths = make("now", NOW, [14, 0, 8])
    left = tmp_path / "alone" / "work" / "priors" / "fetched" / "0" / "1.2.3.dcm"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"what a worker left that was killed")
    reported = walk(paths, tmp_path / "alone", nobody)
    assert not left.parent.parent.exists()
    assert [result.form.name for result in reported.results] == ["seg", "sr"]
    assert reported.warnings == ("PRIORS_NOT_FETCHED",)
    assert found(tmp_path / "alone")["prior"] is None
    assert "could not be fetched" in json.dumps(dcmread(reported.results[1].path).to_json_dict())

    sent(orthanc, walk(make("before", THEN, [10, 9, 0]), tmp_path / "a"))
    reported = walk(paths, tmp_path / "both", nobody, orthanc)
    assert reported.warnings == ("PRIORS_NOT_FETCHED",)
    assert found(tmp_path / "both")["prior"]["days"] == 90


def test_an_archive_that_cannot_give_is_no_warning_where_another_gave_all(
    make: Make, orthanc: Archive, tmp_path: Path, read_log: Any
) -> None:
    """A peer that answers C-FIND and knows no C-GET: the log names it, and the report has no warning; alone, it has."""
    before = sent(orthanc, walk(make("before", THEN, [10, 9, 0]), tmp_path / "a", orthanc))
    known = [dcmread(result.path, stop_before_pixels=True) for result in before.results]

    def find(event: Any) -> Iterator[tuple[int, Dataset]]:
        for ds in known[:1] if event.identifier.QueryRetrieveLevel == "STUDY" else known:
            if event.identifier.get("Modality") in (None, "", ds.Modality):
                answer = Dataset()
                answer.update(ds)
                answer.QueryRetrieveLevel = event.identifier.QueryRetrieveLevel
                yield 0xFF00, answer

    ae = AE("DUMB")
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, find)])
    dumb = Archive(scu.Remote("DUMB", "127.0.0.1", server.server_address[1]), "PORTA", 10.0)
    try:
        paths = make("now", NOW, [14, 0, 8])
        assert walk(paths, tmp_path / "both", dumb, orthanc).warnings == ()
        assert found(tmp_path / "both")["prior"]["days"] == 90
        assert [line["peer"] for line in read_log.named("prior.not_given")] == ["DUMB"]
        assert walk(paths, tmp_path / "alone", dumb).warnings == ("PRIORS_NOT_FETCHED",)
    finally:
        ae.shutdown()


def test_an_earlier_result_that_cannot_be_read_is_left_out(make: Make, orthanc: Archive, tmp_path: Path) -> None:
    """Whatever an archive gave in the place of a result: the others are compared, and the report is written."""
    sent(orthanc, walk(make("before", THEN, [10, 9, 0]), tmp_path / "a", orthanc))
    paths = make("now", NOW, [14, 0, 8])
    walk(paths, tmp_path / "b", orthanc)
    priors = tmp_path / "b" / "work" / "priors"
    (seg,) = [path for path in priors.glob("*.dcm") if dcmread(path).Modality == "SEG"]
    ds = dcmread(seg)
    ds.PerFrameFunctionalGroupsSequence = ds.PerFrameFunctionalGroupsSequence[:1]
    for number, content in enumerate((b"ZZPHI^CANARY", None, seg.read_bytes())):
        write_durably(priors / f"{number}.dcm", content or b"")
    ds.save_as(priors / "1.dcm")
    write_durably(priors.parent / PRIORS, json.dumps({"count": 3, "failed": False}).encode())
    shutil.rmtree(tmp_path / "b" / "outbox")
    reported = report(paths, tmp_path / "b", orthanc)
    assert [result.form.name for result in reported.results] == ["seg", "sr"]
    assert found(tmp_path / "b")["prior"]["days"] == 90


def test_nothing_is_compared_that_is_not_the_same(
    make: Make, orthanc: Archive, liver: NDArray[np.bool_], tmp_path: Path
) -> None:
    """Another patient's study is none; a liver that does not fit is a warning; an older one that fits is taken."""
    sent(orthanc, walk(make("other", THEN, [10, 9, 0], patient_id="ZZPHI-77"), tmp_path / "other"))
    paths = make("now", NOW, [14, 0, 8])
    assert walk(paths, tmp_path / "b", orthanc).warnings == ()
    assert found(tmp_path / "b")["prior"] is None

    array = np.full(GRID.shape, -500)
    array[10:50, 30:60, 30:60] = LIVER_HU
    block = write_ct_series(array, GRID, tmp_path / "block", seed="block", acquired=THEN, **PATIENT)
    sent(orthanc, walk(block, tmp_path / "c"))
    assert walk(paths, tmp_path / "d", orthanc).warnings == ("PRIOR_NOT_COMPARED",)
    assert found(tmp_path / "d")["prior"] is None

    older = make("older", datetime(2024, 1, 1, 9), [14, 0, 8])
    sent(orthanc, walk(older, tmp_path / "e"))
    assert walk(paths, tmp_path / "f", orthanc).warnings == ()
    prior = found(tmp_path / "f")["prior"]
    assert prior["days"] == 99
    assert prior["response"]["reasons"][-1].startswith("1 earlier study could not be laid over today's")


def test_no_archive_is_asked_where_none_is_named(make: Make, tmp_path: Path) -> None:
    """Nothing is kept, nothing is said."""
    walk(make("now", NOW, [14, 0, 8]), tmp_path / "b")
    assert not (tmp_path / "b" / "work" / "priors.json").exists()
    assert found(tmp_path / "b")["prior"] is None


def test_a_third_visit_knows_both_earlier_ones(make: Make, orthanc: Archive, tmp_path: Path) -> None:
    """Of the first study the SEG is there, of the second the SR alone: it is on the way, by its tracking UIDs."""
    sent(orthanc, walk(make("first", THEN, [14, 13, 0]), tmp_path / "a", orthanc))
    between = make("second", datetime(2024, 2, 19, 9), [9, 8, 0])
    sent(orthanc, without_seg(walk(between, tmp_path / "b", orthanc)))
    assert found(tmp_path / "b")["prior"]["response"]["category"] == "PR"

    assert walk(make("third", NOW, [12, 11, 0], moved()), tmp_path / "c", orthanc).warnings == ()
    third = found(tmp_path / "c")
    studies = third["prior"]["studies"]
    assert [(study["days"], study["source"], study["baseline"], study["nadir"]) for study in studies] == [
        (90, "seg", True, False),
        (50, "sr", False, True),
    ]
    second = found(tmp_path / "b")
    assert studies[1]["target_diameter_sum_mm"] == pytest.approx(second["target_diameter_sum_mm"], abs=0.1)
    assert third["prior"]["response"]["category"] == "PD"
    sizes = {lesion["tracking_uid"]: lesion["volume_ml"] for lesion in second["lesions"]}
    for lesion in third["lesions"]:
        assert [(then["days"], then["volume_ml"]) for then in lesion["history"]][1] == (
            50,
            pytest.approx(sizes[lesion["tracking_uid"]], abs=1e-3),
        )


def test_findings_with_diameters_are_a_study_on_the_way(make: Make, orthanc: Archive, tmp_path: Path) -> None:
    """Of the second study only SRs are there, one of findings alone among them: it is the one that gives a sum."""
    sent(orthanc, walk(make("first", THEN, [14, 13, 0]), tmp_path / "a", orthanc))
    between = make("second", datetime(2024, 2, 19, 9), [9, 8, 0])
    written = walk(between, tmp_path / "b", orthanc, objects=("seg", "sr", "sr_combined"))
    combined = replace(
        written, results=tuple(result for result in written.results if result.form.name == "sr_combined")
    )
    third = make("third", NOW, [12, 11, 0])
    for folder, results in (("c", combined), ("d", without_seg(written))):
        sent(orthanc, results)
        walk(third, tmp_path / folder, orthanc)
        study = found(tmp_path / folder)["prior"]["studies"][1]
        assert (study["days"], study["source"], len(study["lesions"])) == (50, "sr", 2)
    assert study["nadir"]


def test_a_report_alone_is_nothing_to_compare_with(make: Make, orthanc: Archive, tmp_path: Path) -> None:
    """It does not say where lesions lay, and that is said."""
    sent(orthanc, without_seg(walk(make("before", THEN, [10, 9, 0]), tmp_path / "a")))
    assert walk(make("now", NOW, [14, 0, 8]), tmp_path / "b", orthanc).warnings == ("PRIOR_NOT_COMPARED",)
    assert found(tmp_path / "b")["prior"] is None


@pytest.fixture
def with_images(orthanc: Archive) -> Archive:
    """The same Orthanc, asked for images as well."""
    return replace(orthanc, images=True)


def stored(archive: Archive, paths: list[Path]) -> list[Path]:
    scu.store(archive.remote, paths, calling_ae_title="PORTA", timeout_s=10)
    return paths


def test_images_of_a_study_that_was_never_reported_are_segmented(
    make: Make, with_images: Archive, tmp_path: Path
) -> None:
    """Of three series the one described as today's; followed as a SEG of it would be, and nothing of it is sent."""
    before = make("before", THEN, [10, 9, 0])
    thick = make("thick", THEN, [0, 0, 0])[::2]
    scout = make("scout", THEN, [0, 0, 0])[:2]
    uid = dcmread(before[0]).StudyInstanceUID
    for paths, description in ((before, "ABDOMEN PV"), (thick, "LUNG"), (scout, "TOPOGRAM")):
        for path in paths:
            ds = dcmread(path)
            ds.StudyInstanceUID, ds.SeriesDescription = uid, description
            ds.save_as(path)
        stored(with_images, paths)
    now = make("now", NOW, [14, 0, 8], moved())
    for path in now:
        ds = dcmread(path)
        ds.SeriesDescription = "Abdomen PV"
        ds.save_as(path)

    without = replace(with_images, images=False)
    assert walk(now, tmp_path / "off", without).warnings == ()
    assert found(tmp_path / "off")["prior"] is None

    reported = walk(now, tmp_path / "b", with_images)
    assert reported.warnings == ("PRIOR_FROM_IMAGES",)
    assert [result.form.name for result in reported.results] == ["seg", "sr"]
    assert {dcmread(result.path).StudyInstanceUID for result in reported.results} == {dcmread(now[0]).StudyInstanceUID}
    text = json.dumps(dcmread(reported.results[1].path).to_json_dict())
    assert "Its images" not in text
    assert "its images were segmented only for this comparison" in text
    findings = found(tmp_path / "b")
    grown, new = findings["lesions"]
    assert (grown["status"], new["status"]) == ("grown", "new")
    assert (findings["prior"]["days"], findings["prior"]["disappeared"]) == (90, [2])
    assert {path.name for path in (tmp_path / "b" / "work" / "priors").iterdir()} == {"images.dcm"}

    # Were the earlier study sent here now, its results might number the lesions otherwise
    walk(before, tmp_path / "first")
    assert found(tmp_path / "first")["lesions"][0]["tracking_uid"] != grown["tracking_uid"]

    gone = Archive(scu.Remote("NOBODY", "127.0.0.1", 9), "PORTA", 1.0, images=True)
    assert report(now, tmp_path / "b", gone) == reported
    assert found(tmp_path / "b") == findings


def test_images_are_for_where_there_are_no_results(make: Make, with_images: Archive, tmp_path: Path) -> None:
    """A study that was reported is compared, though a later one was not."""
    sent(with_images, walk(make("first", THEN, [10, 9, 0]), tmp_path / "a"))
    stored(with_images, make("second", datetime(2024, 2, 19, 9), [12, 9, 0]))
    assert walk(make("now", NOW, [14, 0, 8]), tmp_path / "b", with_images).warnings == ()
    assert found(tmp_path / "b")["prior"]["days"] == 90


def test_images_without_a_whole_liver_are_passed_over(make: Make, with_images: Archive, tmp_path: Path) -> None:
    """A head, a chest that ends in the liver, slices that make no volume: the study before them is compared."""
    stored(with_images, make("before", THEN, [10, 9, 0]))
    stored(with_images, make("chest", datetime(2024, 2, 19, 9), [10, 0, 0])[30:])
    stored(with_images, [make("one", datetime(2024, 2, 20, 9), [0, 0, 0])[0]])
    now = make("now", NOW, [14, 0, 8])
    assert walk(now, tmp_path / "b", with_images).warnings == ("PRIOR_FROM_IMAGES",)
    assert found(tmp_path / "b")["prior"]["days"] == 90

    head = write_ct_series(
        np.full(GRID.shape, -500), GRID, tmp_path / "head", seed="head", acquired=datetime(2024, 2, 21, 9), **PATIENT
    )
    stored(with_images, head)
    assert walk(now, tmp_path / "c", with_images).warnings == ()  # three studies are looked at, and no more
    assert found(tmp_path / "c")["prior"] is None


def test_images_of_others_and_of_nobody_are_none(make: Make, with_images: Archive, tmp_path: Path) -> None:
    """Another patient's study is not looked at, nor another one of today; without a liver today nothing is.

    No PatientID would ask for everybody's.
    """
    stored(with_images, make("same-day", NOW.replace(hour=7), [10, 9, 0]))
    stored(with_images, make("other", THEN, [10, 9, 0], patient_id="ZZPHI-77"))
    assert walk(make("now", NOW, [14, 0, 8]), tmp_path / "b", with_images).warnings == ()
    nameless = make("nameless", NOW, [14, 0, 8], patient_id="")
    assert walk(nameless, tmp_path / "c", with_images).warnings == ()
    empty = write_ct_series(np.full(GRID.shape, -500), GRID, tmp_path / "e", seed="empty", acquired=NOW, **PATIENT)
    assert "NO_LIVER" in walk(empty, tmp_path / "d", with_images).warnings
    assert [(tmp_path / name / "work" / "prior_images.json").exists() for name in "bcd"] == [True, True, False]


def test_what_a_worker_died_over_is_not_looked_at_again(make: Make, with_images: Archive, tmp_path: Path) -> None:
    """A report is never held up by its priors: the second walk says that earlier images could not be worked on."""
    stored(with_images, make("before", THEN, [10, 9, 0]))
    now = make("now", NOW, [14, 0, 8])
    left = tmp_path / "b" / "work" / "priors" / "images" / "0" / "1.2.3.dcm"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"what came before the worker died")
    assert walk(now, tmp_path / "b", with_images).warnings == ("PRIORS_NOT_FETCHED",)
    assert found(tmp_path / "b")["prior"] is None
    assert not left.parent.parent.exists()


def test_an_archive_that_gives_no_images_is_a_warning(
    make: Make, with_images: Archive, free_port: Callable[[], int], tmp_path: Path
) -> None:
    """What the next one has is used; but where results could not be asked for, images are not instead of them."""
    stored(with_images, make("before", THEN, [10, 9, 0]))
    nobody = Archive(scu.Remote("NOBODY", "127.0.0.1", free_port()), "PORTA", 1.0, images=True)
    now = make("now", NOW, [14, 0, 8])
    assert walk(now, tmp_path / "a", nobody, with_images).warnings == ("PRIORS_NOT_FETCHED",)
    assert found(tmp_path / "a")["prior"] is None

    write_durably(tmp_path / "b" / "work" / PRIORS, b'{"count": 0, "failed": false}')
    assert walk(now, tmp_path / "b", nobody, with_images).warnings == ("PRIORS_NOT_FETCHED", "PRIOR_FROM_IMAGES")
    assert found(tmp_path / "b")["prior"]["days"] == 90


def test_the_latest_study_is_looked_for_in_all_archives(
    make: Make, with_images: Archive, free_port: Callable[[], int], tmp_path: Path
) -> None:
    """The first has an older one."""
    other = OrthancNode(tmp_path / "other", porta_port=free_port(), ports=(free_port(), free_port()))
    (tmp_path / "other").mkdir()
    other.start(lambda text: None)
    try:
        second = replace(with_images, remote=scu.Remote(other.ae_title, "127.0.0.1", other.port))
        stored(with_images, make("first", THEN, [10, 9, 0]))
        stored(second, make("second", datetime(2024, 2, 19, 9), [10, 9, 0]))
        assert walk(make("now", NOW, [14, 0, 8]), tmp_path / "b", with_images, second).warnings == (
            "PRIOR_FROM_IMAGES",
        )
    finally:
        other.stop()
    assert found(tmp_path / "b")["prior"]["days"] == 50


def test_a_doubtful_volume_is_compared_with_nothing(
    make: Make, with_images: Archive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nobody looks at it: without contrast medium it may hide its lesions, and all of today's would be new."""
    before = make("before", THEN, [10, 9, 0])
    for path in before:
        ds = dcmread(path)
        ds.PixelData = np.minimum(ds.pixel_array, ds.pixel_array.min() + 560).astype(np.int16).tobytes()  # 60 HU
        ds.save_as(path)
    stored(with_images, before)
    assert walk(make("now", NOW, [14, 0, 8]), tmp_path / "b", with_images).warnings == ()
    assert found(tmp_path / "b")["prior"] is None


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        ([("a", 300), ("b", 90)], "b"),
        ([("a", 300), ("Abdomen PV", 90)], "Abdomen PV"),
        ([("ABDOMEN PV", 3), ("abdomen pv", 40)], "abdomen pv"),
        ([("abdomen pv", 3), ("a", 100)], "abdomen pv"),
        ([("a", 2001), ("b", 2000), ("c", 1)], "b"),
        ([("a", 0), ("b", 1)], "b"),
        ([("a", 0)], "a"),
        ([("native", 100), ("arterial", 100), ("venous", 40), ("delayed", 100)], "venous"),
        ([("native", 100), ("a", 40)], "a"),
        ([("lung", 100), ("bone", 100), ("a", 40)], "a"),
        ([("a", 2001)], None),
        ([], None),
    ],
)
def test_which_series_today_s_continues(series: list[tuple[str, int]], expected: str | None) -> None:
    """The one of its name, of these and else that of its size; one whose size is not known if there is no other."""
    named = [EarlierSeries(Study("1.2", "7"), f"1.2.{name}", name, size) for name, size in series]
    chosen = likeliest(named, "Abdomen PV", 100, prefer="portal", modality="CT")
    assert (chosen.description if chosen else None) == expected
    of_mr = likeliest(named, "Abdomen PV", 100, prefer="portal", modality="MR")  # T1 is not T2
    assert of_mr is None or of_mr.description.casefold() == "abdomen pv"
    assert likeliest(named, "", 0, prefer="portal", modality="MR") is None
