"""Every code that a result may carry is said in words."""

import pytest

from dicom_io.errors import SeriesWarning
from models.doubts import LIVER_UNCERTAIN, NOT_LIKE_LIVER, VALUES_DOUBTFUL
from models.postprocessing import LESIONS_TRUNCATED
from reports.findings.caveats import FindingsWarning, caveat


@pytest.mark.parametrize(
    "code", [*SeriesWarning, LESIONS_TRUNCATED, VALUES_DOUBTFUL, LIVER_UNCERTAIN, NOT_LIKE_LIVER, *FindingsWarning]
)
def test_a_code_has_its_sentence(code) -> None:
    """The code, so that it can be looked up, and what it means."""
    text = caveat(code)
    assert text.startswith(f"Warning: {code}. ") and text.endswith(".") and len(text) > len(code) + 25


def test_an_unknown_code_stands_alone() -> None:
    """A newer model may know more."""
    assert caveat("NEWER_THAN_THIS") == "Warning: NEWER_THAN_THIS."
