"""Organs beside the liver: spleen, kidneys with their adrenals, pancreas, gallbladder, stomach, heart and lungs."""

from dataclasses import dataclass, field

import numpy as np

from models.phantom.body import Body
from models.phantom.canvas import Canvas
from models.phantom.contrast import Contrast, Tissue
from models.phantom.liver import Liver
from models.phantom.shapes import Ellipsoid, Tube, common, tube, without
from models.phantom.space import Float, SmoothField, smooth_field

BEND_MM = 2.5


@dataclass(frozen=True, eq=False)
class Kidney:
    """A bean: its body, the fat of its sinus with the pelvis in it, and the medulla's pyramids as a rosette."""

    body: Ellipsoid
    sinus: Ellipsoid
    pelvis: Ellipsoid
    lean: float
    pyramids: int


@dataclass(frozen=True, eq=False)
class Organs:
    """The organs of one patient; `level_mm` is where gas and fluid meet in the stomach (y: the patient lies supine);
    `effusion_mm`: how high fluid stands in the pleura."""

    spleen: Ellipsoid
    hilum: Ellipsoid
    kidneys: tuple[Kidney, Kidney]
    adrenals: tuple[Tube, Tube]
    pancreas: Tube
    gallbladder: Ellipsoid | None
    stomach: Tube
    level_mm: float
    heart: Ellipsoid
    effusion_mm: float
    chambers: tuple[Ellipsoid, ...]
    bend: SmoothField = field(repr=False)


def draw_organs(draw: np.random.Generator, body: Body, liver: Liver) -> Organs:
    """Organs where they usually lie, each of another size."""
    wide, deep, front = body.across, body.deep, body.vertebra_front_mm
    high = draw.uniform(4, 34)
    spleen_size = draw.uniform(0.8, 1.25)
    spleen = Ellipsoid(
        (94 * wide, 44 * deep, high), (38 * spleen_size, 50 * spleen_size * deep, draw.uniform(46, 66) * spleen_size)
    )
    hilum = Ellipsoid((54 * wide, 30 * deep, high - 6), (34 * wide, 40 * deep, 62))
    gallbladder_x, gallbladder_y = draw.uniform(-46, -28) * wide, draw.uniform(-52, -34) * deep
    size = draw.uniform(9, 19)
    gallbladder = Ellipsoid(
        (gallbladder_x, gallbladder_y, liver.floor_at(gallbladder_x, gallbladder_y) - 0.35 * size),
        (size, size * draw.uniform(1.1, 1.8), size * draw.uniform(1.2, 1.9)),
    )
    fundus = np.array([64 * wide, 8 * deep, draw.uniform(32, 48)])
    full = draw.uniform(0.62, 1.15)
    stomach = tube(
        ((float(fundus[0]), float(fundus[1]), float(fundus[2])), 36 * full),
        ((70 * wide, -18 * deep, 12.0), 31 * full),
        ((56 * wide, -40 * deep, draw.uniform(-30, -12)), 25 * full),
        ((24 * wide, -52 * deep, draw.uniform(-58, -40)), 19 * full),
        ((-14 * wide, -46 * deep, draw.uniform(-50, -38)), 13 * full),
    )
    neck = (2.0, front - 34, -26.0 + draw.normal(0, 4))
    pancreas = tube(
        ((-30 * wide, front - 26, neck[2] - 26), 15.0),
        ((-20 * wide, front - 34, neck[2] - 6), 13.0),
        (neck, 9.0),
        ((34 * wide, front - 26, neck[2] + 16), 11.0),
        ((68 * wide, front + 4, neck[2] + 28), 10.0),
    )
    low = draw.uniform(-52, -30)
    right, left = (
        _kidney(draw, sign * draw.uniform(54, 62) * wide, body.spine_mm - draw.uniform(0, 8), low + offset)
        for sign, offset in ((-1, 0.0), (1, draw.uniform(4, 22)))
    )
    top = right.body.centre[2] + right.body.axes[2]
    left_top = left.body.centre[2] + left.body.axes[2]
    adrenals = (
        tube(((-30.0 * wide, front + 2, top + 22), 2.0), ((-36.0 * wide, front + 20, top + 2), 2.6)),
        tube(((30.0 * wide, front - 6, left_top + 12), 2.6), ((38.0 * wide, front + 16, left_top - 4), 2.2)),
    )
    apex = max(body.dome_mm) + 24
    heart = Ellipsoid((26 * wide, -26 * deep, apex + 22), (62 * wide, 50 * deep, 52))
    chambers = (
        Ellipsoid((46 * wide, -14 * deep, apex + 20), (26, 22, 34)),
        Ellipsoid((8 * wide, -44 * deep, apex + 18), (32, 20, 32)),
        Ellipsoid((-14 * wide, -8 * deep, apex + 26), (20, 24, 32)),
    )
    return Organs(
        spleen=spleen,
        hilum=hilum,
        kidneys=(right, left),
        adrenals=adrenals,
        pancreas=pancreas,
        gallbladder=gallbladder if draw.random() < 0.9 else None,
        stomach=stomach,
        level_mm=float(fundus[1]) - draw.uniform(2, 34) * full,
        heart=heart,
        effusion_mm=draw.uniform(12, 45) if draw.random() < 0.12 else 0.0,
        chambers=chambers,
        bend=smooth_field(draw, 26.0),
    )


