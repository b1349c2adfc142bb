"""Lesions of the liver: where they lie, their shape, and how they look. Cysts too, which are no tumours."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from models.phantom.canvas import Canvas
from models.phantom.contrast import Contrast, Tissue
from models.phantom.shapes import point
from models.phantom.space import Axes, Float, Point

APART_MM = 8.0
"""The least gap between lesions that are asked to lie apart."""
CONTAINED = 0.8
"""The part of its largest semi-axis that the liver must go on around the centre of a lesion (it may bulge a little)."""
FIRST_LABEL = 2
TRIES = 60
LEAST_DIFFERENCE_HU = 18.0
"""Between a lesion and the liver, or nobody could be asked to find it."""


class Placement(StrEnum):
    """How lesions lie to the liver and to each other."""

    APART = "apart"
    CAPSULE = "capsule"
    MERGED = "merged"


@dataclass(frozen=True)
class Lesion:
    """An ellipsoid with bumps: centre and semi-axes in LPS mm, and how it looks.

    `bumps`: (amplitude, x, y, z, phase) of waves over the directions from the centre. `core`: up to which part of the
    radius it is necrotic; `rim_mm`: how thick its enhancing rim is; both 0 for none.
    """

    centre: Point
    axes: Point
    kind: Tissue = Tissue.METASTASIS
    bumps: tuple[tuple[float, float, float, float, float], ...] = ()
    core: float = 0.0
    rim_mm: float = 0.0
    calcified: bool = False

    def distance(self, x: Float, y: Float, z: Float) -> Float:
        """The normalised radius: 0 at the centre, 1 on the surface."""
        (cx, cy, cz), (ax, ay, az) = self.centre, self.axes
        u, v, w = (x - np.float32(cx)) / ax, (y - np.float32(cy)) / ay, (z - np.float32(cz)) / az
        radius = np.sqrt(u * u + v * v + w * w).astype(np.float32)
        if self.bumps:
            per = 1 / np.maximum(radius, np.float32(0.2))
            wave = np.zeros_like(radius)
            for amplitude, kx, ky, kz, phase in self.bumps:
                wave += np.float32(amplitude) * np.sin((kx * u + ky * v + kz * w) * per + np.float32(phase))
            radius = radius * (1 + wave)
        return np.asarray(radius, dtype=np.float32)

    @property
    def diameter_mm(self) -> float:
        """Twice the largest semi-axis."""
        return 2 * max(self.axes)

    def bounds(self, margin_mm: float) -> tuple[Point, Point]:
        """The corners of a box that holds it with a margin."""
        reach = np.array(self.axes) * (1 + 1.3 * sum(bump[0] for bump in self.bumps)) + margin_mm
        return point(np.array(self.centre) - reach), point(np.array(self.centre) + reach)


@dataclass(frozen=True)
class Wish:
    """Which lesions are asked for.

    `count` None draws it (0 to 6). `axes_mm`: least and greatest semi-axis, between which sizes are drawn
    log-uniformly (each of a lesion's axes then varies by a fifth). `kinds` None draws them. `bumpy` 0 asks for plain
    ellipsoids.

    Raises ValueError for a range that is none.
    """

    count: int | None = None
    axes_mm: tuple[float, float] = (4.0, 25.0)
    placement: Placement = Placement.APART
    kinds: tuple[Tissue, ...] | None = None
    bumpy: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.axes_mm[0] <= self.axes_mm[1]:
            raise ValueError("lesion_axes_mm must be positive, the least semi-axis first")


def place(draw: np.random.Generator, wish: Wish, axes: Axes, liver: Float) -> tuple[Lesion, ...]:
    """The lesions that there is room for, the largest first.

    `liver`: signed distances on `axes`, a grid of the liver's own, so that the place does not depend on the image's.
    """
    count = int(draw.integers(0, 7)) if wish.count is None else wish.count
    spacing = float(axes.x[1] - axes.x[0])
    room = np.asarray(distance_transform_edt(liver < 0), dtype=np.float32) * np.float32(spacing)
    low, high = np.log(wish.axes_mm)
    sizes = np.exp(draw.uniform(low, high, count))
    placed: list[Lesion] = []
    for size in np.sort(sizes)[::-1]:
        lesion = _lesion(draw, float(size), wish)
        centres = _centres(draw, wish.placement, lesion, (room, liver), placed, axes)
        for centre in centres:
            moved = _moved(lesion, centre)
            if wish.placement is Placement.MERGED or all(_apart(moved, other) for other in placed):
                placed.append(moved)
                break
    return tuple(placed)


def _centres(
    draw: np.random.Generator,
    placement: Placement,
    lesion: Lesion,
    space: tuple[Float, Float],
    placed: list[Lesion],
    axes: Axes,
) -> NDArray[np.float64]:
    """(n, 3) LPS mm to try: anywhere with room enough, at the capsule, or touching an earlier one."""
    reach, (room, liver) = max(lesion.axes), space
    if placement is Placement.CAPSULE:
        candidates = np.flatnonzero((liver < -0.2 * reach) & (liver > -0.6 * reach))
    else:
        candidates = np.flatnonzero(room > CONTAINED * reach)
    if not len(candidates) and reach > 25:  # a tumour that fills a lobe: where there is most room
        candidates = np.flatnonzero(room > 0.9 * room.max())
    if not len(candidates):
        return np.empty((0, 3))
    chosen = candidates[draw.integers(len(candidates), size=TRIES)]
    z, y, x = np.unravel_index(chosen, room.shape)
    centres = np.stack([axes.x[x], axes.y[y], axes.z[z]], axis=-1).astype(np.float64)
    centres += draw.uniform(-0.5, 0.5, centres.shape) * float(axes.x[1] - axes.x[0])
    if placement is Placement.MERGED and placed:
        near = np.linalg.norm(centres - np.array(placed[0].centre), axis=1)
        centres = centres[np.argsort(np.abs(near - 0.85 * (reach + max(placed[0].axes))))[:1]]
    return centres


def _lesion(draw: np.random.Generator, size: float, wish: Wish) -> Lesion:
    """A lesion of this size about the origin."""
    kinds = wish.kinds or (Tissue.METASTASIS, Tissue.CARCINOMA, Tissue.HAEMANGIOMA)
    likely = np.array([0.74, 0.18, 0.08]) if wish.kinds is None else np.full(len(kinds), 1 / len(kinds))
    kind = kinds[int(draw.choice(len(kinds), p=likely))]
    semi = size * draw.uniform(0.8, 1.2, 3)
    large = size > 9
    bumps = []
    for wave in range(4):
        k = draw.normal(0, 1.6 + 0.5 * wave, 3)
        amplitude = wish.bumpy * draw.uniform(0.02, 0.10)
        bumps.append((float(amplitude), *point(k), float(draw.uniform(0, 2 * np.pi))))
    necrotic = large and kind is not Tissue.HAEMANGIOMA and draw.random() < 0.4
    core = draw.uniform(0.3, 0.75)
    ringed = size > 6 and draw.random() < 0.25
    rim = min(0.15 * size, draw.uniform(1.5, 4.0))
    return Lesion(
        centre=(0.0, 0.0, 0.0),
        axes=point(semi),
        kind=kind,
        bumps=tuple(bumps) if wish.bumpy else (),
        core=float(core) if necrotic else 0.0,
        rim_mm=float(rim) if ringed else 0.0,
        calcified=bool(large and draw.random() < 0.08),
    )


def _moved(lesion: Lesion, centre: NDArray[np.float64]) -> Lesion:
    return Lesion(point(centre), lesion.axes, lesion.kind, lesion.bumps, lesion.core, lesion.rim_mm, lesion.calcified)


def _apart(one: Lesion, two: Lesion) -> bool:
    gap = float(np.linalg.norm(np.subtract(one.centre, two.centre)))
    return gap > max(one.axes) + max(two.axes) + APART_MM


def difference(lesion: Lesion, contrast: Contrast) -> float:
    """How much brighter than the liver it is; at least visibly so."""
    apart = contrast.mean[lesion.kind] - contrast.mean[Tissue.LIVER]
    if abs(apart) < LEAST_DIFFERENCE_HU:
        return float(np.copysign(LEAST_DIFFERENCE_HU * 1.4, -1.0 if lesion.kind is Tissue.METASTASIS else apart))
    return float(apart)


def paint_lesion(canvas: Canvas, lesion: Lesion, contrast: Contrast, liver: Float, texture: Float) -> None:
    """A lesion with its rim, core and calcifications, inside the liver alone."""
    window = canvas.axes.window(*lesion.bounds(4.0))
    if window is None:
        return
    size = np.float32(min(lesion.axes))
    radius = lesion.distance(*canvas.axes.part(window).open)
    within = liver[window]
    surface = np.maximum((radius - 1) * size, within)
    base = contrast.mean[Tissue.LIVER]
    grain = texture[window]
    value = base + difference(lesion, contrast) + contrast.grain.get(lesion.kind, 0) * grain
    _soft(canvas, surface, value, window)
    if lesion.rim_mm:
        shell = np.abs(surface + np.float32(lesion.rim_mm / 2)) - np.float32(lesion.rim_mm / 2)
        _soft(canvas, shell, contrast.mean[Tissue.RIM], window)
    if lesion.kind is Tissue.HAEMANGIOMA:  # nodules of contrast medium at its margin (Bosniak's "puddles")
        nodules = np.maximum(surface, (np.float32(0.72) - radius) * size) + 3.0 * np.maximum(0.6 - grain, 0)
        canvas.paint(nodules.astype(np.float32), 0.85 * contrast.mean[Tissue.AORTA], window)
    if lesion.core:
        core = (radius - np.float32(lesion.core)) * size + np.float32(1.5) * grain
        _soft(canvas, core, contrast.mean[Tissue.NECROSIS], window)
    if lesion.calcified:
        specks = np.maximum((radius - np.float32(0.6)) * size, (np.float32(1.5) - grain) * 3)
        canvas.paint(specks, contrast.mean[Tissue.CALCIUM], window)


def _soft(canvas: Canvas, distance: Float, value: Float | float, window: tuple[slice, slice, slice]) -> None:
    """Paint with an edge of 2.5 mm: a tumour grows into its surroundings."""
    values = canvas.values[window]
    cover = np.clip(np.float32(0.5) - distance * np.float32(1 / max(canvas.edge_mm, 2.5)), 0, 1)
    values += cover * (np.asarray(value, dtype=np.float32) - values)


def mark(lesions: tuple[Lesion, ...], axes: Axes, in_liver: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """(slice, row, column) number of the lesion, from 1, that a voxel of the liver belongs to; else 0.

    Where two overlap, the one to whose centre it lies nearer in terms of its radius.
    """
    numbers = np.zeros(axes.shape, dtype=np.uint8)
    nearest = np.ones(axes.shape, dtype=np.float32)
    for number, lesion in enumerate(lesions, start=1):
        window = axes.window(*lesion.bounds(1.0))
        if window is not None:
            radius = lesion.distance(*axes.part(window).open)
            closer = (radius < nearest[window]) & in_liver[window]
            numbers[window][closer] = number
            nearest[window][closer] = radius[closer]
    return numbers
