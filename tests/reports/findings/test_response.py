"""Growth, doubling time, and each line of RECIST 1.1 (Eisenhauer 2009, section 4.3.1 and table 1)."""

import pytest

from reports.findings.response import Axes, Category, Growth, Reference, Status, response_by_new, response_of


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


CR, PR, SD, PD, NEITHER = Category
NADIR = "90 days earlier"


@pytest.mark.parametrize(
    ("targets", "non_targets", "new", "of_targets", "of_non_targets", "overall"),
    [
        # Targets alone, at, below and above each threshold (section 4.3.1)
        (([50, 30], [50, 30]), ([], []), [], SD, None, SD),
        (([50, 30], [56, 40]), ([], []), [], PD, None, PD),  # +20 % to the tenth
        (([50, 30], [55.9, 40]), ([], []), [], SD, None, SD),
        (([12], [15]), ([], []), [], SD, None, SD),  # +25 %, but 3 mm
        (([20], [25]), ([], []), [], PD, None, PD),  # +25 % and 5 mm
        (([20], [24.9]), ([], []), [], SD, None, SD),
        (([50, 50], [70]), ([], []), [], PR, None, PR),  # one gone, 30 % less
        (([50, 50], [70.1]), ([], []), [], SD, None, SD),
        (([50, 50], []), ([], []), [], CR, None, CR),
        # Targets and non-targets (table 1)
        (([50], []), ([8], []), [], CR, CR, CR),
        (([50], []), ([8], [6]), [], CR, NEITHER, PR),
        (([50], []), ([8], [9]), [], CR, NEITHER, PR),
        (([50], [30]), ([8], []), [], PR, CR, PR),
        (([50], [30]), ([8], [8]), [], PR, NEITHER, PR),
        (([50], [50]), ([8], []), [], SD, CR, SD),
        (([50], [50]), ([8], [8]), [], SD, NEITHER, SD),
        (([50], [60]), ([8], []), [], PD, CR, PD),
        (([50], [60]), ([8], [8]), [], PD, NEITHER, PD),
        # Non-targets that have unequivocally progressed, whatever the targets (section 4.3.4)
        (([60, 55], [60, 55]), ([11], [52]), [], SD, PD, PD),
        (([60, 55], [33, 30]), ([11], [52]), [], PR, PD, PD),
        (([60, 55], []), ([11], [52]), [], CR, PD, PD),
        (([60, 55], [60, 55]), ([11], [17]), [], SD, NEITHER, SD),  # grown by half, and no burden beside the others
        (([20], [20]), ([20], [28]), [], SD, PD, PD),  # +20 % of 40 mm to the tenth
        (([20], [20]), ([20], [27.9]), [], SD, NEITHER, SD),
        (([10], [10]), ([9], [13.9]), [], SD, NEITHER, SD),  # 4.9 mm
        (([10], [10]), ([9], [14]), [], SD, PD, PD),
        (([30], [30]), ([8, 8, 8], [14, 14, 8]), [], SD, PD, PD),  # several together
        # New lesions (section 4.3.5)
        (([50], [20]), ([], []), [12], PR, None, PD),
        (([50], [20]), ([], []), [10], PR, None, PD),
        (([50], [20]), ([], []), [9.9], PR, None, PR),  # a small one is said, not counted
        (([50], []), ([], []), [15], CR, None, PD),
        (([50], []), ([], []), [4], CR, None, PR),  # but it is there
        (([50], [27.5]), ([8], [8]), [30], PR, NEITHER, PD),
        # Non-targets alone (table 2)
        (([], []), ([8, 6], []), [], None, CR, CR),
        (([], []), ([8, 6], [6]), [], None, NEITHER, NEITHER),
        (([], []), ([8, 6], [9, 7]), [], None, NEITHER, NEITHER),
        (([], []), ([8, 6], [16, 12]), [], None, PD, PD),
        (([], []), ([8, 6], []), [3], None, CR, NEITHER),
        (([], []), ([8, 6], []), [15], None, CR, PD),
        # No lesion at the baseline
        (([], []), ([], []), [15], None, None, PD),
        (([], []), ([], []), [5], None, None, None),
    ],
)
def test_every_line_of_recist(targets, non_targets, new, of_targets, of_non_targets, overall) -> None:
    """Forty courses: of the targets, of the non-targets, and over all (Eisenhauer 2009, tables 1 and 2)."""
    response = response_of(Axes(*targets), Axes(*non_targets), new_mm=new)
    assert (response.target, response.non_target, response.category) == (of_targets, of_non_targets, overall)
    assert response.has_new is any(axis >= 10 for axis in new)
    assert response.reasons
    before, now = targets
    if before:
        assert (response.prior_sum_mm, response.sum_mm) == (sum(before), pytest.approx(sum(now)))
    else:
        assert (response.prior_sum_mm, response.sum_mm) == (None, None)


