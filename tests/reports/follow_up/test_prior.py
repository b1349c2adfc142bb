"""An earlier study read from the SEG that was sent of it measures what was measured then."""

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from dicom_io.errors import SegmentationUnreadable
from reports.follow_up.prior import read_prior
from reports.objects.profile import Profile

TURNED = (0, 1, 0, 0, 0, -1)


def labelmap(case, identity) -> Dataset:
    return case.seg(identity, profile=Profile(seg_type="labelmap"))


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"drift_mm": 0.3},
        {"positions_mm": (0, 2.5, 5, 7.5, 9, 12, 14.5, 17, 19.5, 22, 24.5, 27, 29.5, 32)},
        {"orientation": TURNED},
    ],
    ids=["regular", "tilted", "uneven", "sagittal"],
)
@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_the_same_numbers_come_back(make_case, identity, how, kind) -> None:
    """Tracking UIDs, volumes, axes, centres and every voxel, of both kinds of SEG, however the stack lies."""
    case = make_case(**how)
    prior = read_prior(case.seg() if kind == "binary" else labelmap(case, identity))
    assert prior.study_date is not None
    assert prior.study_date.isoformat() == "2024-05-01"
    assert [lesion.tracking_uid for lesion in prior.lesions] == [
        lesion.tracking_uid for lesion in case.findings.lesions
    ]
    for lesion, measured in zip(prior.lesions, case.findings.lesions, strict=True):
        assert lesion.volume_ml == pytest.approx(measured.size.volume_ml, rel=1e-3)
        assert lesion.long_axis_mm == pytest.approx(measured.size.long_axis_mm, abs=1e-3)
        assert lesion.short_axis_mm == pytest.approx(measured.size.short_axis_mm, abs=1e-3)
        np.testing.assert_allclose(lesion.centroid_lps_mm, measured.place.centroid_lps_mm, atol=0.01)
    filled = case.segmentation.labels.any(axis=(1, 2))
    assert np.array_equal(prior.labels, case.segmentation.labels[filled])
    np.testing.assert_allclose(prior.geometry.origins_lps_mm, case.volume.geometry.origins_lps_mm[filled], atol=1e-3)


def test_a_tracking_uid_is_used_once(make_case) -> None:
    """Where two lesions bear the same one the second has none: today's would both bear it else."""
    ds = make_case().seg()
    first, second = (segment for segment in ds.SegmentSequence[1:])
    second.TrackingUID = first.TrackingUID
    assert [lesion.tracking_uid for lesion in read_prior(ds).lesions] == [first.TrackingUID, ""]


def test_a_liver_without_lesions(make_case) -> None:
    """Is an earlier study too: there all lesions of today are new."""
    prior = read_prior(make_case(lesions=False).seg())
    assert prior.lesions == ()
    assert prior.laid.surface.distances.min() < 0


@pytest.mark.parametrize("value", ["", None, "20241399", "yesterday"])
def test_a_study_without_a_date(make_case, value) -> None:
    """Has none; nonsense is none either."""
    ds = make_case().seg()
    ds.StudyDate = ""
    if value:
        ds["StudyDate"]._value = value
    assert read_prior(ds).study_date is None


def test_a_tracking_uid_that_is_none_is_left_out(make_case) -> None:
    """No new object would take it; the lesion is followed all the same, under a UID of today's."""
    ds = make_case().seg()
    ds.SegmentSequence[1]["TrackingUID"]._value = "not a UID"
    first, second = read_prior(ds).lesions
    assert first.tracking_uid == ""
    assert second.tracking_uid.startswith("2.25.")


def test_what_is_no_prior_is_refused(make_case, shared_data, tmp_path) -> None:
    """A SEG of something else, an object of another kind, and a file that is no DICOM."""
    spleen = make_case(lesions=False).seg()
    spleen.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue = "78961009"
    with pytest.raises(SegmentationUnreadable, match="one liver"):
        read_prior(spleen)
    with pytest.raises(SegmentationUnreadable):
        read_prior(dcmread(shared_data / "dcmqi_reference" / "partial_overlaps.dcm"))
    with pytest.raises(SegmentationUnreadable, match="not a SEG"):
        read_prior(make_case().headers[0])
    path = tmp_path / "prior.dcm"
    path.write_bytes(b"no DICOM")
    with pytest.raises(SegmentationUnreadable, match="readable"):
        read_prior(path)
