"""The first key image: what was found, in words and numbers, and what must be known to read it."""

from collections.abc import Callable
from dataclasses import dataclass

from dicom_io.segmentation import Algorithm
from reports.envelope import RESEARCH_USE
from reports.findings.caveats import SENTENCES
from reports.findings.criteria import CRITERIA_CAVEAT
from reports.findings.measurements import Findings, Lesion
from reports.findings.response import RESPONSE_CAVEAT
from reports.findings.wording import assessment, course_cell, millilitres, uncounted
from reports.identity import ResultIdentity
from reports.pages.drawing import WHITE, Box, Canvas, Colour
from reports.pages.slice_picture import CALIPER_RGB, LESION_RGB, LIVER_RGB, SOFT_RGB, lesion_rgb

TABLE_LESIONS = 12
"""How many lesions the table lists at most, and fewer where the warnings need the room; the SR has all."""

WARNING_LINES, WARNING_LINES_BESIDE_COURSE = 10, 3
"""How many lines the warnings may have; fewer where the course since an earlier study needs the room."""

BACKGROUND: Colour = (14, 18, 24)
PANEL: Colour = (28, 34, 43)

MARGIN = 44
TITLE_SIZE, FIGURE_SIZE, TEXT_SIZE, SMALL_SIZE = 36.0, 28.0, 18.0, 16.0
ROW, LINE = 30, 24
FIELD_HEIGHT, FIELD_GAP = 104, 16


@dataclass(frozen=True)
class _Column:
    title: str
    right: float
    text: Callable[[Lesion], str]


