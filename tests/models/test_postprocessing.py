"""From classes to numbered segments, on geometries whose voxels differ in volume."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_io.geometry import Geometry
from dicom_io.segmentation import LIVER, MAX_LESIONS
from models.postprocessing import (
    LESIONS_TRUNCATED,
    MIN_LESION_CONFIDENCE,
    Numbered,
    by_volume,
    component_volumes_mm3,
    largest_component,
    number_segments,
)

MakeGeometry = Callable[..., Geometry]
Labels = NDArray[np.uint8]


@pytest.fixture
def cubes(axial: MakeGeometry) -> Geometry:
    """Voxels of 5 x 5 x 5 mm, an eighth of a millilitre each; 160 make a liver."""
    return axial(rows=24, columns=24, spacing_mm=(5.0, 5.0), positions_mm=np.arange(24) * 5.0)


def block(geometry: Geometry, *spans: slice, value: int = 1, on: Labels | None = None) -> Labels:
    """Classes with a block of `value` in them."""
    classes = np.zeros(geometry.shape, np.uint8) if on is None else on.copy()
    classes[spans] = value
    return classes


def certain(classes: Labels) -> Labels:
    """A tumour probability of 1 wherever the class is tumour."""
    return np.where(classes == 2, np.uint8(255), np.uint8(0))


def test_nothing_found_is_no_liver(cubes: Geometry) -> None:
    """An empty answer gives empty labels, no confidences and no warnings."""
    empty = np.zeros(cubes.shape, np.uint8)
    numbered = number_segments(empty, empty, cubes)
    assert not numbered.labels.any()
    assert (numbered.confidences, numbered.warnings) == ((), ())


@pytest.mark.parametrize(("depth", "found"), [(9, False), (10, True)])
def test_less_than_20_ml_is_no_liver(cubes: Geometry, depth: int, found: bool) -> None:
    """A speck of 18 ml is dropped, 20 ml are kept."""
    classes = block(cubes, slice(2, 2 + depth), slice(3, 7), slice(3, 7))
    assert bool(number_segments(classes, certain(classes), cubes).labels.any()) is found


def test_largest_part_is_the_liver(cubes: Geometry) -> None:
    """What hangs together with nothing, or by a corner alone, goes, its tumour too."""
    classes = block(cubes, slice(2, 12), slice(2, 12), slice(2, 12))
    liver = classes > 0
    classes = block(cubes, slice(12, 18), slice(12, 18), slice(12, 18), on=classes)
    classes = block(cubes, slice(13, 16), slice(13, 16), slice(13, 16), value=2, on=classes)
    numbered = number_segments(classes, certain(classes), cubes)
    np.testing.assert_array_equal(numbered.labels, liver * LIVER)


def test_largest_is_measured_in_millilitres_not_in_voxels(axial: MakeGeometry) -> None:
    """Twelve thin slices hold more voxels than four thick ones, and less liver."""
    positions = np.r_[np.arange(12) * 1.0, 30.0 + np.arange(6) * 10.0]
    geometry = axial(rows=24, columns=24, spacing_mm=(5.0, 5.0), positions_mm=positions)
    thin = block(geometry, slice(0, 10), slice(2, 12), slice(2, 12))
    classes = block(geometry, slice(13, 17), slice(2, 12), slice(2, 12), on=thin)
    assert np.count_nonzero(thin) > np.count_nonzero(classes) - np.count_nonzero(thin)
    labels = number_segments(classes, certain(classes), geometry).labels
    assert not labels[:12].any()
    assert labels[13:17].any()


def test_holes_are_liver_and_bays_are_not(cubes: Geometry) -> None:
    """What the liver encloses belongs to it; what opens outward does not."""
    solid = block(cubes, slice(2, 14), slice(2, 14), slice(2, 14))
    classes = block(cubes, slice(6, 8), slice(6, 8), slice(6, 8), value=0, on=solid)
    classes = block(cubes, slice(10, 14), slice(10, 12), slice(10, 12), value=0, on=classes)
    labels = number_segments(classes, certain(classes), cubes).labels
    assert (labels[6:8, 6:8, 6:8] == LIVER).all()
    assert not labels[10:14, 10:12, 10:12].any()


def test_tumour_counts_as_liver_for_what_hangs_together(cubes: Geometry) -> None:
    """A tumour that cuts the liver in two does not lose the far part."""
    classes = block(cubes, slice(2, 20), slice(2, 12), slice(2, 12))
    classes = block(cubes, slice(9, 12), slice(2, 12), slice(2, 12), value=2, on=classes)
    labels = number_segments(classes, certain(classes), cubes).labels
    np.testing.assert_array_equal(labels, classes)


def test_lesions_are_numbered_by_falling_volume(axial: MakeGeometry) -> None:
    """By volume, not by voxels or place: few thick voxels come before many thin ones."""
    positions = np.r_[np.arange(10) * 2.0, 20.0 + np.arange(10) * 8.0]
    geometry = axial(rows=24, columns=24, spacing_mm=(5.0, 5.0), positions_mm=positions)
    liver = block(geometry, slice(0, 19), slice(2, 22), slice(2, 22))
    many_thin = (slice(2, 5), slice(4, 7), slice(4, 7))  # 27 voxels of 50 mm3
    few_thick = (slice(13, 15), slice(4, 7), slice(4, 7))  # 18 voxels of 200 mm3
    smallest = (slice(2, 4), slice(12, 14), slice(12, 14))  # 8 voxels of 50 mm3
    classes = liver
    for lesion in (many_thin, few_thick, smallest):
        classes = block(geometry, *lesion, value=2, on=classes)
    labels = number_segments(classes, certain(classes), geometry).labels
    assert (labels[few_thick] == 2).all()
    assert (labels[many_thin] == 3).all()
    assert (labels[smallest] == 4).all()
    assert labels.max() == 4


def test_lesions_whose_edges_moved_are_numbered_anew(axial: MakeGeometry) -> None:
    """By volume again, each with its confidence; in order they stay as they are."""
    positions = np.r_[np.arange(10) * 2.0, 20.0 + np.arange(10) * 8.0]
    geometry = axial(rows=24, columns=24, spacing_mm=(5.0, 5.0), positions_mm=positions)
    labels = block(geometry, slice(0, 19), slice(2, 22), slice(2, 22))
    spans = (
        (slice(2, 5), slice(4, 7), slice(4, 7)),
        (slice(2, 4), slice(12, 14), slice(12, 14)),
        (slice(13, 15), slice(4, 7), slice(4, 7)),
    )
    for number, lesion in enumerate(spans, start=2):
        labels = block(geometry, *lesion, value=number, on=labels)
    anew = by_volume(Numbered(labels.copy(), (0.9, 0.8, 0.7), ()), geometry)
    assert (
        [anew.labels[lesion].min() for lesion in spans] == [anew.labels[lesion].max() for lesion in spans] == [3, 4, 2]
    )
    assert anew.confidences == (0.7, 0.9, 0.8)
    again = by_volume(anew, geometry)
    assert again.confidences == anew.confidences
    assert ((anew.labels > 1) == (labels > 1)).all()


def test_speck_is_liver_not_a_lesion(axial: MakeGeometry) -> None:
    """Below 113 mm3, a ball of 6 mm, it is noise: 100 mm3 stay liver, 120 mm3 are a lesion."""
    geometry = axial(rows=40, columns=40, spacing_mm=(2.0, 2.0), positions_mm=np.arange(24) * 5.0)
    classes = block(geometry, slice(2, 20), slice(2, 38), slice(2, 38))
    speck, lesion = (slice(5, 6), slice(5, 6), slice(5, 10)), (slice(10, 11), slice(10, 11), slice(10, 16))
    classes = block(geometry, *speck, value=2, on=classes)
    classes = block(geometry, *lesion, value=2, on=classes)
    numbered = number_segments(classes, certain(classes), geometry)
    assert (numbered.labels[speck] == LIVER).all()
    assert (numbered.labels[lesion] == 2).all()
    assert len(numbered.confidences) == 1


def test_confidence_is_the_mean_probability_of_its_own_lesion(cubes: Geometry) -> None:
    """In the order of the numbers, whatever the probability around the lesions."""
    classes = block(cubes, slice(1, 22), slice(1, 22), slice(1, 22))
    small, large = (slice(3, 5), slice(3, 5), slice(3, 5)), (slice(10, 14), slice(10, 14), slice(10, 14))
    classes = block(cubes, *small, value=2, on=classes)
    classes = block(cubes, *large, value=2, on=classes)
    tumour = np.full(cubes.shape, 100, np.uint8)
    tumour[large] = 255
    tumour[10:12, 10:14, 10:14] = 153
    tumour[small] = 204
    assert number_segments(classes, tumour, cubes).confidences == pytest.approx((0.8, 0.8))
    tumour[small] = 230
    assert number_segments(classes, tumour, cubes).confidences == pytest.approx((0.8, 230 / 255))


def test_doubtful_lesion_is_liver_and_takes_no_number(cubes: Geometry) -> None:
    """Where the network was less sure than it is of real lesions; the smaller, sure one is then the first."""
    classes = block(cubes, slice(1, 22), slice(1, 22), slice(1, 22))
    sure, doubtful = (slice(3, 5), slice(3, 5), slice(3, 5)), (slice(10, 14), slice(10, 14), slice(10, 14))
    classes = block(cubes, *sure, value=2, on=classes)
    classes = block(cubes, *doubtful, value=2, on=classes)
    tumour = certain(classes)
    tumour[doubtful] = int(255 * MIN_LESION_CONFIDENCE) - 1
    numbered = number_segments(classes, tumour, cubes)
    assert (numbered.labels[doubtful] == LIVER).all()
    assert (numbered.labels[sure] == 2).all()
    assert numbered.confidences == (1.0,)
    tumour[doubtful] = int(255 * MIN_LESION_CONFIDENCE) + 1
    assert number_segments(classes, tumour, cubes).labels.max() == 3


@pytest.mark.parametrize(("lesions", "warnings"), [(MAX_LESIONS, ()), (MAX_LESIONS + 6, (LESIONS_TRUNCATED,))])
def test_as_many_lesions_as_there_are_numbers(cubes: Geometry, lesions: int, warnings: tuple[str, ...]) -> None:
    """254 lesions have a number each; of more the smallest stay liver, and a warning says so."""
    classes = block(cubes, slice(1, 23), slice(1, 23), slice(1, 23))
    places = np.argwhere(np.ones((7, 7, 7)))[:lesions] * 3 + 2
    classes[tuple(places.T)] = 2
    classes[tuple(places[-9:].T + np.array([[1], [0], [0]]))] = 2  # the last nine are the largest
    numbered = number_segments(classes, certain(classes), cubes)
    assert numbered.warnings == warnings
    assert numbered.labels.max() == LIVER + MAX_LESIONS == 255
    assert len(numbered.confidences) == MAX_LESIONS
    assert sorted(numbered.labels[tuple(places[-9:].T)]) == list(range(2, 11))
    assert np.count_nonzero(numbered.labels[tuple(places.T)] == LIVER) == lesions - MAX_LESIONS


def test_component_volumes_follow_each_slices_own_width(axial: MakeGeometry) -> None:
    """A component over slices of 2 and 6 mm is summed slice by slice."""
    geometry = axial(positions_mm=(0.0, 2.0, 4.0, 10.0, 16.0), spacing_mm=(3.0, 4.0))
    components = np.zeros(geometry.shape, np.uint32)
    components[1, 2, 3:5] = 1
    components[3, 2, 3] = 1
    components[0, 0, 0] = 2
    volumes = component_volumes_mm3(components, 2, geometry.voxel_volumes_mm3)
    np.testing.assert_allclose(volumes, [2 * 2 * 12 + 6 * 12, 2 * 12])


def test_largest_component_of_a_mask(cubes: Geometry) -> None:
    """The larger of two, and nothing of nothing."""
    small = block(cubes, slice(1, 3), slice(1, 3), slice(1, 3)) > 0
    large = block(cubes, slice(5, 9), slice(5, 9), slice(5, 9)) > 0
    np.testing.assert_array_equal(largest_component(small | large), large)
    assert not largest_component(np.zeros(cubes.shape, bool)).any()
