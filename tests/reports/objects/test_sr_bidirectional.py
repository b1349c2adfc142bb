"""The SR of diameters: where its lines lie in the patient, and what viewers and validators make of it."""

import io
import json
import subprocess
from dataclasses import replace

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from reports.objects.profile import Profile
from reports.objects.sr_bidirectional import build_bidirectional_sr, image_coordinates

POSITIONS = np.arange(14) * 2.5
HOW = {
    "plain": {},
    "rows back": {"orientation": (1, 0, 0, 0, -1, 0)},
    "columns back": {"orientation": (-1, 0, 0, 0, 1, 0)},
    "turned": {"orientation": (0.995004, 0.099833, 0, -0.099833, 0.995004, 0)},
    "oblique": {"orientation": (0.8, 0.6, 0, -0.36, 0.48, 0.8)},
    "sagittal": {"orientation": (0, 1, 0, 0, 0, -1), "modality": "MR"},
    "tilted": {"drift_mm": 0.3},
    "uneven": {"positions_mm": np.cumsum(np.linspace(2, 3.3, 14))},
    "slices missing": {"positions_mm": np.delete(np.arange(16) * 2.5, [4, 9])},
    "frames": {"frame_numbers": range(40, 26, -1)},
}


def sr_of(case, identity, **options) -> Dataset:
    (sr,) = build_bidirectional_sr(case.under(identity, **options))
    return sr


