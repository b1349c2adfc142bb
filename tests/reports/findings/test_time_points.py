"""Every lesion at every time point, by the numbers that lesions keep."""

from dataclasses import replace

import pytest

from reports.findings.course import Course, EarlierStudy, FollowUp, PriorSize
from reports.findings.response import Growth, Response, Status
from reports.findings.time_points import time_points


def grown(then_mm: float, now_mm: float) -> Growth:
    return Growth(then_mm, now_mm, then_mm / 10, now_mm / 10, 90)


def size(number: int, mm: float) -> PriorSize:
    return PriorSize(number, f"1.2.{number}", mm / 10, mm, mm)


@pytest.fixture
def findings(make_case):
    """Today lesions 1 and 4; 2 went before the last study, 3 since."""
    found = make_case().findings
    one, four = found.lesions
    courses = (
        (Course(1, Status.GROWN, "1.2.1", (1,), (1,), grown(20, 30)), Course(4, Status.NEW, "1.2.4")),
        (Course(1, Status.GROWN, "1.2.1", (1,), (1,), grown(25, 30)), Course(4, Status.NEW, "1.2.4")),
    )
    studies = (
        EarlierStudy(180, (size(1, 20), size(2, 12), size(3, 11)), courses[0], is_baseline=True, is_nadir=True),
        EarlierStudy(90, (size(1, 25), size(3, 14)), courses[1], is_compared=True),
    )
    follow_up = FollowUp(90, (), (), (), Response(None, ()), 0.9, 1.0, studies, 4)
    return replace(found, lesions=(replace(one, number=1), replace(four, number=4)), follow_up=follow_up)


def test_today_s_lesions_and_those_that_are_gone(findings) -> None:
    """By number; the sizes of each study; what is gone is still in the table, and what is new was not there."""
    heads, rows = time_points(findings, most=5)
    now = [f"{lesion.size.long_axis_mm:.1f}" for lesion in findings.lesions]
    assert heads == ["-180 d, baseline, nadir", "-90 d", "now"]
    assert [name for name, _ in rows] == ["1", "2", "3", "4"]
    cells = dict(rows)
    assert list(cells["2"]) == ["12.0 (1.2)", "-", "gone"]
    assert list(cells["3"]) == ["11.0 (1.1)", "14.0 (1.4)", "gone"]
    assert list(cells["1"][:2]) == ["20.0 (2.0)", "25.0 (2.5)"] and cells["1"][2].startswith(now[0])
    assert list(cells["4"][:2]) == ["-", "-"] and cells["4"][2].startswith(now[1])


def test_baseline_nadir_and_the_study_compared_with_stay(findings) -> None:
    """Of many studies the table has those that the response refers to, and the latest."""
    first, last = findings.follow_up.studies
    between = [replace(first, days=days, is_baseline=False, is_nadir=days == 150) for days in (170, 160, 150, 140, 130)]
    studies = (replace(first, is_nadir=False), *between, last)
    heads, _ = time_points(replace(findings, follow_up=replace(findings.follow_up, studies=studies)), most=5)
    assert heads == ["-180 d, baseline", "-150 d, nadir", "-130 d", "-90 d", "now"]


def test_without_an_earlier_study_there_is_none(make_case) -> None:
    with pytest.raises(ValueError, match="no earlier study"):
        time_points(make_case().findings, most=5)
