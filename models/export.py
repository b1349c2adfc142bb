"""A network as ONNX, for runtimes other than torch: any batch and any size from 32 pixels on. Needs the extra `export`.

The card travels in the file's metadata, for logits without the spacing and window of their input mean nothing.
"""

import json
from copy import deepcopy
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn
from torch.export import Dim

from models.cards import Card
from models.errors import ModelError
from models.preprocessing import MIN_PIXELS

OPSET = 18
"""The lowest that torch's exporter writes without conversion: the more runtimes read it."""


def export_onnx(network: nn.Module, path: Path, *, card: Card) -> None:
    """Write the network in float32 and evaluation mode, and leave `network` itself as it is.

    One file: `image` (batch, 3, row, column) in, `logits` (batch, 3, row, column) out, and metadata `name`, `version`,
    `architecture`, `weights_sha256`, `modalities` and `preprocessing` (JSON), `research_use_only`.

    Raises ModelError where the extra is not installed, OSError where the file cannot be written.
    """
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise ModelError(f"{' and '.join(missing)} not installed: pip install 'porta-hepatis[export]'")
    # Batch, rows and columns that differ, lest the exporter take any two for one dimension.
    image = torch.zeros(2, 3, 2 * MIN_PIXELS, 3 * MIN_PIXELS)
    program = torch.onnx.export(
        deepcopy(network).to("cpu", torch.float32, memory_format=torch.contiguous_format).eval(),  # type: ignore[call-overload]
        (image,),
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: Dim("batch"), 2: Dim("row", min=MIN_PIXELS), 3: Dim("column", min=MIN_PIXELS)},),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    if program is None:
        raise TypeError("torch.onnx.export gives a program where it is given no file")
    graph = program.model.graph
    # Cutting to the input's size leaves the exporter with Min(row, 8 * ...) for what is the input's row.
    graph.outputs[0].shape = graph.inputs[0].shape
    program.model.metadata_props.update(_metadata(card))
    part = path.with_name(path.name + ".part")
    program.save(part, external_data=False)
    part.replace(path)


def _metadata(card: Card) -> dict[str, str]:
    return {
        "name": card.name,
        "version": card.version,
        "architecture": card.architecture,
        "weights_sha256": card.sha256,
        "modalities": json.dumps(card.modalities),
        "preprocessing": json.dumps(asdict(card.preprocessing)),
        "research_use_only": json.dumps(card.research_use_only),
    }
