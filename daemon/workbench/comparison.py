"""`porta compare`: architectures trained alike, measured on the same cases, and one page about them.

    OUT/split.json                the one split of all
    OUT/cache/                    the cases as all trainings read them
    OUT/runs/NAME/                a training run, as `porta train` leaves it
    OUT/evaluations/NAME/         what was measured on the held-out cases, as `porta evaluate` leaves it
    OUT/complexity/NAME.json      parameters, operations, time, memory
    OUT/comparison.json           what the page is drawn from
    OUT/page/index.html           the page; the folder needs nothing else

Models are made one after another. Every part goes on from where it was stopped and is not done twice.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.configuration.faults import did_you_mean, show_value
from daemon.errors import ComparisonStopped, ConfigurationError, TrainingStopped
from daemon.terminal import warn
from daemon.workbench.comparison_page import COMPLEXITY, EVALUATIONS, STATE, card_of, draw_page
from daemon.workbench.evaluator import Content, evaluate_model, plain, writing
from daemon.workbench.interruption import interruptible
from daemon.workbench.train_settings import TrainSettings, load_settings
from daemon.workbench.trainer import CACHE, Material, find_material, train_model
from dicom_io.files.whole_files import write_whole
from models.architectures.names import ARCHITECTURE_NAMES
from models.cards import find
from models.datasets.cases import CaseSource
from models.datasets.phantoms import COLLECTION, TEST_SEEDS, phantom_sources
from models.datasets.splits import part, read_split, write_split
from models.errors import CaseUnreadable, ModelError, RunMismatch
from models.evaluation.complexity import complexity, conditions
from models.evaluation.evaluation import Asked
from models.inference import load_model
from models.training.loop import make_network
from models.training.runs import CONFIG, RUN, SPLIT
from reports.evaluation.evaluations import state_shared
from reports.evaluation.learning_curves import read_learning
from reports.identity import software_version

RUNS = "runs"

PICTURES = ("all", "phantoms", "none")
"""Whose worst cases a page may show: it may be published, and some collections allow no derivatives."""

FEW_PATIENTS = 10
"""With fewer cases than this the page warns: their interval says little."""


@dataclass(frozen=True)
class Comparison:
    """What is compared: `models` trained by `settings`, or the finished `runs`; on what the split holds out.

    `test_phantoms`: how many more phantoms, which no training may draw, are measured on. `pictures`: whose worst cases
    the page shows, one of PICTURES.
    """

    settings: TrainSettings
    models: tuple[str, ...]
    command: str
    test_phantoms: int = 0
    runs: tuple[Path, ...] = ()
    pictures: str = "all"


def compare_models(asked: Comparison, out: Path) -> Path:
    """Train, measure and draw what is not there yet; returns the page.

    Raises ConfigurationError, UnknownModel, CaseUnreadable, SplitInvalid and RunMismatch for what the caller must
    mend, ComparisonStopped after Ctrl-C or SIGTERM.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigurationError(["porta compare is one process; train with torchrun, then compare with --runs"])
    if unknown := [name for name in asked.models if name not in ARCHITECTURE_NAMES]:
        raise ConfigurationError(
            [f"--models: no architecture {show_value(unknown[0])}{did_you_mean(unknown[0], ARCHITECTURE_NAMES)}"]
        )
    if asked.test_phantoms > len(TEST_SEEDS):
        raise ConfigurationError([f"--test-phantoms: at most {len(TEST_SEEDS)}"])
    try:
        with interruptible():
            return _compared(asked, out)
    except (TrainingStopped, KeyboardInterrupt) as error:
        why = str(error).partition(";")[0] or "stopped"
        raise ComparisonStopped(f"{why}; the same command goes on from there") from None


