"""Spine and ribs."""

from dataclasses import dataclass

import numpy as np

from models.phantom.body import Body
from models.phantom.canvas import Canvas
from models.phantom.contrast import Contrast, Tissue
from models.phantom.shapes import Ellipsoid, common
from models.phantom.space import Float

VERTEBRA_MM, DISC_MM = 33.0, 8.0
RIB_ENDS = np.array([0.0, 0.30, 0.50, 0.90, 1.0])
"""How far round (0 at the back, 1 in front) the ribs reach, from below the last one upward."""
CARTILAGE_FROM = 0.70


@dataclass(frozen=True)
class Skeleton:
    """Where vertebrae and ribs lie: their spacings and the height of one of each, in mm."""

    vertebra_mm: float
    disc_at_mm: float
    scoliosis_mm: float
    rib_mm: float
    last_rib_mm: float
    rib_drop_mm: float


def draw_skeleton(draw: np.random.Generator, body: Body) -> Skeleton:
    """A spine and ribs for a trunk."""
    return Skeleton(
        vertebra_mm=VERTEBRA_MM * draw.uniform(0.9, 1.08),
        disc_at_mm=draw.uniform(0, VERTEBRA_MM),
        scoliosis_mm=draw.normal(0, 3),
        rib_mm=draw.uniform(23, 28),
        last_rib_mm=draw.uniform(-12, 14),
        rib_drop_mm=draw.uniform(70, 105) * body.across,
    )


def paint_ribs(canvas: Canvas, skeleton: Skeleton, contrast: Contrast) -> None:
    """Oblique bands in the chest wall, all alike and a constant distance apart; cartilage in front."""
    turn = canvas.outline.turn
    fall = np.where(turn < CARTILAGE_FROM, np.sin(np.minimum(turn / CARTILAGE_FROM, 1) * np.pi / 2), 0)
    rise = np.where(turn < CARTILAGE_FROM, 0, 1 - 1.1 * (turn - CARTILAGE_FROM) / (1 - CARTILAGE_FROM))
    level = canvas.axes.open[2] + np.float32(skeleton.rib_drop_mm) * (fall + rise).astype(np.float32)
    level = (level - np.float32(skeleton.last_rib_mm)) / np.float32(skeleton.rib_mm)
    number = np.rint(level)
    reach = RIB_ENDS[np.clip(number.astype(np.int8) + 1, 0, len(RIB_ENDS) - 1)].astype(np.float32)
    up = (level - number) * np.float32(skeleton.rib_mm * 0.95)
    out = canvas.cavity - np.float32(5.5)
    near = np.sqrt((out / np.float32(3.3)) ** 2 + (up / np.float32(6.2)) ** 2)
    rib = np.maximum((near - 1) * np.float32(3.6), (turn - reach) * np.float32(200))
    # ribs turn in to the vertebrae: near the midline the wall holds none
    rib = np.maximum(rib, (np.float32(0.11) - turn) * np.float32(200))
    front = turn > CARTILAGE_FROM
    canvas.paint(rib, np.where(front, contrast.mean[Tissue.CARTILAGE], contrast.mean[Tissue.CORTEX]))
    canvas.paint(rib + np.float32(1.6) + 90 * front, contrast.mean[Tissue.MARROW])


def paint_sternum(canvas: Canvas, body: Body, contrast: Contrast) -> None:
    """The xiphoid and the body of the breastbone, above the upper abdomen."""
    bone = Ellipsoid((0.0, -body.depth_mm - 5, 150.0), (17.0, 7.0, 85.0))
    canvas.paint_shape(bone, contrast.mean[Tissue.CORTEX])
    canvas.paint_shape(bone, contrast.mean[Tissue.MARROW], margin_mm=-2.0)


def paint_spine(canvas: Canvas, skeleton: Skeleton, body: Body, contrast: Contrast, texture: Float) -> None:
    """Bodies with discs between them, the canal, arches, spinous and transverse processes."""
    centre = body.spine_mm
    window = canvas.axes.window((-62.0, centre - 24, -1e4), (62.0, centre + 72, 1e4))
    if window is None:
        return
    axes = canvas.axes.part(window)
    x, y, z = axes.open
    x = np.asarray(x - np.float32(skeleton.scoliosis_mm) * np.sin(z / 90), dtype=np.float32)
    along = np.mod(z - skeleton.disc_at_mm, skeleton.vertebra_mm)  # from a disc's middle to the next one's
    half = np.minimum(along, skeleton.vertebra_mm - along)
    waist = 1 - 0.10 * np.clip((half - DISC_MM / 2) / (skeleton.vertebra_mm / 2), 0, 1)
    body_of = (np.sqrt((x / 22) ** 2 + ((y - centre) / 16.5) ** 2) - waist) * 18
    canal = np.hypot(x / 1.15, y - centre - 24) - 8.0
    body_of = common(body_of.astype(np.float32), -(canal + 1).astype(np.float32), 4.0)
    disc = half - np.float32(DISC_MM / 2)
    bone = contrast.mean[Tissue.CORTEX]
    marrow = contrast.mean[Tissue.MARROW] + contrast.grain.get(Tissue.MARROW, 0) * texture[window]
    # pedicles and laminae, in the upper half of each vertebra; spinous processes hang lower
    arch = np.maximum(np.abs(canal - 4.0) - 3.2, np.abs(along - skeleton.vertebra_mm * 0.60) - 9)
    spinous = np.maximum(np.abs(x) - 3.4, np.maximum(np.abs(y - centre - 46) - 13, np.abs(half - 9) - 7))
    lateral = np.hypot(y - centre - 26 + 0.12 * np.abs(x), along - skeleton.vertebra_mm * 0.62) - 5.0
    transverse = np.maximum(lateral, np.abs(np.abs(x) - 25) - 17)
    for shape in (arch, spinous, transverse):
        canvas.paint(shape.astype(np.float32), bone, window)
        canvas.paint((shape + 2.0).astype(np.float32), contrast.mean[Tissue.MARROW], window)
    canvas.paint(body_of, bone, window)
    canvas.paint(body_of + np.float32(1.5), np.where(disc < 1.5, bone * 0.8, marrow), window)
    canvas.paint(np.maximum(body_of - np.float32(0.5), disc), contrast.mean[Tissue.DISC], window)
    canvas.paint(canal.astype(np.float32), contrast.mean[Tissue.CORD], window)


def muscles(body: Body) -> tuple[Ellipsoid, ...]:
    """The psoas muscles beside the lumbar spine and the crura of the diaphragm before it."""
    side, front = body.spine_mm + 4, body.vertebra_front_mm
    psoas = [Ellipsoid((sign * 37.0, side, -150.0), (17.0, 19.0, 125.0)) for sign in (-1, 1)]
    square = [Ellipsoid((sign * 66 * body.across, side + 18, -130.0), (22.0, 10.0, 95.0)) for sign in (-1, 1)]
    crura = [
        Ellipsoid((-9.0, front - 3, 10.0), (7.0, 13.0, 80.0)),
        Ellipsoid((20.0, front - 2, 10.0), (6.0, 13.0, 80.0)),
    ]
    return (*psoas, *square, *crura)
