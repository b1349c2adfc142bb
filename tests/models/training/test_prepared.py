"""Cases on the disk as inference would see them: exact, made once, made again where they must be."""

import json
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.cards import Preprocessing
from models.datasets.cases import Case
from models.errors import CaseUnreadable, RunMismatch
from models.phantom import grid, make_phantom
from models.preprocessing import channels, normalise, shrunk_stack, slice_positions, to_canonical
from models.training.prepared import Prepared, prepare, read_prepared


@dataclass(frozen=True)
class Drawn:
    """A source whose case is drawn when it is read; `trace` gets a line each time."""

    name: str
    seed: int = 4
    fingerprint: str = "0"
    trace: Path | None = None
    collection: str = "phantoms"
    modality: str = "CT"

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
        if self.seed == -4:
            raise KeyError("PatientName of somebody")
        case = drawn_case(self.name, self.seed)
        return replace(case, volume=replace(case.volume, modality=self.modality))


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


def contents(cache: Path) -> dict[str, int]:
    """Each file of a cache and when it was written."""
    return {str(path.relative_to(cache)): path.stat().st_mtime_ns for path in sorted(cache.rglob("*.*"))}


def test_what_is_there_is_not_made_again(how: Preprocessing, tmp_path: Path) -> None:
    """Until the content, the preprocessing or the patient changes; then beside it, and the hash changes too."""
    sources = [Drawn("one", trace=tmp_path / "trace"), Drawn("two", seed=5, trace=tmp_path / "trace")]
    told: list[tuple[int, int]] = []
    first = prepare(sources, how, tmp_path / "cache", progress=lambda done, of: told.append((done, of)))
    assert told == [(0, 2), (1, 2), (2, 2)]
    before = contents(tmp_path / "cache")
    again = prepare(sources, how, tmp_path / "cache", progress=lambda done, of: told.append((done, of)))
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
    """A case without a truth, one whose file may not be read, and one at which a library stumbled."""
    prepared = prepare(
        [Drawn("bad", seed=-1), Drawn("good"), Drawn("closed", seed=-2), Drawn("odd", seed=-4)], how, tmp_path
    )
    assert [case.name for case in prepared.cases] == ["good"]
    assert prepared.skipped == (
        *("bad: has no truth", "closed: cannot be read, Permission denied", "odd: cannot be prepared, KeyError"),
    )
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


def test_two_that_share_a_cache_make_each_case_once(how: Preprocessing, tmp_path: Path) -> None:
    """As the processes of a run on several GPUs do: one makes it, the other waits for its claim and then reads.

    What cannot be read, each of them finds.
    """
    trace = tmp_path / "trace"
    sources = [Drawn("one", trace=trace), Drawn("bad", seed=-1), Drawn("two", seed=5, trace=trace)]
    together = threading.Barrier(2)

    def run(_: int) -> tuple[str, tuple[str, ...]]:
        together.wait()
        prepared = prepare(sources, how, tmp_path / "cache")
        return prepared.sha256, prepared.skipped

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(run, range(2))
    assert first == second and first[1] == ("bad: has no truth",)
    assert sorted(trace.read_text().split()) == ["one", "two"]
    assert all(not path.name.endswith(".part") for path in (tmp_path / "cache").iterdir())


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


@pytest.mark.parametrize("key", ["sha256", "name", "fine"])
def test_facts_that_lack_something_are_made_again(how: Preprocessing, key: str, tmp_path: Path) -> None:
    first = prepare([Drawn("tiny")], how, tmp_path)
    file = (first.cases[0].folder or tmp_path) / "case.json"
    facts = json.loads(file.read_text())
    file.write_text(json.dumps({name: value for name, value in facts.items() if name != key}))
    with pytest.raises(CaseUnreadable, match=r"case.json: damaged"):
        read_prepared(file.parent)
    assert prepare([Drawn("tiny")], how, tmp_path).sha256 == first.sha256


def test_modality_is_kept_beside_the_hash(how: Preprocessing, tmp_path: Path) -> None:
    """A cache from before it was kept has the same hash, and is CT; where there may be MR it is made again."""
    percentiles = replace(how, window_percentiles=(1.0, 99.0))
    (mr,) = prepare([Drawn("mr", seed=5, modality="MR")], percentiles, tmp_path).cases
    assert mr.modality == pickle.loads(pickle.dumps(replace(mr, folder=None))).modality == "MR"
    for way in (how, percentiles):
        trace = tmp_path / f"trace-{way is how}"
        first = prepare([Drawn("ct", trace=trace)], way, tmp_path)
        (ct,) = first.cases
        assert ct.modality == "CT" and ct.folder is not None
        facts = json.loads((ct.folder / "case.json").read_text())
        del facts["modality"]
        (ct.folder / "case.json").write_text(json.dumps(facts))
        assert read_prepared(ct.folder).modality == "CT"
        assert prepare([Drawn("ct", trace=trace)], way, tmp_path).sha256 == first.sha256
        assert trace.read_text() == "ct\n" * (1 if way is how else 2)


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
