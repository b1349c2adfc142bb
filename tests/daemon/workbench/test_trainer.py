"""`porta train` as a person types it: stopped, killed, gone on with; its weights are read; wrong input is a line."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.commands.cli import main
from daemon.commands.phantoms import PhantomFormat, PhantomOrder, write_phantoms
from daemon.errors import ConfigurationError
from daemon.workbench.train_settings import Overrides, load_settings
from daemon.workbench.trainer import describe, find_material
from dicom_io.files.image_writer import write_ct_series
from dicom_io.nifti import write_labels
from models.cards import find, read_card
from models.errors import CaseUnreadable
from models.inference import load_model
from models.phantom import grid, make_phantom

ROOT = Path(__file__).resolve().parents[3]
SMALL = ("--model", "fcn_vgg16", "--batch", "2", "--pixels", "64", "--threads", "1", "--device", "cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three phantoms of large voxels, DICOM with labels beside it."""
    folder = tmp_path_factory.mktemp("data")
    for seed in range(3):
        geometry = grid(slices=24, rows=60, columns=64, spacing_mm=(10.0, 6.0, 6.0), seed=seed)
        phantom = make_phantom(geometry, seed=seed, lesions=4)
        case = folder / f"case{seed}"
        case.mkdir()
        write_ct_series(phantom.volume.array, geometry, case / "ct_dicom", seed=seed)
        write_labels(phantom.truth, geometry, case / "labels.nii.gz")
    return folder


def command(out: Path, *options: str) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "daemon.commands.cli", "train", "-o", str(out), *options]


