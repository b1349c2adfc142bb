"""Seg-Grad-CAM and occlusion of networks whose answer is known, on every stack; and of every architecture."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dicom_io.geometry import Geometry
from dicom_io.segmentation import Algorithm, Segmentation
from dicom_io.volume import Volume
from models.architectures.registry import ARCHITECTURES, EXPLAINED_LAYERS, build
from models.cards import Preprocessing
from models.errors import DeviceLost, WrongModality
from models.explain import MAX_PATCHES, MAX_SLICES, Scene, gradcam, look, occlusion
from models.inference import Field, Model
from models.maps import Heat
from models.preprocessing import to_canonical

MakeGeometry = Callable[..., Geometry]
Float = NDArray[np.float64]

MARK_HU = 238.0
ALGORITHM = Algorithm("thresholds", "1.0.0", "0" * 64)
SIZE = {"rows": 60, "columns": 52, "spacing_mm": (3.0, 3.5), "positions_mm": np.arange(34) * 4.0}


class Marked(nn.Module):
    """Liver above 5 HU; the tumour's logit, everywhere in a slice, is high where something in it is a mark."""

    def __init__(self, how: Preprocessing, gain: float = 40.0) -> None:
        super().__init__()
        self.how, self.gain = how, gain
        self.marks = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        low, high = self.how.window_hu
        hu = (x[:, 1:2] + 1) * (high - low) / 2 + low
        marks = self.marks(((hu - 225.0) / 10).relu())  # (N, 1, row, column)
        present = torch.tanh(marks.mean(dim=(-3, -2, -1)) * self.gain)
        liver = (hu[:, 0] - 5.0) / 4
        return torch.stack([-liver, liver.clamp(max=0), (8 * present - 4)[:, None, None].expand_as(liver)], dim=1)


class Lesions(nn.Module):
    """Liver above 5 HU, tumour above 160: each pixel by itself, through the layer `bright`."""

    def __init__(self, how: Preprocessing) -> None:
        super().__init__()
        self.how = how
        self.bright = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        low, high = self.how.window_hu
        hu = (x[:, 1] + 1) * (high - low) / 2 + low
        over = self.bright(((hu - 160.0) / 4).relu()[:, None])[:, 0]
        return torch.stack([(5.0 - hu) / 4, (hu - 5.0).clamp(max=60) / 4, 3 * over - 5 + hu / 100], dim=1)


def made(geometry: Geometry) -> tuple[Volume, Segmentation, dict[str, Float]]:
    """A liver, a lesion in it and, away from that, a mark that runs through the whole stack from foot to head."""
    index = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), axis=-1)
    lps = geometry.index_to_lps(index)
    middle = geometry.index_to_lps((np.array(geometry.shape) - 1) / 2)
    places = {"liver": middle + [-12.0, -8.0, 4.0], "lesion": middle + [-24.0, -14.0, 8.0]}
    places["mark"] = middle + [4.0, 8.0, 0.0]
    liver = np.linalg.norm(lps - places["liver"], axis=-1) < 38
    lesion = np.linalg.norm(lps - places["lesion"], axis=-1) < 12
    mark = np.linalg.norm((lps - places["mark"])[..., :2], axis=-1) < 8
    hu = np.full(geometry.shape, -100, np.int16)
    hu[liver], hu[lesion], hu[mark] = 110, 210, MARK_HU
    labels = liver.astype(np.uint8)
    labels[lesion] = 2
    labels[mark] = 0
    volume = Volume(hu, geometry, "CT", "1.2.3.4")
    return volume, Segmentation(labels, geometry, ALGORITHM), places


@pytest.fixture
def scene_of(stand_in: Model) -> Callable[[nn.Module, Geometry], tuple[Scene, dict[str, Float]]]:
    def scene(network: nn.Module, geometry: Geometry) -> tuple[Scene, dict[str, Float]]:
        volume, segmentation, places = made(geometry)
        seen = look(replace(stand_in, network=network.eval()), volume, segmentation)
        assert seen is not None
        return seen, places

    return scene


def centre_of(heat: Heat, geometry: Geometry) -> Float:
    """Where the heat lies, LPS mm, by its upper half."""
    values = np.where(heat.values > heat.values.max() / 2, heat.values, 0)
    index = np.argwhere(values > 0)
    lps = geometry.index_to_lps(index + [heat.first, 0, 0])
    return np.average(lps, axis=0, weights=values[tuple(index.T)])