def _kidney(draw: np.random.Generator, x: float, y: float, z: float) -> Kidney:
    size, sign = draw.uniform(0.88, 1.1), 1.0 if x > 0 else -1.0
    body = Ellipsoid((x, y, z), (27 * size, 29 * size, 54 * size))
    sinus = Ellipsoid((x - sign * 15 * size, y - 6, z), (18 * size, 13 * size, 28 * size))
    pelvis = Ellipsoid((x - sign * 16 * size, y - 5, z), (10 * size, 6 * size, 12 * size))
    return Kidney(body, sinus, pelvis, lean=sign * draw.uniform(0.10, 0.28), pyramids=int(draw.integers(6, 10)))


def paint_chest(canvas: Canvas, organs: Organs, body: Body, contrast: Contrast, texture: Float, fine: Float) -> None:
    """Lungs with their vessels, the mediastinum, and the heart on the diaphragm."""
    if float(canvas.axes.z[-1]) < float(canvas.outline.dome.min()):
        return
    mean = contrast.mean
    chest = np.maximum(canvas.cavity + np.float32(1.0), -canvas.dome)
    vessels = np.clip((texture + 0.35 * fine - 2.0) * 2.5, 0, 1) * (mean[Tissue.MUSCLE] - mean[Tissue.LUNG]) * 0.85
    canvas.paint(chest, mean[Tissue.LUNG] + contrast.grain.get(Tissue.LUNG, 0) * texture + vessels)
    x, y, _ = canvas.axes.open
    hollow = 18 + 10 * np.clip((y - 10) / 60, -1, 1)
    mediastinum = np.maximum(np.maximum(np.abs(x - 4) - hollow, -y - 42 * body.deep).astype(np.float32), chest)
    canvas.paint(mediastinum, mean[Tissue.FAT])
    if organs.effusion_mm:
        fluid = np.maximum(chest, np.float32(body.depth_mm - organs.effusion_mm) - y + 0 * x)
        canvas.paint(fluid, mean[Tissue.GUT_FLUID] if mean[Tissue.GUT_FLUID] < 100 else mean[Tissue.BILE])
    above = np.maximum(canvas.cavity + 2, -canvas.dome + 1)
    canvas.paint_shape(organs.heart, mean[Tissue.FAT], within=above, margin_mm=7.0)
    canvas.paint_shape(organs.heart, mean[Tissue.MYOCARDIUM], within=above)
    for chamber in organs.chambers:
        canvas.paint_shape(chamber, mean[Tissue.HEART_BLOOD], within=above)


def paint_organs(canvas: Canvas, organs: Organs, contrast: Contrast, texture: Float, bend: Float) -> None:
    """All organs under the diaphragm but the liver."""
    mean = contrast.mean
    inside = np.maximum(canvas.cavity + np.float32(2.0), canvas.dome + np.float32(2.0))
    for kidney in organs.kidneys:
        _paint_kidney(canvas, kidney, contrast, bend)
    for adrenal in organs.adrenals:
        canvas.paint_shape(adrenal, mean[Tissue.SPLEEN] * 0.75, within=inside)
    window = canvas.axes.window(*organs.pancreas.bounds(8.0))
    if window is not None:
        axes = canvas.axes.part(window)
        lobules = np.float32(2.2) * texture[window] + np.float32(1.5) * bend[window]
        distance = organs.pancreas.distance(axes, 6.0) + lobules
        grain = contrast.grain.get(Tissue.PANCREAS, 0) * texture[window]
        canvas.paint(np.maximum(distance, inside[window]), mean[Tissue.PANCREAS] - grain, window)
    _paint_spleen(canvas, organs, contrast, texture, bend, inside)
    _paint_stomach(canvas, organs, contrast, texture, bend, inside)


