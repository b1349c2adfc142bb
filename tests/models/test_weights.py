"""Weights files: half precision there and back, and every way in which one can be wrong."""

import hashlib
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.architectures.resnet50 import ResNet50Segmenter
from models.cards import Card, Preprocessing
from models.errors import ModelError, UnknownModel, WeightsCorrupt
from models.inference import Model
from models.weights import load_network, save_network, verify


@pytest.fixture(scope="module")
def network() -> ResNet50Segmenter:
    """A ResNet-50 with random weights, and batch norm statistics that are not the default."""
    torch.manual_seed(1)
    network = ResNet50Segmenter().train()
    with torch.no_grad():
        network(torch.randn(2, 3, 64, 64))
    return network.eval()


@pytest.fixture(scope="module")
def card(network: ResNet50Segmenter, tmp_path_factory: pytest.TempPathFactory) -> Card:
    """The card of a file that holds `network`."""
    path = tmp_path_factory.mktemp("weights") / "resnet50.safetensors"
    sha256 = save_network(network, path)
    return Card(
        name="resnet50",
        version="0.0.0",
        architecture="resnet50",
        modalities=("CT",),
        preprocessing=Preprocessing(3.0, 1.5, 4.0, 2.0, 4.0, (-160.0, 240.0)),
        sha256=sha256,
        weights=path,
        trained_on="nothing",
        licence="none",
        quality={},
        research_use_only=True,
    )


def test_sha256_is_that_of_the_file(card: Card) -> None:
    """What save_network returns is what a reader of the file computes."""
    assert hashlib.sha256(card.weights.read_bytes()).hexdigest() == card.sha256


def test_weights_come_back_as_they_were_to_half_precision(card: Card, network: ResNet50Segmenter) -> None:
    """Every tensor is stored in two bytes and comes back in float32, nearest to what it was."""
    assert {t.dtype for t in load_file(card.weights).values()} == {torch.float16, torch.int64}
    loaded = load_network(card).state_dict()
    assert loaded.keys() == network.state_dict().keys()
    for name, tensor in network.state_dict().items():
        assert loaded[name].dtype == tensor.dtype
        rounded = tensor.half().float() if tensor.is_floating_point() else tensor
        assert torch.equal(loaded[name], rounded), name


def test_loaded_network_answers_as_the_saved_one(card: Card, network: ResNet50Segmenter) -> None:
    """It is in evaluation mode, and half precision moves no logit by more than a hundredth of their range."""
    image = torch.randn(1, 3, 64, 64)
    loaded = load_network(card)
    assert not any(module.training for module in loaded.modules())
    with torch.inference_mode():
        before, after = network(image), loaded(image)
    assert float((before - after).abs().max()) < 0.01 * float(before.max() - before.min())


def test_file_with_another_sha256_is_refused(card: Card) -> None:
    """One digit of the card's sha256 is enough."""
    other = ("1" if card.sha256[0] == "0" else "0") + card.sha256[1:]
    with pytest.raises(WeightsCorrupt, match="sha256"):
        load_network(replace(card, sha256=other))


def test_file_cut_off_is_refused(card: Card, tmp_path: Path) -> None:
    """A file that was not copied to its end does not have the sha256 of its card."""
    path = tmp_path / "resnet50.safetensors"
    path.write_bytes(card.weights.read_bytes()[:-1])
    with pytest.raises(WeightsCorrupt, match="sha256"):
        load_network(replace(card, weights=path))


