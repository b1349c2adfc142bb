"""Lesions whose fate is known: balls in a phantom's liver that grow, shrink, go, come, merge and split.

The patient moves and turns between the studies. And balls in the liver of CHAOS 3, which is moved and bent.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import log

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_io.geometry import Geometry
from dicom_io.segmentation import Segmentation
from models.phantom import grid
from reports.findings.course import Course
from reports.findings.findings import Findings
from reports.findings.response import Category, Status
from reports.follow_up.follow_up import Today
from reports.follow_up.history import with_history
from tests.reports.follow_up import balls
from tests.reports.follow_up.balls import GRID, NOW, Ball, drawn, earlier, study, turned

DAYS = 90


@pytest.fixture(scope="module")
def liver() -> NDArray[np.bool_]:
    """The liver of a phantom on GRID."""
    return balls.liver()


@pytest.fixture(scope="module")
def places() -> list[NDArray[np.float64]]:
    """Eight points of that liver."""
    return balls.places()


Followed = Callable[..., Findings]


def courses(findings: Findings) -> list[Course]:
    """Of its lesions, in their order."""
    return [lesion.course for lesion in findings.lesions]


@pytest.fixture
def followed(liver) -> Followed:
    """`followed(balls then, balls now)`: the earlier patient lay turned by 12 degrees and elsewhere."""

    def follow(then: Sequence[Ball], now: Sequence[Ball]) -> Findings:
        prior = earlier(drawn(liver, then), turned(12.0, (40.0, -25.0, 300.0)))
        return with_history(Today.of(*study(drawn(liver, now)), NOW), prior)

    return follow


def test_every_lesion_is_known_again_and_measured(liver, places) -> None:
    """Six lesions that change in six ways, in another order, of a patient who lay elsewhere and turned."""
    radii = {0: (8, 12), 1: (9, 9), 2: (14, 9), 3: (7, 8), 4: (10, 13), 5: (12, 6)}
    then, now = (
        drawn(liver, [(places[i], r[0]) for i, r in radii.items()]),
        drawn(liver, [(places[i], r[1]) for i, r in radii.items()]),
    )
    findings, segmentation = study(now)
    prior = earlier(then, turned(-18.0, (60.0, 30.0, -400.0)))
    result = with_history(Today.of(findings, segmentation, NOW), prior)
    assert result.follow_up.days == DAYS
    assert result.follow_up.disappeared == result.follow_up.outside == ()
    for lesion, course in zip(findings.lesions, courses(result), strict=True):
        centre = np.array(lesion.place.centroid_lps_mm)
        place = min(radii, key=lambda index: float(np.linalg.norm(places[index] - centre)))
        assert course.prior_numbers == (place + 1,)
        assert course.tracking_uid == f"1.{place + 1}"
        growth = course.growth
        assert growth is not None
        before, after = radii[place]
        counted = np.count_nonzero(now == place + 2) / np.count_nonzero(then == place + 2)
        assert growth.volume_percent == pytest.approx(100 * (counted - 1), abs=1e-6)
        assert counted == pytest.approx((after / before) ** 3, rel=0.2)
        assert growth.diameter_change_mm == pytest.approx(2 * (after - before), abs=3.5)
        assert course.status == {0: "grown", 1: "stable", 2: "shrunk", 3: "stable", 4: "grown", 5: "shrunk"}[place]
        if counted > 1.25:
            assert growth.doubling_days == pytest.approx(DAYS * log(2) / log(counted))
    assert sorted(lesion.tracking_uid for lesion in result.lesions) == [f"1.{n}" for n in range(1, 7)]
    assert [lesion.size.volume_ml for lesion in result.lesions] == [
        lesion.size.volume_ml for lesion in findings.lesions
    ]


def test_new_and_gone(followed, places) -> None:
    """One stays, one goes, one comes; a new one of 18 mm is progression."""
    result = followed([(places[0], 10), (places[1], 8)], [(places[0], 10), (places[2], 9)])
    assert [(course.status, course.prior_numbers) for course in courses(result)] == [("stable", (1,)), ("new", ())]
    assert [lesion.number for lesion in result.follow_up.disappeared] == [2]
    assert courses(result)[1].growth is None
    assert courses(result)[1].tracking_uid != "1.2"
    assert result.follow_up.response.category == Category.PD


def test_two_that_merge(followed, places) -> None:
    """The larger gives its tracking UID; volumes and diameters are compared with those of both together."""
    middle, apart = places[0], np.array([11.0, 0.0, 0.0])
    result = followed([(middle - apart, 7), (middle + apart, 8)], [(middle + apart / 5, 20)])
    (course,) = courses(result)
    assert (course.status, course.tracking_uid) == (Status.MERGED, "1.2")
    assert set(course.prior_numbers) == {1, 2}
    assert course.growth is not None
    assert course.growth.prior_diameter_mm == pytest.approx(30, abs=6)
    assert course.growth.diameter_mm == pytest.approx(40, abs=4)
    assert result.follow_up.disappeared == ()


def test_one_that_splits(followed, places) -> None:
    """The larger part goes on under the tracking UID, the other has its own; both have the course of the whole."""
    middle, apart = places[0], np.array([11.0, 0.0, 0.0])
    result = followed([(middle + apart / 5, 20)], [(middle - apart, 7), (middle + apart, 8)])
    assert [course.status for course in courses(result)] == [Status.SPLIT, Status.SPLIT]
    assert [course.numbers for course in courses(result)] == [(1, 2), (1, 2)]
    assert [course.tracking_uid == "1.1" for course in courses(result)] == [True, False]
    assert courses(result)[0].growth == courses(result)[1].growth
    assert result.follow_up.response.sum_mm == pytest.approx(30, abs=6)


def test_neighbours_are_not_mistaken(followed, places) -> None:
    """Small lesions 14 mm apart, each its own; the middle one has gone."""
    row = [places[0] + np.array([14.0 * step, 0.0, 0.0]) for step in (-1, 0, 1)]
    result = followed([(row[0], 5), (row[1], 5.5), (row[2], 6)], [(row[0], 5), (row[2], 6)])
    assert {course.tracking_uid for course in courses(result)} == {"1.1", "1.3"}
    assert [lesion.number for lesion in result.follow_up.disappeared] == [2]


@pytest.mark.parametrize(
    ("then", "now", "category"),
    [
        ((10, 9), (10, 9), Category.SD),
        ((10, 9), (13, 12), Category.PD),
        ((14, 13), (8, 7), Category.PR),
        ((10, 9), (), Category.CR),
        ((), (), None),
        ((), (10,), Category.PD),
        ((4, 4), (4, 4), Category.NEITHER),
    ],
)
def test_the_category(followed, places, then, now, category) -> None:
    """From the sum of the earlier targets' diameters, and from what is new."""
    result = followed(list(zip(places, then, strict=False)), list(zip(places, now, strict=False)))
    assert result.follow_up.response.category == category


