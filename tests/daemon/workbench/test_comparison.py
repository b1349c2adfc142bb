"""The comparison: made once, gone on with, drawn again, and one line for what cannot be compared."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from daemon.commands.cli import main
from daemon.errors import ComparisonStopped, ConfigurationError
from daemon.workbench import comparison
from daemon.workbench.comparison import Comparison, compare_models
from daemon.workbench.comparison_page import draw_page
from daemon.workbench.train_settings import TrainSettings, load_settings
from models.cards import PRETRAINED
from models.errors import CaseUnreadable, RunMismatch, SplitInvalid

SETTINGS = f"""\
[data]
phantoms = 1
split = "{{split}}"
[network]
initial = "{PRETRAINED / "resnet50.json"}"
[training]
steps = 2
epoch = 1
batch = 2
pixels = 64
learning_rate = 1e-9
[machine]
threads = 1
workers = 0
"""
"""A step that changes next to nothing of weights that can already segment: what is measured is soon measured."""


@dataclass(frozen=True)
class Made:
    """A comparison that was made in `out`."""

    asked: Comparison
    out: Path


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """One model, trained on one phantom, measured on another."""
    folder = tmp_path_factory.mktemp("asked")
    split, toml = folder / "given.json", folder / "train.toml"
    split.write_text(json.dumps({"training": ["phantom-0"], "validation": [], "test": []}))
    toml.write_text(SETTINGS.format(split=split))
    return Comparison(load_settings(toml), ("resnet50",), "porta compare --steps 2", test_phantoms=1)


@pytest.fixture(scope="module")
def made(asked: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The same, made."""
    out = tmp_path_factory.mktemp("compared")
    assert compare_models(asked, out) == out / "page" / "index.html"
    return Made(asked, out)


