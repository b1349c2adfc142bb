"""A canvas of pixels for lines and text: Matplotlib's Agg and FreeType without its figures.

A figure with axes takes a quarter of a second (tried), and ten key images have half a second together. Points are
(x, y) in pixels from the top left, whole numbers at pixel centres. The fonts are the DejaVu ones that Matplotlib
brings, not those of the host: the same calls give the same pixels.
"""

from bisect import bisect
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from matplotlib import get_data_path
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.ft2font import FT2Font
from matplotlib.path import Path
from matplotlib.transforms import Affine2D, Bbox
from numpy.typing import ArrayLike, NDArray

Colour = tuple[int, int, int]
"""Red, green, blue from 0 to 255."""

BLACK: Colour = (0, 0, 0)
WHITE: Colour = (255, 255, 255)

DOTS_PER_INCH = 72
"""One pixel is one point, so that sizes of fonts and widths of lines are pixels."""

GREYS = np.array([(grey, grey, grey, 255) for grey in range(256)], np.uint8).view(np.uint32)[:, 0]
"""Each grey as the four bytes of an opaque pixel."""

HALO = 2
"""How many pixels of black lie around text that stands on an image."""


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, for what is drawn in it."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Its right edge."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """Its lower edge."""
        return self.top + self.height

    def overlap(self, other: "Box") -> float:
        """The area that both cover, in pixels."""
        across = min(self.right, other.right) - max(self.left, other.left)
        down = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, across) * max(0.0, down)

    def moved_into(self, outer: "Box") -> "Box":
        """The box of the same size, moved as little as it takes to lie in `outer`."""
        left = min(max(self.left, outer.left), outer.right - self.width)
        top = min(max(self.top, outer.top), outer.bottom - self.height)
        return Box(left, top, self.width, self.height)


