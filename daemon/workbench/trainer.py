"""`porta train`: find cases, split them, prepare them once, train, and leave weights with a filled card."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from daemon.errors import ConfigurationError, TrainingStopped
from daemon.progress import progress_bar, steps_bar
from daemon.terminal import warn
from daemon.workbench.interruption import Interruption, interruptible
from daemon.workbench.train_settings import TrainSettings, as_toml
from models.cards import Card, find, licences_of
from models.datasets.cases import CaseSource
from models.datasets.discovery import Found, find_all
from models.datasets.phantoms import TEST_SEEDS, is_for_tests, phantom_sources
from models.datasets.splits import Split, as_json, check, fold, leave_out, make_split, part, read_split
from models.errors import CaseUnreadable, ModelError, SplitInvalid
from models.training.loop import Trained, Watch, make_network, train
from models.training.prepared import Prepared, PreparedCase, prepare
from models.training.ranks import Rank, join_ranks
from models.training.runs import (
    CONFIG,
    CURVES,
    DICES,
    LOSSES,
    SPLIT,
    Quality,
    RunFolder,
    claim,
    learned_from,
    refuse_another,
)
from reports.evaluation.curves import draw_curves

CACHE = "cache"
STRIDE = 32
"""Pixels of a sample that are one value of a network's deepest map."""
LINES_OF_STEPS = 20
"""Where there is no progress bar, a line is printed after this number of steps."""


@dataclass(frozen=True)
class Material:
    """The cases of a run, by what they are for; `lines` says what could not be used."""

    sources: dict[str, CaseSource]
    split: Split
    lines: tuple[str, ...] = field(default=())


def train_model(settings: TrainSettings, out: Path, *, command: str = "") -> Trained:
    """Train as the settings say, in the folder `out`; a run that was stopped there goes on.

    Raises ConfigurationError, CaseUnreadable, SplitInvalid and RunMismatch for what the caller must mend,
    TrainingStopped when a signal ended it before its last step.
    """
    recipe, how = settings.recipe, settings.preprocessing
    with interruptible() as interruption, join_ranks(settings.machine.device, settings.machine.threads) as rank:
        if recipe.batch % rank.world:
            raise ConfigurationError([f"training.batch: {recipe.batch} cannot be shared by {rank.world} processes"])
        if recipe.batch == rank.world and recipe.pixels <= STRIDE:
            few = f"training.batch: one sample of {recipe.pixels} pixels a process is too little for batch norm"
            raise ConfigurationError([f"{few}; give two, or training.pixels above {STRIDE}"])
        try:
            initial = None if settings.network.initial is None else find(str(settings.network.initial))
            network = make_network(recipe, settings.network.backbone_weights, initial)
        except ModelError as error:
            raise ConfigurationError([str(error)]) from error
        material = find_material(settings)
        if rank.first:
            refuse_another(out, settings.identity)
        try:
            prepared = _prepare(settings, material, out, rank)
        except KeyboardInterrupt:
            raise TrainingStopped("stopped while preparing; the same command goes on") from None
        parts = {name: part for part in ("training", "validation") for name in getattr(material.split, part)}
        training, validation = (
            [case for case in prepared.cases if parts[case.name] == part] for part in ("training", "validation")
        )
        if not training:
            raise CaseUnreadable("no case is left to train on")
        identity = settings.identity | {"data": prepared.sha256, "initial": initial.sha256 if initial else None}
        identity |= {"split": sorted((name, part) for name, part in parts.items())}
        card = describe(settings, training, prepared.sha256, initial)
        if rank.first:
            texts = {CONFIG: as_toml(settings), SPLIT: as_json(material.split)}
            known = {case.patient for case in (*training, *validation)} | (learned_from(initial) if initial else set())
            folder = claim(out, identity, card, texts, known)
            folder.note(f"started: {command}")
            for line in (*material.lines, *prepared.skipped):
                folder.note(line)
        rank.wait()
        folder = RunFolder(out, card)
        if rank.first:
            warn(
                f"training on {len(training)} cases, validating on {len(validation)}; {rank.device}"
                + (f", {rank.world} processes" if rank.world > 1 else "")
            )
        interruption.training = True
        with _watched(folder, recipe.steps, interruption, shown=rank.first) as watch:
            trained = train(
                training,
                validation,
                how,
                recipe,
                network=network,
                folder=folder,
                rank=rank,
                watch=watch,
                workers=settings.machine.workers,
            )
        interruption.training = False
        if rank.first:
            _draw(folder)
            folder.note(f"{'stopped' if trained.stopped else 'ended'} at step {trained.step}")
    if trained.stopped:
        best = (
            f"; the best weights so far, of step {trained.best.step}, are in {folder.weights()}" if trained.best else ""
        )
        raise TrainingStopped(f"stopped at step {trained.step} of {recipe.steps}{best}; the same command goes on")
    return trained