def test_thick_slices_and_missing_dates(liver, places) -> None:
    """Lesions are matched all the same, without a category and without a doubling time."""
    labels = drawn(liver, [(places[0], 12)])
    prior = earlier(np.ascontiguousarray(labels[::2]), _every_second(GRID), when=None)
    findings, segmentation = study(drawn(liver, [(places[0], 16)]))
    result = with_history(Today.of(findings, segmentation, NOW), prior)
    assert result.follow_up.response.category is None
    assert "too thick" in result.follow_up.response.reasons[0]
    assert result.follow_up.days is None
    (course,) = courses(result)
    assert (course.status, course.prior_numbers) == (Status.GROWN, (1,))
    assert course.growth is not None
    assert course.growth.doubling_days is None


def cut_at(first: int, last: int, balls_now: Sequence[Ball]) -> tuple[Findings, Segmentation]:
    """Today's study of these planes of GRID alone, with balls in the liver."""
    geometry = replace(GRID, origins_lps_mm=GRID.origins_lps_mm[first:last])
    return study(np.ascontiguousarray(drawn(balls.liver(), balls_now)[first:last]), geometry)


def at_the_end(liver: NDArray[np.bool_], inwards: int) -> NDArray[np.float64]:
    """The middle of the liver's plane so many from its first one (from its last one, where negative)."""
    planes = np.flatnonzero(liver.any(axis=(1, 2)))
    plane = planes[inwards]
    return GRID.index_to_lps(np.array([plane, *np.argwhere(liver[plane]).mean(axis=0).round()]))


