"""`porta models`, and that the service does not start half-way: each fault by the file and key, in one line, exit 2."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from daemon.commands.cli import main
from daemon.commands.own_models import catalogue_of, findable, require_models, require_models_apart
from daemon.configuration.config import load
from models.architectures.fcn import VGG16FCN
from models.cards import PRETRAINED, find, read_card
from models.catalogue import Catalogue, add, find_added
from models.training.runs import learned_from
from models.weights import save_network

ROOT = Path(__file__).resolve().parents[3]

CONFIG = """\
[dicom]
port = {port}
[[peer]]
name = "archive"
ae_title = "ARCHIVE"
host = "127.0.0.1"
port = 104
[[destination]]
peer = "archive"
[[rule]]
name = "liver-ct"
match = {{ Modality = "CT" }}
model = "{model}"
{shadow}
destinations = ["archive"]
[storage]
root = "{root}"
min_free_mb = 0
[log]
format = "json"
"""


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    code: int
    out: str
    err: list[str]


@dataclass(frozen=True)
class Desk:
    """A folder with a configuration, and somebody who types commands there."""

    folder: Path
    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch
    port: int

    @property
    def config(self) -> Path:
        return self.folder / "porta.toml"

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def configure(self, model: str = "resnet50", shadow: str = "", more: str = "") -> None:
        self.config.write_text(CONFIG.format(port=self.port, root=self.root, model=model, shadow=shadow) + more)

    def porta(self, *arguments: str | Path) -> Answer:
        """The same entry, in this process."""
        self.monkeypatch.setattr(sys, "argv", ["porta", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = self.capsys.readouterr()
        assert "Traceback" not in said.err
        return Answer(int(ended.value.code or 0), said.out, said.err.splitlines())

    def run(self) -> "subprocess.Popen[str]":
        """`porta run` as a process of its own."""
        command = [sys.executable, "-m", "daemon.commands.cli", "run", "-c", str(self.config)]
        return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def desk(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    free_port: Callable[[], int],
) -> Desk:
    """In a folder without anybody's configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PORTA_CONFIG", raising=False)
    return Desk(tmp_path, capsys, monkeypatch, free_port())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The card of weights that a site trained: an fcn_vgg16 that knows nothing."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("trained") / "fcn_vgg16.json"
    card = json.loads((PRETRAINED / "resnet50.json").read_text())
    card |= {
        "name": "ours",
        "version": "0-1",
        "architecture": "fcn_vgg16",
        "trained_on": "nobody; 0 steps",
        "quality": {},
    }
    path.write_text(json.dumps(card | {"sha256": save_network(VGG16FCN(), path.with_suffix(".safetensors"))}))
    return path


@pytest.fixture
def given(made: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    folder = tmp_path / "given"
    shutil.copytree(made.parent, folder)
    return folder / made.name


def test_list_is_what_it_was(desk: Desk) -> None:
    """Without a configuration: each model that ships, its data, its licence and what was measured."""
    answer = desk.porta("models")
    card = find("resnet50")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0] == f"resnet50 {card.version} (resnet50, CT)"
    assert lines[1] == f"  sha256     {card.sha256}"
    assert lines[2].startswith("  trained on ")
    assert lines[3].startswith("  licence    ")
    assert sum(line.startswith(f"  {name}: ") for name in card.quality for line in lines) == len(card.quality)
    assert lines[-1] == "  for research use, not a diagnosis"


def test_card_that_looks_like_markup_is_listed_as_it_is(desk: Desk, given: Path) -> None:
    """Brackets of a card are text: they ended `porta models`."""
    card = json.loads(given.read_text())
    hostile = "[/nothing] [red]of others[/red] :bomb:"
    given.write_text(json.dumps(card | {"trained_on": hostile, "quality": {"[/x]": {"[b]": ["[/b]"]}}}))
    desk.configure()
    assert desk.porta("models", "add", given, "--config", desk.config).code == 0
    answer = desk.porta("models", "--config", desk.config)
    assert answer.code == 0
    assert f"  trained on {hostile}" in answer.out.splitlines()
    assert "  [/x]: {'[b]': ['[/b]']}" in answer.out.splitlines()


