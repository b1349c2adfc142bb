"""The course of lesions as it is shown: in findings.json, SR, on the summary page and in the PDF."""

import io
import json
from collections.abc import Sequence
from dataclasses import replace

import pydicom
import pytest
from pypdf import PdfReader

from dicom_io.segmentation import Algorithm
from dicom_io.sr_reader import read_measurement_groups
from reports.findings.caveats import SENTENCES
from reports.findings.course import Course, EarlierStudy, FollowUp, PriorLesion, PriorSize
from reports.findings.measurements import Findings
from reports.findings.response import RESPONSE_CAVEAT, Category, Growth, Response, Status
from reports.findings.wording import assessment, course_cell, lesion_course
from reports.objects.findings_json import findings_json
from reports.objects.pdf import build_pdf
from reports.objects.profile import Profile
from reports.objects.sr import build_sr
from reports.pages.course_charts import target_course, volume_course
from reports.pages.drawing import Box, Canvas
from reports.pages.slice_page import HEIGHT, WIDTH
from reports.pages.summary_page import draw_summary

GONE = PriorLesion(3, "1.2.9", 1.5, 14.0, 12.0, (0.0, 0.0, 0.0), 4, 4)
KNOWN = PriorLesion(2, "1.2.8", 2.0, 16.0, 12.0, (0.0, 0.0, 0.0), 4, 4)
GROWN = Growth(prior_diameter_mm=16.0, diameter_mm=20.0, prior_volume_ml=2.0, volume_ml=4.0, days=90)
REASON = "sum of target diameters 30.0 mm then, 31.0 mm now (+3.3 %)"
SD = Response(Category.SD, (REASON,), 30.0, 31.0, target=Category.SD, non_target=Category.NEITHER)


def followed(findings: Findings, courses: Sequence[Course] = (), **changes: object) -> Findings:
    """The two lesions of a case: the first has grown, the second is new; another one has gone."""
    first, second = findings.lesions
    grown, new = courses or (
        Course(1, Status.GROWN, "1.2.8", (1,), (2,), GROWN),
        Course(2, Status.NEW, second.tracking_uid),
    )
    values = {"days": 90, "prior_lesions": (KNOWN, GONE), "disappeared": (GONE,), "outside": ()}
    follow_up = FollowUp(**(values | {"response": SD, "dice": 0.95, "surface_mm": 1.2} | changes))
    lesions = (replace(first, tracking_uid="1.2.8", course=grown), replace(second, course=new))
    return replace(findings, lesions=lesions, follow_up=follow_up)


def comments(item: pydicom.Dataset) -> list[str]:
    found = [str(child.TextValue) for child in item.get("ContentSequence", []) if child.get("TextValue")]
    return found + [text for child in item.get("ContentSequence", []) for text in comments(child)]


def codes_in(item: pydicom.Dataset) -> list[tuple[str, str]]:
    """Concept and value of each coded item, in the document's order."""
    children = item.get("ContentSequence", [])
    own = [
        (child.ConceptNameCodeSequence[0].CodeValue, child.ConceptCodeSequence[0].CodeValue)
        for child in children
        if child.ValueType == "CODE"
    ]
    return own + [pair for child in children for pair in codes_in(child)]


def test_one_sum_of_one_name(make_case) -> None:
    """The sum of today's own largest lesions is another one than that of the baseline's targets, and says so."""
    findings = make_case().findings
    own = f"{findings.target_diameter_sum_mm:.1f} mm."
    assert f"Sum of target diameters (RECIST 1.1): {own}" in assessment(findings)[0]
    said = assessment(followed(findings))[0]
    assert f"With this study as baseline, sum of target diameters (RECIST 1.1): {own}" in said
    assert "Sum of" not in said
    unknown = followed(findings, response=Response(None, ("too thick",)))
    assert f"Sum of target diameters (RECIST 1.1): {own}" in assessment(unknown)[0]


def test_findings_json_has_the_course(make_case) -> None:
    """Days and no date; of each lesion its state and growth; the earlier lesions; the category with its caveat."""
    case = make_case()
    content = json.loads(json.dumps(findings_json(followed(case.findings), Algorithm("m", "1", ""), software="p")))
    first, second = content["lesions"]
    assert {key: first[key] for key in ("status", "prior_numbers", "growth_mm", "growth_ml", "growth_percent")} == {
        "status": "grown", "prior_numbers": [2], "growth_mm": 4.0, "growth_ml": 2.0, "growth_percent": 100.0,
    }  # fmt: skip
    assert first["doubling_days"] == 90.0
    assert (second["status"], second["prior_numbers"], second["growth_percent"]) == ("new", [], None)
    prior = content["prior"]
    assert (prior["days"], prior["overlap"], prior["surface_mm"]) == (90, 0.95, 1.2)
    assert [lesion["number"] for lesion in prior["lesions"]] == [2, 3]
    assert (prior["disappeared"], prior["outside"], prior["studies"]) == ([3], [], [])
    assert prior["response"] == {
        "category": "SD", "target": "SD", "non_target": "non-CR/non-PD", "new_lesions": False,
        "reasons": list(SD.reasons), "prior_sum_mm": 30.0, "sum_mm": 31.0, "baseline_sum_mm": None,
        "nadir_sum_mm": None, "caveat": RESPONSE_CAVEAT,
    }  # fmt: skip