@pytest.mark.parametrize("end", [1, -2])
def test_no_complete_response_of_a_liver_that_was_not_seen_whole(liver, places, end) -> None:
    """The target has gone, and the images end before a small lesion: it may be there still."""
    planes = np.flatnonzero(liver.any(axis=(1, 2)))
    prior = earlier(drawn(liver, [(places[4], 10.0), (at_the_end(liver, end), 4.0)]))
    first, last = (planes[0] + 6, GRID.slices) if end > 0 else (0, planes[-1] - 5)
    result = with_history(Today.of(*cut_at(first, last, []), NOW), prior)
    assert result.follow_up.response.category == Category.PR
    assert any(
        "outside of the images" in each or "edge of the images" in each for each in result.follow_up.response.reasons
    )
    whole = with_history(Today.of(*study(drawn(liver, [])), NOW), prior)
    assert whole.follow_up.response.category == Category.CR


def test_what_is_new_is_progression_where_targets_cannot_be_measured(liver, places) -> None:
    """A target outside of the images; and slices too thick, of which a lesion must be twice as long."""
    planes = np.flatnonzero(liver.any(axis=(1, 2)))
    prior = earlier(drawn(liver, [(at_the_end(liver, 1), 8.0)]))
    for radius, category in ((10.0, Category.PD), (4.0, None)):
        now = cut_at(planes[0] + 6, GRID.slices, [(places[4], radius)])
        response = with_history(Today.of(*now, NOW), prior).follow_up.response
        assert "outside of the images" in response.reasons[0]
        assert response.category == category
        assert "new" in response.reasons[1]

    before = earlier(np.ascontiguousarray(drawn(liver, [(places[0], 12)])[::2]), _every_second(GRID))
    for radius, category in ((12.0, Category.PD), (8.0, None)):
        now = study(drawn(liver, [(places[0], 12), (places[4], radius)]))
        response = with_history(Today.of(*now, NOW), before).follow_up.response
        assert "too thick" in response.reasons[0]
        assert response.category == category


def test_thick_slices_are_those_of_the_targets(liver, places) -> None:
    """A gap where a small lesion lies says nothing of the targets, in the report of today as in the response."""
    small, target = places[0], places[4]
    labels = drawn(liver, [(target, 12), (small, 4)])
    plane = round(float(GRID.lps_to_index(small)[0]))
    kept = np.array([index for index in range(GRID.slices) if index != plane + 1])
    findings, segmentation = study(
        np.ascontiguousarray(labels[kept]), replace(GRID, origins_lps_mm=GRID.origins_lps_mm[kept])
    )
    gap = int(np.argmax(segmentation.geometry.slice_widths_mm))
    first, second = findings.lesions
    lesions = (first, replace(second, place=replace(second.place, key_slice=gap)))
    findings = replace(findings, lesions=lesions)
    assert findings.target_diameter_sum_mm is not None
    today = Today.of(findings, segmentation, NOW)
    assert not today.slices_are_thick()
    assert today.slices_are_thick([1])
    assert with_history(today, earlier(labels)).follow_up.response.category == Category.SD


def _every_second(geometry: Geometry) -> Geometry:
    return Geometry(
        origins_lps_mm=geometry.origins_lps_mm[::2],
        row_cosines=geometry.row_cosines,
        column_cosines=geometry.column_cosines,
        row_spacing_mm=geometry.row_spacing_mm,
        column_spacing_mm=geometry.column_spacing_mm,
        rows=geometry.rows,
        columns=geometry.columns,
        frame_of_reference_uid="1.2.3",
    )