@pytest.mark.parametrize(
    ("lowest", "now", "category"),
    [
        (40.0, [47.9], SD),  # +20 % and more of the nadir begin at 48
        (40.0, [48.0], PD),  # less than the baseline, and progression
        (20.0, [24.9], PR),  # +24 % of the nadir, but 4.9 mm
        (20.0, [25.0], PD),
        (30.0, [35.0], PR),  # 30 % less than the baseline, +17 % of the nadir
        (0.0, [4.9], PR),  # targets gone once while others stayed, come again: by the millimetres alone
        (0.0, [5.0], PD),
        (0.0, [], CR),
        (45.0, [], CR),
    ],
)
def test_progression_from_the_nadir_and_response_from_the_baseline(lowest, now, category) -> None:
    """At, below and above each threshold, with a smaller sum between baseline and now."""
    response = response_of(
        Axes([50.0], now), baseline_when="180 days earlier (baseline)", nadir=Reference(lowest, NADIR)
    )
    assert response.category == category
    assert (response.baseline_sum_mm, response.nadir_sum_mm, response.sum_mm) == (50.0, lowest, sum(now))
    assert response.reasons[0].startswith("sum of target diameters 50.0 mm 180 days earlier (baseline), ")
    assert response.reasons[1].startswith(f"smallest sum (nadir) {lowest:.1f} mm 90 days earlier (")


@pytest.mark.parametrize(
    ("now", "non_targets", "new", "category"),
    [([3.0], [], [], PD), ([], [4.0], [], PD), ([], [], [3.0], PD), ([12.0], [], [], PD), ([], [], [], CR)],
)
def test_what_comes_back_after_a_complete_response_is_progression(now, non_targets, new, category) -> None:
    """However small, and in whatever place (section 4.3.5): the study of the nadir had no lesion at all."""
    nadir = Reference(0.0, NADIR, is_complete=True)
    response = response_of(Axes([50.0], now), Axes([8.0], non_targets), new_mm=new, nadir=nadir)
    assert response.category == category
    assert any("after a complete response" in reason for reason in response.reasons) is (category == PD)


def test_the_reasons_are_said() -> None:
    """Every sum with its change to a tenth, and what is new."""
    response = response_of(Axes([40.0], [47.96]), Axes([11.0, 8.0], [52.0]), new_mm=[30.0, 4.0])
    assert response.reasons == (
        "sum of target diameters 40.0 mm then, 48.0 mm now (+20.0 %)",
        "sum of non-target diameters 19.0 mm then, 52.0 mm now "
        "(+33.0 mm, +55.9 % of the 59.0 mm of all lesions): unequivocal progression",
        "1 lesion of at least 10 mm, new",
        "1 lesion under 10 mm, new: not counted, please review",
    )
    assert response_of(Axes([40.0], [47.8])).reasons == ("sum of target diameters 40.0 mm then, 47.8 mm now (+19.5 %)",)


@pytest.mark.parametrize(
    ("then", "now", "category", "said"),
    [
        (70.1, 49.1, SD, "(-29.96 %)"),  # not 30.0 %, which would be a partial response
        (60.1, 72.1, SD, "(+19.97 %)"),
        (70.0, 49.0, PR, "(-30.0 %)"),
        (60.0, 72.0, PD, "(+20.0 %)"),
        (300.0, 299.9, SD, "(+0.0 %)"),
    ],
)
def test_no_percentage_is_rounded_to_a_threshold(then, now, category, said) -> None:
    """The number that is read gives the category that is read."""
    response = response_of(Axes([then], [now]))
    assert response.category == category
    assert said in response.reasons[0]


@pytest.mark.parametrize(
    ("now", "beside", "new", "category"),
    [
        ([], [], [], PR),  # table 1: targets gone, non-target not evaluated
        ([], [8.0], [], PR),
        ([20.0], [], [], PR),
        ([40.0], [], [], SD),
        ([], [], [12.0], PD),
    ],
)
def test_what_was_not_looked_at_is_not_gone(now, beside, new, category) -> None:
    """No complete response where a lesion may lie outside of the images."""
    response = response_of(Axes([40.0], now), Axes([8.0], beside), new_mm=new, unseen=["1 lesion lies outside"])
    assert response.category == category
    assert response.non_target == NEITHER
    assert ("1 lesion lies outside: no complete response" in response.reasons) is (now == [] and beside == [])


def test_small_lesions_that_may_lie_outside_are_no_complete_response() -> None:
    """Nor without targets."""
    assert response_of(Axes(), Axes([8.0], []), unseen=["1 lesion lies outside"]).category == NEITHER


def test_new_lesions_alone() -> None:
    """Progression from the length that is asked of them, and what else there is to say first."""
    response = response_by_new([19.2, 19.1], reasons=["too thick"], least_mm=19.2)
    assert (response.category, response.sum_mm, response.has_new) == (Category.PD, None, True)
    assert response.reasons == (
        "too thick",
        "1 lesion of at least 19.2 mm, new",
        "1 lesion under 19.2 mm, new: not counted, please review",
    )
    assert response_by_new([9.9]).category is None
