"""The table of severity: every row, both sides of every threshold, and its page."""

from pathlib import Path

import pytest

from reports.findings.severity import NO_LESION, NOT_KNOWN, TABLE, Aspect, Level, Row, Severity, severity_of

PAGE = Path(__file__).resolve().parents[3] / "docs" / "severity.md"

LEAST = {Aspect.SIZE: 8.0, Aspect.NUMBER: 1, Aspect.BURDEN: 0.01, Aspect.SPREAD: 1}
STEP = {Aspect.SIZE: 0.1, Aspect.NUMBER: 1, Aspect.BURDEN: 0.1, Aspect.SPREAD: 1}


def severity_with(aspect: Aspect, value: float) -> Severity:
    """Of one tiny lesion, of which one aspect is another."""
    values = {**LEAST, aspect: value}
    return severity_of(
        largest_mm=values[Aspect.SIZE],
        lesion_count=int(values[Aspect.NUMBER]),
        burden_percent=values[Aspect.BURDEN],
        halves=int(values[Aspect.SPREAD]),
    )


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.aspect} over {row.above:g}")
def test_each_row_holds_from_its_threshold_on(row: Row) -> None:
    """Just over it the row's level, and its reason; at it, where that can be, the level of the row before."""
    over = severity_with(row.aspect, row.above + STEP[row.aspect])
    assert over.level is row.level
    if row.level is not Level.LOW:
        assert len(over.reasons) == 1 and f"over {row.above:g}" in over.reasons[0]
        before = [other for other in TABLE if other.aspect is row.aspect and other.above < row.above][-1]
        assert severity_with(row.aspect, row.above).level is before.level


def test_the_table_rises_within_each_aspect() -> None:
    """Every aspect begins at low, and more is never less severe."""
    for aspect in Aspect:
        rows = [row for row in TABLE if row.aspect is aspect]
        assert rows[0].above == 0 and rows[0].level is Level.LOW
        assert [row.above for row in rows] == sorted({row.above for row in rows})
        levels = [list(Level).index(row.level) for row in rows]
        assert levels == sorted(set(levels))


def test_the_highest_level_counts_and_all_its_reasons_are_given() -> None:
    """Two high ones; the moderate one is no reason."""
    found = severity_of(largest_mm=62.04, lesion_count=12, burden_percent=30, halves=2)
    assert found.level is Level.HIGH
    assert found.reasons == ("largest long axis 62 mm, over 50 mm", "number of lesions 12, over 10")


def test_low_says_what_it_is_under() -> None:
    """Every aspect is a reason for it."""
    assert severity_of(largest_mm=8.16, lesion_count=2, burden_percent=0.04, halves=1) == Severity(
        Level.LOW,
        (
            "largest long axis 8.2 mm, not over 30 mm",
            "number of lesions 2, not over 3",
            "part of the liver's volume 0 %, not over 25 %",
            "halves of the liver with lesions 1, not over 1",
        ),
    )


def test_what_is_written_is_what_is_compared() -> None:
    """30.04 mm is written 30 mm, and so it is not over 30 mm."""
    assert severity_with(Aspect.SIZE, 30.04).level is Level.LOW
    assert severity_with(Aspect.SIZE, 30.06).level is Level.MODERATE


def test_no_lesion_and_no_liver_are_levels_of_their_own() -> None:
    """None found is not low; not known is not none."""
    assert (NO_LESION.level, NOT_KNOWN.level) == (Level.NONE, None)
    assert NO_LESION.reasons and NOT_KNOWN.reasons


def test_the_page_has_every_row_with_its_source() -> None:
    """docs/severity.md is the table that is computed, and every source that it names is listed."""
    lines = PAGE.read_text().splitlines()
    for row in (row for row in TABLE if row.source):
        wanted = f"| {row.aspect} | over {row.above:g}"
        (line,) = [line for line in lines if line.startswith(wanted + " ")]
        assert f"| {row.level} |" in line
        for source in row.source.split(", "):
            assert source in line and any(other.startswith(f"- **{source}**") for other in lines)
