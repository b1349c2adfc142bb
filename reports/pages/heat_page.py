"""A page of one lesion with the heat of an explanation over its slice, and what the heat means in a sentence.

Left the whole slice with the heat; right the lesion closer, first as it is, then with the heat; under them words and
the scale of the colours. What explains, and how, is the caller's: here are numbers on the source's grid alone.
"""

from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from dicom_io.geometry import Geometry
from dicom_io.segmentation import LIVER, Segmentation
from dicom_io.volume import Volume
from reports.envelope import RESEARCH_USE
from reports.findings.measurements import Findings, Lesion
from reports.pages.drawing import BLACK, WHITE, Box, Canvas
from reports.pages.slice_page import ImageNames, slice_line
from reports.pages.slice_picture import (
    CALIPER_RGB,
    LIVER_RGB,
    SOFT_RGB,
    PictureGrid,
    detail,
    draw_slice,
    lesion_rgb,
    outlines,
    resampled,
    sampled,
)
from reports.pages.window import Window

SIDE, CAPTION = 800, 184
WIDTH, HEIGHT = SIDE + SIDE // 2, SIDE + CAPTION
MARGIN = 16
HEAD_SIZE, TEXT_SIZE = 22.0, 17.0
BAR = Box(WIDTH - MARGIN - 320, SIDE + 20, 320, 14)

FIELD, LEAST_FIELD_MM = 3.0, 60.0
"""How much the closer pictures show: long axes of the lesion, and millimetres at least."""

COLOURS = np.rint(255 * colormaps["inferno"](np.linspace(0.25, 1, 256))[:, :3]).astype(np.float32)
"""(256, 3) red, green, blue of heat; without the darkest, which cannot be told from an image."""
AIR_BELOW_HU = -300.0
"""Air, around the patient and in lung and bowel: there is nothing to explain."""
MOST_COVER = 0.6
"""How much of the grey the brightest heat covers."""


@dataclass(frozen=True)
class Kind:
    """The name of a way to explain, the sentence about its maps, and the words at their scale."""

    title: str
    meaning: str
    unit: str = ""


GRADCAM = Kind(
    "Grad-CAM",
    "Bright: what the network saw there raised its tumour score for this lesion. "
    "Places of this lesion's slices are compared with their brightest, which is 1; it is no probability.",
)
OCCLUSION = Kind(
    "Occlusion",
    "Bright: painting over a patch there with the mean of the liver lowers the mean tumour probability of this lesion, "
    "by as much as the scale says.",
    "lost",
)


@dataclass(frozen=True, eq=False)
class Explanation:
    """One map of one lesion. `heat` (row, column) from 0 to 1 is that of slice `plane`; `highest` is that of all."""

    kind: Kind
    plane: int
    heat: NDArray[np.float32]
    highest: float


