"""The comparison: made once, gone on with, drawn again, and one line for what cannot be compared."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from daemon.cli import main
from daemon.comparison import Comparison, compare_models, draw_page
from daemon.errors import ConfigurationError
from daemon.train_settings import load_settings
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


def test_everything_lies_where_it_is_said_to(made: Made) -> None:
    """Run, evaluation, complexity, page; the command and what the reader must know are on it."""
    out = made.out
    for name in ("split.json", "runs/resnet50/resnet50.json", "evaluations/resnet50/evaluation.json"):
        assert (out / name).exists(), name
    evaluation = json.loads((out / "evaluations/resnet50/evaluation.json").read_text())
    assert [case["name"] for case in evaluation["cases"]] == ["phantom-1000000"]
    assert evaluation["split_part"] == "test"
    assert json.loads((out / "complexity/resnet50.json").read_text())["parameters"] == 25_458_755
    page = (out / "page/index.html").read_text()
    assert "porta compare --steps 2" in page
    assert "All test cases are synthetic phantoms" in page
    assert "resnet50 went on from the weights resnet50, which may have learned from the test cases" in page
    assert "For research use, not a diagnosis." in page
    assert "Apache-2.0" in page
    numbers = json.loads((out / "page/comparison.json").read_text())
    assert numbers["models"][0]["training"]["steps"] == 2
    assert numbers["facts"]["trained on"] == "1 case: phantoms 1"
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
    """From their own folders; and the page need not show whose cases may not be published."""
    run = made.out / "runs/resnet50"
    for kept in ("evaluations", "complexity"):  # by the weights' sha256, so that they need not be measured again
        shutil.copytree(made.out / kept, tmp_path / kept)
    before = times(run)
    page = compare_models(replace(made.asked, runs=(run,), pictures="none"), tmp_path)
    assert times(run) == before
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
    training = settings.training.model_copy(update={"batch": 4})
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
    code = "import daemon.cli, daemon.service, daemon.standalone, sys; print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert {"seaborn", "pandas", "sklearn", "monai", "jinja2"}.isdisjoint(answer.stdout.split())
