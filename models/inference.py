"""Look twice: a coarse pass finds the liver in the whole stack, a fine pass segments inside its box."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from dicom_io.segmentation import Algorithm, Segmentation
from dicom_io.volume import Volume
from models.cards import Card, Preprocessing
from models.errors import DeviceUnavailable, WrongModality
from models.postprocessing import largest_component, number_segments
from models.preprocessing import Canonical, channels, interpolation, shrink, slice_positions, to_canonical
from models.weights import load_network

MARGIN_MM = 15.0
"""How far the fine pass reaches beyond the liver that the coarse pass found."""
BATCH_PIXELS = 16 * 128 * 128
"""Pixels of a batch: bounds memory whatever the image size."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Model:
    """A network on its device, with its card."""

    network: nn.Module
    card: Card
    device: torch.device

    @property
    def algorithm(self) -> Algorithm:
        """What a Segmentation says of who made it."""
        card = self.card
        return Algorithm(card.name, card.version, card.sha256, card.modalities, card.trained_on)


def load_model(card: Card, *, device: str = "auto", threads: int | None = None) -> Model:
    """The network of a card, ready on `device` ("auto", "cpu", "cuda"). Raises DeviceUnavailable."""
    if threads:
        torch.set_num_threads(threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise DeviceUnavailable("CUDA was asked for and is not available")
    network = load_network(card).to(torch.device(device), memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Model(network, card, torch.device(device))


def computes_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is quicker than float32 there: on CUDA, and on processors with instructions for it."""
    if device.type != "cpu":
        return True
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch we allow
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def segment(model: Model, volume: Volume, progress: Progress = lambda done, of: None) -> Segmentation:
    """Liver and lesions of a volume on its own grid. Raises WrongModality."""
    card = model.card
    if volume.modality not in card.modalities:
        raise WrongModality(f"model {card.name} is for {', '.join(card.modalities)}, the volume is {volume.modality}")
    canonical = to_canonical(volume)
    classes, tumour = predict(model, canonical, progress)
    numbered = number_segments(canonical.restore(classes), canonical.restore(tumour), volume.geometry)
    return Segmentation(
        labels=numbered.labels,
        geometry=volume.geometry,
        algorithm=model.algorithm,
        confidences=numbered.confidences,
        warnings=volume.warnings + numbered.warnings,
    )


def predict(
    model: Model, canonical: Canonical, progress: Progress = lambda done, of: None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Classes (0, 1, 2) and the probability of tumour in 1/255, both on the canonical grid."""
    if len(canonical.positions_mm) == 1:  # nothing to interpolate between: the one slice stands for two
        twice = np.repeat(canonical.array, 2, axis=0)
        doubled = replace(canonical, array=twice, positions_mm=canonical.positions_mm + np.array([0.0, 1.0]))
        classes, tumour = predict(model, doubled, progress)
        return classes[:1], tumour[:1]
    how = model.card.preprocessing
    shape = canonical.array.shape
    classes, tumour = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    image = torch.from_numpy(np.ascontiguousarray(canonical.array))

    coarse = shrink(image, canonical.spacing_mm, how.coarse_spacing_mm)
    centres = slice_positions(canonical, how.coarse_step_mm)
    found = _probabilities(model, coarse, canonical.positions_mm, centres, progress)
    box = _liver_box(found, centres, canonical, how)
    if box is None:
        return classes, tumour

    rows, columns, (first, last) = box
    fine = shrink(image[:, rows, columns], canonical.spacing_mm, how.fine_spacing_mm)
    step = max(how.fine_step_mm, float(np.median(np.diff(canonical.positions_mm))))
    centres = np.linspace(first, last, max(2, int(np.ceil((last - first) / step)) + 1))
    probabilities = _probabilities(model, fine, canonical.positions_mm, centres, progress)
    size = (rows.stop - rows.start, columns.stop - columns.start)
    inside = np.flatnonzero((canonical.positions_mm >= first) & (canonical.positions_mm <= last))
    below, part = interpolation(centres, canonical.positions_mm[inside])
    for plane, b, weight in zip(inside, below.tolist(), part.tolist(), strict=True):
        p = torch.lerp(probabilities[b].float(), probabilities[b + 1].float(), weight)
        p = F.interpolate(p[None], size=size, mode="bilinear", align_corners=False)[0]
        liver_or_tumour, lesion = p[1] + p[2], p[2]
        drawn = (liver_or_tumour > 0.5).to(torch.uint8) * (1 + (lesion > p[1]).to(torch.uint8))
        classes[plane, rows, columns] = drawn.numpy()
        tumour[plane, rows, columns] = (lesion * 255).round().to(torch.uint8).numpy()
    return classes, tumour


def _probabilities(
    model: Model,
    stack: Tensor,
    positions_mm: NDArray[np.float64],
    centres_mm: NDArray[np.float64],
    progress: Progress,
) -> Tensor:
    """(slice, class, row, column) float16 on the CPU, for slices at `centres_mm`."""
    rows, columns = stack.shape[-2:]
    fast = computes_bfloat16(model.device)
    size = max(1, BATCH_PIXELS // (rows * columns))
    results = []
    with torch.inference_mode():
        for start in range(0, len(centres_mm), size):
            batch = channels(stack, positions_mm, centres_mm[start : start + size], model.card.preprocessing)
            batch = batch.to(model.device, memory_format=torch.channels_last)
            with torch.autocast(model.device.type, torch.bfloat16, enabled=fast):
                logits = model.network(batch)
            results.append(logits.float().softmax(dim=1).to("cpu", torch.float16))
            progress(min(start + size, len(centres_mm)), len(centres_mm))
    return torch.cat(results)


def _liver_box(
    probabilities: Tensor, centres_mm: NDArray[np.float64], canonical: Canonical, how: Preprocessing
) -> tuple[slice, slice, tuple[float, float]] | None:
    """Source rows and columns, and positions along the normal, around the coarse pass's liver; None without one."""
    likely = (probabilities[:, 1:].float().sum(dim=1) > 0.5).numpy()
    kept = largest_component(likely)
    if not kept.any():
        return None
    slices, rows, columns = (np.flatnonzero(kept.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    first = max(centres_mm[slices[0]] - MARGIN_MM, canonical.positions_mm[0])
    last = min(centres_mm[slices[-1]] + MARGIN_MM, canonical.positions_mm[-1])
    spans = []
    for index, axis in ((rows, 1), (columns, 2)):
        scale = canonical.array.shape[axis] / kept.shape[axis]
        margin = MARGIN_MM / canonical.spacing_mm[axis - 1]
        start = max(0, int(np.floor(index[0] * scale - margin)))
        stop = min(canonical.array.shape[axis], int(np.ceil((index[-1] + 1) * scale + margin)))
        spans.append(slice(start, stop))
    return spans[0], spans[1], (float(first), float(last))