def times(folder: Path) -> dict[str, int]:
    """When each file below a folder was written, in nanoseconds."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Change a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_everything_lies_where_it_is_said_to(made: Made) -> None:
    """Run, evaluation, complexity, page; the command and what the reader must know are on it."""
    out = made.out
    for name in ("split.json", "runs/resnet50/resnet50.json", "evaluations/resnet50/evaluation.json"):
        assert (out / name).exists(), name
    evaluation = json.loads((out / "evaluations/resnet50/evaluation.json").read_text())
    assert [case["name"] for case in evaluation["cases"]] == ["phantom-1000000"]
    assert evaluation["split_part"] == "test"
    complexity = json.loads((out / "complexity/resnet50.json").read_text())
    assert complexity["parameters"] == 25_458_755
    assert complexity["conditions"]["threads"] == 1
    page = (out / "page/index.html").read_text()
    assert "porta compare --steps 2" in page
    assert "All test cases are synthetic phantoms" in page
    assert "resnet50 went on from the weights resnet50, which may have learned from the test cases" in page
    assert "For research use, not a diagnosis." in page
    assert "Apache-2.0" in page
    numbers = json.loads((out / "page/comparison.json").read_text())
    assert numbers["models"][0]["training"]["steps"] == 2
    assert numbers["facts"]["trained on"] == "1 case: phantoms 1"
    assert numbers["facts"]["tested on"] == "1 case: phantoms 1"
    assert list((out / "page/worst").iterdir())


def test_the_same_command_does_nothing_twice(made: Made) -> None:
    """Cases stay prepared and measured, the cost stays measured, the loss stays as it was, the page is the same."""
    page = (made.out / "page/index.html").read_text()
    before = times(made.out)
    compare_models(made.asked, made.out)
    after = times(made.out)
    kept = ("cache/", "complexity/", "evaluations/resnet50/cases/", "split.json")
    assert [name for name in before if name.startswith(kept) and before[name] != after[name]] == []
    assert len((made.out / "runs/resnet50/loss.csv").read_text().splitlines()) == 3
    assert (made.out / "page/index.html").read_text() == page


def test_finished_runs_are_compared_without_training(made: Made, tmp_path: Path) -> None:
    """From their own folders, their costs measured again under other conditions, as other threads give other seconds.

    The evaluation, of the same weights, stays; and the page need not show whose cases may not be published.
    """
    run = made.out / "runs/resnet50"
    for kept in ("evaluations", "complexity"):
        shutil.copytree(made.out / kept, tmp_path / kept)
    edit(tmp_path / "complexity/resnet50.json", lambda content: content["conditions"].update(threads=7))
    before, measured = times(run), times(tmp_path / "evaluations/resnet50/cases")
    page = compare_models(replace(made.asked, runs=(run,), pictures="none"), tmp_path)
    assert times(run) == before
    assert times(tmp_path / "evaluations/resnet50/cases") == measured
    assert json.loads((tmp_path / "complexity/resnet50.json").read_text())["conditions"]["threads"] == 1
    assert not (tmp_path / "runs").exists()
    assert not (page.parent / "worst").exists()
    assert "phantom-1000000" in page.read_text()


def test_a_page_is_drawn_again_from_its_files(made: Made, monkeypatch, capsys) -> None:
    """By --only-page: nothing is read but what is there."""
    page = made.out / "page/index.html"
    page.unlink()
    monkeypatch.setattr(sys, "argv", ["porta", "compare", "--only-page", "-o", str(made.out)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{page}\n"
    assert "porta compare --steps 2" in page.read_text()


@pytest.fixture
def copied(made: Made, tmp_path: Path) -> Path:
    """The comparison in a folder where a test may damage it."""
    return shutil.copytree(made.out, tmp_path / "copied", ignore=shutil.ignore_patterns("cache"))


def test_facts_are_said_of_each_run_where_they_differ(copied: Path, made: Made) -> None:
    """A second run of another seed and another torch."""
    run, other = copied / "runs/resnet50", copied / "runs/other"
    shutil.copytree(run, other)
    for kept in ("evaluations", "complexity"):
        for path in (copied / kept).iterdir():
            name = path.with_name(path.name.replace("resnet50", "other"))
            shutil.copytree(path, name) if path.is_dir() else shutil.copy(path, name)
    edit(other / "run.json", lambda content: content["versions"].update(torch="0.0"))
    toml = other / "config.toml"
    toml.write_text(toml.read_text().replace("seed = 0", "seed = 1"))
    page = compare_models(replace(made.asked, runs=(run, other)), copied)
    facts = json.loads((page.parent / "comparison.json").read_text())["facts"]
    assert facts["schedule"] == "resnet50: cosine, seed 0; other: cosine, seed 1"
    assert "torch 0.0" in facts["versions"].partition("; other: ")[2]
    assert facts["tested on"] == "1 case: phantoms 1"


def test_a_run_that_was_stopped_is_no_finished_one(copied: Path, made: Made) -> None:
    """Its best weights are there, and are not those of the whole budget."""
    run = copied / "runs/resnet50"
    losses = run / "loss.csv"
    losses.write_text("\n".join(losses.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(RunMismatch, match=r"resnet50: stopped at step 1 of 2; train it to its end first"):
        compare_models(replace(made.asked, runs=(run,)), copied)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (
            "evaluations/resnet50/evaluation.json",
            lambda content: content["model"].update(sha256="1" * 64),
            "its evaluation is of other weights than",
        ),
        (
            "complexity/resnet50.json",
            lambda content: content.update(sha256="1" * 64),
            "its complexity is of other weights than",
        ),
    ],
)
def test_a_page_of_other_weights_is_refused(copied: Path, name: str, change: Callable[[Any], None], said: str) -> None:
    """As a training that went on after it was measured leaves them."""
    edit(copied / name, change)
    with pytest.raises(RunMismatch, match=f"resnet50: {said}"):
        draw_page(copied)


def test_a_page_of_other_data_is_refused(copied: Path) -> None:
    """Two models, one measured on cases that were another's content; but a case that one cannot take is named."""
    shutil.copytree(copied / "runs/resnet50", copied / "runs/other")
    shutil.copytree(copied / "evaluations/resnet50", copied / "evaluations/other")
    edit(copied / "comparison.json", lambda content: content["runs"].update(other="runs/other"))
    other = copied / "evaluations/other/evaluation.json"
    edit(other, lambda content: content.update(data_sha256="1" * 64))
    with pytest.raises(RunMismatch, match="other: was measured on other data than resnet50; run the comparison again"):
        draw_page(copied)
    more = copied / "evaluations/resnet50/evaluation.json"
    edit(more, lambda content: content["cases"].append(content["cases"][0] | {"name": "mr"}))
    with pytest.raises(RunMismatch, match="other: was measured on other data than resnet50"):
        draw_page(copied)
    edit(other, lambda content: content.update(skipped=["mr: model is for CT, the volume is MR"]))
    assert "mr: model is for CT" in draw_page(copied).read_text()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("comparison.json", "[]", "comparison.json: not what a comparison leaves"),
        ("comparison.json", '{"runs": 1, "facts": 1}', "comparison.json: not what a comparison leaves"),
        ("complexity/resnet50.json", "{", "resnet50.json: damaged"),
        ("complexity/resnet50.json", "[]", "resnet50.json: damaged"),
        ("runs/resnet50/train.log", "yesterday step 1: x", "train.log: damaged"),
        ("page", "a file", "page: File exists"),
    ],
)
def test_what_was_damaged_is_one_line(copied: Path, name: str, content: str, said: str) -> None:
    """The file that is wrong is named, not another one; a page that cannot be written too."""
    path = copied / name
    if path.is_dir():
        shutil.rmtree(path)
    path.write_text(content)
    with pytest.raises(RunMismatch, match=said) as refused:
        draw_page(copied)
    assert "\n" not in str(refused.value)


