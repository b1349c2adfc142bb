"""From a volume to numbered segments: at the right place for every orientation, or refused with the reason."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dicom_io.geometry import Geometry
from dicom_io.volume import Volume
from models.cards import find
from models.errors import DeviceUnavailable, WrongModality
from models.inference import Model, load_model, look_once, segment, segment_with_probabilities
from models.phantom import grid, make_phantom
from models.preprocessing import to_canonical

MakeGeometry = Callable[..., Geometry]
Lopsided = Callable[[Geometry], tuple[Volume, NDArray[np.uint8]]]

STACKS = {
    "even": {"positions_mm": np.arange(34) * 4.0},
    "thick slices": {"positions_mm": np.arange(17) * 9.0},
    "thin slices": {"positions_mm": np.arange(110) * 1.25},
    "oblong pixels": {"spacing_mm": (1.6, 3.9), "rows": 110, "columns": 46, "positions_mm": np.arange(34) * 4.0},
    "uneven slices": {"positions_mm": np.cumsum(np.tile([3.0, 6.0, 2.0, 5.0], 9))},
}
SIZE = {"rows": 60, "columns": 52, "spacing_mm": (3.0, 3.5)}


def dice(one: NDArray[np.bool_], two: NDArray[np.bool_]) -> float:
    """Twice what is common over the sum of both."""
    return float(2 * (one & two).sum() / (one.sum() + two.sum()))


def centre_lps_mm(mask: NDArray[np.bool_], geometry: Geometry) -> NDArray[np.float64]:
    """Mean position of a mask, each voxel with its own volume."""
    index = np.argwhere(mask)
    return np.average(geometry.index_to_lps(index), axis=0, weights=geometry.voxel_volumes_mm3[index[:, 0]])


def check(model: Model, geometry: Geometry, lopsided: Lopsided) -> None:
    """Liver and lesion are found where the truth has them, in LPS."""
    volume, truth = lopsided(geometry)
    segmentation = segment(model, volume)
    labels = segmentation.labels
    assert segmentation.geometry is geometry
    assert segmentation.lesion_count == 1
    assert dice(labels > 0, truth > 0) > 0.97
    assert dice(labels == 2, truth == 2) > 0.88
    for label in (1, 2):
        np.testing.assert_allclose(
            centre_lps_mm(labels >= label, geometry), centre_lps_mm(truth >= label, geometry), atol=1.0
        )


@pytest.mark.parametrize(("swap", "down", "right"), list(product((False, True), (1, -1), (1, -1))))
def test_labels_come_back_at_their_place_in_every_orientation(
    stand_in: Model, axial: MakeGeometry, lopsided: Lopsided, swap: bool, down: int, right: int
) -> None:
    """Rows and columns either way and exchanged, the normal up or down, as in LiTS 0."""
    geometry = axial(swap=swap, down=down, right=right, **(SIZE | STACKS["even"]))
    check(stand_in, geometry, lopsided)


@pytest.mark.parametrize(("stack", "down"), list(product(STACKS, (1, -1))))
def test_labels_come_back_at_their_place_on_every_stack(
    stand_in: Model, axial: MakeGeometry, lopsided: Lopsided, stack: str, down: int
) -> None:
    """Thick, thin and uneven slices, pixels that are no squares; rows back to front with each."""
    check(stand_in, axial(down=down, **(SIZE | STACKS[stack])), lopsided)


def test_labels_of_a_slightly_oblique_stack_lie_right(stand_in: Model, axial: MakeGeometry, lopsided: Lopsided) -> None:
    """A patient who lay turned by 12 degrees about each axis."""
    geometry = axial(**(SIZE | STACKS["even"]))
    c, s = np.cos(np.radians(12)), np.sin(np.radians(12))
    about_x, about_z = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]), np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    turn = about_z @ about_x
    check(
        stand_in,
        replace(
            geometry,
            origins_lps_mm=geometry.origins_lps_mm @ turn.T,
            row_cosines=turn @ geometry.row_cosines,
            column_cosines=turn @ geometry.column_cosines,
        ),
        lopsided,
    )


def test_segmentation_says_who_made_it_and_how_sure(stand_in: Model, axial: MakeGeometry, lopsided: Lopsided) -> None:
    """Algorithm from the card, a confidence per lesion, the volume's warnings, and that no liver is so small."""
    volume, _ = lopsided(axial(**(SIZE | STACKS["even"])))
    segmentation = segment(stand_in, replace(volume, warnings=("LEFT_OUT",)))
    assert segmentation.algorithm == stand_in.algorithm
    assert segmentation.warnings == ("LEFT_OUT", "LIVER_VOLUME_DOUBTFUL")
    assert len(segmentation.confidences) == 1
    assert 0.8 < segmentation.confidences[0] <= 1


