"""`porta finetune` as it is typed: before and after on cases held back, a card that says whence, a line for a fault."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import pytest
import torch
from safetensors.torch import load_file

from daemon.commands.cli import main
from daemon.errors import BadRequest
from daemon.workbench import finetuning
from daemon.workbench.finetuning import Finetuning, _count, settings_of, table_of
from daemon.workbench.trainer import Material
from dicom_io.files.image_writer import write_ct_series
from dicom_io.nifti import write_labels
from models.architectures.fcn import VGG16FCN
from models.cards import PRETRAINED, find, read_card
from models.datasets.phantoms import PhantomSource
from models.datasets.splits import Split
from models.phantom import grid, make_phantom
from models.training.runs import RUN
from models.weights import save_network, verify

SMALL = ("--batch", "2", "--pixels", "64", "--threads", "1", "--workers", "0", "--device", "cpu")


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    code: int
    out: str
    err: list[str]


@pytest.fixture
def porta(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """`porta("finetune", …)` in this process."""

    def run(*arguments: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["porta", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return Answer(int(ended.value.code or 0), said.out, said.err.splitlines())

    return run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two phantoms of large voxels, DICOM with labels beside it."""
    folder = tmp_path_factory.mktemp("data")
    for seed in range(2):
        geometry = grid(slices=24, rows=60, columns=64, spacing_mm=(10.0, 6.0, 6.0), seed=seed)
        phantom = make_phantom(geometry, seed=seed, lesions=4)
        case = folder / f"case{seed}"
        case.mkdir()
        write_ct_series(phantom.volume.array, geometry, case / "ct_dicom", seed=seed)
        write_labels(phantom.truth, geometry, case / "labels.nii.gz")
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The card of weights that know nothing."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("base") / "first.json"
    card = json.loads((PRETRAINED / "resnet50.json").read_text())
    card |= {"name": "first", "version": "7", "architecture": "fcn_vgg16", "trained_on": "nobody", "licence": "CC0"}
    card["preprocessing"] |= {"coarse_spacing_mm": 12.0, "fine_spacing_mm": 6.0, "coarse_step_mm": 20.0}
    card["preprocessing"] |= {"fine_step_mm": 10.0, "neighbour_mm": 10.0}
    path.write_text(json.dumps(card | {"sha256": save_network(VGG16FCN(), path.with_suffix(".safetensors"))}))
    return path


