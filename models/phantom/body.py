"""The trunk: skin, fat, muscle, the cavity that they enclose, and the diaphragm that divides it.

The outlines are stretched superellipses about the patient's long axis; a distance to one is a radial one. x grows to
the patient's left, y to the back, z to the head; z = 0 lies at the middle of the liver.
"""

from dataclasses import dataclass

import numpy as np

from models.phantom.space import Axes, Float, SmoothField, Window, smooth_field

CAVITY_POWER = 2.3


@dataclass(frozen=True, eq=False)
class Body:
    """Sizes of a trunk in mm, half of each diameter.

    The cavity's are `width_mm` and `depth_mm`; muscle lies `wall_mm` thick around it, more at the back, and
    `fat_mm` under the skin. `dome_mm`: heights of the right and the left diaphragm; `spine_mm`: how far behind the
    origin the vertebral bodies have their centres.
    """

    width_mm: float
    depth_mm: float
    wall_mm: float
    fat_mm: float
    dome_mm: tuple[float, float]
    spine_mm: float
    taper: float
    surface: SmoothField
    unevenness: SmoothField

    @property
    def across(self) -> float:
        """How much wider than usual, for what is placed along x."""
        return self.width_mm / 130

    @property
    def deep(self) -> float:
        """How much deeper than usual, for what is placed along y."""
        return self.depth_mm / 92

    @property
    def back_mm(self) -> float:
        """Y of the skin of the back, where the couch is."""
        return self.depth_mm + self.wall_mm + 20 + self.fat_mm * 0.4

    @property
    def vertebra_front_mm(self) -> float:
        """Y of the front of the vertebral bodies."""
        return self.spine_mm - 16


def draw_body(draw: np.random.Generator) -> Body:
    """A trunk between slim and stout."""
    width = draw.uniform(110, 138)
    depth = width * draw.uniform(0.65, 0.76)
    right = draw.uniform(66, 92)
    return Body(
        width_mm=width,
        depth_mm=depth,
        wall_mm=draw.uniform(11, 18),
        fat_mm=float(np.clip(draw.gamma(3.0, 5.5), 4, 40)),
        dome_mm=(right, right - draw.uniform(4, 20)),
        spine_mm=depth - draw.uniform(26, 34),
        taper=draw.uniform(0.04, 0.12),
        surface=smooth_field(draw, 75.0),
        unevenness=smooth_field(draw, 40.0),
    )


@dataclass(frozen=True, eq=False)
class Outline:
    """What the trunk's outlines are in a transverse plane: (1, row, column) mm, and angles.

    `radius` from the axis; `cavity`, `muscle`, `skin`: how far the outline lies in that direction. `turn` runs from 0
    at the back to 1 in front, on either side; `dome` is the height of the diaphragm.
    """

    radius: Float
    cavity: Float
    muscle: Float
    skin: Float
    turn: Float
    dome: Float

    def part(self, window: Window) -> "Outline":
        """The outlines of a part of the grid."""
        part = (slice(None), *window[1:])
        return Outline(*(getattr(self, name)[part] for name in self.__dataclass_fields__))


def outline(body: Body, axes: Axes) -> Outline:
    """The outlines on the pixels of a grid."""
    x, y, _ = (axis.astype(np.float64) for axis in axes.open)
    radius = np.maximum(np.hypot(x, y), 1e-3)
    turn = np.arctan2(np.abs(x), y) / np.pi
    cavity = radius / _superellipse(x, y, body.width_mm, body.depth_mm, CAVITY_POWER)
    back = np.exp(-((turn / 0.24) ** 2))
    erectors = 8 * np.exp(-(((np.abs(x) - 44) / 26) ** 2)) * (y > 0)
    front = np.exp(-(((turn - 1) / 0.22) ** 2))
    # the erector muscles lie beside the spinous processes, with a furrow between them
    flank = np.exp(-(((turn - 0.42) / 0.2) ** 2))
    muscle = cavity + body.wall_mm * (1 - 0.3 * front - 0.25 * flank) + 17 * back + erectors
    navel = 0.3 * np.exp(-(((turn - 1) / 0.05) ** 2))
    skin = muscle + body.fat_mm * (0.75 + 0.55 * flank + 0.5 * front - navel - 0.35 * back) + 2.5
    return Outline(*(plane.astype(np.float32) for plane in (radius, cavity, muscle, skin, turn, _dome(body, x, y))))


def stretch(body: Body, axes: Axes) -> Float:
    """(slice, 1, 1): how wide the trunk is at each height, 1 at the lower ribs."""
    height = (axes.open[2] - 15) / 150
    return np.asarray(1 - body.taper * height**2 + body.taper * 0.5 * np.clip(-height, 0, None) ** 3, dtype=np.float32)


def _superellipse(
    x: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]",
    y: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]",
    width: float,
    depth: float,
    power: float,
) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    radius = (np.abs(x / width) ** power + np.abs(y / depth) ** power) ** (1 / power)
    return np.asarray(np.maximum(radius, 1e-6))


def _dome(
    body: Body,
    x: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]",
    y: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]",
) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    """Height of the diaphragm: two domes that fall steeply to the ribs, deepest at the back (the pleural recess)."""
    lean = body.depth_mm * np.where(y < 0, 1.22, 0.98)  # in front it is fixed to the sternum, higher than at the back
    heights = []
    for centre, peak in zip((-58 * body.across, 66 * body.across), body.dome_mm, strict=True):
        out = ((x - centre) / (82 * body.across)) ** 2 + (y / lean) ** 2
        heights.append(peak - 20 * out - 38 * out**3 - 18 * np.clip(y / body.depth_mm, 0, 1) ** 2 * out)
    saddle = np.logaddexp(heights[0] / 12, heights[1] / 12) * 12 - 3
    heart = 26 * np.exp(-(((x - 12 * body.across) / 42) ** 2) - ((y + 0.55 * body.depth_mm) / 48) ** 2)
    return np.asarray(np.clip(saddle + heart, -70, None))
