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
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.config_faults import did_you_mean, shown
from daemon.errors import ComparisonStopped, ConfigurationError, EvaluationStopped, TrainingStopped
from daemon.evaluator import WORST, evaluate_model, plain
from daemon.stages import software_version
from daemon.train_settings import TrainSettings, load_settings
from daemon.trainer import CACHE, Material, find_material, train_model
from models.architectures.names import ARCHITECTURE_NAMES
from models.cards import Card, find
from models.cases import CaseSource
from models.complexity import complexity
from models.datasets.phantoms import COLLECTION, TEST_SEEDS, phantom_sources
from models.errors import CaseUnreadable, RunMismatch
from models.evaluation import EVALUATION, Asked
from models.evaluation_files import write_atomically
from models.inference import load_model
from models.runs import CONFIG, LOG, RUN, SPLIT
from models.splits import part, read_split, write_split
from reports.comparison import Entry, Picture, Told, write_page
from reports.evaluations import read_evaluation
from reports.learning_curves import read_learning, step_seconds

RUNS, EVALUATIONS, COMPLEXITY, STATE, PAGE = "runs", "evaluations", "complexity", "comparison.json", "page"

PICTURES = ("all", "phantoms", "none")
"""Whose worst cases a page may show: it may be published, and some collections allow no derivatives."""

FEW_PATIENTS = 10
"""Below so many the page warns: an interval over so few says little."""


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
            [f"--models: no architecture {shown(unknown[0])}{did_you_mean(unknown[0], ARCHITECTURE_NAMES)}"]
        )
    if asked.test_phantoms > len(TEST_SEEDS):
        raise ConfigurationError([f"--test-phantoms: at most {len(TEST_SEEDS)}"])
    try:
        if asked.runs:
            runs, material = _finished(asked.runs)
        else:
            runs = {name: out / RUNS / name for name in asked.models}
            settings = _on_one_split(asked.settings, out)
            material = find_material(settings)
        test = _held_out(material, asked.test_phantoms)
        if not asked.runs:
            for number, (name, run) in enumerate(runs.items(), start=1):
                _say(f"model {number} of {len(runs)}: {name}")
                train_model(_changed(settings, "network", model=name), run, command=asked.command)
        _measure(runs, test, out, asked)
    except (TrainingStopped, EvaluationStopped, KeyboardInterrupt) as error:
        why = str(error).partition(";")[0] or "stopped"
        raise ComparisonStopped(f"{why}; the same command goes on from there") from None
    state = {
        "command": asked.command,
        "runs": {label: os.path.relpath(run, out) for label, run in runs.items()},
        "facts": _facts(runs, material, test),
        "notes": _notes(runs, test),
    }
    write_atomically(out / STATE, (json.dumps(state, indent=1) + "\n").encode())
    return draw_page(out, asked.pictures)


def draw_page(out: Path, pictures: str = "all") -> Path:
    """The page of a comparison that was made in `out`, drawn again from its files.

    Raises RunMismatch where there is none, EvaluationUnreadable for a file that was damaged.
    """
    path = out / STATE
    try:
        state = json.loads(path.read_text())
        entries = [_entry(label, out / run, out, pictures) for label, run in state["runs"].items()]
        told = Told(
            title=f"{_counted(len(entries))} compared: segmentation of liver and tumours",
            command=state["command"],
            software=f"porta-hepatis {software_version()}",
            facts=tuple((name, value) for name, value in state["facts"].items()),
            notes=tuple(state["notes"]) + tuple(_left_out(entries)),
        )
        return write_page(entries, out / PAGE, told)
    except OSError as error:
        raise RunMismatch(f"{error.filename or path}: {error.strerror}; run the comparison again") from error
    except (ValueError, KeyError, AttributeError) as error:
        raise RunMismatch(f"{path}: not what a comparison leaves; run it again") from error


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


def _finished(folders: Sequence[Path]) -> tuple[dict[str, Path], Material]:
    """Runs by their label, and the cases that all of them held out.

    Raises RunMismatch for a folder that is no finished run, or runs that were split differently.
    """
    runs: dict[str, Path] = {}
    materials: dict[str, Material] = {}
    for folder in folders:
        label = plain(folder.resolve().name)
        if label in runs:
            raise RunMismatch(f"{folder}: two runs are called {label}; rename a folder")
        _card(folder)
        settings = load_settings(folder / CONFIG)
        runs[label] = folder
        held = _changed(settings, "data", split=folder / SPLIT, fold=None, leave_out=())
        materials[label] = find_material(held)
    (first, material), *others = materials.items()
    for label, other in others:
        if set(other.split.test) != set(material.split.test):
            raise RunMismatch(f"{runs[label]}: holds out other cases than {runs[first]}; they cannot be compared")
    return runs, material


def _held_out(material: Material, test_phantoms: int) -> tuple[CaseSource, ...]:
    test = (*part(material.sources.values(), material.split.test), *phantom_sources(test_phantoms, TEST_SEEDS))
    if not test:
        raise CaseUnreadable("no case is held out: ask for --leave-out, --fold, --split or --test-phantoms")
    return test


