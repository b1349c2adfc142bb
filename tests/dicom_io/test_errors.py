"""The reasons say what their page says, and errors keep their data on the way between processes."""

import pickle
import re
from pathlib import Path

import pytest

from dicom_io.errors import Cure, NotDicom, RejectReason, SeriesRejected, StoreRefused

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "objects.md").read_text()
CURES = {None: "–", Cure.MORE_SLICES: "more slices", Cure.CONFIGURATION: "the configuration"}


def test_the_page_has_every_reason_with_what_it_means():
    """The table of docs/objects.md is that of the code, row by row."""
    rows = [
        f"| {reason} | {reason.sentence} | {'yes' if reason.is_told else 'no'} | {CURES[reason.cure]} |"
        for reason in RejectReason
    ]
    assert re.findall(r"^\| [A-Z_]+ \|.+ \| (?:yes|no) \| .+ \|$", PAGE, re.MULTILINE) == rows


@pytest.mark.parametrize("reason", RejectReason)
def test_a_reason_is_a_sentence_and_keeps_its_row(reason: RejectReason):
    """By its name alone, as the ledger has it, and in another process."""
    assert reason.sentence.endswith(".") and reason.sentence[0].isupper()
    assert RejectReason(str(reason)) is pickle.loads(pickle.dumps(reason)) is reason
    assert str(SeriesRejected(reason, "3 of 5.")) == f"{reason}: {reason.sentence} 3 of 5."


@pytest.mark.parametrize(
    "error", [SeriesRejected(RejectReason.TOO_SHORT, "4 mm."), NotDicom("spool/1"), StoreRefused(0xA700)], ids=repr
)
def test_an_error_travels_between_processes(error: Exception):
    """The type, the sentence and the data are the same."""
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
