"""The first rule whose every pattern matches, in any case of letters."""

import pytest
from pydicom import Dataset

from daemon.configuration.config import Rule
from daemon.routing import first_match, matches


def rule(name: str = "rule", **match: str | tuple[str, ...]) -> Rule:
    patterns = {keyword: (value,) if isinstance(value, str) else value for keyword, value in match.items()}
    return Rule(name=name, match=patterns, model="resnet50", destinations=("archive",))


@pytest.fixture
def header() -> Dataset:
    ds = Dataset()
    ds.Modality = "CT"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SeriesDescription = "Abdomen PORTAL venös [1]"
    ds.ProtocolName = ""
    return ds


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({}, True),
        ({"Modality": "CT"}, True),
        ({"Modality": "ct"}, True),
        ({"Modality": "C"}, False),
        ({"Modality": ("MR", "C?")}, True),
        ({"Modality": "MR"}, False),
        ({"Modality": "CT", "SeriesDescription": "*portal*"}, True),
        ({"Modality": "MR", "SeriesDescription": "*portal*"}, False),
        ({"SeriesDescription": "*VENÖS*"}, True),
        ({"SeriesDescription": "*[[]1]"}, True),
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
    ],
    ids=str,
)
def test_a_rule_matches(header: Dataset, match: dict[str, str | tuple[str, ...]], expected: bool):
    """Every keyword by one of its patterns, on one of the values; absent is empty; the sender's AE title too."""
    assert matches(rule(**match), header, calling_ae_title="CT_1") is expected


def test_the_first_rule_that_matches_wins(header: Dataset):
    """The order of the file is the order of asking."""
    rules = [rule("mr", Modality="MR"), rule("ct", Modality="CT"), rule("all")]
    found = first_match(rules, header, calling_ae_title="CT_1")
    assert found is rules[1]


def test_none_matches(header: Dataset):
    """Where no rule matches, or there is none."""
    assert first_match([rule(Modality="MR")], header, calling_ae_title="CT_1") is None
    assert first_match([], header, calling_ae_title="CT_1") is None
