"""What is said of results that look like any other: each doubt provoked, and not where there is none."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dicom_io.volume import Volume
from models.calibration import Calibration
from models.doubts import (
    LIVER_UNCERTAIN,
    LIVER_VOLUME_DOUBTFUL,
    NOT_LIKE_LIVER,
    VALUES_DOUBTFUL,
    are_no_hu,
    doubts,
    expected_dice,
    is_unlike_liver,
)
from models.inference import Model, segment

SIZE = {"rows": 60, "columns": 52, "spacing_mm": (3.0, 3.5), "positions_mm": np.arange(40) * 5.0}


def stack(*slices: tuple[float, float]) -> Tensor:
    """(slice, class, 1, 2) float16: two voxels, so likely liver or, one third of it, tumour."""
    liver = torch.tensor(slices)[:, None]
    return torch.cat([1 - liver, liver * 2 / 3, liver / 3], dim=1)[:, :, None].to(torch.float16)


def test_a_network_that_is_certain_expects_no_error() -> None:
    """And one that is not as much as its probabilities say, each slice by its width."""
    even = np.arange(3) * 2.0
    assert expected_dice(stack((1, 0), (1, 0), (1, 1)), even) == pytest.approx(1, abs=1e-3)
    assert expected_dice(stack((0.8, 0.4), (0.8, 0.4), (0.8, 0.4)), even) == pytest.approx(
        2 * 0.8 / (1.2 + 1), abs=1e-3
    )
    sure_is_wide = expected_dice(stack((1, 0), (1, 0), (0.6, 0.4)), np.array([0.0, 8.0, 10.0]))
    unsure_is_wide = expected_dice(stack((1, 0), (1, 0), (0.6, 0.4)), np.array([0.0, 2.0, 10.0]))
    assert sure_is_wide is not None and unsure_is_wide is not None
    assert sure_is_wide > unsure_is_wide


def test_without_a_liver_nothing_is_expected() -> None:
    """A number would say that something was found."""
    assert expected_dice(stack((0.4, 0.2), (0.1, 0.1)), np.arange(2) * 2.0) is None


class Flatter(nn.Module):
    """A network that says the same and believes half of it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """The logits, nearer to none."""
        logits: Tensor = self.network(x)
        return logits.clamp(-0.5, 0.5)


def test_a_liver_that_the_network_doubts(
    stand_in: Model, axial: Callable[..., Any], lopsided: Callable[..., Any]
) -> None:
    """It is drawn all the same, and said to be uncertain."""
    volume, _ = lopsided(axial(**SIZE))
    sure, unsure = segment(stand_in, volume), segment(replace(stand_in, network=Flatter(stand_in.network)), volume)
    assert sure.warnings == ()
    assert unsure.warnings == (LIVER_UNCERTAIN,)
    assert unsure.labels.any()
    assert sure.expected_dice is not None and unsure.expected_dice is not None
    assert sure.expected_dice > 0.95 > 0.8 > unsure.expected_dice


def test_values_that_are_not_ct(stand_in: Model, axial: Callable[..., Any], lopsided: Callable[..., Any]) -> None:
    """MR in a NIfTI, which does not say so; of MR that says so nothing is asked."""
    volume, _ = lopsided(axial(**SIZE))
    shifted = replace(volume, array=volume.array + np.int16(100))  # the least is 0 now, as in MR
    assert not are_no_hu(volume)
    assert are_no_hu(shifted)
    assert not are_no_hu(replace(shifted, modality="MR"))
    assert VALUES_DOUBTFUL in segment(stand_in, shifted).warnings


def test_no_lesion_is_reported_of_values_that_are_none(
    stand_in: Model, axial: Callable[..., Any], lopsided: Callable[..., Any]
) -> None:
    """The liver is drawn, and all that was found in it is liver; the same values where they are right have a lesion."""
    volume, truth = lopsided(axial(**SIZE))
    fat = volume.array < 0
    foreign = replace(volume, array=np.where(fat, np.int16(-49), volume.array))
    usual, doubtful = segment(stand_in, volume), segment(stand_in, foreign)
    assert usual.lesion_count == 1 and len(usual.confidences) == 1
    assert VALUES_DOUBTFUL in doubtful.warnings
    assert (doubtful.lesion_count, doubtful.confidences) == (0, ())
    np.testing.assert_array_equal(doubtful.labels > 0, usual.labels > 0)


