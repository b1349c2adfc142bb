"""An abdomen that never lived: body wall, ribs, spine, lungs, organs, and a liver with lesions whose truth is known.

Every surface is an analytic function of the patient position, drawn from a seed, so that one phantom can be sampled
on any grid. Coordinates are LPS mm with the origin in the middle of the abdomen. Pure numpy; no patient is involved.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_io.geometry import Geometry
from dicom_io.uids import derive_uid
from dicom_io.volume import Volume

Float = NDArray[np.float32]

TRAINING_SEEDS = range(0, 1_000_000)
"""Seeds that training may draw; the demonstration and the tests take theirs from above."""
DEMO_SEED = 1_000_007

LIVER, LESION = 1, 2
AIR_HU, FAT_HU, MUSCLE_HU, BONE_HU, LUNG_HU = -1000.0, -100.0, 55.0, 330.0, -850.0


@dataclass(frozen=True)
class Ellipsoid:
    """Centre and semi-axes in LPS mm."""

    centre: tuple[float, float, float]
    axes: tuple[float, float, float]

    def distance(self, x: Float, y: Float, z: Float) -> Float:
        """0 at the centre, 1 on the surface, of the normalised radius."""
        (cx, cy, cz), (ax, ay, az) = self.centre, self.axes
        distance: Float = np.sqrt(((x - cx) / ax) ** 2 + ((y - cy) / ay) ** 2 + ((z - cz) / az) ** 2)
        return distance


@dataclass(frozen=True, eq=False)
class Phantom:
    """A volume with its truth: 0 background, 1 liver, 2 every lesion; `lesions` from large to small."""

    volume: Volume
    truth: NDArray[np.uint8]
    lesions: tuple[Ellipsoid, ...]


def grid(*, slices: int, rows: int, columns: int, spacing_mm: tuple[float, float, float], seed: int) -> Geometry:
    """A transverse grid (slice, row, column) centred on the abdomen."""
    step, row_mm, column_mm = spacing_mm
    centre = (np.array([columns, rows, slices]) - 1) / 2 * np.array([column_mm, row_mm, step])
    origins = -centre + np.arange(slices)[:, None] * np.array([0.0, 0.0, step])
    return Geometry(
        origins_lps_mm=origins,
        row_cosines=np.array([1.0, 0.0, 0.0]),
        column_cosines=np.array([0.0, 1.0, 0.0]),
        row_spacing_mm=row_mm,
        column_spacing_mm=column_mm,
        rows=rows,
        columns=columns,
        frame_of_reference_uid=derive_uid("phantom-frame", seed),
        slice_spacing_mm=step,
    )


def make_phantom(
    geometry: Geometry,
    *,
    seed: int,
    lesions: int | None = None,
    noise_hu: float = 12.0,
    lesion_axes_mm: tuple[float, float] = (4.0, 25.0),
) -> Phantom:
    """The abdomen of `seed` on a transverse `geometry`; `lesions` None draws their number (0 to 6).

    `lesion_axes_mm`: least and greatest semi-axis of a lesion, between which the sizes are drawn log-uniformly
    (each lesion's three axes then vary by a fifth about its size). Lesions for which the liver has no room are left
    out: `Phantom.lesions` are those that were placed. Raises ValueError for a range that is none.
    """
    if not 0 < lesion_axes_mm[0] <= lesion_axes_mm[1]:
        raise ValueError("lesion_axes_mm must be positive, the least semi-axis first")
    draw = np.random.default_rng(seed)
    x, y, z = _axes(geometry)
    hu = np.full(geometry.shape, AIR_HU, dtype=np.float32)
    warp = _Warp(draw, amplitude_mm=7.0)

    half_width, half_depth = draw.uniform(145, 185), draw.uniform(98, 130)
    fat, wall = draw.uniform(8, 32), draw.uniform(10, 16)
    body = _tube(x, y, half_width, half_depth)
    inside = body < 1
    hu[...] = np.where(inside, FAT_HU + draw.normal(0, 6), hu)
    muscle = _tube(x, y, half_width - fat, half_depth - fat)
    in_muscle = np.broadcast_to(muscle < 1, hu.shape)
    hu[in_muscle] = MUSCLE_HU + draw.normal(0, 8)
    cavity = _tube(x, y, half_width - fat - wall, half_depth - fat - wall)
    in_cavity = np.broadcast_to(cavity < 1, hu.shape)
    hu[in_cavity] = -90.0
    bowel = warp.texture(x, y, z, wavelength_mm=28.0)
    hu[in_cavity & (bowel > 0.0)] = draw.uniform(15, 45)
    hu[in_cavity & (bowel > 0.9)] = draw.choice([-700.0, 120.0, 30.0])
    _ribs(hu, x, y, z, in_muscle & ~in_cavity, draw)

    blood, phase = draw.uniform(45, 210), draw.uniform(0, 1)
    wx, wy, wz = x + warp.along(x, y, z, 0), y + warp.along(x, y, z, 1), z + warp.along(x, y, z, 2)
    scale = (half_width - fat) / 145
    dome = _dome(x, y, draw, scale)

    def paint(shape: Float, value: float, where: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        mask = (shape < 1) & in_cavity & (z < dome)
        if where is not None:
            mask &= where
        hu[mask] = value
        return mask

    spleen = Ellipsoid((100 * scale, 48, draw.uniform(0, 30)), tuple(draw.uniform([26, 34, 40], [42, 52, 66])))
    stomach = Ellipsoid((62 * scale, -28, draw.uniform(5, 35)), tuple(draw.uniform([35, 28, 35], [52, 46, 60])))
    paint(stomach.distance(wx, wy, wz), draw.uniform(5, 60))
    gas = Ellipsoid(stomach.centre, (stomach.axes[0] * 0.8, stomach.axes[1] * 0.8, stomach.axes[2] * 0.8))
    paint(gas.distance(wx, wy, wz), -800.0, np.broadcast_to(y < stomach.centre[1] - 8, hu.shape))
    paint(spleen.distance(wx, wy, wz), draw.uniform(50, 150))
    for side in (-1, 1):
        kidney = Ellipsoid((side * 62 * scale, 52, draw.uniform(-85, -45)), (28, 30, 55))
        shape = kidney.distance(wx, wy, wz)
        paint(shape, draw.uniform(40, 210))
        paint(shape * 2.2, draw.uniform(0, 60))

    liver_hu = draw.uniform(50, 75) + phase * draw.uniform(20, 60)
    in_liver = _liver(wx, wy, wz, draw, scale) & in_cavity & (z < dome - 3) & (hu < 300)
    hu[in_liver] = liver_hu
    hu[in_liver] += 4 * warp.texture(x, y, z, wavelength_mm=60.0)[in_liver]
    vessel_hu = liver_hu + draw.uniform(-8, 60) * phase
    for _ in range(draw.integers(5, 10)):
        hu[in_liver & _vessel(x, y, z, draw, scale)] = vessel_hu
    gallbladder = Ellipsoid((-38 * scale, -42, -48), tuple(draw.uniform([12, 12, 18], [20, 20, 32])))
    outside = gallbladder.distance(wx, wy, wz) < 1
    hu[outside & in_cavity] = draw.uniform(-2, 18)
    in_liver &= ~outside
    _spine_and_great_vessels(hu, x, y, half_depth - fat, blood, draw)
    in_liver &= ~_great_vessel(x, y, half_depth - fat)
    _lungs(hu, x, y, z, in_cavity & (z >= dome), scale, blood, draw)

    truth = in_liver.astype(np.uint8)
    count = int(draw.integers(0, 7)) if lesions is None else lesions
    placed = _place_lesions(in_liver, geometry, draw, count, lesion_axes_mm)
    for lesion in placed:
        contrast = draw.uniform(-75, -28) if draw.random() < 0.85 else draw.uniform(35, 80)
        _insert(hu, truth, lesion, contrast + liver_hu, (x, y, z), draw)
    hu += noise_hu * _grain(geometry.shape, draw)
    array = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    volume = Volume(array=array, geometry=geometry, modality="CT", series_instance_uid=derive_uid("phantom", seed))
    return Phantom(volume, truth, tuple(placed))


def _axes(geometry: Geometry) -> tuple[Float, Float, Float]:
    """LPS x (1, 1, column), y (1, row, 1) and z (slice, 1, 1) of a transverse grid's voxel centres."""
    if not np.allclose(geometry.row_cosines, [1, 0, 0]) or not np.allclose(geometry.column_cosines, [0, 1, 0]):
        raise ValueError("phantoms are sampled on transverse grids")
    x = geometry.origins_lps_mm[0, 0] + np.arange(geometry.columns) * geometry.column_spacing_mm
    y = geometry.origins_lps_mm[0, 1] + np.arange(geometry.rows) * geometry.row_spacing_mm
    z = geometry.origins_lps_mm[:, 2]
    return (
        x.astype(np.float32)[None, None, :],
        y.astype(np.float32)[None, :, None],
        z.astype(np.float32)[:, None, None],
    )


class _Warp:
    """Smooth random displacements: sums of plane waves, so that they do not depend on the grid."""

    def __init__(self, draw: np.random.Generator, *, amplitude_mm: float) -> None:
        self.amplitude_mm = amplitude_mm
        self.waves = draw.normal(0, 1, (3, 4, 3)) * (2 * np.pi / draw.uniform(70, 200, (3, 4, 1)))
        self.phases = draw.uniform(0, 2 * np.pi, (3, 4))
        self.texture_waves = draw.normal(0, 1, (6, 3))
        self.texture_phases = draw.uniform(0, 2 * np.pi, 6)

    def along(self, x: Float, y: Float, z: Float, axis: int) -> Float:
        return self._sum(x, y, z, self.waves[axis], self.phases[axis]) * np.float32(self.amplitude_mm / 2)

    def texture(self, x: Float, y: Float, z: Float, *, wavelength_mm: float) -> Float:
        """About -1 to 1, varying over `wavelength_mm`."""
        waves = self.texture_waves * (2 * np.pi / wavelength_mm / 1.7)
        return self._sum(x, y, z, waves, self.texture_phases) * np.float32(0.6)

    @staticmethod
    def _sum(x: Float, y: Float, z: Float, waves: NDArray[np.float64], phases: NDArray[np.float64]) -> Float:
        # sin(a + b + c) from one-dimensional factors: three broadcast products instead of a sine per voxel
        total = np.zeros(np.broadcast_shapes(x.shape, y.shape, z.shape), dtype=np.float32)
        for (kx, ky, kz), phase in zip(waves, phases, strict=True):
            plane = np.exp(1j * (kx * x + ky * y + phase)).astype(np.complex64)
            along = np.exp(1j * (kz * z)).astype(np.complex64)
            total += plane.imag * along.real + plane.real * along.imag
        return total


def _tube(x: Float, y: Float, half_width: float, half_depth: float) -> Float:
    radius: Float = np.abs(x / half_width) ** 2.4 + np.abs(y / half_depth) ** 2.4
    return radius


def _dome(x: Float, y: Float, draw: np.random.Generator, scale: float) -> Float:
    """Height of the diaphragm (1, row, column): two domes, the right one higher."""
    right = draw.uniform(75, 95) - ((x + 70 * scale) ** 2 / 160 + y**2 / 190)
    left = draw.uniform(60, 80) - ((x - 75 * scale) ** 2 / 160 + y**2 / 190)
    return np.maximum(np.maximum(right, left), -40).astype(np.float32)


def _liver(x: Float, y: Float, z: Float, draw: np.random.Generator, scale: float) -> NDArray[np.bool_]:
    """Right and left lobe, joined smoothly, cut by the dome elsewhere."""
    right = Ellipsoid(
        (-72 * scale, draw.uniform(-4, 12), draw.uniform(-10, 10)),
        (draw.uniform(62, 84) * scale, draw.uniform(68, 88), draw.uniform(72, 105)),
    )
    left = Ellipsoid(
        (draw.uniform(-15, 25) * scale, draw.uniform(-52, -36), draw.uniform(15, 35)),
        (draw.uniform(50, 90) * scale, draw.uniform(26, 42), draw.uniform(30, 55)),
    )
    joined = np.exp(-4 * right.distance(x, y, z)) + np.exp(-4 * left.distance(x, y, z))
    return np.asarray(joined > np.exp(-4.0))


def _vessel(x: Float, y: Float, z: Float, draw: np.random.Generator, scale: float) -> NDArray[np.bool_]:
    """A straight branch from the hilum."""
    hilum = np.array([-25 * scale, -5.0, 5.0])
    direction = draw.normal([-1.0, 0.0, 0.3], 0.8)
    direction /= np.linalg.norm(direction)
    radius, length = draw.uniform(2.0, 5.5), draw.uniform(50, 110)
    dx, dy, dz = x - hilum[0], y - hilum[1], z - hilum[2]
    along = dx * direction[0] + dy * direction[1] + dz * direction[2]
    across = dx**2 + dy**2 + dz**2 - along**2
    thin = across < (radius * (1 - along / length / 1.5)) ** 2
    return np.asarray((along > 0) & (along < length) & thin)


def _ribs(hu: Float, x: Float, y: Float, z: Float, where: NDArray[np.bool_], draw: np.random.Generator) -> None:
    height = np.mod(z + 0.35 * np.abs(x) - 0.5 * y + draw.uniform(0, 30), draw.uniform(24, 32))
    ribs = (height < draw.uniform(7, 11)) & (z > -70) & (y > -70)
    hu[ribs & where] = BONE_HU * draw.uniform(0.6, 1.1)


def _spine_and_great_vessels(
    hu: Float, x: Float, y: Float, back: float, blood: float, draw: np.random.Generator
) -> None:
    everywhere = np.ones((hu.shape[0], 1, 1), dtype=bool)
    spine_y = back * 0.62
    hu[((x / 22) ** 2 + ((y - spine_y) / 18) ** 2 < 1) & everywhere] = draw.uniform(140, 260)
    hu[((x / 34) ** 2 + ((y - spine_y - 26) / 9) ** 2 < 1) & everywhere] = draw.uniform(180, 330)
    hu[((x / 9) ** 2 + ((y - spine_y - 24) / 8) ** 2 < 1) & everywhere] = 35
    for side in (-1, 1):
        hu[(((x - side * 40) / 20) ** 2 + ((y - spine_y - 18) / 16) ** 2 < 1) & everywhere] = MUSCLE_HU
    hu[((x - 10) ** 2 + (y - spine_y + 31) ** 2 < 11**2) & everywhere] = blood
    hu[_great_vessel(x, y, back) & everywhere] = 0.7 * blood + 20


def _great_vessel(x: Float, y: Float, back: float) -> NDArray[np.bool_]:
    """The inferior vena cava, right before the spine."""
    return (x + 22) ** 2 + (y - back * 0.62 + 34) ** 2 < 12**2


def _lungs(
    hu: Float,
    x: Float,
    y: Float,
    z: Float,
    where: NDArray[np.bool_],
    scale: float,
    blood: float,
    draw: np.random.Generator,
) -> None:
    hu[where] = LUNG_HU + draw.normal(0, 30)
    heart = Ellipsoid((22 * scale, -30, draw.uniform(105, 125)), (58, 48, 48))
    hu[(heart.distance(x, y, z) < 1) & where] = 0.6 * blood + 25
    mediastinum = (np.abs(x) < 26) & (y > -20)
    hu[mediastinum & where] = 30.0


def _place_lesions(
    in_liver: NDArray[np.bool_],
    geometry: Geometry,
    draw: np.random.Generator,
    count: int,
    axes_mm: tuple[float, float],
) -> list[Ellipsoid]:
    """Ellipsoids with semi-axes of about `axes_mm` that lie in the liver and apart, the largest first."""
    candidates = np.argwhere(in_liver)
    placed: list[Ellipsoid] = []
    sizes = draw.uniform(np.log(axes_mm[0]), np.log(axes_mm[1]), count) if count else np.empty(0)
    for semi_axis in np.sort(np.exp(sizes))[::-1]:
        for _ in range(60 if len(candidates) else 0):
            centre = geometry.index_to_lps(candidates[draw.integers(len(candidates))])
            axes = semi_axis * draw.uniform(0.8, 1.2, 3)
            apart = all(
                np.linalg.norm(centre - np.array(other.centre)) > max(axes) + max(other.axes) + 8 for other in placed
            )
            if apart and _surrounded(in_liver, geometry, centre, float(max(axes))):
                placed.append(Ellipsoid(tuple(centre.tolist()), tuple(axes.tolist())))
                break
    return placed


def _surrounded(in_liver: NDArray[np.bool_], geometry: Geometry, centre: NDArray[np.float64], reach: float) -> bool:
    """Whether the liver goes on for 0.8 of `reach` in all six directions (a lesion may bulge a little)."""
    ends = centre + np.concatenate([np.eye(3), -np.eye(3)]) * reach * 0.8
    index = np.rint(geometry.lps_to_index(ends)).astype(int)
    if (index < 0).any() or (index >= np.array(geometry.shape)).any():
        return False
    return bool(in_liver[tuple(index.T)].all())


def _insert(
    hu: Float,
    truth: NDArray[np.uint8],
    lesion: Ellipsoid,
    value: float,
    axes: tuple[Float, Float, Float],
    draw: np.random.Generator,
) -> None:
    """A lesion with a blurred edge, half of them with a core of another density, inside the liver alone."""
    box = tuple(
        slice(*np.searchsorted(axis.ravel(), [centre - 1.3 * semi, centre + 1.3 * semi]))
        for axis, centre, semi in zip(reversed(axes), reversed(lesion.centre), reversed(lesion.axes), strict=True)
    )
    z, y, x = axes[2][box[0]], axes[1][:, box[1]], axes[0][:, :, box[2]]
    distance = lesion.distance(x, y, z)
    inside = truth[box] > 0
    softness = 1.0 / min(lesion.axes)
    part = np.clip((1 - distance) / softness + 0.5, 0, 1) * inside
    core = value + (draw.uniform(-25, 5) if draw.random() < 0.5 else 0.0) * np.clip((0.6 - distance) * 4, 0, 1)
    hu[box] = hu[box] * (1 - part) + core * part
    truth[box][(distance < 1) & inside] = LESION


def _grain(shape: tuple[int, int, int], draw: np.random.Generator) -> Float:
    """Noise of unit deviation with the short in-plane correlation of a soft kernel."""
    noise = draw.standard_normal(shape, dtype=np.float32)
    smooth = (noise + np.roll(noise, 1, axis=1) + np.roll(noise, 1, axis=2) + np.roll(noise, (1, 1), axis=(1, 2))) / 2
    return np.asarray(smooth, dtype=np.float32)
