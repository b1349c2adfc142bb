"""`porta evaluate`: models measured on cases with their truth, their charts, and the worst cases to look at.

OUT/charts/*.png           all models beside one another
OUT/NAME/evaluation.json   what was measured; cases.csv and lesions.csv for a spreadsheet
OUT/NAME/worst/            the worst cases by the liver's Dice: pictures, and the labels found
OUT/NAME/cases/            what is kept, so that a run that was stopped goes on
"""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from daemon.errors import EvaluationStopped
from daemon.progress import progress_bar
from daemon.terminal import Terminal, say, warn
from daemon.workbench.interruption import interruptible
from dicom_io.nifti import has_affine, write_labels
from models.cards import Card, find
from models.datasets.cases import CaseSource
from models.datasets.discovery import find_all
from models.datasets.phantoms import TEST_SEEDS, PhantomSource, phantom_sources
from models.datasets.splits import PARTS, Split, check, read_split
from models.errors import CaseUnreadable, RunMismatch, SplitInvalid
from models.evaluation.evaluation import Asked, evaluate, found_labels
from models.inference import Model, load_model
from models.training.runs import SPLIT, learned_from
from reports.evaluation.agreement_picture import write_agreement
from reports.evaluation.charts import draw_charts
from reports.evaluation.evaluations import counts
from reports.identity import software_version

CHARTS, WORST = "charts", "worst"
PHANTOM_NAME = re.compile(r"phantom-(mr-)?(\d+)")
"""The name of a PhantomSource, of which modality it is, and its seed."""

Content = dict[str, Any]
"""What evaluation.json holds."""


@dataclass(frozen=True)
class Request:
    """The options of the command line. `weights`: names of `porta models`, or cards."""

    weights: tuple[str, ...]
    folders: tuple[Path, ...] = ()
    phantoms: int = 0
    split: Path | None = None
    part: str = "test"
    tumours_not_drawn: tuple[str, ...] = ()
    device: str = "auto"
    threads: int | None = None
    command: str = "porta evaluate"


def evaluate_models(request: Request, out: Path) -> dict[str, Content]:
    """Measure each model on the same cases, one after another; write what the head of this module lists.

    Returns what each evaluation.json holds, by the name of its folder. Raises UnknownModel, CaseUnreadable,
    SplitInvalid and RunMismatch for what the caller must mend, EvaluationStopped after Ctrl-C or SIGTERM.
    """
    try:
        with interruptible():
            return _evaluated(request, out)
    except KeyboardInterrupt:
        raise EvaluationStopped("stopped; the same command goes on from the cases that were measured") from None


def _evaluated(request: Request, out: Path) -> dict[str, Content]:
    cards = name_cards([find(name) for name in request.weights])
    sources = find_sources(request)
    if request.split is None or request.part == "test":
        refuse_learned(cards.values(), sources)
    asked = Asked(
        software=f"porta-hepatis {software_version()}",
        command=request.command,
        split_part=request.part if request.split is not None else None,
    )
    contents = {}
    for label, card in cards.items():
        model = load_model(card, device=request.device, threads=request.threads)
        contents[label] = evaluate_model(model, sources, out / label, asked, label=label)
        del model  # one network in memory at a time
    with writing(out):
        draw_charts(contents, out / CHARTS)
    Terminal(width=None if sys.stdout.isatty() else 160).print(table_of(contents))
    say(f"{out}: evaluation.json and the worst cases of each model, and {CHARTS}/")
    return contents


def find_sources(request: Request) -> list[CaseSource]:
    """Find the cases that a request names; print a line on stderr for each file that is no case.

    Raises CaseUnreadable where there is none, SplitInvalid for a split of other cases.
    """
    sources: list[CaseSource] = []
    if request.folders:
        found = find_all(request.folders, request.tumours_not_drawn)
        sources += found.sources
        for line in found.skipped:
            warn(line)
    if request.split is not None:
        sources = _of_split(request.split, request.part, sources)
    known = {source.name: source for source in sources}
    for phantom in phantom_sources(request.phantoms, TEST_SEEDS):
        if known.setdefault(phantom.name, phantom) != phantom:
            raise CaseUnreadable(f"{phantom.name}: a case in a folder has this phantom's name; rename its folder")
    sources = list(known.values())
    if not sources:
        why = f"{request.split} has none for {request.part}" if request.split else "name a folder with --data"
        raise CaseUnreadable(f"no case to measure on: {why}, or ask for --phantoms")
    return sources


def refuse_learned(cards: Iterable[Card], sources: Sequence[CaseSource]) -> None:
    """Raise SplitInvalid where weights were trained or validated on the patient of a case, as far as their run says."""
    for card in cards:
        patients = learned_from(card)
        if names := [source.name for source in sources if source.patient in patients]:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            split = card.weights.with_name(SPLIT)  # the run's; it does not come with a model that was added
            way = f"--split {split} leaves them out" if split.exists() else "measure on others"
            raise SplitInvalid(f"{card.path}: was trained or validated on patients of {shown}; {way}")


def _of_split(path: Path, part: str, sources: Sequence[CaseSource]) -> list[CaseSource]:
    """Return the cases of one part of a split; phantoms that it names are drawn.

    Raises SplitInvalid for a case that is not there, and for a patient of this part who is in another one too. Cases of
    other parts need not be there.
    """
    split = read_split(path)
    by_name = {source.name: source for source in sources}
    for name in (name for each in PARTS for name in getattr(split, each)):
        if name not in by_name and (seed := PHANTOM_NAME.fullmatch(name)):
            by_name[name] = PhantomSource(int(seed[2]), "MR" if seed[1] else "CT")
    names = {each: tuple(name for name in getattr(split, each) if each == part or name in by_name) for each in PARTS}
    try:
        check(Split(**names), by_name.values())
    except SplitInvalid as error:
        raise SplitInvalid(f"{path}: {error}") from error
    return [by_name[name] for name in names[part]]