@pytest.mark.parametrize(("slices", "doubtful"), [(3, True), (4, False), (40, False), (50, False), (51, True)])
def test_a_volume_that_no_liver_has(axial: Callable[..., Any], slices: int, doubtful: bool) -> None:
    """Of 100 mL a slice, under 400 or over 5000 mL; lesions count, and without a liver nothing is said of its size."""
    geometry = axial(rows=60, columns=52, spacing_mm=(5.0, 10.0), positions_mm=np.arange(60) * 4.0)
    volume = Volume(np.full(geometry.shape, 60, np.int16), geometry, "MR", "1.2.3")
    labels = np.zeros(geometry.shape, np.uint8)
    labels[:slices, 5:30, 5:25] = 1
    labels[0, 5:10, 5:25] = 2
    assert doubts(volume, labels, None) == ((LIVER_VOLUME_DOUBTFUL,) if doubtful else ())
    assert doubts(volume, np.zeros_like(labels), None) == ()


@pytest.mark.parametrize(
    ("mean", "sd", "unlike"),
    [(60, 20, False), (110, 60, False), (5, 20, False), (-40, 20, True), (320, 20, True), (60, 120, True)],
)
def test_tissue_that_is_no_liver(axial: Callable[..., Any], mean: float, sd: float, unlike: bool) -> None:
    """Fat, bone, or all sorts; lesions are not asked, and what has no liver is unlike nothing."""
    geometry = axial(**SIZE)
    draw = np.random.default_rng(1)
    array = np.rint(draw.normal(mean, sd, geometry.shape)).astype(np.int16)
    labels = np.zeros(geometry.shape, np.uint8)
    labels[5:20, 10:40, 10:40] = 1
    labels[8:12, 15:20, 15:20] = 2
    array[labels == 2] = 900
    volume = Volume(array, geometry, "CT", "1.2.3")
    assert is_unlike_liver(volume, labels) is unlike
    assert not is_unlike_liver(volume, np.zeros_like(labels))
    assert not is_unlike_liver(replace(volume, modality="MR"), labels)


def test_what_is_unlike_a_liver_is_said(
    stand_in: Model, axial: Callable[..., Any], lopsided: Callable[..., Any]
) -> None:
    """Bone among it, which thresholds take for liver and lesion."""
    volume, truth = lopsided(axial(**SIZE))
    array = volume.array.copy()
    array[truth == 1] = np.where(np.arange((truth == 1).sum()) % 2, -60, 280)
    labels = (truth > 0).astype(np.uint8)
    assert is_unlike_liver(replace(volume, array=array), labels)
    assert NOT_LIKE_LIVER in doubts(replace(volume, array=array), labels, 0.99)
    assert segment(stand_in, volume).warnings == ()


def test_a_little_fat_is_enough(axial: Callable[..., Any]) -> None:
    """A field of view within the body has hardly more."""
    geometry = axial(**SIZE)
    array = np.full(geometry.shape, 40, np.int16)
    array[:, :, 0] = -100
    assert not are_no_hu(Volume(array, geometry, "CT", "1.2.3"))


def test_a_calibrated_card_gives_calibrated_confidences(
    stand_in: Model, axial: Callable[..., Any], lopsided: Callable[..., Any]
) -> None:
    """The same lesions under the same numbers, and the segmentation says which kind of number it is."""
    volume, _ = lopsided(axial(**SIZE))
    calibration = Calibration(1.0, -2.0, 40, 20, 10, 0.2, 0.1)
    calibrated = replace(stand_in, card=replace(stand_in.card, calibration=calibration))
    before, after = segment(stand_in, volume), segment(calibrated, volume)
    np.testing.assert_array_equal(before.labels, after.labels)
    assert (before.calibrated, after.calibrated) == (False, True)
    assert after.confidences == tuple(map(calibration.of, before.confidences))
    assert 0 < after.confidences[0] < before.confidences[0]
