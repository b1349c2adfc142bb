"""The page of a comparison, drawn from the files that `comparison` left; `--only-page` draws it again."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.workbench.evaluator import WORST, plain, writing
from daemon.workbench.train_settings import load_settings
from models.cards import Card, find
from models.datasets.phantoms import COLLECTION
from models.errors import RunMismatch
from models.evaluation.evaluation import EVALUATION
from models.training.runs import CONFIG, LOG, RUN
from reports.evaluation.comparison_report import Entry, Picture, Told, write_page
from reports.evaluation.evaluations import case_names, read_evaluation
from reports.evaluation.learning_curves import read_learning, step_seconds
from reports.identity import software_version

EVALUATIONS, COMPLEXITY, STATE, PAGE = "evaluations", "complexity", "comparison.json", "page"


@dataclass(frozen=True)
class State:
    """The files that a comparison left for its page. `runs`: folders by label, as seen from the comparison's."""

    command: str
    runs: Mapping[str, str]
    facts: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def draw_page(out: Path, pictures: str = "all") -> Path:
    """Draw the page of the comparison in `out` again from its files.

    Raises RunMismatch where there is none, where its files are of different weights or data, and where the page cannot
    be written; EvaluationUnreadable for a file that was damaged.
    """
    state = _read_state(out / STATE)
    entries = [_entry(label, out / run, out, pictures) for label, run in state.runs.items()]
    _refuse_other_data(entries)
    told = Told(
        title=f"{_counted(len(entries))} compared: segmentation of liver and tumours",
        command=state.command,
        software=f"porta-hepatis {software_version()}",
        facts=state.facts,
        notes=state.notes + tuple(_left_out(entries)),
    )
    with writing(out):
        return write_page(entries, out / PAGE, told)


def card_of(run: Path) -> Card:
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


def _read_state(path: Path) -> State:
    try:
        raw = json.loads(path.read_text())
        return State(raw["command"], dict(raw["runs"]), tuple(raw["facts"].items()), tuple(raw["notes"]))
    except OSError as error:
        raise RunMismatch(f"{path}: {error.strerror}; run the comparison again") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunMismatch(f"{path}: not what a comparison leaves; run it again") from error


def _entry(label: str, run: Path, out: Path, pictures: str) -> Entry:
    """Return one model of the page. Raises RunMismatch where the figures are not of the run's weights."""
    folder = out / EVALUATIONS / label
    evaluation, card = read_evaluation(folder / EVALUATION), card_of(run)
    complexity = _read_complexity(out / COMPLEXITY / f"{label}.json")
    for what, measured in (("evaluation", evaluation["model"]), ("complexity", complexity)):
        if measured is not None and measured.get("sha256") != card.sha256:
            raise RunMismatch(f"{label}: its {what} is of other weights than {run} has; run the comparison again")
    recipe = load_settings(run / CONFIG).recipe
    learning = read_learning(run)
    step_s = _step_seconds(run / LOG)
    done = len(learning.losses)
    return Entry(
        label=label,
        evaluation=evaluation,
        complexity=complexity,
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


def _read_complexity(path: Path) -> dict[str, Any] | None:
    """Read what a network costs; None where that was not measured."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunMismatch(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise RunMismatch(f"{path}: damaged; run the comparison again") from error
    if not isinstance(content, dict):
        raise RunMismatch(f"{path}: damaged; run the comparison again")
    return content


def _step_seconds(path: Path) -> float | None:
    try:
        return step_seconds(path.read_text())
    except OSError as error:
        raise RunMismatch(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise RunMismatch(f"{path}: damaged") from error


def _refuse_other_data(entries: Sequence[Entry]) -> None:
    """Raise RunMismatch where one model was measured on other data than another.

    But for cases that it could not be measured on, which the page names.
    """
    first = max(entries, key=lambda entry: len(entry.evaluation["cases"]))
    for entry in entries:
        mine, theirs = entry.evaluation, first.evaluation
        alike = set(case_names(mine)) == set(case_names(theirs))
        lacks = set(case_names(mine)) < set(case_names(theirs)) and bool(mine.get("skipped"))
        if not lacks and not (alike and mine.get("data_sha256") == theirs.get("data_sha256")):
            raise RunMismatch(f"{entry.label}: was measured on other data than {first.label}; run the comparison again")


def _pictures(folder: Path, evaluation: Mapping[str, Any], wanted: str) -> tuple[Picture, ...]:
    """The overlays of the worst cases, as the evaluator names them."""
    collections = {case["name"]: case["collection"] for case in evaluation["cases"]}
    named = [(folder / f"{place}-{plain(name)}.png", name) for place, name in enumerate(evaluation["worst"], start=1)]
    return tuple(
        Picture(path, name)
        for path, name in named
        if path.exists() and (wanted == "all" or (wanted == "phantoms" and collections.get(name) == COLLECTION))
    )


def _left_out(entries: Sequence[Entry]) -> list[str]:
    lines = dict.fromkeys(line for entry in entries for line in entry.evaluation.get("skipped", ()))
    return [f"Not measured: {line}" for line in lines]


def _counted(models: int) -> str:
    return f"{models} network{'s' * (models != 1)}"
