"""The recipe: the real cases as they are described, figures that are right, and wrong input in one line."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_io.geometry import Geometry
from dicom_io.volume import Volume
from models.cards import read_card
from models.errors import CaseUnreadable, RunMismatch
from models.inference import Model
from models.recipe import HOW, SOURCES, claim, describe, dice, fold_quality, main, measure, read_case
from models.training import Recipe

VOXELS = {"ircadb_case17": (2_106_497, 185_990), "chaos_ct3": (1_342_595, 0), "lits_volume0": (552_627, 0)}
"""Liver (tumours included) and tumour of the real cases, from the shared data's MANIFEST."""


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_real_cases_are_read_with_their_labels_on_the_liver(shared_data: Path, source: object) -> None:
    """As many voxels as the manifest says, and where they lie the image has the values of a liver."""
    source = next(known for known in SOURCES if known == source)
    volume, labels = read_case(shared_data, source)
    assert (np.count_nonzero(labels), np.count_nonzero(labels == 2)) == VOXELS[source.name]
    assert source.merged == (source.name == "lits_volume0")
    liver_hu = volume.array[labels == 1]
    assert 40 < np.median(liver_hu) < 160
    assert np.mean((liver_hu > -20) & (liver_hu < 250)) > 0.95


def test_figures_of_a_known_answer(
    stand_in: Model,
    axial: Callable[..., Geometry],
    lopsided: Callable[[Geometry], tuple[Volume, NDArray[np.uint8]]],
) -> None:
    """Volumes in millilitres, Dice near one, and null where the truth knows nothing."""
    geometry = axial(rows=60, columns=52, positions_mm=np.arange(34) * 4.0)
    volume, truth = lopsided(geometry)
    figures = measure(stand_in, volume, truth, tumours_drawn=True)
    voxel_ml = 3.0 * 3.5 * 4.0 / 1000
    assert figures["liver_ml_truth"] == pytest.approx(np.count_nonzero(truth) * voxel_ml, abs=0.06)
    assert figures["tumour_ml_truth"] == pytest.approx(np.count_nonzero(truth == 2) * voxel_ml, abs=0.06)
    assert figures["liver_ml"] == pytest.approx(figures["liver_ml_truth"], rel=0.05)
    assert 0.97 < (figures["liver_dice"] or 0) <= 1
    assert 0.88 < (figures["tumour_dice"] or 0) <= 1
    assert figures["lesions"] == 1

    merged = measure(stand_in, volume, truth.clip(max=1), tumours_drawn=False)
    assert (merged["tumour_dice"], merged["tumour_ml_truth"]) == (None, None)
    healthy = measure(stand_in, volume, truth.clip(max=1), tumours_drawn=True)
    assert (healthy["tumour_dice"], healthy["tumour_ml_truth"]) == (None, 0.0)


def test_dice_of_halves_and_of_nothing() -> None:
    """Half found: two thirds. Nothing found: zero."""
    truth = np.arange(8) < 4
    assert dice(np.arange(8) < 2, truth) == pytest.approx(2 / 3)
    assert dice(np.zeros(8, bool), truth) == 0
    assert dice(truth, truth) == 1


def test_card_of_a_run_can_be_read_and_names_what_was_used(tmp_path: Path) -> None:
    """The case left out is not among its data, and its version cannot be taken for the shipped one's."""
    path = tmp_path / "resnet50.json"
    path.write_text(json.dumps(describe("ab" * 32, "chaos_ct3", Recipe(steps=7), {})))
    card = read_card(path)
    assert card.preprocessing == HOW
    assert card.research_use_only
    assert "IRCADb" in card.trained_on
    assert "7 steps" in card.trained_on
    assert "CHAOS" not in card.trained_on + card.licence
    whole = describe("ab" * 32, None, Recipe(), {})
    assert "CHAOS" in whole["trained_on"]
    assert card.version != whole["version"]


def test_figures_of_left_out_cases_are_copied_and_no_others(tmp_path: Path) -> None:
    """Not those of its training cases, nor its phantoms: those belong to other weights."""
    quality = {
        "chaos_ct3, left out": {"liver_dice": 0.9},
        "ircadb_case17, training case": {"liver_dice": 0.95},
        "phantom 1000000, left out": {"liver_dice": 0.97},
    }
    (tmp_path / "resnet50.json").write_text(json.dumps(describe("ab" * 32, "chaos_ct3", Recipe(), quality)))
    assert fold_quality([tmp_path]) == {"chaos_ct3, left out": {"liver_dice": 0.9}}


@pytest.mark.parametrize("content", ["{", "[]", "{}", None])
def test_fold_without_a_card_is_refused(tmp_path: Path, content: str | None) -> None:
    """Before any training, not after."""
    if content is not None:
        (tmp_path / "resnet50.json").write_text(content)
    with pytest.raises(CaseUnreadable, match=r"resnet50\.json"):
        fold_quality([tmp_path])


def test_folder_of_a_run_is_its_own(tmp_path: Path) -> None:
    """The same run goes on in it; one that leaves out another case, or takes other steps, is refused."""
    out, recipe = tmp_path / "run", Recipe(steps=7)
    claim(out, "chaos_ct3", recipe)
    claim(out, "chaos_ct3", recipe)
    for leave_out, other in ((None, recipe), ("lits_volume0", recipe), ("chaos_ct3", replace(recipe, steps=8))):
        with pytest.raises(RunMismatch, match="another run"):
            claim(out, leave_out, other)


def test_checkpoint_of_nobody_knows_what_is_refused(tmp_path: Path) -> None:
    """What it was trained on cannot be told from it."""
    (tmp_path / "checkpoint.pt").touch()
    with pytest.raises(RunMismatch, match="checkpoint"):
        claim(tmp_path, None, Recipe())


@pytest.mark.parametrize("fault", ["folder", "zip", "dicom", "out"])
def test_wrong_input_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    """No data, a damaged zip, a zip of something else, an output folder that is a file."""
    data, out = tmp_path / "data", tmp_path / "out"
    archive = data / SOURCES[0].name / "ct_dicom.zip"
    if fault != "folder":
        archive.parent.mkdir(parents=True)
        archive.write_bytes(b"PK\x05\x06" + bytes(18) if fault == "dicom" else b"no zip")
    if fault == "out":
        out.touch()
    assert main(["--data", str(data), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("recipe: ")
    assert fault == "dicom" or str(out if fault == "out" else archive) in error


@pytest.mark.parametrize("wrong", [["--steps", "0"], ["--steps", "x"], ["--leave-out", "chaos"], ["--what"]])
def test_wrong_option_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: list[str]
) -> None:
    """No page of usage."""
    with pytest.raises(SystemExit) as stop:
        main(["--data", str(tmp_path), "--out", str(tmp_path), *wrong])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