def test_before_and_after_are_measured_on_the_case_held_back(
    porta: Callable[..., Answer], data: Path, base: Path, tmp_path: Path
) -> None:
    """One table; weights with a card that says what they came from; the encoder as it was; then nothing anew."""
    out = tmp_path / "out"
    command = ("finetune", "--base", base, "--data", data, "--leave-out", "case1", "-o", out, "--steps", "2", *SMALL)
    first = porta(*command, "--freeze-encoder")
    assert first.code == 0, first.err
    head = next(line for line in first.out.splitlines() if "before" in line and "after" in line)
    assert "difference" in head
    assert "1 case held back; mean" in first.out
    row = next(line for line in first.out.splitlines() if "liver: Dice by case" in line)

    card = read_card(out / "run/fcn_vgg16.json")
    verify(card)
    assert card.version == f"0-{card.sha256[:12]}"
    assert f"{card.path}: first-tuned {card.version}, from first 7" in first.out
    assert card.begun_from is not None
    given = find(str(base))
    assert {key: card.begun_from[key] for key in ("name", "version", "sha256", "trained_on")} == {
        "name": "first",
        "version": "7",
        "sha256": given.sha256,
        "trained_on": "nobody",
    }
    assert card.trained_on.startswith("begun from first; ")
    assert "begun from: first: CC0" in card.licence
    assert card.preprocessing == given.preprocessing
    measured = card.quality["case1, left out"]
    assert set(measured) == {"liver_dice", "liver_dice_before", "tumour_dice", "tumour_dice_before"}
    for label, key in (("before", "liver_dice_before"), ("after", "liver_dice")):
        (case,) = json.loads((out / label / "evaluation.json").read_text())["cases"]
        assert case["name"] == "case1"
        assert measured[key] == round(case["liver"]["dice"], 3)
        assert f"{case['liver']['dice']:.3f}" in row

    was, now = load_file(given.weights), load_file(card.weights)
    changed = {name for name in was if not torch.equal(was[name], now[name])}
    assert changed
    assert not [name for name in changed if name.startswith("blocks.")]
    assert json.loads((out / "run" / RUN).read_text())["identity"]["training.freeze_encoder"] is True

    again = porta(*command, "--freeze-encoder")
    assert again.code == 0
    assert sum("kept from before" in line for line in again.err) == 2
    assert again.out.splitlines()[-1] == first.out.splitlines()[-1]
    other = porta(*command)
    assert other.code == 2
    assert "holds another run: training.freeze_encoder is true there" in other.err[-1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--base", "unet"), 'there is no model "unet"'),
        (("--base", "nowhere.json"), "nowhere.json: No such file or directory"),
        (("--data", "nowhere"), "nowhere: no such folder"),
        (("--leave-out", "case9"), "case9: no case of this name"),
        (("--leave-out", "case0", "--leave-out", "case1"), "2 patients are too few: none is left to train on"),
        (("--data", "ONE"), "only case0 in "),
        (("--learning-rate", "0"), "training.learning_rate: must be more than 0"),
        (("--name", "a b"), "card.name: a name is 1 to 64 letters"),
        (("--device", "gpu"), 'machine.device: must be "auto", "cpu" or "cuda"'),
        (("--leave-out", "case1", "--base", "KNOWS"), "first.json: was trained or validated on patients of case1; "),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    porta: Callable[..., Answer], data: Path, base: Path, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    """Before anything is measured or trained."""
    shutil.copytree(data / "case0", tmp_path / "one/case0")
    shutil.copytree(base.parent, tmp_path / "knows")
    (tmp_path / "knows" / RUN).write_text(json.dumps({"patients": [f"{data.name}/case1"]}))
    places = {"ONE": tmp_path / "one", "KNOWS": tmp_path / "knows/first.json"}
    given = [places.get(option, option) for option in options]
    defaults = [
        value for name, value in (("--base", base), ("--data", data)) if name not in options for value in (name, value)
    ]
    answer = porta("finetune", *defaults, *given, "-o", tmp_path / "out")
    assert answer.code == 2
    (line,) = answer.err
    assert said in line
    assert not (tmp_path / "out").exists()


def test_sigterm_while_measuring_is_a_stop_with_a_line(
    porta: Callable[..., Answer], data: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 1, as docs/commands.md says, not a death by the signal; who was asked before is asked again."""
    strays: list[int] = []

    def struck(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("went on")

    def stray(number: int, frame: FrameType | None) -> None:
        strays.append(number)

    monkeypatch.setattr(finetuning, "evaluate_model", struck)
    before = signal.signal(signal.SIGTERM, stray)
    try:
        answer = porta(
            "finetune", "--base", base, "--data", data, "--leave-out", "case1", "-o", tmp_path / "out", *SMALL
        )
        assert signal.getsignal(signal.SIGTERM) is stray
    finally:
        signal.signal(signal.SIGTERM, before)
    assert strays == []
    assert answer.code == 1
    assert answer.err[-1] == "porta: stopped; the same command goes on from the cases that were measured"


def test_few_is_one_to_ten() -> None:
    """Phantoms that are drawn beside them do not count; more cases are for `porta train`."""
    drawn = {source.name: source for source in (PhantomSource(seed) for seed in range(40))}
    for number, right in ((0, False), (1, True), (10, True), (11, False)):
        names = tuple(f"case{place}" for place in range(number))
        sources = drawn | {name: object() for name in (*names, "case11")}
        material = Material(sources, Split((*names, *drawn), (), ("case11",)))  # type: ignore[arg-type]
        if right:
            _count(material)
        else:
            with pytest.raises(BadRequest, match=rf"{number} cases to learn from, 1 held back: finetune takes 1 to 10"):
                _count(material)


def test_without_a_name_a_third_is_held_back(data: Path, base: Path, tmp_path: Path) -> None:
    """At least one patient, the same for the same seed; architecture and preprocessing are the base's."""
    card = find(str(base))
    asked = Finetuning(str(base), {("data", "folders"): (data,), ("data", "phantoms"): 3})
    settings = settings_of(asked, card, tmp_path)
    assert settings.data.leave_out in (("case0",), ("case1",))
    assert settings.data.leave_out == settings_of(asked, card, tmp_path).data.leave_out
    assert (settings.network.model, settings.network.initial) == ("fcn_vgg16", base)
    assert settings.preprocessing == card.preprocessing
    assert settings.data.validation == 0


def test_table_shows_what_is_undefined_as_such() -> None:
    """No tumour, no Dice: neither 0 nor a gain."""
    nothing = {"mean": None, "low": None, "high": None}

    class Summary(dict[str, object]):
        def __missing__(self, key: str) -> object:
            return nothing if key not in ("liver", "global", "tumour", "lesions") else Summary()

    def content(dice: float) -> dict[str, object]:
        return {"cases": [{}, {}], "summary": Summary({"liver": Summary({"dice": {"mean": dice}})})}

    table = table_of({"before": content(0.8), "after": content(0.85)})
    cells = [list(column.cells) for column in table.columns]
    assert [column[0] for column in cells] == ["liver: Dice by case", "0.800", "0.850", "+0.050"]
    assert {column[1] for column in cells[1:]} == {"–"}
    assert str(table.title).startswith("2 cases held back")
