"""How the liver of one study lies in another: an affine map from the shapes of the two livers alone.

Pure. An earlier study is known by its SEG, without its images, so that the surfaces of the livers are what is aligned:
each as its distance to the surface on a grid of GRID_MM, the mean square of their difference made small, first by a
rigid and then by an affine map (SimpleITK; one thread, fixed samples: the same livers give the same map). The map says
where a place of the one study is to be looked for in the other. Nothing is measured through it: it may stretch.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, map_coordinates

from dicom_io.axes import Bool
from dicom_io.geometry import Float, Geometry
from reports.errors import LiversDiffer

itk: Any = sitk
"""It has no types."""

Label = TypeVar("Label", bound=np.generic)

GRID_MM = 3.0
"""How far apart the points lie on which livers are compared."""

REACH_MM = 24.0
"""Distances to the surface are cut off here, inside and outside: what is farther says no more of the shape."""

LEAST_DICE = 0.85
"""How well two livers must overlap once mapped (2 x common volume / sum of volumes), else nothing in them is matched.
One phantom, moved and bent by waves of 8 mm over 300 mm, comes to 0.93 and more; four pairs of two phantoms came to
0.87 to 0.90 by their best affine maps. So this bars wrong maps; whether it is the same patient, livers do not say."""

MOST_SURFACE_MM = 5.0
"""How far, on average, one surface may lie from the other once mapped."""

MOST_STRETCH = 1.3
"""How much longer, or shorter, the map may make any line: more is another liver, or part of one."""

SAMPLES = 40_000
SHRINKS = ((4, 6.0), (2, 3.0), (1, 0.0))
"""From coarse to fine: every how many grid points, and smoothed by how many mm."""


@dataclass(frozen=True, eq=False)
class Organ:
    """A liver, lesions included: `mask` (slice, row, column) on `geometry`."""

    mask: Bool
    geometry: Geometry

    def __post_init__(self) -> None:
        if self.mask.shape != self.geometry.shape:
            raise ValueError(f"the mask is {self.mask.shape}, its geometry {self.geometry.shape}")
        if not self.mask.any():
            raise ValueError("there is no liver to register")

    @property
    def surface(self) -> "Surface":
        """The image that is registered, made anew each time."""
        return _surface_of(self)


@dataclass(frozen=True, eq=False)
class Registration:
    """The map from places in a study to places in an earlier one.

    `matrix` (4, 4) maps LPS mm of this study to LPS mm of the earlier. `dice` is the overlap of the livers once mapped,
    `surface_mm` the mean distance of this liver's surface from the other's.
    """

    matrix: Float
    dice: float
    surface_mm: float

    def to_prior(self, points_lps_mm: Float) -> Float:
        """(..., 3) LPS mm of this study to (..., 3) LPS mm of the earlier one."""
        return np.asarray(points_lps_mm @ self.matrix[:3, :3].T + self.matrix[:3, 3])

    def from_prior(self, points_lps_mm: Float) -> Float:
        """The exact inverse of `to_prior`."""
        return np.asarray((points_lps_mm - self.matrix[:3, 3]) @ np.linalg.inv(self.matrix[:3, :3]).T)


def register(fixed: "Surface", moving: "Surface") -> Registration:
    """Map a liver onto the same one in an earlier study, wherever it lay and however it was turned (to 30 degrees).

    `fixed` is the surface of the one, `moving` that of the earlier. Raises LiversDiffer when the livers do not fit
    (LEAST_DICE, MOST_SURFACE_MM, MOST_STRETCH).
    """
    rigid = itk.Euler3DTransform()
    rigid.SetCenter(fixed.centre_lps_mm.tolist())
    rigid.SetTranslation((moving.centre_lps_mm - fixed.centre_lps_mm).tolist())
    _optimise(fixed.image, moving.image, rigid)
    affine = itk.AffineTransform(3)
    affine.SetCenter(rigid.GetCenter())
    affine.SetMatrix(rigid.GetMatrix())
    affine.SetTranslation(rigid.GetTranslation())
    _optimise(fixed.image, moving.image, affine)
    matrix = _matrix(affine)
    dice, surface_mm = _fit(fixed, moving, matrix)
    stretches = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    stretch = max(float(stretches.max()), 1 / float(stretches.min()))
    if dice < LEAST_DICE or surface_mm > MOST_SURFACE_MM or stretch > MOST_STRETCH:
        raise LiversDiffer(
            f"The livers of the two studies do not fit: overlap {dice:.2f}, surfaces {surface_mm:.1f} mm apart, "
            f"stretched by {stretch:.2f}."
        )
    return Registration(matrix, dice, surface_mm)


@dataclass(frozen=True, eq=False)
class Surface:
    """Distances to a liver's surface, mm, negative inside: (z, y, x) on a transverse grid of GRID_MM from `start`."""

    distances: NDArray[np.float32]
    start_lps_mm: Float

    @property
    def image(self) -> Any:
        """The same as a SimpleITK image."""
        image = itk.GetImageFromArray(self.distances)
        image.SetOrigin(self.start_lps_mm.tolist())
        image.SetSpacing([GRID_MM] * 3)
        return image

    @property
    def centre_lps_mm(self) -> Float:
        """(3,) the liver's centre of volume."""
        return np.asarray(np.argwhere(self.distances < 0)[:, ::-1].mean(axis=0) * GRID_MM + self.start_lps_mm)