def _compared(asked: Comparison, out: Path) -> Path:
    if asked.runs:
        runs, materials = _finished(asked.runs)
    else:
        runs = {name: out / RUNS / name for name in asked.models}
        _check_beginnings(asked)
        settings = _on_one_split(asked.settings, out)
        materials = dict.fromkeys(runs, find_material(settings))
    test = _held_out(next(iter(materials.values())), asked.test_phantoms)
    if not asked.runs:
        for number, (name, run) in enumerate(runs.items(), start=1):
            warn(f"model {number} of {len(runs)}: {name}")
            train_model(_changed(settings, "network", model=name), run, command=asked.command)
    contents = _measure(runs, test, out, asked)
    state = {
        "command": asked.command,
        "runs": {label: os.path.relpath(run, out) for label, run in runs.items()},
        "facts": _facts(runs, materials, contents),
        "notes": _notes(runs, contents),
    }
    with writing(out):
        write_whole(out / STATE, (json.dumps(state, indent=1) + "\n").encode())
    return draw_page(out, asked.pictures)


def _check_beginnings(asked: Comparison) -> None:
    """Raise ConfigurationError where a model cannot begin from what is asked: before days go into those before it."""
    network = asked.settings.network
    if network.initial is None and network.backbone_weights == "none":
        return
    for name in asked.models:
        try:
            initial = None if network.initial is None else find(str(network.initial))
            make_network(_changed(asked.settings, "network", model=name).recipe, network.backbone_weights, initial)
        except ModelError as error:
            raise ConfigurationError([f"{name}: {error}"]) from error


def _on_one_split(settings: TrainSettings, out: Path) -> TrainSettings:
    """The settings with the split of this comparison in a file: the one that is there, or one that is made now.

    Raises RunMismatch where the folder holds a comparison on another split.
    """
    material, path = find_material(settings), out / SPLIT
    try:
        out.mkdir(parents=True, exist_ok=True)
        if path.exists() and read_split(path) != material.split:
            raise RunMismatch(f"{path}: of another comparison; choose another folder with --out")
        if not path.exists():
            write_split(material.split, path)
    except OSError as error:
        raise RunMismatch(f"{error.filename or out}: {error.strerror}") from error
    cache = settings.data.cache or out / CACHE
    return _changed(settings, "data", split=path, fold=None, leave_out=(), cache=cache)


def _changed(settings: TrainSettings, table: str, **values: Any) -> TrainSettings:
    document = settings.model_dump()
    document[table] |= values
    return TrainSettings.model_validate(document)


def _finished(folders: Sequence[Path]) -> tuple[dict[str, Path], dict[str, Material]]:
    """Runs by their label, and what each was trained on; all of them held out the same cases.

    Raises RunMismatch for a folder that is no finished run, or runs that were split differently.
    """
    runs: dict[str, Path] = {}
    materials: dict[str, Material] = {}
    for folder in folders:
        label = plain(folder.resolve().name)
        if label in runs:
            raise RunMismatch(f"{folder}: two runs are called {label}; rename a folder")
        card_of(folder)
        settings = load_settings(folder / CONFIG)
        losses, steps = read_learning(folder).losses, settings.training.steps
        done = int(losses[-1, 0]) if len(losses) else 0
        if done < steps:
            raise RunMismatch(f"{folder}: stopped at step {done} of {steps}; train it to its end first")
        runs[label] = folder
        held = _changed(settings, "data", split=folder / SPLIT, fold=None, leave_out=())
        materials[label] = find_material(held)
    (first, material), *others = materials.items()
    for label, other in others:
        if set(other.split.test) != set(material.split.test):
            raise RunMismatch(f"{runs[label]}: holds out other cases than {runs[first]}; they cannot be compared")
    return runs, materials


def _held_out(material: Material, test_phantoms: int) -> tuple[CaseSource, ...]:
    test = (*part(material.sources.values(), material.split.test), *phantom_sources(test_phantoms, TEST_SEEDS))
    if not test:
        raise CaseUnreadable("no case is held out: ask for --leave-out, --fold, --split or --test-phantoms")
    return test