def test_same_volume_same_labels(stand_in: Model, axial: MakeGeometry, lopsided: Lopsided) -> None:
    """And the volume is left as it was."""
    volume, _ = lopsided(axial(**(SIZE | STACKS["even"])))
    before = volume.array.copy()
    one, two = segment(stand_in, volume), segment(stand_in, volume)
    np.testing.assert_array_equal(one.labels, two.labels)
    np.testing.assert_array_equal(volume.array, before)


def test_float_volume_is_segmented_as_its_integers(stand_in: Model, axial: MakeGeometry, lopsided: Lopsided) -> None:
    """Rescale slopes that are no whole numbers give float32."""
    volume, _ = lopsided(axial(**(SIZE | STACKS["even"])))
    as_float = replace(volume, array=volume.array.astype(np.float32))
    np.testing.assert_array_equal(segment(stand_in, as_float).labels, segment(stand_in, volume).labels)


def test_no_liver_is_an_answer(stand_in: Model, axial: MakeGeometry) -> None:
    """Fat and air alone: zero labels, no lesions, nothing raised."""
    geometry = axial(**(SIZE | STACKS["even"]))
    volume = Volume(np.full(geometry.shape, -100, np.int16), geometry, "CT", "1.2.3")
    segmentation = segment(stand_in, volume)
    assert not segmentation.labels.any()
    assert (segmentation.lesion_count, segmentation.confidences) == (0, ())


def test_liver_that_the_image_cuts_off_is_kept_to_its_edge(stand_in: Model, axial: MakeGeometry) -> None:
    """At the first and last slice, row and column nothing is lost."""
    geometry = axial(**(SIZE | STACKS["even"]))
    volume = Volume(np.full(geometry.shape, 110, np.int16), geometry, "CT", "1.2.3")
    assert (segment(stand_in, volume).labels == 1).all()


def test_single_slice_is_segmented(stand_in: Model, axial: MakeGeometry) -> None:
    """A NIfTI of one plane has no neighbours to interpolate between; its liver is found all the same."""
    geometry = replace(axial(rows=60, columns=60, positions_mm=(0.0,)), slice_spacing_mm=8.0)
    array = np.full(geometry.shape, -100, np.int16)
    array[0, 10:40, 15:45] = 110
    labels = segment(stand_in, Volume(array, geometry, "CT", "1.2.3")).labels
    assert dice(labels > 0, array > 0) > 0.95


def test_other_modality_is_refused(stand_in: Model, axial: MakeGeometry) -> None:
    """Weights for CT say nothing about MR."""
    geometry = axial()
    with pytest.raises(WrongModality, match="for CT, the volume is MR"):
        segment(stand_in, Volume(np.zeros(geometry.shape, np.int16), geometry, "MR", "1.2.3"))


def for_mr(model: Model, percentiles: tuple[float, float] | None) -> Model:
    """The stand-in with a card that lists CT and MR."""
    how = replace(model.card.preprocessing, window_percentiles=percentiles)
    return replace(model, card=replace(model.card, modalities=("CT", "MR"), preprocessing=how))


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_mr_is_normalised_by_its_own_percentiles(
    stand_in: Model, axial: MakeGeometry, lopsided: Lopsided, dtype: type[np.int16] | type[np.float32]
) -> None:
    """Whatever slope and intercept the scanner has, below -1024 too, the labels are those of the CT."""
    volume, _ = lopsided(axial(**(SIZE | STACKS["even"])))
    ct = volume.array.copy()
    ct[0, 0, :2] = stand_in.card.preprocessing.window_hu
    both = for_mr(stand_in, (0.0, 100.0))
    expected = segment(both, replace(volume, array=ct)).labels
    assert expected.any()
    for slope, intercept in ((1, 0), (7, -9000), (3, 2000)):
        mr = replace(volume, array=(ct.astype(dtype) * dtype(slope) + dtype(intercept)).astype(dtype), modality="MR")
        assert np.mean(segment(both, mr).labels != expected) < 1e-4


