"""The lists of numbers are complete: every number of findings.json is in the SR, or the list says why not."""

import io
import json
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import pydicom
import pytest

from dicom_io.segmentation import Algorithm
from reports import codes
from reports.findings.course import Course, EarlierStudy, FollowUp, PriorLesion, PriorSize
from reports.findings.response import Category, Growth, Response, Status
from reports.findings.sizes import Size
from reports.findings.surfaces import Shape
from reports.findings.texture import Values
from reports.measures import CHANGE, LESION, LIVER, OTHER_NUMBERS, SUMMARY, Measure
from reports.objects.findings_json import findings_json
from reports.objects.sr import build_sr

LISTS = (("liver.", LIVER), ("lesions[].", LESION), ("lesions[].", CHANGE), ("", SUMMARY))


@pytest.fixture
def case(make_case):
    """A case in which nothing is unknown: two lesions with a confidence, both grown since an earlier study."""
    case = make_case()
    growth = Growth(prior_diameter_mm=16.0, diameter_mm=20.0, prior_volume_ml=2.0, volume_ml=4.0, days=90)
    courses = tuple(Course(n, Status.GROWN, f"1.2.{n}", (n,), (n,), growth) for n in (1, 2))
    gone = PriorLesion(3, "1.2.9", 1.5, 14.0, 12.0, (0.0, 0.0, 0.0), 4, 4)
    response = Response(Category.SD, ("stable",), 30.0, 31.0, 30.0, 30.0)
    study = EarlierStudy(90, (PriorSize(3, "1.2.9", 1.5, 14.0, 12.0),), courses, 30.0, is_compared=True)
    follow_up = FollowUp(90, (gone,), (gone,), (), response, 0.95, 1.2, (study,))
    lesions = tuple(
        replace(lesion, confidence=0.8, course=course)
        for lesion, course in zip(case.findings.lesions, courses, strict=True)
    )
    return replace(case, findings=replace(case.findings, lesions=lesions, follow_up=follow_up, expected_dice=0.97))


@pytest.fixture
def content(case) -> dict[str, Any]:
    return json.loads(json.dumps(findings_json(case.findings, Algorithm("m", "1", ""), software="p")))


def numbers(content: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a JSON content, with its path: `lesions[].volume_ml`."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from numbers(value, f"{path}.{key}" if path else key)
    elif isinstance(content, list):
        for value in content:
            yield from numbers(value, f"{path}[]")
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield path, content


def unlisted(content: dict[str, Any]) -> set[str]:
    """The paths of numbers that no list knows."""
    listed = {prefix + measure.key for prefix, measures in LISTS for measure in measures}
    others = tuple(f"{key}{mark}" for key in OTHER_NUMBERS for mark in ".[")
    return {
        path for path, _ in numbers(content) if path not in listed | set(OTHER_NUMBERS) and not path.startswith(others)
    }


def in_sr(case, identity) -> list[dict[tuple[str, str | None], tuple[float, str]]]:
    """The numbers of each group of the SR: (code, derivation) to (value, unit)."""
    buffer = io.BytesIO()
    (sr,) = build_sr(case.reported(identity))
    sr.save_as(buffer, enforce_file_format=True)
    root = pydicom.dcmread(io.BytesIO(buffer.getvalue()))
    (measurements,) = [item for item in root.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "126010"]
    groups = []
    for group in measurements.ContentSequence:
        found = {}
        for item in group.ContentSequence:
            if item.ValueType == "NUM":
                derived = [sub.ConceptCodeSequence[0].CodeValue for sub in item.get("ContentSequence", [])
                           if sub.ConceptNameCodeSequence[0].CodeValue == "121401"]  # fmt: skip
                value = item.MeasuredValueSequence[0]
                key = (item.ConceptNameCodeSequence[0].CodeValue, derived[0] if derived else None)
                found[key] = (float(value.NumericValue), value.MeasurementUnitsCodeSequence[0].CodeValue)
        groups.append(found)
    return groups


def expected(measures: tuple[Measure, ...], content: dict[str, Any]) -> dict[Any, Any]:
    """The numbers that the SR must have of a part of findings.json."""
    return {
        (measure.code.value, measure.derivation and measure.derivation.value): (
            pytest.approx(measure.factor * content[measure.key], abs=1e-3 * measure.factor),
            measure.unit.value,
        )
        for measure in measures
        if measure.code is not None
    }


def test_every_number_of_findings_json_is_listed(content) -> None:
    """With its code, or with the reason why the SR lacks it; and no list names a key that is not there."""
    assert unlisted(content) == set()
    assert unlisted({"liver": {"weight_g": 1.5}, "lesions": [{"taste": 2}]}) == {"liver.weight_g", "lesions[].taste"}
    lesion = content["lesions"][0]
    parts = (("", content), ("liver.", content["liver"]), ("lesions[].", lesion))
    keys = {prefix + key for prefix, part in parts for key in part}
    listed = {prefix + measure.key for prefix, measures in LISTS for measure in measures}
    assert (listed | set(OTHER_NUMBERS)) - keys == set()
    assert {path for path, _ in numbers(content)} >= listed, "a number of the case is null: nothing is proved of it"


def test_the_sr_has_every_number_that_the_lists_give_it(case, identity, content) -> None:
    """The same value, unit and derivation in the group of the liver, of each lesion and of the whole; and no other."""
    liver, *lesions, summary = in_sr(case, identity)
    assert liver == expected(LIVER, content["liver"])
    assert lesions == [expected((*LESION, *CHANGE), lesion) for lesion in content["lesions"]]
    assert summary == expected(SUMMARY, content)


@pytest.mark.parametrize("part", [Size, Values, Shape])
def test_every_number_of_a_lesion_is_listed(part) -> None:
    """One that is measured and stands in no list would be in neither findings.json nor the SR."""
    measured = {field.name for field in fields(part)} - {"axis_end_points_lps_mm"}
    assert measured - {measure.key for measure in LESION} == set()


def test_a_row_has_a_code_or_a_reason() -> None:
    """Neither, and the SR lacks the number silently; both contradict each other."""
    with pytest.raises(ValueError, match="taste"):
        Measure("taste", codes.HOUNSFIELD_UNIT, None, None, lambda lesion: 1.0)
    with pytest.raises(ValueError, match="taste"):
        Measure("taste", codes.HOUNSFIELD_UNIT, codes.VOLUME, None, lambda lesion: 1.0, why_not="because")
