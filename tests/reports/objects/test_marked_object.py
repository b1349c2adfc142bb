"""The SR that says that it is a test."""

from collections.abc import Callable

import pytest
from pydicom import Dataset

from reports.objects.kinds import SR_SOP_CLASS_UIDS
from reports.objects.marked_object import SENTENCE, marked_sr

Validate = Callable[[Dataset], list[str]]


@pytest.mark.parametrize("sr_class", [name for name in SR_SOP_CLASS_UIDS if name])
def test_it_is_clean_and_the_same_each_time(sr_class: str, validate: Validate) -> None:
    """In dciodvfy; and what is sent again is no other object."""
    sr = marked_sr(sr_class)  # type: ignore[arg-type]
    assert validate(sr) == []
    assert sr == marked_sr(sr_class)  # type: ignore[arg-type]
    assert sr.ContentSequence[0].TextValue == SENTENCE
