"""The names of lesions: numbers that last for life, as SEG and SR write them and as a later study reads them.

Pure.
"""

import re
from collections.abc import Sequence

LESION = re.compile(r"Lesion ([1-9][0-9]{0,3})")
HIGHEST = re.compile(r"numbers to ([1-9][0-9]{0,3})")


def lesion_tracking_id(number: int) -> str:
    """TrackingID of a lesion, the same in SEG and SR."""
    return f"Lesion {number}"


def lesion_numbers(tracking_ids: Sequence[str]) -> tuple[int, ...]:
    """Return the numbers that these names state; one that states none, or that of another, gets the next free one."""
    stated = [LESION.fullmatch(text.strip()) for text in tracking_ids]
    free = max((int(match[1]) for match in stated if match), default=0) + 1
    numbers: list[int] = []
    for match in stated:
        number = int(match[1]) if match else 0
        if not number or number in numbers:
            number, free = free, free + 1
        numbers.append(number)
    return tuple(numbers)


def content_description(numbers: Sequence[int], *, highest: int, revision: int) -> str:
    """ContentDescription of a SEG (LO): its lesions, the highest number that one of the patient's was ever given.

    That is said where the lesion is gone, so that no later one gets its number. The SEG IOD has no predecessor: that
    this one supersedes another is said here too.
    """
    lesions = "1 lesion" if len(numbers) == 1 else f"{len(numbers)} lesions"
    given = f", numbers to {highest}" if highest > max(numbers, default=0) else ""
    return f"Liver and {lesions}{given}" + (f", revision {revision}" if revision > 1 else "")


def highest_number(description: str) -> int:
    """Return the highest number that a SEG's ContentDescription says was given; 0 where it says none."""
    match = HIGHEST.search(description)
    return int(match[1]) if match else 0
