"""What a network looked at when it drew a lesion: Seg-Grad-CAM, and occlusion, on the source's own grid.

Both ask the fine pass again, on the slices of the lesion alone, and both come back as numbers from 0 to 1:

    gradcam     the maps of the encoder's last layers, each weighed by how much it moves the sum of the tumour logit
                over the lesion's own pixels; what speaks against is cut off (Vinogradova et al., AAAI 2020). 1 is the
                brightest place of this lesion: a map compares places, not lesions. Several layers, because behind skip
                connections the last alone holds little of a small lesion: at a stride of 32 its places are 48 mm wide.
    occlusion   how much of the lesion's mean tumour probability is lost when a patch is painted with the mean of the
                liver (Zeiler & Fergus, ECCV 2014). 0.4 is a loss of 40 percent points, on whichever lesion.

Neither says that what was looked at is a tumour.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from dicom_io.progress import Progress, ignore_progress
from dicom_io.segmentation import LIVER, Segmentation
from dicom_io.volume import Volume
from models.architectures.decoder import enlarge
from models.architectures.registry import EXPLAINED_LAYERS
from models.cards import Preprocessing
from models.forward import Model, batch_size, computes_bfloat16, device_of, translate_torch_errors
from models.inference import Field, at_least_two, look_once, view_for
from models.maps import Heat
from models.preprocessing import channels, interpolation, resample_slices, to_canonical
from models.reslicing import Box, read_back, reslice

TUMOUR = 2
"""The channel of the tumour's logit."""
REACH_MM = 24.0
"""How far around a lesion patches are laid."""
PATCH_MM = 6.0
"""The least side of a patch; the network sees little less than four of its pixels."""
MAX_PATCHES = 9
"""Patches along rows and along columns at most: those of a large lesion are larger."""
MAX_SLICES = 4
"""Slices of a lesion that are occluded, evenly chosen. With MAX_PATCHES: 328 forward passes of one slice at most."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A volume as the fine pass sees it, and what was segmented in it. `axial` is the volume, or sampled from it."""

    model: Model
    volume: Volume
    segmentation: Segmentation
    axial: Volume
    how: Preprocessing
    field: Field


@dataclass(frozen=True, eq=False)
class _Part:
    """The slices of the fine pass that meet a lesion, and one on either side: at `centres_mm`, what is shown there.

    `images` (slice, 3, row, column); `own` (slice, row, column) how much of each pixel is the lesion's; `liver` the
    same of the liver around it.
    """

    centres_mm: NDArray[np.float64]
    images: Tensor
    own: Tensor
    liver: Tensor

    @property
    def met(self) -> NDArray[np.intp]:
        """The slices that hold some of the lesion."""
        return np.flatnonzero(self.own.flatten(1).amax(dim=1).numpy() > 0)


def look(
    model: Model, volume: Volume, segmentation: Segmentation, progress: Progress = ignore_progress
) -> Scene | None:
    """Return what lesions of a volume are explained from; None where the model finds no liver. Raises WrongModality.

    `segmentation` is what `models.inference.segment` gave for the same model and volume.
    """
    axial, how = view_for(model, volume)
    field = look_once(model, to_canonical(axial), how, progress)
    return None if field is None else Scene(model, volume, segmentation, axial, how, field)


@translate_torch_errors()
def gradcam(scene: Scene, segment: int, *, layers: Sequence[str] = ()) -> Heat:
    """Seg-Grad-CAM of the lesion with this segment number, at modules of the network (the architecture's own).

    A flat 0 where the layers have no say in the tumour's logit, or only speak against it. Each slice is weighed by its
    own gradients, for the network sees each alone; one scale for all of the lesion. Raises MemoryError, DeviceLost.
    """
    layers = layers or EXPLAINED_LAYERS[scene.model.card.architecture]
    part = _part(scene, segment)
    maps = torch.zeros_like(part.own)
    for at in _batches(part.images):
        maps[at] = _class_activation(scene.model, part.images[at], part.own[at], layers)
    brightest = float(maps.max())
    return _on_source(scene, part.centres_mm, maps / brightest if brightest > 0 else maps)