def test_mr_without_percentiles_is_refused(stand_in: Model, axial: MakeGeometry) -> None:
    """A card that lists MR and does not say how its values are read is not for MR."""
    geometry = axial()
    with pytest.raises(WrongModality, match="MR"):
        segment(for_mr(stand_in, None), Volume(np.zeros(geometry.shape, np.int16), geometry, "MR", "1.2.3"))


def test_uneven_slices_are_predicted_where_they_lie(stand_in: Model, axial: MakeGeometry, lopsided: Lopsided) -> None:
    """A gantry's mix of 4.2, 7.4 and 1.1 mm: as exact as an even stack, both ways up."""
    gaps = np.tile([4.22, 7.38, 1.14, 4.22], 8)
    for down in (1, -1):
        check(stand_in, axial(down=down, **(SIZE | {"positions_mm": np.cumsum(gaps)})), lopsided)


@pytest.mark.parametrize("slices", [1, 2, 5])
def test_a_few_slices_are_segmented(stand_in: Model, axial: MakeGeometry, slices: int) -> None:
    """Also where they lie far apart."""
    for gap_mm in (5.0, 60.0, 900.0):
        geometry = replace(axial(rows=60, columns=60, positions_mm=np.arange(slices) * gap_mm), slice_spacing_mm=gap_mm)
        array = np.full(geometry.shape, -100, np.int16)
        array[:, 10:40, 15:45] = 110
        labels = segment(stand_in, Volume(array, geometry, "CT", "1.2.3")).labels
        assert dice(labels > 0, array > 0) > 0.95


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_where_there_is_none_is_refused(device: str) -> None:
    """Configured for a GPU on a machine without: a plain error, before any work."""
    with pytest.raises(DeviceUnavailable, match="CUDA"):
        load_model(find("resnet50"), device=device)


@pytest.mark.parametrize("device", ["gpu", "cpu0", "meta", "mps", ""])
def test_a_device_that_is_none_is_refused(device: str) -> None:
    """A typing error, or a kind of device that no network was tried on."""
    with pytest.raises(DeviceUnavailable, match=f"no device '{device}': auto, cpu or cuda"):
        load_model(find("resnet50"), device=device)


def test_progress_is_told_in_both_passes(stand_in: Model, axial: MakeGeometry, lopsided: Lopsided) -> None:
    """Each pass counts up to its own total, and reaches it."""
    calls: list[tuple[int, int]] = []
    volume, _ = lopsided(axial(**(SIZE | STACKS["thin slices"])))
    segment(stand_in, volume, lambda done, of: calls.append((done, of)))
    ends = [index for index, (done, of) in enumerate(calls) if done == of]
    assert len(ends) == 2
    assert ends[-1] == len(calls) - 1
    for passed in (calls[: ends[0] + 1], calls[ends[0] + 1 :]):
        assert len({of for _, of in passed}) == 1
        assert [done for done, _ in passed] == sorted({done for done, _ in passed})


def test_shipped_weights_find_the_liver_of_a_phantom() -> None:
    """The weights that `porta run` loads, on a small phantom that no weights were trained on (5 s on two CPU cores)."""
    geometry = grid(slices=50, rows=110, columns=128, spacing_mm=(5.0, 3.0, 3.0), seed=1_000_003)
    phantom = make_phantom(geometry, seed=1_000_003, lesions=2)
    segmentation = segment(load_model(find("resnet50"), device="cpu"), phantom.volume)
    assert dice(segmentation.labels > 0, phantom.truth > 0) >= 0.85