def test_added_model_is_listed_verified_and_named_by_a_rule(desk: Desk, given: Path) -> None:
    """With what it was trained on; both files lie in the storage root, where the service reads them."""
    desk.configure()
    answer = desk.porta("models", "add", given, "--config", desk.config)
    assert answer.code == 0
    assert "trained on nobody; 0 steps" in answer.out
    assert 'model = "ours@0-1"' in answer.out
    shutil.rmtree(given.parent)
    desk.configure("ours")
    listed = desk.porta("models", "-c", desk.config).out.splitlines()
    assert "ours 0-1 (fcn_vgg16, CT)" in listed
    assert f"  card       {desk.root}/models/ours@0-1.json" in listed
    whole = desk.porta("models", "verify", "-c", desk.config)
    assert (whole.code, whole.out.count(": whole, sha256 ")) == (0, 2)
    assert desk.porta("models", "-c", desk.config, "verify", "ours@0-1").out.startswith("ours 0-1: whole")
    settings = require_models(load(desk.config, known_models=None))
    assert settings.card("ours") == f"{desk.root}/models/ours@0-1.json"
    assert find(settings.card(settings.rules[0].model)).name == "ours"


def test_added_again_is_nothing_and_another_content_is_refused(desk: Desk, given: Path) -> None:
    """Exit 0 and a word; exit 2 and a line that names file and key."""
    desk.configure()
    assert desk.porta("models", "add", given, "-c", desk.config).code == 0
    again = desk.porta("models", "add", given, "-c", desk.config)
    assert (again.code, again.out.splitlines()[-1]) == (0, "It was here already.")
    content = json.loads(given.read_text()) | {"trained_on": "somebody"}
    given.write_text(json.dumps(content))
    refused = desk.porta("models", "add", given, "-c", desk.config)
    assert refused.code == 2
    (line,) = refused.err
    assert line.startswith(f"porta: {given}: version: ours 0-1 is here already with another content")
    assert json.loads((desk.root / "models/ours@0-1.json").read_text())["trained_on"] == "nobody; 0 steps"