@translate_torch_errors()
def occlusion(scene: Scene, segment: int, progress: Progress = ignore_progress) -> Heat:
    """Measure how much tumour probability of the lesion with this segment number each patch around it carries.

    Raises MemoryError, DeviceLost.
    """
    part = _part(scene, segment)
    met = part.met
    if not len(met):
        return _on_source(scene, part.centres_mm, torch.zeros_like(part.own))
    count = min(MAX_SLICES, len(met))
    chosen = met[((np.arange(count) + 0.5) * len(met) / count).astype(np.intp)]
    rows, columns = _patches(scene, part.own)
    fill = _liver_mean(part)
    losses = []
    for done, number in enumerate(chosen.tolist(), start=1):
        losses.append(_losses(scene.model, part.images[number], part.own[number], rows, columns, fill))
        progress(done, len(chosen))
    region = F.interpolate(
        torch.stack(losses)[:, None], size=(rows[-1] - rows[0], columns[-1] - columns[0]), mode="bilinear"
    )[:, 0]
    if count == 1:
        between = region.expand(len(met), -1, -1)
    else:
        between = resample_slices(region, part.centres_mm[chosen], part.centres_mm[met])
    maps = torch.zeros_like(part.own)
    maps[torch.from_numpy(met), rows[0] : rows[-1], columns[0] : columns[-1]] = between
    return _on_source(scene, part.centres_mm, maps)


def _part(scene: Scene, segment: int) -> _Part:
    field, how = scene.field, scene.how
    own = _share(scene, segment, field.centres_mm)
    met = np.flatnonzero(own.flatten(1).amax(dim=1).numpy() > 0)
    first, last = (max(0, met[0] - 1), met[-1] + 1) if len(met) else (0, 1)
    centres = field.centres_mm[first : last + 1]
    shown = field.shrunk(centres, how)
    images = channels(shown.planes, shown.positions_mm, centres, how, shown.drift)
    return _Part(centres, images, own[first : last + 1], _share(scene, LIVER, centres))


def _share(scene: Scene, segment: int, centres_mm: NDArray[np.float64]) -> Tensor:
    """(slice, row, column) 0..1: the share of each pixel of the fine pass that belongs to this segment."""
    mask = (scene.segmentation.labels == segment).astype(np.int16)
    # As MR, whose outside is 0 and whose values are taken as they are
    drawn = Volume(mask, scene.volume.geometry, "MR", scene.volume.series_instance_uid)
    seen = drawn if scene.axial is scene.volume else reslice(drawn, scene.how)
    field = replace(scene.field, canonical=at_least_two(to_canonical(seen)))
    shrunk = field.shrunk(centres_mm, scene.how)
    return resample_slices(shrunk.planes, shrunk.positions_mm, centres_mm)


def _batches(images: Tensor) -> Iterator[slice]:
    size = batch_size(*images.shape[-2:])
    for start in range(0, len(images), size):
        yield slice(start, start + size)


def _class_activation(model: Model, images: Tensor, own: Tensor, layers: Sequence[str]) -> Tensor:
    """(slice, row, column) of the images: the maps of `layers` weighed by their mean gradients, what is over 0.

    Added as what a pixel gives to the score: a place of a map at stride s stands for s x s of them.
    """
    kept: list[Tensor] = []

    def keep(module: object, inputs: object, output: Tensor) -> Tensor:
        # Nothing before the first layer needs a gradient, and so none of its maps is kept for one
        kept.append(output if kept else output.detach().requires_grad_())
        return kept[-1]

    network, device = model.network, device_of(model)
    weights = {name: value.detach() for name, value in network.named_parameters()}
    hooks = [network.get_submodule(layer).register_forward_hook(keep) for layer in layers]
    try:
        with torch.enable_grad(), torch.autocast(device.type, torch.bfloat16, enabled=computes_bfloat16(device)):
            logits = functional_call(network, weights, (images.to(device, memory_format=torch.channels_last),))
    finally:
        for hook in hooks:
            hook.remove()
    score = (logits[:, TUMOUR].float() * own.to(device)).sum()
    heat = torch.zeros_like(own)
    if not score.requires_grad:
        return heat
    for maps, gradient in zip(kept, torch.autograd.grad(score, kept, allow_unused=True), strict=True):
        if gradient is None:
            continue
        weighed = maps.detach().float() * gradient.float().mean(dim=(-2, -1), keepdim=True)  # (slice, channel, h, w)
        speaks_for = weighed.sum(dim=1, keepdim=True).relu().cpu()
        # A map at stride s of n pixels has n / s of them, rounded up: s is the least power of two not below n / h
        stride = 2 ** int(np.ceil(np.log2(images.shape[-2] / maps.shape[-2])))
        heat += enlarge(speaks_for, stride, images)[:, 0] / stride**2
    return heat


def _patches(scene: Scene, own: Tensor) -> tuple[list[int], list[int]]:
    """The edges of the patches along rows and along columns, in pixels of the fine pass."""
    field, edges = scene.field, []
    spans = (field.rows, field.columns)
    for axis, (span, mm) in enumerate(zip(spans, field.canonical.spacing_mm, strict=True), start=1):
        pixel_mm = mm * (span.stop - span.start) / own.shape[axis]
        met = np.flatnonzero(own.amax(dim=(0, 3 - axis)).numpy() > 0)
        reach = int(np.ceil(REACH_MM / pixel_mm))
        first, last = max(0, met[0] - reach), min(own.shape[axis], met[-1] + 1 + reach)
        count = int(np.clip((last - first) * pixel_mm / PATCH_MM, 1, min(MAX_PATCHES, last - first)))
        edges.append(np.rint(np.linspace(first, last, count + 1)).astype(int).tolist())
    return edges[0], edges[1]