def _measure(runs: Mapping[str, Path], test: Sequence[CaseSource], out: Path, asked: Comparison) -> None:
    """Evaluations and complexities of all runs, one network in memory at a time."""
    machine = asked.settings.machine
    how = Asked(software=f"porta-hepatis {software_version()}", command=asked.command, split_part="test")
    for label, run in runs.items():
        card = _card(run)
        model = load_model(card, device=machine.device, threads=machine.threads)
        evaluate_model(model, test, out / EVALUATIONS / label, how, label=label)
        del model
        path = out / COMPLEXITY / f"{label}.json"
        if _sha256_in(path) != card.sha256:
            _say(f"{label}: measuring time and memory")
            path.parent.mkdir(parents=True, exist_ok=True)
            measured = {"sha256": card.sha256} | complexity(card, threads=machine.threads).to_json()
            write_atomically(path, (json.dumps(measured, indent=1) + "\n").encode())


def _card(run: Path) -> Card:
    """The card of a run's best weights. Raises RunMismatch where a training has not come so far."""
    try:
        architecture = json.loads((run / RUN).read_text())["identity"]["network.model"]
    except OSError as error:
        raise RunMismatch(f"{run / RUN}: {error.strerror}; is it the folder of a training run?") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunMismatch(f"{run / RUN}: does not say of which run it is") from error
    path = run / f"{architecture}.json"
    if not path.exists():
        raise RunMismatch(f"{run}: has no weights yet; train it to its end first")
    return find(str(path))


def _entry(label: str, run: Path, out: Path, pictures: str) -> Entry:
    folder = out / EVALUATIONS / label
    evaluation, card = read_evaluation(folder / EVALUATION), _card(run)
    measured = out / COMPLEXITY / f"{label}.json"
    recipe = load_settings(run / CONFIG).recipe
    learning = read_learning(run)
    step_s = step_seconds((run / LOG).read_text())
    done = len(learning.losses)
    return Entry(
        label=label,
        evaluation=evaluation,
        complexity=json.loads(measured.read_text()) if measured.exists() else None,
        learning=learning,
        training={
            "steps": done,
            "samples a step": recipe.batch,
            "pixels of a sample's side": recipe.pixels,
            "s a step, with its part of validation": step_s,
            "hours": None if step_s is None else step_s * done / 3600,
        },
        trained_on=card.trained_on,
        licence=card.licence,
        pictures=_pictures(folder / WORST, evaluation, pictures),
    )


def _pictures(folder: Path, evaluation: Mapping[str, Any], wanted: str) -> tuple[Picture, ...]:
    """The overlays of the worst cases, as the evaluator names them."""
    collections = {case["name"]: case["collection"] for case in evaluation["cases"]}
    named = [(folder / f"{place}-{plain(name)}.png", name) for place, name in enumerate(evaluation["worst"], start=1)]
    return tuple(
        Picture(path, name)
        for path, name in named
        if path.exists() and (wanted == "all" or (wanted == "phantoms" and collections[name] == COLLECTION))
    )


def _facts(runs: Mapping[str, Path], material: Material, test: Sequence[CaseSource]) -> dict[str, str]:
    """What the page says of data and configuration."""
    settings = [load_settings(run / CONFIG) for run in runs.values()]
    raw = [json.loads((run / RUN).read_text()) for run in runs.values()]
    split, sources = material.split, tuple(material.sources.values())
    budgets = {f"{s.training.steps} steps of {s.training.batch} samples of {s.training.pixels}²" for s in settings}
    schedules = {f"{s.training.schedule}, seed {s.training.seed}" for s in settings}
    return {
        "budget of each model": "; ".join(sorted(budgets)),
        "schedule": "; ".join(sorted(schedules)),
        "backbones": ", ".join(sorted({f"weights: {s.network.backbone_weights}" for s in settings})),
        "trained on": _collections(part(sources, split.training)),
        "validated on": _collections(part(sources, split.validation)),
        "tested on": _collections(test),
        "data of the training (sha256)": ", ".join(sorted({identity["identity"]["data"] for identity in raw})),
        "versions": ", ".join(f"{name} {value}" for name, value in raw[0]["versions"].items()),
    }


def _notes(runs: Mapping[str, Path], test: Sequence[CaseSource]) -> list[str]:
    """What a reader must know before the figures."""
    phantoms = [source for source in test if source.collection == COLLECTION]
    people = {source.patient for source in test if source.collection != COLLECTION}
    notes = []
    if phantoms:
        one = len(phantoms) == 1 < len(test)
        those = f"{len(phantoms)} of the {len(test)} test cases" if people else "All test cases"
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


def _left_out(entries: Sequence[Entry]) -> list[str]:
    lines = dict.fromkeys(line for entry in entries for line in entry.evaluation.get("skipped", ()))
    return [f"Not measured: {line}" for line in lines]


def _collections(sources: Sequence[CaseSource]) -> str:
    """ "46 cases: CHAOS CT 1, phantoms 45"."""
    found = Counter(source.collection for source in sources)
    named = ", ".join(f"{name} {count}" for name, count in sorted(found.items()))
    return f"{len(sources)} case{'s' * (len(sources) != 1)}" + (f": {named}" if named else "")


def _counted(models: int) -> str:
    return f"{models} network{'s' * (models != 1)}"


def _sha256_in(path: Path) -> str | None:
    try:
        return str(json.loads(path.read_text()).get("sha256"))
    except (OSError, ValueError, AttributeError):
        return None


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
