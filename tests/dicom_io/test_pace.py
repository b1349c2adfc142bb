"""A pace holds on average, whoever shares it."""

import pytest

from dicom_io.pace import Pace


def test_bytes_wait_for_those_before_them():
    """One Mbit/s is 125 000 bytes a second; a pause is not made up for."""
    now, slept = [100.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    pace = Pace(1.0, lambda: now[0], sleep)
    assert [pace(count) for count in (125_000, 250_000, 1, 0)] == [0.0, *slept]
    assert slept == pytest.approx([1.0, 2.0, 0.000008])
    now[0] += 1000
    assert (pace(125_000), pace(125_000)) == (0.0, pytest.approx(1.0))
