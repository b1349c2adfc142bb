"""Bowel: coils of small bowel and the frame of the colon around them."""

from dataclasses import dataclass

import numpy as np

from models.phantom.body import Body
from models.phantom.canvas import Canvas
from models.phantom.contrast import Contrast, Tissue
from models.phantom.shapes import Segment, Tube, point, tube
from models.phantom.space import Float, Point


@dataclass(frozen=True)
class Coil:
    """A piece of bowel: its course, the thickness of its wall, and what fills it.

    `gas_above_mm`: in front of this y (LPS) there is gas.
    """

    course: Tube
    wall_mm: float
    content: Tissue
    gas_above_mm: float


def draw_bowel(draw: np.random.Generator, body: Body) -> tuple[Coil, ...]:
    """Colon first, small bowel before it."""
    wide, deep = body.across, body.deep
    sag = draw.uniform(-95, -60)
    right = draw.uniform(-80, -55)
    frame: list[list[tuple[Point, float]]] = [
        [
            ((-98 * wide, 10 * deep, -230.0), 25),
            ((-96 * wide, 8 * deep, -150.0), 23),
            ((-88 * wide, -2 * deep, right - 40), 22),
            ((-70 * wide, -40 * deep, right - 30), 19),
        ],
        [
            ((-70 * wide, -40 * deep, right - 30), 18),
            ((-40 * wide, -66 * deep, sag - 10), 17),
            ((0.0, -72 * deep, sag - 16), 16),
            ((44 * wide, -66 * deep, sag), 17),
            ((84 * wide, -34 * deep, draw.uniform(-40, -5)), 18),
        ],
        [
            ((92 * wide, -12 * deep, draw.uniform(-30, 5)), 17),
            ((102 * wide, 24 * deep, -70.0), 15),
            ((102 * wide, 26 * deep, -150.0), 14),
            ((98 * wide, 18 * deep, -230.0), 14),
        ],
    ]
    coils = []
    for stations in frame:
        centres = np.array([place for place, _ in stations])
        content = Tissue.GAS if draw.random() < 0.3 else Tissue.STOOL
        gas = float(centres[:, 1].mean()) - draw.uniform(-4, 14)
        coils.append(Coil(tube(*stations), draw.uniform(1.8, 3.2), content, gas))
    coils += [_small_bowel(draw, body) for _ in range(9)]
    return tuple(coils)


def _small_bowel(draw: np.random.Generator, body: Body) -> Coil:
    """A random walk that turns sharply, in the lower middle of the cavity."""
    centre = np.array([draw.uniform(-40, 70) * body.across, draw.uniform(-48, -5) * body.deep, draw.uniform(-190, -75)])
    limits = np.array([66 * body.across, 34 * body.deep, 60.0])
    place, direction = centre.copy(), draw.normal(0, 1, 3)
    radius = draw.uniform(9, 14)
    segments = []
    for _ in range(9):
        pull = (centre - place) / limits
        direction = direction / np.linalg.norm(direction) + draw.normal(0, 0.7, 3) + 0.9 * pull * np.abs(pull)
        step = direction / np.linalg.norm(direction) * draw.uniform(20, 34)
        end = np.minimum(place + step, [np.inf, np.inf, -48.0])
        following = float(np.clip(radius + draw.normal(0, 1.5), 8, 16))
        segments.append(Segment(point(place), point(end), radius, following))
        place, radius = end, following
    content = Tissue.GUT_FLUID if draw.random() < 0.75 else Tissue.STOOL
    gas = -1e3 if draw.random() < 0.6 else float(centre[1]) - 6
    return Coil(Tube(tuple(segments)), draw.uniform(2.0, 3.0), content, gas)


def paint_bowel(canvas: Canvas, coils: tuple[Coil, ...], contrast: Contrast, texture: Float, bend: Float) -> None:
    """Each segment of a coil in its own box, all walls of a coil before its contents."""
    inside = np.maximum(canvas.cavity + np.float32(3.0), canvas.dome + np.float32(4.0))
    mean, y = contrast.mean, canvas.axes.open[1]
    for coil in coils:
        grain = contrast.grain.get(coil.content, 0.0)
        pieces = []
        for segment in coil.course.segments:
            window = canvas.axes.window(*segment.bounds(6.0))
            if window is not None:
                # haustra and folds: the bore changes along the way
                bore = segment.distance(canvas.axes.part(window)) + np.float32(2.2) * bend[window]
                pieces.append((window, np.maximum(bore, inside[window])))
        for window, bore in pieces:
            canvas.paint(bore, mean[Tissue.GUT_WALL], window)
        for window, bore in pieces:
            content = mean[coil.content] + grain * texture[window]
            gas = np.broadcast_to(y, canvas.axes.shape)[window] < coil.gas_above_mm
            canvas.paint(bore + np.float32(coil.wall_mm), np.where(gas, mean[Tissue.GAS], content), window)
