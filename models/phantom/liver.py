"""The liver: what fills the right dome of the diaphragm, cut by its visceral surface, and thins out to the left.

It is not a sum of balls: like a real one it takes the shape of what it lies against. Two surfaces, drawn anew for
each patient and bent by smooth fields, cut it out of the space under the diaphragm: `behind` (how far it reaches
back, from the right flank past the vena cava to the thin tip of the left lobe) and `below` (how far it reaches down).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from models.phantom.body import Body
from models.phantom.canvas import Canvas
from models.phantom.shapes import Ellipsoid, common, without
from models.phantom.space import Axes, Float, Point, SmoothField, smooth_field

GAP_MM = 3.0
"""Between the liver and the ribs: diaphragm and a film of fat."""
ROUNDING_MM = 14.0


@dataclass(frozen=True, eq=False)
class Liver:
    """The surfaces of one liver.

    `behind` (knots, 2): x and the y that the liver reaches back to there; `below` (knots, 2): x and the z that it
    reaches down to. `tilt`: how much deeper its front edge hangs than its back one. `nodular_mm`: how uneven its
    surface is; `ascites_mm`: how much fluid is around it. `fissure` and `impressions` are
    cut out of it.
    """

    behind: NDArray[np.float64]
    below: NDArray[np.float64]
    tilt: float
    gap_mm: float
    ascites_mm: float
    nodular_mm: float
    bend_behind: SmoothField
    bend_below: SmoothField
    bend_skin: SmoothField
    fissure: Ellipsoid | None
    impressions: tuple[Ellipsoid, ...]

    def back_at(self, x: float) -> float:
        """Y of its back surface in a sagittal plane, before it is bent."""
        return float(PchipInterpolator(*self.behind.T)(x))

    def floor_at(self, x: float, y: float) -> float:
        """Z of its lower surface, before it is bent."""
        return float(PchipInterpolator(*self.below.T)(x)) + self.tilt * y

    def distance(self, canvas: Canvas) -> Float:
        """Signed distance on a canvas."""
        x, y, z = canvas.axes.open
        axes = canvas.axes
        back, lean = _along(self.behind, axes.x)
        floor, slope = _along(self.below, axes.x)
        bump = np.float32(self.nodular_mm) * self.bend_skin.on(axes)
        # higher up the bare area lies on the diaphragm: the back surface recedes
        recede = np.clip(z * np.float32(0.22), -6, 18)
        behind = (y - back - recede + np.float32(7.0) * self.bend_behind.on(axes)) * lean
        below = (floor + np.float32(self.tilt) * y - z + np.float32(10.0) * self.bend_below.on(axes)) * slope
        distance = common(behind.astype(np.float32), below.astype(np.float32), ROUNDING_MM)
        distance = common(distance, canvas.cavity + bump + np.float32(self.gap_mm), 5.0)
        distance = common(distance, canvas.dome + bump + np.float32(GAP_MM), 6.0)
        for shape in (*self.impressions, *([self.fissure] if self.fissure else [])):
            window = axes.window(*shape.bounds(8.0))
            if window is not None:
                away = shape.distance(axes.part(window)) + 2 * bump[window]
                distance[window] = without(distance[window], away, 5.0)
        return distance

    def bounds(self, body: Body) -> tuple[Point, Point]:
        """The corners of a box that holds it."""
        lowest = float(self.below[:, 1].min()) - abs(self.tilt) * body.depth_mm - 30
        right, left = -body.width_mm - 10, float(self.behind[-1, 0]) + 25
        return (right, -body.depth_mm - 15, lowest), (left, body.depth_mm + 15, max(body.dome_mm) + 12)


def draw_liver(draw: np.random.Generator, body: Body) -> Liver:
    """A liver: its right lobe short or hanging low, its left lobe small or reaching the spleen."""
    wide, deep, front = body.across, body.deep, body.vertebra_front_mm
    tip = draw.uniform(35, 108) * wide
    thickness = draw.uniform(0.75, 1.25)
    short, usual, hanging = draw.uniform(-66, -38), draw.uniform(-98, -66), draw.uniform(-135, -95)
    lowest = float(draw.choice([short, usual, hanging], p=[0.35, 0.5, 0.15]))
    behind = [
        (-160 * wide, 150.0),
        (-96 * wide, 92 * deep + draw.normal(0, 5)),
        (-62 * wide, 74 * deep + draw.normal(0, 6)),
        (-38 * wide, front - 6 + draw.normal(0, 5)),
        (-16 * wide, front - 28 + draw.normal(0, 5)),
        (2 * wide, front - 52 - 14 * (1 - thickness) + draw.normal(0, 4)),
        (0.45 * tip + 8, -46 * deep + 22 * (thickness - 1) + draw.normal(0, 4)),
        (0.78 * tip + 10, -58 * deep + 14 * (thickness - 1) + draw.normal(0, 4)),
        (tip + 18, -100 * deep),
    ]
    hilum = draw.uniform(-28, -8)
    below = [
        (-160 * wide, lowest + 10),
        (-105 * wide, lowest),
        (-70 * wide, 0.6 * lowest + 0.4 * hilum + draw.normal(0, 5)),
        (-30 * wide, hilum + draw.normal(0, 4)),
        (0.0, hilum + draw.uniform(-22, 4)),
        (0.5 * tip, hilum + draw.uniform(-8, 24)),
        (tip + 20, draw.uniform(20, 45)),
    ]
    fissure_x = draw.uniform(-4, 14) * wide
    fissure = Ellipsoid(
        (fissure_x, -72 * deep, hilum + draw.uniform(-12, 8)),
        (draw.uniform(1.5, 6), draw.uniform(12, 28), draw.uniform(14, 32)),
    )
    kidney = Ellipsoid((-56 * wide, 56 * deep, lowest * 0.4 - 45), (38, 36, draw.uniform(52, 66)))
    ascites = draw.uniform(5, 16) if draw.random() < 0.08 else 0.0
    return Liver(
        behind=np.array(behind),
        below=np.array(below),
        tilt=draw.uniform(0.10, 0.38),
        gap_mm=GAP_MM + draw.exponential(1.5) + ascites * draw.uniform(0.4, 1.0),
        ascites_mm=ascites,
        nodular_mm=float(draw.choice([1.5, 3.5], p=[0.88, 0.12])),
        bend_behind=smooth_field(draw, draw.uniform(32, 55)),
        bend_below=smooth_field(draw, draw.uniform(36, 60)),
        bend_skin=smooth_field(draw, draw.uniform(14, 24)),
        fissure=fissure if draw.random() < 0.75 else None,
        impressions=(kidney,),
    )


def _along(knots: NDArray[np.float64], x: Float) -> tuple[Float, Float]:
    """A curve through knots (1, 1, column), and what makes a difference of levels a distance (the cosine)."""
    curve = PchipInterpolator(*knots.T)
    inside = np.clip(x.astype(np.float64), knots[0, 0], knots[-1, 0])
    steep = np.clip(curve(inside, 1), -2.5, 2.5)
    level = curve(inside) + (x - inside) * curve(knots[-1, 0], 1) * (x > inside)
    shape = (1, 1, -1)
    return level.reshape(shape).astype(np.float32), (1 / np.hypot(1, steep)).reshape(shape).astype(np.float32)


def liver_axes(liver: Liver, body: Body, spacing_mm: float) -> Axes:
    """A grid over the liver, the same for every image of it: lesions are placed on it."""
    low, high = liver.bounds(body)
    x, y, z = (
        (np.arange(np.floor(first / spacing_mm), np.ceil(last / spacing_mm) + 1) * spacing_mm).astype(np.float32)
        for first, last in zip(low, high, strict=True)
    )
    return Axes(x, y, z)
