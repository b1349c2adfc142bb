"""The folder of a training run: what it is, how far it came, and the weights that it made.

    config.toml          the configuration as it was used, every default written out
    run.json             what the run is (refused where it differs), the data's hash, seed, versions, patients' keys
    split.json           which cases train, validate and test
    loss.csv, dice.csv   a line a step, and a line a validation; curves.png is drawn from them
    train.log            when it was started, went on, validated, was stopped
    checkpoint.pt        what an interrupted run goes on from
    NAME.safetensors, NAME.json             the best weights and their card, NAME being the architecture
    NAME-last.safetensors, NAME-last.json   those of the last step

Everything is written under another name, synced and renamed, or appended line by line and cut back to the checkpoint.
"""

import json
import os
import pickle
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dicom_io.files.whole_files import open_whole, part_of, rename_whole, write_whole
from models.cards import PATIENTS, Card
from models.errors import UNFORESEEN, CardInvalid, RunMismatch
from models.weights import save_network

BEST, LAST = "", "-last"
VERSION_DIGITS = 12
"""Of the weights' sha256, where they are what tells versions apart."""
RUN, CONFIG, SPLIT, LOG, CURVES = "run.json", "config.toml", "split.json", "train.log", "curves.png"
CLAIMING = frozenset(name for path in map(Path, (RUN, CONFIG, SPLIT)) for name in (path.name, part_of(path).name))
"""What a folder may hold whose claim was killed before `run.json` was there."""
CHECKPOINT, LOSSES, DICES = "checkpoint.pt", "loss.csv", "dice.csv"
LATER_KEYS: Mapping[str, Any] = {
    "training.freeze_encoder": False,
    "balance.beyond": 0.0,
    "augmentation.phase": 0.0,
    "augmentation.effusion": 0.0,
}
"""Keys of an identity that older runs do not have, and what these runs were: they go on."""
COLUMNS = {LOSSES: "step,loss,learning_rate", DICES: "step,liver_dice,tumour_dice"}

Describe = Callable[[str], dict[str, Any]]


