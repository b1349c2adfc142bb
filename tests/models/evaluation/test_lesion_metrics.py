"""Lesions that are found, missed, merged, split and made up: each by the one rule of matching."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import label
from skimage.measure import label as skimage_label

from dicom_io.geometry import Geometry
from dicom_io.segmentation import Algorithm, Segmentation
from dicom_io.volume import Volume
from models.datasets.cases import Case
from models.evaluation.lesion_metrics import match_lesions, true_instances

SHAPE = (20, 40, 40)
Part = tuple[int, int]  # from this row to that one, of a bar as wide as 4 slices and 10 columns


def geometry(step_mm: float = 2.0) -> Geometry:
    """An even axial stack with pixels of 1 mm."""
    return Geometry(
        origins_lps_mm=np.arange(SHAPE[0])[:, None] * np.array([0, 0, step_mm]),
        row_cosines=np.array([1.0, 0, 0]),
        column_cosines=np.array([0, 1.0, 0]),
        row_spacing_mm=1.0,
        column_spacing_mm=1.0,
        rows=SHAPE[1],
        columns=SHAPE[2],
        frame_of_reference_uid="1.2.3",
    )


def bars(*parts: Part, first: int) -> NDArray[np.uint8]:
    """A liver that fills the field, with bars numbered from `first`."""
    labels = np.ones(SHAPE, np.uint8)
    for number, (start, stop) in enumerate(parts, start=first):
        labels[8:12, start:stop, 5:15] = number
    return labels


def case(*parts: Part, instances: NDArray[np.uint8] | None = None) -> Case:
    """A case whose true lesions are bars."""
    labels = np.minimum(bars(*parts, first=2), 2)
    return Case("made", "p", Volume(np.zeros(SHAPE, np.int16), geometry(), "CT", "1.2.3"), labels, instances)


def found(*parts: Part) -> Segmentation:
    """A segmentation whose lesions are bars, numbered by falling size."""
    order = sorted(parts, key=lambda part: part[0] - part[1])
    confidences = tuple(0.9 - number / 100 for number in range(len(order)))
    return Segmentation(bars(*order, first=2), geometry(), Algorithm("m", "1", "0"), confidences)


@pytest.mark.parametrize(
    ("true", "drawn", "expected", "false"),
    [
        ([(3, 13)], [(3, 13)], [1.0], 0),
        ([(3, 13)], [(5, 15)], [0.8], 0),  # moved by a fifth
        ([(3, 13)], [(12, 22)], [0.1], 0),  # a corner is overlap enough, and LiTS's rule refuses it
        ([(3, 13)], [(14, 22)], [0.0], 1),
        ([(3, 13)], [], [0.0], 0),
        ([], [(3, 13)], [], 1),
        ([], [], [], 0),
        ([(3, 13), (15, 21)], [(3, 21)], [20 / 28, 0.0], 0),  # one that covers both finds the larger
        ([(3, 21)], [(3, 13), (15, 21)], [20 / 28], 1),  # one that is split is found by its larger part
        ([(3, 13), (20, 30)], [(3, 13), (33, 37)], [1.0, 0.0], 1),
    ],
)
def test_each_lesion_has_one_partner(
    true: Sequence[Part], drawn: Sequence[Part], expected: Sequence[float], false: int
) -> None:
    """The Dice of each true lesion with its partner, largest first, and how many found ones are none."""
    lesions = match_lesions(case(*true), found(*drawn))
    assert [lesion.dice for lesion in lesions.true] == pytest.approx(expected)
    assert [lesion.found is not None for lesion in lesions.true] == [value > 0 for value in expected]
    assert len(lesions.false) == false
    for lesion in lesions.true:
        assert lesion.iou == pytest.approx(lesion.dice / (2 - lesion.dice))


def test_largest_common_volume_pairs_first() -> None:
    """A found lesion over two true ones belongs to the one that it covers more of; the other takes what is left."""
    lesions = match_lesions(case((0, 10), (11, 16)), found((6, 16), (2, 5)))
    partners = [lesion.found.volume_ml for lesion in lesions.true if lesion.found is not None]
    assert partners == pytest.approx([0.24, 0.8])


def test_sizes_are_measured_as_in_the_reports() -> None:
    """10 x 10 mm in the plane and 8 mm across: 0.8 ml, a diagonal of 13.5 mm between the edges' middles."""
    (lesion,) = match_lesions(case((3, 13)), found((3, 13))).true
    assert lesion.size.volume_ml == pytest.approx(0.8)
    assert lesion.size.diameter_mm == pytest.approx(np.hypot(10, 9), abs=1e-6)
    assert lesion.size.size_class == "10-20"
    assert lesion.found == lesion.size


def test_false_lesions_keep_their_confidence() -> None:
    """That of their own number."""
    lesions = match_lesions(case((3, 13)), found((3, 13), (15, 19)))
    (false,) = lesions.false
    assert false.confidence == pytest.approx(0.89)
    assert false.size.volume_ml == pytest.approx(0.32)


def test_drawn_instances_that_touch_stay_apart() -> None:
    """Components would make one of them; and a part that nobody numbered is one more."""
    instances = np.zeros(SHAPE, np.uint8)
    instances[8:12, 3:8, 5:15], instances[8:12, 8:13, 5:15] = 4, 9
    with_them = case((3, 13), (20, 24), instances=instances)
    assert len(match_lesions(case((3, 13), (20, 24)), found()).true) == 2
    sizes = [lesion.size.volume_ml for lesion in match_lesions(with_them, found()).true]
    assert sizes == pytest.approx([0.4, 0.4, 0.32])


def test_components_are_those_of_scikit_image() -> None:
    """Connected by faces."""
    tumour = np.random.default_rng(2).random((12, 20, 20)) < 0.2
    numbered, count = true_instances(tumour, None)
    other, other_count = skimage_label(tumour, connectivity=1, return_num=True)
    assert count == other_count == label(tumour)[1]
    np.testing.assert_array_equal(numbered > 0, other > 0)