def paint_gallbladder(canvas: Canvas, organs: Organs, contrast: Contrast) -> None:
    """Bile in a thin wall; it lies in its bed under the liver."""
    if organs.gallbladder is not None:
        canvas.paint_shape(organs.gallbladder, contrast.mean[Tissue.GUT_WALL], margin_mm=1.5)
        canvas.paint_shape(organs.gallbladder, contrast.mean[Tissue.BILE])


def _paint_spleen(
    canvas: Canvas, organs: Organs, contrast: Contrast, texture: Float, bend: Float, inside: Float
) -> None:
    window = canvas.axes.window(*organs.spleen.bounds(8.0))
    if window is None:
        return
    axes = canvas.axes.part(window)
    shape = organs.spleen.distance(axes) + np.float32(BEND_MM) * bend[window]
    shape = common(shape, inside[window] + np.float32(2.5), 8.0)
    shape = without(shape, organs.hilum.distance(axes) + np.float32(2.0) * bend[window], 10.0)
    value = contrast.mean[Tissue.SPLEEN] + contrast.grain.get(Tissue.SPLEEN, 0) * texture[window]
    canvas.paint(shape, value, window)


def _paint_kidney(canvas: Canvas, kidney: Kidney, contrast: Contrast, bend: Float) -> None:
    """Cortex, pyramids that show while the cortex is brighter, sinus fat and the pelvis."""
    window = canvas.axes.window(*kidney.body.bounds(14.0))
    if window is None:
        return
    axes, mean = canvas.axes.part(window), contrast.mean
    x, y, z = axes.open
    cx, cy, cz = kidney.body.centre
    moved = x - np.float32(kidney.lean) * (cz - z)  # the lower pole lies further from the spine
    moved, depth = np.broadcast_arrays(moved, y - np.float32(0.15) * (cz - z))
    bumps = np.float32(1.6) * bend[window]
    outer = (kidney.body.radius(moved, depth, z) - 1) * np.float32(28.0) + bumps
    sinus = (kidney.sinus.radius(moved, depth, z) - 1) * np.float32(14.0) + bumps
    pelvis = (kidney.pelvis.radius(moved, depth, z) - 1) * np.float32(8.0)
    angle = np.arctan2(depth - cy, (moved - cx) * np.sign(cx))
    rosette = np.cos(kidney.pyramids * angle) * np.cos((z - cz) * np.float32(np.pi / 17))
    medulla = np.maximum(np.maximum(outer + np.float32(7.0), -sinus + np.float32(1.5)), np.float32(-4.0) * rosette - 1)
    canvas.paint(outer, mean[Tissue.KIDNEY_CORTEX], window)
    canvas.paint(medulla, mean[Tissue.KIDNEY_MEDULLA], window)
    canvas.paint(sinus, mean[Tissue.FAT] * 0.9 if contrast.is_ct else mean[Tissue.FAT], window)
    canvas.paint(pelvis, mean[Tissue.URINE], window)


def _paint_stomach(
    canvas: Canvas, organs: Organs, contrast: Contrast, texture: Float, bend: Float, inside: Float
) -> None:
    """A wall with folds, what was eaten or drunk, and gas in front of it."""
    window = canvas.axes.window(*organs.stomach.bounds(8.0))
    if window is None:
        return
    axes, mean = canvas.axes.part(window), contrast.mean
    shape = organs.stomach.distance(axes, 16.0) + np.float32(BEND_MM) * bend[window]
    shape = common(shape, inside[window] + np.float32(3.0), 8.0)
    folds = shape + np.float32(4.0) + np.float32(1.3) * texture[window]
    level = axes.open[1] - np.float32(organs.level_mm)
    content = mean[Tissue.GUT_FLUID] + contrast.grain.get(Tissue.GUT_FLUID, 0) * texture[window]
    canvas.paint(shape, mean[Tissue.GUT_WALL], window)
    canvas.paint(folds, content, window)
    canvas.paint(np.maximum(folds, level), mean[Tissue.GAS], window)