def spoil(card: Path, fault: str) -> None:
    """Damage a card or the weights beside it."""
    weights, content = card.with_suffix(".safetensors"), json.loads(card.read_text())
    if fault == "missing":
        weights.unlink()
    elif fault == "truncated":
        os.truncate(weights, weights.stat().st_size // 2)
    elif fault == "sha256":
        tensors = load_file(weights)
        tensors["score_8.bias"] += 1
        save_file(tensors, weights)
    elif fault == "architecture":
        card.write_text(json.dumps(content | {"architecture": "vgg16"}))
    elif fault == "no architecture":
        card.write_text(json.dumps(content | {"architecture": "unet"}))
    elif fault == "unknown key":
        card.write_text(json.dumps(content | {"trained": "x"}))
    elif fault == "missing key":
        del content["licence"]
        card.write_text(json.dumps(content))
    elif fault == "no card":
        card.unlink()


FAULTS = {
    "missing": "{stem}.safetensors: No such file or directory",
    "truncated": "{stem}.safetensors: is no safetensors file, or is cut short",
    "sha256": "{stem}.safetensors: does not have the sha256 of its card {name}.json",
    "architecture": "{stem}.safetensors: does not hold the layers of vgg16: ",
    "no architecture": "{stem}.json: architecture: no 'unet'; there are resnet50, ",
    "unknown key": "{stem}.json: trained: unknown key; known: name, ",
    "missing key": "{stem}.json: licence: missing",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_damaged_is_added(desk: Desk, given: Path, fault: str) -> None:
    """One line, exit 2, and no folder."""
    desk.configure()
    spoil(given, fault)
    answer = desk.porta("models", "add", given, "-c", desk.config)
    (line,) = answer.err
    assert answer.code == 2
    assert line.startswith("porta: " + FAULTS[fault].format(stem=given.with_suffix(""), name=given.stem))
    assert not (desk.root / "models").exists()


def test_models_that_ship_take_no_other_process(desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Their sha256 tells that they are whole; where it is another one the weights are looked at closely."""
    desk.configure("resnet50")
    config, shipped = load(desk.config, known_models=["resnet50"]), find("resnet50")
    monkeypatch.setattr("daemon.commands.own_models.get_context", None)
    assert require_models_apart(config).card("resnet50") == str(shipped.path)
    for path in (shipped.path, shipped.weights):
        shutil.copy(path, tmp_path)
    (tmp_path / shipped.weights.name).write_bytes(b"damaged")
    monkeypatch.setattr("daemon.commands.own_models.PRETRAINED", tmp_path)
    monkeypatch.setattr("daemon.commands.own_models.catalogue_of", lambda config: Catalogue(pretrained=tmp_path))
    with pytest.raises(TypeError, match="not callable"):  # the other process
        require_models_apart(config)


@pytest.mark.parametrize("fault", [*FAULTS, "no card"])
def test_service_does_not_start_half_way(desk: Desk, made: Path, fault: str) -> None:
    """`porta run`: one line with the key of the rule, the file and its key; exit 2; no port, no ledger."""
    desk.configure()
    assert desk.porta("models", "add", made, "-c", desk.config).code == 0
    stem = desk.root / "models/ours@0-1"
    desk.configure("ours@0-1")
    spoil(stem.with_suffix(".json") if stem.suffix else Path(f"{stem}.json"), fault)
    if fault == "truncated":  # as a process, where nothing is loaded before it looks
        process = desk.run()
        _, stderr = process.communicate(timeout=120)
        code, said = process.returncode, stderr.splitlines()
    else:
        answer = desk.porta("run", "-c", desk.config)
        code, said = answer.code, answer.err
    assert code == 2
    (line,) = said
    if fault == "no card":
        assert line.startswith(f'porta: {desk.config}:13: rule[0].model: unknown model "ours@0-1"; known: ')
    else:
        place = f"porta: {desk.config}:13: "
        assert line.startswith(place + "rule[0].model: " + FAULTS[fault].format(stem=stem, name=stem.name))
        checked = desk.porta("check", "-c", desk.config)
        assert (checked.code, checked.err, checked.out) == (2, [line], "")
        listed = desk.porta("models", "verify", "-c", desk.config)
        assert listed.code == 2
        assert listed.err == [line.replace(f"{place}rule[0].model: ", "porta: ")]
        assert f"resnet50 {find('resnet50').version}: whole" in listed.out
    assert {path.name for path in desk.root.iterdir()} == {"models"}


def test_service_starts_with_own_models_that_are_whole(desk: Desk, made: Path) -> None:
    """By the folder and by `[[model]]`, as main model and as shadow; a damaged one that no rule names stops nobody."""
    desk.configure()
    assert desk.porta("models", "add", made, "-c", desk.config).code == 0
    (desk.root / "models/broken@1.json").write_text("{}")
    own = f'[[model]]\nname = "house"\ncard = "{made}"\n'
    desk.configure("ours", 'shadow = ["house", "resnet50"]', own)
    checked = desk.porta("check", "-c", desk.config)
    assert [line.split(":")[0] for line in checked.out.splitlines()[:3]] == [
        "model ours",
        "model house",
        "model resnet50",
    ]
    process = desk.run()
    assert process.stderr is not None
    try:
        started = next(line for line in process.stderr if "service.started" in line)
        assert json.loads(started)["port"] == desk.port
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_every_faulty_model_is_named_once(desk: Desk, given: Path) -> None:
    """A line for each, though two rules name it; shadows too."""
    spoil(given, "missing key")
    desk.configure("house", 'shadow = ["flat"]')
    rule = desk.config.read_text()
    start, end = rule.index("[[rule]]"), rule.index("[storage]")
    again = rule[start:end].replace("liver-ct", "second")
    own = "".join(f'[[model]]\nname = "{name}"\ncard = "{given.parent / file}"\n' for name, file in OWN.items())
    desk.config.write_text(rule + again + own)
    answer = desk.porta("check", "-c", desk.config)
    assert answer.code == 2
    assert answer.err == [
        f"porta: {desk.config}:13: rule[0].model: {given}: licence: missing",
        f"porta: {desk.config}:14: rule[0].shadow[0]: {given.parent}/gone.json: No such file or directory",
    ]


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_gpu_that_is_asked_for_and_not_there_is_a_line(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Jobs would wait for it, and cost no attempt: for ever, where there never was one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    desk.configure(more='[engine]\ndevice = "cuda"\n')
    answer = desk.porta(command, "-c", desk.config)
    assert answer.code == 2
    assert answer.err == [f"porta: {desk.config}:22: engine.device: CUDA was asked for and is not available"]


OWN = {"house": "fcn_vgg16.json", "flat": "gone.json"}


def test_configuration_that_is_asked_for_must_be_right(desk: Desk) -> None:
    """Else the models that ship are listed, and a line says so."""
    desk.config.write_text("[dicom]\nport = 0\n")
    found = desk.porta("models")
    assert found.code == 0
    assert found.err == [
        "porta: porta.toml:2: dicom.port: must be a port from 1 to 65535, not 0; "
        "only the models that ship are looked at"
    ]
    assert desk.porta("models", "-c", desk.config).code == 2
    assert desk.porta("models", "add", "x.json").code == 2


def test_what_is_not_there_is_a_line(desk: Desk) -> None:
    """A model, a card, a configuration to add to."""
    assert desk.porta("models", "verify", "ours").err == ['porta: there is no model "ours"']
    assert (
        desk.porta("models", "add", "x.json")
        .err[0]
        .startswith("porta: no configuration found; `porta init` writes one; looked for: ")
    )
    desk.configure()
    answer = desk.porta("models", "add", "x.json")
    assert (answer.code, answer.err) == (2, ["porta: x.json: No such file or directory"])


def test_name_means_the_same_card_until_the_service_ends(desk: Desk, given: Path) -> None:
    """A version that is added meanwhile would make the name mean two."""
    desk.configure("ours")
    assert desk.porta("models", "add", given, "-c", desk.config).code == 0
    settings = require_models(load(desk.config, known_models=None))
    given.write_text(given.read_text().replace('"0-1"', '"0-2"'))
    assert add(read_card(given), Catalogue(desk.root / "models")) is not None  # as for another configuration
    assert find(settings.card("ours")).version == "0-1"
    (line,) = desk.porta("check", "-c", desk.config).err
    assert (
        line == f'porta: {desk.config}:13: rule[0].model: "ours" has several versions; write "ours@0-1" or "ours@0-2"'
    )
    assert catalogue_of(settings).card("ours@0-2").version == "0-2"
    sha256 = hashlib.sha256((desk.root / "models/ours@0-2.safetensors").read_bytes()).hexdigest()
    assert catalogue_of(settings).card("ours@0-2").sha256 == sha256


@pytest.mark.parametrize("key", ["model", "shadow"])
def test_a_version_that_would_make_a_rule_s_name_mean_two_is_refused(desk: Desk, given: Path, key: str) -> None:
    """The service that works would not start again: one line with the rule and what to write, and nothing is copied."""
    if key == "model":
        desk.configure("ours")
    else:
        desk.configure(shadow='shadow = ["ours"]')
    command = ("models", "add", given, "-c", desk.config)
    assert desk.porta(*command).code == 0
    given.write_text(given.read_text().replace('"0-1"', '"0-2"'))
    refused = desk.porta(*command)
    assert (refused.code, refused.out) == (2, "")
    (line,) = refused.err
    assert line == (
        f'porta: {given}: version: the {key} "ours" of the rule "liver-ct" would mean two models, and the service would'
        ' not start: write "ours@0-1" there first'
    )
    assert not (desk.root / "models/ours@0-2.safetensors").exists()
    require_models(load(desk.config, known_models=lambda folder: Catalogue(folder).names))
    desk.config.write_text(desk.config.read_text().replace('"ours"', '"ours@0-1"'))
    assert desk.porta(*command).code == 0
    require_models(load(desk.config, known_models=lambda folder: Catalogue(folder).names))


def test_a_name_that_the_configuration_gave_is_not_added(desk: Desk, made: Path, given: Path) -> None:
    """Every command would say "there is a model already". That the very same model is called so is no fault."""
    desk.configure("ours", more=f'[[model]]\nname = "ours"\ncard = "{made}"\n')
    same = desk.porta("models", "add", given, "-c", desk.config)
    assert (same.code, same.out.splitlines()[-1]) == (0, "It was here already.")
    given.write_text(given.read_text().replace('"0-1"', '"0-2"'))
    refused = desk.porta("models", "add", given, "-c", desk.config)
    assert (refused.code, refused.out) == (2, "")
    (line,) = refused.err
    assert line.startswith(f'porta: {given}: name: a [[model]] of the configuration is called "ours"')
    assert find_added(desk.root / "models") == {}
    require_models(load(desk.config, known_models=lambda folder: Catalogue(folder).names))


def test_commands_know_what_the_list_shows(desk: Desk, given: Path) -> None:
    """A name of the configuration that is found is a card to them, and the patients it learned from come with it."""
    (given.parent / "run.json").write_text(json.dumps({"patients": ["data/case1"]}))
    assert findable("resnet50") == "resnet50"
    assert findable(f"resnet50@{find('resnet50').version}") == str(find("resnet50").path)
    desk.configure(more=f'[[model]]\nname = "house"\ncard = "{given}"\n')
    assert desk.porta("models", "add", given, "-c", desk.config).out.splitlines()[-1] == "It was here already."
    desk.configure()
    assert desk.porta("models", "add", given, "-c", desk.config).code == 0
    for name in ("ours", "ours@0-1"):
        assert findable(name) == f"{desk.root}/models/ours@0-1.json"
    assert learned_from(find(findable("ours"))) == {"data/case1"}
    for command in ("segment", "explain"):
        answer = desk.porta(command, "nowhere", "-o", "out", "--model", "ours")
        assert (answer.code, answer.err) == (2, ["porta: nowhere: no such file or folder"])
        answer = desk.porta(command, "nowhere", "-o", "out", "--model", "theirs")
        assert (answer.code, answer.err) == (2, ['porta: there is no model "theirs"'])
