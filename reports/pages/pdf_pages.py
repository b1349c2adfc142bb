"""The pages of the PDF: the summary with its table and charts, then pictures of slices; A4, text that can be searched.

Lengths are points (1/72 inch) from the top left of the sheet, so that a font size is a length too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import FigureCanvasPdf, PdfPages
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

from dicom_io.segmentation import Algorithm
from reports.envelope import RESEARCH_USE
from reports.findings.caveats import SENTENCES
from reports.findings.measurements import Findings, Lesion
from reports.findings.time_points import time_points
from reports.findings.wording import assessment, course_cell, earlier_study, millilitres, uncounted
from reports.identity import ResultIdentity
from reports.pages.course_charts import draw_target_course, draw_volume_course, study_days
from reports.pages.drawing import Canvas

WIDTH, HEIGHT = 595.0, 842.0
MARGIN = 42.0
INK, SOFT, RULE = "#1a1f27", "#5b6573", "#c9d0d9"
LIVER_INK, LESION_INK, WARNING_INK = "#2b7a4b", "#c2542d", "#9a3412"
TITLE_SIZE, HEAD_SIZE, TEXT_SIZE, SMALL_SIZE = 18.0, 15.0, 9.0, 7.5
LINE = 12.5
TABLE_LESIONS = 15
"""How many lesions the table lists and the charts draw; the structured report has all."""
TIME_POINTS = 5
"""How many studies the table of all time points has, today's too."""
NOTE_HEIGHT = 30.0
TABLE_HEIGHT = 90.0
"""The least room of a table: its head, two rows and its note."""
CHARTS_HEIGHT = 154.0
COURSE_HEIGHT = 150.0
PALETTE = 256
"""Colours of a picture in the PDF: a slice is grey with a few lines, and so a third as large."""

DIAMETER_3D = "3-D, mm"
COLUMNS = (
    ("Lesion", 76.0),
    ("Long x short, mm", 160.0),
    (DIAMETER_3D, 200.0),
    ("Volume, mL", 252.0),
    ("Mean, HU", 298.0),
    ("Image", 328.0),
    ("at, mm", 378.0),
    ("Confidence", 430.0),
)
"""Right edges of the numbers; the region, a text, stands after them."""
REGION_LEFT = 440.0


@dataclass(frozen=True)
class Heading:
    """The head of every page: `patient` is one line about patient and study, `series` names the images."""

    patient: str
    series: str


class Sheet:
    """One page to write on."""

    def __init__(self) -> None:
        self.figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72))
        FigureCanvasPdf(self.figure)
        self._ruler = Canvas(1, 1)

    def text(
        self,
        x: float,
        baseline: float,
        text: str,
        size: float = TEXT_SIZE,
        *,
        colour: str = INK,
        bold: bool = False,
        align: str = "left",
    ) -> None:
        """Write one line; `align` says which end of it is at `x`. Dollar signs are not mathematics."""
        weight = "bold" if bold else "normal"
        self.figure.text(
            x / WIDTH,
            1 - baseline / HEIGHT,
            text,
            fontsize=size,
            color=colour,
            weight=weight,
            ha=align,
            va="baseline",
            parse_math=False,
            family="DejaVu Sans",
        )

    def paragraph(self, baseline: float, text: str, size: float = TEXT_SIZE, *, colour: str = INK) -> float:
        """Write text broken into lines; returns the baseline of what comes next."""
        for line in self._ruler.wrapped(text, size, WIDTH - 2 * MARGIN):
            self.text(MARGIN, baseline, line, size, colour=colour)
            baseline += size * LINE / TEXT_SIZE
        return baseline

    def shortened(self, text: str, size: float, room: float, *, bold: bool = False) -> str:
        """`text` with its end left out as far as it takes to be `room` wide."""
        return self._ruler.shortened(text, size, room, bold=bold)

    def height(self, text: str, size: float) -> float:
        """Return the height of a paragraph of this text."""
        return len(self._ruler.wrapped(text, size, WIDTH - 2 * MARGIN)) * size * LINE / TEXT_SIZE

    def fill(self, left: float, top: float, width: float, height: float, colour: str) -> None:
        """Fill a box."""
        place = ((left / WIDTH), 1 - (top + height) / HEIGHT)
        box = Rectangle(place, width / WIDTH, height / HEIGHT, transform=self.figure.transFigure)
        box.set_facecolor(colour)
        box.set_edgecolor("none")
        self.figure.add_artist(box)

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """A chart's place on the sheet."""
        return self.figure.add_axes((left / WIDTH, 1 - (top + height) / HEIGHT, width / WIDTH, height / HEIGHT))