def _value(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"


COLUMNS = (
    _Column("Lesion", 118, lambda lesion: f"{lesion.target_name} {lesion.number}".strip()),
    _Column(
        "Long x short, mm", 280, lambda lesion: f"{lesion.size.long_axis_mm:.1f} x {lesion.size.short_axis_mm:.1f}"
    ),
    _Column("Volume, mL", 385, lambda lesion: millilitres(lesion.size.volume_ml)),
    _Column("Mean, HU", 475, lambda lesion: _value(lesion.values.hu_mean, 0)),
    _Column("Image", 540, lambda lesion: lesion.place.key_image.rpartition(" ")[2]),
    _Column("at, mm", 632, lambda lesion: f"{lesion.place.key_axis} {lesion.place.key_position_mm:.1f}"),
    _Column("Confidence", 735, lambda lesion: _value(lesion.confidence, 2)),
)
"""Right edges of the numbers in pixels; the region, a text, stands after them."""

REGION_LEFT = 756


def draw_summary(
    canvas: Canvas,
    findings: Findings,
    algorithm: Algorithm,
    *,
    identity: ResultIdentity,
    series: str,
    volume_note: str = "",
) -> None:
    """Draw the page over the whole of `canvas`. Nothing on it comes from the patient's own attributes.

    The warnings stand first and get the room that they need, and the table of lesions what is left.
    """
    canvas.fill(Box(0, 0, canvas.width, canvas.height), BACKGROUND)
    bottom = _foot(canvas, algorithm, identity)
    y = _head(canvas, series, identity, volume_note)
    y = _warnings(canvas, findings, y)
    if not findings.has_liver:
        _no_liver(canvas, y)
        return
    y = _figures(canvas, findings, y)
    y = _assessment(canvas, findings, y)
    _table(canvas, findings, y, bottom)


def _head(canvas: Canvas, series: str, identity: ResultIdentity, volume_note: str) -> float:
    canvas.text(MARGIN, 72, "Liver and liver lesions", TITLE_SIZE, bold=True)
    label = f", {identity.volume_label}" if identity.volume_label else ""
    revision = f", revision {identity.revision}" if identity.revision > 1 else ""
    y = 106.0
    for text, most in ((f"Automatic segmentation of {series}{label}{revision}", 2), (volume_note, 3)):
        for line in canvas.wrapped(text, TEXT_SIZE, _room(canvas))[:most]:
            canvas.text(MARGIN, y, line, TEXT_SIZE, colour=SOFT_RGB)
            y += LINE
    canvas.text(MARGIN, y + 4, RESEARCH_USE, TEXT_SIZE, colour=CALIPER_RGB, bold=True)
    return y + 26


def _no_liver(canvas: Canvas, top: float) -> None:
    canvas.fill(Box(MARGIN, top, _room(canvas), FIELD_HEIGHT), PANEL)
    canvas.text(MARGIN + 20, top + 46, "No liver was found in this series.", FIGURE_SIZE, bold=True)
    canvas.text(MARGIN + 20, top + 80, "No segmentation was made.", TEXT_SIZE, colour=SOFT_RGB)


def _figures(canvas: Canvas, findings: Findings, top: float) -> float:
    """Five fields with the numbers that are asked for first."""
    fields = (
        ("Liver, with lesions", f"{findings.liver_volume_ml:.0f} mL", LIVER_RGB),
        ("Liver, mean", "-" if findings.liver_hu_mean is None else f"{findings.liver_hu_mean:.0f} HU", LIVER_RGB),
        ("Lesions", str(findings.lesion_count) if findings.is_judged else "-", LESION_RGB),
        ("Tumour burden", "-" if findings.burden_percent is None else f"{findings.burden_percent:.1f} %", LESION_RGB),
        ("Severity", str(findings.severity.level or "-"), WHITE),
    )
    width = (_room(canvas) - FIELD_GAP * (len(fields) - 1)) / len(fields)
    for number, (title, value, colour) in enumerate(fields):
        left = round(MARGIN + number * (width + FIELD_GAP))
        canvas.fill(Box(left, top, round(width), FIELD_HEIGHT), PANEL)
        canvas.fill(Box(left, top, 5, FIELD_HEIGHT), colour)
        canvas.text(left + 18, top + 32, title, SMALL_SIZE, colour=SOFT_RGB)
        canvas.text(left + 18, top + 82, canvas.shortened(value, FIGURE_SIZE, width - 26), FIGURE_SIZE, bold=True)
    return top + FIELD_HEIGHT + 30


def _assessment(canvas: Canvas, findings: Findings, top: float) -> float:
    """Write the assessment of the lesions, in words."""
    y = top
    for text in assessment(findings):
        colour = SOFT_RGB if text in (CRITERIA_CAVEAT, RESPONSE_CAVEAT) else WHITE
        for line in canvas.wrapped(text, SMALL_SIZE, _room(canvas)):
            canvas.text(MARGIN, y, line, SMALL_SIZE, colour=colour)
            y += LINE - 2
    return y + 12


def _table(canvas: Canvas, findings: Findings, top: float, bottom: float) -> None:
    if not findings.lesions:
        return
    columns = _columns(findings)
    for column in columns:
        canvas.text(column.right, top, column.title, SMALL_SIZE, colour=SOFT_RGB, align="right")
    canvas.text(REGION_LEFT, top, "Region", SMALL_SIZE, colour=SOFT_RGB)
    canvas.fill(Box(MARGIN, top + 10, _room(canvas), 1), SOFT_RGB)
    y = top + ROW + 4
    # One row for how many are left out, one for the note
    fit = max(1, int((bottom - y) // ROW) - 1)
    shown = findings.lesions[: min(TABLE_LESIONS, fit)]
    for lesion in shown:
        canvas.fill(Box(MARGIN, y - 15, 16, 16), lesion_rgb(lesion))
        for column in columns:
            canvas.text(column.right, y, column.text(lesion), TEXT_SIZE, align="right")
        room = canvas.width - MARGIN - REGION_LEFT
        canvas.text(REGION_LEFT, y, canvas.shortened(lesion.place.region, TEXT_SIZE, room), TEXT_SIZE)
        y += ROW
    more = findings.lesion_count - len(shown)
    note = f"And {more} more, all in the structured report. " if more else ""
    note += f"Axes in the {findings.plane} plane{uncounted(findings)}. "
    note += "Change: of the volume. " if findings.follow_up else ""
    note += "Confidence: the model's mean tumour probability."
    canvas.text(MARGIN, y, canvas.shortened(note, SMALL_SIZE, _room(canvas)), SMALL_SIZE, colour=SOFT_RGB)


def _columns(findings: Findings) -> tuple[_Column, ...]:
    """Return the columns; with an earlier study, its comparison takes the place of where the image lies."""
    if findings.follow_up is None:
        return COLUMNS
    change = _Column("Change", COLUMNS[-2].right, lambda lesion: course_cell(lesion.course))
    return (*COLUMNS[:-2], change, COLUMNS[-1])


def _warnings(canvas: Canvas, findings: Findings, top: float) -> float:
    """The warnings in words, from `top`; returns where they end."""
    room = _room(canvas) - 24
    blocks = [canvas.wrapped(SENTENCES.get(code, code), TEXT_SIZE, room) for code in findings.warnings]
    if not blocks:
        return top
    fit, lines = 0, 0
    most = WARNING_LINES_BESIDE_COURSE if findings.follow_up else WARNING_LINES
    while fit < len(blocks) and lines + len(blocks[fit]) <= most:
        lines += len(blocks[fit])
        fit += 1
    left = len(blocks) - fit
    top += 6
    canvas.text(MARGIN, top, "Warnings", TEXT_SIZE, bold=True, colour=CALIPER_RGB)
    y = top + LINE + 2
    for block in blocks[:fit]:
        canvas.fill(Box(MARGIN, y - 10, 7, 7), CALIPER_RGB)
        for line in block:
            canvas.text(MARGIN + 24, y, line, TEXT_SIZE)
            y += LINE
    if left:
        canvas.text(MARGIN + 24, y, f"and {left} more, all in the structured report", TEXT_SIZE, colour=SOFT_RGB)
        y += LINE
    return y


def _foot(canvas: Canvas, algorithm: Algorithm, identity: ResultIdentity) -> float:
    """Write which program and model made it; return where that begins."""
    weights = f"weights sha256 {algorithm.weights_sha256[:12]}" if algorithm.weights_sha256 else "weights not named"
    lines = [f"Model {algorithm.name} {algorithm.version}, {weights}. Software: Porta {identity.software_version}."]
    lines += [f"Trained on {algorithm.trained_on.rstrip('.')}."] if algorithm.trained_on else []
    wrapped = [part for line in lines for part in canvas.wrapped(line, SMALL_SIZE, _room(canvas))[:2]]
    top = canvas.height - 24 - LINE * len(wrapped)
    canvas.fill(Box(MARGIN, top - 12, _room(canvas), 1), SOFT_RGB)
    for number, line in enumerate(wrapped):
        canvas.text(MARGIN, top + 14 + LINE * number, line, SMALL_SIZE, colour=SOFT_RGB)
    return float(top - 26)


def _room(canvas: Canvas) -> float:
    return float(canvas.width - 2 * MARGIN)
