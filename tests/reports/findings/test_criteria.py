"""What is counted from the long axes: every bound from both sides."""

import numpy as np
import pytest

from reports.findings.criteria import (
    lobes_of,
    milan_of,
    size_category_of,
    slices_are_thick,
    spread_of,
    target_indices,
    up_to_seven_of,
)
from reports.findings.findings import without_hcc
from reports.findings.wording import assessment
from tests.reports.findings.test_measurements import stack


@pytest.mark.parametrize(
    ("mm", "category"),
    [
        (3, "< 10"), (9.9, "< 10"), (9.96, "10-20"), (10, "10-20"), (20, "10-20"), (20.1, "20-30"), (30, "20-30"),
        (30.1, "30-50"), (50, "30-50"), (50.1, "50-100"), (100, "50-100"), (100.1, "> 100"), (240, "> 100"),
    ],
)  # fmt: skip
def test_size_categories(mm, category) -> None:
    """Of the longest, whatever the order; upper bounds belong to their category."""
    assert size_category_of([1.0, mm, 2.0]) == category


@pytest.mark.parametrize(
    ("axes_mm", "met"),
    [
        ([50], True), ([50.1], False), ([30, 30], True), ([30, 30, 30], True), ([31, 5], False),
        ([5, 5, 5, 5], False), ([30.04, 4], True),
    ],
)  # fmt: skip
def test_milan(axes_mm, met) -> None:
    """One of at most 5 cm, or up to three of at most 3 cm each."""
    criterion = milan_of(axes_mm)
    assert criterion.met is met
    assert f"{max(axes_mm):.1f} mm" in criterion.computed


@pytest.mark.parametrize(
    ("axes_mm", "met"), [([60], True), ([60.1], False), ([20] * 5, True), ([20.1] * 5, False), ([5] * 7, False)]
)
def test_up_to_seven(axes_mm, met) -> None:
    """The number and the largest in centimetres together at most seven."""
    criterion = up_to_seven_of(axes_mm)
    assert criterion.met is met
    assert f"= {len(axes_mm) + max(axes_mm) / 10:.2f};" in criterion.computed


def test_without_lesions_nothing_is_met_or_missed() -> None:
    """No size, no side, no criterion."""
    assert [size_category_of([]), milan_of([]), up_to_seven_of([]), lobes_of([])] == [None] * 4
    assert target_indices([]) == () and spread_of(0) == "none"


def test_spread_and_lobes() -> None:
    """How many, and on how many sides."""
    assert [spread_of(count) for count in (1, 2, 3, 4, 60)] == ["solitary", "2-3", "2-3", "multifocal", "multifocal"]
    assert [lobes_of(halves) for halves in (["right"], ["left", "left"], ["left", "right"])] == [
        "unilobar", "unilobar", "bilobar",
    ]  # fmt: skip


def test_targets_are_the_two_longest_of_at_least_ten_millimetres() -> None:
    """Not the first two, which are the largest by volume."""
    assert target_indices([12, 30, 9.94, 25]) == (1, 3)
    assert target_indices([9.94, 9.96]) == (1,)


def test_slices_are_thick_where_most_or_those_of_a_target_are() -> None:
    """A single gap elsewhere does not spoil a target."""
    assert not slices_are_thick(stack((10, 4, 4), (5.0, 1, 1)), [3])
    assert slices_are_thick(stack((10, 4, 4), (6.0, 1, 1)), [])
    gap = stack((10, 4, 4), positions_mm=np.r_[np.arange(8) * 3.0, 31.0, 34.0])
    assert not slices_are_thick(gap, [3]) and slices_are_thick(gap, [7])


def test_criteria_of_liver_cancer_are_left_out(make_case) -> None:
    """Of another tumour they say nothing: no sentence, no code, no number."""
    findings = make_case().findings
    assert findings.milan is not None and any("Milan" in text for text in assessment(findings))
    other = without_hcc(findings)
    assert (other.milan, other.up_to_seven) == (None, None)
    said = " ".join(assessment(other))
    assert "Milan" not in said and "seven" not in said.lower() and "hepatocellular" not in said
