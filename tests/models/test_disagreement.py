"""How far two segmentations are apart: by what slices hold, lesions by number and by whether they meet."""

from dataclasses import asdict

import numpy as np
import pytest

from dicom_io.geometry import Geometry
from dicom_io.segmentation import Algorithm, Segmentation
from models.disagreement import disagreement

ALGORITHM = Algorithm("threshold", "1", "0" * 64)
UNEVEN_MM = (0.0, 5.0, 10.0, 40.0)


def segmentation(*boxes: tuple[int, slice, slice, slice]) -> Segmentation:
    """Four slices of 20 x 20 pixels of 10 mm, the last of them far off; boxes are painted in their order."""
    origins = np.array([(0.0, 0.0, z) for z in UNEVEN_MM])
    geometry = Geometry(origins, np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), 10.0, 10.0, 20, 20, "1.2.3")
    labels = np.zeros(geometry.shape, np.uint8)
    for number, *box in boxes:
        labels[tuple(box)] = number
    return Segmentation(labels, geometry, ALGORITHM)


ALL = slice(None)
LIVER = (1, slice(0, 3), slice(0, 10), slice(0, 10))


def test_what_is_the_same_is_not_apart() -> None:
    """Dice 1, no difference of volumes, every lesion met; and what is not there has no Dice."""
    one = segmentation(LIVER, (2, slice(0, 2), slice(0, 3), slice(0, 3)), (3, slice(0, 1), slice(6, 8), slice(6, 8)))
    same = disagreement(one, one)
    assert (same.liver_dice, same.lesion_dice) == (1.0, 1.0)
    assert (same.lesions, same.shadow_lesions, same.lesions_met, same.shadow_lesions_met) == (2, 2, 2, 2)
    assert (same.liver_rvd, same.lesion_rvd) == (0.0, 0.0)
    nothing = disagreement(segmentation(), segmentation())
    assert (nothing.liver_dice, nothing.lesion_dice, nothing.lesions) == (None, None, 0)
    assert (nothing.liver_rvd, nothing.lesion_rvd) == (None, None)
    missed = disagreement(one, segmentation())
    assert (missed.liver_dice, missed.liver_rvd) == (0.0, -1.0)


def test_slices_count_for_what_they_hold() -> None:
    """Of an uneven stack one slice holds more than another: volumes are the geometry's, and so is Dice."""
    one, other = segmentation((1, ALL, ALL, ALL)), segmentation((1, slice(0, 2), ALL, ALL))
    found = disagreement(one, other)
    held = one.geometry.voxel_volumes_mm3 * 400 / 1000
    assert found.liver_rvd == pytest.approx(held[:2].sum() / held.sum() - 1, abs=1e-4)
    assert found.liver_dice == pytest.approx(2 * held[:2].sum() / (held.sum() + held[:2].sum()), abs=1e-4)
    assert held[3] > held[0]


def test_lesions_that_meet_are_counted_on_both_sides() -> None:
    """One of the shadow's covers two of ours, a second stands alone, our third is not met; livers count them in."""
    ours = segmentation(
        LIVER,
        (2, slice(0, 2), slice(0, 2), slice(0, 2)),
        (3, slice(0, 1), slice(0, 2), slice(4, 6)),
        (4, slice(0, 1), slice(8, 9), slice(8, 9)),
    )
    theirs = segmentation(LIVER, (2, slice(0, 1), slice(0, 2), slice(0, 6)), (3, slice(2, 3), slice(5, 6), slice(5, 6)))
    found = disagreement(ours, theirs)
    assert (found.lesions, found.shadow_lesions) == (3, 2)
    assert (found.lesions_met, found.shadow_lesions_met) == (2, 1)
    assert found.liver_dice == 1.0
    assert 0 < (found.lesion_dice or 0) < 1


def test_two_grids_are_not_compared() -> None:
    """A slice came late."""
    one = segmentation(LIVER)
    origins = np.array([(0.0, 0.0, z) for z in (0.0, 5.0, 10.0)])
    geometry = Geometry(origins, np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), 10.0, 10.0, 20, 20, "1.2.3")
    with pytest.raises(ValueError, match="labels are"):
        disagreement(one, Segmentation(np.zeros(geometry.shape, np.uint8), geometry, ALGORITHM))


def test_no_finding_of_a_patient_is_among_the_figures() -> None:
    """The ledger keeps them beside the UIDs of the series: ratios and counts, no volume."""
    one = segmentation((1, ALL, ALL, ALL), (2, slice(0, 1), slice(0, 5), slice(0, 5)))
    assert set(asdict(disagreement(one, one))) == {
        *("liver_dice", "lesion_dice", "liver_rvd", "lesion_rvd"),
        *("lesions", "shadow_lesions", "lesions_met", "shadow_lesions_met"),
    }
