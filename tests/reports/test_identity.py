"""The same job, revision and volume are called the same; anything else is called otherwise."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from reports.identity import ResultIdentity

UIDS = [
    "seg_series_instance_uid", "seg_sop_instance_uid", "seg_dimension_organization_uid",
    "sr_series_instance_uid", "sr_sop_instance_uid",
]  # fmt: skip


def test_uids_follow_job_revision_and_volume(identity) -> None:
    """Equal where these are equal, and all different where one differs."""
    others = [replace(identity, seed="job-8"), replace(identity, revision=2), replace(identity, volume_index=1)]
    again = replace(identity, created=datetime(2030, 1, 1, tzinfo=UTC))
    uids = {getattr(each, name) for each in (identity, *others) for name in UIDS}
    assert len(uids) == 4 * len(UIDS)
    for name in UIDS:
        assert getattr(again, name) == getattr(identity, name)
        assert getattr(identity, name).startswith("2.25.") and len(getattr(identity, name)) <= 64


def test_tracking_survives_a_revision_and_the_device_a_job(identity) -> None:
    """Follow-up needs the one, the archive's device list the other."""
    assert replace(identity, revision=2).liver_tracking_uid == identity.liver_tracking_uid
    assert replace(identity, seed="job-8").device_observer_uid == identity.device_observer_uid
    assert replace(identity, software_version="0.2.0").device_observer_uid != identity.device_observer_uid


def test_volumes_of_one_series_share_no_series_number(identity) -> None:
    """Viewers sort by it, and some take it for the series."""
    volumes = [replace(identity, volume_index=index) for index in range(3)]
    numbers = [number for each in volumes for number in (each.seg_series_number, each.sr_series_number)]
    assert numbers == [9001, 9002, 9011, 9012, 9021, 9022]
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
