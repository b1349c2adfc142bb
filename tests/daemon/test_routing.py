"""The first rule of which all holds, in any case of letters; of each other one the reason."""

from datetime import datetime
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence

from daemon.configuration.config import Rule
from daemon.routing import Candidate, first_match, fits, mismatch


def rule(name: str = "rule", *, enabled: bool = True, **match: Any) -> Rule:
    return Rule(name=name, enabled=enabled, match=match, model="resnet50", destinations=("archive",))


@pytest.fixture
def header() -> Dataset:
    ds = Dataset()
    ds.Modality = "CT"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SeriesDescription = "Abdomen PORTAL venös [1]"
    ds.ProtocolName = ""
    ds.SliceThickness = "2.5"
    ds.Rows = 512
    return ds


def candidate(header: Dataset, *, at: str = "2026-03-01T08:30", is_answered: bool = False) -> Candidate:
    return Candidate(header, "CT_1", datetime.fromisoformat(at).timestamp(), lambda: is_answered)


CT = {"Modality": "CT"}
MR = {"Modality": "MR"}


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({}, True),
        (CT, True),
        ({"Modality": "ct"}, True),
        ({"Modality": "C"}, False),
        ({"Modality": ("MR", "C?")}, True),
        (MR, False),
        ({"Modality": "CT", "SeriesDescription": "*portal*"}, True),
        ({"Modality": "MR", "SeriesDescription": "*portal*"}, False),
        ({"SeriesDescription": "*VENÖS*"}, True),
        ({"SeriesDescription": "*[[]1]"}, True),
        ({"SeriesDescription": "re:portal|arterial"}, True),
        ({"SeriesDescription": "re:^portal"}, False),
        ({"SeriesDescription": ("re:^portal", "abd*")}, True),
        ({"ImageType": "axial"}, True),
        ({"ImageType": ("LOCALIZER", "PRIMARY")}, True),
        ({"ImageType": "LOCALIZER"}, False),
        ({"ImageType": "ORIGINAL*AXIAL"}, False),
        ({"CallingAETitle": "CT_?"}, True),
        ({"CallingAETitle": "MODALITY"}, False),
        ({"ProtocolName": "*"}, True),
        ({"ProtocolName": "?*"}, False),
        ({"StationName": "*"}, True),
        ({"StationName": "?*"}, False),
        ({"SliceThickness": "<= 3"}, True),
        ({"SliceThickness": "< 2.5"}, False),
        ({"SliceThickness": ">= 2.5"}, True),
        ({"SliceThickness": "> 2.5"}, False),
        ({"SliceThickness": "1.5..3"}, True),
        ({"SliceThickness": "3..5"}, False),
        ({"SliceThickness": ("1", "2..3")}, True),
        ({"SliceThickness": 2.5}, True),
        ({"Rows": 512}, True),
        ({"EchoTime": "> 0"}, False),
        ({"phase": "portal"}, True),
        ({"phase": ("arterial", "unknown")}, False),
        ({"hours": "07:00-08:31"}, True),
        ({"hours": "08:31-18:00"}, False),
        ({"hours": "22:00-09:00"}, True),
        ({"hours": ("00:00-06:00", "08:00-12:00")}, True),
        ({"answered": False}, True),
        ({"answered": True}, False),
        ({"any": (MR, CT)}, True),
        ({"any": (MR, {"phase": "native"})}, False),
        ({"Modality": "MR", "any": (CT,)}, False),
        ({"all": (CT, {"phase": "portal"})}, True),
        ({"all": (CT, MR)}, False),
        ({"not": MR}, True),
        ({"not": CT}, False),
        ({"not": {"Modality": "CT", "phase": "native"}}, True),
        ({"not": (MR, CT)}, False),
        ({"any": ({"not": MR, "SliceThickness": "< 3"}, MR)}, True),
    ],
    ids=str,
)
def test_a_rule_matches(header: Dataset, match: dict[str, Any], expected: bool):
    """All of it must hold, of a list one; of several values one; absent is empty; the sender's AE title too."""
    assert (mismatch(rule(**match), candidate(header)) is None) is expected


