"""The figures of an evaluation as they are written, and its tables for a spreadsheet."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dicom_io.files.whole_files import write_whole

DECIMALS = 6
"""Of every figure that is written: a millionth of a voxel's share, a nanometre, a milligram of liver."""

CASES, LESIONS = "cases.csv", "lesions.csv"
_LESION_COLUMNS = (
    "name",
    "patient",
    "collection",
    "kind",
    "size_class",
    "true_volume_ml",
    "true_diameter_mm",
    "volume_ml",
    "diameter_mm",
    "dice",
    "iou",
    "confidence",
)

Record = Mapping[str, Any]


def round_floats(value: Any, decimals: int = DECIMALS) -> Any:
    """A copy of a JSON value with its floats rounded."""
    if isinstance(value, float):
        return round(value, decimals)
    if isinstance(value, dict):
        return {key: round_floats(item, decimals) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [round_floats(item, decimals) for item in value]
    return value


def write_tables(out: Path, cases: Sequence[Record]) -> None:
    """cases.csv with a row for each case, lesions.csv with one for each lesion: found, missed or false."""
    write_whole(out / CASES, _table([_case_row(case) for case in cases]))
    rows = [row for case in cases for row in _lesion_rows(case)]
    write_whole(out / LESIONS, _table(rows, _LESION_COLUMNS))


def _case_row(case: Record) -> dict[str, Any]:
    row = {name: case[name] for name in ("name", "patient", "collection", "tumours_drawn", "slices", "seconds")}
    for structure in ("liver", "tumour"):
        row |= {f"{structure}_{name}": value for name, value in case[structure].items()}
    row |= {name: case[name] for name in ("burden_percent", "true_burden_percent")}
    known = case["tumours_drawn"]
    found = sum(lesion["found"] for lesion in case["lesions"])
    row["true_lesions"] = len(case["lesions"]) if known else None
    row["found_lesions"] = found if known else None
    row["false_lesions"] = len(case["false_lesions"]) if known else None
    return row


def _lesion_rows(case: Record) -> list[dict[str, Any]]:
    whose = {name: case[name] for name in ("name", "patient", "collection")}
    rows = []
    for lesion in case["lesions"]:
        figures = {name: value for name, value in lesion.items() if name != "found"}
        rows.append(whose | {"kind": "found" if lesion["found"] else "missed"} | figures)
    return rows + [whose | {"kind": "false"} | lesion for lesion in case["false_lesions"]]


def _table(rows: Sequence[Record], columns: Sequence[str] | None = None) -> bytes:
    """Comma separated, with a header; what is not defined is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or list(rows[0]), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
