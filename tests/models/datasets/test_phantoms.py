"""Phantoms as cases."""

from dataclasses import replace

import numpy as np
import pytest

from models.datasets.phantoms import TEST_SEEDS, phantom_sources
from models.phantom import TRAINING_SEEDS, training_phantom
from models.training.resampling import resample


def test_a_phantom_is_a_case_of_its_own_patient() -> None:
    """Drawn from its seed when it is read."""
    first, second = phantom_sources(2)
    assert (first.name, first.patient, first.collection) == ("phantom-0", "phantoms/0", "phantoms")
    assert first.patient != second.patient and first.fingerprint != second.fingerprint
    case, phantom = second.read(), training_phantom(1)
    np.testing.assert_array_equal(case.volume.array, phantom.volume.array)
    np.testing.assert_array_equal(case.labels, phantom.truth)
    assert case.tumours_drawn


def test_ct_and_mr_of_a_seed_are_one_patient(how) -> None:
    """Their names differ, so that both may be prepared."""
    (ct,), (mr,) = phantom_sources(1), phantom_sources(1, modality="MR")
    assert (mr.name, mr.patient) == ("phantom-mr-0", ct.patient) and mr.fingerprint != ct.fingerprint
    case = mr.read()
    assert case.volume.modality == "MR" and set(np.unique(case.labels)) <= {0, 1, 2}
    fine, _, _ = resample(case, replace(how, window_percentiles=(1.0, 99.0)))
    assert fine.labels.any() and how.window_hu[0] < np.median(fine.image[fine.labels == 1]) < how.window_hu[1]


def test_no_phantom_of_the_tests_is_trained_on() -> None:
    assert not set(TEST_SEEDS) & set(TRAINING_SEEDS)
    (source,) = phantom_sources(1, TEST_SEEDS)
    assert source.seed not in TRAINING_SEEDS
    with pytest.raises(ValueError, match="phantoms"):
        phantom_sources(-1)
