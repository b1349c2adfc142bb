"""One slice as radiologists hang it, with outlines and calipers drawn in.

The picture has square pixels along the directions of `hanging`, and the image, the outlines and the calipers
are laid on it by the geometry's cosines alone: rows that run back to front, columns that run to the right, pixels that
are not square, planes of any direction are no special cases.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import affine_transform
from skimage.measure import find_contours

from dicom_io.geometry import Float, Geometry
from dicom_io.segmentation import LIVER, Segmentation
from dicom_io.volume import Volume
from reports import codes
from reports.findings.measurements import Findings, Lesion
from reports.pages.drawing import WHITE, Box, Canvas, Colour
from reports.pages.hanging import hanging, letters
from reports.pages.window import Window

LIVER_RGB: Colour = codes.LIVER_COLOUR.to_rgb(clip=True)
LESION_RGB: Colour = codes.LESION_COLOUR.to_rgb(clip=True)
"""The colours that the segments have in the SEG; that of lesions the first one's."""


def lesion_rgb(lesion: Lesion) -> Colour:
    """Return the colour of a lesion, which is that of its segment."""
    colour: Colour = codes.lesion_colour(lesion.number).to_rgb(clip=True)
    return colour


CALIPER_RGB: Colour = (255, 211, 77)
SOFT_RGB: Colour = (176, 184, 192)

MARGIN = 12
LETTER_SIZE, LABEL_SIZE, SMALL_SIZE = 30.0, 21.0, 17.0

TICK = 7.0
"""Half the length of the bar across a caliper's end, in pixels."""

INSET = 0.28
"""The side of the magnified part, of the picture's."""

INSET_ZOOM = 1.6
"""The least magnification for which a lesion gets one."""

INSET_FIELD = 2.4
"""How much of the slice it shows, in long axes; and never less than INSET_MIN_MM."""

INSET_MIN_MM = 25.0

SCALE_BAR_MM = (100, 50, 20, 10, 5)
"""The scale is the longest of these that fits into SCALE_BAR_PART of the picture."""

SCALE_BAR_PART = 0.3


@dataclass(frozen=True, eq=False)
class PictureGrid:
    """The square pixels of a picture of one plane; `origin_lps_mm` is the centre of its top left one."""

    origin_lps_mm: Float
    right: Float
    down: Float
    pixel_mm: float
    side: int

    def to_pixels(self, points_lps_mm: ArrayLike) -> Float:
        """(..., 3) LPS mm to (..., 2) x, y in pixels."""
        offset = np.asarray(points_lps_mm, dtype=np.float64) - self.origin_lps_mm
        return np.stack([offset @ self.right, offset @ self.down], axis=-1) / self.pixel_mm


Paint = Callable[[NDArray[np.uint8], PictureGrid], NDArray[np.uint8]]
"""Makes a picture in colour (row, column, 3) of one in greys (row, column)."""


def whole_slice(geometry: Geometry, plane: int, side: int) -> PictureGrid:
    """The grid of `side` pixels a side that holds the slice up to the edges of its outermost pixels."""
    right, down = hanging(geometry.normal)
    edges = [[plane, row, column] for row in (-0.5, geometry.rows - 0.5) for column in (-0.5, geometry.columns - 0.5)]
    corners = geometry.index_to_lps(edges)
    extents = [float(np.ptp(corners @ direction)) for direction in (right, down)]
    return _around(corners.mean(axis=0), max(extents), right, down, side)


def detail(geometry: Geometry, centre_lps_mm: ArrayLike, field_mm: float, side: int) -> PictureGrid:
    """The grid of `side` pixels that shows `field_mm` around a point."""
    return _around(np.asarray(centre_lps_mm, dtype=np.float64), field_mm, *hanging(geometry.normal), side)


def _around(centre: Float, field_mm: float, right: Float, down: Float, side: int) -> PictureGrid:
    pixel_mm = field_mm / side
    return PictureGrid(centre - (right + down) * pixel_mm * (side - 1) / 2, right, down, pixel_mm, side)