@pytest.mark.parametrize("wave_mm", [0.0, 6.0])
def test_a_real_liver_moved_bent_and_its_lesions_grown(real_case, wave_mm) -> None:
    """CHAOS 3 with six lesions; the earlier patient lay 35 mm off, turned by 9 degrees, the liver bent by waves.

    A place q of the earlier study is the place p = turn(q) + wave of today's; the lesions' radii were known then and
    are now, and the earlier volumes are counted on a grid of their own.
    """
    case = real_case("chaos_ct3")
    here, liver = case.volume.geometry, case.segmentation.labels > 0
    inside = here.index_to_lps(np.argwhere(liver[:, ::4, ::4]) * np.array([1, 4, 4]))
    middle = inside.mean(axis=0)
    centres = middle + np.array([(0, 0, 0), (-45, 0, 0), (-30, 30, 20), (-40, -5, -40), (-55, 25, 5), (-20, -25, 25)])
    then_mm, now_mm = (6.0, 9.0, 7.0, 12.0, 8.0, 5.0), (9.0, 9.0, 0.0, 8.0, 10.5, 9.0)
    cos, sin = np.cos(np.radians(9.0)), np.sin(np.radians(9.0))
    turn, shift = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]]), np.array([20.0, -15.0, 25.0])

    def to_now(points: NDArray[np.float64]) -> NDArray[np.float64]:
        straight = (points - shift - middle) @ turn.T + middle
        return straight + wave_mm * np.sin(2 * np.pi * straight[..., [2, 0, 1]] / 280.0)

    labels = liver.astype(np.uint8)
    voxels = np.argwhere(liver)
    points = here.index_to_lps(voxels)
    for number, (centre, radius) in enumerate(zip(centres, now_mm, strict=True), start=2):
        chosen = voxels[np.linalg.norm(points - centre, axis=1) < radius]
        labels[tuple(chosen.T)] = number
    kept = [index for index, radius in enumerate(now_mm) if radius]
    table = np.r_[0, 1, 1 + np.cumsum(np.array(now_mm) > 0)].astype(np.uint8)
    findings, segmentation = study(table[labels], here)
    low, high = inside.min(axis=0) - 70, inside.max(axis=0) + 70
    size = np.ceil((high - low) / np.array([2.0, 2.0, 3.0])).astype(int)
    there = grid(
        slices=int(size[2]),
        rows=int(size[1]),
        columns=int(size[0]),
        spacing_mm=(3.0, 2.0, 2.0),
        seed=2,
        centre_lps_mm=tuple((low + high) / 2),
    )
    mapped = to_now(there.index_to_lps(np.indices(there.shape).reshape(3, -1).T))
    index = np.rint(here.lps_to_index(mapped)).astype(int)
    within = ((index >= 0) & (index < here.shape)).all(axis=1)
    before = np.zeros(len(mapped), np.uint8)
    before[within] = liver[tuple(index[within].T)]
    for number, (centre, radius) in enumerate(zip(centres, then_mm, strict=True), start=2):
        before[(before > 0) & (np.linalg.norm(mapped - centre, axis=1) < radius)] = number
    prior = earlier(before.reshape(there.shape), there)
    result = with_history(Today.of(findings, segmentation, NOW), prior)
    assert result.follow_up.dice > 0.93
    assert [lesion.number for lesion in result.follow_up.disappeared] == [3]
    for lesion, course in zip(findings.lesions, courses(result), strict=True):
        place = min(kept, key=lambda i: float(np.linalg.norm(centres[i] - np.array(lesion.place.centroid_lps_mm))))
        assert course.prior_numbers == (place + 1,)
        assert course.growth is not None
        wanted = (now_mm[place] / then_mm[place]) ** 3
        assert course.growth.volume_ml / course.growth.prior_volume_ml == pytest.approx(
            wanted, rel=0.3 if wave_mm else 0.15
        )
