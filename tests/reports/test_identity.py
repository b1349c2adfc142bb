"""The same job, revision and volume are called the same; anything else is called otherwise."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from dicom_io.files.uids import derive_uid
from reports.identity import ResultIdentity

UIDS = [
    (kind, name)
    for kind in ("series_instance_uid", "sop_instance_uid", "dimension_organization_uid")
    for name in ("seg", "seg_labelmap", "sr", "sr_labelmap", "sr_comprehensive", "sr_bidirectional", "verdict")
]


def uid_of(identity: ResultIdentity, kind: str, name: str) -> str:
    return str(getattr(identity, kind)(name))


def test_uids_follow_job_revision_and_volume(identity) -> None:
    """Equal where these and the object's name are equal, and all different where one differs."""
    others = [replace(identity, seed="job-8"), replace(identity, revision=2), replace(identity, volume_index=1)]
    again = replace(identity, created=datetime(2030, 1, 1, tzinfo=UTC))
    uids = {uid_of(each, *which) for each in (identity, *others) for which in UIDS}
    assert len(uids) == 4 * len(UIDS)
    for which in UIDS:
        uid = uid_of(identity, *which)
        assert uid == uid_of(again, *which)
        assert uid.startswith("2.25.") and len(uid) <= 64


def test_the_usual_objects_keep_their_uids(identity) -> None:
    """Those that sites have in their archives: a revision names them as what it supersedes."""
    assert identity.seg_series_instance_uid == derive_uid("seg-series", "job-7", 1, 0)
    assert identity.seg_sop_instance_uid == derive_uid("seg-instance", "job-7", 1, 0)
    assert identity.dimension_organization_uid("seg") == derive_uid("seg-dimensions", "job-7", 1, 0)
    assert identity.sr_series_instance_uid == derive_uid("sr-series", "job-7", 1, 0)
    assert identity.sr_sop_instance_uid == derive_uid("sr-instance", "job-7", 1, 0)


def test_tracking_survives_a_revision_and_the_device_a_job(identity) -> None:
    """Follow-up needs the one, the archive's device list the other."""
    assert replace(identity, revision=2).liver_tracking_uid == identity.liver_tracking_uid
    assert replace(identity, seed="job-8").device_observer_uid == identity.device_observer_uid
    assert replace(identity, software_version="0.2.0").device_observer_uid != identity.device_observer_uid


def test_volumes_of_one_series_share_no_series_number(identity) -> None:
    """Viewers sort by it, and some take it for the series."""
    volumes = [replace(identity, volume_index=index) for index in range(3)]
    numbers = [each.series_number_of(offset) for each in volumes for offset in (1, 2, 3)]
    assert numbers == [9001, 9002, 9003, 9011, 9012, 9013, 9021, 9022, 9023]
    assert len({each.tracking_seed for each in volumes}) == 3 and identity.tracking_seed == identity.seed


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": ""},
        {"revision": 0},
        {"volume_index": -1},
        {"created": datetime(2024, 5, 1)},  # noqa: DTZ001
        {"created": datetime(2024, 5, 1, tzinfo=timezone(timedelta(hours=2)))},
    ],
)
def test_an_identity_is_valid_from_birth(wrong) -> None:
    """A seed, a revision from 1, a time in UTC."""
    right = {"seed": "job", "revision": 1, "created": datetime(2024, 5, 1, tzinfo=UTC), "software_version": "0.1.0"}
    with pytest.raises(ValueError, match="."):
        ResultIdentity(**{**right, **wrong})
