"""Cases on the disk as inference would see them: exact, made once, made again where they must be."""

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dicom_io.geometry import Geometry
from dicom_io.volume import Volume
from models.cards import Preprocessing
from models.cases import Case
from models.errors import CaseUnreadable, RunMismatch
from models.inference import look_twice
from models.phantom import grid, make_phantom
from models.prepared import Prepared, prepare, read_prepared, resample
from models.preprocessing import channels, normalise, shrunk_stack, slice_positions, to_canonical
from models.reslicing import reslice


@dataclass(frozen=True)
class Drawn:
    """A source whose case is drawn when it is read; `trace` gets a line each time."""

    name: str
    seed: int = 4
    fingerprint: str = "0"
    trace: Path | None = None
    collection: str = "phantoms"

    @property
    def patient(self) -> str:
        return f"phantoms/{self.seed}"

    def read(self) -> Case:
        if self.trace is not None:
            with self.trace.open("a") as file:
                file.write(f"{self.name}\n")
        if self.seed == -1:
            raise CaseUnreadable(f"{self.name}: has no truth")
        if self.seed == -2:
            raise PermissionError(13, "Permission denied", "somewhere")
        if self.seed == -3:
            os._exit(1)
        return drawn_case(self.name, self.seed)


def drawn_case(name: str = "tiny", seed: int = 4) -> Case:
    """A phantom on large voxels: 24 slices of 60 x 64."""
    geometry = grid(slices=24, rows=60, columns=64, spacing_mm=(10.0, 6.0, 6.0), seed=seed)
    phantom = make_phantom(geometry, seed=seed, lesions=2, lesion_axes_mm=(25.0, 35.0))
    return Case(name, f"phantoms/{seed}", phantom.volume, phantom.truth)


def test_values_and_labels_are_those_of_inference(how: Preprocessing, tmp_path: Path) -> None:
    """Planes are what the passes of inference read at the same positions, rounded to whole HU."""
    prepared = prepare([Drawn("tiny")], how, tmp_path)
    (case,) = prepared.cases
    source = drawn_case()
    canonical = to_canonical(source.volume)
    positions = slice_positions(canonical, how.fine_step_mm)
    assert case.step_mm == pytest.approx(positions[1] - positions[0])
    for stack, target_mm in ((case.fine, how.fine_spacing_mm), (case.coarse, how.coarse_spacing_mm)):
        shrunk = shrunk_stack(canonical, positions, how, target_mm=target_mm)
        seen = channels(shrunk.planes, shrunk.positions_mm, positions, how, shrunk.drift)[:, 1]
        kept = normalise(torch.from_numpy(stack.image.astype(np.float32)), how.window_hu)
        assert (seen - kept).abs().max() <= 0.5 * 2 / (how.window_hu[1] - how.window_hu[0]) + 1e-4
        assert stack.image.dtype == np.int16 and stack.labels.dtype == np.uint8
        assert stack.spacing_mm == pytest.approx(target_mm, rel=0.02)
        assert stack.image.shape == stack.labels.shape == tuple(seen.shape)


def test_volumes_survive(how: Preprocessing, tmp_path: Path) -> None:
    """What is liver and what is tumour keeps its volume, within the coarse voxels of the phantom."""
    (case,) = prepare([Drawn("tiny")], how, tmp_path).cases
    source = drawn_case()
    for least in (1, 2):
        true_ml = (source.labels >= least).sum() * 10 * 6 * 6 / 1000
        for stack in (case.fine, case.coarse):
            found_ml = (stack.labels >= least).sum() * case.step_mm * stack.spacing_mm**2 / 1000
            assert found_ml == pytest.approx(true_ml, rel=0.08)