Porta = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def porta(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Porta:
    """The command to its end, in this process, which need not import all of it again: its exit code and its lines."""

    def run(out: Path, *options: str) -> tuple[int, list[str]]:
        monkeypatch.setattr(sys, "argv", ["porta", "train", "-o", str(out), *options])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr().err
        assert "Traceback" not in said
        return int(ended.value.code or 0), said.splitlines()

    return run


def interrupted(number: signal.Signals, after: int, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command and send it a signal once so many steps are noted; SIGTERM to its workers too."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command(out, *options), env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    losses = out / "loss.csv"
    while not losses.exists() or losses.read_text().count("\n") <= after:
        try:
            process.wait(timeout=0.02)
        except subprocess.TimeoutExpired:
            continue
        break
    (os.killpg if number is signal.SIGTERM else os.kill)(process.pid, number)
    _, stderr = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, "", stderr)


def test_stopped_and_killed_it_ends_with_the_curves_of_a_run_that_was_not(
    data: Path, tmp_path: Path, porta: Porta
) -> None:
    """SIGTERM keeps the best and says how to go on; after kill -9 between two checkpoints the curves are the same.

    Nor does it matter whether samples are made in the process that trains or beside it.
    """
    file = tmp_path / "train.toml"
    file.write_text("[training]\nsteps = 12\nepoch = 4\ncheckpoint = 4\nvalidation_slices = 4\n")
    options = ("--config", str(file), "--data", str(data), *SMALL)
    code, said = porta(tmp_path / "whole", *options, "--workers", "0")
    assert code == 0, said

    out = tmp_path / "broken"
    stopped = interrupted(signal.SIGTERM, 5, out, *options)
    assert stopped.returncode == 1
    (line,) = [line for line in stopped.stderr.splitlines() if line.startswith("porta: ")]
    assert "the same command goes on" in line
    assert str(out / "fcn_vgg16.json") in line
    load_model(read_card(out / "fcn_vgg16.json"))
    before = (out / "loss.csv").read_text().count("\n")
    assert interrupted(signal.SIGKILL, before + 2, out, *options).returncode == -signal.SIGKILL
    code, said = porta(out, *options, "--workers", "0")
    assert code == 0, said
    for name in ("loss.csv", "dice.csv", "fcn_vgg16-last.safetensors"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name

    assert {path.name for path in out.iterdir()} == {
        *("run.json", "config.toml", "split.json", "train.log", "checkpoint.pt", "loss.csv", "dice.csv", "curves.png"),
        *(f"fcn_vgg16{which}.{kind}" for which in ("", "-last") for kind in ("json", "safetensors")),
    }
    card = json.loads((out / "fcn_vgg16.json").read_text())
    assert card["trained_on"].endswith("; 12 steps of 2 samples")
    assert card["version"] == f"0-{card['sha256'][:12]}"
    assert card["quality"]["validation"]["slices"] == 4
    assert card["research_use_only"]
    code, said = porta(out, *options, "--seed", "1")
    assert code == 2
    assert said[-1] == (
        f"porta: {out}: holds another run: training.seed is 0 there and 1 here; choose another folder with --out"
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "porta: no cases to train on: name a folder with --data, or ask for --phantoms"),
        (("--data", "nowhere"), "porta: nowhere: no such folder"),
        (("--data", "DATA", "--leave-out", "case7"), "porta: case7: no case of this name"),
        (("--data", "DATA", "--fold", "1/9"), "porta: fold 1/9: there are only 3 patients"),
        (("--data", "DATA", "--split", "nowhere.json"), "porta: nowhere.json: No such file or directory"),
        (("--data", "DATA", "--model", "unet"), 'porta: network.model: no architecture "unet"; known:'),
        (("--data", "DATA", "--initial", "nowhere.json"), "porta: nowhere.json: No such file or directory"),
        (("--data", "DATA", "--backbone-weights", "nowhere.pth"), "porta: nowhere.pth: No such file or directory"),
        (
            ("--data", "DATA", "--batch", "1", "--pixels", "32"),
            "porta: training.batch: one sample of 32 pixels a process",
        ),
        (("--config", "nowhere.toml"), "porta: nowhere.toml: cannot be read: No such file or directory"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    data: Path, tmp_path: Path, porta: Porta, options: tuple[str, ...], said: str
) -> None:
    """Before anything is prepared."""
    given = [str(data) if option == "DATA" else option for option in options]
    model = () if "--model" in options else ("--model", "fcn_vgg16")
    code, (line,) = porta(tmp_path / "run", *model, *given)
    assert code == 2
    assert line.startswith(said)
    assert not (tmp_path / "run").exists()


def test_folder_with_something_else_is_refused(data: Path, tmp_path: Path, porta: Porta) -> None:
    """A thesis is not a run."""
    (tmp_path / "thesis.tex").touch()
    code, said = porta(tmp_path, "--data", str(data), *SMALL, "--cache", str(tmp_path.with_name("cache")))
    assert code == 2
    assert said[-1].startswith(f"porta: {tmp_path}: is not empty")


def test_case_left_out_is_on_the_other_side(data: Path) -> None:
    """And phantoms are cases among others."""
    settings = load_settings(
        None, {("data", "folders"): (data,), ("data", "phantoms"): 5, ("data", "leave_out"): ("case1",)}
    )
    material = find_material(settings)
    assert material.split.test == ("case1",)
    assert len(material.sources) == 8
    assert len(material.split.training) + len(material.split.validation) == 7


def test_card_says_what_was_learned_from(data: Path) -> None:
    """Collections and their licences; not the folders' paths."""
    settings = load_settings(None, {("data", "folders"): (data,), ("training", "steps"): 9})
    material = find_material(settings)
    training = [material.sources[name] for name in material.split.training]
    for source in training:
        assert source.collection
    learned = {"collection": "CHAOS CT", "tumours_drawn": True, "modality": "CT"}
    prepared = [type("Prepared", (), learned)()] * 2
    card = describe(settings, prepared, "ab" * 32)
    assert card["trained_on"] == "CHAOS CT (2); 9 steps of 12 samples"
    assert "CHAOS CT CC BY-SA 4.0" in card["licence"]
    assert card["version"] is None  # the weights', which are not there yet
    assert str(data) not in json.dumps(card)
    assert card["modalities"] == ["CT"]
    mr = type("Prepared", (), learned | {"collection": "phantoms", "modality": "MR"})()
    assert describe(settings, [*prepared, mr], "ab" * 32)["modalities"] == ["CT", "MR"]
    first = find("resnet50")
    assert card["begun_from"] is None
    begun = load_settings(None, {("network", "initial"): first.weights.with_suffix(".json")})
    assert describe(begun, [mr], "ab" * 32, first)["begun_from"]["sha256"] == first.sha256
    assert describe(begun, [mr], "ab" * 32, first)["licence"].endswith(f"begun from: resnet50: {first.licence}")


def test_phantoms_in_files_are_not_drawn_again_nor_taken_from_tests(tmp_path: Path) -> None:
    """A name that comes twice is an error; seeds of tests may be held out, and nothing else."""
    order = PhantomOrder(shape=(6, 64, 64), spacing_mm=(12.0, 6.0, 6.0), lesions=0)
    write_phantoms(tmp_path / "few", order, seed=1, count=2, how=PhantomFormat.DICOM)
    few: Overrides = {("data", "folders"): (tmp_path / "few",)}
    with pytest.raises(CaseUnreadable, match="phantom-1: a case in a folder has the name of a phantom to be drawn"):
        find_material(load_settings(None, few | {("data", "phantoms"): 3}))
    (tmp_path / "few/phantom-1").rename(tmp_path / "few/one")
    material = find_material(load_settings(None, few | {("data", "phantoms"): 2, ("data", "leave_out"): ("one",)}))
    assert set(material.split.test) == {"one", "phantom-1"}
    write_phantoms(tmp_path / "tests", order, seed=1_000_014, count=1, how=PhantomFormat.NIFTI)
    both: Overrides = {("data", "folders"): (tmp_path / "few", tmp_path / "tests")}
    with pytest.raises(
        CaseUnreadable, match="phantoms-1000014: phantoms of the seeds 1000000 to 1000999 are for tests"
    ):
        find_material(load_settings(None, both | {("data", "leave_out"): ("one",)}))
    held_out = find_material(load_settings(None, both | {("data", "leave_out"): ("phantoms-1000014",)}))
    assert held_out.split.test == ("phantoms-1000014",)


def test_phantoms_may_be_mr(tmp_path: Path) -> None:
    """Of the same patients, so on the same side; not without a way to normalise them."""
    path = tmp_path / "train.toml"
    path.write_text("[data]\nphantoms = 3\nphantoms_mr = 3\n")
    with pytest.raises(ConfigurationError) as error:
        find_material(load_settings(path))
    assert error.value.faults == ("data.phantoms_mr: MR needs preprocessing.window_percentiles",)
    path.write_text(path.read_text() + "[preprocessing]\nwindow_percentiles = [1.0, 99.0]\n")
    split = find_material(load_settings(path)).split
    assert {name.replace("mr-", "") for name in split.test} == {name for name in split.test if "mr" not in name}
    assert sorted(name for part in ("training", "validation", "test") for name in getattr(split, part)) == [
        *("phantom-0", "phantom-1", "phantom-2", "phantom-mr-0", "phantom-mr-1", "phantom-mr-2"),
    ]


def test_two_processes_train_one_network(data: Path, tmp_path: Path) -> None:
    """As torchrun starts them, in the folder where it was called: one run folder, its cache beside it."""
    run = tmp_path / "run"
    run.mkdir()
    script = Path(sys.executable).with_name("porta")
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script))
    options = ("train", "-o", ".", "--data", str(data), *SMALL, "--steps", "2", "--epoch", "2", "--workers", "0")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    trained = subprocess.run(
        [*launcher, *options], env=environment, cwd=run, capture_output=True, text=True, timeout=300, check=False
    )
    assert trained.returncode == 0, trained.stderr
    assert "2 processes" in trained.stderr
    assert trained.stderr.count("training on ") == 1
    assert (run / "loss.csv").read_text().count("\n") == 3
    load_model(read_card(run / "fcn_vgg16.json"))
    assert {path.name.rpartition("-")[0] for path in (tmp_path / "cache").iterdir()} <= {"case0", "case1", "case2"}
    assert not (run / "cache").exists()
    split, known = (json.loads((run / name).read_text()) for name in ("split.json", "run.json"))
    assert known["patients"] == sorted(f"{data.name}/{name}" for name in split["training"] + split["validation"])
