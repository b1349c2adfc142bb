"""Which images make up which volume."""

import numpy as np
import pytest

from dicom_io.errors import RejectReason, SeriesRejected
from dicom_io.series.partition import Part, Placed, clusters, volumes_of

AXIAL = np.array([1.0, 0, 0, 0, 1, 0])


def images(heights_mm: list[float], **marks: list[object]) -> list[Placed[int]]:
    """Axial images at heights, with the marks of each."""
    return [
        Placed(
            index,
            np.array([0.0, 0, height]),
            AXIAL,
            {key: str(values[index]) for key, values in marks.items() if values[index] != ""},
        )
        for index, height in enumerate(heights_mm)
    ]


def numbers(parts: list[Part[int]]) -> list[list[int]]:
    return [[placed.slice for placed in part.placed] for part in parts]


PLACES = [0.0, 5, 10, 15, 20, 25]


def test_one_image_at_each_place_is_one_volume() -> None:
    """Whatever ImageType or AcquisitionNumber say."""
    kinds = ["ADD", "", "ADD", "", "ADD", ""]
    parts = volumes_of(images(PLACES, ImageType=kinds, AcquisitionNumber=list(range(6))), 5)
    assert numbers(parts) == [[0, 1, 2, 3, 4, 5]]
    assert parts[0].label == ""


@pytest.mark.parametrize(
    "key", ["AcquisitionNumber", "TemporalPositionIdentifier", "EchoNumbers", "DiffusionBValue", "TriggerTime", "KVP"]
)
def test_volumes_are_told_apart(key: str) -> None:
    """Numbers count as numbers: 10 comes after 9."""
    parts = volumes_of(images(PLACES * 2, **{key: [10] * 6 + [9] * 6}), 5)
    assert numbers(parts) == [[6, 7, 8, 9, 10, 11], [0, 1, 2, 3, 4, 5]]
    assert [part.label for part in parts] == [f"{key} 9", f"{key} 10"]


def test_two_attributes_together() -> None:
    """Two echoes, each with magnitude and phase."""
    echo = [1] * 12 + [2] * 12
    kind = (["ORIGINAL\\M"] * 6 + ["ORIGINAL\\P"] * 6) * 2
    parts = volumes_of(images(PLACES * 4, EchoNumbers=echo, ImageType=kind), 5)
    assert len(parts) == 4
    assert [part.label for part in parts] == [f"EchoNumbers {e}, ImageType {k}" for e in (1, 2) for k in "MP"]


def test_the_fewest_volumes_win() -> None:
    """An acquisition time of its own for every image tells them apart too, and would leave none whole."""
    times = [f"2020010112{second:04d}" for second in range(12)]
    parts = volumes_of(images(PLACES * 2, AcquisitionDateTime=times, EchoTime=[2.3] * 6 + [4.6] * 6), 5)
    assert [part.label for part in parts] == ["EchoTime 2.3", "EchoTime 4.6"]


def test_one_more_image_at_one_place() -> None:
    """It is a volume of its own, and too small to be read."""
    parts = volumes_of(images([*PLACES, 10.0], AcquisitionNumber=[1] * 6 + [2]), 5)
    assert sorted(map(len, numbers(parts))) == [1, 6]


def test_nothing_tells_them_apart() -> None:
    with pytest.raises(SeriesRejected) as caught:
        volumes_of(images(PLACES * 2, AcquisitionNumber=[1] * 12), 5)
    assert caught.value.reason is RejectReason.DUPLICATE_POSITIONS


def test_an_attribute_that_differs_everywhere_tells_nothing() -> None:
    with pytest.raises(SeriesRejected):
        volumes_of(images(PLACES * 2, AcquisitionDateTime=[f"{n}" for n in range(12)]), 5)


def test_a_number_of_each_slice_does_not_split() -> None:
    """Sequential CT counts an acquisition a slice: at one position they differ too, and so do the phases."""
    acquisition = [*range(6), *range(6, 12)]
    parts = volumes_of(images(PLACES * 2, AcquisitionNumber=acquisition, ContrastBolusAgent=[""] * 6 + ["x"] * 6), 5)
    assert numbers(parts) == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]