def sampled(volume: Volume, plane: int, grid: PictureGrid, window: Window) -> NDArray[np.uint8]:
    """(side, side) the greys of a slice on the grid, linear between its pixels, black around it."""
    return resampled(volume.array[plane], volume.geometry, plane, grid, window)


def resampled(
    values: NDArray[np.int16] | NDArray[np.float32], geometry: Geometry, plane: int, grid: PictureGrid, window: Window
) -> NDArray[np.uint8]:
    """(side, side) the same of any values (row, column) that lie on slice `plane`."""
    to_index = np.stack(
        [geometry.column_cosines / geometry.row_spacing_mm, geometry.row_cosines / geometry.column_spacing_mm]
    )
    matrix = np.stack([to_index @ grid.down, to_index @ grid.right], axis=-1) * grid.pixel_mm
    offset = to_index @ (grid.origin_lps_mm - geometry.origins_lps_mm[plane])
    matrix[np.abs(matrix) < 1e-9] = 0.0
    size = (grid.side, grid.side)
    if matrix[0, 1] == matrix[1, 0] == 0:
        return _along_axes(values, matrix.diagonal(), offset, grid.side, window)
    if matrix[0, 0] == matrix[1, 1] == 0:
        places = matrix[1, 0], matrix[0, 1]
        return _along_axes(values.T, np.array(places), offset[[1, 0]], grid.side, window)
    values = values.astype(np.float32)
    return window.grey(affine_transform(values, matrix, offset, size, order=1, mode="constant", cval=window.low))


def _along_axes(
    values: NDArray[np.int16] | NDArray[np.float32], steps: Float, offset: Float, side: int, window: Window
) -> NDArray[np.uint8]:
    """Return the result of `affine_transform` for grids with parallel axes, in a sixth of the time."""
    first, second = (start + step * np.arange(side) for start, step in zip(offset, steps, strict=True))
    rows = _interpolated(values.astype(np.float32), first, window.low)
    return np.ascontiguousarray(window.grey(_interpolated(np.ascontiguousarray(rows.T), second, window.low)).T)


def _interpolated(values: NDArray[np.float32], places: Float, outside: float) -> NDArray[np.float32]:
    """Rows of `values` at `places` between them, linearly; `outside` beyond the first and the last."""
    last = len(values) - 1
    below = np.clip(np.floor(places), 0, max(0, last - 1)).astype(np.intp)
    part = (places - below).astype(np.float32)[:, None]
    low = values[below]
    between = low + (values[np.minimum(below + 1, last)] - low) * part
    between[(places < 0) | (places > last)] = outside
    return between


