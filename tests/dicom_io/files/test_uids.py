"""UIDs that can be made again, and strangers' UIDs that never become a path."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from dicom_io.errors import InvalidUID
from dicom_io.files.uids import checked_uid, derive_uid


@given(st.lists(st.text(max_size=20) | st.integers(), min_size=1, max_size=4))
def test_derived_uids_are_valid_and_repeatable(parts: list[str | int]) -> None:
    """2.25 and a UUID: at most 64 characters, no leading zeros, the same each time."""
    assert UID(derive_uid(*parts)).is_valid
    assert derive_uid(*parts) == derive_uid(*parts)


def test_derived_uids_never_change() -> None:
    """A result is sent again under the UID it had before: this value may not change between versions."""
    assert derive_uid("frame-of-reference", "1.2.3") == "2.25.113279246413054004706359180564857692045"


def test_derived_uids_differ() -> None:
    assert len({derive_uid("a", 1), derive_uid("a", 2), derive_uid("b", 1), derive_uid("a")}) == 4


@pytest.mark.parametrize("value", ["1.2.840.10008.1.2", "1.2.3\0", " 1.2.3 ", "1.02.3", UID("1.2.3"), "1." + "2" * 62])
def test_uids_are_let_through(value: object) -> None:
    """Padded with NUL or blanks, or with a leading zero, as scanners write them."""
    assert checked_uid(value) == str(value).strip("\0 ")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "1",
        "..",
        "../../etc/passwd",
        "1.2/3",
        "1.2\\3",
        "1..2",
        ".1.2",
        "1.2.",
        "1.2\n",
        "1.2.a",
        "1.2.٣",
        "1." + "2" * 63,
        None,
    ],
)
def test_anything_else_is_refused(value: object) -> None:
    """And the message does not repeat it."""
    with pytest.raises(InvalidUID) as caught:
        checked_uid(value)
    assert not value or str(value) not in str(caught.value)