def written(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def reread(ds: Dataset) -> Dataset:
    return pydicom.dcmread(io.BytesIO(written(ds)))


def name(item: Dataset) -> tuple[str, str, str]:
    code = item.ConceptNameCodeSequence[0]
    return str(code.CodeValue), str(code.CodingSchemeDesignator), str(code.CodeMeaning)


def groups_of(sr: Dataset) -> list[Dataset]:
    (measurements,) = [item for item in sr.ContentSequence if name(item)[0] == "126010"]
    return list(measurements.ContentSequence)


def axes(group: Dataset) -> list[Dataset]:
    return [item for item in group.ContentSequence if item.ValueType == "NUM"]


def image_of(case, reference: Dataset) -> Dataset:
    """The header that a reference names, found by its UID and frame alone."""
    numbers = case.volume.frame_numbers or [None] * len(case.headers)
    (found,) = [
        header
        for header, number in zip(case.headers, numbers, strict=True)
        if header.SOPInstanceUID == reference.ReferencedSOPInstanceUID
        and number == reference.get("ReferencedFrameNumber")
    ]
    return found


@pytest.mark.parametrize("how", HOW)
def test_the_ends_of_the_lines_lie_where_they_were_measured(make_case, identity, how) -> None:
    """By the standard's words and by highdicom: from the corner of the first pixel of the image that is named."""
    case = make_case(**HOW[how])
    for lesion, group in zip(case.findings.lesions, groups_of(reread(sr_of(case, identity))), strict=True):
        for item, ends in zip(axes(group), lesion.size.axis_end_points_lps_mm, strict=True):
            (line,) = item.ContentSequence
            (image,) = line.ContentSequence
            assert (line.RelationshipType, line.ValueType, line.GraphicType) == ("INFERRED FROM", "SCOORD", "POLYLINE")
            assert (image.RelationshipType, image.ValueType) == ("SELECTED FROM", "IMAGE")
            header = image_of(case, image.ReferencedSOPSequence[0])
            points = np.array(line.GraphicData, float).reshape(2, 2)
            position, cosines = np.array(header.ImagePositionPatient, float), np.array(header.ImageOrientationPatient)
            row_spacing, column_spacing = (float(value) for value in header.PixelSpacing)
            for (column, row), end in zip(points, ends, strict=True):
                by_hand = (
                    position
                    + (column - 0.5) * column_spacing * cosines[:3].astype(float)
                    + (row - 0.5) * row_spacing * cosines[3:].astype(float)
                )
                assert np.linalg.norm(by_hand - end) < 0.01
            transform = hd.spatial.ImageToReferenceTransformer(
                image_position=list(position),
                image_orientation=list(cosines),
                pixel_spacing=[row_spacing, column_spacing],
            )
            assert np.abs(transform(points) - np.array(ends)).max() < 0.01
            length = float(item.MeasuredValueSequence[0].NumericValue)
            assert np.linalg.norm((points[1] - points[0]) * (column_spacing, row_spacing)) == pytest.approx(
                length, abs=0.01
            )


def test_a_pixel_s_centre_is_half_a_pixel_from_its_corner(make_case) -> None:
    """The centre of the first pixel, which ImagePositionPatient gives, is 0.5\\0.5; columns come first."""
    geometry = make_case().volume.geometry
    points = [geometry.index_to_lps([3, 0, 0]), geometry.index_to_lps([3, 7, 20])]
    assert image_coordinates(geometry, points) == pytest.approx(np.array([[0.5, 0.5], [20.5, 7.5]]))


def test_ohif_gets_the_words_it_compares(make_case, identity) -> None:
    """Title, template, tracking identifier and the axes' meanings; identifier and UID stand first in their group."""
    case = make_case()
    sr = reread(sr_of(case, identity))
    assert name(sr) == ("126000", "DCM", "Imaging Measurement Report")
    assert sr.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert sr.SeriesDescription == "Porta: diameters"
    groups = groups_of(sr)
    assert len(groups) == len(case.findings.lesions)
    for group in groups:
        first, second = group.ContentSequence[:2]
        assert (name(first)[0], first.TextValue) == ("112039", "Cornerstone3DTools@^0.1.0:Bidirectional")
        assert name(second)[0] == "112040"
        assert [name(item) for item in axes(group)] == [
            ("103339001", "SCT", "Long Axis"),
            ("103340004", "SCT", "Short Axis"),
        ]
    (library,) = [item for item in sr.ContentSequence if name(item)[0] == "111028"]
    assert 1 <= len(library.ContentSequence[0].ContentSequence) <= 10


def test_the_same_lesions_as_in_the_seg(make_case, identity) -> None:
    """Tracking UIDs of its segments, in their order; another series and instance than the other objects'."""
    case = make_case()
    seg, sr = case.seg(), sr_of(case, identity)
    tracked = [group.ContentSequence[1].UID for group in groups_of(sr)]
    assert tracked == [segment.TrackingUID for segment in seg.SegmentSequence[1:]]
    assert len({sr.SeriesInstanceUID, seg.SeriesInstanceUID, identity.sr_series_instance_uid}) == 3
    assert sr.SeriesNumber == 9003
    assert sr.StudyInstanceUID == case.headers[0].StudyInstanceUID


def test_a_line_in_an_enhanced_image_names_its_frame(make_case, identity, validate) -> None:
    case = make_case(frame_numbers=range(40, 26, -1), modality="MR")
    sr = sr_of(case, identity)
    for lesion, group in zip(case.findings.lesions, groups_of(sr), strict=True):
        for item in axes(group):
            reference = item.ContentSequence[0].ContentSequence[0].ReferencedSOPSequence[0]
            assert reference.ReferencedFrameNumber == lesion.place.key_frame_number
    assert validate(sr) == []


def test_each_row_has_the_lesion_s_name(make_case, identity) -> None:
    """OHIF labels a row by the comment of its group; without one twelve rows were "Mass - Liver"."""
    case = make_case()
    first, second = case.findings.lesions
    case = replace(case, findings=replace(case.findings, lesions=(replace(first, number=3, target=1), second)))
    labels = [
        [item.TextValue for item in group.ContentSequence if name(item)[0] == "121106"]
        for group in groups_of(reread(sr_of(case, identity)))
    ]
    assert labels == [["Lesion 3 (T1)"], [f"Lesion {second.name}"]]


@pytest.mark.parametrize(
    ("how", "said"), [({"lesions": False}, "No liver lesion was found."), ({"liver": False}, "No liver was found")]
)
def test_no_lesion_has_such_an_sr_only_in_place_of_another(make_case, identity, validate, how, said) -> None:
    """Under 126000 OHIF wants coordinates in every group: what says that none is left has the title of a text."""
    case = make_case(**how)
    with pytest.raises(ValueError, match="no lesion"):
        sr_of(case, identity)
    first = sr_of(make_case(), identity)
    sr = sr_of(case, replace(identity, revision=2), predecessors=[first])
    assert name(sr) == ("126001", "DCM", "Oncology Measurement Report")
    assert len(groups_of(sr)) == 1
    parts = [item for item in sr.ContentSequence if item.ValueType == "CONTAINER"]
    assert any(said in item.TextValue for part in parts for item in part.ContentSequence if item.ValueType == "TEXT")
    reference = sr.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert (sr.SeriesDescription, sr.SeriesNumber) == (first.SeriesDescription, first.SeriesNumber)
    assert validate(sr) == []


@pytest.mark.parametrize(
    ("sr_class", "uid"),
    [("comprehensive_3d", "1.2.840.10008.5.1.4.1.1.88.34"), ("comprehensive", "1.2.840.10008.5.1.4.1.1.88.33")],
)
@pytest.mark.parametrize("how", ["plain", "oblique", "uneven"])
def test_both_classes_pass_dciodvfy(make_case, identity, validate, sr_class, uid, how) -> None:
    sr = sr_of(make_case(**HOW[how]), identity, profile=Profile(sr_class=sr_class))
    assert sr.SOPClassUID == uid
    assert validate(sr) == []


def test_a_revision_names_its_predecessor(make_case, identity, validate) -> None:
    case = make_case()
    first = sr_of(case, identity)
    second = sr_of(case, replace(identity, revision=2), predecessors=[first])
    reference = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == first.SOPInstanceUID != second.SOPInstanceUID
    assert validate(second) == []


def test_the_same_input_gives_the_same_bytes(make_case, identity) -> None:
    case = make_case()
    assert written(sr_of(case, identity)) == written(sr_of(case, identity))


def test_highdicom_reads_the_lines(make_case, identity) -> None:
    """Its own view of TID 1501 and the coordinates below."""
    case = make_case()
    sr = hd.sr.srread(io.BytesIO(written(sr_of(case, identity))))
    groups = sr.content.get_image_measurement_groups()
    assert [group.tracking_uid for group in groups] == [lesion.tracking_uid for lesion in case.findings.lesions]
    for group, lesion in zip(groups, case.findings.lesions, strict=True):
        values = [round(float(item.value), 3) for item in group.get_measurements()]
        assert values == [round(lesion.size.long_axis_mm, 3), round(lesion.size.short_axis_mm, 3)]
        assert all(item.referenced_coordinates for item in group.get_measurements())


def test_dcmtk_and_dcmqi_read_it(make_case, identity, require_binary, tmp_path) -> None:
    """dsrdump prints the tree without a complaint; tid1500reader finds each group with both axes."""
    case = make_case()
    path, output = tmp_path / "sr.dcm", tmp_path / "sr.json"
    sr_of(case, identity).save_as(path, enforce_file_format=True)
    done = subprocess.run([require_binary("dsrdump"), str(path)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.count("SCOORD") == 2 * len(case.findings.lesions)
    command = [require_binary("tid1500reader"), "--inputDICOM", str(path), "--outputMetadata", str(output)]
    subprocess.run(command, check=True, capture_output=True)
    read = json.loads(output.read_text())["Measurements"]
    assert [group["TrackingUniqueIdentifier"] for group in read] == [
        item.tracking_uid for item in case.findings.lesions
    ]
    for group, lesion in zip(read, case.findings.lesions, strict=True):
        found = {item["quantity"]["CodeValue"]: float(item["value"]) for item in group["measurementItems"]}
        assert found["103339001"] == pytest.approx(lesion.size.long_axis_mm, abs=1e-3)
        assert found["103340004"] == pytest.approx(lesion.size.short_axis_mm, abs=1e-3)


REAL = ["chaos_ct3/ct_dicom", "lits_volume0/ct_dicom", "dcm_qa_ct/ge_tilt18_variable_gap_dicom"]


@pytest.mark.parametrize("name", REAL)
def test_real_series_pass_dciodvfy(real_volumes, identity, validate, name) -> None:
    """With lesions that were never there."""
    for case in real_volumes(name):
        assert validate(sr_of(case, identity)) == []
