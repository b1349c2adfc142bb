"""ONNX: every architecture answers in onnxruntime as in torch, and carries its card."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from models.architectures.registry import ARCHITECTURES, build
from models.cards import PRETRAINED, Card, find
from models.errors import ModelError
from models.export import export_onnx


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Images this small gain nothing from a second, and wait for it where the cores have other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def card() -> Card:
    """The card that ships."""
    return find("resnet50", PRETRAINED)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_onnxruntime_answers_as_torch(name: str, card: Card, tmp_path: Path) -> None:
    """One file for every batch and size, odd ones and the smallest too; its metadata are the card's."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    torch.manual_seed(0)
    network = build(name).train()
    with torch.no_grad():
        network(torch.randn(2, 3, 64, 64))  # batch norm statistics that are not the default
    path = tmp_path / f"{name}.onnx"
    export_onnx(network, path, card=replace(card, architecture=name))
    assert network.training  # the caller's network stays as it was
    assert [file.name for file in tmp_path.iterdir()] == [path.name]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    described = [(side.name, side.shape) for side in (*session.get_inputs(), *session.get_outputs())]
    axes = ["batch", 3, "row", "column"]
    assert described == [("image", axes), ("logits", axes)]
    metadata = session.get_modelmeta().custom_metadata_map
    assert (metadata["architecture"], metadata["weights_sha256"]) == (name, card.sha256)
    assert json.loads(metadata["preprocessing"])["window_hu"] == list(card.preprocessing.window_hu)
    network.eval()
    for size in [(1, 3, 32, 32), (3, 3, 33, 47), (1, 3, 65, 127)]:
        image = torch.randn(size)
        with torch.inference_mode():
            expected = network(image)
        logits = torch.from_numpy(session.run(["logits"], {"image": image.numpy()})[0])
        assert logits.shape == expected.shape
        assert float((logits - expected).abs().max()) < 1e-4 * max(1.0, float(expected.abs().max()))


def test_missing_extra_is_named(card: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without onnxscript the line says what to install, and no file is begun."""
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ModelError, match=r"onnxscript.* not installed: pip install 'porta-hepatis\[export\]'"):
        export_onnx(nn.Identity(), tmp_path / "none.onnx", card=card)
    assert list(tmp_path.iterdir()) == []