@dataclass(frozen=True)
class Quality:
    """The result of a validation at a step: Dice over all `slices` as one; None where no tumour was drawn."""

    step: int
    liver_dice: float
    tumour_dice: float | None
    slices: int

    @property
    def score(self) -> float:
        """The figure that decides which weights are the best: the mean of what was measured."""
        return self.liver_dice if self.tumour_dice is None else (self.liver_dice + self.tumour_dice) / 2


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run, from `claim`. `card` is the weights' card without sha256 and quality."""

    path: Path
    card: Mapping[str, Any]

    def read_checkpoint(self) -> dict[str, Any] | None:
        """Read the checkpoint onto the CPU; None at the start of a run. Raises RunMismatch for a damaged file.

        On a GPU a second copy of everything would lie beside the first until the run's first step.
        """
        path = self.path / CHECKPOINT
        if not path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except OSError as error:
            raise RunMismatch(f"{path}: {error.strerror}") from error
        except (pickle.UnpicklingError, *UNFORESEEN) as error:
            raise RunMismatch(f"{path}: not a checkpoint, or a damaged one; remove it to begin again") from error
        return state

    def write_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Write a checkpoint in full or not at all, durably; the logs that lead to it are synced first."""
        for name in COLUMNS:
            if (self.path / name).exists():
                with (self.path / name).open("a") as file:
                    os.fsync(file.fileno())
        with open_whole(self.path / CHECKPOINT) as file:
            torch.save(dict(state), file)

    def cut_logs(self, step: int) -> None:
        """Take away what was noted after `step`: the run goes on from there and notes it again."""
        for name, columns in COLUMNS.items():
            path = self.path / name
            kept = [columns]
            if path.exists():
                rows = path.read_text().splitlines()[1:]
                kept += [row for row in rows if row.count(",") == 2 and int(row.partition(",")[0]) <= step]
            write_whole(path, ("\n".join(kept) + "\n").encode())

    def log_loss(self, step: int, loss: float, learning_rate: float) -> None:
        """Append a line to loss.csv."""
        self._append(LOSSES, f"{step},{loss:.6f},{learning_rate:.6g}")

    def log_dice(self, quality: Quality) -> None:
        """Append a line to dice.csv; empty where no tumour was drawn."""
        tumour = "" if quality.tumour_dice is None else f"{quality.tumour_dice:.4f}"
        self._append(DICES, f"{quality.step},{quality.liver_dice:.4f},{tumour}")

    def note(self, event: str) -> None:
        """Append a line to the log, with the time."""
        self._append(LOG, f"{datetime.now(UTC).isoformat(timespec='seconds')} {event}")

    def _append(self, name: str, line: str) -> None:
        with (self.path / name).open("a") as file:
            file.write(line + "\n")

    def weights(self, which: str = BEST) -> Path:
        """The card of the best or last weights."""
        return self.path / f"{self.card['architecture']}{which}.json"

    def save_weights(self, network: nn.Module, which: str, quality: Quality | None) -> None:
        """Save weights in half precision, and their card with the figures of the validation.

        Unless somebody chose a version it is made of the weights: no two that differ (in data, base, seed, steps, in
        being the best or the last, in when the run was stopped) have the same name and version, which SEG and SR bear.
        """
        path = self.weights(which)
        file = path.with_suffix(".safetensors")
        part = part_of(file)
        sha256 = save_network(network, part)
        part.chmod(0o644)  # safetensors makes the file its owner's alone; weights are read by the service's account
        rename_whole(part, file)
        measured = {}
        if quality is not None:
            measured["validation"] = {
                "liver_dice": round(quality.liver_dice, 3),
                "tumour_dice": None if quality.tumour_dice is None else round(quality.tumour_dice, 3),
                "slices": quality.slices,
                "step": quality.step,
            }
        card = {**self.card, "version": self.card.get("version") or f"0-{sha256[:VERSION_DIGITS]}"}
        card |= {"sha256": sha256, "quality": measured, "research_use_only": True}
        write_whole(path, (json.dumps(card, indent=2) + "\n").encode())


def claim(
    path: Path,
    identity: Mapping[str, Any],
    card: Mapping[str, Any],
    texts: Mapping[str, str],
    patients: Iterable[str] = (),
) -> RunFolder:
    """Make the folder of a run, or accept the one that is there: then the run goes on from its checkpoint.

    `identity`: JSON values that decide which weights come out. `texts`: files to be written beside it by name.
    `patients`: whom its weights know from training or validation, for `learned_from`. Raises RunMismatch: going on with
    anything else would give weights that no configuration describes.
    """
    described = {"identity": dict(identity), "versions": versions(), "patients": sorted(set(patients))}
    file = path / RUN
    refuse_another(path, identity)
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            for name, text in texts.items():
                write_whole(path / name, text.encode())
            write_whole(file, (json.dumps(described, indent=2) + "\n").encode())
    except OSError as error:
        raise RunMismatch(f"{error.filename or path}: {error.strerror}") from error
    return RunFolder(path, card)


def refuse_another(path: Path, identity: Mapping[str, Any]) -> None:
    """Raise RunMismatch where the folder is not this run's, as far as the keys of `identity` tell, nor free for it.

    Nothing is written: what is known beforehand is checked before hours are spent on preparing cases.
    """
    try:
        if (path / RUN).exists():
            _compare(path, _read(path / RUN), json.loads(json.dumps(identity)))
        elif path.exists() and any(entry.name not in CLAIMING for entry in path.iterdir()):
            raise RunMismatch(f"{path}: is not empty and holds no {RUN}; choose another folder")
    except OSError as error:
        raise RunMismatch(f"{error.filename or path}: {error.strerror}") from error


def learned_from(card: Card) -> frozenset[str]:
    """Return the patients whom weights know from training or validation; none where nothing states them.

    It is said by the run that they lie in, or by the list that `catalogue.add` brought with them. Raises CardInvalid
    for one that may not be read: it is there, and says who must not be measured on.
    """
    patients: set[str] = set()
    for path in (card.weights.parent / RUN, card.weights.with_suffix(PATIENTS)):
        try:
            patients |= set(json.loads(path.read_text())["patients"])
        except PermissionError as error:
            raise CardInvalid(f"{path}: {error.strerror}") from error
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return frozenset(patients)


def versions() -> dict[str, str]:
    """Return the versions of all software that the weights may depend on."""
    packages = ("porta-hepatis", "torch", "torchvision", "monai", "numpy")
    return {"python": platform.python_version()} | {package: version(package) for package in packages}


def _read(file: Path) -> dict[str, Any]:
    try:
        identity: dict[str, Any] = {**LATER_KEYS, **json.loads(file.read_text())["identity"]}
    except (ValueError, KeyError, TypeError) as error:
        raise RunMismatch(f"{file}: does not say of which run it is; choose another folder") from error
    return identity


def _compare(path: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    for key, value in here.items():
        if there.get(key) != value:
            was, now = json.dumps(there.get(key)), json.dumps(value)
            shown = f": {key} is {was} there and {now} here" if len(was) + len(now) < 120 else f", of another {key}"
            raise RunMismatch(f"{path}: holds another run{shown}; choose another folder with --out")