class Canvas:
    """RGB pixels to draw on; not for two threads at once."""

    def __init__(self, width: int, height: int, background: Colour = BLACK) -> None:
        self.width, self.height = width, height
        self._renderer = RendererAgg(width, height, DOTS_PER_INCH)  # type: ignore[no-untyped-call]
        self._rgba: NDArray[np.uint8] = np.asarray(self._renderer.buffer_rgba())  # type: ignore[no-untyped-call]
        self._rgba[:] = (*background, 255)
        self._masks: dict[tuple[str, float, bool], tuple[NDArray[np.uint8], int]] = {}

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """(row, column, 3) what was drawn so far, as a copy."""
        return np.ascontiguousarray(self._rgba[..., :3])

    def fill(self, box: Box, colour: Colour) -> None:
        """Fill a box whose edges are whole pixels."""
        rows = slice(round(box.top), round(box.bottom))
        self._rgba[rows, round(box.left) : round(box.right), :3] = colour

    def image(self, box: Box, values: NDArray[np.uint8]) -> None:
        """Lay a greyscale picture (row, column), or an RGB one (row, column, 3), over the box that is its size."""
        rows, columns = slice(round(box.top), round(box.bottom)), slice(round(box.left), round(box.right))
        if values.ndim == 3:
            self._rgba[rows, columns, :3] = values
        else:
            # Four bytes at once: a third of the time
            self._rgba.view(np.uint32)[rows, columns, 0] = GREYS[values]

    def frame(self, box: Box, colour: Colour, width: float = 1.0) -> None:
        """Draw the outline of a box."""
        left, top, right, bottom = box.left, box.top, box.right - 1, box.bottom - 1
        self.line([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], colour, width=width)

    def line(
        self, points: ArrayLike, colour: Colour, *, width: float = 1.0, halo: float = 0.0, within: Box | None = None
    ) -> None:
        """Draw a line through points (n, 2), on a black one that is `halo` pixels wider on both sides.

        Nothing is drawn outside of `within`.
        """
        path = Path(np.asarray(points, dtype=np.float64))
        path.should_simplify = False
        # Agg counts from the bottom, and pixel centres at a half
        place = Affine2D().scale(1, -1).translate(0.5, self.height - 0.5)
        for thickness, paint in ((width + 2 * halo, BLACK), (width, colour))[0 if halo else 1 :]:
            context = self._renderer.new_gc()
            context.set_foreground((paint[0] / 255, paint[1] / 255, paint[2] / 255))
            context.set_linewidth(thickness)
            context.set_joinstyle("round")
            context.set_capstyle("butt")
            context.set_antialiased(True)
            context.set_snap(False)
            if within is not None:
                bottom = self.height - within.bottom
                context.set_clip_rectangle(Bbox.from_bounds(within.left, bottom, within.width, within.height))
            self._renderer.draw_path(context, path, place)  # type: ignore[no-untyped-call]
            context.restore()

    def text(
        self,
        x: float,
        baseline: float,
        text: str,
        size: float,
        *,
        colour: Colour = WHITE,
        bold: bool = False,
        align: str = "left",
        halo: bool = False,
    ) -> Box:
        """Write one line whose left end, centre or right end (`align`) is at `x`; returns what it covers."""
        mask, descent = self._mask(text, size, bold=bold)
        height, width = mask.shape
        left = round(x - {"left": 0.0, "center": width / 2, "right": float(width)}[align])
        top = round(baseline) + descent - height
        if halo:
            self._blend(left - HALO, top - HALO, _grown(mask, HALO), BLACK)
        self._blend(left, top, mask, colour)
        return Box(left, top, width, height)

    def text_size(self, text: str, size: float, *, bold: bool = False) -> tuple[int, int]:
        """Width and height in pixels of a line of text."""
        height, width = self._mask(text, size, bold=bold)[0].shape
        return width, height

    def wrapped(self, text: str, size: float, room: float) -> list[str]:
        """The lines that `text` breaks into where a line may be `room` pixels wide."""
        # Word by word: setting ever longer lines only to measure them costs more than all the drawing
        space = self.text_size("n n", size)[0] - self.text_size("nn", size)[0]
        lines: list[str] = []
        used = 0
        for word in text.split():
            width = self.text_size(word, size)[0]
            if lines and used + space + width <= room:
                lines[-1] += f" {word}"
                used += space + width
            else:
                lines.append(word)
                used = width
        return lines

    def shortened(self, text: str, size: float, room: float, *, bold: bool = False) -> str:
        """`text` with its end left out as far as it takes to be `room` pixels wide."""
        if self.text_size(text, size, bold=bold)[0] <= room:
            return text
        ends = range(len(text))
        fits = bisect(ends, room, key=lambda end: self.text_size(text[:end] + "...", size, bold=bold)[0])
        return text[: max(0, fits - 1)].rstrip() + "..."

    @cached_property
    def _fonts(self) -> dict[bool, FT2Font]:
        # Not shared between canvases: a FreeType face is not for two threads
        folder = f"{get_data_path()}/fonts/ttf/"
        return {False: FT2Font(folder + "DejaVuSans.ttf"), True: FT2Font(folder + "DejaVuSans-Bold.ttf")}

    def _mask(self, text: str, size: float, *, bold: bool) -> tuple[NDArray[np.uint8], int]:
        """Return how much of each pixel (row, column) is ink, and how many of its rows lie under the baseline.

        The result is cached: a text is measured before it is written.
        """
        if (text, size, bold) not in self._masks:
            self._masks[text, size, bold] = self._set(text, size, bold=bold)
        return self._masks[text, size, bold]

    def _set(self, text: str, size: float, *, bold: bool) -> tuple[NDArray[np.uint8], int]:
        font = self._fonts[bold]
        font.clear()
        font.set_size(size, DOTS_PER_INCH)
        # The font lacks what it draws as a box, with a warning that quotes it
        known = "".join(letter if font.get_char_index(ord(letter)) else "?" for letter in text) or " "
        font.set_text(known, 0.0)
        font.draw_glyphs_to_bitmap(antialiased=True)
        return np.array(font.get_image()), round(font.get_descent() / 64)

    def _blend(self, left: int, top: int, mask: NDArray[np.uint8], colour: Colour) -> None:
        height, width = mask.shape
        rows = slice(max(0, top), max(0, min(self.height, top + height)))
        columns = slice(max(0, left), max(0, min(self.width, left + width)))
        part = mask[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        if part.size:
            ink = part[..., None] / 255
            under = self._rgba[rows, columns, :3]
            self._rgba[rows, columns, :3] = np.rint(under * (1 - ink) + np.array(colour) * ink).astype(np.uint8)


def _grown(mask: NDArray[np.uint8], by: int) -> NDArray[np.uint8]:
    """`mask` with a rim of `by` pixels on every side, each pixel as dark as the darkest within a disc."""
    height, width = mask.shape
    grown = np.zeros((height + 2 * by, width + 2 * by), np.uint8)
    for down in range(2 * by + 1):
        for across in range(2 * by + 1):
            if (down - by) ** 2 + (across - by) ** 2 <= by * by + 1:
                part = grown[down : down + height, across : across + width]
                np.maximum(part, mask, out=part)
    return grown