def outlines(geometry: Geometry, plane: int, mask: NDArray[np.bool_]) -> list[Float]:
    """Closed outlines (n, 3) of a mask of one slice, LPS mm, half-way between its pixels and those around it.

    The mask is padded, so that those at the image's edge close too.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return []
    part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    lines: list[Float] = find_contours(np.pad(part, 1).astype(np.float32), 0.5)  # type: ignore[no-untyped-call]
    corner = np.array([rows[0] - 1, columns[0] - 1])
    return [geometry.index_to_lps(np.column_stack([np.full(len(line), plane), line + corner])) for line in lines]


def draw_slice(
    canvas: Canvas,
    picture: Box,
    volume: Volume,
    segmentation: Segmentation,
    findings: Findings,
    plane: int,
    *,
    window: Window,
    measured: Sequence[Lesion],
    paint: Paint | None = None,
) -> PictureGrid:
    """Draw slice `plane` into the square `picture`: liver, lesions and their numbers, calipers of those `measured`.

    The first of those that is small is shown larger in a corner, without anything drawn over it. `paint` makes
    colours of the greys before anything is drawn on them.
    """
    geometry = volume.geometry
    grid = whole_slice(geometry, plane, round(picture.width))
    corner = np.array([picture.left, picture.top])
    greys = sampled(volume, plane, grid, window)
    canvas.image(picture, greys if paint is None else paint(greys, grid))
    taken = _letter(canvas, picture, grid) + [_scale(canvas, picture, grid)]
    taken.append(canvas.text(picture.left + MARGIN, picture.bottom - MARGIN, window.name, SMALL_SIZE, halo=True))

    labels = segmentation.labels[plane]
    for line in outlines(geometry, plane, labels >= LIVER):
        canvas.line(grid.to_pixels(line) + corner, LIVER_RGB, width=1.6, within=picture)
    numbered: list[tuple[Lesion, Box]] = []
    for lesion in findings.lesions:
        lines = [grid.to_pixels(line) + corner for line in outlines(geometry, plane, labels == lesion.segment)]
        for points in lines:
            canvas.line(points, lesion_rgb(lesion), width=2.0 if lesion in measured else 1.4, within=picture)
        if lines:
            numbered.append((lesion, _bounds(np.concatenate(lines))))
    calipers = [
        (lesion, [grid.to_pixels(ends) + corner for ends in lesion.size.axis_end_points_lps_mm]) for lesion in measured
    ]
    for _, axes in calipers:
        for ends in axes:
            _caliper(canvas, ends, picture)
    inset = _inset(canvas, picture, volume, grid, plane, window=window, measured=measured)
    taken += inset
    taken += [box for _, box in numbered]
    for lesion, axes in calipers:
        for ends, length in zip(axes, (lesion.size.long_axis_mm, lesion.size.short_axis_mm), strict=True):
            taken.append(_length(canvas, ends, f"{length:.1f} mm", picture, taken))
    for lesion, bounds in numbered:
        taken.append(
            _number(
                canvas,
                f"{lesion.number} {lesion.target_name * (lesion in measured)}".strip(),
                bounds,
                picture,
                taken,
                is_measured=lesion in measured,
                own=lesion_rgb(lesion),
            )
        )
    return grid


def _caliper(canvas: Canvas, ends: Float, picture: Box) -> None:
    along = ends[1] - ends[0]
    length = float(np.hypot(*along))
    across = np.array([-along[1], along[0]]) / length if length else np.array([0.0, 1.0])
    canvas.line(ends, CALIPER_RGB, width=1.4, within=picture)
    for end in ends:
        canvas.line([end - across * TICK, end + across * TICK], CALIPER_RGB, width=1.4, within=picture)


def _length(canvas: Canvas, ends: Float, text: str, picture: Box, taken: Sequence[Box]) -> Box:
    """Write a caliper's length beyond one of its ends, where it covers least."""
    width, height = canvas.text_size(text, LABEL_SIZE)
    along = ends[1] - ends[0]
    unit = along / max(float(np.hypot(*along)), 1e-6)
    candidates = []
    for away in (12.0, 34.0):
        for end, direction in ((ends[1], unit), (ends[0], -unit)):
            reach = min(width / 2 / max(abs(direction[0]), 1e-6), height / 2 / max(abs(direction[1]), 1e-6)) + away
            candidates.append(_centred(end + direction * reach, width, height))
    box = _freest(candidates, picture, taken)
    canvas.text(box.left, box.bottom, text, LABEL_SIZE, colour=CALIPER_RGB, halo=True)
    return box


def _number(
    canvas: Canvas, text: str, bounds: Box, picture: Box, taken: Sequence[Box], *, is_measured: bool, own: Colour
) -> Box:
    """Write a lesion's number beside it, in its `own` colour unless it is measured."""
    width, height = canvas.text_size(text, LABEL_SIZE, bold=True)
    gap = 6.0
    candidates = [
        Box(x, y, width, height)
        for x in (bounds.right + gap, bounds.left - gap - width)
        for y in (bounds.top - height / 2, bounds.bottom - height / 2, bounds.top + bounds.height / 2 - height / 2)
    ]
    box = _freest(candidates, picture, taken)
    colour = WHITE if is_measured else own
    canvas.text(box.left, box.bottom, text, LABEL_SIZE, colour=colour, bold=True, halo=True)
    return box


