"""The page in words: what stands on it, and that nothing on it covers anything else."""

from dataclasses import replace

import pytest

from dicom_io.segmentation import Algorithm
from reports.envelope import RESEARCH_USE
from reports.findings.caveats import SENTENCES
from reports.findings.criteria import CRITERIA_CAVEAT
from reports.pages.drawing import Box, Canvas
from reports.pages.slice_page import HEIGHT, WIDTH
from reports.pages.summary_page import TABLE_LESIONS, draw_summary


class Noted(Canvas):
    """A canvas that also keeps what was written, and where."""

    def __init__(self) -> None:
        super().__init__(WIDTH, HEIGHT)
        self.written: list[tuple[str, Box]] = []

    def text(self, x, baseline, text, size, **how) -> Box:
        box = super().text(x, baseline, text, size, **how)
        self.written.append((text, box))
        return box

    @property
    def words(self) -> str:
        return " ".join(text for text, _ in self.written)


@pytest.fixture
def page(make_case, identity):
    """Draw the page of a case with these findings."""

    def draw(findings=None, *, algorithm=None, volume_note="", **parts) -> Noted:
        case = make_case()
        canvas = Noted()
        draw_summary(
            canvas,
            case.findings if findings is None else findings,
            algorithm or case.segmentation.algorithm,
            identity=replace(identity, **parts),
            series='CT series 4, "Abdomen"',
            volume_note=volume_note,
        )
        return canvas

    return draw


def many(findings, count):
    """The findings with this many lesions, of widely different sizes."""
    first = findings.lesions[0]
    lesions = tuple(
        replace(first, number=n, segment=n + 1, confidence=1 / n,
                size=replace(first.size, volume_ml=3000 / n**3, long_axis_mm=200 / n, short_axis_mm=150.25 / n),
                place=replace(first.place, half="right", third="cranial"))
        for n in range(1, count + 1)
    )  # fmt: skip
    return replace(findings, lesions=lesions)


def test_it_says_what_was_found(page, make_case) -> None:
    """Every number as the findings have it, with its unit, and who found it."""
    findings = make_case().findings
    words = page().words
    lesion = findings.lesions[0]
    for expected in (
        f"{findings.liver_volume_ml:.0f} mL",
        f"{findings.burden_percent:.1f} %",
        str(findings.severity.level),
        f"{lesion.size.long_axis_mm:.1f} x {lesion.size.short_axis_mm:.1f}",
        f"{lesion.values.hu_mean:.0f}",
        lesion.place.region,
        findings.milan.computed,
        findings.up_to_seven.computed,
        "Axes in the axial plane",
        "CT series 4",
        "Model resnet50 1.2.0, weights sha256 0123456789ab. Software: Porta 0.1.0.",
        RESEARCH_USE,
    ):
        assert expected in words
    assert " ".join(CRITERIA_CAVEAT.split()) in words


def test_it_says_which_volume_and_revision(page) -> None:
    """Where there are several of them."""
    note = "The series holds 2 volumes; volume 2 (AcquisitionNumber 3) was segmented."
    words = page(volume_label="AcquisitionNumber 3", volume_index=1, revision=2, volume_note=note).words
    assert 'CT series 4, "Abdomen", AcquisitionNumber 3, revision 2' in words and note in words
    assert "revision" not in page().words


def test_warnings_stand_there_in_words(page, make_case) -> None:
    """All of them where there is room; a code that has no sentence is better than nothing."""
    findings = replace(make_case().findings, warnings=("TILT", "UNEVEN_SPACING", "SOMETHING_NEW"))
    words = page(findings).words
    assert SENTENCES["TILT"] in words and SENTENCES["UNEVEN_SPACING"] in words and "SOMETHING_NEW" in words
    assert "Warnings" not in page(replace(findings, warnings=())).words


def test_no_lesion_and_no_liver_are_said(page, make_case) -> None:
    """And no table, no criteria, no percentage."""
    words = page(make_case(lesions=False).findings).words
    assert "No liver lesion was found." in words and "0.0 %" in words and "Milan" not in words and "Region" not in words
    words = page(make_case(liver=False).findings).words
    assert "No liver was found in this series." in words and "mL" not in words and "%" not in words


@pytest.mark.parametrize(("count", "more"), [(12, None), (13, "And 1 more"), (254, "And 242 more")])
def test_the_table_ends_after_twelve(page, make_case, count, more) -> None:
    """And says how many more there are."""
    canvas = page(many(make_case().findings, count))
    rows = [text for text, _ in canvas.written if " x " in text and "," not in text]
    assert len(rows) == TABLE_LESIONS
    assert (more in canvas.words) if more else ("more, all in" not in canvas.words)


@pytest.mark.parametrize("count", [0, 1, 12, 254])
@pytest.mark.parametrize("warned", [0, 1, 5, 30])
@pytest.mark.parametrize("note", ["", "The series holds several volumes; one was segmented. " * 8])
def test_nothing_covers_anything_else(page, make_case, count, warned, note) -> None:
    """However much there is to say, all of it lies on the page, and of the warnings it is said how many are left."""
    findings = many(make_case().findings, count) if count else make_case(lesions=False).findings
    codes = [code for code, sentence in SENTENCES.items() if sentence]
    warnings = tuple(codes[n] if n < len(codes) else f"NEW_{n}" for n in range(warned))
    algorithm = Algorithm("a_model_with_a_long_name" * 3, "1.2.0", "0123456789abcdef" * 4, trained_on="liver " * 50)
    canvas = page(replace(findings, warnings=warnings), algorithm=algorithm, volume_note=note, revision=3)
    boxes = [box for text, box in canvas.written if text]
    for number, box in enumerate(boxes):
        assert box.left >= 0 and box.top >= 0 and box.right <= WIDTH and box.bottom <= HEIGHT
        assert not any(box.overlap(other) for other in boxes[number + 1 :])
    shown = sum(SENTENCES.get(code, code).split()[0] in canvas.words for code in warnings)
    assert shown == warned or "more, all in the structured report" in canvas.words
    rows = [text for text, _ in canvas.written if " x " in text and "," not in text]
    assert len(rows) >= min(count, 3)
