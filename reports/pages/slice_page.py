"""A page of one slice: the picture with what was found in it, and under it what is seen, in words and numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_io.geometry import Geometry
from dicom_io.segmentation import LIVER, Segmentation
from dicom_io.volume import Volume
from reports.envelope import RESEARCH_USE
from reports.findings.measurements import Findings, Lesion
from reports.findings.places import slice_position
from reports.findings.wording import millilitres
from reports.pages.drawing import BLACK, WHITE, Box, Canvas
from reports.pages.slice_picture import CALIPER_RGB, SOFT_RGB, PictureGrid, draw_slice
from reports.pages.window import Window

SIDE, CAPTION = 1024, 128
PICTURE = Box(0, 0, SIDE, SIDE)
WIDTH, HEIGHT = SIDE, SIDE + CAPTION

MARGIN = 16
HEAD_SIZE, TEXT_SIZE = 23.0, 18.0


@dataclass(frozen=True)
class ImageNames:
    """The images as viewers name them: `series` ("CT series 4"), and each slice ("image 21"), none without DICOM."""

    series: str
    slices: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class SlicePage:
    """The pixels (HEIGHT, WIDTH, 3), and the grid of the picture, which begins at the top left."""

    pixels: NDArray[np.uint8]
    grid: PictureGrid


def draw_page(
    canvas: Canvas,
    volume: Volume,
    segmentation: Segmentation,
    findings: Findings,
    plane: int,
    window: Window,
    *,
    measured: Sequence[Lesion],
    made_by: str,
    names: ImageNames,
) -> SlicePage:
    """Draw slice `plane`, with calipers on the lesions `measured`; `made_by` names program and model.

    `canvas` has WIDTH and HEIGHT and is drawn over; one for several pages spares setting the same texts again. Nothing
    on the page comes from the patient's own attributes.
    """
    grid = draw_slice(canvas, PICTURE, volume, segmentation, findings, plane, window=window, measured=measured)
    canvas.fill(Box(0, SIDE, WIDTH, CAPTION), BLACK)
    canvas.fill(Box(0, SIDE, WIDTH, 1), SOFT_RGB)
    room = WIDTH - 2 * MARGIN
    head, detail = _found(findings, measured)
    canvas.text(MARGIN, SIDE + 32, canvas.shortened(head, HEAD_SIZE, room, bold=True), HEAD_SIZE, bold=True)
    canvas.text(MARGIN, SIDE + 61, canvas.shortened(detail, TEXT_SIZE, room), TEXT_SIZE, colour=WHITE)
    where = slice_line(volume.geometry, plane, names)
    canvas.text(MARGIN, SIDE + 88, canvas.shortened(where, TEXT_SIZE, room), TEXT_SIZE, colour=SOFT_RGB)
    warned = canvas.text(MARGIN, SIDE + 114, RESEARCH_USE, TEXT_SIZE, colour=CALIPER_RGB, bold=True)
    by = canvas.shortened(made_by, TEXT_SIZE, room - warned.width - MARGIN)
    canvas.text(WIDTH - MARGIN, SIDE + 114, by, TEXT_SIZE, colour=SOFT_RGB, align="right")
    return SlicePage(canvas.pixels, grid)


def most_liver(segmentation: Segmentation) -> int | None:
    """Return the slice with the largest area of liver; None without one."""
    areas = np.count_nonzero(segmentation.labels >= LIVER, axis=(1, 2))
    return int(areas.argmax()) if areas.any() else None


def _found(findings: Findings, measured: Sequence[Lesion]) -> tuple[str, str]:
    liver = f"Liver volume {findings.liver_volume_ml:.0f} mL"
    if not findings.has_liver:
        return "No liver was found", ""
    if not findings.is_judged:
        return "Liver", f"{liver}, lesions are not reported"
    if not measured:
        count = "no lesion was found" if not findings.lesions else f"{findings.lesion_count} lesions in all"
        return "Liver", f"{liver}, {count}"
    if len(measured) > 1:
        sizes = "    ".join(
            f"{lesion.name}: {lesion.size.long_axis_mm:.1f} x {lesion.size.short_axis_mm:.1f} mm" for lesion in measured
        )
        return f"{len(measured)} of {findings.lesion_count} lesions", sizes
    (lesion,) = measured
    size = lesion.size
    head = (
        f"Lesion {lesion.name} of {findings.lesion_count}:  {size.long_axis_mm:.1f} x {size.short_axis_mm:.1f} mm"
        f"  ({findings.plane}),  {millilitres(size.volume_ml)} mL"
    )
    parts = [
        lesion.place.region,
        "" if lesion.values.hu_mean is None else f"mean {lesion.values.hu_mean:.0f} HU",
        "" if lesion.confidence is None else f"confidence {lesion.confidence:.2f} ({findings.confidence_note})",
        f"3-D diameter {size.diameter_3d_mm:.1f} mm",
    ]
    detail = ",  ".join(part for part in parts if part)
    return head, detail[:1].upper() + detail[1:]


def slice_line(geometry: Geometry, plane: int, names: ImageNames) -> str:
    """Say which image of which series it is, its plane, and where it lies."""
    axis, position_mm = slice_position(geometry, plane)
    image = names.slices[plane] if names.slices else f"slice {plane + 1} of {geometry.slices}"
    return f"{names.series}, {image}, {geometry.plane_name}, {axis} = {position_mm:.1f} mm"
