"""Growth, doubling time, and each line of RECIST 1.1 (Eisenhauer 2009, section 4.3.1 and table 1)."""

import pytest

from reports.findings.response import Category, Growth, Reference, Status, response_by_new, response_of


def grown(before_ml: float, now_ml: float, days: int | None = 90) -> Growth:
    return Growth(10.0, 10.0 * (now_ml / before_ml) ** (1 / 3), before_ml, now_ml, days)


def test_growth_in_numbers() -> None:
    """Twice the volume in 90 days: 26 % more of diameter, 100 % of volume, doubled in 90 days."""
    growth = grown(4.0, 8.0)
    assert growth.diameter_change_mm == pytest.approx(2.599, abs=1e-3)
    assert growth.diameter_percent == pytest.approx(25.99, abs=1e-2)
    assert growth.volume_change_ml == pytest.approx(4.0)
    assert growth.volume_percent == pytest.approx(100.0)
    assert growth.doubling_days == pytest.approx(90.0)
    assert grown(4.0, 16.0).doubling_days == pytest.approx(45.0)


@pytest.mark.parametrize(("now_ml", "days"), [(4.0, 90), (3.0, 90), (4.9, 90), (8.0, None), (8.0, 0), (8.0, -5)])
def test_no_doubling_time_without_growth_or_days(now_ml, days) -> None:
    """What grew by less than a quarter, or in an unknown time, has none."""
    assert grown(4.0, now_ml, days).doubling_days is None


@pytest.mark.parametrize(
    ("now_ml", "status"),
    [(6.92, Status.GROWN), (6.9, Status.STABLE), (4.0, Status.STABLE), (1.41, Status.STABLE), (1.4, Status.SHRUNK)],
)
def test_the_status_of_one_lesion(now_ml, status) -> None:
    """+73 and -65 % of the volume are +20 and -30 % of the diameter."""
    assert grown(4.0, now_ml).status == status


@pytest.mark.parametrize(
    ("before", "now", "new", "others", "category"),
    [
        ([50.0, 30.0], [50.0, 30.0], [], 0, Category.SD),
        ([50.0, 30.0], [56.0, 40.0], [], 0, Category.PD),  # +20 % to the tenth
        ([50.0, 30.0], [55.9, 40.0], [], 0, Category.SD),
        ([12.0], [15.0], [], 0, Category.SD),  # +25 %, but 3 mm
        ([20.0], [25.0], [], 0, Category.PD),  # +25 % and 5 mm
        ([20.0], [24.9], [], 0, Category.SD),
        ([50.0, 50.0], [70.0], [], 0, Category.PR),  # one gone, 30 % less
        ([50.0, 50.0], [70.1], [], 0, Category.SD),
        ([50.0, 50.0], [], [], 0, Category.CR),
        ([50.0, 50.0], [], [], 3, Category.PR),  # targets gone, others there
        ([50.0, 50.0], [20.0], [12.0], 1, Category.PD),  # smaller, and one more
        ([50.0, 50.0], [20.0], [9.9], 1, Category.PR),  # a small one is said, not counted
        ([50.0], [], [15.0], 1, Category.PD),
        ([], [], [15.0], 1, Category.PD),
        ([], [], [], 2, None),
        ([], [], [5.0], 1, None),
    ],
)
def test_every_line_of_recist(before, now, new, others, category) -> None:
    """At, below and above each threshold."""
    response = response_of(baseline_targets_mm=before, targets_mm=now, new_mm=new, others=others)
    assert response.category == category
    assert response.reasons
    if before:
        assert (response.prior_sum_mm, response.sum_mm) == (sum(before), pytest.approx(sum(now)))
    else:
        assert (response.prior_sum_mm, response.sum_mm) == (None, None)


@pytest.mark.parametrize(
    ("before", "lowest", "now", "category"),
    [
        ([50.0], 40.0, [47.9], Category.SD),  # +20 % and more of the nadir begin at 48
        ([50.0], 40.0, [48.0], Category.PD),  # less than the baseline, and progression
        ([50.0], 20.0, [24.9], Category.PR),  # +24 % of the nadir, but 4.9 mm
        ([50.0], 20.0, [25.0], Category.PD),
        ([50.0], 30.0, [35.0], Category.PR),  # 30 % less than the baseline, +17 % of the nadir
        ([50.0], 0.0, [4.9], Category.PR),  # gone once, come again: by the millimetres alone
        ([50.0], 0.0, [5.0], Category.PD),
        ([50.0], 0.0, [], Category.CR),
        ([50.0], 45.0, [], Category.CR),
    ],
)
def test_progression_from_the_nadir_and_response_from_the_baseline(before, lowest, now, category) -> None:
    """At, below and above each threshold, with a smaller sum between baseline and now."""
    nadir = Reference(lowest, "90 days earlier")
    response = response_of(
        baseline_targets_mm=before,
        targets_mm=now,
        new_mm=[],
        others=0,
        baseline_when="180 days earlier (baseline)",
        nadir=nadir,
    )
    assert response.category == category
    assert (response.baseline_sum_mm, response.nadir_sum_mm, response.sum_mm) == (sum(before), lowest, sum(now))
    assert response.reasons[0].startswith("sum of target diameters 50.0 mm 180 days earlier (baseline), ")
    assert response.reasons[1].startswith(f"smallest sum (nadir) {lowest:.1f} mm 90 days earlier (")


def test_the_reasons_are_said() -> None:
    """Both sums, and what is new."""
    response = response_of(baseline_targets_mm=[40.0], targets_mm=[20.0], new_mm=[30.0, 4.0], others=2)
    assert response.reasons == (
        "sum of target diameters 40.0 mm then, 20.0 mm now (-50 %)",
        "1 lesion of at least 10 mm, new",
        "1 lesion under 10 mm, new: not counted, please review",
    )


@pytest.mark.parametrize(
    ("now", "new", "others", "category"),
    [
        ([], [], 0, Category.PR),  # table 1: targets gone, non-target not evaluated
        ([], [], 1, Category.PR),
        ([20.0], [], 0, Category.PR),
        ([40.0], [], 0, Category.SD),
        ([], [12.0], 0, Category.PD),
    ],
)
def test_what_was_not_looked_at_is_not_gone(now, new, others, category) -> None:
    """No complete response where a lesion may lie outside of the images."""
    response = response_of(
        baseline_targets_mm=[40.0], targets_mm=now, new_mm=new, others=others, unseen=["1 lesion lies outside"]
    )
    assert response.category == category
    assert ("1 lesion lies outside: no complete response" in response.reasons) is (now == [])


def test_new_lesions_alone() -> None:
    """Progression from the length that is asked of them, and what else there is to say first."""
    response = response_by_new([19.2, 19.1], reasons=["too thick"], least_mm=19.2)
    assert (response.category, response.sum_mm) == (Category.PD, None)
    assert response.reasons == (
        "too thick",
        "1 lesion of at least 19.2 mm, new",
        "1 lesion under 19.2 mm, new: not counted, please review",
    )
    assert response_by_new([9.9]).category is None
