"""What training sees is what inference sees: orientation, place, volume and values."""

from dataclasses import replace

import numpy as np
import pytest

from dicom_io.geometry import Geometry
from dicom_io.volume import Volume
from models.cards import Preprocessing
from models.datasets.cases import Case
from models.errors import CaseUnreadable
from models.phantom import grid, make_phantom
from models.preprocessing import slice_positions, to_canonical
from models.reslicing import reslice
from models.training.resampling import resample


def drawn_case(name: str = "tiny", seed: int = 4) -> Case:
    """A phantom on large voxels: 24 slices of 60 x 64."""
    geometry = grid(slices=24, rows=60, columns=64, spacing_mm=(10.0, 6.0, 6.0), seed=seed)
    phantom = make_phantom(geometry, seed=seed, lesions=2, lesion_axes_mm=(25.0, 35.0))
    return Case(name, f"phantoms/{seed}", phantom.volume, phantom.truth)


def test_what_a_source_runs_is_turned(how: Preprocessing, axial, lopsided) -> None:
    """A volume of any axial orientation gives the same stack, up to the half voxel of its own grid."""
    plain = resample(case_of(*lopsided(axial())), how)
    for swap, down, right in ((False, -1, -1), (True, 1, -1)):
        turned = resample(case_of(*lopsided(axial(swap=swap, down=down, right=right))), how)
        for one, other in zip(plain[:2], turned[:2], strict=True):
            liver, same = np.argwhere(one.labels > 0), np.argwhere(other.labels > 0)
            shape, other_shape = np.array(one.labels.shape), np.array(other.labels.shape)
            np.testing.assert_allclose(liver.mean(axis=0) / shape, same.mean(axis=0) / other_shape, atol=0.12)


def case_of(volume: Volume, labels: np.ndarray) -> Case:
    return Case("case", "patient", volume, labels)


def test_a_stack_that_is_not_axial_is_resliced_as_for_inference(how: Preprocessing) -> None:
    """Sagittal: image and labels on the grid that `reslice` makes; the liver keeps its place and volume."""
    source = drawn_case()
    sagittal = Geometry(
        origins_lps_mm=source.volume.geometry.index_to_lps([[0, 0, c] for c in range(64)]),
        row_cosines=np.array([0.0, 1.0, 0.0]),
        column_cosines=np.array([0.0, 0.0, 1.0]),
        row_spacing_mm=10.0,
        column_spacing_mm=6.0,
        rows=24,
        columns=60,
        frame_of_reference_uid="1.2.3",
    )
    turned = Volume(np.ascontiguousarray(source.volume.array.transpose(2, 0, 1)), sagittal, "CT", "1.2.3")
    labels = np.ascontiguousarray(source.labels.transpose(2, 0, 1))
    fine, _, step_mm = resample(case_of(turned, labels), how)
    resliced = to_canonical(reslice(turned, how))
    assert fine.image.shape[0] == len(slice_positions(resliced, how.fine_step_mm))
    for least, tolerance in ((1, 0.05), (2, 0.1)):  # interpolated twice, which rounds what is small
        true_ml = (labels >= least).sum() * 360 / 1000
        found_ml = (fine.labels >= least).sum() * step_mm * fine.spacing_mm**2 / 1000
        assert found_ml == pytest.approx(true_ml, rel=tolerance)
    liver = fine.image[fine.labels == 1]
    assert np.median(liver) == pytest.approx(np.median(source.volume.array[source.labels == 1]), abs=6)


def test_the_slices_of_a_tilted_stack_lie_above_one_another(how: Preprocessing) -> None:
    """A column along the normal stays in place, however the gantry was tilted; inference aligns neighbours so."""
    slices = np.arange(40)
    tilted = Geometry(
        origins_lps_mm=np.c_[np.zeros(40), 1.2 * slices, 4.0 * slices],
        row_cosines=np.array([1.0, 0.0, 0.0]),
        column_cosines=np.array([0.0, 1.0, 0.0]),
        row_spacing_mm=1.5,
        column_spacing_mm=1.5,
        rows=120,
        columns=80,
        frame_of_reference_uid="1.2.3",
    )
    lps = tilted.index_to_lps(np.stack(np.meshgrid(slices, np.arange(120), np.arange(80), indexing="ij"), axis=-1))
    labels = ((np.abs(lps[..., 0] - 60) < 20) & (np.abs(lps[..., 1] - 110) < 20)).astype(np.uint8)
    fine, _, _ = resample(case_of(Volume((labels * 100).astype(np.int16), tilted, "CT", "1"), labels), how)
    middles = [np.argwhere(plane).mean(axis=0) for plane in fine.labels if plane.any()]
    assert len(middles) > 60
    np.testing.assert_allclose(middles, np.broadcast_to(middles[0], (len(middles), 2)), atol=0.5)
    assert fine.image[fine.labels == 1].mean() > 95


def test_mr_is_scaled_into_the_window(how: Preprocessing) -> None:
    """The percentiles of the volume become the ends of the window, as `value_window` has them; without them: no."""
    source = drawn_case()
    raw = (np.asarray(source.volume.array, np.float32) + 1024) * 0.25
    mr = replace(source, volume=Volume(raw, source.volume.geometry, "MR", "1.2.3"))
    for_mr = replace(how, window_percentiles=(50.0, 99.5))
    fine, _, _ = resample(mr, for_mr)
    low, high = np.percentile(raw, (50.0, 99.5))
    span = how.window_hu[1] - how.window_hu[0]
    liver = (np.median(raw[source.labels == 1]) - low) / (high - low) * span + how.window_hu[0]
    assert np.median(fine.image[fine.labels == 1]) == pytest.approx(liver, abs=3)
    with pytest.raises(CaseUnreadable, match="tiny: is MR; set window_percentiles"):
        resample(mr, how)


def test_values_beyond_int16_are_cut(how: Preprocessing) -> None:
    """Never wrapped round: metal stays bright."""
    source = drawn_case()
    values = np.asarray(source.volume.array, np.float32).copy()
    values[5:9, 20:30, 20:30] = 1e6
    fine, _, _ = resample(replace(source, volume=Volume(values, source.volume.geometry, "CT", "1")), how)
    assert fine.image.max() == 32767 and fine.image.min() >= -1024


def test_one_slice_is_refused(how: Preprocessing) -> None:
    geometry = grid(slices=1, rows=60, columns=64, spacing_mm=(10.0, 6.0, 6.0), seed=4)
    volume = Volume(np.zeros(geometry.shape, np.int16), geometry, "CT", "1")
    with pytest.raises(CaseUnreadable, match="case: has one slice only"):
        resample(case_of(volume, np.zeros(geometry.shape, np.uint8)), how)