def draw_pdf(
    findings: Findings,
    algorithm: Algorithm,
    pictures: Sequence[NDArray[np.uint8]],
    *,
    heading: Heading,
    identity: ResultIdentity,
    title: str,
) -> bytes:
    """The document. `pictures` (row, column, 3) go two on a page. The same arguments give the same bytes."""
    sheets = _summary(findings, algorithm, heading, identity, title)
    for first in range(0, len(pictures), 2):
        sheets.append(_slices(pictures[first : first + 2], heading, title))
    buffer = BytesIO()
    facts = {"Title": title, "Creator": f"Porta {identity.software_version}", "Producer": None}
    with PdfPages(buffer, metadata=facts | {"CreationDate": identity.created}) as pages:
        for number, sheet in enumerate(sheets, start=1):
            place = f"Page {number} of {len(sheets)}"
            sheet.text(WIDTH - MARGIN, HEIGHT - 22, place, SMALL_SIZE, colour=SOFT, align="right")
            sheet.text(MARGIN, HEIGHT - 22, RESEARCH_USE, SMALL_SIZE, colour=WARNING_INK, bold=True)
            pages.savefig(sheet.figure)
    return buffer.getvalue()


def _head(sheet: Sheet, heading: Heading, title: str, size: float) -> float:
    sheet.text(MARGIN, 54, title, size, bold=True)
    patient = sheet.shortened(heading.patient, TEXT_SIZE, WIDTH - 2 * MARGIN, bold=True)
    sheet.text(MARGIN, 72, patient, bold=True)
    y = sheet.paragraph(86, heading.series, colour=SOFT)
    sheet.fill(MARGIN, y - 6, WIDTH - 2 * MARGIN, 0.7, RULE)
    return y + 12


def _summary(
    findings: Findings, algorithm: Algorithm, heading: Heading, identity: ResultIdentity, title: str
) -> list[Sheet]:
    """Write one page, or more where the table or the charts need them."""
    sheet = Sheet()
    sheets = [sheet]
    y = _head(sheet, heading, title, TITLE_SIZE)
    bottom = _foot(sheet, algorithm, identity)
    sheet.text(MARGIN, y, RESEARCH_USE, TEXT_SIZE, colour=WARNING_INK, bold=True)
    y = _warnings(sheet, findings, y + 14)
    if not findings.has_liver:
        sheet.text(MARGIN, y + 16, "No liver was found in this series. No segmentation was made.", HEAD_SIZE, bold=True)
        y += 40
    else:
        y = _figures(sheet, findings, y)
        for sentence in assessment(findings):
            y = sheet.paragraph(y, sentence)
    parts = (
        (_table, TABLE_HEIGHT, bool(findings.lesions)),
        (_time_points, TABLE_HEIGHT, findings.follow_up is not None),
        (_course, COURSE_HEIGHT, findings.follow_up is not None and len(findings.follow_up.studies) > 1),
        (_charts, CHARTS_HEIGHT, bool(findings.lesions)),
    )
    for draw, needed, is_there in parts:
        if not is_there:
            continue
        if y + needed > bottom and draw is _charts:
            continue  # a page of charts alone, whose numbers the table has
        if y + needed > bottom:
            sheets.append(Sheet())
            y, bottom = _head(sheets[-1], heading, title, HEAD_SIZE), HEIGHT - 40
        y = draw(sheets[-1], findings, y + 10, bottom)
    return sheets


