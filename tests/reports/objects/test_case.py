"""A case is what all objects of a volume are made of; one whose parts do not fit together is not born."""

from dataclasses import replace

import numpy as np
import pytest

from reports.objects.case import build
from reports.objects.kinds import CHOICES, KINDS, Need
from reports.pages.heat_page import GRADCAM, Explanation


def test_parts_that_do_not_fit_are_refused(make_case) -> None:
    """A header for each slice; labels and probabilities on the volume's grid."""
    example = make_case()
    other = make_case(rows=46)
    for wrong in (
        {"source": replace(example.under().source, headers=example.headers[1:])},
        {"segmentation": other.segmentation},
        {"probabilities": {1: other.segmentation.labels}},
    ):
        with pytest.raises(ValueError, match="one header per slice"):
            replace(example.under(), **wrong)


@pytest.mark.parametrize(
    ("how", "has"),
    [({}, {Need.LIVER, Need.LESIONS}), ({"lesions": False}, {Need.LIVER}), ({"liver": False}, set())],
)
def test_it_says_what_it_has(make_case, how, has) -> None:
    """What was found, and what was kept of the network."""
    case = make_case(**how).under()
    assert case.has == has
    explanation = Explanation(GRADCAM, 1, np.ones(case.volume.geometry.shape[1:], np.float32), 1.0)
    kept = replace(case, probabilities={1: case.segmentation.labels}, explanations={1: explanation})
    assert kept.has == has | {Need.PROBABILITIES, Need.EXPLANATIONS}


@pytest.mark.parametrize("how", [{}, {"lesions": False}, {"liver": False}])
def test_every_kind_whose_needs_are_met_is_built(make_case, how) -> None:
    """Nothing else is needed than the table says."""
    example = make_case(**how)
    case = example.reported()
    built = {name: build(case, KINDS[name]) for name in CHOICES if KINDS[name].needs <= case.has}
    expected = {"sr", "sr_combined", "key_images", "pdf"} | ({"seg"} if Need.LIVER in case.has else set())
    assert set(built) == expected | ({"sr_bidirectional"} if Need.LESIONS in case.has else set())
    assert all(built.values())


def test_nobody_builds_a_verdict_of_a_case(make_case) -> None:
    """It has none: no volume was segmented."""
    with pytest.raises(ValueError, match="not built of a case"):
        build(make_case().under(), KINDS["verdict"])
