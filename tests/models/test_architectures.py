"""The networks, each through the same tests: sizes, gradients, files, compilers; and the import of torchvision."""

import os
import pickle
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from models.architectures import backbones, registry
from models.architectures.decoder import enlarge
from models.architectures.deeplabv3plus import ImagePooling
from models.architectures.registry import ARCHITECTURES, build
from models.cards import PRETRAINED, Card, Preprocessing, find
from models.errors import ModelError, UnknownModel, WeightsCorrupt
from models.weights import load_network, save_network

ROOT = Path(__file__).resolve().parents[2]
BACKBONES = {
    "resnet50": "resnet50",
    "deeplabv3plus_resnet101": "resnet101",
    "vgg16": "vgg16_bn",
    "fcn_vgg16": "vgg16_bn",
    "fcn_resnet50": "resnet50",
}

Named = tuple[str, nn.Module]
States = Callable[[str], dict[str, Tensor]]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Images this small gain nothing from a second, and wait for it where the cores have other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def named(request: pytest.FixtureRequest) -> Named:
    """Each architecture with random weights, and batch norm statistics that are not the default."""
    torch.manual_seed(0)
    network = build(request.param).train()
    with torch.no_grad():
        network(torch.randn(2, 3, 64, 64))
    return request.param, network


@pytest.fixture
def network(named: Named) -> nn.Module:
    """The network alone, in evaluation mode."""
    return named[1].eval()


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 40), (65, 127)])
def test_logits_lie_on_the_grid_of_the_input(network: nn.Module, size: tuple[int, int]) -> None:
    """Whatever the rows and columns, from 32 on, there are three finite logits a pixel."""
    with torch.inference_mode():
        logits = network(torch.randn(2, 3, *size))
    assert logits.shape == (2, 3, *size)
    assert bool(torch.isfinite(logits).all())


def test_evaluation_is_repeatable(network: nn.Module) -> None:
    """The same image gives the same logits, bit for bit, and what else is in the batch does not matter."""
    image = torch.randn(3, 3, 40, 56)
    with torch.inference_mode():
        once, again, alone = network(image), network(image), network(image[1:2])
    assert torch.equal(once, again)
    torch.testing.assert_close(alone, once[1:2], rtol=1e-3, atol=1e-4)


def test_answer_depends_on_every_channel(network: nn.Module) -> None:
    """The slices above and below reach the logits, not the middle one alone."""
    image = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        whole = network(image)
        for channel in range(3):
            without = image.clone()
            without[:, channel] = 0
            assert not torch.allclose(network(without), whole)


def test_gradients_reach_every_parameter(network: nn.Module) -> None:
    """No layer is cut off from the loss."""
    network.train().zero_grad()
    logits = network(torch.randn(2, 3, 64, 64))
    F.cross_entropy(logits, torch.randint(0, 3, (2, 64, 64))).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    network.zero_grad()
    assert without == []


def test_batch_of_one_can_be_trained_on(network: nn.Module) -> None:
    """From 33 pixels on: batch norm has more than one value a channel, and where it has not, it needs none."""
    logits = network.train()(torch.randn(1, 3, 33, 33))
    logits.sum().backward()
    network.zero_grad()
    assert logits.shape == (1, 3, 33, 33)