def test_probabilities_are_those_that_the_labels_were_made_from(
    stand_in: Model, axial: MakeGeometry, lopsided: Lopsided
) -> None:
    """On the source's grid, rows back to front; the labels are those of `segment`, and the bytes say the same."""
    volume, truth = lopsided(axial(down=-1, swap=True, **(SIZE | STACKS["even"])))
    segmentation, probabilities = segment_with_probabilities(stand_in, volume)
    np.testing.assert_array_equal(segmentation.labels, segment(stand_in, volume).labels)
    assert dice(probabilities.liver > 127, truth > 0) > 0.97
    assert dice(probabilities.tumour > 127, truth == 2) > 0.88
    assert (probabilities.liver >= probabilities.tumour).all()
    assert not probabilities.liver[0].any()  # beyond the liver's box nobody looked


def test_probabilities_of_a_sagittal_stack_lie_right(stand_in: Model, axial: MakeGeometry, lopsided: Lopsided) -> None:
    """Carried back to planes that the network was not shown."""
    geometry = axial(rows=64, columns=60, spacing_mm=(3.0, 3.0), positions_mm=np.arange(60) * 3.0)
    x, y, z = np.eye(3)
    origins = np.array([-31.0, 17.0, 20.0]) + np.arange(60)[:, None] * 3.0 * np.cross(y, z)
    volume, truth = lopsided(replace(geometry, origins_lps_mm=origins, row_cosines=y, column_cosines=z))
    segmentation, probabilities = segment_with_probabilities(stand_in, volume)
    assert dice(segmentation.labels > 0, truth > 0) > 0.95
    assert dice(probabilities.liver > 127, truth > 0) > 0.95
    assert dice(probabilities.tumour > 127, truth == 2) > 0.8


@pytest.mark.parametrize("gap_mm", [0.625, 0.8, 1.25, 2.0, 5.0])
def test_no_slice_that_is_shown_is_a_blend_of_two(stand_in: Model, axial: MakeGeometry, gap_mm: float) -> None:
    """The fine pass is asked at slices of the source, no more than its step apart unless these are."""
    count = int(120 / gap_mm)
    geometry = axial(rows=40, columns=36, spacing_mm=(3.0, 3.0), positions_mm=3.3 + np.arange(count) * gap_mm)
    array = np.full(geometry.shape, -100, np.int16)
    array[count // 4 : 3 * count // 4, 10:30, 10:30] = 110
    canonical = to_canonical(Volume(array, geometry, "CT", "1.2.3"))
    field = look_once(stand_in, canonical, stand_in.card.preprocessing, lambda done, of: None)
    assert field is not None
    places = (field.centres_mm - canonical.positions_mm[0]) / gap_mm
    np.testing.assert_allclose(places, np.rint(places), atol=1e-6)
    apart = np.diff(field.centres_mm)
    np.testing.assert_allclose(apart, apart[0])
    assert apart[0] <= max(stand_in.card.preprocessing.fine_step_mm, gap_mm) + 1e-6


@pytest.mark.parametrize(
    ("diameter_mm", "gap_mm", "error"),
    [(16, 1.25, 0.05), (16, 2.5, 0.05), (16, 5.0, 0.1), (10, 1.25, 0.1), (10, 2.5, 0.1), (10, 5.0, 0.1)],
)
def test_small_lesions_keep_their_volume(
    stand_in: Model, axial: MakeGeometry, diameter_mm: float, gap_mm: float, error: float
) -> None:
    """Of a ball of 16 mm less than 5 % is lost in thin slices, and one of 10 mm, RECIST's least, on two is still there.

    Of evenly spread blends of two slices it was 10 % of the first; mixed with slices 5 mm away the second was lost.
    """
    geometry = axial(rows=110, columns=110, spacing_mm=(0.8, 0.8), positions_mm=np.arange(int(80 / gap_mm)) * gap_mm)
    lps = geometry.index_to_lps(np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), axis=-1))
    apart = np.linalg.norm(lps - lps.reshape(-1, 3).mean(axis=0), axis=-1)
    truth = (apart < 36).astype(np.uint8) + (apart < diameter_mm / 2)
    volume = Volume(np.array([-100, 110, 210], np.int16)[truth], geometry, "CT", "1.2.3")
    labels = segment(stand_in, volume).labels
    assert (labels == 2).sum() / (truth == 2).sum() == pytest.approx(1, abs=error)
    assert (labels > 0).sum() / (truth > 0).sum() == pytest.approx(1, abs=0.01)
