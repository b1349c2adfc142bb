"""An earlier study read from the SR that was sent of it says what was reported then."""

from dataclasses import replace

import pytest
from pydicom import Dataset

from reports.errors import ReportUnreadable
from reports.findings.course import Course, FollowUp
from reports.findings.response import Response, Status
from reports.follow_up.reported import read_reported
from reports.objects.profile import Profile
from reports.objects.sr import build_rejection_sr, build_sr
from reports.objects.sr_combined import build_combined_sr


def sr_of(case, identity, **options) -> Dataset:
    (sr,) = build_sr(case.reported(identity, **options))
    return sr


@pytest.mark.parametrize("sr_class", ["comprehensive_3d", "comprehensive"])
def test_the_reported_sizes_come_back(make_case, identity, sr_class, tmp_path) -> None:
    """Tracking UIDs, volumes and axes of the lesions, to a thousandth, and the day; from a file as from a data set."""
    case = make_case()
    ds = sr_of(case, identity, profile=Profile(sr_class=sr_class))
    path = tmp_path / "sr.dcm"
    ds.save_as(path, enforce_file_format=True)
    report = read_reported(path)
    assert read_reported(ds) == report
    assert report.is_measurable
    assert report.study_date is not None and report.study_date.isoformat() == "2024-05-01"
    for size, lesion in zip(report.lesions, case.findings.lesions, strict=True):
        assert (size.number, size.tracking_uid) == (lesion.number, lesion.tracking_uid)
        assert size.volume_ml == pytest.approx(lesion.size.volume_ml, abs=6e-4)
        assert size.long_axis_mm == pytest.approx(lesion.size.long_axis_mm, abs=6e-4)
        assert size.short_axis_mm == pytest.approx(lesion.size.short_axis_mm, abs=6e-4)


def test_thick_slices_and_no_lesion(make_case, identity) -> None:
    """Where the report gave no sum of targets it was not measurable; a liver without lesions is a study too."""
    case = make_case()
    thick = replace(case, findings=replace(case.findings, target_diameter_sum_mm=None))
    assert not read_reported(sr_of(thick, identity)).is_measurable
    assert read_reported(sr_of(make_case(lesions=False), identity)).lesions == ()


@pytest.mark.parametrize("sr_class", ["comprehensive_3d", "comprehensive"])
def test_findings_with_diameters_are_a_report_too(make_case, identity, sr_class) -> None:
    """Each lesion once, though two groups are about it; without lesions too."""
    case = make_case()

    def combined(case) -> Dataset:
        (sr,) = build_combined_sr(case.reported(identity, profile=Profile(sr_class=sr_class)))
        return sr

    assert read_reported(combined(case)).lesions == read_reported(sr_of(case, identity)).lesions
    assert read_reported(combined(make_case(lesions=False))).lesions == ()


def test_what_has_become_of_the_lesions_comes_back(make_case, identity) -> None:
    """Which had split, merged, or were new; an SR without an earlier study says none of it."""
    case = make_case()

    def read(*statuses: Status):
        courses = tuple(Course(n, status, "") for n, status in enumerate(statuses, start=1))
        lesions = tuple(
            replace(lesion, course=course) for lesion, course in zip(case.findings.lesions, courses, strict=True)
        )
        followed = FollowUp(90, (), (), (), Response(None, ("",)), 0.95, 1.2)
        findings = replace(case.findings, lesions=lesions, follow_up=followed)
        return read_reported(sr_of(replace(case, findings=findings), identity))

    first, second = (lesion.tracking_uid for lesion in case.findings.lesions)
    plain = read_reported(sr_of(case, identity))
    assert (plain.has_split, plain.new, plain.merged) == (False, frozenset(), frozenset())
    assert read(Status.SPLIT, Status.SPLIT).has_split
    report = read(Status.NEW, Status.MERGED)
    assert (report.has_split, report.new, report.merged) == (False, {first}, {second})
    assert not read(Status.SPLIT, Status.NEW).is_whole({first, second})
    assert report.is_whole({second}) and not report.is_whole({first})


def test_two_lesions_of_one_tracking_uid_have_none(make_case, identity) -> None:
    """It can't be known which of the two is meant."""
    case = make_case()
    first, second = case.findings.lesions
    twice = replace(case.findings, lesions=(first, replace(second, tracking_uid=first.tracking_uid)))
    report = read_reported(sr_of(replace(case, findings=twice), identity, seg=case.seg()))
    assert [size.tracking_uid for size in report.lesions] == ["", ""]


def test_what_is_no_report_of_a_liver_is_refused(make_case, identity, tmp_path) -> None:
    """No liver, not processed, another object, no DICOM; and a lesion of no size."""
    case = make_case()
    refused = build_rejection_sr(case.headers, "Too short.", "TOO_SHORT", identity=identity)
    for ds in (sr_of(make_case(liver=False), identity), refused, case.seg(), case.headers[0]):
        with pytest.raises(ReportUnreadable, match="how many lesions"):
            read_reported(ds)
    first, second = case.findings.lesions
    flat = replace(case.findings, lesions=(replace(first, size=replace(first.size, volume_ml=0.0)), second))
    with pytest.raises(ReportUnreadable, match="without a size"):
        read_reported(sr_of(replace(case, findings=flat), identity))
    path = tmp_path / "sr.dcm"
    path.write_bytes(b"no DICOM")
    with pytest.raises(ReportUnreadable, match="readable"):
        read_reported(path)