def test_the_course_in_words(make_case) -> None:
    """The whole, and each lesion; in letters that every character set has."""
    findings = followed(make_case().findings)
    said = assessment(findings)
    categories = "targets SD, non-targets non-CR/non-PD, no new lesion"
    assert (
        "Lesions against a study of 90 days earlier: 1 new, 1 grown, 1 disappeared (14.0 mm then)." in said
        and f"RECIST 1.1, suggested: stable disease (SD; {categories}): {REASON}." in said
        and RESPONSE_CAVEAT in said
    )
    first, second = findings.lesions
    assert lesion_course(findings, first) == (
        "Grown since a study of 90 days earlier (lesion 2 then): long axis from 16.0 to 20.0 mm (+4.0 mm, +25.0 %), "
        "volume from 2.0 to 4.0 mL (+100.0 %), doubling time 90 days."
    )
    assert lesion_course(findings, second) == "New since a study of 90 days earlier."
    assert [course_cell(lesion.course) for lesion in findings.lesions] == ["+100 %", "new"]
    assert " ".join(said).isascii() and lesion_course(findings, first).isascii()


def several(findings: Findings, **changes: object) -> Findings:
    """The same with two studies before that one: the first lesion was known, the second is new since the last."""
    one, two = PriorSize(1, "1.2.8", 3.0, 18.0, 14.0), PriorSize(1, "1.2.8", 1.0, 12.0, 10.0)
    compared = (PriorSize(2, "1.2.8", 2.0, 16.0, 12.0), PriorSize(3, "1.2.9", 1.5, 14.0, 12.0))
    unknown = Course(2, Status.NEW, "")

    def course(size: PriorSize, days: int) -> Course:
        return Course(1, Status.GROWN, "1.2.8", (1,), (1,), Growth(size.long_axis_mm, 20.0, size.volume_ml, 4.0, days))

    studies = (
        EarlierStudy(270, (one,), (course(one, 270), unknown), 18.0, is_baseline=True),
        EarlierStudy(180, (two,), (course(two, 180), unknown), 12.0, is_nadir=True, is_from_report=True),
        EarlierStudy(90, compared, (Course(1, Status.GROWN, "1.2.8", (1,), (2,), GROWN), unknown), 16.0, True),
    )
    response = Response(Category.PD, SD.reasons, 16.0, 20.0, 18.0, 12.0)
    return followed(findings, **({"studies": studies, "response": response} | changes))


def test_the_way_over_several_studies(make_case, identity, validate) -> None:
    """In findings.json each study with its part and each lesion with its sizes; in words; in the SR; as a chart."""
    case = make_case()
    findings = several(case.findings)
    content = json.loads(json.dumps(findings_json(findings, Algorithm("m", "1", ""), software="p")))
    assert [
        (study["days"], study["baseline"], study["nadir"], study["compared"], study["source"])
        for study in content["prior"]["studies"]
    ] == [(270, True, False, False, "seg"), (180, False, True, False, "sr"), (90, False, False, True, "seg")]
    assert [study["target_diameter_sum_mm"] for study in content["prior"]["studies"]] == [18.0, 12.0, 16.0]
    assert content["prior"]["studies"][1]["lesions"] == [
        {"number": 1, "tracking_uid": "1.2.8", "volume_ml": 1.0, "long_axis_mm": 12.0, "short_axis_mm": 10.0}
    ]
    first, second = content["lesions"]
    assert [(each["days"], each["prior_numbers"], each["volume_ml"]) for each in first["history"]] == [
        (270, [1], 3.0), (180, [1], 1.0), (90, [2], 2.0),
    ]  # fmt: skip
    assert second["history"] == []
    assert (content["prior"]["response"]["baseline_sum_mm"], content["prior"]["response"]["nadir_sum_mm"]) == (18, 12)
    said = assessment(findings)
    assert (
        "Earlier studies: 270 days earlier (baseline): 1 lesion, 3.0 mL, targets 18.0 mm; 180 days earlier (nadir, "
        "from its report only): 1 lesion, 1.0 mL, targets 12.0 mm; 90 days earlier: 2 lesions, 3.5 mL, targets 16.0 mm."
    ) in said
    sentence = lesion_course(findings, findings.lesions[0])
    assert sentence.endswith("Also: 270 days earlier 18.0 mm, 3.0 mL; 180 days earlier 12.0 mm, 1.0 mL.")
    assert volume_course(findings, findings.lesions[0])[:3] == [(-270, 3.0), (-180, 1.0), (-90, 2.0)]
    assert target_course(findings) == [(-270, 18.0), (-180, 12.0), (-90, 16.0), (0, 20.0)]
    (sr,) = build_sr(replace(case, findings=findings).reported(identity))
    assert validate(sr) == []
    assert sentence in comments(sr)
    ds = build_pdf(replace(case, findings=findings).under(identity))[0]
    document = ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength]
    text = "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(document)).pages)
    assert "Volume over time, mL, by lesion" in text and "Sum of target diameters over time, mm" in text
    assert "baseline" in text and "nadir" in text and "\N{MINUS SIGN}270" in text.replace("-270", "\N{MINUS SIGN}270")