def find_material(settings: TrainSettings) -> Material:
    """Find all cases of the settings and split them. Raises ConfigurationError, CaseUnreadable, SplitInvalid."""
    data = settings.data
    if data.phantoms_mr and settings.preprocessing.window_percentiles is None:
        raise ConfigurationError(["data.phantoms_mr: MR needs preprocessing.window_percentiles"])
    if not data.folders and not data.phantoms and not data.phantoms_mr:
        raise CaseUnreadable("no cases to train on: name a folder with --data, or ask for --phantoms")
    found = find_all(data.folders, data.tumours_not_drawn) if data.folders else Found((), ())
    drawn = (*phantom_sources(data.phantoms), *phantom_sources(data.phantoms_mr, modality="MR"))
    cases: tuple[CaseSource, ...] = (*found.sources, *drawn)
    sources = {source.name: source for source in cases}
    if len(sources) < len(cases):
        twice = next(source.name for source in cases if sources[source.name] is not source)
        raise CaseUnreadable(f"{twice}: a case in a folder has the name of a phantom to be drawn; rename its folder")
    split = _split(settings, cases)
    for name in (*split.training, *split.validation):
        if is_for_tests(sources[name]):
            seeds = f"{TEST_SEEDS.start} to {TEST_SEEDS.stop - 1}"
            raise CaseUnreadable(f"{name}: phantoms of the seeds {seeds} are for tests and never trained on")
    return Material(sources, split, found.skipped)


def _split(settings: TrainSettings, sources: Sequence[CaseSource]) -> Split:
    data, seed = settings.data, settings.training.seed
    if data.split is not None:
        split = read_split(data.split)
        try:
            check(split, sources)
        except SplitInvalid as error:
            raise SplitInvalid(f"{data.split}: {error}") from error
        return split
    if data.fold is not None:
        number, _, of = data.fold.partition("/")
        return fold(sources, int(number), int(of), seed=seed, validation=data.validation)
    if data.leave_out:
        return leave_out(sources, data.leave_out, validation=data.validation, seed=seed)
    return make_split(sources, validation=data.validation, test=data.test, seed=seed)


def _prepare(settings: TrainSettings, material: Material, out: Path, rank: Rank) -> Prepared:
    """The arrays of all cases that train or validate; the first process makes what the others then map."""
    names = [*material.split.training, *material.split.validation]
    sources = [material.sources[name] for name in sorted(names)]
    cache = settings.data.cache or Path(os.path.abspath(out)).parent / CACHE
    processes = settings.machine.processes or 1
    prepared = None
    if rank.first:
        with progress_bar("preparing the cases") as progress:
            prepared = prepare(sources, settings.preprocessing, cache, processes=processes, progress=progress)
        for line in (*material.lines, *prepared.skipped):
            warn(line)
    kept = rank.told([case.name for case in prepared.cases] if prepared else [])
    return prepared or prepare(part(sources, kept), settings.preprocessing, cache)


def describe(
    settings: TrainSettings, training: Sequence[PreparedCase], data_sha256: str, initial: Card | None = None
) -> dict[str, Any]:
    """Return the card's content, without the weights' sha256 and the measured quality.

    No version where the settings have none: `RunFolder.save_weights` makes it of the weights.
    """
    cases = Counter(case.collection for case in training)
    hidden = {case.collection for case in training if not case.tumours_drawn}
    origins = [
        f"{collection} ({count}{', tumours not always drawn' if collection in hidden else ''})"
        for collection, count in sorted(cases.items())
    ]
    recipe, words = settings.recipe, settings.card
    begun, terms = "", ""
    if settings.network.initial is not None:
        begun = f"begun from {settings.network.initial.stem}; "
        terms = f"{settings.network.initial.stem}: {initial.licence}" if initial else ""
    elif settings.network.backbone_weights != "none":
        backbone = Path(settings.network.backbone_weights).name
        begun, terms = f"backbone begun from {backbone}; ", f"{backbone}: by its own terms, which nobody stated here"
    return {
        "name": words.name or recipe.architecture,
        "version": words.version,
        "architecture": recipe.architecture,
        "modalities": sorted({case.modality for case in training}),
        "preprocessing": asdict(settings.preprocessing),
        "trained_on": f"{begun}{', '.join(origins)}; {recipe.steps} steps of {recipe.batch} samples",
        "licence": words.licence or licences_of(cases, terms),
        "data_sha256": data_sha256,
        "begun_from": _origin(initial) if initial else None,
    }


def _origin(card: Card) -> dict[str, Any]:
    """Return the entries of the card of the weights that training began from."""
    return {name: getattr(card, name) for name in ("name", "version", "sha256", "trained_on", "begun_from")}


@contextmanager
def _watched(folder: RunFolder, steps: int, interruption: Interruption, *, shown: bool) -> Iterator[Watch]:
    """A bar with the time left for a person, a line now and then for a file; curves after each validation."""
    with steps_bar("training", steps, shown=shown) as bar:
        recent: list[float] = []

        def step(number: int, loss: float, seconds_left: float) -> None:
            recent.append(loss)
            del recent[:-LINES_OF_STEPS]
            mean = sum(recent) / len(recent)
            if bar is not None:
                bar(number, f"loss {mean:.3f}", seconds_left)
            elif shown and (number % LINES_OF_STEPS == 0 or number == steps):
                warn(f"step {number} of {steps}, loss {mean:.3f}, {seconds_left / 60:.1f} min left")

        def epoch(quality: Quality) -> None:
            tumour = "" if quality.tumour_dice is None else f", tumour {quality.tumour_dice:.3f}"
            line = f"step {quality.step}: validation Dice liver {quality.liver_dice:.3f}{tumour}"
            folder.note(line)
            warn(line)
            _draw(folder)

        yield Watch(step=step, epoch=epoch, stop=lambda: interruption.asked)


def _draw(folder: RunFolder) -> None:
    paths = (folder.path / name for name in (LOSSES, DICES, CURVES))
    losses, dices, curves = paths
    draw_curves(losses, dices, curves, title=" ".join(filter(None, (folder.card["name"], folder.card["version"]))))
