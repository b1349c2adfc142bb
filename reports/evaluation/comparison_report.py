"""The page that compares models: one HTML file, its charts and pictures beside it, and its numbers as JSON.

    OUT/index.html   OUT/comparison.json   OUT/charts/*.png   OUT/worst/*.png

It needs no network and no script: it can be mailed as a folder, or stand under docs/.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from dicom_io.files.whole_files import write_whole
from reports.envelope import RESEARCH_USE
from reports.evaluation.charts import Drawn, draw_charts
from reports.evaluation.comparison_tables import (
    Row,
    case_rows,
    collection_rows,
    comparable,
    lesion_rows,
    plain_row,
    score_rows,
)
from reports.evaluation.evaluations import (
    STRUCTURES,
    Estimate,
    Evaluation,
    common_counts,
    estimate,
    state_shared,
    values,
)
from reports.evaluation.learning_curves import Learning, draw_learning
from reports.evaluation.metric_charts import Cost, draw_costs

PAGE, NUMBERS = "index.html", "comparison.json"
CHARTS, WORST = "charts", "worst"
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Picture:
    """A worst case: where its overlay lies, and which case it shows."""

    path: Path
    case: str


@dataclass(frozen=True, eq=False)
class Entry:
    """One model of the comparison.

    `complexity` as complexity.json has it. `training`: the facts of its training, by name ("steps", "s a step", …).
    """

    label: str
    evaluation: Evaluation
    complexity: Mapping[str, Any] | None
    learning: Learning | None
    training: Mapping[str, float | None]
    trained_on: str
    licence: str
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class Told:
    """The texts of the page. `facts`: names and values in order; `notes`: what a reader must know."""

    title: str
    command: str
    software: str
    facts: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table of the page."""

    title: str
    note: str
    rows: tuple[Row, ...]


def write_page(entries: Sequence[Entry], out: Path, told: Told) -> Path:
    """Draw everything into `out`, and return the page. What an earlier page left there is replaced.

    Raises OSError where `out` cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    evaluations = {entry.label: entry.evaluation for entry in entries}
    learning = {entry.label: entry.learning for entry in entries if entry.learning is not None}
    charts = draw_charts(evaluations, out / CHARTS)
    if learning:
        path = draw_learning(learning, out / CHARTS / "learning.png")
        charts.insert(0, Drawn(path, "Loss and validation Dice of each model over the steps."))
    if any(entry.complexity for entry in entries):
        path = draw_costs(_costs(entries), _cost_note(entries), out / CHARTS / "costs.png")
        charts.append(Drawn(path, "Bars: parameters, operations, time and memory of each model."))
    _write(out / NUMBERS, json.dumps(_numbers(entries, told), indent=1) + "\n")
    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    html = environment.get_template("comparison.html").render(
        told=told,
        research_use=RESEARCH_USE,
        counts=common_counts(evaluations),
        leaders=_leaders(entries),
        labels=[entry.label for entry in entries],
        tables=_tables(entries),
        charts={chart.path.stem: {"src": f"{CHARTS}/{chart.path.name}", "alt": chart.alt} for chart in charts},
        worst=_copied(entries, out / WORST),
        entries=entries,
    )
    return _write(out / PAGE, html)


def _tables(entries: Sequence[Entry]) -> dict[str, Table]:
    evaluations = {entry.label: entry.evaluation for entry in entries}
    interval = "mean over cases; below it the 95 % confidence interval (bootstrap over patients)"
    tables = {
        "liver": Table("Liver, its tumours included", interval, tuple(score_rows(evaluations, "liver"))),
        "tumour": Table("Tumour", interval, tuple(score_rows(evaluations, "tumour"))),
        "lesions": Table("Lesion by lesion", "over the cases whose tumours are drawn", tuple(lesion_rows(evaluations))),
        "costs": Table("Cost", _cost_note(entries), tuple(_cost_rows(entries))),
    }
    for structure in ("liver", "tumour"):
        rows = tuple(collection_rows(evaluations, structure))
        tables[f"{structure}_collections"] = Table(
            f"{structure.capitalize()} Dice by collection", "mean over its cases", rows
        )
        rows = tuple(case_rows(evaluations, structure))
        tables[f"{structure}_cases"] = Table(f"{structure.capitalize()} Dice of every case", "", rows)
    return {name: table for name, table in tables.items() if table.rows}


def _cost_rows(entries: Sequence[Entry]) -> list[Row]:
    alike = len({_condition(entry.complexity) for entry in entries if entry.complexity is not None}) <= 1

    def row(name: str, meaning: str, digits: int, *keys: str, scale: float = 1.0) -> Row:
        values = [_cost(entry, *keys) for entry in entries]
        return plain_row(name, meaning, values, digits, scale=scale, better="low" if alike else "")

    seconds = list(map(_case_seconds, entries))
    rows = [
        row("Parameters", "millions", 1, "parameters", scale=1e-6),
        row("Operations", "GFLOPs for a slice", 1, "flops", scale=1e-9),
        row("Time, CPU", "ms a slice of the fine pass", 0, "cpu", "seconds_per_slice", scale=1e3),
        row("Work, CPU", "CPU-ms a slice, all threads", 0, "cpu", "cpu_seconds_per_slice", scale=1e3),
        row("Memory, CPU", "MiB at most, torch and weights included", 0, "cpu", "peak_memory_mb"),
        row("Time, CUDA", "ms a slice of the fine pass", 2, "cuda", "seconds_per_slice", scale=1e3),
        row("Memory, CUDA", "MiB at most", 0, "cuda", "peak_memory_mb"),
        plain_row(
            "Whole case", "s for a slice of the image, both passes, as the cases were measured", seconds, 3, better=""
        ),
    ]
    for name in dict.fromkeys(name for entry in entries for name in entry.training):
        values = [entry.training.get(name) for entry in entries]
        digits = 0 if all(value is None or float(value).is_integer() for value in values) else 2
        rows.append(plain_row("Training", name, values, digits, better=""))
    return [row for row in rows if any(cell.text != "–" for cell in row.cells)]


def _costs(entries: Sequence[Entry]) -> list[Cost]:
    def values(scale: float, *keys: str) -> dict[str, float | None]:
        found = {entry.label: _cost(entry, *keys) for entry in entries}
        return {label: None if value is None else value * scale for label, value in found.items()}

    costs = [
        Cost("Parameters, millions", values(1e-6, "parameters"), 1),
        Cost("GFLOPs a slice", values(1e-9, "flops"), 1),
        Cost("CPU, ms a slice", values(1e3, "cpu", "seconds_per_slice"), 0),
        Cost("CPU memory, MiB", values(1.0, "cpu", "peak_memory_mb"), 0),
        Cost("CUDA, ms a slice", values(1e3, "cuda", "seconds_per_slice"), 2),
        Cost("CUDA memory, MiB", values(1.0, "cuda", "peak_memory_mb"), 0),
    ]
    return [cost for cost in costs if any(value is not None for value in cost.values.values())]


def _cost_note(entries: Sequence[Entry]) -> str:
    """Under which conditions the costs were measured: each model's own where they differ."""
    known = {entry.label: _condition(entry.complexity) for entry in entries if entry.complexity is not None}
    return state_shared(known) if known else "not measured"