def _figures(sheet: Sheet, findings: Findings, top: float) -> float:
    """Five fields with the numbers that are asked for first."""
    fields = (
        ("Liver, with lesions", f"{findings.liver_volume_ml:.0f} mL", LIVER_INK),
        ("Liver, mean", "-" if findings.liver_hu_mean is None else f"{findings.liver_hu_mean:.0f} HU", LIVER_INK),
        ("Lesions", str(findings.lesion_count) if findings.is_judged else "-", LESION_INK),
        ("Tumour burden", "-" if findings.burden_percent is None else f"{findings.burden_percent:.1f} %", LESION_INK),
        ("Severity", str(findings.severity.level or "-"), INK),
    )
    width = (WIDTH - 2 * MARGIN) / len(fields)
    for number, (name, value, colour) in enumerate(fields):
        left = MARGIN + number * width
        sheet.fill(left, top, 2.5, 34, colour)
        sheet.text(left + 8, top + 11, name, SMALL_SIZE, colour=SOFT)
        sheet.text(left + 8, top + 31, value, HEAD_SIZE, bold=True)
    return top + 54


def _table(sheet: Sheet, findings: Findings, top: float, bottom: float) -> float:
    for name, right in COLUMNS:
        name = "Change" if findings.follow_up and name == DIAMETER_3D else name
        sheet.text(right, top, name, SMALL_SIZE, colour=SOFT, align="right")
    sheet.text(REGION_LEFT, top, "Region", SMALL_SIZE, colour=SOFT)
    sheet.fill(MARGIN, top + 4, WIDTH - 2 * MARGIN, 0.7, RULE)
    y = top + 16
    shown = findings.lesions[: min(TABLE_LESIONS, int((bottom - y - NOTE_HEIGHT) // LINE))]
    for lesion in shown:
        for (_, right), value in zip(COLUMNS, _cells(findings, lesion), strict=True):
            sheet.text(right, y, value, align="right")
        region = sheet.shortened(lesion.place.region, TEXT_SIZE, WIDTH - MARGIN - REGION_LEFT)
        sheet.text(REGION_LEFT, y, region)
        y += LINE
    more = findings.lesion_count - len(shown)
    note = f"And {more} more, all in the structured report. " if more else ""
    note += f"Axes in the {findings.plane} plane{uncounted(findings)}. "
    note += f"Change: of the volume, against {earlier_study(findings)}. " if findings.follow_up else ""
    note += f"Confidence: the model's mean tumour probability, {findings.confidence_note}."
    return sheet.paragraph(y + 2, note, SMALL_SIZE, colour=SOFT)


def _cells(findings: Findings, lesion: Lesion) -> tuple[str, ...]:
    return (
        f"{lesion.target_name} {lesion.number}".strip(),
        f"{lesion.size.long_axis_mm:.1f} x {lesion.size.short_axis_mm:.1f}",
        course_cell(lesion.course) if findings.follow_up else f"{lesion.size.diameter_3d_mm:.1f}",
        millilitres(lesion.size.volume_ml),
        "-" if lesion.values.hu_mean is None else f"{lesion.values.hu_mean:.0f}",
        lesion.place.key_image.rpartition(" ")[2],
        f"{lesion.place.key_axis} {lesion.place.key_position_mm:.1f}",
        "-" if lesion.confidence is None else f"{lesion.confidence:.2f}",
    )


def _time_points(sheet: Sheet, findings: Findings, top: float, bottom: float) -> float:
    """Every lesion in every study: today's, and those that are gone, by the numbers that they keep."""
    columns, rows = time_points(findings, most=TIME_POINTS)
    sheet.text(MARGIN, top, "All time points: long axis, mm (volume, mL)", bold=True)
    width = (WIDTH - 2 * MARGIN - 60) / len(columns)
    rights = [MARGIN + 60 + width * (number + 1) for number in range(len(columns))]
    top += LINE
    for name, right in zip(columns, rights, strict=True):
        sheet.text(right, top, name, SMALL_SIZE, colour=SOFT, align="right")
    sheet.fill(MARGIN, top + 4, WIDTH - 2 * MARGIN, 0.7, RULE)
    y = top + 16
    fit = max(1, int((bottom - y - LINE) // LINE))
    for name, cells in rows[:fit]:
        sheet.text(MARGIN, y, f"Lesion {name}")
        for cell, right in zip(cells, rights, strict=True):
            sheet.text(right, y, cell, align="right")
        y += LINE
    if len(rows) > fit:
        y = sheet.paragraph(y, f"And {len(rows) - fit} more.", SMALL_SIZE, colour=SOFT)
    return y + 4


def _course(sheet: Sheet, findings: Findings, top: float, bottom: float) -> float:
    """Volumes of the largest lesions, and the sum of the targets' diameters, over all studies."""
    top, height, days = top + 16, COURSE_HEIGHT - 62, study_days(findings)
    if findings.lesions:
        volumes = sheet.axes(MARGIN + 22, top, 270, height)
        draw_volume_course(volumes, findings)
        volumes.legend(fontsize=SMALL_SIZE - 1, frameon=False, loc="upper left", ncols=4, handlelength=1.5)
        volumes.set_ylim(top=1.35 * volumes.get_ylim()[1])
        _dress_course(volumes, "Volume over time, mL, by lesion", days)
    sums = sheet.axes(MARGIN + 330, top, 178, height)
    draw_target_course(sums, findings, colour=LESION_INK, size=SMALL_SIZE - 1)
    _dress_course(sums, "Sum of target diameters over time, mm", days)
    return min(bottom, top + height + 30)


def _dress_course(axes: Axes, title: str, days: Sequence[int]) -> None:
    axes.set_title(title, fontsize=SMALL_SIZE, color=INK)
    axes.set_xticks(days, [str(day) for day in days])
    axes.set_xlabel("days, 0: this study", fontsize=SMALL_SIZE - 1, color=SOFT, labelpad=1)
    axes.tick_params(labelsize=SMALL_SIZE - 1, colors=SOFT, length=2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(RULE)
    axes.margins(x=0.14)


def _charts(sheet: Sheet, findings: Findings, top: float, bottom: float) -> float:
    """Bars of volumes and of both axes of the largest lesions, a pie of the burden."""
    height, lesions = CHARTS_HEIGHT - 50, findings.lesions[:TABLE_LESIONS]
    numbers = np.arange(1, len(lesions) + 1)
    top += 16
    volumes = sheet.axes(MARGIN + 22, top, 140, height)
    which = f"by lesion, the {len(lesions)} largest" if len(lesions) < findings.lesion_count else "by lesion"
    _volumes(volumes, findings, lesions, numbers, which)
    axes = sheet.axes(MARGIN + 208, top, 160, height)
    axes.bar(
        numbers - 0.2, [item.size.long_axis_mm for item in lesions], color=LESION_INK, width=0.38, label="long axis"
    )
    axes.bar(
        numbers + 0.2, [item.size.short_axis_mm for item in lesions], color="#e8b49f", width=0.38, label="short axis"
    )
    _dress(axes, f"Axes, mm, {which}", numbers)
    axes.set_ylim(top=1.25 * max(lesion.size.long_axis_mm for lesion in lesions))
    axes.legend(fontsize=SMALL_SIZE - 1, frameon=False, loc="upper right", ncols=2, handlelength=1)
    burden = findings.burden_percent or 0.0
    pie = sheet.axes(MARGIN + 392, top, 120, height)
    pie.pie([burden, 100 - burden], colors=[LESION_INK, LIVER_INK], startangle=90, counterclock=False)
    pie.set_title("Tumour burden", fontsize=SMALL_SIZE, color=INK)
    pie.set_xlabel(f"lesions {burden:.1f} %, other liver {100 - burden:.1f} %", fontsize=SMALL_SIZE - 1, color=SOFT)
    return bottom


def _volumes(axes: Axes, findings: Findings, lesions: Sequence[Lesion], numbers: NDArray[np.int64], which: str) -> None:
    """Volumes of now; beside them those of then, where there is an earlier study."""
    now = [lesion.size.volume_ml for lesion in lesions]
    if findings.follow_up is None:
        axes.bar(numbers, now, color=LESION_INK, width=0.7)
        _dress(axes, f"Volume, mL, {which}", numbers)
        return
    days = findings.follow_up.days
    then = "then" if days is None else f"{days} d earlier"
    axes.bar(numbers - 0.2, _prior_volumes(lesions), color=SOFT, width=0.38, label=then)
    axes.bar(numbers + 0.2, now, color=LESION_INK, width=0.38, label="now")
    _dress(axes, f"Volume then and now, mL, {which}", numbers)
    axes.set_ylim(top=1.25 * axes.get_ylim()[1])
    axes.legend(fontsize=SMALL_SIZE - 1, frameon=False, loc="upper right", ncols=2, handlelength=1)


def _prior_volumes(lesions: Sequence[Lesion]) -> list[float]:
    """Return the earlier volumes; that of lesions that merged or split stands at the first of them."""
    return [
        course.growth.prior_volume_ml if course and course.growth and course.numbers[0] == course.number else 0.0
        for course in (lesion.course for lesion in lesions)
    ]


def _dress(axes: Axes, title: str, numbers: NDArray[np.int64]) -> None:
    axes.set_title(title, fontsize=SMALL_SIZE, color=INK)
    axes.set_xticks(numbers, [str(number) for number in numbers])
    axes.tick_params(labelsize=SMALL_SIZE - 1, colors=SOFT, length=2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(RULE)
    axes.set_xlim(0.3, max(3, len(numbers)) + 0.7)


def _warnings(sheet: Sheet, findings: Findings, top: float) -> float:
    if not findings.warnings:
        return top
    sheet.text(MARGIN, top, "Warnings", bold=True, colour=WARNING_INK)
    y = top + LINE
    for code in findings.warnings:
        y = sheet.paragraph(y, f"\N{BULLET} {SENTENCES.get(code, code)}")
    return y


def _foot(sheet: Sheet, algorithm: Algorithm, identity: ResultIdentity) -> float:
    """Write which program and model made it; return where that begins."""
    weights = f"weights sha256 {algorithm.weights_sha256}" if algorithm.weights_sha256 else "weights not named"
    made = f"{identity.created:%Y-%m-%d %H:%M} UTC"
    lines = [f"Model {algorithm.name} {algorithm.version}, {weights}. Porta {identity.software_version}, {made}."]
    lines += [f"Trained on {algorithm.trained_on.rstrip('.')}."] if algorithm.trained_on else []
    top = HEIGHT - 32 - sum(sheet.height(line, SMALL_SIZE) for line in lines)
    sheet.fill(MARGIN, top - 10, WIDTH - 2 * MARGIN, 0.7, RULE)
    y = top
    for line in lines:
        y = sheet.paragraph(y, line, SMALL_SIZE, colour=SOFT)
    return top - 10


def _slices(pictures: Sequence[NDArray[np.uint8]], heading: Heading, title: str) -> Sheet:
    sheet = Sheet()
    top = _head(sheet, heading, title, HEAD_SIZE) - 8
    height = (HEIGHT - 44 - top) / 2 - 8
    for number, pixels in enumerate(pictures):
        width = height * pixels.shape[1] / pixels.shape[0]
        axes = sheet.axes((WIDTH - width) / 2, top + number * (height + 8), width, height)
        axes.set_axis_off()
        few = Image.fromarray(pixels).quantize(PALETTE, dither=Image.Dither.NONE).convert("RGB")
        axes.imshow(np.asarray(few), interpolation="none", aspect="auto")
    return sheet