def test_all_gone_has_a_way_too(make_case, identity) -> None:
    """Without a lesion today the sums are still drawn."""
    case = make_case(lesions=False)
    way = several(make_case().findings).follow_up
    studies = tuple(replace(study, courses=()) for study in way.studies)
    gone = replace(way, studies=studies, response=Response(Category.CR, (), 16.0, 0.0, 18.0, 0.0))
    findings = replace(case.findings, follow_up=gone)
    assert target_course(findings)[-1] == (0, 0.0)
    ds = build_pdf(replace(case, findings=findings).under(identity))[0]
    document = ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength]
    text = "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(document)).pages)
    assert "Sum of target diameters over time, mm" in text


def test_merged_split_and_undated(make_case) -> None:
    """Which were one, which are one; no days, no doubling time."""
    findings = make_case().findings
    undated = replace(GROWN, days=None)
    courses = (
        Course(1, Status.SPLIT, "1.2.8", (1, 2), (2,), undated),
        Course(2, Status.SPLIT, "1.2.7", (1, 2), (2,), undated),
    )
    split = followed(findings, days=None, courses=courses, response=Response(None, ("too thick",)))
    assert lesion_course(split, split.lesions[1]).startswith(
        "Split since an earlier study (lesion 2 then, now lesions 1, 2):"
    )
    assert "doubling" not in lesion_course(split, split.lesions[0])
    assert "RECIST 1.1, suggested: no category: too thick." in assessment(split)
    merged = Course(1, Status.MERGED, "1.2.8", (1,), (2, 3), GROWN)
    outside = Course(2, Status.OUTSIDE, "1.2.7")
    other = followed(findings, days=0, courses=(merged, outside), disappeared=(), outside=(GONE,))
    assert "Merged since an earlier study of the same day (lesions 2, 3 then)" in lesion_course(other, other.lesions[0])
    assert "Outside the images of" in lesion_course(other, other.lesions[1])
    assert "1 outside these images (14.0 mm then)" in " ".join(assessment(other))


def test_without_an_earlier_study_nothing_is_said(make_case) -> None:
    findings = make_case().findings
    assert lesion_course(findings, findings.lesions[0]) == ""
    assert not any("earlier" in text or "RECIST 1.1, suggested" in text for text in assessment(findings))


@pytest.mark.parametrize("sr_class", ["comprehensive_3d", "comprehensive"])
def test_the_sr_is_clean_and_has_the_course(make_case, identity, validate, sr_class) -> None:
    """Coded states, changes with their units, the response with its code, and all of it in words."""
    case = make_case()
    case = replace(case, findings=followed(case.findings))
    seg = case.seg()
    (sr,) = build_sr(case.under(identity, seg=seg, profile=Profile(sr_class=sr_class)))
    assert validate(sr) == []
    assert [item.TrackingUID for item in seg.SegmentSequence][1] == "1.2.8"
    groups = read_measurement_groups(sr)
    assert groups[1].tracking_uid == "1.2.8"
    assert {key: groups[1].numbers[key] for key in ("DIAMETER_CHANGE", "VOLUME_CHANGE", "DOUBLING_TIME")} == {
        "DIAMETER_CHANGE": 4.0, "VOLUME_CHANGE": 100.0, "DOUBLING_TIME": 90.0,
    }  # fmt: skip
    assert "VOLUME_CHANGE" not in groups[2].numbers
    texts = comments(sr)
    assert lesion_course(case.findings, case.findings.lesions[0]) in texts
    assert RESPONSE_CAVEAT in texts
    coded = json.dumps(sr.to_json_dict(), default=str)
    assert all(code in coded for code in ("15454001", "LESION_COURSE"))
    # Over all, of the targets, of the non-targets, and that there is no new one, each with a code that means just that
    assert [pair for pair in codes_in(sr) if pair[0] in ("OVERALL_RESPONSE", "112048", "NEW_LESIONS")] == [
        ("OVERALL_RESPONSE", "C18213"), ("112048", "112044"), ("112048", "112046"), ("NEW_LESIONS", "373067005"),
    ]  # fmt: skip