@pytest.mark.parametrize(
    ("match", "why"),
    [
        ({"Modality": ("MR", "PT")}, 'Modality is "CT", not "MR" or "PT"'),
        ({"SliceThickness": "> 3"}, 'SliceThickness is "2.5", not "> 3"'),
        ({"KVP": "80..120"}, 'KVP is absent, not "80..120"'),
        ({"phase": ("native", "arterial")}, "phase is portal, not native or arterial"),
        ({"hours": "18:00-07:00"}, "its first image came at 08:30, not within 18:00-07:00"),
        ({"answered": True}, "its study has no results yet"),
        ({"all": (CT, MR)}, 'Modality is "CT", not "MR"'),
        (
            {"any": (MR, {"phase": "native"})},
            'nothing of any holds: Modality is "CT", not "MR"; phase is portal, not native',
        ),
        (
            {"not": {"Modality": ("CT", "PT"), "SliceThickness": "< 3"}},
            'not excludes it: Modality = "CT" or "PT" and SliceThickness = "< 3"',
        ),
    ],
    ids=str,
)
def test_why_a_rule_does_not_match(header: Dataset, match: dict[str, Any], why: str):
    """The first that does not hold: what there is, and what is asked for."""
    assert mismatch(rule(**match), candidate(header)) == why


def test_a_study_that_has_results_already(header: Dataset):
    """The ledger is asked where a rule asks, and not otherwise."""
    answered = candidate(header, is_answered=True)
    assert mismatch(rule(answered=False), answered) == "its study has results already"
    assert mismatch(rule(answered=True), answered) is None

    def unasked() -> bool:
        raise AssertionError("the ledger was asked")

    assert mismatch(rule(**CT), Candidate(header, "CT_1", 0.0, unasked)) is None


def test_a_phase_that_nothing_says(header: Dataset):
    """It is unknown, which a rule may ask for."""
    header.SeriesDescription = "Abdomen"
    assert mismatch(rule(phase=("portal", "unknown")), candidate(header)) is None
    assert mismatch(rule(phase="portal"), candidate(header)) == "phase is unknown, not portal"
    header.ContrastBolusStartTime, header.AcquisitionDate, header.AcquisitionTime = "101500", "20260301", "101610"
    assert mismatch(rule(phase="portal"), candidate(header)) is None


def test_the_slice_thickness_of_an_enhanced_image(header: Dataset):
    """It stands in the pixel measures, of all frames or of the first."""
    measures = Dataset()
    measures.SliceThickness = header.SliceThickness
    groups = Dataset()
    groups.PixelMeasuresSequence = Sequence([measures])
    del header.SliceThickness
    header.PerFrameFunctionalGroupsSequence = Sequence([groups, Dataset()])
    assert mismatch(rule(SliceThickness="<= 3"), candidate(header)) is None


def test_a_long_value_costs_a_regular_expression_no_time(header: Dataset):
    """A sender may write whatever it likes; what stands behind is not looked at."""
    header.SeriesDescription = "a" * 1_000_000 + "!"
    assert mismatch(rule(SeriesDescription="re:a+!"), candidate(header)) is not None


def test_a_rule_that_is_switched_off(header: Dataset):
    """It matches nothing, and the next one is asked."""
    rules = [rule("off", enabled=False), rule("on")]
    assert first_match(rules, candidate(header)) is rules[1]
    assert mismatch(rules[0], candidate(header)) == "it is switched off (enabled = false)"


def test_the_first_rule_that_matches_wins(header: Dataset):
    """The order of the file is the order of asking."""
    rules = [rule("mr", Modality="MR"), rule("ct", Modality="CT"), rule("all")]
    assert first_match(rules, candidate(header)) is rules[1]


def test_none_matches(header: Dataset):
    """Where no rule matches, or there is none."""
    assert first_match([rule(Modality="MR")], candidate(header)) is None
    assert first_match([], candidate(header)) is None


def test_a_regular_expression_may_not_take_for_ever(read_log: Any) -> None:
    """Whoever sends a description chooses what is searched: nothing is found, and the log says so."""
    assert fits("aaaa", "re:^(a|aa)+$")
    assert not fits("a" * 60 + "!", "re:^(a|aa)+$")
    (line,) = read_log.named("rule.pattern_too_slow")
    assert line["level"] == "warning"
