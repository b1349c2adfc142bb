"""`porta finetune`: few labelled cases, weights that know much already, and what was gained on cases held back.

OUT/before, OUT/after   the held-back cases measured with the weights that were given and with those that came out
OUT/run                 the run of `porta train`, with the weights and their card
OUT/cache               prepared cases
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from daemon.errors import BadRequest, EvaluationStopped
from daemon.terminal import Terminal
from daemon.workbench.evaluator import ROWS, Content, evaluate_model, mean_of
from daemon.workbench.interruption import interruptible
from daemon.workbench.train_settings import FINETUNING, Overrides, TrainSettings, load_settings
from daemon.workbench.trainer import CACHE, Material, find_material, train_model
from dicom_io.files.whole_files import write_whole
from models.cards import Card, find, read_card
from models.datasets.cases import CaseSource
from models.datasets.discovery import find_all
from models.datasets.phantoms import PhantomSource
from models.datasets.splits import make_split
from models.errors import SplitInvalid
from models.evaluation.evaluation import Asked
from models.inference import load_model
from models.training.runs import learned_from
from reports.identity import software_version

BEFORE, AFTER, RUN = "before", "after", "run"
MOST_CASES = 10
HELD_BACK = 1 / 3
"""The share of the patients that is held back where nobody is named."""


@dataclass(frozen=True)
class Finetuning:
    """The options of the command line. `base`: a name of `porta models`, or a card."""

    base: str
    overrides: Overrides
    command: str = "porta finetune"


def finetune(asked: Finetuning, out: Path) -> Path:
    """Train on as asked, measure before and after, print one table; the path of the new card.

    A run that was stopped goes on. Raises UnknownModel, CardInvalid, WeightsCorrupt, BadRequest, ConfigurationError,
    CaseUnreadable, SplitInvalid and RunMismatch for what the caller must mend, TrainingStopped and EvaluationStopped
    after Ctrl-C or SIGTERM.
    """
    try:
        with interruptible():
            return _finetuned(asked, out)
    except KeyboardInterrupt:
        raise EvaluationStopped("stopped; the same command goes on from the cases that were measured") from None


def _finetuned(asked: Finetuning, out: Path) -> Path:
    base = find(asked.base)
    settings = settings_of(asked, base, out)
    material = find_material(settings)
    held_back = _held_back(material, base)
    _count(material)
    how = Asked(software=f"porta-hepatis {software_version()}", command=asked.command)
    contents = {BEFORE: _measure(base, held_back, out / BEFORE, how, settings)}
    train_model(settings, out / RUN, command=asked.command)
    card = read_card(out / RUN / f"{base.architecture}.json")
    contents[AFTER] = _measure(card, held_back, out / AFTER, how, settings)
    _tell(card.path, contents)
    console = Terminal(width=None if sys.stdout.isatty() else 160)
    console.print(table_of(contents))
    console.print(f"{card.path}: {card.name} {card.version}, from {base.name} {base.version}", soft_wrap=True)
    return card.path


def settings_of(asked: Finetuning, base: Card, out: Path) -> TrainSettings:
    """Return the settings of the training: architecture and preprocessing of the base, no validation.

    Raises ConfigurationError, CaseUnreadable, SplitInvalid.
    """
    given = load_settings(None, asked.overrides, FINETUNING)
    values: dict[tuple[str, str], Any] = {
        ("data", "cache"): given.data.cache or out / CACHE,
        ("data", "leave_out"): given.data.leave_out or _drawn(given),
        ("data", "validation"): 0.0,
        ("network", "model"): base.architecture,
        ("network", "initial"): base.path,
        ("training", "epoch"): given.training.steps,
        ("card", "name"): given.card.name or f"{base.name}-tuned"[:64],
    }
    how = {("preprocessing", key): value for key, value in asdict(base.preprocessing).items()}
    return load_settings(None, values | how, given)


def _drawn(given: TrainSettings) -> tuple[str, ...]:
    """The cases that are held back where none is named: a third of the patients, at least one, by the seed."""
    folders = given.data.folders
    sources = find_all(folders, given.data.tumours_not_drawn).sources
    patients = {source.patient for source in sources}
    if len(patients) < 2:
        few = "no case" if not patients else f"only {sources[0].name}"
        raise BadRequest(f"{few} in {', '.join(map(str, folders))}: one is to learn from, another to measure on")
    return make_split(sources, validation=0.0, test=HELD_BACK, seed=given.training.seed).test


def _held_back(material: Material, base: Card) -> list[CaseSource]:
    """The cases to measure on. Raises SplitInvalid where the base knows their patients, as far as its run says."""
    held_back = [material.sources[name] for name in material.split.test]
    patients = learned_from(base)
    if known := [source.name for source in held_back if source.patient in patients]:
        raise SplitInvalid(
            f"{base.path}: was trained or validated on patients of {', '.join(known)}; hold others back by --leave-out"
        )
    return held_back


def _count(material: Material) -> None:
    """Raise BadRequest for none or too many cases to learn from; phantoms that are drawn do not count."""
    learned = [name for name in material.split.training if not isinstance(material.sources[name], PhantomSource)]
    if not 1 <= len(learned) <= MOST_CASES:
        raise BadRequest(
            f"{len(learned)} cases to learn from, {len(material.split.test)} held back: finetune takes 1 to "
            f"{MOST_CASES}; porta train --initial CARD.json takes more"
        )


def _measure(card: Card, sources: Sequence[CaseSource], out: Path, how: Asked, settings: TrainSettings) -> Content:
    machine = settings.machine
    model = load_model(card, device=machine.device, threads=machine.threads)
    return evaluate_model(model, sources, out, how, label=out.name)


def _tell(path: Path, contents: Mapping[str, Content]) -> None:
    """Write what was measured into the card, case by case, with what the weights had that it began from."""
    card = json.loads(path.read_text())
    figures = {
        label: {
            record["name"]: {part: record[part]["dice"] for part in ("liver", "tumour")} for record in found["cases"]
        }
        for label, found in contents.items()
    }
    card["quality"] = {
        f"{name}, left out": {
            f"{part}_dice{ending}": None if (dice := figures[label][name][part]) is None else round(dice, 3)
            for part in ("liver", "tumour")
            for label, ending in ((AFTER, ""), (BEFORE, "_before"))
        }
        for name in figures[AFTER]
        if name in figures[BEFORE]
    }
    write_whole(path, (json.dumps(card, indent=2) + "\n").encode())


def table_of(contents: Mapping[str, Content]) -> Table:
    """Before, after, and the difference of the means, on the cases that were held back."""
    count = len(contents[AFTER]["cases"])
    title = f"{count} case{'' if count == 1 else 's'} held back; mean"
    table = Table("", BEFORE, AFTER, "difference", title=title, title_justify="left")
    for name, path, digits in ROWS:
        before, after = (mean_of(contents[label]["summary"], path) for label in (BEFORE, AFTER))
        cells = ["–" if value is None else f"{value:.{digits}f}" for value in (before, after)]
        gain = "–" if before is None or after is None else f"{after - before:+.{digits}f}"
        table.add_row(name, *cells, gain)
    return table