def _surface_of(organ: Organ) -> Surface:
    """The distances on a grid that reaches REACH_MM beyond the liver."""
    low, high = _bounds(organ)
    low, high = low - REACH_MM, high + REACH_MM
    x, y, z = (np.arange(start, stop + GRID_MM, GRID_MM) for start, stop in zip(low, high, strict=True))
    inside = np.zeros((len(z), len(y), len(x)), bool)
    plane = np.zeros((len(y), len(x), 3))
    plane[..., 0], plane[..., 1] = x, y[:, None]
    for index, height in enumerate(z):
        plane[..., 2] = height
        inside[index] = sample_labels(organ.mask, organ.geometry, plane)
    outward, inward = (distance_transform_edt(part, sampling=GRID_MM) for part in (~inside, inside))
    distances = np.where(inside, GRID_MM / 2 - inward, outward - GRID_MM / 2).clip(-REACH_MM, REACH_MM)
    return Surface(distances.astype(np.float32), low)


def _bounds(organ: Organ) -> tuple[Float, Float]:
    """Least and greatest LPS coordinates of the liver's voxels."""
    planes, rows, columns = (np.flatnonzero(organ.mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    corners = [(plane, row, column) for plane in planes for row in rows[[0, -1]] for column in columns[[0, -1]]]
    points = organ.geometry.index_to_lps(corners)
    return points.min(axis=0), points.max(axis=0)


def sample_labels(labels: NDArray[Label], geometry: Geometry, points_lps_mm: Float) -> NDArray[Label]:
    """The label of the voxel that holds each point (..., 3); 0 outside of the grid."""
    indices = np.rint(geometry.lps_to_index(points_lps_mm)).astype(np.intp)
    within = ((indices >= 0) & (indices < labels.shape)).all(axis=-1)
    found = np.zeros(within.shape, labels.dtype)
    found[within] = labels[tuple(np.moveaxis(indices[within], -1, 0))]
    return found


def _optimise(fixed: Any, moving: Any, transform: Any) -> None:
    """Change `transform` until the distances fit."""
    method = itk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMeanSquares()
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(min(1.0, SAMPLES / fixed.GetNumberOfPixels()), seed=1)
    method.SetInterpolator(itk.sitkLinear)
    method.SetShrinkFactorsPerLevel([shrink for shrink, _ in SHRINKS])
    method.SetSmoothingSigmasPerLevel([sigma for _, sigma in SHRINKS])
    method.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(True)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=4.0, minStep=0.02, numberOfIterations=80, relaxationFactor=0.5, gradientMagnitudeTolerance=1e-6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(fixed, moving)
    except RuntimeError as error:
        raise LiversDiffer("The livers of the two studies could not be laid over each other.") from error


def _matrix(affine: Any) -> Float:
    """(4, 4) of p -> A (p - centre) + centre + translation."""
    linear = np.array(affine.GetMatrix()).reshape(3, 3)
    centre = np.array(affine.GetCenter())
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = centre + np.array(affine.GetTranslation()) - linear @ centre
    return matrix


def _fit(fixed: Surface, moving: Surface, matrix: Float) -> tuple[float, float]:
    """Overlap of the mapped livers, and the mean distance between their surfaces near the fixed one's."""
    mapped = _mapped(fixed, moving, matrix)
    inside, common = fixed.distances < 0, (fixed.distances < 0) & (mapped < 0)
    # The other liver whole, also what the map takes off our grid: its volume, in our millimetres
    other = np.count_nonzero(moving.distances < 0) / abs(float(np.linalg.det(matrix[:3, :3])))
    dice = 2 * np.count_nonzero(common) / (np.count_nonzero(inside) + other)
    apart_mm = np.abs(mapped - fixed.distances)[np.abs(fixed.distances) < GRID_MM]
    return float(dice), float(apart_mm.mean())


def _mapped(fixed: Surface, moving: Surface, matrix: Float) -> Float:
    """(z, y, x) distances to the moving liver's surface at the mapped points of the fixed grid."""
    linear = matrix[:3, :3]
    start = (linear @ fixed.start_lps_mm + matrix[:3, 3] - moving.start_lps_mm) / GRID_MM
    z, y, x = np.ogrid[tuple(slice(size) for size in fixed.distances.shape)]
    places = [linear[axis, 0] * x + linear[axis, 1] * y + linear[axis, 2] * z + start[axis] for axis in (2, 1, 0)]
    return np.asarray(map_coordinates(moving.distances, np.stack(places), order=1, mode="constant", cval=REACH_MM))
