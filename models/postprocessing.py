"""From probabilities to numbered segments: one liver, its lesions by falling volume, nothing too small to be real."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label
from SimpleITK import BinaryFillhole, GetArrayFromImage, GetImageFromArray

from dicom_io.geometry import Geometry
from dicom_io.segmentation import LIVER, MAX_LESIONS

LESIONS_TRUNCATED = "LESIONS_TRUNCATED"

MIN_LIVER_ML = 20.0
"""Below this what was found is not a liver."""
MIN_LESION_MM3 = 113.0
"""The volume of a ball of 6 mm; smaller specks are noise at this network's resolution."""
MIN_LESION_CONFIDENCE = 0.78
"""The least mean tumour probability. With the weights 2.0.0, of 148 lesions in 50 phantoms that no weights saw 73 were
found, and 62 that are none; 75 and 83 from 0.75 on, 67 and 45 from 0.80, 66 and 36 from 0.82."""


@dataclass(frozen=True, eq=False)
class Numbered:
    """`labels` (slice, row, column) uint8 as Segmentation wants them, a mean tumour probability per lesion."""

    labels: NDArray[np.uint8]
    confidences: tuple[float, ...]
    warnings: tuple[str, ...]


def number_segments(classes: NDArray[np.uint8], tumour: NDArray[np.uint8], geometry: Geometry) -> Numbered:
    """Keep the largest liver-or-tumour component without its holes, and number the lesions in it from 2.

    `classes` (slice, row, column): 0, 1 liver, 2 tumour; `tumour`: probability of tumour in 1/255.
    """
    labels = np.zeros(geometry.shape, dtype=np.uint8)
    box = _bounding_box(classes)
    if box is None:
        return Numbered(labels, (), ())
    # Nothing outside the box counts, and the components of a mask need four bytes a voxel.
    classes, tumour, drawn = classes[box], tumour[box], labels[box]
    volumes = geometry.voxel_volumes_mm3[box[0]]
    whole, count = _components(classes > 0)
    sizes = component_volumes_mm3(whole, count, volumes)
    if sizes.max() < MIN_LIVER_ML * 1000:
        return Numbered(labels, (), ())
    liver = whole == int(sizes.argmax()) + 1
    del whole
    filled = _without_holes(liver)
    del liver
    drawn[filled] = LIVER

    suspected = ((classes == 2) & filled).view(np.uint8)
    box = _bounding_box(suspected)
    if box is None:
        return Numbered(labels, (), ())
    tumour, drawn, volumes = tumour[box], drawn[box], volumes[box[0]]
    lesions, count = _components(suspected[box] > 0)
    sizes = component_volumes_mm3(lesions, count, volumes)
    inside = lesions > 0
    components = lesions[inside]  # of these voxels alone: bincount makes eight bytes of each, twice
    sums = np.bincount(components, weights=tumour[inside], minlength=count + 1)[1:]
    confidences = sums / np.maximum(np.bincount(components, minlength=count + 1)[1:], 1) / 255
    real = (sizes >= MIN_LESION_MM3) & (confidences >= MIN_LESION_CONFIDENCE)
    order = [i for i in np.argsort(-sizes, kind="stable") if real[i]]
    warnings = (LESIONS_TRUNCATED,) if len(order) > MAX_LESIONS else ()
    kept = np.array(order[:MAX_LESIONS], dtype=np.intp)
    numbers = np.full(count + 1, LIVER, dtype=np.uint8)
    numbers[kept + 1] = LIVER + 1 + np.arange(len(kept))
    drawn[inside] = numbers[components]
    return Numbered(labels, tuple(confidences[kept].tolist()), warnings)


def by_volume(numbered: Numbered, geometry: Geometry) -> Numbered:
    """Number the lesions anew by falling volume, in place: their edges were moved."""
    widths, volumes = geometry.slice_widths_mm, []
    for number, box in enumerate(find_objects(numbered.labels)[LIVER:], start=LIVER + 1):
        voxels = np.count_nonzero(numbered.labels[box] == number, axis=(1, 2))
        volumes.append(float(voxels @ widths[box[0]]))
    order = np.argsort(-np.array(volumes), kind="stable")
    if (np.diff(order) == 1).all():
        return numbered
    numbers = np.arange(LIVER + 1 + len(order), dtype=np.uint8)
    numbers[LIVER + 1 + order] = LIVER + 1 + np.arange(len(order))
    for plane in numbered.labels:
        plane[...] = numbers[plane]
    return replace(numbered, confidences=tuple(numbered.confidences[i] for i in order))


def without_lesions(numbered: Numbered) -> Numbered:
    """The liver alone, its lesions part of it."""
    return replace(numbered, labels=np.minimum(numbered.labels, LIVER), confidences=(), warnings=())


def component_volumes_mm3(
    components: NDArray[np.integer], count: int, voxel_volumes_mm3: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(count,) volume of each component, each slice's voxels counted with their own volume."""
    volumes = np.zeros(count + 1)
    for plane, volume in zip(components, voxel_volumes_mm3, strict=True):
        volumes += np.bincount(plane.ravel(), minlength=count + 1) * volume
    return volumes[1:]


def largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest connected part of a mask by voxels; all False where the mask is empty."""
    components, count = _components(mask)
    if count == 0:
        return mask
    return np.asarray(components == int(np.bincount(components.ravel())[1:].argmax()) + 1)


def _bounding_box(classes: NDArray[np.uint8]) -> tuple[slice, slice, slice] | None:
    """The smallest box that holds every voxel above 0; None without one."""
    planes = classes.any(axis=(1, 2))
    if not planes.any():
        return None
    found = np.flatnonzero(planes)
    slices = slice(int(found[0]), int(found[-1]) + 1)
    face = np.zeros(classes.shape[1:], dtype=bool)
    for plane in classes[slices]:
        face |= plane > 0
    rows, columns = find_objects(face.astype(np.uint8))[0]
    return slices, rows, columns


def _without_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill the holes of a mask. In a box that fits it, background that reaches the border of the box is no hole."""
    image = BinaryFillhole(GetImageFromArray(mask.view(np.uint8)))  # type: ignore[no-untyped-call]
    return np.asarray(GetArrayFromImage(image).view(np.bool_))


def _components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.integer], int]:
    """Connected components (faces only) and their number."""
    components, count = label(mask)
    return components, int(count)