def evaluate_model(model: Model, sources: Sequence[CaseSource], out: Path, asked: Asked, *, label: str) -> Content:
    """Measure one model and draw its worst cases; a bar for a person, a line for each case else."""
    console = Terminal(stderr=True)
    with progress_bar(f"measuring {label}") as progress:

        def report(done: int, of: int, line: str) -> None:
            progress(done, of)
            if not console.is_terminal or line.startswith("left out"):
                warn(f"{label}: case {done} of {of}, {line}")

        content = evaluate(model, sources, out, asked, report)
    with writing(out):
        draw_worst(model, sources, content, out, label=label)
    return content


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """A disk that is full, or a file in the place of a folder: RunMismatch, in one line that names the file."""
    try:
        yield
    except OSError as error:
        raise RunMismatch(f"{error.filename or out}: {error.strerror or error}") from error


def draw_worst(model: Model, sources: Sequence[CaseSource], content: Content, out: Path, *, label: str) -> list[Path]:
    """Pictures of the worst cases, and the labels found in them as NIfTI (not of uneven stacks, which have none)."""
    folder = out / WORST
    for old in (*folder.glob("*.png"), *folder.glob("*.nii.gz")):
        old.unlink()
    by_name = {source.name: source for source in sources}
    records = {record["name"]: record for record in content["cases"]}
    paths = []
    for number, name in enumerate(content["worst"], start=1):
        case, found = by_name[name].read(), found_labels(model, by_name[name], out, content["software"])
        path = folder / f"{number}-{plain(name)}.png"
        title = f"{name}, {label}: {_dices(records[name])}"
        write_agreement(case.volume, case.labels, found, path, title=title, tumours_drawn=case.tumours_drawn)
        if has_affine(case.volume.geometry):
            write_labels(found, case.volume.geometry, path.with_suffix(".nii.gz"))
        paths.append(path)
    return paths


def name_cards(cards: Sequence[Card]) -> dict[str, Card]:
    """Cards by the plain names that their folders bear: told apart by version, and by sha256, as far as need be."""
    cards = list({card.sha256: card for card in cards}.values())
    names = (
        lambda card: card.name,
        lambda card: f"{card.name}-{card.version}",
        lambda card: f"{card.name}-{card.version}-{card.sha256[:8]}",
    )
    tried = [[plain(name(card)) for card in cards] for name in names]
    labels = next((each for each in tried if len(set(each)) == len(cards)), tried[-1])
    return dict(zip(labels, cards, strict=True))


def plain(name: str) -> str:
    """A name that any file system takes."""
    return re.sub(r"[^\w.-]+", "_", name).strip(".") or "_"


def table_of(contents: Mapping[str, Content]) -> Table:
    """The main figures, a column for each model; intervals are 95 %, by bootstrap over patients."""
    first = next(iter(contents.values()))
    table = Table("", *contents, title=f"{counts(first)}; mean [95 % interval]", title_justify="left")
    for name, path, digits in ROWS:
        table.add_row(name, *(_cell(content["summary"], path, digits) for content in contents.values()))
    return table


ROWS = (
    ("liver: Dice by case", ("liver", "dice"), 3),
    ("liver: Dice of all voxels", ("global", "liver_dice"), 3),
    ("liver: IoU", ("liver", "iou"), 3),
    ("liver: volume difference", ("liver", "rvd"), 3),
    ("liver: ASSD, mm", ("liver", "assd_mm"), 2),
    ("liver: HD95, mm", ("liver", "hd95_mm"), 1),
    ("liver: AUC", ("liver", "auc_roc"), 4),
    ("tumour: Dice by case", ("tumour", "dice"), 3),
    ("tumour: Dice of all voxels", ("global", "tumour_dice"), 3),
    ("tumour: ASSD, mm", ("tumour", "assd_mm"), 2),
    ("tumour: AUC", ("tumour", "auc_roc"), 4),
    ("lesions: recall", ("lesions", "recall"), 2),
    ("lesions: precision", ("lesions", "precision"), 2),
    ("lesions: false per scan", ("lesions", "false_per_scan"), 2),
    ("lesions: error of diameter, mm", ("lesions", "diameter_error_mm"), 1),
    ("burden: error, percent points", ("lesions", "burden_error_percent"), 2),
)
"""Name, where it stands in a summary, decimals."""


def mean_of(summary: Mapping[str, Any], path: Sequence[str]) -> float | None:
    """The mean, or the one value, that stands somewhere in a summary."""
    return _interval(summary, path)[0]


def _interval(summary: Mapping[str, Any], path: Sequence[str]) -> tuple[float | None, float | None, float | None]:
    """Mean, low and high; the last two None where one value stands there."""
    value: Any = summary
    for key in path:
        value = value[key]
    return (value["mean"], value.get("low"), value.get("high")) if isinstance(value, dict) else (value, None, None)


def _cell(summary: Mapping[str, Any], path: Sequence[str], digits: int) -> str:
    mean, low, high = _interval(summary, path)
    if mean is None:
        return "–"
    return f"{mean:.{digits}f}" + ("" if low is None else f" [{low:.{digits}f}, {high:.{digits}f}]")


def _dices(record: Mapping[str, Any]) -> str:
    values = {name: record[name]["dice"] for name in ("liver", "tumour")}
    return ", ".join(f"{name} Dice {value:.3f}" for name, value in values.items() if value is not None)