def test_free_text_stays_out_of_labels() -> None:
    parts = volumes_of(images(PLACES * 2, ContrastBolusAgent=[""] * 6 + ["ZZPHI"] * 6), 5)
    assert [part.label for part in parts] == ["ContrastBolusAgent 1 of 2", "ContrastBolusAgent 2 of 2"]


def test_two_breath_holds_between_one_another() -> None:
    """Even each for itself and not together: two volumes that share most of their length."""
    heights = [*PLACES, *(height + 1.7 for height in PLACES)]
    parts = volumes_of(images(heights, AcquisitionNumber=[1] * 6 + [2] * 6), 5)
    assert numbers(parts) == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]


def test_odd_and_even_slices_are_one_volume() -> None:
    """Two passes that fill one another's gaps make an even stack."""
    heights = [*PLACES, *(height + 2.5 for height in PLACES)]
    assert len(volumes_of(images(heights, AcquisitionNumber=[1] * 6 + [2] * 6), 5)) == 1


def test_one_after_the_other_is_one_volume() -> None:
    """Thin slices below, thick ones above: an uneven stack, not two volumes."""
    heights = [*PLACES, 35.0, 45, 55, 65, 75, 85]
    assert len(volumes_of(images(heights, AcquisitionNumber=[1] * 6 + [2] * 6), 5)) == 1


def test_a_single_image() -> None:
    assert numbers(volumes_of(images([0.0]), 5)) == [[0]]


def test_phases_by_the_time_of_each_slice() -> None:
    """Every slice has its own time, as CT writes it: the phases are divided by the longest pause."""
    times = [f"202001011159{50 + n}" for n in range(6)] + [f"2020010112003{n}.25" for n in range(6)]
    parts = volumes_of(images(PLACES * 2, AcquisitionDateTime=times), 5)
    assert numbers(parts) == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert [part.label for part in parts] == ["AcquisitionDateTime 1 of 2", "AcquisitionDateTime 2 of 2"]


def test_times_that_run_through_one_another() -> None:
    """No pause divides them, so nothing does."""
    times = [f"2020010112000{n % 6}.{5 * (n // 6)}" for n in range(12)]
    with pytest.raises(SeriesRejected):
        volumes_of(images(PLACES * 2, AcquisitionDateTime=times), 5)


def test_two_acquisitions_that_share_a_seam_are_one_volume() -> None:
    """One after the other along the table: the image at the seam counts once."""
    parts = volumes_of(images([*PLACES, 25.0, 30, 35, 40, 45, 50], AcquisitionNumber=[1] * 6 + [2] * 6), 5)
    assert [part.label for part in parts] == [""]
    assert [len(part.placed) for part in parts] == [11]


def test_one_number_in_two_spellings_is_one_value() -> None:
    """What is measured is compared as a number: 2.3 ms, 2.30 and 2.3000001 are one echo."""
    echo = ["2.3", "2.30", "2.3000001"] * 2 + ["4.6", "4.600", "4.6000002"] * 2
    assert numbers(volumes_of(images(PLACES * 2, EchoTime=echo), 5)) == [[*range(6)], [*range(6, 12)]]


def points(*values_mm: float) -> np.ndarray:
    return np.array([[[value, 0.0, 0.0]] for value in values_mm])


@pytest.mark.parametrize(
    ("values_mm", "groups"),
    [
        ((0.0, 0.09, 0.0, 0.09), [[0, 1, 2, 3]]),
        ((0.0, 1.0, 0.0, 1.0, 1.0), [[1, 3, 4], [0, 2]]),
        ((0.5,), [[0]]),
        ((0.04, 0.0, 0.02, 0.05, 7.0), [[0, 1, 2, 3], [4]]),
    ],
)
def test_what_is_near_is_one(values_mm: tuple[float, ...], groups: list[list[int]]) -> None:
    assert [sorted(group.tolist()) for group in clusters(points(*values_mm), 0.1)] == groups


def test_a_chain_of_small_differences_joins_nothing() -> None:
    """Each is near the next; the ends are far apart, and in no common group, in whatever order they come."""
    values = np.arange(40) * 0.05
    for order in (values, values[::-1], np.random.default_rng(1).permutation(values)):
        found = clusters(points(*order), 0.1)
        assert max(float(np.ptp(order[group])) for group in found) <= 0.1 + 1e-9
        assert sorted(index for group in found for index in group.tolist()) == list(range(40))