def _inset(
    canvas: Canvas,
    picture: Box,
    volume: Volume,
    grid: PictureGrid,
    plane: int,
    *,
    window: Window,
    measured: Sequence[Lesion],
) -> list[Box]:
    if not measured:
        return []
    lesion, side = measured[0], round(INSET * picture.width)
    ends = np.array(lesion.size.axis_end_points_lps_mm[0])
    close = detail(volume.geometry, ends.mean(axis=0), max(INSET_MIN_MM, INSET_FIELD * lesion.size.long_axis_mm), side)
    if grid.pixel_mm / close.pixel_mm < INSET_ZOOM:
        return []
    where = grid.to_pixels(ends.mean(axis=0)) + np.array([picture.left, picture.top])
    # Away from the lesion, in an upper corner: the window and the scale stand below
    is_right = where[0] < picture.left + picture.width / 2
    left = picture.right - MARGIN - side if is_right else picture.left + MARGIN
    box = Box(left, picture.top + MARGIN, side, side)
    canvas.image(box, sampled(volume, plane, close, window))
    canvas.frame(box, SOFT_RGB)
    text = f"Lesion {lesion.number}, {grid.pixel_mm / close.pixel_mm:.1f} x"
    canvas.text(box.left + 6, box.bottom - 8, text, SMALL_SIZE, halo=True)
    return [box]


def _letter(canvas: Canvas, picture: Box, grid: PictureGrid) -> list[Box]:
    middle_x, middle_y = picture.left + picture.width / 2, picture.top + picture.height / 2
    places = (
        (-grid.right, picture.left + MARGIN, middle_y + 11, "left"),
        (grid.right, picture.right - MARGIN, middle_y + 11, "right"),
        (-grid.down, middle_x, picture.top + MARGIN + 22, "center"),
        (grid.down, middle_x, picture.bottom - MARGIN, "center"),
    )
    return [
        canvas.text(x, y, letters(direction), LETTER_SIZE, bold=True, align=align, halo=True)
        for direction, x, y, align in places
    ]


def _scale(canvas: Canvas, picture: Box, grid: PictureGrid) -> Box:
    """A bar of a round length at the lower right."""
    room_mm = SCALE_BAR_PART * grid.side * grid.pixel_mm
    length_mm = next((mm for mm in SCALE_BAR_MM if mm <= room_mm), SCALE_BAR_MM[-1])
    right, y = picture.right - MARGIN - 4, picture.bottom - MARGIN - 6
    left = right - length_mm / grid.pixel_mm
    bar = [(left, y - TICK), (left, y), (right, y), (right, y - TICK)]
    canvas.line(bar, WHITE, width=2, halo=1.5)
    text = f"{length_mm} mm"
    above = canvas.text((left + right) / 2, y - 10, text, SMALL_SIZE, align="center", halo=True)
    return Box(min(left, above.left), above.top, max(right - left, above.width), y - above.top + 4)


def _bounds(points: Float) -> Box:
    left, top = points.min(axis=0)
    right, bottom = points.max(axis=0)
    return Box(left, top, right - left, bottom - top)


def _centred(point: Float, width: float, height: float) -> Box:
    return Box(float(point[0]) - width / 2, float(point[1]) - height / 2, width, height)


def _freest(candidates: Sequence[Box], picture: Box, taken: Sequence[Box]) -> Box:
    """The first of the places, moved into the picture, that covers least of what is taken."""
    inner = Box(picture.left + 4, picture.top + 4, picture.width - 8, picture.height - 8)
    moved = [box.moved_into(inner) for box in candidates]
    return min(moved, key=lambda box: sum(box.overlap(other) for other in taken))