def _condition(known: Mapping[str, Any]) -> str:
    said = [f"one slice of {known['rows']} × {known['columns']} pixels, as the fine pass has them"]
    for name in ("cpu", "cuda"):
        if (speed := known[name]) is not None:
            count = speed["threads"]
            threads = f", {count} thread{'s' * (count != 1)}" if name == "cpu" else ""
            how = f"{speed['precision']}, {speed['batch']} slices at a time"
            said.append(f"{name.upper()}: {speed['device']}{threads}, {how}")
    return "; ".join(said)


def _cost(entry: Entry, *keys: str) -> float | None:
    """A figure of the complexity, by the keys that lead to it; None where it was not measured."""
    value: Any = entry.complexity
    for key in keys:
        value = None if value is None else value.get(key)
    return None if value is None else float(value)


def _case_seconds(entry: Entry) -> float | None:
    cases = entry.evaluation["cases"]
    slices = sum(case["slices"] for case in cases)
    return sum(case["seconds"] for case in cases) / slices if slices else None


def _leaders(entries: Sequence[Entry]) -> list[tuple[str, str, Estimate]]:
    """Return, for liver and tumour, the model with the highest mean Dice; none where it is of different cases."""
    leaders = []
    for structure in STRUCTURES:
        found = {entry.label: estimate(entry.evaluation, structure, "dice") for entry in entries}
        over = {entry.label: frozenset(values(entry.evaluation, structure, "dice")) for entry in entries}
        known = [(label, dice) for label, dice in found.items() if dice is not None]
        if known and (len(entries) == 1 or comparable(found, over)):
            label, dice = max(known, key=lambda pair: pair[1].mean)
            leaders.append((structure, label, dice))
    return leaders


def _copied(entries: Sequence[Entry], folder: Path) -> list[dict[str, Any]]:
    """Copy the pictures of the worst cases beside the page, under new names."""
    shutil.rmtree(folder, ignore_errors=True)
    shown = []
    for entry in entries:
        pictures = []
        for number, picture in enumerate(entry.pictures, start=1):
            folder.mkdir(exist_ok=True)
            name = f"{entry.label}-{number}{picture.path.suffix}".replace("/", "-")
            write_whole(folder / name, picture.path.read_bytes(), durable=False)
            pictures.append({"src": f"{WORST}/{name}", "case": picture.case})
        if pictures:
            shown.append({"label": entry.label, "pictures": pictures})
    return shown


def _numbers(entries: Sequence[Entry], told: Told) -> dict[str, Any]:
    """Return the content of the page for scripts, without the points of the curves, which evaluation.json has."""
    return {
        "schema": 1,
        "title": told.title,
        "command": told.command,
        "software": told.software,
        "facts": dict(told.facts),
        "notes": list(told.notes),
        "research_use_only": True,
        "models": [
            {
                "label": entry.label,
                "trained_on": entry.trained_on,
                "licence": entry.licence,
                "training": dict(entry.training),
                "complexity": entry.complexity,
                "evaluation": {key: value for key, value in entry.evaluation.items() if key != "roc"},
            }
            for entry in entries
        ],
    }


def _write(path: Path, text: str) -> Path:
    write_whole(path, text.encode(), durable=False)
    return path