def lesion_slices(scene: Scene) -> NDArray[np.intp]:
    return np.flatnonzero((scene.segmentation.labels == 2).any(axis=(1, 2)))


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), MemoryError),
        (torch.AcceleratorError("CUDA error: unspecified launch failure"), DeviceLost),
        (ZeroDivisionError(), ZeroDivisionError),
    ],
)
def test_what_fails_is_told_apart(
    how: Preprocessing,
    axial: MakeGeometry,
    scene_of: Callable[..., tuple[Scene, dict[str, Float]]],
    raised: Exception,
    told: type[Exception],
) -> None:
    """Lack of memory costs an explanation alone; a GPU that failed costs the worker."""
    scene, _ = scene_of(Marked(how), axial(**SIZE))

    def fail(module: nn.Module, inputs: object) -> None:
        raise raised

    scene.model.network.register_forward_pre_hook(fail)
    with pytest.raises(told):
        gradcam(scene, 2, layers=("marks",))
    with pytest.raises(told):
        occlusion(scene, 2)


AXIAL = [
    {},
    {"swap": True},
    {"down": -1},
    {"right": -1},
    {"down": -1, "right": -1, "swap": True},
    {"positions_mm": np.cumsum(np.tile([3.0, 6.0, 2.0, 5.0], 9))},
    {"positions_mm": np.arange(110) * 1.25},
]


def turned(geometry: Geometry, turn: Float) -> Geometry:
    return replace(
        geometry,
        origins_lps_mm=geometry.origins_lps_mm @ turn.T,
        row_cosines=turn @ geometry.row_cosines,
        column_cosines=turn @ geometry.column_cosines,
    )


SAGITTAL = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
OBLIQUE = np.array([[0.8, 0.36, 0.48], [0.6, -0.48, -0.64], [0.0, 0.8, -0.6]])


@pytest.mark.parametrize("how_made", AXIAL, ids=lambda made: "-".join(made) or "plain")
def test_heat_lies_where_the_network_looks(
    how: Preprocessing, axial: MakeGeometry, scene_of: Callable[..., tuple[Scene, dict[str, Float]]], how_made: dict
) -> None:
    """On the mark, far from the lesion that it is asked of; in the lesion's own slices alone; from 0 to 1."""
    scene, places = scene_of(Marked(how), axial(**(SIZE | how_made)))
    slices = lesion_slices(scene)
    for heat in (gradcam(scene, 2, layers=("marks",)), occlusion(scene, 2)):
        found = centre_of(heat, scene.volume.geometry)
        assert np.linalg.norm((found - places["mark"])[:2]) < 5
        assert abs(found - places["lesion"])[2] < 6
        assert heat.values.dtype == np.float32
        assert heat.values.min() == 0 and 0.1 < heat.values.max() <= 1
        assert heat.values.shape[1:] == scene.volume.geometry.shape[1:]
        hot = heat.first + np.flatnonzero(heat.values.any(axis=(1, 2)))
        assert set(slices) <= set(hot)
        assert len(hot) <= len(slices) + 2 * np.ceil(4.5 / np.diff(scene.volume.geometry.positions_mm).min())


@pytest.mark.parametrize("turn", [SAGITTAL, OBLIQUE], ids=["sagittal", "oblique"])
def test_heat_of_a_stack_that_is_not_axial(
    how: Preprocessing, axial: MakeGeometry, scene_of: Callable[..., tuple[Scene, dict[str, Float]]], turn: Float
) -> None:
    """The network is shown an axial stack; its maps come back at the source's own voxels."""
    scene, places = scene_of(Marked(how), turned(axial(**SIZE), turn))
    assert scene.axial is not scene.volume
    for heat in (gradcam(scene, 2, layers=("marks",)), occlusion(scene, 2)):
        found = centre_of(heat, scene.volume.geometry)
        assert np.linalg.norm((found - places["mark"])[:2]) < 5
        assert abs(found - places["lesion"])[2] < 6


@pytest.mark.parametrize("turn", [np.eye(3), SAGITTAL], ids=["axial", "sagittal"])
def test_a_lesion_that_is_seen_by_itself(
    how: Preprocessing, axial: MakeGeometry, scene_of: Callable[..., tuple[Scene, dict[str, Float]]], turn: Float
) -> None:
    """Where each pixel speaks for itself, both maps lie on the lesion; Grad-CAM's mark, as bright, counts for nothing
    of the score but shares its channel."""
    scene, places = scene_of(Lesions(how), turned(axial(**SIZE), turn))
    lost = occlusion(scene, 2)
    assert np.linalg.norm(centre_of(lost, scene.volume.geometry) - places["lesion"]) < 4
    heat = gradcam(scene, 2, layers=("bright",))
    labels = scene.segmentation.labels[heat.first : heat.first + len(heat.values)]
    assert heat.values[labels == 2].mean() > 10 * heat.values[labels == 1].mean()


def test_flat_where_nothing_matters(
    how: Preprocessing, axial: MakeGeometry, scene_of: Callable[..., tuple[Scene, dict[str, Float]]]
) -> None:
    """A network that does not look at the mark: 0 everywhere, on the lesion's slices."""
    scene, _ = scene_of(Marked(how, gain=0.0), axial(**SIZE))
    for heat in (gradcam(scene, 2, layers=("marks",)), occlusion(scene, 2)):
        assert not heat.values.any()
        assert set(lesion_slices(scene)) <= set(range(heat.first, heat.first + len(heat.values)))


