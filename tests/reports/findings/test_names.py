"""Numbers of lesions as SEG and SR write them, read again."""

import pytest

from reports.findings.names import content_description, highest_number, lesion_numbers, lesion_tracking_id


def test_numbers_come_back() -> None:
    """What is written as a name is read as the same number; other names get numbers that are free."""
    assert lesion_numbers([lesion_tracking_id(number) for number in (7, 2, 12)]) == (7, 2, 12)
    assert lesion_numbers(["", "Lesion 2", "tumour", "Lesion 2", "Lesion 0", "Lesion 1"]) == (3, 2, 4, 5, 6, 1)
    assert lesion_numbers(["", "", ""]) == (1, 2, 3)
    assert lesion_numbers([]) == ()


@pytest.mark.parametrize(
    ("numbers", "highest", "revision", "text"),
    [
        ((), 0, 1, "Liver and 0 lesions"),
        ((1,), 1, 1, "Liver and 1 lesion"),
        ((3, 1), 3, 1, "Liver and 2 lesions"),
        ((1,), 7, 1, "Liver and 1 lesion, numbers to 7"),
        ((), 2, 3, "Liver and 0 lesions, numbers to 2, revision 3"),
    ],
)
def test_the_highest_number_is_said_where_its_lesion_is_gone(numbers, highest, revision, text) -> None:
    """An LO of at most 64 characters, in the worst case too."""
    assert content_description(numbers, highest=highest, revision=revision) == text
    assert max(highest_number(text), *numbers, 0) == highest
    assert len(content_description(range(254), highest=9999, revision=99999)) <= 64
