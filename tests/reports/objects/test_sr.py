"""The SR: its content tree, what validators and Slicer's reader make of it, and that nothing found is said."""

import contextlib
import io
import json
import subprocess
from dataclasses import replace

import highdicom as hd
import pydicom
import pytest
from highdicom.sr import MeasurementsAndQualitativeEvaluations, TrackingIdentifier
from pydicom import Dataset

from dicom_io.errors import NotDicom, RejectReason
from dicom_io.files.image_file import read_dataset
from reports import codes
from reports.errors import SourceUnusable
from reports.findings.measurements import measure
from reports.findings.severity import Level
from reports.findings.wording import assessment, lesion_place, millilitres
from reports.objects.kinds import FORMS
from reports.objects.profile import Profile
from reports.objects.sr import build_rejection_sr, build_sr
from reports.objects.sr_document import document
from reports.source_headers import usable_headers

CT_SERIES = ["ircadb_case17", "chaos_ct3", "lits_volume0"]


def sr_of(case, identity, seg: Dataset | None = None, **options) -> Dataset:
    (sr,) = build_sr(case.reported(identity, **({} if seg is None else {"seg": seg}), **options))
    return sr


def written(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def groups_of(sr: Dataset) -> list[Dataset]:
    root = pydicom.dcmread(io.BytesIO(written(sr)))
    (measurements,) = [item for item in root.ContentSequence if concept(item) == "126010"]
    return list(measurements.ContentSequence)


def concept(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue)


def values(group: Dataset) -> dict[tuple[str, str | None], tuple[float, str]]:
    """Numbers of a group: (code, derivation) to (value, unit)."""
    found = {}
    for item in group.ContentSequence:
        if item.ValueType == "NUM":
            children = [sub for sub in item.get("ContentSequence", []) if concept(sub) == "121401"]
            modifiers = [sub.ConceptCodeSequence[0].CodeValue for sub in children]
            measured = item.MeasuredValueSequence[0]
            key = (concept(item), modifiers[0] if modifiers else None)
            found[key] = (float(measured.NumericValue), measured.MeasurementUnitsCodeSequence[0].CodeValue)
    return found


def strings(item: Dataset) -> set[str]:
    """Every value in an item and below it."""
    return {str(element.value) for element in item.iterall()}


def comments(group: Dataset) -> list[str]:
    return [item.TextValue for item in group.ContentSequence if concept(item) == "121106"]


def head(sr: Dataset) -> list[str]:
    """The sentences before the measurements."""
    parts = [item for item in sr.ContentSequence if concept(item) in ("121106", "121111", "121071")]
    return [item.TextValue for part in parts for item in part.ContentSequence]


def test_words_come_first_and_a_sentence_for_each_lesion(make_case, identity, validate) -> None:
    """OHIF shows the tree from its top: it was a soup of numbers, with the hash of the weights in every group."""
    case = make_case(SeriesDescription="Recon 2 LIVER")
    confident = [replace(lesion, confidence=0.88, target=1) for lesion in case.findings.lesions]
    case = replace(case, findings=replace(case.findings, lesions=tuple(confident), liver_hu_mean=105.2))
    sr = sr_of(case, identity, note="Contrast phase: portal, known by a word in SeriesDescription.")
    order = [concept(item) for item in sr.ContentSequence]
    assert order.index("121111") < order.index("121071") < order.index("111028") < order.index("126010")
    first = confident[0]
    size, place = first.size, first.place
    sentences = head(sr)
    assert sentences[0] == "For research use, not a diagnosis."
    assert sentences[1].startswith("2 liver lesions were found.")
    assert sentences[2] == 'Segmented: CT series 4, "Recon 2 LIVER".'
    assert sentences[4] == (
        f"Lesion 1, {place.region}: {size.long_axis_mm:.1f} x {size.short_axis_mm:.1f} mm, "
        f"{millilitres(size.volume_ml)} mL, {first.values.hu_mean:.0f} HU (liver 105), certainty 0.88; "
        f"image {place.key_slice + 1} (z = {place.key_position_mm:.1f} mm), target T1."
    )
    content = pydicom.dcmread(io.BytesIO(written(sr))).ContentSequence
    holding = [
        value for item in content for value in strings(item) if case.segmentation.algorithm.weights_sha256 in value
    ]
    assert len(holding) == 1
    assert validate(sr) == []


def test_targets_bear_a_mark(make_case, identity, validate) -> None:
    """In a code and in words; one that the model is unsure of has a question mark, and a sentence of its own."""
    case = make_case()
    sure, unsure = case.findings.lesions
    lesions = (replace(sure, target=2, confidence=0.9), replace(unsure, target=1, confidence=0.45))
    sr = sr_of(replace(case, findings=replace(case.findings, lesions=lesions)), identity)
    _, *groups, _ = groups_of(sr)
    marks = [
        item.ConceptCodeSequence[0].CodeValue
        for group in groups
        for item in group.ContentSequence
        if concept(item) == "RECIST_TARGET"
    ]
    assert marks == ["T2", "T1"]
    sentences = head(sr)
    assert any(text.endswith("target T2.") for text in sentences) and any(text.endswith("T1?.") for text in sentences)
    assert any(text.startswith("Target T1 (lesion 2) has a confidence of 0.45, under 0.6: check") for text in sentences)
    assert validate(sr) == []


def test_the_entropy_says_its_bins(make_case, identity) -> None:
    """Another width gives another number."""
    _, first, *_ = groups_of(sr_of(make_case(), identity))
    (entropy,) = [item for item in first.ContentSequence if item.ValueType == "NUM" and concept(item) == "TLU2"]
    (method,) = [item for item in entropy.ContentSequence if concept(item) == "370129005"]
    assert method.ConceptCodeSequence[0].CodeMeaning == "Histogram with bins of 25 HU from -1000 HU"


def test_the_document_is_a_preliminary_oncology_report(make_case, identity) -> None:
    """TID 1500 under 126001, complete, unverified, by a device; every source and the SEG is evidence."""
    case = make_case()
    sr = sr_of(case, identity)
    assert sr.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
    assert (sr.SOPInstanceUID, sr.SeriesInstanceUID) == (identity.sr_sop_instance_uid, identity.sr_series_instance_uid)
    assert sr.ConceptNameCodeSequence[0].CodeValue == "126001"
    assert sr.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert (sr.CompletionFlag, sr.VerificationFlag, sr.PreliminaryFlag) == ("COMPLETE", "UNVERIFIED", "PRELIMINARY")
    texts = {concept(item): item for item in sr.ContentSequence}
    assert texts["121012"].UID == identity.device_observer_uid
    assert texts["121013"].TextValue == "Porta 0.1.0"
    assert texts["121015"].TextValue == "resnet50 1.2.0"
    (study,) = sr.CurrentRequestedProcedureEvidenceSequence
    assert study.StudyInstanceUID == case.headers[0].StudyInstanceUID
    evidence = {ref.ReferencedSOPInstanceUID for series in study.ReferencedSeriesSequence
                for ref in series.ReferencedSOPSequence}  # fmt: skip
    assert evidence == {*case.volume.sop_instance_uids, identity.seg_sop_instance_uid}


def test_each_segment_has_its_group(make_case, identity) -> None:
    """Liver, lesions in segment order, then the summary; the same tracking UIDs as in the SEG."""
    case = make_case()
    seg = case.seg()
    groups = groups_of(sr_of(case, identity, seg))
    assert len(groups) == 4
    for group, segment in zip(groups[:3], seg.SegmentSequence, strict=True):
        first, second = group.ContentSequence[:2]
        assert (concept(first), first.TextValue) == ("112039", segment.TrackingID)
        assert (concept(second), second.UID) == ("112040", segment.TrackingUID)
        (reference,) = [item for item in group.ContentSequence if concept(item) == "121191"]
        assert reference.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == seg.SOPInstanceUID
        assert reference.ReferencedSOPSequence[0].ReferencedSegmentNumber == segment.SegmentNumber
        (source,) = [item for item in group.ContentSequence if concept(item) == "121232"]
        assert source.UID == case.headers[0].SeriesInstanceUID


def test_the_numbers_are_the_findings(make_case, identity) -> None:
    """Volume, axes, diameter and Hounsfield units of a lesion; count and burden in the summary."""
    case = make_case()
    sr = sr_of(case, identity)
    liver, first, _, summary = groups_of(sr)
    lesion = case.findings.lesions[0]
    assert values(liver)["118565006", None] == (pytest.approx(case.findings.liver_volume_ml, abs=1e-3), "mL")
    found = values(first)
    assert found["118565006", None] == (pytest.approx(lesion.size.volume_ml, abs=1e-3), "mL")
    assert found["103339001", None] == (pytest.approx(lesion.size.long_axis_mm, abs=1e-3), "mm")
    assert found["103340004", None] == (pytest.approx(lesion.size.short_axis_mm, abs=1e-3), "mm")
    assert found["L0JK", None] == (pytest.approx(lesion.size.diameter_3d_mm, abs=1e-3), "mm")
    assert found["112031", "373098007"] == (pytest.approx(lesion.values.hu_mean, abs=1e-3), "[hnsf'U]")
    assert found["112031", "386136009"] == (pytest.approx(lesion.values.hu_sd, abs=1e-3), "[hnsf'U]")
    assert values(summary)["246206008", None] == (2, "1")
    assert values(summary)["TUMOR_BURDEN", None] == (pytest.approx(case.findings.burden_percent, abs=1e-3), "%")
    assert "For research use, not a diagnosis." in head(sr)


def test_no_lesion_is_stated(make_case, identity, validate) -> None:
    """A count of 0 and a sentence: nobody has to guess whether it was read."""
    sr = sr_of(make_case(lesions=False), identity)
    liver, summary = groups_of(sr)
    assert values(summary)["246206008", None] == (0, "1")
    assert values(summary)["TUMOR_BURDEN", None] == (0, "%")
    assert any(text.startswith("No liver lesion was found.") for text in head(sr))
    assert validate(sr) == []


def test_no_liver_is_stated_without_a_seg(make_case, identity, validate) -> None:
    """The SR alone: liver not detected, no count of lesions, the warning."""
    sr = sr_of(make_case(liver=False), identity)
    (summary,) = groups_of(sr)
    (evaluation,) = [item for item in summary.ContentSequence if concept(item) == "10200004"]
    assert evaluation.ConceptCodeSequence[0].CodeValue == "260415000"
    assert values(summary) == {}
    assert "Warning: NO_LIVER. No liver was found in the images." in head(sr)
    assert validate(sr) == []


def test_lesions_that_are_not_reported_are_not_counted(make_case, identity, validate) -> None:
    """Of images that the model does not know: the liver and the reason, no count, no burden, no severity."""
    case = make_case(lesions=False)
    doubtful = replace(case.segmentation, warnings=("VALUES_DOUBTFUL",))
    case = replace(case, segmentation=doubtful, findings=measure(case.volume, doubtful, tracking_seed="job-7"))
    sr = sr_of(case, identity)
    liver, summary = groups_of(sr)
    assert values(liver) and values(summary) == {}
    assert not any("No liver lesion was found" in text for text in head(sr))
    assert any(text.startswith("Lesions are not reported: ") for text in head(sr))
    assert any(text.startswith("Warning: VALUES_DOUBTFUL.") for text in head(sr))
    assert validate(sr) == []


def test_a_seg_goes_with_a_liver(make_case, identity) -> None:
    """An SR that refers to nothing, or a SEG that no SR needs, is a mistake of the caller."""
    case = make_case()
    with pytest.raises(ValueError, match="SEG"):
        build_sr(case.under(identity))


def test_a_revision_names_its_predecessor(make_case, identity) -> None:
    """PredecessorDocumentsSequence, in the same study; and in words, which viewers show."""
    case = make_case()
    first = build_rejection_sr(case.headers, "Why.", RejectReason.TOO_FEW_SLICES, identity=identity)
    second = sr_of(case, replace(identity, revision=2), predecessors=[first])
    said = (
        "This report replaces 1 earlier report of Porta Hepatis; what an earlier one says, also NOT PROCESSED, is void."
    )
    assert said in strings(second)
    assert said not in strings(sr_of(case, identity))
    reference = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert second.SOPInstanceUID != first.SOPInstanceUID


def test_an_sr_may_replace_that_of_another_series(make_case, identity, validate) -> None:
    """A better series of the study came later: its report supersedes the earlier one's, and stays clean."""
    case = make_case()
    earlier = sr_of(case, replace(identity, seed="job-6"))
    ds = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        setattr(ds, keyword, earlier[keyword].value)
    sr = sr_of(case, identity, predecessors=[ds])
    (study,) = sr.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    assert study.StudyInstanceUID == sr.StudyInstanceUID
    assert series.SeriesInstanceUID == earlier.SeriesInstanceUID != sr.SeriesInstanceUID
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == earlier.SOPInstanceUID
    (current,) = sr.CurrentRequestedProcedureEvidenceSequence
    assert earlier.SeriesInstanceUID not in [item.SeriesInstanceUID for item in current.ReferencedSeriesSequence]
    assert validate(sr) == []


def test_the_volume_is_said(make_case, identity, validate) -> None:
    """Which one of the series, in a sentence and in the name of the result's series."""
    second = replace(identity, volume_index=1, volume_label="AcquisitionNumber 3")
    note = "Of 2 volumes the portal-venous one (AcquisitionNumber 3) was segmented."
    sr = sr_of(make_case(), second, note=note)
    assert note in head(sr)
    assert sr.SeriesNumber == 9012
    assert sr.SeriesDescription == "Porta: findings (AcquisitionNumber 3)"
    assert validate(sr) == []
    plain = make_case()
    said = 3 + len(plain.findings.lesions) + len(assessment(plain.findings)) + len(plain.findings.warnings)
    assert len(head(sr_of(plain, identity))) == said


def test_references_to_frames_say_which(make_case, identity, validate) -> None:
    """Each entry of the Image Library is a frame; the evidence lists the image once."""
    case = make_case(frame_numbers=range(40, 26, -1), modality="MR")
    sr = sr_of(case, identity)
    (library,) = [item for item in sr.ContentSequence if concept(item) == "111028"]
    images = [item.ReferencedSOPSequence[0] for item in library.ContentSequence[0].ContentSequence]
    expected = sorted({(lesion.place.key_slice, lesion.place.key_frame_number) for lesion in case.findings.lesions})
    assert [image.ReferencedFrameNumber for image in images] == [number for _, number in expected]
    assert {image.ReferencedSOPClassUID for image in images} == {"1.2.840.10008.5.1.4.1.1.4.1"}
    (study,) = sr.CurrentRequestedProcedureEvidenceSequence
    listed = [ref.ReferencedSOPInstanceUID for series in study.ReferencedSeriesSequence
              for ref in series.ReferencedSOPSequence]  # fmt: skip
    assert listed == ["1.2.826.0.1.77.0", identity.seg_sop_instance_uid]
    assert validate(sr) == []


def test_mr_is_reported_without_hounsfield_units(make_case, identity, validate) -> None:
    """An MR procedure; sizes alone."""
    sr = sr_of(make_case(modality="MR"), identity)
    _, first, _, _ = groups_of(sr)
    sizes, shape, spread = ("118565006", "103339001", "103340004", "L0JK"), ("RNU0", "C0JK", "QCFX"), ("KE2A", "IPH6")
    assert set(values(first)) == {(code, None) for code in (*sizes, *shape, *spread)}
    (procedure,) = [item for item in sr.ContentSequence if concept(item) == "121058"]
    assert procedure.ConceptCodeSequence[0].CodeValue == "25056-3"
    assert validate(sr) == []


@pytest.mark.parametrize(
    ("orientation", "plane"),
    [((0, 1, 0, 0, 0, -1), "sagittal"), ((1, 0, 0, 0, 0, -1), "coronal"), ((0.8, 0.6, 0, -0.36, 0.48, 0.8), "oblique")],
)
def test_axes_off_the_axial_plane_are_said_to_be(make_case, identity, orientation, plane) -> None:
    """RECIST means axial slices; with no lesion there is no axis to speak of."""
    note = f"Long and short axes were measured in the {plane} plane, as the images were acquired."
    assert note in head(sr_of(make_case(orientation=orientation), identity))
    assert note not in head(sr_of(make_case(orientation=orientation, lesions=False), identity))
    assert not [text for text in head(sr_of(make_case(), identity)) if "plane" in text]


def test_the_same_input_gives_the_same_bytes(make_case, identity) -> None:
    """As the SEG: nothing of the clock, nothing by lot."""
    case = make_case()
    assert written(sr_of(case, identity)) == written(sr_of(case, identity))


@pytest.mark.parametrize("lesions", [True, False])
def test_the_older_class_holds_the_same(make_case, identity, validate, lesions) -> None:
    """Comprehensive SR, for who knows no Comprehensive 3D: the same tree under another SOP class, and its own UIDs."""
    case = make_case(lesions=lesions)
    usual = sr_of(case, identity)
    other = sr_of(case, identity, profile=Profile(sr_class="comprehensive"))
    assert other.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.33"
    assert other.SOPInstanceUID != usual.SOPInstanceUID
    assert other.ContentSequence == usual.ContentSequence
    assert validate(other) == []


def test_a_verdict_may_supersede_another(make_case, identity, validate) -> None:
    """For another reason, after a late slice; in either class."""
    case = make_case()
    first = build_rejection_sr(case.headers, "Too few.", "TOO_FEW_SLICES", identity=identity)
    second = build_rejection_sr(
        case.headers,
        "Too short.",
        "TOO_SHORT",
        identity=replace(identity, revision=2),
        predecessors=[first],
        form=FORMS["verdict_comprehensive"],
    )
    reference = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert second.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.33"
    assert validate(second) == []


def test_the_image_library_is_short(make_case, identity) -> None:
    """The key images only."""
    case = make_case()
    (library,) = [item for item in sr_of(case, identity).ContentSequence if concept(item) == "111028"]
    images = library.ContentSequence[0].ContentSequence
    listed = {image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for image in images}
    assert listed == {lesion.place.key_sop_instance_uid for lesion in case.findings.lesions}


def test_every_finding_that_has_a_code_is_there(make_case, identity, validate) -> None:
    """Of each lesion its shape and its values, of the whole the assessment, each as in the findings."""
    case = make_case()
    lesions = tuple(replace(lesion, confidence=0.9) for lesion in case.findings.lesions)
    findings = replace(case.findings, lesions=lesions, target_diameter_sum_mm=34.5)
    sr = sr_of(replace(case, findings=findings), identity)
    liver, *groups, summary = groups_of(sr)
    assert values(liver)["112031", "373098007"] == (pytest.approx(findings.liver_hu_mean, abs=1e-3), "[hnsf'U]")
    for lesion, group in zip(lesions, groups, strict=True):
        expected = {
            ("RNU0", None): (lesion.shape.mesh_volume_ml, "mL"),
            ("C0JK", None): (lesion.shape.surface_mm2, "mm2"),
            ("QCFX", None): (lesion.shape.sphericity, "1"),
            ("KE2A", None): (lesion.values.skewness, "1"),
            ("IPH6", None): (lesion.values.kurtosis, "1"),
            ("TLU2", None): (lesion.values.entropy_bits, "bit"),
            ("111012", None): (90, "%"),
            ("112031", "371890005"): (lesion.values.hu_p10, "[hnsf'U]"),
            ("112031", "373099004"): (lesion.values.hu_p50, "[hnsf'U]"),
            ("112031", "371887004"): (lesion.values.hu_p90, "[hnsf'U]"),
        }
        found = values(group)
        for key, (value, unit) in expected.items():
            assert found[key] == (pytest.approx(value, abs=1e-3), unit), key
        assert comments(group) == [lesion_place(lesion)] and "from the capsule" in lesion_place(lesion)
    assert values(summary)["TARGET_SUM", None] == (34.5, "mm")
    coded = {concept(item): item for item in summary.ContentSequence if item.ValueType == "CODE"}
    answers = {code: str(item.ConceptCodeSequence[0].CodeMeaning).lower() for code, item in coded.items()}
    assert answers["246112005"] == findings.severity.level
    assert answers["MILAN"] == ("yes" if findings.milan.met else "no")
    assert answers["UP_TO_SEVEN"] == ("yes" if findings.up_to_seven.met else "no")
    assert set(assessment(findings)) < set(head(sr))
    assert validate(sr) == []


def test_every_level_of_severity_has_a_code() -> None:
    """Complete, so that a new level cannot be forgotten."""
    assert set(codes.SEVERITY_LEVELS) == set(Level)


def test_warnings_become_comments(make_case, identity) -> None:
    """What must be known to read the numbers stands beside them."""
    case = make_case()
    case = replace(case, findings=replace(case.findings, warnings=("TILT", "LESIONS_TRUNCATED", "NEWER_THAN_THIS")))
    assert head(sr_of(case, identity))[-3:] == [
        "Warning: TILT. The gantry was tilted: the slices are not stacked along their normal.",
        "Warning: LESIONS_TRUNCATED. More lesions were found than a result can hold; the smallest were left out.",
        "Warning: NEWER_THAN_THIS.",
    ]


@pytest.mark.parametrize("lesions", [True, False])
def test_an_sr_passes_dciodvfy(make_case, identity, validate, lesions) -> None:
    """No error, and no warning but the private scheme's."""
    assert validate(sr_of(make_case(lesions=lesions), identity)) == []


@pytest.mark.parametrize("name", CT_SERIES)
def test_the_real_series_pass_dciodvfy(real_case, identity, validate, name) -> None:
    """As in the SEG's test: three real sources, each odd in its own way."""
    assert validate(sr_of(real_case(name), identity)) == []


def test_highdicom_reads_the_groups(make_case, identity) -> None:
    """The library's own view of TID 1411 and 1501."""
    sr = hd.sr.srread(io.BytesIO(written(sr_of(make_case(), identity))))
    groups = sr.content.get_volumetric_roi_measurement_groups()
    assert [group.tracking_identifier for group in groups] == ["Liver", "Lesion 1", "Lesion 2"]
    assert groups[1].finding_type.value == "4147007"
    assert groups[1].finding_sites[0].topographical_modifier is None
    (summary,) = sr.content.get_image_measurement_groups()
    assert summary.tracking_identifier == "Summary"


def test_slicer_s_reader_finds_the_groups(make_case, identity, require_binary, tmp_path) -> None:
    """dcmqi's tid1500reader: three segments with their measurements."""
    program = require_binary("tid1500reader")
    case = make_case()
    sr_of(case, identity).save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    output = tmp_path / "sr.json"
    command = [program, "--inputDICOM", str(tmp_path / "sr.dcm"), "--outputMetadata", str(output)]
    subprocess.run(command, check=True, capture_output=True)
    measurements = json.loads(output.read_text())["Measurements"]
    segments = [group for group in measurements if "ReferencedSegment" in group]
    assert [group["ReferencedSegment"] for group in segments] == [1, 2, 3]
    assert [group["TrackingIdentifier"] for group in segments] == ["Liver", "Lesion 1", "Lesion 2"]
    long_axis = [item for item in segments[1]["measurementItems"] if item["quantity"]["CodeValue"] == "103339001"]
    assert float(long_axis[0]["value"]) == pytest.approx(case.findings.lesions[0].size.long_axis_mm, abs=1e-3)


def test_dsrdump_prints_the_tree(make_case, identity, require_binary, tmp_path) -> None:
    """DCMTK parses the whole tree."""
    program = require_binary("dsrdump")
    sr_of(make_case(), identity).save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    done = subprocess.run([program, str(tmp_path / "sr.dcm")], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.count('"Measurement Group"') == 4


@pytest.mark.parametrize(
    ("charset", "name"), [(["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"), ("ISO_IR 126", "Διονυσιος")]
)
def test_names_keep_their_characters(make_case, identity, charset, name) -> None:
    """The source's character set, its bytes, and the same name."""
    case = make_case(SpecificCharacterSet=charset, PatientName=name)
    sr = pydicom.dcmread(io.BytesIO(written(sr_of(case, identity))))
    assert str(sr.PatientName) == name
    assert sr.SpecificCharacterSet == case.headers[0].SpecificCharacterSet


def test_results_that_belong_elsewhere_are_withdrawn(make_case, identity, validate) -> None:
    """They were processed: neither the title of the series nor the text says otherwise."""
    reason = RejectReason.REASSIGNED
    sr = build_rejection_sr(make_case().headers, reason.sentence, reason, identity=identity)
    assert sr.SeriesDescription == "Porta: results withdrawn"
    (group,) = groups_of(sr)
    assert head(sr)[0] == f"RESULTS WITHDRAWN. {reason.sentence}"
    assert validate(sr) == []


@pytest.mark.parametrize("reason", [reason for reason in RejectReason if reason != RejectReason.REASSIGNED])
def test_a_rejected_series_is_reported_with_its_reason(make_case, identity, validate, reason) -> None:
    """NOT PROCESSED, whatever the headers lack; which series, and by which program: no model had a part in it."""
    case = make_case(SeriesDescription="Recon 2 LIVER")
    for header in case.headers:
        del header.ImagePositionPatient, header.PixelSpacing, header.FrameOfReferenceUID
    sr = build_rejection_sr(case.headers, reason.sentence, reason, identity=identity)
    assert sr.SeriesDescription == "Porta: not processed"
    assert sr.SOPInstanceUID == identity.sop_instance_uid("verdict") != identity.sr_sop_instance_uid
    (group,) = groups_of(sr)
    assert head(sr)[0] == f"NOT PROCESSED. {reason.sentence}"
    assert head(sr)[1] == 'The series is CT series 4, "Recon 2 LIVER".'
    assert str(reason) in strings(group)
    (model,) = [item.TextValue for item in sr.ContentSequence if concept(item) == "121015"]
    assert (model, sr.SoftwareVersions) == ("Porta", "0.1.0")
    assert not any("none none" in value for value in strings(sr))
    assert validate(sr) == []


REJECTED = [
    "dcm_qa_ct/philips_exam_summary_sc_and_survey_dicom",
    "dcm_qa_mr/philips_enhanced_mr_plus_raw_data_same_series_dicom",
    "pydicom_small/dicomdirtests_77654033_mixed_cr_ct", "pydicom_small/dicomdirtests_98892003_mr",
    "totalsegmentator_example/example_ct_dicom_blank_uids_j2k", "hcc_tace_seg_007/ct_precontrast_10mm_dicom",
    "dicom2nifti_oddities_noise_pixels/generic_rgb_001", "dicom2nifti_oddities_noise_pixels/philips_enhanced_fmri_001",
]  # fmt: skip


@pytest.mark.parametrize("name", REJECTED)
def test_whatever_comes_can_be_rejected(unpacked, identity, validate, name) -> None:
    """Secondary captures, raw data, radiographs, whole Enhanced images, objects without UIDs: the report is clean."""
    datasets = []
    for path in unpacked(name):
        with contextlib.suppress(NotDicom):
            datasets.append(read_dataset(path))
    named = [ds for ds in datasets if ds.get("SOPInstanceUID") and ds.get("SOPClassUID")]
    if not named:
        with pytest.raises(SourceUnusable):
            build_rejection_sr(datasets, "No UIDs.", "NO_UID", identity=identity)
        return
    for uid in {ds.SeriesInstanceUID for ds in named}:
        series = [ds for ds in named if ds.SeriesInstanceUID == uid]
        sr = build_rejection_sr(series, "The series holds no images.", "NOT_IMAGES", identity=identity)
        assert validate(sr) == []
        assert sr.StudyInstanceUID == series[0].StudyInstanceUID


def test_what_has_no_uids_is_passed_over(make_case, identity, validate) -> None:
    """The others of its series still say where the report belongs."""
    case = make_case()
    sr = build_rejection_sr([Dataset(), *case.headers], "No UIDs.", "NO_UID", identity=identity)
    assert sr.PatientID == case.headers[0].PatientID and validate(sr) == []


def test_a_rejection_needs_uids(identity) -> None:
    """Without a study there is nowhere to put it."""
    with pytest.raises(SourceUnusable):
        build_rejection_sr([], "No images.", "NOT_IMAGES", identity=identity)
    with pytest.raises(SourceUnusable):
        build_rejection_sr([Dataset()], "No images.", "NOT_IMAGES", identity=identity)


def test_a_reference_without_evidence_is_refused(make_case, identity) -> None:
    """What the tree refers to stands in CurrentRequestedProcedureEvidenceSequence, or there is no SR (C.17.2.3)."""
    case = make_case()
    sources = usable_headers(case.headers, "1.2.3.4")
    group = MeasurementsAndQualitativeEvaluations(TrackingIdentifier("1.2.3.6", "Summary"))
    of = {
        "title": codes.ONCOLOGY_MEASUREMENT_REPORT,
        "form": FORMS["sr_comprehensive"],
        "predecessors": (),
        "notes": (),
    }
    by = {"algorithm": case.segmentation.algorithm, "identity": identity}
    with pytest.raises(SourceUnusable):
        document([group], sources[:3], library=sources[3:4], source=sources[0], **of, **by)
