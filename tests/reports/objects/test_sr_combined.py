"""Findings and diameters in one SR: what OHIF merges, what refers to the segments, and what readers make of it."""

import json
import subprocess
from dataclasses import replace
from io import BytesIO

import pydicom
import pytest
from pydicom import Dataset

from reports.objects.profile import Profile
from reports.objects.sr import build_sr
from reports.objects.sr_bidirectional import build_bidirectional_sr
from reports.objects.sr_combined import build_combined_sr


def sr_of(case, identity, **options) -> Dataset:
    (sr,) = build_combined_sr(case.reported(identity, **options))
    buffer = BytesIO()
    sr.save_as(buffer, enforce_file_format=True)
    return pydicom.dcmread(BytesIO(buffer.getvalue()))


def groups_of(sr: Dataset) -> list[Dataset]:
    (measurements,) = [item for item in sr.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "126010"]
    return list(measurements.ContentSequence)


def values(group: Dataset) -> list[tuple[str, str]]:
    numbers = [item for item in group.ContentSequence if item.ValueType == "NUM"]
    return [
        (item.ConceptNameCodeSequence[0].CodeMeaning, str(item.MeasuredValueSequence[0].NumericValue))
        for item in numbers
    ]


def test_each_lesion_is_drawn_and_refers_to_its_segment(make_case, identity) -> None:
    """Two groups of one tracking UID, the one with coordinates first; each is that of the SR of its own kind."""
    case = make_case()
    seg, sr = case.seg(identity), sr_of(case, identity)
    assert sr.ConceptNameCodeSequence[0].CodeValue == "126000"
    groups = groups_of(sr)
    found, drawn = (groups_of(build(case.reported(identity))[0]) for build in (build_sr, build_bidirectional_sr))
    assert len(groups) == 2 * len(case.findings.lesions) == 4
    for number, lesion in enumerate(case.findings.lesions):
        lines, numbers = groups[2 * number : 2 * number + 2]
        assert {group.ContentSequence[1].UID for group in (lines, numbers)} == {lesion.tracking_uid}
        assert lines.ContentSequence[0].TextValue == "Cornerstone3DTools@^0.1.0:Bidirectional"
        assert numbers.ContentSequence[0].TextValue == f"Lesion {lesion.number}"
        assert (values(lines), values(numbers)) == (values(drawn[number]), values(found[number + 1]))
        (image,) = [item for item in numbers.ContentSequence if item.ValueType == "IMAGE"][:1]
        reference = image.ReferencedSOPSequence[0]
        assert reference.ReferencedSOPInstanceUID == seg.SOPInstanceUID
        assert reference.ReferencedSegmentNumber == lesion.segment


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_every_figure_of_the_whole_is_said(make_case, identity, validate, modality) -> None:
    """What the other SR has as numbers of the liver and of the whole; in words, for they are not the lesion's."""
    case = make_case(modality=modality)
    findings = replace(case.findings, target_diameter_sum_mm=43.25)
    case = replace(case, findings=findings)
    sr, seg = sr_of(case, identity), case.seg(identity)
    parts = [item for item in sr.ContentSequence if item.ValueType == "CONTAINER"]
    comments = [item.TextValue for part in parts for item in part.ContentSequence if item.ValueType == "TEXT"]
    (alone,) = build_sr(replace(case.under(identity, seg=seg), findings=findings))
    liver, *_, whole = groups_of(alone)
    wording = {
        "Volume": f"Liver volume {findings.liver_volume_ml:.0f} mL, lesions included.",
        "Number of lesions": "2 liver lesions were found.",
        "Tumor burden (lesion volume per liver volume)": f"burden {findings.burden_percent:.2f} % of the",
        "Sum of target diameters (RECIST 1.1)": "Sum of target diameters (RECIST 1.1): 43.2 mm",
    }
    named = [name for name, _ in (*values(liver), *values(whole)) if name != "Attenuation Coefficient"]
    assert sorted(named) == sorted(wording)
    said = list(wording.values())
    if modality == "CT":
        said += [f"mean value is {findings.liver_hu_mean:.1f} HU, standard deviation {findings.liver_hu_sd:.1f} HU."]
    assert [words for words in said if not any(words in text for text in comments)] == []
    assert modality == "CT" or not any("HU" in text for text in comments)
    assert validate(sr) == []


@pytest.mark.parametrize("how", [{"lesions": False}, {"liver": False}], ids=["no lesion", "no liver"])
def test_nothing_to_draw_is_a_text(make_case, identity, validate, how) -> None:
    """Under 126000 OHIF would open a black viewport; what is said is what the SR of findings says."""
    case = make_case(**how)
    sr = sr_of(case, identity)
    assert sr.ConceptNameCodeSequence[0].CodeValue == "126001"
    (alone,) = build_sr(case.reported(identity))
    assert groups_of(sr) == groups_of(alone)
    assert sr.SOPInstanceUID != alone.SOPInstanceUID and sr.SeriesNumber == 9008
    assert validate(sr) == []


@pytest.mark.parametrize("sr_class", ["comprehensive_3d", "comprehensive"])
@pytest.mark.parametrize("how", [{}, {"frame_numbers": range(40, 26, -1), "modality": "MR"}], ids=["CT", "MR frames"])
def test_it_is_clean_and_read_by_others(make_case, identity, validate, require_binary, tmp_path, sr_class, how) -> None:
    """dciodvfy finds nothing, dsrdump parses the tree, dcmqi reads every group of both kinds."""
    case = make_case(**how)
    first = sr_of(case, identity, profile=Profile(sr_class=sr_class))
    sr = sr_of(case, replace(identity, revision=2), profile=Profile(sr_class=sr_class), predecessors=[first])
    assert validate(sr) == []
    sr.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    dumped = subprocess.run(
        [require_binary("dsrdump"), str(tmp_path / "sr.dcm")], capture_output=True, text=True, check=True
    )
    assert dumped.stderr == ""
    reader, report = require_binary("tid1500reader"), tmp_path / "sr.json"
    command = [reader, "--inputDICOM", str(tmp_path / "sr.dcm"), "--outputMetadata", str(report)]
    subprocess.run(command, capture_output=True, check=True)
    measured = json.loads(report.read_text())["Measurements"]
    assert [group["TrackingUniqueIdentifier"] for group in measured] == [
        lesion.tracking_uid for lesion in case.findings.lesions for _ in range(2)
    ]
    assert [group.get("ReferencedSegment") for group in measured[1::2]] == [
        lesion.segment for lesion in case.findings.lesions
    ]