@pytest.mark.parametrize("fault", ["missing", "unknown", "shape"])
def test_other_layers_are_refused(card: Card, tmp_path: Path, fault: str) -> None:
    """A layer too few, one too many, or one of another size: the file is of another network."""
    tensors = load_file(card.weights)
    if fault == "missing":
        del tensors["decoder.head.weight"]
    elif fault == "unknown":
        tensors["another.weight"] = torch.zeros(3)
    else:
        tensors["decoder.head.weight"] = torch.zeros(4, 32, 1, 1)
    path = tmp_path / "resnet50.safetensors"
    save_file(tensors, path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(WeightsCorrupt, match="layers of resnet50"):
        load_network(replace(card, weights=path, sha256=sha256))


def test_missing_file_is_refused(card: Card, tmp_path: Path) -> None:
    """A card without its weights names the file that is not there."""
    with pytest.raises(WeightsCorrupt, match=r"gone\.safetensors: No such file"):
        load_network(replace(card, weights=tmp_path / "gone.safetensors"))


def test_unknown_architecture_is_refused(card: Card) -> None:
    """A card that names a network that is not here."""
    with pytest.raises(UnknownModel, match="alexnet"):
        load_network(replace(card, architecture="alexnet"))


def test_whole_weights_are_verified(card: Card) -> None:
    """Without a word."""
    verify(card)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("gone", r"gone\.safetensors: No such file"),
        ("folder", r"resnet50\.safetensors: Is a directory"),
        ("cut", r"resnet50\.safetensors: is no safetensors file, or is cut short$"),
        ("pickle", r"resnet50\.safetensors: is no safetensors file, or is cut short$"),
        ("sha256", r"resnet50\.safetensors: does not have the sha256 of its card resnet50\.json$"),
        ("architecture", r"does not hold the layers of vgg16: blocks\.\S+, blocks\.\S+ and \d+ more$"),
        ("unknown", r"resnet50\.json: architecture: no 'alexnet'; there are resnet50, "),
        ("shape", r"does not hold the layers of resnet50: decoder\.head\.weight$"),
    ],
)
def test_weights_that_are_not_whole_are_told(card: Card, tmp_path: Path, change: str, said: str) -> None:
    """Each fault by the file; a pickle, which could run code, is never opened as one."""
    path = tmp_path / "resnet50.safetensors"
    content = card.weights.read_bytes()
    changed = replace(card, weights=path)
    if change == "gone":
        changed = replace(card, weights=tmp_path / "gone.safetensors")
    elif change == "folder":
        path.mkdir()
    elif change == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif change == "pickle":
        torch.save({"decoder.head.weight": torch.zeros(3)}, path)
        changed = replace(changed, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    elif change == "shape":
        tensors = load_file(card.weights)
        tensors["decoder.head.weight"] = torch.zeros(4, 32, 1, 1)
        save_file(tensors, path)
        changed = replace(changed, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    else:
        path.write_bytes(content)
        names = {"architecture": "vgg16", "unknown": "alexnet"}
        changed = replace(
            changed,
            architecture=names.get(change, card.architecture),
            sha256="0" * 64 if change == "sha256" else card.sha256,
        )
    with pytest.raises(ModelError, match=said) as error:
        verify(changed)
    assert "\n" not in str(error.value)


def test_verifying_never_unpickles(card: Card, tmp_path: Path) -> None:
    """A file that would run code when it is unpickled does not, whatever its card says."""
    path, mark = tmp_path / "resnet50.safetensors", tmp_path / "ran"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (mark,)

    path.write_bytes(pickle.dumps(Trap()))
    wrong = replace(card, weights=path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    for check in (verify, load_network):
        with pytest.raises(WeightsCorrupt):
            check(wrong)
    assert not mark.exists()
    pickle.loads(path.read_bytes())
    assert mark.exists(), "the trap is one"


def test_algorithm_of_a_model_is_what_its_card_says(card: Card, network: ResNet50Segmenter) -> None:
    """Name, version and sha256 go into every SEG and SR."""
    algorithm = Model(network, card, torch.device("cpu")).algorithm
    assert (algorithm.name, algorithm.version, algorithm.weights_sha256) == ("resnet50", "0.0.0", card.sha256)
    assert (algorithm.modalities, algorithm.trained_on) == (("CT",), "nothing")
