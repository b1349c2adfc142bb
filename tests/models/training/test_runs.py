"""The folder of a run: its own, whole after any crash, and cut back to where the run goes on from."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models.cards import Preprocessing, read_card
from models.errors import RunMismatch
from models.training.runs import BEST, CHECKPOINT, DICES, LAST, LOSSES, RUN, Quality, RunFolder, claim, learned_from

IDENTITY: dict[str, Any] = {"training.steps": 7, "training.seed": 0, "data": "ab" * 32, "split": [["a", "training"]]}


@pytest.fixture
def card(how: Preprocessing) -> dict[str, Any]:
    """What the trainer says of the weights."""
    return {
        "name": "fcn_vgg16",
        "version": "0-abababab",
        "architecture": "fcn_vgg16",
        "modalities": ["CT"],
        "preprocessing": vars(how),
        "trained_on": "phantoms (3); 7 steps of 2 samples",
        "licence": "Apache-2.0",
    }


@pytest.fixture
def folder(tmp_path: Path, card: dict[str, Any]) -> RunFolder:
    """A folder that was just claimed."""
    return claim(tmp_path / "run", IDENTITY, card, {"config.toml": "steps = 7\n"})


def test_folder_says_what_made_it(folder: RunFolder) -> None:
    """Configuration, data, seed, versions."""
    run = json.loads((folder.path / RUN).read_text())
    assert run["identity"] == IDENTITY
    assert {"python", "porta-hepatis", "torch", "monai", "numpy"} <= run["versions"].keys()
    assert (folder.path / "config.toml").read_text() == "steps = 7\n"


def test_weights_that_differ_have_versions_that_differ(tmp_path: Path, card: dict[str, Any]) -> None:
    """The best and the last, one that was stopped, of another seed or base; one that somebody chose is kept."""
    folder = claim(tmp_path / "run", IDENTITY, card | {"version": None}, {})
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
    versions = []
    for network, which in ((first, BEST), (second, LAST), (first, LAST)):
        folder.save_weights(network, which, None)
        written = read_card(folder.weights(which))
        assert written.version == f"0-{written.sha256[:12]}"
        versions.append(written.version)
    assert versions[0] == versions[2] != versions[1]
    RunFolder(folder.path, card).save_weights(second, BEST, None)
    assert read_card(folder.weights()).version == "0-abababab"


def test_same_run_goes_on_and_another_is_refused_by_what_differs(folder: RunFolder, card: dict[str, Any]) -> None:
    """One line that names the key, and what it is on either side where that is short."""
    claim(folder.path, IDENTITY, card, {})
    with pytest.raises(RunMismatch, match=r"run: holds another run: training.steps is 7 there and 8 here"):
        claim(folder.path, IDENTITY | {"training.steps": 8}, card, {})
    with pytest.raises(RunMismatch, match=r"of another data"):
        claim(folder.path, IDENTITY | {"data": "cd" * 32}, card, {})


def test_older_run_goes_on_where_a_later_key_says_what_it_was(tmp_path: Path, card: dict[str, Any]) -> None:
    """It was begun before an encoder could be frozen; one that is, is another run."""
    claim(tmp_path / "old", IDENTITY, card, {})
    claim(tmp_path / "old", IDENTITY | {"training.freeze_encoder": False}, card, {})
    with pytest.raises(RunMismatch, match=r"training\.freeze_encoder is false there and true here"):
        claim(tmp_path / "old", IDENTITY | {"training.freeze_encoder": True}, card, {})


def test_folder_of_something_else_is_refused(tmp_path: Path, card: dict[str, Any]) -> None:
    """A folder with other files, one whose run.json is damaged, a file."""
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RunMismatch, match="not empty"):
        claim(tmp_path, IDENTITY, card, {})
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / RUN).write_text("{")
    with pytest.raises(RunMismatch, match=RUN):
        claim(damaged, IDENTITY, card, {})
    with pytest.raises(RunMismatch, match="thesis"):
        claim(tmp_path / "thesis.tex", IDENTITY, card, {})


def test_a_claim_that_was_killed_is_made_again(tmp_path: Path, card: dict[str, Any]) -> None:
    """Whatever it had begun to write."""
    for name in ("config.toml", ".split.json.part", ".run.json.part"):
        (tmp_path / name).write_text("half")
    claim(tmp_path, IDENTITY, card, {"config.toml": "steps = 7\n", "split.json": "{}"})
    assert {path.name for path in tmp_path.iterdir()} == {"config.toml", "split.json", RUN}
    assert (tmp_path / "config.toml").read_text() == "steps = 7\n"


def test_weights_know_whom_they_learned_from(folder: RunFolder, card: dict[str, Any], tmp_path: Path) -> None:
    """Those of a run; of weights that lie elsewhere nothing is known."""
    named = claim(tmp_path / "named", IDENTITY, card, {}, ["LiTS/3", "LiTS/2", "LiTS/3"])
    for run in (folder, named):
        run.save_weights(nn.Conv2d(3, 3, 1), BEST, None)
    assert learned_from(read_card(named.weights())) == {"LiTS/2", "LiTS/3"}
    assert learned_from(read_card(folder.weights())) == set()
    (named.path / RUN).write_text('{"identity": {}}')
    assert learned_from(read_card(named.weights())) == set()


def test_checkpoint_comes_back(folder: RunFolder) -> None:
    """None at first; then what was written last, and nothing beside it."""
    assert folder.read_checkpoint() is None
    for step in (1, 2):
        folder.write_checkpoint({"step": step, "network": {"weight": torch.full((2,), float(step))}})
    state = folder.read_checkpoint()
    assert state is not None
    assert state["step"] == 2
    assert state["network"]["weight"].tolist() == [2, 2]
    assert not list(folder.path.glob("*.part"))


def test_damaged_checkpoint_is_one_line(folder: RunFolder) -> None:
    """It says what to do."""
    (folder.path / CHECKPOINT).write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(RunMismatch, match=r"checkpoint\.pt.*remove it"):
        folder.read_checkpoint()
    (folder.path / CHECKPOINT).unlink()
    (folder.path / CHECKPOINT).mkdir()
    with pytest.raises(RunMismatch, match=r"checkpoint\.pt: Is a directory"):
        folder.read_checkpoint()


def test_logs_are_on_the_disk_before_the_checkpoint(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or after a power cut the run would go on behind a gap."""
    synced = list[str]()
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(Path(os.readlink(f"/proc/self/fd/{number}")).name))
    folder.log_loss(1, 0.5, 6e-4)
    folder.log_dice(Quality(1, 0.5, None, 4))
    folder.write_checkpoint({"step": 1})
    assert synced[:3] == [LOSSES, DICES, f".{CHECKPOINT}.part"]