def test_all_gone_is_said_in_the_sr(make_case, identity, validate) -> None:
    """No lesion now, one then: a complete response, suggested."""
    case = make_case(lesions=False)
    response = Response(Category.CR, ("all targets have disappeared",), 14.0, 0.0, target=Category.CR)
    gone = FollowUp(90, (GONE,), (GONE,), (), response, 0.95, 1.2)
    findings = replace(case.findings, follow_up=gone)
    (sr,) = build_sr(replace(case, findings=findings).reported(identity))
    assert validate(sr) == []
    assert any("1 disappeared (14.0 mm then)" in text for text in comments(sr))
    assert "112041" in json.dumps(sr.to_json_dict(), default=str)


class Noted(Canvas):
    """A canvas that also keeps what was written, and where."""

    def __init__(self) -> None:
        super().__init__(WIDTH, HEIGHT)
        self.written: list[str] = []
        self.boxes: list[Box] = []

    def text(self, x, baseline, text, size, **how) -> Box:
        box = super().text(x, baseline, text, size, **how)
        self.written.append(text)
        self.boxes += [box] if text else []
        return box


def test_the_summary_page_and_the_pdf_show_it(make_case, identity) -> None:
    """Sentences, and a column of the table; in the PDF bars of then beside those of now."""
    case = make_case()
    findings = followed(case.findings)
    canvas = Noted()
    draw_summary(canvas, findings, case.segmentation.algorithm, identity=identity, series="CT series 4")
    words = " ".join(canvas.written)
    assert "Lesions against a study of 90 days earlier" in words and "stable disease (SD;" in words
    assert "Change" in canvas.written and "+100 %" in canvas.written and "new" in canvas.written
    assert "Confidence" in canvas.written
    ds = build_pdf(replace(case, findings=findings).under(identity))[0]
    document = ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength]
    text = "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(document)).pages)
    assert "Lesions against a study of 90 days earlier" in text and "+100 %" in text
    assert "Volume then and now, mL, by lesion" in text and "90 d earlier" in text
    assert "Confidence" in text
    plain = build_pdf(case.under(identity))[0]
    assert plain.EncapsulatedDocument != ds.EncapsulatedDocument


@pytest.mark.parametrize("count", [1, 12, 254])
@pytest.mark.parametrize("warned", [0, 3, 30])
def test_nothing_covers_anything_else_on_the_page(make_case, identity, count, warned) -> None:
    """However much there is to say of today, of then, and of the volume."""
    findings = make_case().findings
    lesions = tuple(
        replace(findings.lesions[0], number=n, segment=n + 1, course=Course(n, status, "1.2.8", (n,), (n,), GROWN))
        for n, status in zip(range(1, count + 1), list(Status) * 37, strict=False)
    )
    reasons = (
        "sum of target diameters 123.4 mm then, 156.7 mm now (+27 %)",
        "12 lesions of at least 10 mm, new",
        "12 lesions under 10 mm, new: not counted, please review",
    )
    way = several(findings).follow_up.studies[:2]
    findings = several(
        replace(findings, lesions=(findings.lesions[0],) * 2),
        studies=(*way, *(replace(study, days=study.days - 150) for study in way), way[1]),
        disappeared=(GONE,) * 5,
        outside=(GONE,) * 5,
        response=Response(Category.PD, reasons, 123.4, 156.7),
    )
    findings = replace(findings, lesions=lesions, warnings=tuple(list(SENTENCES)[:warned]))
    canvas = Noted()
    draw_summary(
        canvas,
        findings,
        Algorithm("a_model_with_a_long_name" * 3, "1.2.0", "0123456789abcdef" * 4, trained_on="liver " * 50),
        identity=replace(identity, revision=3),
        series="CT series 4",
        volume_note="The series holds several volumes; one was segmented. " * 8,
    )
    for number, box in enumerate(canvas.boxes):
        assert box.left >= 0 and box.top >= 0 and box.right <= WIDTH and box.bottom <= HEIGHT
        assert not any(box.overlap(other) for other in canvas.boxes[number + 1 :])