def test_slices_with_liver_and_tumour_are_listed(how: Preprocessing, tmp_path: Path) -> None:
    (case,) = prepare([Drawn("tiny")], how, tmp_path).cases
    for stack in (case.fine, case.coarse):
        per_slice = stack.labels.max(axis=(1, 2))
        np.testing.assert_array_equal(stack.liver_slices, np.flatnonzero(per_slice >= 1))
        np.testing.assert_array_equal(stack.tumour_slices, np.flatnonzero(per_slice >= 2))
        assert 0 < len(stack.tumour_slices) < len(stack.liver_slices) < len(per_slice)


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


def contents(cache: Path) -> dict[str, int]:
    """Each file of a cache and when it was written."""
    return {str(path.relative_to(cache)): path.stat().st_mtime_ns for path in sorted(cache.rglob("*.*"))}


def test_what_is_there_is_not_made_again(how: Preprocessing, tmp_path: Path) -> None:
    """Until the content, the preprocessing or the patient changes; then beside it, and the hash changes too."""
    sources = [Drawn("one", trace=tmp_path / "trace"), Drawn("two", seed=5, trace=tmp_path / "trace")]
    told: list[tuple[int, int]] = []
    first = prepare(sources, how, tmp_path / "cache", report=lambda done, of: told.append((done, of)))
    assert told == [(0, 2), (1, 2), (2, 2)]
    before = contents(tmp_path / "cache")
    again = prepare(sources, how, tmp_path / "cache", report=lambda done, of: told.append((done, of)))
    assert contents(tmp_path / "cache") == before and told[3:] == [(2, 2)]
    assert again.sha256 == first.sha256
    assert prepare(sources[::-1], how, tmp_path / "cache").sha256 == first.sha256
    assert (tmp_path / "trace").read_text() == "one\ntwo\n"
    fewer = prepare(sources[:1], how, tmp_path / "cache")
    finer = prepare(sources, replace(how, fine_spacing_mm=1.4), tmp_path / "cache")
    changed = prepare([replace(sources[0], fingerprint="1"), sources[1]], how, tmp_path / "cache")
    assert (tmp_path / "trace").read_text() == "one\ntwo\none\ntwo\none\n"
    assert len({first.sha256, fewer.sha256, finer.sha256}) == 3
    assert changed.sha256 == first.sha256  # touched, but the same
    assert before.items() <= contents(tmp_path / "cache").items()


def test_what_cannot_be_prepared_is_named_and_the_others_go_on(how: Preprocessing, tmp_path: Path) -> None:
    """A case without a truth, and one whose file may not be read."""
    prepared = prepare([Drawn("bad", seed=-1), Drawn("good"), Drawn("closed", seed=-2)], how, tmp_path)
    assert [case.name for case in prepared.cases] == ["good"]
    assert prepared.skipped == ("bad: has no truth", "closed: cannot be read, Permission denied")
    assert prepared.sha256 == prepare([Drawn("good")], how, tmp_path).sha256


def test_several_processes_make_the_same(how: Preprocessing, tmp_path: Path) -> None:
    """The same arrays and the same hash, in the order of the sources; a case may take its process along."""
    sources = [Drawn("bad", seed=-1), Drawn("heavy", seed=-3), Drawn("one"), Drawn("two", seed=5)]
    alone = prepare([*sources[:1], *sources[2:]], how, tmp_path / "alone")
    together = prepare(sources, how, tmp_path / "together", processes=2)
    assert together.skipped == ("bad: has no truth", "heavy: not prepared, its process ended with code 1")
    assert together.sha256 == alone.sha256
    assert [case.name for case in together.cases] == ["one", "two"]
    for one, other in zip(alone.cases, together.cases, strict=True):
        np.testing.assert_array_equal(one.fine.image, other.fine.image)
        np.testing.assert_array_equal(one.coarse.labels, other.coarse.labels)