def test_a_layer_without_a_say_is_flat(
    how: Preprocessing, axial: MakeGeometry, scene_of: Callable[..., tuple[Scene, dict[str, Float]]]
) -> None:
    """Its maps are there, and nothing of the logit depends on them."""

    class Deaf(Marked):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).detach()

    scene, _ = scene_of(Deaf(how), axial(**SIZE))
    assert not gradcam(scene, 2, layers=("marks",)).values.any()


def test_layers_add_up(
    how: Preprocessing, axial: MakeGeometry, scene_of: Callable[..., tuple[Scene, dict[str, Float]]]
) -> None:
    """A later layer does not hide from an earlier one what passes through it."""

    class Twice(Marked):
        def __init__(self, how: Preprocessing) -> None:
            super().__init__(how)
            self.first, self.second = nn.Identity(), nn.Identity()
            self.marks = nn.Sequential(self.first, self.second)

    scene, _ = scene_of(Twice(how), axial(**SIZE))
    both, one = gradcam(scene, 2, layers=("first", "second")), gradcam(scene, 2, layers=("second",))
    assert one.values.any()
    np.testing.assert_allclose(both.values, one.values, atol=1e-6)
    np.testing.assert_allclose(gradcam(scene, 2, layers=("first",)).values, one.values, atol=1e-6)


def test_forward_passes_are_bounded(
    how: Preprocessing, axial: MakeGeometry, scene_of: Callable[..., tuple[Scene, dict[str, Float]]]
) -> None:
    """However large the lesion: MAX_SLICES slices with MAX_PATCHES squared patches, and one unpainted each."""
    seen: list[int] = []

    class Counting(Marked):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(len(x))
            return super().forward(x)

    scene, _ = scene_of(Counting(how), axial(**SIZE))
    seen.clear()
    steps: list[tuple[int, int]] = []
    occlusion(scene, 1, lambda done, of: steps.append((done, of)))
    assert sum(seen) == MAX_SLICES * (MAX_PATCHES**2 + 1)
    assert steps == [(number, MAX_SLICES) for number in range(1, MAX_SLICES + 1)]


def test_the_network_is_left_as_it_was(
    how: Preprocessing, axial: MakeGeometry, stand_in: Model, scene_of: Callable[..., tuple[Scene, dict[str, Float]]]
) -> None:
    """No hook, no gradient stays; asked again it says the same."""
    scene, _ = scene_of(Marked(how), axial(**SIZE))
    first = gradcam(scene, 2, layers=("marks",))
    assert not scene.model.network.marks._forward_hooks
    np.testing.assert_array_equal(first.values, gradcam(scene, 2, layers=("marks",)).values)


def test_no_liver_is_no_scene(axial: MakeGeometry, stand_in: Model) -> None:
    """And a modality that the weights are not made for is refused."""
    geometry = axial(**SIZE)
    empty = Segmentation(np.zeros(geometry.shape, np.uint8), geometry, stand_in.algorithm)
    volume = Volume(np.full(geometry.shape, -100, np.int16), geometry, "CT", "1.2.3")
    assert look(stand_in, volume, empty) is None
    with pytest.raises(WrongModality):
        look(stand_in, replace(volume, modality="MR"), empty)


def test_a_plane_beyond_the_heat_is_cold() -> None:
    """A Heat answers for every slice of the source."""
    heat = Heat(4, np.ones((2, 3, 5), np.float32))
    assert heat.plane(5).all() and not heat.plane(3).any() and not heat.plane(6).any()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_has_its_layers(name: str, axial: MakeGeometry, stand_in: Model) -> None:
    """Its encoder's last ones: a map from 0 to 1 on the source's grid, and no parameter gets a gradient."""
    torch.manual_seed(3)
    network = build(name).eval()
    geometry = axial(rows=24, columns=26, positions_mm=np.arange(9) * 4.0, spacing_mm=(3.0, 3.0))
    volume, _, _ = made(geometry)
    labels = np.zeros(geometry.shape, np.uint8)
    labels[2:7, 4:20, 4:20] = 1
    labels[4, 8:12, 9:14] = 2
    model = replace(stand_in, network=network, card=replace(stand_in.card, architecture=name))
    whole = Field(to_canonical(volume), geometry.positions_mm, slice(0, 24), slice(0, 26))
    segmentation = Segmentation(labels, geometry, stand_in.algorithm)
    scene = Scene(model, volume, segmentation, volume, stand_in.card.preprocessing, whole)
    heat = gradcam(scene, 2)
    assert set(EXPLAINED_LAYERS[name]) <= set(dict(network.named_modules()))
    assert heat.values.shape[1:] == (24, 26) and np.isfinite(heat.values).all()
    assert heat.values.max() in (0, pytest.approx(1, abs=0.2))
    assert all(parameter.grad is None for parameter in network.parameters())
