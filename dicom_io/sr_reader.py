"""Measurement groups of a TID 1500 report, read with pydicom alone."""

from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset, dcmread

MEASUREMENT_GROUP = "125007"
TRACKING_IDENTIFIER, TRACKING_UID = "112039", "112040"


@dataclass(frozen=True)
class MeasurementGroup:
    """One group: what it follows; its numbers, and its coded answers, by the code value of their concept."""

    tracking_identifier: str
    tracking_uid: str
    numbers: dict[str, float]
    answers: dict[str, str] = field(default_factory=dict)


def read_measurement_groups(source: Path | Dataset) -> list[MeasurementGroup]:
    """The groups of a report, in its order (PS3.16 TID 1500, TID 1411 and TID 1501)."""
    ds = source if isinstance(source, Dataset) else dcmread(source)
    return [_group(item) for item in _items(ds) if _concept(item) == MEASUREMENT_GROUP]


def _items(item: Dataset) -> list[Dataset]:
    children = list(item.get("ContentSequence") or [])
    return children + [below for child in children for below in _items(child)]


def _group(item: Dataset) -> MeasurementGroup:
    text: dict[str, str] = {}
    numbers: dict[str, float] = {}
    answers: dict[str, str] = {}
    for child in item.get("ContentSequence") or []:
        if child.ValueType in ("TEXT", "UIDREF"):
            text[_concept(child)] = str(child.get("TextValue") or child.get("UID"))
        elif child.ValueType == "NUM" and child.MeasuredValueSequence:
            numbers[_concept(child)] = float(child.MeasuredValueSequence[0].NumericValue)
        elif child.ValueType == "CODE" and child.ConceptCodeSequence:
            answers[_concept(child)] = str(child.ConceptCodeSequence[0].get("CodeValue", ""))
    return MeasurementGroup(text.get(TRACKING_IDENTIFIER, ""), text.get(TRACKING_UID, ""), numbers, answers)


def _concept(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].get("CodeValue", "")) if names else ""