def test_a_part_that_a_kill_left_is_made_anew(how: Preprocessing, tmp_path: Path) -> None:
    """Its folder bears another name until it is whole."""
    (case,) = prepare([Drawn("tiny")], how, tmp_path).cases
    assert case.folder is not None
    before = prepare([Drawn("tiny")], how, tmp_path).sha256
    part = case.folder.rename(f"{case.folder}.part")
    (part / "case.json").unlink()
    (part / "fine-image.npy").write_bytes(b"half")
    prepared = prepare([Drawn("tiny")], how, tmp_path)
    assert prepared.sha256 == before
    assert [path.name for path in tmp_path.iterdir()] == [case.folder.name]


@pytest.mark.parametrize("damage", ["case.json", "fine-image.npy", "coarse-labels.npy"])
@pytest.mark.parametrize("how_much", [0, 100])
def test_what_somebody_damaged_is_made_again(how: Preprocessing, damage: str, how_much: int, tmp_path: Path) -> None:
    (case,) = prepare([Drawn("tiny")], how, tmp_path).cases
    assert case.folder is not None
    before = case.fine.image.copy()
    (case.folder / damage).write_bytes((case.folder / damage).read_bytes()[:how_much])
    with pytest.raises(CaseUnreadable, match=f"{damage}: "):
        read_prepared(case.folder)
    (case,) = prepare([Drawn("tiny")], how, tmp_path).cases
    np.testing.assert_array_equal(case.fine.image, before)


def test_arrays_are_mapped_and_travel_by_name(how: Preprocessing, tmp_path: Path) -> None:
    """Read-only, no file held open for them, and sent to another process as the name of a folder."""
    open_before = len(os.listdir("/proc/self/fd"))
    (case,) = prepare([Drawn("tiny")], how, tmp_path).cases
    assert len(os.listdir("/proc/self/fd")) == open_before
    with pytest.raises(ValueError, match="read-only"):
        case.fine.image[0] = 0
    sent = pickle.dumps(case)
    assert len(sent) < 1000
    received = pickle.loads(sent)
    np.testing.assert_array_equal(received.fine.labels, case.fine.labels)
    assert (received.name, received.patient, received.step_mm) == (case.name, case.patient, case.step_mm)
    by_hand = replace(case, folder=None)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(by_hand)).fine.image, case.fine.image)


def test_two_of_one_name_and_a_cache_that_cannot_be_written(how: Preprocessing, tmp_path: Path) -> None:
    with pytest.raises(RunMismatch, match="one: two cases have this name"):
        prepare([Drawn("one"), Drawn("one", seed=5)], how, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(RunMismatch, match="file: cannot be written"):
        prepare([Drawn("one")], how, tmp_path / "file")


def test_names_make_safe_folders(how: Preprocessing, tmp_path: Path) -> None:
    """Whatever a folder was called."""
    prepared: Prepared = prepare([Drawn("../up and/away ü"), Drawn("..", seed=5)], how, tmp_path)
    assert not prepared.skipped
    for case in prepared.cases:
        assert case.folder is not None and case.folder.parent == tmp_path
        assert json.loads((case.folder / "case.json").read_text())["name"] == case.name


def test_a_network_sees_the_same_in_training_and_inference(how: Preprocessing, stand_in, lopsided, axial) -> None:
    """Thresholds on the prepared fine stack answer as they do in inference: no shift, no turn between the two."""
    geometry: Callable[..., Geometry] = axial
    volume, truth = lopsided(geometry())
    found = look_twice(stand_in, to_canonical(volume), how, lambda done, of: None)
    assert found is not None
    fine, _, _ = resample(case_of(volume, truth), how)
    liver = found.probabilities[:, 1:].sum(dim=1).float().numpy() > 0.5
    prepared = (fine.image > 5) & (fine.image.max(axis=0, keepdims=True) > 5)
    share = np.array(liver.shape[1:]) / np.array(prepared.shape[1:])
    inside = np.argwhere(prepared)[:, 1:].mean(axis=0)
    row = found.rows.start / geometry().rows * prepared.shape[1] + np.argwhere(liver)[:, 1].mean()
    assert inside[0] == pytest.approx(row, abs=1.5) and share.max() <= 1
