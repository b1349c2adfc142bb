"""Vessels: aorta and vena cava with their large branches, the portal tree and the hepatic veins in the liver."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.phantom.body import Body
from models.phantom.canvas import Canvas
from models.phantom.contrast import Contrast, Tissue
from models.phantom.liver import Liver
from models.phantom.shapes import Segment, Tube, point, tube
from models.phantom.space import Float

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Vessels:
    """Large vessels as tubes; the trees within the liver as segments from the stem outward."""

    aorta: Tube
    aortic_branches: tuple[Tube, ...]
    vena_cava: Tube
    renal_veins: tuple[Tube, ...]
    portal_vein: Tube
    portal_tree: tuple[Segment, ...]
    hepatic_veins: tuple[Segment, ...]
    mesentery: tuple[Segment, ...]
    calcified: bool


def draw_vessels(draw: np.random.Generator, body: Body, liver: Liver) -> Vessels:
    """The vessels of a patient; the portal tree begins where the hilum of the liver is."""
    wide, front = body.across, body.vertebra_front_mm
    bore = draw.uniform(9.0, 12.5)
    ax = draw.uniform(4, 14)
    aorta = tube(
        ((ax - 2, front - 8, -230.0), bore * 0.85),
        ((ax, front - 10, -60.0), bore * 0.95),
        ((ax + 4, front - 8, 40.0), bore),
        ((ax + 14, front + 4, 160.0), bore * 1.1),
    )
    cx = draw.uniform(-28, -20) * wide
    cava = tube(
        ((cx + 2, front - 8, -230.0), 10.0),
        ((cx, front - 12, -60.0), 11.0),
        ((cx, front - 17, 10.0), 12.0),
        ((cx + 1, front - 24, 50.0), 13.5),
        ((cx + 6, front - 40, 105.0), 14.0),
    )
    celiac = draw.uniform(-20, 0)
    branches = (
        tube(
            ((ax, front - 16, celiac), 3.8), ((ax - 2, front - 38, celiac + 4), 3.5), ((-24.0, front - 44, celiac), 2.5)
        ),
        tube(((ax - 2, front - 38, celiac + 4), 3.0), ((48 * wide, front - 20, celiac + 14), 2.4)),
        tube(
            ((ax, front - 16, celiac - 16), 4.0),
            ((ax - 2, front - 32, celiac - 40), 3.8),
            ((ax, front - 42, -150.0), 3.0),
        ),
        tube(((ax, front - 6, celiac - 34), 3.0), ((50 * wide, front + 12, celiac - 36), 2.4)),
        tube(((ax, front - 6, celiac - 36), 3.0), ((-48 * wide, front + 12, celiac - 42), 2.4)),
    )
    renal = (
        tube(((cx, front - 12, -44.0), 5.0), ((-46 * wide, front + 6, -48.0), 4.5)),
        tube(((cx, front - 14, -40.0), 5.0), ((ax, front - 24, -38.0), 4.5), ((46 * wide, front + 4, -36.0), 4.5)),
    )
    x = -20 * wide
    y = liver.back_at(x) - draw.uniform(9, 15)
    hilum = np.array([x, y, liver.floor_at(x, y) + draw.uniform(12, 18)])
    meeting = np.array([6.0, front - 30, hilum[2] - draw.uniform(24, 38)])
    portal = draw.uniform(6.0, 8.0)
    between, start = point((meeting + hilum) / 2 + [0, 3, 0]), point(meeting)
    trunk = tube((start, portal), (between, portal), (point(hilum), portal))
    splenic = tube(
        (start, 4.8),
        ((34.0 * wide, front - 20, start[2] + 16), 4.4),
        ((74 * wide, front + 10, start[2] + 32), 3.5),
    )
    mesenteric = tube((start, 5.2), ((-2.0, front - 36, -150.0), 4.4))
    main = Tube((*trunk.segments, *splenic.segments, *mesenteric.segments))
    right = hilum + np.array([-34 * wide, -2.0, draw.uniform(0, 10)])
    left = hilum + np.array([20 * wide, -22.0, draw.uniform(4, 14)])
    umbilical = left + np.array([8.0, -20.0, draw.uniform(-4, 8)])
    portal_tree = [
        Segment(point(hilum), point(right), portal, portal * 0.85),
        Segment(point(hilum), point(left), portal * 0.85, portal * 0.7),
        Segment(point(left), point(umbilical), portal * 0.7, portal * 0.65),
    ]
    for start, direction, radius, length in (
        (right, (-0.6, -0.6, 0.4), 0.62, 34),
        (right, (-0.6, -0.5, -0.6), 0.55, 34),
        (right, (-0.7, 0.6, 0.4), 0.60, 34),
        (right, (-0.7, 0.5, -0.7), 0.55, 36),
        (left, (0.6, 0.1, 0.7), 0.42, 26),
        (umbilical, (0.8, -0.2, 0.4), 0.45, 26),
        (umbilical, (0.7, -0.4, -0.5), 0.42, 26),
        (umbilical, (-0.8, -0.5, 0.2), 0.45, 26),
    ):
        portal_tree += _tree(draw, start, np.array(direction), portal * radius, length * wide, depth=3)
    outlet = np.array([cx + 3, front - 31, min(max(body.dome_mm) - 22, 62.0)])
    hepatic: list[Segment] = []
    for direction, length in (((-1.0, 0.35, -0.35), 70), ((-0.55, -0.8, -0.4), 62), ((0.55, -0.8, -0.25), 52)):
        along = np.array(direction) + draw.normal(0, 0.12, 3)
        hepatic += _vein(draw, outlet, along / np.linalg.norm(along), draw.uniform(4.2, 6.2), length * wide)
    return Vessels(
        aorta=aorta,
        aortic_branches=branches,
        vena_cava=cava,
        renal_veins=renal,
        portal_vein=main,
        portal_tree=tuple(portal_tree),
        hepatic_veins=tuple(hepatic),
        mesentery=_mesentery(draw, body),
        calcified=bool(draw.random() < 0.3),
    )


def _tree(
    draw: np.random.Generator, start: Vector, direction: Vector, radius: float, length: float, *, depth: int
) -> list[Segment]:
    """A stem and, from its end, two branches that are thinner, shorter and lean away from each other."""
    direction = direction / np.linalg.norm(direction)
    end = start + direction * length * draw.uniform(0.75, 1.2)
    segments = [Segment(point(start), point(end), radius, radius * 0.8)]
    if depth:
        aside = np.cross(direction, draw.normal(0, 1, 3))
        aside /= np.linalg.norm(aside)
        for sign in (-1, 1):
            turned = direction + sign * aside * draw.uniform(0.4, 0.9)
            segments += _tree(draw, end, turned, radius * draw.uniform(0.6, 0.8), length * 0.72, depth=depth - 1)
    return segments


def _vein(draw: np.random.Generator, outlet: Vector, along: Vector, radius: float, length: float) -> list[Segment]:
    """A hepatic vein: a gently bent stem with tributaries."""
    segments, start = [], outlet
    for part in range(4):
        bend = along + draw.normal(0, 0.14, 3)
        end = start + bend / np.linalg.norm(bend) * length / 4
        thick, thin = radius * (1 - 0.2 * part), radius * (0.8 - 0.2 * part)
        segments.append(Segment(point(start), point(end), thick, max(thin, 1.2)))
        if part:
            aside = np.cross(along, draw.normal(0, 1, 3))
            aside = along + aside / np.linalg.norm(aside) * draw.uniform(0.6, 1.1)
            segments += _tree(draw, start, aside, thick * 0.6, length * 0.3, depth=1)
        start = end
    return segments


def _mesentery(draw: np.random.Generator, body: Body) -> tuple[Segment, ...]:
    """Small vessels that fan out in the fat between the bowels."""
    root = np.array([4.0, body.vertebra_front_mm - 36, -70.0])
    segments = []
    for _ in range(26):
        start = root + draw.normal(0, 1, 3) * [26 * body.across, 8, 34]
        way = draw.normal([0, -0.7, -0.6], [0.9, 0.3, 0.5])
        end = start + way / np.linalg.norm(way) * draw.uniform(24, 52)
        segments.append(Segment(point(start), point(end), draw.uniform(1.3, 2.4), 0.9))
    return tuple(segments)


def cava_distance(vessels: Vessels, canvas: Canvas) -> Float:
    """Signed distance to the vena cava, which is no liver where it runs through it."""
    return vessels.vena_cava.distance(canvas.axes)


def paint_great_vessels(canvas: Canvas, vessels: Vessels, contrast: Contrast) -> None:
    """Aorta, vena cava and what leaves them, in the fat before the spine and in the mesentery."""
    mean = contrast.mean
    for segment in vessels.mesentery:
        canvas.paint_shape(segment, mean[Tissue.PORTAL_VEIN], within=canvas.cavity)
    for branch in vessels.renal_veins:
        _paint_tube(canvas, branch, mean[Tissue.VENA_CAVA])
    for branch in vessels.aortic_branches:
        _paint_tube(canvas, branch, mean[Tissue.AORTA])
    if vessels.calcified:
        wall = Tube(vessels.aorta.segments[:2])
        _paint_tube(canvas, wall, mean[Tissue.CALCIUM], margin_mm=0.8, within=_patches(canvas))
    _paint_tube(canvas, vessels.aorta, mean[Tissue.AORTA])


def paint_veins_at_the_liver(canvas: Canvas, vessels: Vessels, contrast: Contrast, liver: Float) -> None:
    """Portal vein, vena cava, and the trees inside the liver."""
    mean = contrast.mean
    _paint_tube(canvas, vessels.portal_vein, mean[Tissue.PORTAL_VEIN])
    within = liver + np.float32(2.0)
    for segment in vessels.hepatic_veins:
        canvas.paint_shape(segment, mean[Tissue.HEPATIC_VEIN], within=within)
    for segment in vessels.portal_tree:
        canvas.paint_shape(segment, mean[Tissue.PORTAL_VEIN], within=within)
    _paint_tube(canvas, vessels.vena_cava, mean[Tissue.VENA_CAVA])


def _paint_tube(
    canvas: Canvas, course: Tube, value: float, *, margin_mm: float = 0.0, within: Float | None = None
) -> None:
    for segment in course.segments:
        canvas.paint_shape(segment, value, margin_mm=margin_mm, within=within)


def _patches(canvas: Canvas) -> Float:
    """Where the wall of the aorta holds plaques: here and there, on one side."""
    x, y, z = canvas.axes.open
    return np.asarray(20 * (np.cos(z / 7.0) * np.sin(x / 3.0 + y / 4.0) - 0.2), dtype=np.float32)