def test_all_models_can_begin_before_the_first_is_trained(asked: Comparison, tmp_path: Path) -> None:
    """Weights of one architecture begin no other: said at once, not after a day."""
    with pytest.raises(ConfigurationError, match="vgg16: resnet50.safetensors is a resnet50, not a vgg16"):
        compare_models(replace(asked, models=("resnet50", "vgg16")), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def stopped_while_measuring(answer: Connection) -> None:
    """Compare, be sent SIGTERM by the first measurement, and tell what came of it."""

    def measure(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()

    comparison._finished = lambda folders: ({}, {"x": None})  # type: ignore[assignment,dict-item]
    comparison._held_out = lambda material, count: ()  # type: ignore[assignment]
    comparison._measure = measure  # type: ignore[assignment]
    try:
        compare_models(Comparison(TrainSettings(), (), "porta compare", runs=(Path("x"),)), Path("x"))
    except ComparisonStopped as stopped:
        answer.send(str(stopped))


def test_sigterm_while_measuring_is_a_stop() -> None:
    """Not a death without a word: what was measured is kept. In a process that is a copy of this one."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=stopped_while_measuring, args=(theirs,))
    process.start()
    theirs.close()
    assert ours.poll(60)
    assert ours.recv() == "stopped; the same command goes on from there"
    process.join(60)
    assert process.exitcode == 0


def test_another_split_is_refused(made: Made, tmp_path: Path) -> None:
    """Models of one page were held out the same cases."""
    split = tmp_path / "other.json"
    split.write_text(json.dumps({"training": ["phantom-1"], "validation": [], "test": ["phantom-0"]}))
    settings = made.asked.settings
    data = settings.data.model_copy(update={"phantoms": 2, "split": split})
    other = replace(made.asked, settings=settings.model_copy(update={"data": data}))
    with pytest.raises(RunMismatch, match=r"split.json: of another comparison; choose another folder"):
        compare_models(other, made.out)


def test_a_changed_recipe_is_refused(made: Made) -> None:
    """And says what differs: the run's own folder knows."""
    settings = made.asked.settings
    training = replace(settings.training, batch=4)
    with pytest.raises(RunMismatch, match=r"training.batch is 2 there and 4 here"):
        compare_models(replace(made.asked, settings=settings.model_copy(update={"training": training})), made.out)


def test_a_damaged_evaluation_is_named(made: Made) -> None:
    """One line, by --only-page."""
    path = made.out / "evaluations/resnet50/evaluation.json"
    content = path.read_bytes()
    path.write_bytes(content[:100])
    try:
        with pytest.raises(Exception, match=r"evaluation.json: not JSON; run `porta evaluate` again"):
            draw_page(made.out)
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"models": ("resnet5",)}, ConfigurationError, "no architecture .resnet5.; did you mean .resnet50."),
        ({"test_phantoms": 0}, CaseUnreadable, "no case is held out"),
        ({"test_phantoms": 5000}, ConfigurationError, "--test-phantoms: at most 1000"),
        ({"runs": (Path("nowhere"),)}, RunMismatch, "is it the folder of a training run"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    asked: Comparison, tmp_path: Path, change: dict[str, object], error: type[Exception], said: str
) -> None:
    """Before anything is trained."""
    with pytest.raises(error, match=said) as refused:
        compare_models(replace(asked, **change), tmp_path / "out")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out" / "runs").exists()


def test_two_runs_of_one_name_and_a_run_without_weights_are_refused(asked: Comparison, tmp_path: Path) -> None:
    """They would be one column, or none."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text('{"identity": {"network.model": "vgg16"}}')
    with pytest.raises(RunMismatch, match="has no weights yet"):
        compare_models(replace(asked, runs=(run,)), tmp_path / "out")
    (run / "run.json").write_text("{}")
    with pytest.raises(RunMismatch, match="does not say of which run it is"):
        compare_models(replace(asked, runs=(run,)), tmp_path / "out")


def test_a_split_of_cases_that_are_not_there_is_refused(asked: Comparison, tmp_path: Path) -> None:
    """By the name of the first."""
    split = tmp_path / "other.json"
    split.write_text(json.dumps({"training": ["phantom-0", "volume-3"], "validation": [], "test": []}))
    data = asked.settings.data.model_copy(update={"split": split})
    with pytest.raises(SplitInvalid, match="there is no case volume-3"):
        compare_models(replace(asked, settings=asked.settings.model_copy(update={"data": data})), tmp_path / "out")


def test_torchrun_is_told_what_to_do(asked: Comparison, tmp_path: Path, monkeypatch) -> None:
    """Several processes train; one compares."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigurationError, match="compare with --runs"):
        compare_models(asked, tmp_path)


def test_an_empty_folder_has_no_page(tmp_path: Path, monkeypatch, capsys) -> None:
    """One line on stderr, exit code 2."""
    monkeypatch.setattr(sys, "argv", ["porta", "compare", "--only-page", "-o", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"porta: {tmp_path}/comparison.json: No such file or directory; " + (
        "run the comparison again\n"
    )


def test_the_service_needs_nothing_of_it() -> None:
    """What trains, evaluates and draws charts is not imported by the command line or the service."""
    code = "import daemon.commands.cli, daemon.service, daemon.commands.standalone, sys; print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert {"seaborn", "pandas", "sklearn", "monai", "jinja2"}.isdisjoint(answer.stdout.split())