def _liver_mean(part: _Part) -> float:
    """Return the value that patches are painted with: the mean of the liver around the lesion, or of all of it."""
    centre = part.images[:, 1]
    weight = float(part.liver.sum())
    return float((centre * part.liver).sum()) / weight if weight > 0 else float(centre.mean())


def _losses(model: Model, image: Tensor, own: Tensor, rows: list[int], columns: list[int], fill: float) -> Tensor:
    """(patches along rows, along columns): what each, painted over, takes off the lesion's mean tumour probability."""
    weight = own / own.sum()
    places = [(r, c) for r in range(len(rows) - 1) for c in range(len(columns) - 1)]
    whole = _scores(model, image[None], weight)
    painted = torch.empty(len(places))
    size = batch_size(*image.shape[-2:])
    for start in range(0, len(places), size):
        some = places[start : start + size]
        images = image.repeat(len(some), 1, 1, 1)
        for index, (r, c) in enumerate(some):
            images[index, :, rows[r] : rows[r + 1], columns[c] : columns[c + 1]] = fill
        painted[start : start + size] = _scores(model, images, weight)
    return (whole - painted).clamp(min=0).reshape(len(rows) - 1, len(columns) - 1)


def _scores(model: Model, images: Tensor, weight: Tensor) -> Tensor:
    """(N,) the lesion's mean tumour probability in each image."""
    device = device_of(model)
    with (
        torch.inference_mode(),
        torch.autocast(device.type, torch.bfloat16, enabled=computes_bfloat16(device)),
    ):
        logits = model.network(images.to(device, memory_format=torch.channels_last))
        probability = logits.float().softmax(dim=1)[:, TUMOUR]
        scores: Tensor = (probability * weight.to(device)).sum(dim=(-2, -1))
        return scores.cpu().clone()


def _on_source(scene: Scene, centres_mm: NDArray[np.float64], maps: Tensor) -> Heat:
    """Maps (slice, row, column) of the fine pass at `centres_mm`, read at the centres of the source's voxels."""
    maps = maps.clamp(0, 1)
    return _turned_back(scene, centres_mm, maps) if scene.axial is scene.volume else _read_back(scene, centres_mm, maps)


def _turned_back(scene: Scene, centres_mm: NDArray[np.float64], maps: Tensor) -> Heat:
    canonical, rows, columns = to_canonical(scene.volume), scene.field.rows, scene.field.columns
    positions = canonical.positions_mm
    inside = np.flatnonzero((positions >= centres_mm[0]) & (positions <= centres_mm[-1]))
    values = np.zeros((len(inside), *canonical.values.shape[1:]), np.float32)
    below, share = interpolation(centres_mm, positions[inside])
    size = (rows.stop - rows.start, columns.stop - columns.start)
    for into, b, weight in zip(values, below.tolist(), share.tolist(), strict=True):
        plane = torch.lerp(maps[b], maps[b + 1], weight)
        into[rows, columns] = F.interpolate(plane[None, None], size=size, mode="bilinear")[0, 0].numpy()
    first = int(inside[0]) if len(inside) else 0
    if canonical.flips[0] and len(inside):
        first = len(positions) - 1 - int(inside[-1])
    return Heat(first, canonical.restore(values))


def _read_back(scene: Scene, centres_mm: NDArray[np.float64], maps: Tensor) -> Heat:
    grid, field, source = scene.axial.geometry, scene.field, scene.volume.geometry
    step = field.centres_mm[1] - field.centres_mm[0]
    first = grid.index_to_lps([0, field.rows.start - 0.5, field.columns.start - 0.5])
    last = grid.index_to_lps([0, field.rows.stop - 0.5, field.columns.stop - 0.5])
    low = np.array([first[0], first[1], centres_mm[0] - step / 2])
    high = np.array([last[0], last[1], centres_mm[-1] + step / 2])
    planes: dict[int, NDArray[np.float32]] = {}
    for (number, rows, columns), values, inside in read_back(Box(maps[None], low, high), source):
        plane = np.zeros((source.rows, source.columns), np.float32)
        plane[rows, columns] = (values[0] * inside).numpy()
        if plane.any():
            planes[number] = plane
    if not planes:
        return Heat(0, np.zeros((0, source.rows, source.columns), np.float32))
    numbers = range(min(planes), max(planes) + 1)
    empty = np.zeros((source.rows, source.columns), np.float32)
    return Heat(numbers[0], np.stack([planes.get(number, empty) for number in numbers]))
