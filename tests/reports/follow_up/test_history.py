"""Several earlier studies of one patient, whose lesions' sizes are known in each: the way, baseline and nadir."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta

import pytest

from reports.errors import LiversDiffer
from reports.findings.course import EarlierStudy, PriorSize
from reports.findings.findings import Findings
from reports.findings.response import Category
from reports.follow_up.follow_up import Today
from reports.follow_up.history import with_history
from reports.follow_up.prior import Prior
from reports.follow_up.reported import ReportedStudy
from tests.reports.follow_up.balls import GRID, NOW, drawn, earlier, liver, places, study, turned

LYING = {
    270: turned(8.0, (20.0, -10.0, 300.0)),
    180: turned(-6.0, (-30.0, 5.0, 90.0)),
    90: turned(3.0, (0.0, 9.0, 0.0)),
}
Radii = Sequence[float]


def when(days: int) -> date:
    return NOW - timedelta(days=days)


def prior(days: int, radii: Radii, tracked: str | None = None) -> Prior:
    """An earlier study, in which the balls at the first places had these radii; 0 for none."""
    shown = [(place, radius) for place, radius in zip(places(), radii, strict=False) if radius]
    return earlier(drawn(liver(), shown), LYING[days], when(days), tracked or f"1.{days}")


def today(radii: Radii) -> Today:
    shown = [(place, radius) for place, radius in zip(places(), radii, strict=False) if radius]
    return Today.of(*study(drawn(liver(), shown)), NOW)


def studies(findings: Findings) -> tuple[EarlierStudy, ...]:
    assert findings.follow_up is not None
    return findings.follow_up.studies


def roles(findings: Findings) -> list[tuple[int | None, str]]:
    """Days and roles of all studies, the first study first."""
    return [
        (each.days, "b" * each.is_baseline + "n" * each.is_nadir + "c" * each.is_compared) for each in studies(findings)
    ]


def test_progression_is_measured_from_the_nadir() -> None:
    """20, 14, 18, 20 mm: stable against baseline and latest study (by less than 5 mm), progressive since the nadir."""
    others = [[prior(270, (10,))], [prior(180, (7,))]]
    found = with_history(today((10,)), prior(90, (9,)), others)
    assert roles(found) == [(270, "b"), (180, "n"), (90, "c")]
    response = found.follow_up.response
    sums = [each.target_sum_mm for each in studies(found)]
    assert sums == pytest.approx([20, 14, 18], abs=3)
    assert (response.baseline_sum_mm, response.nadir_sum_mm, response.prior_sum_mm) == tuple(sums)
    assert response.category == Category.PD
    assert "270 days earlier (baseline)" in response.reasons[0]
    assert "(nadir)" in response.reasons[1] and "180 days earlier" in response.reasons[1]
    alone = with_history(today((10,)), prior(90, (9,)))
    assert alone.follow_up.response.category == Category.SD
    assert roles(alone) == [(90, "bnc")]


def test_response_is_measured_from_the_baseline() -> None:
    """Two lesions that have shrunk and now stay: stable against the latest study, a partial response all the same."""
    found = with_history(today((8, 7)), prior(90, (8, 7)), [[prior(270, (14, 13))]])
    assert found.follow_up.response.category == Category.PR
    assert roles(found) == [(270, "b"), (90, "nc")]


def test_what_was_new_once_is_new_since_the_baseline() -> None:
    """A lesion that came with the latest study has not been there at the baseline; each lesion has its own way."""
    found = with_history(today((9, 9)), prior(90, (9, 8), "7"), [[prior(270, (9,))]])
    assert [lesion.course.status for lesion in found.lesions] == ["stable", "stable"]
    assert found.follow_up.response.category == Category.PD
    assert any("new since the baseline" in reason for reason in found.follow_up.response.reasons)
    ways = {
        lesion.tracking_uid: [study.days for study, course in found.history(lesion) if course.growth]
        for lesion in found.lesions
    }
    assert ways == {"7.1": [270, 90], "7.2": [90]}


def named(prior: Prior, *numbers: int, highest: int = 0) -> Prior:
    """The same study, whose lesions had these numbers, and tracking UIDs by them."""
    pairs = zip(prior.lesions, numbers, strict=True)
    lesions = tuple(replace(lesion, number=number, tracking_uid=f"7.{number}") for lesion, number in pairs)
    return replace(prior, lesions=lesions, highest_number=max(*numbers, highest))


def test_a_lesion_keeps_its_number_for_life() -> None:
    """The smallest of today was the largest once; one is back, and what is new gets an unused number."""
    others = [[named(prior(270, (12, 9, 7)), 1, 2, 3)]]
    found = with_history(today((7, 10, 13, 9)), named(prior(90, (9, 0, 12)), 1, 3, highest=4), others)
    names = {lesion.segment: (lesion.number, lesion.tracking_uid[:3], lesion.course.status) for lesion in found.lesions}
    assert [names[segment][:2] for segment in (2, 3, 5)] == [(3, "7.3"), (2, "7.2"), (1, "7.1")]
    assert names[3][2] == names[4][2] == "new"
    assert names[4][0] == 5 and not names[4][1].startswith("7.")
    assert found.follow_up.highest_number == 5
    assert found.targets == (3, 2)
    assert [course.number for course in studies(found)[0].courses] == [3, 2, 5, 1]
    (back,) = [lesion for lesion in found.lesions if lesion.number == 2]
    assert [(each.days, bool(course.growth)) for each, course in found.history(back)] == [(270, True), (90, False)]


def test_a_study_that_recist_cannot_measure_is_no_baseline() -> None:
    """One without a lesion, and one of thick slices: they are on the way, without a sum."""
    thick = prior(180, (12,))
    every_second = replace(
        thick,
        labels=thick.labels[::2].copy(),
        geometry=replace(thick.geometry, origins_lps_mm=thick.geometry.origins_lps_mm[::2], slice_spacing_mm=9.6),
    )
    found = with_history(today((10,)), prior(90, (10,)), [[prior(270, ())], [every_second]])
    assert roles(found) == [(270, ""), (180, ""), (90, "bnc")]
    assert [each.target_sum_mm is None for each in studies(found)] == [True, True, False]
    assert found.follow_up.response.category == Category.SD
    assert "then" in found.follow_up.response.reasons[0]


def test_of_a_study_the_first_seg_that_fits_is_taken() -> None:
    """And a study of which none fits is left out; what is compared with must fit."""
    whole = prior(180, (9,))
    cut = replace(whole, labels=whole.labels.copy())
    cut.labels[: GRID.slices // 2] = 0
    found = with_history(today((9,)), prior(90, (9,)), [[replace(cut)], [replace(cut), whole]])
    assert roles(found) == [(180, "bn"), (90, "c")]
    said = "1 earlier study could not be laid over today's: baseline and nadir may be others"
    assert found.follow_up.response.reasons[-1] == said
    assert not any("laid" in reason for reason in with_history(today((9,)), whole).follow_up.response.reasons)
    several = with_history(today((9,)), prior(90, (9,)), [[cut]], left_out=1)
    assert several.follow_up.response.reasons[-1].startswith("2 earlier studies")
    with pytest.raises(LiversDiffer):
        with_history(today((9,)), cut)


def test_priors_are_taken_one_after_the_other() -> None:
    """None lies in memory before its turn has come."""
    alive: list[int] = []

    def one(days: int) -> Iterator[Prior]:
        alive.append(days)
        yield prior(days, (9,))

    map_of_studies: Iterator[Iterator[Prior]] = (one(days) for days in (270, 180))
    found = with_history(today((9,)), prior(90, (9,)), map_of_studies)
    assert alive == [270, 180]
    assert len(studies(found)) == 3


@pytest.fixture
def report() -> Callable[..., ReportedStudy]:
    """`report(days, {UID: long axis})`: what an SR said of lesions."""

    def make(days: int, axes: dict[str, float], *, is_measurable: bool = True, **said: object) -> ReportedStudy:
        sizes = [PriorSize(n, uid, 0.5 * mm, mm, mm) for n, (uid, mm) in enumerate(axes.items(), start=1)]
        return ReportedStudy(tuple(sizes), is_measurable, when(days), **said)

    return make


def test_a_report_alone_has_a_place_on_the_way(report) -> None:
    """Its lesions are known by their tracking UIDs, its sum may be the smallest; what it does not say is not known."""
    others = [[prior(270, (10, 9), "7")]]
    latest = prior(90, (9, 8), "7")
    between = report(180, {"7.1": 11.0, "7.2": 11.0, "9": 30.0}, new=frozenset({"9"}))
    found = with_history(today((10, 9)), latest, others, [between])
    assert roles(found) == [(270, "b"), (180, "n"), (90, "c")]
    said = studies(found)[1]
    assert (said.is_from_report, said.target_sum_mm) == (True, 22.0)
    assert found.follow_up.response.nadir_sum_mm == 22.0
    assert found.follow_up.response.category == Category.PD
    first = next(lesion for lesion in found.lesions if lesion.tracking_uid == "7.1")
    assert [course.growth.prior_diameter_mm for _, course in found.history(first)][1] == 11.0

    amiss = [
        report(180, {"7.1": 11.0}),
        report(179, {"7.1": 11.0, "7.2": 11.0}, is_measurable=False),
        report(300, {"7.1": 11.0, "7.2": 11.0}),
    ]
    found = with_history(today((10, 9)), latest, others, amiss)
    assert roles(found) == [(300, ""), (270, "b"), (180, ""), (179, ""), (90, "nc")]
    assert [each.target_sum_mm for each in studies(found) if each.is_from_report] == [None, None, None]
    assert found.follow_up.response.category == Category.SD


def test_a_part_in_a_report_is_not_the_whole(report) -> None:
    """A target split once and is whole again: of the part that kept its tracking UID neither sum nor growth is made.

    Nor of a later report, that does not say that its lesions are parts; nor of one that had lesions merged.
    """
    parts = {"7.1": 11.0, "7.9": 9.0}
    amiss = [
        report(180, parts, has_split=True),
        report(170, {"7.1": 11.0}, has_split=True),
        report(160, parts),
        report(150, {"7.1": 11.0, "": 9.0}),
    ]
    found = with_history(today((10,)), prior(90, (10,), "7"), [[prior(270, (10,), "7")]], amiss)
    assert [each.target_sum_mm for each in studies(found) if each.is_from_report] == [None] * 4
    assert found.follow_up.response.category == Category.SD
    (lesion,) = found.lesions
    assert [study.days for study, course in found.history(lesion) if course.growth] == [270, 90]

    whole = [report(180, {"7.1": 19.0, "7.9": 9.0}, new=frozenset({"7.9"})), report(170, parts | {"7.1": 20.0})]
    whole.append(report(160, {"7.1": 31.0}, merged=frozenset({"7.1"})))
    found = with_history(today((10,)), prior(90, (10,), "7"), [[prior(270, (10,), "7")]], whole)
    assert [each.target_sum_mm for each in studies(found) if each.is_from_report] == [19.0, 20.0, 31.0]
    assert [study.days for study, course in found.history(found.lesions[0]) if course.growth] == [270, 180, 170, 90]


def test_two_that_are_one_now_have_no_way_in_reports(report) -> None:
    """Two lesions of the latest SEG have merged: what a report said of the one is not said of both."""
    middle = places()[0]
    apart = [(middle - (11.0, 0, 0), 7.0), (middle + (11.0, 0, 0), 8.0)]
    latest = earlier(drawn(liver(), apart), LYING[90], when(90), "7")
    merged = Today.of(*study(drawn(liver(), [(middle + (2.0, 0, 0), 20.0)])), NOW)
    found = with_history(merged, latest, (), [report(180, {"7.1": 14.0, "7.2": 16.0})])
    (lesion,) = found.lesions
    assert [(study.days, course.status) for study, course in found.history(lesion)] == [
        (180, "outside"),
        (90, "merged"),
    ]


def test_a_tracking_uid_that_was_kept_is_believed() -> None:
    """Two neighbours called crosswise by the study between: they stay what they were reported as."""
    middle = places()[0]
    one, two = (middle - (8.0, 0, 0), 6.0), (middle + (8.0, 0, 0), 6.2)
    labels = drawn(liver(), [one, two])
    before = earlier(labels, LYING[270], when(270), "7")
    swapped = replace(
        before, lesions=tuple(replace(lesion, tracking_uid=f"7.{3 - lesion.number}") for lesion in before.lesions)
    )
    latest = earlier(labels, LYING[90], when(90), "7")
    found = with_history(Today.of(*study(labels), NOW), latest, [[swapped]])
    for lesion in found.lesions:
        (_, course), _ = found.history(lesion)
        (number,) = course.prior_numbers
        assert swapped.lesions[number - 1].tracking_uid == lesion.tracking_uid
    assert {lesion.tracking_uid for lesion in found.lesions} == {"7.1", "7.2"}