def test_parameters_and_stride_are_those_of_the_table(named: Named) -> None:
    """What the docstring of the registry states is counted and measured; a layer more or less shows."""
    name, network = named
    rows: list[int] = []

    def note(module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[-2] > 1:
            rows.append(output.shape[-2])

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    with torch.inference_mode():
        network.eval()(torch.zeros(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    stated = re.search(rf"^ +{name} +(\d[\d ]*\d) {{2,}}(\d+) ", registry.__doc__ or "", re.MULTILINE)
    assert stated is not None
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert (int(stated[1].replace(" ", "")), int(stated[2])) == (parameters, 64 // min(rows))


def test_weights_go_to_a_file_and_come_back(named: Named, tmp_path: Path) -> None:
    """Through half precision: every tensor returns at its name, nearest to what it was."""
    name, network = named
    loaded = load_network(card_of(network, name, tmp_path)).state_dict()
    assert loaded.keys() == network.state_dict().keys()
    for key, tensor in network.state_dict().items():
        assert torch.equal(loaded[key], tensor.half().float() if tensor.is_floating_point() else tensor), key


def test_compiled_network_answers_as_before(network: nn.Module) -> None:
    """Dynamo and AOTAutograd take the whole graph; of their backends this one needs no compiler."""
    assert_compiles(network, "aot_eager")


def test_inductor_compiles_a_network() -> None:
    """Once, for the quickest to compile: as machine code it gives the same logits. Later runs find it in a cache."""
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if shutil.which(os.environ.get("CXX", "g++")) is None or not header.exists():
        pytest.skip("inductor needs a C++ compiler and Python.h")
    torch.manual_seed(0)
    assert_compiles(build("fcn_vgg16").eval(), "inductor")


def assert_compiles(network: nn.Module, backend: str) -> None:
    """The compiled network, without a break in its graph, answers as the network."""
    image = torch.randn(2, 3, 33, 47)
    torch.compiler.reset()
    with torch.inference_mode():
        compiled = torch.compile(network, backend=backend, fullgraph=True)(image)
        torch.testing.assert_close(compiled, network(image), rtol=1e-3, atol=1e-3)
    torch.compiler.reset()


def card_of(network: nn.Module, architecture: str, folder: Path) -> Card:
    """Save the network, and the card of the file."""
    path = folder / f"{architecture}.safetensors"
    return Card(
        name=architecture,
        version="0.0.0",
        architecture=architecture,
        modalities=("CT",),
        preprocessing=Preprocessing(3.0, 1.5, 4.0, 2.0, 4.0, (-160.0, 240.0)),
        sha256=save_network(network, path),
        weights=path,
        trained_on="nothing",
        licence="none",
        quality={},
        research_use_only=True,
    )


def test_weights_that_ship_fit_and_stay_under_60_mb() -> None:
    """The layers of the main model keep their names, and its file is smaller than what may be shipped."""
    network = load_network(find("resnet50", PRETRAINED))
    numbers = sum(tensor.numel() for tensor in network.state_dict().values())
    assert 20e6 < 2 * numbers < 59e6


def test_unknown_architecture_is_refused_with_those_there_are() -> None:
    """One line for the person who typed it."""
    with pytest.raises(UnknownModel, match="no architecture 'alexnet': there are resnet50, .*fcn_resnet50"):
        build("alexnet")


def test_enlarged_map_lies_where_its_pixels_were() -> None:
    """Means of 8 pixels of a ramp, enlarged, are the ramp again, up to the far edge of a size that 8 does not divide.

    Resizing the 8 means to the 57 pixels would be off by 7 there.
    """
    ramp = torch.arange(57.0).expand(1, 1, 57, 57)
    means = F.avg_pool2d(F.pad(ramp, (0, 7, 0, 7), "replicate"), 8)
    inner = slice(4, 49)
    torch.testing.assert_close(enlarge(means, 8, ramp)[..., inner, inner], ramp[..., inner, inner])


def test_pooled_image_of_a_batch_of_one_takes_the_running_statistics() -> None:
    """There it answers in training as in evaluation and learns no statistics; of two images it does both."""
    torch.manual_seed(0)
    pooling = ImagePooling(4, 8)
    one, two = torch.randn(1, 4, 5, 6), torch.randn(2, 4, 5, 6)
    for image, same in [(one, True), (two, False)]:
        before = pooling.norm.running_mean.clone()  # type: ignore[union-attr]
        trained = pooling.train()(image)
        assert torch.equal(pooling.norm.running_mean, before) is same  # type: ignore[arg-type]
        assert torch.equal(pooling.eval()(image), trained) is same
        assert trained.shape == (len(image), 8, 5, 6)


def test_fcn_resnet50_is_that_of_torchvision() -> None:
    """With the same weights it answers as the second implementation, where 8 divides the size."""
    torch.manual_seed(0)
    ours = build("fcn_resnet50").eval()
    theirs = backbones.vision.segmentation.fcn_resnet50(weights_backbone=None, num_classes=3).eval()
    renamed = {"head.0": "classifier", "head.2": "classifier.4", "stem.0": "backbone.conv1", "stem.1": "backbone.bn1"}
    state = {}
    for key, tensor in ours.state_dict().items():
        key = re.sub(r"^layers\.(\d)", lambda match: f"backbone.layer{int(match[1]) + 1}", key)
        start = key[:6]
        state[renamed[start] + key[6:] if start in renamed else key] = tensor
    theirs.load_state_dict(state)
    image = torch.randn(2, 3, 64, 80)
    with torch.inference_mode():
        torch.testing.assert_close(ours(image), theirs(image)["out"])


@pytest.fixture(scope="module")
def states() -> States:
    """State dicts of torchvision's networks as its site has them, their classifiers cut to one row."""
    made: dict[str, dict[str, Tensor]] = {}

    def state(name: str) -> dict[str, Tensor]:
        if name not in made:
            torch.manual_seed(7)
            if name == "vgg16_bn":
                layers = backbones.vision.vgg.make_layers(backbones.vision.vgg.cfgs["D"], batch_norm=True)
                made[name] = nn.ModuleDict({"features": layers}).state_dict() | {"classifier.0.weight": torch.zeros(1)}
            else:
                made[name] = backbones.vision.get_model(name, weights=None).state_dict()
        return dict(made[name])

    return state


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_backbone_takes_the_weights_of_a_file(named: Named, states: States, tmp_path: Path, suffix: str) -> None:
    """All of the file but its classifier is in the network, in the order of its layers; the decoder is not touched."""
    name, _ = named
    state = states(BACKBONES[name])
    path = tmp_path / f"backbone{suffix}"
    if suffix == ".pth":
        torch.save({key: t for key, t in state.items() if not key.endswith("num_batches_tracked")}, path)  # as of old
    else:
        save_file(state, path)
    encoder = re.compile(r"stem|layers|blocks")
    taken = [t for key, t in build(name, path).state_dict().items() if encoder.match(key)]
    given = [t for key, t in state.items() if not key.startswith(("fc.", "classifier."))]
    assert len(taken) == len(given)
    assert all(torch.equal(a, b) for a, b in zip(taken, given, strict=True))


def test_weights_of_another_backbone_are_named(states: States, tmp_path: Path) -> None:
    """Missing, unknown and misshapen layers each have their words; of many, three and a count are said."""
    state = states("resnet50")
    path = tmp_path / "odd.safetensors"
    state["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    state["extra.weight"] = torch.zeros(1)
    del state["layer4.2.bn3.weight"]
    save_file(state, path)
    words = (
        r"odd\.safetensors: not the layers of torchvision's resnet50: conv1\.weight is \(64, 1, 7, 7\), not "
        r"\(64, 3, 7, 7\); extra\.weight is unknown; layer4\.2\.bn3\.weight is missing$"
    )
    with pytest.raises(WeightsCorrupt, match=words):
        build("resnet50", path)
    with pytest.raises(WeightsCorrupt, match=r"resnet101: .* and \d+ more$"):
        build("deeplabv3plus_resnet101", path)


class Trap:
    """What a pickle may hide: unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


def test_file_that_is_no_state_dict_is_refused_and_runs_nothing(states: States, tmp_path: Path) -> None:
    """Code, other objects, wrapped state dicts, rubbish, half a file, none: a line each that names the file."""
    sprung = tmp_path / "sprung"
    whole = tmp_path / "whole.pth"
    torch.save(states("resnet50"), whole)
    torch.save(Trap(sprung), tmp_path / "trap.pth")
    (tmp_path / "trap.pkl").write_bytes(pickle.dumps(Trap(sprung)))
    torch.save({"epoch": 3, "state_dict": {}}, tmp_path / "wrapped.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({0: torch.zeros(1)}, tmp_path / "numbered.pth")
    (tmp_path / "rubbish.pth").write_bytes(b"<html>not found</html>" * 9)
    (tmp_path / "rubbish.safetensors").write_bytes(b"<html>not found</html>" * 9)
    (tmp_path / "empty.pth").touch()
    (tmp_path / "half.pth").write_bytes(whole.read_bytes()[:1_000_000])
    whole.unlink()
    for path in [*tmp_path.iterdir(), tmp_path / "none.pth", tmp_path / "none.safetensors"]:
        with pytest.raises(WeightsCorrupt, match=rf"^{re.escape(path.name)}: [^\n]+$"):
            build("resnet50", path)
    assert not sprung.exists()


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of torch, and a network whose only way out is a port that nobody listens on."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    # The first request of a process keeps its proxies for all later ones: those of other tests would go there too
    monkeypatch.setattr("urllib.request._opener", None)
    yield tmp_path / "hub" / "checkpoints"


def test_imagenet_without_a_network_is_one_clear_line(offline: Path) -> None:
    """It says what could not be had and what to do instead."""
    line = (
        r"^ImageNet weights of resnet50 could not be fetched \(URLError\): name a torchvision state dict instead, .*$"
    )
    with pytest.raises(ModelError, match=line):
        build("resnet50", "imagenet")


def test_imagenet_comes_from_the_cache_of_torch(offline: Path, states: States) -> None:
    """Fetched once, or copied to where torch keeps it, it needs no network; what is damaged there is said."""
    offline.mkdir(parents=True)
    cached = offline / "resnet50-0676ba61.pth"
    state = states("resnet50")
    torch.save(state, cached)
    assert torch.equal(build("fcn_resnet50", "imagenet").state_dict()["stem.0.weight"], state["conv1.weight"])
    cached.write_bytes(b"<html>")
    with pytest.raises(ModelError, match="could not be fetched"):
        build("fcn_resnet50", "imagenet")


def run_python(code: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter with `paths` and the checkout to import from."""
    search = os.pathsep.join(map(str, [*paths, ROOT]))
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": search},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


IMPORTED = """
import sys
from models.architectures.backbones import resnet
print(resnet(50, "none").stem[0].out_channels, "torch._dynamo" in sys.modules)
import torch._dynamo.utils
print(torch._dynamo.utils.is_compile_supported("cpu"))
"""


def test_torchvision_is_imported_in_a_fresh_interpreter() -> None:
    """Beside a CPU-only torch torchvision's own import stops; through the one place that imports it, it works.

    Torch's compiler is not imported with it, and is itself once it is asked for.
    """
    done = run_python(IMPORTED)
    assert done.stdout.split() == ["64", "False", "True"], done.stderr


def test_another_fault_of_torchvision_is_not_hidden(tmp_path: Path) -> None:
    """The way round the missing operators is taken for that error alone."""
    fake = tmp_path / "torchvision"
    fake.mkdir()
    (fake / "__init__.py").write_text("raise RuntimeError('the disk is on fire')")
    done = run_python("import models.architectures.backbones", tmp_path)
    assert done.returncode != 0
    assert done.stderr.strip().endswith("RuntimeError: the disk is on fire")
    assert "During handling" not in done.stderr  # it was not taken for the other, and tried again
