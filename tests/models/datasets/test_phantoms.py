"""Phantoms as cases."""

import numpy as np
import pytest

from models.datasets.phantoms import TEST_SEEDS, phantom_sources
from models.phantom import TRAINING_SEEDS, training_phantom


def test_a_phantom_is_a_case_of_its_own_patient() -> None:
    """Drawn from its seed when it is read."""
    first, second = phantom_sources(2)
    assert (first.name, first.patient, first.collection) == ("phantom-0", "phantoms/0", "phantoms")
    assert first.patient != second.patient and first.fingerprint != second.fingerprint
    case, phantom = second.read(), training_phantom(1)
    np.testing.assert_array_equal(case.volume.array, phantom.volume.array)
    np.testing.assert_array_equal(case.labels, phantom.truth)
    assert case.tumours_drawn


def test_no_phantom_of_the_tests_is_trained_on() -> None:
    assert not set(TEST_SEEDS) & set(TRAINING_SEEDS)
    (source,) = phantom_sources(1, TEST_SEEDS)
    assert source.seed not in TRAINING_SEEDS
    with pytest.raises(ValueError, match="phantoms"):
        phantom_sources(-1)