def draw_heat_page(
    canvas: Canvas,
    volume: Volume,
    segmentation: Segmentation,
    findings: Findings,
    lesion: Lesion,
    explanation: Explanation,
    *,
    window: Window,
    made_by: str,
    names: ImageNames,
) -> NDArray[np.uint8]:
    """(HEIGHT, WIDTH, 3) the page of a lesion; `made_by` names program and model.

    `canvas` has WIDTH and HEIGHT and is drawn over. Nothing on the page comes from the patient's own attributes.
    """
    geometry, plane = volume.geometry, explanation.plane
    is_air = volume.array[plane] < AIR_BELOW_HU if volume.modality == "CT" else np.zeros(explanation.heat.shape, bool)
    heat = np.where(is_air, np.float32(0), explanation.heat)
    scale = Window(0.0, explanation.highest or 1.0)

    def paint(greys: NDArray[np.uint8], grid: PictureGrid) -> NDArray[np.uint8]:
        return overlay_heat(greys, resampled(heat, geometry, plane, grid, scale))

    canvas.fill(Box(0, 0, WIDTH, HEIGHT), BLACK)
    whole = Box(0, 0, SIDE, SIDE)
    draw_slice(canvas, whole, volume, segmentation, findings, plane, window=window, measured=(), paint=paint)
    middle = np.array(lesion.size.axis_end_points_lps_mm[0]).mean(axis=0)
    grid = detail(geometry, middle, max(LEAST_FIELD_MM, FIELD * lesion.size.long_axis_mm), SIDE // 2)
    greys = sampled(volume, plane, grid, window)
    for top, picture in ((0, greys), (SIDE // 2, paint(greys, grid))):
        box = Box(SIDE, top, SIDE // 2, SIDE // 2)
        canvas.image(box, picture)
        _outline(canvas, box, grid, geometry, labels=segmentation.labels[plane], plane=plane, lesion=lesion)
        canvas.frame(box, SOFT_RGB)
    _caption(canvas, volume, findings, lesion, explanation, made_by=made_by, names=names)
    return canvas.pixels


def overlay_heat(greys: NDArray[np.uint8], heat: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(row, column, 3) greys with heat, both from 0 to 255, over them: no heat changes nothing."""
    cover = (MOST_COVER * (heat / np.float32(255)))[..., None]
    return np.asarray(np.rint(greys[..., None] * (1 - cover) + COLOURS[heat] * cover).astype(np.uint8))


def _outline(
    canvas: Canvas,
    box: Box,
    grid: PictureGrid,
    geometry: Geometry,
    *,
    labels: NDArray[np.uint8],
    plane: int,
    lesion: Lesion,
) -> None:
    corner = np.array([box.left, box.top])
    for mask, colour, width in ((labels >= LIVER, LIVER_RGB, 1.2), (labels == lesion.segment, lesion_rgb(lesion), 1.6)):
        for line in outlines(geometry, plane, mask):
            canvas.line(grid.to_pixels(line) + corner, colour, width=width, within=box)


def _caption(
    canvas: Canvas,
    volume: Volume,
    findings: Findings,
    lesion: Lesion,
    explanation: Explanation,
    *,
    made_by: str,
    names: ImageNames,
) -> None:
    room = WIDTH - 2 * MARGIN
    head = f"{explanation.kind.title}: lesion {lesion.name} of {findings.lesion_count}"
    canvas.text(
        MARGIN, SIDE + 32, canvas.shortened(head, HEAD_SIZE, BAR.left - 2 * MARGIN, bold=True), HEAD_SIZE, bold=True
    )
    _bar(canvas, explanation)
    for number, line in enumerate(canvas.wrapped(explanation.kind.meaning, TEXT_SIZE, room)[:3]):
        canvas.text(MARGIN, SIDE + 74 + 23 * number, line, TEXT_SIZE, colour=WHITE)
    where = slice_line(volume.geometry, explanation.plane, names)
    canvas.text(MARGIN, SIDE + 146, canvas.shortened(where, TEXT_SIZE, room), TEXT_SIZE, colour=SOFT_RGB)
    warned = canvas.text(MARGIN, SIDE + 172, RESEARCH_USE, TEXT_SIZE, colour=CALIPER_RGB, bold=True)
    by = canvas.shortened(made_by, TEXT_SIZE, room - warned.width - MARGIN)
    canvas.text(WIDTH - MARGIN, SIDE + 172, by, TEXT_SIZE, colour=SOFT_RGB, align="right")


def _bar(canvas: Canvas, explanation: Explanation) -> None:
    """The scale of the colours, as they look over a middle grey, from none to the highest."""
    steps = np.rint(np.linspace(0, 255, round(BAR.width))).astype(np.uint8)
    heat = np.repeat(steps[None], round(BAR.height), axis=0)
    canvas.image(BAR, overlay_heat(np.full_like(heat, 110), heat))
    canvas.frame(BAR, SOFT_RGB)
    base = BAR.bottom + 20
    canvas.text(BAR.left, base, "0", TEXT_SIZE, colour=SOFT_RGB)
    highest = f"{explanation.highest:.2f} {explanation.kind.unit}".rstrip()
    canvas.text(BAR.right, base, highest, TEXT_SIZE, colour=SOFT_RGB, align="right")
