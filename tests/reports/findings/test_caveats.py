"""Every code that a result may carry is said in words."""

import pytest

from dicom_io.errors import SeriesWarning
from models.doubts import LIVER_UNCERTAIN, LIVER_VOLUME_DOUBTFUL, NOT_LIKE_LIVER, UNFIT, VALUES_DOUBTFUL
from models.postprocessing import LESIONS_TRUNCATED
from reports.findings import caveats
from reports.findings.caveats import NOT_JUDGED, SENTENCES, FindingsWarning, caveat

MODELS = (LESIONS_TRUNCATED, VALUES_DOUBTFUL, LIVER_UNCERTAIN, LIVER_VOLUME_DOUBTFUL, NOT_LIKE_LIVER)


@pytest.mark.parametrize("code", [*SeriesWarning, *MODELS, *FindingsWarning])
def test_a_code_has_its_sentence(code) -> None:
    """The code, so that it can be looked up, and what it means."""
    text = caveat(code)
    assert text.startswith(f"Warning: {code}. ") and text.endswith(".") and len(text) > len(code) + 25


def test_an_unknown_code_stands_alone() -> None:
    """A newer model may know more."""
    assert caveat("NEWER_THAN_THIS") == "Warning: NEWER_THAN_THIS."


def test_models_and_reports_agree_on_what_is_not_judged() -> None:
    """They never import each other: the codes are said twice."""
    assert NOT_JUDGED == UNFIT
    assert caveats.LIVER_UNCERTAIN == LIVER_UNCERTAIN
    assert all(code in SENTENCES for code in NOT_JUDGED)
