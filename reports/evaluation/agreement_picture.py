"""What was found in a case beside what is true: both outlines on the slices where they differ most.

Two panels, the liver and its tumours, each on the slice with the largest area that only one of the two has.
"""

from pathlib import Path

import numpy as np
from matplotlib.image import imsave
from numpy.typing import NDArray

from dicom_io.files.whole_files import open_whole
from dicom_io.geometry import Geometry
from dicom_io.volume import Volume
from reports.envelope import RESEARCH_USE
from reports.pages.drawing import BLACK, WHITE, Box, Canvas, Colour
from reports.pages.hanging import letters
from reports.pages.slice_picture import SOFT_RGB, PictureGrid, detail, outlines, sampled, whole_slice
from reports.pages.window import Window, display_window

TRUTH_RGB: Colour = (86, 180, 233)
FOUND_RGB: Colour = (240, 168, 0)
"""Sky blue and orange of Okabe and Ito's palette, which all kinds of colour vision tell apart."""

SIDE, HEAD, FOOT, GAP = 560, 66, 40, 4
AROUND_MM, LEAST_MM = 25.0, 120.0
"""The margin of the slice around the liver found and the true one; and the least field."""
MARGIN = 12
HEAD_SIZE, TEXT_SIZE, LETTER_SIZE = 21.0, 16.0, 22.0

Labels = NDArray[np.uint8]


def write_agreement(
    volume: Volume, truth: Labels, found: Labels, path: Path, *, title: str, tumours_drawn: bool = True
) -> Path:
    """Write a PNG of a case; `truth` and `found` (slice, row, column) are 0, 1 liver, 2 and above tumours.

    It is written in full or not at all. `title` names case and model, no patient. Where nobody drew tumours the second
    panel shows those found alone.
    Raises ValueError for labels that are not on the volume's grid.
    """
    if not truth.shape == found.shape == volume.geometry.shape:
        raise ValueError("truth and found must lie on the volume's grid")
    panels = [("Liver", 1, True)]
    if (found > 1).any() or (truth > 1).any():
        panels.append(("Tumours", 2, tumours_drawn))
    width = len(panels) * SIDE + (len(panels) - 1) * GAP
    canvas, window = Canvas(width, HEAD + SIDE + FOOT, BLACK), display_window(volume)
    room = width - 2 * MARGIN
    canvas.text(MARGIN, 28, canvas.shortened(title, HEAD_SIZE, room, bold=True), HEAD_SIZE, bold=True)
    end = canvas.text(MARGIN, 54, "truth", TEXT_SIZE, colour=TRUTH_RGB, bold=True).right
    canvas.text(end + 16, 54, "found", TEXT_SIZE, colour=FOUND_RGB, bold=True)
    for place, (name, first, is_known) in enumerate(panels):
        picture = Box(place * (SIDE + GAP), HEAD, SIDE, SIDE)
        masks = (truth >= first if is_known else np.zeros(truth.shape, bool)), found >= first
        note = "" if is_known else ", not drawn in the truth"
        plane = most_different(*masks)
        view = _view(volume.geometry, plane, (truth[plane] > 0) | (found[plane] > 0))
        _panel(canvas, picture, volume, masks, window, plane=plane, grid=view, name=f"{name}{note}")
    canvas.text(MARGIN, HEAD + SIDE + 27, RESEARCH_USE, TEXT_SIZE, colour=SOFT_RGB)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_whole(path, durable=False) as file:
        imsave(file, canvas.pixels, format="png")
    return path


def most_different(truth: NDArray[np.bool_], found: NDArray[np.bool_]) -> int:
    """The slice with the largest area that only one has; where they are equal, that with most of them."""
    different = np.array([np.count_nonzero(one != other) for one, other in zip(truth, found, strict=True)])
    areas = different if different.any() else np.count_nonzero(truth, axis=(1, 2))
    return int(areas.argmax()) if areas.any() else len(truth) // 2


def _view(geometry: Geometry, plane: int, shown: NDArray[np.bool_]) -> PictureGrid:
    """The part of a slice around `shown` (row, column); the whole slice where that is empty, or no larger."""
    whole = whole_slice(geometry, plane, SIDE)
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    if not len(rows):
        return whole
    corners = [(plane, row, column) for row in rows[[0, -1]] for column in columns[[0, -1]]]
    pixels = whole.to_pixels(geometry.index_to_lps(corners))
    field_mm = max(LEAST_MM, float(np.ptp(pixels, axis=0).max()) * whole.pixel_mm + 2 * AROUND_MM)
    if field_mm >= SIDE * whole.pixel_mm:
        return whole
    middle = [plane, (rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2]
    return detail(geometry, geometry.index_to_lps(middle), field_mm, SIDE)


def _panel(
    canvas: Canvas,
    picture: Box,
    volume: Volume,
    masks: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    window: Window,
    *,
    plane: int,
    grid: PictureGrid,
    name: str,
) -> None:
    """Draw one slice with both outlines, the truth's wider and below the other."""
    geometry = volume.geometry
    corner = np.array([picture.left, picture.top])
    canvas.image(picture, sampled(volume, plane, grid, window))
    for mask, colour, width in zip(masks, (TRUTH_RGB, FOUND_RGB), (3.0, 1.6), strict=True):
        for line in outlines(geometry, plane, mask[plane]):
            canvas.line(grid.to_pixels(line) + corner, colour, width=width, within=picture)
    middle = picture.top + SIDE / 2
    canvas.text(picture.left + MARGIN, middle, letters(-grid.right), LETTER_SIZE, bold=True, halo=True)
    canvas.text(picture.right - MARGIN, middle, letters(grid.right), LETTER_SIZE, bold=True, align="right", halo=True)
    where = f"{name}: slice {plane + 1} of {geometry.slices}"
    canvas.text(picture.left + MARGIN, picture.bottom - MARGIN, where, TEXT_SIZE, colour=WHITE, halo=True)