def test_logs_are_cut_back_to_the_checkpoint(folder: RunFolder) -> None:
    """What came after it is noted again; a line that a crash cut short is no line."""
    folder.cut_logs(0)
    for step in range(1, 6):
        folder.log_loss(step, 1 / step, 6e-4)
    folder.log_dice(Quality(2, 0.5, None, 4))
    folder.log_dice(Quality(4, 0.75, 0.25, 4))
    with (folder.path / LOSSES).open("a") as file:
        file.write("6,0.1")
    folder.cut_logs(3)
    assert (folder.path / LOSSES).read_text() == (
        "step,loss,learning_rate\n1,1.000000,0.0006\n2,0.500000,0.0006\n3,0.333333,0.0006\n"
    )
    assert (folder.path / DICES).read_text() == "step,liver_dice,tumour_dice\n2,0.5000,\n"


def test_weights_have_a_card_that_is_read(folder: RunFolder, how: Preprocessing) -> None:
    """The best with what was measured, the last beside them under another name."""
    folder.save_weights(nn.Conv2d(3, 3, 1), BEST, Quality(4, 0.91234, None, 24))
    folder.save_weights(nn.Conv2d(3, 3, 1), LAST, None)
    best, last = read_card(folder.weights()), read_card(folder.weights(LAST))
    assert best.preprocessing == how
    assert best.quality == {"validation": {"liver_dice": 0.912, "tumour_dice": None, "slices": 24, "step": 4}}
    assert last.quality == {}
    assert best.weights.stat().st_mode & 0o777 == 0o644
    assert best.research_use_only
    assert best.weights != last.weights
    assert best.weights.exists()
    assert last.weights.exists()


def test_score_is_the_mean_of_what_was_measured() -> None:
    """A collection without drawn tumours is judged by its livers."""
    assert Quality(1, 0.9, 0.5, 4).score == pytest.approx(0.7)
    assert Quality(1, 0.9, None, 4).score == 0.9