def _measure(runs: Mapping[str, Path], test: Sequence[CaseSource], out: Path, asked: Comparison) -> dict[str, Content]:
    """Evaluations and complexities of all runs, one network in memory at a time; returns the former."""
    machine = asked.settings.machine
    how = Asked(software=f"porta-hepatis {software_version()}", command=asked.command, split_part="test")
    contents = {}
    for label, run in runs.items():
        card = card_of(run)
        model = load_model(card, device=machine.device, threads=machine.threads)
        contents[label] = evaluate_model(model, test, out / EVALUATIONS / label, how, label=label)
        del model
        path = out / COMPLEXITY / f"{label}.json"
        of = {"sha256": card.sha256, "conditions": conditions(machine.threads)}
        if not _is_of(path, of):
            warn(f"{label}: measuring time and memory")
            measured = of | complexity(card, threads=machine.threads).to_json()
            with writing(out):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, (json.dumps(measured, indent=1) + "\n").encode())
    return contents


def _is_of(path: Path, of: Mapping[str, Any]) -> bool:
    """True where the costs at `path` were measured with these weights under these conditions."""
    try:
        there = json.loads(path.read_text())
        return all(there[key] == value for key, value in of.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _facts(
    runs: Mapping[str, Path], materials: Mapping[str, Material], contents: Mapping[str, Content]
) -> dict[str, str]:
    """Return the facts about data and configuration for the page; for each run where runs differ."""
    settings = {label: load_settings(run / CONFIG) for label, run in runs.items()}
    raw = {label: json.loads((run / RUN).read_text()) for label, run in runs.items()}
    parts = {
        name: {
            label: _collections(source.collection for source in part(own.sources.values(), getattr(own.split, name)))
            for label, own in materials.items()
        }
        for name in ("training", "validation")
    }
    measured = {label: _collections(case["collection"] for case in own["cases"]) for label, own in contents.items()}
    training = {label: own.training for label, own in settings.items()}
    budgets = {label: f"{t.steps} steps of {t.batch} samples of {t.pixels}²" for label, t in training.items()}
    versions = {
        label: ", ".join(f"{name} {value}" for name, value in own["versions"].items()) for label, own in raw.items()
    }
    return {
        "budget of each model": state_shared(budgets),
        "schedule": state_shared({label: f"{t.schedule}, seed {t.seed}" for label, t in training.items()}),
        "backbones": state_shared({label: f"weights: {s.network.backbone_weights}" for label, s in settings.items()}),
        "trained on": state_shared(parts["training"]),
        "validated on": state_shared(parts["validation"]),
        "tested on": state_shared(measured),
        "data of the training (sha256)": state_shared({label: own["identity"]["data"] for label, own in raw.items()}),
        "versions": state_shared(versions),
    }


def _notes(runs: Mapping[str, Path], contents: Mapping[str, Content]) -> list[str]:
    """Return the notes that a reader needs before the figures, by the cases that were measured."""
    cases = {(case["collection"], case["name"]): case for own in contents.values() for case in own["cases"]}
    phantoms = [name for collection, name in cases if collection == COLLECTION]
    people = {case["patient"] for case in cases.values() if case["collection"] != COLLECTION}
    notes = []
    if phantoms:
        one = len(phantoms) == 1 < len(cases)
        those = f"{len(phantoms)} of the {len(cases)} test cases" if people else "All test cases"
        notes.append(
            f"{those} {'is a synthetic phantom' if one else 'are synthetic phantoms'}, drawn by the program that drew "
            "those of the training: such figures say what the networks can learn, not how they do on patients."
        )
    if len(people) < FEW_PATIENTS:
        counted = f"{len(people)} patient{'s' * (len(people) != 1)}" if people else "no patient"
        notes.append(f"The test has {counted}: nothing can be said of patients in general.")
    for label, run in runs.items():
        if (initial := load_settings(run / CONFIG).network.initial) is not None:
            notes.append(
                f"{label} went on from the weights {initial.stem}, which may have learned from the test cases."
            )
    return notes


def _collections(names: Iterable[str]) -> str:
    """ "46 cases: CHAOS CT 1, phantoms 45"."""
    found = Counter(names)
    named = ", ".join(f"{name} {count}" for name, count in sorted(found.items()))
    return f"{found.total()} case{'s' * (found.total() != 1)}" + (f": {named}" if named else "")
