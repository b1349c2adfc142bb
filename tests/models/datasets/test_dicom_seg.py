"""SEG objects and their series, of this program and of others."""

from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from dicom_io.seg_labels import segment_class
from models.datasets.discovery import find_all, find_cases

LIVER, NEOPLASM, SPLEEN = (
    Code(value, "SCT", meaning)
    for value, meaning in (("10200004", "Liver"), ("108369006", "Neoplasm"), ("78961009", "Spleen"))
)
TISSUE = Code("85756007", "SCT", "Tissue")


@pytest.fixture
def save_seg(drawn):
    """Write a SEG of several masks, each with a label and a type, for a series."""

    def save(series: list[Path], path: Path, segments: list[tuple[str, Code, np.ndarray]]) -> Path:
        images = [dcmread(file) for file in series]
        descriptions = [
            hd.seg.SegmentDescription(
                segment_number=number,
                segment_label=label,
                segmented_property_category=TISSUE,
                segmented_property_type=kind,
                algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
            )
            for number, (label, kind, _) in enumerate(segments, 1)
        ]
        seg = hd.seg.Segmentation(
            source_images=images,
            pixel_array=np.stack([mask for _, _, mask in segments], axis=-1).astype(np.uint8),
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=descriptions,
            series_instance_uid=generate_uid(),
            series_number=2,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="test",
            manufacturer_model_name="test",
            software_versions="1",
            device_serial_number="1",
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        seg.save_as(path)
        return path

    return save


def test_liver_and_tumours_of_a_series(drawn, save_series, save_seg, tmp_path: Path) -> None:
    """Files lie anywhere; the spleen is background; each tumour segment is an instance; the patient is a study."""
    series = save_series(drawn.volume, tmp_path / "study/ct")
    other = save_series(drawn.volume, tmp_path / "study/other")
    first = np.zeros(drawn.truth.shape, bool)
    first[: drawn.truth.shape[0] // 2] = (drawn.truth > 1)[: drawn.truth.shape[0] // 2]
    second = (drawn.truth > 1) & ~first
    masks = [
        ("Liver", LIVER, drawn.truth == 1),
        ("Spleen", SPLEEN, drawn.truth == 0),
        ("one", NEOPLASM, first),
        ("Lesion 2", Code("1", "99TEST", "mine"), second),
    ]
    save_seg(series, tmp_path / "elsewhere/seg.dcm", masks)
    found = find_cases(tmp_path)
    assert found.skipped == (f"study/other: no truth for its {len(other)} image files",) or found.skipped == ()
    (source,) = found.sources
    assert source.collection == "DICOM SEG" and source.name.startswith("elsewhere-")
    assert source.patient == f"DICOM SEG/{dcmread(series[0]).StudyInstanceUID}"
    case = source.read()
    np.testing.assert_array_equal(case.labels, drawn.truth)
    np.testing.assert_array_equal(case.instances, first + 2 * second)
    np.testing.assert_allclose(case.volume.array, np.rint(drawn.volume.array), atol=1)


def test_objects_of_one_series_are_read_together(drawn, save_series, save_seg, tmp_path: Path) -> None:
    """Liver and tumour in two objects are one case; two livers are none."""
    series = save_series(drawn.volume, tmp_path / "ct")
    save_seg(series, tmp_path / "liver.dcm", [("organ", LIVER, drawn.truth > 0)])
    save_seg(series, tmp_path / "lesions.dcm", [("Tumor", NEOPLASM, drawn.truth > 1)])
    (source,) = find_cases(tmp_path).sources
    case = source.read()
    np.testing.assert_array_equal(case.labels, drawn.truth)
    assert case.instances is not None
    save_seg(series, tmp_path / "liver again.dcm", [("Liver", LIVER, drawn.truth > 0)])
    found = find_cases(tmp_path)
    assert found.sources == ()
    assert found.skipped[0].endswith("2 SEG objects with a liver for one series, which needs one")


def test_examinations_of_one_person_have_one_key(drawn, save_series, save_seg, tmp_path: Path) -> None:
    """In one folder or in several; nothing is written that was made of PatientID."""
    studies = set()
    for name, person in (("a/one", "P1"), ("a/two", "P1"), ("b/three", "P1"), ("b/four", "P2")):
        series = save_series(drawn.volume, tmp_path / name / "ct")
        for path in series:
            ds = dcmread(path)
            ds.PatientID, ds.StudyInstanceUID = person, generate_uid(entropy_srcs=[name])
            ds.SeriesInstanceUID = generate_uid(entropy_srcs=[name, "series"])
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[name, path.name])
            ds.save_as(path)
        save_seg(series, tmp_path / name / "seg.dcm", [("Liver", LIVER, drawn.truth > 0)])
        if person == "P1":
            studies.add(str(ds.StudyInstanceUID))
    sources = {source.name.rpartition("-")[0]: source for source in find_all([tmp_path / "a", tmp_path / "b"]).sources}
    assert {sources[name].patient for name in ("one", "two", "three")} == {f"DICOM SEG/{min(studies)}"}
    assert sources["four"].patient not in {f"DICOM SEG/{study}" for study in studies}
    assert "P1" not in repr(sources["one"])
    (alone, other) = find_cases(tmp_path / "b").sources
    assert alone.patient != other.patient


def test_objects_without_a_use(drawn, save_series, save_seg, shared_data: Path, tmp_path: Path) -> None:
    """No liver, no series, a series that is too short."""
    series = save_series(drawn.volume, tmp_path / "ct")
    save_seg(series, tmp_path / "spleen.dcm", [("Spleen", SPLEEN, drawn.truth > 0)])
    save_seg(series, tmp_path / "tumour.dcm", [("Tumour", NEOPLASM, drawn.truth > 1)])
    for path in series[3:]:
        path.unlink()
    found = find_cases(tmp_path)
    assert found.sources == ()
    assert found.skipped[:2] == (
        "spleen.dcm: none of its segments is a liver or a tumour",
        "tumour.dcm: no SEG objects with a liver for one series, which needs one",
    )
    save_seg(series[:3], tmp_path / "liver.dcm", [("Liver", LIVER, drawn.truth[:3] > -1)])
    assert "its series cannot be used, TOO_FEW_SLICES" in "".join(find_cases(tmp_path).skipped)
    for path in series[:3]:
        path.unlink()
    assert "liver.dcm: the series that it refers to is not here" in find_cases(tmp_path).skipped


@pytest.mark.parametrize(
    ("scheme", "code", "label", "expected"),
    [
        ("SCT", "10200004", "Segment 1", 1),
        ("SRT", "T-62000", "Liver", 1),
        ("SCT", "4147007", "Lesion 1 (23 mm)", 2),
        ("SRT", "M-80003", "Tumor", 2),
        ("SCT", "10200004", "Liver tumour", 2),
        ("SCT", "10200004", "Liver without tumor", 1),
        ("SCT", "10200004", "liver (including tumours)", 1),
        ("SCT", "10200004", "Non-tumorous liver", 1),
        ("", "", "Liver, tumor-free", 1),
        ("", "", "Tumour with necrosis", 2),
        ("", "", "liver", 1),
        ("99X", "1", "HCC", 2),
        ("99X", "1", "Liver vessels", 0),
        ("SCT", "78961009", "Spleen", 0),
        ("", "", "", 0),
    ],
)
def test_what_a_segment_is(scheme: str, code: str, label: str, expected: int) -> None:
    """By its code, or by what somebody called it."""

    class Described:
        property_type = (scheme, code)

    Described.label = label  # type: ignore[attr-defined]
    assert segment_class(Described()) == expected  # type: ignore[arg-type]
